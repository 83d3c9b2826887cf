//! `adopt`: takes an artefact that was made elsewhere into the cache, checked, with a name and a
//! record of its origin.
//!
//! It is a run of a pipeline of one stage, `artefact`, which is written into the cache's folder
//! `adopted`: so its record, its key and its entry are as those of all artefacts, and a pipeline
//! with the same stage finds it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::common::{Cache, DeviceOption, Source, print, print_json, request};
use super::events::Plain;
use super::price::{Places, Prices};
use super::tag::check_name;
use super::tally::Tally;
use crate::dag::options::Options;
use crate::dag::plan::plan;
use crate::dag::process::ProcessExecutor;
use crate::dag::processes::adopt_orphans;
use crate::dag::run::run;
use crate::dag::stop::Stop;
use crate::dag::tags::Tagged;
use crate::device::{Classes, DeviceRequest};
use crate::error::{Context, Failure, Result, user};

/// Take an artefact that was made elsewhere into the cache, with a name
#[derive(Args)]
#[command(override_usage = "posttrain adopt [OPTIONS] --makes <KIND> <FOLDER> as <NAME>")]
pub struct Arguments {
    /// The folder of the artefact
    folder: PathBuf,
    /// The word `as`
    #[arg(value_name = "as", value_parser = ["as"], hide_possible_values = true)]
    word: String,
    /// Its name: a tag
    name: String,
    /// The kind of the artefact; its files are checked
    #[arg(long, value_name = "KIND")]
    makes: Makes,
    /// A note on its origin
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Makes {
    /// Any files
    Files,
    /// A file of rows for each split
    Dataset,
    /// A language model in the Hugging Face layout
    Policy,
    /// A model with a scalar head in the Hugging Face layout
    RewardModel,
    /// Samples, as `generate` writes them
    Samples,
}

/// Adopts it, and prints where it is.
pub fn main(arguments: &Arguments) -> Result<()> {
    let Arguments { name, word: _, .. } = arguments;
    check_name(name)?;
    let folder = arguments.folder.canonicalize();
    let folder = folder.map_err(|error| {
        let place = arguments.folder.display();
        user(format!("{place} cannot be adopted: {error}")).hint("give the folder of an artefact")
    })?;
    if !folder.is_dir() {
        return Err(user(format!("{} is not a folder", folder.display())).into());
    }
    let store = arguments.cache.open()?;
    let makes = arguments.makes.to_possible_value();
    let makes = makes.context("every kind has a name")?.get_name().to_owned();
    let pipeline = store.root().join("adopted").join(format!("{name}.yaml"));
    let text = format!(
        "# Written by `posttrain adopt`.\nname: adopted\nstages:\n  adopted: {{uses: artefact, \
         path: {}, makes: {makes}}}\n",
        json!(folder)
    );
    store.begin()?;
    crate::fs::create_dir_all(&store.root().join("adopted"))?;
    crate::fs::write_atomic(&pipeline, text.as_bytes())?;
    let source = Source { pipeline, profiles: Vec::new(), sets: Vec::new() };
    let loaded = source.load()?;
    let classes = Classes::here(None);
    let wanted = request(&loaded, &[], &classes);
    adopt_orphans();
    // It takes no device, and an order names one all the same.
    let device = DeviceOption::of(DeviceRequest::Processor).device(&store, None)?;
    let options = Options {
        devices: vec![serde_json::to_value(&device)?],
        stop: Stop::on_signals()?,
        invocation: source.invocation()?,
        ..Options::default()
    };
    let planned = plan(&store, wanted)?;
    let prices = Prices::of(&store, wanted, &planned, &loaded, Places::default())?;
    let mut observer = Plain::new(true, Tally::new(prices));
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let executor = ProcessExecutor { program };
    let outcome = run(&store, wanted, &options, &executor, &mut observer, None)?;
    let node = outcome.nodes.first().context("the run has a node")?;
    let Some((key, object)) = node.key.zip(node.object) else {
        let kind = outcome.kind().context("what was not made has failed")?;
        let message = format!("{} was not adopted", folder.display());
        return Err(Failure::new(kind, message).into());
    };
    let tag = store.put_tag(name, Tagged::Artefact { key, object }, arguments.note.as_deref())?;
    store.link_by_name("adopted", std::iter::once((name.as_str(), object)))?;
    if arguments.json {
        return print_json(&json!([tag]));
    }
    print(&format!(
        "{} is `{name}`: {makes} {}\n  in a pipeline: {{uses: artefact, path: {}, makes: {makes}}}\n",
        folder.display(),
        object.short(),
        store.link_path("adopted", name).display()
    ))
}
