//! Curves against KL: best-of-n for every n from the same candidates, and the training of a policy
//! step by step, by the score that was optimised and by gold. Knows no table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::measuring::temperature;
use super::{GOLD, REWARD};
use crate::artefacts::curves::{BestOfN, Training, TrainingStep};
use crate::artefacts::rollouts::{ROLLOUTS, Rollout, step_of};
use crate::artefacts::table::DIVERSITY;
use crate::data::dataset::{Dataset, PROMPTS};
use crate::data::rows::{self, Example};
use crate::data::samples::{Output, Sampled};
use crate::error::{Result, user};
use crate::eval::best_of_n::{self, AtKl};
use crate::eval::diversity::{Ngrams, VOCABULARY};
use crate::eval::interval::{Clusters, Interval, of_mean};
use crate::fs;
use crate::world;

/// The reward model's score, where it is not the reward.
const RAW: &str = "raw_rm";

/// Of each input, the rewards of its candidates and a metric's values of them.
type Inputs = Vec<(Vec<f64>, Vec<f64>)>;

/// The candidates of a best-of-n method on a test set: each input's rewards, and a metric's values.
pub(super) struct Candidates<'a> {
    pub(super) method: String,
    test_set: String,
    by_metric: Vec<(&'static str, Inputs)>,
    /// Its samples, which have candidates too.
    samples: Vec<&'a Sampled>,
    /// Of samples whose candidates are their own.
    diversity: Option<ByInput>,
}

/// Diversity of the samples of one input.
struct ByInput {
    ids: Vec<String>,
    /// For n = 1, 2, ..., of each input.
    by_n: Vec<Vec<f64>>,
}

impl<'a> Candidates<'a> {
    /// Of a method whose rows keep their candidates, and its samples; `None` of any other.
    pub(super) fn of(
        method: &str,
        test_set: &str,
        examples: &[Example],
        rows: &[&Sampled],
        samples: &[&'a Sampled],
    ) -> Option<Self> {
        let scores: Vec<Vec<f64>> = rows.iter().map(|row| scores(row)).collect::<Option<_>>()?;
        let golds: Option<Vec<Vec<f64>>> = examples
            .iter()
            .zip(rows)
            .map(|(example, row)| golds(example, &row.candidates))
            .collect();
        let beside = |values: Vec<Vec<f64>>| scores.iter().cloned().zip(values).collect();
        let all = || rows.iter().flat_map(|row| &row.candidates);
        let raws: Option<Vec<Vec<f64>>> = rows.iter().map(|row| raw_scores(row)).collect();
        let raw = raws
            .filter(|_| all().any(|candidate| candidate.raw_reward.is_some()))
            .map(|raws| (RAW, beside(raws)));
        let by_metric = [(REWARD, beside(scores.clone()))]
            .into_iter()
            .chain(raw)
            .chain(golds.map(|golds| (GOLD, beside(golds))))
            .collect();
        let (diversity, samples) = (ByInput::of(samples), samples.to_vec());
        Some(Candidates {
            method: method.into(),
            test_set: test_set.into(),
            by_metric,
            samples,
            diversity,
        })
    }

    /// By the scores that candidates are picked by, and by gold.
    pub(super) fn curves(&self) -> Vec<BestOfN> {
        self.by_metric
            .iter()
            .map(|(metric, inputs)| self.curve(metric, best_of_n::curve(inputs)))
            .collect()
    }

    /// Diversity of the samples of one input, for every n; none where samples share their
    /// candidates.
    pub(super) fn diversity(&self) -> Option<BestOfN> {
        let by_n = &self.diversity.as_ref()?.by_n;
        Some(self.curve(DIVERSITY, by_n.iter().map(|values| of_mean(values)).collect()))
    }

    fn curve(&self, metric: &str, by_n: Vec<Interval>) -> BestOfN {
        let kl_bound = (1..=by_n.len()).map(best_of_n::kl_bound).collect();
        BestOfN {
            method: self.method.clone(),
            test_set: self.test_set.clone(),
            metric: metric.into(),
            by_n,
            kl_bound,
        }
    }

    /// The temperature of its samples' candidates, where all have one.
    pub(super) fn temperature(&self) -> Option<f64> {
        temperature(&self.samples)
    }

    /// The names of the inputs that it has samples of.
    pub(super) fn ids(&self) -> BTreeSet<&'a str> {
        self.samples.iter().map(|row| row.id.as_str()).collect()
    }

