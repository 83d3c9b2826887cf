//! The order of things: places, failures, stops, two runs at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar, mpsc};
use std::time::Duration;

use posttrain::dag::digest::ObjectId;
use posttrain::dag::node::{Resources, Retry};
use posttrain::dag::record::Ending;
use posttrain::error::{Failure, Kind, environment, user};

use super::*;

/// Runs `graph` and returns how many nodes ran at once at most. A node waits for as many as are
/// `expected`, then a moment for one too many.
fn most_at_once(bench: &Bench, graph: &Graph, expected: usize) -> usize {
    // How many run now, and the most so far.
    let (running, came) = (Mutex::new((0, 0)), Condvar::new());
    bench.run_with(graph, &|_, _| {
        let mut counts = running.lock().expect("no panic");
        counts.0 += 1;
        counts.1 = counts.0.max(counts.1);
        came.notify_all();
        let few = |counts: &mut (usize, usize)| counts.1 < expected;
        let (counts, _) =
            came.wait_timeout_while(counts, Duration::from_secs(10), few).expect("no panic");
        let many = |counts: &mut (usize, usize)| counts.1 <= expected;
        let (mut counts, _) =
            came.wait_timeout_while(counts, Duration::from_millis(20), many).expect("no panic");
        counts.0 -= 1;
        Ok(())
    });
    running.into_inner().expect("no panic").1
}

fn independent(threads: Option<usize>) -> Graph {
    let mut graph = graph((0..4).map(|i| node(&format!("n{i}"), &format!("T{i}"), &[])));
    graph.nodes.iter_mut().for_each(|node| node.resources.threads = threads);
    graph
}

#[test]
fn no_more_nodes_run_at_once_than_jobs_and_threads_allow() {
    for (jobs, threads, wants, expected) in [
        (1, 4, Some(1), 1),
        (2, 4, Some(1), 2),
        (4, 2, Some(1), 2),
        (4, 4, Some(2), 2),
        (4, 4, None, 1),
        (4, 2, Some(9), 1),
    ] {
        let mut bench = Bench::new();
        (bench.options.jobs, bench.options.threads) = (jobs, threads);
        assert_eq!(
            most_at_once(&bench, &independent(wants), expected),
            expected,
            "jobs {jobs}, threads {threads}, wants {wants:?}"
        );
    }
}

#[test]
fn any_number_of_jobs_makes_the_same_objects() {
    let objects = |jobs| {
        let mut bench = Bench::new();
        bench.options.jobs = jobs;
        bench
            .run(&chain())
            .outcome
            .nodes
            .iter()
            .map(|node| node.object.expect("made"))
            .collect::<Vec<_>>()
    };
    assert_eq!(objects(1), objects(3));
}

fn failing(
    text: &str,
    _context: &posttrain::dag::context::Context,
) -> posttrain::error::Result<()> {
    match text {
        "B" => Err(user("row 3 of rows.jsonl is broken").hint("mend it").into()),
        _ => Ok(()),
    }
}

#[test]
fn a_failure_skips_what_depends_on_it_and_stops_the_rest() {
    let mut bench = Bench::new();
    bench.options.jobs = 1;
    let ran = bench.run_with(&chain(), &failing);
    assert_eq!(ran.ran(), ["a"]);
    assert_eq!(ran.ended(Ending::Failed), ["b"]);
    assert_eq!(ran.ended(Ending::Skipped), ["c", "d"]);
    assert_eq!(ran.node("c").because.as_deref(), Some("b"));
    assert_eq!(ran.node("d").because, None);
    let failure = ran.node("b").failure.as_ref().expect("it failed");
    assert_eq!(failure.kind, Kind::User);
    assert!(failure.message.contains("row 3") && failure.message.contains("mend it"));
    assert_eq!(ran.outcome.kind(), Some(Kind::Stage));
    assert_eq!(bench.run(&chain()).ran(), ["b", "c", "d"], "a failure is not remembered");
}

#[test]
fn keep_going_runs_what_does_not_depend_on_the_failure() {
    let mut bench = Bench::new();
    (bench.options.jobs, bench.options.keep_going) = (1, true);
    let ran = bench.run_with(&chain(), &failing);
    assert_eq!(
        (ran.ran(), ran.ended(Ending::Failed), ran.ended(Ending::Skipped)),
        (vec!["a", "d"], vec!["b"], vec!["c"])
    );
}

