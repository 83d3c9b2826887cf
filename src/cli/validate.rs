//! `validate`: every mistake of a pipeline, without a look at the cache, a device or a network.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::common::{Source, print, print_json};
use super::number_format::count;
use crate::error::{Kind, Result, kind_of};

/// Find every mistake of a pipeline; nothing is run, read of the cache or written
///
/// Checks the file and those that it extends: YAML, sections, params, profiles and axes as they are
/// given, stage kinds, fields, types, ranges, references and what they lead to, circles, judges
/// that had a part in what they judge, and that files named by a path are there. The content of
/// such files, names in a hub, and memory are checked by `plan` and `run`. Ends with 2 on a
/// mistake.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    file: String,
    ok: bool,
    /// The pipeline's name, if it has no mistake.
    pipeline: Option<String>,
    /// How many stages and nodes it has, if it has no mistake.
    stages: Option<usize>,
    nodes: Option<usize>,
    /// All mistakes, as they are printed.
    message: Option<String>,
}

/// Checks and prints; gives the exit code.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let file = arguments.source.pipeline.display().to_string();
    let loaded = arguments.source.load();
    if !arguments.json {
        let pipeline = loaded?;
        print(&format!(
            "{file}: no mistake in {} and {} (fields, ranges, references, params, paths)\n",
            count(pipeline.stages.len(), "stage"),
            count(pipeline.graph.nodes.len(), "node"),
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    match loaded {
        Ok(pipeline) => {
            print_json(&Found {
                file,
                ok: true,
                stages: Some(pipeline.stages.len()),
                nodes: Some(pipeline.graph.nodes.len()),
                pipeline: Some(pipeline.name),
                message: None,
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if kind_of(&error) == Kind::User => {
            let message = Some(format!("{error:#}"));
            let (pipeline, stages, nodes) = (None, None, None);
            print_json(&Found { file, ok: false, pipeline, stages, nodes, message })?;
            Ok(ExitCode::from(Kind::User.exit_code()))
        }
        Err(error) => Err(error),
    }
}
