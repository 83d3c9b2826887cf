//! Chats as texts: the chat template that a model brings along, and which parts of what it renders the assistant wrote. Knows no token.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::jinja::{self, Refused};
use super::special::Names;
use super::token_files::{CHAT_TEMPLATE, CONFIG, Files};
use crate::error::{Failure, Result, user};

/// The role of the messages that a model writes.
pub const ASSISTANT: &str = "assistant";

/// A message of a chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
    /// Anything else that a template may look at, such as `tool_calls`; null counts as absent.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

impl Message {
    /// A message that is nothing but a text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into(), others: BTreeMap::new() }
    }
}

/// A chat as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What the model reads, special tokens by name.
    pub text: String,
    /// The bytes of `text` between generation tags, in order.
    pub generated: Vec<Range<usize>>,
}

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
    /// The template of a folder: `chat_template.jinja`, else that of `tokenizer_config.json` (the one called `default`, where there are
    /// several). `None` if the folder has none.
    ///
    /// # Errors
    /// The user's: a file or the template cannot be understood, or there are several templates and none is the default.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let files = Files::read(folder)?;
        let (place, source) = match files.text(CHAT_TEMPLATE)? {
            Some(text) => (CHAT_TEMPLATE, Some(text.to_owned())),
            None => (CONFIG, in_config(&files)?),
        };
        let place = format!("{place} of {}", files.place());
        source.map(|source| Self::new(&source, Names::read(&files)?.texts(), place)).transpose()
    }

    /// A template from its source. `names` are those of special tokens, by role with `_token`; `place` is what errors call it.
    ///
    /// # Errors
    /// The user's, if it cannot be understood.
    pub fn new(source: &str, names: BTreeMap<String, String>, place: String) -> Result<Self> {
        let (source, marks_generation) = jinja::without_generation_tags(source);
        let template = ChatTemplate { source, marks_generation, names, place };
        template.compile(&mut jinja::environment(['\0'; 2]))?;
        Ok(template)
    }

    /// Whether it says which parts of a chat the assistant wrote.
    pub fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// A chat as text; with `add_generation_prompt` up to where the assistant's next message begins.
    ///
    /// # Errors
    /// The user's: no message, or the template refuses these or fails.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Rendered> {
        if messages.is_empty() {
            return Err(user("a chat has at least one message").into());
        }
        let messages: Vec<Message> = messages.iter().map(without_nulls).collect();
        let marks = self.marks(&messages);
        let mut environment = jinja::environment(marks);
        self.compile(&mut environment)?;
        let template = environment.get_template(NAME).expect("it was just put there");
        let names = self.names.iter().map(|(role, name)| (role.as_str(), name.as_str()));
        let given = context! {
            messages => Serde(messages), add_generation_prompt, tools => (), documents => (), ..minijinja::Value::from_pairs(names)
        };
        let text = template.render(given).map_err(|error| self.failure(&error))?;
        Ok(unmark(&text, marks))
    }

    /// A prompt as text, up to where the answer begins, and the answer, up to the end-of-text token if the template closes it with that
    /// one: a row's completion is given it when it is tokenised. Without an answer, the second text is empty.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; and if the template writes the prompt otherwise once it is answered.
    pub fn write_out(&self, prompt: &[Message], answer: &[Message]) -> Result<(String, String)> {
        let head = self.render(prompt, true)?.text;
        if answer.is_empty() {
            return Ok((head, String::new()));
        }
        let whole = self.render(&[prompt, answer].concat(), false)?.text;
        let Some(tail) = whole.strip_prefix(&head) else { return Err(self.no_prefix().into()) };
        let end = self.names.get("eos_token").and_then(|eos| tail.trim_end().strip_suffix(eos.as_str()));
        let tail = end.unwrap_or(tail).to_owned();
        Ok((head, tail))
    }

    /// The error of a template by which what is trained on would not be what generation starts from.
    pub(super) fn no_prefix(&self) -> Failure {
        let message = format!(
            "the chat template ({}) writes messages otherwise once they are answered, so where an answer begins is not to be told",
            self.place
        );
        user(message).hint("a template whose output for a prompt begins its output for the whole chat is needed")
    }

    fn compile<'a>(&'a self, environment: &mut Environment<'a>) -> Result<()> {
        environment.add_template(NAME, &self.source).map_err(|error| self.failure(&error))
    }

    /// Two characters that neither the template nor the messages have.
    fn marks(&self, messages: &[Message]) -> [char; 2] {
        let said = serde_json::to_string(messages).expect("messages are plain data");
        let names: String = self.names.values().map(String::as_str).collect();
        let absent = |mark: &char| ![&self.source, &said, &names].iter().any(|text| text.contains(*mark));
        let mut marks = ('\u{e000}'..='\u{f8ff}').chain('\u{f0000}'..='\u{ffffd}').filter(absent);
        [(); 2].map(|()| marks.next().expect("no text has every character for private use"))
    }

    fn failure(&self, error: &minijinja::Error) -> anyhow::Error {
        let refused = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refused>());
        let line = error.line().map_or(String::new(), |line| format!(", line {line}"));
        let place = format!("the chat template ({}{line})", self.place);
        if let Some(Refused(message)) = refused {
            return user(format!("{place} refuses this chat: {message}")).into();
        }
        if error.kind() == ErrorKind::UnknownFunction && error.detail().is_some_and(|detail| detail.contains(jinja::CLOCK)) {
            let hint = "put a fixed date into the template: what is rendered becomes part of an artefact, which must not depend on the day";
            return user(format!("{place} asks for today's date")).hint(hint).into();
        }
        user(format!("{place} fails: {}", error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))).into()
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
            match named.iter().find(|one| name(one) == "default").and_then(|one| one["template"].as_str()) {
                Some(text) => Ok(Some(text.to_owned())),
                None => {
                    let names: Vec<String> = named.iter().map(name).collect();
                    let message = format!("{CONFIG} of {} has several chat templates, none of them called `default`", files.place());
                    Err(user(message).hint(format!("they are called: {}", names.join(", "))).into())
                }
            }
        }
        Some(other) => Err(files.broken(CONFIG, &format!("chat_template is neither a text nor a list: {other}"))),
    }
}

