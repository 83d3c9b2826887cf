//! The record layouts of public data sets: from a row as it is published to a prompt with a completion, a preference pair, or a
//! conversation. Knows no file.
//!
//! 1. A layout is a set of templates where the data set leaves the prompt to whoever reads it, and code where the row is the text already.
//! 2. Where a completion follows a cue on the same line (`TL;DR:`), exactly one space stands before it, whatever the record has.
//! 3. Templates: Reddit TL;DR and CNN/DailyMail as Kirk et al. 2024 (released code) have them, instructions as AlpacaFarm (Dubois et al.
//!    2023, `v0_inputs_noinputs`).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{ASSISTANT, ChatTemplate, Message};
use super::tables::Row;
use crate::error::{Result, user};

/// How a record is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// By the columns that TRL reads: `messages`; `prompt`, `completion`; `prompt`, `chosen`, `rejected`; `chosen`, `rejected`; `prompt`;
    /// `text`. Each is a text, or a list of messages.
    Trl,
    /// `conversations`, a list of `from` and `value`.
    Sharegpt,
    /// Reddit TL;DR: `id`, `subreddit`, `title`, `post`, `summary`.
    Tldr,
    /// OpenAI's comparisons, of TL;DR or CNN/DailyMail: `info`, `summaries`, `choice`, `batch`, `split`.
    OpenaiComparisons,
    /// CNN/DailyMail: `article`, `highlights`.
    CnnDailymail,
    /// AlpacaFarm, Alpaca, AlpacaEval: `instruction`, `input`, `output`.
    AlpacaFarm,
    /// AlpacaFarm's comparisons: `instruction`, `input`, `output_1`, `output_2`, `preference`.
    AlpacaFarmPreferences,
    /// Self-Instruct: `instruction` with `input` and `output`, or with `instances` of them.
    SelfInstruct,
    /// Sequential Instructions: `instruction`, `output`.
    SequentialInstructions,
    /// hh-rlhf: `chosen` and `rejected`, each a whole dialogue of `Human:` and `Assistant:`.
    HhRlhf,
}

/// What a row comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A prompt with its completion.
    Example {
        /// What the model is given.
        prompt: String,
        /// What it should answer.
        completion: String,
    },
    /// Two completions of a prompt.
    Preference {
        /// What both answer.
        prompt: String,
        /// The one that was preferred.
        chosen: String,
        /// The other one.
        rejected: String,
    },
    /// Messages.
    Conversation(Vec<Message>),
}

/// The templates of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Of the prompt.
    pub prompt: &'static str,
    /// Of what follows it.
    pub answer: Answer,
}

/// Templates of what follows a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One completion.
    Completion(&'static str),
    /// Chosen and rejected.
    Pair(&'static str, &'static str),
}

const TLDR: &str = "SUBREDDIT: r/{subreddit}\nTITLE: {title}\nPOST: {post}\nTL;DR:";
const ARTICLE: &str = "ARTICLE: {article}\nTL;DR:";
const INSTRUCTION: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the \
request.\n\n### Instruction:\n{instruction}\n\n### Response:";
const INSTRUCTION_WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:";

/// What a dialogue of hh-rlhf has before the assistant's turns.
const TURN: &str = "\n\nAssistant:";

impl Format {
    /// Whether the row is the text already, so that no template can be put in the place of its own.
    pub fn is_text(self) -> bool {
        matches!(self, Format::Trl | Format::Sharegpt | Format::HhRlhf)
    }

    /// Brings a record's columns to where templates, filters and cuts find them: those of `info` and of the first of `instances` stand
    /// beside the others, and the texts of a comparison are called `chosen` and `rejected`.
    pub fn flatten(self, row: &mut Row) -> Result<()> {
        match self {
            Format::Tldr => trim(row, "summary"),
            Format::CnnDailymail => trim(row, "highlights"),
            Format::OpenaiComparisons => {
                if let Some(Value::Object(info)) = row.remove("info") {
                    row.extend(info);
                }
                let choice = row.get("choice").and_then(Value::as_u64).filter(|choice| *choice < 2);
                let choice = choice.ok_or_else(|| user("expected a `choice` of 0 or 1"))? as usize;
                let text = |at: usize| row.get("summaries")?.get(at)?.get("text")?.as_str().map(|text| Value::from(text.trim_start()));
                let (Some(first), Some(second)) = (text(0), text(1)) else {
                    return Err(user("expected two `summaries`, each with a `text`").into());
                };
                pair(row, [first, second], choice);
            }
            Format::AlpacaFarmPreferences => {
                let preference = row.get("preference").and_then(Value::as_f64);
                let Some(choice) = [1.0, 2.0].iter().position(|side| preference == Some(*side)) else {
                    return Err(user("expected a `preference` of 1 or 2").into());
                };
                let [first, second] = ["output_1", "output_2"].map(|column| row.get(column).cloned().unwrap_or_default());
                pair(row, [first, second], choice);
            }
            Format::SelfInstruct => {
                if let Some(Value::Object(instance)) = row.get("instances").and_then(|instances| instances.get(0)).cloned() {
                    row.extend(instance);
                }
            }
            Format::Trl | Format::Sharegpt | Format::AlpacaFarm | Format::SequentialInstructions | Format::HhRlhf => {}
        }
        Ok(())
    }

