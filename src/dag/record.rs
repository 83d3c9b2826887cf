//! The record of each invocation, kept as it goes: what was asked for at the start, a line for
//! every node that starts or ends. So the record of a run that was killed still says what it had
//! made and what it was making. Uses nothing of how nodes run.
//!
//! Runs are ordered by a number at the end of their ids, each higher than all that are there when
//! it begins. The date in an id is for people: clocks are wrong at times, and are set back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::checked::{parsed, seal};
use crate::clock::now;
use crate::digest::{ActionKey, ObjectId};
use crate::error::Result;
use crate::node::{Graph, Node, OwnedReference, at_default, references};
use crate::store::Store;

/// The pipeline file as it was, beside the record.
pub const PIPELINE: &str = "pipeline.yaml";

/// The nodes of a record, one a line.
const NODES: &str = "nodes.jsonl";

/// The file of this number, from 0, that the pipeline extends, as it was, beside the record.
pub fn extended(at: usize) -> String {
    format!("extended-{}.yaml", at + 1)
}

/// What was asked for on the command line. Runs with the same `pipeline` and `options` are runs of
/// the same thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// The pipeline file, absolute.
    pub pipeline: PathBuf,
    /// The hash of its bytes.
    pub pipeline_hash: String,
    /// The files that it extends, absolute, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended: Vec<PathBuf>,
    /// Options that choose other params (`--profile x`, `--set k=v`), sorted.
    pub options: Vec<String>,
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It ran.
    Ran,
    /// It was there already.
    Cached,
    /// It ran and failed.
    Failed,
    /// It did not run, because something failed or the run was stopped.
    Skipped,
    /// It was stopped; its checkpoints are kept.
    Interrupted,
}

/// One node of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node's name.
    pub name: String,
    /// Its stage kind.
    pub stage: String,
    /// How it ended.
    pub ending: Ending,
    /// Its key, if it is known.
    pub key: Option<ActionKey>,
    /// What it made.
    pub object: Option<ObjectId>,
    /// How long it took.
    pub seconds: f64,
}

/// The record of one invocation: `runs/<id>/record.json`, its nodes one a line in `nodes.jsonl`
/// beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The moment of its beginning, for people, and the run's number: `20261123-114801.123-7`.
    pub id: String,
    /// When it started, in seconds since 1970.
    pub started_at: u64,
    /// What was asked for.
    pub invocation: Invocation,
    /// Every node of the pipeline, in the order of the file, whether wanted or not.
    pub graph: Vec<String>,
    /// The nodes that were looked at, sorted by name. One that never ended counts as interrupted.
    #[serde(skip)]
    pub nodes: Vec<NodeRecord>,
    /// Wall time of the whole; absent if the run did not end.
    pub seconds: Option<f64>,
    /// For each node, the nodes it needs.
    #[serde(default)]
    pub needs: BTreeMap<String, Vec<String>>,
    /// For each node, the fields of its config that are in no key and not at their defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub neutral: BTreeMap<String, Value>,
    /// The version of the program.
    #[serde(default)]
    pub version: String,
    /// The hash of the program's executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// What nodes computed on, in the words of the stages.
    #[serde(default)]
    pub device: serde_json::Value,
    /// Threads that all nodes together could use.
    #[serde(default)]
    pub threads: usize,
}

/// What a run's record says from its beginning.
pub(super) struct Beginning<'a> {
    pub(super) invocation: &'a Invocation,
    pub(super) graph: &'a Graph,
    pub(super) device: &'a serde_json::Value,
    pub(super) threads: usize,
    pub(super) build: Option<&'a str>,
}

/// An artefact of a node that the pipeline no longer has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Orphan {
    /// The node's name.
    pub name: String,
    /// What it made.
    pub object: ObjectId,
    /// Its size.
    pub bytes: u64,
}

/// The record of a run that is going on.
pub(super) struct Journal {
    folder: PathBuf,
    record: Record,
    lines: File,
    path: PathBuf,
    /// Whether the last line may lack its end.
    is_torn: bool,
}

