//! Diversity of many inputs' samples by any measure: per input and across inputs, with intervals;
//! and the same of texts cut to one length. Knows no measure's formula and no model.
//!
//! 1. Per input: the measure of one input's samples, averaged over inputs (Kirk et al. 2024,
//!    section 5.2).
//! 2. Across inputs: the measure of the set with one sample of each input. `first` takes the first
//!    sample of each, as the paper does; `mean` is over all choices "the k-th sample of each", of
//!    which the first is one case. Inputs with fewer samples are not in the sets of later k.
//! 3. Intervals are over inputs (see `interval.rs`): of the mean per input; across inputs by the
//!    jackknife of the mean over choices, an input being left out of all of them. Vendi scores and
//!    distances of vectors take all pairs of texts, so theirs is over the first choices alone, as
//!    many as have [`SQUARE_TEXTS`] texts: the mean over more of them varies less.
//! 4. A Vendi score grows with the set and is at most its size: what is jackknifed is the logit of
//!    its share of the size. It has no interval of fewer than [`FEWEST_VENDI`] inputs,
//!    nor self-BLEU of fewer than [`FEWEST_SELF_BLEU`]: no method was found that covers there.
//! 5. All of them confound diversity with length. The cut texts are the first `length` words of
//!    each, words as EAD counts them, joined by spaces; a set's own length is the one that at least
//!    half of its texts reach.

use rayon::prelude::*;
use serde::Serialize;

use super::compression;
use super::diversity::{self, Ngrams, ORDERS};
use super::interval::{FEWEST, Interval, Kind, of_mean, of_set};
use super::pairs::Pairs;
use super::self_bleu::SelfBleu;
use super::vendi;

/// Inputs below which a Vendi score has no interval across inputs.
pub const FEWEST_VENDI: usize = 20;
/// Inputs below which self-BLEU has no interval across inputs.
pub const FEWEST_SELF_BLEU: usize = 40;
/// Texts of the choices that are jackknifed where the work grows with the square of a choice's
/// size, together.
pub const SQUARE_TEXTS: usize = 600;
/// Groups of inputs that the jackknife leaves out, one after another.
const GROUPS: usize = 40;
/// The same of a Vendi score.
const EIGEN_GROUPS: usize = 25;

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
                let words: Vec<Vec<String>> =
                    texts.iter().map(|text| diversity::words(text)).collect();
                let (similarities, n) = (vendi::ngram_similarities(&words), texts.len());
                Box::new(move |indices| {
                    vec![vendi::of_similarities(
                        &vendi::part(&similarities, n, indices),
                        indices.len(),
                    )]
                })
            }
            Measure::Compression => {
                Box::new(|indices| vec![compression::ratio(indices.iter().map(|&at| texts[at]))])
            }
            Measure::Length => {
                let lengths: Vec<f64> =
                    texts.iter().map(|text| diversity::words(text).len() as f64).collect();
                Box::new(move |indices| {
                    vec![
                        indices.iter().map(|&at| lengths[at]).sum::<f64>()
                            / indices.len().max(1) as f64,
                    ]
                })
            }
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
    /// For n = 1, 2, ..., where the measure is by n: the mean per input and the first set across
    /// inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_n: Option<ByOrder>,
}

/// Over inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PerInput {
    /// Mean.
    pub mean: f64,
    /// Lower end of the 95% interval of the mean; NaN where there is none.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How the interval was made.
    pub interval: Kind,
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
    /// How the interval of `first` was made.
    pub first_interval: Kind,
    /// The mean over the k-th sample of each, for all k.
    pub mean: f64,
    /// Lower end of the 95% interval over inputs; NaN where there is none.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// How the interval of `mean` was made.
    pub interval: Kind,
}

/// A measure by n.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByOrder {
    /// Mean over inputs, for each n.
    pub per_input: Vec<f64>,
    /// Of the first sample of each input, for each n.
    pub across_inputs: Vec<f64>,
}

/// How the interval across inputs is made.
#[derive(Clone, Copy)]
enum Way {
    /// Of the measure as it is, from `fewest` inputs on.
    Plain { fewest: usize },
    /// Of the logit of its share of the size.
    Vendi,
}

impl Way {
    const PLAIN: Way = Way::Plain { fewest: FEWEST };
}

