//! The commands: what they print, and how they end.

use serde_json::{Value, json};

use super::place::Place;

const TWO: &str = "\
name: two
params: {greeting: hello, times: 1}
profiles: {loud: {greeting: HELLO}}
stages:
  greet: {uses: command, run: [sh, -c, \"echo ${greeting} > greeting.txt\"]}
  repeat: {uses: command, run: [sh, -c, \"for i in $(seq ${times}); do cat {greet}/greeting.txt; done > out.txt\"], inputs: {greet: greet}}
";

#[test]
fn a_second_run_runs_nothing_and_is_quick() {
    let place = Place::new(TWO);
    assert_eq!(place.counts(&[]), (2, 0));
    let last = place.run(&[]);
    assert_eq!((&last["ran"], &last["cached"]), (&0.into(), &2.into()));
    assert!(last["seconds"].as_f64().unwrap() < 0.3, "{last}");
}

#[test]
fn the_last_line_of_a_json_log_is_the_outcome() {
    let place = Place::new(TWO);
    let said = place.good(&["run", "p.yaml", "--log", "json"]);
    let events: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(
        (of("planned"), of("started"), of("node"), of("finished"), said.err.as_str()),
        (1, 2, 2, 1, "")
    );
    let last = said.out.lines().last().unwrap();
    assert!(
        last.starts_with("{\"event\":\"finished\",\"ok\":true,\"ran\":2,\"cached\":0,\"failed\":0,\"skipped\":0,\"seconds\":"),
        "{last}"
    );
    assert!(
        last.contains(",\"table\":null,\"report\":\"/") && last.ends_with("/report.html\"}"),
        "{last}"
    );
}

#[test]
fn a_run_of_some_stages_makes_these_and_what_they_need() {
    let place = Place::new(TWO);
    assert_eq!(place.counts(&["greet"]), (1, 0));
    assert_eq!(place.counts(&["repeat"]), (1, 1));
    let said = place.say(&["run", "p.yaml", "repat"]);
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: there is no stage `repat` in the pipeline `two`\n  hint: did you mean `repeat`? \
         stages: greet, repeat\n"
    );
}

#[test]
fn only_what_an_edit_touches_runs() {
    let place = Place::new(TWO);
    place.counts(&[]);
    assert_eq!(place.counts(&["--set", "times=2"]), (1, 1));
    assert_eq!(place.made("repeat", "out.txt"), "hello\n");
    assert_eq!(place.counts(&["--profile", "loud"]), (2, 0));
    // Comments, order, names and the name of the pipeline decide nothing.
    place.pipeline(
        &TWO.replace("name: two", "# remark")
            .replace("greet:", "welcome:")
            .replace("inputs: {welcome: greet}", "inputs: {greet: welcome}"),
    );
    assert_eq!(place.counts(&[]), (0, 2));
}

#[test]
fn exit_codes_say_whose_fault_it_is() {
    let place = Place::new(TWO);
    assert_eq!(place.say(&["run", "p.yaml"]).code, 0);
    assert_eq!(place.say(&["run", "p.yaml", "--set", "times=many"]).code, 2);
    assert_eq!(place.say(&["run", "nothing.yaml"]).code, 2);
    assert_eq!(place.say(&["run", "p.yaml", "--unknown"]).code, 2);
    assert_eq!(place.say(&["run", "p.yaml", "--jobs", "0"]).code, 2);
    place.write("file", "");
    let said = place.say(&["run", "p.yaml", "--cache", "file/cache"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.starts_with("error: ") && said.err.contains("file/cache"), "{}", said.err);
    place.pipeline("stages:\n  bad: {uses: command, run: [sh, -c, 'echo last words; exit 4']}\n");
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("bad  failed after ") && said.err.contains("`sh` failed: exit status: 4"),
        "{}",
        said.err
    );
    let log = said.err.lines().find_map(|line| line.strip_prefix("bad failed; its log: ")).unwrap();
    assert!(std::fs::read_to_string(log).unwrap().contains("last words"));
    place.pipeline("stages:\n  bad: {uses: command, run: [no-such-program]}\n");
    assert!(place.say(&["run", "p.yaml"]).err.contains("there is no program `no-such-program`"));
}

#[test]
fn mistakes_end_a_json_log_properly_too() {
    let place = Place::new("stages: {a: {uses: comand}}\n");
    let said = place.say(&["run", "p.yaml", "--log", "json"]);
    assert_eq!(said.code, 2);
    let events: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events[0]["exit_code"]), (&"error".into(), &2.into()));
    assert_eq!(
        (&events[1]["event"], &events[1]["ok"], events.len()),
        (&"finished".into(), &false.into(), 2)
    );
    assert!(
        said.err.starts_with("error: p.yaml:1:20: there is no stage kind `comand`\n"),
        "{}",
        said.err
    );
}

#[test]
fn a_failure_skips_what_needs_it_and_keep_going_makes_the_rest() {
    let text = "stages:\n  bad: {uses: command, run: ['false']}\n  worse: \
        {uses: command, run: [touch, a], inputs: {bad: bad}}\n  good: \
        {uses: command, run: [touch, a]}\n  better: \
        {uses: command, run: [touch, a], inputs: {good: good}}\n";
    let place = Place::new(text);
    let last = place.run(&["--keep-going"]);
    assert_eq!(
        (&last["ok"], &last["ran"], &last["failed"], &last["skipped"]),
        (&false.into(), &2.into(), &1.into(), &1.into())
    );
    let said = place.say(&["run", "p.yaml", "--keep-going"]);
    assert!(said.err.contains("worse  skipped: it needs bad"), "{}", said.err);
    assert!(
        said.err.contains("4 nodes in ")
            && said.err.contains(": 0 ran, 2 cached, 1 failed, 1 skipped"),
        "{}",
        said.err
    );
}

#[test]
fn quiet_prints_nothing_unless_something_is_wrong() {
    let place = Place::new(TWO);
    let said = place.good(&["run", "p.yaml", "--quiet"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    place.pipeline("stages:\n  bad: {uses: command, run: ['false']}\n");
    let said = place.say(&["run", "p.yaml", "--quiet"]);
    assert!(said.out.is_empty() && said.err.starts_with("bad  failed after "), "{}", said.err);
}

#[test]
fn explain_says_what_differs() {
    let place = Place::new(TWO);
    assert!(
        place.good(&["explain", "p.yaml", "greet"]).out.contains("nothing earlier to compare with")
    );
    place.counts(&[]);
    let text = place.good(&["explain", "p.yaml", "greet", "--profile", "loud"]).out;
    assert!(
        text.starts_with("greet: run (")
            && text.contains("was \"echo hello > greeting.txt\", is \"echo HELLO > greeting.txt\""),
        "{text}"
    );
    let text = place.good(&["explain", "p.yaml", "repeat", "--profile", "loud"]).out;
    assert!(text.contains("`inputs.greet` depends on `greet`, which is not there yet"), "{text}");
    let json: Value = serde_json::from_str(
        &place.good(&["explain", "p.yaml", "repeat", "--json", "--set", "times=3"]).out,
    )
    .unwrap();
    assert_eq!(
        (&json[0]["state"], json[0]["differences"].as_array().unwrap().len()),
        (&"run".into(), 1)
    );
}

#[test]
fn show_and_ls_find_an_artefact_by_name_and_by_id() {
    let place = Place::new(TWO);
    assert_eq!(place.say(&["show", "p.yaml", "greet"]).code, 2);
    place.counts(&[]);
    // The age of the artefact may be a second more from one call to the next.
    let ageless = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("  made    "));
        lines.collect::<Vec<&str>>().join("\n")
    };
    let text = place.good(&["show", "p.yaml", "greet"]).out;
    let id = text.lines().find_map(|line| line.strip_prefix("  object  ")).unwrap();
    assert_eq!(ageless(&place.good(&["show", &id[..8]]).out), ageless(&text));
    assert!(
        text.contains("  file    greeting.txt  6 B\n")
            && text.contains("echo hello > greeting.txt"),
        "{text}"
    );
    assert_eq!(place.say(&["show", "zz"]).code, 2);
    let list = place.good(&["ls"]).out;
    assert!(list.contains(&id[..12]) && list.contains("2 artefacts, 12 B in "), "{list}");
    assert_eq!(
        std::fs::read_to_string(place.artefact("repeat").join("out.txt")).unwrap(),
        "hello\n"
    );
}

#[test]
fn graph_draws_stages_and_nodes() {
    let place = Place::new(&TWO.replace("stages:", "matrix: {times: [1, 2]}\nstages:"));
    let dot = place.good(&["graph", "p.yaml"]).out;
    assert!(
        dot.contains("\"repeat\" [label=\"repeat ×2\"];")
            && dot.contains("\"greet\" -> \"repeat\";"),
        "{dot}"
    );
    let mermaid = place.good(&["graph", "p.yaml", "--format", "mermaid", "--nodes"]).out;
    assert!(
        mermaid.contains("n2[\"repeat[times=2]\"]") && mermaid.contains("n0 --> n2"),
        "{mermaid}"
    );
}

#[test]
fn a_resolved_pipeline_runs_nothing_anew() {
    let place = Place::new(&TWO.replace("stages:", "matrix: {times: [1, 2]}\nstages:"));
    assert_eq!(place.counts(&[]), (3, 0));
    let resolved = place.good(&["plan", "p.yaml", "--resolved"]).out;
    assert!(!resolved.contains("params"), "{resolved}");
    place.pipeline(&resolved);
    assert_eq!(place.counts(&[]), (0, 3));
}

#[test]
fn the_cache_may_be_anywhere_and_jobs_and_threads_decide_nothing() {
    let place = Place::new(&TWO.replace("stages:", "matrix: {times: [1, 2, 3, 4]}\nstages:"));
    place.counts(&["--jobs", "1", "--threads", "1"]);
    let one = place.objects();
    assert_eq!(place.counts(&["--jobs", "4", "--threads", "2", "--cache", "elsewhere"]), (5, 0));
    let two = place.good(&["ls", "--json", "--cache", "elsewhere"]).out;
    assert!(one.iter().all(|(_, object)| two.contains(object)), "{two}");
    let mut command = place.command(&["ls"]);
    let said = command.env("POSTTRAIN_CACHE", place.path("elsewhere")).output().unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().contains("5 artefacts"));
}

