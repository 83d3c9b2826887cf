//! Best-of-N: which candidate a scorer picks, and what any smaller N would have given, from the
//! same candidates. Knows no scorer.

use std::cmp::Ordering;

use super::interval::{Interval, average, of_mean};
use crate::random::Sequence;

/// The index of the highest score, the first of several; `None` for no score. NaN is below
/// everything.
pub fn best(scores: &[f64]) -> Option<usize> {
    (0..scores.len()).reduce(|best, i| if above(scores, i, best) { i } else { best })
}

/// Whether candidate i has a higher score than candidate j.
fn above(scores: &[f64], i: usize, j: usize) -> bool {
    scores[i] > scores[j] || (scores[j].is_nan() && !scores[i].is_nan())
}

/// The expected `value` of the candidate that `scores` picks among `n` of the N candidates, over
/// all subsets of n: the unbiased estimate of best-of-n. The candidate with r - 1 others below it
/// is the best of C(r - 1, n - 1) of the C(N, n) subsets.
///
/// # Panics
/// If there is not one value a score, or n is not from 1 to N.
pub fn expected(scores: &[f64], values: &[f64], n: usize) -> f64 {
    let all = scores.len();
    assert_eq!(all, values.len(), "one value a score");
    assert!((1..=all).contains(&n), "best of {n} of {all} candidates");
    // Best first; sorting is stable, so of equal scores the first counts as the best here too.
    let mut order: Vec<usize> = (0..all).collect();
    order.sort_by(|&i, &j| match above(scores, j, i) {
        true => Ordering::Greater,
        false if above(scores, i, j) => Ordering::Less,
        false => Ordering::Equal,
    });
    let mut weight = n as f64 / all as f64;
    let mut sum = 0.0;
    for (place, &candidate) in order.iter().enumerate().take(all - n + 1) {
        sum += weight * values[candidate];
        // C(r - 2, n - 1) / C(r - 1, n - 1) for r = all - place.
        let rank = (all - place) as f64;
        weight *= (rank - n as f64) / (rank - 1.0).max(1.0);
    }
    sum
}

/// Best-of-n for every n up to the fewest candidates of an input: the mean over inputs of
/// [`expected`], with its interval. Each input is its candidates' scores and values.
pub fn curve(inputs: &[(Vec<f64>, Vec<f64>)]) -> Vec<Interval> {
    let most = inputs.iter().map(|(scores, _)| scores.len()).min().unwrap_or(0);
    let best_of =
        |n| inputs.iter().map(|(scores, values)| expected(scores, values, n)).collect::<Vec<f64>>();
    (1..=most).map(|n| of_mean(&best_of(n))).collect()
}

/// Best-of-n at a distance from its policy.
#[derive(Clone, Debug, PartialEq)]
pub struct AtKl {
    /// Its value there, input by input.
    pub values: Vec<f64>,
    /// How much the mean of the values rises with each nat there.
    pub slope: f64,
}

/// The value of best-of-n at `kl` nats from its policy, input by input: between the two n whose
/// bounds ([`kl_bound`]) are around `kl`, linear in KL. `None` beyond the bound of the most
/// candidates that every input has. Each input is its candidates' scores and values.
pub fn at_kl(inputs: &[(Vec<f64>, Vec<f64>)], kl: f64) -> Option<AtKl> {
    let most = inputs.iter().map(|(scores, _)| scores.len()).min().unwrap_or(0);
    interpolate(most, kl, |n| {
        inputs.iter().map(|(scores, values)| expected(scores, values, n)).collect()
    })
}

/// Values of a method at the mean of `kl` nats, one an input, as they are compared with best-of-n
/// there: each less what best-of-n would gain by the input's distance from that mean, `slope` a
/// nat. Their mean stays, and their difference from best-of-n's has the error of the KL too.
///
/// # Panics
/// If there is not one distance a value.
pub fn at_own_kl(values: &[f64], kl: &[f64], slope: f64) -> Vec<f64> {
    assert_eq!(values.len(), kl.len(), "one distance a value");
    let mean = average(kl);
    values.iter().zip(kl).map(|(value, kl)| value - slope * (kl - mean)).collect()
}

