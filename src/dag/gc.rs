//! Unreferenced objects, entries and work. Kept is, for every invocation that has a record, what
//! the nodes that its pipeline had in the latest run made or were making when each was last looked
//! at, and what a tag is of. Everything else is garbage. Records of earlier runs, with their
//! reports, are kept too, unless they are asked for.
//!
//! A record or a tag that is damaged ends a collection before anything is deleted.
//!
//! Garbage is collected only while no run is at work: on this host a lock says so, and
//! [`crate::presence`] on all hosts. A run that begins meanwhile waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::action::ACCEPTED;
use crate::digest::{ActionKey, ObjectId};
use crate::entry::Entry;
use crate::error::{Result, environment};
use crate::lock::{Lock, SharedLock};
use crate::record::Record;
use crate::store::Store;
use crate::tags::Tag;

/// One thing that is, or would be, deleted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Garbage {
    /// Its path, absolute.
    pub path: PathBuf,
    /// What it is: `object`, `entry`, `work`, `record`, `bad`, `stat`, `derived`.
    pub kind: &'static str,
    /// The name of the node that it was made for, where known.
    pub node: Option<String>,
    /// Its size.
    pub bytes: u64,
}

/// What is to be kept.
#[derive(Default)]
struct Reachable {
    records: BTreeSet<String>,
    keys: BTreeSet<ActionKey>,
    objects: BTreeSet<ObjectId>,
}

/// Finds everything that no pipeline's latest run refers to but records, and deletes it unless
/// `dry_run`. Entries go before their objects.
///
/// # Errors
/// While a run is using the store, nothing is deleted.
pub fn gc(store: &Store, dry_run: bool) -> Result<Vec<Garbage>> {
    collect(store, dry_run, false)
}

/// The same, with the records of earlier runs that nothing refers to, their reports too.
///
/// # Errors
/// As [`gc`]'s.
pub fn gc_with_records(store: &Store, dry_run: bool) -> Result<Vec<Garbage>> {
    collect(store, dry_run, true)
}

fn collect(store: &Store, dry_run: bool, records: bool) -> Result<Vec<Garbage>> {
    if !store.at("").exists() {
        return Ok(Vec::new());
    }
    let in_use = |host: &str| {
        let message = format!("a run is using the cache {}{host}", store.root().display());
        environment(message).hint("wait until it has finished, then try again")
    };
    let alone = match dry_run {
        true => None,
        false => Some(SharedLock::try_alone(&store.at("in-use.lock"))?.ok_or_else(|| in_use(""))?),
    };
    // The lock tells of this host alone, where it does not hold between hosts.
    let presence = alone.is_some().then(|| store.begin_gc()).transpose()?;
    if let Some(presence) = &presence
        && let Some(host) = store.at_work(presence)?
    {
        return Err(in_use(&format!(" on {host}")).into());
    }
    let garbage = find(store, records)?;
    if alone.is_some() {
        for garbage in &garbage {
            crate::fs::remove_all(&garbage.path)?;
        }
        store.clear_runners()?;
        store.clear_links()?;
        for name in crate::fs::list(&store.at("locks"))? {
            // Left by a process that was killed. Taking the lock and letting it go removes its
            // file.
            drop(Lock::try_acquire(&store.at("locks").join(name))?);
        }
    }
    Ok(garbage)
}

