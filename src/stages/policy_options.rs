//! Options that stages have in common which train a policy on its own responses: the checks of
//! their values. The fields are in the config of each stage.

use super::Checks;
use crate::rl::entropy::EntropyBonus;
use crate::rl::kl::Anneal;
use crate::train::kl_stops::KlStops;

/// Notes what is out of range of a coefficient that changes over the steps.
pub(super) fn check_anneal(checks: &mut Checks, anneal: Option<Anneal>) {
    if let Some(Anneal { to, over }) = anneal {
        checks
            .require(to.is_finite() && to >= 0.0, "kl.anneal.to", "expected 0 or more")
            .positive_or_null(over, "kl.anneal.over");
    }
}

/// Notes what is out of range of an entropy bonus.
pub(super) fn check_entropy(checks: &mut Checks, entropy: Option<EntropyBonus>) {
    for (field, expected) in entropy.iter().flat_map(|entropy| entropy.problems()) {
        checks.require(false, &format!("entropy.{field}"), expected);
    }
}

/// Notes what is out of range of the KL that ends training, and of that which ends the epochs of a
/// step of `epochs`.
pub(super) fn check_kl_stops(checks: &mut Checks, stops: KlStops, epochs: usize) {
    let is_positive = |number: Option<f64>| number.is_none_or(|it| it.is_finite() && it > 0.0);
    checks
        .require(
            is_positive(stops.epochs),
            "epoch_stop_kl",
            "expected a finite number above 0, or null",
        )
        .require(
            stops.epochs.is_none() || epochs >= 2,
            "epoch_stop_kl",
            "a step of one epoch has none to leave out: expected `epochs` of at least 2, or null",
        )
        .require(
            is_positive(stops.training),
            "stop_at_kl",
            "expected a finite number above 0, or null",
        );
}
