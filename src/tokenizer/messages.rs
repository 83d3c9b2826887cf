//! The messages of a chat: the one reader of them, for rows of data files, rows of commands and
//! requests. Uses no template.
//!
//! 1. A message is an object with a `role`. All its fields stay, in their order, for a template to
//!    look at; a null counts as absent.
//! 2. `content` is a text, or a list of parts that are texts (OpenAI's layout), which are joined. A
//!    message that calls tools may have none.
//! 3. `weight`, 0 or 1, says whether a message of the assistant is learned (OpenAI's fine-tuning
//!    layout). It is no part of what a template sees.

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::error::{Failure, Result, user};
use crate::json::{self, Json, Object};

/// The role of the messages that a model writes.
pub const ASSISTANT: &str = "assistant";
/// The field that says whether a message is learned.
const WEIGHT: &str = "weight";

/// A message of a chat.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Without nulls and without the weight; `role` is a text, `content` too where there is one.
    fields: Object,
    learned: bool,
}

/// A chat as a template is given it.
#[derive(Clone, Copy, Debug)]
pub struct Chat<'a> {
    /// In order.
    pub messages: &'a [Message],
    /// What the model may call: a list of JSON schemas.
    pub tools: Option<&'a Json>,
    /// Further variables of the template (`chat_template_kwargs`).
    pub variables: Option<&'a Object>,
}

impl<'a> Chat<'a> {
    /// The same tools and variables for other messages.
    pub fn with<'b>(&self, messages: &'b [Message]) -> Chat<'b>
    where
        'a: 'b,
    {
        Chat { messages, ..*self }
    }
}

impl<'a> From<&'a [Message]> for Chat<'a> {
    fn from(messages: &'a [Message]) -> Self {
        Chat { messages, tools: None, variables: None }
    }
}

impl<'a> From<&'a Vec<Message>> for Chat<'a> {
    fn from(messages: &'a Vec<Message>) -> Self {
        messages.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [Message; N]> for Chat<'a> {
    fn from(messages: &'a [Message; N]) -> Self {
        messages.as_slice().into()
    }
}

impl Message {
    /// A message that is nothing but a text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let fields = [("role", role.into()), ("content", content.into())];
        Message {
            fields: fields
                .into_iter()
                .map(|(key, text)| (key.to_owned(), Json::Text(text)))
                .collect(),
            learned: true,
        }
    }

    /// A message from its fields.
    ///
    /// # Errors
    /// The user's: no role; a content that is neither a text nor parts of text; neither content nor
    /// calls of tools; a weight that is neither 0 nor 1, or that asks to learn what the assistant
    /// did not write.
    pub fn read(json: Json) -> Result<Self, Failure> {
        let Json::Object(mut fields) = json else {
            return Err(user(format!("a message is an object, not {}", json.what())));
        };
        fields.retain(|_, value| !value.is_null());
        let role = match fields.get("role") {
            Some(Json::Text(role)) if !role.is_empty() => role.clone(),
            Some(other) => {
                return Err(user(format!(
                    "`role` is {}, expected a text",
                    if other.is_empty() { "empty" } else { other.what() }
                )));
            }
            None => return Err(user("it has no `role`")),
        };
        if let Some(content) = fields.get_mut("content") {
            *content = Json::Text(text(content)?);
        }
        match fields.get("tool_calls") {
            None => {}
            Some(Json::List(calls)) if calls.iter().all(|call| call.as_object().is_some()) => {}
            Some(_) => return Err(user("`tool_calls` is no list of objects")),
        }
        if !fields.contains_key("content") && fields.get("tool_calls").is_none_or(Json::is_empty) {
            return Err(user("it has neither `content` nor `tool_calls`"));
        }
        let weight = fields.shift_remove(WEIGHT).map(|weight| weight.as_f64());
        let learned = match weight {
            None => true,
            Some(Some(0.0)) => false,
            Some(Some(1.0)) if role == ASSISTANT => true,
            Some(Some(1.0)) => {
                return Err(user(format!(
                    "`weight` is 1, and the message is of the role `{role}`: the assistant's alone \
                     are learned"
                )));
            }
            Some(_) => {
                return Err(user("`weight` is neither 0 nor 1")
                    .hint("0: it is context alone; 1: it is learned"));
            }
        };
        Ok(Message { fields, learned })
    }

    /// Messages from a list.
    ///
    /// # Errors
    /// As [`Message::read`], with the message's place, from 1.
    pub fn read_all(json: Json) -> Result<Vec<Self>, Failure> {
        let Json::List(items) = json else {
            return Err(user(format!("expected a list of messages, found {}", json.what())));
        };
        let one = |(at, item)| {
            Self::read(item).map_err(|failure| Failure {
                message: format!("message {}: {}", at + 1, failure.message),
                ..failure
            })
        };
        items.into_iter().enumerate().map(one).collect()
    }

    /// Who speaks: `system`, `user`, `assistant`, or what else the template has.
    pub fn role(&self) -> &str {
        self.fields.get("role").and_then(Json::as_str).unwrap_or_default()
    }

    /// What is said; empty where tools are called without a word.
    pub fn content(&self) -> &str {
        self.fields.get("content").and_then(Json::as_str).unwrap_or_default()
    }

    /// All that a template may look at, in order.
    pub fn fields(&self) -> &Object {
        &self.fields
    }

    /// Whether it may be learned, if the assistant wrote it.
    pub fn is_learned(&self) -> bool {
        self.learned
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = self.fields.clone();
        if !self.learned {
            fields.insert(WEIGHT.into(), Json::Number("0".into()));
        }
        json::object(&fields, serializer)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Json::deserialize(deserializer)?)
            .map_err(|failure| de::Error::custom(failure.message))
    }
}