    /// Best-of-n at `kl` nats from its policy, from the candidates of its samples, on some inputs
    /// in their order; `None` beyond what the candidates reach, and of a metric that they do not
    /// have.
    pub(super) fn at_kl(
        &self,
        metric: &str,
        kl: f64,
        inputs: &[(&Example, &Sampled)],
    ) -> Option<AtKl> {
        if metric == DIVERSITY {
            self.diverse(1, inputs)?;
            return best_of_n::interpolate(self.most_diverse(), kl, |n| {
                self.diverse(n, inputs).expect("what n = 1 has")
            });
        }
        best_of_n::at_kl(&self.valued(metric, inputs)?, kl)
    }

    /// Best-of-n from the same candidates, for an n up to [`Candidates::most_diverse`].
    pub(super) fn at_n(
        &self,
        metric: &str,
        n: usize,
        inputs: &[(&Example, &Sampled)],
    ) -> Option<Vec<f64>> {
        if metric == DIVERSITY {
            return self.diverse(n, inputs);
        }
        let own = self.valued(metric, inputs)?;
        Some(own.iter().map(|(scores, values)| best_of_n::expected(scores, values, n)).collect())
    }

    /// The largest n whose samples' diversity is known; 0 where none is.
    pub(super) fn most_diverse(&self) -> usize {
        self.diversity.as_ref().map_or(0, |own| own.by_n.len())
    }

    /// Diversity of the samples of some inputs.
    fn diverse(&self, n: usize, inputs: &[(&Example, &Sampled)]) -> Option<Vec<f64>> {
        let ByInput { ids, by_n } = self.diversity.as_ref()?;
        let place = |(_, row): &(&Example, &Sampled)| ids.iter().position(|id| *id == row.id);
        inputs.iter().map(|input| Some(by_n[n - 1][place(input)?])).collect()
    }

    /// The rewards of the candidates of the samples of some inputs, and a metric's values.
    fn valued(&self, metric: &str, inputs: &[(&Example, &Sampled)]) -> Option<Inputs> {
        let own = |(example, row): &(&Example, &Sampled)| {
            let own = self.samples.iter().find(|own| own.id == row.id)?;
            let scores = scores(own)?;
            // The reward model's own score, which it gives to any text.
            let values =
                if metric == GOLD { golds(example, &own.candidates)? } else { raw_scores(own)? };
            Some((scores, values))
        };
        inputs.iter().map(own).collect()
    }
}

/// The exact score of every text, where the example has one.
pub(super) fn golds(example: &Example, texts: &[Output]) -> Option<Vec<f64>> {
    texts
        .iter()
        .map(|output| world::gold(example, &output.text, output.ended).map(|grade| grade.score))
        .collect()
}

impl ByInput {
    /// Sample k of best-of-n is the best of the first n of its own N candidates.
    fn of(rows: &[&Sampled]) -> Option<Self> {
        let most = rows.iter().map(|row| row.best_of).min()??;
        let own = |row: &&Sampled| {
            row.best_of == Some(most) && row.candidates.len() == most * row.outputs.len()
        };
        if !rows.iter().all(own) {
            return None;
        }
        let scores: Vec<Vec<f64>> = rows.iter().map(|row| scores(row)).collect::<Option<_>>()?;
        let at = |n: usize| {
            let each = |(row, scores): (&&Sampled, &Vec<f64>)| {
                let best = |first: usize| {
                    first + best_of_n::best(&scores[first..first + n]).expect("n is at least 1")
                };
                let texts: Vec<&str> = (0..row.outputs.len())
                    .map(|output| row.candidates[best(output * most)].text.as_str())
                    .collect();
                Ngrams::new(&texts).ead(&(0..texts.len()).collect::<Vec<usize>>(), VOCABULARY)
            };
            rows.iter().zip(&scores).map(each).collect::<Vec<f64>>()
        };
        Some(ByInput {
            ids: rows.iter().map(|row| row.id.clone()).collect(),
            by_n: (1..=most).map(at).collect(),
        })
    }
}

