//! Curves against KL: best-of-n for every n from the same candidates, and the training of a policy step by step, by the score that was
//! optimised and by gold. Knows no table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::measuring::Answers;
use super::{GOLD, REWARD};
use crate::data::dataset::{Dataset, PROMPTS};
use crate::data::rows::{self, Example};
use crate::data::samples::{Output, Sampled};
use crate::data::world;
use crate::error::Result;
use crate::eval::best_of_n;
use crate::eval::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::eval::compare::Measured;
use crate::eval::diversity::{Ngrams, VOCABULARY};
use crate::fs;
use crate::random::Stream;
use crate::report::table::DIVERSITY;

/// What best-of-n gives for every n, from the same candidates: one of `best_of_n.json`.
#[derive(Serialize)]
pub(super) struct Curve {
    method: String,
    test_set: String,
    /// `rm`, the reward by which candidates are picked, `raw_rm`, what the reward model said where
    /// the missing-EOS rule made another reward of it, `gold`, or [`DIVERSITY`].
    metric: &'static str,
    /// For n = 1, 2, ....
    by_n: Vec<Interval>,
    /// The most nats that best-of-n is away from its policy, for n = 1, 2, ....
    kl_bound: Vec<f64>,
}

/// The reward model's score, where it is not the reward.
const RAW: &str = "raw_rm";

/// Of each input, the rewards of its candidates and a metric's values of them.
type Inputs = Vec<(Vec<f64>, Vec<f64>)>;

/// The candidates of a best-of-n method on a test set: each input's rewards, and a metric's values.
pub(super) struct Candidates {
    method: String,
    test_set: String,
    by_metric: Vec<(&'static str, Inputs)>,
    /// Of samples whose candidates are their own.
    diversity: Option<ByInput>,
}

/// Diversity of the samples of one input.
struct ByInput {
    ids: Vec<String>,
    /// For n = 1, 2, ..., of each input.
    by_n: Vec<Vec<f64>>,
}

impl Candidates {
    /// Of a method whose rows keep their candidates, and its samples; `None` of any other.
    pub(super) fn of(method: &str, test_set: &str, examples: &[Example], rows: &[&Sampled], samples: &[&Sampled]) -> Option<Self> {
        let scores: Vec<Vec<f64>> = rows.iter().map(|row| scores(row)).collect::<Option<_>>()?;
        let golds: Option<Vec<Vec<f64>>> = examples
            .iter()
            .zip(rows)
            .map(|(example, row)| {
                let score = |candidate: &Output| world::gold(example, &candidate.text, candidate.ended).map(|grade| grade.score);
                row.candidates.iter().map(score).collect()
            })
            .collect();
        let beside = |values: Vec<Vec<f64>>| scores.iter().cloned().zip(values).collect();
        let all = || rows.iter().flat_map(|row| &row.candidates);
        let raw = |row: &&Sampled| row.candidates.iter().filter_map(Output::raw_reward).collect();
        let raw = all().any(|candidate| candidate.raw_reward.is_some()).then(|| (RAW, beside(rows.iter().map(raw).collect())));
        let by_metric = [(REWARD, beside(scores.clone()))].into_iter().chain(raw).chain(golds.map(|golds| (GOLD, beside(golds)))).collect();
        Some(Candidates { method: method.into(), test_set: test_set.into(), by_metric, diversity: ByInput::of(samples) })
    }

    /// By the scores that candidates are picked by, and by gold.
    pub(super) fn curves(&self, resamples: &Resamples) -> Vec<Curve> {
        self.by_metric.iter().map(|(metric, inputs)| self.curve(metric, best_of_n::curve(inputs, resamples))).collect()
    }

    /// Diversity of the samples of one input, for every n; none where samples share their candidates.
    pub(super) fn diversity(&self, resamples: &Resamples) -> Option<Curve> {
        let by_n = &self.diversity.as_ref()?.by_n;
        Some(self.curve(DIVERSITY, by_n.iter().map(|values| resamples.mean(values)).collect()))
    }

    fn curve(&self, metric: &'static str, by_n: Vec<Interval>) -> Curve {
        let kl_bound = (1..=by_n.len()).map(best_of_n::kl_bound).collect();
        Curve { method: self.method.clone(), test_set: self.test_set.clone(), metric, by_n, kl_bound }
    }

    /// Best-of-n at `kl` nats from its policy, by a metric of its outputs, of which the reward
    /// model's is the score that it gives to any text; `None` beyond what its candidates reach.
    pub(super) fn at_kl(&self, metric: &str, kl: f64) -> Option<Measured> {
        let named = |wanted: &str| self.by_metric.iter().find(|(name, _)| *name == wanted);
        let (_, inputs) = if metric == REWARD { named(RAW).or_else(|| named(REWARD)) } else { named(metric) }?;
        Some(self.measured(metric, best_of_n::at_kl(inputs, kl)?))
    }

