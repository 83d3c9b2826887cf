//! The estimator on a toy whose outcomes can be enumerated.

use super::*;
use crate::best_of_n;
use crate::random::{Sequence, Stream};

/// Four outcomes of an input: their probabilities under the reference, their rewards, another
/// value, and the distance of two of them.
struct Toy {
    probabilities: [f64; 4],
    rewards: [f64; 4],
    gold: [f64; 4],
}

/// Three kinds of inputs, each as frequent.
const TOYS: [Toy; 3] = [
    Toy {
        probabilities: [0.5, 0.3, 0.15, 0.05],
        rewards: [0.0, 1.0, 1.0, 2.0],
        gold: [0.2, 1.0, 0.4, -1.0],
    },
    Toy {
        probabilities: [0.25, 0.25, 0.25, 0.25],
        rewards: [-0.5, 0.0, 0.5, 1.0],
        gold: [0.0, 0.1, 0.2, 0.3],
    },
    Toy {
        probabilities: [0.7, 0.1, 0.1, 0.1],
        rewards: [0.3, -1.0, 0.9, 1.2],
        gold: [1.0, 0.0, -0.5, 0.5],
    },
];

fn apart(i: usize, j: usize) -> f64 {
    [0.0, 0.5, 0.8, 1.0][i.abs_diff(j)]
}

/// Reward, gold, KL and distance of the optimum: by enumeration.
fn truth(toy: &Toy, beta: f64) -> [f64; 4] {
    let tilted: Vec<f64> =
        (0..4).map(|y| toy.probabilities[y] * (toy.rewards[y] / beta).exp()).collect();
    let z: f64 = tilted.iter().sum();
    let optimum: Vec<f64> = tilted.iter().map(|p| p / z).collect();
    let mean = |values: &[f64; 4]| (0..4).map(|y| optimum[y] * values[y]).sum::<f64>();
    let kl = (0..4).map(|y| optimum[y] * (optimum[y] / toy.probabilities[y]).ln()).sum();
    let distance = (0..16).map(|at| optimum[at / 4] * optimum[at % 4] * apart(at / 4, at % 4));
    [mean(&toy.rewards), mean(&toy.gold), kl, distance.sum()]
}

/// The same four figures, estimated from n candidates.
fn estimated(toy: &Toy, beta: f64, n: usize, draws: &mut Sequence) -> ([Estimate; 4], f64) {
    let outcomes: Vec<usize> = (0..n).map(|_| drawn(toy, draws.uniform())).collect();
    let of = |values: &[f64; 4]| outcomes.iter().map(|&y| values[y]).collect::<Vec<f64>>();
    let distances: Vec<f64> =
        outcomes.iter().flat_map(|&i| outcomes.iter().map(move |&j| apart(i, j))).collect();
    let weighted = Weighted::new(&of(&toy.rewards), beta);
    let figures = [
        weighted.mean(&of(&toy.rewards)),
        weighted.mean(&of(&toy.gold)),
        weighted.kl(),
        weighted.distance(&distances),
    ];
    (figures, weighted.effective())
}

fn drawn(toy: &Toy, uniform: f64) -> usize {
    let mut below = 0.0;
    (0..3)
        .find(|&y| {
            below += toy.probabilities[y];
            uniform < below
        })
        .unwrap_or(3)
}

/// Mean error of the plain and of the corrected estimates, and the effective sample size.
fn errors(beta: f64, n: usize, repeats: u64) -> ([[f64; 2]; 4], f64) {
    let stream = Stream::new(n as u64, "errors of the optimum");
    let (mut sums, mut effective) = ([[0.0; 2]; 4], Vec::new());
    for repeat in 0..repeats {
        let toy = &TOYS[repeat as usize % 3];
        let (found, size) = estimated(toy, beta, n, &mut stream.sequence(repeat));
        for ((sum, found), truth) in sums.iter_mut().zip(found).zip(truth(toy, beta)) {
            sum[0] += (found.plain - truth) / repeats as f64;
            sum[1] += (found.corrected - truth) / repeats as f64;
        }
        effective.push(size);
    }
    (sums, effective_over_inputs(&effective))
}

