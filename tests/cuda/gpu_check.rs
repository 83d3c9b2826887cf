//! `tests/gpu/check`, the command for a machine with a GPU, on the emulated device: that it needs
//! no compiler there, that it runs whole, and that a part that hangs, fails or is killed takes no
//! other part's results with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use posttrain::backend::cuda::{PREPARED, prepare};
use serde_json::Value;

use super::emulated::{build, compiler_is_there};
use super::pipeline::SMALL;
use crate::tools::left_out;

/// Tests of each kind: of the back end in both types, and of kernels with every sort of
/// asynchronous copy.
const TESTS: [&str; 5] = [
    "cuda::ops::swiglu",
    "cuda::bf16::rotary",
    "cuda::kernels::a_bias_gradient",
    "cuda::hopper::every_tile_of_hoppers",
    "cuda::kernels::attention_in_bf16",
];

/// Tests of this file that are what the command must cope with, where a variable asks for that.
const HANGS: &str = "cuda::gpu_check::hangs_where_that_is_asked_for";
const FAILS: &str = "cuda::gpu_check::fails_where_that_is_asked_for";

/// Asks for a test that does not end: the file to which it writes the number of its process.
const HANG: &str = "POSTTRAIN_TESTS_HANG";
/// Asks for a test that fails.
const FAIL: &str = "POSTTRAIN_TESTS_FAIL";
/// The folder in which machine code is to be made, and for which architecture.
const PREPARE: &str = "POSTTRAIN_TESTS_PREPARE";
const ARCHITECTURE: &str = "POSTTRAIN_TESTS_ARCHITECTURE";

#[test]
fn machine_code_is_made_beforehand() {
    let Some(folder) = std::env::var_os(PREPARE).map(PathBuf::from) else { return };
    let architecture = std::env::var(ARCHITECTURE).unwrap();
    println!("{} modules", prepare(&folder, &architecture).unwrap());
}

