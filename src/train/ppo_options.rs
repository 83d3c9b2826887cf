//! Options of policy optimisation that a plain run is without. Knows no model.

use super::kl_stops::{KL, KlStops, Reached};
use crate::rl::Metrics;
use crate::rl::entropy::EntropyBonus;
use crate::rl::group_diversity::Diversity;
use crate::rl::kl::Anneal;
use crate::rl::policy_loss::LossKl;
use crate::rl::ppo::ValueFit;
use crate::rl::rewards::RewardScaling;

/// Options of PPO; none by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// KL in the policy loss, by this estimator; rewards are then without it.
    pub kl_in_loss: Option<LossKl>,
    /// What is made of scores, after the rule for responses without EOS.
    pub reward_scaling: RewardScaling,
    /// When values are computed.
    pub value_fit: ValueFit,
    /// Where KL ends the epochs of a step, or training.
    pub kl_stops: KlStops,
    /// Steps after which the policy, as it is then, becomes the reference, again and again.
    pub reset_every: Option<usize>,
    /// Change of the coefficient of KL over the steps.
    pub anneal: Option<Anneal>,
    /// The entropy bonus of the policy loss.
    pub entropy: Option<EntropyBonus>,
    /// What is done with the scores of responses to one prompt for the sake of diversity, after the
    /// rule for responses without EOS and before they are scaled; and how many those are.
    pub diversity: Option<(Diversity, usize)>,
}

/// KL of responses from the policy at its start, where the reference is another one later.
pub(super) const INITIAL_KL: &str = "objective/kl_initial";

impl Options {
    /// Whether the policy becomes the reference before step `step`, from 0.
    pub(super) fn resets_before(&self, step: usize) -> bool {
        self.reset_every.is_some_and(|every| step > 0 && step.is_multiple_of(every))
    }

    /// The KL at which training ends, if the metrics of a step have reached it.
    pub fn reached(&self, metrics: &Metrics) -> Option<Reached> {
        let distance = if self.reset_every.is_some() { INITIAL_KL } else { KL };
        self.kl_stops.reached(metrics, distance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_from_the_start_ends_training() {
        let kl_stops = KlStops { training: Some(2.0), ..KlStops::default() };
        let stops = Options { kl_stops, ..Options::default() };
        let reached = |options: &Options, kl, initial| {
            let found = options.reached(&vec![(KL, kl), (INITIAL_KL, initial)]);
            found.map(|reached| (reached.figure, reached.kl))
        };
        assert_eq!(reached(&stops, 2.0, 0.0), Some((KL, 2.0)));
        assert_eq!(reached(&stops, 1.9, 5.0), None);
        let resets = Options { reset_every: Some(3), ..stops };
        assert_eq!(reached(&resets, 0.1, 2.5), Some((INITIAL_KL, 2.5)));
        assert_eq!(reached(&resets, 9.0, 1.0), None);
        assert_eq!(reached(&Options::default(), 9.0, 9.0), None);
    }

    #[test]
    fn the_reference_is_replaced_before_every_nth_step_but_the_first() {
        let resets = Options { reset_every: Some(3), ..Options::default() };
        let steps: Vec<usize> = (0..8).filter(|step| resets.resets_before(*step)).collect();
        assert_eq!(steps, [3, 6]);
        assert!(!Options::default().resets_before(3));
    }
}
