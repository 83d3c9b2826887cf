//! Quality beside diversity: which samples are good and which are of one functional class, how
//! diverse the good ones are, and what the best of k samples reaches. Rows of the table, figures
//! of every input, and curves over k.
//!
//! 1. All of it is of the first K samples of an input, K being as many as every input of every
//!    method has on the test set, so that methods compare.
//! 2. What every input has is compared over the inputs that every method has samples of.
//! 3. The diversity of good samples is compared between two methods over the inputs of which both
//!    have two good samples, which are others for each two (`eval/quality.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::curves::golds;
use super::measuring::{Answers, Asked, Judges};
use super::{Found, Judge};
use crate::artefacts::quality::{
    AtK, BEST_AT_K, CLASS_ENTROPY, DISTINCT_K, EFFECTIVE, GOOD, GOOD_SHARE, Graded, PASS_AT_K,
    QUALITY, QUALITY_CONTROL, QUALITY_INPUTS, SIMPSON, TOTAL, UTILITY_K, WIN_AT_K,
};
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::test_split;
use crate::data::rows::{self, Example};
use crate::data::samples::{Output, Sampled};
use crate::error::{Context as _, Result, user};
use crate::eval::classes;
use crate::eval::compare::{Difference, Measured, differences_of, of_values};
use crate::eval::interval::average;
use crate::eval::quality::{Diversity, FEWEST_GOOD, best_at_k, effective, good, pass_at_k, shared};
use crate::eval::spread::OfSet;
use crate::eval::win;
use crate::fs;
use crate::stages::Checks;
use crate::stages::diversity::Measures;
use crate::stages::equivalence::Classes;
use crate::world;

/// All measures of the diversity of good samples, among what is left out.
const GOOD_DIVERSITY: &str = "diversity_of_good";

/// Quality of samples beside their diversity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    /// Score of every sample.
    pub by: Judge,
    /// Least score of a good sample.
    pub good: f64,
    /// Samples of an input that are of one functional class.
    #[serde(default)]
    pub classes: Classes,
    /// The k of `distinct_k` and `utility_k`, which are of the first k samples of an input, and of
    /// `pass_at_k` and `best_at_k`, which are of any k. `null` takes as many as every input of
    /// every method has.
    #[serde(default)]
    pub k: Option<usize>,
    /// Weight of a sample in `utility_k` over that of the sample before it.
    #[serde(default = "patience")]
    pub patience: f64,
    /// Ascending scores; the utility of a sample is 1 plus the number of them that its score is
    /// above. `null` takes nine: of gold -0.8, -0.6, ..., 0.8, of the reward model's normalised
    /// score the deciles of the standard normal distribution.
    #[serde(default)]
    pub utility_thresholds: Option<Vec<f64>>,
    /// Win rate of the best of k samples against the reference, by the same score.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wins: bool,
}

/// NoveltyBench's.
fn patience() -> f64 {
    0.8
}

impl QualityConfig {
    /// The thresholds of utilities.
    fn thresholds(&self) -> &[f64] {
        match (&self.utility_thresholds, self.by) {
            (Some(own), _) => own,
            (None, Judge::Gold) => &classes::TENTHS,
            (None, Judge::RewardModel) => &classes::NORMAL_DECILES,
        }
    }

    /// Whether rows have to be of a synthetic world.
    fn is_of_world(&self) -> bool {
        self.by == Judge::Gold || self.classes.is_of_world()
    }

    /// Notes values out of range.
    pub(super) fn out_of_range(&self, checks: &mut Checks) {
        let ascending = |own: &Vec<f64>| {
            !own.is_empty()
                && own.iter().all(|score| score.is_finite())
                && own.windows(2).all(|two| two[0] < two[1])
        };
        let message = "expected one or more finite numbers, each above the one before";
        self.classes.out_of_range(checks, "quality.classes");
        checks
            .require(self.good.is_finite(), "quality.good", "expected a finite number")
            .positive_or_null(self.k, "quality.k")
            .require(
                self.patience > 0.0 && self.patience <= 1.0,
                "quality.patience",
                format!("expected above 0 and at most 1, found {}", self.patience),
            )
            .require(
                self.utility_thresholds.as_ref().is_none_or(ascending),
                "quality.utility_thresholds",
                message,
            );
    }

