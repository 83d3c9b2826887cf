//! Launches kernels/activation.cu. Independent of layers.

use super::Cuda;
use super::buffer::Buf;
use super::rows::elements;
use crate::ops::{Activation, ActivationOps};

/// As kernels/functions.cuh numbers them.
pub fn which(activation: Activation) -> i32 {
    match activation {
        Activation::Relu => 0,
        Activation::Gelu => 1,
        Activation::GeluTanh => 2,
        Activation::Silu => 3,
        Activation::Tanh => 4,
    }
}

impl ActivationOps for Cuda {
    fn activation_unchecked(&self, out: &mut Buf, x: &Buf, activation: Activation) {
        let (n, kind) = (x.len(), x.kind());
        self.kernels
            .call("activation", "activation", kind)
            .out(out)
            .input(x)
            .size(n)
            .integer(which(activation))
            .over(n, elements(kind), 256);
    }

    fn activation_backward_unchecked(
        &self,
        dx: &mut Buf,
        dout: &Buf,
        x: &Buf,
        activation: Activation,
    ) {
        let (n, kind) = (x.len(), x.kind());
        let call = self.kernels.call("activation", "activation_backward", kind);
        let call = call.out(dx).input(dout).input(x);
        call.size(n).integer(which(activation)).over(n, elements(kind), 256);
    }

    fn swiglu_unchecked(&self, out: &mut Buf, gate: &Buf, up: &Buf) {
        let (n, kind) = (gate.len(), gate.kind());
        let call = self.kernels.call("activation", "swiglu", kind);
        call.out(out).input(gate).input(up).size(n).over(n, elements(kind), 256);
    }

    fn swiglu_backward_unchecked(
        &self,
        dgate: &mut Buf,
        dup: &mut Buf,
        dout: &Buf,
        gate: &Buf,
        up: &Buf,
    ) {
        let (n, kind) = (gate.len(), gate.kind());
        let call = self
            .kernels
            .call("activation", "swiglu_backward", kind)
            .out(dgate)
            .out(dup)
            .input(dout)
            .input(gate)
            .input(up);
        call.size(n).over(n, elements(kind), 256);
    }
}
