//! The counting back end against the most that the CUDA back end held at a time, on the emulated
//! device: the same computation on both.

use posttrain::backend::counting::Counting;
use posttrain::backend::prelude::*;
use posttrain::backend::{BLOCK, DType, Sampling};
use posttrain::data::tokenised::Tokenised;
use posttrain::model::batch::Batch;
use posttrain::model::heads::{TargetTokens, token_logprobs};
use posttrain::model::init::{ScalarInit, scalar_head};
use posttrain::model::params::{HeadKind, Trainable};
use posttrain::model::spec::{Activation, FeedForward, Norm, Spec, Wiring};
use posttrain::model::transformer::{self, Recompute};
use posttrain::model::weights::Model;
use posttrain::rl::direct::{DirectLoss, Objective};
use posttrain::rl::kto::KtoLoss;
use posttrain::rl::ppo::{PolicyClip, ValueClip};
use posttrain::rl::preference::{Normalisation, PairLoss};
use posttrain::sample::{GenerateOptions, Limits, Sample, generate};
use posttrain::train::answers::Answered;
use posttrain::train::critic::Critic;
use posttrain::train::direct::Pair;
use posttrain::train::kto::{LabelledRow, Referenced};
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::ppo::{Ppo, Settings};
use posttrain::train::ppo_options::Options;
use posttrain::train::preference::PreferenceGroup;
use posttrain::train::rollouts::{FrozenModels, Rollout, RolloutSettings};
use posttrain::train::schedule::Schedule;
use posttrain::train::{direct, kto, language, reward};

use super::emulated::alone;
use super::models::options;
use crate::model::{model, next_tokens, sequences};

/// Models whose buffers are large beside ids and alignment: of LLaMA's form with grouped heads; of
/// OPT's, with a vocabulary larger than all else; parallel, with norms of heads.
fn specs() -> [Spec; 3] {
    let plain = Spec::decoder(128, 64, 3, 4, 160, 160);
    let grouped = Spec { key_value_heads: 2, tied: false, ..plain.clone() };
    let learned = Spec {
        vocabulary: 2048,
        norm: Norm::Layer,
        feed_forward: FeedForward::Plain(Activation::Relu),
        feed_forward_bias: true,
        layers: 2,
        ..plain.clone().with_learned_positions()
    };
    [grouped, learned, Spec { wiring: Wiring::Parallel, query_key_norm: true, ..plain }]
}

/// A computation on any back end.
trait Computation {
    fn run<B: Backend>(&self, b: &B);
}

/// Panics unless the fullest moment of both back ends is the same within 2%: ids, sums of losses
/// and alignment are not counted.
#[track_caller]
fn check(what: &str, kind: DType, computation: &impl Computation) {
    let Some(b) = alone(kind) else { return };
    computation.run(&b);
    let counting = Counting::new(b.sizes(), None);
    computation.run(&counting);
    let (held, counted) = (b.most_memory(), counting.most().total());
    let ratio = counted as f64 / held as f64;
    assert!(
        (ratio - 1.0).abs() < 0.02,
        "{what} in {kind:?}: {counted} bytes were counted, {held} were held: {ratio:.4}"
    );
}

struct Forward<'a>(&'a Spec);

impl Computation for Forward<'_> {
    fn run<B: Backend>(&self, b: &B) {
        let model = model(b, self.0, HeadKind::Language);
        let batch = Batch::new(&sequences(self.0, &[100, 28]));
        let hidden = transformer::hidden(b, &model, &batch);
        let (rows, targets) = next_tokens(&batch);
        let scored = TargetTokens { rows: &rows, targets: &targets, temperature: 1.0 };
        token_logprobs(b, &model, &hidden, scored, false);
    }
}

#[test]
fn a_forward_pass_takes_what_is_counted() {
    for kind in [DType::Bf16, DType::F32] {
        for (at, spec) in specs().iter().enumerate() {
            check(&format!("model {at}"), kind, &Forward(spec));
        }
    }
}

fn optimiser() -> OptimiserConfig {
    OptimiserConfig {
        learning_rate: 1e-3,
        schedule: Schedule::default(),
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: Some(1.0),
    }
}

/// Two passes, as the gradient of a tied head is there from the end of the first pass on, and an
/// update.
struct Supervised<'a> {
    spec: &'a Spec,
    trainable: Trainable,
    recompute: Recompute,
}

impl Computation for Supervised<'_> {
    fn run<B: Backend>(&self, b: &B) {
        let model: Model<B> = model(b, self.spec, HeadKind::Language);
        let mut state =
            TrainState::new(b, &model, self.trainable.clone()).unwrap().with(self.recompute);
        let rows: Vec<Tokenised> = sequences(self.spec, &[100, 28])
            .into_iter()
            .map(|tokens| Tokenised { tokens, ..Tokenised::default() })
            .collect();
        for _ in 0..2 {
            language::accumulate(b, &mut state, &rows.iter().collect::<Vec<_>>());
        }
        state.update(b, &optimiser(), 1e-3, 1.0, |_| true);
    }
}

