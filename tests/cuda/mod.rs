//! The CUDA back end without a device: the shipped program on an emulated driver, which checks
//! every access that a kernel makes.

#![expect(clippy::unwrap_used)]

mod agree;
mod attention;
mod bf16;
mod emulated;
mod errors;
mod gate;
mod gpu_check;
mod graph_cache;
mod hardware;
mod hopper;
mod invariance;
mod kernels;
mod launched;
mod loss;
mod matrices;
mod memory;
mod mixed;
mod models;
mod ops;
mod pipeline;
mod planted;
mod products;
mod recorded;
mod strict;
