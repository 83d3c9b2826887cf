//! Choice of a preference pair among the responses to a prompt, by their rewards.

use serde::{Deserialize, Serialize};

use crate::eval::diversity::words;
use crate::eval::vendi::ngram_similarities;
use crate::rl::diversity;

/// How the pair of a prompt is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// The best response is chosen and the worst rejected, by reward.
    #[default]
    BestAndWorst,
    /// The most diverse of the best is chosen, the least diverse of the worst rejected (DivPO).
    Diverse(Diverse),
}

/// The most diverse of the best and the least diverse of the worst (Lanchantin et al. 2025).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diverse {
    /// Share of the responses to a prompt that are the best ones, and that are the worst ones;
    /// rounded up.
    #[serde(default = "quarter")]
    pub pool: f64,
    /// What a response's diversity is.
    #[serde(default)]
    pub by: DiverseBy,
}

/// What a response's diversity is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiverseBy {
    /// -log p of the response under the policy that sampled it.
    #[default]
    Likelihood,
    /// 1 less the mean similarity with the other responses to the prompt, by counts of words and of
    /// pairs of words.
    Novelty,
}

impl Pairs {
    pub(super) fn is_default(&self) -> bool {
        *self == Pairs::default()
    }

    /// Whether the share of a pool is in range.
    pub(super) fn is_in_range(&self) -> bool {
        match self {
            Pairs::BestAndWorst => true,
            Pairs::Diverse(Diverse { pool, .. }) => *pool > 0.0 && *pool <= 1.0,
        }
    }
}

fn quarter() -> f64 {
    0.25
}

/// The novelty of each of the responses to a prompt, given as text.
pub(super) fn novelties(texts: &[String]) -> Vec<f64> {
    let texts: Vec<Vec<String>> = texts.iter().map(|text| words(text)).collect();
    diversity::novelties(&ngram_similarities(&texts), texts.len())
}