#[test]
fn plan_and_every_other_look_write_nothing() {
    let place = Place::new(TWO);
    for arguments in [
        &["plan", "p.yaml"][..],
        &["explain", "p.yaml", "greet"],
        &["graph", "p.yaml"],
        &["ls"],
        &["gc", "--dry-run"],
        &["stages"],
    ] {
        place.good(arguments);
    }
    assert!(!place.path("cache").exists());
}

/// A tiny model from nothing, and what is made of it. The stage that is written first needs the one
/// that is written last.
const TRAINING: &str = "\
stages:
  tuned: {uses: sft, policy: base, dataset: world, batch_size: 4, frozen: 0.5, optimiser: {learning_rate: 0.01}}
  judge: {uses: reward_model, policy: tuned, dataset: world, batch_size: 4, optimiser: {learning_rate: 0.01}}
  outputs: {uses: generate, policy: tuned, dataset: world, sampling: {max_new_tokens: 8}}
  base: {uses: pretrain, dataset: world, tokenizer: words, phases: [pretrain], batch_size: 4, optimiser: {learning_rate: 0.01},
    model: {width: 64, layers: 2, heads: 2, feed_forward: 100, context: 128}}
  words: {uses: tokenizer, dataset: world, vocabulary: 300}
  world: {uses: dataset, source: {world: {seed: 0, notes: 0, pretrain: 9, sft: 9, compare: 0, prompts: 0, validation: 0, test: 2}}}
