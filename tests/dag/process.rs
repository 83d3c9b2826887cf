//! One process a node: reports, exit codes, signals, what is left behind.

use std::time::Duration;

use posttrain::dag::processes::Identity;
use posttrain::dag::record::Ending;
use posttrain::dag::work::Claim;
use posttrain::error::Kind;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn program() -> ProcessExecutor {
    ProcessExecutor { program: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dag/node.sh") }
}

fn run_one(bench: &Bench, does: &str) -> Ran {
    bench.execute(&graph([node("n", does, &[])]), &program()).expect("the run itself goes well")
}

#[test]
fn a_process_reports_and_makes_its_artefact_with_the_threads_it_was_given() {
    let bench = Bench::new();
    let ran = run_one(&bench, "make");
    assert_eq!(bench.text(&ran, "n"), "threads 1\n");
    assert_eq!(
        ran.seen.reports,
        [Report::Progress { step: 1, total: 2, values: vec![("loss".into(), 0.5)] }]
    );
    assert_eq!(ran.seen.warnings, ["mind the gap"]);
    assert!(run_one(&bench, "make").ran().is_empty());
}

#[test]
fn a_failed_process_says_whose_fault_it_was() {
    for (does, kind, says) in [
        ("refuse", Kind::User, "row 3 is broken"),
        ("die", Kind::Environment, "out of ideas"),
        ("killed", Kind::Environment, "signal 9"),
        ("nothing", Kind::Stage, "left no file"),
    ] {
        let bench = Bench::new();
        let ran = run_one(&bench, does);
        let failure = ran.node("n").failure.as_ref().expect("it failed");
        assert_eq!((failure.kind, ran.node("n").ending), (kind, Ending::Failed), "{does}");
        assert!(failure.message.contains(says), "{does}: {}", failure.message);
        assert!(failure.log.as_ref().is_some_and(|log| log.exists()), "{does}: its log is kept");
    }
}

#[test]
fn a_program_that_is_not_there_is_the_machines_fault() {
    let ran = Bench::new()
        .execute(
            &graph([node("n", "make", &[])]),
            &ProcessExecutor { program: "/no/such/program".into() },
        )
        .expect("goes well");
    assert_eq!(ran.node("n").failure.as_ref().expect("it failed").kind, Kind::Environment);
}

/// Asks for a stop as soon as a node reports, twice if need be.
struct Stopper(Stop, usize);

impl Observer for Stopper {
    fn progress(&mut self, _node: &str, _report: &Report) {
        (0..self.1).for_each(|_| self.0.request());
    }
}

#[test]
fn a_process_is_asked_to_stop_keeps_its_checkpoint_and_resumes() {
    let mut bench = Bench::new();
    let only = graph([node("n", "stop", &[])]);
    let mut stopper = Stopper(bench.options.stop.clone(), 1);
    let outcome =
        run(&bench.store(), request(&only), &bench.options, &program(), &mut stopper, None)
            .expect("goes well");
    assert!(outcome.interrupted && outcome.nodes[0].ending == Ending::Interrupted);
    bench.options.stop = Stop::new();
    let ran = bench.execute(&only, &program()).expect("goes well");
    assert_eq!(
        (ran.seen.resumed.as_slice(), bench.text(&ran, "n").as_str()),
        (&["n".to_string()][..], "done\n")
    );
}

#[test]
fn a_process_that_will_not_stop_is_killed_when_asked_twice() {
    let bench = Bench::new();
    let mut stopper = Stopper(bench.options.stop.clone(), 2);
    let only = graph([node("n", "stubborn", &[])]);
    let outcome =
        run(&bench.store(), request(&only), &bench.options, &program(), &mut stopper, None)
            .expect("goes well");
    assert!(outcome.interrupted);
}

#[test]
fn what_a_process_leaves_running_ends_with_it() {
    let bench = Bench::new();
    let ran = run_one(&bench, "child");
    let pid: i32 = bench.text(&ran, "n").trim().parse().expect("a number");
    let stat = Path::new("/proc").join(pid.to_string()).join("stat");
    let gone = || std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    let ended = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        gone()
    });
    assert!(ended, "process {pid} is still there");
}

/// As after the runner was killed: its run is over, but its node's process still works in the
/// folder of the attempt.
#[test]
fn a_process_left_behind_keeps_its_key_busy_until_it_ends() {
    let bench = Bench::new();
    let key = bench.key(&chain(), "a");
    let mut orphan = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("every system has it");
    let (store, attempt) = (bench.store(), bench.store().work_path(key).join("1"));
    let presence = store.begin().expect("writable");
    let Claim::Miss(ticket) = store.claim(key, &|_| false).expect("writable") else {
        panic!("it is not made yet")
    };
    let identity = serde_json::to_string(&Identity::of(orphan.id() as i32)).expect("plain data");
    std::fs::write(attempt.join("process"), identity).expect("writable");
    std::fs::write(attempt.join("checkpoints/step"), "7").expect("writable");
    std::mem::forget(ticket);
    drop(presence);

    let store = bench.store();
    let _presence = store.begin().expect("writable");
    assert!(matches!(store.claim(key, &|_| false).expect("readable"), Claim::Busy));
    drop(orphan.stdin.take());
    orphan.wait().expect("it ends with its input");
    let Claim::Miss(ticket) = store.claim(key, &|_| false).expect("readable") else {
        panic!("nothing is at work")
    };
    assert!(ticket.resumed() && !attempt.exists());
    assert_eq!(
        std::fs::read_to_string(ticket.folder().join("checkpoints/step")).expect("taken over"),
        "7"
    );
}

/// A process in another session that keeps the standard output of its node's process open.
#[test]
fn what_keeps_the_output_open_is_not_waited_for() {
    let bench = Bench::new();
    let start = std::time::Instant::now();
    let ran = run_one(&bench, "session");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let pid =
        Pid::from_raw(bench.text(&ran, "n").trim().parse().expect("a number")).expect("a process");
    kill_process(pid, Signal::KILL)
        .expect("it is in another session, and this process adopts none");
}

#[test]
fn a_node_that_exceeds_its_timeout_is_ended_even_if_it_will_not_stop_or_was_stopped() {
    for does in ["stop", "freeze"] {
        let bench = Bench::new();
        let mut late = graph([node("n", does, &[])]);
        late.nodes[0].resources.time = Some(0.2);
        let ran = bench.execute(&late, &program()).expect("goes well");
        let failure = ran.node("n").failure.as_ref().expect("it failed");
        assert_eq!((failure.kind, ran.node("n").ending), (Kind::Stage, Ending::Failed), "{does}");
        assert!(failure.message.contains("`timeout` of 0.2 s"), "{does}: {}", failure.message);
        assert_eq!(
            does == "freeze",
            ran.seen.warnings.iter().any(|warning| warning.contains("kill -CONT")),
            "{does}"
        );
    }
}