#[test]
fn a_panic_is_a_bug_of_that_node_alone() {
    let mut bench = Bench::new();
    bench.options.keep_going = true;
    let ran = bench.run_with(&chain(), &|text, _| {
        if text == "B" { panic!("index out of range") } else { Ok(()) }
    });
    assert_eq!(ran.node("b").failure.as_ref().expect("it failed").kind, Kind::Bug);
    assert!(ran.failure("b").contains("index out of range"));
    assert_eq!(ran.ran(), ["a", "d"]);
}

#[test]
fn a_stop_keeps_checkpoints_publishes_nothing_unfinished_and_the_next_run_resumes() {
    let mut bench = Bench::new();
    bench.options.jobs = 1;
    let stop = bench.options.stop.clone();
    let stopped = bench.run_with(&chain(), &|text, context| {
        if text == "B" {
            stop.request();
            while !context.stop_requested() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::fs::write(context.out().join("half"), "half")?;
            std::fs::write(context.checkpoints().join("step"), "7")?;
            return context.interrupted();
        }
        Ok(())
    });
    assert_eq!(
        (stopped.ran(), stopped.ended(Ending::Interrupted), stopped.ended(Ending::Skipped)),
        (vec!["a"], vec!["b"], vec!["c", "d"])
    );
    assert!(stopped.outcome.interrupted);
    assert_eq!(stopped.outcome.kind(), Some(Kind::Interrupted));
    assert_eq!(bench.store().entries().expect("readable").len(), 1);
    posttrain::dag::gc::gc(&bench.store(), false).expect("there is no run");

    bench.options.stop = Stop::new();
    let resumed = bench.run_with(&chain(), &|text, context| {
        if text == "B" {
            assert_eq!(std::fs::read_to_string(context.checkpoints().join("step"))?, "7");
            assert!(
                !context.out().join("half").exists(),
                "every attempt starts with an empty artefact"
            );
        }
        Ok(())
    });
    assert_eq!(resumed.ran(), ["b", "c", "d"]);
    assert_eq!(resumed.seen.resumed, ["b"]);
    let clean = Bench::new();
    assert_eq!(clean.run(&chain()).node("c").object, resumed.node("c").object);
    assert!(posttrain::fs::list(&bench.root().join("v1/work")).expect("readable").is_empty());
}

#[test]
fn what_finishes_although_it_was_asked_to_stop_is_kept() {
    let bench = Bench::new();
    let stop = bench.options.stop.clone();
    let ran = bench.run_with(&graph([node("a", "A", &[])]), &|_, context| {
        stop.request();
        while !context.stop_requested() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    assert_eq!(ran.ran(), ["a"]);
    assert!(!ran.outcome.interrupted, "all was done");
}

#[test]
fn two_runs_on_one_store_make_everything_once() {
    let bench = Bench::new();
    let calls = Calls::default();
    let both = Barrier::new(2);
    let results: Vec<Ran> = std::thread::scope(|scope| {
        let one = || {
            both.wait();
            bench.run_with(&chain(), &|text, _| {
                calls.note(text);
                std::thread::sleep(Duration::from_millis(30));
                Ok(())
            })
        };
        let threads = [scope.spawn(one), scope.spawn(one)];
        threads.map(|thread| thread.join().expect("no panic")).into()
    });
    assert_eq!(calls.list(), ["A", "B", "C", "D"]);
    assert_eq!(results[0].node("c").object, results[1].node("c").object);
    let ran: usize = results.iter().map(|ran| ran.outcome.count(Ending::Ran)).sum();
    let cached: usize = results.iter().map(|ran| ran.outcome.count(Ending::Cached)).sum();
    assert_eq!((ran, cached), (4, 4));
}

/// Tells of every node that waits for another run.
struct Waiting(mpsc::Sender<String>);

impl Observer for Waiting {
    fn waiting(&mut self, node: &str) {
        self.0.send(node.into()).expect("someone listens");
    }
}

impl Bench {
    fn run_telling(&self, graph: &Graph, waits: mpsc::Sender<String>) -> Outcome {
        let executor = InProcessExecutor(&Toy { hook: &|_, _| Ok(()) });
        let (store, mut observer) = (self.store(), Waiting(waits));
        run(&store, request(graph), &self.options, &executor, &mut observer, None)
            .expect("the run itself goes well")
    }
}

#[test]
fn a_run_that_waits_for_another_says_so_and_takes_over_when_that_one_fails() {
    let bench = Bench::new();
    let only = graph([node("a", "A", &[])]);
    let (began, begun) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let (began, gone) = (Mutex::new(began), Mutex::new(gone));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            bench.run_with(&only, &|_, _| {
                began.lock().expect("no panic").send(()).expect("someone listens");
                gone.lock().expect("no panic").recv().expect("someone speaks");
                Err(user("no").into())
            })
        });
        begun.recv().expect("the first runs");
        let (waits, waiting) = mpsc::channel();
        let second = scope.spawn(|| bench.run_telling(&only, waits));
        assert_eq!(waiting.recv().as_deref(), Ok("a"));
        go.send(()).expect("the first waits");
        assert_eq!(first.join().expect("no panic").ended(Ending::Failed), ["a"]);
        assert_eq!(second.join().expect("no panic").nodes[0].ending, Ending::Ran);
        assert!(waiting.recv().is_err(), "it is said once");
    });
}