";

#[test]
fn a_plan_says_what_memory_each_model_will_take_before_there_is_one() {
    let place = Place::new(TRAINING);
    let plan: Value = serde_json::from_str(&place.good(&["plan", "p.yaml", "--json"]).out).unwrap();
    let memory = plan["memory"].as_object().unwrap();
    assert_eq!(memory.keys().collect::<Vec<_>>(), ["base", "judge", "outputs", "tuned"]);
    let bytes = |name: &str| memory[name].as_u64().unwrap();
    // Bytes of single-precision numbers: a tied embedding, two blocks with their norms, the last
    // norm.
    let (embedding, block) = (4 * 300 * 64, 4 * (4 * 64 * 64 + 3 * 64 * 100 + 2 * 64));
    let weights = embedding + 2 * block + 4 * 64;
    // A copy, a gradient (two for the tied embedding), two moments, and a checkpoint of copy and
    // moments.
    let trained = |numbers: u64| 7 * numbers;
    let (all, upper_half) =
        (weights + trained(weights) + embedding, weights + trained(block + 4 * 64));
    // Passes of 2,048 tokens are the same for both, except the block that keeps nothing.
    let pass = bytes("base") - all;
    assert!(
        bytes("tuned") - upper_half < pass && bytes("tuned") - upper_half > pass / 2,
        "{memory:?}"
    );
    assert!((4 * 2048 * 300..4 * 2048 * 6000).contains(&pass), "{pass}");
    let text = place.good(&["plan", "p.yaml"]).out;
    let line = text.lines().find(|line| line.contains("tuned")).unwrap();
    assert!(
        line.contains("MiB")
            && !text.lines().find(|line| line.contains("words")).unwrap().contains("iB"),
        "{text}"
    );
}

