//! `diversity` of stages that draw several responses to each prompt: rewards or advantages of a
//! group, changed so that the policy keeps varied answers ([`crate::rl::diversity`] has the
//! arithmetic).

use serde::{Deserialize, Serialize};

use super::Checks;
use super::diversity::cosines;
use super::equivalence::{Classes, Equivalence};
use super::generation::Prompt;
use super::models::{ArtefactShapes, ModelShape};
use super::rewards::Answer;
use super::rollouts;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::rows::Example;
use crate::device::Precision;
use crate::error::{Result, user};
use crate::eval::diversity::words;
use crate::eval::vendi::ngram_similarities;
use crate::inference::{Reader, Subject};
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::reference::ModelFolder;
use crate::rl::diversity::Good;
use crate::rl::group_diversity::{Combine, Diversity, Kin};
use crate::tokenizer::tokens::Tokenizer;
use crate::train::rollouts::Rollout;
use crate::world;

/// What is done for the sake of diversity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupDiversity {
    /// A response that is unlike the others of its group gets a greater reward.
    Novelty(Novelty),
    /// A reward is multiplied by the share of the group's other responses of another class
    /// (DARLING).
    Darling(Darling),
    /// Good responses get rewards that make them equally likely at the optimum (MARA).
    Mara(Mara),
    /// Advantages of good responses are shared out anew, more to the unlikely (UCPO).
    Ucpo(Ucpo),
    /// Advantages of the expected maximum of some responses, instead of the mean reward (PKPO).
    MaxAtK(MaxAtK),
    /// The reward of a good response is the less, the likelier it was.
    Unlikeliness(Unlikeliness),
}

/// A response that is unlike the others of its group gets a greater reward.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Novelty {
    /// Sentence encoder, by whose cosines responses are alike; `null` takes the cosines of counts
    /// of words and of pairs of words.
    #[serde(default)]
    pub encoder: Option<ModelFolder>,
    /// How it changes rewards.
    #[serde(default)]
    pub combine: Combine,
    /// Reward that a response gets which has nothing in common with the others; of `add` alone.
    #[serde(default)]
    pub weight: Option<f64>,
}

/// A reward is multiplied by the share of the group's other responses of another class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Darling {
    /// When two responses are of one class.
    pub classes: Classes,
    /// Responses that classes are of; others have the factor 0.1. `null` means all.
    pub good: Option<Good>,
}

/// Good responses get rewards that make them equally likely at the optimum.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mara {
    /// Responses that are good.
    pub good: Good,
    /// Coefficient of the KL that the optimum is of; `null` is `kl.coef`.
    #[serde(default)]
    pub beta: Option<f64>,
}

/// Advantages of good responses are shared out anew, more to the unlikely.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ucpo {
    /// Responses that are good.
    pub good: Good,
    /// Share of the mass that is shared out by the inverse of probabilities, from 0 to 1.
    #[serde(default = "fifth")]
    pub tau: f64,
}

/// Advantages of the expected maximum of some responses, instead of the mean reward.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxAtK {
    /// Responses whose greatest reward is optimised.
    pub k: usize,
}

/// The reward of a good response is the less, the likelier it was.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlikeliness {
    /// Responses that are good.
    pub good: Good,
    /// Share of its reward that the likeliest response of a group loses.
    #[serde(default = "quarter")]
    pub beta: f64,
}

fn fifth() -> f64 {
    0.2
}

fn quarter() -> f64 {
    0.25
}

