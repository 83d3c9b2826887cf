//! The tensors of a model, as one generic tree: of shapes, weights, gradients, both Adam moments.
//! Independent of operations.
//!
//! [`Params::slots`] is the one list of names, shapes and roles; every other list (load, save,
//! count, update, tests) is a zip with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::backend::Buffers;
use crate::error::{Result, user};

use super::spec::{Norm, Spec};

/// A model's tensors, each a `T`.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<T> {
    /// `[v,e]`.
    pub embedding: T,
    /// `[d,e]`, from embeddings to the residual stream, where they differ.
    pub project_in: Option<T>,
    /// `[context,d]`: embeddings of positions, where they are learned.
    pub positions: Option<T>,
    /// `[token_types,d]`: embeddings of segments.
    pub token_types: Option<T>,
    /// `[d]`: the norm of the sum of embeddings.
    pub embedding_norm: Option<Affine<T>>,
    /// The blocks, lowest first.
    pub layers: Vec<Layer<T>>,
    /// `[d]`: the norm above the last block.
    pub norm: Option<Affine<T>>,
    /// `[e,d]`, from the residual stream to what heads read, where they differ.
    pub project_out: Option<T>,
    /// `[v,e]`: the language head, where it is not the embedding.
    pub lm_head: Option<T>,
    /// `[1,e]` and, in a value head, `[1]`: the head that gives one number a position.
    pub scalar: Option<Affine<T>>,
    /// The head that classifies a sequence by its first token.
    pub classifier: Option<Classifier<T>>,
}

/// The tensors of one block. Sizes are those of the weights; biases are as long as their weight has
/// rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer<T> {
    /// `[d]`: the norm before attention or, in a post-norm model, after its residual.
    pub attention_norm: Affine<T>,
    /// `[h*c,d]`.
    pub query: Affine<T>,
    /// `[g*c,d]`.
    pub key: Affine<T>,
    /// `[g*c,d]`.
    pub value: Affine<T>,
    /// `[c]`: the norm of every query head.
    pub query_norm: Option<T>,
    /// `[c]`: the norm of every key head.
    pub key_norm: Option<T>,
    /// `[d,h*c]`.
    pub output: Affine<T>,
    /// `[d]`: the norm before the feed-forward or, in a post-norm model, after its residual.
    pub feed_forward_norm: Affine<T>,
    /// `[f,d]`, where the feed-forward is gated.
    pub gate: Option<Affine<T>>,
    /// `[f,d]`.
    pub up: Affine<T>,
    /// `[d,f]`.
    pub down: Affine<T>,
}

/// A linear layer or a norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine<T> {
    /// What multiplies.
    pub weight: T,
    /// What is added.
    pub bias: Option<T>,
}

/// logits = out(tanh(dense(first token))).
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier<T> {
    /// `[d,d]`, `[d]`.
    pub dense: Affine<T>,
    /// `[labels,d]`, `[labels]`.
    pub out: Affine<T>,
}

/// The heads on the trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// The language head.
    Language,
    /// The language head and a scalar head with a bias.
    LanguageAndValue,
    /// A scalar head with a bias, and no separate language head: a critic that began as a reward
    /// model.
    Value,
    /// A scalar head without a bias (a preference cannot determine it), and no separate language
    /// head.
    Reward,
    /// None: the hidden states are the result.
    Encoder,
    /// A head that classifies sequences, into [`Spec::labels`] classes.
    Classifier,
}

impl HeadKind {
    /// Whether there is a language head.
    pub fn has_language(self) -> bool {
        matches!(self, HeadKind::Language | HeadKind::LanguageAndValue)
    }

    /// Whether there is a scalar head.
    pub fn has_scalar(self) -> bool {
        matches!(self, HeadKind::Reward | HeadKind::Value | HeadKind::LanguageAndValue)
    }
}

