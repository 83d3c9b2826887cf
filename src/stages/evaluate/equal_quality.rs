//! A policy beside best-of-n at equal quality: by the diversity of samples whose mean score is the
//! same. Knows no table and no KL.

use std::collections::{BTreeMap, BTreeSet};

use super::curves::Candidates;
use super::equal_kl::{PolicySamples, sampled};
use super::measuring::Judges;
use super::{Found, GOLD, Judge, REWARD};
use crate::artefacts::table::DIVERSITY;
use crate::backend::Backend;
use crate::data::rows::Example;
use crate::data::samples::Sampled;
use crate::error::Result;
use crate::eval::compare::Measured;
use crate::eval::equal_quality::{AtEqualQuality, Scored, at_equal_quality};
use crate::eval::interval::{Interval, average, of_mean};

/// A method and best-of-n at its mean score, by the diversity of the samples of the same inputs.
pub(super) struct Matching {
    /// The score that both have.
    pub(super) by: &'static str,
    /// Its mean over the method's inputs.
    pub(super) quality: Interval,
    pub(super) n: f64,
    pub(super) temperature: f64,
    /// The mean of the method's own values.
    pub(super) own: f64,
    /// Its values with the error of the score.
    pub(super) method: Measured,
    pub(super) best: Measured,
}

impl Found {
    /// A policy beside best-of-n at its mean score, on the inputs of `common` that both have
    /// samples of. Nothing where their samples are of two temperatures, where best-of-n has no
    /// diversity by n, and where no n reaches that score.
    pub(super) fn match_quality(
        &mut self,
        judge: &Judges<'_, impl Backend>,
        by: Judge,
        (test_set, examples): (&str, &[Example]),
        policy: &PolicySamples<'_>,
        (best, common): (&Candidates<'_>, &BTreeSet<&str>),
    ) -> Result<()> {
        if best.temperature() != Some(policy.temperature) {
            return Ok(());
        }
        let metric = match by {
            Judge::Gold => GOLD,
            Judge::RewardModel => REWARD,
        };
        let examples: BTreeMap<&str, &Example> =
            examples.iter().map(|example| (example.id.as_str(), example)).collect();
        let theirs = best.ids();
        let shared =
            |row: &&Sampled| theirs.contains(row.id.as_str()) && common.contains(row.id.as_str());
        let rows: Vec<(&Example, &Sampled)> = policy
            .rows
            .iter()
            .copied()
            .filter(shared)
            .filter_map(|row| Some((*examples.get(row.id.as_str())?, row)))
            .collect();
        let of_policy = |metric| sampled(judge, metric, test_set, &rows);
        let (Some(scores), Some(values)) = (of_policy(metric)?, of_policy(DIVERSITY)?) else {
            return Ok(());
        };
        let by_n: Option<Vec<Scored>> = (1..=best.most_diverse())
            .map(|n| {
                let scores = best.at_n(metric, n, &rows)?;
                Some(Scored { scores, values: best.at_n(DIVERSITY, n, &rows)? })
            })
            .collect();
        let Some(by_n) = by_n.filter(|_| !rows.is_empty()) else { return Ok(()) };
        let own = Scored { scores, values };
        let found = at_equal_quality(&own, by_n.len(), |n| by_n[n - 1].clone());
        let Some(AtEqualQuality { n, own: values, best: theirs }) = found else { return Ok(()) };
        let measured = |method: &str, values| Measured {
            metric: DIVERSITY.into(),
            test_set: test_set.into(),
            method: method.into(),
            values,
        };
        self.matched_quality.push(Matching {
            by: metric,
            quality: of_mean(&own.scores),
            n,
            temperature: policy.temperature,
            own: average(&own.values),
            method: measured(policy.method, values),
            best: measured(&best.method, theirs),
        });
        Ok(())
    }
}