impl GroupDiversity {
    /// Notes values out of range, for groups of `samples` responses and a coefficient `coef` of the
    /// KL.
    pub(super) fn check(&self, checks: &mut Checks, samples: usize, coef: f64) {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        checks.require(
            samples >= 2,
            "samples_per_prompt",
            "expected at least 2: `diversity` compares the responses to one prompt",
        );
        let mut good = |good: Good, method: &str| {
            checks.require(
                good.is_in_range(),
                &format!("diversity.{method}.good"),
                "expected a finite reward, or a share of at least 0 and below 1",
            );
        };
        match self {
            GroupDiversity::Novelty(Novelty { combine, weight, .. }) => {
                checks
                    .require(
                        weight.is_none_or(|weight| weight.is_finite() && weight > 0.0),
                        "diversity.novelty.weight",
                        "expected above 0",
                    )
                    .require(
                        *combine == Combine::Add || weight.is_none(),
                        "diversity.novelty.weight",
                        "`multiply` has no weight: remove it, or expected `combine: add`",
                    );
            }
            GroupDiversity::Darling(Darling { classes, good: of }) => {
                if let Some(of) = of {
                    good(*of, "darling");
                }
                classes.out_of_range(checks, "diversity.darling.classes");
            }
            GroupDiversity::Mara(Mara { good: of, beta }) => {
                good(*of, "mara");
                let beta = beta.unwrap_or(coef);
                checks.require(
                    beta.is_finite() && beta > 0.0,
                    "diversity.mara.beta",
                    "expected above 0; without it, `kl.coef` above 0",
                );
            }
            GroupDiversity::Ucpo(Ucpo { good: of, tau }) => {
                good(*of, "ucpo");
                checks.require(share(*tau), "diversity.ucpo.tau", "expected from 0 to 1");
            }
            GroupDiversity::MaxAtK(MaxAtK { k }) => {
                checks.require(
                    (2..=samples.max(2)).contains(k),
                    "diversity.max_at_k.k",
                    "expected from 2 to `samples_per_prompt`",
                );
            }
            GroupDiversity::Unlikeliness(Unlikeliness { good: of, beta }) => {
                good(*of, "unlikeliness");
                checks.require(share(*beta), "diversity.unlikeliness.beta", "expected from 0 to 1");
            }
        }
    }

    /// Whether it makes or changes advantages, and leaves rewards alone.
    pub(super) fn is_of_advantages(&self) -> bool {
        matches!(self, GroupDiversity::Ucpo(_) | GroupDiversity::MaxAtK(_))
    }

    /// Its arithmetic, where `coef` is the coefficient of the KL.
    pub(super) fn rules(&self, coef: f64) -> Diversity {
        match self {
            GroupDiversity::Novelty(Novelty { combine, weight, .. }) => {
                Diversity::Novelty(*combine, weight.unwrap_or(1.0))
            }
            GroupDiversity::Darling(Darling { good, .. }) => Diversity::Darling(*good),
            GroupDiversity::Mara(Mara { good, beta }) => {
                Diversity::Mara(*good, beta.unwrap_or(coef))
            }
            GroupDiversity::Ucpo(Ucpo { good, tau }) => Diversity::Ucpo(*good, *tau),
            GroupDiversity::MaxAtK(MaxAtK { k }) => Diversity::MaxAtK(*k),
            GroupDiversity::Unlikeliness(Unlikeliness { good, beta }) => {
                Diversity::Unlikeliness(*good, *beta)
            }
        }
    }

    /// The size of the model that it reads responses with. An inner `None` where it has none; the
    /// outer one where the model is not known yet.
    pub(super) fn model(&self, shapes: &ArtefactShapes) -> Option<Option<(Spec, HeadKind)>> {
        match self {
            GroupDiversity::Novelty(Novelty { encoder: Some(folder), .. }) => {
                let ModelShape { spec, head, .. } = shapes.folder(folder)?;
                Some(Some((spec, head)))
            }
            GroupDiversity::Darling(Darling { classes, .. }) => match classes.classifier() {
                Some(classifier) => shapes.model(classifier).map(Some),
                None => Some(None),
            },
            _ => Some(None),
        }
    }
}

/// What says how the responses to a prompt are alike.
pub(super) enum Kinship<B: Backend> {
    /// Nothing has to be said.
    None,
    /// Cosines of counts of words and of pairs of words.
    Ngrams,
    /// Cosines of a sentence encoder.
    Encoder(Box<Subject<B>>),
    /// Classes.
    Classes(Equivalence<B>),
}

