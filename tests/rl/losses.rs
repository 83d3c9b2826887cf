//! The PPO losses: constants of NeMo-RL's tests, finite differences, invariance under
//! micro-batching.

use posttrain::backend::cpu::Cpu;
use posttrain::backend::prelude::*;
use posttrain::backend::{RATIO_SUMS, RatioLoss, SQUARE_SUMS, SquareLoss};
use posttrain::rl::Metrics;
use posttrain::rl::ppo::{
    PolicyClip, PolicyStatistics, ValueClip, ValueStatistics, explained_variance,
};
use proptest::prelude::*;

/// Loss and metrics after parts of an update of `count` tokens, and the gradient of each.
fn policy_in(parts: &[[&[f32]; 3]], clip: &PolicyClip, count: usize) -> (f64, Vec<f32>, Metrics) {
    let (b, mut gradients, mut sums) = (Cpu::<f32>::new(), Vec::new(), vec![0.0; RATIO_SUMS]);
    for part in parts {
        let [log_probs, old, advantages] = part.map(<[f32]>::to_vec);
        let mut gradient = vec![f32::NAN; log_probs.len()];
        let loss = RatioLoss { low: clip.range, high: clip.upper(), dual: clip.dual, count };
        b.clipped_ratio_loss(&mut gradient, &mut sums, &log_probs, &old, &advantages, loss);
        gradients.extend(gradient);
    }
    let statistics = PolicyStatistics::new(
        count,
        b.download_sums(&sums).try_into().expect("as many as there are"),
    );
    (sums[0] / count.max(1) as f64, gradients, statistics.metrics())
}

fn policy(
    log_probs: &[f32],
    old: &[f32],
    advantages: &[f32],
    clip: &PolicyClip,
) -> (f64, Vec<f32>, Metrics) {
    policy_in(&[[log_probs, old, advantages]], clip, log_probs.len())
}

/// The same of the value function.
fn value_in(parts: &[[&[f32]; 3]], clip: &ValueClip, count: usize) -> (f64, Vec<f32>, Metrics) {
    let (b, mut gradients, mut sums) = (Cpu::<f32>::new(), Vec::new(), vec![0.0; SQUARE_SUMS]);
    for part in parts {
        let [values, old, returns] = part.map(<[f32]>::to_vec);
        let mut gradient = vec![f32::NAN; values.len()];
        b.clipped_square_loss(
            &mut gradient,
            &mut sums,
            &values,
            &old,
            &returns,
            SquareLoss { range: clip.range, coef: clip.coef, count },
        );
        gradients.extend(gradient);
    }
    let statistics = ValueStatistics::new(
        count,
        b.download_sums(&sums).try_into().expect("as many as there are"),
    );
    (clip.coef * sums[0] / count.max(1) as f64, gradients, statistics.metrics())
}

fn value(
    values: &[f32],
    old: &[f32],
    returns: &[f32],
    clip: &ValueClip,
) -> (f64, Vec<f32>, Metrics) {
    value_in(&[[values, old, returns]], clip, values.len())
}

fn get(metrics: &Metrics, name: &str) -> f64 {
    metrics.iter().find(|metric| metric.0 == name).unwrap_or_else(|| panic!("no {name}")).1
}

/// Log-ratios of 0.5, 1 and 1.5, and what the clipped loss of each token is.
/// Three responses of 2, 5 and 6 tokens under the policies of update and sampling, and the
/// advantage of each: the values are those of verl's loss (token mean), with the upper bound at
/// 0.28 as DAPO has it, and with one bound.
#[test]
fn the_upper_bound_of_the_ratio_may_be_another_than_the_lower() {
    let new = [-0.6, -1.5, -1.1, -0.2, -2.4, -0.9, -0.4, -0.3, -1.9, -0.7, -1.2, -0.5, -2.0];
    let old = [-0.8, -1.4, -1.2, -0.3, -2.0, -1.3, -0.4, -0.3, -1.5, -0.9, -1.2, -0.8, -2.1];
    let advantages = [[1.2; 2].as_slice(), &[-0.7; 5], &[0.4; 6]].concat();
    let higher = PolicyClip { high: Some(0.28), ..PolicyClip::default() };
    let (loss, gradient, _) = policy(&new, &old, &advantages, &higher);
    assert!((loss - -0.093_133).abs() < 1e-6, "{loss}");
    // By hand: the ratios exp(0.2) = 1.2214 of tokens 1 and 10 are clipped at 1.2 and not at 1.28,
    // exp(0.3) of token 12 is clipped by both.
    let free = |advantage: f64| (-advantage * 0.2f64.exp() / 13.0) as f32;
    assert!((gradient[0] - free(1.2)).abs() < 1e-7 && (gradient[9] - free(0.4)).abs() < 1e-7);
    let (loss, plain, _) = policy(&new, &old, &advantages, &PolicyClip::default());
    assert!((loss - -0.088_037).abs() < 1e-6, "{loss}");
    assert_eq!((plain[0], plain[9], plain[11], gradient[11]), (0.0, 0.0, 0.0, 0.0));
    let others = |row: &[f32]| [&row[1..9], &row[10..11], &row[12..]].concat();
    assert_eq!(others(&plain), others(&gradient));
}

