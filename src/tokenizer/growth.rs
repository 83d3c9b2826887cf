//! Bounds on how much longer a tokenizer makes what it is given. Uses no token of any text.
//!
//! Parts of a `tokenizer.json` may be written so that few bytes of file make any number of bytes of
//! memory: fifty normalisers that each replace one letter by two, templates that repeat a text,
//! decoders that do the same on the way back.
//!
//! 1. Normalisers: steps whose largest growth, multiplied, is within [`CERTAIN`] are not watched.
//!    Others are run one by one on every text beforehand, up to a limit.
//! 2. Post-processors and decoders: the largest growth, multiplied over their steps, is refused
//!    beyond a limit when a file is opened. Those that are in use stay far below.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::utils::SysRegex;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};

use super::files::{Files, TOKENIZER};
use crate::error::{Result, contained, user};

/// A growth in bytes that needs no watching: Unicode's compatibility forms come to 11, a space that
/// becomes three bytes to 3.
const CERTAIN: f64 = 64.0;
/// How many times as long a normaliser may make a text that is watched, in bytes.
const TIMES: usize = 16;
/// What is allowed beyond [`TIMES`], in bytes, so that short texts have room for a prefix.
const BESIDE: usize = 1 << 16;
/// Tokens that may be put around a text.
const AROUND: f64 = 4096.0;
/// How many times a text may be in what a post-processor makes of it.
const COPIES: f64 = 16.0;
/// How many times as long decoders may make a token.
const DECODED: f64 = 4096.0;

/// The normalisers of a tokenizer, where a text must be watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Replace(Replacement),
    Other(NormalizerWrapper),
}

/// What a `Replace` replaces, and by what.
#[derive(Clone, Debug)]
struct Replacement {
    pattern: Pattern,
    content: String,
}

#[derive(Debug)]
enum Pattern {
    Text(String),
    /// Compiled, with its source.
    Expression(SysRegex, String),
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        match self {
            Pattern::Text(text) => Pattern::Text(text.clone()),
            Pattern::Expression(_, source) => Pattern::Expression(
                SysRegex::new(source).expect("it was compiled before"),
                source.clone(),
            ),
        }
    }
}

/// The parts of a `tokenizer.json` that may make something longer.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

impl Growth {
    /// The bounds of a `tokenizer.json`.
    ///
    /// # Errors
    /// The user's: it is not one, or its post-processors or decoders may multiply what they are
    /// given beyond the limit.
    pub fn read(tokenizer: &[u8], files: &Files) -> Result<Self> {
        let parts: Parts =
            serde_json::from_slice(tokenizer).map_err(|error| files.broken(TOKENIZER, &error))?;
        let refuse =
            |part: &str, what: String| files.broken(TOKENIZER, &format!("its {part} {what}"));
        let (copies, around) = leaves(&parts.post_processor, "processors").iter().fold(
            (1.0, 0.0),
            |(copies, around), leaf| {
                let (own, added) = template(leaf);
                (copies * own, around * own + added)
            },
        );
        if copies > COPIES || around > AROUND {
            let what = format!(
                "repeats a text {copies} times and puts {around} tokens around it, the limits are \
                 {COPIES} and {AROUND}"
            );
            return Err(refuse("post_processor", what));
        }
        let decoded: f64 =
            leaves(&parts.decoder, "decoders").into_iter().map(largest_growth).product();
        if decoded > DECODED {
            return Err(refuse(
                "decoder",
                format!("may make a token {decoded:.0} times as long, the limit is {DECODED}"),
            ));
        }
        let normalisers = leaves(&parts.normalizer, "normalizers");
        if normalisers.iter().map(|leaf| largest_growth(leaf)).product::<f64>() <= CERTAIN {
            return Ok(Growth::default());
        }
        let step = |leaf: &Value| -> Result<Step> {
            let broken = |error: &dyn std::fmt::Display| files.broken(TOKENIZER, error);
            let Some(content) = leaf["content"].as_str().filter(|_| leaf["pattern"].is_object())
            else {
                return Ok(Step::Other(
                    serde_json::from_value(leaf.clone()).map_err(|error| broken(&error))?,
                ));
            };
            let pattern =
                match (leaf["pattern"]["String"].as_str(), leaf["pattern"]["Regex"].as_str()) {
                    (Some(text), _) => Pattern::Text(text.to_owned()),
                    (None, Some(source)) => Pattern::Expression(
                        SysRegex::new(source).map_err(|error| broken(&error))?,
                        source.to_owned(),
                    ),
                    (None, None) => return Err(broken(&"a Replace has a pattern that is none")),
                };
            Ok(Step::Replace(Replacement { pattern, content: content.to_owned() }))
        };
        Ok(Growth { steps: normalisers.into_iter().map(step).collect::<Result<_>>()? })
    }

