//! The contract every back end fulfils: contiguous buffers (`buffers.rs`), about thirty operations
//! in families ([`ops`]) and losses of tokens (`losses.rs`). No file, no config, no clock, no model
//! family.
//!
//! Conventions. Argument order is outputs, inputs, sizes. Every matrix is row-major and contiguous.
//! `+=` in a doc means that the operation adds to what the output holds; otherwise the output is
//! overwritten. Shapes are asserted at entry, in release too, once for all back ends.
//!
//! Letters: `n` rows (tokens of all sequences of a batch, packed one after the other, no padding),
//! `d` model width, `e` width of embeddings (mostly `d`), `i`/`o` input and output width of a
//! linear layer, `h` query heads, `g` key/value heads, `c` channels of a head, `v` vocabulary, `m`
//! scored positions.
//!
//! Numerics that callers rely on, on every back end:
//! 1. A row's result depends on that row's inputs alone, bit for bit: never on the other rows of
//!    the batch, or on the thread count.
//! 2. Gradients of weights are sums over rows in row order, continued from what the output holds,
//!    so that two calls on two halves of a batch give the same bits as one call on the whole. Where
//!    factors are stored in a narrow precision, a back end may add rows up in groups of
//!    [`ops::GROUP`]: then this holds for halves that are cut at a multiple of it.
//! 3. `attention` on a whole sequence and `attention_cached` on the same keys give the same bits
//!    for the same query.
//! 4. The doc of a fused operation names its parts; a back end without a fused kernel does them one
//!    after the other. The bits are the same, except for a residual that is added to a wide sum
//!    (`linear_with`).
//!
//! Precision. A back end stores weights, activations and their gradients, keys and values in one
//! precision, and computes and adds up in a wider one, or in the same. The name of an argument
//! decides, in every operation, whether its buffer is wide. Wide buffers are statistics (`mean`,
//! `rstd`, `lse`, `logprob`, `dlogprob`, `entropy`), `logits`, angles (`cos`, `sin`), gradients of
//! weights (`dweight`, `dbias`, `dtable`), and what an optimiser keeps (`master`, `first`,
//! `second`, `gradient`), and what losses of tokens read (`old`, `advantage`, `value`, `target`).
//! All others are stored ones; `copy`, `fill`, `add`, `sum_squares`, `gather_rows` and
//! `scatter_add_rows` take either, and `linear` writes either: what it adds up, rounded to what its
//! output holds.
//!
//! ```
//! use posttrain_backend::{cpu::Cpu, ops, prelude::*};
//! // out[n,o] = x[n,i] weight[o,i]^T, of 2 rows, 2 inputs, 1 output.
//! let b = Cpu::<f32>::new();
//! let (x, weight) = (b.upload(&[1.0, 2.0, 3.0, 4.0]), b.upload(&[10.0, 1.0]));
//! let mut out = b.zeros(2);
//! b.linear(ops::Linear { out: &mut out, x: &x, weight: &weight, bias: None, n: 2, i: 2, o: 1 });
//! assert_eq!(b.download(&out), [12.0, 34.0]);
//! ```

use posttrain_base::{error, fs};

mod buffers;
pub mod counting;
pub mod cpu;
pub mod cuda;
mod dtype;
mod losses;
pub mod ops;
mod shapes;

pub use buffers::{Buffers, Sizes};
pub use dtype::DType;
pub use losses::{Losses, RATIO_SUMS, RatioLoss, SQUARE_SUMS, SquareLoss};
pub use ops::{
    Activation, AdamW, BLOCK, CacheView, Epilogue, GROUP, Heads, Mask, NO_TOKEN, Projection,
    Sampling,
};

/// The traits of a back end, for code that names one: a bound `B: Backend` needs no import of
/// them.
pub mod prelude {
    pub use crate::ops::{
        ActivationOps, AttentionOps, CacheOps, LayerNormOps, LinearOps, NormOps, OptimiserOps,
        RotaryOps, RowOps, SamplingOps, TokenOps,
    };
    pub use crate::{Backend, Buffers, Losses};
}

use prelude::*;

/// A device with its buffers, operations and losses. Every type that has them all is a back end.
pub trait Backend:
    RowOps
    + NormOps
    + LayerNormOps
    + LinearOps
    + ActivationOps
    + RotaryOps
    + AttentionOps
    + CacheOps
    + TokenOps
    + SamplingOps
    + OptimiserOps
    + Losses
{
}

impl<B> Backend for B where
    B: RowOps
        + NormOps
        + LayerNormOps
        + LinearOps
        + ActivationOps
        + RotaryOps
        + AttentionOps
        + CacheOps
        + TokenOps
        + SamplingOps
        + OptimiserOps
        + Losses
{
}
