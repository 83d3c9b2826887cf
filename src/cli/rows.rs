//! What `score`, `generate`, `embed` and `classify` share: a model, rows in, rows out in order, a
//! progress bar.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::common::{DeviceOption, print};
use super::fetch::{Manner, Speaker};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::data::rows::parse_jsonl;
use crate::device::{DType, Device, Precision, Task};
use crate::error::{Context, Result, user};
use crate::fs;
use crate::hub;
use crate::inference::{Progress, Reader, Subject};
use crate::model::memory::{Bytes, Memory};

/// A model and its rows.
#[derive(Args)]
pub struct ModelAndRows {
    /// The model: a folder in the Hugging Face layout, or hub:owner/name@revision
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// The rows, one JSON object a line; `-` reads standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Where results go, one JSON object a line; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    device: DeviceOption,
    /// The precision to compute in [default: bf16 on a CUDA device, f32 on the CPU]
    #[arg(long, value_enum)]
    dtype: Option<RowsDType>,
    /// Rows at a time; no result depends on it
    #[arg(long, value_name = "N", default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl ModelAndRows {
    /// Rows at a time.
    pub fn batch_size(&self) -> usize {
        self.batch_size as usize
    }

    /// What to compute on. Double precision is the CPU's, where nothing else is asked for.
    pub fn device(&self) -> Result<Device> {
        match (self.dtype, self.device.is_auto()) {
            (Some(RowsDType::F64), true) => Ok(Device::Host),
            (dtype, _) => self.device.alone(dtype.and_then(RowsDType::stored)),
        }
    }

    /// The precision of results.
    pub fn precision(&self) -> Precision {
        match self.dtype {
            Some(RowsDType::F64) => Precision::Double,
            Some(RowsDType::F32 | RowsDType::Bf16) | None => Precision::Single,
        }
    }
}

/// The words of `--dtype`: a storage type, or double precision, which only the CPU computes in.
#[derive(Clone, Copy, ValueEnum)]
enum RowsDType {
    /// Numbers of 8 digits in base 2, added up in single precision; on a CUDA device
    Bf16,
    /// Single precision
    F32,
    /// Double precision
    F64,
}

impl RowsDType {
    /// How numbers are stored, where there is a choice.
    fn stored(self) -> Option<DType> {
        match self {
            RowsDType::Bf16 => Some(DType::Bf16),
            RowsDType::F32 => Some(DType::F32),
            RowsDType::F64 => None,
        }
    }
}

/// A command on rows.
pub trait Command {
    /// What a row may have.
    type Row: DeserializeOwned;
    /// Rows, read.
    type Prepared;
    /// What comes of one.
    type Answer: Serialize;
    /// Reads rows.
    fn prepare(&self, reader: &Reader, rows: Vec<(usize, Self::Row)>) -> Result<Self::Prepared>;
    /// What the model will take.
    fn memory(&self, b: &Counting, reader: &Reader, prepared: &Self::Prepared) -> Result<Memory>;
    /// Does it.
    fn run<B: Backend>(
        &self,
        subject: &Subject<B>,
        prepared: Self::Prepared,
        progress: Progress<'_>,
    ) -> Result<Vec<Self::Answer>>;
}

/// Reads all rows, runs the command on them, and writes what comes of them.
pub fn main<C: Command>(arguments: &ModelAndRows, command: &C) -> Result<()> {
    let rows = parse_jsonl(&read(&arguments.input)?, &arguments.input)?;
    let mut speaker = Speaker::new(if arguments.quiet { Manner::Quiet } else { Manner::Text });
    let folder = hub::resolve(&arguments.model, &mut |progress| speaker.say(progress))?;
    drop(speaker);
    let reader = super::common::reader(&folder)?;
    let prepared = command.prepare(&reader, rows)?;
    let precision = arguments.precision();
    let device = arguments.device()?;
    let b = Counting::new(device.sizes(precision), device.free_memory()?);
    check_memory(arguments, &reader, &command.memory(&b, &reader, &prepared)?, precision, &device)?;
    let run = Run { arguments, command, reader, prepared, precision };
    let answers = device.run(precision, run)?;
    let mut text = Vec::new();
    for answer in &answers {
        serde_json::to_writer(&mut text, answer)?;
        text.write_all(b"\n")?;
    }
    match is_dash(&arguments.output) {
        false => {
            if let Some(folder) = arguments.output.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::output(&arguments.output, &text)
        }
        true => print(&String::from_utf8(text).context("JSON is UTF-8")?),
    }
}

/// Says what the model will take, and refuses it where it cannot fit.
fn check_memory(
    arguments: &ModelAndRows,
    reader: &Reader,
    memory: &Memory,
    precision: Precision,
    device: &Device,
) -> Result<()> {
    let sizes = device.sizes(precision);
    let free = device.free_memory()?;
    if !arguments.quiet && std::io::stderr().is_terminal() {
        let free = free.map_or_else(String::new, |free| format!("; {} are free", Bytes(free)));
        eprintln!("{} on {device} takes {}{free}", reader.name(), memory.words());
    }
    let name = reader.name().to_string();
    let hint = match (precision, sizes.is_narrow()) {
        (Precision::Double, _) => {
            "a smaller --batch-size, fewer or shorter rows, or --dtype f32 take less"
        }
        // A device with separate memory, which would store bf16 too.
        (Precision::Single, false) if sizes.host == 0 => {
            "a smaller --batch-size, fewer or shorter rows, or --dtype bf16 take less"
        }
        _ => "a smaller --batch-size, or fewer or shorter rows, take less",
    };
    memory.check(&name, free, hint)
}

struct Run<'a, C: Command> {
    arguments: &'a ModelAndRows,
    command: &'a C,
    reader: Reader,
    prepared: C::Prepared,
    precision: Precision,
}

impl<C: Command> Task for Run<'_, C> {
    type Output = Result<Vec<C::Answer>>;

    fn run<B: Backend>(self, b: B) -> Self::Output {
        let subject = Subject::load(b, self.precision, self.reader)?;
        let bar = model_bar(self.arguments.quiet, "rows");
        let answers = self.command.run(&subject, self.prepared, &mut |done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            Ok(())
        });
        bar.finish_and_clear();
        answers
    }
}

/// Progress of a model over a number of rows; hidden with `--quiet` and where stderr is no
/// terminal.
pub fn model_bar(quiet: bool, what: &str) -> ProgressBar {
    let bar = match quiet || !std::io::stderr().is_terminal() {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(0),
    };
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}  {{per_sec}}  {{eta}} left");
    bar.set_style(ProgressStyle::with_template(&template).expect("the template is well-formed"));
    bar
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

/// All of a file, or of standard input for `-`.
pub fn read(input: &Path) -> Result<Vec<u8>> {
    if is_dash(input) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(bytes);
    }
    if input.is_file() {
        fs::refuse_pointer(input)?;
    }
    fs::read_if_exists(input)?
        .ok_or_else(|| user(format!("there is no file {}", input.display())).into())
}
