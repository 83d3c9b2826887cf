//! An exponential moving average of the weights that train. Knows no loss.
//!
//! 1. The average begins as the weights before the first step. After each step it is `decay` times
//!    itself plus `1 - decay` times the weights (Tarvainen and Valpola 2017, "Mean teachers").
//! 2. It takes no part in training. It is what is validated, and what is written in the end.
//! 3. It is on the host, in single precision, computed in double precision number by number: no
//!    number depends on another, so threads change no bit. It is in every checkpoint.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::optimiser::TrainState;
use crate::backend::Backend;
use crate::check::Checks;
use crate::error::{Context, Result};

/// The `average:` part of a training stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AverageConfig {
    /// Weight of the average so far in the next one; about 1 / (1 - decay) steps count.
    pub decay: f64,
}

impl AverageConfig {
    /// Notes a value out of range, below `average`.
    pub fn check(config: &Option<Self>, checks: &mut Checks) {
        checks.require(
            config.is_none_or(|config| config.decay > 0.0 && config.decay < 1.0),
            "average.decay",
            "expected a number above 0 and below 1",
        );
    }
}

/// The average of the tensors that train.
pub(super) struct Average {
    decay: f64,
    tensors: Vec<Vec<f32>>,
}

impl Average {
    /// That of no step.
    pub(super) fn new<B: Backend>(b: &B, config: AverageConfig, state: &TrainState<B>) -> Self {
        Average { decay: config.decay, tensors: state.trained(b) }
    }

    /// Takes the weights after a step into account.
    pub(super) fn follow<B: Backend>(&mut self, b: &B, state: &TrainState<B>) {
        let weights = state.trained(b);
        self.tensors.iter_mut().zip(&weights).for_each(|(average, weights)| {
            average.par_iter_mut().zip(weights).for_each(|(average, weight)| {
                *average = mean(self.decay, *average, *weight);
            });
        });
    }

    /// Exchanges the average and the state's weights.
    pub(super) fn exchange<B: Backend>(&mut self, b: &B, state: &mut TrainState<B>) {
        let weights = state.trained(b);
        state.set_trained(b, &self.tensors);
        self.tensors = weights;
    }

    /// Puts it into a checkpoint.
    pub(super) fn save(&self, archive: &mut Archive) {
        for (at, tensor) in self.tensors.iter().enumerate() {
            archive.put(format!("average.{at}"), tensor.clone());
        }
    }

    /// Takes it back.
    pub(super) fn load(&mut self, archive: &Archive) -> Result<()> {
        for (at, tensor) in self.tensors.iter_mut().enumerate() {
            let saved = archive.get(&format!("average.{at}"));
            *tensor = saved.context("a checkpoint has the average of weights")?.to_vec();
        }
        Ok(())
    }
}

fn mean(decay: f64, average: f32, weight: f32) -> f32 {
    (decay * f64::from(average) + (1.0 - decay) * f64::from(weight)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 1, with the weights 2 and 4: 0.75 + 0.25 x 2 = 1.25; 0.9375 + 0.25 x 4 = 1.9375.
    #[test]
    fn an_average_is_a_mean_of_itself_and_the_weights() {
        let first = mean(0.75, 1.0, 2.0);
        assert_eq!((first, mean(0.75, first, 4.0)), (1.25, 1.9375));
    }
}