#[test]
fn hangs_where_that_is_asked_for() {
    let Some(path) = std::env::var_os(HANG) else { return };
    std::fs::write(path, std::process::id().to_string()).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn fails_where_that_is_asked_for() {
    assert!(std::env::var_os(FAIL).is_none(), "as was asked for");
}

/// Whether everything that the command needs is there.
fn tools_are_there() -> bool {
    let there = |tool: &str| {
        Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let missing = ["python3", "strip"].into_iter().find(|tool| !there(tool));
    if let Some(tool) = missing {
        left_out(&format!("there is no {tool}, which tests/gpu/check needs"));
    }
    missing.is_none() && compiler_is_there()
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/check");

/// The folder to carry, made once, and what was said; `None` where a tool is missing.
fn prepared() -> Option<&'static (PathBuf, String)> {
    static FOLDER: OnceLock<Option<(PathBuf, String)>> = OnceLock::new();
    let make = || {
        if !tools_are_there() {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gpu-check");
        let mut command = Command::new(SCRIPT);
        command.arg("--prepare").arg(&folder).arg("--suite").arg(std::env::current_exe().unwrap());
        command.args(["--program", env!("CARGO_BIN_EXE_posttrain")]);
        command.args([HANGS, FAILS].iter().chain(&TESTS).flat_map(|test| ["--tests", test]));
        command.env("LD_LIBRARY_PATH", build("plain", None)).env_remove("POSTTRAIN_TESTS_RECORD");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Some((folder, said))
    };
    FOLDER.get_or_init(make).as_ref()
}

/// A run of the folder to carry: where it writes, and what the linker finds there.
struct Machine {
    place: tempfile::TempDir,
    folder: PathBuf,
}

impl Machine {
    /// One with the emulated driver and no compiler.
    fn with(folder: &Path) -> Machine {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("libraries")).unwrap();
        let driver = build("plain", None).join("libcuda.so");
        let link = place.path().join("libraries/libcuda.so");
        std::os::unix::fs::symlink(driver, link).unwrap();
        Machine { place, folder: folder.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The command that runs there.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.join("check"));
        command
            .arg(&self.folder)
            .args(arguments)
            .current_dir(self.place.path())
            .env("LD_LIBRARY_PATH", self.path("libraries"))
            .env_remove("POSTTRAIN_TESTS_RECORD");
        for variable in ["CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
            command.env_remove(variable);
        }
        command
    }

    /// What is written so far.
    fn report(&self) -> Option<Value> {
        let bytes = std::fs::read(self.path("gpu-check/check.json")).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// Runs it to its end: exit code, what it wrote, what it said.
    fn run(&self, arguments: &[&str], settings: &[(&str, &Path)]) -> (i32, Value, String) {
        let output = self.command(arguments).envs(settings.iter().copied()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        let report = self.report().unwrap_or_else(|| panic!("there is no report: {said}"));
        (output.status.code().unwrap(), report, said)
    }
}

fn state<'a>(report: &'a Value, part: &str) -> &'a str {
    report["parts"][part]["state"].as_str().unwrap_or("absent")
}

#[test]
fn the_command_for_a_gpu_runs_whole_on_the_emulated_device() {
    let Some((folder, said)) = prepared() else { return };
    assert!(said.contains("modules") && said.contains("MiB, of 64"), "{said}");
    let machine = Machine::with(folder);
    let mut arguments =
        vec!["--quick", "--seconds", "0.01", "--patience", "20", "--minutes", "170"];
    SMALL.iter().for_each(|set| arguments.extend(["--set", set]));
    let (code, report, said) = machine.run(&arguments, &[]);
    assert_eq!(code, 0, "{said}");
    let parts = &report["parts"];
    for part in [
        "doctor",
        "emulator",
        "pipeline",
        "kernels",
        "train 124M",
        "train 7B",
        "generate 1.3B",
        "ppo 7B",
    ] {
        assert_eq!(state(&report, part), "ok", "{part}: {said}");
    }
    for test in TESTS {
        assert_eq!((state(&report, test), &parts[test]["passed"]), ("ok", &1.into()), "{said}");
    }
    // One emulator gives the same bits twice, checked or not.
    assert!(
        parts["emulator"]["outputs"].as_u64().unwrap() > 100
            && parts["emulator"]["same bits"] == parts["emulator"]["outputs"],
        "{said}"
    );
    for part in ["kernels yardstick", "train yardstick"] {
        assert!(["skipped", "failed", "ok"].contains(&state(&report, part)), "{part}: {said}");
    }
    let rows = report["rows"].as_array().unwrap();
    for what in [
        "copy",
        "linear",
        "attention_backward",
        "adamw",
        "training step",
        "decode step",
        "ppo step",
    ] {
        let row = rows
            .iter()
            .find(|row| row["what"] == what)
            .unwrap_or_else(|| panic!("{what} was measured: {said}"));
        assert!(row["seconds"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_part_that_hangs_is_cut_one_that_fails_is_named_and_the_rest_runs() {
    let Some((folder, _)) = prepared() else { return };
    let machine = Machine::with(folder);
    let only = ["doctor", HANGS, FAILS, TESTS[0]].map(|part| ["--only", part]).concat();
    let arguments = [&only[..], &["--limit", "5", "--alone", "2"]].concat();
    let hang = machine.path("hang");
    let settings = [(HANG, hang.as_path()), (FAIL, Path::new("1"))];
    let begun = Instant::now();
    let (code, report, said) = machine.run(&arguments, &settings);
    assert!(begun.elapsed() < Duration::from_secs(120), "a hang is cut at its limit");
    assert_eq!(code, 1, "{said}");
    let parts = &report["parts"];
    assert_eq!(state(&report, "doctor"), "ok", "{said}");
    assert_eq!((state(&report, HANGS), state(&report, FAILS)), ("cut", "failed"), "{said}");
    assert!(parts[TESTS[1]].is_null() && parts["pipeline"].is_null(), "{said}");
    assert_eq!(parts[HANGS]["unfinished"], serde_json::json!([HANGS]));
    assert_eq!(parts[FAILS]["failures"], serde_json::json!([FAILS]));
    assert_eq!(state(&report, TESTS[0]), "ok", "{said}");
    // In separate processes, once more.
    let alone = &parts["alone"]["tests"];
    assert_eq!((&alone[HANGS], &alone[FAILS]), (&"cut".into(), &"failed".into()), "{said}");
    assert!(said.contains(&format!("{HANGS} did not end")), "{said}");
    assert!(said.contains(&format!("{FAILS} FAILED")), "{said}");
    assert!(said.contains("1 cut"), "{said}");
}

/// Waits until something is so.
fn await_that(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to the command.
fn signal(child: &Child, name: &str) {
    let number = child.id().to_string();
    assert!(Command::new("kill").args([name, &number]).status().unwrap().success());
}

#[test]
fn a_run_that_is_killed_leaves_its_results_and_no_process() {
    let Some((folder, _)) = prepared() else { return };
    for (name, word) in [("-KILL", "running"), ("-TERM", "cut")] {
        let machine = Machine::with(folder);
        let hang = machine.path("hang");
        let mut command = machine.command(&["--limit", "100"]);
        let mut child =
            command.env(HANG, &hang).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        await_that("the test that hangs begins", || {
            std::fs::read_to_string(&hang).is_ok_and(|text| !text.is_empty())
        });
        signal(&child, name);
        let status = child.wait().unwrap();
        assert!(!status.success());
        let report = machine.report().unwrap();
        assert_eq!((state(&report, "doctor"), state(&report, HANGS)), ("ok", word), "{report}");
        if name == "-TERM" {
            assert_eq!((status.code(), state(&report, "rest")), (Some(1), "not run"), "{report}");
        }
        let process = format!("/proc/{}", std::fs::read_to_string(&hang).unwrap());
        await_that("the test that hangs is killed too", || !Path::new(&process).exists());
    }
}

#[test]
fn the_command_fails_where_the_device_gives_other_numbers_or_is_not_there() {
    let Some((folder, _)) = prepared() else { return };
    // A folder with another record, whose last number of the last output is 1.0.
    let other = tempfile::tempdir().unwrap();
    for name in ["check", "yardsticks.py", "smoke.yaml"] {
        std::fs::copy(folder.join(name), other.path().join(name)).unwrap();
    }
    std::fs::write(
        other.path().join("plan.json"),
        serde_json::json!({"commit": "unknown", "suites": {
            TESTS[0]: ["cuda::ops::swiglu_has_the_bits_of_the_cpu"],
        }})
        .to_string(),
    )
    .unwrap();
    let unpacked = other.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = |arguments: &[&str]| {
        let mut command = Command::new("tar");
        assert!(command.args(arguments).current_dir(&unpacked).status().unwrap().success());
    };
    tar(&["xzf", folder.join("payload.tar.gz").to_str().unwrap()]);
    let record = unpacked.join("emulated/cuda.ops.swiglu_has_the_bits_of_the_cpu.tsv");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, format!("{}3f800000\n", &text[..text.len() - 9])).unwrap();
    tar(&["cf", "../payload.tar.gz", "posttrain", "suite", "kernels", "emulated"]);
    let machine = Machine::with(other.path());
    let (code, report, said) = machine.run(&["--only", "suites", "--only", "emulator"], &[]);
    assert_eq!(
        (code, state(&report, TESTS[0]), state(&report, "emulator")),
        (1, "ok", "failed"),
        "{said}"
    );
    assert!(said.contains("apart by"), "{said}");
    let only = ["--only", "doctor", "--only", "suites", "--index", "7"];
    let (code, report, said) = machine.run(&only, &[]);
    assert_eq!(
        (code, state(&report, "doctor"), state(&report, TESTS[0])),
        (1, "failed", "failed"),
        "{said}"
    );
    assert!(said.contains("there is no CUDA device 7"), "{said}");
    // Machine code of another program is refused by name.
    let kernels = unpacked.join("kernels");
    for entry in std::fs::read_dir(&kernels).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name != PREPARED) {
            std::fs::remove_file(path).unwrap();
        }
    }
    tar(&["cf", "../payload.tar.gz", "posttrain", "suite", "kernels", "emulated"]);
    let (code, report, said) = machine.run(&["--only", "doctor"], &[]);
    assert_eq!((code, state(&report, "doctor")), (1, "failed"), "{said}");
    assert!(said.contains("was made beforehand, and has no machine code"), "{said}");
}

/// The suites of the command, as it lists them.
fn listed() -> Vec<String> {
    let script = std::fs::read_to_string(SCRIPT).unwrap();
    let table = script.split_once("\nSUITES = {\n").unwrap().1.split_once("\n}").unwrap().0;
    table.lines().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn every_file_of_tests_that_runs_on_a_device_is_a_suite_of_the_command() {
    let listed = listed();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda");
    // What opens a device for others.
    let shared = ["agree", "emulated", "gpu_check", "launched"];
    let mut missing = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let opens = ["cuda()", "cuda_bf16()", "Emulator::open()"];
        let runs = opens.iter().any(|word| text.contains(word)) && text.contains("#[test]");
        if runs && !shared.contains(&stem.as_str()) && !listed.contains(&format!("cuda::{stem}::"))
        {
            missing.push(stem);
        }
    }
    assert!(missing.is_empty() && listed.len() > 9, "{missing:?} {listed:?}");
}

#[test]
fn the_limits_of_all_parts_add_up_to_less_than_eight_minutes() {
    if !tools_are_there() {
        return;
    }
    let text = format!(
        "script = {{'__name__': 'check', '__file__': {SCRIPT:?}}}\n\
         exec(open({SCRIPT:?}).read(), script)\n\
         print(script['total'](script['SUITES']), script['MINUTES'] * 60 - script['REPORT'])"
    );
    let output = Command::new("python3").args(["-c", &text]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers[0] <= numbers[1] && numbers[1] < 480.0, "{said}");
}
