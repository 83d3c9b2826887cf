//! `show`: one artefact: where it is, what it was made of, what it says about itself.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::common::{
    Cache, DeviceAndDtype, NumericsOption, Source, columns, print, print_json, request,
    terminal_width,
};
use super::fetch::find;
use super::fired::{settings, verdict};
use super::load_run;
use super::names;
use super::number_format::{age, duration, figure, size};
use crate::artefacts::names::METRICS;
use crate::artefacts::table::{TABLE, Table};
use crate::dag::entry::Entry;
use crate::dag::key::OBJECT_TAG;
use crate::dag::plan::{State, plan};
use crate::dag::store::Store;
use crate::data::census::{Census, Lengths, Texts, census};
use crate::data::dataset::Dataset;
use crate::error::{Context, Result, environment, user};
use crate::pipeline::defaults::whole_config;
use crate::pipeline::registry::Builtin;
use crate::reference::{Artefact, Dataset as DatasetArtefact, Evaluation};
use crate::report::metrics::define_step;
use crate::report::table::text as table_text;
use crate::report::text::text as evaluation_text;
use crate::rl::sentinels::settings::Sentinels;
use crate::tokenizer::tokens::Tokenizer;

/// Show an artefact: path, files, metrics, config, provenance
#[derive(Args)]
#[command(
    override_usage = "posttrain show [OPTIONS] <PIPELINE> <STAGE>\n       posttrain show [OPTIONS] \
        <NAME>"
)]
pub struct Arguments {
    /// A pipeline and a stage or node of it; or the beginning of an object's id or an action's key,
    /// or a stage or node of the latest run
    #[arg(required = true, num_args = 1..=2, value_name = "PIPELINE STAGE | NAME")]
    what: Vec<String>,
    /// As for `run`
    #[arg(long = "profile", value_name = "NAME")]
    profiles: Vec<String>,
    /// As for `run`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A folder with a tokenizer, which counts the tokens of a dataset's texts; without it, that of
    /// the model under `chat` does, if there is one
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    device: DeviceAndDtype,
    #[command(flatten)]
    numerics: NumericsOption,
}

/// Prints the artefacts meant.
pub fn main(arguments: &Arguments) -> Result<()> {
    let store = arguments.cache.open()?;
    let entries = match arguments.what.as_slice() {
        [pipeline, stage] => entries_of(&store, arguments, PathBuf::from(pipeline), stage)?,
        [word] => entries_named(&store, word)?,
        _ => unreachable!("clap takes one or two"),
    };
    if arguments.json {
        let shown: Result<Vec<Value>> =
            entries.iter().map(|(entry, own)| as_json(&store, entry, own, arguments)).collect();
        return print_json(&shown?);
    }
    let texts: Result<Vec<String>> =
        entries.iter().map(|(entry, own)| as_text(&store, entry, own, arguments)).collect();
    print(&texts?.join("\n"))
}

/// The entries of a stage's nodes, each with the settings of its sentinels.
fn entries_of(
    store: &Store,
    arguments: &Arguments,
    pipeline: PathBuf,
    stage: &str,
) -> Result<Vec<(Entry, Sentinels)>> {
    let mut pipeline =
        Source { pipeline, profiles: arguments.profiles.clone(), sets: arguments.sets.clone() }
            .load()?;
    let names = pipeline.select(&[stage.to_owned()])?;
    find(&mut pipeline, &names)?;
    let mut entries = Vec::new();
    let (_, classes) = arguments.device.outlook(&arguments.numerics, store)?;
    for step in plan(store, request(&pipeline, &names, &classes))?
        .steps
        .into_iter()
        .filter(|step| names.contains(&step.name))
    {
        if matches!(step.state, State::Unknown { needs_device: true, .. }) {
            let name = &step.name;
            return Err(environment(format!(
                "the device is not open, so the key of `{name}` is unknown"
            ))
            .hint("take its id from `posttrain ls` instead: posttrain show ID")
            .into());
        }
        let State::Cached { key, .. } = step.state else {
            return Err(user(format!("`{}` has not been made with these params", step.name))
                .hint("run the pipeline first")
                .into());
        };
        let node = pipeline.graph.nodes.iter().find(|node| node.name == step.name);
        let own = settings(node.map(|node| &node.config))?;
        entries.extend(store.entry(key)?.map(|entry| (entry, own)));
    }
    Ok(entries)
}

/// The entries that a word means, each with the settings of its sentinels.
fn entries_named(store: &Store, word: &str) -> Result<Vec<(Entry, Sentinels)>> {
    let found = names::entries(store, word)?.into_iter();
    let with_settings = found.map(|(entry, record)| {
        let neutral = record.as_ref().and_then(|record| record.neutral.get(&entry.node));
        Ok((entry, settings(neutral)?))
    });
    with_settings.collect()
}

/// The last line of `metrics.jsonl`, if there is one.
fn metrics(store: &Store, entry: &Entry) -> Option<Value> {
    let text = crate::fs::read_to_string(&store.object_path(entry.object).join(METRICS)).ok()?;
    serde_json::from_str(text.lines().last()?).ok()
}

/// The figures of a dataset's splits; none of another artefact.
fn splits(store: &Store, entry: &Entry, arguments: &Arguments) -> Result<Vec<(String, Census)>> {
    if entry.output != <DatasetArtefact as Artefact>::KIND {
        return Ok(Vec::new());
    }
    let folder = arguments
        .tokenizer
        .clone()
        .or_else(|| chat_model(store, &whole_config(&entry.preimage, &Builtin)));
    let tokenizer = folder.map(|folder| Tokenizer::open(&folder)).transpose()?;
    let dataset = Dataset::open(&store.object_path(entry.object))?;
    let of =
        |split: &String| Ok((split.clone(), census(&dataset.rows(split)?, tokenizer.as_ref())?));
    dataset.splits().iter().map(of).collect()
}

