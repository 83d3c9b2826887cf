//! The operations of a back end, one file and one trait per family. A file has the structs of
//! arguments, the documentation of each operation, and the check of its arguments.
//!
//! An operation `f` is a provided method that checks its arguments and calls `f_unchecked`. A back
//! end implements `f_unchecked` and can rely on the shapes; only callers use `f`. An operation of
//! more than six arguments takes them as a struct with the operation's name. The order of its
//! fields is outputs, inputs, sizes.
//!
//! The set is closed: new algorithms of training are made of these operations, and new losses are
//! functions on host numbers or part of [`crate::losses`].

mod activation;
mod attention;
mod cache;
mod layer_norm;
mod linear;
mod norm;
mod optimiser;
mod rotary;
mod rows;
mod sampling;
mod token;

pub use activation::{Activation, ActivationOps};
pub use attention::{Attention, AttentionBackward, AttentionOps, Heads, Mask};
pub use cache::{BLOCK, CacheOps, CacheView};
pub use layer_norm::{LayerNorm, LayerNormBackward, LayerNormOps, LayerNormResidual};
pub use linear::{
    Epilogue, GROUP, Linear, LinearBackwardInput, LinearBackwardWeight, LinearOps, Projection,
    linear_in_passes,
};
pub use norm::{NormOps, RmsNorm, RmsNormBackward, RmsNormResidual};
pub use optimiser::{AdamW, OptimiserOps};
pub use rotary::{Rotary, RotaryOps, RotaryPair};
pub use rows::RowOps;
pub use sampling::{NO_TOKEN, Sampling, SamplingOps};
pub use token::{TokenLogprobs, TokenLogprobsBackward, TokenOps, TokenScoresBackward};
