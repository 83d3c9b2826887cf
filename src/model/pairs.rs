//! A classifier of text pairs: a network with one hidden layer over an encoder's vectors of the two
//! texts. Independent of texts and of the encoder.
//!
//! 1. The features of vectors u and v are [u, v, |u - v|, u * v] (Conneau et al. 2017, "Supervised
//!    learning of universal sentence representations from natural language inference data", section
//!    2.2).
//! 2. logits = out relu(dense features).

use std::path::Path;

use super::linear::Linear;
use super::tensor_writer::{self, Named};
use super::tensors::Tensors;
use crate::backend::{Activation, Backend};
use crate::error::{Context, Result, user};
use crate::random::Stream;

/// [u, v, |u - v|, u * v]: four times as wide as a vector.
pub fn features(u: &[f64], v: &[f64]) -> Vec<f32> {
    wide_features(u, v).into_iter().map(|x| x as f32).collect()
}

/// The same in double precision.
pub fn wide_features(u: &[f64], v: &[f64]) -> Vec<f64> {
    let beside = u.iter().chain(v).copied();
    let apart = u.iter().zip(v).map(|(u, v)| (u - v).abs());
    let product = u.iter().zip(v).map(|(u, v)| u * v);
    beside.chain(apart).chain(product).collect()
}

/// The gradients of u and v, from that of their features. |u - v| has none where u and v are equal.
///
/// # Panics
/// Where there are not four numbers for each of u and of v.
pub fn features_backward(dfeatures: &[f64], u: &[f64], v: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let d = u.len();
    assert!(
        v.len() == d && dfeatures.len() == 4 * d,
        "features are four times as wide as a vector"
    );
    let part = |part: usize, at: usize| dfeatures[part * d + at];
    let side =
        |at: usize| if u[at] == v[at] { 0.0 } else { part(2, at) * (u[at] - v[at]).signum() };
    let du = (0..d).map(|at| part(0, at) + side(at) + part(3, at) * v[at]).collect();
    let dv = (0..d).map(|at| part(1, at) - side(at) + part(3, at) * u[at]).collect();
    (du, dv)
}

/// A network of one hidden layer on the host: `dense.weight [hidden,inputs]`, `dense.bias`,
/// `out.weight [labels,hidden]`, `out.bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct PairHead {
    /// Width of the features.
    pub inputs: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Classes.
    pub labels: usize,
    /// In the order of [`NAMES`].
    pub tensors: [Vec<f32>; 4],
}

/// The tensors' names.
pub const NAMES: [&str; 4] = ["dense.weight", "dense.bias", "out.weight", "out.bias"];

impl PairHead {
    /// Weights uniform within ± sqrt(6 / (in + out)) (Glorot and Bengio 2010, eq. 16), biases 0.
    pub fn new(inputs: usize, hidden: usize, labels: usize, seed: u64) -> Self {
        let uniform = |name: &str, rows: usize, columns: usize| {
            let (stream, reach) = (Stream::new(seed, name), (6.0 / (rows + columns) as f64).sqrt());
            let row = |row: usize| {
                let mut draws = stream.sequence(row as u64);
                (0..columns)
                    .map(|_| (reach * (2.0 * draws.uniform() - 1.0)) as f32)
                    .collect::<Vec<f32>>()
            };
            (0..rows).flat_map(row).collect()
        };
        let tensors = [
            uniform(NAMES[0], hidden, inputs),
            vec![0.0; hidden],
            uniform(NAMES[2], labels, hidden),
            vec![0.0; labels],
        ];
        PairHead { inputs, hidden, labels, tensors }
    }

    /// Writes the tensors into a file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let shapes = [
            vec![self.hidden, self.inputs],
            vec![self.hidden],
            vec![self.labels, self.hidden],
            vec![self.labels],
        ];
        let named = NAMES.iter().zip(shapes).zip(&self.tensors);
        tensor_writer::write(
            path,
            named
                .map(|((name, shape), numbers)| Named::whole(name.to_string(), shape, numbers))
                .collect(),
            None,
        )
    }

    /// Reads them back.
    pub fn load(path: &Path) -> Result<Self> {
        let file = Tensors::open(&[path.to_path_buf()])?;
        let sizes = |name: &str| {
            file.shape(name).filter(|shape| shape.len() == 2).map(|shape| (shape[0], shape[1]))
        };
        let missing = || user(format!("{} holds no classifier of pairs", path.display()));
        let (dense, out) =
            (sizes(NAMES[0]).ok_or_else(missing)?, sizes(NAMES[2]).ok_or_else(missing)?);
        let mut tensors: [Vec<f32>; 4] = Default::default();
        for (tensor, name) in tensors.iter_mut().zip(NAMES) {
            *tensor = file.read(name).with_context(|| format!("in {}", path.display()))?;
        }
        let head = PairHead { inputs: dense.1, hidden: dense.0, labels: out.0, tensors };
        let fits = out.1 == head.hidden
            && head.tensors[1].len() == head.hidden
            && head.tensors[3].len() == head.labels;
        if fits {
            Ok(head)
        } else {
            Err(missing().hint("its tensors do not fit each other").into())
        }
    }

    /// Logits `[n,labels]` of features `[n,inputs]`.
    pub fn logits<B: Backend>(&self, b: &B, features: &[f32]) -> Vec<f64> {
        let tensors = self.tensors.each_ref().map(|tensor| b.upload(tensor));
        let n = features.len() / self.inputs;
        let network = PairNetwork::new(b, self.sizes(), &tensors);
        b.download_f64(&network.forward(&b.upload(features), n).logits)
    }

    /// (inputs, hidden, labels).
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.inputs, self.hidden, self.labels)
    }
}