/// What is at `kl` nats between the values `at(n)` of the two n up to `most` whose bounds
/// ([`kl_bound`]) are around it, value by value, linear in KL. `None` beyond the bound of `most`,
/// and below 0.
pub fn interpolate(most: usize, kl: f64, at: impl Fn(usize) -> Vec<f64>) -> Option<AtKl> {
    let above = (1..=most).find(|&n| kl >= 0.0 && kl_bound(n) >= kl)?;
    let below = above.saturating_sub(1).max(1);
    let (low, high, width) = (at(below), at(above), kl_bound(above) - kl_bound(below));
    let rise = |low: f64, high: f64| if above == below { 0.0 } else { (high - low) / width };
    let values = low
        .iter()
        .zip(&high)
        .map(|(&low, &high)| low + (kl - kl_bound(below)) * rise(low, high))
        .collect();
    Some(AtKl { values, slope: rise(average(&low), average(&high)) })
}

/// The picks of `repeats` best-of-n draws, each from n candidates drawn without replacement: what
/// samples of a best-of-n policy are, for its diversity per input.
///
/// # Panics
/// If n is not from 1 to the number of scores.
pub fn draws(scores: &[f64], n: usize, repeats: usize, sequence: &mut Sequence) -> Vec<usize> {
    assert!((1..=scores.len()).contains(&n), "best of {n} of {} candidates", scores.len());
    let pick = |sequence: &mut Sequence| {
        let mut pool: Vec<usize> = (0..scores.len()).collect();
        for i in 0..n {
            pool.swap(i, i + sequence.below(scores.len() - i));
        }
        pool.truncate(n);
        pool.sort_unstable();
        pool.into_iter()
            .reduce(|best, i| if above(scores, i, best) { i } else { best })
            .expect("n is at least 1")
    };
    (0..repeats).map(|_| pick(sequence)).collect()
}

/// The most that best-of-n can be away from the policy it samples from, in nats of KL:
/// log n - (n - 1) / n (Stiennon et al. 2020, "Learning to summarize from human feedback", appendix
/// G.3); an
/// upper bound (Beirami et al. 2024).
pub fn kl_bound(n: usize) -> f64 {
    match n {
        0 => 0.0,
        _ => (n as f64).ln() - (n as f64 - 1.0) / n as f64,
    }
}

/// Best-of-n of outcomes whose probabilities are known, exactly: with F the probability of a reward
/// of at most that of y, and F' of a lower one, y is chosen with probability (F^n - F'^n) p(y) /
/// P(its reward): equal rewards are told apart by chance.
///
/// # Panics
/// If there is not one reward a probability, or n is 0.
pub fn exact(probabilities: &[f64], rewards: &[f64], n: usize) -> Vec<f64> {
    assert_eq!(probabilities.len(), rewards.len(), "one reward a probability");
    assert!(n > 0, "best of none");
    let mass = |within: &dyn Fn(f64) -> bool| {
        let own = probabilities.iter().zip(rewards).filter(|(_, reward)| within(**reward));
        own.map(|(p, _)| p).sum::<f64>()
    };
    let chosen = |(p, &own): (&f64, &f64)| {
        let (below, equal) = (mass(&|reward| reward < own), mass(&|reward| reward == own));
        let power = |x: f64| x.powi(i32::try_from(n).unwrap_or(i32::MAX));
        if equal > 0.0 { (power(below + equal) - power(below)) * p / equal } else { 0.0 }
    };
    probabilities.iter().zip(rewards).map(chosen).collect()
}

/// KL(q || p) of two lists of probabilities of the same outcomes, in nats.
///
/// # Panics
/// If they are of unequal lengths.
pub fn kl(q: &[f64], p: &[f64]) -> f64 {
    assert_eq!(q.len(), p.len(), "two probabilities an outcome");
    q.iter().zip(p).filter(|(q, _)| **q > 0.0).map(|(q, p)| q * (q / p).ln()).sum()
}

