//! `tests/gpu/check`, the command for a machine with a GPU, on the emulated device: that it runs,
//! and that it can fail.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::emulated::{build, compiler_is_there};
use super::pipeline::SMALL;

/// Tests of each kind: of the back end in both types, and of kernels with every sort of
/// asynchronous copy.
const TESTS: [&str; 5] = [
    "cuda::ops::swiglu",
    "cuda::bf16::rotary",
    "cuda::kernels::a_bias_gradient",
    "cuda::hopper::every_tile_of_hoppers",
    "cuda::kernels::attention_in_bf16",
];

/// Whether everything that the command needs is there.
fn tools_are_there() -> bool {
    let python = Command::new("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !python {
        let required =
            std::env::var("POSTTRAIN_TESTS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(!required, "there is no python3, and POSTTRAIN_TESTS_REQUIRE_TOOLS=1 asks for it");
        eprintln!("skipped: there is no python3 to run tests/gpu/check with");
    }
    python && compiler_is_there()
}

/// The command with the emulator where the dynamic linker looks: exit code, what it wrote, what it
/// said.
fn check(folder: &Path, tests: &[&str], arguments: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/check"));
    command
        .arg("--suite")
        .arg(std::env::current_exe().unwrap())
        .args(["--program", env!("CARGO_BIN_EXE_posttrain")]);
    command
        .args(tests.iter().flat_map(|test| ["--tests", test]))
        .args(arguments)
        .current_dir(folder)
        .env_remove("POSTTRAIN_TESTS_RECORD");
    if !arguments.contains(&"--record") {
        command.env("LD_LIBRARY_PATH", build("plain", None));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read(folder.join("gpu-check/check.json"))
        .ok()
        .map(|bytes| serde_json::from_slice(&bytes).unwrap());
    (output.status.code().unwrap(), report.unwrap_or_default(), said)
}

#[test]
fn the_command_for_a_gpu_runs_whole_on_the_emulated_device() {
    if !tools_are_there() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (code, _, said) = check(folder.path(), &TESTS, &["--record", "emulated"]);
    assert_eq!(code, 0, "{said}");
    let mut arguments =
        vec!["--emulated", "emulated", "--quick", "--seconds", "0.01", "--patience", "9"];
    SMALL.iter().for_each(|set| arguments.extend(["--set", set]));
    let (code, report, said) = check(folder.path(), &TESTS, &arguments);
    assert_eq!(code, 0, "{said}");
    let parts = &report["parts"];
    for part in [
        "doctor",
        "operations",
        "emulator",
        "pipeline",
        "kernels",
        "train 124M",
        "train 7B",
        "generate 1.3B",
        "ppo 7B",
    ] {
        assert_eq!(parts[part]["state"], "ok", "{part}: {said}");
    }
    assert_eq!(parts["operations"]["passed"], 5);
    // One emulator gives the same bits twice, checked or not.
    assert!(
        parts["emulator"]["outputs"].as_u64().unwrap() > 100
            && parts["emulator"]["same bits"] == parts["emulator"]["outputs"],
        "{said}"
    );
    for part in ["kernels yardstick", "train yardstick"] {
        assert!(
            ["skipped", "failed", "ok"].contains(&parts[part]["state"].as_str().unwrap()),
            "{said}"
        );
        assert!(said.contains(part), "{said}");
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
fn the_command_for_a_gpu_fails_where_the_device_gives_other_numbers_or_is_not_there() {
    if !tools_are_there() {
        return;
    }
    let (folder, tests) = (tempfile::tempdir().unwrap(), ["cuda::ops::swiglu"]);
    assert_eq!(check(folder.path(), &tests, &["--record", "emulated"]).0, 0);
    let record = folder.path().join("emulated/cuda.ops.swiglu_has_the_bits_of_the_cpu.tsv");
    let text = std::fs::read_to_string(&record).unwrap();
    // The last number of the last output becomes 1.0.
    std::fs::write(&record, format!("{}3f800000\n", &text[..text.len() - 9])).unwrap();
    let only = ["--emulated", "emulated", "--only", "operations", "--only", "emulator"];
    let (code, report, said) = check(folder.path(), &tests, &only);
    assert_eq!(
        (code, &report["parts"]["operations"]["state"], &report["parts"]["emulator"]["state"]),
        (1, &"ok".into(), &"failed".into()),
        "{said}"
    );
    assert!(said.contains("apart by"), "{said}");
    let (code, report, said) =
        check(folder.path(), &tests, &["--only", "doctor", "--only", "operations", "--index", "7"]);
    assert_eq!(
        (code, &report["parts"]["doctor"]["state"], &report["parts"]["operations"]["state"]),
        (1, &"failed".into(), &"failed".into()),
        "{said}"
    );
    assert!(said.contains("there is no CUDA device 7"), "{said}");
}
