//! Texts of methods, and what each of them scores. Knows no interval.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::{EvaluateStage, GOLD, Judge, Method, REWARD};
use crate::artefacts::table::{Row, Table};
use crate::artefacts::temperatures::Temperatures;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::test_split;
use crate::data::rows::{Example, Origin, Preference};
use crate::data::samples::{self, Sampled};
use crate::error::{Result, user};
use crate::eval::compare::{Measured, of_values};
use crate::eval::text;
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::score;
use crate::reference::{Ref, RewardModel, Samples};
use crate::rl::preference::Normalisation;
use crate::sample::scoring::{self, Group, TokenScore};
use crate::stages::equivalence::Equivalence;
use crate::stages::model_files::{self, Loaded, Read, normalisation};
use crate::world::{self, Grade};

/// The temperature of all rows, where they have one and the same.
pub(super) fn temperature(rows: &[&Sampled]) -> Option<f64> {
    let first = rows.first()?.temperature?;
    rows.iter().all(|row| row.temperature == Some(first)).then_some(first)
}

/// A method's texts, by split and row.
pub(super) struct Answers {
    pub(super) name: String,
    pub(super) outputs: Option<Rows>,
    pub(super) samples: Option<Rows>,
}

/// Rows by split and id.
type Rows = BTreeMap<(String, String), Sampled>;

impl Answers {
    pub(super) fn read(method: &Method) -> Result<Self> {
        Ok(Answers {
            name: method.name.clone(),
            outputs: method.outputs.as_ref().map(keyed).transpose()?,
            samples: method.samples.as_ref().map(keyed).transpose()?,
        })
    }

    /// Samples that are no method's; `name` is what errors call them.
    pub(super) fn of_samples(name: &str, samples: &Ref<Samples>) -> Result<Self> {
        Ok(Answers { name: name.into(), outputs: None, samples: Some(keyed(samples)?) })
    }
}

/// The rows of a samples artefact.
fn keyed(samples: &Ref<Samples>) -> Result<Rows> {
    let rows = samples::read(samples.path())?.into_iter();
    Ok(rows.map(|row| ((row.split.clone(), row.id.clone()), row)).collect())
}

impl Answers {
    /// The temperatures of its outputs and of its samples.
    pub(super) fn temperatures(&self) -> Temperatures {
        let of = |rows: &Option<Rows>| {
            temperature(&rows.iter().flat_map(Rows::values).collect::<Vec<&Sampled>>())
        };
        Temperatures {
            method: self.name.clone(),
            outputs: of(&self.outputs),
            samples: of(&self.samples),
            no_outputs: self.outputs.is_none(),
            no_samples: self.samples.is_none(),
        }
    }

    /// The row of an example, which must have been asked the same prompt.
    pub(super) fn row<'a>(
        &self,
        rows: &'a Rows,
        split: &str,
        example: &Example,
    ) -> Result<&'a Sampled> {
        let row = rows
            .get(&(split.to_string(), example.id.clone()))
            .filter(|row| row.prompt == example.prompt);
        let missing = || {
            user(format!(
                "the outputs of method `{}` have no row `{}` of split `{split}`",
                self.name, example.id
            ))
        };
        Ok(row.ok_or_else(|| {
            missing().hint("generate them from the same dataset, without a `limit`")
        })?)
    }

    /// The samples of a row, where there are any.
    pub(super) fn sampled(&self, split: &str, id: &str) -> Option<&Sampled> {
        self.samples.as_ref()?.get(&(split.to_owned(), id.to_owned()))
    }

    /// The samples of the examples of a test set that have any, in the order of the examples.
    pub(super) fn samples_of(&self, test_set: &str, examples: &[Example]) -> Vec<&Sampled> {
        let split = test_split(test_set);
        let own = examples.iter().filter_map(|example| self.sampled(&split, &example.id));
        own.filter(|row| !row.outputs.is_empty()).collect()
    }

    /// Whether its outputs or samples were chosen from candidates.
    pub(super) fn is_best_of_n(&self) -> bool {
        let rows = [&self.outputs, &self.samples].into_iter().flatten().flat_map(Rows::values);
        rows.map(|row| row.best_of).any(|best_of| best_of.is_some())
    }

    /// Refuses samples that have a row of none of the test sets.
    pub(super) fn check_samples(&self, examples: &BTreeMap<String, Vec<Example>>) -> Result<()> {
        let has = |(test_set, rows): (&String, &Vec<Example>)| {
            let split = test_split(test_set);
            rows.iter().any(|row| self.sampled(&split, &row.id).is_some())
        };
        if self.samples.is_none() || examples.iter().any(has) {
            return Ok(());
        }
        let sets: Vec<String> = examples.keys().map(|name| format!("`{name}`")).collect();
        let message = format!(
            "the samples of method `{}` have no row of the test sets {}",
            self.name,
            sets.join(", ")
        );
        Err(user(message).hint("generate them from the same dataset").into())
    }
}

