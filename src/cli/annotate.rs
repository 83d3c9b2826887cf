//! `annotate`: answers for people to judge.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::common::print;
use crate::data::{answer_pairs, sheet};
use crate::error::Result;
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

/// Write a page (and a sheet) that shows two answers at a time, without saying whose they are
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
    /// A split; may be repeated [default: all test sets]
    #[arg(long = "split", value_name = "NAME")]
    splits: Vec<String>,
    /// The first rows of each split, this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Of the order in which two answers are shown
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
    let What::Export(Export { dataset, a, b, splits, limit, seed, out, csv }) = &arguments.what;
    let items = answer_pairs::outputs(dataset, splits, *limit, a, b.as_deref())?;
    fs::output(out, sheet::page(&items, *seed).as_bytes())?;
    if let Some(csv) = csv {
        fs::output(csv, sheet::empty(&items, *seed).as_bytes())?;
    }
    print(&format!("{} pairs are in {}\n", items.len(), out.display()))
}
