//! Files and folders from outside.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use posttrain::dag::inputs::snapshot;
use posttrain::dag::record::Ending;
use posttrain::error::{Kind, kind_of};

use super::*;

fn with_file(text: &str) -> (Bench, PathBuf) {
    let bench = Bench::new();
    let path = bench.folder.path().join("rows.jsonl");
    std::fs::write(&path, text).expect("a file");
    (bench, path)
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).expect("it is there");
    file.set_times(FileTimes::new().set_modified(time)).expect("its owner may");
}

/// The file in which the hashes of the one input are remembered.
fn memory(bench: &Bench) -> PathBuf {
    let folder = bench.root().join("v1/stat/inputs");
    let names = posttrain::fs::list(&folder).expect("a snapshot was taken");
    assert_eq!(names.len(), 1);
    folder.join(&names[0])
}

/// As if the input had been hashed three seconds later: past the two within which nothing is
/// remembered.
fn settle(bench: &Bench) {
    let memory = memory(bench);
    let bytes = std::fs::read(&memory).expect("readable");
    let mut remembered: Value = serde_json::from_slice(&bytes).expect("it is JSON");
    for file in remembered["files"].as_array_mut().expect("it has files") {
        let hashed_at = file["hashed_at"].as_i64().expect("nanoseconds");
        file["hashed_at"] = json!(hashed_at + 3_000_000_000);
    }
    // Without its sum, as an earlier program wrote it.
    remembered.as_object_mut().expect("it is an object").remove("check").expect("it has a sum");
    std::fs::write(&memory, remembered.to_string()).expect("writable");
}

#[test]
fn an_edited_input_reruns_and_a_moved_or_touched_one_does_not() {
    let (bench, path) = with_file("one");
    let read = |path: &Path| graph([reader("r", "R", path), node("after", "X", &["r"])]);
    bench.run(&read(&path));
    set_modified(&path, SystemTime::now());
    assert!(bench.run(&read(&path)).ran().is_empty());
    let moved = bench.folder.path().join("moved");
    std::fs::rename(&path, &moved).expect("it is there");
    assert!(bench.run(&read(&moved)).ran().is_empty());
    std::fs::write(&moved, "two").expect("a file");
    let ran = bench.run(&read(&moved));
    assert_eq!(ran.ran(), ["r", "after"]);
    assert_eq!(bench.text(&ran, "after"), "X(Rtwo)");
}

/// P0: same size, modification time set back, even to the very nanosecond it had before.
#[test]
fn an_edit_with_its_modification_time_set_back_is_seen() {
    let (bench, path) = with_file("one");
    let read = graph([reader("r", "R", &path)]);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    set_modified(&path, long_ago);
    bench.run(&read);
    // So that the memory itself is tried.
    settle(&bench);
    assert!(bench.run(&read).ran().is_empty());
    std::fs::write(&path, "two").expect("a file");
    set_modified(&path, long_ago);
    let ran = bench.run(&read);
    assert_eq!(ran.ran(), ["r"]);
    assert_eq!(bench.text(&ran, "r"), "Rtwo");
}

#[test]
fn an_input_at_rest_is_not_read_again() {
    let (bench, path) = with_file("one");
    bench.run(&graph([reader("r", "R", &path)]));
    let memory = memory(&bench);
    let before = std::fs::read_to_string(&memory).expect("readable");
    let first = snapshot(&bench.store(), &path).expect("readable");
    let again = std::fs::read_to_string(&memory).expect("readable");
    assert_ne!(before, again, "it was fresh when it was hashed first, so it is hashed once more");
    settle(&bench);
    let settled = std::fs::read_to_string(&memory).expect("readable");
    // What is remembered wrongly is believed: the bytes are not read.
    std::fs::write(&memory, settled.replace(&first.content.to_string(), &"0".repeat(64)))
        .expect("writable");
    let again = snapshot(&bench.store(), &path).expect("readable");
    assert_eq!(again.content, first.content);
    assert_eq!(
        std::fs::read_to_string(&memory).expect("readable"),
        settled.replace(&first.content.to_string(), &"0".repeat(64))
    );
}

