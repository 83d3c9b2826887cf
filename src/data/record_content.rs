//! What a record of a data set becomes: a prompt with a completion, a preference pair, or a
//! conversation; and what it says besides, which nothing reads.

use std::collections::BTreeSet;

use crate::json::{Json, Object};
use crate::tokenizer::chat::{ASSISTANT, Message};

/// What a row becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A prompt with its completion.
    Example {
        /// What the model is given.
        prompt: String,
        /// What it should answer.
        completion: String,
        /// Whether a chat template wrote them.
        chat: bool,
    },
    /// Two completions of a prompt.
    Preference {
        /// What both answer.
        prompt: String,
        /// The one that was preferred.
        chosen: String,
        /// The other one.
        rejected: String,
        /// Whether a chat template wrote them.
        chat: bool,
    },
    /// Messages, with what else a template is given.
    Conversation {
        /// In order.
        messages: Vec<Message>,
        /// What the model may call.
        tools: Option<Json>,
        /// Further variables of the template.
        variables: Object,
    },
}

/// A row as it was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Laid {
    /// What it becomes.
    pub content: Content,
    /// What it says beside and nothing reads.
    pub ignored: Ignored,
}

/// What rows say and nothing reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Columns, by name.
    pub columns: BTreeSet<String>,
    /// Fields of messages, by name.
    pub fields: BTreeSet<String>,
}

impl From<Content> for Laid {
    fn from(content: Content) -> Self {
        Laid { content, ignored: Ignored::default() }
    }
}

impl Content {
    /// What identifies it: its prompt; of what has none, its text.
    pub fn prompt(&self) -> String {
        match self {
            Content::Example { prompt, completion, .. }
            | Content::Preference { prompt, chosen: completion, .. } => {
                if prompt.is_empty() {
                    completion.clone()
                } else {
                    prompt.clone()
                }
            }
            Content::Conversation { messages, .. } => {
                let text = |messages: &[Message]| {
                    messages.iter().map(Message::content).collect::<Vec<_>>().join("\n")
                };
                let first = messages
                    .iter()
                    .position(|message| message.role() == ASSISTANT)
                    .unwrap_or(messages.len());
                match text(&messages[..first]) {
                    none if none.is_empty() => text(&messages[first..]),
                    prompt => prompt,
                }
            }
        }
    }
}
