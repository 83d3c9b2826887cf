//! A policy beside best-of-n at the policy's KL, on samples of the same inputs at one temperature.
//! Knows no table and no interval's making.

use std::collections::{BTreeMap, BTreeSet};

use super::curves::{Candidates, golds};
use super::measuring::{Asked, Judges};
use super::{Found, GOLD, REWARD};
use crate::artefacts::table::DIVERSITY;
use crate::backend::Backend;
use crate::data::dataset::test_split;
use crate::data::rows::Example;
use crate::data::samples::Sampled;
use crate::error::Result;
use crate::eval::best_of_n;
use crate::eval::compare::Measured;
use crate::eval::diversity::{Ngrams, VOCABULARY};
use crate::eval::interval::{Clusters, Interval, average};

/// A method and best-of-n at its KL, by a metric of samples of the same inputs.
pub(super) struct AtEqualKl {
    pub(super) kl: Interval,
    pub(super) temperature: f64,
    /// The method's values, with the error of the KL ([`best_of_n::at_own_kl`]).
    pub(super) method: Measured,
    pub(super) best: Measured,
}

/// The samples of a policy, and how far each input's are from the reference policy.
pub(super) struct PolicySamples<'a> {
    pub(super) method: &'a str,
    /// Whether it was trained by reinforcement.
    pub(super) trained: bool,
    pub(super) temperature: f64,
    pub(super) rows: Vec<&'a Sampled>,
    pub(super) kl: Vec<f64>,
}

impl Found {
    /// A policy beside best-of-n at its KL, as far as the candidates reach, on the inputs that both
    /// have samples of; diversity on those of them that are named in `common`. Nothing where their
    /// samples are of two temperatures: each is then measured from another distribution.
    pub(super) fn match_kl(
        &mut self,
        judge: &Judges<'_, impl Backend>,
        test_set: &str,
        examples: &[Example],
        policy: &PolicySamples<'_>,
        best: &Candidates<'_>,
        common: &BTreeSet<&str>,
    ) -> Result<()> {
        if best.temperature() != Some(policy.temperature) {
            return Ok(());
        }
        let examples: BTreeMap<&str, &Example> =
            examples.iter().map(|example| (example.id.as_str(), example)).collect();
        let theirs = best.ids();
        let inputs: Vec<(&Example, &Sampled, f64)> = policy
            .rows
            .iter()
            .zip(&policy.kl)
            .filter(|(row, _)| theirs.contains(row.id.as_str()) && !row.outputs.is_empty())
            .filter_map(|(row, kl)| Some((*examples.get(row.id.as_str())?, *row, *kl)))
            .collect();
        for metric in [GOLD, REWARD, DIVERSITY] {
            let own: Vec<&(&Example, &Sampled, f64)> = inputs
                .iter()
                .filter(|(_, row, _)| metric != DIVERSITY || common.contains(row.id.as_str()))
                .collect();
            let kl: Vec<f64> = own.iter().map(|(.., kl)| *kl).collect();
            let (mean, rows) = (
                average(&kl),
                own.iter().map(|(example, row, _)| (*example, *row)).collect::<Vec<_>>(),
            );
            let at = if mean > 0.0 { best.at_kl(metric, mean, &rows) } else { None };
            let Some(at) = at else { continue };
            let Some(values) = sampled(judge, metric, test_set, &rows)? else { continue };
            let measured = |method: &str, values| Measured {
                metric: metric.into(),
                test_set: test_set.into(),
                method: method.into(),
                values,
            };
            self.matched.push(AtEqualKl {
                kl: Clusters::each(kl.len()).mean(&kl),
                temperature: policy.temperature,
                method: measured(policy.method, best_of_n::at_own_kl(&values, &kl, at.slope)),
                best: measured(&best.method, at.values),
            });
        }
        Ok(())
    }
}

/// A metric of the samples of each input: of scores the mean over its samples. `None` where they
/// have no such score.
pub(super) fn sampled(
    judge: &Judges<'_, impl Backend>,
    metric: &str,
    test_set: &str,
    inputs: &[(&Example, &Sampled)],
) -> Result<Option<Vec<f64>>> {
    let diversity = |row: &Sampled| {
        let texts: Vec<&str> = row.outputs.iter().map(|output| output.text.as_str()).collect();
        Ngrams::new(&texts).ead(&(0..texts.len()).collect::<Vec<usize>>(), VOCABULARY)
    };
    Ok(match metric {
        DIVERSITY => Some(inputs.iter().map(|(_, row)| diversity(row)).collect()),
        GOLD => inputs
            .iter()
            .map(|(example, row)| Some(average(&golds(example, &row.outputs)?)))
            .collect(),
        _ => rewards(judge, test_set, inputs)?
            .map(|scores| scores.iter().map(|own| average(own)).collect()),
    })
}

/// The reward model's score of every sample of each input, if there is a reward model.
pub(super) fn rewards(
    judge: &Judges<'_, impl Backend>,
    test_set: &str,
    inputs: &[(&Example, &Sampled)],
) -> Result<Option<Vec<Vec<f64>>>> {
    let all = || {
        inputs.iter().flat_map(|(example, row)| {
            row.outputs.iter().map(|output| (*example, output.text.as_str()))
        })
    };
    let rows: Vec<Asked<'_>> = all().map(|(example, _)| example.into()).collect();
    let texts: Vec<&str> = all().map(|(_, text)| text).collect();
    let Some(scores) = judge.rewards(&test_split(test_set), &rows, &texts)? else {
        return Ok(None);
    };
    let mut scores = scores.into_iter();
    let own = |(_, row): &(&Example, &Sampled)| scores.by_ref().take(row.outputs.len()).collect();
    Ok(Some(inputs.iter().map(own).collect()))
}
