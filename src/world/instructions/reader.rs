//! Instructions read back from their text, in any phrasing. Uses the wordings, not who drew what.

use super::task::{Field, KINDS, Kind, Label, Step, Task};
use super::words::{AND, INPUT, OUTPUT, PHRASINGS, Phrasing};

/// Words still to be read.
type Words<'a> = &'a [&'a str];

/// What a prompt asks for; none, if it is no instruction of this world.
pub fn read(prompt: &str) -> Option<Task> {
    let (record, instruction) = prompt.strip_prefix(INPUT)?.strip_prefix(' ')?.split_once(" . ")?;
    let fields = record.split(" ; ").map(field).collect::<Option<Vec<Field>>>()?;
    let words: Vec<&str> =
        instruction.strip_suffix(OUTPUT)?.strip_suffix(" . ")?.split(' ').collect();
    let steps = PHRASINGS.iter().find_map(|phrasing| instructed(phrasing, &words))?;
    Some(Task { fields, steps })
}

fn field(text: &str) -> Option<Field> {
    let (label, value) = text.split_once(' ')?;
    Some(Field { label: Label::named(label)?, value: value.into() })
}

/// The steps, if all words are of this phrasing.
fn instructed(phrasing: &Phrasing, words: Words<'_>) -> Option<Vec<Step>> {
    let mut rest = match phrasing.opening {
        [] => words,
        openings => after_any(openings, words)?,
    };
    rest = after_any(phrasing.list, rest)?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let connectors = if steps.is_empty() {
            phrasing.first.to_vec()
        } else {
            [phrasing.next, phrasing.last].concat()
        };
        // A connector may begin another: any before a clause is the right one.
        let (step, after) = connectors
            .into_iter()
            .find_map(|connector| read_clause(phrasing, after_wording(connector, rest)?.0))?;
        steps.push(step);
        rest = after;
    }
    Some(steps)
}

fn read_clause<'a>(phrasing: &Phrasing, words: Words<'a>) -> Option<(Step, Words<'a>)> {
    let wordings = phrasing
        .clauses
        .iter()
        .zip(KINDS)
        .flat_map(|(wordings, kind)| wordings.iter().map(move |wording| (*wording, kind)));
    // The longest: one clause may begin another.
    let found = wordings.filter_map(|(wording, kind)| {
        let (rest, slots) = after_wording(wording, words)?;
        Some((step(kind, &slots)?, rest))
    });
    found.min_by_key(|(_, rest)| rest.len())
}

/// The step with what is in a wording's slots.
fn step(kind: Kind, slots: &[(&str, String)]) -> Option<Step> {
    let slot =
        |name: &str| slots.iter().find(|(slot, _)| *slot == name).map(|(_, words)| words.clone());
    let labels = || {
        slot("{labels}")?
            .split(&format!(" {AND} "))
            .map(Label::named)
            .collect::<Option<Vec<Label>>>()
    };
    Some(match kind {
        Kind::Keep => Step::Keep(labels()?),
        Kind::Drop => Step::Drop(labels()?),
        Kind::Sorted => Step::Sorted,
        Kind::Backward => Step::Backward,
        Kind::Replaced => Step::Replaced { from: slot("{from}")?, to: slot("{to}")? },
        Kind::Capitals => Step::Capitals,
        Kind::Counted => Step::Counted,
    })
}

fn after_any<'a>(wordings: &[&str], words: Words<'a>) -> Option<Words<'a>> {
    wordings.iter().find_map(|wording| Some(after_wording(wording, words)?.0))
}

/// The words after a wording that they begin with, and the words in its slots: one, and the labels
/// that [`AND`] links to it.
fn after_wording<'a, 'w>(
    wording: &'w str,
    words: Words<'a>,
) -> Option<(Words<'a>, Vec<(&'w str, String)>)> {
    let (mut rest, mut slots) = (words, Vec::new());
    for expected in wording.split(' ') {
        let (word, mut after) = rest.split_first()?;
        if expected.starts_with('{') {
            let mut filling = (*word).to_string();
            while let [AND, next, further @ ..] = after
                && Label::named(next).is_some()
            {
                filling = format!("{filling} {AND} {next}");
                after = further;
            }
            slots.push((expected, filling));
        } else if *word != expected {
            return None;
        }
        rest = after;
    }
    Some((rest, slots))
}
