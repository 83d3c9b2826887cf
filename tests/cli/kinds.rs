//! `posttrain stages KIND`: every field with its type, default, range and meaning. What is expected
//! comes from serde, from the sources of the checks, and from errors of the program.

use std::collections::BTreeMap;
use std::path::Path;

use posttrain::stages::fields::{self, Answer, Shape};
use posttrain::stages::{self, Stage, Visitor};
use serde_json::{Value, json};

use super::place::Place;

/// The paths of fields that hold a value, as serde requests them.
struct Leaves;

impl Visitor for Leaves {
    type Output = Vec<String>;
    fn visit<S: Stage>(self) -> Vec<String> {
        let (fields, complete) = fields::of::<S>();
        complete.unwrap_or_else(|error| panic!("{}: {error}", S::INFO.name));
        fields.keys.iter().map(|key| (*key).to_owned()).chain(fields.leaves).collect()
    }
}

/// What the command prints of a kind, by field.
fn described(place: &Place, kind: &str) -> BTreeMap<String, Value> {
    let text = place.good(&["stages", kind, "--json"]).out;
    let printed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(printed["kind"], kind);
    let fields = printed["fields"].as_array().unwrap().iter();
    fields.map(|field| (field["field"].as_str().unwrap().to_owned(), field.clone())).collect()
}

/// The path of a leaf as the command prints it; items of lists and values of maps are of the field
/// that has them.
fn shown(leaf: &str) -> String {
    let mut shown = String::new();
    for (at, segment) in leaf.split('.').enumerate() {
        match segment {
            "0" => shown.push_str("[]"),
            "key" => shown.push_str(".NAME"),
            _ => shown.push_str(&format!("{}{segment}", if at > 0 { "." } else { "" })),
        }
    }
    loop {
        let inner = shown.strip_suffix("[]").or_else(|| shown.strip_suffix(".NAME"));
        match inner {
            Some(inner) => shown = inner.to_owned(),
            None => return shown,
        }
    }
}

#[test]
fn every_field_of_every_kind_is_printed_with_its_type_default_and_meaning() {
    let place = Place::new("");
    for kind in stages::names() {
        let described = described(&place, kind);
        let text = place.good(&["stages", kind]).out;
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{kind}: {text}");
        for leaf in stages::visit(kind, Leaves).unwrap() {
            let name = shown(&leaf);
            // What is in the values of a map is in the field that has the map.
            let outer = name.rsplit_once('.').map(|(outer, _)| outer);
            let outer = outer.map(|outer| outer.strip_suffix(".NAME").unwrap_or(outer));
            let choice = outer.and_then(|outer| described.get(outer));
            let field = described.get(&name).unwrap_or_else(|| panic!("{kind}: no `{name}`"));
            let has = |part: &str| field[part].as_str().is_some_and(|text| !text.is_empty());
            assert!(has("type") && has("meaning"), "{kind}: {field}");
            let is_key = choice.is_some_and(|field| field.get("values").is_some());
            assert_eq!(field.get("required").is_none(), is_key, "{kind}: {field}");
            assert!(field["required"] != true || field.get("default").is_none(), "{field}");
            let line = format!("{name}: {}", field["type"].as_str().unwrap());
            assert!(words(&text).contains(&words(&line)), "{kind}: {line}");
            assert!(words(&text).contains(&words(field["meaning"].as_str().unwrap())), "{field}");
            let values = field["values"].as_array();
            assert_eq!(values.is_some(), line.contains(" below"), "{kind}: {field}");
            for value in values.into_iter().flatten().filter(|value| value["is_key"] == false) {
                let [name, meaning] =
                    ["value", "meaning"].map(|part| value[part].as_str().unwrap());
                assert_ne!(meaning, "", "{kind}: {field}");
                assert!(words(&text).contains(&words(&format!("- {name}: {meaning}"))), "{field}");
            }
        }
    }
}

/// A text without its line ends and indents.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn defaults_are_those_of_a_config_without_the_field() {
    let place = Place::new("");
    for (kind, field, default) in [
        ("ppo", "kl.coef", None),
        ("ppo", "temperature", Some(json!(1.0))),
        ("ppo", "kl.adaptive", Some(json!(null))),
        ("ppo", "optimiser.schedule.warmup", Some(json!({"steps": 0}))),
        ("sft", "split", Some(json!("sft"))),
        ("pretrain", "model.init", Some(json!("copying"))),
        ("classifier", "frozen", Some(json!(1.0))),
        ("dataset", "source.files.NAME.on_bad_row", Some(json!("error"))),
        ("dataset", "source.files.NAME.format", Some(json!(null))),
        ("evaluate", "judges", Some(json!({}))),
    ] {
        let described = &described(&place, kind)[field];
        assert_eq!(described.get("default"), default.as_ref(), "{described}");
        assert_eq!(described["required"], default.is_none(), "{described}");
    }
}

