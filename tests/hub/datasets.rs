//! Files of datasets by name, and files by address and checksum: what is fetched, into which
//! layout, what is refused, and what a pipeline makes of them.

use std::path::PathBuf;

use posttrain::error::{Kind, kind_of};
use posttrain::hub::{fetch_any, find_any};
use serde_json::Value;

use super::server::{Fault, sha256};
use super::{World, large};

const ROWS: &[u8] = b"{\"prompt\": \"a\", \"completion\": \" b\"}\n";
const MORE: &[u8] = b"{\"prompt\": \"c\", \"completion\": \" d\"}\n";

/// A hub with one dataset, and its commit.
fn with_a_dataset() -> (World, String) {
    let world = World::new();
    let files: [(&str, &[u8]); 5] = [
        ("README.md", b"# rows\n"),
        ("data/en/train-0.jsonl", ROWS),
        ("data/en/train-1.jsonl", MORE),
        ("data/en/test.jsonl", b"{}"),
        ("data/big.parquet", large(1).leak()),
    ];
    let commit = world.server.commit("datasets/tiny/rows", &files);
    (world, commit)
}

impl World {
    fn any(&self, text: &str) -> posttrain::error::Result<PathBuf> {
        fetch_any(&self.settings, text, &mut |_| ())
    }

    fn any_refused(&self, text: &str) -> (Kind, String) {
        let error = self.any(text).expect_err("it must not be had");
        let hint = error
            .downcast_ref::<posttrain::error::Failure>()
            .and_then(|failure| failure.hint.clone())
            .unwrap_or_default();
        (kind_of(&error), format!("{error:#} {hint}"))
    }
}

#[test]
fn a_file_of_a_dataset_lies_where_the_hubs_tools_look_for_it() {
    let (world, commit) = with_a_dataset();
    let text = "hub:datasets/tiny/rows:data/big.parquet";
    assert_eq!(find_any(&world.settings, text, &mut |_| ()).unwrap(), None);
    let path = world.any(text).unwrap();
    let shelf = world.settings.cache.join("datasets--tiny--rows");
    assert_eq!(path, shelf.join("snapshots").join(&commit).join("data/big.parquet"));
    assert_eq!(std::fs::read(&path).unwrap(), large(1));
    assert!(shelf.join("blobs").join(sha256(&large(1))).exists());
    assert_eq!(std::fs::read_to_string(shelf.join("refs/main")).unwrap(), commit);
    assert_eq!(world.sent(), ["big.parquet"]);
    // It is here now: for the branch, for the commit, and without the hub.
    assert_eq!(find_any(&world.settings, text, &mut |_| ()).unwrap(), Some(path.clone()));
    world.server.down(true);
    for text in [text, &format!("hub:datasets/tiny/rows@{commit}:data/big.parquet")] {
        assert_eq!(world.any(text).unwrap(), path);
    }
}

