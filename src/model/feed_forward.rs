//! The feed-forward branch of a block, forward and backward. Independent of norms, residuals and
//! wirings.

use super::activations::{BranchBuffers, FeedForwardActivations};
use super::linear::Linear;
use super::params::Layer;
use super::pass::Pass;
use super::spec::FeedForward;
use crate::backend::{Backend, Epilogue};

/// Why a gate and its gradient are there.
const GATED: &str = "weights have the slots of the spec, and a gated feed-forward has a gate";

/// The linear layers of a block's feed-forward.
struct Projections<'a, B: Backend> {
    gate: Option<Linear<'a, B>>,
    up: Linear<'a, B>,
    down: Linear<'a, B>,
}

impl<'a, B: Backend> Projections<'a, B> {
    fn new(pass: &Pass<'a, B>) -> Self {
        let (w, d, f) = (pass.weights(), pass.spec().width, pass.spec().feed_forward_width);
        Projections {
            gate: w.gate.as_ref().map(|gate| Linear::of(pass.b, gate, [d, f])),
            up: Linear::of(pass.b, &w.up, [d, f]),
            down: Linear::of(pass.b, &w.down, [f, d]),
        }
    }
}

/// From `input[n,d]` to `activations.activated[n,f]`, the input of the last linear layer.
pub(super) fn inner<B: Backend>(
    pass: &Pass<'_, B>,
    activations: &mut FeedForwardActivations<B>,
    input: &B::Buf,
) {
    let (n, t) = (pass.rows(), activations);
    let Projections { gate, up, .. } = Projections::new(pass);
    match pass.spec().feed_forward {
        FeedForward::SwiGlu => {
            let gate = gate.expect(GATED);
            up.forward(&mut t.up, input, n);
            let kept = t.saves.then_some(&mut t.gate);
            gate.forward_with(&mut t.activated, input, Epilogue::Gate { kept, up: &t.up }, n);
        }
        FeedForward::Plain(activation) => {
            let kept = t.saves.then_some(&mut t.up);
            let epilogue = Epilogue::Activate { kept, activation };
            up.forward_with(&mut t.activated, input, epilogue, n);
        }
    }
}

/// `out[n,d]`, the last linear layer of what [`inner`] gave, added to `residual[n,d]`.
pub(super) fn outer<B: Backend>(
    pass: &Pass<'_, B>,
    out: &mut B::Buf,
    activations: &FeedForwardActivations<B>,
    residual: &B::Buf,
) {
    let down = Projections::new(pass).down;
    down.forward_with(out, &activations.activated, Epilogue::Add(residual), pass.rows());
}

/// From `dout[n,d]`, the gradient of the branch's output, to `buffers.dinput[n,d]`, that of its
/// `input`; adds to the gradients of the weights.
pub(super) fn backward<B: Backend>(
    pass: &Pass<'_, B>,
    gradients: &mut Layer<Option<B::Buf>>,
    buffers: &mut BranchBuffers<B>,
    dout: &B::Buf,
    activations: &FeedForwardActivations<B>,
    input: &B::Buf,
) {
    let (b, n, t, z) = (pass.b, pass.rows(), activations, buffers);
    let Projections { gate, up, down } = Projections::new(pass);
    // out = linear(activated, down)
    down.backward_input_first(&mut z.dactivated, dout, n);
    down.backward_weights(&mut gradients.down, dout, &t.activated, n);
    match pass.spec().feed_forward {
        FeedForward::SwiGlu => {
            let (gate, dgate) = (gate.expect(GATED), gradients.gate.as_mut().expect(GATED));
            // activated = silu(gate) * up
            b.swiglu_backward(&mut z.dgate, &mut z.dup, &z.dactivated, &t.gate, &t.up);
            // gate = linear(input, gate), up = linear(input, up)
            gate.backward_input_first(&mut z.dinput, &z.dgate, n);
            gate.backward_weights(dgate, &z.dgate, input, n);
            up.backward_input(&mut z.dinput, &z.dup, n);
        }
        FeedForward::Plain(activation) => {
            // activated = activation(up)
            b.activation_backward(&mut z.dup, &z.dactivated, &t.up, activation);
            // up = linear(input, up)
            up.backward_input_first(&mut z.dinput, &z.dup, n);
        }
    }
    up.backward_weights(&mut gradients.up, &z.dup, input, n);
}
