//! Writing a bundle. Uses the store of the run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::hashes::hashes;
use super::manifest::{FORMAT, File, Input, MANIFEST, Manifest, Node, PROVENANCE, Program};
use super::provenance::provenance;
use crate::dag::digest::ContentHash;
use crate::dag::entry::Entry;
use crate::dag::key::CONTENT_TAG;
use crate::dag::object_store::Integrity;
use crate::dag::record::Record;
use crate::dag::store::Store;
use crate::error::{Context, Result, user};

/// The level of zstd: its default.
const LEVEL: i32 = 3;

/// What goes into a bundle.
pub struct Contents<'a> {
    /// The run.
    pub record: &'a Record,
    /// The name of its pipeline.
    pub pipeline: String,
    /// The command that does it again.
    pub command: String,
    /// The nodes, each with what it needs in the bundle, and after that.
    pub nodes: Vec<(String, Vec<String>)>,
    /// Kinds of artefacts whose files are left out.
    pub without: &'a BTreeSet<String>,
    /// Further files, by name.
    pub documents: Vec<(String, Vec<u8>)>,
}

/// Writes a bundle, and gives its manifest.
///
/// # Errors
/// The user's: a node was not made, or its artefact is gone or broken. The machine's.
pub fn write(store: &Store, contents: Contents<'_>, out: impl Write) -> Result<Manifest> {
    let entries = entries(store, &contents)?;
    let mut files = run_files(store, contents.record)?;
    for (entry, _) in &entries {
        let bytes = serde_json::to_vec_pretty(entry)?;
        files.insert(format!("actions/{}.json", entry.key), bytes);
    }
    for (name, bytes) in contents.documents {
        files.insert(format!("documents/{name}"), bytes);
    }
    let mut manifest = Manifest {
        format: FORMAT,
        program: Program {
            version: contents.record.version.clone(),
            build: contents.record.build.clone(),
        },
        run: contents.record.id.clone(),
        pipeline: contents.pipeline,
        options: contents.record.invocation.options.clone(),
        command: contents.command,
        inputs: inputs(entries.iter().map(|(entry, _)| entry)),
        nodes: entries.iter().map(|(_, node)| node.clone()).collect(),
        files: Vec::new(),
    };
    let entries: Vec<&Entry> = entries.iter().map(|(entry, _)| entry).collect();
    let provenance = provenance(&manifest, contents.record, &entries);
    files.insert(PROVENANCE.into(), serde_json::to_vec_pretty(&provenance)?);
    manifest.files = files
        .iter()
        .map(|(path, bytes)| File {
            path: path.clone(),
            bytes: bytes.len() as u64,
            hash: blake3::hash(bytes).to_hex().to_string(),
        })
        .collect();
    let mut archive =
        Builder::new(zstd::Encoder::new(out, LEVEL).context("cannot begin to compress")?);
    let text = serde_json::to_vec_pretty(&manifest)?;
    let plain = files.iter().map(|(path, bytes)| (path.as_str(), bytes));
    for (path, bytes) in std::iter::once((MANIFEST, &text)).chain(plain) {
        append(&mut archive, path, &bytes[..], bytes.len() as u64)?;
    }
    for node in unique(&manifest.nodes) {
        for (path, bytes) in store.object_files(node.object)? {
            let source = store.object_path(node.object).join(&path);
            let name = format!("objects/{}/{path}", node.object);
            append(&mut archive, &name, crate::fs::open(&source)?, bytes)?;
        }
    }
    let compressed = archive.into_inner().context("cannot write the bundle")?;
    compressed.finish().context("cannot write the bundle")?;
    Ok(manifest)
}

/// The nodes whose files are in the bundle, one for each object, by its id.
fn unique(nodes: &[Node]) -> Vec<&Node> {
    let mut by_object = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.included) {
        by_object.entry(node.object).or_insert(node);
    }
    by_object.into_values().collect()
}

/// The entry of each node, and what the manifest says of it.
fn entries(store: &Store, contents: &Contents<'_>) -> Result<Vec<(Entry, Node)>> {
    let made: BTreeMap<&str, _> = contents
        .record
        .nodes
        .iter()
        .filter_map(|node| Some((node.name.as_str(), node.object.and(node.key)?)))
        .collect();
    let mut all = Vec::new();
    for (name, needs) in &contents.nodes {
        let key = made.get(name.as_str()).ok_or_else(|| {
            user(format!("`{name}` was not made in the run {}", contents.record.id))
                .hint("run it to its end first, or export a stage that was made")
        })?;
        let entry = store.entry(*key)?;
        let entry =
            entry.with_context(|| format!("the entry of `{name}`, {}, is gone", key.short()))?;
        let included = !contents.without.contains(&entry.output);
        let object = entry.object;
        let bytes = match store.check_object(object)? {
            Integrity::Sound => store.object_bytes(object)?,
            Integrity::Absent if !included => 0,
            Integrity::Absent => {
                return Err(user(format!("the artefact of `{name}`, {}, is gone", object.short()))
                    .hint("run the pipeline again, then export")
                    .into());
            }
            Integrity::Corrupted(what) => {
                let message =
                    format!("the artefact of `{name}`, {}, is corrupted: {what}", object.short());
                return Err(user(message).hint("run the pipeline again, then export").into());
            }
        };
        let node = Node {
            name: name.clone(),
            stage: entry.preimage.stage.clone(),
            output: entry.output.clone(),
            numerics: entry.preimage.numerics.clone(),
            key: entry.key,
            object,
            bytes,
            included,
            needs: needs.clone(),
        };
        all.push((entry, node));
    }
    Ok(all)
}

/// The files of the run's record, without its page.
fn run_files(store: &Store, record: &Record) -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = store.run_path(&record.id);
    let mut files = BTreeMap::new();
    for name in crate::fs::list(&folder)? {
        let is_of_record = ["yaml", "json", "jsonl"]
            .iter()
            .any(|ending| Path::new(&name).extension().is_some_and(|own| own == *ending));
        if is_of_record {
            files.insert(format!("run/{name}"), crate::fs::read(&folder.join(&name))?);
        }
    }
    Ok(files)
}

/// What entries have read from outside, by content.
fn inputs<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Input> {
    let mut by_content: BTreeMap<ContentHash, Input> = BTreeMap::new();
    for entry in entries {
        for (path, content) in hashes(&entry.preimage.config, CONTENT_TAG) {
            let Ok(content) = content.parse() else { continue };
            let source = entry.sources.get(&path).cloned().unwrap_or_default();
            let input = by_content.entry(content).or_insert_with(|| Input {
                content,
                path: source,
                nodes: Vec::new(),
            });
            input.nodes.push(entry.node.clone());
        }
    }
    by_content.into_values().collect()
}

fn append<W: Write>(
    archive: &mut Builder<W>,
    path: &str,
    bytes: impl Read,
    size: u64,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    archive
        .append_data(&mut header, path, bytes)
        .with_context(|| format!("cannot write {path} into the bundle"))
}