    /// Refuses, before anything is measured, rows without gold where it is needed, and samples that
    /// are fewer than `k`.
    pub(super) fn check(
        &self,
        methods: &[Answers],
        examples: &BTreeMap<String, Vec<Example>>,
    ) -> Result<()> {
        for (test_set, rows) in examples {
            let stranger = rows.iter().find(|row| world::gold(row, "", true).is_none());
            if let Some(row) = stranger.filter(|_| self.is_of_world()) {
                let message = format!(
                    "`quality` needs gold, but row `{}` of test set `{test_set}` is of no \
                     synthetic world",
                    row.id
                );
                return Err(user(message)
                    .hint("set `by: reward_model` and `classes: rouge1`, or remove `quality`")
                    .into());
            }
            let split = &test_split(test_set);
            let mut samples = methods.iter().flat_map(|method| {
                rows.iter().filter_map(move |row| Some((method, method.sampled(split, &row.id)?)))
            });
            let few = |(_, row): &(&Answers, &Sampled)| {
                (1..self.k.unwrap_or(1)).contains(&row.outputs.len())
            };
            if let Some((method, row)) = samples.find(few) {
                let message = format!(
                    "`quality.k` is {}, but method `{}` has {} samples of row `{}` of test set \
                     `{test_set}`",
                    self.k.unwrap_or(1),
                    method.name,
                    row.outputs.len(),
                    row.id
                );
                return Err(user(message).hint("generate more samples, or lower `k`").into());
            }
        }
        Ok(())
    }
}

/// What is found beside the table.
#[derive(Default)]
pub(super) struct Quality {
    /// pass@k and best@k for every k.
    pub(super) curves: Vec<AtK>,
    /// Every input of every method.
    pub(super) inputs: Vec<Graded>,
    /// Diversity of good samples, of the inputs that have some.
    pub(super) partial: Vec<Measured>,
    /// The same of two methods over the inputs that both have it of, the later method first.
    pub(super) pairs: Vec<(Measured, Measured)>,
}

impl Quality {
    /// Every two methods by the diversity of good samples.
    pub(super) fn differences(&self, seed: u64) -> Vec<Difference> {
        let pairs: Vec<(&Measured, &Measured)> = self.pairs.iter().map(|(a, b)| (a, b)).collect();
        differences_of(&pairs, seed)
    }

    /// The files, where anything was measured.
    pub(super) fn write(&self, out: &Path) -> Result<()> {
        if self.inputs.is_empty() {
            return Ok(());
        }
        rows::write_jsonl(&out.join(QUALITY_INPUTS), &self.inputs)?;
        fs::write_atomic(&out.join(QUALITY), &serde_json::to_vec_pretty(&self.curves)?)
    }
}

/// A measure of diversity by name, and what it is of each input of a method; `None` of an input
/// with too few good samples.
type OfGood = (&'static str, Vec<Option<Diversity>>);

/// The samples of a method on a test set.
struct GradedMethod<'a> {
    method: &'a str,
    inputs: Vec<GradedInput<'a>>,
    of_good: Vec<OfGood>,
}

/// The samples of a method for one input.
struct GradedInput<'a> {
    id: &'a str,
    scores: Vec<f64>,
    /// The outcome of each sample against the reference, where that is scored.
    wins: Option<Vec<f64>>,
    classes: Vec<usize>,
    /// The places of the good samples.
    good: Vec<usize>,
    /// What every input has.
    figures: Vec<(&'static str, f64)>,
}

impl QualityConfig {
    /// The quality of every method's samples on a test set; samples that do not count are told to
    /// `warned`.
    pub(super) fn test_set<B: Backend>(
        &self,
        warned: Option<&Context>,
        found: &mut Found,
        (judge, measures): (&Judges<'_, B>, &Measures<'_, B>),
        (test_set, examples): (&str, &[Example]),
        methods: &[(&Answers, Vec<&Sampled>)],
    ) -> Result<()> {
        let counts = methods.iter().flat_map(|(_, rows)| rows).map(|row| row.outputs.len());
        let Some(samples) = counts.filter(|count| *count > 0).min() else { return Ok(()) };
        let mut graded: Vec<GradedMethod<'_>> = Vec::new();
        for (method, rows) in methods {
            let most = rows.iter().map(|row| row.outputs.len()).max().unwrap_or(0);
            if let Some(context) = warned.filter(|_| most > samples) {
                context.warn(format!(
                    "quality: of the {most} samples of method `{}` the first {samples} of each \
                     input count, as many as every method has",
                    method.name
                ));
            }
            let rows: Vec<(&Example, &[Output])> =
                rows.iter().filter_map(|row| first(examples, row, samples)).collect();
            if !rows.is_empty() {
                graded.push(self.grade(judge, measures, test_set, &method.name, &rows)?);
            }
        }
        let common = in_all(&graded);
        for own in &graded {
            found.quality_of(test_set, own, &common);
        }
        for (at, with) in graded.iter().enumerate() {
            for method in &graded[at + 1..] {
                found.narrowing(test_set, method, with);
            }
        }
        Ok(())
    }
}

