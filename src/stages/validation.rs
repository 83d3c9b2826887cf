//! Validation of stages that train on rows: the checks of its config, and the file that names the
//! step whose model the artefact is.

use super::Checks;
use crate::artefacts::validation::{VALIDATION, Validation};
use crate::dag::context::Context;
use crate::data::dataset::Dataset;
use crate::data::lineage::Lineage;
use crate::error::{Result, user};
use crate::fs;
use crate::train::validation::{Keep, Kept, LOSS, ValidationConfig};

/// Refuses a split that is trained on, and measurements after no steps.
pub(super) fn check(checks: &mut Checks, config: &Option<ValidationConfig>, trained: &[String]) {
    let Some(ValidationConfig { split, every, .. }) = config else { return };
    checks.positive(*every, "validation.every").require(
        !trained.contains(split),
        "validation.split",
        format!("expected a split that is not trained on, found `{split}`"),
    );
}

/// The splits that a stage reads: those that are trained on, and that of the validation.
pub(super) fn splits(trained: &[&String], config: &Option<ValidationConfig>) -> Vec<String> {
    let own = config.iter().map(|config| &config.split);
    trained.iter().copied().chain(own).cloned().collect()
}

/// Whether the best step's tensors are kept.
pub(super) fn keeps_best(config: &Option<ValidationConfig>) -> bool {
    config.as_ref().is_some_and(|config| config.keep == Keep::Best)
}

/// Refuses a split without rows.
pub(super) fn check_rows(rows: usize, split: &str) -> Result<()> {
    match rows {
        0 => Err(user(format!("the validation split `{split}` has no rows"))
            .hint("name another split under `validation`")
            .into()),
        _ => Ok(()),
    }
}

/// Writes `validation.json`; `by` is the figure that decided.
pub(super) fn save(
    context: &Context,
    (split, keep): (&str, Keep),
    by: &str,
    kept: Kept,
) -> Result<()> {
    let file = Validation {
        split: split.into(),
        keep: match keep {
            Keep::Best => "best".into(),
            Keep::Last => "last".into(),
        },
        step: kept.step,
        by: by.into(),
        value: kept.value,
    };
    fs::write_atomic(&context.out().join(VALIDATION), &serde_json::to_vec_pretty(&file)?)
}

/// The same of a stage that is measured by its loss.
pub(super) fn save_loss(context: &Context, config: &ValidationConfig, kept: Kept) -> Result<()> {
    save(context, (&config.split, config.keep), LOSS, kept)
}

/// `learned` with what the dataset's texts were made with, and with the rows that chose the step: a
/// result on them would be of rows that the model was fitted to.
pub(super) fn with_dataset(
    learned: Lineage,
    dataset: &Dataset,
    config: &Option<ValidationConfig>,
) -> Result<Lineage> {
    let learned = match dataset.made_with()? {
        Some(made_with) => learned.with(made_with),
        None => learned,
    };
    match config.as_ref().filter(|_| keeps_best(config)) {
        Some(config) => Ok(learned.with(Lineage::of_rows(&dataset.rows(&config.split)?))),
        None => Ok(learned),
    }
}
