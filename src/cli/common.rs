//! Options that several commands share, and printing that survives a reader who has left.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::events::warning;
use crate::dag::key::Preimage;
use crate::dag::node::Numerics;
use crate::dag::record::Invocation;
use crate::dag::request::Request;
use crate::dag::store::Store;
use crate::device::{Classes, DType, Device, DeviceRequest, GemmRequest, Outlook, Precision};
use crate::error::{Context, Result, user};
use crate::inference::Reader;
use crate::pipeline::defaults::{Defaults, without_defaults};
use crate::pipeline::expand::{Pipeline, load};
use crate::pipeline::extends;
use crate::pipeline::overrides::Overrides;
use crate::pipeline::registry::Builtin;
use crate::pipeline::selection::Part;
use crate::report::table::WIDTH;

/// Where artefacts are kept.
#[derive(Args)]
pub struct Cache {
    /// The folder of the cache [default: $POSTTRAIN_CACHE, else `cache`]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl Cache {
    /// The store, with keys of this program's form.
    pub fn open(&self) -> Result<Store> {
        let store = Store::open(&Store::default_root(self.cache.as_deref()))?;
        let mut defaults = Defaults::default();
        let now = |preimage: &Preimage| without_defaults(preimage, &mut defaults, &Builtin);
        if let Err(error) = store.renew_keys(now) {
            let root = store.root().display();
            tracing::warn!(
                "the keys of {root} are of an earlier program and cannot be renewed, so its \
                 artefacts are not found: {error:#}"
            );
        }
        Ok(store)
    }
}

/// A pipeline and what is laid over it.
#[derive(Args)]
pub struct Source {
    /// The pipeline file
    pub(super) pipeline: PathBuf,
    /// Take the params of a profile; may be repeated
    #[arg(long = "profile", value_name = "NAME")]
    pub(super) profiles: Vec<String>,
    /// Set a param (`kl=0.1`), an axis (`matrix.seed=[0, 1]`) or a field
    /// (`stages.ppo.kl.coef=0.1`); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) sets: Vec<String>,
}

/// The part of a pipeline that is wanted.
#[derive(Args)]
pub struct Targets {
    /// Stages, nodes or patterns of them (`ppo`, `ppo[kl=0.1]`, `'*_outputs[seed=0]'`), with all
    /// they need; all if none is given
    stages: Vec<String>,
    /// Only nodes with this value of an axis, and those that do not depend on it (`seed=0`); may
    /// be repeated: values of one axis are alternatives
    #[arg(long, value_name = "AXIS=VALUE")]
    only: Vec<String>,
    /// Only N points of the sweep, the same every time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sample: Option<u32>,
}

impl Targets {
    /// The names of the nodes that are wanted, without what they need; none for all.
    pub fn of(&self, pipeline: &Pipeline) -> Result<Vec<String>> {
        pipeline.select_part(&self.stages, &self.part())
    }

    /// The names of the nodes of one point of what is wanted.
    pub fn canary(&self, pipeline: &Pipeline) -> Result<Vec<String>> {
        pipeline.select_part(&self.stages, &Part { sample: Some(1), ..self.part() })
    }

    fn part(&self) -> Part {
        Part { only: self.only.clone(), sample: self.sample.map(|count| count as usize) }
    }
}

impl Source {
    /// The expanded pipeline.
    pub fn load(&self) -> Result<Pipeline> {
        load(
            &self.pipeline,
            &Overrides { profiles: self.profiles.clone(), sets: self.sets.clone() },
            &Builtin,
        )
    }

    /// What is asked for, for the record.
    pub fn invocation(&self) -> Result<Invocation> {
        let pipeline =
            std::path::absolute(&self.pipeline).context("cannot tell the current folder")?;
        let bytes = crate::fs::read(&pipeline)?;
        let mut options: Vec<String> =
            self.profiles.iter().map(|name| format!("--profile {name}")).collect();
        options.extend(self.sets.iter().map(|set| format!("--set {set}")));
        options.sort();
        Ok(Invocation {
            pipeline_hash: blake3::hash(&bytes).to_hex().to_string(),
            extended: extends::files(&pipeline),
            options,
            pipeline,
        })
    }
}

/// The request for these targets of a pipeline, with the numerics classes of the run.
pub fn request<'a>(
    pipeline: &'a Pipeline,
    targets: &'a [String],
    classes: &'a Classes,
) -> Request<'a> {
    Request {
        graph: &pipeline.graph,
        targets,
        numerics: Numerics { device: classes.device.as_deref(), host: &classes.host },
    }
}

/// What to compute on.
#[derive(Args)]
pub struct DeviceOption {
    /// What to compute on: auto (a CUDA device, where there is one), cpu, cuda, cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceRequest,
    /// What multiplies matrices on a CUDA device: plain (any), hopper (compute capability 9.0),
    /// cublaslt (NVIDIA's library, where it is installed; gradients alone: what samples, scores and
    /// trains must have the same bits), auto (what a table in the source says was faster)
    #[arg(long, value_name = "GEMM", default_value = "auto")]
    gemm: GemmRequest,
}

impl DeviceOption {
    /// The device that this means here, with numbers stored in this way, and machine code kept
    /// beside the artefacts of `store`.
    pub fn device(&self, store: &Store, dtype: Option<DType>) -> Result<Device> {
        Device::of(self.device, dtype, self.gemm, &store.root().join(KERNELS))
    }

