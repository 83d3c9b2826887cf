//! Records that are texts or messages already, so that no template writes them: the columns of TRL,
//! of ShareGPT, and of hh-rlhf.

use std::collections::BTreeSet;

use super::raw_rows::Row;
use super::record_content::{Content, Ignored, Laid};
use crate::error::{Failure, Result, user};
use crate::json::{Json, Object};
use crate::tokenizer::chat::{ASSISTANT, Chat, ChatTemplate, Message};
use crate::tokenizer::messages;

/// What a dialogue of hh-rlhf has before the assistant's turns.
const TURN: &str = "\n\nAssistant:";

fn text<'a>(row: &'a Row, column: &str) -> Result<&'a str> {
    match row.get(column) {
        Some(Json::Text(text)) => Ok(text),
        Some(_) => Err(user(format!("the column `{column}` holds no text")).into()),
        None => Err(user(format!("there is no column `{column}`"))
            .hint(format!("the columns are: {}", names(row)))
            .into()),
    }
}

fn names(row: &Row) -> String {
    row.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The row of hh-rlhf's columns: both dialogues up to the last turn of the assistant that they
/// begin alike, and what each goes on with.
pub(super) fn dialogues(row: &Row) -> Result<Laid> {
    let (chosen, rejected) = (text(row, "chosen")?, text(row, "rejected")?);
    let common = &chosen[..common_prefix(chosen, rejected)];
    let Some(at) = common.rfind(TURN) else {
        return Err(user(
            "`chosen` and `rejected` do not begin with the same dialogue up to `Assistant:`",
        )
        .into());
    };
    let (prompt, chosen) = chosen.split_at(at + TURN.len());
    let rejected = rejected[prompt.len()..].into();
    let (prompt, chosen) = (prompt.into(), chosen.into());
    Ok(Content::Preference { prompt, chosen, rejected, chat: false }.into())
}

/// Bytes that two texts begin with alike, whole characters.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// The columns of pictures and sounds, which no model here reads.
const MEDIA: [&str; 6] = ["image", "images", "video", "videos", "audio", "audios"];

/// What is beside the messages of a row.
struct Beside {
    tools: Option<Json>,
    variables: Object,
}

impl Beside {
    fn of(row: &Row) -> Result<Self> {
        let given = |column: &str| row.get(column).filter(|value| !value.is_empty());
        if let Some(column) = MEDIA.iter().find(|column| given(column).is_some()) {
            return Err(user(format!(
                "the column `{column}` holds more than text, and nothing here reads it"
            ))
            .into());
        }
        let variables = match row.get("chat_template_kwargs") {
            None | Some(Json::Null) => Object::new(),
            Some(Json::Object(variables)) => {
                variables.iter().filter(|(_, value)| !value.is_null()).map(owned).collect()
            }
            Some(other) => {
                return Err(user(format!(
                    "the column `chat_template_kwargs` holds {}, not an object",
                    other.what()
                ))
                .into());
            }
        };
        let tools = messages::tools(row.get("tools").cloned().unwrap_or_default());
        let tools = tools.map_err(|failure| Failure {
            message: format!("the column {}", failure.message),
            ..failure
        })?;
        Ok(Beside { tools, variables })
    }

    fn is_empty(&self) -> bool {
        self.tools.is_none() && self.variables.is_empty()
    }

    fn chat<'a>(&'a self, messages: &'a [Message]) -> Chat<'a> {
        Chat {
            messages,
            tools: self.tools.as_ref(),
            variables: Some(&self.variables).filter(|variables| !variables.is_empty()),
        }
    }
}

fn owned((key, value): (&String, &Json)) -> (String, Json) {
    (key.clone(), value.clone())
}

/// The row of ShareGPT's columns: `conversations`, and before them what `system` says.
pub(super) fn sharegpt(row: &Row, chat: Option<&ChatTemplate>) -> Result<Laid> {
    let turns = row
        .get("conversations")
        .and_then(Json::as_list)
        .ok_or_else(|| user("expected `conversations`, a list of turns"))?;
    let mut ignored = Ignored::default();
    let mut messages = Vec::with_capacity(turns.len());
    match row.get("system").filter(|system| !system.is_empty()) {
        None => {}
        Some(Json::Text(text)) => messages.push(Message::new("system", text)),
        Some(other) => {
            return Err(
                user(format!("the column `system` holds {}, not a text", other.what())).into()
            );
        }
    }
    for turn in turns {
        let text = |key: &str| turn.get(key).and_then(Json::as_str);
        let (Some(from), Some(value)) = (text("from"), text("value")) else {
            return Err(user("expected every turn to have the texts `from` and `value`").into());
        };
        let role = match from {
            "human" => "user",
            "gpt" => ASSISTANT,
            other => other,
        };
        let mut fields: Object = [("role", role), ("content", value)]
            .map(|(key, text)| (key.to_owned(), Json::Text(text.into())))
            .into();
        for (key, value) in turn
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| !matches!(key.as_str(), "from" | "value"))
        {
            match key.as_str() {
                "weight" => fields.extend([owned((key, value))]),
                _ if value.is_empty() => {}
                _ => ignored.fields.extend([key.clone()]),
            }
        }
        messages.push(Message::read(Json::Object(fields))?);
    }
    let mut laid = conversation(messages, Beside::of(row)?, chat)?;
    laid.ignored.fields.append(&mut ignored.fields);
    laid.ignored.columns =
        unread(row, &["conversations", "system", "tools", "chat_template_kwargs"]);
    Ok(laid)
}

