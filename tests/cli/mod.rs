//! The program as its user sees it: the real binary in temporary folders.

#![allow(clippy::unwrap_used)]

mod commands;
mod documentation;
mod place;
mod probes;
mod stopping;
