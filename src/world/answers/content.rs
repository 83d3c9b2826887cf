//! All texts of one content: every order and wording, counted exactly, numbered without gaps, and
//! drawn uniformly. Uses no world.
//!
//! 1. A text is a sequence of places, with one of some alternatives in each. A frame is a sequence
//!    of groups of alternatives that have as many words each, so all texts of a frame have as many
//!    words, and there are as many as the product of the sizes of its groups.
//! 2. Texts are numbered frame by frame, and within a frame with the last place counting fastest.
//!    A uniform number below the count is therefore a uniform text, with or without a given number
//!    of words.
//! 3. No text of a world's content has two numbers: `tests/world/answers.rs` writes all texts out.

use std::collections::{BTreeMap, BTreeSet};

use crate::random::Sequence;

/// Alternatives of one place by what a frame depends on: their number of words, and whether no
/// separator follows them.
pub(super) type Alternatives = BTreeMap<(usize, bool), Vec<String>>;

/// Alternatives grouped by their number of words and whether they are questions.
pub(super) fn alternatives(texts: impl IntoIterator<Item = String>) -> Alternatives {
    let mut grouped = Alternatives::new();
    for text in texts {
        grouped.entry((words(&text), text.ends_with('?'))).or_default().push(text);
    }
    grouped
}

fn words(text: &str) -> usize {
    text.split(' ').count()
}

/// A sequence of groups, by number.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    groups: Vec<u16>,
    /// Words of each of its texts.
    words: usize,
    /// How many texts it has.
    texts: u64,
}

/// Everything that can be written with one content.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    statement: String,
    facts: usize,
    orders: u64,
    groups: Vec<Vec<String>>,
    frames: Vec<Frame>,
}

impl Content {
    /// A content without texts. `statement` is what [`crate::statement`] reads in each of its
    /// texts, `facts` how many facts it states, `orders` in how many orders.
    pub(super) fn new(statement: String, facts: usize, orders: u64) -> Self {
        Content { statement, facts, orders, groups: Vec::new(), frames: Vec::new() }
    }

    /// Adds a group of alternatives with as many words each, and gives its number.
    pub(super) fn group(&mut self, alternatives: Vec<String>) -> u16 {
        let lengths: BTreeSet<usize> = alternatives.iter().map(|text| words(text)).collect();
        assert_eq!(lengths.len(), 1, "alternatives of unequal lengths: {alternatives:?}");
        self.groups.push(alternatives);
        u16::try_from(self.groups.len() - 1).expect("a content has few groups")
    }

    /// Adds the texts that these groups give, one after the other.
    pub(super) fn frame(&mut self, groups: Vec<u16>) {
        let of = |group: &u16| &self.groups[usize::from(*group)];
        let length = groups.iter().map(|group| words(&of(group)[0])).sum();
        let texts = groups.iter().map(|group| of(group).len() as u64).product();
        self.frames.push(Frame { groups, words: length, texts });
    }

    /// What its texts state, as [`crate::statement`] writes it.
    pub fn statement(&self) -> &str {
        &self.statement
    }

    /// How many facts its texts state.
    pub fn facts(&self) -> usize {
        self.facts
    }

    /// In how many orders its facts may be stated. Texts of one order differ in their wording.
    pub fn orders(&self) -> u64 {
        self.orders
    }

    /// How many texts there are.
    pub fn texts(&self) -> u64 {
        self.frames.iter().map(|frame| frame.texts).sum()
    }

    /// How many texts there are of each number of words that some have. Punctuation marks are
    /// words, as in the gold score.
    pub fn texts_by_words(&self) -> BTreeMap<usize, u64> {
        let mut counts = BTreeMap::new();
        self.frames.iter().for_each(|frame| *counts.entry(frame.words).or_default() += frame.texts);
        counts
    }

    /// The text of a number, with the leading space of a completion. Different numbers give
    /// different texts.
    ///
    /// # Panics
    /// If `at` is not below [`Self::texts`].
    pub fn text(&self, at: u64) -> String {
        self.nth(at, |_| true)
    }

    /// A uniform text.
    pub fn draw(&self, random: &mut Sequence) -> String {
        self.text(random.below(self.texts() as usize) as u64)
    }

    /// `n` different texts of this many words, every set of n as likely; in the order in which they
    /// were drawn. `None` if there are fewer.
    pub fn sample(&self, words: usize, n: usize, random: &mut Sequence) -> Option<Vec<String>> {
        let of_length = |frame: &Frame| frame.words == words;
        let count = self.frames.iter().filter(|frame| of_length(frame)).map(|frame| frame.texts);
        let numbers = different(count.sum(), n, random)?;
        Some(numbers.into_iter().map(|at| self.nth(at, of_length)).collect())
    }

