//! `schema`: the form of a pipeline, or of one stage kind, as a JSON Schema.

use anyhow::anyhow;
use clap::Args;

use super::common::print_json;
use crate::error::{Result, user};
use crate::pipeline::diagnostic::advice;
use crate::pipeline::registry::{Builtin, Registry};
use crate::pipeline::schema::{of_kind, of_pipelines};

/// Print the JSON Schema (draft 2020-12) of pipelines, or of the stages of one kind
#[derive(Args)]
pub struct Arguments {
    /// A stage kind
    kind: Option<String>,
}

/// Prints it.
pub fn main(arguments: &Arguments) -> Result<()> {
    let schema = match &arguments.kind {
        None => of_pipelines(),
        Some(kind) => of_kind(kind).ok_or_else(|| {
            user(format!("there is no stage kind `{kind}`")).hint(advice(
                kind,
                Builtin.names(),
                "stage kinds",
            ))
        })?,
    };
    print_json(&schema.map_err(|bug| anyhow!(bug))?)
}
