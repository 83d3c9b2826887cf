//! Contents of summaries of a post, by the wordings of its writers. Uses the facts of a post.

use super::content::{Alternatives, Content, alternatives, permutations, products};
use crate::posts::Facts;
use crate::posts::post::other_value;
use crate::posts::words::{
    CHATTER, CORE, CORE_OBJ, CORE_WHO, Forum, SLOTS, Slot, TOLD_ASK, TOLD_DONE, TOLD_WHEN, fill,
};
use crate::random::Sequence;

/// What may be between two parts.
const SEPARATORS: [&str; 3] = [".", ",", "and"];

/// A part of a summary: the slots that it states, and its wordings.
type Part = (&'static [Slot], &'static [&'static str]);

const PROBLEMS: [Part; 3] = [
    (&[Slot::Who], CORE_WHO),
    (&[Slot::Verb, Slot::Obj], CORE_OBJ),
    (&[Slot::Who, Slot::Verb, Slot::Obj], CORE),
];
const OTHERS: [Part; 3] =
    [(&[Slot::Done], TOLD_DONE), (&[Slot::When], TOLD_WHEN), (&[Slot::Ask], TOLD_ASK)];

/// The parts of each content: a problem or none, and some of the others; 31.
pub(super) fn parts() -> Vec<Vec<Part>> {
    let mut all = Vec::new();
    for problem in [None].into_iter().chain(PROBLEMS.map(Some)) {
        for chosen in 0..8usize {
            let others = OTHERS.into_iter().enumerate();
            let others = others.filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, part)| part);
            let parts: Vec<Part> = problem.into_iter().chain(others).collect();
            if !parts.is_empty() {
                all.push(parts);
            }
        }
    }
    all
}

/// A summary of these parts with these values, in the order of [`SLOTS`].
pub(super) fn content(parts: &[Part], values: [&str; 6]) -> Content {
    written(parts, &permutations(parts.len()), values)
}

/// The same with the value of one slot that it states replaced by another of the forum.
pub(super) fn invented(parts: &[Part], facts: &Facts, random: &mut Sequence) -> Content {
    let forum = Forum::named(&facts.forum).expect("facts name one of the world's forums");
    let slots: Vec<Slot> = parts.iter().flat_map(|(slots, _)| slots.iter().copied()).collect();
    let slot = *random.choose(&slots);
    let mut values = facts.values();
    values[slot as usize] = other_value(forum, slot, facts.value(slot), random);
    content(parts, values)
}

/// The same with one part said again at the end, in the same or another wording.
pub(super) fn repeated(parts: &[Part], facts: &Facts, random: &mut Sequence) -> Content {
    let again = random.below(parts.len());
    let orders: Vec<Vec<usize>> = permutations(parts.len())
        .into_iter()
        .map(|order| [order.as_slice(), &[parts.len()]].concat())
        .collect();
    written(&[parts, &[parts[again]]].concat(), &orders, facts.values())
}

/// All texts of these parts in these orders, each with no words that say nothing, or with some
/// before or behind it.
fn written(parts: &[Part], orders: &[Vec<usize>], values: [&str; 6]) -> Content {
    let is_stated = |slot: &&Slot| parts.iter().any(|(slots, _)| slots.contains(slot));
    let stated: Vec<Slot> = SLOTS.iter().filter(is_stated).copied().collect();
    let statement: Vec<String> =
        stated.iter().map(|slot| format!("{}: {}", slot.name(), values[*slot as usize])).collect();
    let mut content = Content::new(statement.join("; "), stated.len(), orders.len() as u64);
    let separator = content.group(SEPARATORS.map(String::from).to_vec());
    let stop = content.group(vec![".".into()]);
    let mut questions = vec![false; 2];
    let mut grouped = |content: &mut Content, alternatives: Alternatives| -> Vec<u16> {
        let group = |((_, question), texts): ((usize, bool), Vec<String>)| {
            questions.push(question);
            content.group(texts)
        };
        alternatives.into_iter().map(group).collect()
    };
    let chatter = grouped(&mut content, alternatives(CHATTER.iter().map(|text| text.to_string())));
    let parts: Vec<Vec<u16>> = parts
        .iter()
        .map(|(_, wordings)| {
            let filled = wordings.iter().map(|wording| fill(wording, &values));
            grouped(&mut content, alternatives(filled))
        })
        .collect();
    for order in orders {
        let own: Vec<&[u16]> = order.iter().map(|at| parts[*at].as_slice()).collect();
        let before = [&[chatter.as_slice()], own.as_slice()].concat();
        let behind = [own.as_slice(), &[chatter.as_slice()]].concat();
        for lists in [own, before, behind] {
            for chosen in products(&lists) {
                let mut frame = Vec::with_capacity(2 * chosen.len());
                for (at, group) in chosen.iter().enumerate() {
                    frame.push(*group);
                    if !questions[usize::from(*group)] {
                        frame.push(if at + 1 == chosen.len() { stop } else { separator });
                    }
                }
                content.frame(frame);
            }
        }
    }
    content
}
