//! What an instruction asks for: a record and steps; and what they give. Uses no wording.

use serde::{Deserialize, Serialize};

/// What a field of a record is. In the order of their names, by which records are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs)]
pub enum Label {
    Action,
    Day,
    Person,
    Place,
    Plan,
    Thing,
}

/// All labels, in order.
pub const LABELS: [Label; 6] =
    [Label::Action, Label::Day, Label::Person, Label::Place, Label::Plan, Label::Thing];

impl Label {
    /// Its name in instructions and records.
    pub fn name(self) -> &'static str {
        ["action", "day", "person", "place", "plan", "thing"][self as usize]
    }

    /// The label called `name`.
    pub fn named(name: &str) -> Option<Label> {
        LABELS.into_iter().find(|label| label.name() == name)
    }
}

/// A field of a record; no label occurs twice in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// What it is.
    pub label: Label,
    /// One word. No word is a value of two labels.
    pub value: String,
}

/// One operation. Each works on what the one before it gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Filter: the fields with these labels stay.
    Keep(Vec<Label>),
    /// Filter: the fields with these labels go.
    Drop(Vec<Label>),
    /// Sort: by label.
    Sorted,
    /// Sort: by label, the last first.
    Backward,
    /// Rewrite: another word for a value.
    Replaced {
        /// The value.
        from: String,
        /// The word.
        to: String,
    },
    /// Rewrite: all in capitals.
    Capitals,
    /// Gives how many there are, instead of them.
    Counted,
}

/// A step without what it is about: compositions are sequences of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs)]
pub enum Kind {
    Keep,
    Drop,
    Sorted,
    Backward,
    Replaced,
    Capitals,
    Counted,
}

/// All kinds, in order.
pub const KINDS: [Kind; 7] = [
    Kind::Keep,
    Kind::Drop,
    Kind::Sorted,
    Kind::Backward,
    Kind::Replaced,
    Kind::Capitals,
    Kind::Counted,
];

impl Step {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Step::Keep(_) => Kind::Keep,
            Step::Drop(_) => Kind::Drop,
            Step::Sorted => Kind::Sorted,
            Step::Backward => Kind::Backward,
            Step::Replaced { .. } => Kind::Replaced,
            Step::Capitals => Kind::Capitals,
            Step::Counted => Kind::Counted,
        }
    }
}

/// What an instruction asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The record.
    pub fields: Vec<Field>,
    /// The steps, in order; none asks for a plain list.
    pub steps: Vec<Step>,
}

/// The right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is to be named.
    pub elements: Vec<String>,
    /// Whether their order was asked for.
    pub ordered: bool,
}

impl Task {
    /// The kinds of its steps.
    pub fn composition(&self) -> Vec<Kind> {
        self.steps.iter().map(Step::kind).collect()
    }

    /// The fields that its filters and sorts leave, in order.
    pub fn kept(&self) -> Vec<&Field> {
        let mut kept: Vec<&Field> = self.fields.iter().collect();
        for step in &self.steps {
            match step {
                Step::Keep(labels) => kept.retain(|field| labels.contains(&field.label)),
                Step::Drop(labels) => kept.retain(|field| !labels.contains(&field.label)),
                Step::Sorted => kept.sort_by_key(|field| field.label),
                Step::Backward => kept.sort_by_key(|field| std::cmp::Reverse(field.label)),
                Step::Replaced { .. } | Step::Capitals | Step::Counted => {}
            }
        }
        kept
    }

    /// What its steps give. A count comes last: what follows it is without effect.
    pub fn answer(&self) -> Answer {
        let mut elements: Vec<String> =
            self.kept().iter().map(|field| field.value.clone()).collect();
        for step in &self.steps {
            match step {
                Step::Replaced { from, to } => elements
                    .iter_mut()
                    .filter(|value| *value == from)
                    .for_each(|value| value.clone_from(to)),
                Step::Capitals => {
                    elements.iter_mut().for_each(|value| *value = value.to_uppercase())
                }
                Step::Counted => {
                    return Answer { elements: vec![elements.len().to_string()], ordered: false };
                }
                _ => {}
            }
        }
        Answer {
            elements,
            ordered: self.steps.iter().any(|step| matches!(step, Step::Sorted | Step::Backward)),
        }
    }
}
