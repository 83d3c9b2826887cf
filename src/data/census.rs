//! What a split holds, in figures: rows, duplicates, empty texts, lengths. Uses no file.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::Serialize;

use super::rows::{Conversation, Example, Preference, Rows};
use crate::error::Result;
use crate::tokenizer::tokens::Tokenizer;

/// The figures of a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Census {
    /// How many rows it has.
    pub rows: usize,
    /// Rows whose texts an earlier row has too, white space apart.
    pub duplicates: usize,
    /// Of each text of a row.
    pub texts: Vec<Texts>,
}

/// The figures of one text of every row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Texts {
    /// What it is: `prompt`, `completion`, `chosen`, `rejected`, `conversation`.
    pub name: &'static str,
    /// Rows in which it is empty, or nothing but white space.
    pub empty: usize,
    /// Words: what white space parts.
    pub words: Lengths,
    /// Tokens, the end-of-text token and what a tokenizer puts before a text left out; none without
    /// a tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Lengths>,
}

/// Lengths of texts; all 0 where there is no row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub least: usize,
    /// The middle one; the lower of two.
    pub median: usize,
    /// The longest.
    pub most: usize,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        match lengths.as_slice() {
            [] => Lengths::default(),
            [least, ..] => Lengths {
                least: *least,
                median: lengths[(lengths.len() - 1) / 2],
                most: lengths[lengths.len() - 1],
            },
        }
    }
}

/// The figures of rows; tokens where there is a tokenizer.
///
/// # Errors
/// The tokenizer's.
pub fn census(rows: &Rows, tokenizer: Option<&Tokenizer>) -> Result<Census> {
    let columns: Vec<(&'static str, Vec<String>)> = match rows {
        Rows::Examples(rows) => vec![
            ("prompt", rows.iter().map(|Example { prompt, .. }| prompt.clone()).collect()),
            (
                "completion",
                rows.iter().map(|Example { completion, .. }| completion.clone()).collect(),
            ),
        ],
        Rows::Preferences(rows) => vec![
            ("prompt", rows.iter().map(|Preference { prompt, .. }| prompt.clone()).collect()),
            ("chosen", rows.iter().map(|Preference { chosen, .. }| chosen.clone()).collect()),
            ("rejected", rows.iter().map(|Preference { rejected, .. }| rejected.clone()).collect()),
        ],
        Rows::Conversations(rows) => {
            let text = |Conversation { messages, .. }: &Conversation| {
                messages.iter().map(|message| message.content()).collect::<Vec<_>>().join("\n")
            };
            vec![("conversation", rows.iter().map(text).collect())]
        }
    };
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut seen = BTreeSet::new();
    let duplicates = (0..rows.len())
        .filter(|row| {
            let texts: Vec<String> = columns.iter().map(|(_, texts)| words(&texts[*row])).collect();
            !seen.insert(*blake3::hash(texts.join("\0").as_bytes()).as_bytes())
        })
        .count();
    let figures = |(name, texts): (&'static str, Vec<String>)| {
        let lengths = |tokenizer: &Tokenizer| {
            let lengths: Vec<Result<usize>> =
                texts.par_iter().map(|text| Ok(tokenizer.encode(text)?.len())).collect();
            lengths.into_iter().collect::<Result<Vec<usize>>>().map(Lengths::of)
        };
        Ok(Texts {
            name,
            empty: texts.iter().filter(|text| text.trim().is_empty()).count(),
            words: Lengths::of(texts.iter().map(|text| text.split_whitespace().count()).collect()),
            tokens: tokenizer.map(lengths).transpose()?,
        })
    };
    Ok(Census {
        rows: rows.len(),
        duplicates,
        texts: columns.into_iter().map(figures).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::training::SMALLEST;

    #[test]
    fn rows_duplicates_empty_texts_and_lengths_are_counted() {
        let row = |prompt: &str, completion: &str| Example {
            prompt: prompt.into(),
            completion: completion.into(),
            ..Example::default()
        };
        let rows = Rows::Examples(vec![
            row("a b", "c"),
            row(" a  b", "c\n"),
            row("a b", ""),
            row("", " \n"),
            row("a b c d", "é"),
        ]);
        let tokenizer = Tokenizer::train(&["none"], SMALLEST).unwrap();
        let found = census(&rows, Some(&tokenizer)).unwrap();
        let prompt = Texts {
            name: "prompt",
            empty: 1,
            words: Lengths { least: 0, median: 2, most: 4 },
            tokens: Some(Lengths { least: 0, median: 3, most: 7 }),
        };
        let completion = Texts {
            name: "completion",
            empty: 2,
            words: Lengths { least: 0, median: 1, most: 1 },
            tokens: Some(Lengths { least: 0, median: 2, most: 2 }),
        };
        assert_eq!(found, Census { rows: 5, duplicates: 1, texts: vec![prompt, completion] });
        assert_eq!(census(&rows, None).unwrap().texts[0].tokens, None);
    }
}
