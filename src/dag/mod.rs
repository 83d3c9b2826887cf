//! The engine: nodes, action keys, the store, plans and runs. Uses bytes, paths and names; no ML.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`], [`context`] | what the engine is given; what a running stage is given |
//! | [`key`] | the action key and its preimage |
//! | [`topology`] | edges, order, targets, cycles |
//! | [`tree`], [`inputs`] | content of folders; content of files from outside, remembered by their stat |
//! | [`store`], [`action`], [`object`], [`work`], [`lock`] | what was made, whole or not at all, once |
//! | [`presence`], [`processes`] | who is at work in a store, on this host or another; processes and their descendants |
//! | [`plan`], [`explain`] | what would run, and why |
//! | [`run`], [`executor`], [`exec`], [`stop`] | running it: the scheduler, one process a node, the process's own side, Ctrl-C |
//! | [`events`] | figures of a running stage, for those who watch |
//! | [`record`], [`gc`] | what each invocation did; what nothing refers to any more |

pub mod action;
pub mod context;
pub mod events;
pub mod exec;
pub mod executor;
pub mod explain;
pub mod gc;
pub mod inputs;
mod job;
pub mod key;
pub mod lock;
pub mod node;
pub mod object;
pub mod plan;
pub mod presence;
pub mod processes;
pub mod record;
pub mod run;
mod scheduler;
pub mod stop;
pub mod store;
pub mod topology;
pub mod tree;
pub mod work;
