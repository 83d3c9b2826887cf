//! How well the reward model orders held-out pairs: rows of the table, accuracy by confidence and
//! by source, calibration. Knows no method.

use std::collections::BTreeMap;

use super::measuring::{Asked, Judges, Rewarder};
use super::{Found, REWARD_MODEL};
use crate::artefacts::reward_model::Accuracy;
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::data::dataset::test_split;
use crate::data::rows::Preference;
use crate::error::Result;
use crate::eval::interval::Clusters;
use crate::eval::reward;

/// Parts of the pairs by confidence, each with its accuracy.
const BINS: usize = 5;

/// Adds what the reward model makes of held-out pairs: against the labels, against the gold order,
/// and what the gold order itself reaches on the labels.
pub(super) fn measure<B: Backend>(
    found: &mut Found,
    judge: &Judges<'_, B>,
    reward: &Rewarder<B>,
    test_set: &str,
    pairs: &[Preference],
) -> Result<()> {
    let (split, rows) = (test_split(test_set), pairs.iter().map(Asked::from).collect::<Vec<_>>());
    let scores = |text: fn(&Preference) -> &str| {
        let texts: Vec<&str> = pairs.iter().map(text).collect();
        reward.scores(judge.b, judge.max_prompt, &split, (&rows, &texts))
    };
    let (chosen, rejected) = (scores(|pair| &pair.chosen)?, scores(|pair| &pair.rejected)?);
    let prompts: Vec<(&str, bool)> =
        pairs.iter().map(|pair| (pair.prompt.as_str(), pair.chat)).collect();
    let correct = reward::correct(&chosen, &rejected);
    let clusters = Clusters::of(&prompts);
    let mut push = |metric: &str, values: &[f64]| {
        let interval = clusters.share(values);
        found.table.rows.push(Row::new(REWARD_MODEL, test_set, metric, interval));
        interval
    };
    let accuracy = push("rm_accuracy", &correct);
    if let Some(clean) = pairs.iter().map(|pair| pair.clean).collect::<Option<Vec<bool>>>() {
        let agrees: Vec<f64> = clean
            .iter()
            .zip(&correct)
            .map(|(clean, correct)| if *clean { *correct } else { 1.0 - correct })
            .collect();
        push("rm_accuracy_clean", &agrees);
        push("noise_ceiling", &clean.iter().map(|clean| f64::from(*clean)).collect::<Vec<f64>>());
    }
    // Scores are normalised; the model was trained on what they were before.
    let margins: Vec<f64> = chosen
        .iter()
        .zip(&rejected)
        .map(|(chosen, rejected)| (chosen - rejected) * reward.normalisation.std)
        .collect();
    let mut sources: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, pair) in pairs.iter().enumerate() {
        if let Some(source) = &pair.source {
            sources.entry(source).or_default().push(at);
        }
    }
    let by_source = |(source, own): (&str, Vec<usize>)| {
        let right: Vec<f64> = own.iter().map(|&at| correct[at]).collect();
        (source.to_string(), Clusters::of(own.iter().map(|&at| prompts[at])).share(&right))
    };
    found.reward.push(Accuracy {
        test_set: test_set.into(),
        prompts: Some(clusters.len()),
        accuracy: Some(accuracy),
        by_confidence: reward::by_confidence(&margins, &prompts, BINS),
        calibration: Some(reward::calibration(&margins, &prompts)),
        by_source: sources.into_iter().map(by_source).collect(),
    });
    Ok(())
}
