//! How well a reward model orders pairs, how far its margins can be trusted, and the best that any
//! could do on noisy labels. Knows no reward model.
//!
//! A margin is the score of the chosen text minus that of the rejected one, in the units of
//! training, where Bradley and Terry (1952) read it as the log-odds of the label. The model's
//! confidence in its own order is then sigmoid(|margin|), from 0.5 to 1.
//!
//! Pairs of one prompt share texts, so intervals are over prompts: every function takes the prompt
//! of each pair.

use serde::{Deserialize, Serialize};

use super::interval::{Clusters, Interval};
use crate::rl::preference::{preferred, sigmoid};

/// Pairs of about the same confidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The least confidence among them.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// Their mean confidence: the accuracy of a calibrated model.
    pub confidence: f64,
    /// Their accuracy, a tie counting half.
    pub accuracy: Interval,
}

/// How far confidence is accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Ten ranges of confidence, 0.05 wide, those without a pair left out.
    pub bins: Vec<Bin>,
    /// Expected calibration error: mean over pairs of the distance of accuracy and confidence of
    /// their bin (Guo et al. 2017, eq. 3). It has no interval: by chance alone it is above 0, the
    /// further the fewer pairs there are.
    pub error: f64,
    /// Mean squared distance of sigmoid(margin) from 1, the label (Brier 1950).
    pub brier: f64,
    /// Its interval.
    pub brier_interval: Interval,
    /// Mean of -log sigmoid(margin), in nats: the loss of training.
    pub log_loss: f64,
    /// Its interval.
    pub log_loss_interval: Interval,
}

/// The share of the pairs of texts of different gold whose scores are ordered as gold is, a tie of
/// the scores counting half; `None` where all are of one gold. Gold that differs by less than 1e-9
/// is one: sums of decimal fractions are rounded.
///
/// # Panics
/// If there is not one score a text.
pub fn ordered(golds: &[f64], scores: &[f64]) -> Option<f64> {
    assert_eq!(golds.len(), scores.len(), "one score a text");
    let (mut right, mut pairs) = (0.0, 0usize);
    for j in 1..golds.len() {
        for i in 0..j {
            let gap = golds[i] - golds[j];
            if gap.abs() > 1e-9 {
                pairs += 1;
                right += preferred(gap.signum() * scores[i], gap.signum() * scores[j]);
            }
        }
    }
    (pairs > 0).then(|| right / pairs as f64)
}

/// Accuracy by confidence: `bins` parts of one size (the last ones a pair smaller), least confident
/// first; fewer where there are fewer pairs.
pub fn by_confidence<K: Ord>(margins: &[f64], prompts: &[K], bins: usize) -> Vec<Bin> {
    let mut order: Vec<usize> = (0..margins.len()).collect();
    order.sort_by(|&i, &j| margins[i].abs().total_cmp(&margins[j].abs()));
    let bins = bins.min(order.len()).max(1);
    let parts = (0..bins).map(|bin| {
        &order[(bin * order.len()).div_ceil(bins)..((bin + 1) * order.len()).div_ceil(bins)]
    });
    parts.filter_map(|part| bin(part, margins, prompts)).collect()
}

/// How far sigmoid(margin) is the chance that a label agrees.
pub fn calibration<K: Ord>(margins: &[f64], prompts: &[K]) -> Calibration {
    const BINS: usize = 10;
    let place =
        |margin: f64| (((confidence(margin) - 0.5) * 2.0 * BINS as f64) as usize).min(BINS - 1);
    let part = |at: usize| {
        (0..margins.len()).filter(|pair| place(margins[*pair]) == at).collect::<Vec<usize>>()
    };
    let bins: Vec<Bin> = (0..BINS).filter_map(|at| bin(&part(at), margins, prompts)).collect();
    let clusters = Clusters::of(prompts);
    let mean = |value: &dyn Fn(f64) -> f64| {
        clusters.mean(&margins.iter().map(|margin| value(*margin)).collect::<Vec<f64>>())
    };
    let apart = bins
        .iter()
        .map(|bin| bin.accuracy.n as f64 * (bin.accuracy.mean - bin.confidence).abs())
        .sum::<f64>();
    let brier_interval = mean(&|margin| sigmoid(-margin).powi(2));
    let log_loss_interval = mean(&|margin| (-margin.abs()).exp().ln_1p() + (-margin).max(0.0));
    Calibration {
        error: apart / margins.len().max(1) as f64,
        brier: brier_interval.mean,
        brier_interval,
        log_loss: log_loss_interval.mean,
        log_loss_interval,
        bins,
    }
}