/// The network on a device.
pub struct PairNetwork<'a, B: Backend> {
    b: &'a B,
    dense: Linear<'a, B>,
    out: Linear<'a, B>,
    hidden: usize,
    labels: usize,
}

/// Activations of a forward pass.
pub struct Forward<B: Backend> {
    /// `[n,hidden]`, before the activation.
    dense: B::Buf,
    /// `[n,hidden]`, after it.
    activated: B::Buf,
    /// `[n,labels]`.
    pub logits: B::Buf,
}

impl<'a, B: Backend> PairNetwork<'a, B> {
    /// The network of (inputs, hidden, labels) with these tensors, in the order of [`NAMES`].
    pub fn new(
        b: &'a B,
        (inputs, hidden, labels): (usize, usize, usize),
        tensors: &'a [B::Buf; 4],
    ) -> Self {
        let [weight, bias, out, out_bias] = tensors;
        PairNetwork {
            b,
            dense: Linear::new(b, weight, Some(bias), [inputs, hidden]),
            out: Linear::new(b, out, Some(out_bias), [hidden, labels]),
            hidden,
            labels,
        }
    }

    /// Logits of features `x[n,inputs]`.
    pub fn forward(&self, x: &B::Buf, n: usize) -> Forward<B> {
        let zeros = |width: usize| self.b.zeros(n * width);
        let (mut dense, mut activated, mut logits) =
            (zeros(self.hidden), zeros(self.hidden), zeros(self.labels));
        self.dense.forward(&mut dense, x, n);
        self.b.activation(&mut activated, &dense, Activation::Relu);
        self.out.forward(&mut logits, &activated, n);
        Forward { dense, activated, logits }
    }

    /// Adds to the gradients of the tensors, from `dlogits[n,labels]` and the forward pass of
    /// `x[n,inputs]`. Returns the gradient `[n,hidden]` of the hidden layer before its activation.
    pub fn backward(
        &self,
        gradients: &mut [B::Buf; 4],
        forward: &Forward<B>,
        dlogits: &B::Buf,
        x: &B::Buf,
        n: usize,
    ) -> B::Buf {
        let (b, zeros) = (self.b, || self.b.zeros(n * self.hidden));
        let [dweight, dbias, dout, dout_bias] = gradients;
        // logits = linear(activated, out)
        self.out.backward_weight(Some(dout), Some(dout_bias), dlogits, &forward.activated, n);
        let (mut dactivated, mut ddense) = (zeros(), zeros());
        self.out.backward_input(&mut dactivated, dlogits, n);
        // activated = relu(dense)
        b.activation_backward(&mut ddense, &dactivated, &forward.dense, Activation::Relu);
        // dense = linear(x, weight, bias)
        self.dense.backward_weight(Some(dweight), Some(dbias), &ddense, x, n);
        ddense
    }

    /// Adds to the gradient `dx[n,inputs]` of the features, from what [`PairNetwork::backward`]
    /// gave.
    pub fn backward_features(&self, dx: &mut B::Buf, ddense: &B::Buf, n: usize) {
        self.dense.backward_input(dx, ddense, n);
    }
}

/// The class with the greatest logit, the first of several.
pub fn best(logits: &[f64]) -> usize {
    (1..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_the_vectors_their_distance_and_their_product() {
        assert_eq!(features(&[1.0, -2.0], &[0.5, 3.0]), [1.0, -2.0, 0.5, 3.0, 0.5, 5.0, 0.5, -6.0]);
    }

    #[test]
    fn the_gradient_of_features_is_their_slope() {
        let (u, v, weights) = (
            [1.0, -2.0, 0.25],
            [0.5, 3.0, 0.25],
            [0.3, -1.0, 2.0, 0.7, 0.1, -0.4, 1.5, -0.6, 0.0, 0.9, -1.1, 0.2],
        );
        let loss = |u: &[f64], v: &[f64]| {
            wide_features(u, v).iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>()
        };
        let (du, dv) = features_backward(&weights, &u, &v);
        for at in 0..3 {
            let moved = |side: usize, by: f64| {
                let mut both = [u, v];
                both[side][at] += by;
                loss(&both[0], &both[1])
            };
            for (side, gradient) in [du[at], dv[at]].into_iter().enumerate() {
                let slope = (moved(side, 1e-6) - moved(side, -1e-6)) / 2e-6;
                assert!(
                    (gradient - slope).abs() < 1e-8,
                    "{side}, {at}: {gradient} by hand, {slope} by difference"
                );
            }
        }
    }

    #[test]
    fn a_head_that_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, head) =
            (folder.path().join("classifier.safetensors"), PairHead::new(8, 5, 3, 1));
        head.save(&path).unwrap();
        assert_eq!(PairHead::load(&path).unwrap(), head);
        assert!(
            head.tensors[0].iter().all(|x| x.abs() <= (6.0f32 / 13.0).sqrt())
                && head.tensors[0] != PairHead::new(8, 5, 3, 2).tensors[0]
        );
        assert_eq!((best(&[1.0, 3.0, 3.0]), best(&[0.0])), (1, 0));
    }
}
