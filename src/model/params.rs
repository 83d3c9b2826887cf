//! The tensors of a model, as one tree of which there are many: shapes, weights, gradients, both Adam moments. Knows no operation.
//!
//! [`Params::slots`] is the one list of names, shapes and roles; every other list (load, save, count, update, tests) is a zip with it.

use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{Result, user};

use super::spec::Spec;

/// A model's tensors, each a `T`.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<T> {
    /// `[v,d]`.
    pub embedding: T,
    /// The blocks, lowest first.
    pub layers: Vec<Layer<T>>,
    /// `[d]`: weight of the last norm.
    pub norm: T,
    /// `[v,d]`: the language head, where it is not the embedding.
    pub lm_head: Option<T>,
    /// The reward or value head.
    pub scalar: Option<Scalar<T>>,
}

/// The tensors of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer<T> {
    /// `[d]`: weight of the norm before attention.
    pub attention_norm: T,
    /// `[h*c,d]`.
    pub query: T,
    /// `[h*c]`.
    pub query_bias: Option<T>,
    /// `[g*c,d]`.
    pub key: T,
    /// `[g*c]`.
    pub key_bias: Option<T>,
    /// `[g*c,d]`.
    pub value: T,
    /// `[g*c]`.
    pub value_bias: Option<T>,
    /// `[d,h*c]`.
    pub output: T,
    /// `[d]`.
    pub output_bias: Option<T>,
    /// `[d]`: weight of the norm before the feed-forward.
    pub feed_forward_norm: T,
    /// `[f,d]`.
    pub gate: T,
    /// `[f,d]`.
    pub up: T,
    /// `[d,f]`.
    pub down: T,
}

/// A head that gives one number a position.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar<T> {
    /// `[1,d]`.
    pub weight: T,
    /// `[1]`; a reward head has none, since a preference cannot determine it.
    pub bias: Option<T>,
}

/// What stands on the trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Top {
    /// The language head.
    Language,
    /// The language head and a scalar head with a bias.
    LanguageAndValue,
    /// A scalar head without a bias, and no language head of its own.
    Reward,
}

/// What a tensor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Role {
    Embedding,
    AttentionNorm,
    Query,
    QueryBias,
    Key,
    KeyBias,
    Value,
    ValueBias,
    Output,
    OutputBias,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    FinalNorm,
    LanguageHead,
    ScalarWeight,
    ScalarBias,
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
}

