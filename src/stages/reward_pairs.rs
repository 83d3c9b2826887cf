//! Preference pairs of sampled responses, of which a reward chooses the better one: pairs of a
//! policy's own for `dpo`, `kto` or another reward model. With `pairs: diverse` they are those of
//! DivPO (Lanchantin et al. 2025, "Diverse preference optimization", arXiv 2501.18101).
//!
//! 1. Responses are all candidates of a `best_of_n` artefact, which keeps them with their rewards
//!    after the missing-EOS rule. No model runs here.
//! 2. A prompt gives one pair, or none: where fewer than two of its candidates have a reward, where
//!    the chosen one's is not above the rejected one's by more than `min_gap`, and where both are
//!    the same text.
//! 3. What is trained on such pairs has learned from the reward models that chose: the dataset
//!    carries the lineage of the candidates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Checks;
use super::pair_choice::{Diverse, DiverseBy, Pairs, novelties};
use crate::dag::context::Context;
use crate::data::dataset;
use crate::data::lineage::Lineage;
use crate::data::rows::Preference;
use crate::data::samples::{self, Output, Sampled};
use crate::error::{Result, user};
use crate::reference::{Ref, Samples};
use crate::rl::diversity;

/// Options of `reward_pairs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardPairs {
    /// Candidates with rewards, of a stage `best_of_n`.
    pub candidates: Ref<Samples>,
    /// Splits of the new dataset by name, each with the split of `candidates` that it is made from.
    pub splits: BTreeMap<String, String>,
    /// How the pair of a prompt is chosen.
    #[serde(default)]
    pub pairs: Pairs,
    /// Difference of rewards that the chosen response must exceed the rejected one by.
    #[serde(default)]
    pub min_gap: f64,
}

impl RewardPairs {
    /// Notes values out of range.
    pub(super) fn check(&self, checks: &mut Checks) {
        checks
            .require(
                !self.splits.is_empty(),
                "source.reward_pairs.splits",
                "expected at least one split",
            )
            .require(
                self.pairs.is_in_range(),
                "source.reward_pairs.pairs.diverse.pool",
                "expected above 0, at most 1",
            )
            .require(
                self.min_gap >= 0.0 && self.min_gap.is_finite(),
                "source.reward_pairs.min_gap",
                "expected 0 or more",
            );
    }

    /// Writes the dataset.
    ///
    /// # Errors
    /// The user's: candidates without rewards, or a split that they do not have, or that gives no
    /// pair.
    pub(super) fn write(&self, context: &Context) -> Result<()> {
        let rows = samples::read(self.candidates.path())?;
        for (split, from) in &self.splits {
            let of_split: Vec<&Sampled> = rows.iter().filter(|row| row.split == *from).collect();
            if of_split.is_empty() {
                let mut known: Vec<&str> = rows.iter().map(|row| row.split.as_str()).collect();
                known.dedup();
                let message = format!(
                    "`source.reward_pairs.splits.{split}`: the candidates have no split `{from}`; \
                     they have `{}`",
                    known.join("`, `")
                );
                return Err(user(message).into());
            }
            let pairs: Vec<Option<Preference>> =
                of_split.iter().map(|row| self.pair(row)).collect::<Result<_>>()?;
            let none = pairs.iter().filter(|pair| pair.is_none()).count();
            if none == pairs.len() {
                let message = format!("no prompt of split `{from}` gives a preference pair");
                let hint = "lower `min_gap`, raise `n` of the `best_of_n` stage, or choose by a \
                    reward that tells responses apart";
                return Err(user(message).hint(hint).into());
            }
            if none > 0 {
                context.warn(format!(
                    "split `{split}`: {none} of {} prompts give no pair: rewards are too near each \
                     other, or texts are the same",
                    pairs.len()
                ));
            }
            let pairs: Vec<Preference> = pairs.into_iter().flatten().collect();
            dataset::write_split(context.out(), split, &pairs)?;
        }
        Lineage::read(self.candidates.path())?.write(context.out())
    }

    /// The pair of a prompt.
    fn pair(&self, row: &Sampled) -> Result<Option<Preference>> {
        if row.candidates.is_empty() {
            let message =
                format!("row `{}` of split `{}` has no candidates with rewards", row.id, row.split);
            return Err(user(message).hint("give the artefact of a stage `best_of_n`").into());
        }
        let known = row.candidates.iter().enumerate();
        let (places, rewards): (Vec<usize>, Vec<f64>) =
            known.filter_map(|(at, output)| Some((at, output.reward?))).unzip();
        let of = |at: usize| &row.candidates[places[at]];
        let ends = match self.pairs {
            _ if rewards.len() < 2 => None,
            Pairs::BestAndWorst => Some(diversity::best_and_worst(&rewards)),
            Pairs::Diverse(Diverse { pool, by }) => {
                let outputs: Vec<&Output> = (0..places.len()).map(of).collect();
                diversity::preference_pair(&rewards, &self::diversity(&outputs, by), pool)
            }
        };
        let Some([chosen, rejected]) = ends else { return Ok(None) };
        let margin = rewards[chosen] - rewards[rejected];
        let (chosen, rejected) = (of(chosen), of(rejected));
        if margin <= self.min_gap || chosen.text == rejected.text {
            return Ok(None);
        }
        Ok(Some(Preference {
            id: row.id.clone(),
            prompt: row.prompt.clone(),
            chosen: chosen.text.clone(),
            rejected: rejected.text.clone(),
            margin: Some(margin),
            chat: row.chat,
            ..Preference::default()
        }))
    }
}

/// The diversity of each response to a prompt.
fn diversity(outputs: &[&Output], by: DiverseBy) -> Vec<f64> {
    match by {
        DiverseBy::Likelihood => outputs.iter().map(|output| -output.logprob).collect(),
        DiverseBy::Novelty => {
            novelties(&outputs.iter().map(|output| output.text.clone()).collect::<Vec<_>>())
        }
    }
}
