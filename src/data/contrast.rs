//! Preference pairs by contrast: a reference text is preferred to one that is plainly worse. Uses
//! no judge.

use serde::{Deserialize, Serialize};

use super::rows::{Example, Preference};
use crate::random::Stream;

/// How the worse text is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contrast {
    /// The reference of another row.
    Other,
    /// The first half of the reference's words.
    Cut,
}

/// For each example one pair of each kind, the example's own completion chosen. An example that has
/// no worse text of a kind (all completions are the same; a completion of one word) makes no pair
/// of it. The pair's id is `ID/other` or `ID/cut`.
///
/// Which other row is drawn is a pure function of (seed, row).
pub fn contrast_preferences(
    examples: &[Example],
    kinds: &[Contrast],
    seed: u64,
) -> Vec<Preference> {
    let stream = Stream::new(seed, "contrast");
    let mut pairs = Vec::new();
    for (row, example) in examples.iter().enumerate() {
        for kind in kinds {
            let (name, rejected) = match kind {
                Contrast::Other => ("other", other(examples, row, &stream)),
                Contrast::Cut => ("cut", cut(&example.completion)),
            };
            pairs.extend(rejected.map(|rejected| Preference {
                id: format!("{}/{name}", example.id),
                prompt: example.prompt.clone(),
                chosen: example.completion.clone(),
                rejected: rejected.to_string(),
                chat: example.chat,
                origin: example.origin.clone(),
                ..Preference::default()
            }));
        }
    }
    pairs
}

/// The completion of the first row, from a random one on, that says something else.
fn other<'a>(examples: &'a [Example], row: usize, stream: &Stream) -> Option<&'a str> {
    let start = stream.sequence(row as u64).below(examples.len());
    let own = examples[row].completion.trim();
    (0..examples.len())
        .map(|step| examples[(start + step) % examples.len()].completion.as_str())
        .find(|text| text.trim() != own)
}

/// The first half of the words, rounded down, white space before and between them kept.
fn cut(text: &str) -> Option<&str> {
    let count = text.split_whitespace().count() / 2;
    let last = text.split_whitespace().take(count).last()?;
    // Both slices point into `text`, so the distance of their starts is the byte at which the last
    // kept word begins.
    let end = last.as_ptr() as usize - text.as_ptr() as usize + last.len();
    Some(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(id: &str, completion: &str) -> Example {
        Example {
            id: id.into(),
            prompt: format!("post {id}"),
            completion: completion.into(),
            ..Example::default()
        }
    }

    #[test]
    fn the_own_title_is_preferred_to_another_and_to_its_first_half() {
        let examples = [
            example("a", " one two  three four five"),
            example("b", " six"),
            example("c", " six"),
            example("d", " seven eight"),
        ];
        let pairs = contrast_preferences(&examples, &[Contrast::Other, Contrast::Cut], 1);
        let ids: Vec<&str> = pairs.iter().map(|pair| pair.id.as_str()).collect();
        assert_eq!(ids, ["a/other", "a/cut", "b/other", "c/other", "d/other", "d/cut"]);
        assert_eq!(pairs[1].rejected, " one two");
        assert_eq!(pairs[5].rejected, " seven");
        for pair in &pairs {
            assert_ne!(pair.chosen.trim(), pair.rejected.trim());
            assert!(
                pair.id.ends_with("cut")
                    || examples.iter().any(|example| example.completion == pair.rejected)
            );
        }
        assert_eq!(pairs, contrast_preferences(&examples, &[Contrast::Other, Contrast::Cut], 1));
    }

    #[test]
    fn other_titles_are_drawn_from_all_rows() {
        let examples: Vec<Example> =
            (0..200).map(|row| example(&row.to_string(), &format!(" title {row}"))).collect();
        let rejected: std::collections::BTreeSet<String> =
            contrast_preferences(&examples, &[Contrast::Other], 1)
                .into_iter()
                .map(|pair| pair.rejected)
                .collect();
        // 200 draws from 200 leave about 200 (1 - 1/e) = 126 different ones.
        assert!((100..150).contains(&rejected.len()), "{}", rejected.len());
        assert_ne!(
            contrast_preferences(&examples, &[Contrast::Other], 1),
            contrast_preferences(&examples, &[Contrast::Other], 2)
        );
    }

    #[test]
    fn rows_that_all_say_the_same_make_no_pairs() {
        let examples = [example("a", " x"), example("b", " x")];
        assert!(contrast_preferences(&examples, &[Contrast::Other, Contrast::Cut], 1).is_empty());
    }
}