/// What texts are measured with.
pub(super) struct Judges<'a, B: Backend> {
    pub(super) b: &'a B,
    pub(super) reward: Option<Rewarder<B>>,
    pub(super) policy: Option<Loaded<B>>,
    /// What makes two samples equivalent, where quality is measured.
    pub(super) equivalence: Option<Equivalence<B>>,
    pub(super) max_prompt: usize,
    /// Scores of the reward model so far, by what was scored: several measures ask for the same.
    known: RefCell<BTreeMap<Scored, f64>>,
}

/// What a reward model scores: whether a chat template wrote the prompt, prompt and text.
type Scored = (bool, String, String);

/// A reward model.
pub(super) struct Rewarder<B: Backend> {
    pub(super) model: Loaded<B>,
    pub(super) normalisation: Normalisation,
}

/// A text to be judged.
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) ended: bool,
}

/// A row whose texts are scored.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) id: &'a str,
    pub(super) origin: Option<&'a Origin>,
    pub(super) prompt: &'a str,
    /// A chat template wrote the prompt.
    pub(super) chat: bool,
}

impl<'a> From<&'a Example> for Asked<'a> {
    fn from(row: &'a Example) -> Self {
        let Example { id, origin, prompt, chat, .. } = row;
        Asked { id, origin: origin.as_ref(), prompt, chat: *chat }
    }
}

impl<'a> From<&'a Preference> for Asked<'a> {
    fn from(row: &'a Preference) -> Self {
        let Preference { id, origin, prompt, chat, .. } = row;
        Asked { id, origin: origin.as_ref(), prompt, chat: *chat }
    }
}

