//! `report`: the results of a run, as a page or as tables.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

use super::common::{Cache, print};
use super::load_run::{find, load_run, page_path};
use crate::dag::record::Record;
use crate::dag::store::Store;
use crate::error::{Context, Result, user};
use crate::report::run::Run;
use crate::report::select::Selection;
use crate::report::{formats, latex, page};

/// The page of a part of a run, beside the run's record.
const PART: &str = "report-part.html";

/// Write the report of a run: one HTML file, or its tables
#[derive(Args)]
pub struct Arguments {
    /// The run: its number, its id or the beginning of it, the folder of its record, or `latest`
    #[arg(default_value = "latest")]
    run: String,
    /// The page, which goes to a file; or its tables, which are printed
    #[arg(long, value_enum, default_value_t = Format::Html)]
    format: Format,
    /// The file to write [default: report.html beside the run's record; of a part of it,
    /// report-part.html]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Inputs of each test set that the page shows with every method's answers [default: at most
    /// 200, fewer where there are many methods]
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Evaluations to show, between commas; `evaluation` shows `evaluation[seed=0]` too [default:
    /// all; of many the page has the first in full]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    evaluations: Vec<String>,
    /// Metrics to show, with the comparisons by them, between commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Methods to show, between commas; `ppo` shows `ppo[kl=0.1]` too [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    methods: Vec<String>,
    /// Test sets to show, between commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    test_sets: Vec<String>,
    /// Show the page in a browser
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One file with charts and samples
    Html,
    /// Tables for a document
    Markdown,
    /// One line a figure
    Csv,
    /// All that is known, except samples
    Json,
    /// Tables for a paper, to be put into its body; no package is needed
    Latex,
}

/// Writes it, and prints where the page is.
pub fn main(arguments: &Arguments) -> Result<()> {
    let (store, record) = find(&arguments.cache, &arguments.run)?;
    let run = select(load_run(&store, &record)?, arguments)?;
    if arguments.format == Format::Html {
        // The page of the whole run stays: a later run that is like it has the same.
        let part = is_part(arguments).then(|| store.run_path(&record.id).join(PART));
        let output = arguments.output.as_deref().or(part.as_deref());
        let path = write(&store, &record, &run, output, arguments.samples)?;
        print(&format!("{}\n", path.display()))?;
        return if arguments.open { open(&path) } else { Ok(()) };
    }
    let text = match arguments.format {
        Format::Html => unreachable!("it went to its file"),
        Format::Markdown => formats::markdown(&run),
        Format::Csv => formats::csv(&run),
        Format::Json => formats::json(&run),
        Format::Latex => latex::latex(&run),
    };
    match &arguments.output {
        Some(path) => crate::fs::output(path, text.as_bytes()),
        None => print(&text),
    }
}

/// The names of a list that was split at its commas, some of which are within names:
/// `ppo[kl=0.1,seed=1]`.
fn names(parts: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in parts {
        let is_open = |name: &&mut String| name.matches('[').count() > name.matches(']').count();
        match names.last_mut().filter(is_open) {
            Some(name) => *name = format!("{name},{part}"),
            None => names.push(part.clone()),
        }
    }
    names
}

/// Whether a part of the run is wanted.
fn is_part(arguments: &Arguments) -> bool {
    let Arguments { evaluations, metrics, methods, test_sets, samples, .. } = arguments;
    samples.is_some() || [evaluations, metrics, methods, test_sets].iter().any(|it| !it.is_empty())
}

/// What was asked for of a run.
fn select(run: Run, arguments: &Arguments) -> Result<Run> {
    let Arguments { evaluations, metrics, methods, test_sets, .. } = arguments;
    let wanted = Selection {
        evaluations: names(evaluations),
        metrics: metrics.clone(),
        methods: names(methods),
        test_sets: test_sets.clone(),
    };
    wanted.of(run).map_err(|unknown| {
        let hint = format!("there are: {}", unknown.known.join(", "));
        let message = match unknown.what {
            "evaluation" => format!("the run has no evaluation `{}`", unknown.name),
            what => format!("no evaluation of the run has a {what} `{}`", unknown.name),
        };
        user(message).hint(hint).into()
    })
}

/// Writes the page of a run, and gives its absolute path.
pub fn write(
    store: &Store,
    record: &Record,
    run: &Run,
    output: Option<&Path>,
    samples: Option<usize>,
) -> Result<PathBuf> {
    let path = output.map_or_else(|| page_path(store, record), Path::to_owned);
    let path = std::path::absolute(&path)
        .with_context(|| format!("cannot tell where {} is", path.display()))?;
    crate::fs::output(&path, page::page(run, samples).as_bytes())?;
    Ok(path)
}

/// Hands the page to what opens files here.
fn open(path: &Path) -> Result<()> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let opening = Command::new(opener)
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    opening.map(drop).map_err(|error| {
        crate::error::environment(format!("cannot start `{opener}`: {error}"))
            .hint("open the file by hand")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_within_a_name_parts_no_names() {
        let parts = ["sft", "ppo[kl=0.1", "seed=1]", "evaluation[seed=0]", "base"];
        let whole = ["sft", "ppo[kl=0.1,seed=1]", "evaluation[seed=0]", "base"];
        assert_eq!(names(&parts.map(String::from)), whole);
    }
}
