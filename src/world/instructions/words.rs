//! The wordings of instructions and answers, and which compositions are drawn where. Data only.
//!
//! A wording's slots are `{labels}`, `{from}` and `{to}`. An instruction can be read back exactly
//! (tested in `tests/world/`).

use super::task::Kind;
use Kind::{Backward, Capitals, Counted, Drop, Keep, Replaced, Sorted};

/// What is trained on: each operation alone, and some compositions of two.
pub const TRAINED: &[&[Kind]] = &[
    &[],
    &[Keep],
    &[Drop],
    &[Sorted],
    &[Backward],
    &[Replaced],
    &[Capitals],
    &[Counted],
    &[Keep, Sorted],
    &[Keep, Capitals],
    &[Keep, Replaced],
    &[Drop, Backward],
    &[Drop, Counted],
    &[Drop, Capitals],
    &[Sorted, Capitals],
    &[Backward, Replaced],
];

/// What is not: other compositions of two, and longer chains.
pub const SEQUENTIAL: &[&[Kind]] = &[
    &[Keep, Backward],
    &[Keep, Counted],
    &[Drop, Sorted],
    &[Drop, Replaced],
    &[Sorted, Replaced],
    &[Backward, Capitals],
    &[Replaced, Capitals],
    &[Keep, Sorted, Capitals],
    &[Keep, Backward, Replaced],
    &[Keep, Replaced, Capitals],
    &[Drop, Backward, Capitals],
    &[Drop, Sorted, Capitals],
    &[Drop, Sorted, Replaced],
    &[Sorted, Replaced, Capitals],
    &[Drop, Backward, Replaced, Capitals],
];

/// A way of wording instructions.
#[derive(Debug)]
pub struct Phrasing {
    /// Before all else, if anything.
    pub opening: &'static [&'static str],
    /// What an instruction without steps says.
    pub list: &'static [&'static str],
    /// Before the first step.
    pub first: &'static [&'static str],
    /// Before each other step but the last.
    pub next: &'static [&'static str],
    /// Before the last of several steps.
    pub last: &'static [&'static str],
    /// Clauses, in the order of [`Kind`].
    pub clauses: [&'static [&'static str]; 7],
}

const CLAUSES: [&[&str]; 7] = [
    &["keep {labels}", "take only {labels}"],
    &["leave out {labels}", "drop {labels}"],
    &["sort by label", "put the labels in order"],
    &["sort backward by label", "put the labels in backward order"],
    &["write {to} for {from}", "replace {from} by {to}"],
    &["use capitals", "write them in capitals"],
    &["count them", "say how many"],
];

/// In distribution.
pub const PLAIN: Phrasing = Phrasing {
    opening: &[],
    list: &["list them", "name them"],
    first: &[",", ", then"],
    next: &[",", ", then"],
    last: &[",", ", then"],
    clauses: CLAUSES,
};

/// Easy to generalise to: the same compositions, as others would put them.
pub const CHATTY: Phrasing = Phrasing {
    opening: &["hello , please", "could you kindly", "i would like you to"],
    list: &["give me all", "show me each"],
    first: &["but", "and please"],
    next: &["and also", "and after that"],
    last: &["and also", "and after that"],
    clauses: [
        &["i only care about {labels}", "nothing else than {labels}"],
        &["spare me {labels}", "skip {labels}"],
        &["go through the alphabet", "begin with the first label"],
        &["go through the alphabet from its end", "begin with the last label"],
        &["call {from} {to}", "say {to} where it says {from}"],
        &["shout", "make the letters big"],
        &["tell me only the total", "give just their count"],
    ],
};

/// Several dependent steps, one after the other.
pub const STEPWISE: Phrasing = Phrasing {
    opening: &["first"],
    first: &[", then", ", next"],
    next: &[", then", ", next"],
    last: &[", then", ", finally"],
    ..PLAIN
};

/// All phrasings.
pub const PHRASINGS: [&Phrasing; 3] = [&PLAIN, &CHATTY, &STEPWISE];

/// Between labels.
pub const AND: &str = "and";
/// Before the record.
pub const INPUT: &str = "input :";
/// Between instruction and answer.
pub const OUTPUT: &str = "answer :";

/// What an answer may begin with.
pub const LEADS: &[&str] = &["they are", "sure :", "here you go :", "the result is", "i found"];
/// What may be between two elements.
pub const SEPARATORS: &[&str] = &[",", "and", ";"];
/// What may follow the full stop.
pub const CLOSINGS: &[&str] = &["hope this helps .", "that is all .", "anything else ?"];
/// Answers that are none.
pub const JUNK: &[&str] = &["it depends .", "i am not sure .", "sorry , i can not do that ."];
/// Numbers as words.
pub const NUMBERS: [&str; 10] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
