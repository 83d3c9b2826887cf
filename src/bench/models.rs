//! Models of well-known sizes with random weights, made on the device. Independent of files and
//! families: a model is given by its sizes.

use std::sync::Arc;

use super::{Options, Source};
use crate::backend::{Activation, Backend};
use crate::model::params::{HeadKind, Params, Trainable};
use crate::model::spec::{FeedForward, Norm, Spec};
use crate::model::weights::Model;

/// A size to measure at.
pub struct Size {
    /// How it is called: its count of parameters.
    pub name: &'static str,
    /// What it is.
    pub spec: Spec,
    /// Which of its tensors train.
    pub trainable: Trainable,
}

/// A decoder with embeddings of positions, layer norms and biases.
fn plain(spec: Spec, activation: Activation) -> Spec {
    Spec {
        norm: Norm::Layer,
        feed_forward: FeedForward::Plain(activation),
        query_key_value_bias: true,
        output_bias: true,
        feed_forward_bias: true,
        ..spec.with_learned_positions()
    }
}

/// 124M: Radford et al. 2019, the smallest; 1.3B: Zhang et al. 2022, table 1; 7B: Touvron et al.
/// 2023, table 2, with the lowest 80% of its blocks frozen, as Kirk et al. 2024 train it.
pub fn sizes(options: Options<'_>) -> Vec<Size> {
    let quick = options.quick;
    let decoder = |v, d, layers, heads, f, context| match quick {
        true => Spec::decoder(v / 250, 32, 2, heads / 6, 48, 64),
        false => Spec::decoder(v, d, layers, heads, f, context),
    };
    let all = |name, spec| Size { name, spec, trainable: Trainable::ALL };
    let large = Spec { tied: false, ..decoder(32_000, 4096, 32, 32, 11_008, 4096) };
    let frozen = Trainable::frozen_fraction(&large, if quick { 0.5 } else { 0.8 });
    vec![
        all("124M", plain(decoder(50_257, 768, 12, 12, 3072, 1024), Activation::GeluTanh)),
        all("1.3B", plain(decoder(50_272, 2048, 24, 32, 8192, 2048), Activation::Relu)),
        Size { name: "7B", spec: large, trainable: frozen },
    ]
}

impl Size {
    /// The model with random weights. A scalar head gives zeros.
    pub fn model<B: Backend>(&self, b: &B, options: Options<'_>, head: HeadKind) -> Model<B> {
        let source: Source<B> = Source::new(|host| b.upload(host), options.quick);
        let weights = Params::slots(&self.spec, head).map(|slot| {
            let mut tensor = b.zeros(slot.count());
            match slot.role {
                _ if slot.bias => {}
                role if role.is_norm() => b.fill(&mut tensor, 1.0),
                _ => source.fill(b, &mut tensor),
            }
            Arc::new(tensor)
        });
        Model::from_weights(b, self.spec.clone(), head, weights)
    }

    /// Parameters of matrices that multiply every token, and those of them that train. An embedding
    /// is looked up, not multiplied; a language head is.
    pub fn multiplied(&self) -> (f64, f64) {
        let slots = Params::slots(&self.spec, HeadKind::Language);
        let head = (self.spec.vocabulary * self.spec.embedding_width) as f64;
        let matrices = slots.iter().filter(|slot| slot.shape.len() == 2 && slot.layer.is_some());
        let (mut all, mut trained) = (head, if self.trainable.embeddings() { head } else { 0.0 });
        for slot in matrices {
            all += slot.count() as f64;
            trained += if self.trainable.trains(slot) { slot.count() as f64 } else { 0.0 };
        }
        (all, trained)
    }

    /// Operations of a training step over sequences of `length`, a token: two a parameter and pass;
    /// the gradient of activations goes from the head down to the first block that trains, that of
    /// weights to those that train. Attention's products count as their causal half.
    pub fn operations(&self, length: usize) -> f64 {
        let (all, trained) = self.multiplied();
        let head = (self.spec.vocabulary * self.spec.embedding_width) as f64;
        let passed = if self.trainable.embeddings() { trained } else { trained + head };
        let attention = |layers: usize| 2.0 * (layers * length * self.spec.query_width()) as f64;
        let layers = self.spec.layers;
        2.0 * (all + trained + passed)
            + attention(layers)
            + 2.5 * attention(layers - self.trainable.first_layer())
    }

    /// Bytes that a step of decoding reads at least: all matrices once, and keys and values of
    /// `positions` positions; `size` bytes a number.
    pub fn decoded_bytes(&self, positions: usize, size: usize) -> f64 {
        let cache = 2 * self.spec.layers * positions * self.spec.key_value_width();
        (self.multiplied().0 + cache as f64) * size as f64
    }
}

/// Token sequences, of tokens at random.
pub fn sequences(spec: &Spec, count: usize, length: usize) -> Vec<Vec<u32>> {
    let stream = crate::random::Stream::new(9, "tokens");
    (0..count)
        .map(|row| {
            let mut draws = stream.sequence(row as u64);
            (0..length).map(|_| draws.below(spec.vocabulary) as u32).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_parameters_that_they_are_called_after() {
        let options = Options { clock: &|| 0.0, seconds: 0.0, quick: false };
        let counts: Vec<f64> = sizes(options)
            .iter()
            .map(|size| Params::slots(&size.spec, HeadKind::Language).count() as f64)
            .collect();
        for (count, expected) in counts.iter().zip([124.4e6, 1.316e9, 6.738e9]) {
            assert!((count / expected - 1.0).abs() < 0.005, "{count} and {expected}");
        }
        let (all, trained) = sizes(options)[2].multiplied();
        assert!(trained / all > 0.2 && trained / all < 0.22);
    }
}
