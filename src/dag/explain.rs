//! Why a node runs: the fields and inputs that differ from the nearest earlier entry. It compares
//! what keys are made of, as made by the function that makes keys.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::action::Lookup;
use crate::digest::ActionKey;
use crate::entry::Entry;
use crate::error::{Result, user};
use crate::inputs::Snapshots;
use crate::key::{CONTENT_TAG, OBJECT_TAG, Preimage};
use crate::node::{Node, Reference, references};
use crate::plan::{Plan, State, plan};
use crate::price::Price;
use crate::request::Request;
use crate::store::Store;

/// Instead of the content of a node that has not run.
const PENDING_TAG: &str = "$pending";
/// The field of the numerics class, and what decides it where it is unknown.
const NUMERICS: &str = "numerics";
const DEVICE: &str = "the device";
/// How many entries of a stage kind are compared at most, latest first.
const CANDIDATES: usize = 200;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Dotted path in the config, or `stage version`, `numerics`.
    pub field: String,
    /// The earlier value (of a reference or input: the hash of its content); absent if the field is
    /// new and has no default.
    pub old: Option<Value>,
    /// The value now; absent if the field is gone, or not known before what is in `source` is
    /// there.
    pub new: Option<Value>,
    /// For a reference, the node it names; for an input, its path.
    pub source: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match (&self.old, &self.new, &self.source) {
            (_, None, Some(source)) => {
                write!(f, "`{field}` depends on `{source}`, which is not there yet")
            }
            (Some(_), Some(_), Some(source)) => {
                write!(f, "`{field}`: `{source}` has other content")
            }
            (_, Some(_), Some(source)) => write!(f, "`{field}` is new: `{source}`"),
            (Some(old), Some(new), None) => write!(f, "`{field}` was {old}, is {new}"),
            (None, Some(new), None) => write!(f, "`{field}` is new: {new}"),
            (Some(old), None, None) => write!(f, "`{field}` is gone: it was {old}"),
            (None, None, None) => write!(f, "`{field}`"),
        }
    }
}

/// What a node's key is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Earlier {
    /// Its key.
    pub key: ActionKey,
    /// The name the node had then.
    pub node: String,
    /// When it was finished, in seconds since 1970.
    pub finished_at: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Why a node is in the state it is in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The node's name.
    pub node: String,
    /// What would happen to it, and why.
    #[serde(flatten)]
    pub state: State,
    /// The nearest earlier entry of the same stage kind under another key: the one with the fewest
    /// differences.
    pub earlier: Option<Earlier>,
    /// What differs from it.
    pub differences: Vec<Difference>,
}

/// Explains the nodes called `names`, in this order, by one plan of what they need.
pub fn explain(store: &Store, request: Request<'_>, names: &[String]) -> Result<Vec<Explanation>> {
    let plan = plan(store, Request { targets: names, ..request })?;
    let explainer = Explainer::new(store, request, &plan)?;
    let states: HashMap<&str, &State> =
        plan.steps.iter().map(|step| (step.name.as_str(), &step.state)).collect();
    let one = |node: &String| {
        let state = states.get(node.as_str());
        let mut state =
            (*state.ok_or_else(|| user(format!("there is no stage `{node}`")))?).clone();
        let (earlier, differences) = explainer.compare(node, &state)?.unzip();
        explainer.add_reasons(node, &mut state)?;
        let differences = differences.unwrap_or_default();
        Ok(Explanation { node: node.clone(), state, earlier, differences })
    };
    names.iter().map(one).collect()
}

/// Fills in why each node of the plan runs.
pub fn add_reasons(store: &Store, request: Request<'_>, plan: &mut Plan) -> Result<()> {
    if plan.steps.iter().all(|step| !matches!(step.state, State::Run { .. })) {
        return Ok(());
    }
    let explainer = Explainer::new(store, request, plan)?;
    plan.steps.iter_mut().try_for_each(|step| explainer.add_reasons(&step.name, &mut step.state))
}

/// For each node of the plan that is not there, by name, what the nearest earlier entry took. A
/// node of a kind that was never made has no price.
pub fn prices(store: &Store, request: Request<'_>, plan: &Plan) -> Result<HashMap<String, Price>> {
    let open = |state: &State| state.object().is_none();
    let mut prices = HashMap::new();
    if plan.steps.iter().any(|step| open(&step.state)) {
        let explainer = Explainer::new(store, request, plan)?;
        for step in plan.steps.iter().filter(|step| open(&step.state)) {
            if let Some((Earlier { node, seconds, .. }, differences)) =
                explainer.nearest(&step.name, &step.state, &unlike_in_size)?
            {
                let price = Price { seconds, like: node, differences: differences.len() };
                prices.insert(step.name.clone(), price);
            }
        }
    }
    Ok(prices)
}

