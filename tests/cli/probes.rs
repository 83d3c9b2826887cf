//! Black-box scenarios in which build tools and DAG runners of today fail, one test each.

use std::time::{Duration, UNIX_EPOCH};

use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};

use super::place::{Place, finish, set_time, wait_until};

/// `copy` copies a file from outside, `count` counts its words.
const COPY: &str = "\
stages:
  copy:
    uses: command
    run: [sh, -c, \"echo copy >> LOG; cat {words} > words.txt\"]
    files: {words: words.txt}
  count:
    uses: command
    run: [sh, -c, \"echo count >> LOG; wc -w < {copy}/words.txt > count.txt\"]
    inputs: {copy: copy}
";

/// `slow` reads its input, says that it has started, and goes on when it is told to.
const SLOW: &str = "\
stages:
  slow:
    uses: command
    run: [sh, -c, \"echo half > half.txt; cat {words} > a.txt; echo $$ > LOG.pid; while ! [ -e LOG.go ]; do sleep 0.02; done; cat {words} > b.txt; rm half.txt\"]
    files: {words: words.txt}
  after:
    uses: command
    run: [sh, -c, \"cat {slow}/b.txt > c.txt\"]
    inputs: {slow: slow}
";

fn copy() -> Place {
    let place = Place::new(COPY);
    place.write("words.txt", "one two");
    place
}

fn slow() -> Place {
    let place = Place::new(SLOW);
    place.write("words.txt", "one");
    place
}

/// The process that `slow` runs in.
fn pid_of_slow(place: &Place) -> Pid {
    wait_until("slow has started", || place.read("log.pid").ends_with('\n'));
    Pid::from_raw(place.read("log.pid").trim().parse().unwrap()).unwrap()
}

#[test]
fn p0_an_edit_with_its_mtime_set_back_is_seen() {
    let place = copy();
    assert_eq!(place.counts(&[]), (2, 0));
    place.write("words.txt", "two one");
    set_time(&place.path("words.txt"), UNIX_EPOCH + Duration::from_secs(978_307_200));
    assert_eq!(place.plan(&[]), ["run copy", "unknown count"]);
    assert_eq!(place.counts(&[]), (2, 0));
    assert_eq!(place.made("copy", "words.txt"), "two one");
    // Set back to the very time it had, too.
    let time = std::fs::metadata(place.path("words.txt")).unwrap().modified().unwrap();
    place.write("words.txt", "one one");
    set_time(&place.path("words.txt"), time);
    assert_eq!(place.counts(&[]), (2, 0));
    assert_eq!(place.made("copy", "words.txt"), "one one");
}

#[test]
fn p1_an_input_edited_while_its_stage_runs_is_recorded_under_neither_content() {
    let place = slow();
    let child = place.start(&[]);
    pid_of_slow(&place);
    place.write("words.txt", "two");
    place.write("log.go", "");
    let said = finish(child);
    assert_eq!((said.code, said.last()["ok"].as_bool()), (1, Some(false)), "{}", said.out);
    assert!(said.out.contains("words.txt"), "{}", said.out);
    assert_eq!(place.counts(&[]), (2, 0));
    assert_eq!(
        (place.made("slow", "a.txt"), place.made("slow", "b.txt")),
        ("two".into(), "two".into())
    );
    place.write("words.txt", "one");
    assert_eq!(place.counts(&[]), (2, 0));
    assert_eq!(
        (place.made("slow", "a.txt"), place.made("slow", "b.txt")),
        ("one".into(), "one".into())
    );
}

#[test]
fn p2_two_runs_at_once_share_what_they_have_in_common() {
    let text = |own: &str| {
        format!(
            "stages:\n  shared: \
             {{uses: command, run: [sh, -c, \"echo shared >> LOG; sleep 0.3; echo 1 > a\"]}}\n  \
             {own}: {{uses: command, run: [sh, -c, \"echo {own} >> LOG; cat {{shared}}/a > b\"], inputs: {{shared: shared}}}}\n"
        )
    };
    let place = Place::new(&text("one"));
    let one = place.start(&[]);
    place.write("q.yaml", &text("two").replace("LOG", &place.path("log").display().to_string()));
    let two = place.say(&["run", "q.yaml", "--log", "json"]);
    let one = finish(one);
    assert_eq!((one.code, two.code), (0, 0), "{}\n{}", one.out, two.out);
    let mut log = place.log();
    log.sort();
    assert_eq!(log, ["one", "shared", "two"]);
    assert_eq!(one.last()["ran"].as_u64().unwrap() + two.last()["ran"].as_u64().unwrap(), 3);
}

#[test]
fn p3_a_run_killed_with_its_children_in_the_middle_of_writing_heals() {
    let place = slow();
    let mut child = place.start(&[]);
    let group = getpgid(Some(pid_of_slow(&place))).unwrap();
    child.kill().unwrap();
    kill_process_group(group, Signal::KILL).unwrap();
    child.wait().unwrap();
    assert!(place.objects().is_empty());
    place.write("log.go", "");
    assert_eq!(place.counts(&[]), (2, 0));
    let files: Vec<_> = std::fs::read_dir(place.artefact("slow"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(files.len(), 2, "nothing of the half-written first attempt is left: {files:?}");
}

#[test]
fn p4_a_run_killed_alone_heals_and_its_orphan_publishes_nothing() {
    let place = slow();
    let mut child = place.start(&[]);
    pid_of_slow(&place);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.objects().is_empty());
    place.write("log.go", "");
    assert_eq!(place.counts(&[]), (2, 0));
    assert_eq!(place.made("after", "c.txt"), "one");
}

#[test]
fn p5_a_corrupted_object_is_found_by_its_hash_set_aside_and_made_again() {
    let place = copy();
    place.counts(&[]);
    let object = place.artefact("copy");
    let file = object.join("words.txt");
    let mut permissions = std::fs::metadata(&file).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file in a temporary folder")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&file, permissions).unwrap();
    std::fs::write(&file, "ONE TWO").unwrap();
    assert_eq!(place.plan(&[])[0], "run copy");
    let said = place.good(&["run", "p.yaml"]);
    assert!(said.err.contains("warning: ") && said.err.contains("corrupted"), "{}", said.err);
    assert_eq!(place.made("copy", "words.txt"), "one two");
    assert_eq!(place.log(), ["copy", "count", "copy"]);
    assert_eq!(std::fs::read_dir(place.path("cache/v1/bad")).unwrap().count(), 1);
}

#[test]
fn p6_an_upstream_that_makes_the_same_bytes_again_cuts_off_what_follows() {
    let place = copy();
    place.counts(&[]);
    place.pipeline(&COPY.replace("cat {words}", "cat < {words}"));
    assert_eq!(place.counts(&[]), (1, 1));
    assert_eq!(place.log(), ["copy", "count", "copy"]);
}

#[test]
fn p7_the_cut_off_reaches_through_several_stages() {
    let text = |salt: &str| {
        format!(
            "stages:\n  a: {{uses: command, run: [sh, -c, \"echo {salt} > a; echo 1 > b\"]}}\n  \
             b: {{uses: command, run: [cp, \"{{a}}/b\", b], inputs: {{a: a}}}}\n  \
             c: {{uses: command, run: [cp, \"{{b}}/b\", c], inputs: {{b: b}}}}\n  \
             d: {{uses: command, run: [cp, \"{{c}}/c\", d], inputs: {{c: c}}}}\n"
        )
    };
    let place = Place::new(&text("x"));
    assert_eq!(place.counts(&[]), (4, 0));
    place.pipeline(&text("y"));
    assert_eq!(place.plan(&[]), ["run a", "unknown b", "unknown c", "unknown d"]);
    // `a` is other bytes, so `b` runs; it makes what it made, so the rest does not.
    assert_eq!(place.counts(&[]), (2, 2));
}

#[test]
fn p8_a_plan_does_not_promise_what_it_cannot_know() {
    let place = copy();
    assert_eq!(place.plan(&[]), ["run copy", "unknown count"]);
    place.counts(&[]);
    assert_eq!(place.plan(&[]), ["cached copy", "cached count"]);
    place.write("words.txt", "three");
    assert_eq!(place.plan(&[]), ["run copy", "unknown count"]);
    let text = place.good(&["plan", "p.yaml"]).out;
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert!(lines[0].starts_with("unknown  count  "), "{text}");
    assert!(lines[0].ends_with(" s  until copy finishes"), "by what it took before: {text}");
    let counted = "1 to run, 0 cached, 1 unknown until others finish; about ";
    assert!(lines[1].starts_with(counted) && lines[1].contains(" s of node time, "), "{text}");
    assert!(place.read("log").lines().count() == 2, "a plan runs nothing");
}

const SWEEP: &str = "\
params: {rate: 1}
matrix: {rate: [1, 2]}
stages:
  base: {uses: command, run: [sh, -c, \"echo base >> LOG; echo 1 > a\"]}
  sweep: {uses: command, run: [sh, -c, \"echo ${rate} >> LOG; echo ${rate} > a\"], inputs: {base: base}}
";

#[test]
fn p9_a_value_added_to_a_sweep_runs_alone() {
    let place = Place::new(SWEEP);
    assert_eq!(place.counts(&[]), (3, 0));
    place.pipeline(&SWEEP.replace("[1, 2]", "[1, 3, 2]"));
    assert_eq!(
        place.plan(&[]),
        ["cached base", "cached sweep[rate=1]", "run sweep[rate=3]", "cached sweep[rate=2]"]
    );
    assert_eq!(place.counts(&[]), (1, 3));
    assert_eq!(place.log().last().unwrap(), "3");
}

#[test]
fn p10_a_value_taken_from_a_sweep_leaves_an_orphan_that_is_named_and_can_be_collected() {
    let place = Place::new(SWEEP);
    place.counts(&[]);
    let gone = place.artefact("sweep[rate=2]");
    place.pipeline(&SWEEP.replace("[1, 2]", "[1]"));
    let said = place.good(&["run", "p.yaml"]);
    assert!(
        said.err.contains("2 nodes in ") && said.err.contains(": 0 ran, 2 cached"),
        "{}",
        said.err
    );
    assert!(
        said.err.contains(
            "sweep[rate=2] is no longer in the pipeline; `posttrain gc` would free its 2 B"
        ),
        "{}",
        said.err
    );
    assert!(place.good(&["gc", "--dry-run"]).out.contains("sweep[rate=2]") && gone.exists());
    place.good(&["gc"]);
    assert!(!gone.exists() && place.artefact("sweep[rate=1]").exists());
    assert_eq!(place.counts(&[]), (0, 2));
}

#[test]
fn p11_a_file_added_to_an_input_folder_while_its_stage_runs_is_seen() {
    let place =
        Place::new(&SLOW.replace("cat {words}", "cat {words}/*").replace("words.txt}", "words}"));
    std::fs::create_dir(place.path("words")).unwrap();
    place.write("words/a", "one");
    let child = place.start(&[]);
    pid_of_slow(&place);
    place.write("words/b", "two");
    place.write("log.go", "");
    assert_eq!(finish(child).code, 1);
    assert_eq!(place.counts(&[]), (2, 0));
    assert_eq!(place.made("slow", "a.txt"), "onetwo");
}

#[test]
fn p12_a_setting_taken_away_is_a_change() {
    let text =
        "stages:\n  a: {uses: command, run: [sh, -c, \"echo $x > a\"], env: {x: '1', y: '2'}}\n";
    let place = Place::new(text);
    place.counts(&[]);
    place.pipeline(&text.replace(", y: '2'", ""));
    assert_eq!(place.counts(&[]), (1, 0));
    let explained = place.good(&["explain", "p.yaml", "a"]).out;
    assert!(explained.contains("`env.y` is gone: it was \"2\""), "{explained}");
    place.pipeline(&text.replace(", env: {x: '1', y: '2'}", ""));
    assert_eq!(place.counts(&[]), (1, 0));
}

#[test]
fn p13_a_stage_killed_in_the_middle_of_writing_fails_and_is_made_again() {
    let place = slow();
    let child = place.start(&[]);
    kill_process(pid_of_slow(&place), Signal::KILL).unwrap();
    let said = finish(child);
    assert_eq!(
        (said.code, &said.last()["failed"], &said.last()["skipped"]),
        (1, &1.into(), &1.into()),
        "{}",
        said.out
    );
    assert!(place.objects().is_empty());
    place.write("log.go", "");
    assert_eq!(place.counts(&[]), (2, 0));
    assert!(!place.artefact("slow").join("half.txt").exists());
}

#[test]
fn p14_a_param_in_a_flow_list_is_explained_with_the_line_and_a_caret() {
    let place = Place::new(
        "params: {item: a}\nstages:\n  a:\n    uses: command\n    run: [cat, src/${item}]\n",
    );
    let said = place.say(&["plan", "p.yaml"]);
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: p.yaml:5:16: `src/${item}` must be quoted inside [ ] or { }\n  5 |     run: [cat, \
         src/${item}]\n    |                ^^^^^^^^^^^\n  hint: write \"src/${item}\", or one \
         item a line, each after `- `\n"
    );
}

#[test]
fn p15_the_spelling_of_a_number_changes_nothing() {
    let text = "params: {rate: 1e-4}\nmatrix: {rate: [RATE]}\nstages:\n  world: \
        {uses: dataset, source: {world: {notes: 10, pretrain: 10, sft: 10, compare: 10, prompts: 10, validation: 0, test: 10}}}\n  tokenizer: {uses: tokenizer, dataset: world, vocabulary: 300}\n  base:\n    uses: pretrain\n    dataset: world\n    tokenizer: tokenizer\n    phases: [notes]\n    batch_size: 8\n    model: {width: 8, layers: 1, heads: 1, feed_forward: 8, context: 64}\n    optimiser: {learning_rate: \"${rate}\"}\n";
    let place = Place::new(&text.replace("RATE", "1e-4"));
    let plan = place.good(&["plan", "p.yaml", "--resolved"]).out;
    assert!(
        plan.contains("  base[rate=0.0001]:\n") && plan.contains("learning_rate: 0.0001\n"),
        "{plan}"
    );
    for spelling in ["0.0001", "1.0e-4", "1E-4", ".0001"] {
        place.pipeline(&text.replace("RATE", spelling));
        assert_eq!(place.good(&["plan", "p.yaml", "--resolved"]).out, plan, "{spelling}");
    }
    // As text it is no number, and not taken for one.
    place.pipeline(&text.replace("RATE", "'1e-4'"));
    let said = place.say(&["plan", "p.yaml"]);
    assert!(said.code == 2 && said.err.ends_with("hint: drop the quotes\n"), "{}", said.err);
}
