//! Judges and what they ask: the server, the stage `judge`, the page for people.

#![expect(clippy::unwrap_used)]

mod evaluated;
pub mod fake;
mod graders;
mod judge;
mod people;
mod serve;
pub mod server;
