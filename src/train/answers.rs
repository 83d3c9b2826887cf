//! Answers to prompts as tokens: their log-probabilities under a model, the gradient of a function
//! of these, and prompts with answers to other prompts. Knows no loss.
//!
//! 1. The log-probability of an answer is the sum over its tokens, EOS included, added up in `f64`
//!    in the order of the tokens; at temperature 1, if nothing else is said.
//! 2. A mismatched row is a prompt with the answer of the nearest row before it, cyclically, that
//!    has another prompt and fits the context. It follows from the order of the rows of a split
//!    alone, whatever batch a row is in, so its reference log-probability is computed once.

use super::optimiser::TrainState;
use crate::backend::Backend;
use crate::data::rows::{Example, Origin, called};
use crate::data::tokenised::{Limits, TooLong};
use crate::error::{Result, user};
use crate::model::batch::{Batch, micro_batches, scored_tokens};
use crate::model::heads::{self, TargetTokens};
use crate::model::transformer;
use crate::model::weights::Model;
use crate::tokenizer::tokens::Tokenizer;

/// A prompt with an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt: usize,
}

impl Answered {
    /// Tokens of the answer that have a log-probability: all of them, but the first of a sequence
    /// without a prompt.
    pub fn length(&self) -> usize {
        self.tokens.len() - self.prompt.max(1)
    }

    fn split(&self) -> (&[u32], &[u32]) {
        self.tokens.split_at(self.prompt)
    }
}

/// A row whose answers are read.
#[derive(Clone, Copy, Debug)]
pub struct RowPrompt<'a> {
    /// Its name.
    pub id: &'a str,
    /// Where it was read.
    pub origin: Option<&'a Origin>,
    /// Its prompt.
    pub prompt: &'a str,
    /// Whether a chat template wrote the prompt.
    pub chat: bool,
}

/// Reads the answers of the rows of a split as tokens.
pub struct Reader<'a> {
    tokenizer: &'a Tokenizer,
    limits: Limits,
    split: &'a str,
    long: TooLong<'a>,
}

impl<'a> Reader<'a> {
    /// `reader` is what errors call the model.
    pub fn new(tokenizer: &'a Tokenizer, limits: Limits, reader: &'a str, split: &'a str) -> Self {
        let long = TooLong::new(limits.context, split, reader, limits.field);
        Reader { tokenizer, limits, split, long }
    }

    /// The answer `text` of the column `column`, which has a token with a log-probability.
    ///
    /// # Errors
    /// The user's: prompt and answer are both without a token.
    pub fn answer(&mut self, row: RowPrompt<'_>, column: &str, text: &str) -> Result<Answered> {
        let RowPrompt { id, origin, prompt, chat } = row;
        let (prompt, response) = self.tokenizer.encode_row(prompt, text, chat)?;
        let prompt = self.limits.cut(prompt);
        self.long.pair(id, origin, prompt.len(), response.len(), "response");
        let found = Answered { prompt: prompt.len(), tokens: [prompt, response].concat() };
        if found.length() == 0 {
            let (row, split) = (called(id, origin), self.split);
            let message = format!("{row} of split `{split}`: prompt and `{column}` are empty");
            return Err(user(message).hint("remove the row: no token has a probability").into());
        }
        Ok(found)
    }

    /// After the last row.
    ///
    /// # Errors
    /// The user's, with all rows that are too long.
    pub fn check(self) -> Result<()> {
        self.long.check()
    }
}

/// The completions of some rows.
///
/// # Errors
/// Those of [`Reader`].
pub fn completions(
    rows: &[Example],
    tokenizer: &Tokenizer,
    limits: Limits,
    reader: &str,
    split: &str,
) -> Result<Vec<Answered>> {
    let mut reader = Reader::new(tokenizer, limits, reader, split);
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let Example { id, prompt, completion, chat, origin, .. } = row;
        let of = RowPrompt { id, origin: origin.as_ref(), prompt, chat: *chat };
        found.push(reader.answer(of, "completion", completion)?);
    }
    reader.check()?;
    Ok(found)
}

/// The mismatched row of each of `answers`, of no more than `context` tokens.
///
/// # Errors
/// The index of the first that has none.
pub fn mismatched(
    answers: &[&Answered],
    context: usize,
) -> std::result::Result<Vec<Answered>, usize> {
    let of = |(at, own): (usize, &&Answered)| {
        let (prompt, _) = own.split();
        let before = answers[..at].iter().rev().chain(answers[at + 1..].iter().rev());
        let mut others = before.filter_map(|other| {
            let (others_prompt, answer) = other.split();
            let found = || Answered { tokens: [prompt, answer].concat(), prompt: prompt.len() };
            let fits = prompt.len() + answer.len() <= context && !answer.is_empty();
            (fits && prompt != others_prompt).then(found).filter(|found| found.length() > 0)
        });
        others.next().ok_or(at)
    };
    answers.iter().enumerate().map(of).collect()
}

