//! The conventions of libraries through the shipped step of PPO: three responses, one of them of
//! full
//! length, under models that are made to give the fixture's numbers. Advantages and returns are
//! read from the gradients of the step. The expected numbers were worked out in float64 from each
//! library's own rules.

#![expect(clippy::unwrap_used)]

use posttrain::backend::cpu::Cpu;
use posttrain::backend::prelude::*;
use posttrain::model::params::{HeadKind, Params, Trainable};
use posttrain::model::spec::Spec;
use posttrain::model::weights::Model;
use posttrain::rl::advantage::Conventions;
use posttrain::rl::compat::{Compat, Overrides};
use posttrain::rl::ppo::{PolicyClip, ValueClip};
use posttrain::rl::preference::Normalisation;
use posttrain::train::critic::Critic;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::ppo::{Ppo, Settings};
use posttrain::train::ppo_options::Options;
use posttrain::train::rollouts::{FrozenModels, Rollout, RolloutSettings};
use serde_json::{Value, json};

/// `max_new_tokens`.
const LIMIT: usize = 6;
const COEF: f64 = 0.1;
/// Policy, reference; each response's log-probabilities.
const LOGPROBS: [[&[f64]; 3]; 2] = [
    [&[-0.6, -1.5], &[-1.1, -0.2, -2.4, -0.9, -0.4], &[-0.3, -1.9, -0.7, -1.2, -0.5, -2.0]],
    [&[-0.9, -1.3], &[-1.0, -0.5, -1.8, -1.4, -0.4], &[-0.8, -1.6, -0.7, -1.5, -0.9, -1.1]],
];
/// Before each of the positions.
const VALUES: [[f64; LIMIT]; 3] = [
    [0.2, -0.1, 0.4, 0.3, -0.2, 0.1],
    [0.0, 0.3, -0.3, 0.2, 0.5, -0.4],
    [-0.5, -0.2, 0.1, 0.0, 0.3, 0.6],
];
const SCORES: [f64; 3] = [0.8, -0.6, 1.4];
/// Prompts have one token each: 0, 1, 2. Every other token of a response occurs once, so that what
/// a model says after a token is its own.
const RESPONSES: [&[u32]; 3] = [&[3, 4], &[5, 6, 7, 8, 9], &[10, 11, 12, 13, 14, 15]];
const PAD: u32 = 16;
/// What the rest of the probability is given to.
const OTHER: u32 = 17;
/// The end that the third response lacks.
const END: u32 = 18;
const TOKENS: usize = 19;
/// A prompt and a response.
const PLACES: usize = 1 + LIMIT;

/// A hidden state is the token's own direction and its place's own: blocks add nothing.
fn spec() -> Spec {
    let spec = Spec {
        tied: false,
        final_norm: false,
        ..Spec::decoder(TOKENS, 28, 1, 2, 4, PLACES + 1).with_learned_positions()
    };
    assert!(spec.width > TOKENS + PLACES);
    spec
}

/// A model with these numbers in `lm_head[token][direction]` and `scalar.weight[direction]`.
fn model(
    b: &Cpu<f32>,
    kind: HeadKind,
    head: impl Fn(usize, usize) -> f64,
    scalar: impl Fn(usize) -> f64,
) -> Model<Cpu<f32>> {
    let spec = spec();
    let d = spec.width;
    let params = Params::slots(&spec, kind).map(|slot| {
        let number = |at: usize| match slot.name.as_str() {
            "embedding" => f64::from(u8::from(at % d == at / d)),
            "positions" => f64::from(u8::from(at % d == TOKENS + at / d)),
            "lm_head" => head(at / d, at % d),
            "scalar.weight" => scalar(at),
            name if name.contains("norm") => 1.0,
            _ => 0.0,
        };
        (0..slot.count()).map(|at| number(at) as f32).collect()
    });
    Model::upload(b, spec, kind, params)
}

/// (response, place in it, what comes before, token) of all tokens.
fn tokens() -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let each = |response: usize| {
        let before = [response as u32].into_iter().chain(RESPONSES[response].iter().copied());
        let pairs = before.zip(RESPONSES[response]).enumerate();
        pairs.map(move |(place, (before, token))| {
            (response, place, before as usize, *token as usize)
        })
    };
    (0..3).flat_map(each)
}

