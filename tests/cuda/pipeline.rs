//! The shipped program with `--device cuda` on the emulated device: a whole study, a command on
//! rows, what a missing driver is called.

use std::path::Path;

use serde_json::{Value, json};

use super::emulated::{build, compiler_is_there};
use crate::cli::place::{Place, Said, said};

/// The smoke study, as small as it goes: a kernel runs on an emulated device as long as a study on
/// the CPU.
pub const SMALL: &[&str] = &[
    "notes=4",
    "posts=4",
    "sft_rows=4",
    "preference_posts=3",
    "prompts=4",
    "test_rows=2",
    "vocabulary=500",
    "width=8",
    "layers=1",
    "heads=1",
    "feed_forward=12",
    "ppo_steps=1",
    "ppo_batch=3",
    "max_new_tokens=3",
    "best_of=2",
    "diversity_inputs=1",
    "diversity_samples=2",
];

/// The program with the emulator's folder where the dynamic linker looks.
fn on_emulator(place: &Place, libraries: &Path, arguments: &[&str]) -> Said {
    said(place.command(arguments).env("LD_LIBRARY_PATH", libraries).output().unwrap())
}

fn small(command: &str) -> Vec<&str> {
    SMALL.iter().fold(vec![command, "p.yaml"], |mut all, set| {
        all.extend(["--set", set]);
        all
    })
}

