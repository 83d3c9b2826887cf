//! How much a set of texts varies: expectation-adjusted distinct n-grams (EAD), distinct-n, entropy
//! of n-grams. Knows no model.
//!
//! 1. Words are what whitespace separates, after full stops are deleted and newlines are deleted
//!    WITHOUT a space in their place, which joins the words around them; case stays (Kirk et al.
//!    2024, released code).
//! 2. EAD for one n = N / (V (1 - ((V - 1) / V)^C)): N distinct and C all n-grams of the set, none
//!    crossing from text to text (Liu et al. 2022, "Rethinking and refining the distinct metric",
//!    eq. 4); 0 where C is 0. EAD = the mean over n = 1 to 5.
//! 3. V = 50257 for every n and every model, so that figures compare with the paper's. V so large
//!    makes EAD nearly distinct-n, and it may pass 1.
//! 4. Per input = mean over inputs of the EAD of that input's samples; across inputs = EAD of the
//!    first sample of every input.
//! 5. Both fall with the number of n-grams, so sets of unequal sizes and texts of unequal lengths
//!    do not compare: [`Ngrams::cut`] and [`common_length`] are for that.

use std::collections::HashMap;

/// The vocabulary size of the paper's EAD.
pub const VOCABULARY: f64 = 50257.0;

/// N-grams are counted up to this n.
pub const ORDERS: usize = 5;

/// Texts with their n-grams as numbers, so that any subset of them is counted fast.
#[derive(Clone, Debug)]
pub struct Ngrams {
    /// The n-grams of each text, each order.
    texts: Vec<[Vec<u32>; ORDERS]>,
    /// How many different n-grams there are, each order.
    kinds: [usize; ORDERS],
}

impl Ngrams {
    /// Of whole texts.
    pub fn new<T: AsRef<str>>(texts: &[T]) -> Self {
        Self::cut(texts, usize::MAX)
    }

    /// Of the first `length` words of each text; shorter texts stay as they are.
    pub fn cut<T: AsRef<str>>(texts: &[T], length: usize) -> Self {
        let mut kinds = [0; ORDERS];
        let mut seen: [HashMap<Vec<String>, u32>; ORDERS] = Default::default();
        let mut number = |order: usize, ngram: &[String]| match seen[order].get(ngram) {
            Some(&known) => known,
            None => {
                let next = seen[order].len() as u32;
                seen[order].insert(ngram.to_vec(), next);
                kinds[order] += 1;
                next
            }
        };
        let numbered = texts.iter().map(|text| {
            let mut words = words(text.as_ref());
            words.truncate(length);
            std::array::from_fn(|order| {
                words.windows(order + 1).map(|ngram| number(order, ngram)).collect()
            })
        });
        Ngrams { texts: numbered.collect(), kinds }
    }

    /// EAD of the texts at `indices`, with the paper's [`VOCABULARY`] or another.
    pub fn ead(&self, indices: &[usize], vocabulary: f64) -> f64 {
        mean(self.ead_by_order(indices, vocabulary))
    }

    /// EAD for n = 1 to 5.
    pub fn ead_by_order(&self, indices: &[usize], vocabulary: f64) -> [f64; ORDERS] {
        self.counts(indices).map(|(distinct, total)| match total {
            0 => 0.0,
            _ => {
                distinct as f64
                    / (vocabulary * -(total as f64 * (-1.0 / vocabulary).ln_1p()).exp_m1())
            }
        })
    }

    /// Plain distinct-n of the texts at `indices`: N / C, mean over n = 1 to 5 (Li et al. 2016).
    pub fn distinct(&self, indices: &[usize]) -> f64 {
        mean(self.distinct_by_order(indices))
    }

    /// Distinct-n for n = 1 to 5.
    pub fn distinct_by_order(&self, indices: &[usize]) -> [f64; ORDERS] {
        self.counts(indices)
            .map(|(distinct, total)| if total == 0 { 0.0 } else { distinct as f64 / total as f64 })
    }