fn without_nulls(message: &Message) -> Message {
    let mut message = message.clone();
    message.others.retain(|_, value| !value.is_null());
    message
}

/// Takes the marks out of a text, and says what stood between them. Of marks within marks the outer ones count.
fn unmark(marked: &str, [open, close]: [char; 2]) -> Rendered {
    let mut rendered = Rendered { text: String::with_capacity(marked.len()), generated: Vec::new() };
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
        ChatTemplate::new(source, [("bos_token".to_string(), "<s>".to_string())].into(), "a test".into()).unwrap()
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
        let template = template("{% for m in messages %}é{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}|");
        let messages = ["\u{e000}a\u{e001}", "", "漢🎉"].map(|text| Message::new(ASSISTANT, text));
        let rendered = template.render(&messages, false).unwrap();
        assert_eq!(rendered.text, "é\u{e000}a\u{e001}éé漢🎉|");
        assert_eq!(parts(&rendered), ["\u{e000}a\u{e001}", "漢🎉"]);
    }

    #[test]
    fn parts_within_parts_and_within_other_blocks_are_found() {
        let nested = template("{% generation %}a{% generation %}b{% endgeneration %}c{% endgeneration %}d");
        let rendered = nested.render(&[Message::new("user", "")], false).unwrap();
        assert_eq!((rendered.text.as_str(), parts(&rendered)), ("abcd", vec!["abc"]));
        let captured = template("{% set x %}a{% generation %}b{% endgeneration %}{% endset %}{{ x }}{{ bos_token }}");
        let rendered = captured.render(&[Message::new("user", "")], false).unwrap();
        assert_eq!((rendered.text.as_str(), parts(&rendered)), ("ab<s>", vec!["b"]));
    }

    #[test]
    fn today_is_not_to_be_had() {
        let chat = [Message::new("user", "hi")];
        let message = complaint(template("{{ 1 }}\n{{ strftime_now('%d %b %Y') }}").render(&chat, false));
        assert!(message.contains("line 2") && message.contains("today's date") && message.contains("artefact"), "{message}");
        let careful = template("{{ strftime_now('%Y') if strftime_now is defined else 'some day' }}");
        assert_eq!(careful.render(&chat, false).unwrap().text, "some day");
    }

    #[test]
    fn what_a_template_refuses_or_cannot_do_is_the_users_to_know() {
        let chat = [Message::new("user", "hi")];
        assert!(
            complaint(template("{{ raise_exception('no') }}").render(&chat, false)).ends_with("(a test, line 1) refuses this chat: no")
        );
        assert!(complaint(template("\n{{ messages[0].name.first }}").render(&chat, false)).contains("line 2) fails"));
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
            Ok::<_, anyhow::Error>(ChatTemplate::open(folder)?.map(|it| it.render(&[Message::new("user", "x")], true).unwrap().text))
        };
        let config = |template: Value| {
            let config = json!({"bos_token": {"content": "<b>"}, "eos_token": null, "chat_template": template});
            std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        };
        assert_eq!(text(folder.path()).unwrap(), None);
        config(Value::Null);
        assert_eq!(text(folder.path()).unwrap(), None);
        config(json!("{{ bos_token }}{{ eos_token is defined }}{{ add_generation_prompt }}"));
        assert_eq!(text(folder.path()).unwrap().as_deref(), Some("<b>FalseTrue"));
        config(json!([{"name": "tool_use", "template": "1"}, {"name": "default", "template": "2"}]));
        assert_eq!(text(folder.path()).unwrap().as_deref(), Some("2"));
        config(json!([{"name": "tool_use", "template": "1"}]));
        let message = complaint(text(folder.path()));
        assert!(message.contains("several chat templates") && message.contains("tool_use"), "{message}");
        config(json!(7));
        assert!(complaint(text(folder.path())).contains("chat_template is neither"));
        std::fs::write(folder.path().join("chat_template.jinja"), "{{ messages[0].content }}\n").unwrap();
        config(json!("2"));
        assert_eq!(text(folder.path()).unwrap().as_deref(), Some("x"));
    }

    #[test]
    fn a_message_keeps_what_else_it_has_and_nulls_count_as_absent() {
        let row = json!({"role": "user", "content": "x", "name": null, "tool_calls": [{"id": 1}]});
        let message: Message = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(serde_json::to_value(&message).unwrap(), row);
        let template = template("{{ messages[0].name is defined }} {{ messages[0].tool_calls[0].id }}");
        assert_eq!(template.render(&[message], false).unwrap().text, "False 1");
    }
}
