//! The record layouts of public data sets: from a row as it is published to a prompt with a
//! completion, a preference pair, or a conversation. Uses no file.
//!
//! 1. A layout is a set of templates where the data set leaves the prompt to its reader, and
//!    code where the row is the text already.
//! 2. Where a completion follows a cue on the same line (`TL;DR:`), exactly one space is before
//!    it, whatever the record has.
//! 3. Templates: Reddit TL;DR and CNN/DailyMail as Kirk et al. 2024 (released code) have them,
//!    instructions as AlpacaFarm (Dubois et al. 2023, `v0_inputs_noinputs`).

use serde::{Deserialize, Serialize};

use super::message_records::{columns, dialogues, sharegpt};
use super::raw_rows::Row;
use super::record_content::Laid;
use crate::error::{Result, user};
use crate::json::Json;
use crate::tokenizer::chat::ChatTemplate;

/// How a record is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// By the columns that TRL reads: `messages`; `prompt`, `completion`; `prompt`, `chosen`,
    /// `rejected`; `chosen`, `rejected`; `prompt`; `text`. Each is a text, or a list of messages;
    /// beside messages, `tools` and `chat_template_kwargs`.
    Trl,
    /// `conversations`, a list of `from` and `value`; beside it `system` and `tools`.
    Sharegpt,
    /// Reddit TL;DR: `id`, `subreddit`, `title`, `post`, `summary`.
    Tldr,
    /// OpenAI's comparisons, of TL;DR or CNN/DailyMail: `info`, `summaries`, `choice`, `batch`,
    /// `split`.
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
const INSTRUCTION: &str = "Below is an instruction that describes a task. Write a response that \
    appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:";
const INSTRUCTION_WITH_INPUT: &str = "Below is an instruction that describes a task, paired with \
    an input that provides further context. Write a response that appropriately completes the \
    request.\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:";

impl Format {
    /// Whether the row is the text already, so that no template can replace its own.
    pub fn is_text(self) -> bool {
        matches!(self, Format::Trl | Format::Sharegpt | Format::HhRlhf)
    }

    /// Brings a record's columns to where templates, filters and cuts find them: those of `info`
    /// and of the first of `instances` are beside the others, and the texts of a comparison are
    /// called `chosen` and `rejected`.
    pub fn flatten(self, row: &mut Row) -> Result<()> {
        match self {
            Format::Tldr => trim(row, "summary"),
            Format::CnnDailymail => trim(row, "highlights"),
            Format::OpenaiComparisons => {
                if let Some(Json::Object(info)) = row.shift_remove("info") {
                    row.extend(info);
                }
                let choice = row.get("choice").and_then(Json::as_f64);
                let Some(choice) = [0.0, 1.0].iter().position(|side| choice == Some(*side)) else {
                    return Err(user("expected a `choice` of 0 or 1").into());
                };
                let text = |at: usize| {
                    let text = row.get("summaries")?.as_list()?.get(at)?.get("text")?.as_str()?;
                    Some(Json::Text(text.trim_start().to_owned()))
                };
                let (Some(first), Some(second)) = (text(0), text(1)) else {
                    return Err(user("expected two `summaries`, each with a `text`").into());
                };
                pair(row, [first, second], choice);
            }
            Format::AlpacaFarmPreferences => {
                let preference = row.get("preference").and_then(Json::as_f64);
                let Some(choice) = [1.0, 2.0].iter().position(|side| preference == Some(*side))
                else {
                    return Err(user("expected a `preference` of 1 or 2").into());
                };
                let [first, second] = ["output_1", "output_2"]
                    .map(|column| row.get(column).cloned().unwrap_or_default());
                pair(row, [first, second], choice);
            }
            Format::SelfInstruct => {
                if let Some(Json::Object(instance)) =
                    row.get("instances").and_then(|list| list.as_list()?.first()).cloned()
                {
                    row.extend(instance);
                }
            }
            Format::Trl
            | Format::Sharegpt
            | Format::AlpacaFarm
            | Format::SequentialInstructions
            | Format::HhRlhf => {}
        }
        Ok(())
    }

    /// The templates for a flattened record; `None` where [`Format::is_text`].
    pub fn texts(self, row: &Row) -> Option<Texts> {
        let given = |column: &str| {
            row.get(column).is_some_and(|value| value.as_str() != Some("") && !value.is_null())
        };
        let instruction = if given("input") { INSTRUCTION_WITH_INPUT } else { INSTRUCTION };
        let (prompt, answer) = match self {
            Format::Tldr => (TLDR, Answer::Completion(" {summary}")),
            Format::CnnDailymail => (ARTICLE, Answer::Completion(" {highlights}")),
            Format::OpenaiComparisons => (
                if given("article") { ARTICLE } else { TLDR },
                Answer::Pair(" {chosen}", " {rejected}"),
            ),
            Format::AlpacaFarm | Format::SelfInstruct | Format::SequentialInstructions => {
                (instruction, Answer::Completion("{output}"))
            }
            Format::AlpacaFarmPreferences => (instruction, Answer::Pair("{chosen}", "{rejected}")),
            Format::Trl | Format::Sharegpt | Format::HhRlhf => return None,
        };
        Some(Texts { prompt, answer })
    }

    /// What a record that is the text already becomes. Messages are written out by a chat
    /// template, if there is one.
    ///
    /// # Errors
    /// The user's: columns that are missing or hold something else; messages that must be written
    /// out, and no template; columns that say what is learned, and that nothing here reads.
    pub fn content(self, row: &Row, chat: Option<&ChatTemplate>) -> Result<Laid> {
        match self {
            Format::HhRlhf => dialogues(row),
            Format::Sharegpt => sharegpt(row, chat),
            _ => columns(row, chat),
        }
    }
}

/// Takes the white space off the beginning of a column that is a text.
fn trim(row: &mut Row, column: &str) {
    if let Some(Json::Text(text)) = row.get_mut(column) {
        *text = text.trim_start().to_owned();
    }
}

fn pair(row: &mut Row, mut sides: [Json; 2], chosen: usize) {
    sides.swap(0, chosen);
    let [chosen, rejected] = sides;
    row.insert("chosen".into(), chosen);
    row.insert("rejected".into(), rejected);
}
