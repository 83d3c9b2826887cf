//! `ls`: what the cache holds.

use clap::Args;

use super::common::{Cache, columns, print, print_json};
use super::number_format::{age, count, duration, size};
use crate::dag::entry::Entry;
use crate::dag::store::Store;
use crate::error::Result;

/// List what the cache holds, latest last
#[derive(Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Prints the list.
pub fn main(arguments: &Arguments) -> Result<()> {
    let store = arguments.cache.open()?;
    let entries = store.entries()?;
    if arguments.json {
        return print_json(&entries);
    }
    let mut total = 0;
    let mut rows = Vec::new();
    for entry in &entries {
        let bytes = bytes_of(&store, entry);
        total += bytes.unwrap_or_default();
        rows.push(vec![
            entry.object.short(),
            entry.node.clone(),
            match entry.accepted {
                Some(_) => format!("{}, accepted", entry.output),
                None => entry.output.clone(),
            },
            bytes.map_or_else(|| "deleted".into(), size),
            duration(entry.seconds),
            age(entry.finished_at),
        ]);
    }
    print(&format!(
        "{}{}, {} in {}\n",
        columns(&rows),
        count(entries.len(), "artefact"),
        size(total),
        store.root().display()
    ))
}

/// The size of an entry's object, if it is there.
fn bytes_of(store: &Store, entry: &Entry) -> Option<u64> {
    store.object_path(entry.object).exists().then(|| store.object_bytes(entry.object).ok())?
}
