//! `score`: the log-probability of every token given those before it.

use serde::{Deserialize, Serialize};

use super::{Answer, Given, Known, Numbers, Progress, Reader, Subject, check_finite, unclear};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::error::{Context, Result, user};
use crate::json::Object;
use crate::model::batch::{Batch, scored_tokens};
use crate::model::heads::{self, TargetTokens};
use crate::model::memory::{Memory, Use, of_forward};
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::model::transformer;

/// What a row may have.
#[derive(Clone, Debug, Deserialize)]
pub struct Fields {
    /// Token ids, taken as they are.
    tokens: Option<Vec<u32>>,
    /// A text, which gets the tokenizer's first token, if it has one.
    text: Option<String>,
    /// A text that is given.
    prompt: Option<String>,
    /// What follows the prompt: what is scored.
    completion: Option<String>,
}

/// A row: what it may have, and its other fields.
pub type Row = Given<Fields>;

impl Known for Fields {
    const NAMES: &'static [&'static str] = &["tokens", "text", "prompt", "completion"];
}

/// What comes of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// The tokens; of a row with a prompt, those of the completion alone.
    pub tokens: Vec<u32>,
    /// Natural logarithms. Entry i is of token i + 1 given those up to i; of a row with a prompt,
    /// entry i is of token i given the prompt and those before.
    pub logprobs: Numbers,
}

/// A row as tokens, scored from the `from`th on.
pub struct Sequence {
    /// Its row in the file.
    row: usize,
    tokens: Vec<u32>,
    from: usize,
    /// The result's tokens begin here.
    shown: usize,
    rest: Object,
}

/// Rows as tokens.
pub fn prepare(reader: &Reader, rows: Vec<(usize, Row)>) -> Result<Vec<Sequence>> {
    if !matches!(reader.head, HeadKind::Language | HeadKind::LanguageAndValue) {
        return Err(user("this model has no language head, so tokens have no probability").into());
    }
    rows.into_iter().map(|(row, content)| sequence(reader, row, content)).collect()
}

/// What scoring takes, counted on `b`.
pub fn memory(b: &Counting, spec: &Spec, sequences: &[Sequence], batch_size: usize) -> Memory {
    let tokens = sequences.iter().map(|sequence| sequence.tokens.as_slice()).collect::<Vec<_>>();
    of_forward(b, spec, HeadKind::Language, tokens.chunks(batch_size), Use::Head)
}

/// Scores sequences, `batch_size` at a time, at a temperature.
pub fn score<B: Backend>(
    subject: &Subject<B>,
    sequences: Vec<Sequence>,
    batch_size: usize,
    temperature: f32,
    progress: Progress<'_>,
) -> Result<Vec<Answer<Score>>> {
    let Subject { b, model, .. } = subject;
    let total = sequences.len();
    let mut answers = Vec::with_capacity(total);
    let mut waiting = sequences.into_iter().peekable();
    while waiting.peek().is_some() {
        let part: Vec<Sequence> = waiting.by_ref().take(batch_size).collect();
        let tokens: Vec<&[u32]> = part.iter().map(|sequence| sequence.tokens.as_slice()).collect();
        let from: Vec<usize> = part.iter().map(|sequence| sequence.from).collect();
        let (rows, targets) = scored_tokens(&tokens, &from);
        let hidden = transformer::hidden(b, model, &Batch::new(&tokens));
        let scored = TargetTokens { rows: &rows, targets: &targets, temperature };
        let scores = heads::token_logprobs(b, model, &hidden, scored, false);
        let mut logprobs = b.download_f64(&scores.logprobs).into_iter();
        for Sequence { row, mut tokens, from, shown, rest } in part {
            let own: Vec<f64> = logprobs.by_ref().take(tokens.len() - from).collect();
            check_finite(&own, |at| format!("row {row}: the log-probability {}", at + 1))?;
            answers.push(Answer {
                result: Score { tokens: tokens.split_off(shown), logprobs: subject.numbers(own) },
                rest,
            });
        }
        progress(answers.len(), total)?;
    }
    Ok(answers)
}

fn sequence(reader: &Reader, row: usize, content: Row) -> Result<Sequence> {
    let Given { known: Fields { tokens, text, prompt, completion }, rest } = content;
    let whole = |tokens| Sequence { row, tokens, from: 1, shown: 0, rest: rest.clone() };
    let sequence = match (tokens, text, prompt, completion) {
        (Some(tokens), None, None, None) => whole(tokens),
        (None, Some(text), None, None) => {
            whole(reader.tokenizer()?.encode_prompt(&text).with_context(|| format!("row {row}"))?)
        }
        (None, None, Some(prompt), Some(completion)) => {
            let (mut tokens, mut after) = {
                let tokenizer = reader.tokenizer()?;
                tokenizer
                    .encode_example(&prompt, &completion)
                    .with_context(|| format!("row {row}"))?
            };
            // The end of the text is not part of what was given.
            after.pop();
            let from = tokens.len();
            tokens.append(&mut after);
            if from == 0 {
                return Err(user(format!("row {row}: the prompt has no token"))
                    .hint("give the whole as `text`")
                    .into());
            }
            Sequence { row, tokens, from, shown: from, rest }
        }
        _ => return Err(unclear(row, "`tokens`, or `text`, or `prompt` and `completion`")),
    };
    reader.check(row, &sequence.tokens)?;
    Ok(sequence)
}
