//! What an evaluation leaves out, and why: by figure, method and test set. Knows no number.
//!
//! 1. A figure that takes a model, a judge, outputs or samples is left out where these are absent.
//! 2. A sentence below the table says so, and `left_out.json` has the same; there is no such file
//!    where all figures are there. `diversity` names all measures of samples.

use std::path::Path;

use super::{EvaluateStage, GOLD, Method, REWARD};
use crate::artefacts::left_out as artefact;
use crate::dag::context::Context;
use crate::error::Result;
use crate::fs;

/// All measures of samples.
const DIVERSITY: &str = "diversity";

/// Figures that are left out for one reason.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Metrics of the table, [`DIVERSITY`], or `optimum`.
    figures: Vec<String>,
    /// Of which method; of all, where none is named.
    method: Option<String>,
    /// On which test sets; on all, where none is named.
    test_sets: Vec<String>,
    why: String,
    /// Rows are missing that the config names, so that a reader should hear of it at once.
    warned: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct LeftOut(Vec<Entry>);

impl LeftOut {
    /// Notes figures of a method, or of all methods, that a test set cannot have.
    pub(super) fn note(
        &mut self,
        figures: &[&str],
        method: Option<&str>,
        test_set: &str,
        why: &str,
    ) {
        self.add(figures, method, test_set, why, false);
    }

    /// Notes that the samples of a method have no row of a test set; `has_kl` if its KL is known
    /// without samples.
    pub(super) fn no_row(&mut self, method: &str, test_set: &str, has_kl: bool) {
        let figures: &[&str] = if has_kl { &[DIVERSITY] } else { &["kl", DIVERSITY] };
        self.add(figures, Some(method), test_set, "its `samples` have no row of it", true);
    }

    fn add(
        &mut self,
        figures: &[&str],
        method: Option<&str>,
        test_set: &str,
        why: &str,
        warned: bool,
    ) {
        let new = entry(figures, method, why);
        let same = |old: &&mut Entry| {
            (&old.figures, &old.method, &old.why) == (&new.figures, &new.method, &new.why)
        };
        match self.0.iter_mut().find(same) {
            Some(old) => old.test_sets.push(test_set.into()),
            None => self.0.push(Entry { test_sets: vec![test_set.into()], warned, ..new }),
        }
    }

    /// Adds what the config lacks, writes all of it into the artefact, and gives a sentence each.
    pub(super) fn finish(
        mut self,
        context: &Context,
        config: &EvaluateStage,
        test_sets: &[String],
    ) -> Result<Vec<String>> {
        for entry in &mut self.0 {
            if entry.test_sets == test_sets {
                entry.test_sets.clear();
            }
        }
        let no_gold =
            self.0.iter().any(|entry| entry.figures == [GOLD] && entry.test_sets.is_empty());
        self.0.extend(absent(config, !no_gold));
        self.0.iter().filter(|entry| entry.warned).for_each(|entry| context.warn(entry.sentence()));
        self.write(context.out())?;
        Ok(self.0.iter().map(Entry::sentence).collect())
    }

    fn write(&self, out: &Path) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => {
                let noted = |entry: &Entry| artefact::LeftOut {
                    figures: entry.figures.clone(),
                    method: entry.method.clone(),
                    test_sets: entry.test_sets.clone(),
                    why: entry.why.clone(),
                    note: entry.sentence(),
                };
                let noted: Vec<artefact::LeftOut> = self.0.iter().map(noted).collect();
                fs::write_atomic(&out.join(artefact::LEFT_OUT), &serde_json::to_vec_pretty(&noted)?)
            }
        }
    }
}

/// What no method has because the evaluation lacks a field, and what single methods lack.
fn absent(config: &EvaluateStage, has_gold: bool) -> Vec<Entry> {
    let any_outputs = config.methods.iter().any(|method| method.outputs.is_some());
    let any_samples = config.methods.iter().any(|method| method.samples.is_some());
    let lacks = |figure: &str, field: &str| {
        entry(&[figure], None, &format!("the evaluation has no `{field}`"))
    };
    let mut entries = Vec::new();
    if any_outputs && config.reward_model.is_none() {
        entries.push(lacks(REWARD, "reward_model"));
    }
    if any_outputs && config.judge.is_none() {
        entries.push(lacks("win_rate", "judge"));
    }
    if any_samples && config.reference_policy.is_none() {
        entries.push(entry(
            &["kl"],
            None,
            "the evaluation has no `reference_policy`; best-of-n alone has a bound without one",
        ));
    }
    let of_outputs: Vec<&str> = [
        has_gold.then_some(GOLD),
        config.reward_model.is_some().then_some(REWARD),
        config.judge.is_some().then_some("win_rate"),
        Some("length"),
        Some("rouge_l"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let of_samples: &[&str] =
        if config.reference_policy.is_some() { &["kl", DIVERSITY] } else { &[DIVERSITY] };
    for Method { name, outputs, samples, .. } in &config.methods {
        if outputs.is_none() {
            entries.push(entry(&of_outputs, Some(name), "it has no `outputs`"));
        }
        if samples.is_none() {
            entries.push(entry(of_samples, Some(name), "it has no `samples`"));
        }
    }
    entries
}

fn entry(figures: &[&str], method: Option<&str>, why: &str) -> Entry {
    Entry {
        figures: figures.iter().map(|figure| (*figure).to_owned()).collect(),
        method: method.map(str::to_owned),
        test_sets: Vec::new(),
        why: why.into(),
        warned: false,
    }
}

impl Entry {
    fn sentence(&self) -> String {
        let listed = |names: &[String]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        let of = self.method.as_ref().map_or_else(String::new, |name| format!(" of `{name}`"));
        let on = match self.test_sets.as_slice() {
            [] => String::new(),
            test_sets => format!(" on {}", listed(test_sets)),
        };
        format!("Left out: {}{of}{on}: {}.", listed(&self.figures), self.why)
    }
}
