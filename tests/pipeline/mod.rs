//! The pipeline language, tried on stage kinds that make nothing.

#![expect(clippy::unwrap_used)]

mod extends;
mod held_out;
mod keys;
mod learning;
mod lengths;
mod memory;
mod mistakes;
mod noise;
mod recipes;
mod replay;
mod select;
mod sweeps;
mod toys;
mod values;
