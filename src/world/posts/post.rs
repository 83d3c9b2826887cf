//! Posts: facts drawn and told in a register, with distractors and filler; and the short notes of
//! the first pre-training phase. Uses no summary but the plain one of a note.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::{self, Forum, SLOTS, Slot, Wordings, fill};
use crate::random::Sequence;
use crate::{Bucket, join, pick, sample_without_replacement};

/// What a post says: one value a slot, and the values it names besides, which are not its facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The forum it was drawn from.
    pub forum: String,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub verb: String,
    /// To which thing.
    pub obj: String,
    /// What the poster has tried.
    pub done: String,
    /// By when an answer is needed.
    pub when: String,
    /// What the poster wants to know.
    pub ask: String,
    /// Other values that the post names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub distractors: BTreeMap<Slot, String>,
}

impl Facts {
    /// The values, one a slot, in the order of [`SLOTS`].
    pub fn values(&self) -> [&str; 6] {
        [&self.who, &self.verb, &self.obj, &self.done, &self.when, &self.ask]
    }

    /// The value of one slot.
    pub fn value(&self, slot: Slot) -> &str {
        self.values()[slot as usize]
    }
}

/// The bucket of a combination of facts, so that no test post, in any wording, can occur in
/// training.
pub fn bucket(forum: &str, values: &[&str; 6]) -> Bucket {
    Bucket::of([forum].iter().chain(values).copied())
}

/// How a post is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// A forum post.
    Forum,
    /// A forum post with more distractors, filler and repetition.
    Long,
    /// A news report in the third person.
    News,
}

/// A post: what it says and its text, lower-case words with single spaces between.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// What it says.
    pub facts: Facts,
    /// Its text, without the words that ask for a summary.
    pub text: String,
}

impl Post {
    /// The text that asks for a summary. A completion starts with its own space.
    pub fn prompt(&self) -> String {
        format!("{} tl;dr:", self.text)
    }
}

fn draw_values(forum: &Forum, from: Bucket, random: &mut Sequence) -> [&'static str; 6] {
    let lists = SLOTS.map(|slot| forum.values(slot));
    loop {
        let values = std::array::from_fn(|slot| *random.choose(&lists[slot]));
        if bucket(forum.name, &values) == from {
            return values;
        }
    }
}

/// A value of `slot` other than `value`.
pub(crate) fn other_value(
    forum: &Forum,
    slot: Slot,
    value: &str,
    random: &mut Sequence,
) -> &'static str {
    let others: Vec<&str> =
        forum.values(slot).into_iter().filter(|other| *other != value).collect();
    pick(&others, random)
}

/// Draws a post.
pub fn draw(forum: &Forum, register: Register, from: Bucket, random: &mut Sequence) -> Post {
    let values = draw_values(forum, from, random);
    let wordings: &Wordings = match register {
        Register::News => &words::NEWS,
        _ => &words::POST,
    };
    let long = register == Register::Long;
    let tell =
        |wordings: &[&'static str], random: &mut Sequence| fill(pick(wordings, random), &values);
    let problem = tell(wordings.problem, random);
    let question = tell(wordings.ask, random);
    let mut rest = vec![tell(wordings.done, random), tell(wordings.when, random)];
    for _ in 0..usize::from(random.chance(0.5)) + usize::from(long) {
        rest.push(tell(wordings.again, random));
    }
    let head = match register {
        Register::News => "news report :".to_string(),
        _ => format!("forum {} title : {} post :", forum.name, tell(words::TITLES, random)),
    };
    let mut distractors = BTreeMap::new();
    let count = *random.choose(if long { &[2, 3][..] } else { &[0, 1, 1, 2][..] });
    for (slot, sentences) in sample_without_replacement(wordings.distractors, count, random) {
        let value = other_value(forum, slot, values[slot as usize], random);
        rest.push(fill(pick(sentences, random), &[value; 6]));
        distractors.insert(slot, value.to_string());
    }
    let count = *random.choose(if long { &[4, 5, 6][..] } else { &[0, 1, 2][..] });
    rest.extend(
        sample_without_replacement(wordings.filler, count, random).into_iter().map(str::to_string),
    );
    let body = order(problem, rest, question, random);
    let opener = (register != Register::News && random.chance(0.3))
        .then(|| pick(words::OPENERS, random).to_string());
    let text = [head].into_iter().chain(opener).chain(body).collect::<Vec<_>>().join(" ");
    Post { facts: facts(forum, &values, distractors), text }
}

/// Mostly the problem first and the question last; else any order.
fn order(
    problem: String,
    mut rest: Vec<String>,
    question: String,
    random: &mut Sequence,
) -> Vec<String> {
    let framed = random.chance(0.7);
    if framed {
        random.shuffle(&mut rest);
    }
    let mut body = [vec![problem], rest, vec![question]].concat();
    if !framed {
        random.shuffle(&mut body);
    }
    body
}

fn facts(forum: &Forum, values: &[&str; 6], distractors: BTreeMap<Slot, String>) -> Facts {
    let [who, verb, obj, done, when, ask] = values.map(str::to_string);
    Facts { forum: forum.name.into(), who, verb, obj, done, when, ask, distractors }
}

/// A short note (problem, and each other fact half of the time, nothing else) and a summary that
/// states all of it: what a model learns to copy from before it reads whole posts.
pub fn note(forum: &Forum, random: &mut Sequence) -> (String, String) {
    let values = draw_values(forum, Bucket::Train, random);
    let mut told = vec![(words::POST.problem, words::CORE)];
    let others = [
        (words::POST.done, words::TOLD_DONE),
        (words::POST.when, words::TOLD_WHEN),
        (words::POST.ask, words::TOLD_ASK),
    ];
    told.extend(others.into_iter().filter(|_| random.chance(0.5)));
    let mut sentences: Vec<String> =
        told.iter().map(|(post, _)| fill(pick(post, random), &values)).collect();
    random.shuffle(&mut sentences);
    let mut parts: Vec<String> =
        told.iter().map(|(_, summary)| fill(pick(summary, random), &values)).collect();
    random.shuffle(&mut parts);
    (format!("{} tl;dr:", sentences.join(" ")), join(&parts, &[".", ",", "and"], random))
}
