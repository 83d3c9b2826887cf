//! One fixture under the conventions of six sources; the expected numbers were worked out in
//! float64 from each source's own rules.

use posttrain::rl::advantage::{
    Advantages, Conventions, Estimate, Response, RewardWhitening, Whitening, estimate, objective,
};
use posttrain::rl::compat::{Compat, Overrides};
use posttrain::rl::kl::{Estimator, Kl, per_sequence};

const COEF: f64 = 0.05;
const RAW: [f64; 5] = [-0.458185, -0.329668, -0.594387, -0.257250, -0.755000];

/// Two responses of 3 and 5 tokens; values go on to the fifth position.
fn responses() -> [Response<'static>; 2] {
    [
        Response {
            log_probs: &[-1.0, -0.5, -2.0],
            reference: &[-1.2, -0.4, -2.5],
            values: &[0.1, 0.2, 0.3, 0.4, 0.5],
            score: 1.0,
            ended: true,
            limit: 5,
        },
        Response {
            log_probs: &[-0.7, -1.1, -0.3, -2.2, -0.9],
            reference: &[-0.6, -1.4, -0.3, -2.0, -1.0],
            values: &[0.05, -0.1, 0.15, -0.2, 0.25],
            score: -0.5,
            ended: true,
            limit: 5,
        },
    ]
}

fn close(what: &str, found: &[f32], expected: &[f64]) {
    // Six digits are printed; the inputs are rounded to f32.
    let near = found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6);
    assert!(found.len() == expected.len() && near, "{what}: {found:?} for {expected:?}");
}

/// Raw advantages of response 0, then both responses' as the source normalises them.
fn check(compat: Compat, raw: [f64; 3], first: [f64; 3], second: [f64; 5]) -> Vec<Estimate> {
    let mut conventions = compat.conventions();
    if compat == Compat::AlpacaFarm {
        // The fixture's row is without two of its conventions, which the second fixture has.
        conventions = Conventions {
            advantages: Advantages::Gae { gamma: 1.0, lambda: 0.95 },
            reward_whitening: RewardWhitening::None,
            ..conventions
        };
    }
    let name = format!("{compat:?}");
    let plain =
        estimate(&responses(), COEF, &Conventions { whitening: Whitening::None, ..conventions });
    close(&name, &plain[0].advantages, &raw);
    if compat != Compat::AlpacaFarm {
        close(&name, &plain[1].advantages, &RAW);
    }
    let normalised = estimate(&responses(), COEF, &conventions);
    close(&name, &normalised[0].advantages, &first);
    close(&name, &normalised[1].advantages, &second);
    for (plain, normalised) in plain.iter().zip(&normalised) {
        assert_eq!(plain.returns, normalised.returns, "{name}: returns come before whitening");
    }
    plain
}

#[test]
fn trl_scores_one_past_eos() {
    let plain = check(
        Compat::Trl,
        [0.771862, 0.717750, 0.645000],
        [1.265779, 1.180624, 1.066139],
        [-0.669912, -0.467669, -0.884251, -0.353707, -1.137002],
    );
    // The score is past the response, so no token of it carries the score.
    close("rewards", &plain[0].rewards, &[-0.01, 0.005, -0.025]);
    close("rewards", &plain[1].rewards, &[0.005, -0.015, 0.0, 0.01, -0.505]);
}

#[test]
fn nplus_differs_from_trl_only_in_a_missing_eos() {
    let of = |compat: Compat| estimate(&responses(), COEF, &compat.conventions());
    assert_eq!(of(Compat::Nplus), of(Compat::Trl));
    let mut cut = responses();
    cut[0].ended = false;
    assert_ne!(
        estimate(&cut, COEF, &Compat::Nplus.conventions()),
        estimate(&cut, COEF, &Compat::Trl.conventions())
    );
}

#[test]
fn verl_and_nemo_score_at_eos_and_so_does_the_default() {
    let plain = check(
        Compat::Verl,
        [0.798937, 0.746250, 0.675000],
        [1.263160, 1.182070, 1.072411],
        [-0.671649, -0.473852, -0.881276, -0.362395, -1.128471],
    );
    close("rewards", &plain[0].rewards, &[-0.01, 0.005, 0.975]);
    assert_eq!(Compat::Verl.conventions(), Conventions::default());
}

#[test]
fn openrlhf_takes_the_biased_variance() {
    check(
        Compat::Openrlhf,
        [0.798937, 0.746250, 0.675000],
        [1.350375, 1.263686, 1.146455],
        [-0.718023, -0.506569, -0.942123, -0.387416, -1.206386],
    );
}

#[test]
fn torchtune_keeps_the_mean() {
    check(
        Compat::Torchtune,
        [0.771862, 0.717750, 0.645000],
        [1.233294, 1.148139, 1.033654],
        [-0.702397, -0.500154, -0.916736, -0.386192, -1.169487],
    );
}