impl<B: Backend> Kinship<B> {
    /// # Errors
    /// The user's, if a model cannot be read, or is not what it should be.
    pub(super) fn load(
        context: &Context,
        b: &B,
        diversity: Option<&GroupDiversity>,
    ) -> Result<Self> {
        Ok(match diversity {
            Some(GroupDiversity::Novelty(Novelty { encoder: Some(folder), .. })) => {
                let reader = Reader::open(folder.path())?;
                reader.remark().into_iter().for_each(|remark| context.warn(remark));
                let encoder = Subject::load(b.clone(), Precision::Single, reader)?;
                Kinship::Encoder(Box::new(encoder))
            }
            Some(GroupDiversity::Novelty(_)) => Kinship::Ngrams,
            Some(GroupDiversity::Darling(Darling { classes, .. })) => {
                Kinship::Classes(Equivalence::load(context, b, classes)?)
            }
            _ => Kinship::None,
        })
    }

    /// Of the responses of a step, `samples` to each prompt. `prompts` has one entry a response.
    ///
    /// # Errors
    /// Those of a model; tokens that are no text.
    pub(super) fn of(
        &self,
        prompts: &[&Prompt],
        responses: &[Rollout],
        samples: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Vec<Kin>> {
        match self {
            Kinship::None => Ok(Vec::new()),
            _ => self.of_texts(&texts(prompts, responses, samples, tokenizer)?),
        }
    }

    /// Of the responses of each group, as text.
    fn of_texts(&self, groups: &[(&Prompt, Vec<String>)]) -> Result<Vec<Kin>> {
        let texts = || groups.iter().map(|(_, texts)| texts);
        Ok(match self {
            Kinship::None => Vec::new(),
            Kinship::Ngrams => {
                let of_group = |texts: &Vec<String>| {
                    let texts: Vec<Vec<String>> = texts.iter().map(|text| words(text)).collect();
                    Kin::Similarities(ngram_similarities(&texts))
                };
                texts().map(of_group).collect()
            }
            Kinship::Encoder(encoder) => {
                let inputs: Vec<Vec<&str>> =
                    texts().map(|texts| texts.iter().map(|text| text.trim()).collect()).collect();
                cosines(encoder, &inputs)?.into_iter().map(Kin::Similarities).collect()
            }
            Kinship::Classes(equivalence) => {
                if let Equivalence::Gold = equivalence {
                    groups.iter().try_for_each(|(prompt, _)| check_of_world(prompt))?;
                }
                let rows: Vec<(&Example, Vec<&str>)> = groups
                    .iter()
                    .map(|(prompt, texts)| {
                        (&prompt.example, texts.iter().map(String::as_str).collect())
                    })
                    .collect();
                equivalence.classes(&rows)?.into_iter().map(Kin::Classes).collect()
            }
        })
    }
}

/// The prompts of a step, each with its `samples` responses as text. `prompts` has one entry a
/// response.
///
/// # Errors
/// Tokens that are no text.
pub(super) fn texts<'a>(
    prompts: &[&'a Prompt],
    responses: &[Rollout],
    samples: usize,
    tokenizer: &Tokenizer,
) -> Result<Vec<(&'a Prompt, Vec<String>)>> {
    let answers = rollouts::answers(prompts, responses);
    let of_group = |(group, prompts): (&[Answer<'_>], &[&'a Prompt])| {
        let texts = group.iter().map(|answer| answer.text(tokenizer)).collect::<Result<_>>();
        Ok((prompts[0], texts?))
    };
    answers.chunks(samples).zip(prompts.chunks(samples)).map(of_group).collect()
}

/// Refuses a row whose answers no synthetic world reads.
fn check_of_world(prompt: &Prompt) -> Result<()> {
    let Prompt { example, split, .. } = prompt;
    match world::gold(example, "", true) {
        Some(_) => Ok(()),
        None => {
            let message = format!(
                "`diversity.darling.classes: gold` reads answers of a synthetic world, but row \
                 `{}` of split `{split}` is of none",
                example.id
            );
            Err(user(message).hint("set `classes: rouge1` or `same_answer`").into())
        }
    }
}
