//! `generate`: what a model writes after a prompt.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Progress, Reader, Subject, unclear};
use crate::backend::{Backend, Sampling};
use crate::data::chat::Message;
use crate::data::tokens::Tokenizer;
use crate::error::{Context, Result, user};
use crate::model::memory::Memory;
use crate::model::params::Top;
use crate::model::spec::Spec;
use crate::random::Stream;
use crate::sample::{GenerateOptions, Limits, PREFILL, Sample, failed, generate_until};

/// What a row may have.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Token ids, taken as they are.
    tokens: Option<Vec<u32>>,
    /// A text, which gets the tokenizer's first token, if it has one.
    prompt: Option<String>,
    /// A chat, which the folder's chat template writes out.
    messages: Option<Vec<Message>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// How to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that the key/value cache may take; one prompt with all its texts always fits.
    pub cache: u64,
    /// Bytes of a number in it.
    pub stored: usize,
    /// Tokens of a text at most.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Texts a prompt.
    pub n: usize,
    /// Of the draws. A text depends on it, its row's place, its number and the model alone.
    pub seed: u64,
    /// Texts that end what is written, and do not belong to it.
    pub stop: Vec<String>,
    /// Texts at work at a time.
    pub batch_size: usize,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended it.
    Eos,
    /// A stop text came.
    Stop,
    /// As many tokens as were allowed.
    Length,
}

/// One text.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// Which of a row's texts it is, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// The new tokens, with the one that ended the text.
    pub tokens: Vec<u32>,
    /// The text, without special tokens and stop text; none without a tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Natural logarithms of the tokens' probabilities under the distribution they were drawn from.
    pub logprobs: Vec<f32>,
    /// Why it ends.
    pub finish: Finish,
}

/// A prompt as tokens.
pub struct Prompt {
    /// Its row in the file.
    row: usize,
    tokens: Vec<u32>,
    rest: Map<String, Value>,
}

/// Rows as tokens.
pub fn prepare(reader: &Reader, rows: Vec<(usize, Row)>, options: &Options) -> Result<Vec<Prompt>> {
    if !matches!(reader.top, Top::Language | Top::LanguageAndValue) {
        return Err(user("this model has no language head, so it writes nothing").into());
    }
    rows.into_iter().map(|(row, content)| prompt(reader, row, content, options)).collect()
}

fn prompt(reader: &Reader, row: usize, content: Row, options: &Options) -> Result<Prompt> {
    let Row { tokens, prompt, messages, rest } = content;
    let tokens = match (tokens, prompt, messages) {
        (Some(tokens), None, None) => tokens,
        (None, Some(prompt), None) => reader.tokenizer()?.encode_prompt(&prompt).with_context(|| format!("row {row}"))?,
        (None, None, Some(messages)) => {
            let chat = reader.chat_template()?.render(&messages, true).with_context(|| format!("row {row}"))?;
            reader.tokenizer()?.encode_chat(&chat).with_context(|| format!("row {row}"))?.tokens
        }
        _ => return Err(unclear(row, "`tokens`, or `prompt`, or `messages`")),
    };
    reader.check(row, &tokens)?;
    let (length, new, context) = (tokens.len(), options.max_new_tokens, reader.spec.context);
    if length + new > context {
        let message = format!("row {row} has {length} tokens, with {new} new ones it exceeds the context of {context}");
        return Err(user(message).hint("shorten it, or ask for fewer new tokens").into());
    }
    Ok(Prompt { row, tokens, rest })
}

/// What writing takes.
pub fn memory(spec: &Spec, prompts: &[Prompt], options: &Options) -> Memory {
    let lengths = || prompts.iter().map(|prompt| prompt.tokens.len());
    let prefill = lengths().sum::<usize>().min(PREFILL.max(lengths().max().unwrap_or(0)));
    let positions: usize = lengths().map(|length| options.n * (length + options.max_new_tokens)).sum();
    let largest = lengths().max().map_or(0, |length| options.n * (length + options.max_new_tokens));
    let rows = options.batch_size.max(options.n);
    let held = positions.min(limits(spec, options).positions.max(largest));
    Memory::weights(spec, Top::Language).generation(spec, prefill, rows, options.n).cached(spec, held)
}

