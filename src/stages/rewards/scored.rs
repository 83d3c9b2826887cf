//! Responses with their rewards, and the figures of a step that come of them. Knows no source of
//! rewards.

use super::{REWARD_MODEL, Rewards};
use crate::error::{Result, user};
use crate::rl::Metrics;
use crate::rl::group::normalised_parts;
use crate::rl::rewards::deviation;
use crate::stages::generation::Prompt;
use crate::tokenizer::tokens::Tokenizer;

/// A response to a prompt.
#[derive(Clone, Copy)]
pub(in crate::stages) struct Answer<'a> {
    pub(in crate::stages) prompt: &'a Prompt,
    /// Tokens of the response, EOS included where it ended.
    pub(in crate::stages) tokens: &'a [u32],
    /// Whether the last token is EOS.
    pub(in crate::stages) ended: bool,
}

impl Answer<'_> {
    /// The response as text, without EOS.
    pub(in crate::stages) fn text(&self, tokenizer: &Tokenizer) -> Result<String> {
        let tokens = &self.tokens[..self.tokens.len() - usize::from(self.ended)];
        tokenizer.decode_after(&self.prompt.tokens, tokens)
    }

    /// Whether the policy's tokenizer encodes `text`, the response as text, to other tokens than
    /// those that were sampled, EOS and special tokens left out. A text that it cannot encode
    /// counts as well.
    pub(super) fn is_reencoded(&self, tokenizer: &Tokenizer, text: &str) -> bool {
        let tokens = &self.tokens[..self.tokens.len() - usize::from(self.ended)];
        let sampled = tokenizer.without_specials(tokens);
        let example = &self.prompt.example;
        // The last token of an encoded completion is EOS.
        let is_same = |(_, encoded): (Vec<u32>, Vec<u32>)| {
            encoded.starts_with(&sampled) && encoded.len() == sampled.len() + 1
        };
        !tokenizer.encode_row(&example.prompt, text, example.chat).is_ok_and(is_same)
    }

    /// What errors call it.
    pub(super) fn called(&self) -> String {
        let Prompt { example, split, .. } = self.prompt;
        format!("a response to row `{}` of split `{split}`", example.id)
    }
}

/// The rewards of some responses.
#[derive(Clone, Default)]
pub(in crate::stages) struct Scored {
    /// The sum over the parts that apply to a response; `None` where none does.
    pub(in crate::stages) total: Vec<Option<f64>>,
    /// Of each part its name and its reward of each response, without the weight.
    pub(in crate::stages) parts: Vec<(String, Vec<Option<f64>>)>,
    /// Of each part whose reward models read text its name, and for each response whether the
    /// policy's tokenizer encodes this text to other tokens than the sampled ones.
    pub(in crate::stages) reencoded: Vec<(String, Vec<bool>)>,
}

impl Scored {
    /// Adds the rewards of further responses, of the same parts.
    pub(in crate::stages) fn append(&mut self, others: Scored) {
        self.total.extend(others.total);
        if self.parts.is_empty() {
            self.parts = others.parts;
            self.reencoded = others.reencoded;
            return;
        }
        for ((_, flags), (_, others)) in self.reencoded.iter_mut().zip(others.reencoded) {
            flags.extend(others);
        }
        for ((_, rewards), (_, others)) in self.parts.iter_mut().zip(others.parts) {
            rewards.extend(others);
        }
    }

    /// Takes the rewards from response `at` on.
    pub(in crate::stages) fn split_off(&mut self, at: usize) -> Scored {
        let rest = |(name, rewards): &mut (String, Vec<Option<f64>>)| {
            (name.clone(), rewards.split_off(at))
        };
        let flags = |(name, flags): &mut (String, Vec<bool>)| (name.clone(), flags.split_off(at));
        Scored {
            total: self.total.split_off(at),
            parts: self.parts.iter_mut().map(rest).collect(),
            reencoded: self.reencoded.iter_mut().map(flags).collect(),
        }
    }

    /// Adds the part `rewards`, times `weight`, to the sums `total`; where it does not apply, to
    /// none.
    pub(super) fn add(total: &mut [Option<f64>], weight: f64, rewards: &[Option<f64>]) {
        for (total, reward) in total.iter_mut().zip(rewards) {
            if let Some(reward) = reward {
                let weighted = weight * reward;
                *total = Some(total.map_or(weighted, |sum| sum + weighted));
            }
        }
    }

