//! The optimiser: which tensors it moves, their gradients and moments, clipping by global norm, and
//! one AdamW step. Knows no loss.
//!
//! 1. AdamW with decoupled weight decay on matrices only; norms and biases are not decayed.
//! 2. The global norm is over all trained tensors, before clipping; the scale is `clip / norm`
//!    where the norm exceeds `clip`.
//! 3. The scalar head may learn faster than the trunk: `scalar_head_ratio` multiplies its learning
//!    rate.
//! 4. Frozen tensors have no gradient, no moments, and stay shared with the model they came from.
//! 5. Adam counts updates per tensor, as PyTorch does: a tensor that an update leaves out keeps its
//!    value, its moments and its count, so that its first update is corrected as a first one.
//! 6. Where weights are stored in fewer digits than sums have, a tensor that trains has a master in
//!    the wide precision: a step is often smaller than the least that would change a stored weight.
//!    Each step moves the master, and what the model computes with is that, rounded. Checkpoints
//!    and the finished model hold masters, and masters begin with what the model's file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::schedule::Schedule;
use crate::backend::{AdamW, Backend, Sizes};
use crate::check::{Checks, Problem};
use crate::error::{Context, Failure, Kind, Result};
use crate::model::batch::Batch;
use crate::model::checkpoint;
use crate::model::memory::Memory;
use crate::model::params::{Params, Role, Slot, Trainable};
use crate::model::transformer::{self, Activations, Recompute};
use crate::model::weights::{Gradients, Model, unique};
use crate::rl::Metrics;
use crate::rl::sentinels::table::FROZEN_MOVEMENT;

/// The `optimiser:` part of a training stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Schedule of the learning rate.
    #[serde(default)]
    pub schedule: Schedule,
    /// Decay of the first moment (Adam).
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// Decay of the second moment (Adam).
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// Number that is added to the root of the second moment.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Decoupled weight decay, of matrices alone.
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest global gradient norm; `null` does not clip.
    #[serde(default = "clip_norm")]
    pub clip_norm: Option<f64>,
}

fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.999
}
fn epsilon() -> f64 {
    1e-8
}
fn clip_norm() -> Option<f64> {
    Some(1.0)
}

impl OptimiserConfig {
    /// Values out of range, for fields below `optimiser`.
    pub fn problems(&self) -> Vec<Problem> {
        let unit = |value: f64| (0.0..=1.0).contains(&value);
        let mut checks = Checks::default();
        checks
            .require(
                self.learning_rate >= 0.0 && self.learning_rate <= 10.0,
                "optimiser.learning_rate",
                "expected a rate from 0 to 10",
            )
            .require(
                (0.0..1.0).contains(&self.beta1),
                "optimiser.beta1",
                "expected at least 0 and below 1",
            )
            .require(
                (0.0..1.0).contains(&self.beta2),
                "optimiser.beta2",
                "expected at least 0 and below 1",
            )
            .require(self.epsilon > 0.0, "optimiser.epsilon", "expected a number above 0")
            .require(
                unit(self.weight_decay),
                "optimiser.weight_decay",
                "expected a number from 0 to 1",
            )
            .require(
                self.clip_norm.is_none_or(|norm| norm > 0.0),
                "optimiser.clip_norm",
                "expected a number above 0, or null",
            );
        if let Some((field, message)) = self.schedule.problem() {
            checks.require(false, &format!("optimiser.schedule.{field}"), message);
        }
        checks.done()
    }

    /// The learning rate of step `step` (0 is the first) of `total`.
    pub fn rate(&self, step: usize, total: usize) -> f64 {
        self.schedule.rate(self.learning_rate, step, total)
    }
}

/// A model in training.
pub struct TrainState<B: Backend> {
    /// The model; tensors that train are shared with no other model.
    pub model: Model<B>,
    /// Which of its tensors train.
    pub trainable: Trainable,
    /// What its backward passes make again.
    pub recompute: Recompute,
    /// Gradients, added up since the last [`TrainState::clear_gradients`].
    pub gradients: Gradients<B>,
    /// Of tensors that train, where the back end stores narrow numbers; else the model's tensors
    /// are their own.
    masters: Params<Option<B::Buf>>,
    pub(super) first: Params<Option<B::Buf>>,
    pub(super) second: Params<Option<B::Buf>>,
    /// Updates that each tensor has had.
    updates: Params<u64>,
    /// The folder that the model was loaded from, where it was.
    origin: Option<PathBuf>,
}

