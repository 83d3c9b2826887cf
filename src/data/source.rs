//! Options of a pipeline that say which rows of a data file a split has: by format or template,
//! filter and share.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::record_formats::Format;
use super::template::Template;
use crate::random::Stream;
use crate::reference::{Input, Policy, Ref};

/// Where the rows of a split come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// A file of rows, or a folder of such: JSONL, a JSON list, CSV, TSV, or Parquet.
    pub path: Input,
    /// Layout of the records; without it and without templates, the columns of TRL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Template of the prompt, instead of the format's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Template of the completion. A model continues the prompt with it as it is: it usually starts
    /// with a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// Template of the preferred completion, for pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Template of the other completion of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// Column of pairs with the margin that `reward_model` takes by `margin: rows`: a number, by
    /// how much the chosen text is better. `null` reads none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<String>,
    /// The model whose chat template writes messages out as texts. Without one, conversations stay
    /// messages, for `sft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Ref<Policy>>,
    /// The column that names a row; without one, its number does.
    #[serde(default)]
    pub id: Option<String>,
    /// Treatment of a row that cannot be read.
    #[serde(default, skip_serializing_if = "OnBadRow::is_error")]
    pub on_bad_row: OnBadRow,
    /// Filters; rows that pass all of them are kept.
    #[serde(default)]
    pub keep: Vec<Filter>,
    /// The part of the rows to keep, by the hash of the prompt.
    #[serde(default)]
    pub share: Option<Share>,
    /// Seed of a random order of the rows; `null` keeps the order of the file.
    #[serde(default)]
    pub shuffle: Option<u64>,
    /// Number of first rows to keep, after all other options; `null` keeps all.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Cuts a column that is too long, before the templates are filled in.
    #[serde(default)]
    pub cut: Option<Cut>,
}

/// Treatment of a row that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Such a row is an error.
    #[default]
    Error,
    /// Such a row is left out, counted and listed.
    Skip,
}

impl OnBadRow {
    fn is_error(&self) -> bool {
        *self == OnBadRow::Error
    }
}

/// A condition on a column; exactly one beside `column` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Name of the column; `a.b` is the field `b` of the column `a`.
    pub column: String,
    /// Keeps rows whose column is this text (numbers as the file writes them, truth values as JSON
    /// does).
    #[serde(default)]
    pub equals: Option<String>,
    /// Keeps rows whose column is anything else.
    #[serde(default)]
    pub not: Option<String>,
    /// Keeps rows whose column is one of these texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of: Option<Vec<String>>,
    /// Keeps rows whose column is none of these texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none_of: Option<Vec<String>>,
    /// Keeps rows whose column has this text in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Keeps rows whose column has at most this many words. A word is what single spaces part, so
    /// two spaces in a row have an empty one between them (Kirk et al. 2024, released code).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_words: Option<usize>,
    /// Keeps rows whose column has more words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_words_than: Option<usize>,
}

impl Filter {
    /// How many conditions are given.
    fn conditions(&self) -> usize {
        let texts = [&self.equals, &self.not, &self.contains].into_iter().flatten().count();
        let lists = [&self.any_of, &self.none_of].into_iter().flatten().count();
        texts + lists + [&self.max_words, &self.more_words_than].into_iter().flatten().count()
    }

    pub(super) fn passes(&self, text: &str) -> bool {
        let words = || text.split(' ').count();
        self.equals.as_ref().is_none_or(|wanted| wanted == text)
            && self.not.as_ref().is_none_or(|unwanted| unwanted != text)
            && self.any_of.as_ref().is_none_or(|wanted| wanted.iter().any(|wanted| wanted == text))
            && self
                .none_of
                .as_ref()
                .is_none_or(|unwanted| unwanted.iter().all(|unwanted| unwanted != text))
            && self.contains.as_ref().is_none_or(|part| text.contains(part.as_str()))
            && self.max_words.is_none_or(|most| words() <= most)
            && self.more_words_than.is_none_or(|most| words() > most)
    }
}

/// A part of the rows: those whose prompt hashes into `[from, to)`, so that parts that do not
/// overlap share no prompt, a smaller part is in a larger one that begins where it does, and a row
/// stays where it is when others come, go or change places.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Lower end of the part, as a fraction of the hashes: at least 0.
    pub from: f64,
    /// Upper end of the part: at most 1.
    pub to: f64,
    /// Seed of the hash; another seed gives another part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Share {
    /// Whether a prompt is in this part.
    pub fn has(&self, prompt: &str) -> bool {
        (self.from..self.to).contains(&place(prompt, self.seed))
    }

    /// What is wrong with its bounds.
    pub fn problem(&self) -> Option<String> {
        let Share { from, to, .. } = self;
        (!(0.0 <= *from && from < to && *to <= 1.0))
            .then(|| format!("expected 0 <= from < to <= 1, found {from} and {to}"))
    }
}