/// The columns that say something and are none of those that are read.
fn unread(row: &Row, read: &[&str]) -> BTreeSet<String> {
    let unread = |(column, value): &(&String, &Json)| {
        !value.is_empty() && !read.contains(&column.as_str()) && *column != "id"
    };
    row.iter().filter(unread).map(|(column, _)| column.clone()).collect()
}

/// A column that is a text or a list of messages.
enum Column<'a> {
    Text(&'a str),
    Messages(Vec<Message>),
}

fn column<'a>(row: &'a Row, name: &str) -> Result<Option<Column<'a>>> {
    match row.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Text(text)) => Ok(Some(Column::Text(text))),
        Some(list @ Json::List(_)) => {
            let messages = Message::read_all(list.clone());
            let wrong = |failure: Failure| Failure {
                message: format!("the column `{name}`: {}", failure.message),
                ..failure
            };
            Ok(Some(Column::Messages(messages.map_err(wrong)?)))
        }
        Some(_) => {
            Err(user(format!("the column `{name}` holds neither a text nor a list of messages"))
                .into())
        }
    }
}

/// TRL's columns.
pub(super) fn columns(row: &Row, chat: Option<&ChatTemplate>) -> Result<Laid> {
    use Column::{Messages, Text};
    if matches!(row.get("label"), Some(Json::Bool(_))) {
        let hint = "to learn from some of them as they are, give `prompt`, `completion` and `keep: \
            [{column: label, equals: \"true\"}]`";
        return Err(user(
            "completions with a `label` are judged one by one, and nothing here learns from that",
        )
        .hint(hint)
        .into());
    }
    let mixed = || user("some of its columns are texts and some are lists of messages");
    let beside = Beside::of(row)?;
    const BESIDE: [&str; 2] = ["tools", "chat_template_kwargs"];
    if let Some(Messages(messages)) = column(row, "messages")? {
        let mut laid = conversation(messages, beside, chat)?;
        laid.ignored.columns = unread(row, &[&["messages"][..], &BESIDE].concat());
        return Ok(laid);
    }
    let write = |prompt: &[Message], answer: &[Message]| match chat {
        _ if answer.iter().any(|message| !message.is_learned()) => {
            Err(user("a message of the answer has `weight` 0, and an answer is learned whole")
                .hint("give the row as `messages`")
                .into())
        }
        Some(chat) => chat.write_out(beside.chat(prompt), answer),
        None => Err(user("the row holds messages")
            .hint("name a model under `chat`: its chat template writes them out")
            .into()),
    };
    let texts = |content: Content, read: &[&str]| match beside.is_empty() {
        true => Ok(Laid {
            content,
            ignored: Ignored { columns: unread(row, read), ..Ignored::default() },
        }),
        false => Err(user(
            "it has `tools` or `chat_template_kwargs`, and its columns are texts, which no \
             template writes",
        )
        .into()),
    };
    let written = |content: Content, fields: BTreeSet<String>, read: &[&str]| {
        Ok(Laid {
            content,
            ignored: Ignored { columns: unread(row, &[read, &BESIDE].concat()), fields },
        })
    };
    let [prompt, completion, chosen, rejected, text] =
        ["prompt", "completion", "chosen", "rejected", "text"].map(|name| column(row, name));
    match (prompt?, completion?, chosen?, rejected?, text?) {
        (Some(Text(prompt)), _, Some(Text(chosen)), Some(Text(rejected)), _) => {
            let (prompt, chosen, rejected) = (prompt.into(), chosen.into(), rejected.into());
            texts(
                Content::Preference { prompt, chosen, rejected, chat: false },
                &["prompt", "chosen", "rejected"],
            )
        }
        (
            prompt @ (None | Some(Messages(_))),
            _,
            Some(Messages(mut chosen)),
            Some(Messages(mut rejected)),
            _,
        ) => {
            let prompt = match prompt {
                Some(Messages(prompt)) => prompt,
                _ => {
                    let common = chosen
                        .iter()
                        .zip(&rejected)
                        .take_while(|(chosen, rejected)| chosen == rejected)
                        .count();
                    rejected.drain(..common);
                    chosen.drain(..common).collect()
                }
            };
            let ((prompt, chosen, mut fields), (_, rejected, more)) =
                (write(&prompt, &chosen)?, write(&prompt, &rejected)?);
            fields.extend(more);
            written(
                Content::Preference { prompt, chosen, rejected, chat: true },
                fields,
                &["prompt", "chosen", "rejected"],
            )
        }
        (None, _, Some(Text(chosen)), Some(Text(rejected)), _) => {
            // Back to the last white space, so that no word is cut in two.
            let common = &chosen[..common_prefix(chosen, rejected)];
            let (prompt, chosen) = chosen.split_at(common.rfind(char::is_whitespace).unwrap_or(0));
            let (prompt, chosen, rejected) =
                (prompt.into(), chosen.into(), rejected[prompt.len()..].into());
            texts(
                Content::Preference { prompt, chosen, rejected, chat: false },
                &["chosen", "rejected"],
            )
        }
        (Some(Text(prompt)), completion @ (None | Some(Text(_))), None, None, _) => {
            let completion = if let Some(Text(completion)) = completion { completion } else { "" };
            texts(
                Content::Example {
                    prompt: prompt.into(),
                    completion: completion.into(),
                    chat: false,
                },
                &["prompt", "completion"],
            )
        }
        (Some(Messages(prompt)), completion @ (None | Some(Messages(_))), None, None, _) => {
            let completion =
                if let Some(Messages(completion)) = completion { completion } else { Vec::new() };
            let (prompt, completion, fields) = write(&prompt, &completion)?;
            written(
                Content::Example { prompt, completion, chat: true },
                fields,
                &["prompt", "completion"],
            )
        }
        (None, None, None, None, Some(Text(text))) => texts(
            Content::Example { prompt: String::new(), completion: text.into(), chat: false },
            &["text"],
        ),
        (None, None, None, None, None) => {
            let hint = format!(
                "give `format`, or `prompt` and `completion`; the columns are: {}",
                names(row)
            );
            Err(user("its columns are none that are known by name").hint(hint).into())
        }
        (_, _, Some(_), None, _) | (_, _, None, Some(_), _) => {
            Err(user("it has one of `chosen` and `rejected`, not both").into())
        }
        _ => Err(mixed().into()),
    }
}

