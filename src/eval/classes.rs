//! Functional classes of the samples of one prompt: the partition, how many classes there are, what
//! the first sample of each is worth, and how samples are spread over them. Knows no model.
//!
//! 1. [`partition`]: in order, a sample joins the first class whose first member it is equivalent
//!    to, else it opens a new class (Zhang et al. 2025, "NoveltyBench: Evaluating language models
//!    for humanlike diversity", arXiv 2504.05228, section 3, and released code). The order of the
//!    samples matters where the equivalence is not transitive, as [`Words::is_similar`] is not.
//! 2. [`distinct`], distinct_k: classes among the first k samples. The file that the released code
//!    writes has one less under `distinct`, the index of the last class; its summary counts
//!    classes.
//! 3. [`utility`], utility_k: sum over i = 1 to k of p^(i - 1) u(y_i) over the samples that open a
//!    class, divided by the sum of p^(i - 1) over all k: what a user gains who goes on to the next
//!    sample with the chance p, the patience.
//! 4. [`entropy`]: -sum of n_c / K ln(n_c / K) over classes with n_c of the K samples, in nats. It
//!    is too low, by about (C - 1) / (2 K) where C classes have samples (Miller 1955, "Note on the
//!    bias of information estimates"), and at most ln K: sets of unequal sizes do not compare.
//! 5. [`simpson`]: the share of the pairs of samples that are of two classes, Simpson's index of
//!    diversity (Simpson 1949, "Measurement of diversity", Nature 163:688). It is unbiased for any
//!    number of samples, so that it compares sets of unequal sizes.

use std::collections::BTreeMap;

use super::text::rouge_words;

/// Words of a text up to which [`Words::is_similar`] compares words rather than ROUGE.
pub const FEW_WORDS: usize = 5;

/// ROUGE-1 F1 above which two texts are of one class: the threshold of NoveltyBench's released
/// code.
pub const ROUGE_1: f64 = 0.458;

/// The tenths of [-1, 1]: thresholds of [`level`] for the gold score.
pub const TENTHS: [f64; 9] = [-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8];

/// The deciles of the standard normal distribution: thresholds of [`level`] for a score of mean 0
/// and deviation 1.
pub const NORMAL_DECILES: [f64; 9] = [
    -1.281_551_565_544_600_4,
    -0.841_621_233_572_914_2,
    -0.524_400_512_708_040_7,
    -0.253_347_103_135_799_7,
    0.0,
    0.253_347_103_135_799_7,
    0.524_400_512_708_040_7,
    0.841_621_233_572_914_2,
    1.281_551_565_544_600_4,
];

/// By how much a score may miss a threshold and be at it: sums of decimal fractions are rounded.
const ROUNDING: f64 = 1e-9;

/// The class of each of `count` samples, numbered from 0 by first member; `same(i, j)` says whether
/// sample j is equivalent to sample i, the first of a class.
pub fn partition(count: usize, mut same: impl FnMut(usize, usize) -> bool) -> Vec<usize> {
    let mut first: Vec<usize> = Vec::new();
    (0..count)
        .map(|at| {
            first.iter().position(|&member| same(member, at)).unwrap_or_else(|| {
                first.push(at);
                first.len() - 1
            })
        })
        .collect()
}

/// A text made ready to be compared with others.
#[derive(Clone, Debug)]
pub struct Words {
    /// Words in lower case that white space separates: how many, and each once, sorted.
    count: usize,
    distinct: Vec<String>,
    /// ROUGE's words: how many, and how often each occurs.
    rouge_count: usize,
    rouge: BTreeMap<String, usize>,
}

impl Words {
    /// Of a text.
    pub fn new(text: &str) -> Self {
        let lower = text.to_lowercase();
        let mut distinct: Vec<String> = lower.split_whitespace().map(str::to_owned).collect();
        let count = distinct.len();
        distinct.sort_unstable();
        distinct.dedup();
        let words = rouge_words(text);
        let rouge_count = words.len();
        let mut rouge = BTreeMap::new();
        words.into_iter().for_each(|word| *rouge.entry(word).or_default() += 1);
        Words { count, distinct, rouge_count, rouge }
    }

    /// Whether two texts are of one class by their words: of texts of at most [`FEW_WORDS`] words,
    /// if the words that both have, each counted once, are at least half of the words of the longer
    /// one; of others, if their ROUGE-1 F1 is above [`ROUGE_1`].
    ///
    /// Both rules are of NoveltyBench's released code, which applies the first beside its
    /// classifier only. A text that differs in one decisive word, a negation or a number, is of the
    /// same class.
    pub fn is_similar(&self, other: &Words) -> bool {
        let longer = self.count.max(other.count);
        if longer > FEW_WORDS {
            return self.rouge_1(other) > ROUGE_1;
        }
        let is_shared = |word: &&String| other.distinct.binary_search(word).is_ok();
        2 * self.distinct.iter().filter(is_shared).count() >= longer
    }