/// The log-probabilities of answers under `model`, in nats.
pub fn logprobs<B: Backend>(b: &B, model: &Model<B>, answers: &[&Answered]) -> Vec<f64> {
    let mut found = Vec::with_capacity(answers.len());
    for run in micro_batches(answers.iter().map(|answer| answer.tokens.len())) {
        found.extend(Packed::new(&answers[run]).logprobs(b, model));
    }
    found
}

/// Some answers, packed for one pass.
pub(super) struct Packed<'a> {
    answers: &'a [&'a Answered],
    batch: Batch,
    rows: Vec<u32>,
    targets: Vec<u32>,
    temperature: f32,
}

impl<'a> Packed<'a> {
    pub(super) fn new(answers: &'a [&'a Answered]) -> Self {
        let sequences: Vec<&[u32]> =
            answers.iter().map(|answer| answer.tokens.as_slice()).collect();
        let from: Vec<usize> = answers.iter().map(|answer| answer.prompt).collect();
        let (rows, targets) = scored_tokens(&sequences, &from);
        Packed { answers, batch: Batch::new(&sequences), rows, targets, temperature: 1.0 }
    }

    /// With log-probabilities at another temperature.
    pub(super) fn at(self, temperature: f32) -> Self {
        Packed { temperature, ..self }
    }

    fn scored(&self) -> TargetTokens<'_> {
        let Packed { rows, targets, temperature, .. } = self;
        TargetTokens { rows, targets, temperature: *temperature }
    }

    /// Sums over the tokens of each answer.
    fn sums(&self, logprobs: &[f64]) -> Vec<f64> {
        let mut rest = logprobs;
        let sum = |answer: &&Answered| {
            let (own, after) = rest.split_at(answer.length());
            rest = after;
            own.iter().sum::<f64>()
        };
        self.answers.iter().map(sum).collect()
    }

    /// The log-probability of each answer.
    pub(super) fn logprobs<B: Backend>(&self, b: &B, model: &Model<B>) -> Vec<f64> {
        let hidden = transformer::hidden(b, model, &self.batch);
        let scores = heads::token_logprobs(b, model, &hidden, self.scored(), false);
        self.sums(&b.download_f64(&scores.logprobs))
    }

    /// Adds the gradient of a loss to the gradients of `state`. `derivatives` is given the
    /// log-probability of each answer, and returns the derivative of the loss by each.
    pub(super) fn accumulate<B: Backend>(
        &self,
        b: &B,
        state: &mut TrainState<B>,
        derivatives: impl FnOnce(&[f64]) -> Vec<f64>,
    ) {
        let activations = state.forward(b, &self.batch);
        let TrainState { model, .. } = state;
        let scores = heads::token_logprobs(b, model, &activations.hidden, self.scored(), true);
        let by_answer = derivatives(&self.sums(&b.download_f64(&scores.logprobs)));
        let by_token: Vec<f64> = (self.answers.iter().zip(by_answer))
            .flat_map(|(answer, derivative)| std::iter::repeat_n(derivative, answer.length()))
            .collect();
        let mut dhidden = state.hidden_gradient(b, &self.batch);
        let TrainState { model, gradients, .. } = state;
        heads::token_logprobs_backward(
            b,
            model,
            &mut dhidden,
            gradients,
            &activations.hidden,
            self.scored(),
            scores,
            &b.upload_wide_f64(&by_token),
        );
        state.backward(b, &self.batch, &activations, &dhidden);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(prompt: &[u32], answer: &[u32]) -> Answered {
        Answered { tokens: [prompt, answer].concat(), prompt: prompt.len() }
    }

    fn all(rows: &[Answered], context: usize) -> std::result::Result<Vec<Answered>, usize> {
        mismatched(&rows.iter().collect::<Vec<_>>(), context)
    }

    /// Rows of one prompt follow one another, the first row goes round to the last, and an answer
    /// that does not fit is passed over.
    #[test]
    fn a_mismatched_row_has_the_answer_of_the_nearest_row_before_with_another_prompt() {
        let rows = [
            answered(&[2, 3], &[10, 1]),
            answered(&[2, 3], &[11, 1]),
            answered(&[4], &[12, 12, 12, 1]),
            answered(&[5, 6], &[13, 1]),
        ];
        let found = all(&rows, 5).unwrap();
        let expected = [
            answered(&[2, 3], &[13, 1]),
            answered(&[2, 3], &[13, 1]),
            answered(&[4], &[11, 1]),
            answered(&[5, 6], &[11, 1]),
        ];
        assert_eq!(found, expected);
        assert_eq!(all(&rows, 6).unwrap()[3], answered(&[5, 6], &[12, 12, 12, 1]));
    }

    #[test]
    fn a_row_without_a_mismatched_one_is_named() {
        assert_eq!(all(&[answered(&[2], &[3, 1]), answered(&[2], &[4, 1])], 9), Err(0));
        let long = [answered(&[2, 3], &[4, 1]), answered(&[5], &[6, 6, 1])];
        assert_eq!(all(&long, 4), Err(0));
        assert_eq!(all(&long, 5).unwrap().len(), 2);
    }
}
