//! Jobs that the queue ends, hosts that are not those of the key, and files that cannot be used.

use super::*;
use crate::cli::place::finish;

const SLEEPS: &str = "\
stages:
  n: {uses: command, timeout: 60, run: [sh, -c, \"echo run >> LOG; sleep 60; echo 1 > a\"]}
";

#[test]
fn each_end_that_the_queue_tells_has_a_message_and_an_exit_code() {
    for (word, code, says) in [
        ("LATE", 1, "took longer than its `timeout` of 60 s"),
        ("OOM", 3, "took more memory than the queue gives it"),
        ("KILLED", 3, "was cancelled in the queue, not by this run"),
    ] {
        let bench = Bench::fake(SLEEPS);
        let run = bench.start(&[]);
        bench.place.await_file("log");
        let job = bench.await_jobs(1).remove(0);
        bench.ask(&["end", &job, word]);
        let said = finish(run);
        assert_eq!(said.code, code, "{word}: {}", said.err);
        assert!(said.err.contains(says) && said.err.contains("hint"), "{word}: {}", said.err);
        assert_eq!(bench.jobs(), [""; 0], "{word}: nothing is left to go on with");
    }
}

#[test]
fn a_job_that_slurm_was_told_to_cancel_fails() {
    let Some(bench) = Bench::slurm(SLEEPS) else { return };
    let run = bench.start(&[]);
    bench.place.await_file("log");
    let job = bench.await_jobs(1).remove(0);
    bench.await_state(&job, "RUNNING");
    bench.ask(&["scancel", &job]);
    let said = finish(run);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("was cancelled in the queue, not by this run"), "{}", said.err);
}

#[test]
fn what_slurm_refuses_is_shown() {
    let Some(bench) = Bench::slurm(SLEEPS) else { return };
    bench.describe("options: {partition: nowhere}\n");
    let said = bench.run(&[]);
    assert_eq!(said.code, 3, "{}", said.err);
    for word in ["invalid partition", "--partition=nowhere", "hint"] {
        assert!(said.err.contains(word), "{word}: {}", said.err);
    }
}

#[test]
fn a_host_of_another_numerics_class_makes_nothing() {
    let bench = Bench::fake("stages: {n: {uses: command, run: [sh, -c, 'echo 1 > a']}}");
    let doctor: Value =
        serde_json::from_str(&bench.place.good(&["doctor", "--json", "--device", "cpu"]).out)
            .unwrap();
    let text = doctor.to_string();
    let start = text.find("cpu f32 kernels").unwrap();
    let class = text[start..].split('"').next().unwrap();
    let other = format!("{}libm-00000000", class.split("libm-").next().unwrap());
    let said = bench.run(&["--numerics", &other]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("the numerics class of this host is `host "), "{}", said.err);
    assert_eq!(bench.place.objects(), []);
    bench.describe(&format!("numerics: {class}\n"));
    assert_eq!(bench.run(&[]).code, 0);
    assert_eq!(bench.place.plan(&["--numerics", class]), ["cached n"]);
    assert_eq!(bench.place.plan(&["--numerics", &other]), ["run n"]);
    let said = bench.place.say(&["run", "p.yaml", "--numerics", &other, "--device", "cpu"]);
    assert_eq!(said.code, 2, "one of the two: {}", said.err);
    let said = bench.place.say(&["run", "p.yaml", "--numerics", "fast"]);
    assert_eq!(said.code, 2, "{}", said.err);
}

#[test]
fn another_program_on_the_hosts_makes_nothing() {
    let bench = Bench::fake("stages: {n: {uses: command, run: [sh, -c, 'echo 1 > a']}}");
    let script =
        "#!/bin/sh\nsed -i 's/\"program\": \"[^\"]*\"/\"program\": \"9.9.9\"/' \"$2/order.json\"\n";
    let program = format!("{script}exec {} \"$@\"\n", env!("CARGO_BIN_EXE_posttrain"));
    bench.place.write("program", &program);
    let path = bench.place.path("program");
    Command::new("chmod").arg("+x").arg(&path).status().unwrap();
    bench.describe("program: program\n");
    let said = bench.run(&[]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("the one that gave the order 9.9.9"), "{}", said.err);
}

#[test]
fn a_file_about_a_queue_is_refused_with_the_place_of_the_mistake() {
    let bench = Bench::fake("stages: {n: {uses: command, run: [sh, -c, 'echo 1 > a']}}");
    for (more, says) in [
        ("pol: 3\n", "queue.yaml:18:1"),
        ("options: {memory_mb: much}\n", "the option `memory_mb` of the queue is no count"),
        ("arguments: ['{pratition}']\n", "`{pratition}`, which nothing gives a value"),
        ("jobs: 0\n", "`jobs`: expected at least 1 job"),
    ] {
        bench.describe(more);
        let said = bench.run(&[]);
        assert_eq!(said.code, 2, "{more}: {}", said.err);
        assert!(said.err.contains(says), "{more}: {}", said.err);
    }
    bench.place.write("queue.yaml", "queue: mine\n");
    let said = bench.run(&[]);
    assert!(said.code == 2 && said.err.contains("`submit` is missing"), "{}", said.err);
    let said = bench.place.say(&["run", "p.yaml", "--executor", "slrm"]);
    assert!(said.code == 2 && said.err.contains("no file `slrm`"), "{}", said.err);
}

/// The examples for queues that are not here can be read at least.
#[test]
fn every_file_of_the_document_can_be_read() {
    let document = std::fs::read_to_string(format!("{ROOT}/docs/cluster.md")).unwrap();
    let examples = crate::cli::documentation::blocks(&document, "yaml");
    assert_eq!(examples.len(), 5);
    let place = Place::new("");
    for (line, example) in examples {
        place.write("queue.yaml", &example);
        let path = place.path("queue.yaml").display().to_string();
        let read = posttrain::pipeline::queue_file::load(&path);
        assert!(read.is_ok(), "docs/cluster.md, line {line}: {:#}", read.unwrap_err());
    }
}

#[test]
fn the_document_shows_the_set_for_slurm() {
    let document = std::fs::read_to_string(format!("{ROOT}/docs/cluster.md")).unwrap();
    let file = posttrain::pipeline::queue_file::SLURM_FILE;
    assert!(document.contains(&format!("```yaml\n{file}```")), "docs/cluster.md: {file}");
}
