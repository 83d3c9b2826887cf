//! Layer normalisation (Ba et al. 2016), forward and backward.

use crate::buffers::Buffers;
use crate::shapes::length;

/// Arguments of [`LayerNormOps::layer_norm`].
#[derive(Debug)]
pub struct LayerNorm<'a, Buf> {
    /// `[n,d]`, stored: overwritten.
    pub out: &'a mut Buf,
    /// `[n]`, wide: overwritten.
    pub mean: &'a mut Buf,
    /// `[n]`, wide: overwritten.
    pub rstd: &'a mut Buf,
    /// `[n,d]`.
    pub x: &'a Buf,
    /// `[d]`.
    pub weight: &'a Buf,
    /// `[d]`.
    pub bias: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of a row.
    pub d: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl<Buf> LayerNorm<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let (n, d) = (self.n, self.d);
        length(b.len(self.out), n * d, "out [n,d]");
        length(b.len(self.mean), n, "mean [n]");
        length(b.len(self.rstd), n, "rstd [n]");
        length(b.len(self.x), n * d, "x [n,d]");
        length(b.len(self.weight), d, "weight [d]");
        length(b.len(self.bias), d, "bias [d]");
    }
}

/// Arguments of [`LayerNormOps::layer_norm_residual`].
#[derive(Debug)]
pub struct LayerNormResidual<'a, Buf> {
    /// `[n,d]`, stored: overwritten.
    pub out: &'a mut Buf,
    /// `[n]`, wide: overwritten.
    pub mean: &'a mut Buf,
    /// `[n]`, wide: overwritten.
    pub rstd: &'a mut Buf,
    /// `[n,d]`: `delta` is added to it.
    pub x: &'a mut Buf,
    /// `[n,d]`.
    pub delta: &'a Buf,
    /// `[d]`.
    pub weight: &'a Buf,
    /// `[d]`.
    pub bias: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of a row.
    pub d: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

impl<Buf> LayerNormResidual<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&mut self, b: &B) {
        length(b.len(self.delta), self.n * self.d, "delta [n,d]");
        self.norm().check(b);
    }

    /// The normalisation of what `x` holds.
    pub fn norm(&mut self) -> LayerNorm<'_, Buf> {
        LayerNorm {
            out: self.out,
            mean: self.mean,
            rstd: self.rstd,
            x: self.x,
            weight: self.weight,
            bias: self.bias,
            n: self.n,
            d: self.d,
            epsilon: self.epsilon,
        }
    }
}

/// Arguments of [`LayerNormOps::layer_norm_backward`].
#[derive(Debug)]
pub struct LayerNormBackward<'a, Buf> {
    /// `[n,d]`: added to.
    pub dx: &'a mut Buf,
    /// `[d]`, wide: added to.
    pub dweight: Option<&'a mut Buf>,
    /// `[d]`, wide: added to.
    pub dbias: Option<&'a mut Buf>,
    /// `[n,d]`.
    pub dout: &'a Buf,
    /// `[n,d]`, of the forward pass.
    pub x: &'a Buf,
    /// `[d]`.
    pub weight: &'a Buf,
    /// `[n]`, wide, of the forward pass.
    pub mean: &'a Buf,
    /// `[n]`, wide, of the forward pass.
    pub rstd: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of a row.
    pub d: usize,
}

impl<Buf> LayerNormBackward<'_, Buf> {
    #[track_caller]
    fn check<B: Buffers<Buf = Buf>>(&self, b: &B) {
        let (n, d) = (self.n, self.d);
        length(b.len(self.dx), n * d, "dx [n,d]");
        length(b.len(self.dout), n * d, "dout [n,d]");
        length(b.len(self.x), n * d, "x [n,d]");
        length(b.len(self.weight), d, "weight [d]");
        length(b.len(self.mean), n, "mean [n]");
        length(b.len(self.rstd), n, "rstd [n]");
        if let Some(dweight) = &self.dweight {
            length(b.len(dweight), d, "dweight [d]");
        }
        if let Some(dbias) = &self.dbias {
            length(b.len(dbias), d, "dbias [d]");
        }
    }
}

/// Layer normalisation.
pub trait LayerNormOps: Buffers {
    /// `out = (x - mean) * rstd * weight + bias`, `mean[n]` of each row, `rstd[n] = 1 /
    /// sqrt(variance + epsilon)`, the variance being that of the row's `d` numbers, not an
    /// estimate.
    fn layer_norm(&self, norm: LayerNorm<'_, Self::Buf>) {
        norm.check(self);
        self.layer_norm_unchecked(norm);
    }
    /// [`LayerNormOps::layer_norm`] of checked arguments.
    fn layer_norm_unchecked(&self, norm: LayerNorm<'_, Self::Buf>);

    /// `x[n,d] += delta[n,d]`, then [`LayerNormOps::layer_norm`] of what `x` holds.
    fn layer_norm_residual(&self, mut norm: LayerNormResidual<'_, Self::Buf>) {
        norm.check(self);
        self.layer_norm_residual_unchecked(norm);
    }
    /// [`LayerNormOps::layer_norm_residual`] of checked arguments.
    fn layer_norm_residual_unchecked(&self, mut norm: LayerNormResidual<'_, Self::Buf>) {
        self.add_unchecked(norm.x, norm.delta);
        self.layer_norm_unchecked(norm.norm());
    }

    /// `dx +=` and, where wanted, `dweight +=` and `dbias +=`, from `dout` and the forward pass's
    /// `x`, `weight`, `mean`, `rstd`.
    fn layer_norm_backward(&self, norm: LayerNormBackward<'_, Self::Buf>) {
        norm.check(self);
        self.layer_norm_backward_unchecked(norm);
    }
    /// [`LayerNormOps::layer_norm_backward`] of checked arguments.
    fn layer_norm_backward_unchecked(&self, norm: LayerNormBackward<'_, Self::Buf>);
}
