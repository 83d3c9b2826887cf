//! Over-optimisation: gold over the distance from the reference policy, and its peak. Knows no
//! policy and no text.
//!
//! 1. The forms of Gao et al. (2023, "Scaling laws for reward model overoptimization", arXiv
//!    2210.10760, section 3.1): with d = sqrt(KL), gold has gained d (a - b d) by best-of-n and
//!    d (a - b log d) by reinforcement. Both are linear in a and b, which are fitted by least
//!    squares over points of equal weight.
//! 2. The peak: of best-of-n at d = a / (2 b) with a gain of a^2 / (4 b), of reinforcement at d =
//!    exp(a / b - 1) with a gain of b d. Where b is not above 0 there is none: the fit still rises.
//! 3. A peak is passed where gold at the greatest distance is below gold nearer to the reference,
//!    paired over inputs. The nearer point is chosen by its gold, so the p value is multiplied by
//!    the number of points that it was chosen from (Bonferroni).

use serde::{Deserialize, Serialize};

use super::compare::paired;
use super::interval::{Interval, average, of_set, p_of_mean};

/// The fewest points that a form is fitted to: it has two parameters.
pub const FEWEST_POINTS: usize = 3;
/// The level of a peak that is passed.
const LEVEL: f64 = 0.05;
/// Groups of inputs that the jackknife leaves out, one after another, and the fewest inputs.
const GROUPS: usize = 40;
const FEWEST_INPUTS: usize = 8;

/// How gold depends on d, the square root of the KL in nats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// d (a - b d).
    BestOfN,
    /// d (a - b log d).
    Reinforcement,
}

/// The parameters of a form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Gold a unit of d near the reference.
    pub a: f64,
    /// How fast the gain falls behind.
    pub b: f64,
}

/// Where a form is highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// In nats.
    pub kl: f64,
    /// Gold above that of the reference policy.
    pub gain: f64,
}

impl Form {
    /// What b is taken times, at d.
    fn slowing(self, d: f64) -> f64 {
        match self {
            Form::BestOfN => d * d,
            Form::Reinforcement if d == 0.0 => 0.0,
            Form::Reinforcement => d * d.ln(),
        }
    }

    /// The gain at `kl` nats.
    pub fn gain(self, Parameters { a, b }: Parameters, kl: f64) -> f64 {
        let d = kl.max(0.0).sqrt();
        a * d - b * self.slowing(d)
    }

    /// Least squares over points of KL in nats and gain; `None` where the points leave a or b open.
    pub fn fit(self, points: &[(f64, f64)]) -> Option<Parameters> {
        let [mut xx, mut xy, mut yy, mut xg, mut yg] = [0.0; 5];
        for (kl, gain) in points {
            let x = kl.max(0.0).sqrt();
            let y = -self.slowing(x);
            (xx, xy, yy) = (xx + x * x, xy + x * y, yy + y * y);
            (xg, yg) = (xg + x * gain, yg + y * gain);
        }
        let determinant = xx * yy - xy * xy;
        let told = points.len() >= FEWEST_POINTS && determinant > 1e-9 * xx * yy;
        told.then(|| Parameters {
            a: (xg * yy - yg * xy) / determinant,
            b: (yg * xx - xg * xy) / determinant,
        })
    }

    /// The peak; `None` where the form has none.
    pub fn peak(self, Parameters { a, b }: Parameters) -> Option<Peak> {
        if b <= 0.0 {
            return None;
        }
        let (d, gain) = match self {
            Form::BestOfN => (a / (2.0 * b), a * a / (4.0 * b)),
            Form::Reinforcement => {
                let d = (a / b - 1.0).exp();
                (d, b * d)
            }
        };
        (d > 0.0 && d.is_finite()).then_some(Peak { kl: d * d, gain })
    }
}

/// A point of a curve: of each input, the KL in nats and the gold score.
#[derive(Clone, Debug)]
pub struct Point {
    /// What it is called.
    pub name: String,
    /// By input.
    pub kl: Vec<f64>,
    /// By input.
    pub gold: Vec<f64>,
}

