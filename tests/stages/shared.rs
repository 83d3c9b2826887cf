//! What models share: buffers of the same numbers, the pass through blocks that are the same, and
//! how often both are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops::*;
use posttrain::backend::prelude::*;
use posttrain::backend::{RatioLoss, Sizes, SquareLoss};
use posttrain::model::init::{ScalarInit, scalar_head};
use posttrain::model::params::{HeadKind, Params, Slot, Trainable};
use posttrain::model::score::{last_scalars, response_logprobs};
use posttrain::model::spec::Spec;
use posttrain::model::weights::Model;
use posttrain::rl::ppo::{PolicyClip, ValueClip};
use posttrain::rl::preference::Normalisation;
use posttrain::train::critic::Critic;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::ppo::{Ppo, Settings};
use posttrain::train::ppo_options::Options;
use posttrain::train::rollouts::{FrozenModels, Rollout, RolloutSettings};
use serde_json::{Value, json};

use super::bench::{make, neutral, run_on};
use super::fixture::{fixture, spec as tiny};
use crate::model::{model, sequences};

type Inner = Cpu<f32>;
type Buf = <Inner as Buffers>::Buf;
type Cache = <Inner as CacheOps>::Cache;
type Sums = <Inner as Losses>::Sums;

/// The CPU, which counts rows that go through attention, one block each, numbers that models bring
/// to it, and buffers that are copied to the host.
#[derive(Clone)]
struct Counting {
    inner: Inner,
    rows: Arc<AtomicUsize>,
    uploaded: Arc<AtomicUsize>,
    downloads: Arc<AtomicUsize>,
}

impl Counting {
    fn new() -> Self {
        Counting {
            inner: Inner::new(),
            rows: Arc::default(),
            uploaded: Arc::default(),
            downloads: Arc::default(),
        }
    }
}

macro_rules! inner {
    ($($name:ident($($argument:ident: $kind:ty),*) $(-> $out:ty)?;)*) => {$(
        fn $name(&self, $($argument: $kind),*) $(-> $out)? {
            self.inner.$name($($argument),*)
        }
    )*};
}

impl Buffers for Counting {
    type Buf = Buf;
    type GraphCache = ();

    fn upload_owned(&self, host: Vec<f32>) -> Buf {
        self.uploaded.fetch_add(host.len(), Relaxed);
        self.inner.upload_owned(host)
    }

    fn download(&self, x: &Buf) -> Vec<f32> {
        self.downloads.fetch_add(1, Relaxed);
        self.inner.download(x)
    }

    fn download_f64(&self, x: &Buf) -> Vec<f64> {
        self.downloads.fetch_add(1, Relaxed);
        self.inner.download_f64(x)
    }

    inner! {
        free_memory() -> Option<u64>;
        sizes() -> Sizes;
        zeros(len: usize) -> Buf;
        wide(len: usize) -> Buf;
        upload(host: &[f32]) -> Buf;
        upload_f64(host: &[f64]) -> Buf;
        upload_wide(host: &[f32]) -> Buf;
        upload_wide_f64(host: &[f64]) -> Buf;
        len(x: &Buf) -> usize;
        copy_unchecked(out: &mut Buf, x: &Buf);
        fill(out: &mut Buf, value: f32);
        add_unchecked(out: &mut Buf, x: &Buf);
        sum_squares(x: &Buf) -> f64;
    }
}

impl AttentionOps for Counting {
    fn attention_unchecked(&self, attention: Attention<'_, Buf>) {
        let rows = attention.starts[attention.starts.len() - 1];
        self.rows.fetch_add(rows, Relaxed);
        self.inner.attention_unchecked(attention);
    }

