//! `metric`: numbers that a program of the user's gives for samples; an evaluation compares methods
//! by them.
//!
//! 1. The program starts in an empty folder and reads a line of JSON for each row of the samples
//!    that has one at least: `split`, `id`, `prompt`, `samples` (a list of texts) and, with a
//!    `dataset`, `reference`. It prints a line of JSON for each, in any order: `split` and `id` of
//!    the row, and `values`, a number by name (`answers.rs`).
//! 2. It is run as a `command` is (`program.rs`): with `inputs`, `files` and `env`, and with
//!    nothing else of the environment. What it prints to standard error goes to the node's log.
//! 3. `null` says that a row has no such number: it is counted, and in no mean. Anything else that
//!    is no finite number is an error, and so is a row without a line.

mod answers;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::answers::Expected;
use super::program::{NONE_GATHERED, Program, Streams};
use super::{Checks, Constraint, KindInfo, Problem, Rule, Stage};
use crate::artefacts::metric::{
    Better, METRIC, Number, OfSplit, Per, SHARE, Summary, VALUES, Valued,
};
use crate::artefacts::names::METRICS;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::Dataset;
use crate::data::rows::{Example, write_jsonl};
use crate::data::samples::{self, Sampled};
use crate::error::{Result, user};
use crate::eval::compare::of_values;
use crate::fs;
use crate::reference::{
    AnyRef, Artefact, Dataset as DatasetArtefact, Input, Metric, Place, Ref, Samples,
};
use crate::report::metrics::is_taken_name;

/// Folders and files beside the artefact: where the program starts, what it reads and prints.
const FOLDER: &str = "program";
const ROWS: &str = "rows.jsonl";
const ANSWERS: &str = "answers.jsonl";

/// The config of `uses: metric`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricStage {
    /// Samples that are measured: all rows of all splits, those without a sample left out.
    samples: Ref<Samples>,
    /// Dataset that the samples answer: each row is then given its `reference`.
    #[serde(default)]
    dataset: Option<Ref<DatasetArtefact>>,
    /// Program and its arguments.
    run: Vec<String>,
    /// Artefacts of other stages, by the name under which the program finds their paths.
    #[serde(default)]
    inputs: BTreeMap<String, AnyRef>,
    /// Files and folders from outside, by the name under which the program finds their paths.
    #[serde(default)]
    files: BTreeMap<String, Input>,
    /// Further environment variables.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// What the program gives a number of.
    #[serde(default)]
    per: Per,
    /// Numbers that the program gives, by name. One whose name begins with `share_` is from 0 to 1:
    /// an outcome, or a share of several.
    values: BTreeMap<String, NumberConfig>,
}

/// What a number is, for tables and charts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberConfig {
    /// What it measures, a phrase in one line without a full stop.
    description: String,
    /// What it is counted in, in one line.
    #[serde(default)]
    unit: String,
    /// Which values are better.
    #[serde(default)]
    better: Better,
}

impl MetricStage {
    fn program(&self) -> Program<'_> {
        let MetricStage { run, inputs, files, env, .. } = self;
        Program { run, inputs, gather: &NONE_GATHERED, files, env, sandbox: false }
    }
}

impl Stage for MetricStage {
    const INFO: KindInfo = KindInfo::on_host("metric", 1, Metric::KIND);

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        self.program().check(&mut checks);
        checks.require(!self.values.is_empty(), "values", "expected at least one number");
        for (name, number) in &self.values {
            let field = format!("values.{name}");
            let is_line = |text: &str| !text.chars().any(char::is_control);
            checks
                .require(
                    is_name(name),
                    &field,
                    "expected a name of small letters, digits and `_` that begins with a letter",
                )
                .require(
                    !is_taken_name(name),
                    &field,
                    format!("`{name}` is, or may be, a measure of `evaluate`: take another name"),
                )
                .require(
                    !number.description.trim().is_empty() && is_line(&number.description),
                    &format!("{field}.description"),
                    "expected what the number measures, in one line",
                )
                .require(
                    is_line(&number.unit),
                    &format!("{field}.unit"),
                    "expected a unit in one line",
                );
        }
        checks.done()
    }

    fn constraints(&self) -> Vec<Constraint> {
        let node = |place: Place<'_>| match place {
            Place::Stage(name) => Some(name.to_owned()),
            Place::Path(_) => None,
        };
        let of = self.dataset.as_ref().and_then(|dataset| node(dataset.place()));
        let samples = node(self.samples.place());
        let one = |(dataset, node): (String, String)| Constraint {
            field: "samples".into(),
            node,
            inner: "dataset".into(),
            rule: Rule::Is(dataset),
        };
        of.zip(samples).map(one).into_iter().collect()
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let mut rows = samples::read(self.samples.path())?;
        rows.retain(|row| !row.outputs.is_empty());
        if rows.is_empty() {
            return Err(user("no row of `samples` has a sample").into());
        }
        let references = self.references(&rows)?;
        let folder = context.checkpoints().join(FOLDER);
        fs::remove_all(&folder)?;
        let start = folder.join("start");
        fs::create_dir_all(&start)?;
        let (input, output) = (folder.join(ROWS), folder.join(ANSWERS));
        let asked: Vec<Row<'_>> = rows
            .iter()
            .enumerate()
            .map(|(at, row)| Row {
                split: &row.split,
                id: &row.id,
                prompt: &row.prompt,
                reference: references.as_ref().map(|all| all[at].as_str()),
                samples: row.outputs.iter().map(|output| output.text.as_str()).collect(),
            })
            .collect();
        write_jsonl(&input, &asked)?;
        let streams = Streams { input: &input, output: &output };
        self.program().run(context, &start, Some(streams))?;
        let expected = Expected {
            program: &self.run[0],
            per: self.per,
            names: self.values.keys().map(String::as_str).collect(),
        };
        let valued = expected.read(&fs::read(&output)?, &rows)?;
        fs::remove_all(&folder)?;
        self.write(context, &valued)
    }
}

