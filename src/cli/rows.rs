//! What `score`, `generate`, `embed` and `classify` share: a model, rows in, rows out in order, a progress bar.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::common::print;
use crate::backend::Backend;
use crate::data::rows::{parse_jsonl, write_jsonl};
use crate::device::{Precision, Task, on_cpu};
use crate::error::{Context, Result, user};
use crate::fs;
use crate::inference::{Progress, Subject};

/// A model and its rows.
#[derive(Args)]
pub struct Arguments {
    /// The model: a folder in the Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The rows, one JSON object a line; `-` reads standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Where results go, one JSON object a line; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// What to compute on
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
    /// The precision to compute in
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Rows at a time; no result depends on it
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) batch_size: u32,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Device {
    /// The best there is
    Auto,
    /// The CPU
    Cpu,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    /// Single precision
    F32,
    /// Double precision
    F64,
}

/// A command on rows.
pub trait Command {
    /// What a row may have.
    type Row: DeserializeOwned;
    /// What comes of it.
    type Answer: Serialize;
    /// Does it.
    fn run<B: Backend>(&self, subject: &Subject<B>, rows: Vec<(usize, Self::Row)>, progress: Progress<'_>) -> Result<Vec<Self::Answer>>;
}

/// Reads all rows, runs the command on them, and writes what comes of them.
pub fn main<C: Command>(arguments: &Arguments, command: &C) -> Result<()> {
    let rows = parse_jsonl(&read(&arguments.input)?, &arguments.input)?;
    let precision = match arguments.dtype {
        Dtype::F32 => Precision::Single,
        Dtype::F64 => Precision::Double,
    };
    let run = Run { arguments, command, rows, precision };
    let answers = match arguments.device {
        Device::Auto | Device::Cpu => on_cpu(precision, run)?,
    };
    match is_dash(&arguments.output) {
        false => write_jsonl(&arguments.output, &answers),
        true => {
            let mut text = Vec::new();
            for answer in &answers {
                serde_json::to_writer(&mut text, answer)?;
                text.write_all(b"\n")?;
            }
            print(&String::from_utf8(text).context("JSON is UTF-8")?)
        }
    }
}

struct Run<'a, C: Command> {
    arguments: &'a Arguments,
    command: &'a C,
    rows: Vec<(usize, C::Row)>,
    precision: Precision,
}

impl<C: Command> Task for Run<'_, C> {
    type Output = Result<Vec<C::Answer>>;

    fn run<B: Backend>(self, b: B) -> Self::Output {
        let subject = Subject::open(b, self.precision, &self.arguments.model)?;
        let bar = match self.arguments.quiet || !std::io::stderr().is_terminal() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(self.rows.len() as u64),
        };
        let template = "{bar:30} {pos}/{len} rows  {per_sec}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        let answers = self.command.run(&subject, self.rows, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            Ok(())
        });
        bar.finish_and_clear();
        answers
    }
}

/// Refuses an option that must be a number above 0.
pub fn positive(value: f32, option: &str) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(user(format!("{option} must be above 0, it is {value}")).into()),
    }
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read(input: &Path) -> Result<Vec<u8>> {
    if is_dash(input) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    fs::read_if_exists(input)?.ok_or_else(|| user(format!("there is no file {}", input.display())).into())
}
