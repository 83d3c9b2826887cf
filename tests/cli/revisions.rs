//! `plan --diff`: what differs between git revisions of a pipeline.

use std::process::Command;

use serde_json::Value;

use super::json::check;
use super::place::Place;
use crate::tools;

const FIRST: &str = "\
name: study
params: {n: 1}
stages:
  a: {uses: command, run: [sh, -c, 'cat $script $data > made'], files: {script: script, data: data}}
  b: {uses: command, run: [sh, -c, 'echo ${n} > made'], inputs: {a: a}}
  c: {uses: command, run: [sh, -c, 'cat {b}/made > made'], inputs: {b: b}}
  d: {uses: command, run: [touch, made]}
  e: {uses: command, run: [touch, e]}
";

/// A repository with the pipeline in a folder, and a data file that git does not track.
fn repository() -> Option<Place> {
    let place = Place::new(FIRST);
    place.write("script", "one\n");
    place.write("data", "rows\n");
    place.write(".gitignore", "data\ncache\n");
    let is_there = Command::new("git").arg("--version").output().is_ok();
    if !is_there {
        tools::left_out("revisions of a pipeline, since git is absent");
        return None;
    }
    git(&place, &["init", "-q", "-b", "main"]);
    commit(&place);
    Some(place)
}

fn git(place: &Place, arguments: &[&str]) {
    let done = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .current_dir(place.path(""))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn commit(place: &Place) {
    git(place, &["add", "-A"]);
    git(place, &["commit", "-q", "-m", "c"]);
}

fn diff(place: &Place, revisions: &str) -> Value {
    let text = place.good(&["plan", "p.yaml", "--diff", revisions, "--json"]).out;
    check("plan-diff", &text);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn nodes_whose_keys_differ_are_listed_with_the_reason() {
    let Some(place) = repository() else { return };
    let same = place.good(&["plan", "p.yaml", "--diff", "HEAD"]).out;
    let words = "0 nodes changed, 0 with them, 0 added, 0 removed, 5 the same\n";
    assert!(same.ends_with(words), "{same}");
    place.write("script", "two\n");
    place.pipeline(
        &FIRST
            .replace("n: 1}", "n: 2}")
            .replace("  d:", "  g:")
            .replace("  e: ", "  f: ")
            .replace("touch, e", "touch, f"),
    );
    let said = place.good(&["plan", "p.yaml", "--diff", "HEAD"]).out;
    let words = "2 nodes changed, 1 with them, 1 added, 1 removed, 1 the same\n";
    assert!(said.lines().next().unwrap().ends_with(words.trim()), "{said}");
    assert!(said.contains("  a: `files.script`: `"), "{said}");
    assert!(said.contains("  b: `run[2]` was \"echo 1 > made\", is \"echo 2 > made\"\n"), "{said}");
    assert!(said.contains("  added: f\n  removed: e\n  g: was `d`, and keeps its key\n"), "{said}");
    let of_a = said.lines().find(|line| line.starts_with("  a: ")).unwrap();
    assert!(of_a.ends_with("; with it c"), "{said}");

    commit(&place);
    let both = diff(&place, "HEAD~1..HEAD");
    assert_eq!(both["changed"].as_array().unwrap().len(), 2, "{both}");
    assert_eq!(both["to"].as_str().unwrap().len(), 40);
    assert_eq!(diff(&place, "HEAD")["kept"], 5);
    // The repository is as it was.
    let mut status = Command::new("git");
    let status = status.args(["status", "--porcelain"]).current_dir(place.path("")).output();
    assert!(status.unwrap().stdout.is_empty());
    assert!(!place.path("cache").exists(), "nothing is written");
}

#[test]
fn revisions_that_are_not_there_are_named() {
    let Some(place) = repository() else { return };
    for (revisions, words) in [
        ("gone", "there is no revision `gone`"),
        ("HEAD..gone", "there is no revision `gone`"),
        ("--help", "there is no revision `--help`"),
    ] {
        let said = place.say(&["plan", "p.yaml", &format!("--diff={revisions}")]);
        assert_eq!(said.code, 2, "{revisions}: {}", said.err);
        assert!(said.err.contains(words), "{revisions}: {}", said.err);
    }
    git(&place, &["mv", "p.yaml", "q.yaml"]);
    place.write("q.yaml", FIRST);
    let said = place.say(&["plan", "q.yaml", "--diff", "HEAD"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains(" has no q.yaml"), "{}", said.err);
    std::fs::remove_dir_all(place.path(".git")).unwrap();
    let said = place.say(&["plan", "q.yaml", "--diff", "HEAD"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("q.yaml is in no git repository"), "{}", said.err);
}
