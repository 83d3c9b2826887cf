//! Estimators of KL(policy || reference) from log-probabilities of sampled tokens, and the adaptive
//! coefficient. Knows nothing of rewards.
//!
//! With d = log p - log p_ref of the sampled token (Schulman, "Approximating KL divergence", 2020):
//! 1. k1 = d, unbiased, of either sign; 2. k2 = d^2 / 2, biased, never negative; 3. k3 = e^-d - 1 +
//!    d, unbiased, never negative.
//! 4. The log-ratio may be clamped before the estimator, and the estimate after it.
//! 5. A coefficient tuned for one estimator does not carry over to another: k2 and k3 are of second
//!    order in d, k1 is of first.
//! 6. Two means that are 10 to 100 apart have two names: [`per_sequence`] (sum over tokens, mean
//!    over sequences) and [`per_token`].

use serde::{Deserialize, Serialize};

use super::ratio_or_zero;

/// How the KL of one token is estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// The log-ratio itself.
    #[default]
    K1,
    /// Half the squared log-ratio.
    K2,
    /// `e^-d - 1 + d`.
    K3,
}

/// Bounds around an estimator; `None` leaves a side open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clamp {
    /// Largest absolute log-ratio; larger ones are clamped before the estimator.
    pub log_ratio: Option<f64>,
    /// Smallest estimate; smaller ones are clamped.
    pub low: Option<f64>,
    /// Largest estimate; larger ones are clamped.
    pub high: Option<f64>,
}

/// An estimator with its clamps: what turns a log-ratio into a KL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kl {
    /// Estimator of the KL of a token from the log-ratio d.
    pub estimator: Estimator,
    /// Clamps of the estimate; none by default.
    pub clamp: Clamp,
}

impl Kl {
    /// The estimate for one token, in nats.
    pub fn value(&self, log_prob: f64, reference: f64) -> f64 {
        let bound = self.clamp.log_ratio.unwrap_or(f64::INFINITY);
        let d = (log_prob - reference).max(-bound).min(bound);
        let value = match self.estimator {
            Estimator::K1 => d,
            Estimator::K2 => 0.5 * d * d,
            // Rounding may take an ulp too much off.
            Estimator::K3 => ((-d).exp_m1() + d).max(0.0),
        };
        value
            .max(self.clamp.low.unwrap_or(f64::NEG_INFINITY))
            .min(self.clamp.high.unwrap_or(f64::INFINITY))
    }

    /// The estimates of one response's tokens.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn values(&self, log_probs: &[f32], reference: &[f32]) -> Vec<f64> {
        assert_eq!(log_probs.len(), reference.len(), "one reference log-probability a token");
        log_probs
            .iter()
            .zip(reference)
            .map(|(&p, &r)| self.value(f64::from(p), f64::from(r)))
            .collect()
    }
}

/// Sequence KL: the sum over each sequence's tokens, averaged over sequences; 0 for no sequence.
pub fn per_sequence<R: AsRef<[f64]>>(rows: &[R]) -> f64 {
    ratio_or_zero(rows.iter().map(|row| row.as_ref().iter().sum::<f64>()).sum(), rows.len())
}

/// Token KL: the mean over all tokens of all sequences; 0 for no token.
pub fn per_token<R: AsRef<[f64]>>(rows: &[R]) -> f64 {
    let count = rows.iter().map(|row| row.as_ref().len()).sum();
    ratio_or_zero(rows.iter().map(|row| row.as_ref().iter().sum::<f64>()).sum(), count)
}

/// An adaptive coefficient's target and pace.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// The sequence KL to hold, in nats: of `objective/kl` (k1, summed over the response, mean over
    /// responses), whatever estimator is charged.
    pub target: f64,
    /// Episodes over which a full correction is spread.
    pub horizon: f64,
}

/// The coefficient after a batch of `episodes` whose sequence KL was `kl` (Ziegler et al. 2019,
/// "Fine-tuning language models from human preferences", section 2.2): the relative error, clipped
/// to plus and minus 0.2, times episodes over horizon.
pub fn adapt(coef: f64, kl: f64, episodes: usize, adaptive: &Adaptive) -> f64 {
    let error = (kl / adaptive.target - 1.0).clamp(-0.2, 0.2);
    coef * (1.0 + error * episodes as f64 / adaptive.horizon)
}

/// A coefficient that changes from step to step, whatever the KL is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anneal {
    /// Coefficient at the end.
    pub to: f64,
    /// Steps over which it changes evenly from the first coefficient; `null` takes all steps.
    #[serde(default)]
    pub over: Option<usize>,
}

