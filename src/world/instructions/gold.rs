//! The exact gold score of an answer to an instruction, with its parts. Uses what the task gives;
//! whatever wrote the text.
//!
//! score = 2 coverage - 1 - 0.3 invented - 0.05 over - 0.25 repeated - 0.1 malformed, clipped to
//! [-1, 1].
//!
//! 1. Words are what is between white space; punctuation marks are words. A value, in small
//!    letters or capitals, and a number, as a figure or a word, are elements. Leads, separators and
//!    closings cost nothing.
//! 2. `coverage` is `elements` (1/2 + `order`/4 + `form`/4). `elements`: the share of what is asked
//!    for that is named, in any letters. `order`: of these, the share that is in the order asked
//!    for (its longest run of that kind, gaps allowed); 1 where none is asked for. `form`: of
//!    these, the share in the right letters.
//! 3. `invented`: different elements that are not asked for. `repeated`: elements named again.
//!    `over`: words beyond 24.
//! 4. `malformed`: neighbours outside the grammar of answers (lead, elements with a separator
//!    between every two, full stop, closing), and 3 more if the text did not end by itself.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::task::{LABELS, Task};
use super::words::{CLOSINGS, LEADS, NUMBERS, SEPARATORS};
use crate::posts::words::{FORUMS, Forum, HELD_OUT};

const INVENTED: f64 = 0.3;
const OVER: f64 = 0.05;
const REPEATED: f64 = 0.25;
const MALFORMED: f64 = 0.1;
/// Words an answer may have at no cost.
const ROOM: usize = 24;
/// What a text that did not end counts as malformed.
const NOT_ENDED: usize = 3;

/// A gold score and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Gold {
    /// The score, in [-1, 1].
    pub score: f64,
    /// The score before it was clipped.
    pub unclipped: f64,
    /// What is right, in [0, 1].
    pub coverage: f64,
    /// The share of what is asked for that is named.
    pub elements: f64,
    /// The share of that in the order asked for.
    pub order: f64,
    /// The share of that in the right letters.
    pub form: f64,
    /// Different elements that are not asked for.
    pub invented: usize,
    /// Elements named again.
    pub repeated: usize,
    /// Neighbours outside the grammar.
    pub malformed: usize,
    /// Words beyond the free length.
    pub over: usize,
}

