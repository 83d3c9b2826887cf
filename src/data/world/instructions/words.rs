//! The wordings of instructions and answers, and which compositions are drawn where. Data only; names are those of [`posts`].
//!
//! A wording's slots are `{day}`, `{number}`, `{from}` and `{to}`. No wording contains a name, and no clause begins another's words with
//! a connector, so an instruction can be read back exactly (tested in `tests/world/instructions.rs`).
//!
//! [`posts`]: crate::data::world::posts

use super::task::{Column, Kind};
use Kind::{Above, Ascending, Capitals, Counted, Day, Descending, Replaced, Reversed};

/// What is trained on: each operation alone, and some compositions of two.
pub const TRAINED: &[&[Kind]] = &[
    &[],
    &[Day],
    &[Above],
    &[Ascending],
    &[Descending],
    &[Reversed],
    &[Replaced],
    &[Capitals],
    &[Counted],
    &[Day, Ascending],
    &[Day, Capitals],
    &[Day, Replaced],
    &[Above, Descending],
    &[Above, Counted],
    &[Above, Reversed],
    &[Ascending, Capitals],
    &[Descending, Replaced],
    &[Reversed, Capitals],
];

/// What is not: other compositions of two, and longer chains.
pub const SEQUENTIAL: &[&[Kind]] = &[
    &[Day, Descending],
    &[Day, Reversed],
    &[Day, Counted],
    &[Above, Ascending],
    &[Above, Capitals],
    &[Above, Replaced],
    &[Ascending, Replaced],
    &[Descending, Capitals],
    &[Day, Ascending, Capitals],
    &[Day, Descending, Replaced],
    &[Day, Reversed, Capitals],
    &[Day, Replaced, Capitals],
    &[Above, Descending, Capitals],
    &[Above, Ascending, Replaced],
    &[Above, Day, Counted],
    &[Above, Reversed, Replaced, Capitals],
];

/// A way of wording instructions.
#[derive(Debug)]
pub struct Phrasing {
    /// Before all else, if anything.
    pub opening: &'static [&'static str],
    /// What is named.
    pub people: &'static [&'static str],
    /// What is named.
    pub things: &'static [&'static str],
    /// Before the first step.
    pub first: &'static [&'static str],
    /// Before each other step.
    pub next: &'static [&'static str],
    /// Clauses, in the order of [`Kind`].
    pub clauses: [&'static [&'static str]; 8],
}

impl Phrasing {
    /// How the column is called.
    pub fn column(&self, column: Column) -> &'static [&'static str] {
        match column {
            Column::People => self.people,
            Column::Things => self.things,
        }
    }
}

const CLAUSES: [&[&str]; 8] = [
    &["keep those of {day}", "take only {day}"],
    &["keep those above {number}", "take only numbers over {number}"],
    &["sort them from low to high", "put the lowest first"],
    &["sort them from high to low", "put the highest first"],
    &["reverse them", "turn the order around"],
    &["write {to} for {from}", "replace {from} by {to}"],
    &["use capitals", "write them in capitals"],
    &["count them", "say how many"],
];

/// In distribution.
pub const PLAIN: Phrasing = Phrasing {
    opening: &[],
    people: &["list the people", "name the people"],
    things: &["list the things", "name the things"],
    first: &[",", "and"],
    next: &["and", "then", ", then"],
    clauses: CLAUSES,
};

/// Easy to generalise to: the same compositions, as others would put them.
pub const CHATTY: Phrasing = Phrasing {
    opening: &["hello , please", "could you kindly", "i would like you to"],
    people: &["give me everyone", "show me each person"],
    things: &["give me everything", "show me each item"],
    first: &["but", "and please"],
    next: &["and also", "and after that"],
    clauses: [
        &["leave out all days but {day}", "i only care about {day}"],
        &["skip numbers up to {number}", "i only care about more than {number}"],
        &["begin with the smallest number", "let the numbers grow"],
        &["begin with the biggest number", "let the numbers fall"],
        &["go backwards", "begin with the last"],
        &["call {from} {to}", "say {to} where it says {from}"],
        &["shout", "make the letters big"],
        &["tell me only the total", "give just their count"],
    ],
};

/// Several dependent steps, one after the other.
pub const STEPWISE: Phrasing =
    Phrasing { opening: &["first"], first: &[", then", ", next"], next: &[", then", ", next", "and finally"], ..PLAIN };

/// All phrasings.
pub const PHRASINGS: [&Phrasing; 3] = [&PLAIN, &CHATTY, &STEPWISE];

/// Between instruction and record.
pub const INPUT: &str = "input :";
/// Between record and answer.
pub const OUTPUT: &str = "answer :";

/// What an answer may begin with.
pub const LEADS: &[&str] = &["they are", "sure :", "here you go :", "the result is", "i found"];
/// What may stand between two names.
pub const SEPARATORS: &[&str] = &[",", "and", ";"];
/// What may follow the full stop.
pub const CLOSINGS: &[&str] = &["hope this helps .", "that is all .", "anything else ?"];
/// Answers that are none.
pub const JUNK: &[&str] = &["it depends .", "i am not sure .", "sorry , i can not do that ."];
/// Numbers as words.
pub const NUMBERS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