fn find(store: &Store, with_records: bool) -> Result<Vec<Garbage>> {
    if let Some(path) =
        store.damaged_record()?.map_or_else(|| store.damaged_tag(), |path| Ok(Some(path)))?
    {
        let message = format!("{} is damaged, and says what is to be kept", path.display());
        let hint = "check the disk; if that run or name does not matter, remove its folder or file, \
            then try again";
        return Err(environment(message).hint(hint).into());
    }
    let records = store.records()?;
    let entries = store.entries()?;
    let mut kept = kept(&records);
    let tags = store.tags()?;
    for record in tags.iter().filter_map(|tag| records.iter().find(|own| tag.is_of(&own.id))) {
        kept.records.insert(record.id.clone());
        kept.keys.extend(record.nodes.iter().filter_map(|node| node.key));
        kept.objects.extend(record.nodes.iter().filter_map(|node| node.object));
    }
    for (key, object) in tags.iter().filter_map(Tag::artefact) {
        kept.keys.insert(key);
        kept.objects.insert(object);
    }
    // Records name renewed entries by the keys that they had before.
    let renewed = |entry: &&Entry| entry.renewed_from.is_some_and(|old| kept.keys.contains(&old));
    let renewed: Vec<ActionKey> = entries.iter().filter(renewed).map(|entry| entry.key).collect();
    kept.keys.extend(renewed);
    kept.objects.extend(
        entries.iter().filter(|entry| kept.keys.contains(&entry.key)).map(|entry| entry.object),
    );
    let mut made_for: HashMap<ObjectId, &str> = HashMap::new();
    let mut names: HashMap<ActionKey, &str> = HashMap::new();
    for node in records.iter().flat_map(|record| &record.nodes) {
        names.extend(node.key.map(|key| (key, node.name.as_str())));
    }
    for entry in &entries {
        made_for.insert(entry.object, &entry.node);
        names.insert(entry.key, &entry.node);
    }
    let key_of = |name: &str| name.trim_end_matches(".json").parse::<ActionKey>().ok();
    let object_of = |name: &str| name.trim_end_matches(".json").parse::<ObjectId>().ok();
    let key_kept = |name: &str| key_of(name).is_some_and(|key| kept.keys.contains(&key));
    let object_kept =
        |name: &str| object_of(name).is_some_and(|object| kept.objects.contains(&object));
    let key_name = |name: &str| key_of(name).and_then(|key| names.get(&key).copied());
    let object_name =
        |name: &str| object_of(name).and_then(|object| made_for.get(&object).copied());
    let none = |_: &str| None;

    let mut found = Found { store, garbage: Vec::new() };
    found.sweep("actions", "entry", key_kept, key_name)?;
    found.sweep(ACCEPTED, "entry", key_kept, key_name)?;
    found.sweep("objects", "object", object_kept, object_name)?;
    found.sweep("stat/objects", "stat", object_kept, object_name)?;
    found.sweep("derived", "derived", object_kept, object_name)?;
    found.sweep("stat/inputs", "stat", input_kept(store), none)?;
    // Work whose key has an entry is only what could not be cleared away.
    let unfinished = |name: &str| {
        key_kept(name) && key_of(name).is_some_and(|key| !store.entry_path(key).exists())
    };
    found.sweep("work", "work", unfinished, key_name)?;
    found.sweep(
        "bad",
        "bad",
        |_| false,
        |name| object_name(name.split('-').next().unwrap_or_default()),
    )?;
    found.sweep("runs", "record", |name| !with_records || kept.records.contains(name), none)?;
    Ok(found.garbage)
}

/// A remembered input is kept as long as there is such an input.
fn input_kept(store: &Store) -> impl Fn(&str) -> bool {
    let folder = store.at("stat/inputs");
    move |name| {
        let bytes =
            crate::fs::read_if_exists(&folder.join(name)).ok().flatten().unwrap_or_default();
        let snapshot = serde_json::from_slice::<crate::inputs::Snapshot>(&bytes);
        snapshot.is_ok_and(|snapshot| snapshot.path.exists())
    }
}

fn kept(records: &[Record]) -> Reachable {
    let mut kept = Reachable::default();
    let mut by_invocation: BTreeMap<(&Path, &[String]), Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_invocation
            .entry((&record.invocation.pipeline, &record.invocation.options))
            .or_default()
            .push(record);
    }
    for records in by_invocation.values() {
        let latest = records.last().expect("a record made the group");
        kept.records.insert(latest.id.clone());
        let mut wanted: BTreeSet<&str> = latest.graph.iter().map(String::as_str).collect();
        // A run of a few targets, or a failed one, did not look at every node: the latest run that
        // did counts.
        for record in records.iter().rev() {
            for node in &record.nodes {
                if let Some(key) = node.key.filter(|_| wanted.remove(node.name.as_str())) {
                    kept.keys.insert(key);
                    kept.objects.extend(node.object);
                    kept.records.insert(record.id.clone());
                }
            }
        }
    }
    kept
}

struct Found<'a> {
    store: &'a Store,
    garbage: Vec<Garbage>,
}

impl Found<'_> {
    fn sweep<'n>(
        &mut self,
        folder: &str,
        kind: &'static str,
        kept: impl Fn(&str) -> bool,
        node: impl Fn(&str) -> Option<&'n str>,
    ) -> Result<()> {
        let folder = self.store.at(folder);
        for name in crate::fs::list(&folder)? {
            if !kept(&name) {
                let path = folder.join(&name);
                self.garbage.push(Garbage {
                    bytes: crate::fs::size(&path)?,
                    kind,
                    node: node(&name).map(str::to_owned),
                    path,
                });
            }
        }
        Ok(())
    }
}
