//! `tag`: gives a run or an artefact a name, by which every command finds it and `gc` keeps it.

use clap::Args;
use serde_json::json;

use super::common::{Cache, columns, print, print_json};
use super::names;
use super::number_format::{age, count};
use crate::check::unfit_as_name;
use crate::dag::store::Store;
use crate::dag::tags::{Tag, Tagged};
use crate::error::{Result, user};

/// Give a run or an artefact a name, which other commands take and gc keeps; or list the names
#[derive(Args)]
pub struct Arguments {
    /// The name; without one, all names are listed
    name: Option<String>,
    /// A run (`latest`, its number, its id), or an artefact (the beginning of its id, or a node of
    /// the latest run) [default: latest]
    #[arg(value_name = "RUN | ARTEFACT")]
    what: Option<String>,
    /// A note on it
    #[arg(long, value_name = "TEXT", requires = "name")]
    note: Option<String>,
    /// Remove the name; what it is of stays until the next gc
    #[arg(long, requires = "name", conflicts_with_all = ["what", "note"])]
    delete: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: Cache,
}

/// Gives, removes or lists names.
pub fn main(arguments: &Arguments) -> Result<()> {
    let store = arguments.cache.open()?;
    let Some(name) = &arguments.name else { return list(&store, arguments.json) };
    let before = store.tag(name)?;
    let tag = match (arguments.delete, before) {
        (true, Some(tag)) => {
            store.remove_tag(&tag)?;
            tag
        }
        (true, None) => {
            let hint = "`posttrain tag` lists all";
            return Err(user(format!("there is no tag `{name}`")).hint(hint).into());
        }
        (false, before) => {
            check_name(name)?;
            let of = meant(&store, arguments.what.as_deref().unwrap_or(names::LATEST))?;
            let tag = store.put_tag(name, of, arguments.note.as_deref())?;
            if let Some(before) = before.filter(|before| before.of != tag.of) {
                eprintln!("`{name}` was the name of {}", words(&store, &before)?);
            }
            tag
        }
    };
    match arguments.json {
        true => print_json(&json!([tag])),
        false if arguments.delete => {
            print(&format!("`{name}` is no longer the name of {}\n", words(&store, &tag)?))
        }
        false => print(&format!("`{name}` is the name of {}\n", words(&store, &tag)?)),
    }
}

fn list(store: &Store, json: bool) -> Result<()> {
    let tags = store.tags()?;
    if json {
        return print_json(&tags);
    }
    let mut rows = Vec::new();
    for tag in &tags {
        let note = tag.note.clone().unwrap_or_default();
        rows.push(vec![tag.name.clone(), words(store, tag)?, age(tag.at), note]);
    }
    print(&format!(
        "{}{} in {}\n",
        columns(&rows),
        count(tags.len(), "tag"),
        store.root().display()
    ))
}

/// What a tag is of.
fn words(store: &Store, tag: &Tag) -> Result<String> {
    Ok(match &tag.of {
        Tagged::Run(id) => format!("the run {id}"),
        Tagged::Artefact { key, object } => match store.entry(*key)? {
            Some(entry) => format!("the artefact {} ({})", object.short(), entry.node),
            None => format!("the artefact {}", object.short()),
        },
    })
}

/// Refuses a name that cannot be told from other names of runs and artefacts.
pub fn check_name(name: &str) -> Result<()> {
    let why = match unfit_as_name(name) {
        Some(why) => why,
        None if name == names::LATEST => "it means the latest run",
        None if name.chars().all(|c| c.is_ascii_hexdigit()) => {
            "it could be a run's number, or the beginning of an id"
        }
        None if name.starts_with('-') => "it could be an option",
        None => return Ok(()),
    };
    Err(user(format!("`{name}` cannot be a tag: {why}")).hint("give another name").into())
}

/// What a word on the command line means: a run, or else an artefact.
fn meant(store: &Store, word: &str) -> Result<Tagged> {
    let records = store.records()?;
    let ids = records.iter().map(|record| record.id.as_str());
    if word == names::LATEST || names::named(word, ids)?.is_some() {
        return Ok(Tagged::Run(names::run(store, word)?.id));
    }
    if let Some(tag) = store.tag(word)? {
        return Ok(tag.of);
    }
    match names::entries(store, word)?.as_slice() {
        [(entry, _)] => Ok(Tagged::Artefact { key: entry.key, object: entry.object }),
        several => {
            let nodes: Vec<&str> = several.iter().map(|(entry, _)| entry.node.as_str()).collect();
            Err(user(format!("`{word}` has {} artefacts", several.len()))
                .hint(format!("name one: {}", crate::pipeline::names::listed(&nodes)))
                .into())
        }
    }
}