impl Slot {
    /// Count of numbers.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Weights on a device. Tensors may be shared between models (a frozen trunk).
pub type Weights<B> = Params<Arc<<B as Backend>::Buf>>;

/// The one walk over the fields, for a tree taken by value, by `&` or by `&mut`, in the order of [`Params::slots`].
macro_rules! walk {
    ([$($borrow:tt)*] $tree:expr, $leaf:expr) => {{
        let (tree, leaf) = ($tree, $leaf);
        Params {
            embedding: leaf($($borrow)* tree.embedding),
            layers: ($($borrow)* tree.layers)
                .into_iter()
                .map(|layer| Layer {
                    attention_norm: leaf($($borrow)* layer.attention_norm),
                    query: leaf($($borrow)* layer.query),
                    query_bias: ($($borrow)* layer.query_bias).into_iter().next().map(&mut *leaf),
                    key: leaf($($borrow)* layer.key),
                    key_bias: ($($borrow)* layer.key_bias).into_iter().next().map(&mut *leaf),
                    value: leaf($($borrow)* layer.value),
                    value_bias: ($($borrow)* layer.value_bias).into_iter().next().map(&mut *leaf),
                    output: leaf($($borrow)* layer.output),
                    output_bias: ($($borrow)* layer.output_bias).into_iter().next().map(&mut *leaf),
                    feed_forward_norm: leaf($($borrow)* layer.feed_forward_norm),
                    gate: leaf($($borrow)* layer.gate),
                    up: leaf($($borrow)* layer.up),
                    down: leaf($($borrow)* layer.down),
                })
                .collect(),
            norm: leaf($($borrow)* tree.norm),
            lm_head: ($($borrow)* tree.lm_head).into_iter().next().map(&mut *leaf),
            scalar: ($($borrow)* tree.scalar).into_iter().next().map(|scalar| Scalar {
                weight: leaf($($borrow)* scalar.weight),
                bias: ($($borrow)* scalar.bias).into_iter().next().map(&mut *leaf),
            }),
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

    /// What stands on the trunk.
    pub fn top(&self) -> Top {
        match &self.scalar {
            None => Top::Language,
            Some(Scalar { bias: Some(_), .. }) => Top::LanguageAndValue,
            Some(Scalar { bias: None, .. }) => Top::Reward,
        }
    }

    /// The slots of this tree, which is one of a model of `spec`.
    pub fn slots_of(&self, spec: &Spec) -> Params<Slot> {
        Params::slots(spec, self.top())
    }
}

impl Params<Slot> {
    /// The one list of a model's tensors: names, shapes, roles.
    pub fn slots(spec: &Spec, top: Top) -> Self {
        let (v, d, f) = (spec.vocabulary, spec.width, spec.feed_forward);
        let (hc, gc) = (spec.query_width(), spec.key_value_width());
        let slot = |layer: Option<usize>, name: &str, role: Role, shape: &[usize]| Slot {
            name: layer.map_or_else(|| name.to_string(), |layer| format!("layers.{layer}.{name}")),
            shape: shape.to_vec(),
            layer,
            decay: shape.len() > 1,
            role,
        };
        let layer = |index: usize| {
            let slot = |name: &str, role: Role, shape: &[usize]| slot(Some(index), name, role, shape);
            let bias = |name: &str, role: Role, size: usize| spec.attention_bias.then(|| slot(name, role, &[size]));
            Layer {
                attention_norm: slot("attention.norm", Role::AttentionNorm, &[d]),
                query: slot("attention.query", Role::Query, &[hc, d]),
                query_bias: bias("attention.query_bias", Role::QueryBias, hc),
                key: slot("attention.key", Role::Key, &[gc, d]),
                key_bias: bias("attention.key_bias", Role::KeyBias, gc),
                value: slot("attention.value", Role::Value, &[gc, d]),
                value_bias: bias("attention.value_bias", Role::ValueBias, gc),
                output: slot("attention.output", Role::Output, &[d, hc]),
                output_bias: bias("attention.output_bias", Role::OutputBias, d),
                feed_forward_norm: slot("feed_forward.norm", Role::FeedForwardNorm, &[d]),
                gate: slot("feed_forward.gate", Role::Gate, &[f, d]),
                up: slot("feed_forward.up", Role::Up, &[f, d]),
                down: slot("feed_forward.down", Role::Down, &[d, f]),
            }
        };
        Params {
            embedding: slot(None, "embedding", Role::Embedding, &[v, d]),
            layers: (0..spec.layers).map(layer).collect(),
            norm: slot(None, "norm", Role::FinalNorm, &[d]),
            lm_head: (!spec.tied && top != Top::Reward).then(|| slot(None, "lm_head", Role::LanguageHead, &[v, d])),
            scalar: (top != Top::Language).then(|| Scalar {
                weight: slot(None, "scalar.weight", Role::ScalarWeight, &[1, d]),
                bias: (top == Top::LanguageAndValue).then(|| slot(None, "scalar.bias", Role::ScalarBias, &[1])),
            }),
        }
    }

    /// Count of numbers in all tensors.
    pub fn count(&self) -> usize {
        self.iter().map(Slot::count).sum()
    }
}

/// Which tensors training changes. The last norm and the scalar head always train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// The blocks below it are frozen.
    pub first_layer: usize,
    /// The embedding and the language head train; then no block may be frozen.
    pub embeddings: bool,
}

impl Trainable {
    /// Everything trains.
    pub const ALL: Trainable = Trainable { first_layer: 0, embeddings: true };

    /// The lowest `int(fraction * layers)` blocks, the embedding and the language head are frozen; all train where `fraction` is 0.
    pub fn frozen_fraction(spec: &Spec, fraction: f64) -> Self {
        match fraction > 0.0 {
            true => Trainable { first_layer: ((fraction * spec.layers as f64) as usize).min(spec.layers), embeddings: false },
            false => Trainable::ALL,
        }
    }

    /// A user error where the choice does not fit the model.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        if self.first_layer > spec.layers {
            return Err(user(format!("{} frozen blocks asked of a model that has {}", self.first_layer, spec.layers)).into());
        }
        if self.embeddings && self.first_layer > 0 {
            let message = format!("the embedding cannot train while the {} blocks above it are frozen", self.first_layer);
            return Err(user(message).hint("freeze the embedding too, or no block").into());
        }
        Ok(())
    }

    /// Whether the tensor in `slot` trains.
    pub fn trains(&self, slot: &Slot) -> bool {
        match slot.role {
            Role::Embedding | Role::LanguageHead => self.embeddings,
            Role::FinalNorm | Role::ScalarWeight | Role::ScalarBias => true,
            _ => slot.layer.is_some_and(|layer| layer >= self.first_layer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            vocabulary: 7,
            width: 4,
            layers: 5,
            query_heads: 4,
            key_value_heads: 2,
            channels: 2,
            feed_forward: 6,
            context: 8,
            norm_epsilon: 1e-5,
            rotary_theta: 1e4,
            tied: false,
            attention_bias: true,
        }
    }

    #[test]
    fn names_are_unique_and_in_walking_order() {
        let slots = Params::slots(&spec(), Top::LanguageAndValue);
        let names: Vec<String> = slots.iter().map(|slot| slot.name.clone()).collect();
        assert_eq!(names.len(), 1 + 5 * 13 + 1 + 1 + 2);
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        assert_eq!((names[0].as_str(), names[1].as_str()), ("embedding", "layers.0.attention.norm"));
        assert_eq!(names[names.len() - 1], "scalar.bias");
        let owned: Vec<String> = slots.clone().map(|slot| slot.name).into_vec();
        let mutable: Vec<String> = slots.clone().iter_mut().map(|slot| slot.name.clone()).collect();
        assert!(owned == names && mutable == names);
    }

    #[test]
    fn the_top_is_read_off_the_tree() {
        for top in [Top::Language, Top::LanguageAndValue, Top::Reward] {
            assert_eq!(Params::slots(&spec(), top).top(), top);
        }
        assert!(Params::slots(&spec(), Top::Reward).lm_head.is_none());
        assert_eq!(Params::slots(&spec(), Top::Reward).count() + 7 * 4, Params::slots(&spec(), Top::LanguageAndValue).count() - 1);
    }

    #[test]
    fn the_papers_choice_freezes_the_lowest_four_fifths_and_both_ends() {
        let trainable = Trainable::frozen_fraction(&spec(), 0.8);
        let slots = Params::slots(&spec(), Top::LanguageAndValue);
        let trained: Vec<&Slot> = slots.iter().filter(|slot| trainable.trains(slot)).collect();
        assert_eq!(trained.len(), 13 + 1 + 2);
        assert!(trained.iter().all(|slot| slot.layer.is_none_or(|layer| layer == 4)));
        assert!(slots.iter().all(|slot| Trainable::ALL.trains(slot)));
        assert!(Trainable { first_layer: 1, embeddings: true }.check(&spec()).is_err());
    }
}