/// The rewards of a row's candidates; `None` where it has none.
pub(super) fn scores(row: &Sampled) -> Option<Vec<f64>> {
    row.candidates
        .iter()
        .map(|candidate| candidate.reward)
        .collect::<Option<Vec<f64>>>()
        .filter(|all| !all.is_empty())
}

/// The reward model's own scores of a row's candidates; `None` where it has none.
pub(super) fn raw_scores(row: &Sampled) -> Option<Vec<f64>> {
    row.candidates
        .iter()
        .map(Output::raw_reward)
        .collect::<Option<Vec<f64>>>()
        .filter(|all| !all.is_empty())
}

/// How the policy of a method moved, from the rollouts that training left in `policy`; `None` where
/// it left none.
pub(super) fn training(method: &str, policy: &Path, dataset: &Dataset) -> Result<Option<Training>> {
    let folder = policy.join(ROLLOUTS);
    if !folder.is_dir() {
        return Ok(None);
    }
    let known = dataset.splits().iter().any(|split| split == PROMPTS);
    let prompts: Vec<Example> = if known { dataset.split(PROMPTS)? } else { Vec::new() };
    let prompts: BTreeMap<&str, &Example> =
        prompts.iter().map(|example| (example.id.as_str(), example)).collect();
    let gold = |rollout: &Rollout| {
        let example =
            prompts.get(rollout.id.as_str()).filter(|example| example.prompt == rollout.prompt)?;
        world::gold(example, &rollout.response, rollout.ended).map(|grade| grade.score)
    };
    let mut steps = Vec::new();
    for name in &fs::list(&folder)? {
        let step = step_of(name)
            .ok_or_else(|| user(format!("{} is of no step", folder.join(name).display())))?;
        let rollouts: Vec<Rollout> = rows::read_jsonl(&folder.join(name))?;
        // A prompt may be drawn more than once.
        let prompts = Clusters::of(rollouts.iter().map(|rollout| &rollout.id));
        let kls: Vec<f64> = rollouts.iter().map(|rollout| rollout.kl).collect();
        let scored: Vec<(&String, f64, f64)> =
            rollouts.iter().filter_map(|it| Some((&it.id, it.score?, it.raw_score?))).collect();
        if scored.is_empty() {
            continue;
        }
        let of_scored = Clusters::of(scored.iter().map(|(id, ..)| *id));
        let values = |value: fn(&(&String, f64, f64)) -> f64| -> Vec<f64> {
            scored.iter().map(value).collect()
        };
        let golds: Option<Vec<f64>> = rollouts.iter().map(gold).collect();
        steps.push(TrainingStep {
            step,
            kl: distance(&prompts, &kls),
            rm: of_scored.mean(&values(|(_, score, _)| *score)),
            raw_rm: Some(of_scored.mean(&values(|(.., raw)| *raw))),
            gold: golds.map(|golds| prompts.mean(&golds)),
        });
    }
    Ok(Some(Training { method: method.into(), steps }))
}

/// The mean of log p - log p_reference: exactly 0 where every sample says so, because the two are
/// one model then.
pub(super) fn distance(inputs: &Clusters, kl: &[f64]) -> Interval {
    if kl.iter().all(|kl| *kl == 0.0) { Interval::exact(0.0, kl.len()) } else { inputs.mean(kl) }
}
