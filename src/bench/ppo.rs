//! A whole PPO step by its parts: rollout, scores (reward, reference and values), update. Policy,
//! reference, value head and reward model share the frozen blocks. Independent of texts.

use super::models::{self, Size};
use super::train::optimiser;
use super::{Bench, Row, generate, timing};
use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::model::init::{ScalarInit, scalar_head};
use crate::model::params::HeadKind;
use crate::model::weights::Model;
use crate::rl::ppo::{PolicyClip, ValueClip};
use crate::rl::preference::Normalisation;
use crate::sample::{self, Sample};
use crate::train::critic::Critic;
use crate::train::optimiser::TrainState;
use crate::train::ppo::{Ppo, Settings};
use crate::train::ppo_options::Options;
use crate::train::rollouts::{FrozenModels, Rollout, RolloutSettings};

/// Prompts of a step, their tokens, and those of a response.
const BATCH: (usize, usize, usize) = (32, 448, 64);
/// Times through the responses, and optimiser steps each time.
const UPDATES: (usize, usize) = (2, 2);

/// The parts of a step, in order; the last is the whole.
const PARTS: [&str; 4] = ["rollout", "scores", "update", "ppo step"];

/// A step of one size.
pub fn run<B: Backend>(bench: &Bench<'_, B>, size: &Size) -> Result<Vec<Row>> {
    let (b, clock) = (bench.b, bench.options.clock);
    let (count, prompt, new) = if bench.options.quick { (3, 7, 4) } else { BATCH };
    let reference = size.model(b, bench.options, HeadKind::Language);
    let head = |kind| {
        scalar_head(&size.spec, kind, ScalarInit::Normal, 1)
            .context("a reward model has a scalar head")
    };
    let reward =
        reference.trainable_copy(b, &size.trainable).with_scalar(b, head(HeadKind::Reward)?);
    let policy = reference.with_scalar(b, head(HeadKind::LanguageAndValue)?);
    let state = TrainState::new(b, &policy, size.trainable.clone())?;
    let mut ppo = Ppo::new(b, state, Critic::Shared, 0.05, None);
    drop(policy);
    let normalisation = Normalisation::IDENTITY;
    let frozen = FrozenModels { reference: &reference, reward: Some((&reward, normalisation)) };
    let prompts = models::sequences(&size.spec, count, prompt);
    let config = optimiser();
    let settings = |epochs| Settings {
        steps: 100,
        minibatches: UPDATES.1,
        epochs,
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

    let mut times: [Vec<f64>; 4] = Default::default();
    // The first step loads kernels.
    let mut step = 0;
    let begun = clock();
    while step < 2 || step < 6 && clock() - begun < 2.0 * bench.options.seconds {
        let start = clock();
        let mut rollouts = roll_out(b, &ppo.policy.model, &prompts, new)?;
        let rolled = clock();
        let judged: Vec<Vec<u32>> = rollouts.iter().map(|rollout| rollout.tokens.clone()).collect();
        // A step without epochs does all but the update.
        ppo.step(step, &mut rollouts, (&judged, &[]), &frozen, &settings(0))?;
        bench.wait();
        let scored = clock();
        ppo.step(step, &mut rollouts, (&judged, &[]), &frozen, &settings(UPDATES.0))?;
        bench.wait();
        let stepped = clock();
        let (rollout, scoring) = (rolled - start, scored - rolled);
        let update = (stepped - scored - scoring).max(1e-9);
        if step > 0 {
            for (times, part) in
                times.iter_mut().zip([rollout, scoring, update, rollout + stepped - scored])
            {
                times.push(part);
            }
        }
        step += 1;
    }
    let tokens = (count * (prompt + new)) as f64;
    let row = |(what, times): (&str, Vec<f64>)| Row {
        what: what.into(),
        shape: format!(
            "{}, {count} x ({prompt} + {new}), {} updates",
            size.name,
            UPDATES.0 * UPDATES.1
        ),
        timing: timing::of(times, 1),
        operations: 0.0,
        bytes: 0.0,
        tokens,
    };
    Ok(PARTS.into_iter().zip(times).map(row).collect())
}

/// One response a prompt, not scored yet.
fn roll_out<B: Backend>(
    b: &B,
    policy: &Model<B>,
    prompts: &[Vec<u32>],
    new: usize,
) -> Result<Vec<Rollout>> {
    let samples =
        sample::generate(b, policy, prompts, &generate::options(new), &mut |_, _| Ok(()))?;
    let rollout = |(prompt, mut samples): (&Vec<u32>, Vec<Sample>)| {
        let Sample { tokens, logprobs, ended } = samples.pop().expect("one sample a prompt");
        Rollout::sampled(prompt, &tokens, logprobs, ended)
    };
    Ok(prompts.iter().zip(samples).map(rollout).collect())
}
