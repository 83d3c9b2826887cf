//! Models by name: `hub:owner/name@revision` to a local folder with the files that a model needs. Knows nothing of what is in them,
//! of pipelines, and of stages.
//!
//! | module | what it is |
//! |---|---|
//! | [`name`] | the text that names a model |
//! | [`settings`] | the environment: where the cache lies, which hub, which token, whether it may be asked |

pub mod name;
pub mod settings;

use std::path::{Path, PathBuf};

pub use self::name::Name;
pub use self::settings::Settings;
use crate::error::{Result, user};

/// What is said while a model is looked for or fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// So much of a file is here.
    Fetching {
        /// The model's name.
        model: &'a str,
        /// The file's path in its repository.
        file: &'a str,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the whole.
        total: u64,
    },
    /// Something the user should know; it goes on.
    Note(&'a str),
}

/// Is told how it goes.
pub type Tell<'a> = &'a mut dyn FnMut(Progress<'_>);

/// The folder of a model: a text that begins with `hub:` names one of the hub, which is fetched if it is not here; any other is the
/// path of a folder.
///
/// # Errors
/// The user's: a name that is none, no such folder, model or revision, no right to it. The machine's: the hub cannot be reached, a
/// file is damaged, the disk is full.
pub fn resolve(text: &str, tell: Tell<'_>) -> Result<PathBuf> {
    match Name::is_one(text) {
        true => fetch(&Settings::from_environment()?, &Name::parse(text)?, tell),
        false if Path::new(text).is_dir() => Ok(PathBuf::from(text)),
        false => Err(user(format!("there is no folder {text}")).hint("a model of the hub is written hub:owner/name").into()),
    }
}

/// Fetches what is not here of a model, and gives the folder with exactly the files that a model needs.
pub fn fetch(settings: &Settings, name: &Name, tell: Tell<'_>) -> Result<PathBuf> {
    let _ = (settings, name, tell);
    Err(user("the hub is not reached yet").into())
}

/// The folder of a model if all of it is here; nothing is fetched but what the hub says of it.
pub fn find(settings: &Settings, name: &Name, tell: Tell<'_>) -> Result<Option<PathBuf>> {
    let _ = (settings, name, tell);
    Ok(None)
}
