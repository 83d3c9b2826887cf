//! What `pretrain` and `sft` share: the rows of a split as tokens.

use std::path::Path;

use crate::data::chat::ChatTemplate;
use crate::data::conversations::tokenise_conversations;
use crate::data::dataset::Dataset;
use crate::data::rows::Rows;
use crate::data::tokenised::{Limits, Tokenised, tokenise};
use crate::data::tokens::Tokenizer;
use crate::error::{Result, user};

/// The rows of a split as tokens. Conversations are written out by the chat template of the model
/// in `folder`; fields that it ignores are given to `warn`.
pub fn rows_of(
    warn: &mut dyn FnMut(String),
    dataset: &Dataset,
    split: &str,
    tokenizer: &Tokenizer,
    limits: Limits,
    folder: &Path,
) -> Result<Vec<Tokenised>> {
    match dataset.rows(split)? {
        Rows::Examples(rows) => tokenise(&rows, tokenizer, limits, split),
        Rows::Conversations(rows) if limits.prompt.is_none() => {
            let template = ChatTemplate::open(folder)?.ok_or_else(|| {
                let message = format!(
                    "split `{split}` holds conversations, and the model has no chat template"
                );
                user(message).hint(
                    "put chat_template.jinja beside the model, or name another model under `chat` \
                     where the rows are read",
                )
            })?;
            let (rows, ignored) =
                tokenise_conversations(&rows, tokenizer, &template, limits.context, split)?;
            if !ignored.is_empty() {
                let names = ignored.into_iter().collect::<Vec<_>>().join("`, `");
                warn(format!(
                    "split `{split}`: the chat template never looks at `{names}` of messages"
                ));
            }
            Ok(rows)
        }
        Rows::Conversations(_) => {
            let message = format!(
                "split `{split}` holds conversations, which `max_prompt_tokens` cannot cut"
            );
            Err(user(message).hint("remove `max_prompt_tokens`").into())
        }
        rows @ Rows::Preferences(_) => Err(user(format!(
            "split `{split}` holds {}, not prompts with completions",
            rows.kind()
        ))
        .hint("name another split")
        .into()),
    }
}
