//! Where KL ends the epochs of a step, or training. Shared by methods that train a policy on its
//! own responses. Knows no model.

use crate::rl::Metrics;

/// KL (k1) of responses from the reference: sum over tokens, mean over responses.
pub const KL: &str = "objective/kl";
/// Epochs that a step had.
const EPOCHS: &str = "policy/epochs";

/// The KL that ends the epochs of a step, and that which ends training; neither by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KlStops {
    /// The remaining epochs of a step are left out once `policy/approxkl_avg` of the last minibatch
    /// of an epoch is above this number of nats.
    pub epochs: Option<f64>,
    /// Training ends in the first step whose responses have at least this KL from the policy at its
    /// start, in nats; that step has no updates.
    pub training: Option<f64>,
}

/// KL that ends training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// The figure that measures it.
    pub figure: &'static str,
    /// Its value, in nats.
    pub kl: f64,
    /// The least value that ends training, in nats.
    pub most: f64,
}

impl KlStops {
    /// Whether a step with this KL of the last minibatch of an epoch, in nats a token, has no
    /// further epoch.
    pub fn ends_step(&self, approximate_kl: f64) -> bool {
        self.epochs.is_some_and(|most| approximate_kl > most)
    }

    /// The figure of the number of epochs that a step had, where it may be below that of the
    /// config.
    pub fn epochs_of(&self, epochs: usize) -> Option<(&'static str, f64)> {
        self.epochs.map(|_| (EPOCHS, epochs as f64))
    }

    /// The KL that ends training, if `figure` in the metrics of a step is at least that.
    pub fn reached(&self, metrics: &Metrics, figure: &'static str) -> Option<Reached> {
        let most = self.training?;
        let (_, kl) = metrics.iter().find(|(name, _)| *name == figure)?;
        (*kl >= most).then_some(Reached { figure, kl: *kl, most })
    }
}

impl Reached {
    /// The warning where training ends in step number `step` (0 is the first) of `steps`.
    pub fn message(&self, step: usize, steps: usize) -> String {
        let Reached { figure, kl, most } = self;
        format!(
            "training ended in step {} of {steps}: `{figure}` is {kl:.4}, and `stop_at_kl` is \
             {most}; the policy that sampled this step has no further update",
            step + 1
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_ends_at_the_kl_and_a_step_above_it() {
        let stops = KlStops { epochs: Some(0.5), training: Some(2.0) };
        let at = |kl| vec![("loss", 9.0), (KL, kl)];
        let reached = stops.reached(&at(2.0), KL).expect("2 is at least 2");
        assert_eq!(reached, Reached { figure: KL, kl: 2.0, most: 2.0 });
        assert_eq!(stops.reached(&at(1.9), KL), None);
        assert_eq!(stops.reached(&vec![("loss", 9.0)], KL), None);
        let words = reached.message(2, 9);
        assert!(words.starts_with("training ended in step 3 of 9: `objective/kl` is 2.0000"));
        assert_eq!([0.4, 0.5, 0.6].map(|kl| stops.ends_step(kl)), [false, false, true]);
        assert_eq!(stops.epochs_of(3), Some(("policy/epochs", 3.0)));
    }

    #[test]
    fn nothing_ends_by_default() {
        let none = KlStops::default();
        assert_eq!(none.reached(&vec![(KL, f64::INFINITY)], KL), None);
        assert!(!none.ends_step(f64::INFINITY));
        assert_eq!(none.epochs_of(3), None);
    }
}
