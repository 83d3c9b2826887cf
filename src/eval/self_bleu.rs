//! Self-BLEU (Zhu et al. 2018, "Texygen", section 2.2): how much the texts of a set are made of one
//! another. Knows no model. Higher is less diverse.
//!
//! 1. BLEU-4 of each text with all others as its references (Papineni et al. 2002), averaged over
//!    the texts; from 0 to 1.
//! 2. As the field's `sacrebleu` scores a sentence: words by the rules of mteval-v13a, case kept;
//!    only the orders that the text is long enough for count (effective order); where no n-gram of
//!    an order is found, the k-th such order counts 1 / 2^k n-grams; a text that shares nothing
//!    scores 0.
//! 3. The reference length is that of the other text nearest in length, the shorter of two equally
//!    near.
//! 4. Of each n-gram the two greatest counts in any text are kept, so that the greatest among the
//!    others is known at once: the work grows with the number of words and not with its square.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

/// N-grams are counted up to this n.
const ORDERS: usize = 4;

/// Texts with their n-grams as numbers.
#[derive(Clone, Debug)]
pub struct SelfBleu {
    texts: Vec<Text>,
    /// How many different n-grams there are, each order.
    kinds: [usize; ORDERS],
}

#[derive(Clone, Debug)]
struct Text {
    length: usize,
    /// Distinct n-grams of each order with how often they occur, in the order of their numbers.
    counts: [Vec<(u32, u32)>; ORDERS],
}

/// The greatest count of an n-gram in a text, in which, and the next greatest in any other.
#[derive(Clone, Copy, Default)]
struct Greatest {
    count: u32,
    text: u32,
    next: u32,
}

impl SelfBleu {
    /// Of whole texts.
    pub fn new<T: AsRef<str>>(texts: &[T]) -> Self {
        let mut seen: [HashMap<Vec<String>, u32>; ORDERS] = Default::default();
        let texts = texts.iter().map(|text| {
            let words = words(text.as_ref());
            let counts = std::array::from_fn(|order| {
                let mut numbers: Vec<u32> = words
                    .windows(order + 1)
                    .map(|ngram| {
                        let next = seen[order].len() as u32;
                        *seen[order].entry(ngram.to_vec()).or_insert(next)
                    })
                    .collect();
                numbers.sort_unstable();
                numbers.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect()
            });
            Text { length: words.len(), counts }
        });
        let texts = texts.collect();
        SelfBleu { texts, kinds: seen.map(|seen| seen.len()) }
    }

    /// Of the texts at `indices`; 0 for fewer than two.
    pub fn mean(&self, indices: &[usize]) -> f64 {
        if indices.len() < 2 {
            return 0.0;
        }
        let mut greatest: [Vec<Greatest>; ORDERS] =
            std::array::from_fn(|order| vec![Greatest::default(); self.kinds[order]]);
        for (at, text) in (0u32..).zip(indices.iter().map(|&index| &self.texts[index])) {
            for (greatest, counts) in greatest.iter_mut().zip(&text.counts) {
                for &(ngram, count) in counts {
                    let known = &mut greatest[ngram as usize];
                    match count > known.count {
                        true => *known = Greatest { count, text: at, next: known.count },
                        false => known.next = known.next.max(count),
                    }
                }
            }
        }
        let mut lengths: Vec<usize> =
            indices.iter().map(|&index| self.texts[index].length).collect();
        lengths.sort_unstable();
        let bleu = |(at, &index): (u32, &usize)| {
            let text = &self.texts[index];
            let matches = std::array::from_fn(|order| {
                let others = |&(ngram, count): &(u32, u32)| {
                    let known = greatest[order][ngram as usize];
                    count.min(if known.text == at { known.next } else { known.count })
                };
                text.counts[order].iter().map(others).sum::<u32>()
            });
            sentence(text.length, nearest(&lengths, text.length), matches)
        };
        (0u32..).zip(indices).map(bleu).sum::<f64>() / indices.len() as f64
    }
}

/// The length nearest to `own` among sorted `lengths` of which one is its own.
fn nearest(lengths: &[usize], own: usize) -> usize {
    let first = lengths.partition_point(|&length| length < own);
    let after = lengths.partition_point(|&length| length <= own);
    if after - first > 1 {
        return own;
    }
    let shorter = first.checked_sub(1).map(|at| lengths[at]);
    match (shorter, lengths.get(after)) {
        (Some(shorter), Some(&longer)) if longer - own < own - shorter => longer,
        (Some(shorter), _) => shorter,
        (None, Some(&longer)) => longer,
        (None, None) => own,
    }
}