/// What differs between the key of a node of the plan and that of an entry, as far as it is known.
pub fn compare_with(
    store: &Store,
    request: Request<'_>,
    plan: &Plan,
    name: &str,
    entry: &Entry,
) -> Result<Vec<Difference>> {
    let explainer = Explainer::new(store, request, plan)?;
    let node = explainer.nodes[name];
    let (sources, defaults) = (explainer.sources(node)?, defaults_of(node));
    Ok(differences(&fields_of(entry), &explainer.fields(node)?, &sources, &defaults))
}

struct Explainer<'a> {
    store: &'a Store,
    request: Request<'a>,
    nodes: HashMap<&'a str, &'a Node>,
    /// What is known of each node's artefact.
    contents: HashMap<String, Value>,
    /// By stage kind, the entries that are compared and their fields, latest first.
    entries: HashMap<String, Vec<(Entry, Fields)>>,
}

/// The fields of a key, by dotted path.
pub(super) type Fields = BTreeMap<String, Value>;

impl<'a> Explainer<'a> {
    fn new(store: &'a Store, request: Request<'a>, plan: &Plan) -> Result<Self> {
        let content = |state: &State, name: &str| match state {
            State::Cached { object, .. } | State::Remote { object, .. } => {
                json!({ OBJECT_TAG: object })
            }
            State::Run { .. } | State::Unknown { .. } => json!({ PENDING_TAG: name }),
        };
        let contents = plan
            .steps
            .iter()
            .map(|step| (step.name.clone(), content(&step.state, &step.name)))
            .collect();
        let mut entries: HashMap<String, Vec<Entry>> = HashMap::new();
        for entry in store.entries()? {
            entries.entry(entry.preimage.stage.clone()).or_default().push(entry);
        }
        let latest = |mut own: Vec<Entry>| {
            own.sort_by_key(|entry| Reverse((entry.place, entry.key)));
            // One of them may be that of the node itself, which is passed over.
            own.truncate(CANDIDATES + 1);
            own.into_iter().map(|entry| (entry.clone(), fields_of(&entry))).collect()
        };
        let entries = entries.into_iter().map(|(stage, own)| (stage, latest(own))).collect();
        let nodes = request.graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        Ok(Explainer { store, request, nodes, contents, entries })
    }

    fn add_reasons(&self, name: &str, state: &mut State) -> Result<()> {
        let State::Run { key, .. } = state else { return Ok(()) };
        let key = *key;
        let found = match self.store.lookup(key)? {
            Lookup::Corrupted(object, what) => {
                vec![format!("its object {} is corrupted: {what}", object.short())]
            }
            Lookup::Gone(object) => vec![format!("its object {} was deleted", object.short())],
            Lookup::Hit(_) => vec!["another run made it a moment ago".into()],
            Lookup::Absent => match self.compare(name, state)? {
                None => vec![format!("no `{}` was made before", self.nodes[name].stage)],
                Some((_, differences)) => differences.iter().map(Difference::to_string).collect(),
            },
        };
        *state = State::Run { key, reasons: found };
        Ok(())
    }

    /// The earlier entry with the fewest differences, and what differs from it.
    fn compare(&self, name: &str, state: &State) -> Result<Option<(Earlier, Vec<Difference>)>> {
        self.nearest(name, state, &|differences| differences.len() as f64)
    }

    /// The nearest earlier entry by a distance, and what differs from it.
    fn nearest(
        &self,
        name: &str,
        state: &State,
        distance: &dyn Fn(&[Difference]) -> f64,
    ) -> Result<Option<(Earlier, Vec<Difference>)>> {
        let own = match state {
            State::Run { key, .. } | State::Cached { key, .. } | State::Remote { key, .. } => {
                Some(*key)
            }
            State::Unknown { .. } => None,
        };
        let node = self.nodes[name];
        let now = self.fields(node)?;
        let (sources, defaults) = (self.sources(node)?, defaults_of(node));
        let candidates = self.entries.get(&node.stage).map(Vec::as_slice).unwrap_or_default();
        let others = candidates.iter().filter(|(entry, _)| Some(entry.key) != own);
        let compared = others
            .take(CANDIDATES)
            .map(|(entry, fields)| (entry, differences(fields, &now, &sources, &defaults)));
        // Latest first already; the first of equals is the latest.
        let compared = compared.map(|(entry, differences)| {
            let rank = (distance(&differences), entry.node != name);
            (rank, entry, differences)
        });
        let nearest = compared.min_by(|(a, ..), (b, ..)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Ok(nearest.map(|(_, entry, differences)| {
            (
                Earlier {
                    key: entry.key,
                    node: entry.node.clone(),
                    finished_at: entry.finished_at,
                    seconds: entry.seconds,
                },
                differences,
            )
        }))
    }

    /// For every reference and input of a node, by dotted path, what it names.
    fn sources(&self, node: &Node) -> Result<BTreeMap<String, String>> {
        let mut sources: BTreeMap<String, String> = references(&node.config)?
            .into_iter()
            .map(|(path, reference)| (path, reference.to_string()))
            .collect();
        if node.numerics(self.request.numerics).is_none() {
            sources.insert(NUMERICS.into(), DEVICE.into());
        }
        Ok(sources)
    }

    /// The fields of the key of a node as far as they are known.
    fn fields(&self, node: &Node) -> Result<Fields> {
        let mut snapshots = Snapshots::default();
        snapshots.take_all(self.store, node)?;
        let config = node.config_in_key(&mut |_, reference| {
            Ok(match reference {
                Reference::Stage(name) => self.contents[name].clone(),
                Reference::Input(path) => json!({ CONTENT_TAG: snapshots.content(path) }),
                Reference::Fetch(name) => json!({ PENDING_TAG: name }),
            })
        })?;
        let pending = || json!({ PENDING_TAG: DEVICE });
        let class = node.numerics(self.request.numerics).map_or_else(pending, |class| json!(class));
        Ok(fields(&config, node.version, class))
    }
}

/// How unlike in size two keys are that differ in this: 1 for each field, and for a number twice
/// the logarithm of its ratio as well, so that a node is priced by one of about as many steps and
/// rows rather than by one with fewer differences.
fn unlike_in_size(differences: &[Difference]) -> f64 {
    let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_f64);
    let of = |difference: &Difference| match (number(&difference.old), number(&difference.new)) {
        (Some(old), Some(new)) if old > 0.0 && new > 0.0 => 1.0 + 2.0 * (new / old).ln().abs(),
        _ => 1.0,
    };
    differences.iter().map(of).sum()
}