#[test]
fn a_stop_ends_a_run_that_waits_for_another() {
    let bench = Bench::new();
    let only = graph([node("a", "A", &[])]);
    let mut waiting = Bench::new();
    waiting.folder = tempfile::tempdir_in(bench.folder.path()).expect("a folder");
    std::os::unix::fs::symlink(bench.root(), waiting.root()).expect("a link");
    let stop = waiting.options.stop.clone();
    let ran = bench.run_with(&only, &|_, _| {
        std::thread::scope(|scope| {
            let (waits, heard) = mpsc::channel();
            let second = scope.spawn(|| waiting.run_telling(&only, waits));
            assert_eq!(heard.recv().as_deref(), Ok("a"));
            stop.request();
            assert!(second.join().expect("no panic").interrupted);
        });
        Ok(())
    });
    assert_eq!(ran.ran(), ["a"]);
}

/// Nodes of two kinds at once: `device` of them on the device, and two that are not, one of which
/// has the GPU as well.
#[test]
fn nodes_that_have_the_gpu_alone_take_turns() {
    let on_device = |gpus: Option<usize>| {
        let mut graph = independent(Some(1));
        graph.nodes.iter_mut().for_each(|node| node.resources.gpus = gpus);
        graph
    };
    let commands = |gpus: Option<usize>| {
        let mut graph = on_device(gpus);
        graph.nodes.iter_mut().for_each(|node| node.on_device = false);
        graph
    };
    for (what, gpu, graph, expected) in [
        ("nodes on a GPU", true, on_device(None), 1),
        ("nodes that share a GPU", true, on_device(Some(0)), 4),
        ("nodes on the CPU", false, on_device(None), 4),
        ("nodes on the CPU whatever they say", false, on_device(Some(1)), 4),
        ("programs", true, commands(None), 4),
        ("programs that compute on the GPU", false, commands(Some(1)), 1),
    ] {
        let mut bench = Bench::new();
        (bench.options.jobs, bench.options.threads, bench.options.gpu) = (4, 4, gpu);
        assert_eq!(most_at_once(&bench, &graph, expected), expected, "{what}");
    }
}

/// The device that each node was given, in the order in which they started, and how many computed
/// on one device at once at most.
#[derive(Default)]
struct Devices(Mutex<(Vec<Value>, Vec<Value>, usize)>);

impl Dispatch for Devices {
    fn execute(&self, _: &str, device: &Value, config: Value, context: &Context) -> Result<()> {
        let lock = || self.0.lock().expect("no one panics");
        let mut seen = lock();
        seen.0.push(device.clone());
        seen.1.push(device.clone());
        let at_once = seen.1.iter().filter(|other| *other == device).count();
        seen.2 = seen.2.max(at_once);
        drop(seen);
        std::thread::sleep(Duration::from_millis(40));
        let mut seen = lock();
        let at = seen.1.iter().position(|other| other == device).expect("it computes");
        seen.1.remove(at);
        drop(seen);
        Ok(std::fs::write(context.out().join("file"), config["text"].to_string())?)
    }
}