/// A device that no machine has, as on the login node of a cluster.
#[test]
fn a_plan_without_its_device_says_what_is_unknown() {
    let place = Place::new(TRAINING);
    let closed = ["--device", "cuda:99"];
    let said = place.good(&[&["plan", "p.yaml", "--json"][..], &closed].concat());
    assert!(
        said.err.contains("warning") && said.err.contains("the device cannot be opened here"),
        "{}",
        said.err
    );
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    let step = |name: &str| {
        let steps = plan["steps"].as_array().unwrap();
        steps.iter().find(|step| step["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (&step("world")["state"], &step("words")["state"]),
        (&"run".into(), &"unknown".into())
    );
    assert_eq!(
        (&step("words")["until"], step("words").get("needs_device")),
        (&json!(["world"]), None)
    );
    assert_eq!(step("base")["needs_device"], true);
    // In bf16, as on any CUDA device.
    assert!(plan["memory"]["base"].as_u64().unwrap() > 0);
    let text = place.good(&[&["plan", "p.yaml"][..], &closed].concat()).out;
    assert!(text.contains("until world, words finish and the device is open"), "{text}");
    place.good(&[&["explain", "p.yaml", "base"][..], &closed].concat());
    let said = place.say(&[&["show", "p.yaml", "base"][..], &closed].concat());
    assert!(
        said.code == 3 && said.err.contains("the device is not open") && said.err.contains("ls"),
        "{} {}",
        said.code,
        said.err
    );
    let said = place.say(&[&["run", "p.yaml"][..], &closed].concat());
    assert_eq!((said.code, said.out.as_str()), (3, ""), "{}", said.err);
}

#[test]
fn what_cannot_fit_the_device_is_refused_before_anything_runs() {
    let place =
        Place::new(&TRAINING.replace("width: 64, layers: 2", "width: 131072, layers: 4000"));
    let said = place.say(&["plan", "p.yaml"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(
        said.out.contains("world")
            && said.err.contains("base would take")
            && said.err.contains("hint"),
        "{}",
        said.err
    );
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (3, ""));
    assert!(
        said.err.starts_with("error: base would take") && !said.err.contains("starts"),
        "{}",
        said.err
    );
    // What does not need it may run.
    assert_eq!(place.counts(&["words"]), (2, 0));
}

#[test]
fn stages_lists_the_kinds() {
    let place = Place::new("");
    assert!(place.good(&["stages"]).out.contains("command -> files\n"));
    let said = place.say(&["stages", "comand"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("`command`"), "{}", said.err);
}