/// The defaults of a node's fields, by dotted path.
pub(super) fn defaults_of(node: &Node) -> BTreeMap<String, &Value> {
    node.defaults.iter().map(|(pointer, value)| (dotted(pointer), value)).collect()
}

fn fields_of(entry: &Entry) -> Fields {
    let Preimage { config, version, numerics, .. } = &entry.preimage;
    fields(config, *version, json!(numerics))
}

/// The fields of a key that is made of these.
pub(super) fn fields(config: &Value, version: u32, numerics: Value) -> Fields {
    let mut fields =
        BTreeMap::from([("stage version".into(), json!(version)), (NUMERICS.into(), numerics)]);
    flatten(config, String::new(), &mut fields);
    fields
}

/// Every leaf by its dotted path. An empty list or map is a leaf, and so is the object of a
/// reference or an input.
fn flatten(value: &Value, path: String, fields: &mut Fields) {
    match value {
        Value::Object(map) if !map.is_empty() && !map.keys().any(|key| key.starts_with('$')) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(value, path, fields);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| flatten(item, format!("{path}[{index}]"), fields));
        }
        // An empty config has no fields.
        leaf => drop(if path.is_empty() { None } else { fields.insert(path, leaf.clone()) }),
    }
}

/// A JSON pointer as the path of a leaf: `/kl/stops/0` is `kl.stops[0]`.
fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => path += &format!("[{index}]"),
            Err(_) if path.is_empty() => path += part,
            Err(_) => path += &format!(".{part}"),
        }
    }
    path.replace("~1", "/").replace("~0", "~")
}

/// What differs between two keys, by field.
pub(super) fn differences(
    old: &Fields,
    new: &Fields,
    sources: &BTreeMap<String, String>,
    defaults: &BTreeMap<String, &Value>,
) -> Vec<Difference> {
    // A field that a key does not have is at its default.
    let value = |fields: &Fields, path: &str| {
        fields.get(path).or_else(|| defaults.get(path).copied()).and_then(plain)
    };
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let differing = paths.into_iter().filter(|path| old.get(*path) != new.get(*path));
    differing
        .map(|path| Difference {
            field: path.clone(),
            old: value(old, path),
            new: value(new, path),
            source: sources.get(path).cloned(),
        })
        .collect()
}

/// A value as it is shown: the hash instead of a reference's or input's object, nothing for
/// what is not known yet.
fn plain(value: &Value) -> Option<Value> {
    match (value.get(PENDING_TAG), value.get(OBJECT_TAG).or_else(|| value.get(CONTENT_TAG))) {
        (Some(_), _) => None,
        (None, Some(hash)) => Some(hash.clone()),
        (None, None) => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_about_the_size_is_nearer_than_one_with_fewer_differences() {
        let of = |old: Value, new: Value| Difference {
            field: "f".into(),
            old: Some(old),
            new: Some(new),
            source: None,
        };
        let tiny = unlike_in_size(&[of(json!(10), json!(10_000))]);
        let alike = [of(json!(9_000), json!(10_000)), of(json!("a"), json!("b"))];
        assert!(unlike_in_size(&alike) < tiny);
        assert_eq!(unlike_in_size(&[of(json!("a"), json!("b"))]), 1.0);
        assert_eq!(unlike_in_size(&[of(json!(0), json!(5))]), 1.0);
        assert_eq!(unlike_in_size(&[]), 0.0);
    }
}