#[test]
fn each_node_has_one_of_several_gpus_alone() {
    for (gpus, devices_used, at_once) in [(None, 2, 1), (Some(2), 1, 1), (Some(0), 1, 4)] {
        let mut graph = independent(Some(1));
        graph.nodes.iter_mut().for_each(|node| node.resources.gpus = gpus);
        let mut bench = Bench::new();
        (bench.options.jobs, bench.options.threads, bench.options.gpu) = (4, 4, true);
        bench.options.devices = vec!["gpu:0".into(), "gpu:1".into()];
        let devices = Devices::default();
        bench.execute(&graph, &InProcessExecutor(&devices)).expect("the run itself goes well");
        let (given, _, most) = devices.0.into_inner().expect("no one panics");
        let used = [given.contains(&"gpu:0".into()), given.contains(&"gpu:1".into())];
        assert_eq!(
            (given.len(), used.iter().filter(|used| **used).count(), most),
            (4, devices_used, at_once),
            "{gpus:?}"
        );
    }
}

#[test]
fn estimates_of_memory_of_nodes_that_run_at_once_fit() {
    for (most, needs, expected) in
        [(None, Some(10), 4), (Some(20), Some(10), 2), (Some(5), Some(10), 1), (Some(5), None, 4)]
    {
        let mut graph = independent(Some(1));
        graph.nodes.iter_mut().for_each(|node| node.resources.memory = needs);
        let mut bench = Bench::new();
        (bench.options.jobs, bench.options.threads, bench.options.memory) = (4, 4, most);
        assert_eq!(most_at_once(&bench, &graph, expected), expected, "{needs:?} of {most:?}");
    }
}

#[test]
fn a_node_that_exceeds_its_timeout_is_stopped_and_resumes_in_the_next_run() {
    let bench = Bench::new();
    let mut late = graph([node("a", "A", &[])]);
    late.nodes[0].resources.time = Some(0.05);
    let ran = bench.run_with(&late, &|_, context| {
        while !context.stop_requested() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::fs::write(context.checkpoints().join("step"), "7")?;
        context.interrupted()
    });
    assert_eq!((ran.ended(Ending::Failed), ran.outcome.kind()), (vec!["a"], Some(Kind::Stage)));
    assert!(ran.failure("a").contains("`timeout` of 0.05 s"), "{}", ran.failure("a"));
    late.nodes[0].resources.time = None;
    assert_eq!(bench.run(&late).seen.resumed, ["a"], "a timeout is in no key");
}

/// A node that fails in this way at its first two tries; gives the run and the tries.
fn failing_twice(
    retry: Retry,
    time: Option<f64>,
    failure: fn(&Context) -> Result<()>,
) -> (Ran, usize) {
    let bench = Bench::new();
    let mut flaky = graph([node("a", "A", &[]), node("b", "B", &["a"])]);
    flaky.nodes[0].resources = Resources { retry, time, ..Resources::default() };
    let tries = AtomicUsize::new(0);
    let ran = bench.run_with(&flaky, &|text, context| {
        if text != "A" {
            return Ok(());
        }
        let before = tries.fetch_add(1, Ordering::SeqCst);
        let found = std::fs::read_to_string(context.checkpoints().join("step"));
        assert_eq!(found.unwrap_or_default().len(), before, "a try goes on from the last one");
        std::fs::write(context.checkpoints().join("step"), "s".repeat(before + 1))?;
        if before < 2 { failure(context) } else { Ok(()) }
    });
    (ran, tries.into_inner())
}

#[test]
fn a_node_is_tried_again_after_the_failures_it_names_and_as_often() {
    let twice = Retry { times: 2, ..Retry::default() };
    let machine: fn(&Context) -> Result<()> = |_| Err(environment("the disk is gone").into());
    let stage: fn(&Context) -> Result<()> = |_| Err(Failure::new(Kind::Stage, "no").into());
    let late: fn(&Context) -> Result<()> = |context| {
        while !context.stop_requested() {
            std::thread::sleep(Duration::from_millis(1));
        }
        context.interrupted()
    };
    for (retry, time, failure) in [
        (Retry { on_environment: true, ..twice }, None, machine),
        (Retry { on_failure: true, wait: 0.02, ..twice }, None, stage),
        (Retry { on_timeout: true, ..twice }, Some(0.05), late),
    ] {
        let (ran, tries) = failing_twice(retry, time, failure);
        assert_eq!((ran.ran(), ran.outcome.kind(), tries), (vec!["a", "b"], None, 3));
        let said = ran.seen.warnings.join("\n");
        assert!(said.contains("try 1 of 3 failed") && said.contains("try 2 of 3 failed"), "{said}");
    }
    for (retry, time, failure, expected) in [
        (Retry { on_environment: true, times: 1, ..twice }, None, machine, 2),
        (Retry { on_environment: true, on_timeout: true, ..twice }, None, stage, 1),
        (Retry { on_failure: true, on_environment: true, ..twice }, Some(0.05), late, 1),
        (Retry::default(), None, machine, 1),
    ] {
        let (ran, tries) = failing_twice(retry, time, failure);
        assert_eq!((ran.ended(Ending::Failed), tries), (vec!["a"], expected));
        assert_eq!(ran.ended(Ending::Skipped), ["b"]);
    }
}

