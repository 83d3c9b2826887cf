//! What models share: buffers of the same numbers, the pass through blocks that are the same, and
//! how often both are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use posttrain::backend::cpu::Cpu;
use posttrain::backend::{
    Activation, AdamW, Backend, CacheView, Heads, Mask, RatioLoss, Sampling, Sizes, SquareLoss,
};
use posttrain::model::init::{ScalarInit, scalar_head};
use posttrain::model::params::{HeadKind, Params, Slot, Trainable};
use posttrain::model::score::{last_scalars, response_logprobs};
use posttrain::model::spec::Spec;
use posttrain::model::weights::Model;
use posttrain::rl::ppo::{PolicyClip, ValueClip};
use posttrain::rl::preference::Normalisation;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::ppo::{Judges, Ppo, Rollout, Settings};
use serde_json::{Value, json};

use super::bench::{make, neutral, run_on};
use super::fixture::{fixture, spec as tiny};
use crate::model::{model, sequences};

type Inner = Cpu<f32>;
type Buf = <Inner as Backend>::Buf;
type Cache = <Inner as Backend>::Cache;
type Sums = <Inner as Backend>::Sums;

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

impl Backend for Counting {
    type Buf = Buf;
    type Cache = Cache;
    type GraphCache = ();
    type Sums = Sums;