#[test]
fn deepspeed_chat_does_not_normalise() {
    check(
        Compat::DeepspeedChat,
        [0.771862, 0.717750, 0.645000],
        [0.771862, 0.717750, 0.645000],
        RAW,
    );
}

#[test]
fn alpaca_farm_clamps_kl_and_lets_padding_in() {
    check(
        Compat::AlpacaFarm,
        [0.833672, 0.782812, 0.718750],
        [1.582561, 1.496136, 1.387275],
        [-0.635743, -0.409627, -0.860269, -0.288224, -1.117053],
    );
}

#[test]
fn the_paper_charges_half_the_squared_log_ratio() {
    let conventions = Conventions { whitening: Whitening::None, ..Compat::Paper.conventions() };
    let estimates = estimate(&responses(), COEF, &conventions);
    // 0.05 / 2 times 0.04, 0.01, 0.25.
    close("rewards", &estimates[0].rewards, &[-0.001, -0.00025, 0.99375]);
}

/// A response of `max_new_tokens` tokens has no position past its end: its score is at its last
/// token.
#[test]
fn a_score_past_eos_needs_room_there() {
    let (roomy, full) =
        (responses(), responses().map(|r| Response { limit: r.log_probs.len(), ..r }));
    let [trl, verl] = [Compat::Trl, Compat::Verl].map(Compat::conventions);
    assert_eq!(estimate(&full, COEF, &trl), estimate(&full, COEF, &verl));
    let estimates = estimate(&roomy, COEF, &trl);
    assert_ne!(estimates[0], estimate(&full, COEF, &trl)[0]);
    assert_eq!(
        estimates.iter().map(|e| e.returns.len()).collect::<Vec<_>>(),
        [4, 5],
        "the value past the end is fitted"
    );
    assert_eq!(estimates[0].returns[3], 1.0, "to the score");
}

/// A key that is given replaces that of the preset, `null` too; all others stay.
#[test]
fn conventions_override_a_preset_key_by_key() {
    let over = |text: &str| {
        serde_json::from_str::<Overrides>(text)
            .map(|given| given.over(Compat::Openrlhf.conventions()))
    };
    let preset = Compat::Openrlhf.conventions();
    assert_eq!(over("{}").unwrap(), preset);
    let advantages = Advantages::Gae { gamma: 0.9, lambda: 0.95 };
    assert_eq!(over(r#"{"gamma": 0.9}"#).unwrap(), Conventions { advantages, ..preset });
    let kl = over(r#"{"kl": {"clamp": {"high": null}, "estimator": "k3"}}"#).unwrap().kl;
    assert_eq!((kl.estimator, kl.clamp.low, kl.clamp.high), (Estimator::K3, Some(-10.0), None));
    assert!(over(r#"{"gama": 0.9}"#).is_err() && over(r#"{"kl": {"clamp": {"hi": 1}}}"#).is_err());
    // What is written down and read again is the same, an opened side as well.
    let given: Overrides = serde_json::from_str(
        r#"{"kl": {"clamp": {"high": null}}, "missing_eos": {"replace": -1.0}}"#,
    )
    .unwrap();
    let text = serde_json::to_string(&given).unwrap();
    assert_eq!(
        (serde_json::from_str::<Overrides>(&text).unwrap(), text.contains("gamma")),
        (given, false),
        "{text}"
    );
}

#[test]
fn values_past_the_end_matter_to_no_convention_that_does_not_read_them() {
    let far = responses().map(|r| {
        if r.log_probs.len() == 3 {
            Response { values: &[0.1, 0.2, 0.3, 0.4, 999.0], ..r }
        } else {
            r
        }
    });
    for compat in [
        Compat::Paper,
        Compat::Nplus,
        Compat::Trl,
        Compat::Openrlhf,
        Compat::Verl,
        Compat::Torchtune,
    ] {
        let conventions = compat.conventions();
        assert_eq!(
            estimate(&far, COEF, &conventions),
            estimate(&responses(), COEF, &conventions),
            "{compat:?}"
        );
    }
}

#[test]
fn the_fixtures_kl_is_as_stated() {
    let rows = |estimator: Estimator| -> Vec<Vec<f64>> {
        let kl = Kl { estimator, ..Kl::default() };
        responses().iter().map(|r| kl.values(r.log_probs, r.reference)).collect()
    };
    let sums = |estimator: Estimator| -> Vec<f32> {
        rows(estimator).iter().map(|row| row.iter().sum::<f64>() as f32).collect()
    };
    close("k1", &sums(Estimator::K1), &[0.6, 0.1]);
    close("k3", &sums(Estimator::K3), &[0.130432, 0.072229]);
    let metrics = objective(&responses(), COEF, &Conventions::default());
    assert!((per_sequence(&rows(Estimator::K1)) - metrics[0].1).abs() < 1e-12);
    close("objective", &[metrics[0].1 as f32, metrics[1].1 as f32], &[0.35, 0.0875]);
}
