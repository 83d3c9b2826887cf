//! Validation during training: figures of the model on rows that it does not learn from, and which
//! step's model is kept. Knows no rows.
//!
//! 1. The model is measured after every `every`-th step and after the last one. A figure's name in
//!    `metrics.jsonl` is that of the training figure below `validation/`.
//! 2. The best step is the first with the lowest validation loss, or the highest score. Its trained
//!    tensors are on the host, with all digits that the optimiser has, and in every checkpoint: a
//!    run that was stopped keeps the same step.

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::optimiser::TrainState;
use super::steps::State;
use crate::backend::Backend;
use crate::error::{Context, Result};
use crate::rl::Metrics;

/// Mean loss on the validation rows.
pub const LOSS: &str = "validation/loss";
/// Mean score of a policy's responses to the validation prompts.
pub const SCORE: &str = "validation/score";

/// Whether a higher value of a validation figure is better.
pub fn is_higher_better(figure: &str) -> bool {
    figure == SCORE
}

/// The `validation:` part of a training stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// Split of `dataset` that the model is measured on, and never learns from.
    pub split: String,
    /// Number of steps from one measurement to the next; the last step is always measured.
    pub every: usize,
    /// Step whose model is the artefact.
    #[serde(default)]
    pub keep: Keep,
}

/// Which step's model is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The measured step with the lowest validation loss, or the highest score; the first of
    /// equals.
    #[default]
    Best,
    /// The last step.
    Last,
}

/// How a run measures its model.
pub struct Validator<'a, B: Backend> {
    /// Steps from one measurement to the next.
    pub every: usize,
    /// Which step's model is kept.
    pub keep: Keep,
    /// The figure that decides which step is the best: [`LOSS`] or [`SCORE`].
    pub by: &'static str,
    /// Gives the figures of the model on the validation rows, `by` among them.
    pub measure: &'a dyn Fn(&TrainState<B>) -> Result<Metrics>,
}

impl<B: Backend> Validator<'_, B> {
    /// Whether the model is measured after `step` of `total` steps.
    pub(super) fn is_due(&self, (step, total): (usize, usize)) -> bool {
        step.is_multiple_of(self.every) || step >= total
    }
}

/// The step whose model is kept, from 1, and the figure that decided it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    /// The step.
    pub step: usize,
    /// The validator's figure after it.
    pub value: f64,
}

/// The best step so far, with its trained tensors.
#[derive(Default)]
pub(super) struct Best(Option<(Kept, Vec<Vec<f32>>)>);

impl Best {
    /// Measures the model after `step` of `total` steps, where it is due; takes note of a step that
    /// is better than those before.
    ///
    /// # Errors
    /// Those of the measurement.
    pub(super) fn after<B: Backend>(
        &mut self,
        b: &B,
        validator: &Validator<'_, B>,
        state: &TrainState<B>,
        (step, total): (usize, usize),
    ) -> Result<Metrics> {
        if !validator.is_due((step, total)) {
            return Ok(Metrics::new());
        }
        let figures = (validator.measure)(state)?;
        let figure = figures.iter().find(|(name, _)| *name == validator.by);
        let (name, value) = *figure.expect("the figures have the one that decides");
        let is_better = match (&self.0, validator.keep) {
            (None, _) | (_, Keep::Last) => true,
            (Some((best, _)), Keep::Best) if is_higher_better(name) => value > best.value,
            (Some((best, _)), Keep::Best) => value < best.value,
        };
        if is_better {
            let tensors = match validator.keep {
                Keep::Best => state.trained(b),
                Keep::Last => Vec::new(),
            };
            self.0 = Some((Kept { step, value }, tensors));
        }
        Ok(figures)
    }

    /// Gives the model in training the tensors of the step that is kept, which comes back.
    pub(super) fn restore<B: Backend>(self, b: &B, state: &mut TrainState<B>) -> Option<Kept> {
        let (kept, tensors) = self.0?;
        if !tensors.is_empty() {
            state.set_trained(b, &tensors);
        }
        Some(kept)
    }

    /// Puts it into a checkpoint.
    pub(super) fn save(&self, archive: &mut Archive) {
        let Some((Kept { step, value }, tensors)) = &self.0 else { return };
        archive.put_text("best", format!("{step} {} {}", value.to_bits(), tensors.len()));
        for (at, tensor) in tensors.iter().enumerate() {
            archive.put(format!("best.{at}"), tensor.clone());
        }
    }

    /// Takes it back; there is none before the first measurement.
    pub(super) fn load(archive: &Archive) -> Result<Self> {
        let Ok(text) = archive.text("best") else { return Ok(Best(None)) };
        let numbers: Vec<u64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
        let numbers = <[u64; 3]>::try_from(numbers).ok();
        let [step, value, tensors] =
            numbers.context("a checkpoint's best step is three numbers")?;
        let tensor = |at| Ok(archive.get(&format!("best.{at}"))?.to_vec());
        let tensors = (0..tensors).map(tensor).collect::<Result<_>>()?;
        Ok(Best(Some((Kept { step: step as usize, value: f64::from_bits(value) }, tensors))))
    }
}

/// The state of a run, and the best of its steps.
pub struct WithBest<S> {
    /// The run's own state.
    pub run: S,
    best: Best,
}

impl<S> WithBest<S> {
    /// Before the first step.
    pub fn new(run: S) -> Self {
        WithBest { run, best: Best::default() }
    }

    /// Measures the `model` of the run after `step` of `total` steps, where it is due.
    ///
    /// # Errors
    /// Those of the measurement.
    pub fn after<B: Backend>(
        &mut self,
        b: &B,
        validator: &Validator<'_, B>,
        model: impl FnOnce(&S) -> &TrainState<B>,
        steps: (usize, usize),
    ) -> Result<Metrics> {
        self.best.after(b, validator, model(&self.run), steps)
    }

    /// The run, whose `model` has the tensors of the step that is kept.
    pub fn finish<B: Backend>(
        mut self,
        b: &B,
        model: impl FnOnce(&mut S) -> &mut TrainState<B>,
    ) -> (S, Option<Kept>) {
        let kept = self.best.restore(b, model(&mut self.run));
        (self.run, kept)
    }
}

impl<S: State> State for WithBest<S> {
    fn save(&self, archive: &mut Archive) {
        self.run.save(archive);
        self.best.save(archive);
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.best = Best::load(archive)?;
        self.run.load(archive)
    }
}