/// The example of a row and its first samples, where it has any.
fn first<'a>(
    examples: &'a [Example],
    row: &'a Sampled,
    samples: usize,
) -> Option<(&'a Example, &'a [Output])> {
    let example = examples.iter().find(|example| example.id == row.id)?;
    Some((example, row.outputs.get(..samples)?))
}

/// The names of the inputs that every method has.
fn in_all<'a>(graded: &[GradedMethod<'a>]) -> BTreeSet<&'a str> {
    let ids =
        |one: &GradedMethod<'a>| one.inputs.iter().map(|input| input.id).collect::<BTreeSet<_>>();
    let all = graded.iter().map(ids);
    all.reduce(|all, own| &all & &own).unwrap_or_default()
}

impl QualityConfig {
    fn grade<'a, B: Backend>(
        &self,
        judge: &Judges<'_, B>,
        measures: &Measures<'_, B>,
        test_set: &str,
        method: &'a str,
        rows: &[(&'a Example, &[Output])],
    ) -> Result<GradedMethod<'a>> {
        let scores = self.scores(judge, test_set, rows)?;
        let equivalence = judge.equivalence.as_ref().context("`quality` has classes")?;
        let answers: Vec<(&Example, Vec<&str>)> = rows
            .iter()
            .map(|(example, outputs)| {
                (*example, outputs.iter().map(|output| output.text.as_str()).collect())
            })
            .collect();
        let classes = equivalence.classes(&answers)?;
        let thresholds = self.thresholds();
        let references = match self.wins {
            true => Some(self.references(judge, test_set, rows)?),
            false => None,
        };
        let inputs: Vec<GradedInput<'a>> = rows
            .iter()
            .zip(scores.into_iter().zip(classes))
            .enumerate()
            .map(|(at, ((example, _), (scores, classes)))| {
                let reference = references.as_ref().map(|all| all[at]);
                self.input(&example.id, (scores, reference), classes, thresholds)
            })
            .collect();
        let texts: Vec<Vec<&str>> = rows
            .iter()
            .map(|(_, outputs)| outputs.iter().map(|output| output.text.as_str()).collect())
            .collect();
        let of_classes = |input: &GradedInput<'_>| {
            input.of_good(|places| classes::simpson(&input.classes, places))
        };
        let mut of_good = vec![(SIMPSON, inputs.iter().map(of_classes).collect())];
        for (metric, of_inputs) in measures.of_parts(&texts)? {
            let one = |(input, measure): (&GradedInput<'_>, &OfSet<'_>)| {
                input.of_good(|places| average(&measure(places)))
            };
            of_good.push((metric.name(), inputs.iter().zip(&of_inputs).map(one).collect()));
        }
        Ok(GradedMethod { method, inputs, of_good })
    }

    /// The scores of each row's samples.
    fn scores<B: Backend>(
        &self,
        judge: &Judges<'_, B>,
        test_set: &str,
        rows: &[(&Example, &[Output])],
    ) -> Result<Vec<Vec<f64>>> {
        if self.by == Judge::Gold {
            let gold = |(example, outputs): &(&Example, &[Output])| golds(example, outputs);
            return rows.iter().map(gold).collect::<Option<_>>().context("rows have gold");
        }
        let all =
            || rows.iter().flat_map(|(row, outputs)| outputs.iter().map(move |it| (*row, it)));
        let asked: Vec<Asked<'_>> = all().map(|(row, _)| row.into()).collect();
        let texts: Vec<&str> = all().map(|(_, output)| output.text.as_str()).collect();
        let scores = judge.rewards(&test_split(test_set), &asked, &texts)?;
        let mut scores = scores.context("`quality` has a reward model")?.into_iter();
        let own = |(_, outputs): &(&Example, &[Output])| {
            scores.by_ref().take(outputs.len()).collect::<Vec<f64>>()
        };
        Ok(rows.iter().map(own).collect())
    }

    /// The score of each row's reference.
    fn references<B: Backend>(
        &self,
        judge: &Judges<'_, B>,
        test_set: &str,
        rows: &[(&Example, &[Output])],
    ) -> Result<Vec<f64>> {
        let (asked, texts): (Vec<Asked<'_>>, Vec<&str>) =
            rows.iter().map(|(row, _)| (Asked::from(*row), row.completion.as_str())).unzip();
        match self.by {
            Judge::Gold => rows
                .iter()
                .map(|(row, _)| Some(world::gold(row, &row.completion, true)?.score))
                .collect::<Option<_>>()
                .context("rows have gold"),
            Judge::RewardModel => judge
                .rewards(&test_split(test_set), &asked, &texts)?
                .context("`quality` has a reward model"),
        }
    }

    /// What is measured of every input, whose samples have scores, and whose reference has one
    /// where it is beside them.
    fn input<'a>(
        &self,
        id: &'a str,
        (scores, reference): (Vec<f64>, Option<f64>),
        classes: Vec<usize>,
        thresholds: &[f64],
    ) -> GradedInput<'a> {
        let samples = scores.len();
        let k = self.k.unwrap_or(samples);
        let good = good(&scores, self.good);
        let qualities: Vec<f64> =
            (0..samples).map(|at| f64::from(u8::from(good.contains(&at)))).collect();
        let utilities: Vec<f64> =
            scores.iter().map(|score| classes::level(*score, thresholds)).collect();
        let apart = |i: usize, j: usize| f64::from(u8::from(classes[i] != classes[j]));
        let wins = reference.map(|reference| win::outcomes(&scores, &vec![reference; samples]));
        let mut figures = vec![
            (GOOD_SHARE, good.len() as f64 / samples as f64),
            (DISTINCT_K, classes::distinct(&classes, k) as f64),
            (UTILITY_K, classes::utility(&classes, &utilities, self.patience, k)),
            (PASS_AT_K, pass_at_k(good.len(), samples, k)),
            (BEST_AT_K, best_at_k(&scores, k)),
            (EFFECTIVE, effective(&qualities, apart)),
            (CLASS_ENTROPY, classes::entropy(&classes)),
        ];
        figures.extend(wins.iter().map(|wins| (WIN_AT_K, best_at_k(wins, k))));
        GradedInput { id, scores, wins, classes, good, figures }
    }
}