impl Anneal {
    /// The coefficient of step number `step` (0 is the first) of `steps`, from `first`: that of
    /// step 0 is `first`, that of step `over` and of later ones `to`.
    pub fn coef(self, first: f64, step: usize, steps: usize) -> f64 {
        let over = self.over.unwrap_or(steps.saturating_sub(1));
        match step >= over {
            true => self.to,
            false => first + (self.to - first) * (step as f64 / over as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(estimator: Estimator) -> Kl {
        Kl { estimator, clamp: Clamp::default() }
    }

    const ALL: [Estimator; 3] = [Estimator::K1, Estimator::K2, Estimator::K3];

    /// NeMo-RL's constants: log p = -1, reference 0, -15, -30.
    #[test]
    fn the_estimators_give_the_published_values() {
        let clamp = Clamp { log_ratio: Some(20.0), low: Some(-10.0), high: Some(10.0) };
        for (estimator, expected) in [
            (Estimator::K1, [-1.0, 14.0, 29.0]),
            (Estimator::K2, [0.5, 98.0, 420.5]),
            (Estimator::K3, [0.718_281_828, 13.0, 28.0]),
        ] {
            let values = plain(estimator).values(&[-1.0; 3], &[0.0, -15.0, -30.0]);
            let clamped = Kl { estimator, clamp }.values(&[-1.0; 3], &[0.0, -15.0, -30.0]);
            for (value, expected) in values.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-5, "{estimator:?}: {value} for {expected}");
            }
            assert!(
                (clamped[0] - expected[0]).abs() < 1e-8 && clamped[1..] == [10.0, 10.0],
                "{estimator:?}: {clamped:?}"
            );
        }
    }

    /// NeMo-RL's constants: log p = -3 and -1, reference 0, log-ratio clamped to 2.
    #[test]
    fn clamps_bound_the_log_ratio_and_the_estimate() {
        let kl = Kl {
            estimator: Estimator::K3,
            clamp: Clamp { log_ratio: Some(2.0), ..Clamp::default() },
        };
        assert!(
            (kl.value(-3.0, 0.0) - 4.389_056).abs() < 1e-6
                && (kl.value(-1.0, 0.0) - 0.718_281_8).abs() < 1e-6
        );
        let positive =
            Kl { estimator: Estimator::K1, clamp: Clamp { low: Some(0.0), ..Clamp::default() } };
        assert_eq!((positive.value(-2.0, -1.0), positive.value(-1.0, -2.0)), (0.0, 1.0));
    }

    #[test]
    fn sequence_and_token_means_are_two_numbers() {
        let rows = [vec![0.2, -0.1, 0.5], vec![-0.1, 0.3, 0.0, -0.2, 0.1]];
        assert!((per_sequence(&rows) - 0.35).abs() < 1e-12);
        assert!((per_token(&rows) - 0.0875).abs() < 1e-12);
        let none: [Vec<f64>; 0] = [];
        assert_eq!((per_sequence(&none), per_token(&none), per_token(&[vec![]])), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_controller_moves_towards_its_target_by_at_most_a_fifth_of_the_share() {
        let adaptive = Adaptive { target: 6.0, horizon: 10_000.0 };
        assert!((adapt(0.1, 6.0, 256, &adaptive) - 0.1).abs() < 1e-15);
        // 6.6 is 10% too much: 0.1 * (1 + 0.1 * 0.0256).
        assert!((adapt(0.1, 6.6, 256, &adaptive) - 0.100_256).abs() < 1e-12);
        assert!((adapt(0.1, 60.0, 256, &adaptive) - 0.100_512).abs() < 1e-12);
        assert!((adapt(0.1, 0.0, 256, &adaptive) - 0.099_488).abs() < 1e-12);
    }

    #[test]
    fn a_coefficient_changes_evenly_to_its_end() {
        let coefs = |anneal: Anneal, steps: usize| -> Vec<f64> {
            (0..steps).map(|step| anneal.coef(0.4, step, steps)).collect()
        };
        let all = coefs(Anneal { to: 0.0, over: None }, 5);
        for (found, expected) in all.iter().zip([0.4, 0.3, 0.2, 0.1, 0.0]) {
            assert!((found - expected).abs() < 1e-15, "{all:?}");
        }
        assert_eq!(
            coefs(Anneal { to: 0.8, over: Some(2) }, 4)[1..],
            [0.6000000000000001, 0.8, 0.8]
        );
        assert_eq!(coefs(Anneal { to: 0.1, over: None }, 1), [0.1]);
    }

    /// On a vocabulary of four, the expectation is a sum.
    #[test]
    fn k1_and_k3_are_unbiased() {
        let p = [0.5f64, 0.25, 0.2, 0.05];
        let q = [0.1f64, 0.3, 0.2, 0.4];
        let truth: f64 = (0..4).map(|i| p[i] * (p[i] / q[i]).ln()).sum();
        for estimator in [Estimator::K1, Estimator::K3] {
            let expected: f64 =
                (0..4).map(|i| p[i] * plain(estimator).value(p[i].ln(), q[i].ln())).sum();
            assert!((expected - truth).abs() < 1e-14, "{estimator:?}");
        }
    }

    proptest! {
        #[test]
        fn the_kl_of_a_policy_with_itself_is_exactly_zero(log_prob in -30.0f64..0.0) {
            for estimator in ALL {
                prop_assert_eq!(plain(estimator).value(log_prob, log_prob), 0.0);
            }
        }

        #[test]
        fn k2_and_k3_are_never_negative(log_prob in -30.0f64..0.0, reference in -30.0f64..0.0,
            near in -1e-6f64..1e-6) {
            for estimator in [Estimator::K2, Estimator::K3] {
                prop_assert!(plain(estimator).value(log_prob, reference) >= 0.0);
                prop_assert!(plain(estimator).value(log_prob, log_prob + near) >= 0.0);
            }
        }
    }
}