    /// Entropy, in nats, of the n-grams of the texts at `indices`, for n = 1 to 5 (Zhang et al.
    /// 2018, "Generating informative and diverse conversational responses", section 4.2).
    pub fn entropy_by_order(&self, indices: &[usize]) -> [f64; ORDERS] {
        std::array::from_fn(|order| {
            let mut counts = vec![0u32; self.kinds[order]];
            let ngrams = indices.iter().flat_map(|&text| &self.texts[text][order]);
            ngrams.for_each(|&ngram| counts[ngram as usize] += 1);
            let total: u32 = counts.iter().sum();
            let share = |count: u32| f64::from(count) / f64::from(total);
            counts
                .iter()
                .filter(|count| **count > 0)
                .map(|&count| -share(count) * share(count).ln())
                .sum()
        })
    }

    /// Distinct and all n-grams of the texts at `indices`, each order.
    fn counts(&self, indices: &[usize]) -> [(usize, usize); ORDERS] {
        std::array::from_fn(|order| {
            let mut seen = vec![false; self.kinds[order]];
            let (mut distinct, mut total) = (0, 0);
            for ngrams in indices.iter().map(|&text| &self.texts[text][order]) {
                total += ngrams.len();
                for &ngram in ngrams {
                    distinct += usize::from(!std::mem::replace(&mut seen[ngram as usize], true));
                }
            }
            (distinct, total)
        })
    }
}

/// What is said of all orders at once.
pub fn mean(orders: [f64; ORDERS]) -> f64 {
    orders.iter().sum::<f64>() / ORDERS as f64
}

/// EAD of one set of texts, with the paper's vocabulary.
pub fn ead<T: AsRef<str>>(texts: &[T]) -> f64 {
    Ngrams::new(texts).ead(&(0..texts.len()).collect::<Vec<usize>>(), VOCABULARY)
}

/// EAD of each input's samples: their mean is diversity per input.
pub fn per_input<S: AsRef<[String]>>(inputs: &[S]) -> Vec<f64> {
    inputs.iter().map(|samples| ead(samples.as_ref())).collect()
}

/// The first sample of every input: EAD over them is diversity across inputs. Inputs without a
/// sample are left out.
pub fn first_samples<S: AsRef<[String]>>(inputs: &[S]) -> Ngrams {
    Ngrams::new(
        &inputs.iter().filter_map(|samples| samples.as_ref().first()).collect::<Vec<&String>>(),
    )
}

/// The words of a text, as EAD counts them.
pub fn words(text: &str) -> Vec<String> {
    text.replace(['.', '\n'], "").split_whitespace().map(String::from).collect()
}

