//! Verdicts of other judges, which `judge` stages have asked: win rates and comparisons beside
//! those of the evaluation's own judge. Knows no text.
//!
//! 1. The win rate by a judge is the metric `win_rate_NAME`: the mean over the inputs that it
//!    judged of 1 where the method wins, 0 where it loses, 0.5 for a tie; the mean of its verdicts,
//!    where it gave several on an input.
//! 2. A judge may have seen only the first inputs of a test set, but the same for every
//!    method: else differences would not be paired. It may have judged some of the methods only.
//! 3. That the verdicts are on the very outputs that are evaluated is seen when the pipeline is
//!    planned ([`Stage::constraints`](crate::stages::Stage::constraints)); so is, as far as configs
//!    show it, that no reward model judges what it had a part in. What bytes and lineages show of
//!    that is seen here (`leaks.rs`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::{EvaluateStage, Found};
use crate::artefacts::table::Row;
use crate::data::dataset::test_split;
use crate::data::lineage::Lineage;
use crate::data::rows::Example;
use crate::error::{Result, user};
use crate::eval::compare::Measured;
use crate::eval::interval::of_share;
use crate::stages::judgements::Judgements;
use crate::stages::lineage::Standing;

/// What a judge is called that is a reward model.
const REWARD_MODEL: &str = "reward_model";

/// One judge: an entry of `judges.json`.
#[derive(Serialize)]
pub(super) struct Judging {
    /// Its name in the pipeline.
    name: String,
    /// Its metric in tables and comparisons.
    metric: String,
    /// `gold`, `reward_model`, `llm`, `human`.
    judge: String,
    /// What methods are compared with: `reference`, or `b`, the same other answers for all methods.
    against: String,
    /// Of a reward model: it had no part in any method, and hardly any pair in common with one that
    /// had.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_out: Option<bool>,
    /// Why it is not held out, or what it has in common with one that had a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
    /// By method, what the judge's own artefact says: win rates, ties, bias of position, agreement,
    /// cost.
    methods: BTreeMap<String, Value>,
    /// What it was trained on, where it is a reward model.
    #[serde(skip)]
    pub(super) lineage: Option<Lineage>,
    #[serde(skip)]
    verdicts: BTreeMap<String, Judgements>,
}

/// The scores of a method's answers by one judge.
pub(super) struct Judged {
    pub(super) metric: String,
    /// For every input of the test set, if it was judged.
    pub(super) scores: Vec<Option<f64>>,
}

