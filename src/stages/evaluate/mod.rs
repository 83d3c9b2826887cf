//! `evaluate`: the result table. Every method on every test set: performance, distance from the
//! reference policy, length, diversity, with 95% intervals over inputs; and the reward model's
//! accuracy on held-out pairs. Beside the table, what curves and comparisons are drawn from.
//!
//! 1. Performance is of `outputs` (the first of each input), diversity and KL of `samples` (several
//!    an input, at temperature 1).
//! 2. `kl` of a policy: mean over inputs of the mean over samples of log p - log p_reference,
//!    summed over tokens (k1). Of best-of-N: its upper bound log N - (N-1)/N, which needs no
//!    samples.
//! 3. At equal KL a policy and best-of-n are compared on their samples alone: KL, scores and
//!    diversity are of the same texts at the same temperature, and the difference has the error of
//!    all of them.
//! 4. The references are a method too, as far as one text an input goes: they tie with themselves,
//!    and they are diverse across inputs.
//! 5. Diversity per input is compared between methods on the inputs that all have as many samples
//!    of.
//! 6. Beside its own judge, which scores texts, it takes verdicts that `judge` stages have given
//!    (`judging.rs`).
//! 7. Where the config asks for it, the optimum of the KL-regularised objective is estimated from
//!    candidates of the reference policy (`optimum.rs`).
//! 8. Where the config asks for it, the models of methods are asked for the entropy of their
//!    next-token distributions and for the forward KL (`distributions.rs`).
//! 9. Numbers of the user's programs, which `metric` stages have, are compared as any other measure
//!    is (`own_metrics.rs`).
//! 10. Where the config asks for it, every measure of an input is held against what people say of
//!     two methods (`beside_people.rs`).
//! 11. Models, judge, outputs and samples are optional. What takes one that is absent is left out,
//!     and named below the table with the reason (`left_out.rs`).

mod accuracy;
mod attribution;
mod beside_people;
mod config;
mod curves;
mod distributions;
mod distributions_config;
mod diversity;
mod equal_kl;
mod equal_quality;
mod judging;
mod leaks;
mod left_out;
mod measuring;
mod memory;
mod optimum;
mod optimum_config;
mod own_metrics;
mod own_metrics_config;
mod own_samples;
mod quality;
mod reading;
mod required;
mod retention;
mod similarity;
mod test_set;

use std::path::Path;

pub use self::config::EvaluateStage;
use self::config::{Judge, Method};
use self::curves::training;
use self::distributions::Distributions;
use self::diversity::Diversity;
use self::equal_kl::AtEqualKl;
use self::equal_quality::Matching;
use self::judging::Judging;
use self::left_out::LeftOut;
use self::measuring::{Answers, Judges};
use self::optimum::Pool;
use self::own_metrics::OwnNumbers;
use self::quality::Quality;
use super::diversity::Measures;
use super::models::ArtefactShapes;
use super::reading::Reading;
use super::{Constraint, KindInfo, Problem, Stage};
use crate::artefacts::attribution::ATTRIBUTION;
use crate::artefacts::comparisons::{Between, COMPARISONS, Comparisons, MatchedQuality};
use crate::artefacts::curves::{BEST_OF_N, BestOfN, OVER_OPTIMISATION, Training};
use crate::artefacts::inputs::{INPUTS, Input};
use crate::artefacts::names::{DIVERSITY_FILE, JUDGES, METRICS, NOTES};
use crate::artefacts::optimum::{OPTIMUM, Optimum};
use crate::artefacts::people::{BesidePeople, PEOPLE};
use crate::artefacts::reward_model::{self, Accuracy};
use crate::artefacts::table::{Row, TABLE, TABLE_MARKDOWN, TABLE_TEXT, Table};
use crate::artefacts::temperatures::{TEMPERATURES, Temperatures};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::Dataset;
use crate::data::rows;
use crate::error::{Context as _, Result, user};
use crate::eval::compare::{Matched, Measured, differences, differences_of, gaps, head_to_head};
use crate::eval::gains::gain_gaps;
use crate::eval::interval::average;
use crate::fs;
use crate::model::memory::Memory;
use crate::report::run::Evaluation;
use crate::report::table::WIDTH;
use crate::report::text::{markdown, text};

