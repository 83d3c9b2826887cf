//! `import`: the artefacts and the record of a bundle, taken into the cache.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::common::{Cache, print, print_json};
use super::number_format::count;
use super::verify::sound;
use crate::bundle::read::Bundle;
use crate::error::{Context, Result};

/// Take the artefacts and the record of an exported run into the cache
#[derive(Args)]
pub struct Arguments {
    /// The file that `posttrain export` has written
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// What was taken.
#[derive(Serialize)]
struct Taken {
    /// The id of the run.
    run: String,
    /// Artefacts that are new in the cache.
    new: usize,
    /// Artefacts that were there.
    there: usize,
    /// Artefacts whose files the bundle does not have.
    left_out: usize,
    /// Whether the record of the run is new in the cache.
    record: bool,
}

/// Checks the bundle, takes it in, and prints what is new.
pub fn main(arguments: &Arguments) -> Result<()> {
    let store = arguments.cache.open()?;
    let _presence = store.begin()?;
    // Beside the store, so that no second file system is filled.
    let folder = crate::fs::TemporaryFolder::in_folder(store.root())?;
    let bundle = Bundle::unpack(&arguments.file, folder.path())?;
    sound(&bundle, &arguments.file)?;
    let manifest = &bundle.manifest;
    let (mut new, mut there, mut left_out) = (0, 0, 0);
    for node in &manifest.nodes {
        if !node.included {
            left_out += 1;
            continue;
        }
        let taken = store.take(&bundle.entry(node)?, &bundle.object_path(node.object));
        match taken.with_context(|| format!("`{}` was not taken in", node.name))? {
            true => new += 1,
            false => there += 1,
        }
    }
    let record = store.take_record(&manifest.run, &bundle.path("run"))?;
    let taken = Taken { run: manifest.run.clone(), new, there, left_out, record };
    if arguments.json {
        return print_json(&taken);
    }
    let left = match left_out {
        0 => String::new(),
        left => format!(", {left} without files"),
    };
    print(&format!(
        "{}: the run {}, {} new, {there} there already{left}\n",
        arguments.file.display(),
        taken.run,
        count(new, "artefact")
    ))
}
