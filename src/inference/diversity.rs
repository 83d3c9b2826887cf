//! What can be measured of samples' diversity: by their words, and by what models say of them
//! (sentence embeddings, natural-language inference). Knows no measure's formula.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::pairs::PairModel;
use super::{Progress, Subject, embed};
use crate::backend::Backend;
use crate::error::{Result, user};
use crate::eval::diversity::VOCABULARY;
use crate::eval::pairs::{LETTERS, Nli, Pairs, letters, released};
use crate::eval::spread::{Inputs, Measure, Spread};
use crate::model::pairs::best;
use crate::random::Stream;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Expectation-adjusted distinct n-grams, V = 50257.
    Ead,
    /// `ead` with the V of the tokenizer.
    EadTokenizer,
    /// Distinct n-grams.
    Distinct,
    /// Entropy of n-grams.
    Entropy,
    /// Self-BLEU: higher is less diverse.
    SelfBleu,
    /// Vendi score of n-gram cosines.
    Vendi,
    /// Compression ratio: higher is less diverse.
    Compression,
    /// Number of words.
    Length,
    /// Mean pairwise distance of sentence embeddings.
    Embedding,
    /// Vendi score of sentence embeddings.
    EmbeddingVendi,
    /// Contradiction minus entailment of pairs.
    Nli,
    /// Variant of the released code: 1 - `nli`.
    NliReleased,
    /// Sampled variant of the released code, on single letters.
    NliReleasedSampled,
}

/// What a metric takes beside texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A number of tokens.
    Tokenizer,
    /// A sentence encoder.
    Encoder,
    /// A classifier of inference.
    Nli,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 13] = [
        Metric::Ead,
        Metric::EadTokenizer,
        Metric::Distinct,
        Metric::Entropy,
        Metric::SelfBleu,
        Metric::Vendi,
        Metric::Compression,
        Metric::Length,
        Metric::Embedding,
        Metric::EmbeddingVendi,
        Metric::Nli,
        Metric::NliReleased,
        Metric::NliReleasedSampled,
    ];

    /// Its name, in options, configs and results.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Ead => "ead",
            Metric::EadTokenizer => "ead_tokenizer",
            Metric::Distinct => "distinct",
            Metric::Entropy => "entropy",
            Metric::SelfBleu => "self_bleu",
            Metric::Vendi => "vendi",
            Metric::Compression => "compression",
            Metric::Length => "length",
            Metric::Embedding => "embedding",
            Metric::EmbeddingVendi => "embedding_vendi",
            Metric::Nli => "nli",
            Metric::NliReleased => "nli_released",
            Metric::NliReleasedSampled => "nli_released_sampled",
        }
    }

    /// What it takes beside texts.
    pub fn need(self) -> Option<Need> {
        match self {
            Metric::EadTokenizer => Some(Need::Tokenizer),
            Metric::Embedding | Metric::EmbeddingVendi => Some(Need::Encoder),
            Metric::Nli | Metric::NliReleased | Metric::NliReleasedSampled => Some(Need::Nli),
            _ => None,
        }
    }

    /// The measure of words, where it is one; `tokens` is the tokenizer's size, where there is one.
    pub fn measure(self, tokens: Option<usize>) -> Option<Measure> {
        Some(match self {
            Metric::Ead => Measure::Ead { vocabulary: VOCABULARY },
            Metric::EadTokenizer => Measure::Ead { vocabulary: tokens? as f64 },
            Metric::Distinct => Measure::Distinct,
            Metric::Entropy => Measure::Entropy,
            Metric::SelfBleu => Measure::SelfBleu,
            Metric::Vendi => Measure::Vendi,
            Metric::Compression => Measure::Compression,
            Metric::Length => Measure::Length,
            _ => return None,
        })
    }
}

/// Samples of some inputs: their texts, one input's after another's.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    /// Whose they are.
    pub inputs: &'a Inputs,
    /// All of them.
    pub texts: &'a [&'a str],
    /// Seed of the letters that the released code draws.
    pub seed: u64,
}

