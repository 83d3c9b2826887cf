//! Diversity of many inputs' samples by any measure: per input and across inputs, with intervals; and the same of texts cut to one length.
//! Knows no measure's formula and no model.
//!
//! 1. Per input: the measure of one input's samples, meant over inputs (Kirk et al. 2024, section 5.2).
//! 2. Across inputs: the measure of the set with one sample of each input. `first` takes the first sample of each, as the paper does;
//!    `mean` is over all choices "the k-th sample of each", of which the first is one case. Inputs with fewer samples are not in the
//!    sets of later k.
//! 3. Intervals are over inputs: bootstrap of the mean per input; half-sample subsampling of the first set across inputs, laid around
//!    `mean` (see `bootstrap.rs`).
//! 4. All of them confound diversity with length. The cut texts are the first `length` words of each, words as EAD counts them, joined by
//!    spaces; a set's own length is the one that at least half of its texts reach.

use rayon::prelude::*;
use serde::Serialize;

use super::bootstrap::Resamples;
use super::compression;
use super::diversity::{self, Ngrams, ORDERS};
use super::pairs::Pairs;
use super::self_bleu::SelfBleu;
use super::vendi;
use crate::random::Stream;

/// Resamples of measures that take an eigendecomposition for each.
const FEW: usize = 100;
/// Resamples of the others.
const MANY: usize = 1000;

/// A measure of a set of texts, by its words alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// EAD with this vocabulary, by n.
    Ead {
        /// V.
        vocabulary: f64,
    },
    /// Distinct-n, by n.
    Distinct,
    /// Entropy of n-grams in nats, by n.
    Entropy,
    /// Self-BLEU.
    SelfBleu,
    /// Vendi score of n-gram cosines.
    Vendi,
    /// Compression ratio.
    Compression,
    /// Words a text.
    Length,
}

/// A measure of the set of texts at some indices, for each n where it is by n.
pub type OfSet<'a> = Box<dyn Fn(&[usize]) -> Vec<f64> + Send + Sync + 'a>;

impl Measure {
    /// Makes texts ready to be measured.
    pub fn prepare<'a>(self, texts: &'a [&'a str]) -> OfSet<'a> {
        let by_order = |orders: [f64; ORDERS]| orders.to_vec();
        match self {
            Measure::Ead { vocabulary } => {
                let ngrams = Ngrams::new(texts);
                Box::new(move |indices| by_order(ngrams.ead_by_order(indices, vocabulary)))
            }
            Measure::Distinct => {
                let ngrams = Ngrams::new(texts);
                Box::new(move |indices| by_order(ngrams.distinct_by_order(indices)))
            }
            Measure::Entropy => {
                let ngrams = Ngrams::new(texts);
                Box::new(move |indices| by_order(ngrams.entropy_by_order(indices)))
            }
            Measure::SelfBleu => {
                let bleu = SelfBleu::new(texts);
                Box::new(move |indices| vec![bleu.mean(indices)])
            }
            Measure::Vendi => {
                let words: Vec<Vec<String>> = texts.iter().map(|text| diversity::words(text)).collect();
                let (similarities, n) = (vendi::ngram_similarities(&words), texts.len());
                Box::new(move |indices| vec![vendi::of_similarities(&vendi::part(&similarities, n, indices), indices.len())])
            }
            Measure::Compression => Box::new(|indices| vec![compression::ratio(indices.iter().map(|&at| texts[at]))]),
            Measure::Length => {
                let lengths: Vec<f64> = texts.iter().map(|text| diversity::words(text).len() as f64).collect();
                Box::new(move |indices| vec![indices.iter().map(|&at| lengths[at]).sum::<f64>() / indices.len().max(1) as f64])
            }
        }
    }

    /// How many resamples its interval across inputs is made of.
    fn resamples(self) -> usize {
        match self {
            Measure::Vendi => FEW,
            _ => MANY,
        }
    }
}

/// A measure of all inputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Of each input's samples.
    pub per_input: PerInput,
    /// Of one sample of each input.
    pub across_inputs: AcrossInputs,
    /// Each input's measure, of which `per_input` is the mean.
    #[serde(skip)]
    pub each: Vec<f64>,
    /// For n = 1, 2, ..., where the measure is by n: the mean per input and the first set across inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_n: Option<ByOrder>,
}

/// Over inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PerInput {
    /// Mean.
    pub mean: f64,
    /// 2.5th percentile of the mean.
    pub low: f64,
    /// 97.5th percentile of the mean.
    pub high: f64,
    /// Standard deviation over inputs.
    pub std: f64,
}

/// Over choices of one sample of each input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AcrossInputs {
    /// The first sample of each.
    pub first: f64,
    /// Lower end of the 95% interval of `first` over inputs.
    pub first_low: f64,
    /// Upper end.
    pub first_high: f64,
    /// The mean over the k-th sample of each, for all k.
    pub mean: f64,
    /// 2.5th percentile over inputs.
    pub low: f64,
    /// 97.5th percentile over inputs.
    pub high: f64,
}

