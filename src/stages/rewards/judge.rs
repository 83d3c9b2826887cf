//! Scores of reward models: of token ids where a model has the policy's tokenizer, of text where it
//! has another.
//!
//! A model with another tokenizer reads what the response says: the text without special tokens,
//! encoded by its own tokenizer after the prompt's text. A prompt that a chat template wrote has
//! the policy's special tokens in it, so such a row is refused.

use std::path::Path;

use super::Answer;
use crate::backend::Backend;
use crate::data::tokenised::TooLong;
use crate::error::{Result, user};
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::rl::preference::Normalisation;
use crate::sample::scoring::{self, Group};
use crate::stages::generation::Prompt;
use crate::stages::model_files::{self, Loaded, check_finite, have_one_tokenizer, normalisation};
use crate::train::reward::reward_sequence;

/// A reward model that scores a policy's responses.
pub(super) struct Judge<B: Backend> {
    model: Loaded<B>,
    normalisation: Normalisation,
    /// Whether it reads the policy's tokens.
    has_one_tokenizer: bool,
}

impl<B: Backend> Judge<B> {
    /// The reward model in `folder`, which shares tensors with the policy, where they are the same.
    pub(super) fn load(
        b: &B,
        folder: &Path,
        policy: &Loaded<B>,
        policys_folder: &Path,
    ) -> Result<Self> {
        Ok(Judge {
            model: model_files::load_beside(b, folder, policy, policys_folder)?,
            normalisation: normalisation(folder)?,
            has_one_tokenizer: have_one_tokenizer(policys_folder, folder)?,
        })
    }

    /// Tokens of its context, where it reads the policy's tokens.
    pub(super) fn context(&self) -> Option<usize> {
        self.has_one_tokenizer.then_some(self.model.model.spec.context)
    }

    /// Whether it reads responses as text, which its tokenizer encodes.
    pub(super) fn reads_text(&self) -> bool {
        !self.has_one_tokenizer
    }

    /// The normalised score of each answer. `texts` are their responses as text.
    ///
    /// # Errors
    /// The user's: an answer that is too long for the model, a chat prompt for a model with another
    /// tokenizer, a score that is not finite.
    pub(super) fn scores(
        &self,
        b: &B,
        answers: &[Answer<'_>],
        texts: &[String],
    ) -> Result<Vec<f64>> {
        let read = match self.has_one_tokenizer {
            true => self.tokens(answers),
            false => self.encoded(answers, texts)?,
        };
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (at, (answer, (prompt, response))) in answers.iter().zip(&read).enumerate() {
            let is_same = at > 0
                && std::ptr::eq(answers[at - 1].prompt, answer.prompt)
                && read[at - 1].0 == *prompt;
            match groups.last_mut().filter(|_| is_same) {
                Some(group) => group.responses.push(response),
                None => groups.push(Group { prompt, responses: vec![response] }),
            }
        }
        let raw = scoring::last_scalars(b, &self.model.model, &groups, MICRO_BATCH_TOKENS);
        let scores: Vec<f64> =
            raw.concat().into_iter().map(|raw| self.normalisation.apply(f64::from(raw))).collect();
        let row = |at: usize| answers[at].called();
        check_finite(&scores, "the reward model's score", row)?;
        Ok(scores)
    }

    /// What a model with the policy's tokenizer reads: prompt and response.
    fn tokens(&self, answers: &[Answer<'_>]) -> Vec<(Vec<u32>, Vec<u32>)> {
        let eos = self.model.tokenizer.eos();
        let read = |answer: &Answer<'_>| {
            (answer.prompt.tokens.clone(), reward_sequence(&[], answer.tokens, eos))
        };
        answers.iter().map(read).collect()
    }

    /// The same of a model with another tokenizer.
    fn encoded(
        &self,
        answers: &[Answer<'_>],
        texts: &[String],
    ) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        let tokenizer = &self.model.tokenizer;
        let mut read = Vec::with_capacity(answers.len());
        for (answer, text) in answers.iter().zip(texts) {
            let Prompt { example, split, .. } = answer.prompt;
            if example.chat {
                let message = format!(
                    "row `{}` of split `{split}`: a chat template wrote the prompt for the \
                     policy's tokenizer, and the reward model has another",
                    example.id
                );
                return Err(user(message)
                    .hint("take prompts without a chat template, or a reward model of this base")
                    .into());
            }
            let (prompt, response) = tokenizer.encode_row(&example.prompt, text, false)?;
            let response = reward_sequence(&[], &response, tokenizer.eos());
            let context = self.model.model.spec.context;
            let mut long = TooLong::new(context, split, "the reward model", None);
            let origin = example.origin.as_ref();
            long.pair(&example.id, origin, prompt.len(), response.len(), "response");
            long.check()?;
            read.push((prompt, response));
        }
        Ok(read)
    }
}