#[test]
fn the_estimate_converges_and_the_correction_takes_most_of_the_bias() {
    let at = |n| errors(0.8, n, 24_000);
    let [(few, few_size), (some, _), (many, many_size)] = [16, 64, 256].map(at);
    for figure in 0..4 {
        let [plain, corrected] = few[figure].map(f64::abs);
        assert!(corrected < 0.35 * plain, "{figure}: {few:?}");
        // A quarter of the bias for four times the candidates.
        let ratio = some[figure][0] / few[figure][0];
        assert!((0.1..0.5).contains(&ratio), "{figure}: {some:?} after {few:?}");
        assert!(many[figure].iter().all(|error| error.abs() < 4e-3), "{figure}: {many:?}");
    }
    assert!(few_size > 7.0 && many_size > 100.0, "{few_size} {many_size}");
}

/// The share of 600 data sets whose interval has the population's figure.
#[test]
fn intervals_cover_the_optimum_of_the_population() {
    const SETS: u64 = 600;
    for (inputs, n, beta) in [(20, 16, 1.0), (40, 32, 0.7), (100, 16, 1.0), (100, 64, 0.5)] {
        let truths = TOYS.each_ref().map(|toy| truth(toy, beta));
        let mut covered = [0.0; 4];
        for set in 0..SETS {
            let stream = Stream::new(set, "coverage of the optimum");
            let own: Vec<[Estimate; 4]> = (0..inputs)
                .map(|input| {
                    let mut draws = stream.sequence(input);
                    let toy = &TOYS[draws.below(3)];
                    estimated(toy, beta, n, &mut draws).0
                })
                .collect();
            for (figure, covered) in covered.iter_mut().enumerate() {
                let all: Vec<Estimate> = own.iter().map(|figures| figures[figure]).collect();
                let found = over_inputs(&all);
                let truth = truths.iter().map(|truth| truth[figure]).sum::<f64>() / 3.0;
                let within = (found.low..=found.high).contains(&truth);
                *covered += f64::from(u8::from(within)) / SETS as f64;
            }
        }
        let enough = covered.iter().all(|share| *share >= 0.93);
        assert!(enough, "{inputs} inputs, {n} candidates, beta {beta}: {covered:?}");
    }
}

/// Normal rewards of variance 1, whose optimum has a reward of 1 / beta at a KL of 1 / (2 beta^2):
/// the share of 300 data sets of 20 inputs whose intervals have these, near the effective sample
/// size below which the stage gives no figures.
#[test]
fn intervals_of_normal_rewards_cover_down_to_an_effective_sample_size_of_ten() {
    const SETS: u64 = 300;
    for (n, beta, size, of_kl) in
        [(16, 1.46, 10.0, 0.93), (64, 0.63, 9.0, 0.87), (256, 0.5, 13.0, 0.82)]
    {
        let (mut covered, mut sizes) = ([0.0; 2], Vec::new());
        for set in 0..SETS {
            let mut draws = Stream::new(n as u64, "normal rewards").sequence(set);
            let (mut rewards, mut kls) = (Vec::new(), Vec::new());
            for _ in 0..20 {
                let ease = draws.normal();
                let own: Vec<f64> = (0..n).map(|_| ease + draws.normal()).collect();
                let weighted = Weighted::new(&own, beta);
                rewards.push(weighted.mean(&own));
                kls.push(weighted.kl());
                sizes.push(weighted.effective());
            }
            let truths = [1.0 / beta, 0.5 / (beta * beta)];
            for ((all, truth), covered) in [rewards, kls].iter().zip(truths).zip(&mut covered) {
                let found = over_inputs(all);
                let within = (found.low..=found.high).contains(&truth);
                *covered += f64::from(u8::from(within)) / SETS as f64;
            }
        }
        let found = effective_over_inputs(&sizes);
        assert!((size..size + 3.0).contains(&found), "{n} candidates: {found}");
        assert!(covered[0] > 0.94 && covered[1] > of_kl, "{n} candidates: {covered:?}");
    }
}

