//! `score`: a number for each row of a dataset, from a classifier or a reward model. A stage
//! `dataset` can split rows at its median.
//!
//! 1. A classifier's score is the log-odds of one label against all others (with two labels the
//!    difference of their logits), which does not run into a wall where the probability is near 1
//!    and rows could no longer be told apart. A classifier of one logit scores that.
//! 2. A classifier reads one text of a row, with its special tokens, as much of its beginning as
//!    its context has room for.
//! 3. A reward model reads prompt, completion and an end, as in training; its score is normalised.
//! 4. Of a preference pair the chosen text counts; of a conversation, what came before the
//!    assistant first spoke is the prompt.

use serde::{Deserialize, Serialize};

use super::footprint;
use super::model_files::{self, Loaded, normalisation};
use super::models::{ArtefactShapes, ModelShape};
use super::reading::{Part as Read, Reading, Splits};
use super::source::Source;
use super::{Checks, KindInfo, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::{self, Dataset};
use crate::data::rows::Example;
use crate::data::subset::Scored;
use crate::data::tokenised::{Limits, MODEL, tokenise};
use crate::error::{Result, user};
use crate::model::batch::{Batch, micro_batches};
use crate::model::memory::Memory;
use crate::model::params::HeadKind;
use crate::model::score::last_scalars;
use crate::model::transformer;
use crate::model::{checkpoint, heads};
use crate::reference::{Dataset as DatasetArtefact, ModelFolder, Ref, RewardModel};
use crate::tokenizer::encode::Encoded;

/// Rows between two looks at whether to stop.
const ROWS_AT_ONCE: usize = 256;

/// The config of `uses: score`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreStage {
    /// Dataset with the rows.
    pub dataset: Ref<DatasetArtefact>,
    /// Splits of `dataset`; an empty list means all.
    #[serde(default)]
    pub splits: Vec<String>,
    /// Model that scores the rows.
    pub by: By,
}

/// Model that scores the rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A sequence classifier.
    Classifier(Classifier),
    /// A reward model.
    RewardModel(Rewarder),
}

/// Options of `classifier`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// Folder of the classifier, a `*ForSequenceClassification`; or `hub:owner/name@revision`.
    pub path: ModelFolder,
    /// Label whose log-odds are the score, as `config.json` names it; a classifier of one logit
    /// needs none.
    #[serde(default)]
    pub label: Option<String>,
    /// Part of a row that the classifier reads.
    #[serde(default)]
    pub text: Part,
}

/// A part of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The prompt; of a document, which has none, its text.
    #[default]
    Prompt,
    /// The completion.
    Completion,
    /// The prompt and the completion, one after the other.
    Whole,
}

/// Options of `reward_model`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewarder {
    /// The reward model.
    pub model: Ref<RewardModel>,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
}

impl Rewarder {
    fn limits(&self, context: usize) -> Limits {
        let field = Some("by.reward_model.max_prompt_tokens");
        Limits { context, prompt: self.max_prompt_tokens, field }
    }
}

impl Stage for ScoreStage {
    const INFO: KindInfo = KindInfo::on_device("score", 2, "scores");

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        if let By::RewardModel(options) = &self.by {
            checks.positive_or_null(options.max_prompt_tokens, "by.reward_model.max_prompt_tokens");
        }
        checks.done()
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let (spec, head) = match &self.by {
            By::Classifier(options) => {
                let ModelShape { spec, head, .. } = shapes.folder(&options.path)?;
                (spec, head)
            }
            By::RewardModel(options) => shapes.model(&options.model)?,
        };
        footprint::scoring(shapes, &spec, head)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        // A classifier cuts what is too long.
        let By::RewardModel(options) = &self.by else { return Vec::new() };
        let named = || Splits::Named(self.splits.clone());
        let reading = |(tokenizer, context)| Reading {
            dataset: Source::from(&self.dataset),
            splits: if self.splits.is_empty() { Splits::All } else { named() },
            rows: None,
            tokenizer,
            limits: options.limits(context),
            reader: MODEL,
            part: Read::Text,
        };
        shapes.reader(&options.model).map(reading).into_iter().collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let dataset = Dataset::open(self.dataset.path())?;
        let splits = if self.splits.is_empty() { dataset.splits() } else { &self.splits };
        let rows = splits
            .iter()
            .map(|split| Ok((split, dataset.rows(split)?.texts())))
            .collect::<Result<Vec<_>>>()?;
        let scores = match &self.by {
            By::Classifier(options) => Box::new(classifier(context, b, options)?)
                as Box<dyn Fn(&str, &[Example]) -> Result<Vec<f64>> + '_>,
            By::RewardModel(options) => {
                let Loaded { model, tokenizer, .. } = model_files::load(b, options.model.path())?;
                let normalisation = normalisation(options.model.path())?;
                let limits = options.limits(model.spec.context);
                Box::new(move |split: &str, rows: &[Example]| {
                    let rows = tokenise(rows, &tokenizer, limits, split)?;
                    let sequences: Vec<&[u32]> =
                        rows.iter().map(|row| row.tokens.as_slice()).collect();
                    Ok(last_scalars(b, &model, &sequences)
                        .into_iter()
                        .map(|raw| normalisation.apply(f64::from(raw)))
                        .collect())
                })
            }
        };
        let total: usize = rows.iter().map(|(_, rows)| rows.len()).sum();
        let mut done = 0;
        for (split, rows) in &rows {
            let mut scored = Vec::with_capacity(rows.len());
            for part in rows.chunks(ROWS_AT_ONCE) {
                let scores = scores(split, part)?;
                model_files::check_finite(&scores, "the score", |at| {
                    format!("row `{}` of split `{split}`", part[at].id)
                })?;
                scored.extend(
                    part.iter()
                        .zip(scores)
                        .map(|(row, score)| Scored { id: row.id.clone(), score }),
                );
                done += part.len();
                context.progress(
                    done as u64,
                    total as u64,
                    &[("rows_per_second", done as f64 / context.seconds().max(1e-9))],
                );
                if context.stop_requested() {
                    return context.interrupted();
                }
            }
            dataset::write_split(context.out(), split, &scored)?;
        }
        Ok(())
    }
}

