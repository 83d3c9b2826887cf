//! Instructions drawn and worded, with the record they are about. Knows no answer.

use super::task::{Column, Entry, Kind, Step, Task};
use super::words::{INPUT, OUTPUT, Phrasing};
use crate::data::world::posts::words::{FORUMS, Forum, HELD_OUT, Slot};
use crate::data::world::{Bucket, pick, sample};
use crate::random::Sequence;

/// What tasks are drawn from.
#[derive(Debug)]
pub struct Draw<'a> {
    /// Forums whose people and things records are about.
    pub forums: &'a [Forum],
    /// How many entries a record has: one of these.
    pub entries: &'a [usize],
    /// Compositions, each as likely.
    pub compositions: &'a [&'a [Kind]],
    /// What may be drawn at all.
    pub bucket: Bucket,
}

impl Default for Draw<'static> {
    fn default() -> Self {
        Draw { forums: FORUMS, entries: &[3, 4, 5], compositions: super::words::TRAINED, bucket: Bucket::Train }
    }
}

/// The bucket of a task: records and steps decide, wordings do not.
pub fn bucket(task: &Task) -> Bucket {
    let text = serde_json::to_string(task).expect("a task is JSON");
    Bucket::of([text.as_str()])
}

/// Draws a task in which every step does something.
pub fn draw(from: &Draw<'_>, random: &mut Sequence) -> Task {
    let composition = *random.choose(from.compositions);
    loop {
        let column = *random.choose(&[Column::People, Column::Things]);
        let mut task = Task { entries: record(from, random), column, steps: Vec::new() };
        let complete = composition.iter().enumerate().all(|(at, kind)| match step(from, &task, *kind, &composition[at + 1..], random) {
            Some(step) => {
                task.steps.push(step);
                true
            }
            None => false,
        });
        if complete && bucket(&task) == from.bucket {
            return task;
        }
    }
}

/// The people or things of forums, without those that two share counted twice.
fn names(forums: &[Forum], slot: Slot) -> Vec<&'static str> {
    let mut names: Vec<&str> = forums.iter().flat_map(|forum| forum.values(slot)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Different people with different things and numbers on two or three days.
fn record(from: &Draw<'_>, random: &mut Sequence) -> Vec<Entry> {
    let entries = *random.choose(from.entries);
    let days = 2 + usize::from(entries > 3);
    let days = sample(&HELD_OUT.values(Slot::When)[..7], days, random);
    let people = sample(&names(from.forums, Slot::Who), entries, random);
    let things = sample(&names(from.forums, Slot::Obj), entries, random);
    let numbers = sample(&[1, 2, 3, 4, 5, 6, 7, 8, 9], entries, random);
    let entry = |((person, thing), number): ((&str, &str), u8)| Entry {
        person: person.into(),
        thing: thing.into(),
        day: pick(&days, random).into(),
        number,
    };
    people.into_iter().zip(things).zip(numbers).map(entry).collect()
}

/// A step that changes what the task gives so far, and leaves later ones something to do; none, if there is none.
fn step(from: &Draw<'_>, task: &Task, kind: Kind, later: &[Kind], random: &mut Sequence) -> Option<Step> {
    let kept = task.kept();
    let works_on_several = |kind: &Kind| !matches!(kind, Kind::Replaced | Kind::Capitals | Kind::Counted);
    let least = if later.iter().any(works_on_several) { 2 } else { 1 };
    let leaves_some = |step: &Step| {
        let left = Task { steps: [task.steps.clone(), vec![step.clone()]].concat(), ..task.clone() }.kept().len();
        left >= least && left < kept.len()
    };
    let filters: Vec<Step> = match kind {
        Kind::Day => kept.iter().map(|entry| Step::Day(entry.day.clone())).filter(leaves_some).collect(),
        Kind::Above => kept.iter().map(|entry| Step::Above(entry.number)).filter(leaves_some).collect(),
        Kind::Ascending => vec![Step::Ascending],
        Kind::Descending => vec![Step::Descending],
        Kind::Reversed => vec![Step::Reversed],
        Kind::Replaced => vec![replacement(from, task, random)],
        Kind::Capitals => vec![Step::Capitals],
        Kind::Counted => vec![Step::Counted],
    };
    (!filters.is_empty()).then(|| random.choose(&filters).clone())
}

/// One of the kept under the name of one who is not in the record.
fn replacement(from: &Draw<'_>, task: &Task, random: &mut Sequence) -> Step {
    let slot = match task.column {
        Column::People => Slot::Who,
        Column::Things => Slot::Obj,
    };
    let mut others = names(from.forums, slot);
    others.retain(|name| task.entries.iter().all(|entry| entry.name(task.column) != *name));
    let replaced = random.choose(&task.kept()).name(task.column).to_string();
    Step::Replaced { from: replaced, to: pick(&others, random).to_string() }
}

/// The text that asks for an answer. A completion starts with its own space.
pub fn word(task: &Task, phrasing: &Phrasing, random: &mut Sequence) -> String {
    let mut text = String::new();
    let mut say = |words: &str| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(words);
    };
    if !phrasing.opening.is_empty() {
        say(pick(phrasing.opening, random));
    }
    say(pick(phrasing.column(task.column), random));
    for (at, step) in task.steps.iter().enumerate() {
        say(pick(if at == 0 { phrasing.first } else { phrasing.next }, random));
        say(&clause(step, phrasing, random));
    }
    say(".");
    say(INPUT);
    for (at, Entry { person, thing, day, number }) in task.entries.iter().enumerate() {
        say(&format!("{}{person} {thing} {day} {number}", if at == 0 { "" } else { "; " }));
    }
    say(".");
    say(OUTPUT);
    text
}

fn clause(step: &Step, phrasing: &Phrasing, random: &mut Sequence) -> String {
    let wording = pick(phrasing.clauses[step.kind() as usize], random);
    match step {
        Step::Day(day) => wording.replace("{day}", day),
        Step::Above(number) => wording.replace("{number}", &number.to_string()),
        Step::Replaced { from, to } => wording.replace("{from}", from).replace("{to}", to),
        _ => wording.to_string(),
    }
}
