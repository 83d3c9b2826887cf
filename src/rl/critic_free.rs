//! Critic-free algorithms by name: what each sets of advantages, loss and KL. Knows only the rules
//! of [`super::group`] and [`super::policy_loss`].
//!
//! A name sets rules, no coefficient, learning rate or number of samples; `docs/algorithms.md` has
//! the sources detail by detail.

use serde::{Deserialize, Serialize};

use super::group::{Baseline, Scale};
use super::kl::Estimator;
use super::policy_loss::{Average, Bounds, Form, LossKl, Ratio};

/// An algorithm without a value function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Group-relative policy optimisation (Shao et al. 2024): group mean and deviation, token
    /// ratio, sequence mean, k3 in the loss.
    #[default]
    Grpo,
    /// GRPO "done right" (Liu et al. 2025): no deviation, a constant divisor.
    DrGrpo,
    /// DAPO (Yu et al. 2025): clip-higher 0.28, token mean.
    Dapo,
    /// Group sequence policy optimisation (Zheng et al. 2025): ratio of the sequence, clipped at
    /// 3e-4 and 4e-4.
    Gspo,
    /// CISPO (MiniMax 2025): clipped weights of log-probabilities, ratio at most 5, token mean.
    Cispo,
    /// REINFORCE leave-one-out (Ahmadian et al. 2024): mean of the others, ratio of the response,
    /// k1 in the reward.
    Rloo,
    /// On-policy optimal baseline (Hao et al. 2025): length-weighted mean, token mean.
    Opo,
    /// REINFORCE++ (Hu 2025): no baseline, k1 in returns, whitened over tokens.
    ReinforcePp,
    /// REINFORCE++ with the group's mean as baseline, whitened over tokens, k2 in the loss.
    ReinforcePpBaseline,
    /// REINFORCE with the batch's mean as baseline, k1 in the reward.
    Reinforce,
}

/// Where KL is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlIn {
    /// Summed over the response, taken off its reward before the baseline.
    Reward,
    /// Of each token, accumulated to the token's return after the baseline.
    Returns,
    /// In the loss.
    Loss,
}

/// An estimator of the KL of a token, wherever it is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// Log-ratio; not in the loss, where its gradient is the same whatever the policies are.
    K1,
    /// Half the squared log-ratio.
    K2,
    /// `e^-d - 1 + d`.
    K3,
    /// Value of k3 with the gradient of k2; in the loss alone.
    K3Plus,
}

impl KlEstimator {
    /// The estimator in rewards and returns, where it has one.
    pub fn in_reward(self) -> Option<Estimator> {
        match self {
            KlEstimator::K1 => Some(Estimator::K1),
            KlEstimator::K2 => Some(Estimator::K2),
            KlEstimator::K3 => Some(Estimator::K3),
            KlEstimator::K3Plus => None,
        }
    }

    /// The estimator in the loss, where it has one.
    pub fn in_loss(self) -> Option<LossKl> {
        match self {
            KlEstimator::K1 => None,
            KlEstimator::K2 => Some(LossKl::K2),
            KlEstimator::K3 => Some(LossKl::K3),
            KlEstimator::K3Plus => Some(LossKl::K3Plus),
        }
    }
}

/// The rules of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// What is taken off rewards.
    pub baseline: Baseline,
    /// What the difference is divided by.
    pub scale: Scale,
    /// Ratio of a token.
    pub ratio: Ratio,
    /// Form of the loss.
    pub form: Form,
    /// Bounds of the ratio.
    pub bounds: Bounds,
    /// What token losses are divided by.
    pub average: Average,
    /// Where KL is charged.
    pub kl_in: KlIn,
    /// Its estimator.
    pub estimator: KlEstimator,
}

impl Algorithm {
    /// The rules of the algorithm.
    pub fn rules(self) -> Rules {
        let grpo = Rules {
            baseline: Baseline::Group,
            scale: Scale::Group,
            ratio: Ratio::Token,
            form: Form::Clip,
            bounds: Bounds { low: 0.2, high: 0.2, dual: None },
            average: Average::SequenceMeanTokenMean,
            kl_in: KlIn::Loss,
            estimator: KlEstimator::K3,
        };
        let bounds = |low, high| Bounds { low, high, dual: None };
        let in_reward = Rules { kl_in: KlIn::Reward, estimator: KlEstimator::K1, ..grpo };
        match self {
            Algorithm::Grpo => grpo,
            Algorithm::DrGrpo => Rules { scale: Scale::None, average: Average::Constant, ..grpo },
            Algorithm::Dapo => {
                Rules { bounds: bounds(0.2, 0.28), average: Average::TokenMean, ..grpo }
            }
            Algorithm::Gspo => Rules { ratio: Ratio::Sequence, bounds: bounds(3e-4, 4e-4), ..grpo },
            Algorithm::Cispo => Rules {
                form: Form::Cispo,
                bounds: bounds(0.2, 4.0),
                average: Average::TokenMean,
                ..grpo
            },
            Algorithm::Rloo => Rules {
                baseline: Baseline::LeaveOneOut,
                scale: Scale::None,
                ratio: Ratio::SequenceSum,
                ..in_reward
            },
            Algorithm::Opo => Rules {
                baseline: Baseline::LengthWeighted,
                scale: Scale::None,
                average: Average::TokenMean,
                ..grpo
            },
            Algorithm::ReinforcePp => Rules {
                baseline: Baseline::None,
                scale: Scale::WhitenTokens,
                average: Average::TokenMean,
                kl_in: KlIn::Returns,
                ..in_reward
            },
            Algorithm::ReinforcePpBaseline => Rules {
                scale: Scale::WhitenTokens,
                average: Average::TokenMean,
                estimator: KlEstimator::K2,
                ..grpo
            },
            Algorithm::Reinforce => Rules {
                baseline: Baseline::Batch,
                scale: Scale::None,
                average: Average::TokenMean,
                ..in_reward
            },
        }
    }
}
