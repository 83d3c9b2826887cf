//! Commands that check, list and describe: `validate`, `runs`, `logs`, `completions`, `man`,
//! `init`; and names, which all commands take whole or in part.

use std::process::Stdio;

use serde_json::Value;

use super::place::{Place, finish, wait_until};

const SWEEP: &str = "\
name: sweep
params: {kl: 0.1}
matrix: {kl: [0.1, 0.2]}
stages:
  start: {uses: command, run: [sh, -c, \"echo starting; echo 1 > start.txt\"]}
  tuned: {uses: command, run: [sh, -c, \"echo tuning by ${kl}; cp {start}/start.txt x; echo ${kl} > y\"], inputs: {start: start}}
";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn validate_finds_every_mistake_and_leaves_the_cache_alone() {
    let place = Place::new(SWEEP);
    let said = place.good(&["validate", "p.yaml"]);
    assert_eq!(
        said.out,
        "p.yaml: no mistake in 2 stages and 3 nodes (fields, ranges, references, params, paths)\n"
    );
    let found = json(&place.good(&["validate", "p.yaml", "--set", "kl=0.3", "--json"]).out);
    assert_eq!((&found["ok"], &found["nodes"]), (&true.into(), &2.into()));
    assert!(!place.path("cache").exists());
    place.pipeline(
        "params: {x: 1}\nstages:\n  a: {uses: comand}\n  b: {uses: command, run: [], inpts: {}}\n",
    );
    let said = place.say(&["validate", "p.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    for mistake in ["no stage uses the param `x`", "no stage kind `comand`", "unknown key `inpts`"]
    {
        assert!(said.err.contains(mistake), "{}", said.err);
    }
    let as_json = place.say(&["validate", "p.yaml", "--json"]);
    let found = json(&as_json.out);
    assert_eq!((as_json.code, &found["ok"]), (2, &false.into()));
    assert_eq!(said.err, format!("error: {}\n", found["message"].as_str().unwrap()));
}

#[test]
fn runs_lists_what_was_run_and_how_it_ended() {
    let place = Place::new(SWEEP);
    assert_eq!(json(&place.good(&["runs", "--json"]).out), Value::Array(Vec::new()));
    place.good(&["run", "p.yaml"]);
    place.good(&["run", "p.yaml", "--set", "kl=0.2"]);
    place.pipeline("stages:\n  bad: {uses: command, run: [sh, -c, 'echo last words; exit 4']}\n");
    assert_eq!(place.say(&["run", "p.yaml"]).code, 1);
    let runs = json(&place.good(&["runs", "--json"]).out);
    let of = |at: usize, field: &str| runs[at][field].clone();
    assert_eq!(runs.as_array().unwrap().len(), 3);
    assert_eq!([of(0, "number"), of(0, "ran"), of(0, "cached")], [1, 3, 0].map(Value::from));
    assert_eq!([of(1, "number"), of(1, "ran"), of(1, "cached")], [2, 0, 2].map(Value::from));
    assert_eq!([of(2, "failed"), of(2, "ran")], [1, 0].map(Value::from));
    assert_eq!([of(0, "state"), of(1, "state"), of(2, "state")], ["done", "done", "failed"]);
    assert_eq!(of(1, "options"), serde_json::json!(["--set kl=0.2"]));
    let last = place.good(&["runs", "--last", "1"]).out;
    assert!(last.starts_with("3  ") && last.contains("  failed  ") && last.contains("1 failed"));
    assert!(last.contains("\n3 runs in "), "{last}");
}

#[test]
fn a_run_that_goes_on_is_listed_as_running() {
    let place = Place::new("stages:\n  a: {uses: command, run: [sh, -c, 'touch LOG; sleep 60']}\n");
    let mut run = place.start(&[]);
    place.await_file("log");
    let runs = json(&place.good(&["runs", "--json"]).out);
    assert_eq!((&runs[0]["state"], &runs[0]["seconds"]), (&"running".into(), &Value::Null));
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("the node has ended", || {
        json(&place.good(&["runs", "--json"]).out)[0]["state"] == "unfinished"
    });
}

#[test]
fn logs_are_printed_of_nodes_that_were_made_found_or_failed() {
    let place = Place::new(SWEEP);
    place.good(&["run", "p.yaml"]);
    assert_eq!(place.good(&["logs", "start"]).out, "starting\n");
    let both = place.good(&["logs", "tuned"]).out;
    assert_eq!(both, "== tuned[kl=0.1]\ntuning by 0.1\n== tuned[kl=0.2]\ntuning by 0.2\n");
    assert_eq!(place.good(&["logs", "tuned[kl=0.2]", "--follow"]).out, "tuning by 0.2\n");
    // Another run finds it; what it printed is with the run that made it.
    place.good(&["run", "p.yaml", "--set", "kl=0.2"]);
    let cached = place.good(&["logs", "tuned"]);
    assert_eq!(cached.out, "tuning by 0.2\n");
    assert_eq!(cached.err, "tuned was made in the run 1, as tuned[kl=0.2]\n");
    assert_eq!(place.good(&["logs", "tuned[kl=0.1]", "--run", "1"]).out, "tuning by 0.1\n");
    place.pipeline(
        "stages:\n  bad: {uses: command, run: [sh, -c, 'printf \"last words\"; exit 4']}\n  \
         next: {uses: command, run: [touch, x], inputs: {bad: bad}}\n",
    );
    assert_eq!(place.say(&["run", "p.yaml"]).code, 1);
    assert!(place.good(&["logs", "bad"]).out.starts_with("last words"));
    assert!(place.good(&["logs", "bad", "-f"]).out.starts_with("last words"));
    let skipped = place.good(&["logs", "next"]);
    assert_eq!(
        (skipped.out.as_str(), skipped.err.as_str()),
        ("", "next did not start in the run 3\n")
    );
    let several = place.say(&["logs", "tuned", "-f", "--run", "1"]);
    assert_eq!(several.code, 2);
    assert!(several.err.contains("give one of tuned[kl=0.1], tuned[kl=0.2]"), "{}", several.err);
}

#[test]
fn a_log_is_followed_until_its_node_ends() {
    let place = Place::new(
        "stages:\n  first: {uses: command, run: [sh, -c, 'touch LOG; while [ ! -e LOG.go ]; do sleep \
         0.02; done; echo done > x']}\n  second: {uses: command, run: [sh, -c, 'echo one; touch LOG.one; \
         while [ ! -e LOG.two ]; do sleep 0.02; done; echo two; cp {first}/x y'], inputs: {first: first}}\n",
    );
    let run = place.start(&[]);
    place.await_file("log");
    // It is waited for while another node runs.
    let mut follow = place.command(&["logs", "second", "-f"]);
    let follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    place.write("log.go", "");
    place.await_file("log.one");
    let begun = place.good(&["logs", "second"]).out;
    assert_eq!(begun, "one\n");
    place.write("log.two", "");
    let followed = finish(follow);
    assert_eq!((followed.code, followed.out.as_str()), (0, "one\ntwo\n"), "{}", followed.err);
    assert_eq!(finish(run).code, 0);
    assert_eq!(place.good(&["logs", "second"]).out, "one\ntwo\n");
}

#[test]
fn a_beginning_that_is_of_one_name_alone_is_enough_in_every_command() {
    let place = Place::new(SWEEP);
    place.good(&["run", "p.yaml", "st"]);
    place.good(&["run", "p.yaml"]);
    for arguments in [
        &["plan", "p.yaml", "tun"][..],
        &["explain", "p.yaml", "tuned[kl=0.2"],
        &["show", "p.yaml", "sta"],
        &["show", "sta"],
        &["show", "tuned[kl=0.2"],
        &["logs", "sta", "--run", "1"],
        &["report", "1", "--format", "json"],
        &["sentinels", "2"],
        &["diff", "1", "latest"],
    ] {
        place.good(arguments);
    }
    let shown = |word: &str| json(&place.good(&["show", word, "--json"]).out);
    assert_eq!(shown("start"), json(&place.good(&["show", "p.yaml", "start", "--json"]).out));
    assert_eq!(shown("tuned").as_array().unwrap().len(), 2);
    let key = shown("start")[0]["entry"]["key"].as_str().unwrap().to_owned();
    assert_eq!(shown(&key[..20]), shown("start"));
    for (arguments, message, hint) in [
        (
            &["plan", "p.yaml", "tuned[kl"][..],
            "`tuned[kl` begins several nodes",
            "give more of one of tuned[kl=0.1], tuned[kl=0.2]",
        ),
        (&["logs", "x"], "there is no stage `x` in the run 2", "stages: start, tuned"),
        (&["report", "3"], "there is no run `3` in ", "the latest are "),
        (&["report", "2"], "", ""),
        (&["diff", "1", "20"], "`20` begins several runs", "give more of one of 20"),
        (&["show", "nothing"], "and the latest run (2) no stage or node", "posttrain ls"),
    ] {
        let said = place.say(arguments);
        assert_eq!(said.code, if message.is_empty() { 0 } else { 2 }, "{}", said.err);
        assert!(said.err.contains(message) && said.err.contains(hint), "{}", said.err);
    }
    place.pipeline(&SWEEP.replace("start", "tune"));
    let said = place.say(&["plan", "p.yaml", "tun"]);
    assert!(said.err.contains("give more of one of tune, tuned"), "{}", said.err);
    place.good(&["plan", "p.yaml", "tune"]);
}

#[test]
fn completions_and_manual_pages_have_every_command() {
    let place = Place::new("");
    let program = posttrain::cli::command();
    let commands: Vec<&str> = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(clap::Command::get_name)
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    let page = place.good(&["man"]).out;
    for shell in ["bash", "zsh", "fish"] {
        let text = place.good(&["completions", shell]).out;
        for command in &commands {
            assert!(text.contains(command), "{shell}: {command}");
        }
        assert!(text.contains("--keep-going") || text.contains("keep-going"), "{shell}");
    }
    for command in &commands {
        assert!(page.contains(&format!("posttrain\\-{command}(1)")), "{command}\n{page}");
        let own = place.good(&["man", command]).out;
        let title = command.to_uppercase();
        assert!(own.to_uppercase().contains(&format!("POSTTRAIN\\-{title}")), "{own}");
    }
    assert!(place.good(&["man", "run"]).out.contains("keep\\-going"));
    assert_eq!(place.say(&["man", "nothing"]).code, 2);
    assert_eq!(place.say(&["completions", "csh"]).code, 2);
}

#[test]
fn a_folder_that_init_makes_runs() {
    let place = Place::new("");
    let said = place.good(&["init", "new/study"]);
    assert!(said.out.ends_with("next: posttrain run new/study/pipeline.yaml\n"), "{}", said.out);
    let pipeline = "new/study/pipeline.yaml";
    place.good(&["validate", pipeline]);
    let plan = json(&place.good(&["plan", pipeline, "--json"]).out);
    assert_eq!(plan["steps"].as_array().unwrap().len(), 7);
    let last = place.good(&["run", pipeline, "--log", "json"]).last();
    assert_eq!((&last["ok"], &last["ran"]), (&true.into(), &7.into()), "{last}");
    assert!(last["table"].is_string(), "{last}");
    let again = place.say(&["init", "new/study"]);
    assert_eq!(again.code, 2);
    assert!(again.err.contains("new/study/pipeline.yaml is there already"), "{}", again.err);
    // Nothing is written beside a file that is there.
    std::fs::remove_file(place.path(pipeline)).unwrap();
    assert_eq!(place.say(&["init", "new/study"]).code, 2);
    assert!(!place.path(pipeline).exists());
}
