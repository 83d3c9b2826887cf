//! A flipped bit in any file of a store: it is noticed, or it changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use posttrain::dag::gc::gc;
use posttrain::dag::inputs::snapshot;
use posttrain::dag::tags::Tagged;
use posttrain::dag::work::Claim;
use posttrain::error::{Kind, kind_of};
use posttrain::fs;
use posttrain::random::Stream;

use super::bench::{Bench, Expected, earlier, expected, study};
use super::setting;

/// Bits of each file that are flipped.
const BITS: &str = "POSTTRAIN_RELIABILITY_BITS";

const FORM: &str = "length 1";

/// A store with files of every kind.
fn full(expected: &Expected, input: &Path) -> Bench {
    let bench = Bench::new();
    bench.run(&earlier(), "earlier", false).unwrap();
    bench.run(&study(), "study", false).unwrap();
    let store = bench.store();
    let _presence = store.begin().unwrap();
    for object in expected.values() {
        store.derived(*object, FORM, || Ok(0.1 + 0.2)).unwrap();
    }
    // Objects that were at rest when they were hashed are trusted by what is remembered of them.
    std::thread::sleep(Duration::from_millis(60));
    bench.visible(expected);
    snapshot(&store, input).unwrap();
    let id = store.records().unwrap().pop().unwrap().id;
    store.put_tag("run", Tagged::Run(id), Some("a note")).unwrap();
    let entry = store.entries().unwrap().pop().unwrap();
    let of = Tagged::Artefact { key: entry.key, object: entry.object };
    store.put_tag("artefact", of, None).unwrap();
    // An attempt that was ended in its midst, at a key that has no entry.
    let key = "1".repeat(64).parse().unwrap();
    let Claim::Miss(ticket) = store.claim(key, &|_| false).unwrap() else {
        panic!("it is not made")
    };
    std::fs::write(ticket.folder().join("checkpoints/step"), "7").unwrap();
    std::fs::write(ticket.folder().join("order.json"), "{\"order\": 1}").unwrap();
    std::fs::write(ticket.folder().join("process"), "{}").unwrap();
    std::mem::forget(ticket);
    bench
}

fn files(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for name in fs::list(folder).unwrap() {
        let (path, name) = (folder.join(&name), format!("{prefix}{name}"));
        match path.is_dir() {
            true => files(&path, &format!("{name}/"), found),
            false => found.push(name),
        }
    }
}

/// Flips a bit of a file that may be read-only.
fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    let rights = path.metadata().unwrap().permissions();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, rights).unwrap();
}

/// The kind of a file, for the counts: `actions`, `stat/objects`, `runs/nodes.jsonl`, ...
fn kind(file: &str) -> String {
    let parts: Vec<&str> = file.split('/').collect();
    match parts[0] {
        "runs" | "work" => format!("{}/{}", parts[0], parts[2..].join("/")),
        "stat" => parts[..2].join("/"),
        other => other.to_owned(),
    }
}

#[test]
fn a_flipped_bit_in_any_file_is_noticed_or_changes_nothing() {
    let expected = expected();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    std::fs::write(&input, "an input").unwrap();
    // What was at rest for two seconds when it was hashed is trusted by what is remembered of it.
    std::thread::sleep(Duration::from_millis(2100));
    let template = full(&expected, &input);
    let clean = snapshot(&Bench::new().store(), &input).unwrap().content;
    let mut names = Vec::new();
    files(&template.cache().join("v1"), "", &mut names);
    let draws = Stream::new(3, "flipped bits");
    let (bits, mut counts) = (setting(BITS, 2), BTreeMap::<String, u64>::new());
    let mut refused = 0;
    for (at, name) in names.iter().enumerate() {
        let length = template.cache().join("v1").join(name).metadata().unwrap().len() as usize;
        for n in 0..if length == 0 { 0 } else { bits } {
            let bench = full(&expected, &input);
            let mut own = Vec::new();
            files(&bench.cache().join("v1"), "", &mut own);
            // Names that hold moments and numbers of processes differ from store to store; their
            // order does not.
            let path = bench.cache().join("v1").join(&own[at]);
            assert_eq!(kind(&own[at]), kind(name));
            let length = path.metadata().unwrap().len() as usize;
            let bit = (draws.uniform(at as u64, n) * (8 * length) as f64) as usize;
            let what = format!("bit {bit} of {}", own[at]);
            flip(&path, bit);
            let store = bench.store();
            for object in expected.values() {
                let derived: f64 = store.derived(*object, FORM, || Ok(0.1 + 0.2)).unwrap();
                assert_eq!(derived, 0.1 + 0.2, "{what}");
            }
            assert_eq!(snapshot(&store, &input).unwrap().content, clean, "{what}");
            for tag in store.tags().unwrap() {
                assert!(tag.note.is_none_or(|note| note == "a note"), "{what}");
            }
            for record in store.records().unwrap() {
                for node in record.nodes.iter().filter(|node| node.object.is_some()) {
                    assert_eq!(node.object, Some(expected[&node.key.unwrap()]), "{what}");
                }
            }
            // Where what is to be kept cannot be told, nothing is deleted.
            let before = bench.visible(&expected);
            match gc(&store, false) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(kind_of(&error), Kind::Environment, "{what}: {error:#}");
                    let text = format!("{error:#}");
                    let folder = bench.cache().display().to_string();
                    assert!(text.contains("is damaged") && text.contains(&folder), "{text}");
                    refused += 1;
                    let damaged = if own[at].starts_with("runs") {
                        path.parent().unwrap().to_owned()
                    } else {
                        path.clone()
                    };
                    fs::remove_all(&damaged).unwrap();
                }
            }
            assert_eq!(bench.visible(&expected), before, "{what}: gc has lost something");
            for (graph, pipeline) in [(earlier(), "earlier"), (study(), "study")] {
                let ran = bench.run(&graph, pipeline, false);
                let ran = ran.unwrap_or_else(|error| panic!("{what}: {error:#}"));
                for node in ran.nodes {
                    let made = node.key.and_then(|key| expected.get(&key).copied());
                    assert!(made.is_some() && made == node.object, "{what}: {node:?}");
                }
            }
            bench.assert_recovers(&expected, &what);
            *counts.entry(kind(name)).or_default() += 1;
        }
    }
    println!("flipped bits {}, refused by gc {refused}", counts.values().sum::<u64>());
    counts.iter().for_each(|(kind, n)| println!("  {kind}: {n}"));
    let kinds = ["actions", "objects", "stat/objects", "stat/inputs", "derived", "tags", "keys"];
    for kind in kinds.into_iter().chain(["runs/record.json", "runs/nodes.jsonl"]) {
        assert!(counts.contains_key(kind), "no {kind} among {counts:?}");
    }
    assert!(refused > 0);
}
