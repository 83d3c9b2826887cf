//! Contents of answers to an instruction, by the wordings of its writers. Uses what the task gives.

use super::content::{Content, alternatives, permutations};
use crate::instructions::prompt::another;
use crate::instructions::task::{Answer, Step, Task};
use crate::instructions::words::{CLOSINGS, LEADS, NUMBERS, SEPARATORS};
use crate::random::Sequence;

/// The elements of each content: some of those that are asked for, in the order of the answer.
pub(super) fn parts(answer: &Answer) -> Vec<Vec<String>> {
    let chosen = |set: usize| {
        let elements = answer.elements.iter().enumerate();
        elements.filter(|(at, _)| set >> at & 1 == 1).map(|(_, element)| element.clone()).collect()
    };
    (1..1usize << answer.elements.len()).map(chosen).collect()
}

/// An answer with these elements: in this order where the task asks for one, else in any.
pub(super) fn content(elements: &[String], ordered: bool) -> Content {
    let orders = match ordered {
        true => vec![(0..elements.len()).collect()],
        false => permutations(elements.len()),
    };
    written(elements, &orders, ordered)
}

/// The same with one element replaced by a value that is not asked for; a count is one too many
/// or too few.
pub(super) fn invented(
    elements: &[String],
    answer: &Answer,
    task: &Task,
    random: &mut Sequence,
) -> Content {
    let mut elements = elements.to_vec();
    let at = random.below(elements.len());
    let element = &mut elements[at];
    if task.steps.contains(&Step::Counted) {
        let count: usize = element.parse().expect("a count is a number");
        let less = count > 1 && random.chance(0.5);
        *element = if less { count - 1 } else { count + 1 }.to_string();
    } else {
        let in_capitals = *element == element.to_uppercase();
        let wanted = |value: &String| answer.elements.contains(value);
        *element = loop {
            let value = another(task, random);
            let value = if in_capitals { value.to_uppercase() } else { value.to_string() };
            if !wanted(&value) {
                break value;
            }
        };
    }
    content(&elements, answer.ordered)
}

/// The same with one element said again at once.
pub(super) fn repeated(elements: &[String], ordered: bool, random: &mut Sequence) -> Content {
    let again = random.below(elements.len());
    let orders = match ordered {
        true => vec![(0..elements.len()).collect()],
        false => permutations(elements.len()),
    };
    let twice = |order: Vec<usize>| {
        order.into_iter().flat_map(|at| vec![at; if at == again { 2 } else { 1 }]).collect()
    };
    written(elements, &orders.into_iter().map(twice).collect::<Vec<_>>(), ordered)
}

/// All texts of these elements in these orders, with a lead or none and a closing or none.
fn written(elements: &[String], orders: &[Vec<usize>], ordered: bool) -> Content {
    let mut stated = elements.to_vec();
    if !ordered {
        stated.sort_unstable();
    }
    let mut content = Content::new(stated.join("; "), elements.len(), orders.len() as u64);
    let separator = content.group(SEPARATORS.iter().map(|text| text.to_string()).collect());
    let stop = content.group(vec![".".into()]);
    let named: Vec<u16> =
        elements.iter().map(|element| content.group(spellings(element))).collect();
    let mut optional = |texts: &[&str]| -> Vec<Option<u16>> {
        let grouped = alternatives(texts.iter().map(|text| text.to_string()));
        // Whether a closing is a question plays no part: groups of one length are different groups.
        let groups = grouped.into_values().map(|texts| Some(content.group(texts)));
        [None].into_iter().chain(groups).collect()
    };
    let (leads, closings) = (optional(LEADS), optional(CLOSINGS));
    for order in orders {
        for lead in &leads {
            for closing in &closings {
                let mut frame: Vec<u16> = lead.iter().copied().collect();
                for (at, element) in order.iter().enumerate() {
                    frame.extend((at > 0).then_some(separator));
                    frame.push(named[*element]);
                }
                frame.push(stop);
                frame.extend(closing);
                content.frame(frame);
            }
        }
    }
    content
}

/// How an element may be written: a number as a figure or a word, a value as it is.
fn spellings(element: &str) -> Vec<String> {
    match element.parse::<usize>().ok().and_then(|number| NUMBERS.get(number)) {
        Some(word) => vec![element.to_string(), word.to_string()],
        None => vec![element.to_string()],
    }
}