    inner! { attention_backward_unchecked(attention: AttentionBackward<'_, Buf>); }
}

impl RowOps for Counting {
    inner! {
        embedding_backward_unchecked(dtable: &mut Buf, dout: &Buf, ids: &[u32], d: usize);
        gather_rows_unchecked(out: &mut Buf, x: &Buf, rows: &[u32], d: usize);
        scatter_add_rows_unchecked(dx: &mut Buf, dout: &Buf, rows: &[u32], d: usize);
    }
}

impl NormOps for Counting {
    inner! {
        rms_norm_unchecked(norm: RmsNorm<'_, Buf>);
        rms_norm_backward_unchecked(norm: RmsNormBackward<'_, Buf>);
    }
}

impl LayerNormOps for Counting {
    inner! {
        layer_norm_unchecked(norm: LayerNorm<'_, Buf>);
        layer_norm_backward_unchecked(norm: LayerNormBackward<'_, Buf>);
    }
}

impl LinearOps for Counting {
    inner! {
        linear_unchecked(layer: Linear<'_, Buf>);
        linear_backward_input_unchecked(layer: LinearBackwardInput<'_, Buf>);
        linear_backward_weight_unchecked(layer: LinearBackwardWeight<'_, Buf>);
    }
}

impl RotaryOps for Counting {
    inner! { rotary_unchecked(rotary: Rotary<'_, Buf>); }
}

impl ActivationOps for Counting {
    inner! {
        swiglu_unchecked(out: &mut Buf, gate: &Buf, up: &Buf);
        swiglu_backward_unchecked(dgate: &mut Buf, dup: &mut Buf, dout: &Buf, gate: &Buf, up: &Buf);
        activation_unchecked(out: &mut Buf, x: &Buf, activation: Activation);
        activation_backward_unchecked(dx: &mut Buf, dout: &Buf, x: &Buf, activation: Activation);
    }
}

impl TokenOps for Counting {
    inner! {
        token_logprobs_unchecked(tokens: TokenLogprobs<'_, Buf>);
        token_logprobs_backward_unchecked(tokens: TokenLogprobsBackward<'_, Buf>);
        token_scores_backward_unchecked(tokens: TokenScoresBackward<'_, Buf>);
    }
}

impl SamplingOps for Counting {
    inner! {
        sample_unchecked(logits: &Buf, uniforms: &[f64], sampling: Sampling, v: usize)
            -> (Vec<u32>, Vec<f32>);
    }
}

impl Losses for Counting {
    type Sums = Sums;

    inner! {
        sums(len: usize) -> Sums;
        sums_len(sums: &Sums) -> usize;
        download_sums(sums: &Sums) -> Vec<f64>;
        add_sum_unchecked(sums: &mut Sums, x: &Buf);
        clipped_ratio_loss_unchecked(dlogprob: &mut Buf, sums: &mut Sums, logprob: &Buf, old: &Buf,
            advantage: &Buf, loss: RatioLoss);
        clipped_square_loss_unchecked(dvalue: &mut Buf, sums: &mut Sums, value: &Buf, old: &Buf,
            target: &Buf, loss: SquareLoss);
    }
}

impl CacheOps for Counting {
    type Cache = Cache;

    inner! {
        cache_unchecked(blocks: usize, heads: Heads) -> Cache;
        cache_blocks(cache: &Cache) -> usize;
        cache_heads(cache: &Cache) -> Heads;
        cache_write_unchecked(cache: &mut Cache, k: &Buf, v: &Buf, slots: &[u32]);
        cache_copy_blocks_unchecked(cache: &mut Cache, pairs: &[(u32, u32)]);
        attention_cached_unchecked(out: &mut Buf, q: &Buf, cache: &Cache, views: &[CacheView<'_>],
            window: Option<usize>);
    }
}

impl OptimiserOps for Counting {
    inner! {
        adamw_unchecked(master: &mut Buf, copy: Option<&mut Buf>, first: &mut Buf,
            second: &mut Buf, gradient: &Buf, step: AdamW);
    }
}

const PROMPT: usize = 5;
const NEW: usize = 4;

/// A policy of five blocks, four of them frozen, its reward model and responses, of which the first
/// ended.
fn step(
    b: &Counting,
    own_trunk: bool,
    separate: bool,
) -> (Ppo<'_, Counting>, Model<Counting>, Model<Counting>, Vec<Rollout>) {
    let spec = Spec { layers: 5, ..crate::model::spec(false) };
    let trainable = Trainable::frozen_fraction(&spec, 0.8);
    let reference: Model<Counting> = model(b, &spec, HeadKind::Language);
    let head = |top| scalar_head(&spec, top, ScalarInit::Normal, 1).unwrap();
    let begun = if own_trunk {
        model(b, &spec, HeadKind::Language)
    } else {
        reference.trainable_copy(b, &trainable)
    };
    let reward = begun.with_scalar(b, head(HeadKind::Reward));
    let (policy, critic) = match separate {
        true => {
            let critic = reward.with_scalar(b, head(HeadKind::Value));
            let state = TrainState::new(b, &critic, trainable.clone()).unwrap();
            (TrainState::new(b, &reference, trainable), Critic::Separate(Box::new(state)))
        }
        false => {
            let policy = reference.with_scalar(b, head(HeadKind::LanguageAndValue));
            (TrainState::new(b, &policy, trainable), Critic::Shared)
        }
    };
    let rollouts =
        sequences(&spec, &[PROMPT + NEW; 3]).into_iter().enumerate().map(|(at, tokens)| {
            let (prompt, response) = tokens.split_at(PROMPT);
            Rollout::sampled(prompt, response, vec![-1.0; NEW], at == 0)
        });
    let rollouts = rollouts.collect();
    (Ppo::new(b, policy.unwrap(), critic, 0.1, None), reference, reward, rollouts)
}

fn settings(optimiser: &OptimiserConfig, epochs: usize) -> Settings<'_> {
    Settings {
        steps: 1,
        minibatches: 2,
        epochs,
        rollouts: RolloutSettings {
            temperature: 1.0,
            max_new_tokens: NEW,
            pad: 0,
            conventions: Default::default(),
        },
        adaptive: None,
        policy_clip: PolicyClip::default(),
        value_clip: ValueClip::default(),
        value_warmup: 0,
        value_head_ratio: 1.0,
        optimiser,
        seed: 0,
        options: Options::default(),
    }
}

/// What a step fills in: score, the reference's log-probabilities, values.
type Figures = (f64, Vec<f32>, Vec<f32>);

/// Rows times blocks of a step without updates, and what it filled in for each response.
fn scored(own_trunk: bool, separate: bool) -> (usize, Vec<Figures>) {
    let b = Counting::new();
    let (mut ppo, reference, reward, mut rollouts) = step(&b, own_trunk, separate);
    let judged: Vec<Vec<u32>> = rollouts
        .iter()
        .map(|rollout| [rollout.tokens.as_slice(), if rollout.ended { &[] } else { &[2] }].concat())
        .collect();
    let config: OptimiserConfig = serde_json::from_value(json!({"learning_rate": 0.01})).unwrap();
    let settings = settings(&config, 0);
    let normalisation = Normalisation::IDENTITY;
    let frozen = FrozenModels { reference: &reference, reward: Some((&reward, normalisation)) };
    ppo.step(0, &mut rollouts, (&judged, &[]), &frozen, &settings).unwrap();
    let rows = b.rows.load(Relaxed);
    let judged: Vec<&[u32]> = judged.iter().map(Vec::as_slice).collect();
    let raw: Vec<f64> = last_scalars(&b, &reward, &judged).into_iter().map(f64::from).collect();
    assert_eq!(
        rollouts.iter().map(|rollout| rollout.score).collect::<Vec<_>>(),
        raw,
        "the reward model's own pass says the same"
    );
    (
        rows,
        rollouts
            .into_iter()
            .map(|rollout| (rollout.score, rollout.reference, rollout.values))
            .collect(),
    )
}

#[test]
fn frozen_blocks_run_once_for_policy_reference_value_and_reward_model() {
    // Tokens of the policy's sequences, and of the reward model's, which lack an end twice.
    let (tokens, judged) = (3 * (PROMPT + NEW), 3 * (PROMPT + NEW) + 2);
    for separate in [false, true] {
        let (shared, shared_figures) = scored(false, separate);
        let (own, own_figures) = scored(true, separate);
        // Four blocks once; then the block that trains under reward model, reference and value
        // function.
        assert_eq!(shared, 4 * judged + judged + 2 * tokens, "separate: {separate}");
        let critic = if separate { 4 * tokens } else { 0 };
        assert_eq!(own, 4 * tokens + 5 * judged + critic + 2 * tokens, "separate: {separate}");
        assert!(shared_figures == own_figures, "no bit depends on who runs a block");
    }
}

#[test]
fn without_a_critic_no_value_is_computed_or_fitted() {
    let b = Counting::new();
    let (mut ppo, reference, reward, mut rollouts) = step(&b, false, true);
    ppo.critic = Critic::None;
    let tokens: Vec<Vec<u32>> = rollouts.iter().map(|rollout| rollout.tokens.clone()).collect();
    let sequences: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    let logprobs = response_logprobs(&b, &ppo.policy.model, &sequences, &[PROMPT; 3], 1.0);
    rollouts.iter_mut().zip(logprobs).for_each(|(rollout, own)| rollout.logprobs = own);
    let config: OptimiserConfig = serde_json::from_value(json!({"learning_rate": 0.01})).unwrap();
    let normalisation = Normalisation::IDENTITY;
    let frozen = FrozenModels { reference: &reference, reward: Some((&reward, normalisation)) };
    let before = b.rows.load(Relaxed);
    let metrics =
        ppo.step(0, &mut rollouts, (&tokens, &[]), &frozen, &settings(&config, 1)).unwrap();
    // Four frozen blocks once; then reward model, reference and the update, one block each.
    assert_eq!(b.rows.load(Relaxed) - before, (4 + 3) * 3 * (PROMPT + NEW));
    assert!(rollouts.iter().all(|rollout| rollout.values == [0.0; NEW]));
    let of_values = ["loss/value_avg", "val/clipfrac_avg", "critic/vf_explained_var"];
    assert!(metrics.iter().all(|(name, x)| x.is_finite() && !of_values.contains(name)));
    assert!(metrics.iter().any(|(name, norm)| *name == "grad_norm" && *norm > 0.0));
}

#[test]
fn updates_copy_no_buffer_to_the_host() {
    let config: OptimiserConfig = serde_json::from_value(json!({"learning_rate": 0.01})).unwrap();
    for separate in [false, true] {
        let downloads = |epochs| {
            let b = Counting::new();
            let (mut ppo, reference, reward, mut rollouts) = step(&b, false, separate);
            let judged: Vec<Vec<u32>> =
                rollouts.iter().map(|rollout| rollout.tokens.clone()).collect();
            let sequences: Vec<&[u32]> = judged.iter().map(Vec::as_slice).collect();
            let logprobs = response_logprobs(&b, &ppo.policy.model, &sequences, &[PROMPT; 3], 1.0);
            rollouts
                .iter_mut()
                .zip(logprobs)
                .for_each(|(rollout, logprobs)| rollout.logprobs = logprobs);
            let normalisation = Normalisation::IDENTITY;
            let frozen =
                FrozenModels { reference: &reference, reward: Some((&reward, normalisation)) };
            let metrics = ppo
                .step(0, &mut rollouts, (&judged, &[]), &frozen, &settings(&config, epochs))
                .unwrap();
            let named = |name| metrics.iter().find(|metric| metric.0 == name).unwrap().1;
            assert_eq!(
                [named("loss/value_avg"), named("policy/entropy_avg")].map(|x| x > 0.0),
                [epochs > 0; 2]
            );
            b.downloads.load(Relaxed)
        };
        assert_eq!(downloads(3), downloads(0), "separate: {separate}");
    }
}

#[test]
fn a_reward_model_shares_the_tensors_that_were_frozen_and_no_others() {
    let at = |name| fixture().at(name);
    let trained = |frozen: f64| {
        make(
            "reward_model",
            json!({"policy": at("policy"), "dataset": at("preferences"), "batch_size": 4,
                "frozen": frozen, "optimiser": {"learning_rate": 0.01}}),
        )
    };
    let spec = tiny();
    let count = |head, is_in: &dyn Fn(&Slot) -> bool| -> usize {
        Params::slots(&spec, head).iter().filter(|slot| is_in(slot)).map(Slot::count).sum()
    };
    let policy = count(HeadKind::Language, &|_| true);
    for (reward, own) in [
        (
            trained(0.5),
            count(HeadKind::Reward, &|slot| Trainable::frozen_fraction(&spec, 0.5).trains(slot)),
        ),
        (trained(0.0), count(HeadKind::Reward, &|_| true)),
    ] {
        let b = Counting::new();
        let config = json!({"policy": at("policy"), "reward_model": reward.reference(),
            "dataset": at("dataset"), "n": 2, "limit": 1,
            "sampling": {"max_new_tokens": 3}});
        run_on(&b, "best_of_n", config);
        assert_eq!(b.uploaded.load(Relaxed), policy + own);
    }
}

#[test]
fn running_blocks_again_changes_no_byte_of_what_training_makes() {
    let at = |name| fixture().at(name);
    let optimiser = || json!({"learning_rate": 0.01});
    let form = json!({"width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "context": 128});
    let cases: [(&str, Value); 7] = [
        (
            "pretrain",
            json!({"dataset": at("dataset"), "tokenizer": at("tokenizer"), "phases": ["notes"],
                "batch_size": 4, "model": form}),
        ),
        (
            "sft",
            json!({"policy": at("policy"), "dataset": at("dataset"), "batch_size": 4,
                "frozen": 0.5}),
        ),
        (
            "reward_model",
            json!({"policy": at("policy"), "dataset": at("preferences"), "batch_size": 4}),
        ),
        (
            "dpo",
            json!({"policy": at("policy"), "reference": at("logprobs"), "dataset": at("preferences"),
                "batch_size": 4, "beta": 0.1, "frozen": 0.5}),
        ),
        (
            "kto",
            json!({"policy": at("policy"), "reference": at("kto_logprobs"),
                "dataset": at("preferences"), "batch_size": 8, "beta": 0.1, "frozen": 0.5}),
        ),
        (
            "ppo",
            json!({"policy": at("policy"), "reward_model": at("reward"), "dataset": at("dataset"),
                "steps": 2, "batch_size": 4, "max_new_tokens": 8,
                "kl": {"coef": 0.05}, "frozen": 0.5}),
        ),
        (
            "ppo",
            json!({"policy": at("policy"), "reward_model": at("reward"), "dataset": at("dataset"),
                "steps": 2, "batch_size": 4, "max_new_tokens": 8,
                "kl": {"coef": 0.05}, "value": {"critic": "separate"}}),
        ),
    ];
    for (kind, mut config) in cases {
        assert!(neutral(kind).contains(&"recompute"), "{kind}");
        config["optimiser"] = optimiser();
        let kept = make(kind, config.clone()).object();
        config["recompute"] = "block".into();
        assert_eq!(make(kind, config).object(), kept, "{kind}");
    }
}
