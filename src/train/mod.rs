//! Training: the optimiser, learning-rate schedules, the loop of steps with checkpoints and resume,
//! the language-model loss. Knows models and batches; not where rows come from or what a stage is.

pub mod archive;
pub mod language;
pub mod optimiser;
pub mod pairs;
pub mod ppo;
pub mod schedule;
pub mod steps;
mod trunk;
