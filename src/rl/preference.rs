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
//! 4. With a margin m the loss is -log sigmoid(chosen - rejected - m): the scores of a pair are to
//!    differ by more than m (Touvron et al. 2023, "Llama 2", eq. 2).
//! 5. With label smoothing e it is (1 - e) L(chosen, rejected) + e L(rejected, chosen), the mean
//!    loss where a label is wrong with the chance e (Mitchell 2023, of DPO).
//! 6. Losses of pairs are added up with the weight of each in the batch's mean, so micro-batching
//!    changes nothing.
//! 7. A tie counts half in accuracy.
//! 8. Normalisation pools the scores of both texts of all training pairs: output = (raw - mean) /
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
    /// `loss`, the one that is optimised: weighted, with margins, smoothing and centring. Over
    /// pairs, each of the same weight: `accuracy`, `margin` (chosen - rejected), and `min_reward`,
    /// `mean_reward`, `max_reward` over both texts. `num_pairs`. All 0 before any pair.
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

/// What the loss of a pair is made of beside its scores; the default is Bradley-Terry's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairLoss {
    /// Coefficient of (chosen + rejected)^2; 0 does not centre.
    pub centre: f64,
    /// Chance that a label is wrong, at least 0 and below 0.5.
    pub smoothing: f64,
}

/// The scores of some pairs, and by how much those of a pair are to differ.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// Scores of the preferred texts.
    pub chosen: &'a [f32],
    /// Scores of the others.
    pub rejected: &'a [f32],
    /// Margins.
    pub margins: &'a [f64],
}

