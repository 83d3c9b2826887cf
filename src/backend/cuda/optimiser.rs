//! Launches kernels/optimiser.cu. Independent of schedules, clipping rules and parameter names.

use super::Cuda;
use super::buffer::Buf;
use crate::ops::{AdamW, OptimiserOps};

impl OptimiserOps for Cuda {
    fn adamw_unchecked(
        &self,
        master: &mut Buf,
        copy: Option<&mut Buf>,
        first: &mut Buf,
        second: &mut Buf,
        gradient: &Buf,
        step: AdamW,
    ) {
        let n = master.len();
        let kind = copy.as_ref().map_or(master.kind(), |copy| copy.kind());
        let call = self
            .kernels
            .call("optimiser", "adamw", kind)
            .out_floats(master)
            .optional(copy.as_deref())
            .out_floats(first)
            .out_floats(second)
            .floats(gradient)
            .size(n);
        let numbers = [
            step.beta1,
            1.0 - step.beta1,
            step.beta2,
            1.0 - step.beta2,
            1.0 / (1.0 - step.beta1_power()),
            1.0 / (1.0 - step.beta2_power()),
            step.epsilon,
            step.gradient_scale,
            step.learning_rate,
            1.0 - step.learning_rate * step.weight_decay,
        ];
        numbers.into_iter().fold(call, |call, number| call.float(number)).over(n, 256, 256);
    }
}
