//! Launches kernels/activation.cu. Knows nothing of layers.

use super::buffer::Buf;
use super::kernels::Kernels;
use super::rows::elements;
use crate::Activation;

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

/// `out = activation(x)`.
pub fn activation(kernels: &Kernels, out: &mut Buf, x: &Buf, activation: Activation) {
    let (n, kind) = (x.len(), x.kind());
    kernels
        .call("activation", "activation", kind)
        .out(out)
        .input(x)
        .size(n)
        .integer(which(activation))
        .over(n, elements(kind), 256);
}

/// `dx = dout * activation'(x)`.
pub fn activation_backward(
    kernels: &Kernels,
    dx: &mut Buf,
    dout: &Buf,
    x: &Buf,
    activation: Activation,
) {
    let (n, kind) = (x.len(), x.kind());
    let call = kernels.call("activation", "activation_backward", kind).out(dx).input(dout).input(x);
    call.size(n).integer(which(activation)).over(n, elements(kind), 256);
}

/// `out = silu(gate) * up`.
pub fn swiglu(kernels: &Kernels, out: &mut Buf, gate: &Buf, up: &Buf) {
    let (n, kind) = (gate.len(), gate.kind());
    kernels.call("activation", "swiglu", kind).out(out).input(gate).input(up).size(n).over(
        n,
        elements(kind),
        256,
    );
}

/// `dgate`, `dup`.
pub fn swiglu_backward(
    kernels: &Kernels,
    dgate: &mut Buf,
    dup: &mut Buf,
    dout: &Buf,
    gate: &Buf,
    up: &Buf,
) {
    let (n, kind) = (gate.len(), gate.kind());
    let call = kernels
        .call("activation", "swiglu_backward", kind)
        .out(dgate)
        .out(dup)
        .input(dout)
        .input(gate)
        .input(up);
    call.size(n).over(n, elements(kind), 256);
}
