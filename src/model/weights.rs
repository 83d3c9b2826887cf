//! A model's tensors on a device, and the gradients that training adds up. Handles shapes;
//! independent of what is computed with them.

use std::sync::Arc;

use crate::backend::{Backend, Buffers};

use super::params::{Affine, HeadKind, Params, Slot, Trainable, Weights};
use super::spec::{Rotary, Scaling, Spec};

/// A tensor on a device, which models may share.
pub type Weight<B> = Arc<<B as Buffers>::Buf>;

/// A model on a device.
pub struct Model<B: Backend> {
    /// The trunk: what it is.
    pub spec: Spec,
    /// What is on the trunk. Models of one trunk may have different heads, so it is not a part of
    /// the spec.
    pub head: HeadKind,
    /// Its tensors.
    pub weights: Weights<B>,
    /// Of each of the spec's rotary positions.
    angles: Vec<Arc<Angles<B>>>,
}

/// Angles by which queries and keys are rotated.
pub(super) struct Angles<B: Backend> {
    /// What they follow from.
    pub(super) rotary: Rotary,
    /// `[context,r/2]`: their cosines.
    pub(super) cos: B::Buf,
    /// `[context,r/2]`: their sines.
    pub(super) sin: B::Buf,
}

impl<B: Backend> Model<B> {
    /// A model from tensors on the host. Each is dropped as soon as the device has it.
    pub fn upload(b: &B, spec: Spec, head: HeadKind, params: Params<Vec<f32>>) -> Self {
        let weights = params.map(|tensor| Arc::new(b.upload_owned(tensor)));
        Self::from_weights(b, spec, head, weights)
    }

    /// A model from tensors on the device.
    ///
    /// # Panics
    /// Where a tensor's size is not the spec's, or the tensors are not those of the head.
    pub fn from_weights(b: &B, spec: Spec, head: HeadKind, weights: Weights<B>) -> Self {
        let context = spec.context;
        Self::with_angles(b, spec, head, weights, |rotary| {
            let (cos, sin) = rotary_tables(rotary, context);
            (b.upload_wide_f64(&cos), b.upload_wide_f64(&sin))
        })
    }

    /// A model of which only the sizes are wanted: its angles are zeros, which takes no time.
    ///
    /// # Panics
    /// As [`Model::from_weights`].
    pub(super) fn of_sizes(b: &B, spec: Spec, head: HeadKind, weights: Weights<B>) -> Self {
        let context = spec.context;
        Self::with_angles(b, spec, head, weights, |rotary| {
            let angles = || b.wide(context * (rotary.channels / 2));
            (angles(), angles())
        })
    }

    fn with_angles(
        b: &B,
        spec: Spec,
        head: HeadKind,
        weights: Weights<B>,
        angles: impl Fn(Rotary) -> (B::Buf, B::Buf),
    ) -> Self {
        for (slot, tensor) in Params::slots(&spec, head).zip(weights.as_ref()).into_vec() {
            assert_eq!(b.len(tensor), slot.count(), "size of {}", slot.name);
        }
        let angles = spec.rotaries().into_iter().map(|rotary| {
            let (cos, sin) = angles(rotary);
            Arc::new(Angles { rotary, cos, sin })
        });
        let angles = angles.collect();
        Model { spec, head, weights, angles }
    }

    /// The angles by which block `layer` rotates, if it does.
    pub(super) fn angles(&self, layer: usize) -> Option<&Angles<B>> {
        let rotary = self.spec.layer(layer).rotary?;
        self.angles.iter().find(|angles| angles.rotary == rotary).map(Arc::as_ref)
    }

    /// The slots of its tensors.
    pub fn slots(&self) -> Params<Slot> {
        Params::slots(&self.spec, self.head)
    }

