//! `gc`: deletes what no pipeline's latest run refers to; records of earlier runs are kept unless
//! asked for.

use clap::Args;
use serde_json::json;

use super::common::{Cache, columns, print, print_json};
use super::number_format::{count, size};
use crate::dag::gc::{Garbage, gc, gc_with_records};
use crate::error::Result;

/// Delete what the latest run of no pipeline refers to
#[derive(Args)]
pub struct Arguments {
    /// Only say what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// Delete also the records of earlier runs, with their reports
    #[arg(long)]
    records: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Deletes, and prints what was deleted.
pub fn main(arguments: &Arguments) -> Result<()> {
    let store = arguments.cache.open()?;
    let collect = if arguments.records { gc_with_records } else { gc };
    let garbage = collect(&store, arguments.dry_run)?;
    let total = garbage.iter().map(|garbage| garbage.bytes).sum();
    if arguments.json {
        return print_json(
            &json!({ "dry_run": arguments.dry_run, "bytes": total, "garbage": garbage }),
        );
    }
    let row = |garbage: &Garbage| {
        let path = garbage.path.strip_prefix(store.root()).unwrap_or(&garbage.path);
        vec![
            garbage.kind.to_owned(),
            size(garbage.bytes),
            garbage.node.clone().unwrap_or_default(),
            path.display().to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = garbage.iter().map(row).collect();
    let verb = if arguments.dry_run { "would be deleted" } else { "deleted" };
    print(&format!("{}{}, {} {verb}\n", columns(&rows), count(garbage.len(), "item"), size(total)))
}
