//! Buffers in the narrowest type that a back end multiplies in, which is what its matrix units are for: to measure operations one by one. Knows no model.

use super::cpu::{Cpu, Number};
use super::cuda::{Buf, Cache, Cuda, Type};
use super::{Backend, Heads};

/// A back end whose operations take buffers of its narrowest type. Statistics, gradients of weights and moments are as [`Backend::zeros`] makes them.
pub trait Narrow: Backend {
    /// Bytes of a number.
    fn narrow_size(&self) -> usize;
    /// `len` zeros.
    fn narrow_zeros(&self, len: usize) -> Self::Buf;
    /// Host numbers, rounded.
    fn narrow(&self, host: &[f32]) -> Self::Buf;
    /// A cache of `blocks` blocks.
    fn narrow_cache(&self, blocks: usize, heads: Heads) -> Self::Cache;
}

impl<T: Number> Narrow for Cpu<T>
where
    Cpu<T>: Backend,
{
    fn narrow_size(&self) -> usize {
        size_of::<T>()
    }

    fn narrow_zeros(&self, len: usize) -> Self::Buf {
        self.zeros(len)
    }

    fn narrow(&self, host: &[f32]) -> Self::Buf {
        self.upload(host)
    }

    fn narrow_cache(&self, blocks: usize, heads: Heads) -> Self::Cache {
        self.cache(blocks, heads)
    }
}

impl Narrow for Cuda {
    fn narrow_size(&self) -> usize {
        Type::Bf16.bytes()
    }

    fn narrow_zeros(&self, len: usize) -> Buf {
        self.zeros_as(len, Type::Bf16)
    }

    fn narrow(&self, host: &[f32]) -> Buf {
        self.upload_as(host, Type::Bf16)
    }

    fn narrow_cache(&self, blocks: usize, heads: Heads) -> Cache {
        self.cache_as(blocks, heads, Type::Bf16)
    }
}