/// Texts of several inputs, as one list and the indices of each input's.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Indices of each input's samples; no input is without.
    groups: Vec<Vec<usize>>,
    /// Whether all inputs have as many.
    even: bool,
}

impl Inputs {
    /// From the number of samples of each input; inputs without a sample do not count.
    pub fn new(samples: impl IntoIterator<Item = usize>) -> Self {
        let mut next = 0;
        let mut group = |count: usize| {
            let group = (next..next + count).collect();
            next += count;
            group
        };
        let groups: Vec<Vec<usize>> =
            samples.into_iter().filter(|count| *count > 0).map(&mut group).collect();
        let even = groups.iter().all(|group| group.len() == groups[0].len());
        Inputs { groups, even }
    }

    /// A measure of `texts`, the samples of the first input, then of the second, and so on.
    pub fn spread(&self, measure: Measure, texts: &[&str]) -> Spread {
        // Per input its own texts alone are made ready: pairs across inputs are many and not
        // needed.
        let each: Vec<Vec<f64>> = self
            .groups
            .par_iter()
            .map(|group| measure.prepare(&texts[group[0]..][..group.len()])(&all(group.len())))
            .collect();
        let sets: Vec<Vec<&str>> =
            (0..self.choices()).map(|k| self.choice(k).map(|at| texts[at]).collect()).collect();
        let (way, jackknifed) = match measure {
            Measure::Vendi => (Way::Vendi, self.few()),
            Measure::SelfBleu => (Way::Plain { fewest: FEWEST_SELF_BLEU }, sets.len()),
            _ => (Way::PLAIN, sets.len()),
        };
        self.gather(each, sets.len(), |k| measure.prepare(&sets[k]), jackknifed, way)
    }

    /// The mean over pairs within each input (`within`, one matrix an input) and among the first
    /// samples of all (`first`). Pairs of other choices are too many to be judged: `mean` is
    /// `first` here.
    pub fn spread_of_pairs(&self, within: &[Pairs], first: &Pairs) -> Spread {
        let each = self
            .groups
            .iter()
            .zip(within)
            .map(|(group, pairs)| vec![pairs.mean(&all(group.len()))])
            .collect();
        self.gather(each, 1, |_| Box::new(|indices| vec![first.mean(indices)]), 1, Way::PLAIN)
    }

    /// Of vectors, one a sample, by their mean distance (`vendi` false) or their Vendi score.
    pub fn spread_of_vectors(&self, vectors: &[&[f64]], vendi: bool) -> Spread {
        let of = |group: &Vec<usize>| {
            of_vectors(vectors[group[0]..][..group.len()].to_vec(), vendi)(&all(group.len()))
        };
        let each = self.groups.par_iter().map(of).collect();
        let across = |k: usize| of_vectors(self.choice(k).map(|at| vectors[at]).collect(), vendi);
        let way = if vendi { Way::Vendi } else { Way::PLAIN };
        self.gather(each, self.choices(), across, self.few(), way)
    }

    /// The k-th sample of each input that has more than k.
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

    /// Choices whose work or memory grows with the square of their size are jackknifed as far as
    /// this.
    fn few(&self) -> usize {
        self.choices().min((SQUARE_TEXTS / self.len().max(1)).max(1))
    }

