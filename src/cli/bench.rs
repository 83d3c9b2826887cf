//! `bench`: how fast this machine computes. Reads the clock for `crate::bench`, prints its tables
//! and writes them as JSON.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::common::{Cache, DeviceAndDtype, columns, print};
use crate::backend::Backend;
use crate::bench::{Bench, Ceilings, Options, Row, generate, kernels, models, ppo, train};
use crate::device::{Precision, Task};
use crate::error::{Failure, Kind, Result};
use crate::fs;

/// Measure the back end: operations, training, generation, a PPO step
///
/// Every row has a median, its spread, and its share of the floor: the time that its operations or
/// its bytes take at least, at the rates that this device reached in the best product and in a
/// copy.
#[derive(Args)]
pub struct Arguments {
    /// What to measure
    what: What,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceAndDtype,
    /// Write the rows as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Tiny sizes: to see that it works
    #[arg(long)]
    quick: bool,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Measure models of this size alone: 124M, 1.3B or 7B; may be repeated
    #[arg(long = "size", value_name = "SIZE")]
    sizes: Vec<String>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// Every operation
    Kernels,
    /// Training steps
    Train,
    /// Decoding
    Generate,
    /// Whole PPO steps
    Ppo,
}

/// All that was measured.
#[derive(Serialize)]
pub struct Report {
    what: What,
    device: String,
    quick: bool,
    /// Bytes of a number in the storage type of what was measured.
    number_size: usize,
    /// Of products, where they were measured, and of a copy.
    ceilings: Ceilings,
    rows: Vec<Row>,
    /// What could not be measured, and why.
    failed: Vec<String>,
}

/// The task: what to measure, on a device of this name.
struct Measured<'a> {
    arguments: &'a Arguments,
    device: String,
}

impl Task for Measured<'_> {
    type Output = Result<Report>;

    fn run<B: Backend>(self, b: B) -> Result<Report> {
        let (arguments, start) = (self.arguments, Instant::now());
        let clock = || start.elapsed().as_secs_f64();
        let bench = Bench {
            b: &b,
            options: Options { clock: &clock, seconds: arguments.seconds, quick: arguments.quick },
        };
        let mut failed = Vec::new();
        let (ceilings, rows) = match arguments.what {
            What::Kernels => kernels::run(&bench),
            What::Train | What::Generate | What::Ppo => {
                let ceilings =
                    Ceilings { operations: f64::INFINITY, bytes: kernels::copy_rate(&bench) };
                (ceilings, arguments.models(&bench, &mut failed))
            }
        };
        Ok(Report {
            what: arguments.what,
            device: self.device,
            quick: arguments.quick,
            number_size: b.sizes().stored,
            ceilings,
            rows,
            failed,
        })
    }
}

impl Arguments {
    /// One size after the other; one that fails does not lose the others.
    fn models<B: Backend>(&self, bench: &Bench<'_, B>, failed: &mut Vec<String>) -> Vec<Row> {
        let mut rows = Vec::new();
        for size in models::sizes(bench.options) {
            if !self.sizes.is_empty() && !self.sizes.iter().any(|name| name == size.name) {
                continue;
            }
            let measured = match self.what {
                What::Train => train::run(bench, &size),
                What::Generate => generate::run(bench, &size),
                What::Ppo | What::Kernels => ppo::run(bench, &size),
            };
            match measured {
                Ok(measured) => rows.extend(measured),
                Err(error) => failed.push(format!("{}: {error:#}", size.name)),
            }
        }
        rows
    }
}

/// A table of what was measured.
fn table(report: &Report) -> String {
    let heading = ["what", "shape", "time", "spread", "TFLOP/s", "GB/s", "tokens/s", "of floor"]
        .map(str::to_owned)
        .to_vec();
    let number = |x: f64, unit: f64| if x > 0.0 { format!("{:.4}", x / unit) } else { "-".into() };
    let row = |row: &Row| {
        let seconds = row.timing.seconds;
        vec![
            row.what.clone(),
            row.shape.clone(),
            format!("{:.4} ms", seconds * 1e3),
            format!("{:.1}%", row.timing.spread * 100.0),
            number(row.operations / seconds, 1e12),
            number(row.bytes / seconds, 1e9),
            if row.tokens > 0.0 { format!("{:.0}", row.tokens / seconds) } else { "-".into() },
            row.share(report.ceilings).map_or("-".into(), |share| format!("{share:.3}")),
        ]
    };
    columns(&[vec![heading], report.rows.iter().map(row).collect()].concat())
}

/// Measures.
pub fn main(arguments: &Arguments) -> Result<()> {
    let device = arguments.device.device(&arguments.cache.open()?)?;
    // Models are measured as they are used.
    let device = if arguments.what == What::Kernels { device.measured() } else { device };
    let report =
        device.run(Precision::Single, Measured { arguments, device: device.to_string() })?;
    print(&format!(
        "{}, copies {:.1} GB/s\n{}",
        report.device,
        report.ceilings.bytes / 1e9,
        table(&report)
    ))?;
    if let Some(path) = &arguments.json {
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        fs::output(path, text.as_bytes())?;
    }
    match report.failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Kind::Bug, report.failed.join("; ")).into()),
    }
}