/// The exact score.
const GOLD: &str = "gold";
/// The reward model's score.
const REWARD: &str = "rm";
/// The name of the references among the methods.
const REFERENCE: &str = "reference";
/// The name of the reward model among the methods.
const REWARD_MODEL: &str = "reward_model";
impl Stage for EvaluateStage {
    const INFO: KindInfo = KindInfo::on_device("evaluate", 9, "evaluation");

    fn problems(&self) -> Vec<Problem> {
        self.out_of_range()
    }

    fn constraints(&self) -> Vec<Constraint> {
        let of_samples = self.constraints_of_distributions();
        let of_metrics = self.constraints_of_metrics();
        [self.constraints_of_judges(), self.constraints_of_optimum(), of_samples, of_metrics]
            .concat()
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        memory::memory(self, shapes)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        reading::readings(self, shapes)
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let dataset = Dataset::open(self.dataset.path())?;
        let all = dataset.tests().into_iter().map(String::from).collect();
        let test_sets: &Vec<String> =
            if self.test_sets.is_empty() { &all } else { &self.test_sets };
        let preferences = self.preferences(context, test_sets)?;
        let mut judgings = Judging::read(self)?;
        let own = OwnNumbers::read(self)?;
        let rows =
            leaks::rows(self, context, (&dataset, preferences.as_ref()), test_sets, &mut judgings)?;
        let judge = Judges::load(context, b, self)?;
        let methods: Vec<Answers> =
            self.methods.iter().map(Answers::read).collect::<Result<_>>()?;
        let tokens = judge.policy.as_ref().map(|policy| policy.tokenizer.size());
        let measures = Measures::load(context, b, &self.diversity, tokens, self.seed)?;
        for method in &methods {
            method.check_samples(&rows.examples)?;
        }
        if let Some(quality) = &self.quality {
            quality.check(&methods, &rows.examples)?;
        }
        let studies = beside_people::read(self, &rows.examples, &methods)?;
        let pool = self.optimum.as_ref().map(Pool::read).transpose()?;
        let mut found = Found::default();
        found.table.own = own.iter().map(OwnNumbers::described).collect();
        let total = (test_sets.len() + self.models()) as u64;
        for (at, test_set) in test_sets.iter().enumerate() {
            context.progress(at as u64, total, &[]);
            let examples = &rows.examples[test_set];
            let place = || format!("in test set `{test_set}`");
            let warned = (at == 0).then_some(context);
            self.test_set(
                warned,
                &mut found,
                &judge,
                &judgings,
                &measures,
                test_set,
                examples,
                &methods,
                pool.as_ref(),
            )
            .with_context(place)?;
            for metric in &own {
                metric.test_set(&mut found, (test_set, examples), &methods).with_context(place)?;
            }
            if let (Some(pairs), Some(reward)) = (rows.pairs.get(test_set), &judge.reward) {
                let place = || format!("in the preferences of {test_set}");
                accuracy::measure(&mut found, &judge, reward, test_set, pairs)
                    .with_context(place)?;
            }
            if context.stop_requested() {
                return context.interrupted();
            }
        }
        if let Some(distributions) = &self.distributions {
            let mut done = test_sets.len() as u64;
            let told = || {
                done += 1;
                context.progress(done, total, &[]);
                context.stop_requested()
            };
            distributions.measure(&mut found, &judge, self, (test_sets, &rows), &methods, told)?;
            if context.stop_requested() {
                return context.interrupted();
            }
        }
        for study in &studies {
            found.beside_people.extend(study.beside(&found, &measures)?);
        }
        found.temperatures = methods.iter().map(Answers::temperatures).collect();
        for (config, method) in self.methods.iter().zip(&methods) {
            if let Some(policy) = &config.policy {
                found.trainings.extend(training(&method.name, policy.path(), &dataset)?);
            }
        }
        context.progress(total, total, &[]);
        rows.found.write(context.out())?;
        let left_out = std::mem::take(&mut found.left_out).finish(context, self, test_sets)?;
        let notes = Below { leaks: rows.found.notes(), left_out };
        found.write(context.out(), self, &judgings, notes)
    }
}

