//! `reference_logprobs`: the log-probabilities of answers under a reference policy, both of each
//! preference pair or the completion of each row. Stages `dpo` and `kto` learn from them; a sweep
//! of these shares them.
//!
//! 1. A log-probability is the sum over the answer's tokens, EOS included, at temperature 1.
//! 2. Each row has a digest of the tokens that were read, so that another tokenizer or another cut
//!    of prompts is found.
//! 3. With `mismatched`, each answer also has its mismatched row (`src/train/answers.rs`): chosen
//!    answers take theirs among the chosen ones of the split, rejected answers among the rejected
//!    ones.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answer_rows::{Answers, answers, digest};
use super::footprint;
use super::model_files;
use super::models::ArtefactShapes;
use super::reading::{Part, Reading};
use super::{Checks, KindInfo, Problem, Stage};
use crate::artefacts::reference_logprobs::{Mismatched, ReferenceCompletion, ReferencePair, file};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::{self, Dataset};
use crate::data::lineage::Lineage;
use crate::data::rows::{self, Rows};
use crate::data::tokenised::Limits;
use crate::error::Result;
use crate::fs;
use crate::model::memory::Memory;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::train::answers::{Answered, logprobs};

/// Rows between two looks at whether to stop.
const ROWS_AT_ONCE: usize = 256;

/// The config of `uses: reference_logprobs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceLogprobsStage {
    /// Reference policy.
    pub policy: Ref<Policy>,
    /// Dataset with preference pairs, or with prompts and completions.
    pub dataset: Ref<DatasetArtefact>,
    /// Splits of `dataset`: those that are trained on, and that of a validation.
    #[serde(default = "splits")]
    pub splits: Vec<String>,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Whether to add prompts with answers to other prompts, which the reference point of `kto`
    /// needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mismatched: bool,
}

fn splits() -> Vec<String> {
    vec![dataset::PREFERENCES.into()]
}

impl Stage for ReferenceLogprobsStage {
    const INFO: KindInfo = KindInfo::on_device("reference_logprobs", 1, "reference_logprobs");

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .require(!self.splits.is_empty(), "splits", "expected at least one")
            .require(
                (1..self.splits.len()).all(|at| !self.splits[..at].contains(&self.splits[at])),
                "splits",
                "a split is named twice: name each once",
            )
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        checks.done()
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let (spec, head) = shapes.model(&self.policy)?;
        footprint::scoring(shapes, &spec, head)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let splits = || self.splits.clone();
        let reading = |reader| {
            let prompt = self.max_prompt_tokens;
            Reading::of_model(reader, &self.dataset, splits(), prompt, Part::Answers)
        };
        shapes.reader(&self.policy).map(reading).into_iter().collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let dataset = Dataset::open(self.dataset.path())?;
        let limits = Limits::of_stage(from.model.spec.context, self.max_prompt_tokens);
        let read = |split: &String| -> Result<(bool, Vec<Answers>)> {
            let rows = dataset.rows(split)?;
            let are_pairs = matches!(rows, Rows::Preferences(_));
            Ok((are_pairs, answers(&rows, &from.tokenizer, limits, split, self.mismatched)?))
        };
        let all: Vec<(bool, Vec<Answers>)> = self.splits.iter().map(read).collect::<Result<_>>()?;
        let total: usize = all.iter().map(|(_, rows)| rows.len()).sum();
        let mut done = 0;
        for (split, (are_pairs, rows)) in self.splits.iter().zip(&all) {
            let mut found: Vec<(&Answers, Vec<f64>)> = Vec::with_capacity(rows.len());
            for part in rows.chunks(ROWS_AT_ONCE) {
                let sequences: Vec<&Answered> =
                    part.iter().flat_map(|row| row.own.iter().chain(&row.mismatched)).collect();
                let logprobs = logprobs(b, &from.model, &sequences);
                // Rows of a split have the same number of sequences.
                let each = part[0].own.len() + part[0].mismatched.len();
                model_files::check_finite(&logprobs, "a log-probability", |at| {
                    format!("row `{}` of split `{split}`", part[at / each].id)
                })?;
                found.extend(part.iter().zip(logprobs.chunks(each).map(<[f64]>::to_vec)));
                done += part.len();
                context.progress(done as u64, total as u64, &[]);
                if context.stop_requested() {
                    return context.interrupted();
                }
            }
            write(&context.out().join(file(split)), *are_pairs, &found)?;
        }
        Lineage::read(self.policy.path())?.write(context.out())
    }
}

/// Writes the file of a split: rows with the log-probabilities of their answers, then of their
/// mismatched rows.
fn write(path: &Path, are_pairs: bool, found: &[(&Answers, Vec<f64>)]) -> Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let others = |row: &Answers, logprobs: &[f64]| {
        (!row.mismatched.is_empty()).then(|| Mismatched {
            digest: digest(&row.mismatched),
            logprobs: logprobs[row.own.len()..].to_vec(),
        })
    };
    if are_pairs {
        let pair = |(row, logprobs): &(&Answers, Vec<f64>)| ReferencePair {
            id: row.id.clone(),
            digest: digest(&row.own),
            chosen: logprobs[0],
            rejected: logprobs[1],
            mismatched: others(row, logprobs),
        };
        return rows::write_jsonl(path, &found.iter().map(pair).collect::<Vec<_>>());
    }
    let completion = |(row, logprobs): &(&Answers, Vec<f64>)| ReferenceCompletion {
        id: row.id.clone(),
        digest: digest(&row.own),
        completion: logprobs[0],
        mismatched: others(row, logprobs),
    };
    rows::write_jsonl(path, &found.iter().map(completion).collect::<Vec<_>>())
}
