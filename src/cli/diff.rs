//! `diff`: two runs side by side.

use std::path::Path;

use clap::Args;

use super::common::{Cache, print, print_json};
use super::load_run::{evaluation, find, load_run};
use crate::error::Result;
use crate::report::diff::diff;
use crate::report::run::Run;

/// Compare two runs: configs, inputs, figures with significance, where curves part
#[derive(Args)]
pub struct Arguments {
    /// A run: its number, its id or the beginning of it, the folder of its record, or `latest`; or
    /// the folder of an evaluation
    a: String,
    /// The run, or the evaluation, to compare it with
    b: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Prints what differs.
pub fn main(arguments: &Arguments) -> Result<()> {
    let read = |word: &str| -> Result<Run> {
        if let Some(evaluation) = evaluation("evaluation", Path::new(word))? {
            return Ok(Run {
                id: word.to_owned(),
                evaluations: vec![evaluation],
                ..Run::default()
            });
        }
        let (store, record) = find(&arguments.cache, word)?;
        load_run(&store, &record)
    };
    let found = diff(&read(&arguments.a)?, &read(&arguments.b)?);
    if arguments.json { print_json(&found) } else { print(&found.text()) }
}
