//! The engine: nodes, action keys, the store, plans and runs. Knows bytes, paths and names; no ML.

pub mod context;
pub mod node;
