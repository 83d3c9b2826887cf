//! The loss of Kahneman-Tversky optimisation (KTO) on single answers with a label, desirable or
//! undesirable. Ethayarajh et al. 2024, arXiv 2402.01306, section 4. Knows no model.
//!
//! h is the log-ratio of an answer to its own prompt: log p - log p_reference, summed over tokens,
//! EOS included; s is the logistic function.
//!
//! - Desirable: w_D (1 - s(beta (h - z0))). Undesirable: w_U (1 - s(beta (z0 - h))).
//! - z0, the reference point, is in place of the KL divergence of the policy from the reference. Of
//!   a batch it is max(0, mean log-ratio of mismatched rows), which are prompts with answers to
//!   other prompts. No gradient goes through it.
//! - The loss of a batch is the mean over its rows.

use serde::{Deserialize, Serialize};

use super::preference::sigmoid;
use super::{Metrics, ratio_or_zero};

/// Reference point of the log-ratios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferencePoint {
    /// Estimate of the KL divergence by the mismatched rows of the batch.
    #[default]
    Batch,
    /// 0: the loss of APO-zero on single answers.
    None,
}

impl ReferencePoint {
    /// Whether it is estimated by mismatched rows.
    pub fn has_mismatched_rows(self) -> bool {
        self == ReferencePoint::Batch
    }
}

/// max(0, mean) of the log-ratios of mismatched rows, in nats, added up in their order; 0 of none.
pub fn reference_point(mismatched: &[f64]) -> f64 {
    ratio_or_zero(mismatched.iter().sum(), mismatched.len()).max(0.0)
}

/// The loss with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KtoLoss {
    /// Strength of the pull to the reference; above 0.
    pub beta: f64,
    /// w_D, the weight of desirable answers.
    pub desirable_weight: f64,
    /// w_U, the weight of undesirable answers.
    pub undesirable_weight: f64,
}

/// The loss of a row, and its derivative by the policy's log-probability of the answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowGradient {
    /// The loss, without unit.
    pub loss: f64,
    /// The derivative, per nat.
    pub gradient: f64,
}

impl KtoLoss {
    /// Of a row with this log-ratio, where the reference point is `z0`, both in nats.
    pub fn of(&self, log_ratio: f64, z0: f64, desirable: bool) -> RowGradient {
        let (weight, sign) =
            if desirable { (self.desirable_weight, 1.0) } else { (self.undesirable_weight, -1.0) };
        let x = sign * self.beta * (log_ratio - z0);
        // 1 - s(x) = s(-x), whose derivative by x is -s(x) s(-x).
        RowGradient {
            loss: weight * sigmoid(-x),
            gradient: -weight * sign * self.beta * sigmoid(x) * sigmoid(-x),
        }
    }
}

/// Sums over rows of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    rows: usize,
    reward: f64,
    logp: f64,
}

impl Sums {
    fn mean(&self, sum: f64) -> Option<f64> {
        (self.rows > 0).then(|| sum / self.rows as f64)
    }
}

/// Sums over rows that the metrics are made of; those of micro-batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KtoStatistics {
    loss: f64,
    chosen: Sums,
    rejected: Sums,
}

impl KtoStatistics {
    /// Adds a row: the policy's log-probability of its answer and the log-ratio, in nats, and the
    /// loss.
    pub fn add(
        &mut self,
        loss: &KtoLoss,
        (logp, log_ratio): (f64, f64),
        of_row: f64,
        desirable: bool,
    ) {
        let own = if desirable { &mut self.chosen } else { &mut self.rejected };
        own.rows += 1;
        own.reward += loss.beta * log_ratio;
        own.logp += logp;
        self.loss += of_row;
    }

    /// Mean loss of a row; 0 of none.
    pub fn loss(&self) -> f64 {
        ratio_or_zero(self.loss, self.chosen.rows + self.rejected.rows)
    }

