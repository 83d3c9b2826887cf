//! What is known of a run, read from its record and from what it made. Uses the files of
//! artefacts; not what is made of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::common::Cache;
use super::fired::{settings, verdict};
use super::names;
use crate::artefacts::attribution::ATTRIBUTION;
use crate::artefacts::comparisons::COMPARISONS;
use crate::artefacts::curves::{BEST_OF_N, OVER_OPTIMISATION};
use crate::artefacts::distributions::DISTRIBUTIONS;
use crate::artefacts::inputs::INPUTS;
use crate::artefacts::judgements::SUMMARY;
use crate::artefacts::leaks::{LEAKS, Leaks};
use crate::artefacts::left_out::{LEFT_OUT, LeftOut};
use crate::artefacts::names::{METRICS, NOTES};
use crate::artefacts::optimum::OPTIMUM;
use crate::artefacts::people::PEOPLE;
use crate::artefacts::quality::QUALITY;
use crate::artefacts::reward_model::REWARD_MODEL;
use crate::artefacts::seeds::SEEDS;
use crate::artefacts::table::TABLE;
use crate::artefacts::temperatures::TEMPERATURES;
use crate::dag::entry::{Accepted, Entry};
use crate::dag::record::{self, Ending, NodeRecord, PIPELINE, Record, date};
use crate::dag::store::Store;
use crate::data::rows::parse_jsonl;
use crate::error::{Context, Result};
use crate::pipeline::defaults::whole_config;
use crate::pipeline::registry::Builtin;
use crate::reference::{Artefact, Evaluation as EvaluationKind, Judgements};
use crate::report::judges;
use crate::report::run::{Evaluation, Made, Node, Run, curves};

/// The store and the record that a word on the command line means: the path of a record's folder,
/// or what [`names::run`] takes.
pub fn find(cache: &Cache, word: &str) -> Result<(Store, Record)> {
    let path = Path::new(word);
    if path.join("record.json").exists() {
        let path = std::path::absolute(path).with_context(|| format!("cannot find {word}"))?;
        // <root>/v1/runs/<id>
        let (root, id) = (
            path.ancestors().nth(3).map(Path::to_owned),
            path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        );
        let store = Store::open(&root.unwrap_or(path))?;
        let record = store
            .record(&id)?
            .with_context(|| format!("the record in {word} cannot be understood"))?;
        return Ok((store, record));
    }
    let store = cache.open()?;
    let record = names::run(&store, word)?;
    Ok((store, record))
}

/// Reads all that a report says.
pub fn load_run(store: &Store, record: &Record) -> Result<Run> {
    let places: HashMap<&str, usize> =
        record.graph.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let place = |name: &str| places.get(name).copied().unwrap_or(usize::MAX);
    let mut records: Vec<&NodeRecord> = record.nodes.iter().collect();
    records.sort_by_key(|node| place(&node.name));
    let mut run = Run {
        id: record.id.clone(),
        started: date(record.started_at),
        seconds: record.seconds,
        version: record.version.clone(),
        device: record.device.clone(),
        threads: record.threads,
        command: command(record),
        pipeline: record.invocation.pipeline.display().to_string(),
        pipeline_hash: record.invocation.pipeline_hash.clone(),
        name: pipeline_name(store, record),
        pipeline_text: text(&store.run_path(&record.id), record),
        ..Run::default()
    };
    let mut judged = Vec::new();
    for node in records {
        let entry = match node.key {
            Some(key) => store.entry(key)?,
            None => None,
        };
        let folder =
            node.object.map(|object| store.object_path(object)).filter(|folder| folder.exists());
        let needs = record.needs.get(&node.name).cloned().unwrap_or_default();
        run.nodes.push(Node {
            name: node.name.clone(),
            stage: node.stage.clone(),
            ending: word(node.ending).into(),
            needs,
            seconds: node.seconds,
            key: node.key.map(|key| key.to_string()),
            object: node.object.map(|object| object.to_string()),
            made: entry.as_ref().map(made),
            curves: folder.as_deref().map(figures).unwrap_or_default(),
            sentinels: match node.object {
                Some(object) => {
                    let own = settings(record.neutral.get(&node.name))?;
                    verdict(store, &node.stage, object, &own)?
                }
                None => None,
            },
        });
        match (folder, entry.as_ref().map(|entry| entry.output.as_str())) {
            (Some(folder), Some(EvaluationKind::KIND)) => {
                run.evaluations.extend(evaluation(&node.name, &folder)?)
            }
            (Some(folder), Some(Judgements::KIND)) => judged.push((node.name.as_str(), folder)),
            _ => {}
        }
    }
    for (node, folder) in judged {
        if let (Some(node), Some(verdicts)) =
            (run.nodes.iter().find(|other| other.name == node), json(&folder.join(SUMMARY))?)
        {
            run.judgings.push(judges::judging(&run.nodes, node, verdicts));
        }
    }
    for evaluation in &mut run.evaluations {
        let node = run.nodes.iter().find(|node| node.name == evaluation.node);
        let told = node.map(|node| judges::told(&run.nodes, node)).unwrap_or_default();
        evaluation.judges.splice(0..0, told);
    }
    Ok(run)
}

/// The name of the pipeline of a run.
pub fn pipeline_name(store: &Store, record: &Record) -> String {
    name(record, text(&store.run_path(&record.id), record).as_deref())
}

