//! The requests and answers of OpenAI's API, as far as a language model alone can do what they ask.
//! Uses no connection.
//!
//! 1. A field that would change the answer and is not known is refused, never ignored; fields that
//!    change nothing, or not with their value, are let pass.
//! 2. Without a `seed` it is 0: the same request has the same answer. Beyond OpenAI's fields there
//!    are `top_k`, `min_p` and `chat_template_kwargs`.
//! 3. `tools` and `chat_template_kwargs` of a chat are given to its chat template, and refused
//!    where that never looks at them. What the model writes is text, a call of a tool too: nothing
//!    makes it call one, or keeps it from calling two.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::text::{Finish, Text};
use crate::backend::Sampling;
use crate::data::chat::{Chat, Message};
use crate::data::json::{Json, Object};
use crate::data::messages;
use crate::error::{Result, user};
use crate::inference::Reader;
use crate::random::Stream;
use crate::sample::continuous::GenerationRequest;

/// An error as the API has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    message: String,
    code: Option<&'static str>,
}

impl Refused {
    /// An error with its status; its type follows from that.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Refused { status, message: message.into(), code: None }
    }

    fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": null, "code": self.code}})
    }
}

/// What is asked: which of the two ways to ask for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/completions`.
    Completion,
    /// `/v1/chat/completions`.
    Chat,
}

/// A request for text.
pub struct Ask {
    /// In which way it was asked.
    pub kind: Kind,
    /// What the engine is to do.
    pub order: GenerationRequest,
    /// Texts that end a sample.
    pub stops: Vec<String>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether the pieces end with the count of tokens.
    stream_usage: bool,
    logprobs: bool,
}

