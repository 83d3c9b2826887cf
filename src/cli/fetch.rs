//! What is said while models and files are fetched: live lines, plain lines, JSON lines, or
//! warnings alone.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::events::{Event, warning};
use super::number_format::size;
use crate::error::Result;
use crate::hub::{self, Progress};
use crate::pipeline::expand::Pipeline;
use crate::pipeline::fetch::place;

/// Lines about one file are at least so far apart.
const INTERVAL: Duration = Duration::from_secs(5);

/// How it is said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Lines for people, live on a terminal.
    Text,
    /// One JSON object a line.
    Json,
    /// Warnings only.
    Quiet,
}

/// What was said last, and when.
pub struct Speaker {
    manner: Manner,
    file: String,
    said: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Speaker {
    /// Nothing has been said.
    pub fn new(manner: Manner) -> Self {
        Speaker { manner, file: String::new(), said: None, bar: None }
    }

    /// Says how it goes.
    pub fn say(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Note(message) => match self.manner {
                Manner::Json => Event::Warning { node: None, message }.say(),
                Manner::Text | Manner::Quiet => self.above(&warning(None, message)),
            },
            Progress::Fetching { model, file, done, total } => {
                self.fetching(model, file, done, total)
            }
        }
    }

    fn fetching(&mut self, model: &str, file: &str, done: u64, total: u64) {
        let title = format!("{model} {file}");
        let fresh = self.file != title;
        if fresh {
            self.file.clone_from(&title);
            self.said = None;
        }
        let whole = done == total;
        let due = whole || self.said.is_none_or(|said| said.elapsed() >= INTERVAL);
        match self.manner {
            Manner::Quiet => {}
            Manner::Json if due => Event::Fetching { model, file, done, total }.say(),
            Manner::Text if std::io::stderr().is_terminal() => self.draw(&title, done, total),
            Manner::Text if due => eprintln!("fetching {title}  {} of {}", size(done), size(total)),
            Manner::Json | Manner::Text => {}
        }
        if due {
            self.said = Some(Instant::now());
        }
    }

    fn draw(&mut self, title: &str, done: u64, total: u64) {
        let template =
            "fetching {prefix}  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left {wide_bar}";
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template(template).expect("the template is well-formed");
            ProgressBar::new(total).with_style(style).with_prefix(title.to_owned())
        });
        if bar.prefix() != title {
            bar.set_prefix(title.to_owned());
            bar.set_length(total);
            bar.reset();
        }
        bar.set_position(done);
    }

    fn above(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Fetches the models and files that the targets need.
pub fn fetch(pipeline: &mut Pipeline, targets: &[String], manner: Manner) -> Result<()> {
    let mut speaker = Speaker::new(manner);
    let mut locate = |name: &str| -> Result<Option<PathBuf>> {
        hub::fetch_any(&hub::Settings::from_environment()?, name, &mut |progress| {
            speaker.say(progress)
        })
        .map(Some)
    };
    place(pipeline, targets, &mut locate)
}

/// Finds the models and files that the targets need, as far as they are here.
pub fn find(pipeline: &mut Pipeline, targets: &[String]) -> Result<()> {
    let mut speaker = Speaker::new(Manner::Quiet);
    let mut locate = |name: &str| -> Result<Option<PathBuf>> {
        hub::find_any(&hub::Settings::from_environment()?, name, &mut |progress| {
            speaker.say(progress)
        })
    };
    place(pipeline, targets, &mut locate)
}
