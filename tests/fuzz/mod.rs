//! Foreign bytes: the corpus of every parser, and some mutations of each file of it. No parser may
//! panic, take long, or give an error of another kind than a mistake in the file. 2,000 mutations
//! of a file by default; `POSTTRAIN_FUZZ_CASES=100000` for a night.

#![expect(clippy::unwrap_used)]

mod targets;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use posttrain::random::{Sequence, Stream};

use targets::{TARGETS, Target};

/// The longest that one case may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many cases that go wrong are shown.
const FINDINGS: usize = 20;
/// Files whose names begin so must not be understood: they were faults once.
const BAD: &str = "bad-";

/// What is put into an input: parts of all formats, and numbers at the ends of their ranges.
const NOISE: [&[u8]; 40] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\0\0\0\0\0\0\0\x80",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"9223372036854775807",
    b"4294967295",
    b"1e999",
    b"1e-999",
    b"0.1",
    b"null",
    b"true",
    b"\"\"",
    b"[]",
    b"{}",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"(((((((((((((((((",
    b"\"",
    b"'",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b":",
    b",",
    b"${",
    b"{{",
    b"}}",
    b"{% ",
    b"\xc3",
    "\u{1f600}".as_bytes(),
];

/// The files of a target's corpus, by name.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    };
    let seeds =
        entries(&format!("corpus/{target}")).into_iter().map(read).collect::<BTreeMap<_, _>>();
    assert!(!seeds.is_empty(), "{target} has a corpus");
    seeds
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(folder);
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The files of a corpus and what is drawn from them.
struct Inputs {
    seeds: Vec<(String, Vec<u8>)>,
    stream: Stream,
}

impl Inputs {
    /// The input of a number, and what it is: first the files, then mutations of each in turn.
    fn of(&self, number: usize) -> (String, Vec<u8>) {
        let (name, seed) = &self.seeds[number % self.seeds.len()];
        if number < self.seeds.len() {
            return (name.clone(), seed.clone());
        }
        let mut draws = self.stream.sequence(number as u64);
        let mut bytes = seed.clone();
        for _ in 0..1 + draws.below(4) {
            self.mutate(&mut bytes, &mut draws);
        }
        (format!("mutation {number} of {name}"), bytes)
    }

    fn mutate(&self, bytes: &mut Vec<u8>, draws: &mut Sequence) {
        let at = draws.below(bytes.len() + 1);
        let end = (at + 1 + draws.below(16)).min(bytes.len());
        match draws.below(8) {
            0 if at < end => bytes[at] ^= 1 << draws.below(8),
            1 if at < end => bytes[at] = draws.bits() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let again = bytes[at..end].repeat(1 + draws.below(8));
                bytes.splice(at..at, again);
            }
            5 => drop(bytes.splice(at..end, draws.choose(&NOISE).iter().copied())),
            6 => drop(bytes.splice(at..at, draws.choose(&NOISE).iter().copied())),
            _ => {
                // A part of another file of the corpus.
                let (_, other) = draws.choose(&self.seeds);
                let from = draws.below(other.len() + 1);
                let to = (from + draws.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
}

/// Runs a target on its corpus and on mutations of it.
fn run(name: &str) {
    let (_, target): (_, Target) = *TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let mutations = std::env::var("POSTTRAIN_FUZZ_CASES").ok().and_then(|count| count.parse().ok());
    let seeds: Vec<(String, Vec<u8>)> = corpus(name).into_iter().collect();
    let cases = seeds.len() * (1 + mutations.unwrap_or(2000));
    let inputs = Arc::new(Inputs { seeds, stream: Stream::new(0, name) });
    let (done, ended) = channel();
    let worker = inputs.clone();
    std::thread::spawn(move || {
        for number in 0..cases {
            let (what, bytes) = worker.of(number);
            let understood = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            let wrong = match understood {
                Err(_) => Some("panics, as shown above"),
                // Of a file of the corpus it is known; of a mutation either is right.
                Ok(understood) if number < worker.seeds.len() => match what.starts_with(BAD) {
                    true => understood.then_some("is understood"),
                    false => (!understood).then_some("is not understood"),
                },
                Ok(_) => None,
            };
            // After a case that took too long there is no receiver.
            if done.send(wrong).is_err() {
                return;
            }
        }
    });
    let mut findings = Vec::new();
    for number in 0..cases {
        let answer = ended.recv_timeout(PATIENCE);
        if let Some(wrong) = answer.as_ref().map_or(Some("takes too long"), |wrong| *wrong) {
            let (what, bytes) = inputs.of(number);
            findings.push(format!("{name}: {what} {wrong}\nprintf '{}'", bytes.escape_ascii()));
        }
        if answer.is_err() || findings.len() == FINDINGS {
            break;
        }
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn chat_templates() {
    run("chat_template");
}

#[test]
fn configurations() {
    run("configuration");
}

#[test]
fn requests() {
    run("http");
}

#[test]
fn parquet_files() {
    run("parquet");
}

#[test]
fn pickles() {
    run("pickle");
}

#[test]
fn pipelines() {
    run("pipeline");
}

#[test]
fn entries_of_a_remote_cache() {
    run("remote_entry");
}

#[test]
fn lists_of_files_of_a_remote_cache() {
    run("remote_files");
}

#[test]
fn rows() {
    run("rows");
}

#[test]
fn safetensors_files() {
    run("safetensors");
}

#[test]
fn tables() {
    run("table");
}

#[test]
fn templates() {
    run("template");
}

#[test]
fn tokenizers() {
    run("tokenizer");
}

#[test]
fn archives() {
    run("zip");
}

/// A target without a program or a corpus is never searched.
#[test]
fn every_target_has_a_corpus_and_a_program() {
    let names = |folder: &str| -> Vec<String> {
        let mut names: Vec<String> = entries(folder)
            .iter()
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let targets = TARGETS.map(|(name, _)| name);
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let programs: Vec<&str> = manifest
        .split("[[bin]]\nname = \"")
        .skip(1)
        .filter_map(|program| program.split('"').next())
        .collect();
    assert_eq!(programs, targets);
}