#[derive(Deserialize)]
struct Fields {
    model: String,
    prompt: Option<Value>,
    /// Read by themselves, with their order and digits.
    messages: Option<IgnoredAny>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    n: Option<usize>,
    stop: Option<Stop>,
    seed: Option<u64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Whether a field that is not read changes no answer of one model on one machine, with this value.
fn changes_nothing(field: &str, value: &Value) -> bool {
    match field {
        "user"
        | "store"
        | "metadata"
        | "service_tier"
        | "prompt_cache_key"
        | "prompt_cache_retention"
        | "safety_identifier" => true,
        // Of tools, where there are none.
        "parallel_tool_calls" => value.is_boolean(),
        "tool_choice" | "function_call" => *value == json!("none") || *value == json!("auto"),
        "tools"
        | "functions"
        | "logit_bias"
        | "stop_token_ids"
        | "documents"
        | "chat_template_kwargs" => {
            value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(Map::is_empty)
        }
        "response_format" => *value == json!({"type": "text"}),
        "modalities" => *value == json!(["text"]),
        "suffix" => *value == json!(""),
        "presence_penalty" | "frequency_penalty" | "top_logprobs" | "min_tokens" => {
            value.as_f64() == Some(0.0)
        }
        "repetition_penalty" | "length_penalty" | "typical_p" | "best_of" => {
            value.as_f64() == Some(1.0)
        }
        "echo"
        | "ignore_eos"
        | "use_beam_search"
        | "include_stop_str_in_output"
        | "continue_final_message" => *value == json!(false),
        "skip_special_tokens" | "add_generation_prompt" => *value == json!(true),
        _ => false,
    }
}

/// Tokens of a completion for which nothing is said; OpenAI's number.
const COMPLETION_TOKENS: usize = 16;
/// Stop texts of a request at most; OpenAI's number.
const STOPS: usize = 4;

/// Reads a request for text from the model called `name`.
pub fn ask(kind: Kind, body: &[u8], name: &str, reader: &Reader) -> Result<Ask, Refused> {
    let bad = |message: String| Refused::new(400, message);
    let fields: Fields = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body cannot be understood: {error}")))?;
    if fields.model != name {
        return Err(Refused::new(
            404,
            format!("there is no model `{}`; this is `{name}`", fields.model),
        )
        .code("model_not_found"));
    }
    let for_the_template =
        |field: &str| kind == Kind::Chat && ["tools", "chat_template_kwargs"].contains(&field);
    for (field, value) in &fields.rest {
        if !(value.is_null() || for_the_template(field) || changes_nothing(field, value)) {
            return Err(bad(format!("`{field}` is not supported here, or not with this value")));
        }
    }
    for (field, value) in fields.stream_options.iter().flat_map(|options| &options.rest) {
        // Obfuscation pads pieces and leaves the text alone.
        if field != "include_obfuscation" && !value.is_null() && *value != json!(false) {
            return Err(bad(format!(
                "`stream_options.{field}` is not supported here, or not with this value"
            )));
        }
    }
    let prompt = match (kind, &fields.prompt, &fields.messages) {
        (Kind::Completion, Some(prompt), None) => plain(prompt, reader)?,
        (Kind::Chat, None, Some(_)) => chat(body, &fields.rest, reader)?,
        (Kind::Completion, ..) => return Err(bad("expected a `prompt`".into())),
        (Kind::Chat, ..) => return Err(bad("expected `messages`".into())),
    };
    let (length, context) = (prompt.len(), reader.spec.context);
    if let Some(token) = prompt.iter().find(|token| **token as usize >= reader.spec.vocabulary) {
        return Err(bad(format!("the model has no token {token}")));
    }
    let said = fields.max_completion_tokens.or(fields.max_tokens);
    let rest_of_context = context.saturating_sub(length);
    let max_new_tokens =
        said.unwrap_or(if kind == Kind::Chat { rest_of_context } else { COMPLETION_TOKENS });
    if length == 0 {
        return Err(bad("the prompt has no token".into()));
    }
    if max_new_tokens > rest_of_context || rest_of_context == 0 {
        let message = format!(
            "the prompt has {length} tokens, with {max_new_tokens} new ones it exceeds the context \
             of {context}"
        );
        return Err(bad(message).code("context_length_exceeded"));
    }
    let sampling = Sampling {
        temperature: fields.temperature.unwrap_or(1.0),
        // As vLLM has it, -1 is all.
        top_k: fields.top_k.map_or(0, |k| usize::try_from(k).unwrap_or(0)),
        top_p: fields.top_p.unwrap_or(1.0),
        min_p: fields.min_p.unwrap_or(0.0),
    };
    let samples = fields.n.unwrap_or(1);
    let stops = match fields.stop {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Several(stops)) => stops,
    };
    let wanted = [
        (max_new_tokens > 0, "max_tokens", "at least 1"),
        (samples > 0, "n", "at least 1"),
        ((0.0..=f32::MAX).contains(&sampling.temperature), "temperature", "0 or more"),
        (sampling.top_p > 0.0 && sampling.top_p <= 1.0, "top_p", "above 0 and at most 1"),
        ((0.0..=1.0).contains(&sampling.min_p), "min_p", "from 0 to 1"),
        (fields.top_k.is_none_or(|k| k >= -1), "top_k", "at least 1, or 0 or -1 for all"),
        (
            stops.len() <= STOPS && stops.iter().all(|stop| !stop.is_empty()),
            "stop",
            "at most 4 texts, none of them empty",
        ),
    ];
    if let Some((_, field, expected)) = wanted.iter().find(|(right, ..)| !right) {
        return Err(bad(format!("expected `{field}` to be {expected}")));
    }
    let logprobs =
        match fields.logprobs {
            None | Some(Value::Null) | Some(Value::Bool(false)) => false,
            Some(count) if kind == Kind::Completion && count == json!(0) => true,
            Some(_) => return Err(bad(
                "`logprobs` is supported for completions alone, with 0: that of the token itself"
                    .into(),
            )),
        };
    let ends = reader
        .tokenizer()
        .map_err(|error| Refused::new(500, format!("{error:#}")))?
        .ends()
        .to_vec();
    let stream = Stream::new(fields.seed.unwrap_or(0), "generate");
    Ok(Ask {
        kind,
        order: GenerationRequest {
            prompt,
            samples,
            max_new_tokens,
            sampling,
            ends,
            stream,
            first_row: 0,
        },
        stops,
        stream: fields.stream.unwrap_or(false),
        stream_usage: fields
            .stream_options
            .and_then(|options| options.include_usage)
            .unwrap_or(false),
        logprobs,
    })
}

/// A text or token ids; a list of one of them means the same.
fn plain(prompt: &Value, reader: &Reader) -> Result<Vec<u32>, Refused> {
    let bad = || Refused::new(400, "expected `prompt` to be one text, or the tokens of one");
    let ids = |list: &[Value]| {
        list.iter()
            .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()))
            .collect::<Option<Vec<u32>>>()
    };
    match prompt {
        Value::String(text) => {
            let encode = || reader.tokenizer()?.encode_prompt(text);
            encode().map_err(|error| Refused::new(400, format!("{error:#}")))
        }
        Value::Array(list) => match list.as_slice() {
            [one @ (Value::String(_) | Value::Array(_))] => plain(one, reader),
            list => ids(list).ok_or_else(bad),
        },
        _ => Err(bad()),
    }
}

/// What the chat template of a request is given, as it is spelt in the body.
#[derive(Deserialize)]
struct Given {
    messages: Json,
    tools: Option<Json>,
    chat_template_kwargs: Option<Json>,
}