impl Judging {
    /// Reads what all judges have said.
    pub(super) fn read(config: &EvaluateStage) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (name, methods) in &config.judges {
            let mut verdicts: BTreeMap<String, Judgements> = BTreeMap::new();
            for (method, reference) in methods {
                let found = Judgements::read(reference.path())?;
                let place = || format!("`judges.{name}.{method}`");
                if found.summary.a != "a" {
                    let message = format!(
                        "{} has judged preference pairs, not the answers of a method",
                        place()
                    );
                    return Err(user(message)
                        .hint("give the stage `judge` the method's outputs as `a`")
                        .into());
                }
                if found.summary.verdicts.people.as_ref().is_some_and(|of| of.set.is_some()) {
                    let message = format!(
                        "{} says which of two sets of answers is more varied, not which answer is \
                         better",
                        place()
                    );
                    return Err(user(message).hint("name it under `people` instead").into());
                }
                if let Some((other, one)) = verdicts.iter().find(|(_, one)| {
                    (&one.summary.judge, &one.summary.b) != (&found.summary.judge, &found.summary.b)
                }) {
                    let message = format!(
                        "{} is of the judge `{}` against `{}`, that of `{other}` of `{}` against \
                         `{}`",
                        place(),
                        found.summary.judge,
                        found.summary.b,
                        one.summary.judge,
                        one.summary.b
                    );
                    return Err(user(message).hint("give each judge another name").into());
                }
                verdicts.insert(method.clone(), found);
            }
            let first = verdicts.values().next().expect("a judge without methods is refused");
            let first = first.summary.clone();
            let lineage = match methods.values().next() {
                Some(reference) if first.judge == REWARD_MODEL => {
                    Some(Lineage::read(reference.path())?)
                }
                _ => None,
            };
            // A stage may have been allowed to judge what it is not held out from.
            let tainted = verdicts.values().any(|found| found.summary.held_out == Some(false));
            let remark = verdicts.values().find_map(|found| found.summary.remark.clone());
            all.push(Judging {
                name: name.clone(),
                metric: format!("win_rate_{name}"),
                judge: first.judge.clone(),
                against: first.b.clone(),
                held_out: (first.judge == REWARD_MODEL).then_some(!tainted),
                remark,
                lineage,
                methods: verdicts
                    .iter()
                    .map(|(method, found)| {
                        Ok((method.clone(), serde_json::to_value(&found.summary)?))
                    })
                    .collect::<Result<_>>()?,
                verdicts,
            });
        }
        Ok(all)
    }

    /// What the judge says of a method's answers to the inputs of a test set; `None` of a method
    /// that it has not judged.
    pub(super) fn of(
        &self,
        method: &str,
        test_set: &str,
        examples: &[Example],
    ) -> Result<Option<Judged>> {
        let Some(found) = self.verdicts.get(method) else { return Ok(None) };
        let (split, nothing) = (test_split(test_set), BTreeMap::new());
        let rows = |found: &'_ Judgements| {
            found.scores.get(&split).unwrap_or(&nothing).keys().cloned().collect::<Vec<String>>()
        };
        let scores = found.scores.get(&split).unwrap_or(&nothing);
        let judge = &self.name;
        if scores.is_empty() {
            let message = format!(
                "the judge `{judge}` has no verdict on method `{method}` in test set `{test_set}`"
            );
            return Err(user(message)
                .hint("it must judge the evaluation's test sets: see `splits` of its stage")
                .into());
        }
        let known: BTreeSet<&str> = examples.iter().map(|example| example.id.as_str()).collect();
        if let Some(stranger) = scores.keys().find(|id| !known.contains(id.as_str())) {
            let message = format!(
                "the judge `{judge}` has a verdict on row `{stranger}` of split `{split}`, which \
                 the evaluation does not have"
            );
            return Err(user(message).hint("judge and evaluate rows of the same dataset").into());
        }
        if let Some((other, theirs)) =
            self.verdicts.iter().find(|(_, other)| rows(other) != rows(found))
        {
            let message = format!(
                "the judge `{judge}` has judged {} rows of split `{split}` for method `{method}`, \
                 and {}{} for `{other}`",
                scores.len(),
                if rows(theirs).len() == scores.len() { "as many others, " } else { "" },
                rows(theirs).len(),
            );
            return Err(user(message)
                .hint("let it judge the same rows for every method: differences are paired")
                .into());
        }
        let scores = examples.iter().map(|example| scores.get(&example.id).copied()).collect();
        Ok(Some(Judged { metric: self.metric.clone(), scores }))
    }

    /// Its name in the pipeline's field `judges`.
    pub(super) fn field(&self) -> String {
        format!("judges.{}", self.name)
    }

    /// Notes whether it is held out from all methods, not only from those that it judged.
    pub(super) fn note_standing(&mut self, standing: Standing) {
        if standing.remark.is_some() {
            self.held_out = Some(!standing.tainted && self.held_out != Some(false));
            self.remark = standing.remark;
        }
    }

    /// Forgets its verdicts on some rows of a split.
    pub(super) fn leave_out(&mut self, split: &str, ids: &BTreeSet<String>) {
        for found in self.verdicts.values_mut() {
            if let Some(scores) = found.scores.get_mut(split) {
                scores.retain(|id, _| !ids.contains(id));
            }
        }
    }

    /// Who it is, for below the table.
    pub(super) fn note(&self) -> String {
        let who = match self.judge.as_str() {
            "gold" => "the synthetic world's exact score",
            REWARD_MODEL if self.held_out == Some(false) => "a reward model that is not held out",
            REWARD_MODEL => "a held-out reward model, which had no part in any method",
            "llm" => "a language model, which saw each pair in both orders",
            _ => "people",
        };
        let against = if self.against == "reference" {
            "the references"
        } else {
            "the same other answers to every input"
        };
        let why = self.remark.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        format!("{}: share of inputs won against {against}, as judged by {who}{why}.", self.metric)
    }
}

impl Judged {
    /// Its row of the table, and what methods are compared by: the values of the inputs that were
    /// judged.
    pub(super) fn measured(&self, found: &mut Found, method: &str, test_set: &str) -> Measured {
        let values: Vec<f64> = self.scores.iter().flatten().copied().collect();
        found.table.rows.push(Row::new(method, test_set, &self.metric, of_share(&values)));
        Measured {
            metric: self.metric.clone(),
            test_set: test_set.into(),
            method: method.into(),
            values,
        }
    }
}
