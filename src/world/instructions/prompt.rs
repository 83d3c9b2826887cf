//! Instructions drawn and worded, with the record they are about. Uses no answer.

use super::task::{Field, Kind, LABELS, Label, Step, Task};
use super::words::{AND, INPUT, OUTPUT, Phrasing};
use crate::posts::words::{FORUMS, Forum, Slot};
use crate::random::Sequence;
use crate::{Bucket, pick, sample_without_replacement};

/// The forums that records are about: with fewer values a small model soon learns to copy them.
pub const PLACES: &[Forum] = FORUMS.split_at(2).0;

/// What tasks are drawn from.
#[derive(Debug)]
pub struct Draw<'a> {
    /// How many fields a record has: one of these.
    pub fields: &'a [usize],
    /// Compositions, each as likely.
    pub compositions: &'a [&'a [Kind]],
    /// What records may be drawn at all.
    pub bucket: Bucket,
}

impl Default for Draw<'static> {
    fn default() -> Self {
        Draw { fields: &[3, 4, 5], compositions: super::words::TRAINED, bucket: Bucket::Train }
    }
}

impl Label {
    /// The values that a field can have in a record about this forum; single words.
    pub fn values(self, forum: &Forum) -> Vec<&'static str> {
        let mut values = match self {
            Label::Action => forum.values(Slot::Verb),
            Label::Day => forum.values(Slot::When),
            Label::Person => forum.values(Slot::Who),
            Label::Place => vec![forum.name],
            Label::Plan => forum.values(Slot::Ask),
            Label::Thing => forum.values(Slot::Obj),
        };
        values.retain(|value| !value.contains(' '));
        values
    }
}

/// The bucket of a record, whatever is asked about it: that of its last three fields, so that no
/// record that is tested is the end of a longer one that is trained on.
pub fn bucket(fields: &[Field]) -> Bucket {
    let last = &fields[fields.len().saturating_sub(3)..];
    Bucket::of(last.iter().flat_map(|field| [field.label.name(), &field.value]))
}

/// Draws a task in which every step does something.
pub fn draw(from: &Draw<'_>, random: &mut Sequence) -> Task {
    let composition = *random.choose(from.compositions);
    loop {
        let fields = record(from, random);
        if let Some(steps) = steps(&fields, composition, random) {
            return Task { fields, steps };
        }
    }
}

/// Draws another task about the same record.
pub fn draw_again(from: &Draw<'_>, fields: &[Field], random: &mut Sequence) -> Task {
    loop {
        let composition = *random.choose(from.compositions);
        if let Some(steps) = steps(fields, composition, random) {
            return Task { fields: fields.to_vec(), steps };
        }
    }
}

/// Different labels in any order, with values of one forum.
fn record(from: &Draw<'_>, random: &mut Sequence) -> Vec<Field> {
    loop {
        let forum = random.choose(PLACES);
        let count = *random.choose(from.fields);
        let labels = sample_without_replacement(&LABELS, count, random);
        let field =
            |label: Label| Field { label, value: pick(&label.values(forum), random).into() };
        let fields: Vec<Field> = labels.into_iter().map(field).collect();
        if bucket(&fields) == from.bucket {
            return fields;
        }
    }
}

/// Steps of these kinds; none, if there are none that all do something.
fn steps(fields: &[Field], composition: &[Kind], random: &mut Sequence) -> Option<Vec<Step>> {
    let mut task = Task { fields: fields.to_vec(), steps: Vec::new() };
    for (at, kind) in composition.iter().enumerate() {
        let step = step(&task, *kind, &composition[at + 1..], random)?;
        task.steps.push(step);
    }
    Some(task.steps)
}

/// A step that changes what the task gives so far, and leaves two fields for a filter or sort after
/// it; none, if there is none.
fn step(task: &Task, kind: Kind, later: &[Kind], random: &mut Sequence) -> Option<Step> {
    let kept: Vec<Label> = task.kept().iter().map(|field| field.label).collect();
    let works_on_several =
        |kind: &Kind| matches!(kind, Kind::Keep | Kind::Drop | Kind::Sorted | Kind::Backward);
    let least = if later.iter().any(works_on_several) { 2 } else { 1 };
    let mut some = |counts: std::ops::Range<usize>| {
        let count = (!counts.is_empty()).then(|| counts.start + random.below(counts.len()))?;
        Some(sample_without_replacement(&kept, count, random))
    };
    Some(match kind {
        Kind::Keep => Step::Keep(some(least..kept.len().min(4))?),
        Kind::Drop => Step::Drop(some(1..(kept.len() + 1).saturating_sub(least).min(4))?),
        Kind::Sorted => Step::Sorted,
        Kind::Backward => Step::Backward,
        Kind::Replaced => replacement(task, random),
        Kind::Capitals => Step::Capitals,
        Kind::Counted => Step::Counted,
    })
}

/// Another word for one of the kept values.
fn replacement(task: &Task, random: &mut Sequence) -> Step {
    let field = *random.choose(&task.kept());
    Step::Replaced { from: field.value.clone(), to: other(field, random).into() }
}

/// Another value of a field's label, from the forum that its own is of.
fn other(field: &Field, random: &mut Sequence) -> &'static str {
    let own = |forum: &&Forum| field.label.values(forum).contains(&field.value.as_str());
    let mut others: Vec<&str> = match field.label {
        Label::Place => FORUMS.iter().map(|forum| forum.name).collect(),
        label => PLACES
            .iter()
            .find(own)
            .map(|forum| label.values(forum))
            .expect("a value is of some forum"),
    };
    others.retain(|value| *value != field.value);
    pick(&others, random)
}

/// Another value than a field of the record has: what a mistaken writer would say.
pub(crate) fn another(task: &Task, random: &mut Sequence) -> &'static str {
    other(random.choose(&task.fields), random)
}

/// The text that asks for an answer. A completion starts with its own space.
pub fn word(task: &Task, phrasing: &Phrasing, random: &mut Sequence) -> String {
    let fields: Vec<String> =
        task.fields.iter().map(|field| format!("{} {}", field.label.name(), field.value)).collect();
    format!("{INPUT} {} . {}", fields.join(" ; "), instruct(task, phrasing, random))
}

/// The same without the record.
pub fn instruct(task: &Task, phrasing: &Phrasing, random: &mut Sequence) -> String {
    let mut said: Vec<String> = Vec::new();
    if !phrasing.opening.is_empty() {
        said.push(pick(phrasing.opening, random).into());
    }
    said.push(pick(phrasing.list, random).into());
    for (at, step) in task.steps.iter().enumerate() {
        let connectors = match at {
            0 => phrasing.first,
            _ if at + 1 == task.steps.len() => phrasing.last,
            _ => phrasing.next,
        };
        said.push(pick(connectors, random).into());
        said.push(clause(step, phrasing, random));
    }
    format!("{} . {OUTPUT}", said.join(" "))
}

fn clause(step: &Step, phrasing: &Phrasing, random: &mut Sequence) -> String {
    let wording = pick(phrasing.clauses[step.kind() as usize], random);
    match step {
        Step::Keep(labels) | Step::Drop(labels) => {
            let names: Vec<&str> = labels.iter().map(|label| label.name()).collect();
            wording.replace("{labels}", &names.join(&format!(" {AND} ")))
        }
        Step::Replaced { from, to } => wording.replace("{from}", from).replace("{to}", to),
        _ => wording.to_string(),
    }
}