/// The loss of some pairs of a batch, each divided by `divisor`: their part of the batch's mean.
/// Gradients are ADDED to `dchosen` and `drejected`.
///
/// # Panics
/// If the slices differ in length.
pub fn pair_loss(
    dchosen: &mut [f32],
    drejected: &mut [f32],
    statistics: &mut PairStatistics,
    scored: Scored<'_>,
    divisor: usize,
    loss: PairLoss,
) -> f64 {
    let Scored { chosen, rejected, margins } = scored;
    let n = chosen.len();
    let lengths = [rejected.len(), margins.len(), dchosen.len(), drejected.len()];
    assert_eq!(lengths, [n; 4], "one of each a pair");
    let (mut sum, PairLoss { centre, smoothing }) = (0.0, loss);
    for i in 0..n {
        let (chosen, rejected) = (f64::from(chosen[i]), f64::from(rejected[i]));
        let (margin, both) = (chosen - rejected, chosen + rejected);
        // By how much the pair is ordered as labelled, and as it would be the other way round.
        let (right, wrong) = (margin - margins[i], -margin - margins[i]);
        let ordered = (1.0 - smoothing) * softplus(-right) + smoothing * softplus(-wrong);
        sum += ordered + centre * both * both;
        let apart = (1.0 - smoothing) * sigmoid(-right) - smoothing * sigmoid(-wrong);
        let together = 2.0 * centre * both;
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

    /// The one that takes the mean of raw scores off and keeps their scale.
    pub fn shift(scores: &[f32]) -> Self {
        let sum: f64 = scores.iter().map(|&x| f64::from(x)).sum();
        Normalisation { mean: ratio_or_zero(sum, scores.len()), std: 1.0 }
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
        let scored = Scored { chosen, rejected, margins: &vec![0.0; chosen.len()] };
        let loss = pair_loss(
            &mut dchosen,
            &mut drejected,
            &mut statistics,
            scored,
            chosen.len(),
            PairLoss::default(),
        );
        (loss, dchosen, drejected, statistics.metrics())
    }

    /// The loss of one pair and its slopes.
    fn one(scores: [f32; 2], margin: f64, with: PairLoss) -> (f64, f64, f64) {
        let (mut dchosen, mut drejected, mut statistics) =
            ([0.0], [0.0], PairStatistics::default());
        let scored = Scored { chosen: &scores[..1], rejected: &scores[1..], margins: &[margin] };
        let loss = pair_loss(&mut dchosen, &mut drejected, &mut statistics, scored, 1, with);
        assert_eq!(
            statistics.metrics()[0],
            ("loss", loss),
            "the loss that is logged is the one that is optimised"
        );
        (loss, f64::from(dchosen[0]), f64::from(drejected[0]))
    }

    /// Values of an independent implementation, to six digits: (1.3, -0.4); (0.2, 0.9) with a
    /// margin of 0.5; (1, -1) smoothed by 0.1.
    #[test]
    fn margin_and_smoothing() {
        for (scores, margin, smoothing, loss, slope) in [
            ([1.3, -0.4], 0.0, 0.0, 0.167_786, -0.154_465),
            ([0.2, 0.9], 0.5, 0.0, 1.463_282, -0.768_525),
            ([1.0, -1.0], 0.0, 0.1, 0.326_928, -0.019_203),
        ] {
            let found = one(scores, margin, PairLoss { centre: 0.0, smoothing });
            assert!(
                (found.0 - loss).abs() < 1e-6
                    && (found.1 - slope).abs() < 1e-6
                    && (found.2 + slope).abs() < 1e-6,
                "{scores:?}, margin {margin}, smoothing {smoothing}: {found:?}"
            );
        }
        // Margin 0.5, smoothing 0.2: 0.8 log(1 + e^-(1 - 0.5)) + 0.2 log(1 + e^(1 + 0.5)), and
        // slope -0.8 / (1 + e^0.5) + 0.2 / (1 + e^-1.5).
        let (loss, dchosen, drejected) =
            one([1.0, 0.0], 0.5, PairLoss { centre: 0.0, smoothing: 0.2 });
        let expected = 0.8 * (-0.5f64).exp().ln_1p() + 0.2 * 1.5f64.exp().ln_1p();
        let slope = -0.8 / (1.0 + 0.5f64.exp()) + 0.2 / (1.0 + (-1.5f64).exp());
        assert!((loss - expected).abs() < 1e-12, "{loss} for {expected}");
        assert!((dchosen - slope).abs() < 1e-7 && (drejected + slope).abs() < 1e-7);
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
            one([chosen, rejected], 0.0, PairLoss { centre, smoothing: 0.0 })
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
        let shift = Normalisation::shift(&[3.0, -1.0, 4.0]);
        assert_eq!((shift, shift.apply(5.0)), (Normalisation { mean: 2.0, std: 1.0 }, 3.0));
        assert_eq!(Normalisation::of(&[2.0], &[2.0]), Normalisation { mean: 2.0, std: 1.0 });
        assert_eq!(Normalisation::of(&[], &[]), Normalisation::IDENTITY);
    }

    proptest! {
        #[test]
        fn gradients_are_the_slopes(chosen in -4.0f32..4.0, rejected in -4.0f32..4.0,
            margin in 0.0f64..2.0, smoothing in 0.0f64..0.5, centre in 0.0f64..0.1) {
            let step = 1.0 / 512.0;
            let given = (margin, PairLoss { centre, smoothing });
            for (margin, with) in [(0.0, PairLoss::default()), given] {
                let at = |c: f32, r: f32| one([c, r], margin, with).0;
                let (_, dchosen, drejected) = one([chosen, rejected], margin, with);
                let width = |x: f32| f64::from(x + step) - f64::from(x - step);
                let rise = at(chosen + step, rejected) - at(chosen - step, rejected);
                prop_assert!((rise / width(chosen) - dchosen).abs() < 2e-6);
                let rise = at(chosen, rejected + step) - at(chosen, rejected - step);
                prop_assert!((rise / width(rejected) - drejected).abs() < 2e-6);
            }
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
                let scored = Scored { chosen: c, rejected: r, margins: &vec![0.0; c.len()] };
                parts += pair_loss(&mut dchosen[range.clone()], &mut drejected[range],
                    &mut statistics, scored, n, PairLoss::default());
            }
            prop_assert!((whole - parts).abs() < 1e-12);
            prop_assert_eq!(dwhole, dchosen);
            for (a, b) in metrics.iter().zip(statistics.metrics()) {
                prop_assert!((a.1 - b.1).abs() < 1e-12);
            }
        }
    }
}
