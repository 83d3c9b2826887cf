//! The optimum of the KL-regularised objective on a test set, from cached candidates of the
//! reference policy, beside best-of-n of the same candidates and the samples of the methods. Knows
//! no table.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::config::{EvaluateStage, Judge};
use super::curves::{distance, golds, raw_scores, scores};
use super::equal_kl::{PolicySamples, rewards};
use super::measuring::{Judges, Scores, temperature};
use super::optimum_config::OptimumConfig;
use super::{Found, GOLD, REWARD};
use crate::artefacts::optimum::{AtBeta, AtN, DISTANCE, Figures, OfMethod, Optimum};
use crate::artefacts::points::family;
use crate::backend::Backend;
use crate::data::dataset::test_split;
use crate::data::rows::Example;
use crate::data::samples::{self, Output, Sampled};
use crate::error::{Result, user};
use crate::eval::interval::{Clusters, average, of_mean};
use crate::eval::optimum::{
    Estimate, FEWEST_CANDIDATES, Weighted, effective_over_inputs, over_inputs,
};
use crate::eval::over_optimisation::{self, Fit, Form, Point};
use crate::eval::{best_of_n, diversity, vendi, win};
use crate::rl::advantage::MissingEos;

const KL: &str = "kl";
const WIN_RATE: &str = "win_rate";
/// The score after the missing-EOS rule, where there is one.
const AFTER_RULE: &str = "reward";

/// The candidates, by split and row.
pub(super) struct Pool<'a> {
    config: &'a OptimumConfig,
    rows: BTreeMap<(String, String), Sampled>,
}

impl<'a> Pool<'a> {
    /// Those that the config names.
    ///
    /// # Errors
    /// The user's: of rows without enough candidates that a reward model has scored, or scored by
    /// another missing-EOS rule.
    pub(super) fn read(config: &'a OptimumConfig) -> Result<Self> {
        let rows = samples::read(config.candidates.path())?;
        for row in &rows {
            let count = scores(row).map_or(0, |scores| scores.len());
            if count < FEWEST_CANDIDATES {
                let message = format!(
                    "`optimum.candidates`: row `{}` of split `{}` has {count} candidates with a \
                     reward, {FEWEST_CANDIDATES} are the fewest",
                    row.id, row.split
                );
                let hint = "give it a stage `best_of_n` with a larger `n`, `outputs` or `pool`";
                return Err(user(message).hint(hint).into());
            }
            let ruled = |one: &Output| Some(config.missing_eos.apply(one.raw_reward()?, one.ended));
            if row.candidates.iter().any(|one| ruled(one) != one.reward) {
                let message = format!(
                    "`optimum.missing_eos` is not that of `optimum.candidates`: it makes another \
                     reward of a candidate of row `{}` of split `{}`",
                    row.id, row.split
                );
                let hint = "give it the `missing_eos` of the stage that sampled the candidates";
                return Err(user(message).hint(hint).into());
            }
        }
        let rows = rows.into_iter().map(|row| ((row.split.clone(), row.id.clone()), row)).collect();
        Ok(Pool { config, rows })
    }

    /// The rows of a test set that have candidates, each with its place among the examples.
    fn of<'b>(&'b self, test_set: &str, examples: &'b [Example]) -> Result<Vec<Row<'b>>> {
        let split = test_split(test_set);
        let own = examples.iter().enumerate().filter_map(|(at, example)| {
            let sampled = self.rows.get(&(split.clone(), example.id.clone()))?;
            Some(Row { at, example, sampled })
        });
        let rows: Vec<Row<'b>> = own.collect();
        match rows.iter().find(|row| row.sampled.prompt != row.example.prompt) {
            None => Ok(rows),
            Some(Row { example, .. }) => Err(user(format!(
                "`optimum.candidates`: row `{}` of split `{split}` has another prompt than the \
                 dataset",
                example.id
            ))
            .hint("sample the candidates from the same dataset")
            .into()),
        }
    }
}

/// A row with candidates.
struct Row<'a> {
    /// Among the examples of the test set.
    at: usize,
    example: &'a Example,
    sampled: &'a Sampled,
}