    /// ROUGE-1 F1; 0 where either text has no word.
    fn rouge_1(&self, other: &Words) -> f64 {
        let often = |(word, count): (&String, &usize)| other.rouge.get(word).map(|n| *count.min(n));
        let shared: usize = self.rouge.iter().filter_map(often).sum();
        2.0 * shared as f64 / (self.rouge_count + other.rouge_count).max(1) as f64
    }
}

/// distinct_k: the number of classes among the first k samples.
///
/// # Panics
/// If there are fewer than k samples.
pub fn distinct(classes: &[usize], k: usize) -> usize {
    // Classes are numbered by first member: the greatest number is of the last class.
    classes[..k].iter().map(|class| class + 1).max().unwrap_or(0)
}

/// The utility of a score: 1 plus the number of ascending `thresholds` that it is above, so 1 to
/// 10 of nine. A score that misses a threshold by less than 1e-9 is at it, not above.
pub fn level(score: f64, thresholds: &[f64]) -> f64 {
    1.0 + thresholds.iter().filter(|threshold| score > **threshold + ROUNDING).count() as f64
}

/// utility_k of the first k samples, whose utilities are `utilities`, with this patience, in
/// (0, 1]. In the unit of the utilities; at most their greatest.
///
/// # Panics
/// If k is 0 or there are fewer than k samples.
pub fn utility(classes: &[usize], utilities: &[f64], patience: f64, k: usize) -> f64 {
    assert!(k > 0, "utility of no sample");
    let (mut sum, mut weights, mut weight, mut seen) = (0.0, 0.0, 1.0, 0);
    for (class, utility) in classes[..k].iter().zip(&utilities[..k]) {
        if *class == seen {
            sum += weight * utility;
            seen += 1;
        }
        weights += weight;
        weight *= patience;
    }
    sum / weights
}

/// The entropy, in nats, of the samples' distribution over classes; 0 of no sample.
pub fn entropy(classes: &[usize]) -> f64 {
    let mut counts = vec![0usize; distinct(classes, classes.len())];
    classes.iter().for_each(|&class| counts[class] += 1);
    let share = |count: &usize| *count as f64 / classes.len() as f64;
    counts.iter().map(|count| -share(count) * share(count).ln()).sum::<f64>().max(0.0)
}