    /// A model that shares the frozen tensors with this one and has its own copy of those that
    /// train.
    pub fn trainable_copy(&self, b: &B, trainable: &Trainable) -> Self {
        let weights = self.slots().zip(self.weights.as_ref()).map(|(slot, tensor)| match trainable
            .trains(&slot)
        {
            true => {
                let mut copy = b.zeros(b.len(tensor));
                b.copy(&mut copy, tensor);
                Arc::new(copy)
            }
            false => Arc::clone(tensor),
        });
        self.with_weights(self.head, weights)
    }

    /// A model that shares this one's trunk and has `scalar` as its scalar head. With a bias that
    /// is a value head, next to the language head if this model has one; without, the result is a
    /// reward model, which has no language head.
    pub fn with_scalar(&self, b: &B, scalar: Affine<Vec<f32>>) -> Self {
        let head = match (&scalar.bias, self.head.has_language()) {
            (None, _) => HeadKind::Reward,
            (Some(_), true) => HeadKind::LanguageAndValue,
            (Some(_), false) => HeadKind::Value,
        };
        let mut weights = self.weights.clone();
        let upload = |tensor: Vec<f32>| Arc::new(b.upload_owned(tensor));
        weights.scalar =
            Some(Affine { weight: upload(scalar.weight), bias: scalar.bias.map(upload) });
        if !head.has_language() {
            weights.lm_head = None;
        }
        self.with_weights(head, weights)
    }

    /// The lowest blocks, embeddings included, of which this model and `other` share every tensor;
    /// `None` where they do not share even the embeddings, or are of different forms.
    pub fn shared_blocks(&self, other: &Self) -> Option<usize> {
        if self.spec != other.spec {
            return None;
        }
        let shared = self
            .weights
            .iter()
            .zip(other.weights.iter())
            .take_while(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
            .count();
        let slots = self.slots().into_vec();
        let embeddings = slots.iter().take_while(|slot| slot.layer.is_none()).count();
        (shared >= embeddings)
            .then(|| slots.get(shared).and_then(|slot| slot.layer).unwrap_or(self.spec.layers))
    }

    /// A model of the same trunk, with another head and other tensors.
    fn with_weights(&self, head: HeadKind, weights: Weights<B>) -> Self {
        Model { spec: self.spec.clone(), head, weights, angles: self.angles.clone() }
    }

    /// The tensors on the host.
    pub fn download(&self, b: &B) -> Params<Vec<f32>> {
        self.weights.as_ref().map(|tensor| b.download(tensor))
    }

    /// `[v,e]`: the language head, which is the embedding in a tied model.
    ///
    /// # Panics
    /// For a reward model of an untied spec, which has none.
    pub fn language_head(&self) -> &B::Buf {
        match (&self.weights.lm_head, self.spec.tied) {
            (Some(head), _) => head,
            (None, true) => &self.weights.embedding,
            (None, false) => panic!("a reward model has no language head"),
        }
    }
}

/// The buffer of a trainable tensor, for writing.
///
/// # Panics
/// Where another model shares it: see [`Model::trainable_copy`].
pub fn unique<T>(tensor: &mut Arc<T>) -> &mut T {
    Arc::get_mut(tensor)
        .expect("a tensor that trains belongs to one model, see Model::trainable_copy")
}

/// Cosines and sines of position times frequency, `[context,r/2]`, in double precision throughout:
/// float32 angles would be off by half a thousandth of a radian at position 8,192.
fn rotary_tables(rotary: Rotary, context: usize) -> (Vec<f64>, Vec<f64>) {
    let frequencies: Vec<f64> =
        (0..rotary.channels / 2).map(|pair| frequency(rotary, pair)).collect();
    let angles = (0..context)
        .flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency));
    angles.map(|angle| (angle.cos(), angle.sin())).unzip()
}

/// Radians a position by which a pair of channels turns.
fn frequency(rotary: Rotary, pair: usize) -> f64 {
    let plain = rotary.theta.powf(-2.0 * pair as f64 / rotary.channels as f64);
    match rotary.scaling {
        Scaling::None => plain,
        Scaling::Linear { factor } => plain / factor,
        Scaling::Ramp { factor, low, high, context } => {
            let turns = context * plain / std::f64::consts::TAU;
            let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - kept) * plain / factor + kept * plain
        }
    }
}