/// BLEU of a text of `length` words, with the number of n-grams of each order that are found in its
/// references.
fn sentence(length: usize, reference: usize, matches: [u32; ORDERS]) -> f64 {
    if matches.iter().all(|matches| *matches == 0) {
        return 0.0;
    }
    let (mut logs, mut orders, mut halves) = (0.0, 0, 1.0);
    for (order, &found) in matches.iter().enumerate().take_while(|(order, _)| length > *order) {
        let all = (length - order) as f64;
        let found = match found {
            0 => {
                halves /= 2.0;
                halves
            }
            found => f64::from(found),
        };
        logs += (found / all).ln();
        orders += 1;
    }
    let brevity = if length < reference { 1.0 - reference as f64 / length as f64 } else { 0.0 };
    (brevity + logs / f64::from(orders)).exp()
}

/// The words of a text by the rules of mteval-v13a: punctuation apart, except full stops and
/// commas within numbers.
pub fn words(text: &str) -> Vec<String> {
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        [
            (r"([\{-\~\[-` -\&\(-\+:-@/])", " $1 "),
            (r"([^0-9])([\.,])", "$1 $2 "),
            (r"([\.,])([^0-9])", " $1 $2"),
            (r"([0-9])(-)", "$1 $2 "),
        ]
        .map(|(pattern, replacement)| {
            (Regex::new(pattern).expect("the pattern is well formed"), replacement)
        })
    });
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, letter) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, letter);
    }
    let mut text = format!(" {text} ");
    for (pattern, replacement) in &*RULES {
        text = pattern.replace_all(&text, *replacement).into_owned();
    }
    text.split_whitespace().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> f64 {
        SelfBleu::new(texts).mean(&(0..texts.len()).collect::<Vec<usize>>())
    }

    #[test]
    fn copies_are_wholly_made_of_one_another_and_strangers_not_at_all() {
        assert!((all(&["the cat sat on the mat"; 5]) - 1.0).abs() < 1e-12);
        assert_eq!(all(&["a b c d", "e f g h", "i j k l"]), 0.0);
        assert_eq!((all(&["a b"]), all(&[])), (0.0, 0.0));
    }

    /// By hand: "a b c" against "a b d": 2 of 3 words, 1 of 2 pairs, no triple, which counts as one
    /// half of 1.
    #[test]
    fn an_order_without_a_match_counts_a_half_and_then_a_quarter() {
        let expected = (2.0 / 3.0 * 0.5 * 0.5f64).powf(1.0 / 3.0);
        assert!((all(&["a b c", "a b d"]) - expected).abs() < 1e-12);
        let expected = (2.0 / 4.0 * 1.0 / 3.0 * (0.5 / 2.0) * (0.25 / 1.0f64)).powf(0.25);
        assert!((all(&["a b x y", "a b v w"]) - expected).abs() < 1e-12);
    }

    #[test]
    fn the_reference_length_is_the_nearest_of_the_others() {
        assert_eq!([1, 3, 5, 9].map(|own| nearest(&[1, 3, 5, 9], own)), [3, 1, 3, 5]);
        assert_eq!((nearest(&[2, 2, 7], 2), nearest(&[4], 4), nearest(&[1, 5, 8], 5)), (2, 4, 8));
        // "a b" against "a b c d" is brief: exp(1 - 4/2), with all its words and pairs found.
        let brief = SelfBleu::new(&["a b", "a b c d"]).mean(&[0, 1]);
        let long = (2.0 / 4.0 * 1.0 / 3.0 * (0.5 / 2.0) * (0.25f64)).powf(0.25);
        assert!((brief - ((-1.0f64).exp() + long) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn punctuation_stands_apart_but_within_numbers() {
        assert_eq!(
            words("Hi, it's 3,000.5% (or 2-fold)."),
            ["Hi", ",", "it's", "3,000.5", "%", "(", "or", "2", "-", "fold", ")", "."]
        );
        assert_eq!(words("a &amp; b-\nc\nd"), ["a", "&", "bc", "d"]);
    }

    #[test]
    fn a_subset_is_scored_as_if_there_were_no_others() {
        let texts = ["the cat sat", "the dog sat", "the cat ran away", "a cat sat here"];
        let some = SelfBleu::new(&texts).mean(&[2, 0, 3]);
        assert!((some - all(&["the cat ran away", "the cat sat", "a cat sat here"])).abs() < 1e-15);
    }
}