/// A chat; `rest` has the request's fields that say how tools are called.
fn chat(body: &[u8], rest: &Map<String, Value>, reader: &Reader) -> Result<Vec<u32>, Refused> {
    let bad = |message: String| Refused::new(400, message);
    let given: Given = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the messages cannot be understood: {error}")))?;
    let messages = Message::read_all(given.messages).map_err(|failure| bad(failure.message))?;
    let tools = messages::tools(given.tools.unwrap_or_default())
        .map_err(|failure| bad(failure.message))?
        // A model that is to call none is given none.
        .filter(|_| rest.get("tool_choice") != Some(&json!("none")));
    if tools.is_some() && rest.get("parallel_tool_calls") == Some(&json!(false)) {
        return Err(bad("`parallel_tool_calls` is false, and nothing here keeps a model from \
             calling two tools at once"
            .into()));
    }
    let variables = match given.chat_template_kwargs {
        None => Object::new(),
        Some(Json::Object(variables)) => variables,
        Some(other) => {
            let what = other.what();
            return Err(bad(format!("`chat_template_kwargs` is {what}, expected an object")));
        }
    };
    let encode = || -> Result<Vec<u32>> {
        let given = Some(&variables).filter(|variables| !variables.is_empty());
        let chat = Chat { messages: &messages, tools: tools.as_ref(), variables: given };
        let chat = reader.chat_template()?.render(chat, true)?;
        if let Some(field) = chat.ignored.first() {
            let place = match variables.contains_key(field) {
                true => "`chat_template_kwargs` has",
                false => "a message has the field",
            };
            return Err(user(format!(
                "{place} `{field}`, and the chat template never looks at it"
            ))
            .into());
        }
        Ok(reader.tokenizer()?.encode_chat(&chat)?.tokens)
    };
    encode().map_err(|error| bad(format!("{error:#}")))
}

/// What all answers to one request share.
pub struct Answer<'a> {
    /// The request.
    pub ask: &'a Ask,
    /// What it is called.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: &'a str,
}

impl Answer<'_> {
    /// The whole answer.
    pub fn whole(&self, texts: &[Text<'_>]) -> Value {
        let choice = |(index, text): (usize, &Text<'_>)| {
            let mut choice = match self.ask.kind {
                Kind::Completion => json!({"text": text.whole}),
                Kind::Chat => json!({"message": {"role": "assistant", "content": text.whole}}),
            };
            choice["index"] = index.into();
            choice["finish_reason"] = reason(text.finish);
            choice["logprobs"] = if self.ask.logprobs { logprobs(text) } else { Value::Null };
            choice
        };
        self.of(
            "",
            json!(texts.iter().enumerate().map(choice).collect::<Vec<Value>>()),
            Some(self.usage(texts)),
        )
    }

    /// A piece of a sample; `finish` comes with its last.
    pub fn piece(&self, index: usize, text: &str, first: bool, finish: Option<Finish>) -> Value {
        let mut choice = match (self.ask.kind, first) {
            (Kind::Completion, _) => json!({"text": text}),
            (Kind::Chat, true) => json!({"delta": {"role": "assistant", "content": text}}),
            (Kind::Chat, false) => json!({"delta": {"content": text}}),
        };
        choice["index"] = index.into();
        choice["finish_reason"] = reason(finish);
        choice["logprobs"] = Value::Null;
        self.of(".chunk", json!([choice]), None)
    }

    /// The piece with the count of tokens, where it was asked for.
    pub fn last_piece(&self, texts: &[Text<'_>]) -> Option<Value> {
        self.ask.stream_usage.then(|| self.of(".chunk", json!([]), Some(self.usage(texts))))
    }

    fn of(&self, chunk: &str, choices: Value, usage: Option<Value>) -> Value {
        let object = match self.ask.kind {
            Kind::Completion => "text_completion".to_owned(),
            Kind::Chat => format!("chat.completion{chunk}"),
        };
        let mut whole = json!({"id": self.id, "object": object, "created": self.created,
            "model": self.model, "choices": choices});
        if let Some(usage) = usage {
            whole["usage"] = usage;
        }
        whole
    }

    fn usage(&self, texts: &[Text<'_>]) -> Value {
        let (prompt, completion) = (
            self.ask.order.prompt.len(),
            texts.iter().map(|text| text.tokens.len()).sum::<usize>(),
        );
        json!({"prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion})
    }
}

fn reason(finish: Option<Finish>) -> Value {
    match finish {
        None => Value::Null,
        Some(Finish::Stop) => "stop".into(),
        Some(Finish::Length) => "length".into(),
    }
}

/// In the layout of completions.
fn logprobs(text: &Text<'_>) -> Value {
    let ends = text.offsets.iter().skip(1).copied().chain([text.whole.len()]);
    let piece = |(&from, to): (&usize, usize)| text.whole.get(from..to).unwrap_or_default();
    let tokens: Vec<&str> = text.offsets.iter().zip(ends).map(piece).collect();
    // As they are printed in single precision: widened they would show digits that they have not.
    let shortest =
        |logprob: &f32| logprob.to_string().parse::<f64>().unwrap_or(f64::from(*logprob));
    let logprobs: Vec<f64> = text.logprobs.iter().map(shortest).collect();
    json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": null,
        "text_offset": text.characters})
}