fn confidence(margin: f64) -> f64 {
    sigmoid(margin.abs())
}

/// Of the pairs at some places, `None` of none.
fn bin<K: Ord>(pairs: &[usize], margins: &[f64], prompts: &[K]) -> Option<Bin> {
    let margins: Vec<f64> = pairs.iter().map(|&pair| margins[pair]).collect();
    let confidences: Vec<f64> = margins.iter().map(|margin| confidence(*margin)).collect();
    Some(Bin {
        low: confidences.iter().copied().reduce(f64::min)?,
        high: confidences.iter().copied().reduce(f64::max)?,
        confidence: confidences.iter().sum::<f64>() / confidences.len() as f64,
        accuracy: Clusters::of(pairs.iter().map(|&pair| &prompts[pair]))
            .share(&correct(&margins, &vec![0.0; margins.len()])),
    })
}

/// 1 for each pair whose chosen text is scored higher, 0 lower, 0.5 for a tie: their mean is the
/// accuracy.
///
/// # Panics
/// If the slices differ in length.
pub fn correct(chosen: &[f64], rejected: &[f64]) -> Vec<f64> {
    assert_eq!(chosen.len(), rejected.len(), "one of each a pair");
    chosen.iter().zip(rejected).map(|(&chosen, &rejected)| preferred(chosen, rejected)).collect()
}