fn limits(spec: &Spec, options: &Options) -> Limits {
    Limits { rows: options.batch_size, ..Limits::within(spec, options.cache, options.stored) }
}

/// Writes `n` texts for every prompt, one answer each, in order.
pub fn generate<B: Backend>(
    subject: &Subject<B>,
    prompts: Vec<Prompt>,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Vec<Answer<Written>>> {
    let Subject { b, model, reader, .. } = subject;
    let (prompts, rests): (Vec<_>, Vec<_>) = prompts.into_iter().map(|prompt| (prompt.tokens, (prompt.row, prompt.rest))).unzip();
    let stops = Stops::new(reader, options)?;
    let settings = GenerateOptions {
        samples_per_prompt: options.n,
        max_new_tokens: options.max_new_tokens,
        sampling: options.sampling,
        ends: reader.ends(),
        stream: Stream::new(options.seed, "generate"),
        first_row: 0,
        limits: limits(&model.spec, options),
    };
    let ends = reader.tokenizer.as_ref().map_or(&[][..], Tokenizer::ends);
    let stop = |_: usize, tokens: &[u32]| tokens.last().is_some_and(|last| ends.contains(last)) || stops.reached(reader, tokens);
    let samples = generate_until(b, model, &prompts, &settings, &stop, progress)?;
    let mut answers = Vec::with_capacity(prompts.len() * options.n);
    for ((prompt, samples), (row, rest)) in prompts.iter().zip(samples).zip(rests) {
        for (index, sample) in samples.into_iter().enumerate() {
            if sample.has_failed() {
                return Err(failed(&format!("row {row}"), &sample));
            }
            let index = (options.n > 1).then_some(index);
            answers.push(Answer { result: written(reader, &stops, prompt, sample, index)?, rest: rest.clone() });
        }
    }
    Ok(answers)
}

fn written(reader: &Reader, stops: &Stops<'_>, prompt: &[u32], sample: Sample, index: Option<usize>) -> Result<Written> {
    let mut finish = if sample.ended { Finish::Eos } else { Finish::Length };
    let mut text = None;
    if sample.tokens.last().is_some_and(|last| stops.tokens.contains(last)) {
        finish = Finish::Stop;
    }
    if let Some(tokenizer) = &reader.tokenizer {
        // An end that is named by its id alone need not be a special token.
        let own = &sample.tokens[..sample.tokens.len() - usize::from(sample.ended)];
        let mut whole = tokenizer.decode_after(prompt, own)?;
        if let Some(at) = stops.texts.iter().filter_map(|stop| whole.find(stop.as_str())).min() {
            whole.truncate(at);
            finish = Finish::Stop;
        }
        text = Some(whole);
    }
    Ok(Written { sample: index, tokens: sample.tokens, text, logprobs: sample.logprobs, finish })
}

/// Texts that end what is written.
struct Stops<'a> {
    texts: &'a [String],
    /// The special tokens among them, which are in no text.
    tokens: Vec<u32>,
    /// Tokens that a stop text can reach back over, one byte each at least.
    reach: usize,
}

impl<'a> Stops<'a> {
    fn new(reader: &Reader, options: &'a Options) -> Result<Self> {
        if options.stop.iter().any(String::is_empty) {
            return Err(user("a stop text must not be empty").into());
        }
        let tokens = match options.stop.is_empty() {
            true => Vec::new(),
            false => reader.tokenizer()?.specials_among(&options.stop),
        };
        let longest = options.stop.iter().map(String::len).max().unwrap_or(0);
        Ok(Stops { texts: &options.stop, tokens, reach: longest + 1 })
    }

    fn reached(&self, reader: &Reader, tokens: &[u32]) -> bool {
        let (false, Some(tokenizer)) = (self.texts.is_empty(), &reader.tokenizer) else { return false };
        if tokens.last().is_some_and(|last| self.tokens.contains(last)) {
            return true;
        }
        let plain = tokenizer.without_specials(tokens);
        let end = &plain[plain.len().saturating_sub(self.reach)..];
        // A text that cannot be decoded yet holds no stop text yet.
        tokenizer.decode(end).is_ok_and(|text| self.texts.iter().any(|stop| text.contains(stop.as_str())))
    }
}