/// What scores rows by a classifier.
fn classifier<'a, B: Backend>(
    context: &Context,
    b: &'a B,
    options: &'a Classifier,
) -> Result<impl Fn(&str, &[Example]) -> Result<Vec<f64>> + use<'a, B>> {
    let folder = options.path.path();
    let description = checkpoint::describe(folder)?;
    description.remark(folder).into_iter().for_each(|remark| context.warn(remark));
    let head = description.head;
    if !matches!(head, HeadKind::Classifier | HeadKind::Reward) {
        let message = format!("{} has no head for classes", folder.display());
        return Err(user(message).hint("a `*ForSequenceClassification` is expected").into());
    }
    let Loaded { model, tokenizer, origin } = model_files::load(b, folder)?;
    let count = if head == HeadKind::Reward { 1 } else { model.spec.labels };
    let label = label(&origin.labels(count), options.label.as_deref())?;
    Ok(move |_: &str, rows: &[Example]| {
        let encode = |row: &Example| -> Result<Encoded> {
            let text = match options.text {
                Part::Prompt => row.content().to_owned(),
                Part::Completion => row.completion.clone(),
                Part::Whole => format!("{}{}", row.prompt, row.completion),
            };
            let encoded = tokenizer.encode_input(&text, None, Some(model.spec.context))?;
            match encoded.tokens.is_empty() {
                true => Err(user(format!("row `{}` has no text to score", row.id))
                    .hint("choose another part of rows as `text`")
                    .into()),
                false => Ok(encoded),
            }
        };
        let texts = rows.iter().map(encode).collect::<Result<Vec<Encoded>>>()?;
        let mut scores = Vec::with_capacity(texts.len());
        for run in micro_batches(texts.iter().map(|text| text.tokens.len())) {
            let texts = &texts[run];
            let tokens: Vec<&[u32]> = texts.iter().map(|text| text.tokens.as_slice()).collect();
            let types = texts.iter().flat_map(|text| text.types.iter().copied()).collect();
            let batch = Batch { types, ..Batch::new(&tokens) };
            let hidden = transformer::hidden(b, &model, &batch);
            let logits = match head {
                HeadKind::Reward => heads::scalar_scores(b, &model, &hidden, &batch.lasts()),
                _ => heads::class_logits(b, &model, &hidden, &batch.firsts()).logits,
            };
            scores.extend(logits.chunks_exact(count).map(|logits| log_odds(logits, label)));
        }
        Ok(scores)
    })
}

/// The place of the label that is asked for.
fn label(names: &[String], wanted: Option<&str>) -> Result<usize> {
    let hint = format!("its labels are: {}", names.join(", "));
    match wanted {
        None if names.len() == 1 => Ok(0),
        None => Err(user("the classifier has several labels, and none is named as `label`")
            .hint(hint)
            .into()),
        Some(wanted) => {
            let place = names.iter().position(|name| name == wanted);
            place.ok_or_else(|| {
                user(format!("the classifier has no label `{wanted}`")).hint(hint).into()
            })
        }
    }
}

/// ln(p / (1 - p)) of one class under the softmax of all logits; of a single logit, itself.
fn log_odds(logits: &[f64], label: usize) -> f64 {
    let others =
        || logits.iter().enumerate().filter(|(class, _)| *class != label).map(|(_, logit)| *logit);
    let greatest = others().fold(f64::NEG_INFINITY, f64::max);
    match greatest.is_finite() {
        true => {
            logits[label]
                - greatest
                - others().map(|logit| (logit - greatest).exp()).sum::<f64>().ln()
        }
        false => logits[label],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_are_those_of_the_softmax_and_do_not_saturate() {
        let logits: [f64; 3] = [0.5, -1.0, 2.0];
        let all: f64 = logits.iter().map(|logit| logit.exp()).sum();
        for (label, logit) in logits.iter().enumerate() {
            let p = logit.exp() / all;
            assert!((log_odds(&logits, label) - (p / (1.0 - p)).ln()).abs() < 1e-12);
        }
        assert_eq!(log_odds(&[90.0, -30.0], 0), 120.0);
        assert_eq!(log_odds(&[-3.5], 0), -3.5);
    }

    #[test]
    fn a_label_is_found_by_name() {
        let names = ["NEGATIVE".to_string(), "POSITIVE".to_string()];
        assert_eq!(label(&names, Some("POSITIVE")).unwrap(), 1);
        assert!(label(&names, None).unwrap_err().to_string().contains("none is named"));
        assert!(
            label(&names, Some("positive"))
                .unwrap_err()
                .to_string()
                .contains("its labels are: NEGATIVE, POSITIVE")
        );
        assert_eq!(label(&names[..1], None).unwrap(), 0);
    }
}
