//! What jobs make, and how a run tells of those that fail.

use super::*;
use crate::cli::place::finish;

/// Twenty nodes: one, six that read it, twelve that read these, and one that reads all of them.
fn twenty() -> String {
    let mut stages = String::from("  s0: {uses: command, run: [sh, -c, \"echo 0 > a\"]}\n");
    for at in 1..7 {
        stages += &format!(
            "  s{at}: {{uses: command, run: [sh, -c, \"cat {{before}}/a > a; echo {at} >> a\"], \
             inputs: {{before: s0}}}}\n"
        );
    }
    for at in 7..19 {
        let before = 1 + at % 6;
        stages += &format!(
            "  s{at}: {{uses: command, run: [sh, -c, \"cat {{before}}/a > a; echo {at} >> a\"], \
             inputs: {{before: s{before}}}}}\n"
        );
    }
    let all: Vec<String> = (7..19).map(|at| format!("i{at}: s{at}")).collect();
    let read: Vec<String> = (7..19).map(|at| format!("{{i{at}}}/a")).collect();
    stages += &format!(
        "  s19: {{uses: command, run: [sh, -c, \"cat {} > a\"], inputs: {{{}}}}}\n",
        read.join(" "),
        all.join(", ")
    );
    format!("stages:\n{stages}")
}

#[test]
fn twenty_nodes_give_the_objects_of_a_run_on_this_host() {
    let local = Place::new(&twenty());
    local.counts(&[]);
    for bench in Bench::each(&twenty()) {
        let said = bench.run(&["--log", "json"]);
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
        assert_eq!(said.last()["ran"], 20, "{}", said.out);
        assert_eq!(bench.place.objects(), local.objects());
        let second = bench.run(&["--log", "json"]);
        assert_eq!(second.last()["cached"], 20, "{}", second.out);
        assert_eq!(bench.jobs(), [""; 0], "no job is left");
    }
}

#[test]
fn a_node_that_fails_says_why_and_the_others_go_on() {
    let pipeline = "\
stages:
  bad: {uses: command, run: [sh, -c, \"echo the last words; exit 7\"]}
  after: {uses: command, run: [touch, a], inputs: {bad: bad}}
  good: {uses: command, run: [sh, -c, \"echo 1 > a\"]}
";
    for bench in Bench::each(pipeline) {
        let said = bench.run(&["--keep-going"]);
        assert_eq!(said.code, 1, "{}", said.err);
        for word in ["exit status: 7", "the last words", "1 ran, 0 cached, 1 failed, 1 skipped"] {
            assert!(said.err.contains(word), "{word}: {}", said.err);
        }
        let log = said.err.lines().find_map(|line| line.split_once("its log: ")).unwrap().1;
        assert!(std::fs::read_to_string(log).unwrap().contains("the last words"));
    }
}

#[test]
fn a_killed_node_is_tried_again_if_it_says_so() {
    let pipeline = "\
stages:
  n: {uses: command, retry: 1, run: [sh, -c, \"if mkdir LOG; then kill -9 $PPID; sleep 30; fi; echo 1 > a\"]}
";
    for bench in Bench::each(pipeline) {
        let said = bench.run(&[]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert_eq!(lines_with(&said.err, "ended by signal 9").len(), 1, "{}", said.err);
    }
}

/// What a job asks for: its stage's resources, over those of the file.
#[test]
fn a_job_asks_for_what_its_stage_and_the_file_say() {
    let pipeline = "\
stages:
  n: {uses: command, resources: {threads: 2, memory_mb: 300}, timeout: 100, run: [sh, -c, \"echo 1 > a\"]}
";
    if let Some(bench) = Bench::slurm(pipeline) {
        bench.describe(
            "options: {partition: main, memory_mb: 200}\n\
             stages: {command: {partition: other}}\n\
             arguments: [--hold]\n",
        );
        let run = bench.start(&[]);
        let job = bench.await_jobs(1).remove(0);
        let shown = bench.ask(&["scontrol", "show", "job", &job]);
        bench.ask(&["scontrol", "release", &job]);
        let said = finish(run);
        assert_eq!(said.code, 0, "{}", said.err);
        for word in [
            "NumCPUs=2",
            "MinMemoryNode=300M",
            "TimeLimit=00:02:00",
            "Partition=other",
            "JobName=n",
        ] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }
    let bench = Bench::fake(pipeline);
    bench.describe("arguments: [--quick]\noptions: {memory_mb: 200, time_min: 7}\n");
    assert_eq!(bench.run(&[]).code, 0);
    let words = bench.place.read("jobs/1/words");
    assert!(words.starts_with("--threads=2 --memory 300 --minutes=2 "), "{words}");
    bench.place.pipeline("stages: {n: {uses: command, run: [sh, -c, 'echo 2 > a']}}");
    assert_eq!(bench.run(&[]).code, 0);
    let words = bench.place.read("jobs/2/words");
    assert!(words.starts_with("--threads=1 --memory 200 --minutes=7 "), "{words}");
}
