//! Stopping and being killed: nothing that was finished is lost, nothing half-written is taken for
//! whole.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::place::{Place, finish, wait_until};

/// A quick stage and one that would take a minute.
const LONG: &str = "\
stages:
  quick: {uses: command, run: [sh, -c, \"echo 1 > a\"]}
  long: {uses: command, run: [sh, -c, \"echo $$ > LOG; sleep 60; echo 1 > a\"], inputs: {quick: quick}}
  last: {uses: command, run: [touch, a], inputs: {long: long}}
";

fn stop_with(signal: Signal) {
    let place = Place::new(LONG);
    let child = place.start(&[]);
    place.await_file("log");
    let start = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let said = finish(child);
    assert_eq!(said.code, 130, "{}\n{}", said.out, said.err);
    assert!(start.elapsed() < Duration::from_secs(5), "it stops soon");
    let last = said.last();
    assert_eq!(
        (&last["ok"], &last["ran"], &last["skipped"], &last["failed"]),
        (&false.into(), &1.into(), &2.into(), &0.into()),
        "{last}"
    );
    let sleeper = Pid::from_raw(place.read("log").trim().parse().unwrap()).unwrap();
    wait_until("no process is left", || rustix::process::test_kill_process(sleeper).is_err());
    assert_eq!(place.plan(&[]), ["cached quick", "run long", "unknown last"]);
}

#[test]
fn sigterm_stops_cleanly() {
    stop_with(Signal::TERM);
}

#[test]
fn ctrl_c_stops_cleanly() {
    stop_with(Signal::INT);
}

#[test]
fn a_stopped_run_says_how_to_go_on() {
    let place = Place::new(LONG);
    let child =
        place.command(&["run", "p.yaml"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    place.await_file("log");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let said = finish(child);
    assert!(
        said.err.contains("long  stopped after ")
            && said.err.contains("the same command goes on from here"),
        "{}",
        said.err
    );
    assert!(said.err.contains(": 1 ran, 0 cached, 1 stopped, 1 skipped"), "{}", said.err);
}

/// Several stages that write for a while.
fn chain() -> String {
    let stage = |index: usize| {
        let inputs = if index == 0 {
            String::new()
        } else {
            format!(", inputs: {{before: s{}}}", index - 1)
        };
        let read = if index == 0 { "echo start" } else { "cat {before}/a" };
        format!(
            "  s{index}: \
             {{uses: command, run: [sh, -c, \"for i in 1 2 3 4 5 6; do {read}; echo {index} $i; sleep 0.01; done > a\"]{inputs}}}\n"
        )
    };
    format!("stages:\n{}", (0..4).map(stage).collect::<String>())
}

#[test]
fn sigkill_at_any_moment_then_a_run_gives_the_objects_of_an_undisturbed_run() {
    let undisturbed = Place::new(&chain());
    undisturbed.counts(&[]);
    let place = Place::new(&chain());
    for moment in [5u64, 20, 45, 80, 110, 140, 170, 200, 240, 280] {
        let mut child = place.start(&[]);
        std::thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let last = place.run(&[]);
    assert_eq!(
        (&last["ok"], last["ran"].as_u64().unwrap() + last["cached"].as_u64().unwrap()),
        (&true.into(), 4)
    );
    assert_eq!(place.objects(), undisturbed.objects());
}

#[test]
fn two_runs_of_one_pipeline_at_once_make_each_node_once() {
    let text = chain().replace("; for", "").replace("do ", "do echo >> LOG; ");
    let place = Place::new(&text);
    let (one, two) = (place.start(&[]), place.start(&[]));
    let (one, two) = (finish(one), finish(two));
    assert_eq!((one.code, two.code), (0, 0), "{}\n{}", one.out, two.out);
    assert_eq!(one.last()["ran"].as_u64().unwrap() + two.last()["ran"].as_u64().unwrap(), 4);
    assert_eq!(place.log().len(), 4 * 6);
}

#[test]
fn a_program_that_ends_well_after_it_was_asked_to_stop_has_made_nothing() {
    // The shell goes on behind what the signal has ended.
    let place = Place::new(
        "stages:\n  a: {uses: command, run: [sh, -c, 'trap true TERM; echo begun >> LOG; sleep 60; \
         echo half > made']}\n",
    );
    let mut run = place.start(&[]);
    place.await_file("log");
    kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert_eq!(place.plan(&[]), ["run a"]);
}