/// Gradients of the tensors that train, added up over any number of backward passes.
///
/// In a tied model the embedding's gradient has two sources. Each is summed on its own, in row
/// order, until [`Gradients::total`] adds them: so the bits do not depend on how a batch was
/// divided into passes. The head's exists from the first backward pass through the head on.
pub struct Gradients<B: Backend> {
    params: Params<Option<B::Buf>>,
    tied_head: Option<B::Buf>,
    /// Whether the embedding is a language head too.
    is_tied: bool,
}

impl<B: Backend> Gradients<B> {
    /// Zero gradients for the tensors of `model` that train.
    pub fn zeros(b: &B, model: &Model<B>, trainable: &Trainable) -> Self {
        let params =
            model.slots().map(|slot| trainable.trains(&slot).then(|| b.wide(slot.count())));
        Gradients { params, tied_head: None, is_tied: model.spec.tied && model.head.has_language() }
    }

    /// Count of numbers.
    pub fn count(&self, b: &B) -> usize {
        self.params.iter().flatten().chain(&self.tied_head).map(|gradient| b.len(gradient)).sum()
    }

    /// Back to zero, for the next step.
    pub fn clear(&mut self, b: &B) {
        for gradient in self.params.iter_mut().flatten().chain(&mut self.tied_head) {
            b.fill(gradient, 0.0);
        }
    }

    /// The sums, complete; `None` for tensors that are frozen. Call [`Gradients::clear`] before
    /// adding to them again.
    pub fn total(&mut self, b: &B) -> &Params<Option<B::Buf>> {
        if let (Some(head), Some(embedding)) = (&mut self.tied_head, &mut self.params.embedding) {
            b.add(embedding, head);
            b.fill(head, 0.0);
        }
        &self.params
    }

    /// Where backward passes add.
    pub(super) fn params_mut(&mut self) -> &mut Params<Option<B::Buf>> {
        &mut self.params
    }

    /// Where the language head's gradient is added, if it trains.
    pub(super) fn language_head_mut(&mut self, b: &B) -> Option<&mut B::Buf> {
        match (self.is_tied, &self.params.embedding) {
            (true, Some(embedding)) => {
                Some(self.tied_head.get_or_insert_with(|| b.wide(b.len(embedding))))
            }
            _ => self.params.lm_head.as_mut().and_then(Option::as_mut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::heads::{self, TargetTokens};

    #[test]
    fn a_tied_head_has_a_separate_gradient_once_it_is_used() {
        let (b, spec) = (Cpu::<f32>::new(), Spec::decoder(6, 8, 1, 2, 8, 4));
        let head = HeadKind::LanguageAndValue;
        let params = Params::slots(&spec, head).map(|slot| vec![0.5; slot.count()]);
        let model = Model::upload(&b, spec, head, params);
        let mut gradients = Gradients::zeros(&b, &model, &Trainable::ALL);
        let (hidden, mut dhidden) = (vec![1.0; 8], vec![0.0; 8]);
        heads::scalar_scores_backward(
            &b,
            &model,
            &mut dhidden,
            &mut gradients,
            &hidden,
            &[0],
            &vec![1.0],
        );
        gradients.total(&b);
        assert!(gradients.tied_head.is_none() && gradients.params.embedding.is_some());
        let scored = TargetTokens { rows: &[0], targets: &[3], temperature: 1.0 };
        heads::token_gradients(&b, &model, &mut dhidden, &mut gradients, &hidden, scored, 1.0);
        assert!(gradients.tied_head.is_some());
        let embedding = gradients.total(&b).embedding.as_ref().map(|gradient| gradient[3 * 8]);
        assert!(
            embedding.is_some_and(|gradient| (gradient - 5.0 / 6.0).abs() < 1e-6),
            "{embedding:?}"
        );
    }
}