/// What a metric says of every candidate of an input.
type Values = Vec<(&'static str, Vec<f64>)>;

/// What one input says of the optimum and of best-of-n.
struct OfInput {
    /// At each beta: the effective sample size, and an estimate a metric.
    by_beta: Vec<(f64, Vec<(&'static str, Estimate)>)>,
    /// At each n a value a metric.
    by_n: Vec<Vec<(&'static str, f64)>>,
}

impl EvaluateStage {
    /// The optimum on a test set, where the evaluation has candidates of it.
    pub(super) fn optimum(
        &self,
        found: &mut Found,
        judge: &Judges<'_, impl Backend>,
        pool: &Pool<'_>,
        (test_set, examples): (&str, &[Example]),
        reference: Option<&Scores>,
        policies: &[PolicySamples<'_>],
    ) -> Result<()> {
        let rows = pool.of(test_set, examples)?;
        let sampled: Vec<&Sampled> = rows.iter().map(|row| row.sampled).collect();
        let Some(temperature) = temperature(&sampled) else {
            let why = match rows.is_empty() {
                true => "`optimum.candidates` has no row of it",
                false => "its candidates are greedy, of a cut distribution or of two temperatures",
            };
            found.left_out.note(&["optimum"], None, test_set, why);
            return Ok(());
        };
        let against = match (self.judge, reference) {
            (Some(judge), Some(reference)) => Some((judge, reference.judged(judge)?)),
            _ => None,
        };
        let candidates = sampled.iter().map(|row| row.candidates.len()).min().unwrap_or(0);
        let own = of_own_candidates(&sampled);
        let ns = ns(candidates, own.as_ref().map(|(n, _)| *n));
        let values = common(rows.iter().map(|row| values(row, against)).collect());
        // Without a missing-EOS rule the score after it is not shown.
        let ruled = pool.config.missing_eos != MissingEos::Keep;
        let of = |(row, values): (&Row<'_>, &Values)| {
            OfInput::of(row.sampled, values, usize::from(!ruled), &pool.config.betas, &ns)
        };
        let inputs: Vec<OfInput> = rows.par_iter().zip(&values).map(of).collect();
        let min_ess = pool.config.min_ess;
        let betas = pool.config.betas.iter().enumerate();
        let (mut methods, mut points) = (Vec::new(), Vec::new());
        for policy in policies.iter().filter(|policy| policy.temperature == temperature) {
            let rule = pool.config.missing_eos;
            let own = of_method(judge, test_set, (&rows, rule), against, policy)?;
            let (method, point) = own.unzip();
            methods.extend(method);
            points.extend(point.flatten().filter(|_| policy.trained));
        }
        found.optima.push(Optimum {
            test_set: test_set.into(),
            temperature,
            inputs: rows.len(),
            candidates,
            min_ess,
            by_beta: betas.map(|(at, beta)| at_beta(*beta, at, &inputs, min_ess)).collect(),
            best_of_n: ns.iter().enumerate().map(|(at, n)| at_n(*n, at, &inputs, &own)).collect(),
            methods,
            fits: fits(&ns, &inputs, &points),
        });
        Ok(())
    }
}

/// What every metric that an input has says of its candidates.
fn values(row: &Row<'_>, against: Option<(Judge, &[f64])>) -> Values {
    let Sampled { candidates, .. } = row.sampled;
    let rewards = scores(row.sampled).unwrap_or_default();
    let raw = raw_scores(row.sampled).unwrap_or_default();
    let gold = golds(row.example, candidates);
    let judged = match against {
        Some((Judge::Gold, references)) => gold.as_ref().map(|gold| (gold, references)),
        Some((Judge::RewardModel, references)) => Some((&raw, references)),
        None => None,
    };
    let wins = judged.map(|(scores, references)| wins(scores, references[row.at]));
    let mut values = vec![(AFTER_RULE, rewards)];
    values.extend(gold.map(|gold| (GOLD, gold)));
    values.extend(wins.map(|wins| (WIN_RATE, wins)));
    values.push((REWARD, raw));
    values
}

fn wins(scores: &[f64], reference: f64) -> Vec<f64> {
    win::outcomes(scores, &vec![reference; scores.len()])
}

/// The metrics that all inputs have; the score after the missing-EOS rule comes first, which
/// candidates are weighted by.
fn common(inputs: Vec<Values>) -> Vec<Values> {
    let everywhere =
        |metric: &str| inputs.iter().all(|values| values.iter().any(|(other, _)| *other == metric));
    let kept: Vec<&str> =
        [AFTER_RULE, GOLD, WIN_RATE, REWARD].into_iter().filter(|one| everywhere(one)).collect();
    let mut inputs = inputs;
    inputs.iter_mut().for_each(|values| values.retain(|(metric, _)| kept.contains(metric)));
    inputs
}

impl OfInput {
    /// Candidates are weighted by the first values; those from `shown` on are measured.
    fn of(row: &Sampled, values: &Values, shown: usize, betas: &[f64], ns: &[usize]) -> Self {
        let (rewards, values) = (&values[0].1, &values[shown..]);
        let texts: Vec<&str> = row.candidates.iter().map(|one| one.text.as_str()).collect();
        let (distances, levels) = (distances(&texts), best_of_n::levels(rewards));
        let at_beta = |beta: &f64| {
            let weighted = Weighted::new(rewards, *beta);
            let means = values.iter().map(|(metric, values)| (*metric, weighted.mean(values)));
            let others = [(KL, weighted.kl()), (DISTANCE, weighted.distance(&distances))];
            (weighted.effective(), others.into_iter().chain(means).collect())
        };
        let at_n = |n: &usize| {
            let expected = |values: &[f64]| best_of_n::expected(rewards, values, *n);
            let means = values.iter().map(|(metric, values)| (*metric, expected(values)));
            std::iter::once((KL, best_of_n::kl_of_levels(&levels, *n))).chain(means).collect()
        };
        OfInput {
            by_beta: betas.iter().map(at_beta).collect(),
            by_n: ns.iter().map(at_n).collect(),
        }
    }
}

/// 1 - the mean over n = 1 and 2 of the cosine of two texts' n-gram counts, a matrix.
fn distances(texts: &[&str]) -> Vec<f64> {
    let words: Vec<Vec<String>> = texts.iter().map(|text| diversity::words(text)).collect();
    vendi::ngram_similarities(&words).into_iter().map(|similarity| 1.0 - similarity).collect()
}

fn at_beta(beta: f64, at: usize, inputs: &[OfInput], min_ess: f64) -> AtBeta {
    let sizes: Vec<f64> = inputs.iter().map(|input| input.by_beta[at].0).collect();
    let ess = effective_over_inputs(&sizes);
    let least_ess = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let metrics = inputs[0].by_beta[at].1.iter().enumerate();
    let figures = metrics.map(|(place, (metric, _))| {
        let all: Vec<Estimate> = inputs.iter().map(|input| input.by_beta[at].1[place].1).collect();
        ((*metric).to_owned(), over_inputs(&all))
    });
    let figures = (ess >= min_ess).then(|| figures.collect());
    AtBeta { beta, ess, least_ess, figures }
}

fn at_n(n: usize, at: usize, inputs: &[OfInput], own: &Option<(usize, Vec<f64>)>) -> AtN {
    let metrics = inputs[0].by_n[at].iter().enumerate();
    let figures = metrics.map(|(place, (metric, _))| {
        let all: Vec<f64> = inputs.iter().map(|input| input.by_n[at][place].1).collect();
        let found = match *metric {
            KL => distance(&Clusters::each(all.len()), &all),
            _ => of_mean(&all),
        };
        ((*metric).to_owned(), found)
    });
    let mut figures: Figures = figures.collect();
    if let Some((_, distances)) = own.as_ref().filter(|(own, _)| *own == n) {
        figures.insert(DISTANCE.into(), of_mean(distances));
    }
    AtN { n, figures }
}

/// Powers of two up to the candidates of every input, and the n by which outputs were chosen.
fn ns(candidates: usize, own: Option<usize>) -> Vec<usize> {
    let powers = std::iter::successors(Some(1), |n| Some(2 * n));
    let mut all: Vec<usize> =
        powers.take_while(|n| *n <= candidates).chain(own.filter(|n| *n <= candidates)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The n by which outputs were chosen and the mean distance of two outputs of each input, where
/// every output has candidates that no other has.
fn of_own_candidates(rows: &[&Sampled]) -> Option<(usize, Vec<f64>)> {
    let n = rows.first()?.best_of?;
    let own = |row: &&Sampled| {
        let outputs = row.outputs.len();
        row.best_of == Some(n) && outputs > 1 && row.candidates.len() == n * outputs
    };
    let spread = || rows.iter().map(|row| mean_distance(&row.outputs)).collect();
    rows.iter().all(own).then(|| (n, spread()))
}

/// Gold over KL, of best-of-n and of every method whose points of a sweep are at several KL, over
/// the inputs that have candidates; nothing where these have no gold.
fn fits(ns: &[usize], inputs: &[OfInput], policies: &[Point]) -> Vec<Fit> {
    let by_n = |at: usize, metric: &str| -> Option<Vec<f64>> {
        let of = |input: &OfInput| {
            let found = input.by_n[at].iter().find(|(own, _)| *own == metric);
            found.map(|(_, value)| *value)
        };
        inputs.iter().map(of).collect()
    };
    // The best of one is a sample of the reference policy.
    let Some(reference) = by_n(0, GOLD) else { return Vec::new() };
    let best = ns.iter().enumerate().skip(1).filter_map(|(at, n)| {
        Some(Point { name: format!("n = {n}"), kl: by_n(at, KL)?, gold: by_n(at, GOLD)? })
    });
    let best: Vec<Point> = best.collect();
    let mut families: Vec<(&str, Vec<Point>)> = Vec::new();
    for point in policies {
        let family = family(&point.name);
        match families.iter_mut().find(|(name, _)| *name == family) {
            Some((_, points)) => points.push(point.clone()),
            None => families.push((family, vec![point.clone()])),
        }
    }
    let of_policies = families.iter().filter_map(|(family, points)| {
        over_optimisation::fit(family, Form::Reinforcement, points, &reference)
    });
    let of_best = over_optimisation::fit("best_of_n", Form::BestOfN, &best, &reference);
    of_best.into_iter().chain(of_policies).collect()
}

/// The samples of a method on the inputs that have candidates, and its gold over KL where it has
/// samples of all of them; `None` where it has none of them.
fn of_method<'a>(
    judge: &Judges<'_, impl Backend>,
    test_set: &str,
    (rows, rule): (&[Row<'a>], MissingEos),
    against: Option<(Judge, &[f64])>,
    policy: &PolicySamples<'a>,
) -> Result<Option<(OfMethod, Option<Point>)>> {
    let own = |row: &Row<'a>| {
        let place = policy.rows.iter().position(|own| own.id == row.sampled.id)?;
        let of_method = policy.rows[place];
        (!of_method.outputs.is_empty()).then_some((
            row.at,
            row.example,
            of_method,
            policy.kl[place],
        ))
    };
    let own: Vec<(usize, &Example, &Sampled, f64)> = rows.iter().filter_map(own).collect();
    if own.is_empty() {
        return Ok(None);
    }
    let inputs: Vec<(&Example, &Sampled)> =
        own.iter().map(|(_, example, row, _)| (*example, *row)).collect();
    let gold: Option<Vec<Vec<f64>>> =
        inputs.iter().map(|(example, row)| golds(example, &row.outputs)).collect();
    let reward = rewards(judge, test_set, &inputs)?;
    let judged = match against {
        Some((Judge::Gold, references)) => gold.as_ref().zip(Some(references)),
        Some((Judge::RewardModel, references)) => reward.as_ref().zip(Some(references)),
        None => None,
    };
    let ruled = reward.as_ref().filter(|_| rule != MissingEos::Keep).map(|scores| {
        let of = |(scores, (_, row)): (&Vec<f64>, &(&Example, &Sampled))| {
            let each = scores.iter().zip(&row.outputs);
            each.map(|(score, output)| rule.apply(*score, output.ended)).collect()
        };
        scores.iter().zip(&inputs).map(of).collect::<Vec<Vec<f64>>>()
    });
    let won = judged.map(|(scores, references)| {
        let each = scores.iter().zip(&own).map(|(scores, (at, ..))| wins(scores, references[*at]));
        each.collect::<Vec<Vec<f64>>>()
    });
    let kl: Vec<f64> = own.iter().map(|(.., kl)| *kl).collect();
    let point = gold.as_ref().filter(|_| own.len() == rows.len()).map(|gold| Point {
        name: policy.method.into(),
        kl: kl.clone(),
        gold: gold.iter().map(|own| average(own)).collect(),
    });
    let mut figures = Figures::new();
    figures.insert(KL.into(), distance(&Clusters::each(kl.len()), &kl));
    for (metric, values) in [(GOLD, gold), (AFTER_RULE, ruled), (REWARD, reward), (WIN_RATE, won)] {
        let means =
            |values: Vec<Vec<f64>>| values.iter().map(|own| average(own)).collect::<Vec<_>>();
        figures.extend(values.map(|values| (metric.to_owned(), of_mean(&means(values)))));
    }
    if inputs.iter().all(|(_, row)| row.outputs.len() > 1) {
        let spread: Vec<f64> = inputs.iter().map(|(_, row)| mean_distance(&row.outputs)).collect();
        figures.insert(DISTANCE.into(), of_mean(&spread));
    }
    Ok(Some((OfMethod { method: policy.method.into(), figures }, point)))
}

/// The mean distance of two of several texts.
fn mean_distance(outputs: &[Output]) -> f64 {
    let texts: Vec<&str> = outputs.iter().map(|output| output.text.as_str()).collect();
    let n = texts.len();
    distances(&texts).iter().sum::<f64>() / (n * (n - 1)) as f64
}
