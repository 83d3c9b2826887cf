//! Whole pipelines by the real program: what is made, what is made again after an edit, what comes
//! of being killed, of bad input, and of company. All on `pipelines/smoke.yaml`.

#![expect(clippy::unwrap_used)]

mod alpaca;
mod bad_input;
mod damage;
mod edits;
mod graph;
mod instructions;
mod judged;
mod killed;
mod outcome;
mod own_metric;
mod recomputed;
mod smoke;
