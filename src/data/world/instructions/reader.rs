//! Instructions read back from their text, in any phrasing. Knows the wordings, not who drew what.

use super::task::{Column, Entry, Kind, Step, Task};
use super::words::{INPUT, OUTPUT, PHRASINGS, Phrasing};

/// Words still to be read.
type Words<'a> = &'a [&'a str];

/// What a prompt asks for; none, if it is no instruction of this world.
pub fn read(prompt: &str) -> Option<Task> {
    let (instruction, rest) = prompt.split_once(&format!(" . {INPUT} "))?;
    let record = rest.strip_suffix(&format!(" . {OUTPUT}"))?;
    let entries = record.split(" ; ").map(entry).collect::<Option<Vec<Entry>>>()?;
    let words: Vec<&str> = instruction.split(' ').collect();
    PHRASINGS.iter().find_map(|phrasing| {
        let (column, steps) = instructed(phrasing, &words)?;
        Some(Task { entries: entries.clone(), column, steps })
    })
}

fn entry(text: &str) -> Option<Entry> {
    let [person, thing, day, number] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    Some(Entry { person: person.into(), thing: thing.into(), day: day.into(), number: number.parse().ok()? })
}

/// Column and steps, if all words are of this phrasing.
fn instructed(phrasing: &Phrasing, words: Words<'_>) -> Option<(Column, Vec<Step>)> {
    let mut rest = match phrasing.opening {
        [] => words,
        openings => after_any(openings, words)?,
    };
    let column = [Column::People, Column::Things].into_iter().find_map(|column| {
        let after = after_any(phrasing.column(column), rest)?;
        Some((column, after))
    });
    let (column, after) = column?;
    rest = after;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let connectors = if steps.is_empty() { phrasing.first } else { phrasing.next };
        // A connector may begin another: any after which a clause stands is the right one.
        let (step, after) = connectors.iter().find_map(|connector| read_clause(phrasing, after_wording(connector, rest)?.0))?;
        steps.push(step);
        rest = after;
    }
    Some((column, steps))
}

fn read_clause<'a>(phrasing: &Phrasing, words: Words<'a>) -> Option<(Step, Words<'a>)> {
    let wordings = phrasing.clauses.iter().zip(KINDS).flat_map(|(wordings, kind)| wordings.iter().map(move |wording| (*wording, kind)));
    wordings
        .filter_map(|(wording, kind)| {
            let (rest, slots) = after_wording(wording, words)?;
            Some((step(kind, &slots)?, rest))
        })
        .next()
}

const KINDS: [Kind; 8] =
    [Kind::Day, Kind::Above, Kind::Ascending, Kind::Descending, Kind::Reversed, Kind::Replaced, Kind::Capitals, Kind::Counted];

/// The step with what stands in a wording's slots.
fn step(kind: Kind, slots: &[(&str, &str)]) -> Option<Step> {
    let slot = |name: &str| slots.iter().find(|(slot, _)| *slot == name).map(|(_, word)| (*word).to_string());
    Some(match kind {
        Kind::Day => Step::Day(slot("{day}")?),
        Kind::Above => Step::Above(slot("{number}")?.parse().ok()?),
        Kind::Ascending => Step::Ascending,
        Kind::Descending => Step::Descending,
        Kind::Reversed => Step::Reversed,
        Kind::Replaced => Step::Replaced { from: slot("{from}")?, to: slot("{to}")? },
        Kind::Capitals => Step::Capitals,
        Kind::Counted => Step::Counted,
    })
}

fn after_any<'a>(wordings: &[&str], words: Words<'a>) -> Option<Words<'a>> {
    wordings.iter().find_map(|wording| Some(after_wording(wording, words)?.0))
}

/// The words after a wording that they begin with, and the words in its slots.
fn after_wording<'a, 'w>(wording: &'w str, words: Words<'a>) -> Option<(Words<'a>, Vec<(&'w str, &'a str)>)> {
    let (mut rest, mut slots) = (words, Vec::new());
    for expected in wording.split(' ') {
        let (word, after) = rest.split_first()?;
        match expected.starts_with('{') {
            true => slots.push((expected, *word)),
            false if *word == expected => {}
            false => return None,
        }
        rest = after;
    }
    Some((rest, slots))
}