    /// The same parts, whose sums are by the weights of `parts`.
    ///
    /// # Panics
    /// If a part has no entry in `parts`.
    pub(in crate::stages) fn weighed(self, parts: &Rewards) -> Scored {
        let mut total = vec![None; self.total.len()];
        for (name, rewards) in &self.parts {
            Scored::add(&mut total, parts[name].weight, rewards);
        }
        Scored { total, ..self }
    }

    /// [`normalised_parts`] of these rewards, whose weights are those of `parts`. `groups` has the
    /// place of each response's prompt.
    ///
    /// # Panics
    /// If a part has no entry in `parts`.
    pub(in crate::stages) fn normalised(
        &self,
        groups: &[usize],
        parts: &Rewards,
    ) -> Vec<Option<f64>> {
        let own = self.parts.iter();
        let own: Vec<(f64, &[Option<f64>])> =
            own.map(|(name, rewards)| (parts[name].weight, rewards.as_slice())).collect();
        normalised_parts(groups, &own)
    }

    /// The reward of each of `answers`, for stages that need one of every response.
    ///
    /// # Errors
    /// The user's, with the row: no part applies to a response.
    pub(in crate::stages) fn of_each(&self, answers: &[Answer<'_>]) -> Result<Vec<f64>> {
        let reward = |(reward, answer): (&Option<f64>, &Answer<'_>)| {
            reward.ok_or_else(|| {
                user(format!("no reward applies to {}", answer.called()))
                    .hint("give `rewards` a part that applies to every response")
                    .into()
            })
        };
        self.total.iter().zip(answers).map(reward).collect()
    }
}

/// The names of a stage's figures of its rewards, made once: figures have names that last.
pub(in crate::stages) struct Names {
    /// Of each part mean and standard deviation.
    parts: Vec<[&'static str; 2]>,
    /// Of each part with reward models its name and that of the share of re-encoded responses.
    reencoded: Vec<(String, &'static str)>,
}

impl Names {
    /// Those of a stage with these parts.
    pub(in crate::stages) fn new(parts: &Rewards) -> Self {
        let lasting = |name: String| -> &'static str { Box::leak(name.into_boxed_str()) };
        let names = |part: &String| {
            ["mean", "std"].map(|figure| lasting(format!("rewards/{part}/{figure}")))
        };
        let models = parts.iter().filter(|(_, part)| !part.by.models().is_empty());
        let alone = REWARD_MODEL.to_owned();
        let reencoded = models.map(|(name, _)| name.clone()).chain([alone]).map(|name| {
            let figure = lasting(format!("rewards/{name}/reencoded"));
            (name, figure)
        });
        Names { parts: parts.keys().map(names).collect(), reencoded: reencoded.collect() }
    }

    /// `rewards/NAME/mean` and `rewards/NAME/std` (unbiased) of each part, over the responses that
    /// it applies to; 0 where it applies to none. With them what [`Self::reencoded`] gives.
    pub(in crate::stages) fn metrics(&self, scored: &Scored) -> Metrics {
        let figures =
            |([mean, std], (_, rewards)): (&[&'static str; 2], &(_, Vec<Option<f64>>))| {
                let known: Vec<f64> = rewards.iter().flatten().copied().collect();
                let sum: f64 = known.iter().sum();
                [(*mean, crate::rl::ratio_or_zero(sum, known.len())), (*std, deviation(&known))]
            };
        let parts = self.parts.iter().zip(&scored.parts).flat_map(figures);
        parts.chain(self.reencoded(scored)).collect()
    }

    /// `rewards/NAME/reencoded` of each part whose reward models read text: the share of responses
    /// whose text the policy's tokenizer encodes to other tokens than the sampled ones.
    pub(in crate::stages) fn reencoded(&self, scored: &Scored) -> Metrics {
        let figure = |(name, flags): &(String, Vec<bool>)| {
            let (_, figure) = self.reencoded.iter().find(|(own, _)| own == name)?;
            let count = flags.iter().filter(|flag| **flag).count();
            Some((*figure, crate::rl::ratio_or_zero(count as f64, flags.len())))
        };
        scored.reencoded.iter().filter_map(figure).collect()
    }
}