impl Gold {
    /// The parts by their names in reports. `exact` is whether nothing is wrong at all.
    pub fn parts(&self) -> Vec<(String, f64)> {
        [
            ("coverage_elements", self.elements),
            ("coverage_order", self.order),
            ("coverage_form", self.form),
            ("exact", f64::from(self.unclipped == 1.0)),
            ("coverage", self.coverage),
            ("invented", self.invented as f64),
            ("repeated", self.repeated as f64),
            ("malformed", self.malformed as f64),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .to_vec()
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Unit {
    Start,
    Lead,
    /// A value as it is written, or a number as a figure.
    Element(String),
    Separator,
    Stop,
    Closing,
    Unknown,
    End,
}

/// The gold score of `text` as an answer to this task; `ended` says whether it came to an end by
/// itself.
pub fn gold(task: &Task, text: &str, ended: bool) -> Gold {
    let words: Vec<&str> = text.split_whitespace().collect();
    let units = parse(&words);
    let answer = task.answer();
    let small: Vec<String> = answer.elements.iter().map(|element| element.to_lowercase()).collect();
    let mut places: Vec<usize> = Vec::new();
    let mut distinct: BTreeSet<String> = BTreeSet::new();
    let (mut right_form, mut invented, mut repeated) = (0, 0, 0);
    for unit in &units {
        let Unit::Element(element) = unit else { continue };
        let name = element.to_lowercase();
        let place = small.iter().position(|wanted| *wanted == name);
        if !distinct.insert(name) {
            repeated += 1;
            continue;
        }
        match place {
            Some(place) => {
                places.push(place);
                right_form += usize::from(answer.elements[place] == *element);
            }
            None => invented += 1,
        }
    }
    let share =
        |count: usize| if places.is_empty() { 0.0 } else { count as f64 / places.len() as f64 };
    let elements = places.len() as f64 / small.len().max(1) as f64;
    let order = share(if answer.ordered { longest_rising(&places) } else { places.len() });
    let form = share(right_form);
    let coverage = elements * (0.5 + 0.25 * order + 0.25 * form);
    let strange = units.windows(2).filter(|pair| !licensed(&pair[0], &pair[1])).count();
    let malformed = strange + if ended { 0 } else { NOT_ENDED };
    let over = words.len().saturating_sub(ROOM);
    let penalty = INVENTED * invented as f64
        + OVER * over as f64
        + REPEATED * repeated as f64
        + MALFORMED * malformed as f64;
    let unclipped = 2.0 * coverage - 1.0 - penalty;
    Gold {
        score: unclipped.clamp(-1.0, 1.0),
        unclipped,
        coverage,
        elements,
        order,
        form,
        invented,
        repeated,
        malformed,
        over,
    }
}

/// The different elements that `text` names, as it writes them: in its order where the task asks
/// for one, otherwise sorted.
pub fn stated(task: &Task, text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut named: Vec<String> = Vec::new();
    for unit in parse(&words) {
        match unit {
            Unit::Element(element) if !named.contains(&element) => named.push(element),
            _ => {}
        }
    }
    if !task.answer().ordered {
        named.sort_unstable();
    }
    named
}

/// The length of the longest subsequence that rises.
fn longest_rising(places: &[usize]) -> usize {
    let mut longest: Vec<usize> = Vec::with_capacity(places.len());
    for (at, place) in places.iter().enumerate() {
        let before = (0..at)
            .filter(|earlier| places[*earlier] < *place)
            .map(|earlier| longest[earlier])
            .max();
        longest.push(before.unwrap_or(0) + 1);
    }
    longest.into_iter().max().unwrap_or(0)
}

/// Whether a writer may put the two side by side.
fn licensed(one: &Unit, next: &Unit) -> bool {
    use Unit::{Closing, Element, End, Lead, Separator, Start, Stop};
    matches!(
        (one, next),
        (Start, Lead | Element(_))
            | (Lead | Separator, Element(_))
            | (Element(_), Separator | Stop)
            | (Stop, Closing | End)
            | (Closing, End)
    )
}

fn parse(words: &[&str]) -> Vec<Unit> {
    let mut units = vec![Unit::Start];
    let mut rest = words;
    while let Some(word) = rest.first() {
        let phrase = |phrases: &[&str]| {
            let begun = |phrase: &&&str| {
                phrase.split(' ').eq(rest.iter().copied().take(phrase.split(' ').count()))
            };
            phrases.iter().find(begun).map(|phrase| phrase.split(' ').count())
        };
        let (unit, count) = if let Some(count) = phrase(LEADS) {
            (Unit::Lead, count)
        } else if let Some(count) = phrase(CLOSINGS) {
            (Unit::Closing, count)
        } else if *word == "." {
            (Unit::Stop, 1)
        } else if SEPARATORS.contains(word) {
            (Unit::Separator, 1)
        } else {
            (element(word).map_or(Unit::Unknown, Unit::Element), 1)
        };
        units.push(unit);
        rest = &rest[count..];
    }
    units.push(Unit::End);
    units
}

/// What a word names, if anything.
fn element(word: &str) -> Option<String> {
    let figure =
        || word.parse::<u8>().ok().filter(|_| word.len() == 1).map(|number| number.to_string());
    let number = NUMBERS.iter().position(|number| *number == word).map(|number| number.to_string());
    let small = word.to_lowercase();
    let value =
        || (word == small || word == word.to_uppercase()) && values().contains(small.as_str());
    number.or_else(figure).or_else(|| value().then(|| word.to_string()))
}

/// All values of the world.
fn values() -> &'static BTreeSet<&'static str> {
    static VALUES: OnceLock<BTreeSet<&'static str>> = OnceLock::new();
    let of = |forum: &Forum| {
        LABELS.into_iter().flat_map(|label| label.values(forum)).collect::<Vec<&str>>()
    };
    VALUES.get_or_init(|| FORUMS.iter().chain([&HELD_OUT]).flat_map(of).collect())
}