    /// The templates for a flattened record; `None` where [`Format::is_text`].
    pub fn texts(self, row: &Row) -> Option<Texts> {
        let given = |column: &str| row.get(column).is_some_and(|value| value.as_str() != Some("") && !value.is_null());
        let instruction = if given("input") { INSTRUCTION_WITH_INPUT } else { INSTRUCTION };
        let (prompt, answer) = match self {
            Format::Tldr => (TLDR, Answer::Completion(" {summary}")),
            Format::CnnDailymail => (ARTICLE, Answer::Completion(" {highlights}")),
            Format::OpenaiComparisons => (if given("article") { ARTICLE } else { TLDR }, Answer::Pair(" {chosen}", " {rejected}")),
            Format::AlpacaFarm | Format::SelfInstruct | Format::SequentialInstructions => (instruction, Answer::Completion("{output}")),
            Format::AlpacaFarmPreferences => (instruction, Answer::Pair("{chosen}", "{rejected}")),
            Format::Trl | Format::Sharegpt | Format::HhRlhf => return None,
        };
        Some(Texts { prompt, answer })
    }

    /// What a record that is the text already comes to. Messages are written out by a chat template, if there is one.
    ///
    /// # Errors
    /// The user's: columns that are missing or hold something else; messages that must be written out, and no template.
    pub fn content(self, row: &Row, chat: Option<&ChatTemplate>) -> Result<Content> {
        match self {
            Format::HhRlhf => dialogues(text(row, "chosen")?, text(row, "rejected")?),
            Format::Sharegpt => conversation(turns(row)?, chat),
            _ => columns(row, chat),
        }
    }
}

/// Takes the white space off the beginning of a column that is a text.
fn trim(row: &mut Row, column: &str) {
    if let Some(Value::String(text)) = row.get_mut(column) {
        *text = text.trim_start().to_owned();
    }
}

fn pair(row: &mut Row, mut sides: [Value; 2], chosen: usize) {
    sides.swap(0, chosen);
    let [chosen, rejected] = sides;
    row.insert("chosen".into(), chosen);
    row.insert("rejected".into(), rejected);
}

fn text<'a>(row: &'a Row, column: &str) -> Result<&'a str> {
    match row.get(column) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(user(format!("the column `{column}` holds no text")).into()),
        None => Err(user(format!("there is no column `{column}`")).hint(format!("the columns are: {}", names(row))).into()),
    }
}

fn names(row: &Row) -> String {
    row.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Both dialogues up to the last turn of the assistant that they begin alike, and what each goes on with.
fn dialogues(chosen: &str, rejected: &str) -> Result<Content> {
    let common = &chosen[..common_prefix(chosen, rejected)];
    let Some(at) = common.rfind(TURN) else {
        return Err(user("`chosen` and `rejected` do not begin with the same dialogue up to `Assistant:`").into());
    };
    let (prompt, chosen) = chosen.split_at(at + TURN.len());
    Ok(Content::Preference { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected[prompt.len()..].into() })
}

/// Bytes that two texts begin with alike, whole characters.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// The messages of sharegpt's turns.
fn turns(row: &Row) -> Result<Vec<Message>> {
    let turns = row.get("conversations").and_then(Value::as_array).ok_or_else(|| user("expected `conversations`, a list of turns"))?;
    let message = |turn: &Value| {
        let (Some(from), Some(value)) = (turn["from"].as_str(), turn["value"].as_str()) else {
            return Err(user("expected every turn to have the texts `from` and `value`").into());
        };
        let role = match from {
            "human" => "user",
            "gpt" => ASSISTANT,
            other => other,
        };
        Ok(Message::new(role, value))
    };
    turns.iter().map(message).collect()
}

/// A column that is a text or a list of messages.
enum Column<'a> {
    Text(&'a str),
    Messages(Vec<Message>),
}

fn column<'a>(row: &'a Row, name: &str) -> Result<Option<Column<'a>>> {
    match row.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(Column::Text(text))),
        Some(list @ Value::Array(_)) => {
            let messages: Result<Vec<Message>, _> = serde_json::from_value(list.clone());
            let mut messages = messages.map_err(|error| user(format!("the column `{name}` is no list of messages: {error}")))?;
            // A table has every column in every row: what a message does not have is null there.
            messages.iter_mut().for_each(|message| message.others.retain(|_, value| !value.is_null()));
            Ok(Some(Column::Messages(messages)))
        }
        Some(_) => Err(user(format!("the column `{name}` holds neither a text nor a list of messages")).into()),
    }
}

