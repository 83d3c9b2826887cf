//! Metrics of the user's, whose numbers stages `metric` have: rows of the table, figures of every
//! input, and comparisons, as of any other measure. Knows no program and no text.
//!
//! 1. The row of a method is over its inputs that have the number. How many lack it is said below
//!    the table.
//! 2. Methods are compared over the inputs of which all that were measured have the number, and,
//!    where it is one of all samples of an input together, as many samples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Found;
use super::config::EvaluateStage;
use super::measuring::Answers;
use super::own_metrics_config::Of;
use super::test_set::as_many;
use crate::artefacts::metric::{METRIC, Number, OwnMetric, Per, Summary, VALUES, Valued};
use crate::artefacts::table::Row;
use crate::data::dataset::test_split;
use crate::data::rows::{Example, read_jsonl};
use crate::data::samples::Sampled;
use crate::error::{Context as _, Result, user};
use crate::eval::compare::{Measured, of_values};
use crate::fs;

/// The rows of a method that were measured, each with its number.
type Numbers<'a> = Vec<(&'a Sampled, Option<f64>)>;

/// One metric: what it is, and every method's numbers.
pub(super) struct OwnNumbers {
    name: String,
    of: Of,
    per: Per,
    number: Number,
    /// By method, and by split and row.
    methods: BTreeMap<String, BTreeMap<(String, String), Valued>>,
}

