//! Conversations as token sequences in which the assistant's turns alone are learned. Knows no model beyond its context length.
//!
//! 1. The whole conversation is written out by the chat template and tokenised at once.
//! 2. A turn of the assistant is what the template marks as generated; in a template without marks, what it adds to the messages before,
//!    with the prompt for an answer. Those messages must be written the same with the answer as without it.
//! 3. A turn begins and ends between tokens, and the tokens before it are those that generation would start from. Where that does not
//!    hold, for any row, the template is refused: a mask that is off by one teaches the wrong thing silently.
//! 4. White space after the token that ends a turn belongs to the template. It is not learned, since no model gets to write it.
//! 5. A conversation that ends with a turn that no such token ends is given the end-of-text token, else the model would never stop.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::chat::{ASSISTANT, ChatTemplate, Message};
use super::rows::Conversation;
use super::tables::Place;
use super::tokenised::{Tokenised, in_order};
use super::tokens::{EncodedParts, Tokenizer};
use crate::error::{Result, user};

/// The sequences of the conversations of `file`, in order.
///
/// # Errors
/// The user's, with file and row: the template refuses the messages, or cannot be trained with; a sequence that exceeds `context`.
pub fn tokenise_conversations(
    rows: &[Conversation],
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    context: usize,
    file: &Path,
) -> Result<Vec<Tokenised>> {
    let one = |(row, conversation): (usize, &Conversation)| {
        let place = Place { file, number: row + 1, before: 0 };
        sequence(&conversation.messages, tokenizer, template, context).map_err(|error| place.of(error))
    };
    in_order(rows.par_iter().enumerate().map(one))
}

fn sequence(messages: &[Message], tokenizer: &Tokenizer, template: &ChatTemplate, context: usize) -> Result<Tokenised> {
    let whole = template.render(messages, false)?;
    let turns = if template.marks_generation() { whole.generated.clone() } else { turns(messages, &whole.text, template)? };
    if turns.is_empty() {
        return Err(user("the chat template marks nothing of this conversation as the assistant's").into());
    }
    let text = &whole.text;
    let Some(EncodedParts { mut tokens, parts: mut learned }) = tokenizer.encode_parts(text, &turns)? else {
        let hint = "the template should put a special token or a line break where the assistant's turn begins and ends";
        return Err(user("a token is part of the assistant's turn and of what stands beside it").hint(hint).into());
    };
    for (turn, part) in turns.iter().zip(&learned) {
        if tokenizer.encode(&text[..turn.start])? != tokens[..part.start] {
            let message = "the tokens before the assistant's turn are others once the turn follows: generation would not start from them";
            return Err(user(message).hint("the template should end its prompt for an answer with a special token").into());
        }
    }
    let is_end = |token: &u32| tokenizer.ends().contains(token);
    for part in &mut learned {
        if let Some(end) = tokens[part.clone()].iter().rposition(is_end).map(|at| part.start + at + 1)
            && tokenizer.decode(&tokens[end..part.end])?.trim().is_empty()
        {
            part.end = end;
        }
    }
    let last = learned.last_mut().expect("there is a turn");
    let ends_here = messages.last().is_some_and(|message| message.role == ASSISTANT);
    if ends_here && !tokens[last.clone()].last().is_some_and(is_end) {
        tokens.truncate(last.end);
        tokens.push(tokenizer.eos());
        last.end += 1;
    }
    if tokens.len() > context {
        let message = format!("the conversation has {} tokens, the model's context is {context}", tokens.len());
        return Err(user(message).hint("leave the row out, or take a model with a longer context").into());
    }
    let between = |pair: &[Range<usize>]| pair[0].end..pair[1].start;
    let mut others: Vec<Range<usize>> = learned.windows(2).map(between).collect();
    others.push(learned[learned.len() - 1].end..tokens.len());
    others.retain(|range| !range.is_empty());
    Ok(Tokenised { prompt: learned[0].start, tokens, others })
}

/// The bytes of the assistant's turns in `text`, which is what the template makes of all messages.
fn turns(messages: &[Message], text: &str, template: &ChatTemplate) -> Result<Vec<Range<usize>>> {
    let mut turns = Vec::new();
    for at in (0..messages.len()).filter(|at| messages[*at].role == ASSISTANT) {
        let head = match at {
            0 => String::new(),
            _ => template.render(&messages[..at], true)?.text,
        };
        let through = template.render(&messages[..=at], false)?.text;
        if !(text.starts_with(&through) && through.starts_with(&head)) {
            return Err(template.no_prefix().into());
        }
        turns.push(head.len()..through.len());
    }
    Ok(turns)
}
