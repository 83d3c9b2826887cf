//! Launches kernels/sampling.cu. Independent of the source of the uniform numbers.

use super::Cuda;
use super::buffer::Buf;
use crate::ops::{NO_TOKEN, Sampling, SamplingOps};

impl SamplingOps for Cuda {
    fn sample_unchecked(
        &self,
        logits: &Buf,
        uniforms: &[f64],
        sampling: Sampling,
        v: usize,
    ) -> (Vec<u32>, Vec<f32>) {
        let (device, m) = (&self.device, uniforms.len());
        if m == 0 {
            return (Vec::new(), Vec::new());
        }
        // Ids, then log-probabilities: what is of one piece is waited for once.
        let drawn = device.allocate(2 * m * size_of::<u32>());
        let call = self
            .kernels
            .call("sampling", "sample", self.kind)
            .memory(&drawn)
            .memory_from(&drawn, m * size_of::<u32>());
        let call = call.floats(logits).host(uniforms);
        let call = call
            .float(sampling.temperature.into())
            .size(sampling.top_k)
            .float(sampling.top_p.into())
            .float(sampling.min_p.into());
        call.size(v).over(m, 1, 256);
        let mut ids = device.download::<u32>(&drawn);
        let mut logprobs: Vec<f32> = ids.split_off(m).into_iter().map(f32::from_bits).collect();
        // The kernel gives such a row its `NONE`, the same id, and the number that it failed on.
        logprobs
            .iter_mut()
            .zip(&ids)
            .filter(|(_, id)| **id == NO_TOKEN)
            .for_each(|(logprob, _)| *logprob = f32::NAN);
        (ids, logprobs)
    }
}
