//! What every metric says of sets of samples of one input, of their first k for each k: measures of
//! words and of models, classes by ROUGE-1, and classes as the gold reader reads them.

use rayon::prelude::*;

use super::populations::Truth;
use crate::backend::Backend;
use crate::error::Result;
use crate::eval::classes::{self, Words, distinct, entropy, partition};
use crate::eval::interval::average;
use crate::eval::richness::{chao_shen, chao1, miller_madow};
use crate::eval::spread::OfSet;
use crate::report::metrics::{Direction, define};
use crate::stages::diversity::Measures;

/// A truth that some metrics are estimates of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Estimand {
    /// The number of content classes.
    Classes,
    /// Their entropy.
    ClassEntropy,
    /// Simpson's index of them.
    Simpson,
}

impl Estimand {
    /// Its name in figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Estimand::Classes => "classes",
            Estimand::ClassEntropy => "class_entropy",
            Estimand::Simpson => "simpson",
        }
    }

    /// The truth itself.
    pub(super) fn of(self, truth: &Truth) -> f64 {
        match self {
            Estimand::Classes => truth.classes,
            Estimand::ClassEntropy => truth.class_entropy,
            Estimand::Simpson => truth.simpson,
        }
    }
}

/// A metric, and what it says of each set for each k.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) name: String,
    /// Whether it falls where diversity rises.
    pub(super) falls: bool,
    /// What it estimates, where it estimates a truth.
    pub(super) estimates: Option<Estimand>,
    /// By k, then by set.
    pub(super) by_k: Vec<Vec<f64>>,
}

/// Samples of one input.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    pub(super) texts: Vec<String>,
    /// The class of each that is right.
    pub(super) classes: Vec<Option<usize>>,
}

impl Set {
    /// The classes of the right samples among the first k, numbered by first member.
    pub(super) fn right(&self, k: usize) -> Vec<usize> {
        let right: Vec<usize> = self.classes[..k].iter().flatten().copied().collect();
        partition(right.len(), |i, j| right[i] == right[j])
    }
}

/// A metric of the classes of samples.
type OfClasses = (&'static str, Estimand, fn(&[usize]) -> f64);

fn number(classes: &[usize]) -> f64 {
    distinct(classes, classes.len()) as f64
}

fn simpson(classes: &[usize]) -> f64 {
    classes::simpson(classes, &(0..classes.len()).collect::<Vec<usize>>())
}

/// Of classes by ROUGE-1.
const ROUGE_1: [OfClasses; 3] = [
    ("rouge1_distinct", Estimand::Classes, number),
    ("rouge1_entropy", Estimand::ClassEntropy, entropy),
    ("rouge1_simpson", Estimand::Simpson, simpson),
];

/// Of classes by the gold reader, of right samples.
const GOLD: [OfClasses; 6] = [
    ("gold_distinct", Estimand::Classes, number),
    ("gold_chao1", Estimand::Classes, chao1),
    ("gold_entropy", Estimand::ClassEntropy, entropy),
    ("gold_miller_madow", Estimand::ClassEntropy, miller_madow),
    ("gold_chao_shen", Estimand::ClassEntropy, chao_shen),
    ("gold_simpson", Estimand::Simpson, simpson),
];

/// Every metric of these sets, each of which has at least as many samples as the greatest k.
pub(super) fn values<B: Backend>(
    measures: &Measures<'_, B>,
    sets: &[Set],
    k: &[usize],
) -> Result<Vec<Values>> {
    let texts: Vec<Vec<&str>> =
        sets.iter().map(|set| set.texts.iter().map(String::as_str).collect()).collect();
    let mut measured = measures.of_parts(&texts)?;
    measured.extend(measures.of_pairs(&texts)?);
    let mut all: Vec<Values> = measured
        .iter()
        .map(|(metric, of)| Values {
            name: metric.name().to_owned(),
            falls: define(&format!("{}_per_input", metric.name()))
                .is_some_and(|of| of.direction == Direction::LowerIsMoreDiverse),
            estimates: None,
            by_k: by_k(k, of.len(), |set, k| of_first(&of[set], k)),
        })
        .collect();
    let by_words: Vec<Vec<usize>> = texts.par_iter().map(|texts| similar(texts)).collect();
    let mut push = |(name, estimand, of): OfClasses,
                    classes: &(dyn Fn(usize, usize) -> Vec<usize> + Sync)| {
        all.push(Values {
            name: name.to_owned(),
            falls: false,
            estimates: Some(estimand),
            by_k: by_k(k, sets.len(), |set, k| of(&classes(set, k))),
        });
    };
    for metric in ROUGE_1 {
        push(metric, &|set, k| by_words[set][..k].to_vec());
    }
    for metric in GOLD {
        push(metric, &|set, k| sets[set].right(k));
    }
    Ok(all)
}

/// A value for each k and each set.
fn by_k(k: &[usize], sets: usize, value: impl Fn(usize, usize) -> f64 + Sync) -> Vec<Vec<f64>> {
    let value = &value;
    k.iter().map(|k| (0..sets).into_par_iter().map(|set| value(set, *k)).collect()).collect()
}

/// A measure of the first k, mean over n where it is by n.
fn of_first(measure: &OfSet<'_>, k: usize) -> f64 {
    average(&measure(&(0..k).collect::<Vec<usize>>()))
}

/// Functional classes by ROUGE-1.
fn similar(texts: &[&str]) -> Vec<usize> {
    let words: Vec<Words> = texts.iter().map(|text| Words::new(text)).collect();
    partition(words.len(), |i, j| words[i].is_similar(&words[j]))
}
