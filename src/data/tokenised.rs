//! Rows as token sequences with their response part, cut or refused where they are too long. Uses
//! no model beyond its context length.
//!
//! Where a response begins is a number and where it ends is the end of the sequence: no token, and
//! no pad token above all, is ever looked for, so what a file says about padding changes no loss
//! and no reward.

use std::ops::Range;

use rayon::prelude::*;

use super::rows::{Example, Origin, Preference, called};
use crate::error::{Context, Result, user};
use crate::tokenizer::tokens::Tokenizer;

/// A token sequence: a prompt followed by a response that ends with the end-of-text token. In a
/// conversation, the turns of others are in the response, and are not learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokenised {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// How many of them are the prompt; the rest is the response.
    pub prompt: usize,
    /// What of the response is not the model's own: ranges of positions, in order, none empty, none
    /// meeting another.
    pub others: Vec<Range<usize>>,
}

impl Tokenised {
    /// For each position whether its token belongs to the response, which is what a loss on
    /// completions counts.
    pub fn response_mask(&self) -> Vec<bool> {
        (0..self.tokens.len()).map(|at| at >= self.prompt && self.is_own(at)).collect()
    }

    /// Whether a position of the response is the model's own.
    pub fn is_own(&self, at: usize) -> bool {
        !self.others.iter().any(|range| range.contains(&at))
    }

    /// The positions whose tokens are learned. Nothing comes before the first token, so it never
    /// is.
    pub fn learned(&self) -> impl Iterator<Item = usize> {
        (self.prompt.max(1)..self.tokens.len()).filter(|at| self.is_own(*at))
    }

    /// The same row, of which all tokens are learned but the first.
    pub fn whole(self) -> Self {
        Tokenised { tokens: self.tokens, ..Tokenised::default() }
    }

    /// The tokens of the response, the end-of-text token included.
    pub fn response(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }
}

/// How long a sequence may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limits {
    /// Tokens in all: the model's context.
    pub context: usize,
    /// Tokens of a prompt; more are cut off its beginning. `None`: a prompt is never cut.
    pub prompt: Option<usize>,
    /// The field of the config that sets `prompt`, where there is one, for hints.
    pub field: Option<&'static str>,
}

impl Limits {
    /// Those of a stage with a field `max_prompt_tokens`.
    pub fn of_stage(context: usize, max_prompt_tokens: Option<usize>) -> Self {
        Limits { context, prompt: max_prompt_tokens, field: Some("max_prompt_tokens") }
    }

    /// A prompt cut from the left to its limit. The tokenizer's own first token goes with the rest:
    /// what is cut is no beginning.
    pub fn cut(&self, mut prompt: Vec<u32>) -> Vec<u32> {
        if let Some(limit) = self.prompt {
            prompt.drain(..prompt.len().saturating_sub(limit));
        }
        prompt
    }
}

/// Rows of a split that do not fit a context, all of which are named at once.
pub struct TooLong<'a> {
    context: usize,
    split: &'a str,
    reader: &'a str,
    count: usize,
    /// The id of the last of them: a row is one, whichever of its texts are too long.
    last: Option<String>,
    /// What is said of the first of them.
    named: Vec<String>,
    /// The field that cuts prompts, and the tokens that all responses leave for them.
    room: Option<(&'a str, usize)>,
}

/// Rows that an error names.
const NAMED: usize = 10;
/// What errors call a model that is the only one.
pub const MODEL: &str = "the model";

impl<'a> TooLong<'a> {
    /// None yet; `reader` is what errors call the model, `field` the one of the config that cuts
    /// prompts.
    pub fn new(context: usize, split: &'a str, reader: &'a str, field: Option<&'a str>) -> Self {
        TooLong {
            context,
            split,
            reader,
            count: 0,
            last: None,
            named: Vec::new(),
            room: field.map(|field| (field, context)),
        }
    }

