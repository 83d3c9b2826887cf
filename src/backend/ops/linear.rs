//! Linear layers: products of rows with a weight, with what follows in the same pass, and their
//! gradients.

use super::{Activation, ActivationOps};
use crate::shapes::length;

/// Rows that a back end may add up at a time in a gradient of weights, where their numbers are
/// stored in a narrow precision: the depth of one product of tensor cores.
pub const GROUP: usize = 16;

/// Arguments of [`LinearOps::linear`].
#[derive(Debug)]
pub struct Linear<'a, Buf> {
    /// `[n,o]`, stored or wide: overwritten.
    pub out: &'a mut Buf,
    /// `[n,i]`.
    pub x: &'a Buf,
    /// `[o,i]`.
    pub weight: &'a Buf,
    /// `[o]`.
    pub bias: Option<&'a Buf>,
    /// Rows.
    pub n: usize,
    /// Width of the input.
    pub i: usize,
    /// Width of the output.
    pub o: usize,
}

impl<Buf> Linear<'_, Buf> {
    #[track_caller]
    fn check<B: LinearOps<Buf = Buf>>(&self, b: &B) {
        let (n, i, o) = (self.n, self.i, self.o);
        length(b.len(self.out), n * o, "out [n,o]");
        length(b.len(self.x), n * i, "x [n,i]");
        length(b.len(self.weight), o * i, "weight [o,i]");
        if let Some(bias) = self.bias {
            length(b.len(bias), o, "bias [o]");
        }
    }
}

/// What is computed from a linear layer's `x weight^T + bias`, all `[n,o]` and stored.
#[derive(Debug)]
pub enum Epilogue<'a, Buf> {
    /// `out = (x weight^T + bias) + residual`, of wide sums and rounded once where it is done in
    /// one pass; else rounded twice.
    Add(&'a Buf),
    /// `kept = x weight^T + bias`, `out = activation(kept)`, of what is, or would be, stored of
    /// `kept`: the same bits whether it is kept or not.
    Activate {
        /// For a backward pass.
        kept: Option<&'a mut Buf>,
        /// The function.
        activation: Activation,
    },
    /// `kept = x weight^T + bias`, `out = silu(kept) * up`, in the same way.
    Gate {
        /// For a backward pass.
        kept: Option<&'a mut Buf>,
        /// What is gated.
        up: &'a Buf,
    },
}

impl<Buf> Epilogue<'_, Buf> {
    #[track_caller]
    fn check<B: LinearOps<Buf = Buf>>(&self, b: &B, len: usize) {
        let (input, kept) = match self {
            Epilogue::Add(residual) => (Some((*residual, "residual [n,o]")), &None),
            Epilogue::Activate { kept, .. } => (None, kept),
            Epilogue::Gate { kept, up } => (Some((*up, "up [n,o]")), kept),
        };
        if let Some((input, what)) = input {
            length(b.len(input), len, what);
        }
        if let Some(kept) = kept {
            length(b.len(kept), len, "kept [n,o]");
        }
    }
}

/// One of several linear layers that read the same rows.
#[derive(Debug)]
pub struct Projection<'a, Buf> {
    /// `[n,o]`, stored: overwritten.
    pub out: &'a mut Buf,
    /// `[o,i]`.
    pub weight: &'a Buf,
    /// `[o]`.
    pub bias: Option<&'a Buf>,
    /// `o`.
    pub width: usize,
}

impl<Buf> Projection<'_, Buf> {
    /// The layer that reads `x[n,i]`.
    pub fn of<'a>(&'a mut self, x: &'a Buf, n: usize, i: usize) -> Linear<'a, Buf> {
        Linear { out: self.out, x, weight: self.weight, bias: self.bias, n, i, o: self.width }
    }
}

/// Arguments of [`LinearOps::linear_backward_input`] and
/// [`LinearOps::linear_backward_input_first`].
#[derive(Debug)]
pub struct LinearBackwardInput<'a, Buf> {
    /// `[n,i]`: added to, or overwritten.
    pub dx: &'a mut Buf,
    /// `[n,o]`.
    pub dout: &'a Buf,
    /// `[o,i]`.
    pub weight: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of the input.
    pub i: usize,
    /// Width of the output.
    pub o: usize,
}

impl<Buf> LinearBackwardInput<'_, Buf> {
    #[track_caller]
    fn check<B: LinearOps<Buf = Buf>>(&self, b: &B) {
        let (n, i, o) = (self.n, self.i, self.o);
        length(b.len(self.dx), n * i, "dx [n,i]");
        length(b.len(self.dout), n * o, "dout [n,o]");
        length(b.len(self.weight), o * i, "weight [o,i]");
    }
}

/// Arguments of [`LinearOps::linear_backward_weight`].
#[derive(Debug)]
pub struct LinearBackwardWeight<'a, Buf> {
    /// `[o,i]`, wide: added to.
    pub dweight: &'a mut Buf,
    /// `[o]`, wide: added to.
    pub dbias: Option<&'a mut Buf>,
    /// `[n,o]`.
    pub dout: &'a Buf,
    /// `[n,i]`, of the forward pass.
    pub x: &'a Buf,
    /// Rows.
    pub n: usize,
    /// Width of the input.
    pub i: usize,
    /// Width of the output.
    pub o: usize,
}