/// P1, P11: the result belongs to neither content.
#[test]
fn an_input_that_changes_while_its_stage_runs_is_recorded_under_neither_content() {
    for fresh in [true, false] {
        let (bench, path) = with_file("one");
        if !fresh {
            std::fs::create_dir_all(bench.root().join("v1/stat/inputs")).expect("writable");
            snapshot(&bench.store(), &path).expect("readable");
            settle(&bench);
        }
        let read = graph([reader("r", "R", &path)]);
        let ran = bench.run_with(&read, &|_, _| Ok(std::fs::write(&path, "two")?));
        assert_eq!(ran.ended(Ending::Failed), ["r"]);
        assert!(
            ran.failure("r").contains("changed while the stage ran")
                && ran.failure("r").contains("run again")
        );
        assert_eq!(ran.node("r").failure.as_ref().expect("it failed").kind, Kind::Stage);
        assert!(bench.store().entries().expect("readable").is_empty());
        let again = bench.run(&read);
        assert_eq!(bench.text(&again, "r"), "Rtwo");
        std::fs::write(&path, "one").expect("a file");
        assert_eq!(
            bench.run(&read).ran(),
            ["r"],
            "nothing was recorded under the first content either"
        );
    }
}

#[test]
fn an_input_that_is_touched_but_not_changed_while_its_stage_runs_is_fine() {
    let (bench, path) = with_file("one");
    let ran = bench
        .run_with(&graph([reader("r", "R", &path)]), &|_, _| Ok(std::fs::write(&path, "one")?));
    assert_eq!(ran.ran(), ["r"]);
}

#[test]
fn an_input_that_is_deleted_while_its_stage_runs_fails_the_stage() {
    let (bench, path) = with_file("one");
    let ran =
        bench.run_with(&graph([reader("r", "R", &path)]), &|_, _| Ok(std::fs::remove_file(&path)?));
    assert_eq!(ran.ended(Ending::Failed), ["r"]);
}

#[test]
fn a_missing_input_is_the_users_mistake_found_before_anything_runs() {
    let bench = Bench::new();
    let mut last = reader("last", "R", Path::new("/no/such/rows.jsonl"));
    last.config["from"] = serde_json::json!([{ "$stage": "a", "kind": "file" }]);
    let calls = Calls::default();
    let error = bench
        .try_run_with(&graph([node("a", "A", &[]), last]), &|text, _| {
            calls.note(text);
            Ok(())
        })
        .err()
        .expect("it is missing");
    assert_eq!(kind_of(&error), Kind::User);
    let text = format!("{error:#}");
    assert!(text.contains("`reads` of `last`") && text.contains("/no/such/rows.jsonl"), "{text}");
    assert!(calls.list().is_empty());
}

#[test]
fn a_folder_counts_by_its_names_and_bytes_through_links() {
    let bench = Bench::new();
    let folder = bench.folder.path().join("model");
    let blobs = bench.folder.path().join("blobs");
    std::fs::create_dir_all(folder.join("deep")).expect("a folder");
    std::fs::create_dir_all(&blobs).expect("a folder");
    std::fs::write(blobs.join("1"), "one").expect("a file");
    std::fs::write(blobs.join("2"), "two").expect("a file");
    std::fs::write(folder.join("deep/plain"), "p").expect("a file");
    let content = || snapshot(&bench.store(), &folder).expect("readable").content;
    let link = folder.join("weights");
    std::os::unix::fs::symlink(blobs.join("1"), &link).expect("a link");
    let linked = content();
    std::fs::remove_file(&link).expect("there");
    std::fs::write(&link, "one").expect("a file");
    assert_eq!(content(), linked, "a link counts as what it points at");
    std::fs::remove_file(&link).expect("there");
    std::os::unix::fs::symlink(blobs.join("2"), &link).expect("a link");
    assert_ne!(content(), linked);
    std::fs::remove_file(&link).expect("there");
    let without = content();
    std::fs::write(folder.join("deep/more"), "").expect("a file");
    assert_ne!(content(), without);
}