#[test]
fn the_clipped_policy_loss_gives_the_published_values() {
    let log_ratios = [0.5f32.ln(), 0.0, 1.5f32.ln()];
    let (old, advantages) = ([-2.0f32; 3], [1.0f32, -1.0, 2.0]);
    let new: Vec<f32> = log_ratios.iter().map(|d| d - 2.0).collect();
    let (loss, gradient, metrics) = policy(&new, &old, &advantages, &PolicyClip::default());
    assert!((loss - (-0.5 + 1.0 - 2.4) / 3.0).abs() < 1e-6, "{loss}");
    for (found, expected) in gradient.iter().zip([-0.5 / 3.0, 1.0 / 3.0, 0.0]) {
        assert!((found - expected as f32).abs() < 1e-6);
    }
    assert!((get(&metrics, "policy/clipfrac_avg") - 1.0 / 3.0).abs() < 1e-12);
    assert!((get(&metrics, "loss/policy_avg") - loss).abs() < 1e-12);
    // 0.5 * (ln(2)^2 + ln(1.5)^2) / 3, and the mean and variance of 0.5, 1, 1.5.
    assert!((get(&metrics, "policy/approxkl_avg") - 0.107_475_4).abs() < 1e-6);
    assert!(
        (get(&metrics, "val/ratio") - 1.0).abs() < 1e-6
            && (get(&metrics, "val/ratio_var") - 1.0 / 6.0).abs() < 1e-6
    );
}

#[test]
fn the_dual_clip_bounds_the_loss_of_bad_actions() {
    let clip = PolicyClip { dual: Some(3.0), ..PolicyClip::default() };
    for (advantage, ratio, expected, slope) in
        [(1.0f32, 0.5f32, -0.5, -0.5), (-1.0, 1.0, 1.0, 1.0), (-4.0, 10.0, 12.0, 0.0)]
    {
        let (loss, gradient, _) = policy(&[ratio.ln()], &[0.0], &[advantage], &clip);
        assert!(
            (loss - expected).abs() < 1e-6 && (gradient[0] - slope).abs() < 1e-6,
            "{advantage} {ratio}: {loss}"
        );
    }
}

#[test]
fn the_value_loss_is_the_worse_of_free_and_clipped() {
    // Inside the range; beyond it and clipped (target on this side); beyond it but worse off than
    // clipped.
    let (values, old, returns) = ([0.1f32, 0.5, 0.5], [0.0f32; 3], [1.0f32, 1.0, 0.0]);
    let clip = ValueClip { range: Some(0.2), coef: 0.5 };
    let (loss, gradient, metrics) = value(&values, &old, &returns, &clip);
    let expected = [0.5 * 0.81, 0.5 * 0.64, 0.5 * 0.25];
    assert!((loss - 0.5 * expected.iter().sum::<f64>() / 3.0).abs() < 1e-7);
    for (found, expected) in gradient.iter().zip([-0.45 / 3.0, 0.0, 0.25 / 3.0]) {
        assert!((found - expected as f32).abs() < 1e-6);
    }
    assert!((get(&metrics, "val/clipfrac_avg") - 1.0 / 3.0).abs() < 1e-12);
    assert!((get(&metrics, "loss/value_avg") - 2.0 * loss).abs() < 1e-12);
    let free = value(&values, &old, &returns, &ValueClip { range: None, coef: 1.0 });
    assert!(
        (free.0 - 0.5 * (0.81 + 0.25 + 0.25) / 3.0).abs() < 1e-7
            && get(&free.2, "val/clipfrac_avg") == 0.0
    );
}

#[test]
fn at_ratio_one_the_loss_is_minus_the_mean_advantage() {
    let (log_probs, advantages) = ([-0.3f32, -1.7, -4.0, -0.01], [0.5f32, -1.5, 2.0, 0.25]);
    let (loss, gradient, metrics) =
        policy(&log_probs, &log_probs, &advantages, &PolicyClip::default());
    assert_eq!(loss, -0.3125);
    assert_eq!(gradient, advantages.map(|a| -a / 4.0));
    let expected = [0.0, 0.0, -0.3125, 1.0, 0.0];
    assert_eq!(metrics.iter().map(|metric| metric.1).collect::<Vec<_>>(), expected);
}

#[test]
fn no_token_gives_zero_and_not_nan() {
    let (loss, gradient, metrics) = policy(&[], &[], &[], &PolicyClip::default());
    assert!(loss == 0.0 && gradient.is_empty());
    assert!(metrics.iter().all(|(name, x)| *x == if *name == "val/ratio" { 1.0 } else { 0.0 }));
    let (loss, _, metrics) = value(&[], &[], &[], &ValueClip::default());
    assert!(loss == 0.0 && metrics.iter().all(|metric| metric.1 == 0.0));
    assert_eq!(explained_variance(&[], &[]), 0.0);
}

