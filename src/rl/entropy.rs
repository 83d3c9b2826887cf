//! The entropy bonus of a policy loss: loss - c H, with H the entropy of the distributions that the
//! tokens of an update are drawn from, at the temperature of sampling, mean over its tokens. Knows
//! no model.
//!
//! With a target, c is moved by a fixed step after each step of training, up where the mean entropy
//! of its updates was below the target and else down, within bounds; and it is applied in the next
//! step only where that entropy was at most the target (He et al. 2025, "Skywork open reasoner 1",
//! arXiv 2505.22312, section 3; TRL's GRPO has the same rule).

use serde::{Deserialize, Serialize};

/// The entropy bonus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntropyBonus {
    /// Coefficient; with `target`, its first value.
    #[serde(default)]
    pub coef: f64,
    /// Control of the coefficient. `null` keeps it.
    #[serde(default)]
    pub target: Option<EntropyTarget>,
}

/// An entropy that the coefficient is moved towards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntropyTarget {
    /// Entropy of a token, in nats.
    pub entropy: f64,
    /// What the coefficient is moved by after a step of training.
    #[serde(default = "step")]
    pub step: f64,
    /// Least coefficient.
    #[serde(default)]
    pub least: f64,
    /// Greatest coefficient.
    #[serde(default = "most")]
    pub most: f64,
}

fn step() -> f64 {
    0.005
}

fn most() -> f64 {
    1.0
}

impl EntropyBonus {
    /// Names of fields that are out of range, with what is expected.
    pub fn problems(self) -> Vec<(&'static str, &'static str)> {
        let mut problems = Vec::new();
        if !(self.coef.is_finite() && self.coef >= 0.0) {
            problems.push(("coef", "expected 0 or more"));
        }
        let Some(EntropyTarget { entropy, step, least, most }) = self.target else {
            return problems;
        };
        if !(entropy.is_finite() && entropy > 0.0) {
            problems.push(("target.entropy", "expected above 0"));
        }
        if !(step.is_finite() && step > 0.0) {
            problems.push(("target.step", "expected above 0"));
        }
        if !(least >= 0.0 && least < most && most.is_finite()) {
            problems.push(("target.most", "expected above `least`, which is 0 or more"));
        }
        if !(least..=most).contains(&self.coef) {
            problems.push(("coef", "expected from `target.least` to `target.most`"));
        }
        problems
    }
}

/// The coefficient of an entropy bonus during training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntropyControl {
    bonus: EntropyBonus,
    coef: f64,
    /// Mean entropy of a token in the last step.
    last: Option<f64>,
}

impl EntropyControl {
    /// Before the first step.
    pub fn new(bonus: EntropyBonus) -> Self {
        EntropyControl { bonus, coef: bonus.coef, last: None }
    }

    /// The coefficient that the next step has.
    pub fn applied(&self) -> f64 {
        match (self.bonus.target, self.last) {
            (Some(target), Some(last)) if last > target.entropy => 0.0,
            _ => self.coef,
        }
    }

    /// Notes the mean entropy of a token over the updates of a step.
    pub fn after(&mut self, entropy: f64) {
        let Some(target) = self.bonus.target else { return };
        let step = if entropy < target.entropy { target.step } else { -target.step };
        self.coef = (self.coef + step).clamp(target.least, target.most);
        self.last = Some(entropy);
    }

    /// Its state: the coefficient, and the last entropy.
    pub fn state(&self) -> (f64, Option<f64>) {
        (self.coef, self.last)
    }

    /// Takes up a state.
    pub fn resume(&mut self, (coef, last): (f64, Option<f64>)) {
        (self.coef, self.last) = (coef, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coefficient_follows_its_target_within_bounds() {
        let target = EntropyTarget { entropy: 0.5, step: 0.25, least: 0.0, most: 0.5 };
        let mut control = EntropyControl::new(EntropyBonus { coef: 0.25, target: Some(target) });
        assert_eq!(control.applied(), 0.25);
        let mut seen = Vec::new();
        for entropy in [0.4, 0.4, 0.5, 0.9, 0.9, 0.2] {
            control.after(entropy);
            seen.push((control.state().0, control.applied()));
        }
        // At the target it falls and is applied; above it, it falls and is not.
        assert_eq!(
            seen,
            [(0.5, 0.5), (0.5, 0.5), (0.25, 0.25), (0.0, 0.0), (0.0, 0.0), (0.25, 0.25)]
        );
        let mut resumed = EntropyControl::new(EntropyBonus { coef: 0.25, target: Some(target) });
        resumed.resume(control.state());
        assert_eq!(resumed, control);
    }

    #[test]
    fn without_a_target_the_coefficient_stays() {
        let mut control = EntropyControl::new(EntropyBonus { coef: 0.1, target: None });
        control.after(0.0);
        assert_eq!((control.applied(), control.state()), (0.1, (0.1, None)));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let target = |entropy, step, least, most| EntropyTarget { entropy, step, least, most };
        let names = |coef, target| {
            let bonus = EntropyBonus { coef, target };
            bonus.problems().iter().map(|(name, _)| *name).collect::<Vec<_>>()
        };
        assert!(names(0.1, None).is_empty());
        assert!(names(0.1, Some(target(0.5, 0.01, 0.0, 1.0))).is_empty());
        assert_eq!(names(-0.1, None), ["coef"]);
        assert_eq!(
            names(2.0, Some(target(0.0, 0.0, 1.0, 1.0))),
            ["target.entropy", "target.step", "target.most", "coef"]
        );
    }
}
