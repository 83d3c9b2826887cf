//! The program as its user sees it: the real binary in temporary folders.

#![allow(clippy::unwrap_used)]

mod bench;
mod bounds;
mod commands;
mod datasets;
mod documentation;
pub mod place;
mod probes;
mod rows;
mod stopping;
