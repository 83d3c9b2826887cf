//! A text against a reference: ROUGE F1, exact match; and lengths. Knows no model.
//!
//! 1. ROUGE words are runs of ASCII letters and digits after lower-casing, without stemming (the
//!    field's `rouge_score` package).
//! 2. ROUGE-n counts an n-gram as often as it occurs in both; ROUGE-L is the longest common
//!    subsequence (Lin 2004, "ROUGE").
//! 3. F1 of precision and recall; 0 where either text has no n-gram.

use std::collections::HashMap;

/// The words that ROUGE sees.
pub fn rouge_words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(String::from)
        .collect()
}

/// ROUGE-n F1 of `text` against `reference`, n at least 1.
///
/// # Panics
/// If n is 0.
pub fn rouge_n(text: &str, reference: &str, n: usize) -> f64 {
    let (text, reference) = (rouge_words(text), rouge_words(reference));
    let mut counts: HashMap<&[String], usize> = HashMap::new();
    for ngram in reference.windows(n) {
        *counts.entry(ngram).or_default() += 1;
    }
    let mut shared = 0;
    for ngram in text.windows(n) {
        if let Some(left) = counts.get_mut(ngram).filter(|left| **left > 0) {
            *left -= 1;
            shared += 1;
        }
    }
    let size = |words: &[String]| (words.len() + 1).saturating_sub(n);
    f1(shared, size(&text), size(&reference))
}

/// ROUGE-L F1 of `text` against `reference`.
pub fn rouge_l(text: &str, reference: &str) -> f64 {
    let (text, reference) = (rouge_words(text), rouge_words(reference));
    // longest[j]: of the words of `text` so far and the first j of `reference`.
    let mut longest = vec![0usize; reference.len() + 1];
    for word in &text {
        let mut diagonal = 0;
        for (j, other) in reference.iter().enumerate() {
            let above = longest[j + 1];
            longest[j + 1] = if word == other { diagonal + 1 } else { above.max(longest[j]) };
            diagonal = above;
        }
    }
    f1(longest[reference.len()], text.len(), reference.len())
}

/// F1 of `shared` items of `found` and `wanted`.
fn f1(shared: usize, found: usize, wanted: usize) -> f64 {
    match found == 0 || wanted == 0 {
        true => 0.0,
        false => 2.0 * shared as f64 / (found + wanted) as f64,
    }
}

/// Whether the texts are the same, whitespace at either end apart.
pub fn exact_match(text: &str, reference: &str) -> bool {
    text.trim() == reference.trim()
}

/// What lengths look like; all 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lengths {
    /// Mean.
    pub mean: f64,
    /// Median; the mean of the middle two.
    pub median: f64,
    /// Shortest.
    pub least: usize,
    /// Longest.
    pub most: usize,
}

impl Lengths {
    /// Of the lengths given, in whatever unit they are in.
    pub fn of(lengths: &[usize]) -> Self {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
            return Lengths::default();
        };
        let n = sorted.len();
        let median = (sorted[(n - 1) / 2] + sorted[n / 2]) as f64 / 2.0;
        Lengths { mean: sorted.iter().sum::<usize>() as f64 / n as f64, median, least, most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    #[test]
    fn rouge_counts_shared_ngrams_no_more_often_than_they_occur() {
        // Lin's example: police [the] kill against killed.
        let reference = "police killed the gunman";
        close(rouge_n("police kill the gunman", reference, 1), 0.75);
        close(rouge_n("police kill the gunman", reference, 2), 1.0 / 3.0);
        close(rouge_l("police kill the gunman", reference), 0.75);
        close(rouge_l("the gunman kill police", reference), 0.5);
        close(rouge_n("the the the", "the cat", 1), 2.0 / 5.0);
    }

    #[test]
    fn rouge_ignores_case_and_punctuation_and_order_matters_to_l() {
        assert_eq!(
            rouge_words("Don't STOP, co-op: 3.5%"),
            ["don", "t", "stop", "co", "op", "3", "5"]
        );
        close(rouge_n("A b. C", "a B c!", 1), 1.0);
        close(rouge_n("c b a", "a b c", 1), 1.0);
        close(rouge_l("c b a", "a b c"), 1.0 / 3.0);
        // A common subsequence need not be contiguous: a c e of a b c d e and a x c y e.
        close(rouge_l("a b c d e", "a x c y e"), 0.6);
    }

    #[test]
    fn texts_without_ngrams_score_zero() {
        for (text, reference) in [("", "a b"), ("a b", ""), ("", ""), ("...", "a")] {
            assert_eq!((rouge_n(text, reference, 1), rouge_l(text, reference)), (0.0, 0.0));
        }
        assert_eq!(rouge_n("a", "a", 2), 0.0);
    }

    #[test]
    fn exact_match_trims_and_nothing_else() {
        assert!(
            exact_match(" a b\n", "a b")
                && !exact_match("a  b", "a b")
                && !exact_match("A b", "a b")
        );
    }

    #[test]
    fn lengths_are_summed_up() {
        assert_eq!(
            Lengths::of(&[3, 1, 2, 10]),
            Lengths { mean: 4.0, median: 2.5, least: 1, most: 10 }
        );
        assert_eq!(Lengths::of(&[5]), Lengths { mean: 5.0, median: 5.0, least: 5, most: 5 });
        assert_eq!(Lengths::of(&[]), Lengths::default());
    }
}
