//! Artefacts that programs of the user's make: declared kinds, their check, the sandbox.

use std::process::Command;

use super::place::Place;
use crate::tools;

const ROWS: &str = "{\"id\": \"a\", \"prompt\": \"p\", \"completion\": \" c\"}\n";
const PAIRS: &str =
    "{\"id\": \"a\", \"prompt\": \"p\", \"chosen\": \" c\", \"rejected\": \" r\"}\n";

/// Whether sandboxes can be made; without them the test is left out.
fn has_sandbox() -> bool {
    let tried =
        Command::new("bwrap").args(["--unshare-all", "--ro-bind", "/", "/", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => return true,
        // The machine may not allow it, whatever is installed.
        Ok(_) => tools::mention("sandboxed programs, since no namespaces can be made here"),
        Err(_) => tools::left_out(
            "sandboxed programs, since bubblewrap is absent; tests/cli/fetch installs it",
        ),
    }
    false
}

#[test]
fn a_program_makes_a_dataset_that_other_stages_read() {
    let place = Place::new(
        "stages:\n  rows:\n    uses: command\n    makes: dataset\n    run: [cp, '{src}', \
         sft.jsonl]\n    files: {src: rows.jsonl}\n  part:\n    uses: dataset\n    source: {select: \
         {dataset: rows, splits: {test/id: {from: sft}}}}\n",
    );
    place.write("rows.jsonl", ROWS);
    assert_eq!(place.counts(&[]), (2, 0));
    assert!(place.made("part", "test/id.jsonl").contains("\"completion\":\" c\""));
}

#[test]
fn what_a_program_leaves_is_checked_against_its_declaration() {
    let text = |makes: &str| {
        format!(
            "stages:\n  rows:\n    uses: command\n    makes: {makes}\n    run: [cp, '{{src}}', \
             sft.jsonl]\n    files: {{src: rows.jsonl}}\n"
        )
    };
    let place = Place::new("");
    for (makes, rows, why) in [
        ("dataset", "{\"prompt\": \n", "sft.jsonl"),
        ("policy", ROWS, "has no config.json"),
        ("reward_model", ROWS, "has no config.json"),
        ("samples", ROWS, "samples.jsonl"),
    ] {
        place.pipeline(&text(makes));
        place.write("rows.jsonl", rows);
        let said = place.say(&["run", "p.yaml"]);
        assert_eq!(said.code, 1, "{makes}: {}", said.err);
        let message = format!(
            "`cp` has ended, but its files are not what `makes` says: this is \
                               no `{makes}`"
        );
        assert!(said.err.contains(&message) && said.err.contains(why), "{makes}: {}", said.err);
        assert_eq!(place.plan(&[]), ["run rows"], "{makes}: nothing is published");
    }
    place.pipeline(&text("dataset"));
    place.write("rows.jsonl", PAIRS);
    assert_eq!(place.counts(&[]), (1, 0));
}

#[test]
fn a_declared_kind_is_checked_before_anything_runs() {
    let place = Place::new(
        "stages:\n  rows: {uses: command, makes: samples, run: [touch, samples.jsonl]}\n  part:\n    \
         uses: dataset\n    source: {select: {dataset: rows, splits: {sft: {from: sft}}}}\n",
    );
    let said = place.say(&["plan", "p.yaml"]);
    assert_eq!(said.code, 2);
    let message = "expected a stage that makes a `dataset`, but `rows` makes a `samples`";
    assert!(said.err.contains(message), "{}", said.err);
}

#[test]
fn an_artefact_from_a_folder_is_checked_and_passed_on() {
    let place = Place::new(
        "stages:\n  rows: {uses: artefact, path: made, makes: dataset}\n  part:\n    uses: dataset\n    \
         source: {select: {dataset: rows, splits: {sft: {from: other}}}}\n",
    );
    std::fs::create_dir(place.path("made")).unwrap();
    place.write("made/other.jsonl", ROWS);
    assert_eq!(place.counts(&[]), (2, 0));
    assert_eq!(place.made("rows", "other.jsonl"), ROWS);
    place.write("made/other.jsonl", "{]\n");
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("this is no `dataset`"), "{}", said.err);
}

#[test]
fn a_sandboxed_program_sees_what_it_is_given_and_nothing_else() {
    if !has_sandbox() {
        return;
    }
    let place = Place::new("");
    place.write("given", "given\n");
    place.write("undeclared", "undeclared\n");
    let undeclared = place.path("undeclared");
    let stage = |script: &str, sandbox: bool| {
        format!(
            "stages:\n  a:\n    uses: command\n    sandbox: {sandbox}\n    run: [sh, -c, \
             '{script}']\n    files: {{given: given}}\n"
        )
    };
    let undeclared = format!("cat {} > made", undeclared.display());
    place.pipeline(&stage(&undeclared, false));
    assert_eq!(place.counts(&[]), (1, 0));
    assert_eq!(place.made("a", "made"), "undeclared\n");

    place.pipeline(&stage("cat $given > made", true));
    assert_eq!(place.counts(&[]), (1, 0));
    assert_eq!(place.made("a", "made"), "given\n");

    for script in [&undeclared[..], "echo x > $given", "touch made; cat < /dev/tcp/1.1.1.1/53"] {
        place.pipeline(&stage(script, true));
        let said = place.say(&["run", "p.yaml"]);
        assert_eq!(said.code, 1, "{script}: {}", said.err);
        assert!(said.err.contains("with `sandbox: true` a program sees"), "{}", said.err);
    }
    let interfaces = "awk \"NR > 2 {print \\$1}\" /proc/net/dev > made";
    place.pipeline(&stage(interfaces, true));
    assert_eq!(place.counts(&[]), (1, 0));
    assert_eq!(place.made("a", "made").trim(), "lo:");
}

#[test]
fn a_sandbox_that_cannot_be_made_is_an_error_of_the_machine() {
    let place = Place::new("stages:\n  a: {uses: command, sandbox: true, run: [touch, made]}\n");
    let mut command = place.command(&["run", "p.yaml"]);
    let said = super::place::said(command.env("PATH", place.path("none")).output().unwrap());
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("`sandbox: true` needs the program `bwrap`"), "{}", said.err);
    assert!(said.err.contains("install bubblewrap"), "{}", said.err);
}