/// What points say of over-optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// What is fitted: `best_of_n`, or a method whose points differ along axes of a sweep.
    pub family: String,
    /// The form.
    pub form: Form,
    /// Points.
    pub points: usize,
    /// Parameters with the intervals of the jackknife over inputs.
    pub a: Interval,
    /// The second one.
    pub b: Interval,
    /// Root mean square of what the form misses at the points, in units of gold.
    pub residual: f64,
    /// The KL of the peak of the form in nats, an estimate without interval; none where the form
    /// still rises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_kl: Option<f64>,
    /// The gain there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_gain: Option<f64>,
    /// Whether the peak is within the distances of the points.
    pub peak_is_within: bool,
    /// The point with the most gold, the point furthest from the reference, and the second minus
    /// the first, where they are two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fall: Option<Fall>,
}

/// Gold at the point furthest from the reference policy, less that of the best point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fall {
    /// The point with the most gold.
    pub best: String,
    /// Its mean KL, in nats.
    pub best_kl: f64,
    /// The point with the greatest mean KL.
    pub furthest: String,
    /// Its mean KL, in nats.
    pub furthest_kl: f64,
    /// Gold of the furthest minus gold of the best, paired over inputs.
    pub difference: Interval,
    /// Two-sided p value, times the number of the other points.
    pub p: f64,
}

impl Fall {
    /// Whether the peak is passed.
    pub fn is_passed(&self) -> bool {
        self.difference.mean < 0.0 && self.p < LEVEL
    }
}

/// Fits a form to points, whose gains are over `reference`, the gold of the reference policy by
/// input. `None` where there are fewer than [`FEWEST_POINTS`] points, or they leave a or b open.
///
/// # Panics
/// If a point has not one value an input.
pub fn fit(family: &str, form: Form, points: &[Point], reference: &[f64]) -> Option<Fit> {
    let n = reference.len();
    assert!(
        points.iter().all(|point| point.kl.len() == n && point.gold.len() == n),
        "one value an input"
    );
    let of = |inputs: &[usize]| -> Option<Parameters> {
        let mean = |values: &[f64]| {
            inputs.iter().map(|&at| values[at]).sum::<f64>() / inputs.len().max(1) as f64
        };
        let base = mean(reference);
        let points = points.iter().map(|point| (mean(&point.kl), mean(&point.gold) - base));
        form.fit(&points.collect::<Vec<_>>())
    };
    let all: Vec<usize> = (0..n).collect();
    let found = of(&all)?;
    let interval = |value: f64, statistic: &(dyn Fn(Parameters) -> f64 + Sync)| {
        let of_inputs = |inputs: &[usize]| of(inputs).map_or(value, statistic);
        of_set(n, GROUPS, FEWEST_INPUTS, of_inputs).around(value, n)
    };
    let peak = form.peak(found);
    let missed = points.iter().map(|point| {
        let gain = average(&point.gold) - average(reference);
        (form.gain(found, average(&point.kl)) - gain).powi(2)
    });
    let furthest = points.iter().map(|point| average(&point.kl)).fold(0.0, f64::max);
    Some(Fit {
        family: family.into(),
        form,
        points: points.len(),
        a: interval(found.a, &|found| found.a),
        b: interval(found.b, &|found| found.b),
        residual: (missed.sum::<f64>() / points.len() as f64).sqrt(),
        peak_kl: peak.map(|peak| peak.kl),
        peak_gain: peak.map(|peak| peak.gain),
        peak_is_within: peak.is_some_and(|peak| peak.kl <= furthest),
        fall: fall(points),
    })
}

