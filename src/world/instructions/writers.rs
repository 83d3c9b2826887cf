//! Answers to instructions by writers of unequal care. Uses the task, not its text.

use serde::{Deserialize, Serialize};

use super::prompt;
use super::task::{Step, Task};
use super::words::{CLOSINGS, JUNK, LEADS, NUMBERS, SEPARATORS};
use crate::pick;
use crate::random::Sequence;

/// Who writes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// Follows every step.
    Exact,
    /// The reference: careful, but now and then a step is forgotten.
    Reference,
    /// What the web is like: pre-training text.
    Web,
    /// Hardly ever wrong.
    Good,
    /// Follows some steps.
    Mid,
    /// Follows few, and makes things up.
    Bad,
}

/// The writers of candidates for comparison, each as likely.
pub const CANDIDATE_WRITERS: [Writer; 4] =
    [Writer::Good, Writer::Reference, Writer::Mid, Writer::Bad];

/// A writer's habits, as probabilities.
struct Habits {
    /// A step is left out.
    skip: f64,
    /// A value is left out.
    drop: f64,
    /// A value is one that is not asked for; a count is off by one.
    wrong: f64,
    /// A value is said twice.
    repeat: f64,
    /// There is no answer.
    junk: f64,
}

impl Writer {
    fn habits(self) -> Habits {
        let habits = |skip, drop, wrong, repeat, junk| Habits { skip, drop, wrong, repeat, junk };
        match self {
            Writer::Exact => habits(0.0, 0.0, 0.0, 0.0, 0.0),
            Writer::Reference => habits(0.2, 0.1, 0.05, 0.0, 0.0),
            Writer::Web => habits(0.3, 0.12, 0.08, 0.03, 0.05),
            Writer::Good => habits(0.04, 0.02, 0.0, 0.0, 0.0),
            Writer::Mid => habits(0.3, 0.15, 0.1, 0.0, 0.0),
            Writer::Bad => habits(0.5, 0.25, 0.3, 0.1, 0.1),
        }
    }
}

/// An answer, with the leading space of a completion.
pub fn write(task: &Task, writer: Writer, random: &mut Sequence) -> String {
    let habits = writer.habits();
    if random.chance(habits.junk) {
        return format!(" {}", pick(JUNK, random));
    }
    let steps = task.steps.iter().filter(|_| !random.chance(habits.skip)).cloned().collect();
    let remembered = Task { steps, ..task.clone() };
    let mut elements = remembered.answer().elements;
    let counted = remembered.steps.contains(&Step::Counted);
    if counted {
        miscount(&mut elements[0], habits.wrong, random);
    } else {
        forget(&mut elements, task, &habits, random);
        // Who was not asked for an order gives any.
        if !remembered.answer().ordered && random.chance(0.5) {
            random.shuffle(&mut elements);
        }
    }
    let mut text = String::new();
    if random.chance(0.4) {
        text = format!(" {}", pick(LEADS, random));
    }
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            text = format!("{text} {}", pick(SEPARATORS, random));
        }
        text = format!("{text} {element}");
    }
    text.push_str(" .");
    if random.chance(0.2) {
        text = format!("{text} {}", pick(CLOSINGS, random));
    }
    text
}

/// Values left out, confused with others, or said twice; at least one stays.
fn forget(elements: &mut Vec<String>, task: &Task, habits: &Habits, random: &mut Sequence) {
    let in_capitals = elements[0] == elements[0].to_uppercase();
    let mut kept = Vec::new();
    for element in elements.iter() {
        if random.chance(habits.drop) && elements.len() > 1 {
            continue;
        }
        let mut value = element.clone();
        if random.chance(habits.wrong) {
            value = prompt::another(task, random).to_string();
            if in_capitals {
                value = value.to_uppercase();
            }
        }
        if random.chance(habits.repeat) {
            kept.push(value.clone());
        }
        kept.push(value);
    }
    if kept.is_empty() {
        kept.push(elements[0].clone());
    }
    *elements = kept;
}

/// A count, sometimes off by one, as a figure or a word.
fn miscount(count: &mut String, wrong: f64, random: &mut Sequence) {
    let mut number: usize = count.parse().expect("a count is a number");
    if random.chance(wrong) {
        number = if number > 1 && random.chance(0.5) { number - 1 } else { number + 1 };
    }
    *count = if random.chance(0.5) { NUMBERS[number].to_string() } else { number.to_string() };
}
