//! `metric_validation`: ranks measures of diversity by a truth that is known by construction:
//! populations of answers whose content, wording, length and errors are drawn from all right
//! answers of a synthetic world.
//!
//! 1. Each input has populations that differ from one another in one thing (`populations.rs`).
//! 2. From each population the most samples of `k` are drawn; a smaller k takes the first of them.
//! 3. Every metric measures them (`values.rs`), and is held against the truths (`findings.rs`).
//! 4. Samples of models are counted by the same reader (`sampled.rs`).
//! 5. The table has the metrics in the order of their agreement with the entropy of content classes
//!    at the greatest k; its columns are test sets, each with the number of samples after `@`.
//!    `validation.json` has everything.

mod config;
mod findings;
mod populations;
mod sampled;
mod values;

use std::path::Path;

use serde::Serialize;

pub use self::config::MetricValidationStage;
use self::findings::{Finding, Measured, findings};
use self::populations::{Axis, Grid, Truth};
use self::sampled::{Counted, Ordered, counted};
use self::values::{Set, values};
use super::diversity::Measures;
use super::footprint::score;
use super::models::ArtefactShapes;
use super::{KindInfo, Problem, Stage};
use crate::artefacts::names::NOTES;
use crate::artefacts::table::{Row, TABLE, TABLE_MARKDOWN, TABLE_TEXT, Table};
use crate::artefacts::validation::VALIDATION;
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::dag::context::Context;
use crate::data::dataset::{Dataset, test_split};
use crate::data::rows::Example;
use crate::error::{Result, user};
use crate::eval::interval::average;
use crate::fs;
use crate::model::memory::{Memory, model};
use crate::model::weights::Model;
use crate::random::Stream;
use crate::report::run::Evaluation;
use crate::report::table::WIDTH;
use crate::report::text::{markdown, text};
use crate::world::answers::RightAnswers;

impl Stage for MetricValidationStage {
    const INFO: KindInfo = KindInfo::on_device("metric_validation", 1, "evaluation");

    fn computes_on_device(&self) -> bool {
        self.diversity.has_models()
    }

    fn problems(&self) -> Vec<Problem> {
        self.out_of_range()
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let models = self.diversity.models(shapes)?;
        if models.is_empty() {
            return None;
        }
        shapes.counted(("metric_validation", &models), |b| {
            let models: Vec<Model<Counting>> =
                models.iter().map(|(spec, head)| model(b, spec, *head)).collect();
            models.iter().for_each(|model| score(b, model));
            Ok(Memory::of(b, Memory::default()))
        })
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let dataset = Dataset::open(self.dataset.path())?;
        let all = dataset.tests().into_iter().map(String::from).collect();
        let test_sets: &Vec<String> =
            if self.test_sets.is_empty() { &all } else { &self.test_sets };
        let measures = Measures::load(context, b, &self.diversity, None, self.seed)?;
        let methods = sampled::read(&self.methods)?;
        let grid = Grid::new(self);
        let ends = grid.ends();
        let mut found = Found::default();
        let total = (test_sets.len() * self.inputs) as u64;
        for (at, test_set) in test_sets.iter().enumerate() {
            let examples: Vec<Example> = dataset.split(&test_split(test_set))?;
            let (mut inputs, mut seen) = (Vec::new(), 0);
            for example in &examples {
                if inputs.len() == self.inputs {
                    break;
                }
                seen += 1;
                inputs.extend(self.measured(&measures, grid, test_set, example)?);
                context.progress((at * self.inputs + inputs.len()) as u64, total, &[]);
                if context.stop_requested() {
                    return context.interrupted();
                }
            }
            if inputs.is_empty() {
                let message = format!(
                    "no row of test set `{test_set}` has the right answers that the populations need"
                );
                return Err(user(message)
                    .hint("give fewer `classes` or `wordings`, or a test set of richer rows")
                    .into());
            }
            found.notes.push(format!(
                "Inputs of {test_set}: {}; {} rows before the last of them have too few right \
                 answers for the populations.",
                inputs.len(),
                seen - inputs.len()
            ));
            found.populations.extend(described(test_set, &inputs));
            found.findings.extend(findings(test_set, &inputs, &self.k, &ends));
            if !methods.is_empty() {
                let (counted, ordered) = counted(&measures, test_set, &examples, &methods)?;
                found.counted.extend(counted);
                found.ordered.extend(ordered);
            }
        }
        found.write(context.out())
    }
}

impl MetricValidationStage {
    /// The populations of an input, and what the metrics say of samples of them; `None` if it has
    /// too few right answers.
    fn measured<B: Backend>(
        &self,
        measures: &Measures<'_, B>,
        grid: Grid<'_>,
        test_set: &str,
        example: &Example,
    ) -> Result<Option<Measured>> {
        let answers = right_answers(test_set, example)?;
        let stream = |what: &str| {
            let purpose = format!("metric_validation/{what}/{test_set}/{}", example.id);
            Stream::new(self.seed, &purpose)
        };
        let mut random = stream("populations").sequence(0);
        let Some(populations) = grid.populations(&answers, &mut random) else { return Ok(None) };
        let most = *self.k.last().expect("`k` is not empty");
        let draws = stream("samples");
        let sets: Vec<Set> = populations
            .iter()
            .enumerate()
            .map(|(at, population)| {
                let mut random = draws.sequence(at as u64);
                let drawn = (0..most).map(|_| {
                    let (text, class) = population.draw(&mut random);
                    (text.to_owned(), class)
                });
                let (texts, classes) = drawn.unzip();
                Set { texts, classes }
            })
            .collect();
        Ok(Some(Measured {
            names: populations.iter().map(|population| population.name.clone()).collect(),
            axes: populations.iter().map(|population| population.axis).collect(),
            truths: populations.iter().map(|population| population.truth()).collect(),
            values: values(measures, &sets, &self.k)?,
        }))
    }
}