#[test]
fn a_star_is_a_folder_with_exactly_the_files_that_it_means() {
    let (world, _) = with_a_dataset();
    let names = |folder: &PathBuf| {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let train = world.any("hub:datasets/tiny/rows:data/en/train-*").unwrap();
    let all = world.any("hub:datasets/tiny/rows:data/en/*.jsonl").unwrap();
    assert_eq!(names(&train), ["train-0.jsonl", "train-1.jsonl"]);
    assert_eq!(names(&all), ["test.jsonl", "train-0.jsonl", "train-1.jsonl"]);
    assert_eq!(world.any("hub:datasets/tiny/rows:data/en/train-*").unwrap(), train);
    assert_eq!(std::fs::read(train.join("train-1.jsonl")).unwrap(), MORE);
}

#[test]
fn a_part_of_what_a_star_means_is_not_taken_for_all_of_it() {
    let (mut world, commit) = with_a_dataset();
    let path = world.any("hub:datasets/tiny/rows:data/en/train-0.jsonl").unwrap();
    // As another tool would leave it: no note of what else the commit holds.
    std::fs::remove_dir_all(world.settings.cache.join("datasets--tiny--rows/posttrain")).unwrap();
    world.settings.offline = true;
    assert_eq!(
        world.any(&format!("hub:datasets/tiny/rows@{commit}:data/en/train-0.jsonl")).unwrap(),
        path
    );
    let (kind, message) = world.any_refused("hub:datasets/tiny/rows:data/en/train-*");
    assert_eq!(kind, Kind::User);
    assert!(message.contains("is not in the cache"), "{message}");
}

#[test]
fn a_file_whose_name_leads_elsewhere_is_refused() {
    let world = World::new();
    world.server.commit(
        "datasets/tiny/odd",
        &[
            ("data/a.jsonl", ROWS),
            ("data/b c.jsonl", ROWS),
            ("data/.hidden", b""),
            ("data/..", b""),
        ],
    );
    let (kind, message) = world.any_refused("hub:datasets/tiny/odd:data/*");
    assert_eq!(kind, Kind::User);
    assert!(
        message.contains(
            "data/b c.jsonl of hub:datasets/tiny/odd:data/* has a name that cannot be part of an \
             address"
        ),
        "{message}"
    );
    assert_eq!(world.any("hub:datasets/tiny/odd:data/a*").unwrap().read_dir().unwrap().count(), 1);
    assert!(world.any_refused("hub:datasets/tiny/odd:data/.*").1.contains("no path of a file"));
}

#[test]
fn what_a_dataset_does_not_hold_is_told_with_what_it_does() {
    let (world, _) = with_a_dataset();
    let (kind, message) = world.any_refused("hub:datasets/tiny/rows:data/en/train-2.jsonl");
    assert_eq!(kind, Kind::User);
    assert!(
        message.contains("train-2.jsonl is no file of the dataset at ")
            && message.contains("it holds data/en/train-0.jsonl"),
        "{message}"
    );
    let (kind, message) = world.any_refused("hub:datasets/tiny/none:x.jsonl");
    assert_eq!(kind, Kind::User);
    assert!(message.contains("has no dataset `tiny/none` that you may see"), "{message}");
}

#[test]
fn a_file_is_fetched_by_its_address_once_and_only_with_the_right_bytes() {
    let mut world = World::new();
    world.settings.token = Some("hf_right".into());
    let address = world.server.put("rows.jsonl", ROWS);
    let text = format!("{address}#sha256={}", sha256(ROWS));
    assert_eq!(find_any(&world.settings, &text, &mut |_| ()).unwrap(), None);
    let path = world.any(&text).unwrap();
    assert_eq!(
        (std::fs::read(&path).unwrap(), path.file_name().unwrap()),
        (ROWS.to_vec(), "rows.jsonl".as_ref())
    );
    assert!(
        world.server.requests().iter().all(|request| request.token.is_none()),
        "the hub's token is for the hub"
    );
    world.server.put("rows.jsonl", MORE);
    assert_eq!(world.any(&text).unwrap(), path);
    assert_eq!(world.server.requests().len(), 0);
    // Other bytes at the same address.
    let (kind, message) = world.any_refused(&format!("{address}#sha256={}", sha256(b"x")));
    assert_eq!(kind, Kind::Environment);
    assert!(
        message.contains("came damaged: its checksum is") && message.contains(&sha256(b"x")),
        "{message}"
    );
    let (kind, message) = world.any_refused(&format!("{address}x#sha256={}", sha256(b"x")));
    assert_eq!(kind, Kind::User);
    assert!(message.contains("answers with status 404"), "{message}");
    // What breaks off goes on.
    let bytes = large(2);
    let address = world.server.put("large.bin", &bytes);
    world.server.fail("large.bin", Fault::Cut(1000));
    let path = world.any(&format!("{address}#sha256={}", sha256(&bytes))).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

/// A dataset stage that reads this path.
fn pipeline(path: &str) -> String {
    format!(
        "stages:\n  rows: {{uses: dataset, source: {{files: {{sft: {{path: \"{path}\"}}}}}}}}\n"
    )
}

#[test]
fn a_pipeline_reads_the_same_rows_from_wherever_they_are() {
    let (world, commit) = with_a_dataset();
    std::fs::write(world.home().join("own.jsonl"), ROWS).unwrap();
    let address = world.server.put("other.jsonl", ROWS);
    let run = |path: &str| {
        let said = world.program(&pipeline(path), &["run", "p.yaml", "--log", "json"], &[]);
        let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
        assert!(said.code == 0 && last["ok"] == true, "{}{}", said.out, said.err);
        (last["ran"].as_u64().unwrap(), last["cached"].as_u64().unwrap())
    };
    let said = world.program(
        &pipeline("hub:datasets/tiny/rows:data/en/train-0.jsonl"),
        &["plan", "p.yaml"],
        &[],
    );
    assert!(
        said.out.starts_with(
            "unknown  rows  until hub:datasets/tiny/rows:data/en/train-0.jsonl is fetched\n"
        ),
        "{}{}",
        said.out,
        said.err
    );
    assert_eq!(run("hub:datasets/tiny/rows:data/en/train-0.jsonl"), (1, 0));
    let same = [
        "own.jsonl".to_owned(),
        format!("hub:datasets/tiny/rows@{commit}:data/en/train-0.jsonl"),
        format!("{address}#sha256={}", sha256(ROWS)),
    ];
    for same in same {
        assert_eq!(run(&same), (0, 1), "{same}");
    }
    assert_eq!(run("hub:datasets/tiny/rows:data/en/train-*"), (1, 0));
}

#[test]
fn a_wrong_name_or_address_is_a_mistake_where_it_stands() {
    let world = World::new();
    let said = world.program(&pipeline("hub:datasets/tiny/rows"), &["plan", "p.yaml"], &[]);
    assert_eq!(said.code, 2);
    let expected =
        "p.yaml:2:54: `hub:datasets/tiny/rows` does not name files of a dataset: it has no `:`";
    assert!(said.err.contains(expected), "{}", said.err);
    let said = world.program(&pipeline("https://h/rows.jsonl"), &["plan", "p.yaml"], &[]);
    assert!(
        said.code == 2
            && said.err.contains("does not say which bytes it leads to")
            && said.err.contains("sha256sum"),
        "{}",
        said.err
    );
    let model = "stages:\n  base: {uses: model, path: \"hub:datasets/tiny/rows:x\"}\n";
    let said = world.program(model, &["plan", "p.yaml"], &[]);
    assert!(
        said.code == 2
            && said
                .err
                .contains("expected a model, found `hub:datasets/tiny/rows:x`, which names files"),
        "{}",
        said.err
    );
    assert!(world.server.requests().is_empty());
}
