//! Summaries of posts by writers of unequal care. Uses the facts of a post, not its text.

use serde::{Deserialize, Serialize};

use super::post::{Facts, other_value};
use super::words::{self, Forum, SLOTS, fill};
use crate::random::Sequence;
use crate::{join, pick};

/// Who writes a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// The reference: careful, rarely complete.
    Reference,
    /// What the web is like: pre-training text.
    Web,
    /// Nearly complete, never wrong.
    Good,
    /// Half complete, sometimes wrong.
    Mid,
    /// Little and often wrong.
    Bad,
}

/// The writers of candidates for comparison, each as likely.
pub const CANDIDATE_WRITERS: [Writer; 4] =
    [Writer::Good, Writer::Reference, Writer::Mid, Writer::Bad];

/// A writer's habits, as probabilities.
struct Habits {
    core: f64,
    done: f64,
    when: f64,
    ask: f64,
    slot_error: f64,
    chatter: f64,
    junk: f64,
    repeat: f64,
}

impl Writer {
    fn habits(self) -> Habits {
        let habits = |core, [done, when, ask]: [f64; 3], slot_error, chatter| {
            let careless = matches!(self, Writer::Web | Writer::Bad);
            let (junk, repeat) = if careless { (0.12, 0.15) } else { (0.0, 0.0) };
            Habits { core, done, when, ask, slot_error, chatter, junk, repeat }
        };
        match self {
            Writer::Reference => habits(0.95, [0.55, 0.55, 0.7], 0.03, 0.25),
            Writer::Web => habits(0.85, [0.4, 0.4, 0.5], 0.10, 0.45),
            Writer::Good => habits(1.0, [0.85, 0.85, 0.9], 0.0, 0.05),
            Writer::Mid => habits(0.9, [0.5, 0.5, 0.6], 0.10, 0.3),
            Writer::Bad => habits(0.7, [0.3, 0.3, 0.3], 0.30, 0.5),
        }
    }
}

/// A summary, with the leading space of a completion.
///
/// # Panics
/// If the facts name a forum that does not exist.
pub fn write(facts: &Facts, writer: Writer, random: &mut Sequence) -> String {
    let habits = writer.habits();
    let values = misremember(facts, habits.slot_error, random);
    if random.chance(habits.junk) {
        return format!(" {} .", pick(words::JUNK, random));
    }
    let mut parts = choose_parts(&habits, random);
    let freedom = random.uniform();
    if freedom < 0.35 {
        random.shuffle(&mut parts);
    } else if freedom < 0.6 {
        random.shuffle(&mut parts[1..]);
    }
    let mut texts: Vec<String> = parts.iter().map(|wording| fill(wording, &values)).collect();
    if random.chance(habits.chatter) {
        let at = *random.choose(&[0, texts.len(), texts.len()]);
        texts.insert(at, pick(words::CHATTER, random).to_string());
    }
    join(&texts, &[".", ".", ",", "and"], random)
}

/// The wordings of the parts, at least one.
fn choose_parts(habits: &Habits, random: &mut Sequence) -> Vec<&'static str> {
    let mut parts = Vec::new();
    let draw = random.uniform();
    if draw < habits.core {
        let wordings = match draw {
            _ if draw < habits.core - 0.1 => words::CORE,
            _ if draw < habits.core - 0.05 => words::CORE_WHO,
            _ => words::CORE_OBJ,
        };
        parts.push(pick(wordings, random));
    }
    for (probability, wordings) in [
        (habits.done, words::TOLD_DONE),
        (habits.when, words::TOLD_WHEN),
        (habits.ask, words::TOLD_ASK),
    ] {
        if random.chance(probability) {
            parts.push(pick(wordings, random));
        }
    }
    if !parts.is_empty() && random.chance(habits.repeat) {
        parts.push(pick(&parts, random));
    }
    if parts.is_empty() {
        parts.push(pick(words::TOLD_ASK, random));
    }
    parts
}

/// The values as the writer remembers them: a wrong one is likelier to be one that the post names.
fn misremember<'a>(facts: &'a Facts, probability: f64, random: &mut Sequence) -> [&'a str; 6] {
    let forum = Forum::named(&facts.forum).expect("facts name one of the world's forums");
    SLOTS.map(|slot| match (random.chance(probability), facts.distractors.get(&slot)) {
        (true, Some(distractor)) if random.chance(0.6) => distractor,
        (true, _) => other_value(forum, slot, facts.value(slot), random),
        (false, _) => facts.value(slot),
    })
}