/// A measure by n.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByOrder {
    /// Mean over inputs, for each n.
    pub per_input: Vec<f64>,
    /// Of the first sample of each input, for each n.
    pub across_inputs: Vec<f64>,
}

/// Texts of several inputs, as one list and the indices of each input's.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Indices of each input's samples; no input is without.
    groups: Vec<Vec<usize>>,
}

impl Inputs {
    /// Of so many samples an input; inputs without a sample do not count.
    pub fn new(samples: impl IntoIterator<Item = usize>) -> Self {
        let mut next = 0;
        let mut group = |count: usize| {
            let group = (next..next + count).collect();
            next += count;
            group
        };
        Inputs { groups: samples.into_iter().filter(|count| *count > 0).map(&mut group).collect() }
    }

    /// A measure of `texts`, the samples of the first input, then of the second, and so on.
    pub fn spread(&self, measure: Measure, texts: &[&str], seed: u64) -> Spread {
        // Per input its own texts alone are made ready: pairs across inputs are many and not needed.
        let each: Vec<Vec<f64>> =
            self.groups.par_iter().map(|group| measure.prepare(&texts[group[0]..][..group.len()])(&all(group.len()))).collect();
        let across = |k: usize| {
            let set: Vec<&str> = self.choice(k).map(|at| texts[at]).collect();
            measure.prepare(&set)(&all(set.len()))
        };
        let first: Vec<&str> = self.choice(0).map(|at| texts[at]).collect();
        let prepared = measure.prepare(&first);
        self.gather(each, self.choices(), across, |indices| prepared(indices), measure.resamples(), seed)
    }

    /// The mean over pairs within each input (`within`, one matrix an input) and among the first samples of all (`first`). Pairs of other
    /// choices are too many to be judged: `mean` is `first` here.
    pub fn spread_of_pairs(&self, within: &[Pairs], first: &Pairs, seed: u64) -> Spread {
        let each = self.groups.iter().zip(within).map(|(group, pairs)| vec![pairs.mean(&all(group.len()))]).collect();
        let some = |indices: &[usize]| vec![first.mean(indices)];
        self.gather(each, 1, |_| some(&all(self.len())), some, MANY, seed)
    }

    /// Of vectors, one a sample, by their mean distance (`vendi` false) or their Vendi score.
    pub fn spread_of_vectors(&self, vectors: &[&[f64]], vendi: bool, seed: u64) -> Spread {
        let measure = |set: &[&[f64]]| if vendi { vendi::of_vectors(set) } else { Pairs::distances(set).mean(&all(set.len())) };
        let each = self.groups.par_iter().map(|group| vec![measure(&vectors[group[0]..][..group.len()])]).collect();
        let set = |k: usize| self.choice(k).map(|at| vectors[at]).collect::<Vec<&[f64]>>();
        let (first, distances) = (set(0), (!vendi).then(|| Pairs::distances(&set(0))));
        let some = |indices: &[usize]| match &distances {
            Some(distances) => vec![distances.mean(indices)],
            None => vec![vendi::of_vectors(&indices.iter().map(|&at| first[at]).collect::<Vec<&[f64]>>())],
        };
        self.gather(each, self.choices(), |k| vec![measure(&set(k))], some, if vendi { FEW } else { MANY }, seed)
    }

    /// The k-th sample of each input that has so many.
    pub fn choice(&self, k: usize) -> impl Iterator<Item = usize> + '_ {
        self.groups.iter().filter_map(move |group| group.get(k).copied())
    }

    /// The samples of one input, as indices.
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// How many choices of one sample of each input there are.
    fn choices(&self) -> usize {
        self.groups.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// How many inputs there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn gather(
        &self,
        each: Vec<Vec<f64>>,
        most: usize,
        across: impl Fn(usize) -> Vec<f64> + Send + Sync,
        some: impl Fn(&[usize]) -> Vec<f64>,
        resamples: usize,
        seed: u64,
    ) -> Spread {
        let n = self.groups.len();
        let means: Vec<f64> = each.iter().map(|orders| mean(orders)).collect();
        let interval = Resamples::new(n, MANY, &Stream::new(seed, "per input")).mean(&means);
        let variance = means.iter().map(|value| (value - interval.mean).powi(2)).sum::<f64>() / n.saturating_sub(1).max(1) as f64;
        let choices: Vec<Vec<f64>> = (0..most).into_par_iter().map(across).collect();
        let first = choices.first().map_or(0.0, |orders| mean(orders));
        let average = choices.iter().map(|orders| mean(orders)).sum::<f64>() / most.max(1) as f64;
        let around = Resamples::new(n, resamples, &Stream::new(seed, "across inputs")).set(|indices| mean(&some(indices)));
        let orders = each.first().map_or(0, Vec::len);
        let by_n = (orders > 1).then(|| ByOrder {
            per_input: (0..orders).map(|order| each.iter().map(|all| all[order]).sum::<f64>() / n as f64).collect(),
            across_inputs: choices.first().cloned().unwrap_or_default(),
        });
        let moved = average - around.mean;
        Spread {
            per_input: PerInput { mean: interval.mean, low: interval.low, high: interval.high, std: variance.sqrt() },
            across_inputs: AcrossInputs {
                first,
                first_low: around.low,
                first_high: around.high,
                mean: average,
                low: around.low + moved,
                high: around.high + moved,
            },
            each: means,
            by_n,
        }
    }
}