/// The length, in words, at which sets of texts are compared fairly: the least of the sets' median
/// lengths (the lower median), so that in every set at least half of the texts reach it. 0 where a
/// set is empty or there is none.
pub fn common_length<S: AsRef<[String]>>(sets: &[S]) -> usize {
    let median = |set: &S| {
        let mut lengths: Vec<usize> = set.as_ref().iter().map(|text| words(text).len()).collect();
        lengths.sort_unstable();
        lengths.get(lengths.len().saturating_sub(1) / 2).copied().unwrap_or(0)
    };
    sets.iter().map(median).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_order(texts: &[&str]) -> ([f64; ORDERS], f64) {
        let ngrams = Ngrams::new(texts);
        let counts = ngrams.counts(&(0..texts.len()).collect::<Vec<usize>>());
        let each = counts.map(|(distinct, total)| {
            let left = ((VOCABULARY - 1.0) / VOCABULARY).powi(total as i32);
            if total == 0 { 0.0 } else { distinct as f64 / (VOCABULARY * (1.0 - left)) }
        });
        (each, ead(texts))
    }

    /// The paper's definition worked out on three sets of texts.
    #[test]
    fn ead_gives_the_golden_values() {
        let fruit = ["I like to eat apples.", "I like to eat bananas.", "I like to eat oranges."];
        let cat = ["the cat sat on the mat today"; 16];
        for (texts, orders, mean) in [
            (&fruit[..], [0.466732, 0.500055, 0.555600, 0.666700, 1.000020], 0.637821),
            (&cat[..], [0.053631, 0.062559, 0.062549, 0.062539, 0.062529], 0.060761),
            (&["a b", "a b c"][..], [0.600024, 0.666680, 1.0, 0.0, 0.0], 0.453341),
        ] {
            let (each, all) = by_order(texts);
            assert!((all - mean).abs() < 1e-6, "{all} for {mean}");
            assert!(each.iter().zip(orders).all(|(a, b)| (a - b).abs() < 1e-6), "{each:?}");
        }
    }

    #[test]
    fn one_word_and_no_word_count_as_such() {
        // A single unigram is exactly 1 of 1, and four orders have none.
        assert!((ead(&["word"]) - 0.2).abs() < 1e-12);
        assert_eq!((ead::<&str>(&[]), ead(&["", " .\n"])), (0.0, 0.0));
    }

    #[test]
    fn full_stops_and_newlines_vanish_and_case_stays() {
        assert_eq!(words("No. 5 is\nhere  .. Yes,\tno"), ["No", "5", "ishere", "Yes,", "no"]);
        assert_eq!(Ngrams::new(&["A a"]).counts(&[0])[0], (2, 2));
    }

    #[test]
    fn no_ngram_crosses_from_text_to_text() {
        assert_eq!(Ngrams::new(&["a b", "c d"]).counts(&[0, 1])[1], (2, 2));
        assert_eq!(Ngrams::new(&["a b", "c d"]).distinct(&[0, 1]), (1.0 + 1.0) / 5.0);
    }

    #[test]
    fn entropy_is_of_ngrams_as_often_as_they_occur() {
        let ngrams = Ngrams::new(&["a b", "a b", "c d", "e f"]);
        let [words, pairs, triples, ..] = ngrams.entropy_by_order(&[0, 1, 2, 3]);
        // Words: a, b a quarter each and four of an eighth; pairs: a half and two quarters;
        // triples: none.
        assert!(
            (words - 2.5 * 2f64.ln()).abs() < 1e-12
                && (pairs - 1.5 * 2f64.ln()).abs() < 1e-12
                && triples == 0.0
        );
        assert_eq!(ngrams.entropy_by_order(&[0, 1])[1], 0.0);
    }

    #[test]
    fn across_inputs_reads_the_first_samples_and_per_input_reads_all() {
        let inputs = [vec!["a b".to_string(), "a b".into()], vec!["a b".into(), "c d".into()]];
        assert_eq!(first_samples(&inputs).counts(&[0, 1])[0], (2, 4));
        let each = per_input(&inputs);
        assert_eq!(each, [ead(&["a b", "a b"]), ead(&["a b", "c d"])]);
        assert!(each[0] < each[1]);
    }

    #[test]
    fn cut_texts_are_compared_at_the_least_median_length() {
        let long: Vec<String> = ["a b c d e", "a b c", "f g h i"].map(String::from).to_vec();
        let short: Vec<String> = ["x y", "x", "x y z"].map(String::from).to_vec();
        assert_eq!(common_length(&[long.clone(), short.clone()]), 2);
        assert_eq!(common_length(&[short, vec![]]), 0);
        let cut = Ngrams::cut(&long, 2);
        assert_eq!(cut.counts(&[0, 1, 2])[..3], [(4, 6), (2, 3), (0, 0)]);
    }

    proptest! {
        #[test]
        fn order_and_numbering_change_nothing(texts in prop::collection::vec("[ab] [abc] \
            [a-c]", 1..8)) {
            let forth: Vec<usize> = (0..texts.len()).collect();
            let back: Vec<usize> = forth.iter().rev().copied().collect();
            let ngrams = Ngrams::new(&texts);
            prop_assert_eq!(ngrams.ead(&forth, VOCABULARY), ngrams.ead(&back, VOCABULARY));
            let reversed: Vec<&String> = texts.iter().rev().collect();
            prop_assert_eq!(ngrams.ead(&forth, VOCABULARY),
                Ngrams::new(&reversed).ead(&forth, VOCABULARY));
        }

        #[test]
        fn more_copies_of_the_same_texts_are_less_diverse(texts in prop::collection::vec("[a-d] [a-d] [a-d] [a-d] [a-d]", 1..6)) {
            let doubled: Vec<&String> = texts.iter().chain(&texts).collect();
            prop_assert!(ead(&doubled) < ead(&texts));
        }
    }
}