    /// Notes a row, if its prompt with `response` more tokens exceeds the context.
    pub fn pair(
        &mut self,
        id: &str,
        origin: Option<&Origin>,
        prompt: usize,
        response: usize,
        what: &str,
    ) {
        if prompt + response > self.context {
            let least = |(field, room): (&'a str, usize)| {
                Some((field, room.min(self.context.checked_sub(response)?)))
            };
            self.room = self.room.and_then(least).filter(|(_, room)| *room > 0);
            self.note(id, origin, format!("{prompt} tokens of prompt and {response} of {what}"));
        }
    }

    /// Notes a row of which nothing can be cut, if it exceeds the context.
    pub fn whole(&mut self, id: &str, origin: Option<&Origin>, tokens: usize) {
        if tokens > self.context {
            self.room = None;
            self.note(id, origin, format!("{tokens} tokens"));
        }
    }

    fn note(&mut self, id: &str, origin: Option<&Origin>, what: String) {
        if self.last.as_deref() == Some(id) {
            return;
        }
        self.last = Some(id.to_owned());
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{}: {what}", called(id, origin)));
        }
    }

    /// The error of all of them, if there is one.
    ///
    /// # Errors
    /// The user's, with the rows and how many tokens each has.
    pub fn check(self) -> Result<()> {
        let TooLong { context, split, reader, count, named, room, .. } = self;
        let message = match named.as_slice() {
            [] => return Ok(()),
            [one] if count == 1 => {
                format!("split `{split}`, {one} do not fit {reader}'s context of {context}")
            }
            several => {
                let more = if count > several.len() {
                    format!("\n  and {} more", count - several.len())
                } else {
                    String::new()
                };
                format!(
                    "{count} rows of split `{split}` do not fit {reader}'s context of \
                     {context}:\n  {}{more}",
                    several.join("\n  ")
                )
            }
        };
        let hint = match room {
            Some((field, room)) => format!(
                "set `{field}: {room}` or less, which cuts the beginning of prompts, or leave the \
                 rows out"
            ),
            None => "leave the rows out, or take a model with a longer context".to_owned(),
        };
        Err(user(message).hint(hint).into())
    }
}

/// The sequences of the rows of a split, in order.
///
/// # Errors
/// The user's, with split and rows: sequences that do not fit.
pub fn tokenise(
    rows: &[Example],
    tokenizer: &Tokenizer,
    limits: Limits,
    split: &str,
) -> Result<Vec<Tokenised>> {
    let place =
        |row: &Example| format!("split `{split}`, {}", called(&row.id, row.origin.as_ref()));
    let one = |row: &Example| {
        sequence(&row.prompt, &row.completion, row.chat, tokenizer, limits)
            .with_context(|| place(row))
    };
    let sequences = in_order(rows.par_iter().map(one))?;
    let mut long = TooLong::new(limits.context, split, MODEL, limits.field);
    for (row, sequence) in rows.iter().zip(&sequences) {
        long.pair(
            &row.id,
            row.origin.as_ref(),
            sequence.prompt,
            sequence.response().len(),
            "completion",
        );
    }
    long.check()?;
    Ok(sequences)
}

/// The chosen and the rejected sequence of the rows of a split, in order.
///
/// # Errors
/// The user's, with split and rows: sequences that do not fit.
pub fn tokenise_preferences(
    rows: &[Preference],
    tokenizer: &Tokenizer,
    limits: Limits,
    split: &str,
) -> Result<Vec<(Tokenised, Tokenised)>> {
    let one = |row: &Preference| {
        let place = || format!("split `{split}`, {}", called(&row.id, row.origin.as_ref()));
        let side = |text: &str| {
            sequence(&row.prompt, text, row.chat, tokenizer, limits).with_context(place)
        };
        Ok((side(&row.chosen)?, side(&row.rejected)?))
    };
    let sequences = in_order(rows.par_iter().map(one))?;
    let mut long = TooLong::new(limits.context, split, MODEL, limits.field);
    for (row, (chosen, rejected)) in rows.iter().zip(&sequences) {
        let (side, what) = match chosen.tokens.len() >= rejected.tokens.len() {
            true => (chosen, "chosen"),
            false => (rejected, "rejected"),
        };
        long.pair(&row.id, row.origin.as_ref(), side.prompt, side.response().len(), what);
    }
    long.check()?;
    Ok(sequences)
}

