//! What makes two answers to one prompt equivalent: the functional classes of a set of them.

use serde::{Deserialize, Serialize};

use super::Checks;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::rows::Example;
use crate::device::Precision;
use crate::error::Result;
use crate::eval::classes::{self, Words};
use crate::inference::Reader;
use crate::inference::pairs::PairModel;
use crate::inference::same_answer::SameAnswer;
use crate::reference::{Classifier, Ref};
use crate::world;

/// Pairs that a classifier reads at a time; no result depends on it.
const BATCH: usize = 32;

/// When two answers are of one class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classes {
    /// ROUGE-1 F1 above 0.458; of texts of at most five words, half of the words in common.
    #[default]
    Rouge1,
    /// The same statement, as the exact score of the synthetic world reads it.
    Gold,
    /// The same answer, as a classifier says.
    SameAnswer(SameAnswerConfig),
}

/// A classifier of whether two answers are the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SameAnswerConfig {
    /// Classifier of text pairs with the labels `same` and `different`.
    pub classifier: Ref<Classifier>,
    /// Probability of `same`, mean of both orders, above which two samples are of one class.
    #[serde(default = "half")]
    pub threshold: f64,
}

fn half() -> f64 {
    0.5
}

impl Classes {
    /// Whether rows have to be of a synthetic world.
    pub(super) fn is_of_world(&self) -> bool {
        matches!(self, Classes::Gold)
    }

    /// The classifier, if one decides.
    pub(super) fn classifier(&self) -> Option<&Ref<Classifier>> {
        match self {
            Classes::SameAnswer(of) => Some(&of.classifier),
            Classes::Rouge1 | Classes::Gold => None,
        }
    }

    /// Notes values out of range, as those of `field`.
    pub(super) fn out_of_range(&self, checks: &mut Checks, field: &str) {
        let Classes::SameAnswer(of) = self else { return };
        checks.require(
            of.threshold > 0.0 && of.threshold < 1.0,
            &format!("{field}.same_answer.threshold"),
            format!("expected between 0 and 1, found {}", of.threshold),
        );
    }
}

/// What decides.
pub(super) enum Equivalence<B: Backend> {
    Rouge1,
    Gold,
    SameAnswer { classifier: Box<SameAnswer<B>>, threshold: f64 },
}

impl<B: Backend> Equivalence<B> {
    /// # Errors
    /// The user's, if the classifier has other labels, or cannot be read.
    pub(super) fn load(context: &Context, b: &B, classes: &Classes) -> Result<Self> {
        Ok(match classes {
            Classes::Rouge1 => Equivalence::Rouge1,
            Classes::Gold => Equivalence::Gold,
            Classes::SameAnswer(of) => {
                let reader = Reader::open(of.classifier.path())?;
                reader.remark().into_iter().for_each(|remark| context.warn(remark));
                let model = PairModel::load(b.clone(), Precision::Single, reader)?;
                let classifier = Box::new(SameAnswer::new(model)?);
                Equivalence::SameAnswer { classifier, threshold: of.threshold }
            }
        })
    }

    /// The class of each answer to each row's prompt, numbered from 0 by first member.
    pub(super) fn classes<'t>(&self, rows: &[(&Example, Vec<&'t str>)]) -> Result<Vec<Vec<usize>>> {
        Ok(match self {
            Equivalence::Rouge1 => {
                let of_row = |(_, answers): &(&Example, Vec<&str>)| {
                    let texts: Vec<Words> = answers.iter().map(|text| Words::new(text)).collect();
                    classes::partition(texts.len(), |i, j| texts[i].is_similar(&texts[j]))
                };
                rows.iter().map(of_row).collect()
            }
            Equivalence::Gold => {
                let of_row = |(example, answers): &(&Example, Vec<&str>)| {
                    let stated: Vec<Option<String>> =
                        answers.iter().map(|text| world::statement(example, text)).collect();
                    classes::partition(stated.len(), |i, j| stated[i] == stated[j])
                };
                rows.iter().map(of_row).collect()
            }
            Equivalence::SameAnswer { classifier, threshold } => {
                let trimmed =
                    |answers: &[&'t str]| answers.iter().map(|text| text.trim()).collect();
                let sets: Vec<Vec<&str>> = rows.iter().map(|(_, own)| trimmed(own)).collect();
                classifier.classes(&sets, *threshold, BATCH, &mut |_, _| Ok(()))?
            }
        })
    }
}
