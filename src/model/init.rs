//! Seeded first weights. A tensor's numbers depend on the seed, its name and its shape alone.

use serde::{Deserialize, Serialize};

use crate::random::Stream;

use super::params::{Affine, HeadKind, Layer, Params, Role, Slot};
use super::spec::Spec;

/// How the weights of a new model are drawn. Norm weights are 1, biases 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Every matrix from N(0, std^2).
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// A start from which copying is learnt soon: keys begin close to queries and attention's
    /// output close to the transpose of its values, so that a head returns what it attends to
    /// (after the mimetic initialisation of Trockman & Kolter 2023); the feed-forward begins as
    /// zero; embeddings have a standard deviation of 0.05, other matrices 1/sqrt(fan in).
    Copying,
}

/// How a new scalar head is drawn. A bias begins at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalarInit {
    /// All zeros: the first scores are 0.
    Zero,
    /// N(0, 1/(d+1)) (Stiennon et al. 2020, appendix B.1).
    Normal,
}

/// Standard deviation of embeddings in [`Init::Copying`].
const EMBEDDING: f64 = 0.05;
/// Share of a query in its key, in [`Init::Copying`]; the rest of the key's variance is noise.
const QUERY_IN_KEY: f64 = 0.9;
/// Share of a value's transpose in the output, in [`Init::Copying`].
const VALUE_IN_OUTPUT: f64 = 0.8;

/// The weights of a new language model.
pub fn language_model(spec: &Spec, init: Init, seed: u64) -> Params<Vec<f32>> {
    let mut params = Params::slots(spec, HeadKind::Language).map(|slot| match slot.role {
        _ if slot.bias => vec![0.0; slot.count()],
        role if role.is_norm() => vec![1.0; slot.count()],
        role => match (init, role) {
            (Init::Normal { std }, _) => normal(&slot, std, seed),
            (Init::Copying, Role::Embedding) => normal(&slot, EMBEDDING, seed),
            (Init::Copying, Role::Down) => vec![0.0; slot.count()],
            (Init::Copying, _) => normal(&slot, 1.0 / (slot.shape[1] as f64).sqrt(), seed),
        },
    });
    if init == Init::Copying {
        params.layers.iter_mut().for_each(|layer| mimic(spec, layer));
    }
    params
}

/// A new scalar head: a value head with a bias, or a reward head without.
pub fn scalar_head(
    spec: &Spec,
    head: HeadKind,
    init: ScalarInit,
    seed: u64,
) -> Option<Affine<Vec<f32>>> {
    let std = 1.0 / (spec.embedding_width as f64 + 1.0).sqrt();
    let params = Params::slots(spec, head).map(|slot| match (slot.role, init) {
        (Role::Scalar, ScalarInit::Normal) if !slot.bias => normal(&slot, std, seed),
        (Role::Scalar, _) => vec![0.0; slot.count()],
        _ => Vec::new(),
    });
    params.scalar
}

/// N(0, std^2) for every number of a slot.
fn normal(slot: &Slot, std: f64, seed: u64) -> Vec<f32> {
    let mut draws = Stream::new(seed, &format!("init {}", slot.name)).sequence(0);
    (0..slot.count()).map(|_| (std * draws.normal()) as f32).collect()
}

/// Keys become 0.9 of the queries of their heads plus noise of the missing variance; the output of
/// a head becomes 0.8 of its value's transpose. Where r query heads share a key/value head, the key
/// takes the sum of their queries over sqrt(r), which keeps its variance, and each head gives 1/r
/// of the value, so that r heads that agree give what one would.
fn mimic(spec: &Spec, layer: &mut Layer<Vec<f32>>) {
    let (d, c, hc) = (spec.width, spec.channels, spec.query_width());
    let r = spec.query_heads / spec.key_value_heads;
    let noise = (1.0 - QUERY_IN_KEY * QUERY_IN_KEY).sqrt();
    // Row j of key/value head g, and the rows of the query heads that use it.
    let query_rows = |row: usize| (0..r).map(move |member| ((row / c) * r + member) * c + row % c);
    for row in 0..spec.key_value_width() {
        for column in 0..d {
            let queries: f64 = query_rows(row)
                .map(|query| f64::from(layer.query.weight[query * d + column]))
                .sum();
            let key = &mut layer.key.weight[row * d + column];
            *key = (QUERY_IN_KEY * queries / (r as f64).sqrt() + noise * f64::from(*key)) as f32;
            for query in query_rows(row) {
                layer.output.weight[column * hc + query] = (VALUE_IN_OUTPUT / r as f64
                    * f64::from(layer.value.weight[row * d + column]))
                    as f32;
            }
        }
    }
}