#[test]
fn training_takes_what_is_counted() {
    let specs = specs();
    let upper = |spec: &Spec| Trainable::above(spec, spec.layers - 1);
    for (kind, at, trainable, recompute) in [
        (DType::Bf16, 0, Trainable::ALL, Recompute::None),
        (DType::Bf16, 0, upper(&specs[0]), Recompute::Block),
        (DType::Bf16, 1, Trainable::ALL, Recompute::Block),
        (DType::Bf16, 2, Trainable::ALL, Recompute::None),
        (DType::F32, 1, upper(&specs[1]), Recompute::None),
        (DType::F32, 2, Trainable::ALL, Recompute::Block),
    ] {
        let what = format!("model {at}, {trainable:?}, {recompute:?}");
        check(&what, kind, &Supervised { spec: &specs[at], trainable, recompute });
    }
}

struct Preferences<'a>(&'a Spec, Recompute);

impl Computation for Preferences<'_> {
    fn run<B: Backend>(&self, b: &B) {
        let Preferences(spec, recompute) = self;
        let from: Model<B> = model(b, spec, HeadKind::Language);
        let head = scalar_head(spec, HeadKind::Reward, ScalarInit::Normal, 1).unwrap();
        let model = from.with_scalar(b, head);
        let trainable = Trainable::above(spec, 1);
        let mut state = TrainState::new(b, &model, trainable).unwrap().with(*recompute);
        let group = PreferenceGroup {
            sequences: sequences(spec, &[100, 28]),
            pairs: vec![(0, 1)],
            margins: vec![0.0],
        };
        reward::accumulate(b, &mut state, &[&group], PairLoss::default());
    }
}

#[test]
fn training_of_a_reward_model_takes_what_is_counted() {
    let specs = specs();
    for (at, recompute) in [(0, Recompute::Block), (1, Recompute::None)] {
        let what = format!("model {at}, {recompute:?}");
        check(&what, DType::Bf16, &Preferences(&specs[at], recompute));
    }
}

struct Direct<'a>(&'a Spec, Recompute);

impl Computation for Direct<'_> {
    fn run<B: Backend>(&self, b: &B) {
        let Direct(spec, recompute) = self;
        let model: Model<B> = model(b, spec, HeadKind::Language);
        let mut state =
            TrainState::new(b, &model, Trainable::above(spec, 1)).unwrap().with(*recompute);
        let [chosen, rejected] = [100, 28].map(|length| {
            let tokens = sequences(spec, &[length]).pop().unwrap();
            Answered { tokens, prompt: 10 }
        });
        let pair = Pair { id: "1".to_owned(), sides: [chosen, rejected] };
        let loss = DirectLoss {
            objective: Objective::Sigmoid,
            beta: 0.1,
            smoothing: 0.0,
            gamma_over_beta: 0.0,
            entropy: 0.0,
            likelihood: 0.0,
        };
        for _ in 0..2 {
            direct::accumulate(b, &mut state, &[&pair], &[[-9.0, -9.0]], &loss);
        }
    }
}

#[test]
fn direct_preference_optimisation_takes_what_is_counted() {
    let specs = specs();
    for (at, recompute) in [(0, Recompute::Block), (1, Recompute::None)] {
        let what = format!("model {at}, {recompute:?}");
        check(&what, DType::Bf16, &Direct(&specs[at], recompute));
    }
}

struct Labelled<'a>(&'a Spec, Recompute);

impl Computation for Labelled<'_> {
    fn run<B: Backend>(&self, b: &B) {
        let Labelled(spec, recompute) = self;
        let model: Model<B> = model(b, spec, HeadKind::Language);
        let mut state =
            TrainState::new(b, &model, Trainable::above(spec, 1)).unwrap().with(*recompute);
        let [own, other] = [100, 90].map(|length| {
            let tokens = sequences(spec, &[length]).pop().unwrap();
            Referenced { answer: Answered { tokens, prompt: 10 }, reference: -9.0 }
        });
        let row = LabelledRow { own, mismatched: Some(other), desirable: true };
        let loss = KtoLoss { beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0 };
        for _ in 0..2 {
            kto::accumulate(b, &mut state, &[&row], &loss);
        }
    }
}

#[test]
fn kahneman_tversky_optimisation_takes_what_is_counted() {
    let specs = specs();
    for (at, recompute) in [(0, Recompute::Block), (1, Recompute::None)] {
        let what = format!("model {at}, {recompute:?}");
        check(&what, DType::Bf16, &Labelled(&specs[at], recompute));
    }
}

/// A step of PPO on four prompts, with the lowest four of five blocks frozen and shared by policy,
/// reference, reward model and critic.
struct Reinforced<'a> {
    spec: &'a Spec,
    separate: bool,
    recompute: Recompute,
}