/// The share of the pairs of the samples at `places` that are of two classes; 0 where there is no
/// pair.
pub fn simpson(classes: &[usize], places: &[usize]) -> f64 {
    let (mut apart, mut pairs) = (0usize, 0usize);
    for (at, &j) in places.iter().enumerate() {
        apart += places[..at].iter().filter(|&&i| classes[i] != classes[j]).count();
        pairs += at;
    }
    if pairs == 0 { 0.0 } else { apart as f64 / pairs as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::rouge_n;

    fn is_similar(a: &str, b: &str) -> bool {
        Words::new(a).is_similar(&Words::new(b))
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    /// Classes 0, 1, 0, 2 of utilities 8, 5, 9, 3: 8 + 0.8 x 5 + 0.512 x 3 = 13.536 over 2.952.
    #[test]
    fn the_golden_utility_comes_out() {
        let (classes, utilities) = ([0, 1, 0, 2], [8.0, 5.0, 9.0, 3.0]);
        close(utility(&classes, &utilities, 0.8, 4), 4.585_365_853_658_536);
        // 12 over 1.8; of one sample its utility; of equal weights the mean over all samples.
        close(utility(&classes, &utilities, 0.8, 2), 12.0 / 1.8);
        close(utility(&classes, &utilities, 0.8, 1), 8.0);
        close(utility(&classes, &utilities, 1.0, 4), 4.0);
        assert_eq!([1, 2, 3, 4].map(|k| distinct(&classes, k)), [1, 2, 2, 3]);
        assert_eq!(distinct(&[], 0), 0);
    }

    /// 1 is like 0 and 2 like 1, but not like 0: by first members 2 opens a class, by connected
    /// parts there would be one.
    #[test]
    fn classes_are_by_first_member_and_not_by_chains() {
        let near = |i: usize, j: usize| i.abs_diff(j) <= 1;
        assert_eq!(partition(5, near), [0, 0, 1, 1, 2]);
        let labels = ["b", "a", "b", "c", "a"];
        assert_eq!(partition(5, |i, j| labels[i] == labels[j]), [0, 1, 0, 2, 1]);
        assert_eq!(partition(0, |_, _| true), [0; 0]);
        // A sample that two first members are like joins the first of them.
        let members = [[true, false, true], [false, true, true], [true, true, true]];
        assert_eq!(partition(3, |i, j| members[i][j]), [0, 1, 0]);
    }

    /// Shared words of short texts, and ROUGE-1 of long ones, worked out by hand.
    #[test]
    fn short_texts_are_compared_by_words_and_long_ones_by_rouge() {
        for (a, b, same) in [
            ("Paris", "paris", true),
            // 1 of 2 words: 2 >= 2. 1 of 3: 2 < 3. Punctuation is part of a word.
            ("New York", "york", true),
            ("the big cat", "cat", false),
            ("cat.", "cat", false),
            // A repeated word counts once: 2 x 1 < 3.
            ("no no no", "no no no", false),
            ("", "", true),
            ("", "a", false),
            // 5 and 6 words: ROUGE. 5 shared of 11: F1 10/11; 2 shared: 4/11 < 0.458.
            ("a b c d e", "a b c d e f", true),
            ("a b x y z", "a b c d e f", false),
            // 6 words each: 2 of 6 are 0.333, 3 of 6 are 0.5.
            ("a b u v w x", "a b c d e f", false),
            ("a b c v w x", "a b c d e f", true),
            // 12 words each: 5 of 12 are 0.417, 6 of 12 are 0.5; 11 of 24 are 0.4583, just above.
            ("a b c d e 1 2 3 4 5 6 7", "a b c d e f g h i j k l", false),
            ("a b c d e f 2 3 4 5 6 7", "a b c d e f g h i j k l", true),
        ] {
            assert_eq!((is_similar(a, b), is_similar(b, a)), (same, same), "{a} and {b}");
            let rouge = Words::new(a).rouge_1(&Words::new(b));
            assert_eq!(rouge, rouge_n(a, b, 1), "{a} and {b}");
        }
        let long = |shared: usize, other: &str| {
            (0..24).map(|at| format!("{}{at} ", if at < shared { "w" } else { other })).collect()
        };
        let [a, b, c]: [String; 3] = [long(24, ""), long(11, "x"), long(10, "x")];
        assert!(is_similar(&a, &b) && !is_similar(&a, &c), "11 and 10 of 24 words");
    }

    #[test]
    fn entropy_is_of_the_shares_of_classes() {
        close(entropy(&[0, 1, 0, 2]), 1.5 * 2f64.ln());
        close(entropy(&[0, 1, 2, 3]), 4f64.ln());
        close(entropy(&[0, 0, 0, 1]), 4f64.ln() - 0.75 * 3f64.ln());
        assert_eq!((entropy(&[0; 5]), entropy(&[])), (0.0, 0.0));
    }

    /// Of the six pairs of 0, 1, 0, 2 one is of one class. The mean over all triples is that of all
    /// pairs: no size is favoured.
    #[test]
    fn pairs_of_two_classes_are_counted_without_bias() {
        let classes = [0, 1, 0, 2];
        close(simpson(&classes, &[0, 1, 2, 3]), 5.0 / 6.0);
        let triples = [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]];
        let found = triples.map(|places| simpson(&classes, &places));
        found.iter().zip([2.0 / 3.0, 1.0, 2.0 / 3.0, 1.0]).for_each(|(a, b)| close(*a, b));
        close(found.iter().sum::<f64>() / 4.0, 5.0 / 6.0);
        assert_eq!((simpson(&classes, &[2]), simpson(&classes, &[])), (0.0, 0.0));
    }

    /// Of all 81 outcomes of four draws from three equal classes: the mean entropy is below ln 3 by
    /// more than 2/8, the first term of the bias, of which outcomes that miss a class have less.
    #[test]
    fn entropy_of_few_samples_is_too_low() {
        let outcomes = (0..81usize).map(|at| [at % 3, at / 3 % 3, at / 9 % 3, at / 27]);
        let of = |draws: [usize; 4]| entropy(&partition(4, |i, j| draws[i] == draws[j]));
        let mean = outcomes.map(of).sum::<f64>() / 81.0;
        // 3 of one class; 24 and 18 of two, by 3:1 and 2:2; 36 of three.
        let [one, two, three] = [4f64.ln() - 0.75 * 3f64.ln(), 2f64.ln(), 1.5 * 2f64.ln()];
        close(mean, (24.0 * one + 18.0 * two + 36.0 * three) / 81.0);
        assert!(3f64.ln() - mean > 0.25, "{mean}");
    }

    /// The nine thresholds of the released code for its reward model, by left bisection.
    #[test]
    fn utilities_are_one_to_ten_by_left_bisection() {
        let thresholds =
            [-7.71875, -6.28125, -6.0, -5.71875, -5.5, -5.0, -4.375, -3.4375, -2.046875];
        for (score, expected) in
            [(-9.0, 1.0), (-7.71875, 1.0), (-7.7, 2.0), (-5.0, 6.0), (-4.9, 7.0), (0.0, 10.0)]
        {
            assert_eq!(level(score, &thresholds), expected, "{score}");
        }
        // 0.1 + 0.2 is not above 0.3.
        assert_eq!((level(0.1 + 0.2, &[0.3]), level(0.3, &[])), (1.0, 1.0));
    }

    proptest! {
        /// A first member is in its own class, and classes are numbered as they open.
        #[test]
        fn classes_open_in_order(same in prop::collection::vec(any::<bool>(), 64)) {
            let classes = partition(8, |i, j| same[8 * i + j]);
            let mut next = 0;
            for (at, class) in classes.iter().enumerate() {
                prop_assert!(*class <= next);
                next = next.max(class + 1);
                prop_assert_eq!(distinct(&classes, at + 1), next);
            }
            let equal = utility(&classes, &[1.0; 8], 1.0, 8);
            prop_assert!((equal - next as f64 / 8.0).abs() < 1e-12);
        }
    }
}
