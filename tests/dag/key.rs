//! Action keys: what is in them, how it is encoded.

use std::path::Path;

use posttrain::dag::digest::{ActionKey, ContentHash, ObjectId};
use posttrain::dag::key::{Preimage, encode};
use posttrain::dag::node::{Node, Numerics};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::node;

/// A node with something of everything.
fn base() -> Node {
    let mut node = node("name", "text", &["upstream"]);
    node.config["rate"] = json!(1e-4);
    node.config["steps"] = json!(10);
    node.config["rows"] = json!({ "$input": "rows.jsonl" });
    node.defaults = [("/shuffle".into(), json!(true))].into();
    node
}

fn id(text: &str) -> ObjectId {
    blake3::hash(text.as_bytes()).into()
}

fn content(text: &str) -> ContentHash {
    blake3::hash(text.as_bytes()).into()
}

fn key_with(node: &Node, numerics: &str, object: &str, input: &str) -> ActionKey {
    Preimage::of(
        node,
        Numerics { device: Some(numerics), host: "host" },
        |_| Ok(id(object)),
        |_| Ok(content(input)),
    )
    .expect("a sound config")
    .key()
}

fn key(node: &Node) -> ActionKey {
    key_with(node, "cpu", "object", "input")
}

fn edited(edit: impl FnOnce(&mut Node)) -> ActionKey {
    let mut node = base();
    edit(&mut node);
    key(&node)
}

/// The key after a change of the thing that a row of the table speaks of.
fn after_change(row: &str) -> ActionKey {
    match row {
        "stage kind" => edited(|node| node.stage = "other".into()),
        "stage VERSION" => edited(|node| node.version = 2),
        "config value" => edited(|node| node.config["rate"] = json!(2e-4)),
        "config field at its default, written or not" => {
            edited(|node| node.config["shuffle"] = json!(true))
        }
        "content of an upstream artefact" => key_with(&base(), "cpu", "other", "input"),
        "content of an input file" => key_with(&base(), "cpu", "object", "other"),
        "names inside an input folder" => {
            let folder = |name: &str| {
                let folder = tempfile::tempdir().expect("a temporary folder");
                std::fs::write(folder.path().join(name), "x").expect("a file");
                let store = posttrain::dag::store::Store::open(&folder.path().join("cache"))
                    .expect("opening reads nothing");
                posttrain::dag::inputs::snapshot(&store, folder.path()).expect("readable").content
            };
            assert_eq!(folder("a"), folder("a"));
            assert_ne!(folder("a"), folder("b"));
            key_with(&base(), "cpu", "object", &folder("b").to_string())
        }
        "numerics class" => key_with(&base(), "cuda", "object", "input"),
        "node name" => edited(|node| node.name = "other".into()),
        "upstream node name" => edited(|node| node.config["from"][0]["$stage"] = json!("other")),
        "input path" => edited(|node| node.config["rows"]["$input"] = json!("moved/rows.jsonl")),
        "artefact kind" => edited(|node| node.output = "other".into()),
        "order of config fields" => edited(|node| {
            let mut fields: Vec<_> =
                node.config.as_object().expect("a map").clone().into_iter().collect();
            fields.reverse();
            node.config = Value::Object(fields.into_iter().collect());
        }),
        "spelling of a number" => {
            edited(|node| node.config["rate"] = serde_json::from_str("0.00010").expect("a number"))
        }
        "byte-neutral config field" => edited(|node| node.config["pace"] = json!("slow")),
        "threads" => edited(|node| node.resources.threads = None),
        other => panic!("the table has a row `{other}` that nothing tests"),
    }
}

#[test]
fn the_table_of_what_is_in_a_key_is_true() {
    let rows: Vec<[&str; 2]> = include_str!("../../src/dag/key.rs")
        .lines()
        .filter_map(|line| {
            line.strip_prefix("//! | ")?.split(" | ").take(2).collect::<Vec<_>>().try_into().ok()
        })
        .filter(|row: &[&str; 2]| row[1] == "yes" || row[1] == "no")
        .collect();
    assert_eq!(rows.len(), 16, "{rows:?}");
    for [row, in_key] in rows {
        assert_eq!(after_change(row) != key(&base()), in_key == "yes", "{row}");
    }
}