    /// The diversity of best-of-n at `kl` nats from its policy, on the inputs of these names; `None` beyond what its candidates reach.
    pub(super) fn diversity_at_kl(&self, kl: f64, ids: &BTreeSet<&str>) -> Option<Measured> {
        let ByInput { ids: own, by_n } = self.diversity.as_ref()?;
        let among = |values: &[f64]| own.iter().zip(values).filter(|(id, _)| ids.contains(id.as_str())).map(|(_, value)| *value).collect();
        Some(self.measured(DIVERSITY, best_of_n::interpolate(by_n.len(), kl, |n| among(&by_n[n - 1]))?))
    }

    fn measured(&self, metric: &str, values: Vec<f64>) -> Measured {
        Measured { metric: metric.into(), test_set: self.test_set.clone(), method: self.method.clone(), values }
    }
}

impl ByInput {
    /// Sample k of best-of-n is the best of the first n of its own N candidates.
    fn of(rows: &[&Sampled]) -> Option<Self> {
        let most = rows.iter().map(|row| row.best_of).min()??;
        let own = |row: &&Sampled| row.best_of == Some(most) && row.candidates.len() == most * row.outputs.len();
        if !rows.iter().all(own) {
            return None;
        }
        let scores: Vec<Vec<f64>> = rows.iter().map(|row| scores(row)).collect::<Option<_>>()?;
        let at = |n: usize| {
            let each = |(row, scores): (&&Sampled, &Vec<f64>)| {
                let best = |first: usize| first + best_of_n::best(&scores[first..first + n]).expect("n is at least 1");
                let texts: Vec<&str> = (0..row.outputs.len()).map(|output| row.candidates[best(output * most)].text.as_str()).collect();
                Ngrams::new(&texts).ead(&(0..texts.len()).collect::<Vec<usize>>(), VOCABULARY)
            };
            rows.iter().zip(&scores).map(each).collect::<Vec<f64>>()
        };
        Some(ByInput { ids: rows.iter().map(|row| row.id.clone()).collect(), by_n: (1..=most).map(at).collect() })
    }
}

/// The rewards of a row's candidates; `None` where it has none.
fn scores(row: &Sampled) -> Option<Vec<f64>> {
    row.candidates.iter().map(|candidate| candidate.reward).collect::<Option<Vec<f64>>>().filter(|all| !all.is_empty())
}

/// How a policy moved while it was trained: one of `over_optimisation.json`.
#[derive(Serialize)]
pub(super) struct Training {
    method: String,
    steps: Vec<Step>,
}

/// The rollouts of one step, which were sampled before its updates.
#[derive(Serialize)]
struct Step {
    /// From 1.
    step: usize,
    /// log p - log p_reference, summed over the response.
    kl: Interval,
    /// The score that was optimised, after the missing-EOS rule.
    rm: Interval,
    /// What the reward model said.
    raw_rm: Interval,
    /// The exact score, where the prompts have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    gold: Option<Interval>,
}

/// A line of a step's rollouts, as far as it is read here.
#[derive(Deserialize)]
struct Rollout {
    id: String,
    prompt: String,
    response: String,
    ended: bool,
    score: f64,
    raw_score: f64,
    kl: f64,
}

impl Training {
    /// From the rollouts that training left in `policy`; `None` where it left none.
    pub(super) fn read(method: &Answers, policy: &Path, dataset: &Dataset, seed: u64) -> Result<Option<Self>> {
        let folder = policy.join("rollouts");
        if !folder.is_dir() {
            return Ok(None);
        }
        let known = dataset.splits().iter().any(|split| split == PROMPTS);
        let prompts: Vec<Example> = if known { dataset.split(PROMPTS)? } else { Vec::new() };
        let prompts: BTreeMap<&str, &Example> = prompts.iter().map(|example| (example.id.as_str(), example)).collect();
        let gold = |rollout: &Rollout| {
            let example = prompts.get(rollout.id.as_str()).filter(|example| example.prompt == rollout.prompt)?;
            world::gold(example, &rollout.response, rollout.ended).map(|grade| grade.score)
        };
        let (stream, mut steps) = (Stream::new(seed, "rollouts"), Vec::new());
        for (at, name) in fs::list(&folder)?.iter().enumerate() {
            let rollouts: Vec<Rollout> = rows::read_jsonl(&folder.join(name))?;
            let resamples = Resamples::new(rollouts.len(), RESAMPLES, &stream);
            let mean = |value: fn(&Rollout) -> f64| resamples.mean(&rollouts.iter().map(value).collect::<Vec<f64>>());
            let golds: Option<Vec<f64>> = rollouts.iter().map(gold).collect();
            steps.push(Step {
                step: at + 1,
                kl: mean(|rollout| rollout.kl),
                rm: mean(|rollout| rollout.score),
                raw_rm: mean(|rollout| rollout.raw_score),
                gold: golds.map(|golds| resamples.mean(&golds)),
            });
        }
        Ok(Some(Training { method: method.name.clone(), steps }))
    }
}
