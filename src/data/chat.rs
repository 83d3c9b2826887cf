//! Chats as texts: the chat template that a model brings along, and which parts of what it renders
//! the assistant wrote. Uses no token.
//!
//! 1. Line ends of a template are LF, whatever its file has, as Jinja 2 reads them; those of
//!    messages stay.
//! 2. Calls and lists of tools that a template never looks at are refused: what it writes would not
//!    be the chat. Other fields of messages that it never looks at are named
//!    ([`Rendered::ignored`]).
//! 3. A template is bounded in size, and a chat in steps ([`limits`]); what goes wrong inside the
//!    engine is an error of the template.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::{Environment, ErrorKind, Value as Shown};
use serde_json::Value;

use super::jinja::{self, Refused, Watched};
use super::json::{Json, Object};
pub use super::messages::{ASSISTANT, Chat, Message};
use super::special::Names;
use super::token_files::{CHAT_TEMPLATE, CONFIG, Files};
use crate::error::{Failure, Result, contained, user};
use crate::limits::{self, TEMPLATE_BYTES, TEMPLATE_STEPS, TEMPLATE_TAGS};

/// A chat as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What the model reads, special tokens by name.
    pub text: String,
    /// The bytes of `text` between generation tags, in order.
    pub generated: Vec<Range<usize>>,
    /// Fields of messages and of calls that say something and that the template never looks at.
    pub ignored: BTreeSet<String>,
}

/// Fields of messages and calls that are there to tell them apart, not to be written.
const LABELS: [&str; 7] = ["role", "content", "name", "tool_call_id", "id", "index", "type"];
/// Fields without which a message is not what was said.
const CALLS: [&str; 2] = ["tool_calls", "function_call"];
/// Variables of a template that are no row's to set.
const RESERVED: [&str; 3] = ["messages", "tools", "add_generation_prompt"];
/// Bytes of a tag outside texts at most: expressions are compiled by recursion.
const TAG_BYTES: usize = 4096;

/// A chat template, compiled.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    /// Without generation tags.
    source: String,
    marks_generation: bool,
    /// The names of special tokens: `bos_token` and so on.
    names: BTreeMap<String, String>,
    place: String,
}