    /// Refuses a text that the normalisers would make too long.
    ///
    /// # Errors
    /// The user's, with the limit.
    pub fn check(&self, text: &str) -> Result<()> {
        let limit = text.len().saturating_mul(TIMES).saturating_add(BESIDE);
        let mut text = std::borrow::Cow::Borrowed(text);
        let given = text.len();
        for step in &self.steps {
            let normalised = match step {
                Step::Replace(replacement) => replacement.apply(&text, limit),
                Step::Other(step) => {
                    let mut normalised = NormalizedString::from(&*text);
                    step.normalize(&mut normalised)
                        .map_err(|error| error.to_string())
                        .map(|()| normalised.get().to_owned())
                }
            };
            text = normalised
                .map_err(|why| user(format!("the tokenizer cannot normalise the text: {why}")))?
                .into();
            if text.len() > limit {
                let message = format!(
                    "the tokenizer's normalizer would make a text of {given} bytes longer than \
                     {limit} bytes, the limit ({TIMES} times and {BESIDE} bytes)"
                );
                return Err(user(message)
                    .hint("its tokenizer.json is damaged or hostile: take another one")
                    .into());
            }
        }
        Ok(())
    }
}

impl Replacement {
    /// What the step makes of a text, or a beginning of it beyond `limit`. The library does the
    /// same in the square of the count of matches, since it keeps track of places.
    fn apply(&self, text: &str, limit: usize) -> Result<String, String> {
        match &self.pattern {
            Pattern::Text(pattern) => Ok(self.put(
                text,
                text.match_indices(pattern).map(|(at, found)| (at, at + found.len())),
                limit,
            )),
            Pattern::Expression(pattern, _) => {
                contained(|| self.put(text, pattern.find_iter(text), limit))
            }
        }
    }

    fn put(
        &self,
        text: &str,
        places: impl Iterator<Item = (usize, usize)>,
        limit: usize,
    ) -> String {
        let (mut made, mut from) = (String::with_capacity(text.len()), 0);
        for (start, end) in places {
            made.push_str(&text[from..start]);
            made.push_str(&self.content);
            from = end;
            if made.len() > limit {
                return made;
            }
        }
        made + &text[from..]
    }
}

/// The parts of a sequence, those of sequences in it included, in order; of another part itself.
fn leaves<'a>(part: &'a Value, list: &str) -> Vec<&'a Value> {
    // Older files have no `type`.
    match part[list].as_array() {
        Some(parts) => parts.iter().flat_map(|part| leaves(part, list)).collect(),
        None if part.is_object() => vec![part],
        None => Vec::new(),
    }
}

/// How many times as long a step may make a text at most, without a constant.
fn largest_growth(leaf: &Value) -> f64 {
    if let (true, Some(content)) = (leaf["pattern"].is_object(), leaf["content"].as_str()) {
        return match leaf["pattern"]["String"].as_str().map(str::len) {
            Some(bytes) if bytes > 0 => (content.len() as f64 / bytes as f64).max(1.0),
            // A pattern may match where nothing is.
            _ => content.len() as f64 + 1.0,
        };
    }
    match leaf["type"].as_str() {
        // U+FDFA, three bytes, has a compatibility form of 33.
        Some("NFKC" | "NFKD" | "Precompiled") => 11.0,
        Some("NFC" | "NFD") => 3.0,
        // Every byte becomes a character of at most two.
        Some("Lowercase" | "ByteLevel") => 2.0,
        // Spaces around every ideograph.
        _ if leaf["handle_chinese_chars"].is_boolean() => 3.0,
        // A prefix is a constant; others make nothing longer.
        _ => 1.0,
    }
}

/// How many times a template repeats the text, and how many tokens it puts around it.
fn template(leaf: &Value) -> (f64, f64) {
    if leaf["single"].is_null() {
        // Others put one token before a text and one or two after it.
        return (1.0, 3.0);
    }
    let counts = ["single", "pair"].map(|form| {
        leaf[form].as_array().into_iter().flatten().fold(
            (0.0f64, 0.0f64),
            |(texts, added), piece| {
                let ids = |id: &Value| {
                    leaf["special_tokens"][id.as_str().unwrap_or_default()]["ids"]
                        .as_array()
                        .map_or(0, Vec::len)
                };
                match piece.get("SpecialToken") {
                    Some(token) => (texts, added + ids(&token["id"]) as f64),
                    None => (texts + 1.0, added),
                }
            },
        )
    });
    let [(single, around), (pair, around_pair)] = counts;
    // A pair has two texts to begin with.
    (single.max(pair / 2.0).max(1.0), around.max(around_pair))
}
