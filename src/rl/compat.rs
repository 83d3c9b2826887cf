//! The conventions of other sources by name, so that their curves can be compared. Knows only [`Conventions`].
//!
//! A preset sets how rewards, advantages and whitening are defined, not coefficients or learning rates. What each source does was read
//! in its public code; one fixture computed under all of them is in `tests/rl`.

use serde::{Deserialize, Serialize};

use super::advantage::{Conventions, MissingEos, Scope, ScorePosition, Whitening};
use super::kl::{Clamp, Estimator, Kl};

/// A source whose conventions can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// Kirk et al. 2024: KL is k2. The released code whitens within one micro-batch and over padding; here it is the update batch's tokens.
    Paper,
    /// Huang et al. 2024, "The N+ implementation details of RLHF with PPO": score one past EOS, -1 for a response without EOS.
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
    /// alpaca_farm: KL at least 0, padding takes part, biased variance.
    AlpacaFarm,
}

impl Compat {
    /// The conventions of the source.
    pub fn conventions(self) -> Conventions {
        let ours = Conventions::default();
        let after_eos = Conventions { score_position: ScorePosition::AfterEos, ..ours };
        let k1 = |low, high| Kl { estimator: Estimator::K1, clamp: Clamp { log_ratio: None, low, high } };
        match self {
            Compat::Paper => Conventions { kl: Kl { estimator: Estimator::K2, clamp: Clamp::default() }, ..ours },
            Compat::Nplus => Conventions { missing_eos: MissingEos::Replace(-1.0), ..after_eos },
            Compat::Trl => Conventions { missing_eos: MissingEos::Subtract(1.0), ..after_eos },
            Compat::Openrlhf => Conventions { kl: k1(Some(-10.0), Some(10.0)), whitening: Whitening::Biased, ..ours },
            Compat::Verl => ours,
            Compat::Torchtune => Conventions { whitening: Whitening::ScaleOnly, ..after_eos },
            Compat::DeepspeedChat => Conventions { whitening: Whitening::None, ..after_eos },
            Compat::AlpacaFarm => Conventions { kl: k1(Some(0.0), None), scope: Scope::Padded, whitening: Whitening::Biased, ..ours },
        }
    }
}
