//! How well the reward model orders held-out pairs: rows of the table, accuracy by confidence and by source, calibration. Knows no method.

use std::collections::BTreeMap;

use serde::Serialize;

use super::measuring::Judges;
use super::{Found, REWARD_MODEL};
use crate::backend::Backend;
use crate::data::rows::Preference;
use crate::error::Result;
use crate::eval::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::eval::reward::{self, Bin, Calibration};
use crate::random::Stream;
use crate::report::table::Row;

/// Parts of the pairs that accuracy by confidence is told of.
const BINS: usize = 5;

/// What is known of the reward model on a test set: one of `reward_model.json`.
#[derive(Serialize)]
pub(super) struct Accuracy {
    test_set: String,
    /// As labelled, a tie counting half.
    accuracy: Interval,
    /// Fifths of the pairs, least confident first.
    by_confidence: Vec<Bin>,
    calibration: Calibration,
    /// By where pairs come from, where they say so.
    by_source: BTreeMap<String, Interval>,
}

/// Adds what the reward model makes of held-out pairs: against the labels, against the gold order, and what the gold order itself reaches on
/// the labels.
pub(super) fn measure(found: &mut Found, judge: &Judges<'_, impl Backend>, test_set: &str, pairs: &[Preference], seed: u64) -> Result<()> {
    let prompts: Vec<(&str, bool)> = pairs.iter().map(|pair| (pair.prompt.as_str(), pair.chat)).collect();
    let chosen = judge.rewards(&prompts, &pairs.iter().map(|pair| pair.chosen.as_str()).collect::<Vec<_>>())?;
    let rejected = judge.rewards(&prompts, &pairs.iter().map(|pair| pair.rejected.as_str()).collect::<Vec<_>>())?;
    let correct = reward::correct(&chosen, &rejected);
    let stream = Stream::new(seed, &format!("{test_set} pairs"));
    let resamples = Resamples::new(pairs.len(), RESAMPLES, &stream);
    let mut push = |metric: &str, values: &[f64]| {
        let interval = resamples.mean(values);
        found.table.rows.push(Row::new(REWARD_MODEL, test_set, metric, interval));
        interval
    };
    let accuracy = push("rm_accuracy", &correct);
    if let Some(clean) = pairs.iter().map(|pair| pair.clean).collect::<Option<Vec<bool>>>() {
        let agrees: Vec<f64> = clean.iter().zip(&correct).map(|(clean, correct)| if *clean { *correct } else { 1.0 - correct }).collect();
        push("rm_accuracy_clean", &agrees);
        push("noise_ceiling", &clean.iter().map(|clean| f64::from(*clean)).collect::<Vec<f64>>());
    }
    // Scores are normalised; the model was trained on what they were before.
    let margins: Vec<f64> = chosen.iter().zip(&rejected).map(|(chosen, rejected)| (chosen - rejected) * judge.normalisation.std).collect();
    let mut sources: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (pair, correct) in pairs.iter().zip(&correct) {
        if let Some(source) = &pair.source {
            sources.entry(source).or_default().push(*correct);
        }
    }
    let by_source =
        |(source, correct): (&str, Vec<f64>)| (source.to_string(), Resamples::new(correct.len(), RESAMPLES, &stream).mean(&correct));
    found.reward.push(Accuracy {
        test_set: test_set.into(),
        accuracy,
        by_confidence: reward::by_confidence(&margins, BINS, &stream),
        calibration: reward::calibration(&margins, &stream),
        by_source: sources.into_iter().map(by_source).collect(),
    });
    Ok(())
}
