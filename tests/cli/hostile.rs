//! A hostile or exhausted surrounding: names that lead elsewhere, control characters, full logs, no
//! threads, programs that fail.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::place::{Place, said};
use crate::stages::fixture::fixture;
use crate::tools::{left_out, mention};

#[test]
fn a_name_of_a_split_that_leads_elsewhere_is_refused_where_it_is_written() {
    for (source, name) in [
        ("files: {\"NAME\": {path: rows.jsonl}}", "/abs"),
        ("files: {\"NAME\": {path: rows.jsonl}}", "test/../../../up"),
        ("files: {\"NAME\": {path: rows.jsonl}}", "train/a"),
        ("select: {dataset: rows, splits: {\"NAME\": {from: sft}}}", "../up"),
        ("contrast: {dataset: rows, kinds: [cut], splits: {\"NAME\": sft}}", "a.b/c"),
    ] {
        let place = Place::new(&format!(
            "stages:\n  rows: \
             {{uses: dataset, source: {{files: {{sft: {{path: rows.jsonl}}}}}}}}\n  bad:\n    \
             uses: dataset\n    source:\n      {}\n",
            source.replace("NAME", name)
        ));
        place.write("rows.jsonl", "{\"prompt\": \"p\", \"completion\": \" c\"}\n");
        let said = place.say(&["run", "p.yaml"]);
        assert_eq!(said.code, 2, "{name}: {}", said.err);
        assert!(
            said.err.contains("p.yaml:6:")
                && said.err.contains(&format!("`{name}` cannot name a split")),
            "{name}: {}",
            said.err
        );
        assert!(!place.path("cache").exists(), "{name}: nothing was run");
    }
}

#[test]
fn control_characters_in_names_are_refused_or_written_out() {
    let place = Place::new("stages:\n  \"a[x=\\e[31m]\": {uses: command, run: [touch, a]}\n");
    let said = place.say(&["run", "p.yaml"]);
    assert!(said.code == 2 && !said.err.contains('\u{1b}'), "{:?}", said.err);
    let place = Place::new(
        "params: {x: a}\nmatrix: {x: [\"\\e[2Jred\", b]}\nstages:\n  a: \
         {uses: command, run: [sh, -c, \"echo '${x}' | tee a >&2; exit 1\"]}\n",
    );
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1, "{:?}", said.err);
    assert!(!said.err.contains('\u{1b}') && said.err.contains("\\u{1b}[2Jred"), "{:?}", said.err);
    let said = place.say(&["run", "p.yaml", "--log", "json"]);
    assert!(!said.out.contains('\u{1b}'), "{:?}", said.out);
}

#[test]
fn a_program_that_fails_is_quoted_and_one_that_may_not_be_executed_is_explained() {
    let place = Place::new(
        "stages:\n  bad: {uses: command, run: [sh, -c, \"echo one; echo two >&2; exit 4\"]}\n",
    );
    let said = place.say(&["run", "p.yaml"]);
    assert!(
        said.code == 1
            && said.err.contains("exit status: 4; the last that it printed:\n    one\n    two"),
        "{}",
        said.err
    );
    let place = Place::new(
        "stages:\n  tool: \
         {uses: command, run: [sh, -c, \"printf '#!/bin/sh\\necho 1 > a\\n' > t; chmod +x t\"]}\n  \
         use: {uses: command, run: [sh, -c, \"$tool/t\"], inputs: {tool: tool}}\n  direct: \
         {uses: command, run: [\"{tool}/t\"], inputs: {tool: tool}}\n",
    );
    let said = place.say(&["run", "p.yaml", "use"]);
    assert!(said.code == 1 && said.err.contains("call an interpreter"), "{}", said.err);
}

/// A standard error that takes nothing, as on a full disk, for the run and for a node's process.
#[test]
fn a_log_that_cannot_be_written_changes_no_exit_code() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let place = Place::new("stages:\n  good: {uses: command, run: [sh, -c, \"echo 1 > a\"]}\n");
    let output =
        place.command(&["run", "p.yaml"]).stderr(full()).stdout(Stdio::piped()).output().unwrap();
    assert_eq!(said(output).code, 0);
    let place = Place::new("stages:\n  bad: {uses: command, run: [sh, -c, \"exit 4\"]}\n");
    let output =
        place.command(&["run", "p.yaml"]).stderr(full()).stdout(Stdio::piped()).output().unwrap();
    assert_eq!(said(output).code, 1);
    let output = place
        .command(&["run", "nowhere.yaml"])
        .env("POSTTRAIN_LOG", "debug")
        .stderr(full())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(said(output).code, 2);
    // The node's own process, of an order that it cannot read.
    std::fs::create_dir(place.path("work")).unwrap();
    let output = place
        .command(&["exec", "work"])
        .stderr(full())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let (told, reports) = (said(output), place.read("work/reports"));
    assert!(
        told.code == 3
            && reports.contains("\"event\":\"failed\"")
            && reports.contains("order.json"),
        "{} {reports}",
        told.code
    );
}

