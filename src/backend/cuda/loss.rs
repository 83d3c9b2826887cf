//! Launches kernels/loss.cu, and the sums that it adds up. Knows nothing of where advantages and
//! targets come from.

use std::sync::Arc;

use super::buffer::{Buf, Type};
use super::driver::{Device, Memory};
use super::kernels::{Call, Kernels};
use crate::{RatioLoss, SquareLoss};

/// Sums in double precision on a device.
pub struct Sums(Memory);

impl Sums {
    /// So many sums, 0.
    pub fn new(device: &Arc<Device>, len: usize) -> Sums {
        let mut memory = device.allocate(len * size_of::<f64>());
        if len > 0 {
            device.clear(&mut memory);
        }
        Sums(memory)
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.bytes() / size_of::<f64>()
    }

    /// A copy on the host.
    pub fn download(&self, device: &Arc<Device>) -> Vec<f64> {
        device.download(&self.0)
    }
}

/// One block for all tokens, if there are any.
fn launch(call: Call<'_>, n: usize) {
    call.size(n).launch([n.min(1), 1, 1], 512);
}

/// `sums[0] += ` the sum of `x`; `kind` is what the model is stored in.
pub fn add_sum(kernels: &Kernels, kind: Type, sums: &mut Sums, x: &Buf) {
    launch(kernels.call("loss", "add_sum", kind).memory(&sums.0).floats(x), x.len());
}

/// `dlogprob[n]`, `sums +=`; `kind` is what the model is stored in.
#[expect(clippy::too_many_arguments)]
pub fn clipped_ratio(
    kernels: &Kernels,
    kind: Type,
    dlogprob: &mut Buf,
    sums: &mut Sums,
    logprob: &Buf,
    old: &Buf,
    advantage: &Buf,
    loss: RatioLoss,
) {
    let n = dlogprob.len();
    let call =
        kernels.call("loss", "clipped_ratio_loss", kind).out_floats(dlogprob).memory(&sums.0);
    let call = call.floats(logprob).floats(old).floats(advantage);
    let call = call
        .float(1.0 - loss.range)
        .float(1.0 + loss.range)
        .float(loss.dual.unwrap_or(f64::INFINITY));
    launch(call.float(loss.count as f64), n);
}

/// `dvalue[n]`, stored, `sums +=`.
pub fn clipped_square(
    kernels: &Kernels,
    dvalue: &mut Buf,
    sums: &mut Sums,
    value: &Buf,
    old: &Buf,
    target: &Buf,
    loss: SquareLoss,
) {
    let n = dvalue.len();
    let call =
        kernels.call("loss", "clipped_square_loss", dvalue.kind()).out(dvalue).memory(&sums.0);
    let call = call.floats(value).floats(old).floats(target);
    launch(
        call.float(loss.range.unwrap_or(f64::INFINITY)).float(loss.coef).float(loss.count as f64),
        n,
    );
}