/// After each token, its successor in a response has the fixture's probability, and `OTHER` the
/// rest.
fn head(logprobs: [&'static [f64]; 3]) -> impl Fn(usize, usize) -> f64 {
    move |token, direction| {
        let Some((response, place, _, next)) =
            tokens().find(|(_, _, before, _)| *before == direction)
        else {
            return 0.0;
        };
        let logprob = logprobs[response][place];
        match token {
            token if token == next => logprob,
            token if token == OTHER as usize => (-logprob.exp_m1()).ln(),
            _ => -80.0,
        }
    }
}

/// Values after pads are those of their places in the first response, of which a place of another
/// may have to be taken off again.
fn value(direction: usize) -> f64 {
    // A place counts prompt tokens; the pads of the first response begin at its place 3.
    let of_place = |place: usize| {
        if (3..1 + LIMIT).contains(&place) {
            VALUES[0].get(place).copied().unwrap_or(0.0)
        } else {
            0.0
        }
    };
    if direction >= TOKENS {
        return of_place(direction - TOKENS);
    }
    let before = tokens()
        .find(|(_, _, before, _)| *before == direction)
        .map(|(response, place, ..)| (response, place));
    // The last token of a response comes before the position past its end.
    let last = (0..3).find(|response| RESPONSES[*response].last() == Some(&(direction as u32)));
    match before.or(last.map(|response| (response, RESPONSES[response].len()))) {
        Some((response, place)) if place < LIMIT => VALUES[response][place] - of_place(place),
        _ => 0.0,
    }
}

fn score(direction: usize) -> f64 {
    let last = |response: &usize| {
        RESPONSES[*response].last().map(|last| *last as usize) == Some(direction)
    };
    match (0..2).find(last) {
        Some(response) => SCORES[response],
        None if direction == END as usize => SCORES[2],
        None => 0.0,
    }
}

/// Advantages and returns that a step trains on, and its metrics.
type Trained = ([Vec<f64>; 3], [Vec<f64>; 3], Vec<(&'static str, f64)>);

fn step(conventions: Conventions) -> Trained {
    let b = Cpu::<f32>::new();
    let [policy, reference] = LOGPROBS;
    let reference = model(&b, HeadKind::Language, head(reference), |_| 0.0);
    let reward = model(&b, HeadKind::Reward, |_, _| 0.0, score);
    let policy = TrainState::new(
        &b,
        &model(&b, HeadKind::LanguageAndValue, head(policy), value),
        Trainable::ALL,
    )
    .unwrap();
    let mut ppo = Ppo::new(&b, policy, Critic::Shared, COEF, None);
    let sequence = |response: usize| [&[response as u32], RESPONSES[response]].concat();
    let judged = [sequence(0), sequence(1), [sequence(2), vec![END]].concat()];
    let logprobs = posttrain::model::score::response_logprobs(
        &b,
        &ppo.policy.model,
        &[0, 1, 2].map(sequence).each_ref().map(Vec::as_slice),
        &[1; 3],
        1.0,
    );
    let rollout = |response: usize| {
        let (tokens, logprobs) = (RESPONSES[response], logprobs[response].clone());
        Rollout::sampled(&[response as u32], tokens, logprobs, response < 2)
    };
    let mut rollouts = [0, 1, 2].map(rollout);
    let optimiser: OptimiserConfig = serde_json::from_value(json!({"learning_rate": 0.0})).unwrap();
    let settings = Settings {
        steps: 1,
        minibatches: 1,
        epochs: 1,
        rollouts: RolloutSettings {
            temperature: 1.0,
            max_new_tokens: LIMIT,
            pad: PAD,
            conventions,
        },
        adaptive: None,
        policy_clip: PolicyClip::default(),
        value_clip: ValueClip { range: Some(0.2), coef: 0.1 },
        value_warmup: 0,
        value_head_ratio: 1.0,
        optimiser: &optimiser,
        seed: 0,
        options: Options::default(),
    };
    let normalisation = Normalisation::IDENTITY;
    let frozen = FrozenModels { reference: &reference, reward: Some((&reward, normalisation)) };
    let metrics = ppo.step(0, &mut rollouts, (&judged, &[]), &frozen, &settings).unwrap();

    let gradients = ppo.policy.gradients.total(&b);
    let dhead = b.download_f64(gradients.lm_head.as_ref().unwrap().as_ref().unwrap());
    let dscalar = b.download_f64(gradients.scalar.as_ref().unwrap().weight.as_ref().unwrap());
    let count = RESPONSES.iter().map(|response| response.len()).sum::<usize>() as f64;
    let (mut advantages, mut returns) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for (response, place, before, token) in tokens() {
        // The loss is -advantage * ratio / count, a logit's part in a log-probability 1 - p.
        let others = -LOGPROBS[0][response][place].exp_m1();
        advantages[response].push(-dhead[token * spec().width + before] / others * count);
    }
    let fitted: Vec<usize> =
        RESPONSES.iter().map(|response| conventions.fitted(response.len(), LIMIT)).collect();
    let positions = fitted.iter().sum::<usize>() as f64;
    for (response, fitted) in fitted.into_iter().enumerate() {
        for (place, token) in sequence(response).into_iter().take(fitted).enumerate() {
            // The loss is 0.1 * 0.5 (value - return)^2 / positions.
            returns[response]
                .push(VALUES[response][place] - dscalar[token as usize] / 0.1 * positions);
        }
    }
    (advantages, returns, metrics)
}

fn with(compat: Compat, more: Value) -> Conventions {
    serde_json::from_value::<Overrides>(more).unwrap().over(compat.conventions())
}

fn close(what: &str, found: &[Vec<f64>; 3], expected: [&[f64]; 3]) {
    for (found, expected) in found.iter().zip(expected) {
        // Six digits are printed; in f32, 1 - p of 0.18 is within 3e-7 of itself.
        let near = found.len() == expected.len()
            && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 5e-6);
        assert!(near, "{what}: {found:?} for {expected:?}");
    }
}

/// Advantages before and after normalisation.
fn check(compat: Compat, more: Value, raw: [&[f64]; 3], normalised: [&[f64]; 3]) {
    let conventions = with(compat, more);
    let plain = step(Conventions {
        whitening: with(compat, json!({"whitening": "none"})).whitening,
        ..conventions
    });
    close(&format!("{compat:?}, raw"), &plain.0, raw);
    let whole = step(conventions);
    close(&format!("{compat:?}, normalised"), &whole.0, normalised);
    // Returns are raw advantages and values; past the end, the return is what is left of the
    // reward.
    for response in 0..3 {
        let expected =
            raw[response].iter().zip(VALUES[response]).map(|(advantage, value)| advantage + value);
        let near = whole.1[response].iter().zip(expected).all(|(a, b)| (a - b).abs() < 5e-6);
        assert!(near, "{compat:?}: {:?}", whole.1[response]);
    }
}

const AT_EOS: [&[f64]; 3] = [
    &[0.544, 0.92],
    &[-0.464713, -0.815487, -0.19525, -0.795, -1.1],
    &[1.605178, 1.426503, 1.154214, 1.320225, 1.1055, 0.89],
];
const PAST_EOS: [&[f64]; 3] =
    [&[0.525, 0.9], &[-0.456568, -0.806914, -0.186225, -0.7855, -1.09], AT_EOS[2]];

#[test]
fn verl_and_nemo() {
    check(
        Compat::Verl,
        json!({}),
        AT_EOS,
        [
            &[0.117609, 0.506871],
            &[-0.926683, -1.289829, -0.647715, -1.268619, -1.584377],
            &[1.216216, 1.03124, 0.749346, 0.921213, 0.698914, 0.475813],
        ],
    );
}

#[test]
fn openrlhf() {
    check(
        Compat::Openrlhf,
        json!({}),
        AT_EOS,
        [
            &[0.122412, 0.527568],
            &[-0.964522, -1.342497, -0.674163, -1.320421, -1.649072],
            &[1.265878, 1.073348, 0.779944, 0.958829, 0.727453, 0.495242],
        ],
    );
}

#[test]
fn trl() {
    check(
        Compat::Trl,
        json!({"missing_eos": "keep"}),
        PAST_EOS,
        [
            &[0.097985, 0.488378],
            &[-0.923872, -1.288598, -0.642432, -1.266305, -1.583304],
            &[1.2225, 1.036491, 0.753026, 0.925851, 0.702312, 0.477967],
        ],
    );
    check(
        Compat::Trl,
        json!({"missing_eos": "keep", "reward_whitening": "unbiased"}),
        [
            &[0.991444, 1.55285],
            &[-1.626336, -1.924231, -1.200493, -1.798933, -1.970995],
            &[2.190379, 2.228279, 2.088286, 2.429436, 2.434946, 2.463233],
        ],
        [
            &[0.198573, 0.486641],
            &[-1.144659, -1.297514, -0.926151, -1.233221, -1.32151],
            &[0.813769, 0.833217, 0.761384, 0.936434, 0.939261, 0.953776],
        ],
    );
}

#[test]
fn nplus() {
    check(
        Compat::Nplus,
        json!({}),
        [PAST_EOS[0], PAST_EOS[1], &[-0.251896, -0.528312, -0.903486, -0.845775, -1.1745, -1.51]],
        [
            &[1.594643, 2.152344],
            &[0.134854, -0.386181, 0.536908, -0.354334, -0.807187],
            &[0.439242, 0.028156, -0.529803, -0.443975, -0.932855, -1.431811],
        ],
    );
}

#[test]
fn torchtune() {
    check(
        Compat::Torchtune,
        json!({}),
        PAST_EOS,
        [
            &[0.528863, 0.919255],
            &[-0.492994, -0.85772, -0.211554, -0.835427, -1.152426],
            &[1.653378, 1.467369, 1.183904, 1.356729, 1.13319, 0.908845],
        ],
    );
}

#[test]
fn deepspeed_chat() {
    check(Compat::DeepspeedChat, json!({}), PAST_EOS, PAST_EOS);
}

#[test]
fn alpaca_farm() {
    check(
        Compat::AlpacaFarm,
        json!({}),
        [
            &[1.042044, 1.531903],
            &[-2.392415, -2.577752, -1.787893, -2.17323, -2.233241],
            &[3.020371, 2.960361, 2.775024, 2.989687, 2.879546, 2.79447],
        ],
        [
            &[0.30474, 0.540668],
            &[-1.34938, -1.438642, -1.058227, -1.243815, -1.272717],
            &[1.257551, 1.228649, 1.139386, 1.242773, 1.189726, 1.148752],
        ],
    );
    check(
        Compat::AlpacaFarm,
        json!({"lambda": 0.95}),
        [
            &[1.045294, 1.615951],
            &[-1.99642, -2.296586, -1.586029, -2.075121, -2.247507],
            &[2.368382, 2.429864, 2.362661, 2.712972, 2.739822, 2.79447],
        ],
        [
            &[0.365168, 0.669057],
            &[-1.254617, -1.414463, -1.036074, -1.296528, -1.388327],
            &[1.069744, 1.102485, 1.066697, 1.253247, 1.267545, 1.296646],
        ],
    );
}

/// The value loss is a mean over tokens and the positions past an end; the score is the optimised
/// one.
#[test]
fn the_figures_of_a_step_are_of_what_it_trains() {
    let conventions = Compat::Nplus.conventions();
    let (_, returns, metrics) = step(conventions);
    assert_eq!(
        returns.each_ref().map(Vec::len),
        [3, 6, 6],
        "the two that are shorter have a position past their end"
    );
    assert!(
        (returns[0][2] - 0.8).abs() < 1e-6 && (returns[1][5] + 0.6).abs() < 1e-6,
        "whose value is fitted to the score"
    );
    let get = |name: &str| metrics.iter().find(|metric| metric.0 == name).unwrap().1;
    let errors = returns.iter().zip(VALUES).flat_map(|(returns, values)| {
        returns.iter().zip(values).map(|(r, v)| 0.5 * (r - v) * (r - v))
    });
    assert!((get("loss/value_avg") - errors.sum::<f64>() / 15.0).abs() < 1e-6);
    assert!((get("objective/scores") - (0.8 - 0.6 - 1.0) / 3.0).abs() < 1e-6);
    assert!((get("objective/raw_scores") - (0.8 - 0.6 + 1.4) / 3.0).abs() < 1e-6);
    let names = metrics.iter().map(|metric| metric.0).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names.len(), metrics.len(), "each figure once");
}
