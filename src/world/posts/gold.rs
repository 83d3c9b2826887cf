//! The exact gold score of a summary, with its parts. Uses the facts of a post and the grammar of
//! summaries, whatever wrote the text.
//!
//! score = 2 coverage - 1 - 0.3 wrong - 0.05 over - 0.25 repeated - 0.1 malformed, clipped to [-1,
//! 1].
//!
//! 1. Words are what is between white space; punctuation marks are words.
//! 2. Values are read from left to right, the longest first; `coverage` is 0.2 each for who, done,
//!    when and ask, 0.1 for verb and obj.
//! 3. `wrong`: different values named that are not the post's fact. 4. `over`: words beyond 20.
//! 5. `repeated`: values named again, plus runs of three words that occurred before.
//! 6. `malformed`: neighbours that no writer puts side by side (values count as their slot; the
//!    ends of the text count as neighbours), and 3 more if the text did not end by itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::post::Facts;
use super::words::{self, FORUMS, HELD_OUT, SLOTS, Slot};

/// What coverage each slot is worth, in the order of [`SLOTS`].
const WORTH: [f64; 6] = [0.2, 0.1, 0.1, 0.2, 0.2, 0.2];
const WRONG: f64 = 0.3;
const OVER: f64 = 0.05;
const REPEATED: f64 = 0.25;
const MALFORMED: f64 = 0.1;
/// Words a summary may have at no cost.
const ROOM: usize = 20;
/// What a text that did not end counts as malformed.
const NOT_ENDED: usize = 3;

const START: &str = "<s>";
const END: &str = "</s>";

/// A gold score and what it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gold {
    /// The score, in [-1, 1].
    pub score: f64,
    /// The score before it was clipped.
    pub unclipped: f64,
    /// The share of the facts that is stated, weighted, in [0, 1].
    pub coverage: f64,
    /// Which slots are stated, in the order of [`SLOTS`].
    pub recalled: [bool; 6],
    /// Different values that are not the post's fact: what was invented or confused.
    pub wrong: usize,
    /// Repeated values and runs of three words.
    pub repeated: usize,
    /// Neighbours outside the grammar.
    pub malformed: usize,
    /// Words beyond the free length.
    pub over: usize,
    /// Words in all.
    pub length: usize,
}

impl Gold {
    /// The parts by their names in reports: `coverage_who` and so on, then the others.
    pub fn parts(&self) -> Vec<(String, f64)> {
        let recalled = SLOTS.iter().map(|slot| {
            (format!("coverage_{}", slot.name()), f64::from(self.recalled[*slot as usize]))
        });
        let others = [
            ("coverage", self.coverage),
            ("invented", self.wrong as f64),
            ("repeated", self.repeated as f64),
            ("malformed", self.malformed as f64),
        ];
        recalled.chain(others.map(|(name, value)| (name.to_string(), value))).collect()
    }
}

/// The gold score of `text` as a summary of a post with these facts; `ended` says whether it
/// ended by itself.
pub fn gold(facts: &Facts, text: &str, ended: bool) -> Gold {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (found, classes) = parse(&words);
    let distinct: BTreeSet<(Slot, &str)> = found.iter().copied().collect();
    let recalled = SLOTS.map(|slot| distinct.contains(&(slot, facts.value(slot))));
    let coverage: f64 =
        recalled.iter().zip(WORTH).filter(|(recalled, _)| **recalled).map(|(_, worth)| worth).sum();
    let wrong = distinct.iter().filter(|(slot, value)| facts.value(*slot) != *value).count();
    let runs = words.windows(3).count() - words.windows(3).collect::<HashSet<_>>().len();
    let repeated = found.len() - distinct.len() + runs;
    let strange =
        classes.windows(2).filter(|pair| !licence().contains(&(pair[0], pair[1]))).count();
    let malformed = strange + if ended { 0 } else { NOT_ENDED };
    let over = words.len().saturating_sub(ROOM);
    let penalty = WRONG * wrong as f64
        + OVER * over as f64
        + REPEATED * repeated as f64
        + MALFORMED * malformed as f64;
    let unclipped = 2.0 * coverage - 1.0 - penalty;
    Gold {
        score: unclipped.clamp(-1.0, 1.0),
        unclipped,
        coverage,
        recalled,
        wrong,
        repeated,
        malformed,
        over,
        length: words.len(),
    }
}

/// The different values that `text` names, each with its slot, in the order of [`SLOTS`]: what a
/// summary states, whatever its wording.
pub fn stated(text: &str) -> Vec<(Slot, &'static str)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    parse(&words).0.into_iter().collect::<BTreeSet<(Slot, &str)>>().into_iter().collect()
}

