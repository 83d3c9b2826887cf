//! Launches kernels/optimiser.cu. Knows nothing of schedules, clipping rules or parameter names.

use super::buffer::Buf;
use super::kernels::Kernels;
use crate::AdamW;

/// One step, in place; `copy` becomes the rounded `master`.
pub fn adamw(
    kernels: &Kernels,
    master: &mut Buf,
    copy: Option<&mut Buf>,
    first: &mut Buf,
    second: &mut Buf,
    gradient: &Buf,
    step: AdamW,
) {
    let n = master.len();
    let call =
        kernels.call("optimiser", "adamw", copy.as_ref().map_or(master.kind(), |copy| copy.kind()));
    let call = call
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
