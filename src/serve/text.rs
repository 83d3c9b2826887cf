//! Tokens of one sample to text that can be shown, piece by piece, up to where it ends. Uses no
//! request.
//!
//! What has been shown is never taken back: the last characters wait as long as more tokens may
//! complete a character or a stop text.

use crate::error::Result;
use crate::tokenizer::tokens::Tokenizer;

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop text came.
    Stop,
    /// As many tokens as were allowed.
    Length,
}

/// A sample on its way.
pub struct Text<'a> {
    tokenizer: &'a Tokenizer,
    prompt: &'a [u32],
    stops: &'a [String],
    /// The special tokens among the stop texts, which are in no text.
    stop_tokens: Vec<u32>,
    /// Its tokens, with the one that ended it.
    pub tokens: Vec<u32>,
    /// Their log-probabilities.
    pub logprobs: Vec<f32>,
    /// Where each token's text begins in the whole, in bytes; of a special token, and of a token
    /// that shares a character with the one before, where that ends.
    pub offsets: Vec<usize>,
    /// The same in characters.
    pub characters: Vec<usize>,
    /// The text so far, special tokens and stop text left out.
    pub whole: String,
    shown: usize,
    /// Set once it has ended.
    pub finish: Option<Finish>,
}

impl<'a> Text<'a> {
    /// Nothing yet after a prompt; a stop text ends it and does not belong to it.
    pub fn new(tokenizer: &'a Tokenizer, prompt: &'a [u32], stops: &'a [String]) -> Self {
        let (tokens, logprobs, offsets, characters) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let stop_tokens = tokenizer.specials_among(stops);
        Text {
            tokenizer,
            prompt,
            stops,
            stop_tokens,
            tokens,
            logprobs,
            offsets,
            characters,
            whole: String::new(),
            shown: 0,
            finish: None,
        }
    }

    /// One token more, `last` if no other follows. Ignored once the text has ended.
    pub fn push(&mut self, token: u32, logprob: f32, last: bool) -> Result<()> {
        if self.finish.is_some() {
            return Ok(());
        }
        let certain = self.whole.trim_end_matches(char::REPLACEMENT_CHARACTER);
        self.offsets.push(certain.len());
        self.characters.push(certain.chars().count());
        self.tokens.push(token);
        self.logprobs.push(logprob);
        let ended = self.tokenizer.ends().contains(&token) || self.stop_tokens.contains(&token);
        let own = &self.tokens[..self.tokens.len() - usize::from(ended)];
        self.whole = self.tokenizer.decode_after(self.prompt, own)?;
        let stop = self.stops.iter().filter_map(|stop| self.whole.find(stop.as_str())).min();
        if let Some(at) = stop {
            self.whole.truncate(at);
        }
        self.finish = match (ended || stop.is_some(), last) {
            (true, _) => Some(Finish::Stop),
            (false, true) => Some(Finish::Length),
            (false, false) => None,
        };
        Ok(())
    }

    /// What can be shown and has not been yet.
    pub fn next_piece(&mut self) -> &str {
        let from = self.shown;
        let end = match self.finish {
            Some(_) => self.whole.len(),
            None => self.certain(),
        };
        match self.whole.get(from..end) {
            Some(text) => {
                self.shown = end;
                text
            }
            None => "",
        }
    }

    /// Bytes that no further token changes.
    fn certain(&self) -> usize {
        let text = self.whole.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let begun = |stop: &String| {
            let ends = stop
                .char_indices()
                .skip(1)
                .map(|(at, _)| at)
                .filter(|&at| text.ends_with(&stop[..at]));
            ends.max().unwrap_or(0)
        };
        text.len() - self.stops.iter().map(begun).max().unwrap_or(0)
    }
}
