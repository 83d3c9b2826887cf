//! Whether two answers to one prompt are the same to a user: a classifier of text pairs with the
//! labels `same` and `different`, such as that of NoveltyBench (Zhang et al. 2025, arXiv
//! 2504.05228, section 3). Knows no measure.

use std::collections::{BTreeMap, BTreeSet};

use super::Progress;
use super::pairs::PairModel;
use crate::backend::Backend;
use crate::error::{Result, user};
use crate::eval::classes::{self, FEW_WORDS, Words};

/// The label of two answers of which the second gives a user nothing new.
const SAME: &str = "same";
/// The other label.
const DIFFERENT: &str = "different";

/// A classifier of whether two answers are the same.
pub struct SameAnswer<B: Backend> {
    model: PairModel<B>,
    same: usize,
}

impl<B: Backend> SameAnswer<B> {
    /// # Errors
    /// The user's, if the labels of `model` are others.
    pub fn new(model: PairModel<B>) -> Result<Self> {
        let labels = model.labels();
        let place = |name: &str| labels.iter().position(|label| label == name);
        match (place(SAME), place(DIFFERENT), labels.len()) {
            (Some(same), Some(_), 2) => Ok(SameAnswer { model, same }),
            _ => {
                let message = format!("{} has the labels {}", model.name(), labels.join(", "));
                let hint = format!("a classifier of answers has two, `{SAME}` and `{DIFFERENT}`");
                Err(user(message).hint(hint).into())
            }
        }
    }

    /// The probability that two texts are the same answer, mean of both orders, for each two
    /// different texts of each set. Each pair is judged once.
    ///
    /// # Errors
    /// What `progress` returns; a text that the model cannot read.
    fn probabilities<'t>(
        &self,
        sets: &[Vec<&'t str>],
        batch_size: usize,
        progress: Progress<'_>,
    ) -> Result<BTreeMap<(&'t str, &'t str), f64>> {
        let mut wanted: BTreeSet<(&str, &str)> = BTreeSet::new();
        for set in sets {
            for (at, a) in set.iter().enumerate() {
                for b in set[..at].iter().filter(|b| *b != a && !few_words(a, b)) {
                    wanted.extend([(*a, *b), (*b, *a)]);
                }
            }
        }
        let wanted: Vec<(&str, &str)> = wanted.into_iter().collect();
        let logits = self.model.logits(&wanted, batch_size, progress)?;
        let own = |logits: &Vec<f64>| {
            let different = logits[1 - self.same];
            1.0 / (1.0 + (different - logits[self.same]).exp())
        };
        let by_order: BTreeMap<(&str, &str), f64> =
            wanted.iter().copied().zip(logits.iter().map(own)).collect();
        let mean = |&(a, b): &(&'t str, &'t str)| (by_order[&(a, b)] + by_order[&(b, a)]) / 2.0;
        Ok(wanted.iter().map(|pair| (*pair, mean(pair))).collect())
    }

    /// The functional classes of each set of answers: two are of one class if the probability that
    /// they are the same is above `threshold`. Equal texts are; of texts of at most
    /// [`FEW_WORDS`] words the words decide ([`Words::is_similar`]), as in the released code.
    ///
    /// # Errors
    /// As of `probabilities`.
    pub fn classes(
        &self,
        sets: &[Vec<&str>],
        threshold: f64,
        batch_size: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<usize>>> {
        let said = self.probabilities(sets, batch_size, progress)?;
        let same = |a: &str, b: &str| match said.get(&(a, b)) {
            Some(probability) => *probability > threshold,
            None => a == b || Words::new(a).is_similar(&Words::new(b)),
        };
        let of_set = |set: &Vec<&str>| classes::partition(set.len(), |i, j| same(set[i], set[j]));
        Ok(sets.iter().map(of_set).collect())
    }
}

/// Whether two texts are too short for the classifier.
fn few_words(a: &str, b: &str) -> bool {
    [a, b].iter().all(|text| text.split_whitespace().count() <= FEW_WORDS)
}
