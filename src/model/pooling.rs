//! Hidden states of a text to one vector, and the vector's gradient back: on the host, in double
//! precision. Independent of texts and models.
//!
//! 1. The vector is the mean of the tokens' hidden states, or that of the first token; scaled to
//!    length 1 on request.
//! 2. Of y = m / |m| the gradient is dm = (dy - y (y . dy)) / |m|. A vector of length 0 is not
//!    scaled, and neither is its gradient.

use serde::{Deserialize, Serialize};

/// How hidden states of tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the first token.
    Cls,
}

impl Pooling {
    /// The rows of `hidden[n,width]` that count.
    fn rows(self, hidden: &[f64], width: usize) -> &[f64] {
        match self {
            Pooling::Mean => hidden,
            Pooling::Cls => &hidden[..width],
        }
    }

    /// One vector `[width]` from hidden states `[n,width]`, of length 1 if `normalize`.
    ///
    /// # Panics
    /// Without a token.
    pub fn pool(self, hidden: &[f64], width: usize, normalize: bool) -> Vec<f64> {
        let (mut vector, rows) = (vec![0.0; width], self.rows(hidden, width));
        for row in rows.chunks_exact(width) {
            vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        let count = (rows.len() / width) as f64;
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt() / count;
        let scale = if normalize && norm > 0.0 { count * norm } else { count };
        vector.iter().map(|x| x / scale).collect()
    }

    /// The gradient of the hidden states `[n,width]`, from `dvector[width]`, that of what
    /// [`Pooling::pool`] gave.
    ///
    /// # Panics
    /// Without a token.
    pub fn pool_backward(
        self,
        dvector: &[f64],
        hidden: &[f64],
        width: usize,
        normalize: bool,
    ) -> Vec<f64> {
        let count = (self.rows(hidden, width).len() / width) as f64;
        let mean = self.pool(hidden, width, false);
        let norm = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        let dmean: Vec<f64> = match normalize && norm > 0.0 {
            true => {
                let along: f64 = mean.iter().zip(dvector).map(|(x, d)| x / norm * d).sum();
                mean.iter().zip(dvector).map(|(x, d)| (d - x / norm * along) / norm).collect()
            }
            false => dvector.to_vec(),
        };
        let mut dhidden = vec![0.0; hidden.len()];
        let rows = self.rows(hidden, width).len();
        for drow in dhidden[..rows].chunks_exact_mut(width) {
            drow.iter_mut().zip(&dmean).for_each(|(dx, d)| *dx = d / count);
        }
        dhidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_takes_the_mean_or_the_first_and_scales() {
        let hidden = [1.0, 2.0, 5.0, 6.0];
        assert_eq!(Pooling::Mean.pool(&hidden, 2, false), [3.0, 4.0]);
        assert_eq!(Pooling::Mean.pool(&hidden, 2, true), [0.6, 0.8]);
        assert_eq!(Pooling::Cls.pool(&hidden, 2, false), [1.0, 2.0]);
        assert_eq!(Pooling::Mean.pool(&[0.0; 4], 2, true), [0.0, 0.0]);
    }

    #[test]
    fn the_gradient_is_the_slope_of_every_hidden_state() {
        let (hidden, weights) =
            ([0.3, -1.2, 0.7, 2.0, 0.1, -0.4, -0.9, 0.8, 1.1], [0.5, -2.0, 1.5]);
        for (pooling, normalize) in [
            (Pooling::Mean, false),
            (Pooling::Mean, true),
            (Pooling::Cls, false),
            (Pooling::Cls, true),
        ] {
            let loss = |hidden: &[f64]| {
                pooling
                    .pool(hidden, 3, normalize)
                    .iter()
                    .zip(&weights)
                    .map(|(x, w)| x * w)
                    .sum::<f64>()
            };
            let gradient = pooling.pool_backward(&weights, &hidden, 3, normalize);
            for (at, gradient) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut hidden = hidden;
                    hidden[at] += by;
                    loss(&hidden)
                };
                let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (gradient - slope).abs() < 1e-8,
                    "{pooling:?}, {normalize}, {at}: {gradient} by hand, {slope} by difference"
                );
            }
        }
        assert_eq!(
            Pooling::Mean.pool_backward(&weights, &[0.0; 6], 3, true),
            [0.25, -1.0, 0.75, 0.25, -1.0, 0.75]
        );
    }
}
