//! `annotate`: answers for people to judge.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::common::print;
use crate::data::answer_pairs::{self, AnswerPair};
use crate::data::study::{Assignment, Item, for_one, for_several};
use crate::data::{sheet, sheet_page};
use crate::error::{Result, user};
use crate::fs;

/// Prepare answers for people to judge; the stage `judge` reads what they say
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Export(Export),
}

/// Write a page (and a sheet) that shows two answers, or two sets of answers, at a time, without
/// saying whose they are
#[derive(Args)]
struct Export {
    /// The dataset that was answered, as a folder (`posttrain show` says where it is)
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// Answers: the folder of a `samples` artefact
    #[arg(long, value_name = "DIR")]
    a: PathBuf,
    /// Other answers [default: the references of the dataset]
    #[arg(long, value_name = "DIR")]
    b: Option<PathBuf>,
    /// Ask which of two sets is more varied, each of this many answers of a row, the first ones
    /// [default: ask which of two answers is better]
    #[arg(long, value_name = "K")]
    set: Option<usize>,
    /// A split; may be repeated [default: all test sets]
    #[arg(long = "split", value_name = "NAME")]
    splits: Vec<String>,
    /// The first rows of each split, this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Who judges; repeated, a page and a sheet for each, with the name in it and in the name of
    /// the file [default: one page, which asks for a name]
    #[arg(long = "annotator", value_name = "NAME")]
    annotators: Vec<String>,
    /// Share of the rows that all annotators judge; each of the others is judged by one
    /// [default: 1]
    #[arg(long, value_name = "SHARE", requires = "annotators")]
    overlap: Option<f64>,
    /// Of the order in which two sides are shown, and of who judges what
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the page goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where an empty sheet goes, for those who would rather fill in a table
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Exports.
pub fn main(arguments: &Arguments) -> Result<()> {
    let What::Export(export) = &arguments.what;
    let items = items(export)?;
    let assignments = match export.annotators.as_slice() {
        [] => vec![for_one(&items, export.seed)],
        names => for_several(&items, export.seed, names, export.overlap.unwrap_or(1.0))?,
    };
    let what = if export.set.is_some() { "pairs of sets" } else { "pairs" };
    for assignment in &assignments {
        let page = named(&export.out, assignment);
        fs::output(&page, sheet_page::page(assignment).as_bytes())?;
        if let Some(csv) = &export.csv {
            fs::output(&named(csv, assignment), sheet::empty(assignment).as_bytes())?;
        }
        print(&format!("{} {what} are in {}\n", assignment.shown.len(), page.display()))?;
    }
    Ok(())
}

/// What is judged.
fn items(export: &Export) -> Result<Vec<Item>> {
    let Export { dataset, a, b, splits, limit, set, .. } = export;
    let pairs = answer_pairs::outputs(dataset, splits, *limit, a, b.as_deref())?;
    match (set, b) {
        (None, _) => Ok(pairs.iter().map(AnswerPair::item).collect()),
        (Some(k @ 2..), Some(b)) => answer_pairs::sets(&pairs, a, b, *k),
        (Some(_), Some(_)) => Err(user("a set has at least 2 answers")
            .hint("give `--set` of 2 or more, or leave it out to compare single answers")
            .into()),
        (Some(_), None) => Err(user("`--set` needs `--b`")
            .hint("a row has one reference, which is no set: give other samples")
            .into()),
    }
}

/// The file of an assignment: `page-ann.html` where `page.html` was asked for.
fn named(file: &Path, assignment: &Assignment<'_>) -> PathBuf {
    if assignment.annotator.is_empty() {
        return file.to_owned();
    }
    let part =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let mut name = format!("{}-{}", part(file.file_stem()), assignment.annotator);
    if let Some(extension) = file.extension() {
        name += &format!(".{}", part(Some(extension)));
    }
    file.with_file_name(name)
}