impl Samples<'_> {
    /// The metrics that take a sentence encoder.
    pub fn embedded<B: Backend>(
        self,
        encoder: &Subject<B>,
        batch_size: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<(Metric, Spread)>> {
        let options = embed::defaults(&encoder.reader)?;
        let vectors = embed::vectors(encoder, self.texts, options, batch_size, progress)?;
        let vectors: Vec<&[f64]> = vectors.iter().map(Vec::as_slice).collect();
        let spread = |vendi| self.inputs.spread_of_vectors(&vectors, vendi);
        Ok(vec![(Metric::Embedding, spread(false)), (Metric::EmbeddingVendi, spread(true))])
    }

    /// The metrics that take a classifier of inference.
    pub fn inferred<B: Backend>(
        self,
        nli: &PairModel<B>,
        batch_size: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<(Metric, Spread)>> {
        let Inference { nli, released, released_sampled } =
            inference(nli, self.inputs, self.texts, batch_size, self.seed, progress)?;
        Ok(vec![
            (Metric::Nli, nli),
            (Metric::NliReleased, released),
            (Metric::NliReleasedSampled, released_sampled),
        ])
    }
}

/// `nli` of each pair of texts of one set, in both orders, as a matrix for each set. Each distinct
/// pair of texts is judged once.
pub fn inferred_pairs<B: Backend>(
    model: &PairModel<B>,
    sets: &[Vec<&str>],
    batch_size: usize,
    progress: Progress<'_>,
) -> Result<Vec<Pairs>> {
    let pairs = sets
        .iter()
        .flat_map(|set| (0..set.len()).flat_map(move |j| (0..j).map(move |i| (set[i], set[j]))));
    let said = Judge::new(model)?.both_orders(pairs, batch_size, progress)?;
    let matrix = |set: &Vec<&str>| Pairs::new(set.len(), |i, j| said[&(set[i], set[j])]);
    Ok(sets.iter().map(matrix).collect())
}

/// What natural-language inference says of a set of samples.
struct Inference {
    /// The signed sum of both orders (see `eval::pairs`).
    nli: Spread,
    /// As the released code has it.
    released: Spread,
    /// Its sampled variant.
    released_sampled: Spread,
}

/// Judges all pairs of each input's samples, and of the first samples of all inputs, in both
/// orders.
fn inference<B: Backend>(
    model: &PairModel<B>,
    inputs: &Inputs,
    texts: &[&str],
    batch_size: usize,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Inference> {
    let judge = Judge::new(model)?;
    let first: Vec<usize> = inputs.choice(0).collect();
    let sets: Vec<&[usize]> =
        inputs.groups().iter().map(Vec::as_slice).chain([first.as_slice()]).collect();
    let pairs = || {
        sets.iter()
            .flat_map(|set| (0..set.len()).flat_map(move |j| (0..j).map(move |i| (set[i], set[j]))))
    };
    let stream = Stream::new(seed, "letters of the released code");
    let sampled: Vec<Vec<(String, String)>> = pairs()
        .enumerate()
        .map(|(at, (a, b))| {
            let drawn = letters(texts[a], texts[b], &mut stream.sequence(at as u64));
            drawn.into_iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
        })
        .collect();
    let whole = pairs().map(|(a, b)| (texts[a], texts[b]));
    let wanted = whole.chain(sampled.iter().flatten().map(|(a, b)| (a.as_str(), b.as_str())));
    let said = judge.both_orders(wanted, batch_size, progress)?;

    let mut sums = pairs().map(|(a, b)| said[&(texts[a], texts[b])]);
    let mut of_letters = sampled.iter().map(|pairs| {
        pairs.iter().map(|(a, b)| said[&(a.as_str(), b.as_str())]).sum::<f64>()
            / pairs.len().max(1) as f64
    });
    let spread = |values: &mut dyn Iterator<Item = f64>, value: fn(f64) -> f64| {
        let matrices: Vec<Pairs> = sets
            .iter()
            .map(|set| {
                Pairs::new(set.len(), |_, _| value(values.next().expect("a value for every pair")))
            })
            .collect();
        let (across, within) = matrices.split_last().expect("the first samples are a set");
        inputs.spread_of_pairs(within, across)
    };
    let plain: Vec<f64> = sums.by_ref().collect();
    Ok(Inference {
        nli: spread(&mut plain.iter().copied(), |sum| sum),
        released: spread(&mut plain.iter().copied(), released),
        released_sampled: spread(&mut of_letters, |sum| released(sum / LETTERS as f64)),
    })
}

/// A classifier of pairs with three labels.
struct Judge<'a, B: Backend> {
    model: &'a PairModel<B>,
    labels: Vec<Nli>,
}

impl<'a, B: Backend> Judge<'a, B> {
    fn new(model: &'a PairModel<B>) -> Result<Self> {
        let names = model.labels();
        let labels: Option<Vec<Nli>> = names.iter().map(|name| Nli::named(name)).collect();
        match labels.filter(|labels| labels.len() == 3) {
            Some(labels) => Ok(Judge { model, labels }),
            None => Err(user(format!("{} has the labels {}", model.name(), names.join(", ")))
                .hint(
                    "a judge of inference has three, called entailment, neutral and contradiction \
                     in `id2label` of config.json",
                )
                .into()),
        }
    }

    /// For each pair, the sum of what both orders add. Each distinct pair is judged once.
    fn both_orders<'t>(
        &self,
        pairs: impl Iterator<Item = (&'t str, &'t str)>,
        batch_size: usize,
        progress: Progress<'_>,
    ) -> Result<BTreeMap<(&'t str, &'t str), f64>> {
        let wanted: BTreeSet<(&str, &str)> = pairs.collect();
        let ordered: BTreeSet<(&str, &str)> =
            wanted.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        let ordered: Vec<(&str, &str)> = ordered.into_iter().collect();
        let logits = self.model.logits(&ordered, batch_size, progress)?;
        let said: BTreeMap<(&str, &str), f64> =
            ordered.into_iter().zip(logits.iter().map(|logits| self.signed(logits))).collect();
        Ok(wanted.into_iter().map(|(a, b)| ((a, b), said[&(a, b)] + said[&(b, a)])).collect())
    }

    /// What the likeliest label adds.
    fn signed(&self, logits: &[f64]) -> f64 {
        let best = best(logits);
        let denominator: f64 = logits.iter().map(|logit| (logit - logits[best]).exp()).sum();
        self.labels[best].signed(1.0 / denominator)
    }
}