/// Nodes whose text is `data` are first, in a run that checks what a check returns; gives the run,
/// what ran in order, and what each check was given.
fn behind_gate(
    bench: &Bench,
    graph: &Graph,
    result: fn() -> Result<()>,
) -> (Result<Ran>, Vec<String>, Vec<String>) {
    let (ran, checks) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let check = |left: &[&Node], made: &HashMap<&str, ObjectId>| {
        let left: Vec<&str> = left.iter().map(|node| node.name.as_str()).collect();
        let mut made: Vec<&str> = made.keys().copied().collect();
        made.sort_unstable();
        checks.lock().expect("no one panics").push(format!(
            "{} of {}",
            left.join(" "),
            made.join(" ")
        ));
        result()
    };
    let hook = |text: &str, _: &Context| {
        ran.lock().expect("no one panics").push(text.to_owned());
        if text == "bad data" { Err(user("no").into()) } else { Ok(()) }
    };
    let first =
        |node: &Node| node.config["text"].as_str().is_some_and(|text| text.ends_with("data"));
    let gate = Gate { first, check: &check };
    let executor = InProcessExecutor(&Toy { hook: &hook });
    let outcome = bench.execute_behind(graph, &executor, Some(gate));
    let all = |seen: Mutex<Vec<String>>| seen.into_inner().expect("no one panics");
    (outcome, all(ran), all(checks))
}

#[test]
fn nothing_else_starts_before_the_gate_has_opened() {
    let data = |name, from| node(name, &format!("{name} data"), from);
    let training = |name, from| node(name, name, from);
    let graph = graph([
        training("t", &[]),
        data("a", &[]),
        data("b", &["a"]),
        // Not first, for it needs what is not.
        data("made", &["t"]),
        training("u", &["b"]),
    ]);
    let bench = Bench::new();
    let refused: fn() -> Result<()> = || Err(user("too long").into());
    let (outcome, ran, checks) = behind_gate(&bench, &graph, refused);
    let error = outcome.map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "too long");
    assert_eq!(
        (ran.join(" ").as_str(), checks.as_slice()),
        ("a data b data", &["t made u of a b".to_owned()][..])
    );
    // What was made first is kept; the check is asked again, and lets everything else through.
    let (outcome, ran, checks) = behind_gate(&bench, &graph, || Ok(()));
    let mut others = ran.clone();
    others.sort_unstable();
    assert_eq!(
        (others.join(" ").as_str(), checks.as_slice()),
        ("made data t u", &["t made u of a b".to_owned()][..])
    );
    assert_eq!(outcome.unwrap().outcome.kind(), None);
    // Where all is made, nothing is checked.
    let (_, ran, checks) = behind_gate(&bench, &graph, refused);
    assert!(ran.is_empty() && checks.is_empty(), "{ran:?} {checks:?}");
}

#[test]
fn a_gate_opens_beside_a_failure_that_the_run_goes_on_after() {
    let graph = graph([
        node("bad", "bad data", &[]),
        node("good", "data", &[]),
        node("t", "t", &["good"]),
        node("u", "u", &["bad"]),
    ]);
    let mut bench = Bench::new();
    bench.options.keep_going = true;
    let (outcome, ran, checks) = behind_gate(&bench, &graph, || Ok(()));
    assert_eq!(checks, ["t of good"]);
    assert!(ran.contains(&"t".to_owned()) && !ran.contains(&"u".to_owned()), "{ran:?}");
    assert_eq!(outcome.unwrap().outcome.kind(), Some(Kind::Stage));
}