impl ChatTemplate {
    /// The template of a folder: `chat_template.jinja`, else that of `tokenizer_config.json` (the
    /// one called `default`, where there are several). `None` if the folder has none.
    ///
    /// # Errors
    /// The user's: a file or the template cannot be understood, or there are several templates and
    /// none is the default.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let files = Files::read(folder)?;
        let (place, source) = match files.text(CHAT_TEMPLATE)? {
            Some(text) => (CHAT_TEMPLATE, Some(text.to_owned())),
            None => (CONFIG, in_config(&files)?),
        };
        let place = format!("{place} of {}", files.place());
        source.map(|source| Self::new(&source, Names::read(&files)?.texts(), place)).transpose()
    }

    /// A template from its source. `names` are those of special tokens, by role with `_token`;
    /// `place` is what errors call it.
    ///
    /// # Errors
    /// The user's, if it cannot be understood.
    pub fn new(source: &str, names: BTreeMap<String, String>, place: String) -> Result<Self> {
        check_size(source, &place)?;
        let (source, marks_generation) =
            jinja::without_generation_tags(&source.replace("\r\n", "\n").replace('\r', "\n"));
        let source = jinja::with_measured_sets(&source);
        let template = ChatTemplate { source, marks_generation, names, place };
        template.guarded(|| {
            template.compile(&mut jinja::environment(['\0'; 2], TEMPLATE_STEPS.value()?))
        })?;
        Ok(template)
    }

    /// Whether it says which parts of a chat the assistant wrote.
    pub fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// A chat as text; with `add_generation_prompt` up to where the assistant's next message
    /// begins.
    ///
    /// # Errors
    /// The user's: no message, the template refuses these or fails, takes more steps than it may,
    /// or never looks at tools that there are.
    pub fn render<'a>(
        &self,
        chat: impl Into<Chat<'a>>,
        add_generation_prompt: bool,
    ) -> Result<Rendered> {
        let chat = chat.into();
        if chat.messages.is_empty() {
            return Err(user("a chat has at least one message").into());
        }
        if chat.tools.is_some() && !self.mentions("tools") {
            let message = format!(
                "there are `tools`, and the chat template ({}) never looks at them",
                self.place
            );
            return Err(user(message)
                .hint("take a model whose template knows tools, or remove them")
                .into());
        }
        let marks = self.marks(chat);
        let reads = Reads::default();
        let given = self.given(chat, add_generation_prompt, &reads)?;
        let text = self.guarded(|| {
            let mut environment = jinja::environment(marks, TEMPLATE_STEPS.value()?);
            self.compile(&mut environment)?;
            let template = environment.get_template(NAME).expect("it was just put there");
            template.render(given).map_err(|error| self.failure(&error))
        })?;
        Ok(Rendered { ignored: self.ignored(chat, &reads)?, ..unmark(&text, marks) })
    }

    /// A prompt as text, up to where the answer begins, and the answer, up to the end-of-text token
    /// if the template closes it with that one: a row's completion is given it when it is
    /// tokenised. Without an answer, the second text is empty. Last, what the template ignores.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; and if the template writes the prompt otherwise once it is
    /// answered.
    pub fn write_out<'a>(
        &self,
        prompt: impl Into<Chat<'a>>,
        answer: &[Message],
    ) -> Result<(String, String, BTreeSet<String>)> {
        let prompt = prompt.into();
        let Rendered { text: head, ignored, .. } = self.render(prompt, true)?;
        if answer.is_empty() {
            return Ok((head, String::new(), ignored));
        }
        let messages = [prompt.messages, answer].concat();
        let Rendered { text: whole, ignored, .. } = self.render(prompt.with(&messages), false)?;
        let Some(tail) = whole.strip_prefix(&head) else { return Err(self.no_prefix().into()) };
        let end =
            self.names.get("eos_token").and_then(|eos| tail.trim_end().strip_suffix(eos.as_str()));
        let tail = end.unwrap_or(tail).to_owned();
        Ok((head, tail, ignored))
    }

    /// The variables of the template.
    fn given(&self, chat: Chat<'_>, add_generation_prompt: bool, reads: &Reads) -> Result<Shown> {
        let mut given: Vec<(&str, Shown)> =
            self.names.iter().map(|(role, name)| (role.as_str(), name.as_str().into())).collect();
        let none = || Shown::from(());
        given.extend([
            ("documents", none()),
            ("add_generation_prompt", add_generation_prompt.into()),
        ]);
        given.push(("tools", chat.tools.map_or_else(|| Ok(none()), shown)?));
        let messages: Result<Vec<Shown>, Failure> =
            chat.messages.iter().map(|message| reads.message(message.fields())).collect();
        given.push(("messages", messages?.into_iter().collect()));
        for (name, value) in chat.variables.into_iter().flatten() {
            if RESERVED.contains(&name.as_str()) {
                return Err(user(format!(
                    "`{name}` is a variable of the template's own, which no row sets"
                ))
                .into());
            }
            given.push((name, shown(value)?));
        }
        Ok(Shown::from_pairs(given))
    }

    /// What the template never looks at, of what says something.
    ///
    /// # Errors
    /// The user's: calls of tools are among that.
    fn ignored(&self, chat: Chat<'_>, reads: &Reads) -> Result<BTreeSet<String>> {
        let mut ignored = BTreeSet::new();
        let mut look = |fields: &Object, all: &AtomicBool| {
            // Arguments are an object as JSON text often: `{}` says nothing.
            let says = |value: &Json| !value.is_empty() && value.as_str() != Some("{}");
            let unseen = |(key, value): &(&String, &Json)| {
                says(value) && !LABELS.contains(&key.as_str()) && !self.mentions(key)
            };
            if !all.load(Ordering::Relaxed) {
                ignored.extend(fields.iter().filter(unseen).map(|(key, _)| key.clone()));
            }
        };
        for fields in chat.messages.iter().map(Message::fields) {
            look(fields, &reads.messages);
            calls(fields).for_each(|call| look(call, &reads.calls));
        }
        let variables =
            chat.variables.into_iter().flatten().filter(|(name, _)| !self.mentions(name));
        ignored.extend(variables.map(|(name, _)| name.clone()));
        match CALLS.iter().find(|calls| ignored.contains(**calls)) {
            None => Ok(ignored),
            Some(calls) => {
                let message = format!(
                    "a message has `{calls}`, and the chat template ({}) never looks at them",
                    self.place
                );
                Err(user(message)
                    .hint("take a model whose template knows them, or leave the row out")
                    .into())
            }
        }
    }

    /// Whether the template has this word.
    fn mentions(&self, name: &str) -> bool {
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        self.source.match_indices(name).any(|(at, _)| {
            !self.source[..at].ends_with(is_word)
                && !self.source[at + name.len()..].starts_with(is_word)
        })
    }

    /// What `f` returns; a panic of the engine is an error of the template.
    fn guarded<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        contained(f).unwrap_or_else(|why| {
            let message =
                format!("the chat template ({}) breaks the template engine: {why}", self.place);
            Err(user(message).hint("simplify the template").into())
        })
    }

    /// The error of a template by which what is trained on would not be what generation starts
    /// from.
    pub(super) fn no_prefix(&self) -> Failure {
        let message = format!(
            "the chat template ({}) writes messages otherwise once they are answered, so where an \
             answer begins is not to be told",
            self.place
        );
        user(message).hint(
            "a template whose output for a prompt begins its output for the whole chat is needed",
        )
    }

    fn compile<'a>(&'a self, environment: &mut Environment<'a>) -> Result<()> {
        environment.add_template(NAME, &self.source).map_err(|error| self.failure(&error))
    }

    /// Two characters that neither the template nor the chat has.
    fn marks(&self, chat: Chat<'_>) -> [char; 2] {
        let mut said = String::new();
        let tools =
            chat.tools.into_iter().chain(chat.variables.into_iter().flat_map(Object::values));
        chat.messages
            .iter()
            .flat_map(|message| message.fields().values())
            .chain(tools)
            .for_each(|value| append(value, &mut said));
        let names: String = self.names.values().map(String::as_str).collect();
        let absent =
            |mark: &char| ![&self.source, &said, &names].iter().any(|text| text.contains(*mark));
        let mut marks = ('\u{e000}'..='\u{f8ff}').chain('\u{f0000}'..='\u{ffffd}').filter(absent);
        [(); 2].map(|()| marks.next().expect("no text has every character for private use"))
    }

    fn failure(&self, error: &minijinja::Error) -> anyhow::Error {
        let refused =
            std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refused>());
        let line = error.line().map_or(String::new(), |line| format!(", line {line}"));
        let place = format!("the chat template ({}{line})", self.place);
        if let Some(Refused(message)) = refused {
            return user(format!("{place} refuses this chat: {message}")).into();
        }
        if runs_out(error) {
            let message = TEMPLATE_STEPS
                .value()
                .map(|steps| format!("{place} takes more than {steps} steps for this chat"));
            return message.map_or_else(Into::into, |message| {
                user(message).hint(TEMPLATE_STEPS.hint()).into()
            });
        }
        if error.kind() == ErrorKind::UnknownFunction
            && error.detail().is_some_and(|detail| detail.contains(jinja::CLOCK))
        {
            let hint = "put a fixed date into the template: what is rendered becomes part of an \
                artefact, which must not depend on the day";
            return user(format!("{place} asks for today's date")).hint(hint).into();
        }
        user(format!(
            "{place} fails: {}",
            error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
        ))
        .into()
    }
}

