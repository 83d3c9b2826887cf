//! What an instruction asks for: a record, a column of it, steps; and what they give. Knows no wording.

use serde::{Deserialize, Serialize};

/// A line of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Who.
    pub person: String,
    /// With which thing.
    pub thing: String,
    /// On which day.
    pub day: String,
    /// How much; different for every entry of a record.
    pub number: u8,
}

/// A column of a record: what an answer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// The people.
    People,
    /// The things.
    Things,
}

/// One operation. Each works on what the one before it gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Filter: keeps the entries of a day.
    Day(String),
    /// Filter: keeps the entries whose number is greater.
    Above(u8),
    /// Sort: smallest number first.
    Ascending,
    /// Sort: greatest number first.
    Descending,
    /// Turns the order around.
    Reversed,
    /// Rewrite: names one as another.
    Replaced {
        /// Who or what.
        from: String,
        /// Under which name.
        to: String,
    },
    /// Rewrite: names all in capitals.
    Capitals,
    /// Gives their number in place of their names.
    Counted,
}

/// A step without what it is about: compositions are sequences of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    Day,
    Above,
    Ascending,
    Descending,
    Reversed,
    Replaced,
    Capitals,
    Counted,
}

impl Step {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Step::Day(_) => Kind::Day,
            Step::Above(_) => Kind::Above,
            Step::Ascending => Kind::Ascending,
            Step::Descending => Kind::Descending,
            Step::Reversed => Kind::Reversed,
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
    pub entries: Vec<Entry>,
    /// What of it is named.
    pub column: Column,
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

impl Entry {
    /// What an answer about `column` calls it.
    pub fn name(&self, column: Column) -> &str {
        match column {
            Column::People => &self.person,
            Column::Things => &self.thing,
        }
    }
}

impl Task {
    /// The kinds of its steps.
    pub fn composition(&self) -> Vec<Kind> {
        self.steps.iter().map(Step::kind).collect()
    }

    /// The entries that its filters and sorts leave, in order.
    pub fn kept(&self) -> Vec<&Entry> {
        let mut kept: Vec<&Entry> = self.entries.iter().collect();
        for step in &self.steps {
            match step {
                Step::Day(day) => kept.retain(|entry| entry.day == *day),
                Step::Above(number) => kept.retain(|entry| entry.number > *number),
                Step::Ascending => kept.sort_by_key(|entry| entry.number),
                Step::Descending => kept.sort_by_key(|entry| std::cmp::Reverse(entry.number)),
                Step::Reversed => kept.reverse(),
                Step::Replaced { .. } | Step::Capitals | Step::Counted => {}
            }
        }
        kept
    }

    /// What its steps give. A count comes last: what follows it is without effect.
    pub fn answer(&self) -> Answer {
        let mut elements: Vec<String> = self.kept().iter().map(|entry| entry.name(self.column).to_string()).collect();
        for step in &self.steps {
            match step {
                Step::Replaced { from, to } => elements.iter_mut().filter(|name| *name == from).for_each(|name| name.clone_from(to)),
                Step::Capitals => elements.iter_mut().for_each(|name| *name = name.to_uppercase()),
                Step::Counted => return Answer { elements: vec![elements.len().to_string()], ordered: false },
                _ => {}
            }
        }
        let ordered = self.steps.iter().any(|step| matches!(step, Step::Ascending | Step::Descending | Step::Reversed));
        Answer { elements, ordered }
    }
}