#[test]
fn no_policy_has_more_of_the_objective_than_the_optimum() {
    let toy = &TOYS[0];
    for beta in [0.3, 1.0, 3.0] {
        let [reward, _, kl, _] = truth(toy, beta);
        let z = (0..4).map(|y| toy.probabilities[y] * (toy.rewards[y] / beta).exp()).sum::<f64>();
        assert!((reward - beta * kl - beta * z.ln()).abs() < 1e-12);
        for n in 1..=32 {
            let best = best_of_n::exact(&toy.probabilities, &toy.rewards, n);
            let value = (0..4).map(|y| best[y] * toy.rewards[y]).sum::<f64>()
                - beta * best_of_n::kl(&best, &toy.probabilities);
            assert!(value < reward - beta * kl, "best of {n} at beta {beta}");
        }
    }
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

#[test]
fn at_a_large_beta_the_optimum_is_the_reference() {
    let rewards = [0.3, -2.0, 5.0, 1.0];
    let weighted = Weighted::new(&rewards, 1e12);
    let distances: Vec<f64> = (0..16).map(|at| apart(at / 4, at % 4)).collect();
    assert!(close(weighted.effective(), 4.0));
    for (found, expected) in [
        (weighted.mean(&rewards), 1.075),
        (weighted.kl(), 0.0),
        // The mean over the six pairs: three at 0.5, two at 0.8, one at 1.
        (weighted.distance(&distances), 4.1 / 6.0),
    ] {
        assert!(close(found.plain, expected) && close(found.corrected, expected), "{found:?}");
    }
}

#[test]
fn at_a_small_beta_the_optimum_is_the_best_candidate_and_has_one_effective_sample() {
    let (rewards, gold) = ([0.3, -2.0, 5.0, 1.0], [1.0, 2.0, 3.0, 4.0]);
    let distances: Vec<f64> = (0..16).map(|at| apart(at / 4, at % 4)).collect();
    for beta in [1e-3, 1e-300] {
        let weighted = Weighted::new(&rewards, beta);
        let best = best_of_n::best(&rewards).expect("there are candidates");
        assert_eq!((weighted.effective(), weighted.weights()[best]), (1.0, 1.0));
        assert_eq!(weighted.mean(&gold).plain, gold[best]);
        assert!(close(weighted.kl().plain, 4f64.ln()), "the most that 4 candidates can say");
        // The best and the second best are the pair with all the weight.
        assert!(close(weighted.distance(&distances).plain, 0.5));
        let all = [weighted.mean(&gold), weighted.kl(), weighted.distance(&distances)];
        assert!(all.iter().all(|one| one.corrected.is_finite()), "{all:?}");
    }
}

/// Leaving a candidate out by subtraction gives what computing without it gives.
#[test]
fn the_correction_is_the_jackknife_over_candidates() {
    let rewards = [0.5, 4.0, -1.0, 0.2, 3.9];
    let gold = [0.1, 0.9, -0.4, 0.3, 0.0];
    for beta in [0.02, 0.5, 2.0] {
        let whole = Weighted::new(&rewards, beta);
        let distances = |of: &[usize]| -> Vec<f64> {
            of.iter().flat_map(|&i| of.iter().map(move |&j| apart(i % 4, j % 4))).collect()
        };
        let every: Vec<usize> = (0..5).collect();
        let mut expected = [0.0; 3];
        for left_out in 0..5 {
            let rest: Vec<usize> = (0..5).filter(|i| *i != left_out).collect();
            let of = |values: &[f64; 5]| rest.iter().map(|&i| values[i]).collect::<Vec<f64>>();
            let own = Weighted::new(&of(&rewards), beta);
            let plain =
                [own.mean(&of(&gold)).plain, own.kl().plain, own.distance(&distances(&rest)).plain];
            expected.iter_mut().zip(plain).for_each(|(sum, plain)| *sum += plain / 5.0);
        }
        let found = [whole.mean(&gold), whole.kl(), whole.distance(&distances(&every))];
        for (found, without) in found.into_iter().zip(expected) {
            let expected = 5.0 * found.plain - 4.0 * without;
            assert!((found.corrected - expected).abs() < 1e-9, "{beta}: {found:?} {expected}");
        }
    }
}

#[test]
fn a_size_over_inputs_is_that_of_their_mean_squared_weight() {
    assert!(close(effective_over_inputs(&[1.0, 16.0]), 2.0 / (1.0 + 1.0 / 16.0)));
}

#[test]
fn the_interval_is_wider_by_what_was_corrected() {
    let estimates: Vec<Estimate> = (0..10)
        .map(|at| Estimate { plain: f64::from(at) - 0.25, corrected: f64::from(at) })
        .collect();
    let own = of_mean(&estimates.iter().map(|one| one.corrected).collect::<Vec<f64>>());
    let found = over_inputs(&estimates);
    assert_eq!((found.mean, found.n, found.kind), (4.5, 10, Kind::SkewTBias));
    assert!(close(own.low - found.low, 0.25) && close(found.high - own.high, 0.25));
    assert_eq!(over_inputs(&estimates[..3]).kind, Kind::NoneTooFew);
}