    fn attention(
        &self,
        out: &mut Buf,
        lse: &mut Buf,
        q: &Buf,
        k: &Buf,
        v: &Buf,
        starts: &[usize],
        heads: Heads,
        mask: Mask,
    ) {
        self.rows.fetch_add(starts[starts.len() - 1], Relaxed);
        self.inner.attention(out, lse, q, k, v, starts, heads, mask);
    }

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
        copy(out: &mut Buf, x: &Buf);
        fill(out: &mut Buf, value: f32);
        add(out: &mut Buf, x: &Buf);
        sum_squares(x: &Buf) -> f64;
        embedding(out: &mut Buf, table: &Buf, ids: &[u32], d: usize);
        embedding_backward(dtable: &mut Buf, dout: &Buf, ids: &[u32], d: usize);
        gather_rows(out: &mut Buf, x: &Buf, rows: &[u32], d: usize);
        scatter_add_rows(dx: &mut Buf, dout: &Buf, rows: &[u32], d: usize);
        rms_norm(out: &mut Buf, rstd: &mut Buf, x: &Buf, weight: &Buf, n: usize, d: usize,
            epsilon: f64);
        rms_norm_backward(dx: &mut Buf, dweight: Option<&mut Buf>, dout: &Buf, x: &Buf,
            weight: &Buf, rstd: &Buf, n: usize, d: usize);
        layer_norm(out: &mut Buf, mean: &mut Buf, rstd: &mut Buf, x: &Buf, weight: &Buf, bias: &Buf,
            n: usize, d: usize, epsilon: f64);
        layer_norm_backward(dx: &mut Buf, dweight: Option<&mut Buf>, dbias: Option<&mut Buf>,
            dout: &Buf, x: &Buf, weight: &Buf, mean: &Buf, rstd: &Buf, n: usize, d: usize);
        linear(out: &mut Buf, x: &Buf, weight: &Buf, bias: Option<&Buf>, n: usize, i: usize,
            o: usize);
        linear_backward_input(dx: &mut Buf, dout: &Buf, weight: &Buf, n: usize, i: usize, o: usize);
        linear_backward_weight(dweight: &mut Buf, dbias: Option<&mut Buf>, dout: &Buf, x: &Buf,
            n: usize, i: usize, o: usize);
        rotary(x: &mut Buf, cos: &Buf, sin: &Buf, positions: &[u32], heads: usize, channels: usize,
            rotated: usize, inverse: bool);
        attention_backward(dq: &mut Buf, dk: &mut Buf, dv: &mut Buf, dout: &Buf, out: &Buf,
            lse: &Buf, q: &Buf, k: &Buf, v: &Buf, starts: &[usize], heads: Heads, mask: Mask);
        swiglu(out: &mut Buf, gate: &Buf, up: &Buf);
        swiglu_backward(dgate: &mut Buf, dup: &mut Buf, dout: &Buf, gate: &Buf, up: &Buf);
        activation(out: &mut Buf, x: &Buf, activation: Activation);
        activation_backward(dx: &mut Buf, dout: &Buf, x: &Buf, activation: Activation);
        token_logprobs(logprob: &mut Buf, lse: &mut Buf, entropy: &mut Buf, logits: &Buf,
            targets: &[u32], temperature: f32, v: usize);
        token_logprobs_backward(dlogits: &mut Buf, logits: &Buf, dlogprob: &Buf, lse: &Buf,
            targets: &[u32], temperature: f32, v: usize);
        sample(logits: &Buf, uniforms: &[f64], sampling: Sampling, v: usize) -> (Vec<u32>,
            Vec<f32>);
        sums(len: usize) -> Sums;
        download_sums(sums: &Sums) -> Vec<f64>;
        add_sum(sums: &mut Sums, x: &Buf);
        clipped_ratio_loss(dlogprob: &mut Buf, sums: &mut Sums, logprob: &Buf, old: &Buf,
            advantage: &Buf, loss: RatioLoss);
        clipped_square_loss(dvalue: &mut Buf, sums: &mut Sums, value: &Buf, old: &Buf, target: &Buf,
            loss: SquareLoss);
        cache(blocks: usize, heads: Heads) -> Cache;
        cache_write(cache: &mut Cache, k: &Buf, v: &Buf, slots: &[u32]);
        cache_copy_blocks(cache: &mut Cache, pairs: &[(u32, u32)]);
        attention_cached(out: &mut Buf, q: &Buf, cache: &Cache, views: &[CacheView<'_>],
            window: Option<usize>);
        adamw(master: &mut Buf, copy: Option<&mut Buf>, first: &mut Buf, second: &mut Buf,
            gradient: &Buf, step: AdamW);
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
    let head = |kind| scalar_head(&spec, kind, ScalarInit::Normal, 1).unwrap();
    let begun = if own_trunk {
        model(b, &spec, HeadKind::Language)
    } else {
        reference.trainable_copy(b, &trainable)
    };
    let reward = begun.with_scalar(b, head(HeadKind::Reward));
    let critic = separate.then(|| {
        TrainState::new(b, &reward.with_scalar(b, head(HeadKind::Value)), trainable.clone())
            .unwrap()
    });
    let policy = match separate {
        true => TrainState::new(b, &reference, trainable.clone()),
        false => TrainState::new(
            b,
            &reference.with_scalar(b, head(HeadKind::LanguageAndValue)),
            trainable,
        ),
    };
    let rollouts =
        sequences(&spec, &[PROMPT + NEW; 3]).into_iter().enumerate().map(|(at, tokens)| Rollout {
            tokens,
            prompt: PROMPT,
            ended: at == 0,
            logprobs: vec![-1.0; NEW],
            reference: Vec::new(),
            values: Vec::new(),
            score: 0.0,
        });
    let rollouts = rollouts.collect();
    (Ppo { b, policy: policy.unwrap(), critic, coef: 0.1 }, reference, reward, rollouts)
}

fn settings(optimiser: &OptimiserConfig, epochs: usize) -> Settings<'_> {
    Settings {
        steps: 1,
        minibatches: 2,
        epochs,
        temperature: 1.0,
        max_new_tokens: NEW,
        pad: 0,
        conventions: Default::default(),
        adaptive: None,
        policy_clip: PolicyClip::default(),
        value_clip: ValueClip::default(),
        value_warmup: 0,
        value_head_ratio: 1.0,
        optimiser,
        seed: 0,
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
    let judges =
        Judges { reference: &reference, reward: &reward, normalisation: Normalisation::IDENTITY };
    ppo.step(0, &mut rollouts, &judged, &judges, &settings).unwrap();
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
            let judges = Judges {
                reference: &reference,
                reward: &reward,
                normalisation: Normalisation::IDENTITY,
            };
            let metrics =
                ppo.step(0, &mut rollouts, &judged, &judges, &settings(&config, epochs)).unwrap();
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
    let cases: [(&str, Value); 5] = [
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
        assert_eq!(neutral(kind), ["recompute"]);
        config["optimiser"] = optimiser();
        let kept = make(kind, config.clone()).object();
        config["recompute"] = "block".into();
        assert_eq!(make(kind, config).object(), kept, "{kind}");
    }
}
