//! `generate`: what a model writes after a prompt.

use std::cmp::Reverse;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Answer, Progress, Reader, Subject, unclear};
use crate::backend::counting::Counting;
use crate::backend::{Backend, Sampling};
use crate::error::{Context, Failure, Result, user};
use crate::json::{Json, Object};
use crate::model::memory::{Memory, model};
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::random::Stream;
use crate::sample::footprint::first_tokens;
use crate::sample::{GenerateOptions, Limits, Sample, failed, generate_until};
use crate::tokenizer::chat::{Chat, Message};
use crate::tokenizer::messages;
use crate::tokenizer::tokens::Tokenizer;

/// What a row may have.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Token ids, taken as they are.
    tokens: Option<Vec<u32>>,
    /// A text, which gets the tokenizer's first token, if it has one.
    prompt: Option<String>,
    /// A chat, which the folder's chat template writes out.
    messages: Option<Vec<Message>>,
    /// What a model may call, which the chat template is given.
    tools: Option<Json>,
    /// Further variables of the chat template.
    variables: Object,
    rest: Object,
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let wrong = |failure: Failure| D::Error::custom(failure.message);
        let Json::Object(rest) = Json::deserialize(deserializer)? else {
            return Err(D::Error::custom("expected an object"));
        };
        let mut row = Row { rest, ..Row::default() };
        let mut take = |name: &str| row.rest.shift_remove(name).filter(|value| !value.is_null());
        if let Some(tokens) = take("tokens") {
            let read = serde_json::to_value(&tokens).and_then(serde_json::from_value);
            row.tokens = Some(read.map_err(|error| {
                D::Error::custom(format!("`tokens` is no list of token ids: {error}"))
            })?);
        }
        row.prompt = match take("prompt") {
            None => None,
            Some(Json::Text(prompt)) => Some(prompt),
            Some(other) => {
                return Err(D::Error::custom(format!(
                    "`prompt` is {}, expected a text",
                    other.what()
                )));
            }
        };
        row.messages = take("messages").map(Message::read_all).transpose().map_err(wrong)?;
        // Without messages they are fields like others.
        if row.messages.is_some() {
            row.tools = row
                .rest
                .shift_remove("tools")
                .map(messages::tools)
                .transpose()
                .map_err(wrong)?
                .flatten();
            row.variables = match row.rest.shift_remove("chat_template_kwargs") {
                None | Some(Json::Null) => Object::new(),
                Some(Json::Object(variables)) => variables,
                Some(other) => {
                    return Err(D::Error::custom(format!(
                        "`chat_template_kwargs` is {}, expected an object",
                        other.what()
                    )));
                }
            };
        }
        Ok(row)
    }
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
    rest: Object,
}

/// Rows as tokens.
pub fn prepare(reader: &Reader, rows: Vec<(usize, Row)>, options: &Options) -> Result<Vec<Prompt>> {
    if !matches!(reader.head, HeadKind::Language | HeadKind::LanguageAndValue) {
        return Err(user("this model has no language head, so it writes nothing").into());
    }
    rows.into_iter().map(|(row, content)| prompt(reader, row, content, options)).collect()
}

fn prompt(reader: &Reader, row: usize, content: Row, options: &Options) -> Result<Prompt> {
    let Row { tokens, prompt, messages, tools, variables, rest } = content;
    let tokens = match (tokens, prompt, messages) {
        (Some(tokens), None, None) => tokens,
        (None, Some(prompt), None) => {
            reader.tokenizer()?.encode_prompt(&prompt).with_context(|| format!("row {row}"))?
        }
        (None, None, Some(messages)) => {
            let variables = Some(&variables).filter(|variables| !variables.is_empty());
            let chat = Chat { messages: &messages, tools: tools.as_ref(), variables };
            let chat =
                reader.chat_template()?.render(chat, true).with_context(|| format!("row {row}"))?;
            if let Some(field) = chat.ignored.first() {
                let message = format!(
                    "row {row}: a message has the field `{field}`, and the chat template never \
                     looks at it"
                );
                return Err(user(message).hint("remove it").into());
            }
            reader.tokenizer()?.encode_chat(&chat).with_context(|| format!("row {row}"))?.tokens
        }
        _ => return Err(unclear(row, "`tokens`, or `prompt`, or `messages`")),
    };
    reader.check(row, &tokens)?;
    let (length, new, context) = (tokens.len(), options.max_new_tokens, reader.spec.context);
    if length + new > context {
        let message = format!(
            "row {row} has {length} tokens, with {new} new ones it exceeds the context of {context}"
        );
        return Err(user(message).hint("shorten it, or ask for fewer new tokens").into());
    }
    Ok(Prompt { row, tokens, rest })
}

