//! The program as its user sees it: the real binary in temporary folders.

#![expect(clippy::unwrap_used)]

mod answers;
mod bench;
mod bisect;
mod bounds;
mod bundles;
pub mod chained;
mod commands;
mod datasets;
pub mod documentation;
mod given_names;
mod hostile;
mod json;
mod kinds;
mod left_behind;
mod made_elsewhere;
pub mod place;
mod probes;
mod revisions;
mod rows;
mod schema;
mod sentinels;
mod sequential;
mod stopping;
mod sweeps;
mod verbs;
