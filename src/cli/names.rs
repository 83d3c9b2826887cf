//! Names that commands take: of runs, of their nodes, of artefacts; the same in every command,
//! whole or as much of one as makes it the only one; and tags.

use std::collections::{BTreeMap, HashMap};

use crate::dag::entry::Entry;
use crate::dag::record::{Record, sequence};
use crate::dag::store::Store;
use crate::dag::tags::{Tag, Tagged};
use crate::error::{Result, user};
use crate::pipeline::names::{Stages, complete, find, listed};

/// The word for the run that began last.
pub const LATEST: &str = "latest";
/// Runs that a hint lists.
const LISTED: usize = 5;

/// The record that a word means: a tag, `latest`, a run's number, its id or the beginning of it.
///
/// # Errors
/// There is no such run, or there are several.
pub fn run(store: &Store, word: &str) -> Result<Record> {
    let mut records = store.records()?;
    let place = store.root().display();
    let tag = store.tag(word)?;
    let tagged = tag.as_ref().and_then(|tag| match &tag.of {
        Tagged::Run(id) => Some(id.clone()),
        Tagged::Artefact { .. } => None,
    });
    let id = match word {
        _ if tagged.is_some() => tagged,
        LATEST => records.last().map(|record| record.id.clone()),
        _ => named(word, records.iter().map(|record| record.id.as_str()))?,
    };
    let at = records.iter().position(|record| Some(&record.id) == id.as_ref());
    if let Some(at) = at {
        return Ok(records.swap_remove(at));
    }
    if records.is_empty() {
        return Err(user(format!("there is no run in {place}"))
            .hint("run a pipeline first, or give `--cache`")
            .into());
    }
    if tag.is_some() {
        return Err(user(format!("`{word}` is the tag of an artefact, not of a run")).into());
    }
    let latest: Vec<&str> =
        records.iter().rev().take(LISTED).map(|record| record.id.as_str()).collect();
    let hint = format!("the latest are {}; see `posttrain runs`", latest.join(", "));
    Err(user(format!("there is no run `{word}` in {place}")).hint(hint).into())
}

/// The one of these ids of runs that has this number, or begins with the word.
///
/// # Errors
/// Several do.
pub fn named<'a>(word: &str, ids: impl Iterator<Item = &'a str> + Clone) -> Result<Option<String>> {
    let number = word.parse().ok().filter(|number| *number > 0);
    let of_number = ids.clone().filter(|id| Some(sequence(id)) == number);
    let of_number: Vec<&str> = of_number.collect();
    match of_number.as_slice() {
        [] => Ok(complete(word, ids, "runs")?.map(str::to_owned)),
        [id] => Ok(Some((*id).to_owned())),
        several => Err(user(format!("several runs have the number {word}"))
            .hint(format!("give the id of one of {}", listed(several)))
            .into()),
    }
}

/// The stages of a recorded run, each with its nodes, in the order of the pipeline.
pub fn stages(record: &Record) -> Stages<'_> {
    let (mut stages, mut places): (Stages, HashMap<&str, usize>) = (Vec::new(), HashMap::new());
    for node in &record.graph {
        let stage = node.split_once('[').map_or(node.as_str(), |(stage, _)| stage);
        let at = *places.entry(stage).or_insert_with(|| {
            stages.push((stage, Vec::new()));
            stages.len() - 1
        });
        stages[at].1.push(node);
    }
    stages
}

/// The entries that a word means, each with the latest run if it was found by the name of a node of
/// that: the artefact of this tag, or whose object id or key begins with the word, else what the
/// stage or node of the latest run has made.
///
/// # Errors
/// There is none, or there are several ids.
pub fn entries(store: &Store, word: &str) -> Result<Vec<(Entry, Option<Record>)>> {
    let tag = store.tag(word)?;
    if let Some((key, object)) = tag.as_ref().and_then(Tag::artefact) {
        let entry = store.entry(key)?.filter(|entry| entry.object == object);
        let gone = || user(format!("the artefact {} of the tag `{word}` is gone", object.short()));
        return Ok(vec![(entry.ok_or_else(gone)?, None)]);
    }
    let mut found = store.entries()?;
    let begins = |entry: &Entry| {
        entry.object.to_string().starts_with(word) || entry.key.to_string().starts_with(word)
    };
    found.retain(|entry| !word.is_empty() && begins(entry));
    let objects: BTreeMap<String, String> =
        found.iter().map(|entry| (entry.object.to_string(), entry.node.clone())).collect();
    if objects.len() > 1 {
        let ids: Vec<String> = objects
            .iter()
            .map(|(id, node)| format!("{} ({node})", &id[..16.min(id.len())]))
            .collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        return Err(user(format!("`{word}` is the beginning of {} ids", ids.len()))
            .hint(format!("give more of it: {}", listed(&ids)))
            .into());
    }
    if let Some(entry) = found.pop() {
        return Ok(vec![(entry, None)]);
    }
    let place = store.root().display();
    let none =
        || user(format!("nothing in {place} has the id `{word}`")).hint("see `posttrain ls`");
    let Some(record) = store.records()?.pop() else { return Err(none().into()) };
    let Some(nodes) = find(word, &stages(&record))? else {
        if tag.is_some() {
            return Err(user(format!("`{word}` is the tag of a run, not of an artefact")).into());
        }
        let run = sequence(&record.id);
        let message = format!(
            "nothing in {place} has the id `{word}`, and the latest run ({run}) no stage or node \
             of this name"
        );
        return Err(user(message).hint("see `posttrain ls`, `posttrain runs`").into());
    };
    let mut entries = Vec::new();
    for name in nodes {
        let made = record.nodes.iter().find(|node| node.name == name);
        let entry = match made.and_then(|node| node.object.and(node.key)) {
            Some(key) => store.entry(key)?,
            None => None,
        };
        let Some(entry) = entry else {
            let run = sequence(&record.id);
            return Err(user(format!("`{name}` was not made in the latest run ({run})"))
                .hint(format!("what it printed: posttrain logs '{name}'"))
                .into());
        };
        entries.push((entry, Some(record.clone())));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_number_its_id_and_beginnings_of_that() {
        let ids = ["20261123-114801.123-7", "20261123-114802.000-17", "20261124-000000.000-18"];
        let of = |word: &str| named(word, ids.iter().copied());
        assert_eq!(of("7").unwrap().as_deref(), Some(ids[0]));
        assert_eq!(of("17").unwrap().as_deref(), Some(ids[1]));
        assert_eq!(of("20261124").unwrap().as_deref(), Some(ids[2]));
        assert_eq!(of(ids[1]).unwrap().as_deref(), Some(ids[1]));
        assert_eq!(of("8").unwrap(), None);
        let several = of("20261123").unwrap_err().to_string();
        assert!(several.starts_with("`20261123` begins several runs"), "{several}");
        assert!(several.contains(ids[0]) && several.contains(ids[1]), "{several}");
        let twice = named("7", [ids[0], "20261123-114801.124-7"].into_iter()).unwrap_err();
        assert!(twice.to_string().starts_with("several runs have the number 7"), "{twice}");
    }
}