#[test]
fn explained_variance_is_one_for_the_truth_and_zero_for_a_constant() {
    let returns = [1.0f32, 2.0, 4.0, -1.0];
    assert_eq!(explained_variance(&returns, &returns), 1.0);
    assert_eq!(explained_variance(&[0.5; 4], &returns), 0.0);
    assert_eq!(explained_variance(&returns.map(|r| r + 3.0), &returns), 1.0);
    assert_eq!(explained_variance(&returns.map(|r| -r), &returns), -3.0);
    assert_eq!(explained_variance(&returns, &[2.0; 4]), 0.0);
}

/// The slope of `of` at `at`, over the points that f32 really holds.
fn slope(at: f32, of: impl Fn(f32) -> f64) -> f64 {
    let (low, high) = (at - 1.0 / 4096.0, at + 1.0 / 4096.0);
    (of(high) - of(low)) / (f64::from(high) - f64::from(low))
}

fn tokens() -> impl Strategy<Value = Vec<(f32, f32, f32)>> {
    prop::collection::vec((-1.0f32..1.0, -0.5f32..0.5, -2.0f32..2.0), 1..9)
}

proptest! {
    #[test]
    fn the_policy_gradient_is_the_slope(tokens in tokens(), dual in any::<bool>()) {
        let clip = PolicyClip { dual: dual.then_some(1.5), ..PolicyClip::default() };
        // Kinks are where the ratio is at an edge of the range or at the dual bound.
        let kinks = [0.8f32.ln(), 1.2f32.ln(), 1.5f32.ln()];
        prop_assume!(tokens.iter().all(|t| kinks.iter().all(|kink| (t.1 - kink).abs() > 1e-3)));
        let old: Vec<f32> = tokens.iter().map(|t| t.0).collect();
        let new: Vec<f32> = tokens.iter().map(|t| t.0 + t.1).collect();
        let advantages: Vec<f32> = tokens.iter().map(|t| t.2).collect();
        let gradient = policy(&new, &old, &advantages, &clip).1;
        for i in 0..new.len() {
            let slope = slope(new[i], |x| {
                let mut moved = new.clone();
                moved[i] = x;
                policy(&moved, &old, &advantages, &clip).0
            });
            prop_assert!((slope - f64::from(gradient[i])).abs() < 1e-5, "{} for {}", gradient[i],
                slope);
        }
    }

    #[test]
    fn the_value_gradient_is_the_slope(tokens in tokens()) {
        let clip = ValueClip { range: Some(0.2), coef: 0.3 };
        let old: Vec<f32> = tokens.iter().map(|t| t.0).collect();
        let new: Vec<f32> = tokens.iter().map(|t| t.0 + t.1).collect();
        let returns: Vec<f32> = tokens.iter().map(|t| t.2).collect();
        // Kinks are where the clip begins, and where free and clipped errors are as large.
        prop_assume!(tokens.iter().all(|t| {
            let held = t.1.clamp(-0.2, 0.2);
            (t.1.abs() - 0.2).abs() > 1e-3
                && (t.1 == held || (t.0 + 0.5 * (t.1 + held) - t.2).abs() > 1e-3)
        }));
        let gradient = value(&new, &old, &returns, &clip).1;
        for i in 0..new.len() {
            let slope = slope(new[i], |x| {
                let mut moved = new.clone();
                moved[i] = x;
                value(&moved, &old, &returns, &clip).0
            });
            prop_assert!((slope - f64::from(gradient[i])).abs() < 1e-5, "{} for {}", gradient[i],
                slope);
        }
    }

    #[test]
    fn micro_batches_change_no_loss_gradient_or_metric(tokens in tokens(), cut in 0usize..9) {
        let n = tokens.len();
        let cut = cut.min(n);
        let old: Vec<f32> = tokens.iter().map(|t| t.0).collect();
        let new: Vec<f32> = tokens.iter().map(|t| t.0 + t.1).collect();
        let targets: Vec<f32> = tokens.iter().map(|t| t.2).collect();
        let whole_policy = policy(&new, &old, &targets, &PolicyClip::default());
        let whole_value = value(&new, &old, &targets, &ValueClip::default());
        let parts = [[&new[..cut], &old[..cut], &targets[..cut]],
            [&new[cut..], &old[cut..], &targets[cut..]]];
        let (parts_policy, parts_value) = (policy_in(&parts, &PolicyClip::default(), n),
            value_in(&parts, &ValueClip::default(), n));
        prop_assert_eq!((whole_policy.1, whole_value.1), (parts_policy.1, parts_value.1));
        prop_assert!((whole_policy.0 - parts_policy.0).abs() < 1e-12);
        prop_assert!((whole_value.0 - parts_value.0).abs() < 1e-12);
        let whole = whole_policy.2.iter().chain(&whole_value.2);
        let parts = parts_policy.2.iter().chain(&parts_value.2);
        for (a, b) in whole.zip(parts) {
            prop_assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-9, "{:?} for {:?}", a, b);
        }
    }
}
