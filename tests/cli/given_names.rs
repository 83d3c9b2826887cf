//! Names on top of hashes: tags, adopted artefacts, accepted results, links by name.

use serde_json::Value;

use super::place::Place;

const TWO: &str = "\
name: study
stages:
  a:
    uses: command
    run: [sh, -c, 'echo a >> LOG; tail -n 1 $script > made']
    files: {script: script}
  b: {uses: command, run: [sh, -c, 'echo b >> LOG; cat {a}/made > made'], inputs: {a: a}}
";

/// A cache with a run of both nodes.
fn run_once() -> Place {
    let place = Place::new(TWO);
    place.write("script", "# a comment\nresult\n");
    assert_eq!(place.counts(&[]), (2, 0));
    place
}

fn accept(place: &Place, more: &[&str]) -> super::place::Said {
    place.say(&[&["accept", "p.yaml", "a"], more].concat())
}

#[test]
fn an_accepted_result_is_not_made_again_and_is_named_everywhere() {
    let place = run_once();
    let object = std::fs::read_link(place.path("cache/by-name/study/a")).unwrap();
    place.write("script", "# another comment\nresult\n");
    assert_eq!(place.plan(&[]), ["run a", "unknown b"]);

    let dry = accept(&place, &["--because", "r", "--dry-run"]);
    assert!(dry.out.starts_with("a would be accepted as "), "{} {}", dry.out, dry.err);
    assert_eq!(place.plan(&[]), ["run a", "unknown b"]);
    let accepted = accept(&place, &["--because", "the comment alone differs"]);
    assert_eq!(accepted.code, 0, "{}", accepted.err);
    assert!(accepted.out.contains("`files.script`: `"), "{}", accepted.out);
    // What needs it has the very key that it had.
    assert_eq!(place.plan(&[]), ["cached a", "cached b"]);
    assert_eq!(place.log(), ["a", "b"]);

    let said = place.good(&["run", "p.yaml"]);
    let words = "the comment alone differs; what differs: `files.script`";
    assert!(said.err.contains("a is an accepted result: made under the key "), "{}", said.err);
    assert!(said.err.contains(words), "{}", said.err);
    let page = place.good(&["report", "--format", "html"]).out;
    let page = match page.starts_with("<!doctype") {
        true => page,
        false => std::fs::read_to_string(page.trim()).unwrap(),
    };
    assert!(page.contains("Accepted results") && page.contains("the comment alone differs"));
    let shown = place.good(&["show", "p.yaml", "a"]).out;
    assert!(shown.contains("  accepted  made under the key "), "{shown}");
    assert!(place.good(&["ls"]).out.contains("files, accepted"));
    assert_eq!(std::fs::read_link(place.path("cache/by-name/study/a")).unwrap(), object);
    // It survives gc, with its object.
    place.good(&["gc"]);
    assert_eq!(place.plan(&[]), ["cached a", "cached b"]);

    let back = place.good(&["accept", "p.yaml", "a", "--withdraw"]);
    assert!(back.out.starts_with("a is no longer accepted as "), "{}", back.out);
    assert_eq!(place.plan(&[]), ["run a", "unknown b"]);
    assert_eq!(place.counts(&[]), (1, 1));
    assert_eq!(place.log(), ["a", "b", "a"]);
}

#[test]
fn what_cannot_be_accepted_is_refused_with_the_reason() {
    let place = run_once();
    let there = accept(&place, &["--because", "r"]);
    assert_eq!(there.code, 2);
    assert!(there.err.contains("`a` is there already"), "{}", there.err);
    place.write("script", "other\n");
    let waits = place.say(&["accept", "p.yaml", "b", "--because", "r"]);
    assert_eq!(waits.code, 2);
    assert!(waits.err.contains("the key of `b` is not known before a"), "{}", waits.err);
    place.pipeline(&TWO.replace(
        "uses: command\n    run: [sh, -c, 'echo a >> LOG; tail -n 1 $script > \
                                 made']\n    files: {script: script}",
        "uses: dataset\n    source: {world: {sft: 2, test: 2}}",
    ));
    let other = accept(&place, &["--because", "r"]);
    assert_eq!(other.code, 2);
    assert!(other.err.contains("was made by `command`, and `a` is a `dataset`"), "{}", other.err);
    assert_eq!(accept(&place, &[]).code, 2, "a reason is required");
    assert_eq!(accept(&place, &["--withdraw"]).code, 2, "there is nothing to take back");
}

