//! Models by name, fetched from a hub on a real socket: what is fetched, resumed, checked, refused,
//! and what does without the hub.

#![expect(clippy::unwrap_used)]

mod datasets;
mod failures;
mod fetching;
mod pipelines;
mod server;

use std::path::{Path, PathBuf};

use posttrain::error::{Kind, Result, kind_of};
use posttrain::hub::{Name, Progress, Settings, fetch, find};

use server::Server;

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_posttrain");

/// A hub, and a cache that is empty at first.
pub struct World {
    pub server: Server,
    home: tempfile::TempDir,
    pub settings: Settings,
    /// What was said, as text.
    pub said: std::cell::RefCell<Vec<String>>,
}

impl World {
    /// A hub that holds nothing.
    pub fn new() -> Self {
        let (server, home) = (Server::start(), tempfile::tempdir().unwrap());
        let settings = Settings {
            cache: home.path().join("hub"),
            endpoint: server.endpoint(),
            token: None,
            offline: false,
        };
        World { server, home, settings, said: Default::default() }
    }

    /// A hub with one model, `tiny/base`, of a few small files and a large one.
    pub fn with_a_model() -> (Self, String) {
        let world = World::new();
        let commit = world.server.commit("tiny/base", &model());
        (world, commit)
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path in the model's part of the cache.
    pub fn shelf(&self, path: &str) -> PathBuf {
        self.settings.cache.join("models--tiny--base").join(path)
    }

    pub fn fetch(&self, text: &str) -> Result<PathBuf> {
        fetch(&self.settings, &Name::parse(text).unwrap(), &mut |progress| self.hear(progress))
    }

    pub fn find(&self, text: &str) -> Result<Option<PathBuf>> {
        find(&self.settings, &Name::parse(text).unwrap(), &mut |progress| self.hear(progress))
    }

    fn hear(&self, progress: Progress<'_>) {
        self.said.borrow_mut().push(match progress {
            Progress::Note(note) => note.to_owned(),
            Progress::Fetching { file, done, total, .. } => format!("{file} {done}/{total}"),
        });
    }

    /// The kind and text of the error that fetching gives.
    pub fn refused(&self, text: &str) -> (Kind, String) {
        let error = self.fetch(text).expect_err("it must not be had");
        (kind_of(&error), format!("{error:#}"))
    }

    /// The paths of the files that were asked for since last, with where each began; not what was
    /// asked about the repository.
    pub fn sent(&self) -> Vec<String> {
        let files = self.server.requests().into_iter().filter(|request| {
            !request.path.starts_with("/api/") && !request.path.starts_with("/cdn/")
        });
        files
            .map(|request| {
                format!(
                    "{}{}",
                    request.path.rsplit('/').next().unwrap(),
                    request.range.unwrap_or_default()
                )
            })
            .collect()
    }
}

/// Bytes without a pattern that a shift would hide.
pub fn large(seed: u32) -> Vec<u8> {
    (0..300_000u32).map(|at| (at.wrapping_mul(2654435761).wrapping_add(seed) >> 13) as u8).collect()
}

/// The files of a model; not one that runs.
pub fn model() -> Vec<(&'static str, &'static [u8])> {
    vec![
        ("README.md", b"# tiny\n"),
        ("config.json", b"{\"model_type\": \"tiny\"}\n"),
        ("model.safetensors", large(1).leak()),
        ("onnx/model.bin", b"not wanted"),
        ("tokenizer.json", b"{}"),
        ("vocab.txt", b""),
        ("1_Pooling/config.json", b"{\"pooling_mode_mean_tokens\": true}"),
    ]
}

/// All paths below a folder, sorted.
pub fn paths(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry)
            } else {
                found.push(entry.strip_prefix(folder).unwrap().display().to_string())
            }
        }
    }
    found.sort();
    found
}
