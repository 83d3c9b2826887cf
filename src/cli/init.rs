//! `init`: a folder with a small pipeline to begin with, and the schema that editors check it by.

use std::path::PathBuf;

use clap::Args;

use super::common::print;
use crate::error::{Result, user};

/// The pipeline.
const PIPELINE: &str = include_str!("init.yaml");
/// The schema, as `posttrain schema` prints it.
const SCHEMA: &str = include_str!("../../pipelines/schema.json");

/// Write a small pipeline to begin with, which runs in seconds and needs no data
#[derive(Args)]
pub struct Arguments {
    /// The folder, which is made if it is not there
    #[arg(default_value = ".", value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes the files and says what to do next.
pub fn main(arguments: &Arguments) -> Result<()> {
    let files = [("pipeline.yaml", PIPELINE), ("schema.json", SCHEMA)];
    let files = files.map(|(name, text)| (arguments.folder.join(name), text));
    if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(user(format!("{} is there already", path.display()))
            .hint("give another folder; nothing was written")
            .into());
    }
    crate::fs::create_dir_all(&arguments.folder)?;
    for (path, text) in &files {
        crate::fs::write_new(path, text.as_bytes())?;
    }
    let [(pipeline, _), (schema, _)] = files;
    let (pipeline, schema) = (pipeline.display(), schema.display());
    print(&format!(
        "{pipeline}  a pipeline to begin with\n{schema}  what an editor checks it by\nnext: \
         posttrain run {pipeline}\n"
    ))
}
