//! Texts of methods, and what each of them scores. Knows no interval.

use std::collections::BTreeMap;

use super::curves::temperature;
use super::{GOLD, Judge, Method, REWARD};
use crate::backend::Backend;
use crate::data::rows::Example;
use crate::data::samples::{self, Sampled};
use crate::data::world::{self, Grade};
use crate::error::{Result, user};
use crate::eval::compare::{Measured, of_values};
use crate::eval::text;
use crate::model::score::{self, MICRO_BATCH_TOKENS};
use crate::report::run::Temperatures;
use crate::report::table::{Row, Table};
use crate::rl::preference::Normalisation;
use crate::sample::scoring::{self, Group};
use crate::stages::artefacts::{self, Loaded};

/// A method's texts, by split and row.
pub(super) struct Answers {
    pub(super) name: String,
    pub(super) outputs: BTreeMap<(String, String), Sampled>,
    pub(super) samples: BTreeMap<(String, String), Sampled>,
}

impl Answers {
    pub(super) fn read(method: &Method) -> Result<Self> {
        let keyed = |folder: &std::path::Path| -> Result<BTreeMap<(String, String), Sampled>> {
            Ok(samples::read(folder)?
                .into_iter()
                .map(|row| ((row.split.clone(), row.id.clone()), row))
                .collect())
        };
        Ok(Answers {
            name: method.name.clone(),
            outputs: keyed(method.outputs.path())?,
            samples: keyed(method.samples.path())?,
        })
    }
}

impl Answers {
    /// The temperatures of its outputs and of its samples.
    pub(super) fn temperatures(&self) -> Temperatures {
        let of = |rows: &BTreeMap<(String, String), Sampled>| {
            temperature(&rows.values().collect::<Vec<&Sampled>>())
        };
        Temperatures {
            method: self.name.clone(),
            outputs: of(&self.outputs),
            samples: of(&self.samples),
        }
    }

    /// The row of an example, which must have been asked the same prompt.
    pub(super) fn row<'a>(
        &self,
        rows: &'a BTreeMap<(String, String), Sampled>,
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
}

/// What texts are measured with.
pub(super) struct Judges<'a, B: Backend> {
    pub(super) b: &'a B,
    pub(super) reward: Loaded<B>,
    pub(super) normalisation: Normalisation,
    pub(super) policy: Loaded<B>,
    pub(super) max_prompt: usize,
}

/// A text to be judged.
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) ended: bool,
}

impl<B: Backend> Judges<'_, B> {
    /// The reward model's normalised score of one text for each prompt, which comes with whether a
    /// chat template wrote it.
    pub(super) fn rewards(&self, prompts: &[(&str, bool)], texts: &[&str]) -> Result<Vec<f64>> {
        let sequences: Vec<Vec<u32>> = prompts
            .iter()
            .zip(texts)
            .map(|((prompt, chat), text)| {
                let (mut prompt, response) =
                    self.reward.tokenizer.encode_row(prompt, text, *chat)?;
                prompt.drain(..prompt.len().saturating_sub(self.max_prompt));
                Ok([prompt, response].concat())
            })
            .collect::<Result<_>>()?;
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        self.reward.check("the reward model", &sequences)?;
        let raw = score::last_scalars(self.b, &self.reward.model, &sequences);
        let scores: Vec<f64> =
            raw.into_iter().map(|raw| self.normalisation.apply(f64::from(raw))).collect();
        let row = |at: usize| format!("text {} (after the prompt `{}`)", at + 1, prompts[at].0);
        artefacts::check_finite(&scores, "the reward model's score", row)?;
        Ok(scores)
    }

    /// log p - log p_reference of every sample, averaged over the samples of each row: nats at
    /// `temperature`.
    pub(super) fn kl(&self, rows: &[&Sampled], temperature: f64) -> Result<Vec<f64>> {
        let encode = |row: &&Sampled| -> Result<Vec<u32>> {
            let mut prompt = self.policy.tokenizer.encode_row_prompt(&row.prompt, row.chat)?;
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
        for group in &groups {
            let sequences: Vec<Vec<u32>> =
                group.responses.iter().map(|response| [group.prompt, response].concat()).collect();
            self.policy.check(
                "the reference policy",
                &sequences.iter().map(Vec::as_slice).collect::<Vec<&[u32]>>(),
            )?;
        }
        let scored = scoring::response_logprobs(
            self.b,
            &self.policy.model,
            &groups,
            temperature as f32,
            MICRO_BATCH_TOKENS,
        )
        .concat();
        let mut sums = scored
            .iter()
            .map(|logprobs| logprobs.iter().map(|logprob| f64::from(*logprob)).sum::<f64>());
        let mean = |row: &&Sampled| {
            let log_ratios = row
                .outputs
                .iter()
                .map(|output| output.logprob - sums.next().expect("a sum for every sample"));
            log_ratios.sum::<f64>() / row.outputs.len() as f64
        };
        let kls: Vec<f64> = rows.iter().map(mean).collect();
        artefacts::check_finite(&kls, "the KL", |at| {
            format!("row `{}` of split `{}`", rows[at].id, rows[at].split)
        })?;
        Ok(kls)
    }
}

/// Figures of one text for each example.
pub(super) struct Scores {
    pub(super) gold: Option<Vec<f64>>,
    pub(super) parts: Vec<(String, Vec<f64>)>,
    pub(super) reward: Vec<f64>,
    pub(super) length: Vec<f64>,
    pub(super) rouge_l: Vec<f64>,
}

impl Scores {
    pub(super) fn of(
        judge: &Judges<'_, impl Backend>,
        examples: &[Example],
        texts: &[Text<'_>],
    ) -> Result<Self> {
        let prompts: Vec<(&str, bool)> =
            examples.iter().map(|example| (example.prompt.as_str(), example.chat)).collect();
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
            reward: judge
                .rewards(&prompts, &texts.iter().map(|text| text.text).collect::<Vec<&str>>())?,
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
        match (judge, &self.gold) {
            (Judge::RewardModel, _) => Ok(&self.reward),
            (Judge::Gold, Some(gold)) => Ok(gold),
            (Judge::Gold, None) => Err(user("the gold judge knows only the synthetic world")
                .hint("set `judge: reward_model` for other data")
                .into()),
        }
    }

    /// What methods are compared by.
    pub(super) fn measured(&self, method: &str, test_set: &str, wins: Vec<f64>) -> Vec<Measured> {
        let one = |metric: &str, values: &[f64]| Measured {
            metric: metric.into(),
            test_set: test_set.into(),
            method: method.into(),
            values: values.to_vec(),
        };
        let gold = self.gold.iter().map(|gold| one(GOLD, gold));
        gold.chain([
            one(REWARD, &self.reward),
            one("win_rate", &wins),
            one("length", &self.length),
            one("rouge_l", &self.rouge_l),
        ])
        .collect()
    }

    pub(super) fn rows(&self, table: &mut Table, method: &str, test_set: &str) {
        let mut push = |metric: &str, values: &[f64]| {
            table.rows.push(Row::new(method, test_set, metric, of_values(metric, values)))
        };
        if let Some(gold) = &self.gold {
            push(GOLD, gold);
        }
        push(REWARD, &self.reward);
        push("length", &self.length);
        push("rouge_l", &self.rouge_l);
        for (part, values) in &self.parts {
            push(part, values);
        }
    }
}