/// The name of the one template in an environment. No extension that would ask for escapes.
const NAME: &str = "chat";

/// The template in `tokenizer_config.json`: a text, or a list of templates with names.
fn in_config(files: &Files) -> Result<Option<String>> {
    match files.object(CONFIG)?.remove("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(named)) => {
            let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
            match named
                .iter()
                .find(|one| name(one) == "default")
                .and_then(|one| one["template"].as_str())
            {
                Some(text) => Ok(Some(text.to_owned())),
                None => {
                    let names: Vec<String> = named.iter().map(name).collect();
                    let message = format!(
                        "{CONFIG} of {} has several chat templates, none of them called `default`",
                        files.place()
                    );
                    Err(user(message).hint(format!("they are called: {}", names.join(", "))).into())
                }
            }
        }
        Some(other) => {
            Err(files
                .broken(CONFIG, &format!("chat_template is neither a text nor a list: {other}")))
        }
    }
}

/// Whether a template has used up its steps, there or in something that it called.
fn runs_out(error: &minijinja::Error) -> bool {
    let mut causes =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.any(|cause| {
        cause
            .downcast_ref::<minijinja::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::OutOfFuel)
    })
}

/// Refuses a template that is too large to be compiled in good time.
fn check_size(source: &str, place: &str) -> Result<()> {
    let too = |count: u64, limit: &limits::Limit, what: &str| -> Result<()> {
        match limit.value()? {
            most if count > most => Err(user(format!(
                "the chat template ({place}) has {count} {what}, more than {most}"
            ))
            .hint(limit.hint())
            .into()),
            _ => Ok(()),
        }
    };
    too(source.len() as u64, &TEMPLATE_BYTES, "bytes")?;
    let (tags, longest) = jinja::size(source);
    too(tags as u64, &TEMPLATE_TAGS, "tags")?;
    if longest > TAG_BYTES {
        let message = format!(
            "the chat template ({place}) has a tag of {longest} bytes outside texts, more than \
             {TAG_BYTES}"
        );
        return Err(user(message).hint("break the expression up with `set`").into());
    }
    Ok(())
}

