//! The places that may use some words of code: files, clocks, processes, devices, model families,
//! printing, `unsafe`.

use super::source::{File, word};
use super::{files, none};

/// Words of code and the only places that may use them.
struct Rule {
    /// Any of these.
    words: &'static [&'static str],
    /// The only places; a folder ends in `/`.
    only: &'static [&'static str],
}

/// Words of code and the places that must not use them.
struct Ban {
    words: &'static [&'static str],
    never: &'static [&'static str],
}

const RULES: &[Rule] = &[
    // Clocks: no byte of an artefact depends on time. Stages use their context. A stage waits
    // for its program, clients of the hub and of endpoints wait for answers, and a server limits
    // the wait for its clients.
    Rule {
        words: &["std::time", "Instant", "SystemTime"],
        only: &[
            "src/dag/",
            "src/cli/",
            "src/stages/program.rs",
            "src/stages/sandbox.rs",
            "src/stages/rewards/command.rs",
            "src/hub/client.rs",
            "src/endpoint/client.rs",
            "src/remote/",
            "src/serve/",
        ],
    },
    // Processes: the runner, the node's own side, and what runs a program of the user's.
    Rule {
        words: &["std::process", "rustix::process"],
        only: &[
            "src/dag/process.rs",
            "src/dag/exec.rs",
            "src/dag/lock.rs",
            "src/dag/processes.rs",
            "src/dag/cluster/attend.rs",
            "src/dag/cluster/run_command.rs",
            "src/cli/",
            "src/stages/program.rs",
            "src/stages/sandbox.rs",
            "src/stages/rewards/command.rs",
            "src/main.rs",
        ],
    },
    // The environment: where the store is, what a command is given, where relative paths of an
    // option start, which hub is meant, keys, where CUDA's libraries are.
    Rule {
        words: &["std::env", "env::var", "env::var_os"],
        only: &[
            "src/dag/store.rs",
            "src/cli/",
            "src/stages/program.rs",
            "src/stages/sandbox.rs",
            "src/pipeline/overrides.rs",
            "src/hub/settings.rs",
            "src/endpoint/client.rs",
            "src/backend/cuda/libraries.rs",
            "src/backend/cuda/code.rs",
            "src/base/limits.rs",
        ],
    },
    // Printing. A node's process writes its log in a way that a full disk does not break.
    Rule { words: &["println!", "eprintln!", "print!", "eprint!"], only: &["src/cli/"] },
    // Files: `fs` names the path in every error. Locks, logs and stats are the engine's own;
    // tensors are read by position.
    Rule {
        words: &["std::fs"],
        only: &["src/base/fs/", "src/dag/", "src/model/tensors.rs", "src/pipeline/typed.rs"],
    },
    // What is written is whole or absent, in one way.
    Rule { words: &["tempfile"], only: &["src/base/fs/"] },
    // Devices: one place picks one.
    Rule { words: &["backend::cpu", "Cpu"], only: &["src/backend/", "src/device/"] },
    // Products of activations and weights: one file of the model makes them all, so that an adapter
    // is one edit.
    Rule {
        words: &[
            ".linear(",
            ".linear_with(",
            ".linears(",
            ".linear_backward_input(",
            ".linear_backward_input_first(",
            ".linear_backward_weight(",
        ],
        only: &["src/backend/", "src/bench/", "src/model/linear.rs"],
    },
    // Instructions picked at run time; a job on the stack that other threads read; calls of CUDA's
    // libraries; a setting of a child process before it starts.
    Rule {
        words: &["unsafe"],
        only: &[
            "src/backend/cpu/simd.rs",
            "src/backend/cpu/vector.rs",
            "src/backend/cpu/pool.rs",
            "src/backend/cuda/context.rs",
            "src/backend/cuda/device.rs",
            "src/backend/cuda/function.rs",
            "src/backend/cuda/pinned.rs",
            "src/backend/cuda/compiler.rs",
            "src/backend/cuda/cublaslt.rs",
            "src/backend/cuda/queue.rs",
            "src/backend/cuda/libraries.rs",
            "src/stages/program.rs",
            "src/stages/sandbox.rs",
        ],
    },
    Rule {
        words: &["cudarc"],
        only: &[
            "src/backend/cuda/context.rs",
            "src/backend/cuda/device.rs",
            "src/backend/cuda/fault.rs",
            "src/backend/cuda/function.rs",
            "src/backend/cuda/pinned.rs",
            "src/backend/cuda/compiler.rs",
            "src/backend/cuda/cublaslt.rs",
            "src/backend/cuda/queue.rs",
        ],
    },
    Rule { words: &["backend::cuda", "Cuda"], only: &["src/backend/", "src/device/"] },
    Rule {
        words: &["std::arch"],
        only: &["src/backend/cpu/vector.rs", "src/backend/cpu/number.rs"],
    },
    // Random numbers come from `random`, by counter. A hasher of the standard library has a random
    // seed. A secret key must not be predictable.
    Rule {
        words: &["rand", "getrandom", "RandomState", "DefaultHasher", "thread_rng"],
        only: &["src/remote/keys.rs"],
    },
    Rule { words: &["todo!", "unimplemented!", "dbg!"], only: &[] },
];

