//! Launches kernels/loss.cu, and the sums that it adds up. Independent of the source of
//! advantages and targets.

use std::sync::Arc;

use super::Cuda;
use super::buffer::Buf;
use super::device::{Device, Memory};
use super::kernels::Call;
use crate::{Losses, RatioLoss, SquareLoss};

/// Sums in double precision on a device.
pub struct Sums(Memory);

impl Sums {
    /// `len` sums, 0.
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

impl Losses for Cuda {
    type Sums = Sums;

    fn sums(&self, len: usize) -> Sums {
        Sums::new(&self.device, len)
    }

    fn sums_len(&self, sums: &Sums) -> usize {
        sums.count()
    }

    fn download_sums(&self, sums: &Sums) -> Vec<f64> {
        sums.download(&self.device)
    }

    fn add_sum_unchecked(&self, sums: &mut Sums, x: &Buf) {
        let call = self.kernels.call("loss", "add_sum", self.kind);
        launch(call.memory(&sums.0).floats(x), x.len());
    }

    fn clipped_ratio_loss_unchecked(
        &self,
        dlogprob: &mut Buf,
        sums: &mut Sums,
        logprob: &Buf,
        old: &Buf,
        advantage: &Buf,
        loss: RatioLoss,
    ) {
        let n = dlogprob.len();
        let call = self.kernels.call("loss", "clipped_ratio_loss", self.kind);
        let call = call.out_floats(dlogprob).memory(&sums.0);
        let call = call.floats(logprob).floats(old).floats(advantage);
        let call = call
            .float(1.0 - loss.low)
            .float(1.0 + loss.high)
            .float(loss.dual.unwrap_or(f64::INFINITY));
        launch(call.float(loss.count as f64), n);
    }

    fn clipped_square_loss_unchecked(
        &self,
        dvalue: &mut Buf,
        sums: &mut Sums,
        value: &Buf,
        old: &Buf,
        target: &Buf,
        loss: SquareLoss,
    ) {
        let n = dvalue.len();
        let call = self.kernels.call("loss", "clipped_square_loss", dvalue.kind());
        let call = call.out(dvalue).memory(&sums.0);
        let call = call.floats(value).floats(old).floats(target);
        let call = call.float(loss.range.unwrap_or(f64::INFINITY)).float(loss.coef);
        launch(call.float(loss.count as f64), n);
    }
}