impl Computation for Reinforced<'_> {
    fn run<B: Backend>(&self, b: &B) {
        let spec = self.spec;
        let (prompt, new) = (28, 4);
        let trainable = Trainable::frozen_fraction(spec, 0.8);
        let reference: Model<B> = model(b, spec, HeadKind::Language);
        let head = |top| scalar_head(spec, top, ScalarInit::Normal, 1).unwrap();
        let reward = reference.trainable_copy(b, &trainable).with_scalar(b, head(HeadKind::Reward));
        let state = |model: &Model<B>| {
            TrainState::new(b, model, trainable.clone()).unwrap().with(self.recompute)
        };
        let (policy, critic) = match self.separate {
            true => {
                let top = if spec.tied { HeadKind::LanguageAndValue } else { HeadKind::Value };
                let critic = state(&reward.with_scalar(b, head(top)));
                (state(&reference), Critic::Separate(Box::new(critic)))
            }
            false => {
                let policy = reference.with_scalar(b, head(HeadKind::LanguageAndValue));
                (state(&policy), Critic::Shared)
            }
        };
        let mut ppo = Ppo::new(b, policy, critic, 0.1, None);
        let prompts = sequences(spec, &[prompt; 4]);
        let limits = Limits { rows: 4, positions: 4 * 2 * BLOCK };
        let samples = sampled(b, &ppo.policy.model, &prompts, 1, new, limits);
        let rollout = |(prompt, mut samples): (Vec<u32>, Vec<Sample>)| {
            let Sample { tokens, logprobs, ended } = samples.pop().unwrap();
            Rollout::sampled(&prompt, &tokens, logprobs, ended)
        };
        let mut rollouts: Vec<Rollout> = prompts.into_iter().zip(samples).map(rollout).collect();
        let judged: Vec<Vec<u32>> =
            rollouts.iter().map(|rollout| [rollout.tokens.as_slice(), &[2]].concat()).collect();
        let config = optimiser();
        let settings = Settings {
            steps: 1,
            minibatches: 1,
            epochs: 2,
            rollouts: RolloutSettings {
                temperature: 1.0,
                max_new_tokens: new,
                pad: 0,
                conventions: Default::default(),
            },
            adaptive: None,
            policy_clip: PolicyClip::default(),
            value_clip: ValueClip::default(),
            value_warmup: 0,
            value_head_ratio: 1.0,
            optimiser: &config,
            seed: 0,
            options: Options::default(),
        };
        let normalisation = Normalisation::IDENTITY;
        let frozen = FrozenModels { reference: &reference, reward: Some((&reward, normalisation)) };
        ppo.step(0, &mut rollouts, (&judged, &[]), &frozen, &settings).unwrap();
    }
}

#[test]
fn ppo_with_the_lowest_four_fifths_frozen_takes_what_is_counted() {
    let specs = specs().map(|spec| Spec { layers: 5, ..spec });
    for (at, separate, recompute) in
        [(0, true, Recompute::None), (1, false, Recompute::Block), (2, true, Recompute::Block)]
    {
        let what = format!("model {at}, separate: {separate}, {recompute:?}");
        check(&what, DType::Bf16, &Reinforced { spec: &specs[at], separate, recompute });
    }
}

/// `count` samples of `new` tokens of each prompt.
fn sampled<B: Backend>(
    b: &B,
    model: &Model<B>,
    prompts: &[Vec<u32>],
    count: usize,
    new: usize,
    limits: Limits,
) -> Vec<Vec<Sample>> {
    let options = GenerateOptions {
        samples_per_prompt: count,
        max_new_tokens: new,
        sampling: Sampling::plain(1.0),
        ends: &[],
        limits,
        ..options()
    };
    generate(b, model, prompts, &options, &mut |_, _| Ok(())).unwrap()
}

struct Generation<'a> {
    spec: &'a Spec,
    samples: usize,
}

impl Computation for Generation<'_> {
    fn run<B: Backend>(&self, b: &B) {
        let model = model(b, self.spec, HeadKind::Language);
        let prompts = sequences(self.spec, &vec![2 * BLOCK; 16 / self.samples]);
        // A sample goes on in a separate block, which is the third of its text.
        let positions = prompts.len() * (2 + self.samples) * BLOCK;
        let limits = Limits { rows: 16, positions };
        sampled(b, &model, &prompts, self.samples, 3, limits);
    }
}

#[test]
fn generation_takes_what_is_counted() {
    let specs = specs();
    for (kind, at, samples) in [(DType::Bf16, 0, 1), (DType::Bf16, 1, 4), (DType::F32, 2, 4)] {
        let what = format!("model {at}, {samples} samples");
        check(&what, kind, &Generation { spec: &specs[at], samples });
    }
}