const BANS: &[Ban] = &[
    // The back end is arithmetic on buffers. The machine code of CUDA kernels is kept in a folder
    // that it is given.
    Ban {
        words: &["std::fs", "std::io", "serde", "serde_json", "tracing", "HashMap", "HashSet"],
        never: &["src/backend/"],
    },
    Ban {
        words: &["std::path", "crate::fs"],
        never: &[
            "src/backend/cpu/",
            "src/backend/ops/",
            "src/backend/buffers.rs",
            "src/backend/lib.rs",
            "src/backend/losses.rs",
            "src/backend/shapes.rs",
        ],
    },
    // RLHF arithmetic and measures are pure functions on slices.
    Ban {
        words: &["std::fs", "std::io", "std::path", "Backend"],
        never: &["src/rl/", "src/eval/", "src/report/"],
    },
    // The engine is independent of machine learning.
    Ban {
        words: &[
            "token",
            "tokens",
            "tensor",
            "policy",
            "reward",
            "model",
            "gradient",
            "safetensors",
            "tokenizers",
        ],
        never: &["src/dag/"],
    },
    // Bytes do not depend on the order of a hash map: where models and training states are made
    // there is none.
    Ban {
        words: &["HashMap", "HashSet"],
        never: &["src/model/", "src/train/", "src/sample/", "src/rl/", "src/stages/"],
    },
];

/// Words of model families, in code and in texts: beginnings of names, without regard to case.
const FAMILIES: &[&str] = &[
    "llama", "mistral", "qwen", "gpt2", "gpt_", "gpt-", "neox", "pythia", "gemma", "smollm",
    "bert", "opt-", "phi-", "falcon",
];
/// The places that may name one: the families themselves, and the tokenizer classes of older
/// repositories, whose names contain families.
const NAMES_FAMILIES: [&str; 3] =
    ["src/model/arch/", "src/tokenizer/classes.rs", "src/tokenizer/legacy_tokenizers.rs"];

fn mentions(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut look = |file: &File, words: &[&str], why: &str| {
        for wanted in words {
            findings.extend(
                word(&file.code, wanted).map(|at| format!("{}: `{wanted}` {why}", file.place(at))),
            );
        }
    };
    for file in files {
        for rule in RULES.iter().filter(|rule| !file.is_in(rule.only)) {
            look(file, rule.words, &format!("may be used in {:?} only", rule.only));
        }
        for ban in BANS.iter().filter(|ban| file.is_in(ban.never)) {
            look(file, ban.words, &format!("must not be used in {:?}", ban.never));
        }
    }
    findings
}

fn families(files: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.is_in(&NAMES_FAMILIES)) {
        // The name of a file that sentence encoders of any family have.
        let text = file
            .literal
            .to_ascii_lowercase()
            .replace("sentence_bert_config", "sentence_encoder_cfg");
        for family in FAMILIES {
            for (at, _) in text.match_indices(family) {
                let inside = text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
                findings.extend(
                    (!inside)
                        .then(|| format!("{}: `{family}` names a model family", file.place(at))),
                );
            }
        }
    }
    findings
}

/// Every `unsafe` block or function without a comment on why it is sound, or on its conditions for
/// the caller.
fn unexplained(file: &File) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    for at in word(&file.code, "unsafe") {
        let line = file.text[..at].matches('\n').count();
        let above = lines[..line]
            .iter()
            .rev()
            .map(|line| line.trim())
            .take_while(|line| line.starts_with("//") || line.starts_with("#["));
        if !above.into_iter().any(|line| line.starts_with("// SAFETY: ") || line == "/// # Safety")
        {
            findings.push(format!(
                "{}: add a comment above it on why it is sound (`// SAFETY: …`)",
                file.place(at)
            ));
        }
    }
    findings
}

#[test]
fn clocks_processes_devices_printing_and_unsafe_are_where_they_belong() {
    // A build script is no part of the program.
    let mut files = files(&["src"]);
    files.retain(|file| !file.path.ends_with("/build.rs"));
    none(mentions(&files));
}

#[test]
fn only_arch_names_a_model_family() {
    none(families(&files(&["src"])));
}

#[test]
fn every_unsafe_is_explained() {
    let files = files(&["src"]);
    assert!(files.iter().any(|file| word(&file.code, "unsafe").next().is_some()));
    none(files.iter().flat_map(unexplained).collect());
}

#[test]
fn a_word_out_of_place_is_found() {
    let found = |path: &str, text: &str| mentions(&[File::new(path, text.into())]).len();
    assert_eq!(found("src/model/a.rs", "use std::time::Duration; // Instant"), 1);
    assert_eq!(
        found("src/dag/a.rs", "use std::time::Duration; fn f() { g(model, \"model\"); }"),
        1
    );
    assert_eq!(found("src/backend/cpu/a.rs", "fn f() { std::io::sink(); println!() }"), 2);
    assert_eq!(found("src/stages/sft.rs", "use crate::backend::cpu::Cpu;"), 2);
    assert_eq!(
        found("src/device/open.rs", "use crate::backend::cpu::Cpu; fn f() { println!(\"Cpu\") }"),
        1
    );
    assert_eq!(found("src/model/a.rs", "fn f() { b.linear(x); layer.forward(x) }"), 1);
    assert_eq!(found("src/model/linear.rs", "fn f() { b.linear(x) }"), 0);
    assert_eq!(found("src/rl/kl.rs", "fn f() -> usize { remodel + unsafely } // unsafe"), 0);
    assert_eq!(
        families(&[File::new(
            "src/model/spec.rs",
            "// LLaMA\nfn f() { is(\"Llama2\"); Gpt2Norm }".into()
        )])
        .len(),
        2
    );
    assert_eq!(families(&[File::new("src/model/arch/llama.rs", "fn llama() {}".into())]).len(), 0);
    let explained = |text: &str| unexplained(&File::new("src/a.rs", text.into())).is_empty();
    assert!(!explained("// it is fine\nunsafe { f() }"));
    assert!(explained("// SAFETY: it is.\n#[cfg(x)]\nunsafe { f() }"));
}