    /// As if this device had been asked for.
    pub fn of(device: DeviceRequest) -> Self {
        DeviceOption { device, gemm: GemmRequest::Auto }
    }

    /// Whether the choice was left open.
    pub fn is_auto(&self) -> bool {
        self.device == DeviceRequest::Auto
    }

    /// The device that this means here, where no store is named.
    pub fn alone(&self, dtype: Option<DType>) -> Result<Device> {
        let root = std::path::absolute(Store::default_root(None))
            .context("cannot tell the current folder")?;
        Device::of(self.device, dtype, self.gemm, &root.join(KERNELS))
    }
}

/// What to compute on, and how numbers are stored there.
#[derive(Args)]
pub struct DeviceAndDtype {
    #[command(flatten)]
    device: DeviceOption,
    /// How weights and activations are stored: bf16 (on a CUDA device; sums are f32, and so are the
    /// masters of weights that train), f32 [default: bf16 on a CUDA device, f32 on the CPU]
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<DType>,
}

/// A numerics class that is given.
#[derive(Args)]
pub struct NumericsOption {
    /// The numerics class of the device, where it is on hosts of a cluster alone: the line
    /// `numerics` that `posttrain doctor` prints there. Jobs check that their host has it
    #[arg(long, value_name = "CLASS", conflicts_with_all = ["device", "dtype"])]
    numerics: Option<String>,
}

impl NumericsOption {
    /// The class, if one is given.
    pub fn class(&self) -> Option<&str> {
        self.numerics.as_deref()
    }
}

impl DeviceAndDtype {
    /// The device that this means here, with machine code kept beside the artefacts of `store`.
    pub fn device(&self, store: &Store) -> Result<Device> {
        self.device.device(store, self.dtype)
    }

    /// The device of a declared numerics class, which is on other hosts, and the classes of these.
    ///
    /// # Errors
    /// The user's, if there is no such class, or --device or --dtype ask for another device.
    pub fn declared(&self, class: &str, store: &Store) -> Result<(Classes, Device)> {
        if !self.device.is_auto() || self.dtype.is_some() {
            let message = format!("the device is declared by its numerics class, `{class}`");
            return Err(user(message).hint("leave --device and --dtype out").into());
        }
        Classes::declared(class, self.device.gemm, &store.root().join(KERNELS))
    }

    /// What a plan uses of the device, and the numerics classes. A device that cannot be opened
    /// here costs a warning; one of a declared class is not opened.
    pub fn outlook(&self, numerics: &NumericsOption, store: &Store) -> Result<(Outlook, Classes)> {
        if let Some(class) = numerics.class() {
            let (classes, device) = self.declared(class, store)?;
            let sizes = device.sizes(Precision::Single);
            let outlook =
                Outlook { numerics: classes.device.clone(), sizes, free: None, closed: None };
            return Ok((outlook, classes));
        }
        let (kernels, DeviceOption { device, gemm }) = (store.root().join(KERNELS), &self.device);
        let outlook = Outlook::of(*device, self.dtype, *gemm, &kernels)?;
        if let Some(why) = &outlook.closed {
            let message = format!(
                "the device cannot be opened here, so the numerics class of what is computed on it \
                 is unknown, and with it what is cached: {why}"
            );
            tell(&warning(None, &message));
        }
        let classes = Classes::here(outlook.numerics.as_deref());
        Ok((outlook, classes))
    }

    /// The device that this means here, where no store is named.
    pub fn alone(&self) -> Result<Device> {
        self.device.alone(self.dtype)
    }
}

/// The folder of machine code in a cache: made again at any time.
const KERNELS: &str = "kernels";

/// Prints a line to standard error, if that can be written to.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible(line));
}

/// Opens a model's folder for its rows, and prints the warning of what of it is ignored.
pub fn reader(folder: &Path) -> Result<Reader> {
    let reader = Reader::open(folder)?;
    if let Some(remark) = reader.remark() {
        tell(&warning(None, remark));
    }
    Ok(reader)
}

/// The text with control characters written out (`\u{1b}`), except line ends and tabs: a terminal
/// would obey them.
pub fn visible(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match text.contains(obeyed) {
        true => text
            .chars()
            .map(|c| if obeyed(c) { c.escape_unicode().to_string() } else { c.to_string() })
            .collect::<String>()
            .into(),
        false => text.into(),
    }
}

/// Prints to standard output; for a terminal, as [`visible`] does. A reader that has left has
/// had enough: the process ends.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { visible(text) } else { text.into() };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("cannot write to standard output"),
    }
}

/// Columns of the terminal that standard output is; [`WIDTH`] where it is none or does not say.
pub fn terminal_width() -> usize {
    let out = std::io::stdout();
    let size = out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok()).flatten();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

/// Prints a value as JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Lines of columns, each as wide as its widest cell; the last is left as it is.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            rows.iter()
                .filter_map(|row| row.get(at))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_reaches_a_terminal() {
        assert_eq!(
            visible("a\u{1b}[31mb\r\u{7}\u{9b}2J\tc\n"),
            "a\\u{1b}[31mb\\u{d}\\u{7}\\u{9b}2J\tc\n"
        );
        assert!(matches!(visible("plain \u{e9} \u{1f600}\n"), Cow::Borrowed(_)));
    }
}
