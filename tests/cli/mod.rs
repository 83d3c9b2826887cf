//! The program as its user sees it: the real binary in temporary folders.

#![expect(clippy::unwrap_used)]

mod answers;
mod bench;
mod bounds;
pub mod chained;
mod commands;
mod datasets;
pub mod documentation;
mod hostile;
mod json;
mod kinds;
mod left_behind;
pub mod place;
mod probes;
mod rows;
mod schema;
mod sentinels;
mod sequential;
mod stopping;
mod sweeps;
mod verbs;