impl<Buf> LinearBackwardWeight<'_, Buf> {
    #[track_caller]
    fn check<B: LinearOps<Buf = Buf>>(&self, b: &B) {
        let (n, i, o) = (self.n, self.i, self.o);
        length(b.len(self.dweight), o * i, "dweight [o,i]");
        length(b.len(self.dout), n * o, "dout [n,o]");
        length(b.len(self.x), n * i, "x [n,i]");
        if let Some(dbias) = &self.dbias {
            length(b.len(dbias), o, "dbias [o]");
        }
    }
}

/// Linear layers.
pub trait LinearOps: ActivationOps {
    /// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`. A stored `out` is what a wide one would be,
    /// rounded.
    fn linear(&self, layer: Linear<'_, Self::Buf>) {
        layer.check(self);
        self.linear_unchecked(layer);
    }
    /// [`LinearOps::linear`] of checked arguments.
    fn linear_unchecked(&self, layer: Linear<'_, Self::Buf>);

    /// [`LinearOps::linear`] with what follows it, in one pass where the back end has one.
    fn linear_with(&self, layer: Linear<'_, Self::Buf>, epilogue: Epilogue<'_, Self::Buf>) {
        layer.check(self);
        epilogue.check(self, layer.n * layer.o);
        self.linear_with_unchecked(layer, epilogue);
    }
    /// [`LinearOps::linear_with`] of checked arguments.
    fn linear_with_unchecked(
        &self,
        layer: Linear<'_, Self::Buf>,
        epilogue: Epilogue<'_, Self::Buf>,
    ) {
        linear_in_passes(self, layer, epilogue);
    }

    /// [`LinearOps::linear`] of the same `x[n,i]` by several layers, each with the bits of a
    /// separate call.
    fn linears(&self, layers: &mut [Projection<'_, Self::Buf>], x: &Self::Buf, n: usize, i: usize) {
        layers.iter_mut().for_each(|layer| layer.of(x, n, i).check(self));
        self.linears_unchecked(layers, x, n, i);
    }
    /// [`LinearOps::linears`] of checked arguments.
    fn linears_unchecked(
        &self,
        layers: &mut [Projection<'_, Self::Buf>],
        x: &Self::Buf,
        n: usize,
        i: usize,
    ) {
        layers.iter_mut().for_each(|layer| self.linear_unchecked(layer.of(x, n, i)));
    }

    /// `dx[n,i] += dout[n,o] weight[o,i]`.
    fn linear_backward_input(&self, layer: LinearBackwardInput<'_, Self::Buf>) {
        layer.check(self);
        self.linear_backward_input_unchecked(layer);
    }
    /// [`LinearOps::linear_backward_input`] of checked arguments.
    fn linear_backward_input_unchecked(&self, layer: LinearBackwardInput<'_, Self::Buf>);

    /// `dx[n,i] = dout[n,o] weight[o,i]`: the bits of [`LinearOps::linear_backward_input`] where
    /// `dx` holds zeros.
    fn linear_backward_input_first(&self, layer: LinearBackwardInput<'_, Self::Buf>) {
        layer.check(self);
        self.linear_backward_input_first_unchecked(layer);
    }
    /// [`LinearOps::linear_backward_input_first`] of checked arguments.
    fn linear_backward_input_first_unchecked(&self, layer: LinearBackwardInput<'_, Self::Buf>) {
        self.fill(layer.dx, 0.0);
        self.linear_backward_input_unchecked(layer);
    }

    /// `dweight[o,i] += dout[n,o]^T x[n,i]` and, where there is one, `dbias[o] += sum over n of
    /// dout[n,o]`.
    fn linear_backward_weight(&self, layer: LinearBackwardWeight<'_, Self::Buf>) {
        layer.check(self);
        self.linear_backward_weight_unchecked(layer);
    }
    /// [`LinearOps::linear_backward_weight`] of checked arguments.
    fn linear_backward_weight_unchecked(&self, layer: LinearBackwardWeight<'_, Self::Buf>);
}

/// [`LinearOps::linear_with`] in several passes, of checked arguments.
pub fn linear_in_passes<B: LinearOps>(
    b: &B,
    layer: Linear<'_, B::Buf>,
    epilogue: Epilogue<'_, B::Buf>,
) {
    let len = layer.n * layer.o;
    let spare = |kept: &Option<&mut B::Buf>| b.zeros(if kept.is_some() { 0 } else { len });
    let Linear { out, x, weight, bias, n, i, o } = layer;
    match epilogue {
        Epilogue::Add(residual) => {
            b.linear_unchecked(Linear { out: &mut *out, x, weight, bias, n, i, o });
            b.add_unchecked(out, residual);
        }
        Epilogue::Activate { kept, activation } => {
            let mut spare = spare(&kept);
            let kept = kept.unwrap_or(&mut spare);
            b.linear_unchecked(Linear { out: &mut *kept, x, weight, bias, n, i, o });
            b.activation_unchecked(out, kept, activation);
        }
        Epilogue::Gate { kept, up } => {
            let mut spare = spare(&kept);
            let kept = kept.unwrap_or(&mut spare);
            b.linear_unchecked(Linear { out: &mut *kept, x, weight, bias, n, i, o });
            b.swiglu_unchecked(out, kept, up);
        }
    }
}