impl<B: Backend> TrainState<B> {
    /// Takes a model into training: trained tensors are copied, frozen ones stay shared.
    pub fn new(b: &B, model: &Model<B>, trainable: Trainable) -> Result<Self> {
        trainable.check(&model.spec)?;
        let model = model.trainable_copy(b, &trainable);
        let slots = model.slots();
        let zeros =
            || slots.as_ref().map(|slot| trainable.trains(slot).then(|| b.wide(slot.count())));
        let (first, second, gradients) =
            (zeros(), zeros(), Gradients::zeros(b, &model, &trainable));
        let has_master = |slot: &Slot| b.sizes().is_narrow() && trainable.trains(slot);
        let masters = slots
            .zip(model.weights.as_ref())
            .map(|(slot, weight)| has_master(&slot).then(|| b.upload_wide(&b.download(weight))));
        let updates = first.as_ref().map(|_| 0);
        Ok(TrainState {
            model,
            trainable,
            recompute: Recompute::None,
            gradients,
            masters,
            first,
            second,
            updates,
            origin: None,
        })
    }

    /// The same, whose backward passes make again what `recompute` says.
    pub fn with(self, recompute: Recompute) -> Self {
        TrainState { recompute, ..self }
    }

    /// With masters that begin with all digits of the model's tensors in `folder`, which it was
    /// loaded from; so that training goes on from what was saved. A scalar head, which is new or of
    /// another scale, keeps its own. Nothing is read where the back end's numbers have as many
    /// digits.
    pub fn with_masters_of(mut self, b: &B, folder: &Path) -> Result<Self> {
        let slots = self.model.slots().into_vec().into_iter();
        let masters =
            slots.zip(self.masters.iter_mut()).filter(|(slot, _)| slot.role != Role::Scalar);
        let mut masters: BTreeMap<String, &mut B::Buf> =
            masters.filter_map(|(slot, master)| Some((slot.name, master.as_mut()?))).collect();
        if !masters.is_empty() {
            let wanted: BTreeSet<String> = masters.keys().cloned().collect();
            let take = |slot: &Slot, numbers: Vec<f32>| {
                **masters.get_mut(&slot.name).expect("it was wanted") = b.upload_wide(&numbers)
            };
            checkpoint::read_some(folder, |slot| wanted.contains(&slot.name), take)?;
        }
        self.origin = Some(folder.to_owned());
        Ok(self)
    }

    /// [`FROZEN_MOVEMENT`], where it is not 0: the norm of the difference between the tensors that
    /// do not train and those of the folder that the model was loaded from, as the back end stores
    /// them. Scalar heads, which a folder need not have, are left out. Nothing of a model that was
    /// not loaded.
    ///
    /// # Errors
    /// Those of reading the folder; a bug, if it lacks a tensor.
    pub fn frozen_movement(&self, b: &B) -> Result<Metrics> {
        let Some(folder) = &self.origin else { return Ok(Vec::new()) };
        let slots = self.model.slots().into_vec().into_iter().zip(self.model.weights.iter());
        let is_frozen = |slot: &Slot| !self.trainable.trains(slot) && slot.role != Role::Scalar;
        let mut frozen: BTreeMap<String, &B::Buf> = slots
            .filter(|(slot, _)| is_frozen(slot))
            .map(|(slot, weight)| (slot.name, weight.as_ref()))
            .collect();
        let wanted: BTreeSet<String> = frozen.keys().cloned().collect();
        let mut squares = 0.0;
        let take = |slot: &Slot, numbers: Vec<f32>| {
            let own = b.download(frozen.remove(&slot.name).expect("it was wanted"));
            squares += squared_distance(&own, &b.download(&b.upload(&numbers)));
        };
        checkpoint::read_some(folder, |slot| wanted.contains(&slot.name), take)?;
        if let Some(name) = frozen.keys().next() {
            let message = format!("{} has no tensor for {name}", folder.display());
            return Err(Failure::new(Kind::Bug, message).into());
        }
        Ok(match squares == 0.0 {
            true => Vec::new(),
            false => vec![(FROZEN_MOVEMENT, squares.sqrt())],
        })
    }