/// The calls of a message, and what each says of its function.
fn calls(fields: &Object) -> impl Iterator<Item = &Object> {
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
fn append(value: &Json, said: &mut String) {
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
struct Reads {
    messages: Arc<AtomicBool>,
    calls: Arc<AtomicBool>,
}

impl Reads {
    /// A message as a template sees it.
    fn message(&self, fields: &Object) -> Result<Shown, Failure> {
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
fn shown(value: &Json) -> Result<Shown, Failure> {
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

/// Takes the marks out of a text, and says what was between them. Of marks within marks the outer
/// ones count.
fn unmark(marked: &str, [open, close]: [char; 2]) -> Rendered {
    let mut rendered =
        Rendered { text: String::with_capacity(marked.len()), ..Rendered::default() };
    let (mut depth, mut start) = (0, 0);
    for letter in marked.chars() {
        if letter == open {
            if depth == 0 {
                start = rendered.text.len();
            }
            depth += 1;
        } else if letter == close {
            depth -= 1;
            if depth == 0 && start < rendered.text.len() {
                rendered.generated.push(start..rendered.text.len());
            }
        } else {
            rendered.text.push(letter);
        }
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};
    use serde_json::json;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(
            source,
            [("bos_token".to_string(), "<s>".to_string())].into(),
            "a test".into(),
        )
        .unwrap()
    }

    fn complaint<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert_eq!(kind_of(&error), Kind::User);
        error.to_string()
    }

    fn parts(rendered: &Rendered) -> Vec<&str> {
        rendered.generated.iter().map(|part| &rendered.text[part.clone()]).collect()
    }

    #[test]
    fn generated_parts_are_cut_out_by_bytes_whatever_the_messages_hold() {
        let template = template(
            "{% for m in messages %}é{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}|",
        );
        let messages = ["\u{e000}a\u{e001}", "", "漢🎉"].map(|text| Message::new(ASSISTANT, text));
        let rendered = template.render(&messages, false).unwrap();
        assert_eq!(rendered.text, "é\u{e000}a\u{e001}éé漢🎉|");
        assert_eq!(parts(&rendered), ["\u{e000}a\u{e001}", "漢🎉"]);
    }

    #[test]
    fn parts_within_parts_and_within_other_blocks_are_found() {
        let nested =
            template("{% generation %}a{% generation %}b{% endgeneration %}c{% endgeneration %}d");
        let rendered = nested.render(&[Message::new("user", "")], false).unwrap();
        assert_eq!((rendered.text.as_str(), parts(&rendered)), ("abcd", vec!["abc"]));
        let captured = template(
            "{% set x %}a{% generation %}b{% endgeneration %}{% endset %}{{ x }}{{ bos_token }}",
        );
        let rendered = captured.render(&[Message::new("user", "")], false).unwrap();
        assert_eq!((rendered.text.as_str(), parts(&rendered)), ("ab<s>", vec!["b"]));
    }

    #[test]
    fn today_is_not_to_be_had() {
        let chat = [Message::new("user", "hi")];
        let message =
            complaint(template("{{ 1 }}\n{{ strftime_now('%d %b %Y') }}").render(&chat, false));
        assert!(
            message.contains("line 2")
                && message.contains("today's date")
                && message.contains("artefact"),
            "{message}"
        );
        let careful =
            template("{{ strftime_now('%Y') if strftime_now is defined else 'some day' }}");
        assert_eq!(careful.render(&chat, false).unwrap().text, "some day");
    }

    #[test]
    fn what_a_template_refuses_or_cannot_do_is_the_users_to_know() {
        let chat = [Message::new("user", "hi")];
        assert!(
            complaint(template("{{ raise_exception('no') }}").render(&chat, false))
                .ends_with("(a test, line 1) refuses this chat: no")
        );
        assert!(
            complaint(template("\n{{ messages[0].name.first }}").render(&chat, false))
                .contains("line 2) fails")
        );
        assert!(complaint(template("").render(&[], false)).contains("at least one message"));
        let broken = ChatTemplate::new("a\n{% if %}", BTreeMap::new(), "b.jinja".into());
        assert!(complaint(broken).contains("the chat template (b.jinja, line 2) fails"));
        let unclosed = ChatTemplate::new("{% generation %}", BTreeMap::new(), "b.jinja".into());
        assert!(complaint(unclosed).contains("b.jinja"));
    }

    #[test]
    fn a_folder_s_template_is_its_own_file_or_the_default_of_its_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let text = |folder: &Path| {
            Ok::<_, anyhow::Error>(
                ChatTemplate::open(folder)?
                    .map(|it| it.render(&[Message::new("user", "x")], true).unwrap().text),
            )
        };
        let config = |template: Value| {
            let config = json!({"bos_token": {"content": "<b>"}, "eos_token": null,
                "chat_template": template});
            std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string())
                .unwrap();
        };
        assert_eq!(text(folder.path()).unwrap(), None);
        config(Value::Null);
        assert_eq!(text(folder.path()).unwrap(), None);
        config(json!("{{ bos_token }}{{ eos_token is defined }}{{ add_generation_prompt }}"));
        assert_eq!(text(folder.path()).unwrap().as_deref(), Some("<b>FalseTrue"));
        config(
            json!([{"name": "tool_use", "template": "1"}, {"name": "default", "template": "2"}]),
        );
        assert_eq!(text(folder.path()).unwrap().as_deref(), Some("2"));
        config(json!([{"name": "tool_use", "template": "1"}]));
        let message = complaint(text(folder.path()));
        assert!(
            message.contains("several chat templates") && message.contains("tool_use"),
            "{message}"
        );
        config(json!(7));
        assert!(complaint(text(folder.path())).contains("chat_template is neither"));
        std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages[0].content }}\n")
            .unwrap();
        config(json!("2"));
        assert_eq!(text(folder.path()).unwrap().as_deref(), Some("x"));
    }

    #[test]
    fn a_message_keeps_what_else_it_has_and_nulls_count_as_absent() {
        let row = json!({"role": "user", "content": "x", "name": null, "tool_calls": [{"id": 1}]});
        let message: Message = serde_json::from_value(row).unwrap();
        let template =
            template("{{ messages[0].name is defined }} {{ messages[0].tool_calls[0].id }}");
        assert_eq!(template.render(&[message], false).unwrap().text, "False 1");
    }

    fn message(text: &str) -> Message {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_a_template_writes_of_an_object_is_in_the_order_of_the_row_and_to_the_last_digit() {
        let call = r#"{"function":{"name":"f","arguments":{"z":"B","a":12345678901234567890123,"at":{"y":1.50,"x":[]}}}}"#;
        let chat = [message(&format!(r#"{{"role":"assistant","tool_calls":[{call}]}}"#))];
        let template = template(
            "{% for c in messages[0].tool_calls %}{{ c | tojson }}|{% for k, v in c.function.arguments.items() %}{{ k }},{% endfor %}{% for k in c.function %}{{ k }},{% endfor %}{% endfor %}",
        );
        let expected = r#"{"function": {"name": "f", "arguments": {"z": "B", "a": 12345678901234567890123, "at": {"y": 1.5, "x": []}}}}"#;
        assert_eq!(
            template.render(&chat, false).unwrap().text,
            format!("{expected}|z,a,at,name,arguments,")
        );
        let beyond = [message(
            r#"{"role":"user","content":"a","n":1234567890123456789012345678901234567890}"#,
        )];
        assert!(
            complaint(template.render(&beyond, false))
                .contains("larger than a chat template can hold")
        );
    }

    #[test]
    fn tools_and_calls_that_a_template_never_looks_at_are_refused_and_other_fields_are_named() {
        let plain = template("{% for m in messages %}{{ m.content }}{% endfor %}");
        let tools = Json::from(json!([{"type": "function", "function": {"name": "f"}}]));
        let chat = [Message::new("user", "hi")];
        let with_tools = |messages| Chat { tools: Some(&tools), ..Chat::from(messages) };
        assert!(complaint(plain.render(with_tools(&chat), false)).contains("there are `tools`"));
        assert_eq!(
            template("{{ tools[0].function.name }}").render(with_tools(&chat), false).unwrap().text,
            "f"
        );
        let calls = [message(
            r#"{"role":"assistant","content":"a","tool_calls":[{"id":"c","function":{"name":"f","strict":true}}]}"#,
        )];
        assert!(complaint(plain.render(&calls, false)).contains("a message has `tool_calls`"));
        let names =
            template("{% for c in messages[0].tool_calls %}{{ c.function.name }}{% endfor %}");
        assert_eq!(names.render(&calls, false).unwrap().ignored, ["strict".to_owned()].into());
        let more = [message(
            r#"{"role":"user","content":"a","name":"b","mood":"c","tool_calls":[],"lang":""}"#,
        )];
        assert_eq!(plain.render(&more, false).unwrap().ignored, ["mood".to_owned()].into());
        for looks in [
            "{{ messages[0].mood }}",
            "{{ messages[0] | tojson }}",
            "{% for k, v in messages[0].items() %}{{ v }}{% endfor %}",
        ] {
            assert!(template(looks).render(&more, false).unwrap().ignored.is_empty(), "{looks}");
        }
    }

    #[test]
    fn a_row_sets_variables_of_a_template_but_none_of_its_own() {
        let template = template("{{ enable_thinking }}{{ documents is none }}");
        let chat = [Message::new("user", "hi")];
        let render = |variables: Value| {
            let Json::Object(variables) = Json::from(variables) else {
                unreachable!("it is an object")
            };
            template.render(Chat { variables: Some(&variables), ..Chat::from(&chat) }, false)
        };
        assert_eq!(render(json!({"enable_thinking": false})).unwrap().text, "FalseTrue");
        assert_eq!(render(json!({"documents": [1]})).unwrap().text, "False");
        assert!(
            complaint(render(json!({"messages": []})))
                .contains("`messages` is a variable of the template's own")
        );
    }
}
