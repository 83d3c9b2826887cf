//! The CUDA back end without a device: the shipped program on an emulated driver, which checks every access that a kernel makes.

mod emulated;
mod errors;
mod kernels;
mod launched;
mod matrix;
mod ops;
mod planted;