impl GradedInput<'_> {
    /// A measure of the samples at some places: of all and of the good ones, where these are
    /// enough.
    fn of_good(&self, measure: impl Fn(&[usize]) -> f64) -> Option<Diversity> {
        let all: Vec<usize> = (0..self.scores.len()).collect();
        (self.good.len() >= FEWEST_GOOD)
            .then(|| Diversity { all: measure(&all), good: measure(&self.good) })
    }
}

impl GradedMethod<'_> {
    /// Whether an input has enough good samples for their diversity.
    fn has_good(&self) -> bool {
        self.inputs.iter().any(|input| input.good.len() >= FEWEST_GOOD)
    }

    /// The values of one of the figures that every input has.
    fn values(&self, at: usize) -> Vec<f64> {
        self.inputs.iter().map(|input| input.figures[at].1).collect()
    }

    /// pass@k and best@k, for every k; the win rate of the best of k too, where there is one.
    fn curves(&self, test_set: &str) -> Vec<AtK> {
        let samples = self.inputs.iter().map(|input| input.scores.len()).min().unwrap_or(0);
        let curve = |metric: &str, of: &dyn Fn(&GradedInput<'_>, usize) -> f64| {
            let at = |k| {
                let values: Vec<f64> = self.inputs.iter().map(|input| of(input, k)).collect();
                of_values(metric, &values)
            };
            let by_k = (1..=samples).map(at).collect();
            let (method, test_set) = (self.method.into(), test_set.into());
            AtK { method, test_set, metric: metric.into(), by_k }
        };
        let mut curves = vec![
            curve(PASS_AT_K, &|input, k| pass_at_k(input.good.len(), samples, k)),
            curve(BEST_AT_K, &|input, k| best_at_k(&input.scores, k)),
        ];
        if self.inputs.iter().all(|input| input.wins.is_some()) {
            let wins = |input: &GradedInput<'_>, k| {
                input.wins.as_ref().map_or(0.0, |wins| best_at_k(wins, k))
            };
            curves.push(curve(WIN_AT_K, &wins));
        }
        curves
    }
}