    /// The model with all digits of what it has learned: to be written. Where the back end stores
    /// narrow numbers, it cannot be run.
    pub fn finished(self) -> Model<B> {
        let mut model = self.model;
        for (weight, master) in model.weights.iter_mut().zip(self.masters.into_vec()) {
            if let Some(master) = master {
                *weight = Arc::new(master);
            }
        }
        model
    }

    /// The bytes of its parts, except the model's.
    pub fn memory(&self, b: &B) -> Memory {
        let numbers = |tensors: &Params<Option<B::Buf>>| -> usize {
            tensors.iter().flatten().map(|tensor| b.len(tensor)).sum()
        };
        let Sizes { wide, host, .. } = b.sizes();
        let (first, second) = (numbers(&self.first), numbers(&self.second));
        let bytes = |numbers: usize, size: usize| (numbers * size) as u64;
        Memory {
            masters: bytes(numbers(&self.masters), wide),
            gradients: bytes(self.gradients.count(b), wide),
            moments: bytes(first + second, wide),
            // The trained tensors and both moments.
            checkpoint: bytes(2 * first + second, host),
            ..Memory::default()
        }
    }

    /// The forward pass over `batch` that a backward pass follows.
    pub fn forward(&self, b: &B, batch: &Batch) -> Activations<B> {
        let x = transformer::trunk(b, &self.model, batch, self.trainable.first_layer());
        self.forward_from(b, x, batch)
    }

    /// The same from `x[n,d]`, the input of the first block that trains.
    pub fn forward_from(&self, b: &B, x: B::Buf, batch: &Batch) -> Activations<B> {
        let TrainState { model, trainable, recompute, .. } = self;
        transformer::forward(b, model, x, batch, trainable.first_layer(), Some(*recompute))
    }

    /// `[n,e]` zeros, for the gradient of a batch's last hidden states.
    pub fn hidden_gradient(&self, b: &B, batch: &Batch) -> B::Buf {
        b.zeros(batch.rows() * self.model.spec.embedding_width)
    }

    /// Adds to the gradients the backward pass of `activations`, from `dhidden[n,e]`.
    pub fn backward(
        &mut self,
        b: &B,
        batch: &Batch,
        activations: &Activations<B>,
        dhidden: &B::Buf,
    ) {
        let TrainState { model, gradients, trainable, .. } = self;
        transformer::backward(b, model, batch, activations, dhidden, gradients, trainable);
    }

    /// Gradients to zero.
    pub fn clear_gradients(&mut self, b: &B) {
        self.gradients.clear(b);
    }

    /// One optimiser step at `learning_rate`; returns the global gradient norm before clipping.
    /// Tensors for which `moves` is false keep their values, their moments and their count of
    /// updates.
    pub fn update(
        &mut self,
        b: &B,
        config: &OptimiserConfig,
        learning_rate: f64,
        scalar_head_ratio: f64,
        moves: impl Fn(&Slot) -> bool,
    ) -> f64 {
        self.update_beside(b, config, learning_rate, scalar_head_ratio, 0.0, moves)
    }

    /// [`TrainState::update`] of one part of what trains: `squares` is the sum of squares of all
    /// gradients of the other parts, which the global norm counts as well.
    pub fn update_beside(
        &mut self,
        b: &B,
        config: &OptimiserConfig,
        learning_rate: f64,
        scalar_head_ratio: f64,
        squares: f64,
        moves: impl Fn(&Slot) -> bool,
    ) -> f64 {
        let slots = self.model.slots();
        let gradients = self.gradients.total(b);
        let moved = slots.iter().zip(gradients.iter()).filter(|(slot, _)| moves(slot));
        let squared: Vec<&B::Buf> = moved.filter_map(|(_, gradient)| gradient.as_ref()).collect();
        let norm = (b.sums_of_squares(&squared).into_iter().sum::<f64>() + squares).sqrt();
        let gradient_scale = match config.clip_norm {
            Some(clip) if norm > clip => clip / norm,
            _ => 1.0,
        };
        let moments =
            self.first.iter_mut().zip(self.second.iter_mut()).zip(self.updates.iter_mut());
        let tensors = self
            .model
            .weights
            .iter_mut()
            .zip(self.masters.iter_mut())
            .zip(gradients.iter())
            .zip(moments);
        for (slot, (((weight, master), gradient), ((first, second), updates))) in
            slots.iter().zip(tensors)
        {
            let (Some(gradient), Some(first), Some(second)) = (gradient, first, second) else {
                continue;
            };
            if !moves(slot) {
                continue;
            }
            *updates += 1;
            let ratio = if slot.role == Role::Scalar { scalar_head_ratio } else { 1.0 };
            let step = AdamW {
                learning_rate: learning_rate * ratio,
                beta1: config.beta1,
                beta2: config.beta2,
                epsilon: config.epsilon,
                weight_decay: if slot.decay { config.weight_decay } else { 0.0 },
                step: *updates,
                gradient_scale,
            };
            match master {
                Some(master) => {
                    b.adamw(master, Some(unique(weight)), first, second, gradient, step)
                }
                None => b.adamw(unique(weight), None, first, second, gradient, step),
            }
        }
        norm
    }
}

