//! Measures that are means over pairs of things, so that any subset of them is read from one
//! matrix. Knows no text and no model.
//!
//! 1. Embedding distance: 1 - cosine, over all unordered pairs (Kirk et al. 2024: sentence-BERT
//!    diversity).
//! 2. NLI diversity: of a pair, in both orders, the probability of the likeliest label counts +1
//!    for contradiction, -1 for entailment and nothing for neutral; the sum of both orders,
//!    averaged over unordered pairs, is from -2 to 2 (Stasaski and Hearst 2022; Kirk et al. 2024).
//! 3. The released code of Kirk et al. calls the same sum a similarity and takes 1 - its mean, so
//!    that more entailment gives more "diversity": [`released`]. Its other variant, which is to
//!    compare sampled sentences, compares five pairs of single letters, drawn without replacement
//!    from both texts cut to the length of the shorter, and divides what they give by five:
//!    [`letters`].

use super::vendi::normalised;
use crate::random::Sequence;

/// A number for each unordered pair of n things.
#[derive(Clone, Debug)]
pub struct Pairs {
    n: usize,
    /// `[n,n]`, symmetric.
    values: Vec<f64>,
}

impl Pairs {
    /// From `value(i, j)`, i below j.
    pub fn new(n: usize, mut value: impl FnMut(usize, usize) -> f64) -> Self {
        let mut values = vec![0.0; n * n];
        for j in 0..n {
            for i in 0..j {
                values[i * n + j] = value(i, j);
                values[j * n + i] = values[i * n + j];
            }
        }
        Pairs { n, values }
    }

    /// Distances of vectors: 1 - cosine.
    pub fn distances(vectors: &[&[f64]]) -> Self {
        let vectors: Vec<Vec<f64>> = vectors.iter().map(|vector| normalised(vector)).collect();
        Self::new(vectors.len(), |i, j| {
            1.0 - vectors[i].iter().zip(&vectors[j]).map(|(a, b)| a * b).sum::<f64>()
        })
    }

    /// The mean over the pairs of the things at `indices`; 0 where there is no pair.
    pub fn mean(&self, indices: &[usize]) -> f64 {
        let mut sum = 0.0;
        for (at, &j) in indices.iter().enumerate() {
            sum += indices[..at].iter().map(|&i| self.values[i * self.n + j]).sum::<f64>();
        }
        let pairs = indices.len() * indices.len().saturating_sub(1) / 2;
        if pairs == 0 { 0.0 } else { sum / pairs as f64 }
    }
}

/// What a classifier of text pairs may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nli {
    /// The first text implies the second.
    Entailment,
    /// Neither.
    Neutral,
    /// The texts cannot both hold.
    Contradiction,
}

impl Nli {
    /// By the name that a model's configuration gives it, in whatever case; `None` for any other.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "entailment" => Some(Nli::Entailment),
            "neutral" => Some(Nli::Neutral),
            "contradiction" => Some(Nli::Contradiction),
            _ => None,
        }
    }

    /// What the likeliest label, of this probability, adds to a pair.
    pub fn signed(self, probability: f64) -> f64 {
        match self {
            Nli::Entailment => -probability,
            Nli::Neutral => 0.0,
            Nli::Contradiction => probability,
        }
    }
}

/// The "diversity" of the released code, from the mean of what it calls similarity.
pub fn released(similarity: f64) -> f64 {
    1.0 - similarity
}

/// Letters that the released code's sampled variant draws from a text.
pub const LETTERS: usize = 5;

/// The pairs of letters that the released code's sampled variant compares instead of two
/// texts.
pub fn letters(a: &str, b: &str, draws: &mut Sequence) -> Vec<(char, char)> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let least = a.len().min(b.len());
    let mut sample = |text: &[char]| {
        let mut text = text[..least].to_vec();
        let count = LETTERS.min(least);
        for at in 0..count {
            text.swap(at, at + draws.below(least - at));
        }
        text.truncate(count);
        text
    };
    let first = sample(&a);
    first.into_iter().zip(sample(&b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_over_unordered_pairs_of_the_things_asked_for() {
        let pairs = Pairs::new(4, |i, j| (10 * i + j) as f64);
        assert_eq!(pairs.mean(&[0, 1, 2, 3]), (1.0 + 2.0 + 3.0 + 12.0 + 13.0 + 23.0) / 6.0);
        assert_eq!((pairs.mean(&[3, 1]), pairs.mean(&[2]), pairs.mean(&[])), (13.0, 0.0, 0.0));
    }

    #[test]
    fn distances_are_one_minus_cosine() {
        let pairs = Pairs::distances(&[&[1.0, 0.0], &[0.0, 2.0], &[-3.0, 0.0]]);
        assert_eq!((pairs.mean(&[0, 1]), pairs.mean(&[0, 2])), (1.0, 2.0));
        assert!((pairs.mean(&[0, 1, 2]) - 4.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn contradiction_is_diversity_and_the_released_code_turns_it_round() {
        assert_eq!(
            [Nli::Entailment, Nli::Neutral, Nli::Contradiction].map(|label| label.signed(0.9)),
            [-0.9, 0.0, 0.9]
        );
        assert_eq!(released(-2.0), 3.0);
    }

    #[test]
    fn letters_are_of_both_texts_cut_to_the_shorter() {
        let mut draws = crate::random::Stream::new(0, "letters").sequence(0);
        for _ in 0..50 {
            let pairs = letters("abcdefgh", "uvwxyz", &mut draws);
            assert_eq!(pairs.len(), LETTERS);
            assert!(pairs.iter().all(|(a, b)| ('a'..='f').contains(a) && ('u'..='z').contains(b)));
        }
        assert_eq!(
            (letters("", "ab", &mut draws).len(), letters("x", "yz", &mut draws)),
            (0, vec![('x', 'y')])
        );
    }
}