impl Journal {
    /// The folder of the record.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Notes that a node starts (as interrupted, lest it never ends) or has ended.
    pub(super) fn note(&mut self, node: &NodeRecord) -> Result<()> {
        let mut line = seal(serde_json::to_vec(node).expect("a record is plain data"));
        line.push(b'\n');
        if self.is_torn {
            line.insert(0, b'\n');
        }
        let noted = crate::fs::add(&self.lines, &self.path, &line);
        self.is_torn = noted.is_err();
        noted
    }

    /// Notes that a node starts, on the disk: what it makes is kept by `gc` from then on, whenever
    /// the power fails.
    pub(super) fn note_start(&mut self, node: &NodeRecord) -> Result<()> {
        self.note(node)?;
        crate::fs::sync(&self.path)
    }

    /// Notes the end of the run.
    pub(super) fn finish(mut self, seconds: f64) -> Result<()> {
        crate::fs::sync(&self.path)?;
        self.record.seconds = Some(seconds);
        write(&self.folder, &self.record)
    }
}

/// The node's name, and the fields of its config that are in no key and not at their defaults, if
/// there are any.
fn neutral(node: &Node) -> Option<(String, Value)> {
    let defaults = at_default(&node.config, &node.defaults);
    let fields: Map<String, Value> = node
        .neutral
        .iter()
        .filter(|field| !defaults.contains(&format!("/{field}")))
        .filter_map(|field| Some(((*field).to_owned(), node.config.get(*field)?.clone())))
        .collect();
    (!fields.is_empty()).then(|| (node.name.clone(), Value::Object(fields)))
}

fn write(folder: &Path, record: &Record) -> Result<()> {
    crate::fs::write_atomic(
        &folder.join("record.json"),
        &seal(serde_json::to_vec_pretty(record).expect("a record is plain data")),
    )
}

impl Store {
    /// Begins the record of a run, with a copy of the pipeline file beside it, if that is still
    /// what it was.
    pub(super) fn begin_record(&self, beginning: Beginning<'_>) -> Result<Journal> {
        let Beginning { invocation, graph, device, threads, build } = beginning;
        let mut needs = BTreeMap::new();
        for node in &graph.nodes {
            let stages =
                references(&node.config)?.into_iter().filter_map(
                    |(_, reference)| match reference {
                        OwnedReference::Stage(name) => Some(name),
                        OwnedReference::Input(_) | OwnedReference::Fetch(_) => None,
                    },
                );
            needs.insert(
                node.name.clone(),
                stages.collect::<BTreeSet<String>>().into_iter().collect(),
            );
        }
        let moment = now() / 1_000_000;
        let next = self.run_ids()?.last().map_or(1, |id| sequence(id) + 1);
        let mut number = next;
        let (folder, id) = loop {
            let id = format!("{}-{number}", calendar(moment));
            let folder = self.at("runs").join(&id);
            if crate::fs::create_dir(&folder)? {
                break (folder, id);
            }
            number += 1;
        };
        // What `gc` keeps follows from records: they are on the disk before what they tell of.
        crate::fs::sync(&self.at("runs"))?;
        self.sequence.store(sequence(&id), Ordering::SeqCst);
        let record = Record {
            id,
            started_at: (moment / 1000) as u64,
            invocation: invocation.clone(),
            graph: graph.nodes.iter().map(|node| node.name.clone()).collect(),
            nodes: Vec::new(),
            seconds: None,
            needs,
            neutral: graph.nodes.iter().filter_map(neutral).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: build.map(str::to_owned),
            device: device.clone(),
            threads,
        };
        write(&folder, &record)?;
        let text =
            crate::fs::read_if_exists(&invocation.pipeline).ok().flatten().unwrap_or_default();
        if blake3::hash(&text).to_hex().as_str() == invocation.pipeline_hash {
            crate::fs::write_atomic(&folder.join(PIPELINE), &text)?;
        }
        for (at, path) in invocation.extended.iter().enumerate() {
            let text = crate::fs::read_if_exists(path).ok().flatten().unwrap_or_default();
            crate::fs::write_atomic(&folder.join(extended(at)), &text)?;
        }
        let path = folder.join(NODES);
        let lines = crate::fs::append(&path)?;
        crate::fs::sync(&folder)?;
        Ok(Journal { folder, record, lines, path, is_torn: false })
    }