impl<B: Backend> Rewarder<B> {
    /// The normalised score of one text for each row of a split.
    pub(super) fn scores(
        &self,
        b: &B,
        max_prompt: usize,
        split: &str,
        (rows, texts): (&[Asked<'_>], &[&str]),
    ) -> Result<Vec<f64>> {
        let encode = |(row, text): (&Asked<'_>, &&str)| -> Result<(usize, Vec<u32>)> {
            let (mut prompt, response) =
                self.model.tokenizer.encode_row(row.prompt, text, row.chat)?;
            prompt.drain(..prompt.len().saturating_sub(max_prompt));
            Ok((prompt.len(), [prompt, response].concat()))
        };
        let sequences: Vec<(usize, Vec<u32>)> =
            rows.iter().zip(texts).map(encode).collect::<Result<_>>()?;
        let read: Vec<Read<'_>> = rows
            .iter()
            .zip(&sequences)
            .map(|(row, (prompt, tokens))| Read {
                id: row.id,
                origin: row.origin,
                prompt: *prompt,
                tokens,
            })
            .collect();
        self.model.check("the reward model", split, &read)?;
        let sequences: Vec<&[u32]> = read.iter().map(|read| read.tokens).collect();
        let raw = score::last_scalars(b, &self.model.model, &sequences);
        let scores: Vec<f64> =
            raw.into_iter().map(|raw| self.normalisation.apply(f64::from(raw))).collect();
        let row = |at: usize| format!("text {} (after the prompt `{}`)", at + 1, rows[at].prompt);
        model_files::check_finite(&scores, "the reward model's score", row)?;
        Ok(scores)
    }
}

impl<'a, B: Backend> Judges<'a, B> {
    /// The models that texts are measured with.
    pub(super) fn load(context: &Context, b: &'a B, config: &EvaluateStage) -> Result<Self> {
        let folder = config.reference_policy.as_ref().map(Ref::path);
        let policy = folder.map(|folder| model_files::load(b, folder)).transpose()?;
        let load = |own: &Ref<RewardModel>| -> Result<Rewarder<B>> {
            let model = match policy.as_ref().zip(folder) {
                Some((policy, folder)) => model_files::load_beside(b, own.path(), policy, folder)?,
                None => model_files::load(b, own.path())?,
            };
            Ok(Rewarder { model, normalisation: normalisation(own.path())? })
        };
        let reward = config.reward_model.as_ref().map(load).transpose()?;
        let classes = config.quality.as_ref().map(|quality| &quality.classes);
        let equivalence = classes.map(|own| Equivalence::load(context, b, own)).transpose()?;
        let max_prompt = config.max_prompt_tokens.unwrap_or(usize::MAX);
        Ok(Judges { b, reward, policy, equivalence, max_prompt, known: RefCell::default() })
    }

    /// The reward model's normalised score of one text for each row of a split, if there is one.
    pub(super) fn rewards(
        &self,
        split: &str,
        rows: &[Asked<'_>],
        texts: &[&str],
    ) -> Result<Option<Vec<f64>>> {
        let Some(reward) = &self.reward else { return Ok(None) };
        let mut known = self.known.borrow_mut();
        let keys: Vec<Scored> = rows
            .iter()
            .zip(texts)
            .map(|(row, text)| (row.chat, row.prompt.to_owned(), (*text).to_owned()))
            .collect();
        let mut seen = BTreeSet::new();
        let new: Vec<usize> = (0..keys.len())
            .filter(|at| !known.contains_key(&keys[*at]) && seen.insert(&keys[*at]))
            .collect();
        let (own, own_texts): (Vec<Asked<'_>>, Vec<&str>) =
            new.iter().map(|&at| (rows[at], texts[at])).unzip();
        let scores = reward.scores(self.b, self.max_prompt, split, (&own, &own_texts))?;
        known.extend(new.iter().map(|&at| keys[at].clone()).zip(scores));
        Ok(Some(keys.iter().map(|key| known[key]).collect()))
    }

    /// log p - log p_reference of every sample, averaged over the samples of each row of a split:
    /// nats at `temperature`. The rows are some of the examples.
    pub(super) fn kl(
        &self,
        policy: &Loaded<B>,
        split: &str,
        (examples, rows): (&[Example], &[&Sampled]),
        temperature: f64,
    ) -> Result<Vec<f64>> {
        let reader = (policy, "the reference policy");
        let scores = self.token_scores(reader, split, (examples, rows), temperature)?;
        log_ratios(rows, &scores, "the KL")
    }

    /// What a model says of the tokens of every sample of each row of a split, at `temperature`.
    /// The rows are some of the examples; `name` is what errors call the model.
    pub(super) fn token_scores(
        &self,
        (model, name): (&Loaded<B>, &str),
        split: &str,
        (examples, rows): (&[Example], &[&Sampled]),
        temperature: f64,
    ) -> Result<Vec<Vec<Vec<TokenScore>>>> {
        let encode = |row: &&Sampled| -> Result<Vec<u32>> {
            let mut prompt = model.tokenizer.encode_row_prompt(&row.prompt, row.chat)?;
            prompt.drain(..prompt.len().saturating_sub(self.max_prompt));
            Ok(prompt)
        };
        let prompts: Vec<Vec<u32>> = rows.iter().map(encode).collect::<Result<_>>()?;
        let mut groups = Vec::with_capacity(rows.len());
        for (row, prompt) in rows.iter().zip(&prompts) {
            groups.push(Group {
                prompt,
                responses: row.outputs.iter().map(|output| output.tokens.as_slice()).collect(),
            });
        }
        let origins: BTreeMap<&str, &Origin> = examples
            .iter()
            .filter_map(|example| Some((example.id.as_str(), example.origin.as_ref()?)))
            .collect();
        let sequences: Vec<(&str, usize, Vec<u32>)> = rows
            .iter()
            .zip(&groups)
            .flat_map(|(row, group)| {
                let whole = |response| {
                    (row.id.as_str(), group.prompt.len(), [group.prompt, response].concat())
                };
                group.responses.iter().map(move |response| whole(*response))
            })
            .collect();
        let read: Vec<Read<'_>> = sequences
            .iter()
            .map(|(id, prompt, tokens)| Read {
                id,
                origin: origins.get(id).copied(),
                prompt: *prompt,
                tokens,
            })
            .collect();
        model.check(name, split, &read)?;
        let temperature = temperature as f32;
        let (b, pass) = (self.b, MICRO_BATCH_TOKENS);
        Ok(scoring::response_scores(b, &model.model, &groups, temperature, pass))
    }
}

/// Of each row the mean over its samples of the log-probability that a sample was drawn with minus
/// that of a model, `scores`, in nats summed over its tokens. `what` is what errors call it.
pub(super) fn log_ratios(
    rows: &[&Sampled],
    scores: &[Vec<Vec<TokenScore>>],
    what: &str,
) -> Result<Vec<f64>> {
    let sum =
        |tokens: &Vec<TokenScore>| tokens.iter().map(|token| f64::from(token.logprob)).sum::<f64>();
    let mean = |(row, scores): (&&Sampled, &Vec<Vec<TokenScore>>)| {
        let ratios =
            row.outputs.iter().zip(scores).map(|(output, tokens)| output.logprob - sum(tokens));
        ratios.sum::<f64>() / row.outputs.len() as f64
    };
    let means: Vec<f64> = rows.iter().zip(scores).map(mean).collect();
    model_files::check_finite(&means, what, |at| {
        format!("row `{}` of split `{}`", rows[at].id, rows[at].split)
    })?;
    Ok(means)
}

/// Figures of one text for each example.
pub(super) struct Scores {
    pub(super) gold: Option<Vec<f64>>,
    pub(super) parts: Vec<(String, Vec<f64>)>,
    pub(super) reward: Option<Vec<f64>>,
    pub(super) length: Vec<f64>,
    pub(super) rouge_l: Vec<f64>,
}

impl Scores {
    pub(super) fn of(
        judge: &Judges<'_, impl Backend>,
        split: &str,
        examples: &[Example],
        texts: &[Text<'_>],
    ) -> Result<Self> {
        let rows: Vec<Asked<'_>> = examples.iter().map(Asked::from).collect();
        let words = |text: &Text<'_>| text.text.split_whitespace().count() as f64;
        let golds: Option<Vec<Grade>> = examples
            .iter()
            .zip(texts)
            .map(|(example, text)| world::gold(example, text.text, text.ended))
            .collect();
        let mut parts: Vec<(String, Vec<f64>)> = Vec::new();
        for gold in golds.iter().flatten() {
            for (at, (name, value)) in gold.parts.iter().enumerate() {
                if parts.len() <= at {
                    parts.push((name.clone(), Vec::new()));
                }
                parts[at].1.push(*value);
            }
        }
        Ok(Scores {
            gold: golds.map(|golds| golds.iter().map(|gold| gold.score).collect()),
            parts,
            reward: judge.rewards(
                split,
                &rows,
                &texts.iter().map(|text| text.text).collect::<Vec<&str>>(),
            )?,
            length: texts.iter().map(words).collect(),
            rouge_l: examples
                .iter()
                .zip(texts)
                .map(|(example, text)| text::rouge_l(text.text, &example.completion))
                .collect(),
        })
    }

    /// What the judge says of each text.
    pub(super) fn judged(&self, judge: Judge) -> Result<&[f64]> {
        match (judge, &self.gold, &self.reward) {
            (Judge::RewardModel, _, Some(reward)) => Ok(reward),
            (Judge::RewardModel, _, None) => {
                Err(user("the evaluation has no `reward_model` to judge").into())
            }
            (Judge::Gold, Some(gold), _) => Ok(gold),
            (Judge::Gold, None, _) => Err(user("the gold judge knows only the synthetic world")
                .hint("set `judge: reward_model` for other data, or remove `judge`")
                .into()),
        }
    }

    /// What methods are compared by.
    pub(super) fn measured(
        &self,
        method: &str,
        test_set: &str,
        wins: Option<Vec<f64>>,
    ) -> Vec<Measured> {
        let one = |metric: &str, values: &[f64]| Measured {
            metric: metric.into(),
            test_set: test_set.into(),
            method: method.into(),
            values: values.to_vec(),
        };
        let gold = self.gold.iter().map(|gold| one(GOLD, gold));
        let reward = self.reward.iter().map(|reward| one(REWARD, reward));
        let wins = wins.iter().map(|wins| one("win_rate", wins));
        gold.chain(reward)
            .chain(wins)
            .chain([one("length", &self.length), one("rouge_l", &self.rouge_l)])
            .collect()
    }

    pub(super) fn rows(&self, table: &mut Table, method: &str, test_set: &str) {
        let mut push = |metric: &str, values: &[f64]| {
            table.rows.push(Row::new(method, test_set, metric, of_values(metric, values)))
        };
        if let Some(gold) = &self.gold {
            push(GOLD, gold);
        }
        if let Some(reward) = &self.reward {
            push(REWARD, reward);
        }
        push("length", &self.length);
        push("rouge_l", &self.rouge_l);
        for (part, values) in &self.parts {
            push(part, values);
        }
    }
}