/// The prompts of the rows of a split, in order, as a model is given them, with room for `response`
/// more tokens.
///
/// # Errors
/// The user's, with split and rows: prompts that leave no such room.
pub fn tokenise_prompts(
    rows: &[Example],
    tokenizer: &Tokenizer,
    limits: Limits,
    response: usize,
    split: &str,
) -> Result<Vec<Vec<u32>>> {
    let one = |row: &Example| {
        let place = || format!("split `{split}`, {}", called(&row.id, row.origin.as_ref()));
        Ok(limits.cut(tokenizer.encode_row_prompt(&row.prompt, row.chat).with_context(place)?))
    };
    let prompts = in_order(rows.par_iter().map(one))?;
    let mut long = TooLong::new(limits.context, split, MODEL, limits.field);
    for (row, prompt) in rows.iter().zip(&prompts) {
        long.pair(&row.id, row.origin.as_ref(), prompt.len(), response, "response");
    }
    long.check()?;
    Ok(prompts)
}

fn sequence(
    prompt: &str,
    completion: &str,
    chat: bool,
    tokenizer: &Tokenizer,
    limits: Limits,
) -> Result<Tokenised> {
    let (head, tail) = tokenizer.encode_row(prompt, completion, chat)?;
    let head = limits.cut(head);
    Ok(Tokenised { prompt: head.len(), tokens: [head, tail].concat(), others: Vec::new() })
}

