//! Merging of models without training: the arithmetic on one tensor, in `f64`, rounded once to
//! `f32`. Knows no file.
//!
//! theta_i are the models' tensors, w_i their weights, d_i = theta_i - theta_base the task vectors.
//!
//! - `linear` without a base: sum of w_i theta_i. Wortsman et al. 2022, arXiv 2203.05482 (uniform
//!   soups), with any weights that sum to 1.
//! - `linear` with a base: theta_base + sum of w_i d_i. Ilharco et al. 2023, arXiv 2212.04089.
//! - `slerp`: theta_base + sin(w_1 a) / sin(a) d_1 + sin(w_2 a) / sin(a) d_2, where a is the angle
//!   between the two task vectors of the tensor and w_1 + w_2 = 1. Ramé et al. 2024, arXiv
//!   2406.16768, section 3 (WARP). Where the angle is 0 or pi to within [`LEAST_SINE`], or a task
//!   vector is 0, it is `linear`, which is the limit for an angle of 0.
//!
//! Sums are in the order of the models, and over the elements of a tensor in their order.

use serde::{Deserialize, Serialize};

/// How task vectors are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combination {
    /// Weighted sum.
    #[default]
    Linear,
    /// Spherical interpolation of the task vectors of two models, tensor by tensor.
    Slerp,
}

/// The sine of an angle at and below which two directions count as one, or as opposite.
pub const LEAST_SINE: f64 = 1e-8;

/// The merged tensor of `models`, each with its weight, and of `base`, if there is one.
///
/// # Panics
/// If the tensors have different lengths, or [`Combination::Slerp`] has no base, or not two models.
pub fn merged(how: Combination, base: Option<&[f32]>, models: &[(&[f32], f64)]) -> Vec<f32> {
    let length = models.first().map_or(0, |(first, _)| first.len());
    let all = models.iter().map(|(tensor, _)| *tensor).chain(base);
    assert!(all.into_iter().all(|tensor| tensor.len() == length), "tensors of one length");
    let weights: Vec<f64> = match (how, base, models) {
        (Combination::Linear, ..) => models.iter().map(|(_, weight)| *weight).collect(),
        (Combination::Slerp, Some(base), [(one, first), (two, second)]) => {
            spherical(angle(base, one, two), [*first, *second]).to_vec()
        }
        (Combination::Slerp, ..) => panic!("slerp is of two models and a base"),
    };
    let sum = |at: usize| {
        let from = base.map_or(0.0, |base| f64::from(base[at]));
        let parts = models.iter().zip(&weights);
        parts.fold(from, |sum, ((tensor, _), weight)| sum + weight * (f64::from(tensor[at]) - from))
    };
    (0..length).map(|at| sum(at) as f32).collect()
}

/// The angle between two task vectors, in [0, pi]; `None` where one is 0. It is twice the arc
/// tangent of |u - v| / |u + v| of unit vectors, which is exact for small angles too.
fn angle(base: &[f32], one: &[f32], two: &[f32]) -> Option<f64> {
    let delta = |of: &[f32], at: usize| f64::from(of[at]) - f64::from(base[at]);
    let norm = |of: &[f32]| (0..base.len()).map(|at| delta(of, at).powi(2)).sum::<f64>().sqrt();
    let (first, second) = (norm(one), norm(two));
    if first == 0.0 || second == 0.0 {
        return None;
    }
    let of = |sign: f64| {
        let part = |at: usize| delta(one, at) / first + sign * delta(two, at) / second;
        (0..base.len()).map(|at| part(at).powi(2)).sum::<f64>().sqrt()
    };
    Some(2.0 * of(-1.0).atan2(of(1.0)))
}

