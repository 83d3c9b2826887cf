//! The file about the queue of a cluster, which `--executor` names: YAML to the engine's commands.
//! Mistakes are shown where they are written. The built-in set for Slurm is such a file.

use std::path::Path;

use super::decode;
use super::diagnostic::{self, Source, Sources};
use super::yaml;
use crate::dag::cluster::{Queue, Settings};
use crate::error::{Context, Failure, Result, user};

/// The built-in set, and its name.
pub const SLURM: &str = "slurm";

/// The file of the built-in set.
pub const SLURM_FILE: &str = include_str!("slurm.yaml");

/// The queue of a name (`slurm`) or of a file.
///
/// # Errors
/// The user's: there is no such file, or it has a mistake.
pub fn load(name: &str) -> Result<Queue> {
    let built_in = || settings("the set for Slurm", SLURM_FILE.to_owned());
    if name == SLURM {
        return Queue::of(built_in()?, None);
    }
    let path = Path::new(name);
    let Some(bytes) = crate::fs::read_if_exists(path)? else {
        return Err(user(format!("there is no executor and no file `{name}`"))
            .hint("take local, slurm, or the path of a file about a queue (docs/cluster.md)")
            .into());
    };
    let text = String::from_utf8(bytes).map_err(|_| user(format!("{name} is not UTF-8")))?;
    let mut own = settings(name, text)?;
    let folder =
        std::path::absolute(path).with_context(|| format!("cannot tell the folder of {name}"))?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    own.program = own.program.map(|program| folder.join(program));
    let base = if own.queue == SLURM { Some(built_in()?) } else { None };
    Queue::of(own, base).with_context(|| format!("{name}: a queue cannot be used like this"))
}

/// The settings in a text; `name` is what errors call it.
fn settings(name: &str, text: String) -> Result<Settings, Failure> {
    let mut sources = Sources::default();
    let folder = Path::new("").to_owned();
    let source = sources.add(Source { name: name.to_owned(), text, folder, lines: true });
    let decoded = yaml::parse(&sources, source).and_then(|root| match root {
        Some(root) => decode::decode(&root, &sources).map(Some),
        None => Ok(None),
    });
    match decoded {
        Ok(Some(settings)) => Ok(settings),
        Ok(None) => Err(user(format!("{name} is empty")).hint("begin with `queue: slurm`")),
        Err(mistakes) => Err(diagnostic::failure(mistakes, &sources)),
    }
}