/// Whether the test can become a user who may have few processes and threads. Root has no such
/// limit, and becomes another user first.
fn can_limit_threads() -> bool {
    if !rustix::process::getuid().is_root() {
        mention("limits on threads: only root can become a user without other processes");
        return false;
    }
    let has = |tool: &str| {
        Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let tools = has("setpriv") && has("prlimit");
    if !tools {
        left_out("limits on threads: there is no setpriv or no prlimit (util-linux)");
    }
    tools
}

/// Copies the program into a place that every user may read and write.
fn opened(place: &Place) {
    std::fs::copy(env!("CARGO_BIN_EXE_posttrain"), place.path("posttrain")).unwrap();
    Command::new("chmod").args(["-R", "a+rwX"]).arg(place.path("")).status().unwrap();
}

/// The program as this user, who may have `limit` processes and threads in all.
fn limited(place: &Place, user: &str, limit: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "prlimit"]);
    command.args([&format!("--nproc={limit}"), "./posttrain"]).args(arguments);
    command.current_dir(place.path("")).stdin(Stdio::null());
    command
}

#[test]
fn every_command_that_needs_threads_ends_with_3_without_them() {
    if !can_limit_threads() {
        return;
    }
    let place = Place::new("stages:\n  a: {uses: command, run: [touch, a]}\n");
    std::fs::create_dir(place.path("model")).unwrap();
    for file in std::fs::read_dir(fixture().path("policy")).unwrap().flatten() {
        std::fs::copy(file.path(), place.path("model").join(file.file_name())).unwrap();
    }
    place.write("rows.jsonl", "{\"tokens\": [1, 2, 3]}\n");
    place.write("samples.jsonl", "{\"prompt\": \"a\", \"text\": \"b c\"}\n");
    opened(&place);
    let user = (60_321 + std::process::id() % 5000).to_string();
    let rows = ["--model", "model", "--input", "rows.jsonl"];
    let with_rows = |command: &'static str| [&[command], &rows[..]].concat();
    let commands: Vec<Vec<&str>> = vec![
        vec!["run", "p.yaml"],
        vec!["plan", "p.yaml"],
        vec!["explain", "p.yaml", "a"],
        vec!["show", "p.yaml"],
        vec!["report", "p.yaml"],
        with_rows("score"),
        [&with_rows("generate")[..], &["--max-new-tokens", "4"]].concat(),
        with_rows("embed"),
        with_rows("classify"),
        vec!["diversity", "--input", "samples.jsonl"],
        vec!["serve", "model", "--port", "0"],
        vec!["bench", "kernels", "--quick"],
        vec!["doctor"],
    ];
    for command in &commands {
        let told = said(limited(&place, &user, 1, command).output().unwrap());
        assert_eq!(told.code, 3, "{command:?}: {}", told.err);
        assert!(
            told.err.contains("cannot start threads") && told.err.contains("ulimit -u"),
            "{command:?}: {}",
            told.err
        );
        assert!(!told.err.contains("panicked"), "{command:?}: {}", told.err);
    }
    for command in [&["stages"][..], &["ls"], &["gc"], &["graph", "p.yaml"]] {
        let told = said(limited(&place, &user, 1, command).output().unwrap());
        assert_eq!(told.code, 0, "{command:?} needs none: {}", told.err);
    }
    // With a few threads: it works, or says which it lacks.
    for limit in 2..=6 {
        for command in [&commands[5], &commands[6]] {
            let told = said(limited(&place, &user, limit, command).output().unwrap());
            let sound = told.code == 0 || told.code == 3 && told.err.contains("cannot start");
            assert!(sound, "{limit}: {command:?}: {} {}", told.code, told.err);
        }
        let mut serve = limited(&place, &user, limit, &commands[10]);
        let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It prints its address, or ends.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        let told = said(child.wait_with_output().unwrap());
        if let Some(status) = ended {
            assert_eq!(status.code(), Some(3), "{limit}: {line} {}", told.err);
            assert!(told.err.contains("cannot start"), "{limit}: {}", told.err);
        }
        assert!(!told.err.contains("panicked"), "{limit}: {}", told.err);
    }
}

#[test]
fn a_machine_without_threads_is_an_error_and_leaves_nobody_running() {
    if !can_limit_threads() {
        return;
    }
    let stage = |name: &str| {
        format!("  {name}: {{uses: command, run: [sh, -c, \"sleep 0.05; echo {name} > a\"]}}\n")
    };
    let place = Place::new(&format!("stages:\n{}", ["a", "b", "c"].map(stage).concat()));
    opened(&place);
    // A number that no other test uses: its processes are counted.
    let user = (54321 + std::process::id() % 5000).to_string();
    let (mut codes, mut ended_well) = (Vec::new(), false);
    for limit in 1..=24 {
        let arguments = ["run", "p.yaml", "--cache", "cache", "--threads", "3"];
        let told = said(limited(&place, &user, limit, &arguments).output().unwrap());
        assert!([0, 1, 2, 3].contains(&told.code), "limit {limit}: {} {}", told.code, told.err);
        assert!(
            !told.err.contains("panicked") && !told.err.contains("a bug"),
            "limit {limit}: {}",
            told.err
        );
        if told.code == 3 {
            assert!(
                told.err.contains("error") || told.err.contains("failed"),
                "limit {limit}: {}",
                told.err
            );
        }
        codes.push(told.code);
        let start = std::time::Instant::now();
        while processes_of(&user) > 0 {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "limit {limit}: a process is left running"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        ended_well |= told.code == 0;
        if ended_well {
            break;
        }
    }
    assert!(codes.contains(&3) && ended_well, "{codes:?}");
}

fn processes_of(user: &str) -> usize {
    use std::os::unix::fs::MetadataExt;
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|metadata| metadata.uid().to_string() == user && metadata.is_dir())
        })
        .count()
}
