//! Functions of one number, element by element, and the gate of a feed-forward layer.

use crate::buffers::Buffers;
use crate::shapes::length;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0); the derivative at 0 is 0.
    Relu,
    /// x Phi(x), with the normal distribution's Phi by the error function (Hendrycks & Gimpel
    /// 2016).
    Gelu,
    /// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    GeluTanh,
    /// x / (1 + exp(-x)).
    Silu,
    /// tanh x.
    Tanh,
}

/// Activations.
pub trait ActivationOps: Buffers {
    /// `out = activation(x)`.
    fn activation(&self, out: &mut Self::Buf, x: &Self::Buf, activation: Activation) {
        length(self.len(x), self.len(out), "x");
        self.activation_unchecked(out, x, activation);
    }
    /// [`ActivationOps::activation`] of checked arguments.
    fn activation_unchecked(&self, out: &mut Self::Buf, x: &Self::Buf, activation: Activation);

    /// `dx = dout * activation'(x)`.
    fn activation_backward(
        &self,
        dx: &mut Self::Buf,
        dout: &Self::Buf,
        x: &Self::Buf,
        activation: Activation,
    ) {
        let len = self.len(dx);
        length(self.len(dout), len, "dout");
        length(self.len(x), len, "x");
        self.activation_backward_unchecked(dx, dout, x, activation);
    }
    /// [`ActivationOps::activation_backward`] of checked arguments.
    fn activation_backward_unchecked(
        &self,
        dx: &mut Self::Buf,
        dout: &Self::Buf,
        x: &Self::Buf,
        activation: Activation,
    );

    /// `out = silu(gate) * up` (Shazeer 2020).
    fn swiglu(&self, out: &mut Self::Buf, gate: &Self::Buf, up: &Self::Buf) {
        let len = self.len(out);
        length(self.len(gate), len, "gate");
        length(self.len(up), len, "up");
        self.swiglu_unchecked(out, gate, up);
    }
    /// [`ActivationOps::swiglu`] of checked arguments.
    fn swiglu_unchecked(&self, out: &mut Self::Buf, gate: &Self::Buf, up: &Self::Buf);

    /// `dgate`, `dup` overwritten, from `dout`, `gate`, `up`.
    fn swiglu_backward(
        &self,
        dgate: &mut Self::Buf,
        dup: &mut Self::Buf,
        dout: &Self::Buf,
        gate: &Self::Buf,
        up: &Self::Buf,
    ) {
        let len = self.len(dgate);
        for (x, what) in [(&*dup, "dup"), (dout, "dout"), (gate, "gate"), (up, "up")] {
            length(self.len(x), len, what);
        }
        self.swiglu_backward_unchecked(dgate, dup, dout, gate, up);
    }
    /// [`ActivationOps::swiglu_backward`] of checked arguments.
    fn swiglu_backward_unchecked(
        &self,
        dgate: &mut Self::Buf,
        dup: &mut Self::Buf,
        dout: &Self::Buf,
        gate: &Self::Buf,
        up: &Self::Buf,
    );
}