/// The folder of the first model that a dataset's config names under `chat`, if it is still in the
/// store.
fn chat_model(store: &Store, config: &Value) -> Option<PathBuf> {
    match config {
        Value::Object(fields) => {
            let id = fields.get("chat").and_then(|chat| chat[OBJECT_TAG].as_str()?.parse().ok());
            let own = id.map(|id| store.object_path(id)).filter(|folder| folder.exists());
            own.or_else(|| fields.values().find_map(|field| chat_model(store, field)))
        }
        _ => None,
    }
}

/// Lines of the figures of a split.
fn split_text(split: &str, census: &Census) -> String {
    let mut text =
        format!("  split   {split}  {} rows, {} duplicates\n", census.rows, census.duplicates);
    for Texts { name, empty, words, tokens } in &census.texts {
        let lengths = |what: &str, Lengths { least, median, most }: Lengths| {
            format!(", {least} to {most} {what}, median {median}")
        };
        let tokens = tokens.map_or_else(String::new, |tokens| lengths("tokens", tokens));
        text.push_str(&format!(
            "          {name}: {empty} empty{}{tokens}\n",
            lengths("words", *words)
        ));
    }
    text
}

fn as_json(store: &Store, entry: &Entry, own: &Sentinels, arguments: &Arguments) -> Result<Value> {
    let files: Vec<Value> = store
        .object_files(entry.object)?
        .into_iter()
        .map(|(path, bytes)| json!({ "path": path, "bytes": bytes }))
        .collect();
    let path = store.object_path(entry.object);
    let mut shown =
        json!({ "path": &path, "files": files, "metrics": metrics(store, entry), "entry": entry });
    if let Some(verdict) = verdict(store, &entry.preimage.stage, entry.object, own)? {
        shown["sentinels"] = serde_json::to_value(verdict)?;
    }
    let splits = splits(store, entry, arguments)?;
    if !splits.is_empty() {
        shown["splits"] = splits
            .into_iter()
            .map(|(split, census)| Ok((split, serde_json::to_value(census)?)))
            .collect::<Result<_>>()?;
    }
    Ok(shown)
}

fn as_text(store: &Store, entry: &Entry, own: &Sentinels, arguments: &Arguments) -> Result<String> {
    let mut text = format!(
        "{} ({}, made by {} version {})\n",
        entry.node, entry.output, entry.preimage.stage, entry.preimage.version
    );
    text.push_str(&format!(
        "  object  {}\n  key     {}\n  path    {}\n",
        entry.object,
        entry.key,
        store.object_path(entry.object).display()
    ));
    text.push_str(&format!(
        "  made    {}, in {}, numerics {}\n",
        age(entry.finished_at),
        duration(entry.seconds),
        entry.preimage.numerics
    ));
    if let Some(accepted) = &entry.accepted {
        text.push_str(&format!("  accepted  {}\n", load_run::acceptance(accepted)));
    }
    for (path, bytes) in store.object_files(entry.object)? {
        text.push_str(&format!("  file    {path}  {}\n", size(bytes)));
    }
    for (split, census) in splits(store, entry, arguments)? {
        text.push_str(&split_text(&split, &census));
    }
    for (field, source) in &entry.sources {
        text.push_str(&format!("  from    {field}: {source}\n"));
    }
    match (table(store, entry)?, metrics(store, entry)) {
        // The figures of its last line are those of the table.
        (Some(table), _) => {
            let folder = store.object_path(entry.object);
            let whole = load_run::evaluation(&entry.node, &folder)?;
            let width = terminal_width();
            let found =
                whole.map_or_else(|| table_text(&table, width), |it| evaluation_text(&it, width));
            text.push_str(&format!("\n{}\n", found.trim_end()));
        }
        (None, Some(Value::Object(metrics))) => text.push_str(&lines_of(&metrics)),
        (None, _) => {}
    }
    match verdict(store, &entry.preimage.stage, entry.object, own)? {
        None => {}
        Some(verdict) if verdict.fired.is_empty() => {
            text.push_str(&format!("  sentinel  none of {} fired\n", verdict.judged.len()))
        }
        Some(verdict) => verdict
            .fired
            .iter()
            .for_each(|it| text.push_str(&format!("  sentinel  {}\n", it.message()))),
    }
    let config = serde_json::to_string_pretty(&whole_config(&entry.preimage, &Builtin))?;
    text.push_str(&format!("  config  {}\n", config.replace('\n', "\n          ")));
    Ok(text)
}

/// The table of an evaluation.
fn table(store: &Store, entry: &Entry) -> Result<Option<Table>> {
    if entry.output != Evaluation::KIND {
        return Ok(None);
    }
    let path = store.object_path(entry.object).join(TABLE);
    let Some(bytes) = crate::fs::read_if_exists(&path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .with_context(|| format!("{} cannot be understood", path.display()))
}

/// Figures of the last step, one a line, with their units.
fn lines_of(metrics: &serde_json::Map<String, Value>) -> String {
    let row = |(name, value): (&String, &Value)| {
        let shown = value.as_f64().map_or_else(|| value.to_string(), figure);
        let unit = define_step(name).map_or(String::new(), |definition| definition.unit);
        vec!["  metric".into(), name.clone(), shown, unit]
    };
    columns(&metrics.iter().map(row).collect::<Vec<_>>())
}