/// The `name` of the pipeline as it was, else that of its file.
fn name(record: &Record, text: Option<&str>) -> String {
    let given = text.into_iter().flat_map(str::lines).find_map(|line| line.strip_prefix("name:"));
    let plain = given.map(|name| name.split(" #").next().unwrap_or_default().trim());
    let plain = plain.map(|name| name.trim_matches(['"', '\'']).to_owned());
    let file = || record.invocation.pipeline.file_stem().map(|stem| stem.to_string_lossy().into());
    plain.filter(|name| !name.is_empty()).or_else(file).unwrap_or_default()
}

/// The pipeline as it was, and below it each file that it extends.
fn text(folder: &Path, record: &Record) -> Option<String> {
    let own = crate::fs::read_to_string(&folder.join(PIPELINE)).ok()?;
    let extended = record.invocation.extended.iter().enumerate().map(|(at, path)| {
        let text = crate::fs::read_to_string(&folder.join(record::extended(at)));
        format!("\n# {}\n{}", path.display(), text.unwrap_or_default())
    });
    Some(own + &extended.collect::<String>())
}

/// What the evaluation in a folder found; nothing, if the folder is none of an evaluation.
pub fn evaluation(node: &str, folder: &Path) -> Result<Option<Evaluation>> {
    let Some(figures) = figures_alone(node, folder)? else { return Ok(None) };
    // An evaluation without outputs has no inputs; one that was made by a program that did not
    // write them yet has no file.
    let path = folder.join(INPUTS);
    let inputs = crate::fs::read_if_exists(&path)?.unwrap_or_default();
    let inputs = parse_jsonl(&inputs, &path)?.into_iter().map(|(_, input)| input).collect();
    Ok(Some(Evaluation {
        judges: json(&folder.join(NOTES))?.unwrap_or_default(),
        leaks: json::<Leaks>(&folder.join(LEAKS))?.map(|leaks| leaks.notes).unwrap_or_default(),
        temperatures: json(&folder.join(TEMPERATURES))?.unwrap_or_default(),
        left_out: json::<Vec<LeftOut>>(&folder.join(LEFT_OUT))?
            .unwrap_or_default()
            .into_iter()
            .map(|left_out| left_out.note)
            .collect(),
        at_k: json(&folder.join(QUALITY))?.unwrap_or_default(),
        by_position: json(&folder.join(DISTRIBUTIONS))?.unwrap_or_default(),
        best_of_n: json(&folder.join(BEST_OF_N))?.unwrap_or_default(),
        over_optimisation: json(&folder.join(OVER_OPTIMISATION))?.unwrap_or_default(),
        beside_people: json(&folder.join(PEOPLE))?.unwrap_or_default(),
        attributions: json(&folder.join(ATTRIBUTION))?.unwrap_or_default(),
        reward_model: json(&folder.join(REWARD_MODEL))?.unwrap_or_default(),
        inputs,
        ..figures
    }))
}

/// The same with figures alone, which [`crate::report::figures::figures`] lists: neither curves nor
/// inputs are read.
pub fn figures_alone(node: &str, folder: &Path) -> Result<Option<Evaluation>> {
    let Some(table) = json(&folder.join(TABLE))? else { return Ok(None) };
    Ok(Some(Evaluation {
        node: node.into(),
        table,
        comparisons: json(&folder.join(COMPARISONS))?.unwrap_or_default(),
        seeds: json(&folder.join(SEEDS))?.unwrap_or_default(),
        optimum: json(&folder.join(OPTIMUM))?.unwrap_or_default(),
        ..Evaluation::default()
    }))
}

/// A file of JSON, if it is there.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = crate::fs::read_if_exists(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .with_context(|| format!("{} cannot be understood", path.display()))
}

fn figures(folder: &Path) -> Vec<crate::report::run::Curve> {
    crate::fs::read_to_string(&folder.join(METRICS)).map(|text| curves(&text)).unwrap_or_default()
}

fn made(entry: &Entry) -> Made {
    Made {
        output: entry.output.clone(),
        version: entry.preimage.version,
        numerics: entry.preimage.numerics.clone(),
        seconds: entry.seconds,
        finished: date(entry.finished_at),
        config: whole_config(&entry.preimage, &Builtin),
        sources: entry.sources.clone(),
        accepted: entry.accepted.as_ref().map(acceptance),
    }
}

/// What was declared of an entry, in a sentence.
pub fn acceptance(accepted: &Accepted) -> String {
    let Accepted { from, because, differences, at } = accepted;
    let differs = match differences.is_empty() {
        true => String::new(),
        false => format!("; what differs: {}", differences.join("; ")),
    };
    format!("made under the key {}, accepted {}: {because}{differs}", from.short(), date(*at))
}

fn word(ending: Ending) -> &'static str {
    match ending {
        Ending::Ran => "ran",
        Ending::Cached => "cached",
        Ending::Failed => "failed",
        Ending::Skipped => "skipped",
        Ending::Interrupted => "interrupted",
    }
}

/// The command that does it again. Each option is one word for the shell.
fn command(record: &Record) -> String {
    let mut words =
        vec!["posttrain run".to_owned(), quoted(&record.invocation.pipeline.display().to_string())];
    for option in &record.invocation.options {
        let (flag, value) = option.split_once(' ').unwrap_or((option, ""));
        words.extend([flag.to_owned(), quoted(value)]);
    }
    words.join(" ")
}

/// For a shell: as it is, or between single quotes.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "/._-+=:,@%".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Where a run's page is written, unless another place is asked for.
pub fn page_path(store: &Store, record: &Record) -> PathBuf {
    store.run_path(&record.id).join("report.html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(
            [quoted("a/b.yaml"), quoted("matrix.seed=[0, 1]"), quoted("it's")],
            ["a/b.yaml", "'matrix.seed=[0, 1]'", "'it'\\''s'"]
        );
    }
}
