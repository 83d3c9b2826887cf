//! The config of the optimum of an evaluation, and its conditions on other stages.

use serde::{Deserialize, Serialize};

use crate::reference::{Ref, Samples};
use crate::rl::advantage::MissingEos;
use crate::stages::{Checks, Constraint, Rule};

/// The optimum of the KL-regularised objective, which the methods are compared with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimumConfig {
    /// Samples of a stage `best_of_n` whose policy is the reference: all candidates of a row are
    /// used.
    pub candidates: Ref<Samples>,
    /// Score of a sample without EOS: as `missing_eos` of that stage.
    #[serde(default)]
    pub missing_eos: MissingEos,
    /// Coefficients of the KL, rising, in units of the normalised reward a nat, as `kl.coef` of
    /// `ppo` is.
    #[serde(default = "betas")]
    pub betas: Vec<f64>,
    /// Effective sample size of an input below which a beta has no estimate.
    #[serde(default = "ten")]
    pub min_ess: f64,
}

fn betas() -> Vec<f64> {
    vec![0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
}

fn ten() -> f64 {
    10.0
}

impl OptimumConfig {
    /// Notes values out of range.
    pub(super) fn check(&self, checks: &mut Checks) {
        let rising = self.betas.windows(2).all(|two| two[0] < two[1]);
        let positive = self.betas.iter().all(|beta| *beta > 0.0 && beta.is_finite());
        checks
            .require(
                self.missing_eos.is_finite(),
                "optimum.missing_eos",
                "expected a finite number",
            )
            .require(
                !self.betas.is_empty() && positive && rising,
                "optimum.betas",
                format!("expected rising numbers above 0, found {:?}", self.betas),
            )
            .require(
                self.min_ess >= 1.0 && self.min_ess.is_finite(),
                "optimum.min_ess",
                format!("expected a number of at least 1, found {}", self.min_ess),
            );
    }

    /// The candidates of the stage `candidates` are of the reference policy, and scored by the
    /// evaluation's reward model, where these are stages.
    pub(super) fn constraints(
        candidates: String,
        policy: Option<String>,
        reward_model: Option<String>,
    ) -> Vec<Constraint> {
        let constraint = |(inner, wanted): (&'static str, Option<String>)| {
            Some(Constraint {
                field: "optimum.candidates".into(),
                node: candidates.clone(),
                inner: inner.into(),
                rule: Rule::Is(wanted?),
            })
        };
        let fields = [("policy", policy), ("reward_model", reward_model)];
        fields.into_iter().filter_map(constraint).collect()
    }
}