/// The texts of a source that begin with `expected`, up to the part that tells what was found.
fn expectations(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let texts = code.split("\"expected ").skip(1).map(|rest| rest.split('"').next().unwrap());
    let text = |text: &str| {
        let whole = words(&format!("expected {}", text.replace("\\\n", "")));
        whole.split(", found").next().unwrap().to_owned()
    };
    texts.map(text).filter(|text| !text.contains('{')).collect()
}

#[test]
fn every_range_that_a_check_states_is_printed() {
    let place = Place::new("");
    let printed: Vec<String> = stages::names()
        .iter()
        .flat_map(|kind| described(&place, kind).into_values())
        .flat_map(|field| field["expected"].as_array().cloned().unwrap_or_default())
        .map(|message| message.as_str().unwrap().trim_start_matches("each: ").to_owned())
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src/stages", "src/stages/evaluate"].map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut sources: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    sources.push(root.join("src/base/check.rs"));
    let mut stated = 0;
    for path in sources {
        if path.is_dir() || path.ends_with("description.rs") {
            continue;
        }
        for expected in expectations(&std::fs::read_to_string(&path).unwrap()) {
            assert!(printed.contains(&expected), "{}: {expected}", path.display());
            stated += 1;
        }
    }
    assert!(stated > 50, "{stated}");
}

/// The paths of numbers of which one value is refused and another one is not.
struct Ranged;

impl Visitor for Ranged {
    type Output = Vec<String>;
    fn visit<S: Stage>(self) -> Vec<String> {
        let (trace, complete) = fields::trace::<S>();
        complete.unwrap();
        let mut ranged = Vec::new();
        for node in &trace.nodes {
            let answers = match node.shape {
                Shape::Number => [-3.5, 0.0, 0.75, 3.5, f64::INFINITY].map(Answer::Number),
                Shape::Integer { .. } => [0, 1, 3, 300, 1 << 40].map(Answer::Integer),
                _ => continue,
            };
            let refuses = |script: usize, answer: Answer| {
                let config = trace.scripts[script].with(&node.path, answer).config::<S>();
                Some(config.ok()?.problems().iter().any(|problem| problem.field == node.path))
            };
            if node.scripts.iter().any(|script| {
                let said = answers.map(|answer| refuses(*script, answer));
                said.contains(&Some(true)) && said.contains(&Some(false))
            }) {
                ranged.push(shown(&node.path));
            }
        }
        ranged
    }
}

#[test]
fn every_number_that_has_a_range_is_printed_with_it() {
    let place = Place::new("");
    for kind in stages::names() {
        let described = described(&place, kind);
        for field in stages::visit(kind, Ranged).unwrap() {
            assert!(described[&field].get("expected").is_some(), "{kind}: {field} has no range");
        }
    }
    let ranged = stages::visit("ppo", Ranged).unwrap();
    assert!(ranged.contains(&"policy_clip.dual".into()) && ranged.len() > 15, "{ranged:?}");
}

#[test]
fn a_value_out_of_range_is_refused_in_the_words_that_are_printed() {
    const TUNED: &str = "stages:\n  d: {uses: dataset, source: {world: {}}}\n  m: {uses: model, \
                         path: .}\n  s: {uses: sft, policy: m, dataset: d, batch_size: 1, \
                         optimiser: {learning_rate: 0.1}}\n";
    for (kind, stage, field, value) in [
        ("sft", "s", "optimiser.learning_rate", "11"),
        ("sft", "s", "optimiser.schedule.final_ratio", "2"),
        ("sft", "s", "optimiser.clip_norm", "-1"),
        ("sft", "s", "frozen", "1"),
        ("sft", "s", "max_prompt_tokens", "0"),
        ("dataset", "d", "source.world.sft", "0"),
    ] {
        let place = Place::new(TUNED);
        let set = format!("stages.{stage}.{field}={value}");
        let said = place.say(&["plan", "p.yaml", "--set", &set]);
        assert_eq!(said.code, 2, "{field}: {}", said.err);
        let messages = described(&place, kind)[field]["expected"].as_array().unwrap().clone();
        let is_said = |message: &Value| said.err.contains(message.as_str().unwrap());
        assert!(messages.iter().any(is_said), "{field}: {messages:?} {}", said.err);
    }
}