/// What a tensor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Role {
    Embedding,
    ProjectIn,
    Positions,
    TokenTypes,
    EmbeddingNorm,
    AttentionNorm,
    Query,
    Key,
    Value,
    QueryNorm,
    KeyNorm,
    Output,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    FinalNorm,
    ProjectOut,
    LanguageHead,
    Scalar,
    ClassifierDense,
    ClassifierOut,
}

impl Role {
    /// Whether it takes part in turning tokens into the first block's input.
    pub fn is_embedding(self) -> bool {
        use Role::{Embedding, EmbeddingNorm, Positions, ProjectIn, TokenTypes};
        matches!(self, Embedding | ProjectIn | Positions | TokenTypes | EmbeddingNorm)
    }

    /// Whether it is a norm.
    pub fn is_norm(self) -> bool {
        use Role::{AttentionNorm, EmbeddingNorm, FeedForwardNorm, FinalNorm, KeyNorm, QueryNorm};
        matches!(
            self,
            EmbeddingNorm | AttentionNorm | QueryNorm | KeyNorm | FeedForwardNorm | FinalNorm
        )
    }
}

/// The place of one tensor in a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Our own stable name: `layers.0.attention.query`.
    pub name: String,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
    /// The block it belongs to.
    pub layer: Option<usize>,
    /// Whether weight decay applies: matrices only.
    pub decay: bool,
    /// What it does.
    pub role: Role,
    /// It is what is added, not what multiplies.
    pub bias: bool,
}

impl Slot {
    /// Count of numbers.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Weights on a device. Tensors may be shared between models (a frozen trunk).
pub type Weights<B> = Params<Arc<<B as Buffers>::Buf>>;

/// The one walk over the fields, for a tree taken by value, by `&` or by `&mut`, in the order of
/// [`Params::slots`].
macro_rules! walk {
    ([$($borrow:tt)*] $tree:expr, $leaf:expr) => {{
        let (tree, leaf) = ($tree, $leaf);
        macro_rules! option {
            ($of:expr) => {
                ($($borrow)* $of).into_iter().next().map(&mut *leaf)
            };
        }
        macro_rules! affine {
            ($of:expr) => {
                Affine { weight: leaf($($borrow)* $of.weight), bias: option!($of.bias) }
            };
        }
        macro_rules! affine_option {
            ($of:expr) => {
                ($($borrow)* $of).into_iter().next().map(|affine| affine!(affine))
            };
        }
        Params {
            embedding: leaf($($borrow)* tree.embedding),
            project_in: option!(tree.project_in),
            positions: option!(tree.positions),
            token_types: option!(tree.token_types),
            embedding_norm: affine_option!(tree.embedding_norm),
            layers: ($($borrow)* tree.layers)
                .into_iter()
                .map(|layer| Layer {
                    attention_norm: affine!(layer.attention_norm),
                    query: affine!(layer.query),
                    key: affine!(layer.key),
                    value: affine!(layer.value),
                    query_norm: option!(layer.query_norm),
                    key_norm: option!(layer.key_norm),
                    output: affine!(layer.output),
                    feed_forward_norm: affine!(layer.feed_forward_norm),
                    gate: affine_option!(layer.gate),
                    up: affine!(layer.up),
                    down: affine!(layer.down),
                })
                .collect(),
            norm: affine_option!(tree.norm),
            project_out: option!(tree.project_out),
            lm_head: option!(tree.lm_head),
            scalar: affine_option!(tree.scalar),
            classifier: ($($borrow)* tree.classifier)
                .into_iter()
                .next()
                .map(|classifier| Classifier { dense: affine!(classifier.dense),
                    out: affine!(classifier.out) }),
        }
    }};
}

impl<T> Params<T> {
    /// The same tree with `f` of every tensor, in the order of [`Params::slots`].
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Params<U> {
        walk!([] self, &mut f)
    }

    /// The tree of references.
    pub fn as_ref(&self) -> Params<&T> {
        walk!([&] self, &mut |tensor| tensor)
    }

    /// The tree of mutable references.
    pub fn as_mut(&mut self) -> Params<&mut T> {
        walk!([&mut] self, &mut |tensor| tensor)
    }

