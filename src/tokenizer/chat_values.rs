//! Chats as a template is given them: values of the template engine that say what was looked at.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use minijinja::Value as Shown;

use super::jinja::Watched;
use crate::error::{Failure, Result, user};
use crate::json::{Json, Object};

/// The calls of a message, and what each says of its function.
pub(super) fn calls(fields: &Object) -> impl Iterator<Item = &Object> {
    let calls = fields
        .get("tool_calls")
        .and_then(Json::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(Json::as_object);
    calls.flat_map(|call| {
        [Some(call), call.get("function").and_then(Json::as_object)].into_iter().flatten()
    })
}

/// All texts of a value, keys included.
pub(super) fn append(value: &Json, said: &mut String) {
    match value {
        Json::Text(text) => said.push_str(text),
        Json::List(items) => items.iter().for_each(|item| append(item, said)),
        Json::Object(fields) => fields.iter().for_each(|(key, field)| {
            said.push_str(key);
            append(field, said);
        }),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Unreadable(_) => {}
    }
}

/// Whether a template goes through the fields of something without naming them, and so looks at
/// all.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) messages: Arc<AtomicBool>,
    pub(super) calls: Arc<AtomicBool>,
}

impl Reads {
    /// A message as a template sees it.
    pub(super) fn message(&self, fields: &Object) -> Result<Shown, Failure> {
        let field = |(key, value): (&String, &Json)| {
            let calls = value.as_list().filter(|_| key == "tool_calls");
            let value = match calls {
                Some(calls) => calls
                    .iter()
                    .map(|call| self.call(call))
                    .collect::<Result<Vec<_>, _>>()?
                    .into_iter()
                    .collect(),
                None => shown(value)?,
            };
            Ok((key.clone(), value))
        };
        watched(fields.iter().map(field).collect::<Result<_, Failure>>()?, &self.messages)
    }

    fn call(&self, call: &Json) -> Result<Shown, Failure> {
        let Json::Object(fields) = call else { return shown(call) };
        let function = |value: &Json| match value {
            Json::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| Ok((key.clone(), shown(value)?)));
                watched(fields.collect::<Result<_, Failure>>()?, &self.calls)
            }
            other => shown(other),
        };
        let field = |(key, value): (&String, &Json)| {
            let value = if key == "function" { function(value)? } else { shown(value)? };
            Ok((key.clone(), value))
        };
        watched(fields.iter().map(field).collect::<Result<_, Failure>>()?, &self.calls)
    }
}

fn watched(fields: Vec<(String, Shown)>, all: &Arc<AtomicBool>) -> Result<Shown, Failure> {
    Ok(Shown::from_object(Watched { fields: Shown::from_pairs(fields), all: all.clone() }))
}

/// A value as a template sees it.
///
/// # Errors
/// The user's: a whole number beyond 128 bits, or a number beyond double precision.
pub(super) fn shown(value: &Json) -> Result<Shown, Failure> {
    Ok(match value {
        Json::Null => Shown::from(()),
        Json::Bool(truth) => Shown::from(*truth),
        Json::Number(digits) => {
            let whole = !digits.contains(['.', 'e', 'E']);
            let integer = || digits.parse::<i64>().map(Shown::from).ok();
            let long = || {
                digits
                    .parse::<i128>()
                    .map(Shown::from)
                    .or_else(|_| digits.parse::<u128>().map(Shown::from))
                    .ok()
            };
            let real =
                || digits.parse::<f64>().ok().filter(|number| number.is_finite()).map(Shown::from);
            let read = if whole { integer().or_else(long) } else { real() };
            read.ok_or_else(|| {
                user(format!("the number {digits} is larger than a chat template can hold"))
                    .hint("make it a text")
            })?
        }
        Json::Text(text) => Shown::from(text.as_str()),
        Json::List(items) => {
            items.iter().map(shown).collect::<Result<Vec<_>, _>>()?.into_iter().collect()
        }
        Json::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| Ok((key.as_str(), shown(field)?)));
            Shown::from_pairs(fields.collect::<Result<Vec<_>, Failure>>()?)
        }
        Json::Unreadable(what) => return Err(user(format!("it holds {what}"))),
    })
}
