//! Learning from pairs: the Bradley-Terry loss, its statistics, and the normalisation of a reward
//! model. Knows no model.
//!
//! 1. Loss of a pair = -log sigmoid(chosen - rejected), the same number as 2-way cross-entropy over
//!    the two scores.
//! 2. It is computed as softplus of the negated margin without overflow, in `f64`.
//! 3. Centring (Eisenstein et al. 2023, "Helping or herding?", eq. 2; TRL's
//!    `center_rewards_coefficient`) adds a coefficient times
//!    (chosen + rejected)^2 to the loss of a pair: it moves both scores towards 0 and leaves their
//!    margin alone.
//! 4. Losses of pairs are added up with the weight of each in the batch's mean, so micro-batching
//!    changes nothing.
//! 5. A tie counts half in accuracy.
//! 6. Normalisation pools the scores of both texts of all training pairs: output = (raw - mean) /
//!    std (Kirk et al. 2024, released code).

use serde::{Deserialize, Serialize};

use super::{Metrics, ratio_or_zero};

/// Sums over pairs that the metrics are made of; those of micro-batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairStatistics {
    pairs: usize,
    loss: f64,
    correct: f64,
    margin: f64,
    reward: f64,
    extremes: Option<(f64, f64)>,
}

impl PairStatistics {
    /// `loss`, the one that is optimised: weighted, centring included. Over pairs, each of the same
    /// weight: `accuracy`, `margin` (chosen -
    /// rejected), and `min_reward`, `mean_reward`, `max_reward` over both texts. `num_pairs`. All 0
    /// before any pair.
    pub fn metrics(&self) -> Metrics {
        let (low, high) = self.extremes.unwrap_or((0.0, 0.0));
        vec![
            ("loss", self.loss),
            ("accuracy", ratio_or_zero(self.correct, self.pairs)),
            ("margin", ratio_or_zero(self.margin, self.pairs)),
            ("min_reward", low),
            ("mean_reward", ratio_or_zero(self.reward, 2 * self.pairs)),
            ("max_reward", high),
            ("num_pairs", self.pairs as f64),
        ]
    }
}

/// How much pairs weigh in the loss of a batch, and how it centres scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairWeight {
    /// What the loss of a pair is divided by.
    pub divisor: usize,
    /// Coefficient of (chosen + rejected)^2; 0 does not centre.
    pub centre: f64,
}

/// The loss of some pairs of a batch, as their part of the batch's mean; gradients are ADDED to
/// `dchosen` and `drejected`.
///
/// # Panics
/// If the slices differ in length.
pub fn pair_loss(
    dchosen: &mut [f32],
    drejected: &mut [f32],
    statistics: &mut PairStatistics,
    chosen: &[f32],
    rejected: &[f32],
    weight: PairWeight,
) -> f64 {
    let n = chosen.len();
    assert!(
        rejected.len() == n && dchosen.len() == n && drejected.len() == n,
        "one of each a pair"
    );
    let (mut sum, PairWeight { divisor, centre }) = (0.0, weight);
    for i in 0..n {
        let (chosen, rejected) = (f64::from(chosen[i]), f64::from(rejected[i]));
        let (margin, both) = (chosen - rejected, chosen + rejected);
        sum += softplus(-margin) + centre * both * both;
        let (apart, together) = (sigmoid(-margin), 2.0 * centre * both);
        dchosen[i] += ratio_or_zero(together - apart, divisor) as f32;
        drejected[i] += ratio_or_zero(together + apart, divisor) as f32;
        statistics.correct += preferred(chosen, rejected);
        statistics.margin += margin;
        statistics.reward += both;
        let (low, high) = statistics.extremes.unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
        statistics.extremes = Some((low.min(chosen).min(rejected), high.max(chosen).max(rejected)));
    }
    statistics.pairs += n;
    let loss = ratio_or_zero(sum, divisor);
    statistics.loss += loss;
    loss
}

