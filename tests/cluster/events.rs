//! What happens to a job while it waits or runs: the end of its run, Ctrl-C, a preemption, a queue
//! that does not answer.

use posttrain::dag::cluster::ClusterExecutor;
use posttrain::pipeline::queue_file;
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::cli::place::finish;
use crate::dag::{Bench as Toys, graph, node};

/// A node that notes that it runs, and goes on once there is the file `LOG.go`.
const HELD: &str = "\
stages:
  n: {uses: command, run: [sh, -c, \"echo run >> LOG; while [ ! -e LOG.go ]; do sleep 0.05; done; echo 1 > a\"]}
";

impl Bench {
    fn let_go(&self) {
        self.place.write("log.go", "");
    }

    /// Starts a run and kills it once its node runs; the id of the job.
    fn leave_behind(&self) -> String {
        let mut child = self.start(&[]);
        self.place.await_file("log");
        let job = self.await_jobs(1).remove(0);
        child.kill().unwrap();
        child.wait().unwrap();
        job
    }
}

#[test]
fn a_later_run_goes_on_with_the_job_of_one_that_was_killed() {
    for bench in Bench::each(HELD) {
        let job = bench.leave_behind();
        let second = bench.start(&["--log", "json"]);
        wait_until("the attempt is adopted", || {
            let lease = std::fs::read_to_string(attempt(&bench.place.path("cache")).join("lease"));
            let own = format!("-{}-", second.id());
            lease.is_ok_and(|lease| lease.contains(&own))
        });
        bench.let_go();
        let said = finish(second);
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
        assert!(
            said.out.contains(&format!("has submitted its job {job}; this run")),
            "{}",
            said.out
        );
        assert_eq!(said.last()["ran"], 1);
        assert_eq!(bench.place.log(), ["run"], "it was made once");
    }
}

#[test]
fn what_a_job_has_made_while_no_run_lived_is_published_by_the_next() {
    for bench in Bench::each(HELD) {
        let job = bench.leave_behind();
        bench.let_go();
        wait_until("the job has ended", || {
            !["RUNNING", "RUNS"].contains(&bench.state(&job).as_str())
        });
        let said = bench.run(&["--log", "json"]);
        assert_eq!((said.code, &said.last()["ran"]), (0, &1.into()), "{}\n{}", said.out, said.err);
        assert_eq!(bench.place.log(), ["run"], "it was made once");
    }
}

#[test]
fn two_runs_that_find_a_job_left_behind_publish_it_once() {
    let bench = Bench::fake(HELD);
    bench.leave_behind();
    let runs = [bench.start(&["--log", "json"]), bench.start(&["--log", "json"])];
    bench.let_go();
    let ran: Vec<u64> = runs
        .map(|run| {
            let said = finish(run);
            assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
            said.last()["ran"].as_u64().unwrap()
        })
        .into();
    assert_eq!(ran.iter().sum::<u64>(), 1);
    assert_eq!(bench.place.log(), ["run"], "it was made once");
}

/// A run on this host knows nothing of the queue; it waits as long as the job shows that it lives.
#[test]
fn a_run_without_the_queue_waits_for_the_job() {
    let bench = Bench::fake(HELD);
    bench.leave_behind();
    let local = bench.place.start(&[]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(bench.place.log(), ["run"], "it is not made beside the job");
    bench.let_go();
    let said = finish(local);
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
}

#[test]
fn ctrl_c_cancels_all_jobs() {
    let stage = |at: usize| {
        format!(
            "  s{at}: {{uses: command, run: [sh, -c, \"echo run >> LOG; sleep 60; echo {at} > a\"]}}\n"
        )
    };
    let pipeline = format!("stages:\n{}", (0..4).map(stage).collect::<String>());
    for bench in Bench::each(&pipeline) {
        let run = bench.start(&["--log", "json"]);
        let jobs = bench.await_jobs(4);
        wait_until("all run", || bench.place.log().len() == 4);
        kill_process(Pid::from_child(&run), Signal::INT).unwrap();
        let said = finish(run);
        assert_eq!(said.code, 130, "{}\n{}", said.out, said.err);
        for job in jobs {
            let state = bench.state(&job);
            assert!(["FAILED", "CANCELLED", "KILLED"].contains(&state.as_str()), "{job}: {state}");
        }
        assert_eq!(bench.jobs(), [""; 0], "no job is left to go on with");
    }
}

#[test]
fn ctrl_c_cancels_jobs_that_wait() {
    let bench = Bench::fake(HELD);
    bench.place.write("jobs/hold", "");
    let run = bench.start(&["--log", "json"]);
    let job = bench.await_jobs(1).remove(0);
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    let said = finish(run);
    assert_eq!(said.code, 130, "{}\n{}", said.out, said.err);
    assert_eq!((bench.state(&job), bench.place.log().len()), ("KILLED".into(), 0));
}

#[test]
fn a_job_that_the_queue_runs_again_begins_with_an_empty_artefact() {
    let pipeline = HELD.replace("echo run", "ls -A > b; echo run");
    for bench in Bench::each(&pipeline) {
        let run = bench.start(&["--log", "json"]);
        bench.place.await_file("log");
        let job = bench.await_jobs(1).remove(0);
        std::fs::write(attempt(&bench.place.path("cache")).join("out/half"), "half").unwrap();
        bench.requeue(&job);
        wait_until("it runs again", || bench.place.log().len() == 2);
        bench.let_go();
        let said = finish(run);
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
        assert_eq!(bench.place.made("n", "b"), "b\n", "nothing of the first time");
        assert_eq!(lines_with(&said.out, "runs its job again").len(), 1, "{}", said.out);
    }
}

/// The toy of `tests/dag/node.sh` that ends only if it goes on from a checkpoint.
#[test]
fn a_preempted_job_goes_on_from_its_checkpoint() {
    for bench in Bench::each("") {
        for word in ["REQUEUED", "PREEMPTED"] {
            if word == "PREEMPTED" && matches!(bench.queue, Queue::Slurm(_)) {
                continue;
            }
            let toys = Toys::new();
            let text = match &bench.queue {
                Queue::Fake(_) => bench.place.read("queue.yaml"),
                // The variable is given to each command, since this process has others to run.
                Queue::Slurm(conf) => {
                    let with = |text: &str, word: &str| {
                        text.replace(word, &format!("env, SLURM_CONF={}, {word}", conf.display()))
                    };
                    let text = queue_file::SLURM_FILE
                        .replace("\nqueue: slurm", "\nqueue: test\npoll: 0.2");
                    let text =
                        text.replace("  - sbatch\n", "  - env\n  - SLURM_CONF=CONF\n  - sbatch\n");
                    let text = text.replace("CONF=CONF", &format!("CONF={}", conf.display()));
                    ["squeue", "scancel"].iter().fold(text, |text, word| with(&text, word))
                }
            };
            bench.place.write("toys.yaml", &text);
            let file = bench.place.path("toys.yaml").display().to_string();
            let program = Path::new(ROOT).join("tests/dag/node.sh");
            let executor = ClusterExecutor::new(queue_file::load(&file).unwrap(), program);
            let only = graph([node("n", "stop", &[])]);
            let ran = std::thread::scope(|scope| {
                let run = scope.spawn(|| toys.execute(&only, &executor).unwrap());
                let cache = toys.root();
                wait_until("it runs", || {
                    cache.join("v1/work").exists()
                        && posttrain::fs::list(&cache.join("v1/work"))
                            .is_ok_and(|keys| keys.iter().any(|key| !key.starts_with('.')))
                        && attempt(&cache).join("reports").exists()
                });
                wait_until("it is noted", || attempt(&cache).join("job.json").exists());
                let bytes = std::fs::read(attempt(&cache).join("job.json")).unwrap();
                let record: Value = serde_json::from_slice(&bytes).unwrap();
                let job = record["job"].as_str().unwrap();
                match word {
                    "REQUEUED" => bench.requeue(job),
                    word => drop(bench.ask(&["end", job, word])),
                }
                run.join().unwrap()
            });
            assert_eq!(toys.text(&ran, "n"), "done\n", "it went on from its checkpoint");
            let again = lines_with(&ran.seen.warnings.join("\n"), "submitted again").len();
            assert_eq!(again, usize::from(word == "PREEMPTED"), "{:?}", ran.seen.warnings);
        }
    }
}

#[test]
fn a_job_that_is_lost_again_and_again_fails() {
    let bench = Bench::fake(HELD);
    bench.describe("resubmit: 1\n");
    let run = bench.start(&[]);
    for times in 1..3 {
        wait_until("it runs", || bench.place.log().len() == times);
        let job = bench.await_jobs(1).remove(0);
        bench.ask(&["end", &job, "LOST"]);
        wait_until("another is submitted", || times == 2 || bench.jobs() != [job.clone()]);
    }
    let said = finish(run);
    assert_eq!(said.code, 3, "{}", said.err);
    assert_eq!(lines_with(&said.err, "submitted again as 2").len(), 1, "{}", said.err);
    assert!(
        said.err.contains("its job 2 has lost its host; it was submitted 2 times"),
        "{}",
        said.err
    );
    bench.let_go();
    let said = bench.run(&[]);
    assert_eq!(said.code, 0, "a later run submits it anew: {}", said.err);
}

#[test]
fn a_queue_that_does_not_answer_for_a_while_costs_a_warning() {
    let bench = Bench::fake(&HELD.replace("echo 1 > a", "exit 7"));
    bench.place.write("jobs/silent", "");
    let run = bench.start(&["--log", "json"]);
    bench.place.await_file("log");
    bench.let_go();
    // Only the queue can say that the job is not run again.
    wait_until("the job has ended", || attempt(&bench.place.path("cache")).join("ended").exists());
    std::thread::sleep(std::time::Duration::from_secs(1));
    std::fs::remove_file(bench.place.path("jobs/silent")).unwrap();
    let said = finish(run);
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    assert!(said.out.contains("exit status: 7"), "{}", said.out);
    for word in ["does not say how its jobs are", "answers again"] {
        assert_eq!(lines_with(&said.out, word).len(), 1, "{word}: {}", said.out);
    }
}
