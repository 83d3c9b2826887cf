//! The Vendi score (Friedman and Dieng 2023): the effective number of different things in a set, by
//! their similarities. Knows no text.
//!
//! 1. exp of the entropy of the eigenvalues of K / n, where K is the matrix of similarities, with
//!    ones on its diagonal: 1 for n copies of one thing, n for n things that have nothing in
//!    common.
//! 2. Of vectors with cosine similarity, the eigenvalues that are not 0 are those of the smaller of
//!    X X^T and X^T X.
//! 3. Of texts, K is the mean over n = 1 and 2 of the cosines of their n-gram counts.

use std::collections::BTreeMap;

use nalgebra::DMatrix;

/// Of the symmetric matrix `similarities[n,n]`; 0 for nothing.
pub fn of_similarities(similarities: &[f64], n: usize) -> f64 {
    assert_eq!(similarities.len(), n * n, "a square matrix");
    exp_entropy(DMatrix::from_row_slice(n, n, similarities) / n.max(1) as f64)
}

/// Of the vectors `vectors[n,d]` by their cosines; a vector of zeros is like nothing but itself.
pub fn of_vectors(vectors: &[&[f64]]) -> f64 {
    let Some(d) = vectors.first().map(|vector| vector.len()) else { return 0.0 };
    let n = vectors.len();
    let rows: Vec<f64> = vectors.iter().flat_map(|vector| normalised(vector)).collect();
    let zeros = vectors.iter().filter(|vector| vector.iter().all(|x| *x == 0.0)).count();
    let x = DMatrix::from_row_slice(n, d, &rows) / (n as f64).sqrt();
    match n <= d || zeros > 0 {
        true => {
            let mut similarities = &x * x.transpose();
            for (at, vector) in
                vectors.iter().enumerate().filter(|(_, vector)| vector.iter().all(|x| *x == 0.0))
            {
                debug_assert!(!vector.is_empty());
                similarities[(at, at)] = 1.0 / n as f64;
            }
            exp_entropy(similarities)
        }
        false => exp_entropy(x.transpose() * x),
    }
}

/// The mean over n = 1 and 2 of the cosines between the n-gram counts of texts, `[n,n]`. Texts
/// without an n-gram are alike.
pub fn ngram_similarities(texts: &[Vec<String>]) -> Vec<f64> {
    let count = texts.len();
    let mut mean = vec![0.0; count * count];
    for n in [1, 2] {
        let profiles: Vec<BTreeMap<&[String], f64>> = texts
            .iter()
            .map(|words| {
                let mut profile = BTreeMap::new();
                words.windows(n).for_each(|ngram| *profile.entry(ngram).or_default() += 1.0);
                profile
            })
            .collect();
        let norms: Vec<f64> = profiles
            .iter()
            .map(|profile| profile.values().map(|x| x * x).sum::<f64>().sqrt())
            .collect();
        for i in 0..count {
            for j in 0..=i {
                let (few, many) =
                    if profiles[i].len() < profiles[j].len() { (i, j) } else { (j, i) };
                let product: f64 = profiles[few]
                    .iter()
                    .filter_map(|(ngram, x)| Some(x * profiles[many].get(ngram)?))
                    .sum();
                let cosine = match norms[i] * norms[j] {
                    _ if i == j || norms[i] + norms[j] == 0.0 => 1.0,
                    0.0 => 0.0,
                    norm => product / norm,
                };
                mean[i * count + j] += cosine / 2.0;
                mean[j * count + i] = mean[i * count + j];
            }
        }
    }
    mean
}

/// The part of a matrix of similarities `[n,n]` that belongs to some things.
pub fn part(similarities: &[f64], n: usize, indices: &[usize]) -> Vec<f64> {
    indices.iter().flat_map(|&i| indices.iter().map(move |&j| similarities[i * n + j])).collect()
}

/// A vector of length 1 in the same direction; zeros stay.
pub fn normalised(vector: &[f64]) -> Vec<f64> {
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    vector.iter().map(|x| if norm > 0.0 { x / norm } else { 0.0 }).collect()
}

fn exp_entropy(matrix: DMatrix<f64>) -> f64 {
    if matrix.is_empty() {
        return 0.0;
    }
    let eigenvalues = matrix.symmetric_eigenvalues();
    eigenvalues
        .iter()
        .filter(|value| **value > 0.0)
        .map(|value| -value * value.ln())
        .sum::<f64>()
        .exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
    }

    #[test]
    fn copies_count_once_and_strangers_each() {
        close(of_similarities(&[1.0; 16], 4), 1.0);
        close(of_similarities(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], 3), 3.0);
        // Two alike and one apart: exp of the entropy of (2/3, 1/3).
        let pair = [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        close(of_similarities(&pair, 3), (2.0 / 3.0 * 1.5f64.ln() + 3.0f64.ln() / 3.0).exp());
        assert_eq!((of_similarities(&[], 0), of_vectors(&[])), (0.0, 0.0));
    }

    #[test]
    fn vectors_score_as_the_matrix_of_their_cosines_does_whichever_is_smaller() {
        let vectors = [[1.0, 2.0], [0.5, -1.0], [3.0, 0.1], [1.0, 2.1], [-1.0, 0.0]];
        let vectors: Vec<&[f64]> = vectors.iter().map(|vector| vector.as_slice()).collect();
        let cosine = |a: &[f64], b: &[f64]| {
            normalised(a).iter().zip(normalised(b)).map(|(a, b)| a * b).sum::<f64>()
        };
        for some in [&vectors[..2], &vectors[..]] {
            let cosines: Vec<f64> =
                some.iter().flat_map(|a| some.iter().map(|b| cosine(a, b))).collect();
            close(of_vectors(some), of_similarities(&cosines, some.len()));
        }
        // Zeros are like nothing, however many vectors there are.
        close(
            of_vectors(&[&[0.0, 0.0], &[1.0, 0.0], &[1.0, 0.0]]),
            (2.0 / 3.0 * 1.5f64.ln() + 3.0f64.ln() / 3.0).exp(),
        );
    }

    #[test]
    fn texts_are_compared_by_words_and_pairs_of_words() {
        let texts = ["a b a", "a b", ""]
            .map(|text| text.split_whitespace().map(String::from).collect::<Vec<String>>());
        let found = ngram_similarities(&texts);
        let words = 3.0 / (5.0f64 * 2.0).sqrt();
        let pairs = 1.0 / 2.0f64.sqrt();
        close(found[1], (words + pairs) / 2.0);
        assert_eq!((found[0], found[2], found[8]), (1.0, 0.0, 1.0));
        assert_eq!(part(&found, 3, &[1, 0]), [1.0, found[1], found[1], 1.0]);
    }
}
