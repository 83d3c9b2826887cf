//! Rewards that are rules of a response's text or length. Know no model and no file.
//!
//! 1. A rule reads the response without its EOS token and without space at both ends; an exact
//!    match strips the row's completion in the same way.
//! 2. A rule gives 1 where it holds and 0 where it does not, the penalty of length 0 to -1.
//! 3. The number of a text is the last one in it, as graders of GSM8K take it (Cobbe et al. 2021):
//!    digits with `,` between groups of three, a sign and a fraction are read, and compared as
//!    numbers.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::json;

/// A number in a text: a sign, digits in groups or in one run, a fraction.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+").expect("the pattern is valid")
});
/// Reasoning and an answer, each between its tags, and nothing else (DeepSeek-AI 2025).
static THINK_ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)^<think>.*</think>\s*<answer>.*</answer>$").expect("the pattern is valid")
});

/// Bounds of a response's length.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Length {
    /// What is counted.
    #[serde(default)]
    pub unit: Unit,
    /// Least length; `null` sets none.
    #[serde(default)]
    pub least: Option<usize>,
    /// Greatest length; `null` sets none.
    #[serde(default)]
    pub most: Option<usize>,
}

/// What lengths are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Tokens of the policy, EOS included.
    #[default]
    Tokens,
    /// Words: runs of characters that are not white space.
    Words,
    /// Characters.
    Characters,
}

impl Length {
    /// 1 where a response is as long as it should be, else 0.
    pub fn reward(&self, text: &str, tokens: usize) -> f64 {
        let length = match self.unit {
            Unit::Tokens => tokens,
            Unit::Words => text.split_whitespace().count(),
            Unit::Characters => text.chars().count(),
        };
        let is_within = self.least.is_none_or(|least| length >= least)
            && self.most.is_none_or(|most| length <= most);
        f64::from(u8::from(is_within))
    }
}

/// The form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON value.
    Json,
    /// One line.
    OneLine,
    /// `<think>…</think>` and `<answer>…</answer>`, with nothing before, between or after.
    ThinkAnswer,
}

impl Format {
    /// 1 where a response has this form, else 0.
    pub fn reward(self, text: &str) -> f64 {
        let holds = match self {
            Format::Json => json::parse(text).is_ok(),
            Format::OneLine => !text.is_empty() && !text.contains(['\n', '\r']),
            Format::ThinkAnswer => THINK_ANSWER.is_match(text),
        };
        f64::from(u8::from(holds))
    }
}

/// Equality with the row's completion.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactMatch {
    /// Whether letters of either case are the same.
    pub ignore_case: bool,
    /// Whether white space of any kind and length is the same.
    pub ignore_space: bool,
}

impl ExactMatch {
    /// 1 where both texts are the same, else 0.
    pub fn reward(&self, text: &str, completion: &str) -> f64 {
        let form = |text: &str| {
            let text = text.trim();
            let text = match self.ignore_space {
                true => text.split_whitespace().collect::<Vec<_>>().join(" "),
                false => text.to_owned(),
            };
            if self.ignore_case { text.to_lowercase() } else { text }
        };
        f64::from(u8::from(form(text) == form(completion)))
    }
}

/// Equality of the last number with that of the row's completion.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NumberMatch {
    /// Text that must come before the response's number (`####` in GSM8K); `null` asks for none.
    pub after: Option<String>,
}

impl NumberMatch {
    /// 1 where the response's last number is that of the completion, else 0. `None` where the
    /// completion has no number.
    pub fn reward(&self, text: &str, completion: &str) -> Option<f64> {
        let expected = last_number(completion)?;
        let read = match &self.after {
            None => Some(text),
            Some(marker) => text.rfind(marker.as_str()).map(|at| &text[at + marker.len()..]),
        };
        let found = read.and_then(last_number);
        Some(f64::from(u8::from(found == Some(expected))))
    }
}

/// The last number of a text.
fn last_number(text: &str) -> Option<f64> {
    let found = NUMBER.find_iter(text).last()?;
    // A hyphen between two words or numbers is no sign.
    let joined = text[..found.start()].ends_with(|c: char| c.is_alphanumeric());
    let digits = if joined { found.as_str().trim_start_matches('-') } else { found.as_str() };
    digits.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_of_a_text_is_read_as_graders_do() {
        for (text, expected) in [
            ("She has 3 + 4 = 7 eggs.\n#### 7", Some(7.0)),
            ("#### 1,234", Some(1234.0)),
            ("costs $1,234.50.", Some(1234.5)),
            ("it is -5", Some(-5.0)),
            ("from 3-5", Some(5.0)),
            ("x-5", Some(5.0)),
            ("12,34", Some(34.0)),
            ("no number", None),
            (".5 of it", Some(0.5)),
            ("18.", Some(18.0)),
            ("", None),
        ] {
            assert_eq!(last_number(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_match_as_numbers_and_where_they_are_asked_for() {
        let (any, marked) =
            (NumberMatch::default(), NumberMatch { after: Some("####".to_owned()) });
        let gold = "so 2 * 9 = 18\n#### 18";
        for (text, free, strict) in [
            ("the answer is 18", 1.0, 0.0),
            ("#### 18.0", 1.0, 1.0),
            ("#### 17", 0.0, 0.0),
            ("#### 18 of 20", 0.0, 0.0),
            ("", 0.0, 0.0),
            ("18 #### none", 1.0, 0.0),
        ] {
            assert_eq!(any.reward(text, gold), Some(free), "{text}");
            assert_eq!(marked.reward(text, gold), Some(strict), "{text}");
        }
        assert_eq!(any.reward("18", "eighteen"), None);
    }

    #[test]
    fn an_exact_match_may_ignore_case_and_space() {
        let rule = |ignore_case, ignore_space| ExactMatch { ignore_case, ignore_space };
        assert_eq!(rule(false, false).reward(" the cat ", "the cat\n"), 1.0);
        assert_eq!(rule(false, false).reward("The cat", "the cat"), 0.0);
        assert_eq!(rule(true, false).reward("The cat", "the cat"), 1.0);
        assert_eq!(rule(true, false).reward("the  cat", "the cat"), 0.0);
        assert_eq!(rule(false, true).reward("the \n cat", "the cat"), 1.0);
    }

    #[test]
    fn a_form_holds_of_the_whole_response() {
        for (format, holds, fails) in [
            (Format::Json, "{\"a\": [1]}", "{\"a\": 1} and more"),
            (Format::OneLine, "one line", "two\nlines"),
            (
                Format::ThinkAnswer,
                "<think>2 +\n2</think>\n<answer>4</answer>",
                "<think>4</think> so <answer>4</answer>",
            ),
        ] {
            assert_eq!((format.reward(holds), format.reward(fails)), (1.0, 0.0), "{format:?}");
            assert_eq!(format.reward(""), 0.0, "{format:?}");
        }
    }

    #[test]
    fn a_length_is_counted_in_its_unit() {
        let rule = |unit, least, most| Length { unit, least, most };
        let text = "three short words";
        for (rule, expected) in [
            (rule(Unit::Words, Some(3), Some(3)), 1.0),
            (rule(Unit::Words, None, Some(2)), 0.0),
            (rule(Unit::Characters, Some(18), None), 0.0),
            (rule(Unit::Characters, Some(17), None), 1.0),
            (rule(Unit::Tokens, None, Some(5)), 1.0),
            (rule(Unit::Tokens, None, Some(4)), 0.0),
        ] {
            assert_eq!(rule.reward(text, 5), expected, "{rule:?}");
        }
    }
}
