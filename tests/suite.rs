//! The integration tests, fast ones first.

mod tools;

mod structure;

mod cli;
mod cluster;
mod cuda;
mod dag;
mod data;
mod evaluation;
mod fuzz;
mod hub;
mod judges;
mod model;
mod ops;
mod pipeline;
mod reliability;
mod remote;
mod rl;
mod tokens;
mod world;

mod report;
mod stages;

mod end_to_end;