/// The noise ceiling, pair by pair: how likely a label drawn by Bradley-Terry with P(first) =
/// sigmoid(beta * gap) agrees with the sign of the gold gap. The mean is the expected accuracy of
/// gold itself, above which no scorer gets but by luck.
pub fn ceiling(gaps: &[f64], beta: f64) -> Vec<f64> {
    gaps.iter().map(|gap| sigmoid(beta * gap.abs())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Every pair is of another prompt.
    fn apart(pairs: usize) -> Vec<usize> {
        (0..pairs).collect()
    }

    #[test]
    fn bins_of_confidence_have_one_size_and_rising_confidence() {
        let margins: Vec<f64> = (0..23).map(|i| f64::from(i * 7 % 23 - 11) / 4.0).collect();
        let found = by_confidence(&margins, &apart(23), 5);
        assert_eq!(found.iter().map(|bin| bin.accuracy.n).collect::<Vec<_>>(), [5, 5, 4, 5, 4]);
        assert!(found.windows(2).all(|two| two[0].high <= two[1].low) && found[0].low == 0.5);
        let right = margins.iter().map(|margin| preferred(*margin, 0.0)).sum::<f64>();
        assert!(
            (found.iter().map(|bin| bin.accuracy.mean * bin.accuracy.n as f64).sum::<f64>()
                - right)
                .abs()
                < 1e-9
        );
        assert_eq!(by_confidence(&[0.3], &apart(1), 5).len(), 1);
        assert!(by_confidence(&[], &apart(0), 5).is_empty());
    }

    #[test]
    fn labels_drawn_as_the_model_believes_are_calibrated_and_twice_the_margin_is_overconfident() {
        let mut draws = Stream::new(8, "labels").sequence(0);
        let mut drawn = |scale: f64| -> Vec<f64> {
            let margins = (0..20_000).map(|_| 6.0 * draws.uniform() - 3.0).collect::<Vec<f64>>();
            margins
                .into_iter()
                .map(
                    |margin| {
                        if draws.chance(sigmoid(margin)) { scale * margin } else { -scale * margin }
                    },
                )
                .collect()
        };
        let (honest, bold) =
            (calibration(&drawn(1.0), &apart(20_000)), calibration(&drawn(2.0), &apart(20_000)));
        assert!(honest.error < 0.015 && bold.error > 0.05, "{} and {}", honest.error, bold.error);
        assert!(honest.log_loss < bold.log_loss && honest.brier < bold.brier);
        assert_eq!(honest.bins.iter().map(|bin| bin.accuracy.n).sum::<usize>(), 20_000);
        assert!(
            honest.bins.iter().all(|bin| bin.low <= bin.confidence && bin.confidence <= bin.high)
        );
    }

    /// Of golds 0, 0, 1, 2 five pairs differ: scores 1, 0, 1, 0.5 order (0, 2) as a tie, (0, 3)
    /// wrong, (1, 2) and (1, 3) right, (2, 3) wrong.
    #[test]
    fn pairs_of_different_gold_are_counted() {
        let found = ordered(&[0.0, 0.0, 1.0, 2.0], &[1.0, 0.0, 1.0, 0.5]).unwrap();
        assert!((found - 2.5 / 5.0).abs() < 1e-12, "{found}");
        assert_eq!(ordered(&[0.3, 0.1 + 0.2], &[1.0, 2.0]), None);
    }

    #[test]
    fn calibration_of_two_pairs_by_hand() {
        let found = calibration(&[3f64.ln(), -3f64.ln()], &apart(2));
        assert_eq!((found.bins.len(), found.bins[0].accuracy.mean), (1, 0.5));
        assert!(
            (found.error - 0.25).abs() < 1e-12
                && (found.brier - (0.0625 + 0.5625) / 2.0).abs() < 1e-12
        );
        assert!((found.log_loss - ((4.0f64 / 3.0).ln() + 4f64.ln()) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn accuracy_counts_a_tie_half() {
        assert_eq!(correct(&[1.0, 0.0, 2.0], &[0.0, 1.0, 2.0]), [1.0, 0.0, 0.5]);
    }

    #[test]
    fn the_ceiling_is_the_sigmoid_of_the_gap_whatever_its_sign() {
        let found = ceiling(&[0.0, 3f64.ln(), -3f64.ln(), 1000.0], 1.0);
        assert!(
            found.iter().zip([0.5, 0.75, 0.75, 1.0]).all(|(a, b)| (a - b).abs() < 1e-12),
            "{found:?}"
        );
    }

    #[test]
    fn gold_reaches_its_ceiling_on_labels_drawn_from_it() {
        let mut draws = Stream::new(4, "labels").sequence(0);
        let gaps: Vec<f64> = (0..20_000).map(|_| draws.uniform() * 2.0 - 1.0).collect();
        let (chosen, rejected): (Vec<f64>, Vec<f64>) = gaps
            .iter()
            .map(|&gap| {
                if draws.chance(1.0 / (1.0 + (-4.0 * gap).exp())) { (gap, 0.0) } else { (0.0, gap) }
            })
            .unzip();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean(correct(&chosen, &rejected)) - mean(ceiling(&gaps, 4.0))).abs() < 0.01);
    }

    /// Five pairs of each prompt that are right or wrong together tell no more than one pair of
    /// each.
    #[test]
    fn pairs_of_one_prompt_are_one_cluster() {
        let mut draws = Stream::new(2, "prompts").sequence(0);
        let of_prompt: Vec<f64> =
            (0..80).map(|_| if draws.chance(0.7) { 0.5 } else { -0.5 }).collect();
        let five: Vec<f64> = of_prompt.iter().flat_map(|margin| [*margin; 5]).collect();
        let prompts: Vec<usize> = (0..400).map(|pair| pair / 5).collect();
        let width = |interval: Interval| interval.high - interval.low;
        let found = calibration(&five, &prompts);
        let (one, taken_apart) =
            (calibration(&of_prompt, &apart(80)), calibration(&five, &apart(400)));
        for of in [
            |c: &Calibration| c.bins[0].accuracy,
            |c: &Calibration| c.brier_interval,
            |c: &Calibration| c.log_loss_interval,
        ] {
            let ratio = width(of(&found)) / width(of(&one));
            assert!((ratio - 1.0).abs() < 0.01, "{ratio}");
            let ratio = width(of(&found)) / width(of(&taken_apart));
            assert!((ratio - 5f64.sqrt()).abs() < 0.1, "{ratio}");
        }
        let bins = by_confidence(&five, &prompts, 1);
        assert_eq!(bins[0].accuracy, found.bins[0].accuracy);
    }
}
