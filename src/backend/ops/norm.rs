//! Root-mean-square normalisation (Zhang & Sennrich 2019), forward and backward.

use crate::buffers::Buffers;
use crate::shapes::length;

/// Arguments of [`NormOps::rms_norm`].
#[derive(Debug)]
pub struct RmsNorm<'a, Buf> {
    /// `[n,d]`, stored: overwritten.
    pub out: &'a mut Buf,
    /// `[n]`, wide: overwritten.
    pub rstd: &'a mut Buf,
    /// `[n,d]`.
    pub x: &'a Buf,
    /// `[d]`.
    pub weight: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of a row.
    pub d: usize,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl<Buf> RmsNorm<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let (n, d) = (self.n, self.d);
        length(b.len(self.out), n * d, "out [n,d]");
        length(b.len(self.rstd), n, "rstd [n]");
        length(b.len(self.x), n * d, "x [n,d]");
        length(b.len(self.weight), d, "weight [d]");
    }
}

/// Arguments of [`NormOps::rms_norm_residual`].
#[derive(Debug)]
pub struct RmsNormResidual<'a, Buf> {
    /// `[n,d]`, stored: overwritten.
    pub out: &'a mut Buf,
    /// `[n]`, wide: overwritten.
    pub rstd: &'a mut Buf,
    /// `[n,d]`: `delta` is added to it.
    pub x: &'a mut Buf,
    /// `[n,d]`.
    pub delta: &'a Buf,
    /// `[d]`.
    pub weight: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of a row.
    pub d: usize,
    /// Added to the mean square.
    pub epsilon: f64,
}

impl<Buf> RmsNormResidual<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&mut self, b: &B) {
        length(b.len(self.delta), self.n * self.d, "delta [n,d]");
        self.norm().check(b);
    }

    /// The normalisation of what `x` holds.
    pub fn norm(&mut self) -> RmsNorm<'_, Buf> {
        RmsNorm {
            out: self.out,
            rstd: self.rstd,
            x: self.x,
            weight: self.weight,
            n: self.n,
            d: self.d,
            epsilon: self.epsilon,
        }
    }
}

/// Arguments of [`NormOps::rms_norm_backward`].
#[derive(Debug)]
pub struct RmsNormBackward<'a, Buf> {
    /// `[n,d]`: added to.
    pub dx: &'a mut Buf,
    /// `[d]`, wide: added to.
    pub dweight: Option<&'a mut Buf>,
    /// `[n,d]`.
    pub dout: &'a Buf,
    /// `[n,d]`, of the forward pass.
    pub x: &'a Buf,
    /// `[d]`.
    pub weight: &'a Buf,
    /// `[n]`, wide, of the forward pass.
    pub rstd: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of a row.
    pub d: usize,
}

impl<Buf> RmsNormBackward<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let (n, d) = (self.n, self.d);
        length(b.len(self.dx), n * d, "dx [n,d]");
        length(b.len(self.dout), n * d, "dout [n,d]");
        length(b.len(self.x), n * d, "x [n,d]");
        length(b.len(self.weight), d, "weight [d]");
        length(b.len(self.rstd), n, "rstd [n]");
        if let Some(dweight) = &self.dweight {
            length(b.len(dweight), d, "dweight [d]");
        }
    }
}

/// Root-mean-square normalisation.
pub trait NormOps: Buffers {
    /// `out = x * rstd * weight`, `rstd[n] = 1 / sqrt(mean(x^2) + epsilon)`.
    fn rms_norm(&self, norm: RmsNorm<'_, Self::Buf>) {
        norm.check(self);
        self.rms_norm_unchecked(norm);
    }
    /// [`NormOps::rms_norm`] of checked arguments.
    fn rms_norm_unchecked(&self, norm: RmsNorm<'_, Self::Buf>);

    /// `x[n,d] += delta[n,d]`, then [`NormOps::rms_norm`] of what `x` holds.
    fn rms_norm_residual(&self, mut norm: RmsNormResidual<'_, Self::Buf>) {
        norm.check(self);
        self.rms_norm_residual_unchecked(norm);
    }
    /// [`NormOps::rms_norm_residual`] of checked arguments.
    fn rms_norm_residual_unchecked(&self, mut norm: RmsNormResidual<'_, Self::Buf>) {
        self.add_unchecked(norm.x, norm.delta);
        self.rms_norm_unchecked(norm.norm());
    }

    /// `dx +=` and, where wanted, `dweight +=`, from `dout` and the forward pass's `x`, `weight`,
    /// `rstd`.
    fn rms_norm_backward(&self, norm: RmsNormBackward<'_, Self::Buf>) {
        norm.check(self);
        self.rms_norm_backward_unchecked(norm);
    }
    /// [`NormOps::rms_norm_backward`] of checked arguments.
    fn rms_norm_backward_unchecked(&self, norm: RmsNormBackward<'_, Self::Buf>);
}
