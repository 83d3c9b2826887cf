//! What the store survives: drawn faults of a disk and power cuts, kill storms, full disks, clocks
//! that jump, what dead processes leave, flipped bits. `docs/reliability.md` has the counts.

#![expect(clippy::unwrap_used)]

mod bench;
mod clocks;
mod flips;
mod full;
mod layer;
mod schedules;
mod stale;
mod storm;

/// A number from the environment, for more than the tests do by default.
fn setting(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{variable}={value}")))
}