/// What writing takes, counted on `b`: with the longest prompts, as many as fill the batch and the
/// cache.
///
/// # Errors
/// The user's, as those of [`generate`].
pub fn memory(b: &Counting, spec: &Spec, prompts: &[Prompt], options: &Options) -> Result<Memory> {
    let (model, limits) = (model(b, spec, HeadKind::Language), limits(spec, options));
    let mut prompts: Vec<&[u32]> = prompts.iter().map(|prompt| prompt.tokens.as_slice()).collect();
    prompts.sort_by_key(|tokens| Reverse(tokens.len()));
    let (mut rows, mut positions, mut taken) = (0, 0, 0);
    while taken < prompts.len() && (rows < limits.rows || positions < limits.positions) {
        rows += options.n;
        positions += options.n * (prompts[taken].len() + options.max_new_tokens);
        taken += 1;
    }
    let prompts: Vec<Vec<u32>> = prompts[..taken].iter().map(|prompt| prompt.to_vec()).collect();
    first_tokens(b, &model, &prompts, (options.n, options.max_new_tokens), limits)?;
    Ok(Memory::of(b, Memory::default()))
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
    let (prompts, rests): (Vec<_>, Vec<_>) =
        prompts.into_iter().map(|prompt| (prompt.tokens, (prompt.row, prompt.rest))).unzip();
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
    let stop = |_: usize, tokens: &[u32]| {
        tokens.last().is_some_and(|last| ends.contains(last)) || stops.reached(reader, tokens)
    };
    let samples = generate_until(b, model, &prompts, &settings, &stop, progress)?;
    let mut answers = Vec::with_capacity(prompts.len() * options.n);
    for ((prompt, samples), (row, rest)) in prompts.iter().zip(samples).zip(rests) {
        for (index, sample) in samples.into_iter().enumerate() {
            if sample.has_failed() {
                return Err(failed(&format!("row {row}"), &sample));
            }
            let index = (options.n > 1).then_some(index);
            answers.push(Answer {
                result: written(reader, &stops, prompt, sample, index)?,
                rest: rest.clone(),
            });
        }
    }
    Ok(answers)
}

fn written(
    reader: &Reader,
    stops: &Stops<'_>,
    prompt: &[u32],
    sample: Sample,
    index: Option<usize>,
) -> Result<Written> {
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
        let (false, Some(tokenizer)) = (self.texts.is_empty(), &reader.tokenizer) else {
            return false;
        };
        if tokens.last().is_some_and(|last| self.tokens.contains(last)) {
            return true;
        }
        let plain = tokenizer.without_specials(tokens);
        let end = &plain[plain.len().saturating_sub(self.reach)..];
        // A text that cannot be decoded yet holds no stop text yet.
        tokenizer
            .decode(end)
            .is_ok_and(|text| self.texts.iter().any(|stop| text.contains(stop.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_messages_brings_tools_and_variables_along_and_what_is_no_message_is_named() {
        let text = r#"{"id":1,"messages":[{"role":"user","content":"a"}],"tools":"[{\"type\":\"function\"}]","chat_template_kwargs":{"b":2},"n":1.50}"#;
        let row: Row = serde_json::from_str(text).unwrap();
        assert_eq!(row.messages.unwrap()[0].content(), "a");
        assert_eq!(row.tools.unwrap().as_list().unwrap().len(), 1);
        assert_eq!(row.variables.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(row.rest.keys().collect::<Vec<_>>(), ["id", "n"]);
        let complaint = |text: &str| serde_json::from_str::<Row>(text).unwrap_err().to_string();
        assert!(
            complaint(r#"{"messages":[{"role":"user"}]}"#)
                .contains("message 1: it has neither `content` nor `tool_calls`")
        );
        assert!(complaint(r#"{"messages":[],"tools":3}"#).contains("`tools` is a number"));
        assert!(complaint(r#"{"tokens":[-1]}"#).contains("`tokens` is no list of token ids"));
        assert!(complaint(r#"{"prompt":3}"#).contains("`prompt` is a number"));
    }
}