    /// The same of any number of words.
    pub fn sample_any(&self, n: usize, random: &mut Sequence) -> Option<Vec<String>> {
        let numbers = different(self.texts(), n, random)?;
        Some(numbers.into_iter().map(|at| self.text(at)).collect())
    }

    fn nth(&self, mut at: u64, wanted: impl Fn(&Frame) -> bool) -> String {
        let mut frames = self.frames.iter().filter(|frame| wanted(frame));
        let frame = loop {
            let frame = frames.next().expect("the number of a text is below their count");
            match at.checked_sub(frame.texts) {
                Some(rest) => at = rest,
                None => break frame,
            }
        };
        let mut chosen = Vec::with_capacity(frame.groups.len());
        for group in frame.groups.iter().rev() {
            let group = &self.groups[usize::from(*group)];
            chosen.push(group[(at % group.len() as u64) as usize].as_str());
            at /= group.len() as u64;
        }
        chosen.iter().rev().fold(String::new(), |text, part| text + " " + part)
    }
}

/// `n` different numbers below `count`, every set as likely.
fn different(count: u64, n: usize, random: &mut Sequence) -> Option<Vec<u64>> {
    if count < n as u64 {
        return None;
    }
    let mut drawn = Vec::with_capacity(n);
    while drawn.len() < n {
        let at = random.below(count as usize) as u64;
        if !drawn.contains(&at) {
            drawn.push(at);
        }
    }
    Some(drawn)
}

/// All orders of the numbers below `n`, in lexicographic order.
pub(super) fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in 0..n {
        for rest in permutations(n - 1) {
            let rest = rest.into_iter().map(|at| at + usize::from(at >= first));
            all.push([first].into_iter().chain(rest).collect());
        }
    }
    all
}

/// Every way of taking one group of each list, in order.
pub(super) fn products(lists: &[&[u16]]) -> Vec<Vec<u16>> {
    lists.iter().fold(vec![Vec::new()], |begun, list| {
        let longer = |start: &Vec<u16>| {
            let start = start.clone();
            list.iter().map(move |group| [start.as_slice(), &[*group]].concat())
        };
        begun.iter().flat_map(longer).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Two alternatives, then one of three or two words: 2 x 3 + 2 x 1 texts.
    fn content() -> Content {
        let mut content = Content::new("s".into(), 1, 1);
        let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        let (first, long) = (content.group(owned(&["a", "b"])), content.group(owned(&["c d e"])));
        let short = content.group(owned(&["f g", "h i", "j k"]));
        content.frame(vec![first, short]);
        content.frame(vec![first, long]);
        content
    }

    #[test]
    fn texts_are_numbered_without_gaps() {
        let content = content();
        let all: Vec<String> = (0..content.texts()).map(|at| content.text(at)).collect();
        assert_eq!(
            all,
            [" a f g", " a h i", " a j k", " b f g", " b h i", " b j k", " a c d e", " b c d e"]
        );
        assert_eq!(content.texts_by_words(), [(3, 6), (4, 2)].into());
    }

    /// Six texts of three words: each pair of them is drawn in a fifteenth of 30,000 draws, and
    /// each of the eight texts in an eighth; within five standard errors.
    #[test]
    fn every_text_and_every_set_of_texts_is_as_likely() {
        let content = content();
        let stream = Stream::new(1, "sets");
        let (mut sets, mut single) = (BTreeMap::new(), BTreeMap::new());
        let draws = 30_000u64;
        for row in 0..draws {
            let mut random = stream.sequence(row);
            let mut pair = content.sample(3, 2, &mut random).unwrap();
            pair.sort_unstable();
            *sets.entry(pair).or_insert(0u64) += 1;
            *single.entry(content.draw(&mut random)).or_insert(0u64) += 1;
        }
        let near = |counts: Vec<u64>, p: f64| {
            let error = (draws as f64 * p * (1.0 - p)).sqrt();
            assert!(
                counts.iter().all(|n| (*n as f64 - draws as f64 * p).abs() < 5.0 * error),
                "{counts:?}"
            );
            counts.len()
        };
        assert_eq!(near(sets.into_values().collect(), 1.0 / 15.0), 15);
        assert_eq!(near(single.into_values().collect(), 1.0 / 8.0), 8);
        let mut random = stream.sequence(draws);
        assert_eq!(content.sample(4, 3, &mut random), None);
        assert_eq!(content.sample(4, 2, &mut random).unwrap().len(), 2);
        assert_eq!(content.sample_any(8, &mut random).unwrap().len(), 8);
        assert_eq!(content.sample_any(9, &mut random), None);
    }

    #[test]
    fn permutations_and_products_are_all_and_in_order() {
        assert_eq!(permutations(0), [Vec::<usize>::new()]);
        assert_eq!(
            permutations(3),
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        );
        assert_eq!(
            products(&[&[1, 2], &[3], &[4, 5]]),
            [[1, 3, 4], [1, 3, 5], [2, 3, 4], [2, 3, 5]]
        );
    }
}