/// The right answers of a row.
fn right_answers(test_set: &str, example: &Example) -> Result<RightAnswers> {
    RightAnswers::of(example).ok_or_else(|| {
        let message =
            format!("row `{}` of test set `{test_set}` is of no synthetic world", example.id);
        user(message)
            .hint("give a dataset made by `source: world` or `source: instructions`")
            .into()
    })
}

/// A population with the means of its truths over inputs.
#[derive(Serialize)]
struct Described {
    test_set: String,
    name: String,
    axis: Axis,
    truth: Truth,
}

fn described(test_set: &str, inputs: &[Measured]) -> Vec<Described> {
    let one = |at: usize| {
        let mean = |of: fn(&Truth) -> f64| {
            average(&inputs.iter().map(|input| of(&input.truths[at])).collect::<Vec<f64>>())
        };
        let truth = Truth {
            classes: mean(|truth| truth.classes),
            class_entropy: mean(|truth| truth.class_entropy),
            simpson: mean(|truth| truth.simpson),
            wording_entropy: mean(|truth| truth.wording_entropy),
            wrong: mean(|truth| truth.wrong),
            words: mean(|truth| truth.words),
        };
        Described {
            test_set: test_set.to_owned(),
            name: inputs[0].names[at].clone(),
            axis: inputs[0].axes[at],
            truth,
        }
    };
    (0..inputs[0].names.len()).map(one).collect()
}

/// All that is found: `validation.json`.
#[derive(Default, Serialize)]
struct Found {
    notes: Vec<String>,
    populations: Vec<Described>,
    findings: Vec<Finding>,
    #[serde(rename = "methods", skip_serializing_if = "Vec::is_empty")]
    counted: Vec<Counted>,
    #[serde(rename = "methods_ordered", skip_serializing_if = "Vec::is_empty")]
    ordered: Vec<Ordered>,
}

/// The table's name of an axis, for the response to it.
const RESPONSES: [(Axis, &str); 4] = [
    (Axis::Wording, "wording_response"),
    (Axis::Wrong, "wrong_response"),
    (Axis::Length, "length_response"),
    (Axis::Facts, "facts_response"),
];

impl Found {
    fn table(&self) -> Table {
        let most = self.findings.iter().map(|finding| finding.k).max();
        // The order of the blocks: agreement, responses, errors.
        let (mut rows, mut at_most, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for finding in &self.findings {
            let column = column(&finding.test_set, finding.k);
            let row = |metric: &str, figure| Row::new(&finding.metric, &column, metric, figure);
            let [content, wording] =
                ["class_entropy", "wording_entropy"].map(|of| finding.agreement[of]);
            rows.push(row("content_tau", content.tau_b));
            if let Some(own) = finding.errors.filter(|own| own.of != "simpson") {
                errors.push(row(&format!("{}_bias", own.of), own.bias));
                errors.push(row(&format!("{}_rmse", own.of), own.rmse));
            }
            if Some(finding.k) == most {
                at_most.push(row("content_ordered", content.ordered));
                at_most.push(row("wording_tau", wording.tau_b));
                let responses = RESPONSES
                    .iter()
                    .filter_map(|(axis, name)| Some(row(name, *finding.responses.get(axis)?)));
                at_most.extend(responses);
            }
        }
        rows.extend(at_most.into_iter().chain(errors));
        for counted in &self.counted {
            for (name, figure) in &counted.figures {
                let column = column(&counted.test_set, counted.k);
                rows.push(Row::new(&counted.method, &column, name, *figure));
            }
        }
        for ordered in &self.ordered {
            let column = column(&ordered.test_set, ordered.k);
            rows.push(Row::new(&ordered.metric, &column, "sampled_tau", ordered.coverage));
        }
        Table { rows, ..Table::default() }
    }

    /// The files of the artefact.
    fn write(&self, out: &Path) -> Result<()> {
        let table = self.table();
        let shown = Evaluation {
            table: table.clone(),
            judges: self.notes.clone(),
            ..Evaluation::default()
        };
        fs::write_atomic(&out.join(VALIDATION), &serde_json::to_vec_pretty(self)?)?;
        fs::write_atomic(&out.join(NOTES), &serde_json::to_vec_pretty(&self.notes)?)?;
        fs::write_atomic(&out.join(TABLE), table.json().as_bytes())?;
        fs::write_atomic(&out.join(TABLE_TEXT), text(&shown, WIDTH).as_bytes())?;
        fs::write_atomic(&out.join(TABLE_MARKDOWN), markdown(&shown).as_bytes())
    }
}

/// A column of the table: a test set and the number of samples.
fn column(test_set: &str, k: usize) -> String {
    format!("{test_set}@{k}")
}