#[test]
fn a_whole_study_runs_on_the_device_and_shares_what_computes_on_none() {
    if !compiler_is_there() {
        return;
    }
    let libraries = build("plain", None);
    let place = Place::new(include_str!("../../pipelines/smoke.yaml"));
    let run = on_emulator(&place, &libraries, &[&small("run")[..], &["--device", "cuda"]].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.contains("ppo") && run.out.contains("gold"), "{}", run.out);
    // What an H100 would have compiled is in the cache.
    assert!(std::fs::read_dir(place.path("cache/kernels")).unwrap().count() > 3);
    let states_with = |libraries: &Path, device: &[&str]| -> Vec<(String, String)> {
        let plan = on_emulator(
            &place,
            libraries,
            &[&small("plan")[..], &["--json", "--device"], device].concat(),
        );
        let plan: Value = serde_json::from_str(&plan.out).unwrap();
        let word = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
        plan["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| (word(step, "name"), word(step, "state")))
            .collect()
    };
    let states = |device: &[&str]| states_with(&libraries, device);
    assert!(states(&["cuda:0"]).iter().all(|(_, state)| state == "cached"));
    let on_host = |name: &str| ["world", "tokenizer", "judge_world"].contains(&name);
    // Another build of the compiler may make other code: nothing that was computed by the first one
    // is taken for its own.
    let other = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(libraries.join("libcuda.so"), other.path().join("libcuda.so"))
        .unwrap();
    let mut compiler = std::fs::read(libraries.join("libnvrtc.so")).unwrap();
    compiler.push(0);
    std::fs::write(other.path().join("libnvrtc.so"), compiler).unwrap();
    for (name, state) in states_with(other.path(), &["cuda:0"]) {
        assert_eq!(state == "cached", on_host(&name), "another compiler: {name} is {state}");
    }
    // `auto` takes the device that is there, which stores bf16.
    assert!(
        states(&["auto", "--dtype", "bf16", "--gemm", "hopper"])
            .iter()
            .all(|(_, state)| state == "cached")
    );
    for other in [
        &["cpu"][..],
        &["cuda", "--dtype", "f32"],
        &["cuda", "--gemm", "plain"],
        &["cuda", "--gemm", "cublaslt"],
    ] {
        for (name, state) in states(other) {
            assert_eq!(state == "cached", on_host(&name), "{other:?}: {name} is {state}");
        }
    }
    let said = on_emulator(
        &place,
        &libraries,
        &[&small("plan")[..], &["--device", "cpu", "--gemm", "hopper"]].concat(),
    );
    assert!(
        said.code == 2
            && said.err.contains("the CPU has one way to multiply")
            && said.err.contains("hint:"),
        "{}",
        said.err
    );
    let said =
        on_emulator(&place, &libraries, &[&small("plan")[..], &["--gemm", "cublas"]].concat());
    assert!(
        said.code == 2 && said.err.contains("expected auto, plain, hopper or cublaslt"),
        "{}",
        said.err
    );
    let said = on_emulator(
        &place,
        &libraries,
        &[&small("plan")[..], &["--device", "cpu", "--dtype", "bf16"]].concat(),
    );
    assert!(
        said.code == 2
            && said.err.contains("the CPU computes in f32")
            && said.err.contains("hint:"),
        "{}",
        said.err
    );
}

#[test]
fn a_command_on_rows_gives_the_same_numbers_on_both_devices_but_for_rounding() {
    if !compiler_is_there() {
        return;
    }
    let (libraries, place) = (build("plain", None), Place::new(""));
    let model = format!("{}/tests/model/golden/llama", env!("CARGO_MANIFEST_DIR"));
    place.write(
        "rows.jsonl",
        &format!("{}\n{}\n", json!({"tokens": [1, 5, 9, 3]}), json!({"tokens": [7, 2]})),
    );
    let scores = |device: &str, dtype: &[&str]| -> Vec<f64> {
        let said = on_emulator(
            &place,
            &libraries,
            &[&["score", "--model", &model, "--input", "rows.jsonl", "--device", device], dtype]
                .concat(),
        );
        assert_eq!(said.code, 0, "{}", said.err);
        let rows = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.flat_map(|row| {
            row["logprobs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
    };
    let (cuda, cpu) = (scores("cuda", &["--dtype", "f32"]), scores("cpu", &[]));
    assert_eq!((cuda.len(), cuda == cpu), (4, false));
    assert!(cuda.iter().zip(&cpu).all(|(a, b)| (a / b - 1.0).abs() < 2e-5), "{cuda:?} {cpu:?}");
    let stored = scores("cuda", &[]);
    assert_eq!(stored, scores("cuda", &["--dtype", "bf16"]));
    // A number of bf16 is off by up to 2^-9; some dozen of them are between a token and its
    // logits.
    assert!(
        stored != cuda && stored.iter().zip(&cpu).all(|(a, b)| (a / b - 1.0).abs() < 24.0 / 512.0),
        "{stored:?} {cpu:?}"
    );
    assert_eq!(scores("cpu", &["--dtype", "f32"]), cpu);
    let said = on_emulator(
        &place,
        &libraries,
        &[
            "score",
            "--model",
            &model,
            "--input",
            "rows.jsonl",
            "--device",
            "cpu",
            "--dtype",
            "bf16",
        ],
    );
    assert!(said.code == 2 && said.err.contains("the CPU computes in f32"), "{}", said.err);
    let said = on_emulator(
        &place,
        &libraries,
        &[
            "score",
            "--model",
            &model,
            "--input",
            "rows.jsonl",
            "--device",
            "cuda",
            "--dtype",
            "f64",
        ],
    );
    assert_eq!(said.code, 2, "{}", said.err);
}

#[test]
fn a_kernel_that_does_not_compile_is_an_error_of_the_command_and_of_the_stage() {
    if !compiler_is_there() {
        return;
    }
    let libraries = build("plain", None);
    let place = Place::new(include_str!("../../pipelines/smoke.yaml"));
    place.write("rows.jsonl", "{\"tokens\": [1, 5]}\n");
    let model = format!("{}/tests/model/golden/llama", env!("CARGO_MANIFEST_DIR"));
    let broken = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        said(
            command
                .args(["--device", "cuda"])
                .env("LD_LIBRARY_PATH", &libraries)
                .env("EMULATOR_REFUSE", "norm")
                .output()
                .unwrap(),
        )
    };
    for (arguments, code) in
        [(vec!["score", "--model", &model, "--input", "rows.jsonl"], 101), (small("run"), 1)]
    {
        let said = broken(&arguments);
        assert_eq!(said.code, code, "{}", said.err);
        assert!(
            said.err.contains("NVRTC cannot compile norm.cu") && !said.err.contains("panicked"),
            "{}",
            said.err
        );
    }
}

#[test]
fn heads_that_are_too_wide_for_the_device_are_refused_before_anything_runs() {
    if !compiler_is_there() {
        return;
    }
    let libraries = build("plain", None);
    let place = Place::new(
        "\
stages:
  posts: {uses: dataset, source: {world: {seed: 1, notes: 4, pretrain: 12, sft: 4, compare: 3, prompts: 3, validation: 3, test: 3}}}
  base: {uses: model, path: wide}
  sft: {uses: sft, policy: base, dataset: posts, batch_size: 8, optimiser: {learning_rate: 1e-5}}
",
    );
    std::fs::create_dir(place.path("wide")).unwrap();
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": 32, "intermediate_size": 48, "head_dim": 288,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "vocab_size": 400, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false, "bos_token_id": 1,
        "eos_token_id": 2});
    place.write("wide/config.json", &config.to_string());
    place.write("rows.jsonl", "{\"tokens\": [1, 5]}\n");
    let refused = |arguments: &[&str], who: &str| {
        let said = on_emulator(&place, &libraries, &[arguments, &["--device", "cuda"]].concat());
        let what =
            format!("{who} has attention heads of 288 channels, and this device takes up to 256");
        assert!(
            said.code == 3
                && said.err.contains(&what)
                && said.err.contains("hint: add --device cpu"),
            "{} {}",
            said.code,
            said.err
        );
    };
    refused(&["plan", "p.yaml"], "base");
    refused(&["run", "p.yaml"], "base");
    assert!(place.objects().is_empty(), "nothing ran");
    refused(&["score", "--model", "wide", "--input", "rows.jsonl"], "wide");
    let said = on_emulator(&place, &libraries, &["plan", "p.yaml", "--device", "cpu"]);
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn without_a_driver_the_cpu_does_everything_and_the_device_is_missed_by_name() {
    let empty = tempfile::tempdir().unwrap();
    let place = Place::new("stages:\n  s: {uses: command, run: [sh, -c, 'echo a > a.txt']}\n");
    let alone = |arguments: &[&str]| on_emulator(&place, empty.path(), arguments);
    assert_eq!(alone(&["run", "p.yaml"]).code, 0);
    assert_eq!(alone(&["run", "p.yaml", "--device", "cpu"]).code, 0);
    let said = alone(&["run", "p.yaml", "--device", "cuda:99"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("CUDA") && said.err.contains("hint:"), "{}", said.err);
    let said = alone(&["run", "p.yaml", "--device", "gpu"]);
    assert!(
        said.code == 2 && said.err.contains("expected auto, cpu, cuda or cuda:N"),
        "{}",
        said.err
    );
}

#[test]
fn doctor_says_what_is_there_and_what_to_do_about_what_is_not() {
    let (empty, place) = (tempfile::tempdir().unwrap(), Place::new(""));
    let said = on_emulator(&place, empty.path(), &["doctor", "--device", "cpu"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(
        ["cpu instructions", "threads", "cache", "hub"].iter().all(|what| said.out.contains(what)),
        "{}",
        said.out
    );
    assert_eq!(on_emulator(&place, empty.path(), &["doctor", "--device", "cuda:99"]).code, 3);
    if !compiler_is_there() {
        return;
    }
    let said = on_emulator(&place, &build("plain", None), &["doctor", "--device", "cuda"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(
        [
            "cuda:0 device",
            "compute capability",
            "cuda bf16 hopper attention hopper sm_90",
            "cuda:0 nvrtc",
            "modules"
        ]
        .iter()
        .all(|what| said.out.contains(what)),
        "{}",
        said.out
    );
}
