//! The conventions of other sources by name, so that their curves can be compared. Knows only
//! [`Conventions`].
//!
//! A preset sets all of [`Conventions`]: how rewards become advantages, discount included. It sets
//! no coefficient, clip range, number of epochs, temperature or learning rate. What each source
//! does was read in its public code; two fixtures computed under all of them are in `tests/rl`, and
//! `docs/pipeline.md` lists what each preset sets and what of its source it does not do.

use serde::{Deserialize, Deserializer, Serialize};

use super::advantage::{
    Advantages, Conventions, MissingEos, RewardWhitening, Scope, ScorePosition, Whitening,
};
use super::kl::{Clamp, Estimator, Kl};

/// A source whose conventions can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// Kirk et al. 2024: KL is k2, discount 0.999. The released code whitens within one micro-batch
    /// and over padding; here it is the update batch's tokens.
    Paper,
    /// Huang et al. 2024, "The N+ implementation details of RLHF with PPO": score one past EOS, -1
    /// for a response without EOS.
    Nplus,
    /// TRL: score one past EOS, 1 off the score of a response without EOS.
    Trl,
    /// OpenRLHF: KL held within 10, biased variance.
    Openrlhf,
    /// verl and NeMo-RL: what this project does by default.
    Verl,
    /// torchtune: score one past EOS, the mean of advantages added back.
    Torchtune,
    /// DeepSpeed-Chat with a pad token other than EOS: score one past EOS, no whitening.
    DeepspeedChat,
    /// alpaca_farm: KL at least 0, lambda 1, rewards whitened, padding takes part, biased variance.
    AlpacaFarm,
}

impl Compat {
    /// The conventions of the source.
    pub fn conventions(self) -> Conventions {
        let ours = Conventions::default();
        let after_eos = Conventions { score_position: ScorePosition::AfterEos, ..ours };
        let k1 = |low, high| Kl {
            estimator: Estimator::K1,
            clamp: Clamp { log_ratio: None, low, high },
        };
        match self {
            Compat::Paper => Conventions {
                kl: Kl { estimator: Estimator::K2, clamp: Clamp::default() },
                advantages: Advantages::Gae { gamma: 0.999, lambda: 0.95 },
                ..ours
            },
            Compat::Nplus => Conventions { missing_eos: MissingEos::Replace(-1.0), ..after_eos },
            Compat::Trl => Conventions { missing_eos: MissingEos::Subtract(1.0), ..after_eos },
            Compat::Openrlhf => Conventions {
                kl: k1(Some(-10.0), Some(10.0)),
                whitening: Whitening::Biased,
                ..ours
            },
            Compat::Verl => ours,
            Compat::Torchtune => Conventions { whitening: Whitening::ScaleOnly, ..after_eos },
            Compat::DeepspeedChat => Conventions { whitening: Whitening::None, ..after_eos },
            Compat::AlpacaFarm => Conventions {
                kl: k1(Some(0.0), None),
                advantages: Advantages::Gae { gamma: 1.0, lambda: 1.0 },
                scope: Scope::Padded,
                reward_whitening: RewardWhitening::Biased,
                whitening: Whitening::Biased,
                ..ours
            },
        }
    }
}

/// Conventions key by key: what is given replaces the key of a preset, what is not stays as it is
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// See [`Conventions::kl`].
    #[serde(skip_serializing_if = "KlOverrides::is_empty")]
    pub kl: KlOverrides,
    /// Discount of rewards (GAE).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// Lambda of GAE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// See [`Conventions::score_position`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_position: Option<ScorePosition>,
    /// See [`Conventions::scope`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// See [`Conventions::reward_whitening`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_whitening: Option<RewardWhitening>,
    /// See [`Conventions::whitening`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whitening: Option<Whitening>,
    /// See [`Conventions::missing_eos`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_eos: Option<MissingEos>,
}

/// The keys of [`Kl`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KlOverrides {
    /// See [`Kl::estimator`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimator: Option<Estimator>,
    /// See [`Kl::clamp`].
    #[serde(skip_serializing_if = "ClampOverrides::is_empty")]
    pub clamp: ClampOverrides,
}

/// The keys of [`Clamp`]; `null` opens a side that the preset holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClampOverrides {
    /// See [`Clamp::log_ratio`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub log_ratio: Option<Option<f64>>,
    /// See [`Clamp::low`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub low: Option<Option<f64>>,
    /// See [`Clamp::high`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub high: Option<Option<f64>>,
}

/// A key that is there, `null` as well.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Overrides {
    /// `preset` with the keys that are given.
    pub fn over(&self, preset: Conventions) -> Conventions {
        let Clamp { log_ratio, low, high } = preset.kl.clamp;
        let (kl, clamp) = (self.kl, self.kl.clamp);
        Conventions {
            kl: Kl {
                estimator: kl.estimator.unwrap_or(preset.kl.estimator),
                clamp: Clamp {
                    log_ratio: clamp.log_ratio.unwrap_or(log_ratio),
                    low: clamp.low.unwrap_or(low),
                    high: clamp.high.unwrap_or(high),
                },
            },
            advantages: match preset.advantages {
                Advantages::Gae { gamma, lambda } => Advantages::Gae {
                    gamma: self.gamma.unwrap_or(gamma),
                    lambda: self.lambda.unwrap_or(lambda),
                },
            },
            score_position: self.score_position.unwrap_or(preset.score_position),
            scope: self.scope.unwrap_or(preset.scope),
            reward_whitening: self.reward_whitening.unwrap_or(preset.reward_whitening),
            whitening: self.whitening.unwrap_or(preset.whitening),
            missing_eos: self.missing_eos.unwrap_or(preset.missing_eos),
        }
    }
}

impl KlOverrides {
    fn is_empty(&self) -> bool {
        *self == KlOverrides::default()
    }
}

impl ClampOverrides {
    fn is_empty(&self) -> bool {
        *self == ClampOverrides::default()
    }
}
