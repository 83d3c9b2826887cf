//! The step of an optimiser on one tensor.

use crate::buffers::Buffers;
use crate::shapes::length;

/// One AdamW step (Loshchilov & Hutter 2019, algorithm 2), decoupled weight decay.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay of this tensor.
    pub weight_decay: f64,
    /// 1 for the first step.
    pub step: u64,
    /// Every gradient is multiplied by this first (clipping).
    pub gradient_scale: f64,
}

impl AdamW {
    /// `beta1` to the power of the step.
    pub(crate) fn beta1_power(&self) -> f64 {
        power(self.beta1, self.step)
    }

    /// `beta2` to the power of the step.
    pub(crate) fn beta2_power(&self) -> f64 {
        power(self.beta2, self.step)
    }
}

/// `base^exponent` by squaring: the same bits everywhere, which `powi` does not promise.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Optimisers.
pub trait OptimiserOps: Buffers {
    /// Updates `master` and both moments in place; `copy` is a stored buffer that becomes `master`,
    /// rounded. The gradient is only read.
    fn adamw(
        &self,
        master: &mut Self::Buf,
        copy: Option<&mut Self::Buf>,
        first: &mut Self::Buf,
        second: &mut Self::Buf,
        gradient: &Self::Buf,
        step: AdamW,
    ) {
        let len = self.len(master);
        for (x, what) in [(&*first, "first"), (&*second, "second"), (gradient, "gradient")] {
            length(self.len(x), len, what);
        }
        if let Some(copy) = &copy {
            length(self.len(copy), len, "copy");
        }
        assert!(step.step > 0, "the first step is 1");
        self.adamw_unchecked(master, copy, first, second, gradient, step);
    }
    /// [`OptimiserOps::adamw`] of checked arguments.
    fn adamw_unchecked(
        &self,
        master: &mut Self::Buf,
        copy: Option<&mut Self::Buf>,
        first: &mut Self::Buf,
        second: &mut Self::Buf,
        gradient: &Self::Buf,
        step: AdamW,
    );
}
