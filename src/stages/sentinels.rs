//! The settings of sentinels in configs: their checks.

use super::Checks;
use crate::rl::sentinels::settings::{self, Sentinels};

/// Notes names that the stage kind has not, and thresholds that are no numbers.
pub(super) fn check(checks: &mut Checks, kind: &str, sentinels: &Sentinels) {
    for (name, message) in settings::problems(kind, sentinels) {
        checks.require(false, &format!("sentinels.{name}"), message);
    }
}