impl EvaluateStage {
    /// Models of methods that are measured.
    fn models(&self) -> usize {
        let own = self.methods.iter().filter(|method| method.own_model().is_some());
        own.take_while(|_| self.distributions.is_some()).count()
    }

    /// The preference pairs, if there are any: of one test set at least.
    fn preferences(&self, context: &Context, test_sets: &[String]) -> Result<Option<Dataset>> {
        let Some(preferences) = &self.preferences else { return Ok(None) };
        let pairs = Dataset::open(preferences.path())?;
        let (with, without): (Vec<&String>, Vec<&String>) =
            test_sets.iter().partition(|test_set| pairs.tests().contains(&test_set.as_str()));
        let listed = |names: &[&String]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        if with.is_empty() {
            let message =
                format!("`preferences` has no pairs of the test sets {}", listed(&without));
            return Err(user(message)
                .hint(format!("its test sets: {}", pairs.tests().join(", ")))
                .into());
        }
        if !without.is_empty() {
            context.warn(format!(
                "`preferences` has no pairs of {}: the reward model's accuracy is not measured \
                 there",
                listed(&without)
            ));
        }
        Ok(Some(pairs))
    }
}

/// Sentences below the table.
struct Below {
    /// On rows that models were trained on.
    leaks: Vec<String>,
    /// On what is left out.
    left_out: Vec<String>,
}

/// All that is found, test set by test set.
#[derive(Default)]
struct Found {
    table: Table,
    measured: Vec<Measured>,
    matched: Vec<AtEqualKl>,
    matched_quality: Vec<Matching>,
    between: Vec<Between>,
    curves: Vec<BestOfN>,
    diversity: Vec<Diversity>,
    reward: Vec<Accuracy>,
    trainings: Vec<Training>,
    optima: Vec<Optimum>,
    beside_people: Vec<BesidePeople>,
    temperatures: Vec<Temperatures>,
    /// Each input with every method's answer.
    inputs: Vec<Input>,
    left_out: LeftOut,
    quality: Quality,
    distributions: Distributions,
}

impl Found {
    /// Puts figures of a method's samples of an input beside the scores of its answer to it.
    fn answered<'a>(
        &mut self,
        test_set: &str,
        method: &str,
        id: &str,
        figures: impl IntoIterator<Item = (&'a str, f64)>,
    ) {
        let same = |input: &&mut Input| input.test_set == test_set && input.id == id;
        let answers = self.inputs.iter_mut().find(same).map(|input| &mut input.answers);
        if let Some(answer) = answers.into_iter().flatten().find(|answer| answer.method == method) {
            let figures = figures.into_iter().map(|(name, value)| (name.into(), Some(value)));
            answer.scores.extend(figures);
        }
    }

    /// Policies beside best-of-n at their mean score.
    fn matched_quality(&self, seed: u64) -> Vec<MatchedQuality> {
        let pairs: Vec<(&Measured, &Measured)> =
            self.matched_quality.iter().map(|one| (&one.method, &one.best)).collect();
        let of = |(one, difference): (&Matching, _)| MatchedQuality {
            by: one.by.into(),
            quality: one.quality,
            best_of: one.n,
            temperature: one.temperature,
            own: one.own,
            best: average(&one.best.values),
            difference,
        };
        self.matched_quality.iter().zip(differences_of(&pairs, seed)).map(of).collect()
    }