    /// All tensors, in the order of [`Params::slots`].
    pub fn into_vec(self) -> Vec<T> {
        let mut tensors = Vec::new();
        self.map(|tensor| tensors.push(tensor));
        tensors
    }

    /// References to all tensors, in the order of [`Params::slots`].
    pub fn iter(&self) -> std::vec::IntoIter<&T> {
        self.as_ref().into_vec().into_iter()
    }

    /// Mutable references to all tensors, in the order of [`Params::slots`].
    pub fn iter_mut(&mut self) -> std::vec::IntoIter<&mut T> {
        self.as_mut().into_vec().into_iter()
    }

    /// Pairs the tensors of two trees of one form.
    pub fn zip<U>(self, other: Params<U>) -> Params<(T, U)> {
        let mut others = other.into_vec().into_iter();
        let pairs = self.map(|tensor| (tensor, others.next().expect("both trees have one form")));
        assert!(others.next().is_none(), "both trees have one form");
        pairs
    }
}

impl Params<Slot> {
    /// The one list of a model's tensors: names, shapes, roles.
    pub fn slots(spec: &Spec, head: HeadKind) -> Self {
        let (v, d, e, f) =
            (spec.vocabulary, spec.width, spec.embedding_width, spec.feed_forward_width);
        let (hc, gc, c) = (spec.query_width(), spec.key_value_width(), spec.channels);
        let slot =
            |layer: Option<usize>, name: &str, role: Role, shape: &[usize], bias: bool| Slot {
                name: layer
                    .map_or_else(|| name.to_string(), |layer| format!("layers.{layer}.{name}")),
                shape: shape.to_vec(),
                layer,
                decay: shape.len() > 1,
                role,
                bias,
            };
        let affine =
            |layer: Option<usize>, name: &str, role: Role, shape: &[usize], biased: bool| Affine {
                weight: slot(layer, name, role, shape, false),
                bias: biased.then(|| slot(layer, &format!("{name}_bias"), role, &shape[..1], true)),
            };
        let norm = |layer: Option<usize>, name: &str, role: Role| {
            affine(layer, name, role, &[d], spec.norm == Norm::Layer)
        };
        let top_level =
            |name: &str, role: Role, shape: &[usize]| slot(None, name, role, shape, false);
        let layer = |index: usize| {
            let linear = |name: &str, role: Role, shape: [usize; 2], biased: bool| {
                affine(Some(index), name, role, &shape, biased)
            };
            let head_norm = |name: &str, role: Role| {
                spec.query_key_norm.then(|| slot(Some(index), name, role, &[c], false))
            };
            Layer {
                attention_norm: norm(Some(index), "attention.norm", Role::AttentionNorm),
                query: linear("attention.query", Role::Query, [hc, d], spec.query_key_value_bias),
                key: linear("attention.key", Role::Key, [gc, d], spec.query_key_value_bias),
                value: linear("attention.value", Role::Value, [gc, d], spec.query_key_value_bias),
                query_norm: head_norm("attention.query_norm", Role::QueryNorm),
                key_norm: head_norm("attention.key_norm", Role::KeyNorm),
                output: linear("attention.output", Role::Output, [d, hc], spec.output_bias),
                feed_forward_norm: norm(Some(index), "feed_forward.norm", Role::FeedForwardNorm),
                gate: spec.feed_forward.is_gated().then(|| {
                    linear("feed_forward.gate", Role::Gate, [f, d], spec.feed_forward_bias)
                }),
                up: linear("feed_forward.up", Role::Up, [f, d], spec.feed_forward_bias),
                down: linear("feed_forward.down", Role::Down, [d, f], spec.feed_forward_bias),
            }
        };
        Params {
            embedding: top_level("embedding", Role::Embedding, &[v, e]),
            project_in: (e != d).then(|| top_level("project_in", Role::ProjectIn, &[d, e])),
            positions: spec
                .learned_positions
                .then(|| top_level("positions", Role::Positions, &[spec.context, d])),
            token_types: (spec.token_types > 0)
                .then(|| top_level("token_types", Role::TokenTypes, &[spec.token_types, d])),
            embedding_norm: spec
                .embedding_norm
                .then(|| norm(None, "embedding_norm", Role::EmbeddingNorm)),
            layers: (0..spec.layers).map(layer).collect(),
            norm: spec.final_norm.then(|| norm(None, "norm", Role::FinalNorm)),
            project_out: (e != d).then(|| top_level("project_out", Role::ProjectOut, &[e, d])),
            lm_head: (head.has_language() && !spec.tied)
                .then(|| top_level("lm_head", Role::LanguageHead, &[v, e])),
            scalar: head.has_scalar().then(|| Affine {
                weight: top_level("scalar.weight", Role::Scalar, &[1, e]),
                bias: (head != HeadKind::Reward)
                    .then(|| slot(None, "scalar.bias", Role::Scalar, &[1], true)),
            }),
            classifier: (head == HeadKind::Classifier).then(|| Classifier {
                dense: affine(None, "classifier.dense", Role::ClassifierDense, &[d, d], true),
                out: affine(None, "classifier.out", Role::ClassifierOut, &[spec.labels, d], true),
            }),
        }
    }