/// The sum of squared differences.
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let squared = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    a.iter().zip(b).map(squared).sum()
}

/// The parts of a training state that a checkpoint keeps, by name.
const WEIGHT: &str = "weight";
const FIRST: &str = "first";
const SECOND: &str = "second";

impl<B: Backend> TrainState<B> {
    /// The trained tensors on the host, with all digits that the optimiser has.
    pub fn trained(&self, b: &B) -> Vec<Vec<f32>> {
        let tensors = self.model.weights.iter().zip(self.masters.iter()).zip(self.first.iter());
        let trained = tensors.filter(|(_, first)| first.is_some());
        trained.map(|((weight, master), _)| b.download(master.as_ref().unwrap_or(weight))).collect()
    }

    /// Sets the trained tensors to what [`TrainState::trained`] gave. Moments stay.
    ///
    /// # Panics
    /// If there is not one for each tensor that trains.
    pub fn set_trained(&mut self, b: &B, tensors: &[Vec<f32>]) {
        let mut tensors = tensors.iter();
        let own = self.model.weights.iter_mut().zip(self.masters.iter_mut());
        for ((weight, master), first) in own.zip(self.first.iter()) {
            if first.is_none() {
                continue;
            }
            let tensor = tensors.next().expect("there is one for each tensor that trains");
            *unique(weight) = b.upload(tensor);
            if let Some(master) = master {
                *master = b.upload_wide(tensor);
            }
        }
        assert!(tensors.next().is_none(), "there is one for each tensor that trains");
    }

    /// Puts the trained tensors and their moments into a checkpoint, under `name`.
    pub fn save(&self, b: &B, name: &str, archive: &mut Archive) {
        let slots = self.model.slots();
        let moments = self.first.iter().zip(self.second.iter());
        let tensors = self.model.weights.iter().zip(self.masters.iter()).zip(moments);
        for (slot, ((weight, master), (first, second))) in slots.iter().zip(tensors) {
            let (Some(first), Some(second)) = (first, second) else { continue };
            for (part, tensor) in
                [(WEIGHT, master.as_ref().unwrap_or(weight)), (FIRST, first), (SECOND, second)]
            {
                archive.put(format!("{name}.{part}.{}", slot.name), b.download(tensor));
            }
        }
        let updates: Vec<String> = self.updates.iter().map(u64::to_string).collect();
        archive.put_text(&format!("{name}.updates"), updates.join(" "));
    }

    /// Takes them back.
    pub fn load(&mut self, b: &B, name: &str, archive: &Archive) -> Result<()> {
        let slots = self.model.slots();
        let moments = self.first.iter_mut().zip(self.second.iter_mut());
        let tensors = self.model.weights.iter_mut().zip(self.masters.iter_mut()).zip(moments);
        for (slot, ((weight, master), (first, second))) in slots.iter().zip(tensors) {
            let (Some(first), Some(second)) = (first, second) else { continue };
            let part =
                |part: &str| archive.get_of(&format!("{name}.{part}.{}", slot.name), slot.count());
            *unique(weight) = b.upload(part(WEIGHT)?);
            if let Some(master) = master {
                *master = b.upload_wide(part(WEIGHT)?);
            }
            (*first, *second) = (b.upload_wide(part(FIRST)?), b.upload_wide(part(SECOND)?));
        }
        let counts = archive
            .text(&format!("{name}.updates"))?
            .split(' ')
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>();
        let counts = counts.context("a checkpoint's counts of updates are numbers")?;
        for (at, updates) in self.updates.iter_mut().enumerate() {
            *updates =
                *counts.get(at).context("a checkpoint has a count of updates for each tensor")?;
        }
        Ok(())
    }
}
