//! Linear layers, forward and backward. No other file of the model multiplies activations by
//! weights, so that a part that joins a layer, such as an adapter, is added here.

use super::params::Affine;
use super::weights::Weight;
use crate::backend::{Backend, Epilogue, Projection, ops};

/// A linear layer, `y = x weight^T + bias`.
pub struct Linear<'a, B: Backend> {
    b: &'a B,
    /// `[outputs,inputs]`.
    weight: &'a B::Buf,
    /// `[outputs]`.
    bias: Option<&'a B::Buf>,
    inputs: usize,
    outputs: usize,
}

impl<'a, B: Backend> Linear<'a, B> {
    /// The layer with `weight[outputs,inputs]` and, if it has one, `bias[outputs]`.
    pub fn new(
        b: &'a B,
        weight: &'a B::Buf,
        bias: Option<&'a B::Buf>,
        [inputs, outputs]: [usize; 2],
    ) -> Self {
        Linear { b, weight, bias, inputs, outputs }
    }

    /// The layer of a model's weights.
    pub(super) fn of(b: &'a B, weights: &'a Affine<Weight<B>>, sizes: [usize; 2]) -> Self {
        Linear::new(b, &weights.weight, weights.bias.as_deref(), sizes)
    }

    /// `out[n,outputs] = x[n,inputs] weight^T + bias`.
    pub fn forward(&self, out: &mut B::Buf, x: &B::Buf, n: usize) {
        self.b.linear(ops::Linear {
            out,
            x,
            weight: self.weight,
            bias: self.bias,
            n,
            i: self.inputs,
            o: self.outputs,
        });
    }

    /// [`Linear::forward`] and the operation that follows it.
    pub(super) fn forward_with(
        &self,
        out: &mut B::Buf,
        x: &B::Buf,
        epilogue: Epilogue<'_, B::Buf>,
        n: usize,
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        self.b.linear_with(
            ops::Linear { out, x, weight: self.weight, bias: self.bias, n, i: inputs, o: outputs },
            epilogue,
        );
    }

    /// `dx[n,inputs] += dout[n,outputs] weight`.
    pub fn backward_input(&self, dx: &mut B::Buf, dout: &B::Buf, n: usize) {
        self.b.linear_backward_input(ops::LinearBackwardInput {
            dx,
            dout,
            weight: self.weight,
            n,
            i: self.inputs,
            o: self.outputs,
        });
    }

    /// `dx[n,inputs] = dout[n,outputs] weight`.
    pub(super) fn backward_input_first(&self, dx: &mut B::Buf, dout: &B::Buf, n: usize) {
        self.b.linear_backward_input_first(ops::LinearBackwardInput {
            dx,
            dout,
            weight: self.weight,
            n,
            i: self.inputs,
            o: self.outputs,
        });
    }

    /// Adds to the gradients of those of the layer's tensors that train, from `dout[n,outputs]` and
    /// the forward pass's `x[n,inputs]`.
    ///
    /// # Panics
    /// If the bias trains and the weight does not.
    pub(super) fn backward_weights(
        &self,
        gradients: &mut Affine<Option<B::Buf>>,
        dout: &B::Buf,
        x: &B::Buf,
        n: usize,
    ) {
        let dbias = gradients.bias.as_mut().and_then(Option::as_mut);
        self.backward_weight(gradients.weight.as_mut(), dbias, dout, x, n);
    }

    /// [`Linear::backward_weights`] with the gradients of the weight and of the bias, each `None`
    /// if it is frozen.
    ///
    /// # Panics
    /// If the bias trains and the weight does not.
    pub fn backward_weight(
        &self,
        dweight: Option<&mut B::Buf>,
        dbias: Option<&mut B::Buf>,
        dout: &B::Buf,
        x: &B::Buf,
        n: usize,
    ) {
        match dweight {
            Some(dweight) => {
                let (inputs, outputs) = (self.inputs, self.outputs);
                self.b.linear_backward_weight(ops::LinearBackwardWeight {
                    dweight,
                    dbias,
                    dout,
                    x,
                    n,
                    i: inputs,
                    o: outputs,
                });
            }
            None => assert!(dbias.is_none(), "a bias trains with its weight"),
        }
    }
}

/// [`Linear::forward`] of several layers that read the same `x[n,inputs]`, each into its `out`.
pub(super) fn forward_together<B: Backend, const LAYERS: usize>(
    layers: [(&Linear<'_, B>, &mut B::Buf); LAYERS],
    x: &B::Buf,
    n: usize,
) {
    let (b, inputs) = (layers[0].0.b, layers[0].0.inputs);
    let mut projections = layers.map(|(layer, out)| Projection {
        out,
        weight: layer.weight,
        bias: layer.bias,
        width: layer.outputs,
    });
    b.linears(&mut projections, x, n, inputs);
}