    /// Count of numbers in all tensors.
    pub fn count(&self) -> usize {
        self.iter().map(Slot::count).sum()
    }
}

/// Which tensors of a model training changes: all except those of a set. A head that is new to the
/// model is in no set, so it trains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// Names of slots.
    frozen: BTreeSet<String>,
    first_layer: usize,
    embeddings: bool,
}

impl Trainable {
    /// Everything trains.
    pub const ALL: Trainable =
        Trainable { frozen: BTreeSet::new(), first_layer: 0, embeddings: true };

    /// The tensors of a language model of `spec` for which `trains` is true, and all heads that are
    /// new to it.
    pub fn new(spec: &Spec, trains: impl Fn(&Slot) -> bool) -> Self {
        let slots = Params::slots(spec, HeadKind::Language).into_vec();
        let (trained, frozen): (Vec<Slot>, Vec<Slot>) = slots.into_iter().partition(trains);
        let embeddings = trained.iter().any(|slot| slot.role.is_embedding());
        let lowest = trained.iter().filter_map(|slot| slot.layer).min().unwrap_or(spec.layers);
        Trainable {
            frozen: frozen.into_iter().map(|slot| slot.name).collect(),
            first_layer: if embeddings { 0 } else { lowest },
            embeddings,
        }
    }

    /// The blocks from `first` on and the last norm; embeddings, projections and the language head
    /// are frozen.
    pub fn above(spec: &Spec, first: usize) -> Self {
        Trainable::new(spec, |slot| match slot.layer {
            Some(layer) => layer >= first,
            None => slot.role == Role::FinalNorm,
        })
    }

    /// The lowest `int(fraction * layers)` blocks, the embedding and the language head are frozen;
    /// all train where `fraction` is 0.
    pub fn frozen_fraction(spec: &Spec, fraction: f64) -> Self {
        match fraction > 0.0 {
            true => {
                Trainable::above(spec, ((fraction * spec.layers as f64) as usize).min(spec.layers))
            }
            false => Trainable::ALL,
        }
    }

    /// The lowest block that a backward pass goes through: the first with a tensor that trains, or
    /// block 0 if an embedding does.
    pub fn first_layer(&self) -> usize {
        self.first_layer
    }

    /// Whether a tensor trains that takes part in turning tokens into the first block's input.
    pub fn embeddings(&self) -> bool {
        self.embeddings
    }

