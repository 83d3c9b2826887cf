//! `reference_logprobs`: the log-probabilities of both answers of preference pairs under a
//! reference policy. A stage `dpo` learns from them; a sweep of `dpo` shares them.
//!
//! 1. A log-probability is the sum over the answer's tokens, EOS included, at temperature 1.
//! 2. Each pair has a digest of the tokens that were read, so that another tokenizer or another cut
//!    of prompts is found.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::footprint;
use super::model_files;
use super::models::ArtefactShapes;
use super::reading::{Part, Reading};
use super::{Checks, KindInfo, Problem, Stage};
use crate::artefacts::reference_logprobs::{ReferencePair, file};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::{self, Dataset};
use crate::data::lineage::Lineage;
use crate::data::rows::{self, Preference};
use crate::data::tokenised::{Limits, MODEL};
use crate::error::{Result, user};
use crate::fs;
use crate::model::memory::Memory;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::train::direct::{Pair, logprobs, pairs};

/// Pairs between two looks at whether to stop.
const PAIRS_AT_ONCE: usize = 256;

/// The config of `uses: reference_logprobs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceLogprobsStage {
    /// Reference policy.
    pub policy: Ref<Policy>,
    /// Dataset with preference pairs.
    pub dataset: Ref<DatasetArtefact>,
    /// Splits of `dataset` with pairs: those that are trained on, and that of a validation.
    #[serde(default = "splits")]
    pub splits: Vec<String>,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
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
            Reading::of_model(reader, &self.dataset, splits(), self.max_prompt_tokens, Part::Pair)
        };
        shapes.reader(&self.policy).map(reading).into_iter().collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = model_files::load(b, self.policy.path())?;
        let dataset = Dataset::open(self.dataset.path())?;
        let limits = Limits::of_stage(from.model.spec.context, self.max_prompt_tokens);
        let read = |split: &String| -> Result<Vec<Pair>> {
            let rows: Vec<Preference> = dataset.split(split)?;
            pairs(&rows, &from.tokenizer, limits, MODEL, split)
        };
        let all: Vec<Vec<Pair>> = self.splits.iter().map(read).collect::<Result<_>>()?;
        let total: usize = all.iter().map(Vec::len).sum();
        let mut done = 0;
        for (split, pairs) in self.splits.iter().zip(&all) {
            let mut found = Vec::with_capacity(pairs.len());
            for part in pairs.chunks(PAIRS_AT_ONCE) {
                let logprobs = logprobs(b, &from.model, part);
                model_files::check_finite(logprobs.as_flattened(), "a log-probability", |at| {
                    format!("row `{}` of split `{split}`", part[at / 2].id)
                })?;
                found.extend(part.iter().zip(logprobs).map(|(pair, [chosen, rejected])| {
                    ReferencePair { id: pair.id.clone(), digest: digest(pair), chosen, rejected }
                }));
                done += part.len();
                context.progress(done as u64, total as u64, &[]);
                if context.stop_requested() {
                    return context.interrupted();
                }
            }
            let path = context.out().join(file(split));
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            rows::write_jsonl(&path, &found)?;
        }
        Lineage::read(self.policy.path())?.write(context.out())
    }
}

/// 64 bits of a hash of the tokens of both sides of a pair.
fn digest(pair: &Pair) -> String {
    let mut hasher = blake3::Hasher::new();
    for side in &pair.sides {
        hasher.update(&(side.prompt as u64).to_le_bytes());
        hasher.update(&(side.tokens.len() as u64).to_le_bytes());
        side.tokens.iter().for_each(|token| {
            hasher.update(&token.to_le_bytes());
        });
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The reference log-probabilities of `pairs` of a split, in their order, from the artefact in
/// `folder`.
///
/// # Errors
/// The user's: no such split, a pair that is not there, or a pair of other tokens.
pub(super) fn read(folder: &Path, split: &str, pairs: &[Pair]) -> Result<Vec<[f64; 2]>> {
    let path = folder.join(file(split));
    if !path.exists() {
        return Err(user(format!("the reference log-probabilities have no split `{split}`"))
            .hint("name it under `splits` of the stage `reference_logprobs`")
            .into());
    }
    let rows: Vec<ReferencePair> = rows::read_jsonl(&path)?;
    let known: BTreeMap<(&str, &str), &ReferencePair> =
        rows.iter().map(|row| ((row.id.as_str(), row.digest.as_str()), row)).collect();
    let of = |pair: &Pair| -> Result<[f64; 2]> {
        let own = digest(pair);
        if let Some(row) = known.get(&(pair.id.as_str(), own.as_str())) {
            return Ok([row.chosen, row.rejected]);
        }
        let is_there = rows.iter().any(|row| row.id == pair.id);
        let what = if is_there { "are of other tokens" } else { "are not there" };
        let message = format!(
            "the reference log-probabilities of row `{}` of split `{split}` {what}",
            pair.id
        );
        let hint = "give `reference_logprobs` the same dataset, tokenizer and `max_prompt_tokens`";
        Err(user(message).hint(hint).into())
    };
    pairs.iter().map(of).collect()
}