/// Cuts a column to a number of words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Name of the column.
    pub column: String,
    /// Number of words to keep.
    pub words: usize,
    /// End of the text that is kept.
    #[serde(default)]
    pub keep: End,
}

/// An end of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The first words.
    #[default]
    Start,
    /// The last words.
    End,
}

impl Files {
    /// Options out of range: the field, and what was expected.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems: Vec<(String, String)> = Vec::new();
        let mut problem = |field: &str, message: String| problems.push((field.to_owned(), message));
        let templates = [
            ("prompt", &self.prompt),
            ("completion", &self.completion),
            ("chosen", &self.chosen),
            ("rejected", &self.rejected),
        ];
        for (field, template) in
            templates.into_iter().filter_map(|(field, text)| Some((field, text.as_ref()?)))
        {
            if let Err(error) = Template::parse(template) {
                problem(field, error.to_string());
            }
            if let Some(format) = self.format.filter(|format| format.is_text()) {
                let name = json!(format);
                problem(
                    field,
                    format!("the format {name} has no templates: its rows are texts already"),
                );
            }
        }
        let pair = self.chosen.is_some() || self.rejected.is_some();
        if pair && (self.completion.is_some() || self.chosen.is_none() || self.rejected.is_none()) {
            problem(
                "chosen",
                "expected both `chosen` and `rejected`, and no `completion`".to_owned(),
            );
        }
        if self.format.is_none() && self.prompt.is_some() != (pair || self.completion.is_some()) {
            let missing = if self.prompt.is_some() { "completion" } else { "prompt" };
            problem(missing, format!("expected `{missing}` too, or a `format`"));
        }
        for (at, filter) in
            self.keep.iter().enumerate().filter(|(_, filter)| filter.conditions() != 1)
        {
            let conditions = "`equals`, `not`, `any_of`, `none_of`, `contains`, `max_words` and \
                `more_words_than`";
            problem(
                &format!("keep.{at}"),
                format!("expected one of {conditions}, found {}", filter.conditions()),
            );
        }
        if let Some(message) = self.share.and_then(|share| share.problem()) {
            problem("share", message);
        }
        if self.share.is_some() && self.prompt.as_deref() == Some("") {
            problem(
                "share",
                "a share goes by the prompt, and the template of the prompt is empty".to_owned(),
            );
        }
        if self.limit == Some(0) {
            problem("limit", "expected at least 1, or null".to_owned());
        }
        if self.cut.as_ref().is_some_and(|cut| cut.words == 0) {
            problem("cut.words", "expected at least 1".to_owned());
        }
        problems
    }
}

/// Where a prompt falls in [0, 1): a function of its words, and of the seed, alone.
fn place(prompt: &str, seed: Option<u64>) -> f64 {
    let words = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    let bytes = blake3::hash(words.as_bytes());
    let bits = u64::from_le_bytes(bytes.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
    match seed {
        Some(seed) => Stream::new(seed, "share").uniform(bits, 0),
        None => (bits >> 11) as f64 / (1u64 << 53) as f64,
    }
}

/// The first or last words of a text, white space between them kept. A text with no more words
/// stays as it is.
pub(super) fn cut_words(text: &str, words: usize, keep: End) -> &str {
    // Words are slices of the text, so the distance of the starts is the byte at which a word
    // begins.
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let count = text.split_whitespace().count();
    let edge = match keep {
        _ if count <= words => None,
        End::Start => text.split_whitespace().nth(words - 1),
        End::End => text.split_whitespace().nth(count - words),
    };
    match (edge, keep) {
        (None, _) => text,
        (Some(last), End::Start) => &text[..start(last) + last.len()],
        (Some(first), End::End) => &text[start(first)..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_many_texts_is_about_as_large_as_it_says() {
        let inside = (0..10_000).filter(|at| place(&format!("text {at}"), None) < 0.3).count();
        assert!((2850..3150).contains(&inside), "{inside}");
        assert_eq!(place(" a  b\n", None), place("a b", None));
    }

    #[test]
    fn a_text_is_cut_at_either_end_and_white_space_stays() {
        assert_eq!(cut_words(" a  b c", 2, End::Start), " a  b");
        assert_eq!(cut_words(" a  b c ", 2, End::End), "b c ");
        assert_eq!(cut_words(" a  b c ", 3, End::End), " a  b c ");
    }
}
