//! Similarity of samples of one input, within a method and between two: whether methods give the
//! same few answers. Knows neither a text nor a model.
//!
//! 1. Within a method: the mean over the pairs of its samples. Between two methods: the mean over
//!    the pairs of one sample of each. These are the intra-model and inter-model similarity of
//!    Jiang et al. 2025, "Artificial hivemind", arXiv 2510.22954.
//! 2. [`apart`]: half the squared maximum mean discrepancy of the two methods' distributions with
//!    the similarity as the kernel (Gretton et al. 2012, JMLR 13:723, eq. 3: unbiased, since no
//!    sample is paired with itself). With cosines of counts or of embeddings it is 0 where both
//!    have the same mean vector, and about 0 where both give the same answers as often.

/// Similarities of the samples of several methods for one input, which come one method after
/// another.
#[derive(Clone, Debug)]
pub struct Similarities {
    /// `[n,n]`, symmetric.
    values: Vec<f64>,
    n: usize,
    /// The first sample of each method, and the number of all.
    starts: Vec<usize>,
}

impl Similarities {
    /// From a matrix `[n,n]` and the numbers of samples of the methods.
    ///
    /// # Panics
    /// If the matrix is not of as many samples as the methods have.
    pub fn new(values: Vec<f64>, counts: &[usize]) -> Self {
        let mut starts = vec![0];
        counts.iter().for_each(|count| starts.push(starts.last().unwrap_or(&0) + count));
        let n = counts.iter().sum();
        assert_eq!(values.len(), n * n, "a similarity for every two samples");
        Similarities { values, n, starts }
    }

    /// The mean over the pairs of samples of a method, by its place; `None` of fewer than two.
    pub fn within(&self, method: usize) -> Option<f64> {
        let own = self.starts[method]..self.starts[method + 1];
        let pairs = own.clone().flat_map(|j| (own.start..j).map(move |i| (i, j)));
        self.mean(pairs)
    }

    /// The mean over the pairs of a sample of each of two methods; `None` where one has none.
    pub fn between(&self, one: usize, other: usize) -> Option<f64> {
        let [a, b] = [one, other].map(|method| self.starts[method]..self.starts[method + 1]);
        self.mean(a.flat_map(|i| b.clone().map(move |j| (i, j))))
    }

    fn mean(&self, pairs: impl Iterator<Item = (usize, usize)>) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0usize);
        for (i, j) in pairs {
            sum += self.values[i * self.n + j];
            count += 1;
        }
        (count > 0).then(|| sum / count as f64)
    }
}

/// How far two methods are apart: the mean similarity within them less that between them.
pub fn apart(one: f64, other: f64, between: f64) -> f64 {
    (one + other) / 2.0 - between
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?} for {expected}");
    }

    /// Two samples of a method, three of another, one of a third.
    #[test]
    fn means_are_over_pairs_of_the_samples() {
        let like =
            |i: usize, j: usize| if i == j { 9.0 } else { (i.min(j) * 10 + i.max(j)) as f64 };
        let values = (0..36).map(|at| like(at / 6, at % 6)).collect();
        let found = Similarities::new(values, &[2, 3, 1]);
        close(found.within(0), 1.0);
        // Pairs (2, 3), (2, 4) and (3, 4).
        close(found.within(1), (23.0 + 24.0 + 34.0) / 3.0);
        assert_eq!(found.within(2), None);
        // (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4).
        close(found.between(0, 1), (2.0 + 3.0 + 4.0 + 12.0 + 13.0 + 14.0) / 6.0);
        close(found.between(1, 2), (25.0 + 35.0 + 45.0) / 3.0);
        assert_eq!(Similarities::new(vec![1.0], &[1, 0]).between(0, 1), None);
    }

    /// A method that says one of two things at even chances, and one that says the first of them
    /// always: within 1/2 and 1, between 1/2.
    #[test]
    fn methods_of_one_distribution_are_not_apart() {
        assert_eq!(apart(0.5, 1.0, 0.5), 0.25);
        assert_eq!(apart(0.5, 0.5, 0.5), 0.0);
        assert_eq!(apart(1.0, 1.0, 0.0), 1.0);
    }

    /// Samples that are all of one distribution: over all outcomes of two samples of each of two
    /// methods, the mean of the estimate is exactly 0, whatever the distribution.
    #[test]
    fn the_estimate_has_no_bias() {
        let p = [0.7, 0.2, 0.1];
        let (mut mean, mut naive) = (0.0, 0.0);
        for outcome in 0..81 {
            let said = [outcome / 27, outcome / 9 % 3, outcome / 3 % 3, outcome % 3];
            let weight: f64 = said.iter().map(|at| p[*at]).product();
            let alike = |i: usize, j: usize| f64::from(u8::from(said[i] == said[j]));
            let values = (0..16).map(|at| alike(at / 4, at % 4)).collect();
            let found = Similarities::new(values, &[2, 2]);
            let [a, b] = [0, 1].map(|method| found.within(method).unwrap());
            mean += weight * apart(a, b, found.between(0, 1).unwrap());
            naive += weight * apart((1.0 + a) / 2.0, (1.0 + b) / 2.0, found.between(0, 1).unwrap());
        }
        assert!(mean.abs() < 1e-12 && naive > 0.1, "{mean}, {naive}");
    }
}