/// TRL's columns.
fn columns(row: &Row, chat: Option<&ChatTemplate>) -> Result<Content> {
    use Column::{Messages, Text};
    if row.get("label").is_some_and(Value::is_boolean) {
        let hint = "to learn from some of them as they are, give `prompt`, `completion` and `keep: [{column: label, equals: \"true\"}]`";
        return Err(user("completions with a `label` are judged one by one, and nothing here learns from that").hint(hint).into());
    }
    let mixed = || user("some of its columns are texts and some are lists of messages");
    let write = |prompt: &[Message], answer: &[Message]| match chat {
        Some(chat) => chat.write_out(prompt, answer),
        None => Err(user("the row holds messages").hint("name a model under `chat`: its chat template writes them out").into()),
    };
    if let Some(Messages(messages)) = column(row, "messages")? {
        return conversation(messages, chat);
    }
    let [prompt, completion, chosen, rejected, text] = ["prompt", "completion", "chosen", "rejected", "text"].map(|name| column(row, name));
    match (prompt?, completion?, chosen?, rejected?, text?) {
        (Some(Text(prompt)), _, Some(Text(chosen)), Some(Text(rejected)), _) => {
            Ok(Content::Preference { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() })
        }
        (prompt @ (None | Some(Messages(_))), _, Some(Messages(mut chosen)), Some(Messages(mut rejected)), _) => {
            let prompt = match prompt {
                Some(Messages(prompt)) => prompt,
                _ => {
                    let common = chosen.iter().zip(&rejected).take_while(|(chosen, rejected)| chosen == rejected).count();
                    rejected.drain(..common);
                    chosen.drain(..common).collect()
                }
            };
            let ((prompt, chosen), (_, rejected)) = (write(&prompt, &chosen)?, write(&prompt, &rejected)?);
            Ok(Content::Preference { prompt, chosen, rejected })
        }
        (None, _, Some(Text(chosen)), Some(Text(rejected)), _) => {
            // Back to the last white space, so that no word is cut in two.
            let common = &chosen[..common_prefix(chosen, rejected)];
            let (prompt, chosen) = chosen.split_at(common.rfind(char::is_whitespace).unwrap_or(0));
            Ok(Content::Preference { prompt: prompt.into(), chosen: chosen.into(), rejected: rejected[prompt.len()..].into() })
        }
        (Some(Text(prompt)), completion @ (None | Some(Text(_))), None, None, _) => {
            let completion = if let Some(Text(completion)) = completion { completion } else { "" };
            Ok(Content::Example { prompt: prompt.into(), completion: completion.into() })
        }
        (Some(Messages(prompt)), completion @ (None | Some(Messages(_))), None, None, _) => {
            let completion = if let Some(Messages(completion)) = completion { completion } else { Vec::new() };
            let (prompt, completion) = write(&prompt, &completion)?;
            Ok(Content::Example { prompt, completion })
        }
        (None, None, None, None, Some(Text(text))) => Ok(Content::Example { prompt: String::new(), completion: text.into() }),
        (None, None, None, None, None) => {
            let hint = format!("give `format`, or `prompt` and `completion`; the columns are: {}", names(row));
            Err(user("its columns are none that are known by name").hint(hint).into())
        }
        (_, _, Some(_), None, _) | (_, _, None, Some(_), _) => Err(user("it has one of `chosen` and `rejected`, not both").into()),
        _ => Err(mixed().into()),
    }
}

/// A conversation as it is, or, with a template, its last answer after all that was said before.
fn conversation(messages: Vec<Message>, chat: Option<&ChatTemplate>) -> Result<Content> {
    let Some(last) = messages.iter().rposition(|message| message.role == ASSISTANT) else {
        return Err(user("no message is the assistant's, so there is nothing to learn").into());
    };
    match chat {
        None => Ok(Content::Conversation(messages)),
        Some(_) if last + 1 < messages.len() => Err(user("the last message is not the assistant's").into()),
        Some(chat) => {
            let (prompt, completion) = chat.write_out(&messages[..last], &messages[last..])?;
            Ok(Content::Example { prompt, completion })
        }
    }
}
