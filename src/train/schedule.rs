//! The learning rate of each step. Knows no optimiser.
//!
//! 1. Step s of the w warm-up steps runs at (s + 1) / (w + 1) of the peak, so the first step moves
//!    the weights and step w is at the peak.
//! 2. After that, progress = (s - w) / (total - w) goes from 0 towards 1; the step after the last
//!    would be at the final ratio exactly.
//! 3. Warm-up is never longer than the run.

use serde::{Deserialize, Serialize};

/// How the rate goes from its peak to its final ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The rate stays at its peak; `final_ratio` is refused.
    Constant,
    /// The rate falls on a straight line.
    Linear,
    /// The rate falls on half a cosine wave.
    #[default]
    Cosine,
}

/// How long the rate rises to its peak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warmup {
    /// Number of steps.
    Steps(usize),
    /// Share of the steps of the run, rounded to the nearest step.
    Fraction(f64),
}

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Shape of the schedule after the peak.
    pub shape: Shape,
    /// Warmup: the part of the run in which the rate rises to its peak.
    pub warmup: Warmup,
    /// Final rate divided by the peak rate.
    pub final_ratio: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { shape: Shape::default(), warmup: Warmup::Steps(0), final_ratio: 0.0 }
    }
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of `total`.
    pub fn rate(&self, peak: f64, step: usize, total: usize) -> f64 {
        peak * self.factor(step, total)
    }

    /// The rate as a share of the peak.
    pub fn factor(&self, step: usize, total: usize) -> f64 {
        let warmup = match self.warmup {
            Warmup::Steps(steps) => steps,
            Warmup::Fraction(share) => (share * total as f64).round() as usize,
        };
        let warmup = warmup.min(total);
        if step < warmup {
            return (step + 1) as f64 / (warmup + 1) as f64;
        }
        let progress = ((step - warmup) as f64 / (total - warmup).max(1) as f64).min(1.0);
        let left = match self.shape {
            Shape::Constant => return 1.0,
            Shape::Linear => 1.0 - progress,
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.final_ratio + (1.0 - self.final_ratio) * left
    }

    /// What is out of range: the field and what was expected.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        match self.warmup {
            Warmup::Fraction(x) if !share(x) => {
                Some(("warmup.fraction", format!("expected a share from 0 to 1, found {x}")))
            }
            _ if self.shape == Shape::Constant && self.final_ratio != 0.0 => Some((
                "final_ratio",
                "a constant rate has no other end: remove it, or choose another `shape`".into(),
            )),
            _ if !share(self.final_ratio) => Some((
                "final_ratio",
                format!("expected a ratio from 0 to 1, found {}", self.final_ratio),
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: &Schedule, total: usize) -> Vec<f64> {
        (0..total).map(|step| schedule.rate(2.0, step, total)).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert!(
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
            "{found:?}"
        );
    }

    #[test]
    fn linear_falls_in_equal_steps_after_warm_up() {
        let schedule =
            Schedule { shape: Shape::Linear, warmup: Warmup::Steps(3), final_ratio: 0.0 };
        close(&rates(&schedule, 8), &[0.5, 1.0, 1.5, 2.0, 1.6, 1.2, 0.8, 0.4]);
        let floor = Schedule { final_ratio: 0.5, warmup: Warmup::Steps(0), ..schedule };
        close(&rates(&floor, 4), &[2.0, 1.75, 1.5, 1.25]);
    }

    #[test]
    fn cosine_is_half_way_in_the_middle() {
        let schedule =
            Schedule { shape: Shape::Cosine, warmup: Warmup::Fraction(0.2), final_ratio: 0.1 };
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let at = |wave: f64| 2.0 * (0.1 + 0.9 * 0.5 * (1.0 + wave));
        close(&rates(&schedule, 5), &[1.0, at(1.0), at(half), at(0.0), at(-half)]);
        close(&[schedule.rate(2.0, 5, 5), schedule.rate(2.0, 9, 5)], &[0.2, 0.2]);
    }

    #[test]
    fn constant_stays_at_the_peak_and_warm_up_is_cut_to_the_run() {
        let schedule =
            Schedule { shape: Shape::Constant, warmup: Warmup::Steps(9), final_ratio: 0.0 };
        close(&rates(&schedule, 2), &[2.0 / 3.0, 4.0 / 3.0]);
        close(&rates(&Schedule { warmup: Warmup::Steps(0), ..schedule }, 2), &[2.0, 2.0]);
        assert!(schedule.rate(2.0, 0, 0).is_finite());
    }

    #[test]
    fn a_misspelt_key_and_a_share_above_one_are_found() {
        let read = |text: &str| serde_json::from_str::<Schedule>(text);
        assert_eq!(read("{}").ok(), Some(Schedule::default()));
        let full = read(r#"{"shape":"linear","warmup":{"fraction":0.03},"final_ratio":0.1}"#)
            .expect("it is well-formed");
        assert_eq!((full.warmup, full.problem()), (Warmup::Fraction(0.03), None));
        assert!(
            read(r#"{"warm_up":{"steps":1}}"#).is_err() && read(r#"{"shape":"cosin"}"#).is_err()
        );
        assert!(Schedule { warmup: Warmup::Fraction(3.0), ..full }.problem().is_some());
        assert!(Schedule { final_ratio: f64::NAN, ..full }.problem().is_some());
        let constant = Schedule { shape: Shape::Constant, ..full };
        assert_eq!(constant.problem().map(|(field, _)| field), Some("final_ratio"));
        assert_eq!(Schedule { final_ratio: 0.0, ..constant }.problem(), None);
    }
}
