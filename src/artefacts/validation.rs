//! `validation.json` of a model: which step of its training it is, and by which rows that was
//! chosen.

use serde::{Deserialize, Serialize};

/// The file.
pub const VALIDATION: &str = "validation.json";

/// The step whose model was kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The split that the model was measured on.
    pub split: String,
    /// `best` or `last`.
    pub keep: String,
    /// The step, from 1.
    pub step: usize,
    /// The figure that decided: `validation/loss`, in nats a token of a language model, a pair of a
    /// reward model; or `validation/score` of a policy.
    pub by: String,
    /// Its value after that step.
    pub value: f64,
}
