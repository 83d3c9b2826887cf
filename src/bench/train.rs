//! Training steps: tokens a second of the shipped loop, forward, backward and optimiser.
//! Independent of data.

use super::models::{self, Size};
use super::{Bench, Row};
use crate::backend::Backend;
use crate::data::tokenised::Tokenised;
use crate::error::Result;
use crate::model::params::HeadKind;
use crate::train::language::accumulate;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::schedule::Schedule;

/// Sequences of a step, and their tokens.
const BATCH: (usize, usize) = (8, 1024);

/// The optimiser that every benchmark steps with.
pub fn optimiser() -> OptimiserConfig {
    OptimiserConfig {
        learning_rate: 1e-6,
        schedule: Schedule::default(),
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: Some(1.0),
    }
}

/// A step of one size.
pub fn run<B: Backend>(bench: &Bench<'_, B>, size: &Size) -> Result<Vec<Row>> {
    let (count, length) = if bench.options.quick { (2, 9) } else { BATCH };
    let b = bench.b;
    let mut state = TrainState::new(
        b,
        &size.model(b, bench.options, HeadKind::Language),
        size.trainable.clone(),
    )?;
    let rows: Vec<Tokenised> = models::sequences(&size.spec, count, length)
        .into_iter()
        .map(|tokens| Tokenised { tokens, ..Tokenised::default() })
        .collect();
    let batch: Vec<&Tokenised> = rows.iter().collect();
    let config = optimiser();
    let timing = bench.time(&mut || {
        state.clear_gradients(b);
        accumulate(b, &mut state, &batch);
        state.update(b, &config, config.learning_rate, 1.0, |_| true);
    });
    let (tokens, operations) = ((count * length) as f64, size.operations(length));
    let shape = format!("{}, {count} x {length}", size.name);
    Ok(vec![Row {
        what: "training step".into(),
        shape,
        timing,
        operations: operations * tokens,
        bytes: 0.0,
        tokens,
    }])
}