    /// The ids of all runs, in the order in which they began.
    fn run_ids(&self) -> Result<Vec<String>> {
        let mut ids = crate::fs::list(&self.at("runs"))?;
        // One that is being taken over from a bundle is not there yet.
        ids.retain(|id| !id.starts_with('.'));
        // Runs that began at the same time may have one number.
        ids.sort_by(|a, b| (sequence(a), a).cmp(&(sequence(b), b)));
        Ok(ids)
    }

    /// All records, in the order in which the runs began. What cannot be understood is passed over.
    pub fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for id in self.run_ids()? {
            records.extend(self.record(&id)?);
        }
        Ok(records)
    }

    /// The latest record of an invocation.
    pub fn latest_record(&self, invocation: &Invocation) -> Result<Option<Record>> {
        self.latest_record_where(|own| own.is_of(invocation))
    }

    /// The latest record of an invocation, without its nodes.
    pub(super) fn latest_head(&self, invocation: &Invocation) -> Result<Option<Record>> {
        for id in self.run_ids()?.iter().rev() {
            let head = self.head_of(id)?;
            if let Some(record) = head.filter(|record| record.invocation.is_of(invocation)) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The latest record of an invocation that is wanted.
    pub fn latest_record_where(
        &self,
        is_wanted: impl Fn(&Invocation) -> bool,
    ) -> Result<Option<Record>> {
        for id in self.run_ids()?.iter().rev() {
            if self.head_of(id)?.is_some_and(|record| is_wanted(&record.invocation)) {
                return self.record(id);
            }
        }
        Ok(None)
    }

    /// The latest record of the same invocation before this one.
    pub fn record_before(&self, record: &Record) -> Result<Option<Record>> {
        let ids = self.run_ids()?;
        for id in ids.iter().rev().skip_while(|id| **id != record.id).skip(1) {
            if self.head_of(id)?.is_some_and(|own| own.invocation.is_of(&record.invocation)) {
                return self.record(id);
            }
        }
        Ok(None)
    }

    /// The folder of a run's record.
    pub fn run_path(&self, id: &str) -> PathBuf {
        self.at("runs").join(id)
    }

    /// The record of a run; none if there is none, or it cannot be understood.
    pub fn record(&self, id: &str) -> Result<Option<Record>> {
        let Some(mut record) = self.head_of(id)? else { return Ok(None) };
        let folder = self.run_path(id);
        let lines = crate::fs::read_if_exists(&folder.join(NODES))?.unwrap_or_default();
        // The last word on a node counts. The last line may be torn.
        let nodes = lines.split(|&byte| byte == b'\n').filter_map(parsed::<NodeRecord>);
        let nodes: BTreeMap<String, NodeRecord> =
            nodes.map(|node| (node.name.clone(), node)).collect();
        record.nodes = nodes.into_values().collect();
        Ok(Some(record))
    }

    /// The record of a run without its nodes; none if there is none, or it cannot be understood.
    fn head_of(&self, id: &str) -> Result<Option<Record>> {
        let bytes = crate::fs::read_if_exists(&self.run_path(id).join("record.json"))?;
        Ok(bytes.and_then(|bytes| parsed(&bytes)))
    }

    /// A file of a record that says other things than were written. A line that lacks its end is
    /// one that a full disk or the end of a process has cut.
    pub(super) fn damaged_record(&self) -> Result<Option<PathBuf>> {
        for id in self.run_ids()? {
            let [record, nodes] = ["record.json", NODES].map(|name| self.run_path(&id).join(name));
            let bytes = crate::fs::read_if_exists(&record)?;
            if bytes.is_some_and(|bytes| parsed::<Record>(&bytes).is_none()) {
                return Ok(Some(record));
            }
            let lines = crate::fs::read_if_exists(&nodes)?.unwrap_or_default();
            let end = lines.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
            let mut whole =
                lines[..end].split(|&byte| byte == b'\n').filter(|line| line.ends_with(b"}"));
            if whole.any(|line| parsed::<NodeRecord>(line).is_none()) {
                return Ok(Some(nodes));
            }
        }
        Ok(None)
    }

    /// Artefacts of earlier runs of the same invocation whose nodes are not in `names` (all node
    /// names of the pipeline now), and which none of its nodes has made under another name. Sorted
    /// by name.
    pub fn orphans(&self, invocation: &Invocation, names: &[String]) -> Result<Vec<Orphan>> {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut latest: HashMap<String, ObjectId> = HashMap::new();
        for record in
            self.records()?.into_iter().filter(|record| record.invocation.is_of(invocation))
        {
            latest.extend(
                record.nodes.into_iter().filter_map(|node| Some((node.name, node.object?))),
            );
        }
        let (kept, gone): (Vec<_>, Vec<_>) =
            latest.into_iter().partition(|(name, _)| names.contains(name.as_str()));
        let kept: BTreeSet<ObjectId> = kept.into_iter().map(|(_, object)| object).collect();
        let mut orphans = Vec::new();
        for (name, object) in gone {
            if !kept.contains(&object) && self.object_path(object).exists() {
                let bytes = self.object_bytes(object)?;
                orphans.push(Orphan { name, object, bytes });
            }
        }
        orphans.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(orphans)
    }
}

impl Record {
    /// Whether a report of `before`, an earlier record of the same invocation, says all that one of
    /// this would: the same program and pipeline, and every node was there, with the same artefact.
    pub fn is_like(&self, before: &Record) -> bool {
        let same = |now: &NodeRecord, then: &NodeRecord| {
            now.ending == Ending::Cached
                && (&now.name, now.key, now.object) == (&then.name, then.key, then.object)
        };
        let known = |record: &Record| {
            (record.version.clone(), record.build.clone(), record.invocation.clone())
        };
        known(self) == known(before)
            && (&self.graph, &self.needs, &self.neutral)
                == (&before.graph, &before.needs, &before.neutral)
            && self.nodes.len() == before.nodes.len()
            && self.nodes.iter().zip(&before.nodes).all(|(now, then)| same(now, then))
    }
}

impl Invocation {
    /// True if both are runs of the same thing: the pipeline of the same path with the same
    /// options, whatever is in it now.
    pub fn is_of(&self, other: &Invocation) -> bool {
        (&self.pipeline, &self.options) == (&other.pipeline, &other.options)
    }
}

/// The number of the run with this id; 0 if it has none.
pub fn sequence(id: &str) -> u64 {
    id.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// A moment, in seconds since 1970, for people: `2026-11-23 11:48:01 UTC`.
pub fn date(seconds: u64) -> String {
    let text = calendar(seconds as i64 * 1000);
    let part = |from: usize, to: usize| &text[from..to];
    let (day, time) = (
        [part(0, 4), part(4, 6), part(6, 8)].join("-"),
        [part(9, 11), part(11, 13), part(13, 15)].join(":"),
    );
    format!("{day} {time} UTC")
}

/// A moment, in milliseconds since 1970, as `20261123-114801.123` (UTC). Days to dates after
/// Hinnant, "chrono-compatible low-level date algorithms" (civil_from_days), for years from 1970
/// on.
fn calendar(milliseconds: i64) -> String {
    let (days, rest) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}.{:03}", rest % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        // From `date -u -d @N`.
        for (seconds, text) in [
            (0, "19700101-000000.000"),
            (951_782_399, "20000228-235959.000"),
            (951_782_400, "20000229-000000.000"),
            (1_709_164_800, "20240229-000000.000"),
            (1_798_761_599, "20261231-235959.000"),
        ] {
            assert_eq!(calendar(seconds * 1000), text);
        }
        assert_eq!(date(1_709_164_799), "2024-02-28 23:59:59 UTC");
    }
}
