//! Sweeps as their user sees them: parts, the canary, tries, what an edit changes and costs, and
//! the work per node of large graphs.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::place::{Place, Said};

const SWEEP: &str = "\
params: {rate: 1, seed: 0}
matrix: {rate: [1, 2], seed: [0, 1]}
stages:
  base: {uses: command, run: [sh, -c, \"echo base >> LOG; echo 1 > a\"]}
  tuned: {uses: command, run: [sh, -c, \"echo ${rate} ${seed} >> LOG; echo ${rate} ${seed} > a\"],
          inputs: {base: base}}
  scored: {uses: command, run: [cp, \"{tuned}/a\", b], inputs: {tuned: tuned}}
";

#[test]
fn a_part_of_a_sweep_runs_alone_and_the_whole_finds_it() {
    let place = Place::new(SWEEP);
    assert_eq!(place.counts(&["tuned[rate=2]"]), (3, 0));
    let mut log = place.log();
    log.sort();
    assert_eq!(log, ["2 0", "2 1", "base"]);
    assert_eq!(place.counts(&["--only", "seed=0", "--only", "rate=2"]), (1, 2));
    place.counts(&["--sample", "1"]);
    assert_eq!(place.counts(&["--sample", "1"]), (0, 3), "the same point every time");
    let (ran, cached) = place.counts(&[]);
    assert_eq!((ran + cached, place.log().len()), (9, 5), "each node was made once");
    let said = place.say(&["run", "p.yaml", "--only", "rate=7"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("`rate` never is `7`\n  hint: its values: 1, 2"), "{}", said.err);
}

#[test]
fn a_program_gathers_the_points_of_a_sweep() {
    let gathering = format!(
        "{SWEEP}  sum: {{uses: command, gather: {{all: {{all: scored}}}},\n    run: [sh, -c, \"for \
         one; do cat $one/b; done > c; echo \\\"$all\\\" | wc -l >> c\", sh, \"{{all}}\"]}}\n"
    );
    let place = Place::new(&gathering);
    assert_eq!(place.counts(&["sum"]), (10, 0));
    assert_eq!(place.made("sum", "c"), "1 0\n1 1\n2 0\n2 1\n4\n");
    let less = gathering.replace("seed: [0, 1]", "seed: [1]");
    place.pipeline(&less);
    assert_eq!(place.counts(&["sum"]), (1, 5), "it alone is made of other points");
    assert_eq!(place.made("sum", "c"), "1 1\n2 1\n2\n");
}

#[test]
fn a_canary_that_fails_keeps_the_sweep_from_running() {
    let text = SWEEP.replace("[cp, \"{tuned}/a\", b]", "[sh, -c, \"echo s >> LOG; exit BAD\"]");
    let place = Place::new(&text.replace("exit BAD", "exit 1"));
    let said = place.say(&["run", "p.yaml", "--canary", "--keep-going"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("canary: scored["), "{}", said.err);
    assert_eq!(place.log().len(), 3, "one point, and nothing else: {:?}", place.log());
    place.pipeline(&text.replace("exit BAD", "echo 1 > b"));
    let ran = place.good(&["run", "p.yaml", "--canary"]);
    assert!(ran.err.contains("9 nodes in "), "{}", ran.err);
    assert_eq!(place.log().len(), 3 + 1 + 3 + 3);
}

#[test]
fn a_stage_is_tried_again_and_says_so() {
    let flaky = "\
stages:
  a: {uses: command, retry: {times: 2, on: [failure]},
      run: [sh, -c, \"echo try >> LOG; test $(wc -l < LOG) -ge 3 && echo 1 > a\"]}
";
    let place = Place::new(flaky);
    let said = place.good(&["run", "p.yaml"]);
    assert_eq!(place.log().len(), 3);
    assert!(said.err.contains("warning: a: try 1 of 3 failed, the next begins: "), "{}", said.err);
    assert_eq!(place.counts(&[]), (0, 1), "it is in no key");
    let once = Place::new(&flaky.replace("times: 2", "times: 1"));
    assert_eq!(once.say(&["run", "p.yaml"]).code, 1);
    assert_eq!(once.log().len(), 2);
}

/// Runs the program with an answer on its standard input.
fn answered(place: &Place, arguments: &[&str], answer: &str) -> Said {
    let mut command: Command = place.command(arguments);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_plan_says_what_an_edit_changes_and_is_confirmed() {
    let place = Place::new(SWEEP);
    assert_eq!(place.counts(&[]), (9, 0));
    let plan = place.good(&["plan", "p.yaml"]).out;
    assert!(plan.ends_with("0 to run, 9 cached\n"), "nothing changes: {plan}");
    place.pipeline(&SWEEP.replace("${seed} > a", "${seed}! > a"));
    let plan = place.good(&["plan", "p.yaml"]).out;
    assert!(plan.contains("4 to run, 1 cached, 4 unknown until others finish; about "), "{plan}");
    assert!(plan.contains("changes 8 of 9 results of the run "), "{plan}");
    assert!(
        plan.contains("\n  tuned[rate=1,seed=0]: `run[2]` was ")
            && plan.contains("; with it scored[rate=1,seed=0]\n"),
        "{plan}"
    );
    let json: Value = serde_json::from_str(&place.good(&["plan", "p.yaml", "--json"]).out).unwrap();
    assert_eq!(json["changes"]["causes"].as_array().unwrap().len(), 4);
    assert_eq!(json["seconds"].as_object().unwrap().len(), 8);
    let other = place.good(&["plan", "p.yaml", "--set", "seed=0"]).out;
    assert!(other.contains("to run"), "{other}");
    let refused = answered(&place, &["run", "p.yaml", "--confirm"], "\n");
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("go on? [y/N]") && refused.err.contains("nothing was run"));
    assert_eq!(place.log().len(), 5);
    let taken = answered(&place, &["run", "p.yaml", "--confirm"], "y\n");
    assert_eq!(taken.code, 0, "{}", taken.err);
    assert!(taken.err.contains("9 nodes in "), "{}", taken.err);
    assert!(taken.err.contains("  (9 of 9 nodes)") || taken.err.contains(" of 9 nodes"));
}

/// A stage a value, or a chain of stages.
fn graph(of: usize, is_chain: bool) -> String {
    let numbers = |of: usize| (0..of).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
    match is_chain {
        false => format!(
            "params: {{i: 0}}\nmatrix: {{i: [{}]}}\nstages:\n  root: {{uses: command, run: [ls]}}\n  \
             a: {{uses: command, run: [echo, \"${{i}}\"], inputs: {{p: root}}}}\n",
            numbers(of)
        ),
        true => (0..of).fold("stages:\n".to_owned(), |text, at| {
            let input = at
                .checked_sub(1)
                .map_or_else(String::new, |before| format!(", inputs: {{p: s{before}}}"));
            text + &format!("  s{at}: {{uses: command, run: [echo, \"{at}\"]{input}}}\n")
        }),
    }
}

/// CPU time of a plan, the least of three.
fn planned(of: usize, is_chain: bool) -> Duration {
    let place = Place::new(&graph(of, is_chain));
    let once = || {
        let start = Instant::now();
        place.good(&["plan", "p.yaml"]);
        start.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap()
}

/// Eight times the nodes take about eight times as long; with the square they would take
/// sixty-four times. Growth is measured, not time, so that a slow machine passes.
#[test]
fn plans_grow_with_the_nodes_and_not_with_their_square() {
    for is_chain in [false, true] {
        let (few, many) = (planned(500, is_chain), planned(4000, is_chain));
        let growth = many.as_secs_f64() / few.as_secs_f64();
        assert!(growth < 24.0, "chain: {is_chain}: {few:?} to {many:?}, {growth:.1} times");
    }
}