/// One figure of a measure's diversity of all and of good samples.
type Part = fn(Diversity) -> f64;

/// The three figures of a measure's diversity of good samples, by their endings.
const PARTS: [(&str, Part); 3] =
    [(TOTAL, |of| of.all), (GOOD, |of| of.good), (QUALITY_CONTROL, Diversity::control)];

impl Found {
    /// Rows, curves and inputs of one method; `common` are the inputs that methods are compared on.
    fn quality_of(&mut self, test_set: &str, own: &GradedMethod<'_>, common: &BTreeSet<&str>) {
        let measured = |metric: &str, values: Vec<f64>| Measured {
            metric: metric.into(),
            test_set: test_set.into(),
            method: own.method.into(),
            values,
        };
        let mut figures: Vec<BTreeMap<String, f64>> = vec![BTreeMap::new(); own.inputs.len()];
        for input in &own.inputs {
            self.answered(test_set, own.method, input.id, input.figures.iter().copied());
        }
        for (at, (metric, _)) in own.inputs[0].figures.iter().enumerate() {
            let values = own.values(at);
            let row = Row::new(own.method, test_set, metric, of_values(metric, &values));
            self.table.rows.push(row);
            let shared = own.inputs.iter().zip(&values);
            let shared = shared.filter(|(input, _)| common.contains(input.id));
            let shared: Vec<f64> = shared.map(|(_, value)| *value).collect();
            if !shared.is_empty() {
                self.measured.push(measured(metric, shared));
            }
            for (figures, value) in figures.iter_mut().zip(values) {
                figures.insert((*metric).to_owned(), value);
            }
        }
        if !own.has_good() {
            let why = "no input has two good samples";
            self.left_out.note(&[GOOD_DIVERSITY], Some(own.method), test_set, why);
        }
        for (measure, of_inputs) in own.of_good.iter().filter(|_| own.has_good()) {
            for (ending, part) in PARTS {
                let metric = format!("{measure}{ending}");
                let values: Vec<f64> = of_inputs.iter().flatten().copied().map(part).collect();
                let row = Row::new(own.method, test_set, &metric, of_values(&metric, &values));
                self.table.rows.push(row);
                self.quality.partial.push(measured(&metric, values));
                for (figures, of) in figures.iter_mut().zip(of_inputs) {
                    figures.extend(of.map(|of| (metric.clone(), part(of))));
                }
            }
        }
        self.quality.curves.extend(own.curves(test_set));
        for (input, figures) in own.inputs.iter().zip(figures) {
            self.quality.inputs.push(Graded {
                test_set: test_set.into(),
                id: input.id.into(),
                method: own.method.into(),
                scores: input.scores.clone(),
                classes: input.classes.clone(),
                figures,
            });
        }
    }

    /// The diversity of good samples of one method beside that of another, over the inputs of which
    /// both have enough.
    fn narrowing(&mut self, test_set: &str, method: &GradedMethod<'_>, with: &GradedMethod<'_>) {
        if !method.has_good() || !with.has_good() {
            return;
        }
        let place: BTreeMap<&str, usize> =
            with.inputs.iter().enumerate().map(|(at, input)| (input.id, at)).collect();
        for ((measure, own), (_, other)) in method.of_good.iter().zip(&with.of_good) {
            let theirs: Vec<Option<Diversity>> =
                method.inputs.iter().map(|input| other[*place.get(input.id)?]).collect();
            let both = shared(own, &theirs);
            if both.is_empty() {
                let name = format!("{} - {}", method.method, with.method);
                let why = "no input has two good samples of both";
                self.left_out.note(&[GOOD_DIVERSITY], Some(&name), test_set, why);
                return;
            }
            for (ending, part) in PARTS {
                let metric = format!("{measure}{ending}");
                let measured =
                    |name: &str, of: fn(&(Diversity, Diversity)) -> Diversity| Measured {
                        metric: metric.clone(),
                        test_set: test_set.into(),
                        method: name.into(),
                        values: both.iter().map(|two| part(of(two))).collect(),
                    };
                let pair =
                    (measured(method.method, |two| two.0), measured(with.method, |two| two.1));
                self.quality.pairs.push(pair);
            }
        }
    }
}