impl OwnNumbers {
    /// Reads the numbers of all metrics of an evaluation.
    ///
    /// # Errors
    /// The user's: a stage does not have the number, or describes it otherwise than another.
    pub(super) fn read(config: &EvaluateStage) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (name, own) in &config.metrics {
            let mut first: Option<(&str, Per, Number)> = None;
            let mut methods = BTreeMap::new();
            for (method, reference) in &own.methods {
                let summary = summary(reference.path())?;
                let field = format!("metrics.{name}.methods.{method}");
                let Some(number) = summary.values.get(name) else {
                    let names: Vec<&str> = summary.values.keys().map(String::as_str).collect();
                    return Err(user(format!("`{field}` has no number `{name}`"))
                        .hint(format!("it has: {}", names.join(", ")))
                        .into());
                };
                let number = Number { splits: BTreeMap::new(), ..number.clone() };
                match &first {
                    Some((other, per, known)) if (*per, known) != (summary.per, &number) => {
                        let message = format!(
                            "`{field}` describes `{name}` otherwise than that of `{other}`"
                        );
                        return Err(user(message)
                            .hint("measure all methods of a metric by the same program")
                            .into());
                    }
                    Some(_) => {}
                    None => first = Some((method, summary.per, number)),
                }
                let rows: Vec<Valued> = read_jsonl(&reference.path().join(VALUES))?;
                let keyed = rows.into_iter().map(|row| ((row.split.clone(), row.id.clone()), row));
                methods.insert(method.clone(), keyed.collect());
            }
            let (_, per, number) = first.context("a metric has a method")?;
            all.push(OwnNumbers { name: name.clone(), of: own.of, per, number, methods });
        }
        Ok(all)
    }

    /// What the table says of the metric.
    pub(super) fn described(&self) -> OwnMetric {
        OwnMetric {
            metric: self.name.clone(),
            description: self.number.description.clone(),
            unit: self.number.unit.clone(),
            better: self.number.better,
            of_samples: self.of == Of::Samples,
            partial: Vec::new(),
        }
    }

    /// The rows of a method on a test set that were measured, each with its number.
    fn numbers<'a>(
        &self,
        method: &'a Answers,
        test_set: &str,
        examples: &[Example],
    ) -> Result<Numbers<'a>> {
        let split = test_split(test_set);
        let rows: Vec<&Sampled> = match self.of {
            Of::Samples => method.samples_of(test_set, examples),
            Of::Outputs => {
                let outputs = method.outputs.as_ref().context("the method has outputs")?;
                let row = |example: &Example| method.row(outputs, &split, example);
                examples.iter().map(row).collect::<Result<_>>()?
            }
        };
        let own = &self.methods[&method.name];
        let number = |row: &'a Sampled| {
            let same = |found: &&Valued| found.samples == row.outputs.len();
            let found = own.get(&(split.clone(), row.id.clone())).filter(same);
            match found.and_then(|found| found.values.get(&self.name)) {
                Some(number) => Ok((row, *number)),
                None => {
                    let message = format!(
                        "`metrics.{}.methods.{}` has not measured the {} `{}` of row `{}` of \
                         split `{split}`",
                        self.name,
                        method.name,
                        row.outputs.len(),
                        self.of.field(),
                        row.id
                    );
                    let hint = format!("give it the method's `{}` as `samples`", self.of.field());
                    Err(user(message).hint(hint).into())
                }
            }
        };
        rows.into_iter().map(number).collect()
    }

    /// The metric of every method on a test set.
    pub(super) fn test_set(
        &self,
        found: &mut Found,
        (test_set, examples): (&str, &[Example]),
        methods: &[Answers],
    ) -> Result<()> {
        let metric = self.name.as_str();
        let mut measured: Vec<(&Answers, Numbers<'_>)> = Vec::new();
        for method in methods {
            let name = method.name.as_str();
            if !self.methods.contains_key(name) {
                let why = format!("`metrics.{metric}` has no stage that measured it");
                found.left_out.note(&[metric], Some(name), test_set, &why);
                continue;
            }
            let numbers = self.numbers(method, test_set, examples)?;
            let known: Vec<(&str, f64)> = numbers
                .iter()
                .filter_map(|(row, number)| Some((row.id.as_str(), (*number)?)))
                .collect();
            let why = match (numbers.len(), numbers.len() - known.len()) {
                (0, _) => Some("its `samples` have no row of it".to_owned()),
                (_, 0) => None,
                (all, lacking) => Some(format!("{lacking} of {all} inputs have no such number")),
            };
            if let Some(why) = why {
                found.left_out.note(&[metric], Some(name), test_set, &why);
            }
            if known.is_empty() {
                continue;
            }
            for (id, value) in &known {
                found.answered(test_set, name, id, [(metric, *value)]);
            }
            let values: Vec<f64> = known.iter().map(|(_, value)| *value).collect();
            let row = Row::new(name, test_set, metric, of_values(metric, &values));
            found.table.rows.push(row);
            measured.push((method, numbers));
        }
        self.compare(found, test_set, &measured);
        Ok(())
    }

    /// What methods are compared by: the inputs that all have the number of.
    fn compare(&self, found: &mut Found, test_set: &str, measured: &[(&Answers, Numbers<'_>)]) {
        let known = |numbers: &[(&'_ Sampled, Option<f64>)]| -> BTreeSet<String> {
            let of = numbers.iter().filter(|(_, number)| number.is_some());
            of.map(|(row, _)| row.id.clone()).collect()
        };
        let of_all = measured.iter().map(|(_, numbers)| known(numbers));
        let mut common = of_all.reduce(|all, own| &all & &own).unwrap_or_default();
        if self.per.is_input() && self.of == Of::Samples {
            let rows: Vec<(&Answers, Vec<&Sampled>)> = measured
                .iter()
                .map(|(method, numbers)| (*method, numbers.iter().map(|(row, _)| *row).collect()))
                .collect();
            let as_many = as_many(&rows);
            common.retain(|id| as_many.contains(id.as_str()));
        }
        if measured.iter().any(|(_, numbers)| known(numbers) != common) {
            let own = found.table.own.iter_mut().filter(|own| own.metric == self.name);
            own.for_each(|own| own.partial.push(test_set.to_owned()));
        }
        for (method, numbers) in measured.iter().filter(|_| !common.is_empty()) {
            let shared = numbers.iter().filter(|(row, _)| common.contains(&row.id));
            found.measured.push(Measured {
                metric: self.name.clone(),
                test_set: test_set.into(),
                method: method.name.clone(),
                values: shared.filter_map(|(_, number)| *number).collect(),
            });
        }
    }
}

/// What a stage `metric` says of its numbers.
fn summary(folder: &Path) -> Result<Summary> {
    let path = folder.join(METRIC);
    serde_json::from_str(&fs::read_to_string(&path)?)
        .with_context(|| format!("cannot read {}", path.display()))
}
