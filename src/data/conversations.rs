//! Conversations as token sequences in which the assistant's turns alone are learned. Uses no
//! model beyond its context length.
//!
//! 1. The whole conversation is written out by the chat template and tokenised at once.
//! 2. A turn of the assistant is what the template marks as generated; in a template without marks,
//!    what it adds to the messages before, with the prompt for an answer. Those messages must be
//!    written the same with the answer as without it.
//! 3. A turn begins and ends between tokens, and the tokens before it are those that generation
//!    would start from. Where that does not hold, for any row, the template is refused: a mask that
//!    is off by one teaches the wrong thing silently.
//! 4. White space after the token that ends a turn belongs to the template. It is not learned,
//!    since no model gets to write it.
//! 5. A turn whose message has `weight` 0 is not learned.
//! 6. A conversation that ends with a turn that no such token ends is given the end-of-text token,
//!    else the model would never stop.

use std::collections::BTreeSet;
use std::ops::Range;

use rayon::prelude::*;

use super::rows::{Conversation, called};
use super::tokenised::{MODEL, Tokenised, TooLong, in_order};
use crate::error::{Failure, Result, user};
use crate::tokenizer::chat::{ASSISTANT, Chat, ChatTemplate};
use crate::tokenizer::encode::EncodedParts;
use crate::tokenizer::tokens::Tokenizer;

/// The sequences of the conversations of a split, in order, and the fields of messages that the
/// template ignores.
///
/// # Errors
/// The user's, with split and row: the template refuses the messages, or cannot be trained with;
/// sequences that exceed `context`, all at once.
pub fn tokenise_conversations(
    rows: &[Conversation],
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    context: usize,
    split: &str,
) -> Result<(Vec<Tokenised>, BTreeSet<String>)> {
    let one = |row: &Conversation| {
        let place = |failure: Failure| {
            let message = format!(
                "split `{split}`, {}: {}",
                called(&row.id, row.origin.as_ref()),
                failure.message
            );
            Failure { message, ..failure }
        };
        sequence(row.chat(), tokenizer, template).map_err(|error| {
            error.downcast().map_or_else(|other| other, |failure| place(failure).into())
        })
    };
    let (sequences, ignored): (Vec<_>, Vec<_>) =
        in_order(rows.par_iter().map(one))?.into_iter().unzip();
    let mut long = TooLong::new(context, split, MODEL, None);
    for (row, sequence) in rows.iter().zip(&sequences) {
        long.whole(&row.id, row.origin.as_ref(), sequence.tokens.len());
    }
    long.check()?;
    Ok((sequences, ignored.into_iter().flatten().collect()))
}

fn sequence(
    chat: Chat<'_>,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
) -> Result<(Tokenised, BTreeSet<String>)> {
    let messages = chat.messages;
    let whole = template.render(chat, false)?;
    let marked = template.marks_generation();
    let mut turns = if marked {
        whole.generated.clone()
    } else {
        turns(chat, &whole.text, template, &|_| true)?
    };
    if turns.is_empty() {
        return Err(user(
            "the chat template marks nothing of this conversation as the assistant's",
        )
        .into());
    }
    if messages.iter().any(|message| !message.is_learned()) {
        let context = self::turns(chat, &whole.text, template, &|at| !messages[at].is_learned())?;
        turns.retain(|turn| {
            !context.iter().any(|context| context.start < turn.end && turn.start < context.end)
        });
        if turns.is_empty() {
            return Err(user(
                "every message of the assistant has `weight` 0, so there is nothing to learn",
            )
            .into());
        }
    }
    let text = &whole.text;
    let Some(EncodedParts { mut tokens, parts: mut learned }) =
        tokenizer.encode_parts(text, &turns)?
    else {
        let hint = "the template should put a special token or a line break where the assistant's \
            turn begins and ends";
        return Err(user("a token is part of the assistant's turn and of what is beside it")
            .hint(hint)
            .into());
    };
    for (turn, part) in turns.iter().zip(&learned) {
        if tokenizer.encode(&text[..turn.start])? != tokens[..part.start] {
            let message = "the tokens before the assistant's turn are others once the turn \
                follows: generation would not start from them";
            return Err(user(message)
                .hint("the template should end its prompt for an answer with a special token")
                .into());
        }
    }
    let is_end = |token: &u32| tokenizer.ends().contains(token);
    for part in &mut learned {
        if let Some(end) =
            tokens[part.clone()].iter().rposition(is_end).map(|at| part.start + at + 1)
            && tokenizer.decode(&tokens[end..part.end])?.trim().is_empty()
        {
            part.end = end;
        }
    }
    let last = learned.last_mut().expect("there is a turn");
    let ends_here =
        messages.last().is_some_and(|message| message.role() == ASSISTANT && message.is_learned());
    if ends_here && !tokens[last.clone()].last().is_some_and(is_end) {
        tokens.truncate(last.end);
        tokens.push(tokenizer.eos());
        last.end += 1;
    }
    let between = |pair: &[Range<usize>]| pair[0].end..pair[1].start;
    let mut others: Vec<Range<usize>> = learned.windows(2).map(between).collect();
    others.push(learned[learned.len() - 1].end..tokens.len());
    others.retain(|range| !range.is_empty());
    Ok((Tokenised { prompt: learned[0].start, tokens, others }, whole.ignored))
}

/// The bytes of those of the assistant's turns that are `wanted` in `text`, which is what the
/// template makes of all messages.
fn turns(
    chat: Chat<'_>,
    text: &str,
    template: &ChatTemplate,
    wanted: &dyn Fn(usize) -> bool,
) -> Result<Vec<Range<usize>>> {
    let (messages, mut turns) = (chat.messages, Vec::new());
    for at in (0..messages.len()).filter(|at| messages[*at].role() == ASSISTANT && wanted(*at)) {
        let head = match at {
            0 => String::new(),
            _ => template.render(chat.with(&messages[..at]), true)?.text,
        };
        let through = template.render(chat.with(&messages[..=at]), false)?.text;
        if !(text.starts_with(&through) && through.starts_with(&head)) {
            return Err(template.no_prefix().into());
        }
        turns.push(head.len()..through.len());
    }
    Ok(turns)
}