/// All results, or the error of the first row that has one, whichever thread met its own first.
pub(super) fn in_order<T: Send>(
    results: impl IndexedParallelIterator<Item = Result<T>>,
) -> Result<Vec<T>> {
    results.collect::<Vec<Result<T>>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(&["none"], crate::tokenizer::training::SMALLEST).unwrap()
    }

    fn limits(context: usize, prompt: Option<usize>) -> Limits {
        Limits { context, prompt, field: Some("max_prompt_tokens") }
    }

    fn example(prompt: &str, completion: &str) -> Example {
        Example {
            id: String::new(),
            prompt: prompt.into(),
            completion: completion.into(),
            ..Example::default()
        }
    }

    const SPLIT: &str = "sft";

    #[test]
    fn the_response_is_the_completion_and_eos() {
        let tokenizer = tokenizer();
        let limits = limits(100, None);
        let rows = tokenise(&[example("ab:", " c"), example("", "ab")], &tokenizer, limits, SPLIT)
            .unwrap();
        assert_eq!(tokenizer.decode(&rows[0].tokens).unwrap(), "ab: c<eos>");
        assert_eq!(rows[0].response_mask(), [false, false, false, true, true, true]);
        assert_eq!(rows[0].response().last(), Some(&tokenizer.eos()));
        assert_eq!(rows[1].prompt, 0);
        assert_eq!(rows[1].response_mask(), [true; 3]);
    }

    #[test]
    fn a_long_prompt_loses_its_beginning_and_nothing_else() {
        let tokenizer = tokenizer();
        let limits = limits(8, Some(5));
        let rows = tokenise(
            &[example("0123456789", " c"), example("01", " c")],
            &tokenizer,
            limits,
            SPLIT,
        )
        .unwrap();
        assert_eq!(tokenizer.decode(&rows[0].tokens).unwrap(), "56789 c<eos>");
        assert_eq!(rows[0].prompt, 5);
        assert_eq!(tokenizer.decode(&rows[1].tokens).unwrap(), "01 c<eos>");
        let prompts =
            tokenise_prompts(&[example("0123456789", "")], &tokenizer, limits, 3, SPLIT).unwrap();
        assert_eq!(prompts[0], rows[0].tokens[..5]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_rows_of_the_file_that_they_are_from() {
        let tokenizer = tokenizer();
        let row = |row: usize| Example {
            id: row.to_string(),
            ..example("0123", if row >= 20 { " 1234567" } else { " 123" })
        };
        let mut rows: Vec<Example> = (0..50).map(row).collect();
        rows[21].origin = Some(Origin { row: 7, file: Some("b.jsonl".into()) });
        let complaint = |limits| {
            let error = tokenise(&rows, &tokenizer, limits, SPLIT).unwrap_err();
            assert_eq!(kind_of(&error), Kind::User);
            error.to_string()
        };
        let message = complaint(limits(12, None));
        assert!(
            message.contains("30 rows of split `sft` do not fit the model's context of 12"),
            "{message}"
        );
        assert!(message.contains("row 20: 4 tokens of prompt and 9 of completion\n"), "{message}");
        assert!(
            message.contains("row 7 of b.jsonl (`21`): 4 tokens")
                && message.contains("and 20 more"),
            "{message}"
        );
        assert!(message.contains("set `max_prompt_tokens: 3` or less"), "{message}");
        assert!(complaint(limits(8, Some(1))).contains("leave the rows out, or take a model"));
        assert!(tokenise(&rows, &tokenizer, limits(12, Some(3)), SPLIT).is_ok());
        let error = tokenise_prompts(&rows, &tokenizer, limits(9, None), 6, SPLIT).unwrap_err();
        assert!(error.to_string().contains("row 0: 4 tokens of prompt and 6 of response"));
        let one = tokenise_prompts(&rows[..1], &tokenizer, limits(9, None), 6, SPLIT)
            .unwrap_err()
            .to_string();
        assert!(
            one.contains(
                "split `sft`, row 0: 4 tokens of prompt and 6 of response do not fit the model's \
                 context of 9"
            ),
            "{one}"
        );
    }

    #[test]
    fn both_sides_of_a_preference_follow_the_same_prompt() {
        let tokenizer = tokenizer();
        let pair = Preference {
            id: String::new(),
            prompt: "0123".into(),
            chosen: " a".into(),
            rejected: " bc".into(),
            ..Preference::default()
        };
        let limits = limits(8, Some(3));
        let rows = tokenise_preferences(&[pair], &tokenizer, limits, SPLIT).unwrap();
        assert_eq!(tokenizer.decode(&rows[0].0.tokens).unwrap(), "123 a<eos>");
        assert_eq!(tokenizer.decode(&rows[0].1.tokens).unwrap(), "123 bc<eos>");
    }

    #[test]
    fn a_file_that_pads_with_the_end_of_a_text_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        tokenizer().save(folder.path()).unwrap();
        let (rows, limits) = ([example("ab:", " c"), example("", "ab")], limits(8, Some(2)));
        let sequences = |tokenizer: &Tokenizer| {
            let rows = tokenise(&rows, tokenizer, limits, SPLIT).unwrap();
            rows.into_iter().map(|row| (row.response_mask(), row.tokens)).collect::<Vec<_>>()
        };
        let plain = Tokenizer::open(folder.path()).unwrap();
        let names = r#"{"eos_token": "<eos>", "pad_token": "<eos>"}"#;
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            std::fs::write(folder.path().join(name), names).unwrap();
        }
        std::fs::write(
            folder.path().join("config.json"),
            r#"{"eos_token_id": 1, "pad_token_id": 1}"#,
        )
        .unwrap();
        let padded = Tokenizer::open(folder.path()).unwrap();
        assert_eq!((padded.eos(), padded.pad()), (1, Some(0)));
        assert_eq!(sequences(&padded), sequences(&plain));
        for (mask, tokens) in sequences(&padded) {
            assert_eq!(
                (tokens.last(), mask.last()),
                (Some(&padded.eos()), Some(&true)),
                "the end is learned"
            );
        }
    }
}
