//! Buffers of the back end: their copies from and to the host, and steps that are recorded.

use super::Cuda;
use super::buffer::Buf;
use super::device::Device;
use super::graph_cache::GraphCache;
use super::rows;
use crate::{Buffers, DType, Sizes};

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

impl Buffers for Cuda {
    type Buf = Buf;
    type GraphCache = GraphCache;

    fn free_memory(&self) -> Option<u64> {
        Some(self.device.context().free())
    }

    fn sizes(&self) -> Sizes {
        Self::sizes_of(self.kind)
    }

    fn zeros(&self, len: usize) -> Buf {
        Buf::zeros(&self.device, len, self.kind)
    }

    fn wide(&self, len: usize) -> Buf {
        Buf::zeros(&self.device, len, DType::F32)
    }

    fn upload(&self, host: &[f32]) -> Buf {
        Buf::upload(&self.device, host, self.kind)
    }

    fn upload_f64(&self, host: &[f64]) -> Buf {
        self.upload(&single(host))
    }

    fn upload_wide(&self, host: &[f32]) -> Buf {
        Buf::upload(&self.device, host, DType::F32)
    }

    fn upload_wide_f64(&self, host: &[f64]) -> Buf {
        self.upload_wide(&single(host))
    }

    fn download(&self, x: &Buf) -> Vec<f32> {
        x.download(&self.device)
    }

    fn download_f64(&self, x: &Buf) -> Vec<f64> {
        self.download(x).into_iter().map(f64::from).collect()
    }

    fn len(&self, x: &Buf) -> usize {
        x.len()
    }

    fn copy_unchecked(&self, out: &mut Buf, x: &Buf) {
        self.device.copy(out.memory_mut(), x.memory());
    }

    fn fill(&self, out: &mut Buf, value: f32) {
        rows::fill(&self.kernels, out, value);
    }

    fn add_unchecked(&self, out: &mut Buf, x: &Buf) {
        rows::add(&self.kernels, out, x);
    }

    fn sum_squares(&self, x: &Buf) -> f64 {
        self.sums_of_squares(&[x])[0]
    }

    fn sums_of_squares(&self, buffers: &[&Buf]) -> Vec<f64> {
        rows::sums_of_squares(&self.kernels, &self.device, buffers)
    }

    fn with_graph<R>(&self, cache: &mut GraphCache, step: impl FnOnce() -> R) -> R {
        /// A step that fails is not queued.
        struct Gathering<'a>(&'a Device);
        impl Drop for Gathering<'_> {
            fn drop(&mut self) {
                self.0.abandon();
            }
        }
        self.device.begin(cache);
        let gathering = Gathering(&self.device);
        let result = step();
        self.device.finish();
        drop(gathering);
        result
    }
}