/// A row as the program reads it.
#[derive(Serialize)]
struct Row<'a> {
    split: &'a str,
    id: &'a str,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    samples: Vec<&'a str>,
}

impl MetricStage {
    /// The reference of each row, where there is a dataset.
    fn references(&self, rows: &[Sampled]) -> Result<Option<Vec<String>>> {
        let Some(dataset) = &self.dataset else { return Ok(None) };
        let dataset = Dataset::open(dataset.path())?;
        let mut known: BTreeMap<&str, BTreeMap<String, Example>> = BTreeMap::new();
        let mut references = Vec::with_capacity(rows.len());
        for row in rows {
            if !known.contains_key(row.split.as_str()) {
                let examples: Vec<Example> = dataset.split(&row.split)?;
                let by_id = examples.into_iter().map(|example| (example.id.clone(), example));
                known.insert(&row.split, by_id.collect());
            }
            let own = known[row.split.as_str()].get(&row.id);
            let Some(own) = own.filter(|example| example.prompt == row.prompt) else {
                let message = format!(
                    "`dataset` has no row `{}` in split `{}` with the prompt of the samples",
                    row.id, row.split
                );
                return Err(user(message).hint("name the dataset that the samples answer").into());
            };
            references.push(own.completion.clone());
        }
        Ok(Some(references))
    }

    /// The files of the artefact.
    fn write(&self, context: &Context, valued: &[Valued]) -> Result<()> {
        let mut splits: BTreeMap<&str, Vec<&Valued>> = BTreeMap::new();
        for row in valued {
            splits.entry(&row.split).or_default().push(row);
        }
        let number = |(name, config): (&String, &NumberConfig)| {
            let of_split = |(split, rows): (&&str, &Vec<&Valued>)| {
                ((*split).to_owned(), of_split(name, rows, self.per))
            };
            let number = Number {
                description: config.description.clone(),
                unit: unit(name, &config.unit),
                better: config.better,
                splits: splits.iter().map(of_split).collect(),
            };
            (name.clone(), number)
        };
        let values: BTreeMap<String, Number> = self.values.iter().map(number).collect();
        for (name, number) in &values {
            for (split, of) in number.splits.iter().filter(|(_, of)| of.inputs_without > 0) {
                context.warn(format!(
                    "`{name}`: {} of {} rows of split `{split}` have no number",
                    of.inputs_without,
                    splits[split.as_str()].len()
                ));
            }
        }
        let mut means = Map::new();
        for (name, number) in &values {
            for (split, of) in &number.splits {
                let mean = of.mean.map_or(Value::Null, |mean| mean.mean.into());
                means.insert(format!("{split}/{name}"), mean);
            }
        }
        let out = context.out();
        write_jsonl(&out.join(VALUES), valued)?;
        let summary = Summary { per: self.per, values };
        fs::write_atomic(&out.join(METRIC), &serde_json::to_vec_pretty(&summary)?)?;
        fs::write_atomic(&out.join(METRICS), format!("{}\n", Value::Object(means)).as_bytes())
    }
}

/// One number on a split.
fn of_split(name: &str, rows: &[&Valued], per: Per) -> OfSplit {
    let values: Vec<f64> = rows.iter().filter_map(|row| row.values[name]).collect();
    let each = rows.iter().flat_map(|row| row.each.get(name)).flatten();
    OfSplit {
        mean: (!values.is_empty()).then(|| of_values(name, &values)),
        inputs_without: rows.len() - values.len(),
        samples_without: (!per.is_input()).then(|| each.filter(|value| value.is_none()).count()),
    }
}

/// The unit of a number: of a share, where the config has none, a share.
fn unit(name: &str, given: &str) -> String {
    match (given.is_empty(), name.starts_with(SHARE)) {
        (true, true) => "share".into(),
        _ => given.into(),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
