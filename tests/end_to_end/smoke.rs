//! `pipelines/smoke.yaml` run once, undisturbed; its cache can be had as often as it is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use posttrain::dag::object_store::Integrity;
use posttrain::dag::store::Store;
use serde_json::Value;

use crate::cli::place::{Place, Said};

/// The pipeline.
pub const SMOKE: &str = include_str!("../../pipelines/smoke.yaml");

/// What came of the undisturbed run.
pub struct Undisturbed {
    /// All artefacts: node and object id.
    pub objects: Vec<(String, String)>,
    /// What was said, line by line.
    pub events: Vec<Value>,
    /// The last line as it was printed.
    pub last: String,
    /// The table that the last line names.
    pub table: Value,
    /// The rows of the world's splits.
    pub world: BTreeMap<String, Vec<Value>>,
    /// How long it took.
    pub seconds: f64,
    /// Every file of the cache, in memory: nothing is left behind when the tests end.
    cache: Vec<(PathBuf, u32, Vec<u8>)>,
}

/// The undisturbed run; made once.
pub fn undisturbed() -> &'static Undisturbed {
    static RUN: OnceLock<Undisturbed> = OnceLock::new();
    RUN.get_or_init(|| {
        let place = Place::new(SMOKE);
        let said = place.good(&["run", "p.yaml", "--log", "json"]);
        let events = events(&said);
        let table = PathBuf::from(said.last()["table"].as_str().expect("the run has a table"));
        let world = place.artefact("world");
        let split = |name: &str| {
            let text = std::fs::read_to_string(world.join(format!("{name}.jsonl"))).unwrap();
            (
                name.to_owned(),
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            )
        };
        let splits = posttrain::data::dataset::Dataset::open(&world).unwrap();
        Undisturbed {
            objects: place.objects(),
            last: said.out.lines().last().unwrap().to_owned(),
            table: serde_json::from_str(&std::fs::read_to_string(table).unwrap()).unwrap(),
            world: splits.splits().iter().map(|name| split(name)).collect(),
            seconds: said.last()["seconds"].as_f64().unwrap(),
            events,
            cache: remember(&place.path("cache")),
        }
    })
}

/// A place with this pipeline and the cache that the undisturbed run left.
pub fn filled(pipeline: &str) -> Place {
    let place = Place::new(pipeline);
    for (path, mode, bytes) in &undisturbed().cache {
        let path = place.path("cache").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    place
}

fn remember(root: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let mode = path.metadata().unwrap().permissions().mode();
                    files.push((
                        path.strip_prefix(root).unwrap().to_owned(),
                        mode,
                        std::fs::read(&path).unwrap(),
                    ));
                }
            }
        }
    }
    files
}

/// What a run with `--log json` said.
pub fn events(said: &Said) -> Vec<Value> {
    said.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// How each node ended, by name: `ran`, `cached`, …
pub fn endings(events: &[Value]) -> BTreeMap<String, String> {
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    events
        .iter()
        .filter(|event| event["event"] == "node")
        .map(|event| (text(event, "node"), text(event, "ending")))
        .collect()
}

/// Runs to the end, which must be good, and gives what was said.
pub fn run(place: &Place, more: &[&str]) -> Vec<Value> {
    events(&place.good(&[&["run", "p.yaml", "--log", "json"], more].concat()))
}

/// Every object in the cache is what its id says, and every artefact is one that the undisturbed
/// run made as well.
pub fn assert_sound(place: &Place) {
    let store = Store::open(&place.path("cache")).unwrap();
    for entry in store.entries().unwrap() {
        assert_eq!(store.recheck_object(entry.object).unwrap(), Integrity::Sound, "{}", entry.node);
        let pair = (entry.node.clone(), entry.object.to_string());
        assert!(
            undisturbed().objects.contains(&pair),
            "{pair:?} is not what an undisturbed run makes"
        );
    }
    let objects = place.path("cache/v1/objects");
    for name in posttrain::fs::list(&objects).unwrap() {
        assert_eq!(
            store.recheck_object(name.parse().unwrap()).unwrap(),
            Integrity::Sound,
            "{name}"
        );
    }
}

/// The nodes of a plan by state.
pub struct Plan {
    pub run: BTreeSet<String>,
    pub cached: BTreeSet<String>,
    pub unknown: BTreeSet<String>,
    /// What each node needs.
    pub needs: BTreeMap<String, Vec<String>>,
}

impl Plan {
    pub fn of(place: &Place, more: &[&str]) -> Plan {
        let plan: Value =
            serde_json::from_str(&place.good(&[&["plan", "p.yaml", "--json"], more].concat()).out)
                .unwrap();
        let steps = plan["steps"].as_array().unwrap();
        let name = |step: &Value| step["name"].as_str().unwrap().to_owned();
        let in_state =
            |state: &str| steps.iter().filter(|step| step["state"] == state).map(name).collect();
        let needs = |step: &Value| {
            step["needs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|need| need.as_str().unwrap().to_owned())
                .collect()
        };
        let needs = steps.iter().map(|step| (name(step), needs(step))).collect();
        Plan {
            run: in_state("run"),
            cached: in_state("cached"),
            unknown: in_state("unknown"),
            needs,
        }
    }

    /// All nodes that need one of these, directly or not, and are none of them.
    pub fn after(&self, roots: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found = roots.clone();
        loop {
            let more: Vec<String> = self
                .needs
                .iter()
                .filter(|(name, needs)| {
                    !found.contains(*name) && needs.iter().any(|need| found.contains(need))
                })
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                return found.difference(roots).cloned().collect();
            }
            found.extend(more);
        }
    }
}

/// The value of a param as the text has it.
pub fn param(text: &str, name: &str) -> String {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("  {name}: ")))
        .unwrap_or_else(|| panic!("no param `{name}`"));
    line.split_whitespace().next().unwrap().to_owned()
}

/// The text with another value of a param.
pub fn with_param(text: &str, name: &str, value: &str) -> String {
    edited(text, &format!("  {name}: {}", param(text, name)), &format!("  {name}: {value}"))
}

/// The text with a part replaced that must be there.
pub fn edited(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the pipeline has no {from:?}");
    text.replacen(from, to, 1)
}