/// 1 if `a` is above `b`, 0 if below, 0.5 for a tie.
pub fn preferred(a: f64, b: f64) -> f64 {
    match a.partial_cmp(&b) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Less) => 0.0,
        _ => 0.5,
    }
}

/// 1 / (1 + e^-x), without overflow.
pub fn sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => 1.0 / (1.0 + (-x).exp()),
        false => x.exp() / (1.0 + x.exp()),
    }
}

/// log(1 / (1 + e^-x)), without overflow.
pub fn log_sigmoid(x: f64) -> f64 {
    -softplus(-x)
}

/// log(1 + e^x), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// What makes raw scores comparable: their mean and standard deviation on the training pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Mean of the raw scores.
    pub mean: f64,
    /// Their standard deviation (unbiased variance); above 0.
    pub std: f64,
}

impl Normalisation {
    /// Leaves scores as they are.
    pub const IDENTITY: Normalisation = Normalisation { mean: 0.0, std: 1.0 };

    /// Of raw scores, chosen and rejected pooled. Scores that do not vary keep a standard deviation
    /// of 1.
    pub fn of(chosen: &[f32], rejected: &[f32]) -> Self {
        let n = chosen.len() + rejected.len();
        let all = || chosen.iter().chain(rejected).map(|&x| f64::from(x));
        let mean = ratio_or_zero(all().sum(), n);
        let variance =
            ratio_or_zero(all().map(|x| (x - mean) * (x - mean)).sum(), n.saturating_sub(1));
        Normalisation { mean, std: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
    }

    /// The normalised score.
    pub fn apply(&self, raw: f64) -> f64 {
        (raw - self.mean) / self.std
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loss(chosen: &[f32], rejected: &[f32]) -> (f64, Vec<f32>, Vec<f32>, Metrics) {
        let (mut dchosen, mut drejected) = (vec![0.0; chosen.len()], vec![0.0; chosen.len()]);
        let mut statistics = PairStatistics::default();
        let weight = PairWeight { divisor: chosen.len(), centre: 0.0 };
        let loss =
            pair_loss(&mut dchosen, &mut drejected, &mut statistics, chosen, rejected, weight);
        (loss, dchosen, drejected, statistics.metrics())
    }

    /// torchtune's constants for -log sigmoid of 0, 1, 2.
    #[test]
    fn the_loss_is_minus_log_sigmoid_of_the_margin() {
        for (margin, expected) in
            [(0.0f32, std::f64::consts::LN_2), (1.0, 0.313_261_687_5), (2.0, 0.126_928_011_0)]
        {
            assert!((loss(&[margin], &[0.0]).0 - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn huge_margins_neither_overflow_nor_vanish() {
        let (value, dchosen, drejected, _) = loss(&[-1000.0], &[1000.0]);
        assert_eq!((value, dchosen[0], drejected[0]), (2000.0, -1.0, 1.0));
        let (value, dchosen, drejected, _) = loss(&[1000.0], &[-1000.0]);
        assert_eq!((value, dchosen[0], drejected[0]), (0.0, 0.0, 0.0));
    }

    /// (2, 1) with coefficient 0.01: log(1 + e^-1) + 0.01 * 9, and its slopes. (2, -2) is centred
    /// already.
    #[test]
    fn centring_is_of_the_sum_of_both_scores() {
        let centred = |chosen: f32, rejected: f32, centre: f64| {
            let (mut dchosen, mut drejected, mut statistics) =
                ([0.0], [0.0], PairStatistics::default());
            let weight = PairWeight { divisor: 1, centre };
            let loss = pair_loss(
                &mut dchosen,
                &mut drejected,
                &mut statistics,
                &[chosen],
                &[rejected],
                weight,
            );
            assert_eq!(
                statistics.metrics()[0],
                ("loss", loss),
                "the loss that is logged is the one that is optimised"
            );
            (loss, dchosen[0], drejected[0])
        };
        let (loss, dchosen, drejected) = centred(2.0, 1.0, 0.01);
        assert!(
            (loss - 0.403_262).abs() < 1e-6
                && (dchosen + 0.208_941).abs() < 1e-6
                && (drejected - 0.328_941).abs() < 1e-6
        );
        assert_eq!(centred(2.0, -2.0, 5.0), centred(2.0, -2.0, 0.0));
    }

    #[test]
    fn metrics_are_over_pairs_and_a_tie_is_half_right() {
        let metrics = loss(&[1.0, 0.0, -1.0, 2.0], &[0.0, 0.0, 1.0, -2.0]).3;
        let get = |name| metrics.iter().find(|m| m.0 == name).map(|m| m.1);
        assert_eq!((get("accuracy"), get("margin")), (Some(0.625), Some(0.75)));
        assert_eq!(
            (get("min_reward"), get("mean_reward"), get("max_reward")),
            (Some(-2.0), Some(0.125), Some(2.0))
        );
        assert_eq!(get("num_pairs"), Some(4.0));
        assert!(loss(&[], &[]).3.iter().all(|metric| metric.1 == 0.0));
    }

    #[test]
    fn normalised_training_scores_have_mean_zero_and_deviation_one() {
        let (chosen, rejected) = ([3.0f32, 5.0, 4.0], [1.0f32, -2.0, 1.0]);
        let normalisation = Normalisation::of(&chosen, &rejected);
        // Mean 2; squares 1 + 9 + 4 + 1 + 16 + 1 = 32 over 5.
        assert!(
            (normalisation.mean - 2.0).abs() < 1e-12
                && (normalisation.std - 6.4f64.sqrt()).abs() < 1e-12
        );
        assert_eq!(normalisation.apply(2.0), 0.0);
        assert_eq!(Normalisation::of(&[2.0], &[2.0]), Normalisation { mean: 2.0, std: 1.0 });
        assert_eq!(Normalisation::of(&[], &[]), Normalisation::IDENTITY);
    }

    proptest! {
        #[test]
        fn gradients_are_the_slopes(chosen in -4.0f32..4.0, rejected in -4.0f32..4.0) {
            let step = 1.0 / 512.0;
            let at = |c: f32, r: f32| loss(&[c], &[r]).0;
            let (_, dchosen, drejected, _) = loss(&[chosen], &[rejected]);
            let width = |x: f32| f64::from(x + step) - f64::from(x - step);
            let slope = (at(chosen + step, rejected) - at(chosen - step, rejected)) / width(chosen);
            prop_assert!((slope - f64::from(dchosen[0])).abs() < 1e-6);
            let slope = (at(chosen, rejected + step) - at(chosen,
                rejected - step)) / width(rejected);
            prop_assert!((slope - f64::from(drejected[0])).abs() < 1e-6);
        }

        #[test]
        fn micro_batches_change_nothing(pairs in prop::collection::vec((-4.0f32..4.0, -4.0f32..4.0),
            2..9), cut in 1usize..8) {
            let (chosen, rejected): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let n = chosen.len();
            let cut = cut.min(n - 1);
            let (whole, dwhole, _, metrics) = loss(&chosen, &rejected);
            let (mut dchosen, mut drejected, mut statistics) = (vec![0.0; n], vec![0.0; n],
                PairStatistics::default());
            let mut parts = 0.0;
            for range in [0..cut, cut..n] {
                let (c, r) = (&chosen[range.clone()], &rejected[range.clone()]);
                let weight = PairWeight { divisor: n, centre: 0.0 };
                parts += pair_loss(&mut dchosen[range.clone()], &mut drejected[range],
                    &mut statistics, c, r, weight);
            }
            prop_assert!((whole - parts).abs() < 1e-12);
            prop_assert_eq!(dwhole, dchosen);
            for (a, b) in metrics.iter().zip(statistics.metrics()) {
                prop_assert!((a.1 - b.1).abs() < 1e-12);
            }
        }
    }
}
