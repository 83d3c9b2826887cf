//! The stages, each alone: on inputs that no other stage had a hand in, so that a change in one
//! shows in one.

#![expect(clippy::unwrap_used)]

pub mod bench;
mod curves;
mod datasets;
mod digests;
mod direct;
mod disk;
mod distributions;
mod diverging;
mod effects;
mod equal_quality;
mod evaluation;
pub mod fixture;
mod groups;
mod invariants;
mod kl_stops;
mod labelled;
mod lineage;
mod merge;
mod metric_validation;
mod optimum;
mod own_metrics;
mod ppo_options;
mod quality;
mod replay;
mod resuming;
mod reward_pairs;
mod rewards;
mod sampling;
mod seeds;
mod sentinels;
mod shared;
pub mod sheets;
mod similarity;
mod supervised;
mod training;
mod trajectories;
mod validation;