/// What a row or a request has under `tools`: a list of JSON schemas, or that list as a JSON text.
/// An empty one is none.
///
/// # Errors
/// The user's: it is anything else.
pub fn tools(json: Json) -> Result<Option<Json>, Failure> {
    let wrong = |what: &str| {
        user(format!(
            "`tools` is {what}, expected a list of JSON schemas, or such a list as a JSON text"
        ))
    };
    let list = match json {
        Json::Text(text) if !text.trim().is_empty() => json::parse(&text)
            .map_err(|error| wrong(&format!("a text that is no JSON ({error})")))?,
        other => other,
    };
    match list {
        empty if empty.is_empty() => Ok(None),
        Json::List(tools) if tools.iter().all(|tool| tool.as_object().is_some()) => {
            Ok(Some(Json::List(tools)))
        }
        other => Err(wrong(other.what())),
    }
}

/// The text of a message's content.
fn text(content: &Json) -> Result<String, Failure> {
    let parts = match content {
        Json::Text(text) => return Ok(text.clone()),
        Json::List(parts) => parts,
        other => {
            return Err(user(format!(
                "`content` is {}, expected a text or a list of parts of text",
                other.what()
            )));
        }
    };
    let mut whole = String::new();
    for part in parts {
        let fields = part.as_object().ok_or_else(|| {
            user(format!("a part of `content` is {}, expected an object", part.what()))
        })?;
        let kind = fields.get("type").and_then(Json::as_str);
        if kind != Some("text") {
            return Err(user(format!(
                "a part of `content` is of the type `{}`; only `text` is read",
                kind.unwrap_or_default()
            )));
        }
        if let Some((key, _)) = fields
            .iter()
            .find(|(key, value)| !matches!(key.as_str(), "type" | "text") && !value.is_null())
        {
            return Err(user(format!(
                "a part of `content` has the field `{key}`, which nothing here reads"
            ))
            .hint("remove it"));
        }
        whole.push_str(
            fields
                .get("text")
                .and_then(Json::as_str)
                .ok_or_else(|| user("a part of `content` has no `text`"))?,
        );
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, String> {
        Message::read(json::parse(text).unwrap()).map_err(|failure| failure.message)
    }

    #[test]
    fn fields_keep_their_order_and_nulls_count_as_absent() {
        let message = read(r#"{"tool_calls":[{"z":1.50,"a":null}],"name":null,"role":"assistant","content":null,"weight":0}"#).unwrap();
        assert_eq!(
            (message.role(), message.content(), message.is_learned()),
            ("assistant", "", false)
        );
        let written = serde_json::to_string(&message).unwrap();
        assert_eq!(
            written,
            r#"{"tool_calls":[{"z":1.50,"a":null}],"role":"assistant","weight":0}"#
        );
        assert_eq!(serde_json::from_str::<Message>(&written).unwrap(), message);
        assert_eq!(read(r#"{"role":"user","content":[{"type":"text","text":"a"},{"text":"b","type":"text"}]}"#).unwrap().content(), "ab");
    }

    #[test]
    fn what_is_no_message_is_refused_by_name() {
        for (text, complaint) in [
            ("3", "a message is an object, not a number"),
            (r#"{"content":"a"}"#, "it has no `role`"),
            (r#"{"role":"","content":"a"}"#, "`role` is empty"),
            (r#"{"role":7,"content":"a"}"#, "`role` is a number"),
            (r#"{"role":"user"}"#, "neither `content` nor `tool_calls`"),
            (
                r#"{"role":"assistant","content":null,"tool_calls":[]}"#,
                "neither `content` nor `tool_calls`",
            ),
            (r#"{"role":"assistant","tool_calls":"f()"}"#, "`tool_calls` is no list of objects"),
            (r#"{"role":"user","content":{"a":1}}"#, "`content` is an object"),
            (
                r#"{"role":"user","content":[{"type":"image_url","image_url":"x"}]}"#,
                "of the type `image_url`",
            ),
            (
                r#"{"role":"user","content":[{"type":"text","text":"a","cache_control":{}}]}"#,
                "the field `cache_control`",
            ),
            (r#"{"role":"assistant","content":"a","weight":0.5}"#, "`weight` is neither 0 nor 1"),
            (r#"{"role":"user","content":"a","weight":1}"#, "the assistant's alone are learned"),
        ] {
            let message = read(text).unwrap_err();
            assert!(message.contains(complaint), "{text}: {message}");
        }
    }

    #[test]
    fn tools_are_a_list_or_that_list_as_text() {
        let list = r#"[{"type":"function","function":{"name":"f"}}]"#;
        let parsed = json::parse(list).unwrap();
        assert_eq!(tools(parsed.clone()).unwrap(), Some(parsed.clone()));
        assert_eq!(tools(Json::Text(list.into())).unwrap(), Some(parsed));
        for nothing in [Json::Null, Json::List(Vec::new()), Json::Text(String::new())] {
            assert_eq!(tools(nothing).unwrap(), None);
        }
        for wrong in
            [Json::Text("[".into()), Json::Number("3".into()), Json::List(vec![Json::Null])]
        {
            assert!(tools(wrong).unwrap_err().message.contains("`tools` is"));
        }
    }
}
