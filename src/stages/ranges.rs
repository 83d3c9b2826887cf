//! Ranges of numbers of a stage kind, for programs: bounds that a message of `problems` states, of
//! which only those are kept that `problems` enforces in every config that was tried. A bound that
//! holds under conditions alone (`at least 2 where there is diversity`) is therefore left to the
//! message.

use super::Stage;
use super::description::problems;
use super::fields::{Answer, Node, Script, Shape, Trace};

/// How far beyond a bound a number is tried, as a part of the bound, or of 1 if that is more.
const BEYOND: f64 = 1e-6;
/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// A bound of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The bound.
    pub value: f64,
    /// Whether it bounds from below.
    pub is_lower: bool,
    /// Whether the number may be the bound.
    pub is_inclusive: bool,
}

/// The bounds of the number at a place, of what the messages about it state.
pub fn bounds<S: Stage>(trace: &Trace, node: &Node, messages: &[String]) -> Vec<Bound> {
    let mut bounds: Vec<Bound> = messages.iter().flat_map(|message| stated(message)).collect();
    bounds.retain(|bound| {
        let outside = bound.outside(&node.shape);
        outside.is_some_and(|answer| is_refused::<S>(trace, node, answer))
    });
    bounds
}

/// Whether the list or the map at a place must have an entry.
pub fn needs_an_entry<S: Stage>(trace: &Trace, node: &Node) -> bool {
    is_refused::<S>(trace, node, Answer::Empty)
}

impl Bound {
    /// A value outside of the bound, as near to it as matters; `None` where there is none.
    fn outside(&self, shape: &Shape) -> Option<Answer> {
        let Bound { value, is_lower, is_inclusive } = *self;
        let sign = if is_lower { -1.0 } else { 1.0 };
        match shape {
            Shape::Integer { .. } => {
                let outside = if is_inclusive { value + sign } else { value };
                (outside >= 0.0).then_some(Answer::Integer(outside as u64))
            }
            Shape::Number => {
                let step = if is_inclusive { sign * BEYOND * value.abs().max(1.0) } else { 0.0 };
                Some(Answer::Number(value + step))
            }
            _ => None,
        }
    }
}

/// Whether every config that has the place refuses the answer there.
fn is_refused<S: Stage>(trace: &Trace, node: &Node, answer: Answer) -> bool {
    let refuses = |script: Script| match script.with(&node.path, answer).config::<S>() {
        Ok(stage) => problems(&stage).iter().any(|(path, _)| *path == node.path),
        Err(_) => true,
    };
    let scripts = node.scripts.iter().map(|at| &trace.scripts[*at]);
    scripts.clone().all(|script| refuses(script.clone()))
        && scripts.clone().all(|script| refuses(without_others(trace, node, script, None)))
        && scripts.take(1).all(|script| {
            let optional = trace.nodes.iter().filter(|other| other.nullable);
            optional.into_iter().all(|other| {
                refuses(without_others(trace, node, script, Some(other.path.as_str())))
            })
        })
}

/// The script with null for every field that may be null, except those around the place and `kept`.
fn without_others(trace: &Trace, node: &Node, script: &Script, kept: Option<&str>) -> Script {
    let is_around = |path: &str| {
        let rest = node.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let optional = trace.nodes.iter().filter(|other| other.nullable && !is_around(&other.path));
    let optional = optional.filter(|other| Some(other.path.as_str()) != kept);
    optional.fold(script.clone(), |script, other| script.with(&other.path, Answer::Null))
}

/// The bounds that a message states in figures.
fn stated(message: &str) -> Vec<Bound> {
    let sentence = message.split([':', ';']).next().unwrap_or_default();
    let words: Vec<&str> = sentence
        .split(' ')
        .map(|word| word.trim_end_matches(','))
        .filter(|w| !w.is_empty())
        .collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let before = |at: usize, back: usize| at.checked_sub(back).map_or("", word);
    let mut bounds = Vec::new();
    for at in 0..words.len() {
        let is_day = (word(at), word(at + 1)) == ("a", "day");
        let found = if is_day { Some(DAY) } else { figure(word(at)) };
        let Some(value) = found else { continue };
        let mut note = |is_lower, is_inclusive| {
            bounds.push(Bound { value, is_lower, is_inclusive });
        };
        match (before(at, 2), before(at, 1)) {
            ("at", "least") | (_, "from" | "between") => note(true, true),
            ("at", "most") => note(false, true),
            (_, "above") => note(true, false),
            (_, "below") => note(false, false),
            (first, "to" | "and") if figure(first).is_some() => note(false, true),
            _ if word(at + 1) == "to" && figure(word(at + 2)).is_some() => note(true, true),
            _ if (word(at + 1), word(at + 2)) == ("or", "more") => note(true, true),
            _ if word(at + 1).starts_with('(')
                && (word(at + 2), word(at + 3)) == ("or", "more") =>
            {
                note(true, true)
            }
            _ => {}
        }
    }
    bounds
}

/// A number as messages write it: `0.5`, `2^28`.
fn figure(word: &str) -> Option<f64> {
    match word.split_once('^') {
        Some((base, exponent)) => Some(base.parse::<f64>().ok()?.powi(exponent.parse().ok()?)),
        None => {
            word.starts_with(|c: char| c.is_ascii_digit() || c == '-').then(|| word.parse().ok())?
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_from_messages() {
        let read = |message: &str| -> Vec<(f64, bool, bool)> {
            let bounds = stated(message).into_iter();
            bounds.map(|bound| (bound.value, bound.is_lower, bound.is_inclusive)).collect()
        };
        let (lower, upper, inclusive, exclusive) = (true, false, true, false);
        for (message, bounds) in [
            ("expected at least 1, or null", vec![(1.0, lower, inclusive)]),
            ("expected a number above 0, or null", vec![(0.0, lower, exclusive)]),
            ("expected 0 or more", vec![(0.0, lower, inclusive)]),
            ("expected 0 (greedy) or more", vec![(0.0, lower, inclusive)]),
            ("expected 1 to 64", vec![(1.0, lower, inclusive), (64.0, upper, inclusive)]),
            (
                "expected a fraction of the blocks, at least 0 and below 1",
                vec![(0.0, lower, inclusive), (1.0, upper, exclusive)],
            ),
            ("expected above 0, at most 1", vec![(0.0, lower, exclusive), (1.0, upper, inclusive)]),
            ("expected from -1 to 1", vec![(-1.0, lower, inclusive), (1.0, upper, inclusive)]),
            (
                "must be between 1 and 2^28",
                vec![(1.0, lower, inclusive), (268_435_456.0, upper, inclusive)],
            ),
            (
                "expected seconds above 0, at most a day",
                vec![(0.0, lower, exclusive), (86_400.0, upper, inclusive)],
            ),
            ("expected from 2 to `samples`", vec![(2.0, lower, inclusive)]),
            ("expected at least 2: pairs of 3", vec![(2.0, lower, inclusive)]),
            ("expected a finite number other than 0", vec![]),
        ] {
            assert_eq!(read(message), bounds, "{message}");
        }
    }
}
