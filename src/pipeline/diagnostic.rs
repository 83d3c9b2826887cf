//! Places in the texts that the user wrote, and mistakes shown with the line they are in. Uses no
//! YAML.

use std::fmt::Write;
use std::path::PathBuf;

use crate::error::{Failure, user};

/// One text: the pipeline file, or the value of an option.
#[derive(Clone, Debug)]
pub struct Source {
    /// How errors name it: the path as the user gave it, or `--set kl=0.1`.
    pub name: String,
    /// What it says.
    pub text: String,
    /// The folder that relative paths in it start from.
    pub folder: PathBuf,
    /// Whether errors give line and column: an option is one short line that its name already
    /// shows.
    pub lines: bool,
}

/// All texts of one pipeline; a [`Span`] holds an index into it.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a text and gives its index.
    pub fn add(&mut self, source: Source) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }

    /// The text with this index.
    pub fn get(&self, index: usize) -> &Source {
        &self.0[index]
    }
}

/// A place: part of one line of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index into [`Sources`].
    pub source: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters, on this line.
    pub width: usize,
}

/// One mistake of the user's, where it is, and what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Where.
    pub span: Span,
    /// What was found and what was expected.
    pub message: String,
    /// Other places that matter: where the value is used, where a key was first given.
    pub notes: Vec<(Span, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Mistake {
    /// A mistake at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Mistake { span, message: message.into(), notes: Vec::new(), help: None }
    }

    /// The same mistake, with another place that matters.
    pub fn note(mut self, span: Span, message: impl Into<String>) -> Self {
        self.notes.push((span, message.into()));
        self
    }

    /// The same mistake, with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same mistake, with advice if there is any.
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// The mistake as text: place and message, the line with a caret under the spot, the other
    /// places, the advice.
    pub fn render(&self, sources: &Sources) -> String {
        let mut out = String::new();
        frame(&mut out, sources, self.span, &self.message);
        for (span, message) in &self.notes {
            out.push('\n');
            frame(&mut out, sources, *span, message);
        }
        if let Some(help) = &self.help {
            write!(out, "\n  hint: {help}").expect("a String takes any text");
        }
        out
    }
}

fn frame(out: &mut String, sources: &Sources, span: Span, message: &str) {
    let source = sources.get(span.source);
    let place = if source.lines {
        format!("{}:{}:{}", source.name, span.line, span.column)
    } else {
        source.name.clone()
    };
    write!(out, "{place}: {message}").expect("a String takes any text");
    let Some(line) = source.text.lines().nth(span.line - 1).filter(|_| source.lines) else {
        return;
    };
    // A tab would put the caret elsewhere than the eye expects it: lines are shown with one space
    // for each.
    let line = line.replace('\t', " ");
    let number = span.line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(span.column - 1);
    let caret = "^".repeat(span.width.max(1));
    write!(out, "\n  {number} | {line}\n  {margin} | {indent}{caret}")
        .expect("a String takes any text");
}

/// Mistakes that are shown; of more, the rest is counted.
const SHOWN: usize = 50;
/// Names of a list that are written out; of more, the rest is counted.
const NAMED: usize = 50;

/// All mistakes of a phase as one failure; the first of them in full.
pub fn failure(mut mistakes: Vec<Mistake>, sources: &Sources) -> Failure {
    mistakes.sort_by_key(|mistake| (mistake.span.source, mistake.span.line, mistake.span.column));
    // One place is wrong once: what is said of it first is nearest to the cause.
    mistakes.dedup_by_key(|mistake| mistake.span);
    let mut texts: Vec<String> =
        mistakes.iter().take(SHOWN).map(|mistake| mistake.render(sources)).collect();
    match (mistakes.len(), mistakes.len() - texts.len()) {
        (1, _) => user(texts.concat()),
        (count, left) => {
            texts.extend((left > 0).then(|| format!("and {left} more")));
            user(format!("{count} mistakes\n\n{}", texts.join("\n\n")))
        }
    }
}

/// The right name that is nearest to a wrong one, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |name: &str| name.to_lowercase().replace('-', "_");
    let wrong = fold(wrong);
    let (name, score) = right
        .into_iter()
        .map(|name| (name, strsim::damerau_levenshtein(&wrong, &fold(name))))
        .min_by_key(|(_, distance)| *distance)?;
    let limit = (wrong.chars().count().max(name.chars().count()) / 3).max(1);
    (score <= limit).then_some(name)
}

/// "did you mean `name`?" if some name is near, else the list of names.
pub fn advice<'a>(
    wrong: &str,
    right: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    let names: Vec<&str> = right.clone().into_iter().collect();
    let list = match names.len() {
        0 => format!("there are no {what}"),
        count @ ..=NAMED => format!("{what}: {}", names[..count].join(", ")),
        count => format!("{what}: {}, and {} more", names[..NAMED].join(", "), count - NAMED),
    };
    match nearest(wrong, right) {
        Some(name) => format!("did you mean `{name}`? {list}"),
        None => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("learning_rat", ["steps", "learning_rate"]), Some("learning_rate"));
        assert_eq!(nearest("Learning-Rate", ["steps", "learning_rate"]), Some("learning_rate"));
        assert_eq!(nearest("ks", ["kl", "beta"]), Some("kl"));
        assert_eq!(nearest("zzz", ["kl", "beta"]), None);
    }

    #[test]
    fn the_caret_stands_under_the_spot() {
        let mut sources = Sources::default();
        let source = sources.add(Source {
            name: "p.yaml".into(),
            text: "a: 1\n  bé: 2\n".into(),
            folder: PathBuf::new(),
            lines: true,
        });
        let mistake = Mistake::new(Span { source, line: 2, column: 7, width: 1 }, "expected 3")
            .help("write 3");
        assert_eq!(
            mistake.render(&sources),
            "p.yaml:2:7: expected 3\n  2 |   bé: 2\n    |       ^\n  hint: write 3"
        );
    }
}
