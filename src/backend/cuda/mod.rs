//! The CUDA back end: one file per family of operations, with the back end's methods, which launch
//! the kernels of the file of the same name in kernels/. Independent of files (except the folder of
//! machine code), configs and clocks.
//!
//! Numerics:
//! 1. Kernels are compiled without contraction, and `exp` and `ln` are the CPU back end's own
//!    sequences, so an operation on one number has the bits of the CPU's, as has a matrix product
//!    in single precision: one chain of fused multiply-adds over the contraction index.
//! 2. The order of a sum along a row (kernels/prelude.cuh) depends on the row's width alone.
//! 3. A gradient of weights is a chain over rows in row order, continued from what the output
//!    holds; threads own columns.
//! 4. There are no atomics on numbers, and no choice of a kernel depends on a measurement.

mod activation;
mod attention;
mod attention_backward;
mod attention_backward_hopper;
mod attention_hopper;
mod attention_shape;
mod buffer;
mod buffers;
mod cache;
mod cached;
mod code;
mod compiler;
mod context;
mod cublaslt;
mod device;
mod fault;
mod function;
mod gemm_selection;
mod graph_cache;
mod kernels;
mod layer_norm;
mod libraries;
mod linear;
mod linear_hopper;
mod loss;
mod norm;
mod open;
mod optimiser;
mod pinned;
mod queue;
mod rotary;
mod rows;
mod sampling;
mod tiles;
mod token;

use std::sync::Arc;

pub use buffer::Buf;
pub use cache::Cache;
pub use code::{Code, PREPARED, architecture, files, headers, options, prepare, watched};
pub use compiler::{Compiler, Source};
pub use gemm_selection::{GemmKind, GemmRequest, GemmSelection};
pub use graph_cache::GraphCache;
pub use loss::Sums;
pub use open::About;

use cublaslt::Library;
use device::Device;
use kernels::Kernels;

use crate::DType;

/// One CUDA device, computing in single precision and storing in that or in bf16.
#[derive(Clone, Debug)]
pub struct Cuda {
    device: Arc<Device>,
    kernels: Arc<Kernels>,
    kind: DType,
    gemm: GemmSelection,
    /// Whether the device was seen to add products of warp groups up as those of warps
    /// (`attention_hopper.rs`), where anything asked.
    wgmma_matches_mma: Option<bool>,
    /// Where the library computes some products.
    library: Option<Arc<Library>>,
}