    /// By the names of TRL: `loss`; means over the desirable rows (`chosen`) and the undesirable
    /// ones (`rejected`) of the implicit reward, beta h, and of the log-probability; the margin of
    /// the rewards; `kl`, the reference point `z0`. And the counts of both. A mean over no row is
    /// left out.
    pub fn metrics(&self, z0: f64) -> Metrics {
        let KtoStatistics { chosen, rejected, .. } = self;
        let (up, down) = (chosen.mean(chosen.reward), rejected.mean(rejected.reward));
        let found = [
            ("loss", Some(self.loss())),
            ("rewards/chosen", up),
            ("rewards/rejected", down),
            ("rewards/margins", up.zip(down).map(|(up, down)| up - down)),
            ("logps/chosen", chosen.mean(chosen.logp)),
            ("logps/rejected", rejected.mean(rejected.logp)),
            ("kl", Some(z0)),
            ("num_desirable", Some(chosen.rows as f64)),
            ("num_undesirable", Some(rejected.rows as f64)),
        ];
        found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: KtoLoss = KtoLoss { beta: 0.25, desirable_weight: 1.0, undesirable_weight: 1.2 };

    /// Losses, and derivatives of their mean, of four rows by an independent implementation of the
    /// formulas with automatic differentiation in double precision.
    #[test]
    fn losses_and_gradients_are_the_formulas() {
        let z0 = reference_point(&[0.3, -0.2, 0.9, 0.1]);
        assert!((z0 - 0.275).abs() < 1e-15);
        let rows = [(0.8, true), (-0.5, false), (1.6, false), (-1.1, true)];
        let losses = [0.467235, 0.542056, 0.698476, 0.585101];
        let gradients = [-0.015558, 0.018575, 0.018245, -0.015172];
        let mut statistics = KtoStatistics::default();
        for ((h, desirable), (loss, gradient)) in rows.into_iter().zip(losses.iter().zip(gradients))
        {
            let found = LOSS.of(h, z0, desirable);
            assert!((found.loss - loss).abs() < 1e-6, "{found:?} for {loss}");
            assert!((found.gradient / 4.0 - gradient).abs() < 1e-6, "{found:?} for {gradient}");
            statistics.add(&LOSS, (h - 3.0, h), found.loss, desirable);
        }
        assert!((statistics.loss() - 0.573217).abs() < 1e-6);
        // Means of two rows each, by hand.
        let expected = [
            ("loss", statistics.loss()),
            ("rewards/chosen", 0.25 * -0.15),
            ("rewards/rejected", 0.25 * 0.55),
            ("rewards/margins", 0.25 * -0.7),
            ("logps/chosen", -3.15),
            ("logps/rejected", -2.45),
            ("kl", z0),
            ("num_desirable", 2.0),
            ("num_undesirable", 2.0),
        ];
        for ((name, value), (expected_name, expected)) in
            statistics.metrics(z0).into_iter().zip(expected)
        {
            assert_eq!(name, expected_name);
            assert!((value - expected).abs() < 1e-12, "{name}: {value} for {expected}");
        }
    }

    #[test]
    fn gradients_are_the_differences_of_losses() {
        for desirable in [true, false] {
            for h in [-40.0, -1.0, 0.0, 0.3, 25.0] {
                let at = |h: f64| LOSS.of(h, 0.4, desirable);
                let step = 1e-5;
                let slope = (at(h + step).loss - at(h - step).loss) / (2.0 * step);
                let found = at(h).gradient;
                assert!((found - slope).abs() < 1e-9, "{h}: {found} for {slope}");
            }
        }
    }

    #[test]
    fn the_reference_point_is_never_below_zero_and_zero_of_no_row() {
        assert_eq!(reference_point(&[-3.0, 1.0]), 0.0);
        assert_eq!(reference_point(&[]), 0.0);
        assert_eq!(reference_point(&[-1.0, 2.0]), 0.5);
    }

    #[test]
    fn far_log_ratios_have_finite_losses() {
        for (h, desirable, loss) in
            [(1e4, true, 0.0), (-1e4, true, 1.0), (1e4, false, 1.2), (-1e4, false, 0.0)]
        {
            let found = LOSS.of(h, 0.0, desirable);
            assert_eq!((found.loss, found.gradient.abs()), (loss, 0.0), "{h}");
        }
    }

    #[test]
    fn figures_of_no_row_are_left_out() {
        let mut statistics = KtoStatistics::default();
        statistics.add(&LOSS, (-2.0, 0.5), 0.25, true);
        let names: Vec<&str> = statistics.metrics(0.0).iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["loss", "rewards/chosen", "logps/chosen", "kl", "num_desirable", "num_undesirable"]
        );
    }
}
