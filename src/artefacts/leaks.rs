//! `leaks.json`: rows that are measured on and that models were trained on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The file.
pub const LEAKS: &str = "leaks.json";

/// What was found, fields by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leaks {
    /// Where there are any.
    pub leaks: Vec<Leak>,
    /// What a reader of the figures must know of it, a sentence each.
    pub notes: Vec<String>,
    /// What was done with them.
    pub on_leak: OnLeak,
    /// Models that, or whose ancestors, came from outside, so that not all of their training rows
    /// are known.
    pub unknown: Vec<String>,
}

/// Rows of one split that models were trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// How many rows there are.
    pub all: usize,
    /// The first few that some model was trained on.
    pub first: Vec<String>,
    /// How many each model was trained on.
    pub models: BTreeMap<String, usize>,
    /// `rows`, or preference `pairs`.
    pub of: String,
    /// How many of them some model was trained on.
    pub seen: usize,
    /// The split.
    pub split: String,
}

/// What to do with rows of a held-out split that a model was trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLeak {
    /// Such rows are an error.
    #[default]
    Refuse,
    /// Such rows are left out, and counted.
    Remove,
    /// Such rows are kept, and counted.
    Allow,
}

impl Leak {
    /// What was found, in words.
    pub fn sentence(&self) -> String {
        let Leak { split, of, all, seen, models, first } = self;
        let models: Vec<String> =
            models.iter().map(|(name, count)| format!("`{name}` ({count})")).collect();
        let first: Vec<String> = first.iter().map(|id| format!("`{id}`")).collect();
        let more = if *seen > first.len() { ", …" } else { "" };
        format!(
            "{seen} of {all} {of} of split `{split}` were trained on, by {}: {}{more}",
            models.join(", "),
            first.join(", ")
        )
    }
}