    /// A user error where the choice is of a model with more blocks.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        match self.first_layer > spec.layers {
            true => Err(user(format!(
                "cannot freeze {} blocks of a model that has {}",
                self.first_layer, spec.layers
            ))
            .into()),
            false => Ok(()),
        }
    }

    /// Whether the tensor in `slot` trains.
    pub fn trains(&self, slot: &Slot) -> bool {
        !self.frozen.contains(&slot.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rotary, gated, with biases.
    fn spec() -> Spec {
        let bias = Spec {
            query_key_value_bias: true,
            output_bias: true,
            ..Spec::decoder(7, 4, 5, 2, 6, 8)
        };
        Spec { tied: false, query_heads: 4, key_value_heads: 2, channels: 2, ..bias }
    }

    /// Every kind of tensor except the heads.
    fn full() -> Spec {
        let spec = Spec {
            norm: Norm::Layer,
            embedding_width: 3,
            query_key_norm: true,
            ..spec().with_learned_positions()
        };
        Spec { feed_forward_bias: true, token_types: 2, embedding_norm: true, labels: 3, ..spec }
    }

    #[test]
    fn names_are_unique_and_in_walking_order() {
        let slots = Params::slots(&spec(), HeadKind::LanguageAndValue);
        let names: Vec<String> = slots.iter().map(|slot| slot.name.clone()).collect();
        assert_eq!(names.len(), 1 + 5 * 13 + 1 + 1 + 2);
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        assert_eq!(
            (names[0].as_str(), names[1].as_str()),
            ("embedding", "layers.0.attention.norm")
        );
        assert_eq!(names[names.len() - 1], "scalar.bias");
        let full: Vec<String> = Params::slots(&full(), HeadKind::Classifier)
            .into_vec()
            .into_iter()
            .map(|slot| slot.name)
            .collect();
        assert_eq!(full.len(), 1 + 1 + 1 + 1 + 2 + 5 * 20 + 2 + 1 + 4);
        assert_eq!(full.iter().collect::<std::collections::BTreeSet<_>>().len(), full.len());
        let owned: Vec<String> = slots.clone().map(|slot| slot.name).into_vec();
        let mutable: Vec<String> = slots.clone().iter_mut().map(|slot| slot.name.clone()).collect();
        assert!(owned == names && mutable == names);
    }

    #[test]
    fn a_reward_model_has_no_separate_language_head() {
        assert!(Params::slots(&spec(), HeadKind::Reward).lm_head.is_none());
        assert_eq!(
            Params::slots(&spec(), HeadKind::Reward).count() + 7 * 4,
            Params::slots(&spec(), HeadKind::LanguageAndValue).count() - 1
        );
    }

    #[test]
    fn the_papers_choice_freezes_the_lowest_four_fifths_and_both_ends() {
        let trainable = Trainable::frozen_fraction(&spec(), 0.8);
        let slots = Params::slots(&spec(), HeadKind::LanguageAndValue);
        let trained: Vec<&Slot> = slots.iter().filter(|slot| trainable.trains(slot)).collect();
        assert_eq!(trained.len(), 13 + 1 + 2);
        assert!(trained.iter().all(|slot| slot.layer.is_none_or(|layer| layer == 4)));
        assert!(slots.iter().all(|slot| Trainable::ALL.trains(slot)));
        assert_eq!((trainable.first_layer(), trainable.embeddings()), (4, false));
        let fewer = Spec { layers: 3, ..spec() };
        assert!(trainable.check(&spec()).is_ok() && trainable.check(&fewer).is_err());
    }

    #[test]
    fn any_set_of_tensors_may_train() {
        let values = |slot: &Slot| slot.role == Role::Value && slot.layer >= Some(2);
        let trainable = Trainable::new(&spec(), values);
        assert_eq!((trainable.first_layer(), trainable.embeddings()), (2, false));
        let slots = Params::slots(&spec(), HeadKind::Reward);
        let trained: Vec<&Slot> = slots.iter().filter(|slot| trainable.trains(slot)).collect();
        // Weights and biases of three blocks, and the head.
        assert_eq!(trained.len(), 2 * 3 + 1);
        let embedding = Trainable::new(&spec(), |slot| slot.role == Role::Embedding);
        assert_eq!((embedding.first_layer(), embedding.embeddings()), (0, true));
    }
}
