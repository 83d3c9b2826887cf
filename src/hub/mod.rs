//! What is elsewhere, by name: `hub:owner/name@revision` to a local folder with the files that a
//! model needs, `hub:datasets/owner/name@revision:path` and `https://…#sha256=…` to local files.
//! Uses nothing of what is in them, of pipelines, and of stages.
//!
//! | module | what it is |
//! |---|---|
//! | [`name`] | the text that names a model, or files of a dataset |
//! | [`address`] | a file by its address and checksum |
//! | [`settings`] | the environment: where the cache is, which hub, which token, whether it may be asked |
//! | [`files`] | which files of a repository a model needs |
//! | [`cache`] | the cache that all tools of the hub share |
//! | [`client`], [`refusal`] | questions over HTTP; what it means that the hub says no |
//! | [`download`] | one file, whole or not at all |
//! | [`resolve`](mod@resolve) | all of it, in order |
//!
//! 1. A branch or tag is asked for each time, so that it means what it means now; a commit is asked
//!    for once. What the hub holds at a commit is noted in the cache.
//! 2. If the hub cannot be asked, what the cache holds of the model will do, if it is all there.
//!    With `HF_HUB_OFFLINE` the hub is not asked at all.
//! 3. Addresses and the layout of the cache are those of the `hf-hub` crate. Its downloads are not
//!    used: they check no checksum, add a whole answer to what is there if a range is not honoured,
//!    send the token on to other hosts, and tell refusals by their status alone.

pub mod address;
pub mod cache;
pub mod client;
pub mod download;
pub mod files;
pub mod name;
pub mod refusal;
pub mod resolve;
pub mod settings;

pub use self::address::Address;
pub use self::name::Name;
pub use self::resolve::{Progress, Tell, fetch, find, resolve};
pub use self::settings::Settings;

use std::path::PathBuf;

use crate::error::Result;

/// Fetches what a name or an address means, if it is not here, and gives its place.
pub fn fetch_any(settings: &Settings, text: &str, tell: Tell<'_>) -> Result<PathBuf> {
    match Address::is_one(text) {
        true => Address::parse(text)?.fetch(settings, tell),
        false => fetch(settings, &Name::parse(text)?, tell),
    }
}

/// The place of what a name or an address means, if it is here.
pub fn find_any(settings: &Settings, text: &str, tell: Tell<'_>) -> Result<Option<PathBuf>> {
    match Address::is_one(text) {
        true => Ok(Address::parse(text)?.find(settings)),
        false => find(settings, &Name::parse(text)?, tell),
    }
}
