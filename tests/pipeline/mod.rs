//! The pipeline language, tried on stage kinds that make nothing.

mod mistakes;
mod sweeps;
mod toys;
mod values;