    /// The files of the artefact.
    fn write(
        &self,
        out: &Path,
        config: &EvaluateStage,
        judgings: &[Judging],
        Below { leaks, left_out }: Below,
    ) -> Result<()> {
        let seed = config.seed;
        let pairs: Vec<(&Measured, &Measured)> =
            self.matched.iter().map(|one| (&one.method, &one.best)).collect();
        let matched =
            self.matched.iter().zip(differences_of(&pairs, seed)).map(|(one, difference)| {
                Matched {
                    kl: one.kl.mean,
                    kl_interval: one.kl,
                    temperature: one.temperature,
                    own: average(&one.method.values),
                    best: average(&one.best.values),
                    difference,
                }
            });
        let mut all = differences(&self.measured, seed);
        all.extend(self.quality.differences(seed));
        let comparisons = Comparisons {
            differences: all,
            head_to_head: head_to_head(&self.measured, &[GOLD, REWARD]),
            gaps: gaps(&[self.measured.as_slice(), &self.quality.partial].concat()),
            gains: gain_gaps(&self.measured),
            matched: matched.collect(),
            matched_quality: self.matched_quality(seed),
            between: self.between.clone(),
        };
        rows::write_jsonl(&out.join(INPUTS), &self.inputs)?;
        let json = |name: &str, bytes: serde_json::Result<Vec<u8>>| {
            fs::write_atomic(&out.join(name), &bytes?)
        };
        json(COMPARISONS, serde_json::to_vec_pretty(&comparisons))?;
        json(TEMPERATURES, serde_json::to_vec_pretty(&self.temperatures))?;
        json(BEST_OF_N, serde_json::to_vec_pretty(&self.curves))?;
        json(DIVERSITY_FILE, serde_json::to_vec_pretty(&self.diversity))?;
        json(reward_model::REWARD_MODEL, serde_json::to_vec_pretty(&self.reward))?;
        json(OVER_OPTIMISATION, serde_json::to_vec_pretty(&self.trainings))?;
        self.quality.write(out)?;
        self.distributions.write(out)?;
        if !self.optima.is_empty() {
            json(OPTIMUM, serde_json::to_vec_pretty(&self.optima))?;
        }
        if !self.beside_people.is_empty() {
            json(PEOPLE, serde_json::to_vec_pretty(&self.beside_people))?;
        }
        let notes: Vec<String> = judgings.iter().map(Judging::note).collect();
        if !judgings.is_empty() {
            json(JUDGES, serde_json::to_vec_pretty(judgings))?;
            json(NOTES, serde_json::to_vec_pretty(&notes))?;
        }
        let attributions =
            attribution::attributions(&config.methods, &self.measured, &comparisons.differences);
        if !attributions.is_empty() {
            json(ATTRIBUTION, serde_json::to_vec_pretty(&attributions))?;
        }
        let own = config.judge.map(|judge| {
            format!(
                "win_rate: share of inputs won against the references, as judged by {}.",
                judge.who()
            )
        });
        let shown = Evaluation {
            table: self.table.clone(),
            comparisons,
            judges: own.into_iter().chain(notes).collect(),
            leaks,
            left_out,
            temperatures: self.temperatures.clone(),
            optimum: self.optima.clone(),
            beside_people: self.beside_people.clone(),
            ..Evaluation::default()
        };
        fs::write_atomic(&out.join(TABLE), self.table.json().as_bytes())?;
        fs::write_atomic(&out.join(TABLE_TEXT), text(&shown, WIDTH).as_bytes())?;
        fs::write_atomic(&out.join(TABLE_MARKDOWN), markdown(&shown).as_bytes())?;
        fs::write_atomic(&out.join(METRICS), metrics(&self.table).as_bytes())
    }
}

/// One line a row of the table, the figure under `METHOD/TEST_SET/METRIC`.
fn metrics(table: &Table) -> String {
    let name = |row: &Row| format!("{}/{}/{}", row.method, row.test_set, row.metric);
    let object: serde_json::Map<String, serde_json::Value> =
        table.rows.iter().map(|row| (name(row), row.figure.mean.into())).collect();
    format!("{}\n", serde_json::Value::Object(object))
}