/// The digest was computed by a second implementation of the encoding, in another language.
#[test]
fn the_encoding_is_pinned_by_a_golden_digest() {
    let (object, content) = (id("object"), content("content"));
    let config = json!({
        "text": "é", "rate": 1e-4, "steps": 10, "seed": u64::MAX, "flag": true, "none": null,
        "list": [1, -2.5, []],
        "base": { "$object": object }, "rows": { "$content": content }, "zero": 0.0, "map": {},
    });
    let preimage = Preimage { stage: "sft".into(), version: 3, numerics: "cpu f32".into(), config };
    assert_eq!(
        preimage.key().to_string(),
        "4a173b2c4552e0914c2b0c3f5e02a03c0c84742fd92788b3d546526d7acbd8e7"
    );
}

#[test]
fn a_node_on_no_device_has_the_class_of_the_host_in_its_key() {
    let key = |on_device: bool, device: &'static str, host: &'static str| {
        let node = Node { on_device, ..base() };
        let numerics = Numerics { device: Some(device), host };
        Preimage::of(&node, numerics, |_| Ok(id("object")), |_| Ok(content("input")))
            .expect("a sound config")
            .key()
    };
    assert_eq!(key(false, "cpu", "host"), key(false, "cuda", "host"));
    assert_ne!(key(false, "cpu", "host"), key(false, "cpu", "another"));
    assert_eq!(key(true, "cpu", "host"), key(true, "cpu", "another"));
    assert_ne!(key(true, "cpu", "host"), key(true, "cuda", "host"));
}

#[test]
fn negative_zero_is_zero_and_a_whole_real_number_is_no_integer() {
    let with = |value: Value| edited(|node| node.config["rate"] = value);
    assert_eq!(with(json!(-0.0)), with(json!(0.0)));
    assert_ne!(with(json!(1.0)), with(json!(1)));
    assert_ne!(with(json!("1")), with(json!(1)));
}

#[test]
fn a_config_cannot_pose_as_a_reference() {
    for config in [
        json!({ "a": { "$object": id("object") } }),
        json!({ "a": { "$content": content("input") } }),
        json!({ "a": { "$stage": "b", "$input": "c" } }),
        json!({ "a": { "$stage": 1 } }),
        json!({ "a": { "$input": "c", "other": 1 } }),
    ] {
        let mut node = base();
        node.config = config.clone();
        let error =
            Preimage::of(&node, Numerics::default(), |_| Ok(id("")), |_: &Path| Ok(content("")))
                .expect_err("it is refused");
        assert!(error.to_string().contains("`a` has a key `$"), "{error}");
    }
}

#[test]
fn a_digest_reads_back_what_it_writes_and_nothing_else() {
    let key = key(&base());
    assert_eq!(key.to_string().parse(), Ok(key));
    for text in
        ["", "00", &key.to_string().to_uppercase(), &format!("{key}0"), "../../../../etc/passwd"]
    {
        assert!(text.parse::<ActionKey>().is_err(), "{text}");
    }
}

/// Reads one encoded value back. That it can be done at all shows that the encoding is prefix-free
/// and injective.
fn decode(bytes: &mut &[u8]) -> Value {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = bytes.split_at(count);
        *bytes = tail;
        head
    }
    fn eight(bytes: &mut &[u8]) -> [u8; 8] {
        take(bytes, 8).try_into().expect("eight bytes")
    }
    match take(bytes, 1)[0] {
        b'n' => Value::Null,
        b'f' => json!(false),
        b't' => json!(true),
        b'i' => json!(i64::from_le_bytes(eight(bytes))),
        b'u' => json!(u64::from_le_bytes(eight(bytes))),
        b'd' => json!(f64::from_le_bytes(eight(bytes))),
        b's' => {
            let count = u64::from_le_bytes(eight(bytes)) as usize;
            json!(std::str::from_utf8(take(bytes, count)).expect("text"))
        }
        b'l' => (0..u64::from_le_bytes(eight(bytes))).map(|_| decode(bytes)).collect(),
        b'm' => {
            let count = u64::from_le_bytes(eight(bytes));
            let field =
                |_| (decode(bytes).as_str().expect("a key is text").to_owned(), decode(bytes));
            Value::Object((0..count).map(field).collect())
        }
        tag => panic!("no value begins with {tag}"),
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("canonical", |x| x.is_finite() && x.to_bits() != (-0.0f64).to_bits())
            .prop_map(Value::from),
        "[nft\\x00iudslm$é]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-cé]{0,3}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn every_value_can_be_read_back_from_its_encoding(value in values(), after in any::<u8>()) {
        let mut bytes = Vec::new();
        encode(&mut bytes, &value);
        bytes.push(after);
        let mut rest = &bytes[..];
        prop_assert_eq!(decode(&mut rest), value);
        prop_assert_eq!(rest, &[after][..], "nothing more and nothing less is read");
    }
}
