//! Rows as token sequences with their response part, cut or refused where they are too long. Knows no model beyond its context length.
//!
//! Where a response begins is a number and where it ends is the end of the sequence: no token, and no pad token above all, is ever
//! looked for, so what a file says about padding changes no loss and no reward.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::rows::{Example, Preference};
use super::tokens::Tokenizer;
use crate::error::{Context, Result, user};

/// A token sequence: a prompt followed by a response that ends with the end-of-text token. In a conversation, the turns of others stand
/// in the response, and are not learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenised {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt; the rest is the response.
    pub prompt: usize,
    /// What of the response is not the model's own: ranges of positions, in order, none empty, none meeting another.
    pub others: Vec<Range<usize>>,
}

impl Tokenised {
    /// For each position whether its token belongs to the response, which is what a loss on completions counts.
    pub fn response_mask(&self) -> Vec<bool> {
        (0..self.tokens.len()).map(|at| at >= self.prompt && self.is_own(at)).collect()
    }

    /// Whether a position of the response is the model's own.
    pub fn is_own(&self, at: usize) -> bool {
        !self.others.iter().any(|range| range.contains(&at))
    }

    /// The tokens of the response, the end-of-text token included.
    pub fn response(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }
}

/// How long a sequence may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in all: the model's context.
    pub context: usize,
    /// Tokens of a prompt; more are cut off its beginning. `None`: a prompt is never cut.
    pub prompt: Option<usize>,
}

impl Limits {
    /// A prompt cut from the left to its limit. The tokenizer's own first token goes with the rest: what is cut is no beginning.
    pub fn cut(&self, mut prompt: Vec<u32>) -> Vec<u32> {
        if let Some(limit) = self.prompt {
            prompt.drain(..prompt.len().saturating_sub(limit));
        }
        prompt
    }

    /// Refuses a sequence beyond the context; `row` counts from 0, `file` is what the row is from.
    fn check(&self, prompt: usize, response: usize, what: &str, file: &Path, row: usize) -> Result<()> {
        if prompt + response <= self.context {
            return Ok(());
        }
        let place = format!("{}, row {}", file.display(), row + 1);
        let hint = match self.context.checked_sub(response) {
            Some(room) if room > 0 => format!("limit prompts to {room} tokens or fewer, or leave the row out"),
            _ => "leave the row out, or take a model with a longer context".to_string(),
        };
        Err(user(format!("{place}: {prompt} tokens of prompt and {response} of {what} do not fit a context of {}", self.context))
            .hint(hint)
            .into())
    }
}

/// The sequences of the rows of `file`, in order.
///
/// # Errors
/// The user's, with file and row: a sequence that does not fit.
pub fn tokenise(rows: &[Example], tokenizer: &Tokenizer, limits: Limits, file: &Path) -> Result<Vec<Tokenised>> {
    let one =
        |(row, example): (usize, &Example)| sequence(&example.prompt, &example.completion, "completion", tokenizer, limits, file, row);
    in_order(rows.par_iter().enumerate().map(one))
}

/// The chosen and the rejected sequence of the rows of `file`, in order.
///
/// # Errors
/// The user's, with file and row: a sequence that does not fit.
pub fn tokenise_preferences(
    rows: &[Preference],
    tokenizer: &Tokenizer,
    limits: Limits,
    file: &Path,
) -> Result<Vec<(Tokenised, Tokenised)>> {
    let one = |(row, pair): (usize, &Preference)| {
        let side = |text: &str, what| sequence(&pair.prompt, text, what, tokenizer, limits, file, row);
        Ok((side(&pair.chosen, "chosen")?, side(&pair.rejected, "rejected")?))
    };
    in_order(rows.par_iter().enumerate().map(one))
}

/// The prompts of the rows of `file`, in order, as a model is given them, with room for `response` more tokens.
///
/// # Errors
/// The user's, with file and row: a prompt that leaves no such room.
pub fn tokenise_prompts(rows: &[Example], tokenizer: &Tokenizer, limits: Limits, response: usize, file: &Path) -> Result<Vec<Vec<u32>>> {
    let one = |(row, example): (usize, &Example)| {
        let place = || format!("{}, row {}", file.display(), row + 1);
        let prompt = limits.cut(tokenizer.encode_prompt(&example.prompt).with_context(place)?);
        limits.check(prompt.len(), response, "response", file, row)?;
        Ok(prompt)
    };
    in_order(rows.par_iter().enumerate().map(one))
}

fn sequence(
    prompt: &str,
    completion: &str,
    what: &str,
    tokenizer: &Tokenizer,
    limits: Limits,
    file: &Path,
    row: usize,
) -> Result<Tokenised> {
    let place = || format!("{}, row {}", file.display(), row + 1);
    let (head, tail) = tokenizer.encode_example(prompt, completion).with_context(place)?;
    let head = limits.cut(head);
    limits.check(head.len(), tail.len(), what, file, row)?;
    Ok(Tokenised { prompt: head.len(), tokens: [head, tail].concat(), others: Vec::new() })
}