#[test]
fn a_tag_names_a_run_or_an_artefact_and_is_kept_by_gc() {
    let place = run_once();
    let object = |node: &str| place.artefact(node).file_name().unwrap().to_owned();
    let first = object("b");
    place.good(&["tag", "baseline"]);
    place.good(&["tag", "best", "b", "--note", "the first"]);
    place.write("script", "other\n");
    place.counts(&[]);
    assert_ne!(object("b"), first);

    let listed: Value = serde_json::from_str(&place.good(&["tag", "--json"]).out).unwrap();
    assert_eq!(listed[0]["name"], "baseline");
    assert!(listed[0]["of"]["run"].as_str().unwrap().ends_with("-1"));
    assert_eq!(listed[1]["of"]["artefact"]["object"], first.to_str().unwrap());
    assert_eq!(listed[1]["note"], "the first");
    assert!(place.good(&["tag"]).out.contains("\n2 tags in "));

    place.good(&["gc", "--records"]);
    let shown = place.good(&["show", "best"]).out;
    assert!(shown.contains(first.to_str().unwrap()), "{shown}");
    let diff = place.good(&["diff", "baseline", "latest"]).out;
    assert!(diff.contains('a'), "{diff}");

    for (arguments, words) in [
        (&["show", "baseline"][..], "`baseline` is the tag of a run"),
        (&["report", "best"][..], "`best` is the tag of an artefact"),
        (&["tag", "12ab"][..], "could be a run's number"),
        (&["tag", "a/b"][..], "it holds a slash"),
        (&["tag", "latest"][..], "it means the latest run"),
        (&["tag", "gone", "--delete"][..], "there is no tag `gone`"),
    ] {
        let said = place.say(arguments);
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(words), "{arguments:?}: {}", said.err);
    }
    place.good(&["tag", "best", "--delete"]);
    place.good(&["tag", "baseline", "--delete"]);
    place.good(&["gc", "--records"]);
    assert_eq!(place.say(&["show", first.to_str().unwrap()]).code, 2, "gc has deleted it");
}

#[test]
fn a_folder_is_adopted_checked_and_used_by_its_link() {
    let place = Place::new("");
    std::fs::create_dir(place.path("made")).unwrap();
    let row = "{\"id\": \"a\", \"prompt\": \"p\", \"completion\": \" c\"}\n";
    place.write("made/sft.jsonl", row);
    let said = place.good(&["adopt", "made", "as", "rows", "--makes", "dataset"]);
    assert!(said.out.contains("makes: dataset}"), "{}", said.out);
    assert_eq!(place.read("cache/by-name/adopted/rows/sft.jsonl"), row);
    let shown = place.good(&["show", "rows"]).out;
    let from = format!("from    path: {}", place.path("made").canonicalize().unwrap().display());
    assert!(shown.contains(&from), "{shown}");
    // A pipeline uses it by its link, whatever becomes of the folder.
    std::fs::remove_dir_all(place.path("made")).unwrap();
    place.pipeline(
        "stages:\n  rows: {uses: artefact, path: cache/by-name/adopted/rows, makes: dataset}\n  \
         part: {uses: dataset, source: {select: {dataset: rows, splits: {test/a: {from: sft}}}}}\n",
    );
    place.good(&["gc"]);
    assert_eq!(place.counts(&[]), (1, 1), "the artefact has the key that it was adopted under");

    std::fs::create_dir(place.path("bad")).unwrap();
    place.write("bad/sft.jsonl", "{]\n");
    let said = place.say(&["adopt", "bad", "as", "more", "--makes", "dataset"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("this is no `dataset`"), "{}", said.err);
    assert_eq!(place.say(&["tag", "more", "--delete"]).code, 2, "there is no such tag");
    assert_eq!(place.say(&["adopt", "gone", "as", "x", "--makes", "files"]).code, 2);
}

#[test]
fn links_by_name_follow_the_runs() {
    let place = run_once();
    assert_eq!(place.read("cache/by-name/study/b/made"), "result\n");
    place.write("script", "other\n");
    place.counts(&[]);
    assert_eq!(place.read("cache/by-name/study/b/made"), "other\n");
    place.pipeline(&TWO.replace("  b:", "  c:"));
    place.counts(&[]);
    assert_eq!(place.read("cache/by-name/study/c/made"), "other\n");
    std::fs::remove_dir_all(place.path("cache/v1/runs")).unwrap();
    std::fs::create_dir(place.path("cache/v1/runs")).unwrap();
    place.good(&["gc"]);
    assert!(!place.path("cache/by-name/study").exists(), "links to what is gone go");
}
