//! Limits on what one input may cost in memory and time, so that a hostile or mistaken one ends in
//! an error. Uses nothing of inputs.
//!
//! An environment variable raises each limit. A limit is in no key: it decides whether there is a
//! result, never which.

use crate::error::{Failure, Result, user};

/// A limit and the variable that raises it.
pub struct Limit {
    variable: &'static str,
    default: u64,
    /// What is counted: `bytes`, `points`.
    unit: &'static str,
}

/// Steps that a chat template may take for one chat; a step is an instruction, or 64 bytes that are
/// made.
pub const TEMPLATE_STEPS: Limit =
    Limit { variable: "POSTTRAIN_MAX_TEMPLATE_STEPS", default: 1_000_000, unit: "steps" };
/// Bytes of the source of a chat template.
pub const TEMPLATE_BYTES: Limit =
    Limit { variable: "POSTTRAIN_MAX_TEMPLATE_BYTES", default: 1 << 20, unit: "bytes" };
/// Tags of a chat template.
pub const TEMPLATE_TAGS: Limit =
    Limit { variable: "POSTTRAIN_MAX_TEMPLATE_TAGS", default: 5_000, unit: "tags" };
/// Bytes of one row of a data file.
pub const ROW_BYTES: Limit =
    Limit { variable: "POSTTRAIN_MAX_ROW_BYTES", default: 64 << 20, unit: "bytes" };
/// Bytes that a packed data file may become, where that is more than [`UNPACKED_RATIO`] times its
/// size.
pub const UNPACKED_BYTES: Limit =
    Limit { variable: "POSTTRAIN_MAX_UNPACKED_BYTES", default: 64 << 20, unit: "bytes" };
/// How many times its size a packed data file may become at any size.
pub const UNPACKED_RATIO: u64 = 30;
/// Bytes of the params of a pipeline with all `${param}` replaced, or of a stage.
pub const PARAM_BYTES: Limit =
    Limit { variable: "POSTTRAIN_MAX_PARAM_BYTES", default: 32 << 20, unit: "bytes" };
/// Points of a matrix over the axes that a stage depends on.
pub const POINTS: Limit =
    Limit { variable: "POSTTRAIN_MAX_POINTS", default: 100_000, unit: "points" };

/// The variable of [`harmless_fields`].
pub const HARMLESS_FIELDS: &str = "POSTTRAIN_HARMLESS_FIELDS";

/// The names, separated by commas in [`HARMLESS_FIELDS`], of fields of a model's `config.json` that
/// are unknown here and that the user knows to change nothing.
pub fn harmless_fields() -> Vec<String> {
    let names = std::env::var(HARMLESS_FIELDS).unwrap_or_default();
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

impl Limit {
    /// The limit that holds.
    ///
    /// # Errors
    /// The user's: the variable is set and is no whole number.
    pub fn value(&self) -> Result<u64, Failure> {
        match std::env::var(self.variable) {
            Err(_) => Ok(self.default),
            Ok(text) => text.parse().map_err(|_| {
                user(format!(
                    "{} is `{text}`, expected a whole number of {}",
                    self.variable, self.unit
                ))
                .hint("correct or remove it")
            }),
        }
    }

    /// What to do about an input that exceeds the limit.
    pub fn hint(&self) -> String {
        format!(
            "if it is right as it is, set the environment variable {} to more {}",
            self.variable, self.unit
        )
    }
}