/// A conversation as it is, or, with a template, its last answer after all that was said before.
fn conversation(
    messages: Vec<Message>,
    beside: Beside,
    chat: Option<&ChatTemplate>,
) -> Result<Laid> {
    let Some(last) = messages.iter().rposition(|message| message.role() == ASSISTANT) else {
        return Err(user("no message is the assistant's, so there is nothing to learn").into());
    };
    let learned = |message: &Message| message.role() == ASSISTANT && message.is_learned();
    match chat {
        None if !messages.iter().any(learned) => {
            Err(user("every message of the assistant has `weight` 0, so there is nothing to learn")
                .into())
        }
        None => {
            Ok(Content::Conversation { messages, tools: beside.tools, variables: beside.variables }
                .into())
        }
        Some(_) if last + 1 < messages.len() => {
            Err(user("the last message is not the assistant's").into())
        }
        Some(_) if !messages[last].is_learned() => {
            let hint = "without `chat` the row stays a conversation, of which `sft` learns the \
                other answers";
            Err(user(
                "the last answer has `weight` 0, and with `chat` it is the one that is learned",
            )
            .hint(hint)
            .into())
        }
        Some(chat) => {
            let (prompt, completion, fields) =
                chat.write_out(beside.chat(&messages[..last]), &messages[last..])?;
            let ignored = Ignored { fields, ..Ignored::default() };
            Ok(Laid { content: Content::Example { prompt, completion, chat: true }, ignored })
        }
    }
}