/// The first `length` words of a text, words as EAD counts them.
pub fn cut(text: &str, length: usize) -> String {
    let mut words = diversity::words(text);
    words.truncate(length);
    words.join(" ")
}

fn all(count: usize) -> Vec<usize> {
    (0..count).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Measure = Measure::Ead { vocabulary: diversity::VOCABULARY };

    #[test]
    fn per_input_is_over_inputs_and_across_is_over_choices() {
        let texts = ["a b", "a b", "a c", "d e", "d e", "f g"];
        let inputs = Inputs::new([3, 0, 3]);
        let spread = inputs.spread(PAPER, &texts, 0);
        let ead = |set: &[&str]| diversity::ead(set);
        let each = [ead(&texts[..3]), ead(&texts[3..])];
        assert_eq!(spread.each, each);
        assert!((spread.per_input.mean - (each[0] + each[1]) / 2.0).abs() < 1e-15);
        assert!((spread.per_input.std - (each[0] - each[1]).abs() / 2f64.sqrt()).abs() < 1e-15);
        let choices = [ead(&["a b", "d e"]), ead(&["a b", "d e"]), ead(&["a c", "f g"])];
        assert!((spread.across_inputs.first - choices[0]).abs() < 1e-15);
        assert!((spread.across_inputs.mean - choices.iter().sum::<f64>() / 3.0).abs() < 1e-15);
        let by_n = spread.by_n.unwrap();
        assert!((mean(&by_n.across_inputs) - choices[0]).abs() < 1e-15 && by_n.per_input.len() == 5);
        let AcrossInputs { mean: middle, low, high, .. } = spread.across_inputs;
        assert!(low <= middle + 1e-12 && middle <= high + 1e-12);
    }

    #[test]
    fn inputs_with_fewer_samples_are_not_in_later_choices() {
        let inputs = Inputs::new([2, 1, 3]);
        let choices: Vec<Vec<usize>> = (0..4).map(|k| inputs.choice(k).collect()).collect();
        assert_eq!(choices, [vec![0, 2, 3], vec![1, 4], vec![5], vec![]]);
    }

    #[test]
    fn every_measure_tells_copies_from_strangers() {
        let (copies, strangers) = (["a b c d e"; 4], ["a b c d e", "f g h i j", "k l m n o", "p q r s t"]);
        let inputs = Inputs::new([4]);
        let rises = [PAPER, Measure::Distinct, Measure::Entropy, Measure::Vendi];
        for measure in rises.into_iter().chain([Measure::SelfBleu, Measure::Compression]) {
            let of = |texts: &[&str]| inputs.spread(measure, texts, 0).per_input.mean;
            let (few, many) = (of(&copies), of(&strangers));
            assert!(if rises.contains(&measure) { few < many } else { few > many }, "{measure:?}: {few} and {many}");
        }
        assert_eq!(inputs.spread(Measure::Length, &strangers, 0).per_input.mean, 5.0);
        let (same, apart) = ([[1.0, 0.0]; 4], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]);
        for vendi in [false, true] {
            let of = |vectors: &[[f64; 2]]| {
                let vectors: Vec<&[f64]> = vectors.iter().map(|vector| vector.as_slice()).collect();
                inputs.spread_of_vectors(&vectors, vendi, 0).per_input.mean
            };
            assert!(of(&same) < of(&apart));
        }
    }

    #[test]
    fn five_hundred_inputs_of_sixteen_samples_take_seconds() {
        let mut draws = Stream::new(5, "texts").sequence(0);
        let texts: Vec<String> = (0..8000).map(|_| (0..25).map(|_| format!("w{} ", draws.below(3000))).collect()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let start = std::time::Instant::now();
        Inputs::new(std::iter::repeat_n(16, 500)).spread(PAPER, &texts, 0);
        assert!(start.elapsed().as_secs_f64() < 10.0, "it took {:?}", start.elapsed());
    }

    #[test]
    fn cut_texts_have_the_first_words() {
        assert_eq!((cut("One, two. Three\nfour", 2).as_str(), cut("One", 2).as_str()), ("One, two", "One"));
    }
}