    /// From each input's measure and what makes the measure of each of some choices ready, of which
    /// the first `jackknifed` are jackknifed.
    fn gather<'a>(
        &self,
        each: Vec<Vec<f64>>,
        count: usize,
        prepare: impl Fn(usize) -> OfSet<'a> + Sync,
        jackknifed: usize,
        way: Way,
    ) -> Spread {
        let n = self.groups.len();
        let means: Vec<f64> = each.iter().map(|orders| mean(orders)).collect();
        let interval = of_mean(&means);
        let variance = means.iter().map(|value| (value - interval.mean).powi(2)).sum::<f64>()
            / n.saturating_sub(1).max(1) as f64;
        let across: Vec<OfSet<'_>> = (0..jackknifed).into_par_iter().map(&prepare).collect();
        let whole = |k: usize| {
            let set = all(self.choice(k).count());
            across.get(k).map_or_else(|| prepare(k)(&set), |measure| measure(&set))
        };
        let choices: Vec<Vec<f64>> = (0..count).into_par_iter().map(whole).collect();
        let first = choices.first().map_or(0.0, |orders| mean(orders));
        let average =
            choices.iter().map(|orders| mean(orders)).sum::<f64>() / choices.len().max(1) as f64;
        let around = |across: &[OfSet<'_>], value: f64| match way {
            Way::Vendi => self.around_vendi(across, value),
            Way::Plain { fewest } => self.around(across, value, fewest),
        };
        let (around_first, around) =
            (around(&across[..across.len().min(1)], first), around(&across, average));
        let orders = each.first().map_or(0, Vec::len);
        let by_n = (orders > 1).then(|| ByOrder {
            per_input: (0..orders)
                .map(|order| each.iter().map(|all| all[order]).sum::<f64>() / n as f64)
                .collect(),
            across_inputs: choices.first().cloned().unwrap_or_default(),
        });
        let Interval { mean, low, high, kind, .. } = interval;
        Spread {
            per_input: PerInput { mean, low, high, interval: kind, std: variance.sqrt() },
            across_inputs: AcrossInputs {
                first,
                first_low: around_first.low,
                first_high: around_first.high,
                first_interval: around_first.kind,
                mean: average,
                low: around.low,
                high: around.high,
                interval: around.kind,
            },
            each: means,
            by_n,
        }
    }

    /// The interval around the mean over all choices.
    fn around(&self, across: &[OfSet<'_>], average: f64, fewest: usize) -> Interval {
        let n = self.groups.len();
        of_set(n, GROUPS, fewest, |inputs| self.over_choices(across, inputs, |value, _| value))
            .around(average, n)
    }

    /// The same of Vendi scores.
    fn around_vendi(&self, across: &[OfSet<'_>], average: f64) -> Interval {
        let n = self.groups.len();
        // A share of n is from 1 / n to 1; a half input beyond either end keeps the logit finite.
        let logit = |share: f64, n: f64| ((share - 0.5 / n) / (1.0 + 1.0 / n - share)).ln();
        let share = |score: f64, size: usize| score / size.max(1) as f64;
        let statistic =
            |inputs: &[usize]| logit(self.over_choices(across, inputs, share), inputs.len() as f64);
        let all = n as f64;
        let back = |logit: f64| {
            let odds = logit.exp();
            all * ((odds * (1.0 + 1.0 / all) + 0.5 / all) / (1.0 + odds)).clamp(1.0 / all, 1.0)
        };
        of_set(n, EIGEN_GROUPS, FEWEST_VENDI, statistic).through(
            average,
            n,
            |score| logit(score / all, all),
            back,
        )
    }

    /// The mean over choices of a measure of the samples of some inputs, each put through `of` with
    /// the number of these samples.
    fn over_choices(
        &self,
        across: &[OfSet<'_>],
        inputs: &[usize],
        of: impl Fn(f64, usize) -> f64,
    ) -> f64 {
        let value = |(k, measure): (usize, &OfSet<'_>)| {
            // Samples of a choice are in the order of the inputs that have more than k.
            let indices: Vec<usize> =
                inputs.iter().filter_map(|&input| self.place(input, k)).collect();
            of(mean(&measure(&indices)), indices.len())
        };
        across.iter().enumerate().map(value).sum::<f64>() / across.len().max(1) as f64
    }

    /// The place of an input's k-th sample among those of the k-th choice.
    fn place(&self, input: usize, k: usize) -> Option<usize> {
        (self.groups[input].len() > k).then(|| match self.even {
            true => input,
            false => self.groups[..input].iter().filter(|group| group.len() > k).count(),
        })
    }
}

/// The mean distance of vectors at some indices, or their Vendi score.
pub fn of_vectors<'a>(set: Vec<&'a [f64]>, vendi: bool) -> OfSet<'a> {
    if vendi {
        return Box::new(move |indices| {
            vec![vendi::of_vectors(&indices.iter().map(|&at| set[at]).collect::<Vec<&[f64]>>())]
        });
    }
    let distances = Pairs::distances(&set);
    Box::new(move |indices| vec![distances.mean(indices)])
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
    use crate::random::Stream;

    const PAPER: Measure = Measure::Ead { vocabulary: diversity::VOCABULARY };

    #[test]
    fn per_input_is_over_inputs_and_across_is_over_choices() {
        let texts = ["a b", "a b", "a c", "d e", "d e", "f g"];
        let inputs = Inputs::new([3, 0, 3]);
        let spread = inputs.spread(PAPER, &texts);
        let ead = |set: &[&str]| diversity::ead(set);
        let each = [ead(&texts[..3]), ead(&texts[3..])];
        assert_eq!(spread.each, each);
        assert!((spread.per_input.mean - (each[0] + each[1]) / 2.0).abs() < 1e-15);
        assert!((spread.per_input.std - (each[0] - each[1]).abs() / 2f64.sqrt()).abs() < 1e-15);
        let choices = [ead(&["a b", "d e"]), ead(&["a b", "d e"]), ead(&["a c", "f g"])];
        assert!((spread.across_inputs.first - choices[0]).abs() < 1e-15);
        assert!((spread.across_inputs.mean - choices.iter().sum::<f64>() / 3.0).abs() < 1e-15);
        let by_n = spread.by_n.unwrap();
        assert!(
            (mean(&by_n.across_inputs) - choices[0]).abs() < 1e-15 && by_n.per_input.len() == 5
        );
        // Of two inputs nothing can be said of the error.
        assert_eq!(
            (spread.per_input.interval, spread.across_inputs.interval),
            (Kind::NoneTooFew, Kind::NoneTooFew)
        );
    }

    /// First samples of equal lengths tell nothing of the error of theirs; all samples do.
    #[test]
    fn first_samples_have_an_interval_that_is_not_that_of_the_mean() {
        let texts: Vec<String> =
            (0..20).map(|at| "a ".repeat(if at % 2 == 0 { 2 } else { 3 + at })).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = Inputs::new([2; 10]).spread(Measure::Length, &texts).across_inputs;
        assert_eq!(
            (found.first_interval, found.interval),
            (Kind::NoneAllEqual, Kind::Jackknife),
            "{found:?}"
        );
        assert!(found.first_low.is_nan() && found.low < found.mean);
    }

    #[test]
    fn inputs_with_fewer_samples_are_not_in_later_choices() {
        let inputs = Inputs::new([2, 1, 3]);
        let choices: Vec<Vec<usize>> = (0..4).map(|k| inputs.choice(k).collect()).collect();
        assert_eq!(choices, [vec![0, 2, 3], vec![1, 4], vec![5], vec![]]);
    }

    #[test]
    fn every_measure_tells_copies_from_strangers() {
        let (copies, strangers) =
            (["a b c d e"; 4], ["a b c d e", "f g h i j", "k l m n o", "p q r s t"]);
        let inputs = Inputs::new([4]);
        let rises = [PAPER, Measure::Distinct, Measure::Entropy, Measure::Vendi];
        for measure in rises.into_iter().chain([Measure::SelfBleu, Measure::Compression]) {
            let of = |texts: &[&str]| inputs.spread(measure, texts).per_input.mean;
            let (few, many) = (of(&copies), of(&strangers));
            assert!(
                if rises.contains(&measure) { few < many } else { few > many },
                "{measure:?}: {few} and {many}"
            );
        }
        assert_eq!(inputs.spread(Measure::Length, &strangers).per_input.mean, 5.0);
        let (same, apart) = ([[1.0, 0.0]; 4], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]);
        for vendi in [false, true] {
            let of = |vectors: &[[f64; 2]]| {
                let vectors: Vec<&[f64]> = vectors.iter().map(|vector| vector.as_slice()).collect();
                inputs.spread_of_vectors(&vectors, vendi).per_input.mean
            };
            assert!(of(&same) < of(&apart));
        }
    }

    #[test]
    fn five_hundred_inputs_of_sixteen_samples_take_seconds() {
        let mut draws = Stream::new(5, "texts").sequence(0);
        let texts: Vec<String> = (0..8000)
            .map(|_| (0..25).map(|_| format!("w{} ", draws.below(3000))).collect())
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let start = std::time::Instant::now();
        Inputs::new(std::iter::repeat_n(16, 500)).spread(PAPER, &texts);
        assert!(start.elapsed().as_secs_f64() < 10.0, "it took {:?}", start.elapsed());
    }

    #[test]
    fn cut_texts_have_the_first_words() {
        assert_eq!(
            (cut("One, two. Three\nfour", 2).as_str(), cut("One", 2).as_str()),
            ("One, two", "One")
        );
    }
}