/// The factors of both task vectors at this angle.
fn spherical(angle: Option<f64>, weights: [f64; 2]) -> [f64; 2] {
    match angle.filter(|angle| angle.sin() > LEAST_SINE) {
        Some(angle) => weights.map(|weight| (weight * angle).sin() / angle.sin()),
        None => weights,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: [f32; 2] = [1.0, -2.0];

    fn of(how: Combination, base: Option<&[f32]>, models: &[(&[f32], f64)]) -> Vec<f32> {
        merged(how, base, models)
    }

    #[test]
    fn linear_is_the_weighted_sum() {
        let found = of(Combination::Linear, None, &[(&[1.0, 4.0], 0.25), (&[3.0, -2.0], 0.75)]);
        assert_eq!(found, [2.5, -0.5]);
    }

    /// base + 2 (1, 1) - 0.5 (-2, 4), and a task that is forgotten: base - (1, 1).
    #[test]
    fn task_vectors_are_added_to_the_base() {
        let (one, two) = ([2.0, -1.0], [-1.0, 2.0]);
        let found = of(Combination::Linear, Some(&BASE), &[(&one[..], 2.0), (&two[..], -0.5)]);
        assert_eq!(found, [4.0, -2.0]);
        assert_eq!(of(Combination::Linear, Some(&BASE), &[(&one[..], -1.0)]), [0.0, -3.0]);
    }

    /// Task vectors (2, 0) and (0, 1): a right angle, so the factors are the sines of 60 and 30
    /// degrees.
    #[test]
    fn slerp_goes_along_the_arc() {
        let (one, two) = ([3.0f32, -2.0], [1.0f32, -1.0]);
        let found =
            of(Combination::Slerp, Some(&BASE), &[(&one[..], 2.0 / 3.0), (&two[..], 1.0 / 3.0)]);
        let expected = [1.0 + 2.0 * 3f64.sqrt() / 2.0, -2.0 + 0.5];
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 2e-7, "{found} for {expected}");
        }
        // Two task vectors of one length: so is what is between them.
        let (one, two) = ([1.6f32, -1.2], [0.4f32, -1.2]);
        let found = of(Combination::Slerp, Some(&BASE), &[(&one[..], 0.3), (&two[..], 0.7)]);
        let norm = found.iter().zip(BASE).map(|(x, base)| (x - base).powi(2)).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-6, "{norm}");
    }

    #[test]
    fn slerp_without_an_angle_is_linear() {
        for (one, two) in [
            // Parallel, opposite, and no task vector at all.
            ([2.0f32, -1.0], [3.0f32, 0.0]),
            ([2.0, -1.0], [0.0, -3.0]),
            ([1.0, -2.0], [3.0, 0.0]),
        ] {
            let models = [(&one[..], 0.25), (&two[..], 0.75)];
            assert_eq!(
                of(Combination::Slerp, Some(&BASE), &models),
                of(Combination::Linear, Some(&BASE), &models)
            );
        }
    }

    /// A nearly parallel pair has nearly the linear result: the formula is stable there.
    #[test]
    fn slerp_at_a_small_angle_is_close_to_linear() {
        let (one, two) = ([2.0f32, -1.0], [2.0f32, -0.9999]);
        let models = [(&one[..], 0.5), (&two[..], 0.5)];
        let [arc, line] =
            [Combination::Slerp, Combination::Linear].map(|how| of(how, Some(&BASE), &models));
        assert!(arc.iter().zip(&line).all(|(a, b)| (a - b).abs() < 1e-6), "{arc:?} {line:?}");
    }

    /// Weights whose sum is 1 to within 1e-9 leave what all models share, bit for bit.
    #[test]
    fn what_is_the_same_in_all_models_stays_so() {
        let same: Vec<f32> = (0..1000).map(|at| (at as f32 * 0.7131).sin() * 1e-3).collect();
        let third = 0.3333333333;
        for weights in [vec![0.1, 0.2, 0.7], vec![third; 3], vec![1.5, -0.5]] {
            let models: Vec<(&[f32], f64)> =
                weights.iter().map(|weight| (same.as_slice(), *weight)).collect();
            assert_eq!(of(Combination::Linear, None, &models), same);
            assert_eq!(of(Combination::Linear, Some(&same), &models), same);
        }
    }
}