/// Texts of a policy whose rewards follow one another in the order of rewards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Their probability together.
    pub mass: f64,
    /// Whether all of them have one reward; if not, no two of them have.
    pub is_tied: bool,
}

/// The levels of some samples of a policy, each with one part in as many of the mass: samples of
/// equal rewards are one level, as copies of a text are. Rewards are finite.
pub fn levels(rewards: &[f64]) -> Vec<Level> {
    let mut sorted = rewards.to_vec();
    sorted.sort_by(f64::total_cmp);
    let equal = sorted.chunk_by(|one, other| one == other);
    let mass = |count: usize| count as f64 / rewards.len() as f64;
    equal.map(|own| Level { mass: mass(own.len()), is_tied: own.len() > 1 }).collect()
}

/// The KL of best-of-n from the policy it samples from, in nats, where the policy's levels are
/// known, the lowest first; equal rewards are told apart by chance. A level from a to b of the
/// cumulative mass adds (b^n - a^n) log((b^n - a^n) / (b - a)) where it is tied, and else the
/// integral from a to b of n u^(n-1) log(n u^(n-1)), which is u^n (log n + (n-1) log u - (n-1)/n)
/// at b less the same at a. Untied from 0 to 1 it is [`kl_bound`]; with one tied text of
/// probability p at the top it is the formula of Beirami et al. (2024, "Theoretical guarantees on
/// the best-of-n alignment policy"). Of [`levels`] of samples it is an estimate, to a resolution of
/// one part in as many.
pub fn kl_of_levels(levels: &[Level], n: usize) -> f64 {
    let (n, power) = (n as f64, i32::try_from(n).unwrap_or(i32::MAX));
    let untied = |u: f64| match u > 0.0 {
        true => u.powi(power) * (n.ln() + (n - 1.0) * u.ln() - (n - 1.0) / n),
        false => 0.0,
    };
    let (mut below, mut sum) = (0.0, 0.0);
    for (at, level) in levels.iter().enumerate() {
        // Rounding of the sum leaves nothing above the last.
        let upto = if at + 1 == levels.len() { 1.0 } else { below + level.mass };
        let chosen = f64::powi(upto, power) - f64::powi(below, power);
        sum += match level.is_tied {
            true if chosen > 0.0 => chosen * (chosen / level.mass).ln(),
            true => 0.0,
            false => untied(upto) - untied(below),
        };
        below = upto;
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn at_the_bound_of_an_n_best_of_n_is_itself_and_between_two_it_lies_between() {
        let inputs = vec![
            (vec![1.0, 2.0, 3.0], vec![10.0, 20.0, 60.0]),
            (vec![3.0, 2.0, 1.0], vec![6.0, 5.0, 4.0]),
        ];
        let each = |n| {
            inputs.iter().map(|(scores, values)| expected(scores, values, n)).collect::<Vec<f64>>()
        };
        let close = |kl: f64, n: usize| {
            at_kl(&inputs, kl)
                .unwrap()
                .values
                .iter()
                .zip(each(n))
                .all(|(a, b)| (a - b).abs() < 1e-12)
        };
        assert!(close(0.0, 1) && close(kl_bound(2), 2) && close(kl_bound(3), 3));
        let mean = |n: usize| average(&each(n));
        let AtKl { values: middle, slope } =
            at_kl(&inputs, (kl_bound(2) + kl_bound(3)) / 2.0).unwrap();
        assert!((slope - (mean(3) - mean(2)) / (kl_bound(3) - kl_bound(2))).abs() < 1e-12);
        assert!(
            middle
                .iter()
                .zip(each(2).iter().zip(each(3)))
                .all(|(m, (a, b))| (m - (a + b) / 2.0).abs() < 1e-12)
        );
        assert_eq!(
            [at_kl(&inputs, kl_bound(3) + 1e-9), at_kl(&inputs, -0.1), at_kl(&[], 0.0)],
            [None, None, None]
        );
    }
    use crate::random::Stream;

    #[test]
    fn the_first_of_the_best_is_picked() {
        assert_eq!(best(&[0.5, 2.0, 1.0, 2.0]), Some(1));
        assert_eq!(
            (best(&[]), best(&[f64::NAN, -3.0]), best(&[f64::NAN; 2])),
            (None, Some(1), Some(0))
        );
    }

    #[test]
    fn best_of_one_is_the_mean_and_best_of_all_is_the_pick() {
        let (scores, values) = ([0.3, 0.9, 0.9, 0.1], [1.0, 2.0, 4.0, 8.0]);
        assert!((expected(&scores, &values, 1) - 3.75).abs() < 1e-12);
        assert_eq!(expected(&scores, &values, 4), 2.0);
        // The six pairs pick 2, 4, 1, 2, 2, 4.
        assert!((expected(&scores, &values, 2) - 15.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn a_curve_rises_from_the_mean_to_the_best_by_its_own_scores() {
        let inputs = [
            (vec![0.3, 0.9, 0.1], vec![0.3, 0.9, 0.1]),
            (vec![0.0, 0.5, 0.4, 0.2], vec![0.0, 0.5, 0.4, 0.2]),
        ];
        let curve = curve(&inputs);
        let means: Vec<f64> = curve.iter().map(|interval| interval.mean).collect();
        assert_eq!(means.len(), 3);
        assert!(
            (means[0] - (1.3 / 3.0 + 1.1 / 4.0) / 2.0).abs() < 1e-12
                && means[0] < means[1]
                && means[1] < means[2]
        );
        assert!((means[2] - (0.9 + 0.25 * 0.4 + 0.75 * 0.5) / 2.0).abs() < 1e-12, "{means:?}");
    }

    #[test]
    fn the_kl_bound_is_the_analytic_one() {
        assert_eq!((kl_bound(0), kl_bound(1)), (0.0, 0.0));
        assert!(
            (kl_bound(2) - 0.193_147_180_6).abs() < 1e-9
                && (kl_bound(16) - 1.835_088_722_2).abs() < 1e-9
        );
    }

    /// Exact for a policy over four equal outputs of different scores: p(best of n is the r-th) =
    /// (r^n - (r-1)^n) / 4^n.
    #[test]
    fn the_true_kl_is_below_the_bound() {
        for n in 1..=16 {
            let picked = |r: i32| ((r as f64 / 4.0).powi(n)) - ((r - 1) as f64 / 4.0).powi(n);
            let kl: f64 =
                (1..=4).map(picked).filter(|p| *p > 0.0).map(|p| p * (4.0 * p).ln()).sum();
            assert!(kl <= kl_bound(n as usize) + 1e-12, "{n}: {kl}");
        }
    }

    #[test]
    fn best_of_n_of_known_outcomes_is_exact() {
        let (p, rewards) = ([0.5, 0.3, 0.15, 0.05], [0.0, 1.0, 1.0, 2.0]);
        let q = exact(&p, &rewards, 4);
        for (found, expected) in q.iter().zip([0.0625, 0.501338, 0.250669, 0.185494]) {
            assert!((found - expected).abs() < 1e-6, "{q:?}");
        }
        assert!((kl(&q, &p) - 0.49937).abs() < 1e-5 && kl(&q, &p) < kl_bound(4));
        // Against one independent draw, a tie counting half.
        let wins = (0..4).flat_map(|a| (0..4).map(move |b| (a, b))).map(|(a, b)| {
            let won = if rewards[a] == rewards[b] { 0.5 } else { f64::from(u8::from(a > b)) };
            q[a] * p[b] * won
        });
        assert!((wins.sum::<f64>() - 0.741686).abs() < 1e-6);
        assert!(exact(&p, &rewards, 1).iter().zip(p).all(|(q, p)| (q - p).abs() < 1e-12));
    }

    #[test]
    fn the_kl_of_known_levels_has_published_values() {
        let tied = |mass| Level { mass, is_tied: true };
        for (n, p, expected) in [
            (16, 1e-9, 1.835089),
            (16, 0.01, 1.834948),
            (16, 0.1, 1.756142),
            (16, 0.5, 0.692991),
            (4, 0.3, 0.602116),
        ] {
            let found = kl_of_levels(&[Level { mass: 1.0 - p, is_tied: false }, tied(p)], n);
            assert!((found - expected).abs() < 1e-6, "{n} {p}: {found}");
        }
        assert!((kl_of_levels(&[tied(0.5), tied(0.45), tied(0.05)], 4) - 0.49937).abs() < 1e-5);
        assert_eq!(kl_of_levels(&[tied(1.0)], 16), 0.0);
    }

    #[test]
    fn samples_of_equal_rewards_are_one_level() {
        let found = levels(&[2.0, -1.0, 0.5, -1.0, 0.5, -1.0]);
        let expected = [(0.5, true), (2.0 / 6.0, true), (1.0 / 6.0, false)];
        assert_eq!(found.iter().map(|of| (of.mass, of.is_tied)).collect::<Vec<_>>(), expected);
        let apart: Vec<f64> = (0..48).map(f64::from).collect();
        for n in [1, 2, 7, 48] {
            assert!((kl_of_levels(&levels(&apart), n) - kl_bound(n)).abs() < 1e-12, "{n}");
        }
        // Of many samples of known outcomes the estimate is near the KL itself.
        let (p, rewards) = ([0.5, 0.3, 0.15, 0.05], [0.0, 1.0, 1.0, 2.0]);
        let stream = Stream::new(3, "levels");
        let estimates = (0..400).map(|set| {
            let mut draws = stream.sequence(set);
            let sample = |_| {
                let at = draws.uniform();
                rewards[[0.5, 0.8, 0.95].iter().filter(|edge| at >= **edge).count()]
            };
            kl_of_levels(&levels(&(0..64).map(sample).collect::<Vec<f64>>()), 8)
        });
        let (mean, truth) = (estimates.sum::<f64>() / 400.0, kl(&exact(&p, &rewards, 8), &p));
        assert!((mean - truth).abs() < 0.03, "{mean} {truth}");
    }

    #[test]
    fn draws_pick_as_often_as_the_weights_say() {
        let scores = [0.3, 0.9, 0.5, 0.1];
        let picks = draws(&scores, 2, 6000, &mut Stream::new(1, "draws").sequence(0));
        let counts: Vec<usize> =
            (0..4).map(|i| picks.iter().filter(|&&pick| pick == i).count()).collect();
        // Of six pairs: 1, 3, 2, 0.
        assert!(
            counts.iter().zip([1000usize, 3000, 2000, 0]).all(|(a, b)| a.abs_diff(b) < 150),
            "{counts:?}"
        );
    }

    proptest! {
        /// Every subset, by enumeration.
        #[test]
        fn the_expectation_is_the_mean_over_all_subsets(pairs in prop::collection::vec((0u8..4,
            -5.0f64..5.0), 1..9), n in 1usize..9) {
            let n = n.min(pairs.len());
            let (scores, values): (Vec<f64>,
                Vec<f64>) = pairs.iter().map(|p| (f64::from(p.0), p.1)).unzip();
            let (mut sum, mut count) = (0.0, 0);
            let of_n = |subset: &u32| subset.count_ones() as usize == n;
            for subset in (0u32..1 << pairs.len()).filter(of_n) {
                let members: Vec<usize> =
                    (0..pairs.len()).filter(|i| subset >> i & 1 == 1).collect();
                let chosen: Vec<f64> = members.iter().map(|&i| scores[i]).collect();
                sum += values[members[best(&chosen).expect("n is at least 1")]];
                count += 1;
            }
            prop_assert!((expected(&scores, &values, n) - sum / f64::from(count)).abs() < 1e-9);
        }
    }
}