/// The values a text names, in order, and the text with each value replaced by its slot, between
/// its two ends.
fn parse<'a>(words: &[&'a str]) -> (Vec<(Slot, &'static str)>, Vec<&'a str>) {
    let (mut found, mut classes) = (Vec::new(), vec![START]);
    let mut at = 0;
    while at < words.len() {
        let candidates = values().get(words[at]).map_or(&[][..], Vec::as_slice);
        let hit = candidates.iter().find(|(_, value)| {
            value.split(' ').eq(words[at..].iter().copied().take(value.split(' ').count()))
        });
        match hit {
            Some((slot, value)) => {
                found.push((*slot, *value));
                classes.push(slot.class());
                at += value.split(' ').count();
            }
            None => {
                classes.push(words[at]);
                at += 1;
            }
        }
    }
    classes.push(END);
    (found, classes)
}

/// Every value of every forum by its first word, longest first. Only looked up, never walked: its
/// order reaches nothing.
fn values() -> &'static HashMap<&'static str, Vec<(Slot, &'static str)>> {
    static VALUES: OnceLock<HashMap<&'static str, Vec<(Slot, &'static str)>>> = OnceLock::new();
    VALUES.get_or_init(|| {
        let mut all: HashMap<&str, Vec<(Slot, &str)>> = HashMap::new();
        for forum in FORUMS.iter().chain([&HELD_OUT]) {
            for slot in SLOTS {
                for value in forum.values(slot) {
                    let first = value.split(' ').next().expect("no value is empty");
                    let entry = all.entry(first).or_default();
                    if !entry.contains(&(slot, value)) {
                        entry.push((slot, value));
                    }
                }
            }
        }
        all.values_mut().for_each(|entry| {
            entry.sort_by_key(|(_, value)| std::cmp::Reverse(value.split(' ').count()))
        });
        all
    })
}

/// All pairs of neighbours that a writer can produce, read off the wordings: parts are alone,
/// first, last or after a separator, in any order; after a question mark no separator follows.
fn licence() -> &'static HashSet<(&'static str, &'static str)> {
    static LICENCE: OnceLock<HashSet<(&'static str, &'static str)>> = OnceLock::new();
    LICENCE.get_or_init(|| {
        let lists = [
            words::CORE,
            words::CORE_WHO,
            words::CORE_OBJ,
            words::TOLD_DONE,
            words::TOLD_WHEN,
            words::TOLD_ASK,
            words::CHATTER,
        ];
        let split = |list: &[&'static str]| -> Vec<Vec<&str>> {
            list.iter().map(|part| part.split(' ').collect()).collect()
        };
        let (parts, questions) = (split(&lists.concat()), split(words::TOLD_ASK));
        let mut pairs = HashSet::new();
        for part in &parts {
            pairs.extend(part.windows(2).map(|pair| (pair[0], pair[1])));
            let (first, last) = (part[0], part[part.len() - 1]);
            pairs.extend([START, ".", ",", "and"].map(|before| (before, first)));
            // After a question is a part of another kind, or the same question again.
            if last == "?" || !questions.contains(part) {
                pairs.insert(("?", first));
            }
            if last != "?" {
                pairs.extend([".", ",", "and"].map(|separator| (last, separator)));
            }
        }
        for junk in words::JUNK {
            let sentence: Vec<&str> =
                [START].into_iter().chain(junk.split(' ')).chain(["."]).collect();
            pairs.extend(sentence.windows(2).map(|pair| (pair[0], pair[1])));
        }
        pairs.extend([(".", END), ("?", END)]);
        pairs
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bucket;
    use crate::posts::post::{self, Register};
    use crate::posts::tldr::{Writer, write};
    use crate::random::Stream;

    #[test]
    fn no_value_is_a_value_of_two_slots_or_begins_another() {
        for (first, entry) in values() {
            let slots: BTreeSet<Slot> = entry.iter().map(|(slot, _)| *slot).collect();
            assert_eq!(slots.len(), 1, "{first}");
            assert!(
                entry
                    .iter()
                    .all(|(_, value)| value.split(' ').count() == entry[0].1.split(' ').count()),
                "{first}"
            );
        }
    }

    #[test]
    fn no_wording_of_a_summary_contains_a_value() {
        let lists = [
            words::CORE,
            words::CORE_WHO,
            words::CORE_OBJ,
            words::TOLD_DONE,
            words::TOLD_WHEN,
            words::TOLD_ASK,
        ];
        for wording in
            lists.concat().into_iter().chain(words::CHATTER.iter().chain(words::JUNK).copied())
        {
            assert!(parse(&wording.split(' ').collect::<Vec<_>>()).0.is_empty(), "{wording}");
        }
    }

    /// The licence is read off the wordings; what writers write is the oracle, in both directions.
    #[test]
    fn the_licence_is_what_writers_write() {
        let stream = Stream::new(99, "licence");
        let mut seen = HashSet::new();
        let forums: Vec<_> = FORUMS.iter().chain([&HELD_OUT]).collect();
        for row in 0..40_000 {
            let mut random = stream.sequence(row);
            let post = post::draw(
                forums[random.below(forums.len())],
                Register::Forum,
                Bucket::Train,
                &mut random,
            );
            let writer = *random.choose(&[Writer::Reference, Writer::Good, Writer::Web]);
            let text = write(&post.facts, writer, &mut random);
            let words: Vec<&str> = text.split_whitespace().collect();
            let classes = parse(&words).1;
            seen.extend(classes.windows(2).map(|pair| (pair[0].to_string(), pair[1].to_string())));
        }
        let licensed: HashSet<(String, String)> =
            licence().iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        let unseen: Vec<_> = licensed.difference(&seen).collect();
        let unlicensed: Vec<_> = seen.difference(&licensed).collect();
        assert!(
            unseen.is_empty() && unlicensed.is_empty(),
            "unseen {unseen:?}, unlicensed {unlicensed:?}"
        );
    }
}