/// All results, or the error of the first row that has one, whichever thread met its own first.
pub(super) fn in_order<T: Send>(results: impl IndexedParallelIterator<Item = Result<T>>) -> Result<Vec<T>> {
    results.collect::<Vec<Result<T>>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(&["none"], super::super::tokens::SMALLEST).unwrap()
    }

    fn example(prompt: &str, completion: &str) -> Example {
        Example { id: String::new(), prompt: prompt.into(), completion: completion.into(), facts: None }
    }

    const FILE: &str = "sft.jsonl";

    #[test]
    fn the_response_is_the_completion_and_eos() {
        let tokenizer = tokenizer();
        let limits = Limits { context: 100, prompt: None };
        let rows = tokenise(&[example("ab:", " c"), example("", "ab")], &tokenizer, limits, Path::new(FILE)).unwrap();
        assert_eq!(tokenizer.decode(&rows[0].tokens).unwrap(), "ab: c<eos>");
        assert_eq!(rows[0].response_mask(), [false, false, false, true, true, true]);
        assert_eq!(rows[0].response().last(), Some(&tokenizer.eos()));
        assert_eq!(rows[1].prompt, 0);
        assert_eq!(rows[1].response_mask(), [true; 3]);
    }

    #[test]
    fn a_long_prompt_loses_its_beginning_and_nothing_else() {
        let tokenizer = tokenizer();
        let limits = Limits { context: 8, prompt: Some(5) };
        let rows = tokenise(&[example("0123456789", " c"), example("01", " c")], &tokenizer, limits, Path::new(FILE)).unwrap();
        assert_eq!(tokenizer.decode(&rows[0].tokens).unwrap(), "56789 c<eos>");
        assert_eq!(rows[0].prompt, 5);
        assert_eq!(tokenizer.decode(&rows[1].tokens).unwrap(), "01 c<eos>");
        let prompts = tokenise_prompts(&[example("0123456789", "")], &tokenizer, limits, 3, Path::new(FILE)).unwrap();
        assert_eq!(prompts[0], rows[0].tokens[..5]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_file_and_row() {
        let tokenizer = tokenizer();
        let rows: Vec<Example> = (0..50).map(|row| example("0123", if row >= 20 { " 1234567" } else { " 123" })).collect();
        let complaint = |limits| {
            let error = tokenise(&rows, &tokenizer, limits, Path::new(FILE)).unwrap_err();
            assert_eq!(kind_of(&error), Kind::User);
            error.to_string()
        };
        let message = complaint(Limits { context: 12, prompt: None });
        assert!(message.contains("sft.jsonl, row 21: 4 tokens of prompt and 9 of completion do not fit a context of 12"), "{message}");
        assert!(message.contains("limit prompts to 3 tokens"), "{message}");
        assert!(complaint(Limits { context: 8, prompt: Some(1) }).contains("leave the row out, or take a model"));
        assert!(tokenise(&rows, &tokenizer, Limits { context: 12, prompt: Some(3) }, Path::new(FILE)).is_ok());
        let error = tokenise_prompts(&rows, &tokenizer, Limits { context: 9, prompt: None }, 6, Path::new(FILE)).unwrap_err();
        assert!(error.to_string().contains("row 1: 4 tokens of prompt and 6 of response"));
    }

    #[test]
    fn both_sides_of_a_preference_follow_the_same_prompt() {
        let tokenizer = tokenizer();
        let pair = Preference {
            id: String::new(),
            prompt: "0123".into(),
            chosen: " a".into(),
            rejected: " bc".into(),
            margin: None,
            clean: None,
            source: None,
        };
        let limits = Limits { context: 8, prompt: Some(3) };
        let rows = tokenise_preferences(&[pair], &tokenizer, limits, Path::new(FILE)).unwrap();
        assert_eq!(tokenizer.decode(&rows[0].0.tokens).unwrap(), "123 a<eos>");
        assert_eq!(tokenizer.decode(&rows[0].1.tokens).unwrap(), "123 bc<eos>");
    }

    #[test]
    fn a_file_that_pads_with_the_end_of_a_text_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        tokenizer().save(folder.path()).unwrap();
        let (rows, limits) = ([example("ab:", " c"), example("", "ab")], Limits { context: 8, prompt: Some(2) });
        let sequences = |tokenizer: &Tokenizer| {
            let rows = tokenise(&rows, tokenizer, limits, Path::new(FILE)).unwrap();
            rows.into_iter().map(|row| (row.response_mask(), row.tokens)).collect::<Vec<_>>()
        };
        let plain = Tokenizer::open(folder.path()).unwrap();
        let names = r#"{"eos_token": "<eos>", "pad_token": "<eos>"}"#;
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            std::fs::write(folder.path().join(name), names).unwrap();
        }
        std::fs::write(folder.path().join("config.json"), r#"{"eos_token_id": 1, "pad_token_id": 1}"#).unwrap();
        let padded = Tokenizer::open(folder.path()).unwrap();
        assert_eq!((padded.eos(), padded.pad()), (1, Some(0)));
        assert_eq!(sequences(&padded), sequences(&plain));
        for (mask, tokens) in sequences(&padded) {
            assert_eq!((tokens.last(), mask.last()), (Some(&padded.eos()), Some(&true)), "the end is learned");
        }
    }
}
