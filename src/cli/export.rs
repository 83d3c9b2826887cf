//! `export`: a run, or what a stage of it needs, as one file for others.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use clap::Args;

use super::common::{Cache, print, print_json};
use super::load_run::load_run;
use super::names;
use super::number_format::{count, size};
use crate::bundle::manifest::Manifest;
use crate::bundle::write::{Contents, write};
use crate::dag::record::Record;
use crate::dag::store::Store;
use crate::error::{Context, Result, user};
use crate::pipeline::names::find;
use crate::report::{formats, latex, page};

/// Write a run, or what a stage of it needs, into one file that others can check
#[derive(Args)]
pub struct Arguments {
    /// A run (a tag, `latest`, its number, its id), or a stage or node of the latest run
    #[arg(value_name = "RUN | STAGE")]
    what: String,
    /// The file to write (`FILE.tar.zst`)
    file: PathBuf,
    /// Leave the files of artefacts of this kind out (`policy`, `dataset`); their ids stay; may be
    /// repeated
    #[arg(long, value_name = "KIND")]
    without: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Writes the file, and prints what is in it.
pub fn main(arguments: &Arguments) -> Result<()> {
    let store = arguments.cache.open()?;
    let (record, stages) = meant(&store, &arguments.what)?;
    let known = load_run(&store, &record)?;
    let without: BTreeSet<String> = arguments.without.iter().cloned().collect();
    let kinds: HashSet<&str> =
        known.nodes.iter().filter_map(|node| Some(node.made.as_ref()?.output.as_str())).collect();
    if let Some(unknown) = without.iter().find(|kind| !kinds.contains(kind.as_str())) {
        let mut kinds: Vec<&str> = kinds.into_iter().collect();
        kinds.sort_unstable();
        return Err(user(format!("the run has no artefact of the kind `{unknown}`"))
            .hint(format!("there are: {}", kinds.join(", ")))
            .into());
    }
    let documents = vec![
        ("tables.md".into(), formats::markdown(&known).into_bytes()),
        ("tables.csv".into(), formats::csv(&known).into_bytes()),
        ("tables.tex".into(), latex::latex(&known).into_bytes()),
        ("report.html".into(), page::page(&known, None).into_bytes()),
    ];
    let contents = Contents {
        record: &record,
        pipeline: known.name.clone(),
        command: known.command.clone(),
        nodes: closure(&record, stages.as_deref()),
        without: &without,
        documents,
    };
    let (mut made, mut failed) = (None, None);
    let written = crate::fs::write_atomic_with(&arguments.file, |file| {
        made = write(&store, contents, file).map_err(|error| failed = Some(error)).ok();
        made.is_some().then_some(()).ok_or_else(|| std::io::Error::other("not made"))
    });
    if let Some(error) = failed {
        return Err(error);
    }
    written?;
    let manifest = made.context("what was written has a manifest")?;
    match arguments.json {
        true => print_json(&manifest),
        false => print(&text(&manifest, arguments)?),
    }
}

fn text(manifest: &Manifest, arguments: &Arguments) -> Result<String> {
    let included = manifest.nodes.iter().filter(|node| node.included);
    let bytes = included.clone().map(|node| node.bytes).sum();
    let left = manifest.nodes.len() - included.count();
    let left = match left {
        0 => String::new(),
        left => format!("; the files of {left} are left out"),
    };
    Ok(format!(
        "{}: {} of the run {} with {} of artefacts{left}, {} by hash, in {}\n",
        arguments.file.display(),
        count(manifest.nodes.len(), "node"),
        manifest.run,
        size(bytes),
        count(manifest.inputs.len(), "input"),
        size(crate::fs::size(&arguments.file)?)
    ))
}

/// The run that a word means, or the latest with those of its nodes.
fn meant(store: &Store, word: &str) -> Result<(Record, Option<Vec<String>>)> {
    let records = store.records()?;
    let ids = records.iter().map(|record| record.id.as_str());
    let is_run =
        word == names::LATEST || store.tag(word)?.is_some() || names::named(word, ids)?.is_some();
    if is_run || records.is_empty() {
        return Ok((names::run(store, word)?, None));
    }
    let latest = names::run(store, names::LATEST)?;
    let stages = names::stages(&latest);
    let nodes = find(word, &stages)?.map(|nodes| nodes.into_iter().map(str::to_owned).collect());
    match nodes {
        Some(nodes) => Ok((latest, Some(nodes))),
        None => Err(user(format!("there is no run `{word}`, and the latest has no such stage"))
            .hint("see `posttrain runs`")
            .into()),
    }
}

/// The nodes wanted, all that were looked at by default, with what they need, each after that.
fn closure(record: &Record, wanted: Option<&[String]>) -> Vec<(String, Vec<String>)> {
    let all: Vec<String> = record.nodes.iter().map(|node| node.name.clone()).collect();
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    // Each is opened, then its needs, then it is closed.
    let mut open: Vec<(&str, bool)> =
        wanted.unwrap_or(&all).iter().rev().map(|name| (name.as_str(), false)).collect();
    while let Some((name, is_done)) = open.pop() {
        let needs = record.needs.get(name).map(Vec::as_slice).unwrap_or_default();
        if is_done {
            found.push((name.to_owned(), needs.to_vec()));
        } else if seen.insert(name) {
            open.push((name, true));
            open.extend(needs.iter().rev().map(|need| (need.as_str(), false)));
        }
    }
    found
}