/// The best point beside the furthest; `None` where they are one.
fn fall(points: &[Point]) -> Option<Fall> {
    let by = |of: fn(&Point) -> f64| points.iter().max_by(|a, b| of(a).total_cmp(&of(b)));
    let (best, furthest) = (by(|point| average(&point.gold))?, by(|point| average(&point.kl))?);
    if best.name == furthest.name {
        return None;
    }
    let values: Vec<f64> = furthest.gold.iter().zip(&best.gold).map(|(a, b)| a - b).collect();
    let p = p_of_mean(&values).unwrap_or(1.0) * (points.len() - 1) as f64;
    Some(Fall {
        best: best.name.clone(),
        best_kl: average(&best.kl),
        furthest: furthest.name.clone(),
        furthest_kl: average(&furthest.kl),
        difference: paired("gold", &values),
        p: p.min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Least squares of five points, worked out in float64 by another program (numpy's `lstsq`).
    #[test]
    fn the_forms_are_fitted_as_elsewhere() {
        let points = [(0.25, 0.45), (1.0, 0.8), (2.25, 1.05), (4.0, 1.2), (9.0, 1.15)];
        for (form, a, b, d, gain) in [
            (Form::BestOfN, 1.01632, 0.210615, 2.412747, 1.226062),
            (Form::Reinforcement, 0.826157, 0.386712, 3.115423, 1.20477),
        ] {
            let found = form.fit(&points).unwrap();
            assert!((found.a - a).abs() < 1e-5 && (found.b - b).abs() < 1e-5, "{found:?}");
            let peak = form.peak(found).unwrap();
            assert!((peak.kl.sqrt() - d).abs() < 1e-5 && (peak.gain - gain).abs() < 1e-5);
            assert!((form.gain(found, peak.kl) - peak.gain).abs() < 1e-9, "{peak:?}");
        }
    }

    #[test]
    fn points_that_leave_a_parameter_open_have_no_fit() {
        assert_eq!(Form::BestOfN.fit(&[(1.0, 0.1), (2.0, 0.2)]), None);
        assert_eq!(Form::BestOfN.fit(&[(1.0, 0.1), (1.0, 0.2), (1.0, 0.3)]), None);
        let rising = [(0.25, 0.5), (1.0, 1.1), (4.0, 2.5)];
        let found = Form::BestOfN.fit(&rising).unwrap();
        assert!(found.b < 0.0 && Form::BestOfN.peak(found).is_none(), "{found:?}");
    }

    /// 24 inputs that follow a form exactly, each around another level of gold.
    fn points(form: Form, a: f64, b: f64, kls: &[f64]) -> (Vec<Point>, Vec<f64>) {
        let reference: Vec<f64> = (0..24).map(|at| f64::from(at) / 30.0).collect();
        let point = |kl: &f64| {
            let gold = reference.iter().enumerate().map(|(at, base)| {
                // What an input adds sums to 0 over inputs.
                let wiggle = if at % 2 == 0 { 0.05 } else { -0.05 };
                base + form.gain(Parameters { a, b }, *kl) + wiggle * kl
            });
            Point { name: format!("at {kl}"), kl: vec![*kl; 24], gold: gold.collect() }
        };
        (kls.iter().map(point).collect(), reference)
    }

    #[test]
    fn a_peak_that_is_passed_is_told_from_one_that_is_not() {
        let (all, reference) = points(Form::BestOfN, 1.0, 0.4, &[0.5, 1.0, 1.5, 2.5, 4.0]);
        let found = fit("best_of_n", Form::BestOfN, &all, &reference).unwrap();
        assert!((found.a.mean - 1.0).abs() < 1e-9 && (found.b.mean - 0.4).abs() < 1e-9);
        assert!(found.residual < 1e-9 && found.peak_is_within, "{found:?}");
        let peak = found.peak_kl.unwrap();
        assert!((peak - 1.5625).abs() < 1e-9, "{peak}");
        let fall = found.fall.unwrap();
        assert_eq!((fall.best.as_str(), fall.furthest.as_str()), ("at 1.5", "at 4"));
        assert!(fall.is_passed() && fall.difference.high < 0.0, "{fall:?}");
        let (all, reference) = points(Form::Reinforcement, 1.0, 0.2, &[0.5, 1.0, 1.5, 2.5]);
        let found = fit("ppo", Form::Reinforcement, &all, &reference).unwrap();
        assert!(found.fall.is_none() && !found.peak_is_within, "{found:?}");
    }
}
