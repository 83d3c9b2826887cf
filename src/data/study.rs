//! What people are asked about: items with the texts of two sides, the order in which one is shown,
//! and who is asked about which. Knows no answer.
//!
//! 1. An item shows one text of each of two methods, a and b, or k texts of each.
//! 2. Its key is a digest of the question and of all its texts, so that an answer cannot be read as
//!    one to another item.
//! 3. Which side is first is drawn from the seed and the row. Of several people who judge an item,
//!    the second sees the other order, the third the first again, and so on: each order is shown as
//!    often, or once more.
//! 4. A share of the items, drawn from the seed, is judged by all; the others are dealt out in
//!    turn. The order of the items is drawn for each person.

use crate::error::{Result, user};
use crate::random::Stream;

/// What is asked of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which of two texts is better.
    Better,
    /// Which of two sets of texts is more varied.
    MoreVaried,
}

impl Question {
    /// Its name in sheets and artefacts.
    pub fn name(self) -> &'static str {
        match self {
            Question::Better => "better",
            Question::MoreVaried => "more_varied",
        }
    }
}

/// One thing to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What is asked.
    pub question: Question,
    /// The split of its row.
    pub split: String,
    /// The row.
    pub id: String,
    /// What all texts answer.
    pub prompt: String,
    /// The text of one side, or its set of texts.
    pub a: Vec<String>,
    /// Those of the other side, as many.
    pub b: Vec<String>,
}

impl Item {
    /// 16 hexadecimal digits of the BLAKE3 hash of the question, the row and all texts.
    pub fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut put = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        [self.question.name(), &self.split, &self.id, &self.prompt].into_iter().for_each(&mut put);
        self.a.iter().chain(&self.b).for_each(|text| put(text));
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// As the person sees it who is number `turn`, from 0, of those who judge it.
    pub fn shown(&self, seed: u64, turn: usize) -> Shown<'_> {
        let a_first = a_first(seed, &self.split, &self.id) == turn.is_multiple_of(2);
        let draws = Stream::new(seed, &format!("set {} {}", self.split, self.id));
        let [a, b] = [(&self.a, 0), (&self.b, 1)].map(|(texts, side)| {
            let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            draws.sequence(side).shuffle(&mut texts);
            texts
        });
        let (first, second) = if a_first { (a, b) } else { (b, a) };
        Shown { item: self, a_first, first, second }
    }
}

/// Whether `a` is shown first where only one order is: by chance, of the seed and the row alone.
pub fn a_first(seed: u64, split: &str, id: &str) -> bool {
    Stream::new(seed, &format!("order {split} {id}")).bits(0, 0) & 1 == 0
}

/// An item as one person sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<'a> {
    /// The item.
    pub item: &'a Item,
    /// Whether the side `a` is first.
    pub a_first: bool,
    /// The texts of the side that is first, in the order of the page.
    pub first: Vec<&'a str>,
    /// Those of the other side.
    pub second: Vec<&'a str>,
}

/// What one person is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment<'a> {
    /// Their name; empty where it is asked for.
    pub annotator: String,
    /// The items, in their order.
    pub shown: Vec<Shown<'a>>,
}

/// All items in their order for one person, who is asked for a name.
pub fn for_one(items: &[Item], seed: u64) -> Assignment<'_> {
    let shown = items.iter().map(|item| item.shown(seed, 0)).collect();
    Assignment { annotator: String::new(), shown }
}

/// What each of several people is asked: `overlap` of the items, rounded up, is for all of them.
///
/// # Errors
/// The user's: an overlap that is no share, a name that is empty, given twice or of other signs
/// than letters, digits, `_` and `-`, fewer items than people.
pub fn for_several<'a>(
    items: &'a [Item],
    seed: u64,
    annotators: &[String],
    overlap: f64,
) -> Result<Vec<Assignment<'a>>> {
    if !(0.0..=1.0).contains(&overlap) {
        return Err(user(format!("the overlap must be from 0 to 1, found {overlap}"))
            .hint("it is the share of the items that every annotator judges")
            .into());
    }
    let is_plain = |sign: char| sign.is_alphanumeric() || "_-".contains(sign);
    for (at, name) in annotators.iter().enumerate() {
        if name.is_empty() || !name.chars().all(is_plain) {
            let message = format!("`{name}` is no name of an annotator");
            return Err(user(message).hint("a name has letters, digits, `_` and `-`").into());
        }
        if annotators[..at].contains(name) {
            return Err(user(format!("there are two annotators `{name}`"))
                .hint("give each another name: a sheet is known by it")
                .into());
        }
    }
    let (n, people) = (items.len(), annotators.len());
    let shared = (overlap * n as f64).ceil() as usize;
    if shared == 0 && n < people {
        let message = format!("{n} items are too few for {people} annotators");
        return Err(user(message).hint("raise the overlap, or take more rows").into());
    }
    let order = |purpose: &str| {
        let mut order: Vec<usize> = (0..n).collect();
        Stream::new(seed, purpose).sequence(0).shuffle(&mut order);
        order
    };
    let mut places = vec![0; n];
    order("overlap").into_iter().enumerate().for_each(|(place, item)| places[item] = place);
    let assignment = |(person, name): (usize, &String)| {
        let own = order(&format!("items {name}")).into_iter().filter_map(|at| {
            let place = places[at];
            // Turns of an item for all begin with another person each time, so that all see both
            // sides first as often.
            let turn = match place < shared {
                true => Some((person + place) % people),
                false => ((place - shared) % people == person).then_some(0),
            };
            Some(items[at].shown(seed, turn?))
        });
        Assignment { annotator: name.clone(), shown: own.collect() }
    };
    Ok(annotators.iter().enumerate().map(assignment).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn items(n: usize, k: usize) -> Vec<Item> {
        let texts = |side: &str| (0..k).map(|at| format!("{side}{at}")).collect();
        let item = |id: usize| Item {
            question: if k == 1 { Question::Better } else { Question::MoreVaried },
            split: "test/x".into(),
            id: id.to_string(),
            prompt: "p".into(),
            a: texts("a"),
            b: texts("b"),
        };
        (0..n).map(item).collect()
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|at| format!("ann-{at}")).collect()
    }

    /// Who judges each item, and how often `a` is first.
    fn judged(all: &[Assignment<'_>]) -> BTreeMap<String, Vec<bool>> {
        let mut judged: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for shown in all.iter().flat_map(|one| &one.shown) {
            judged.entry(shown.item.id.clone()).or_default().push(shown.a_first);
        }
        judged
    }

    #[test]
    fn a_share_is_for_all_and_the_rest_is_dealt_out() {
        let items = items(41, 1);
        let all = for_several(&items, 5, &names(3), 0.25).unwrap();
        let by = judged(&all);
        assert_eq!(by.len(), 41);
        // A quarter of 41, rounded up, is 11; the other 30 are ten each.
        assert_eq!(by.values().filter(|own| own.len() == 3).count(), 11);
        assert_eq!(by.values().filter(|own| own.len() == 1).count(), 30);
        assert!(all.iter().all(|one| one.shown.len() == 21));
        assert_eq!(all, for_several(&items, 5, &names(3), 0.25).unwrap());
        assert_ne!(all, for_several(&items, 6, &names(3), 0.25).unwrap());
        let order = |at: usize| all[at].shown.iter().map(|one| &one.item.id).collect::<Vec<_>>();
        assert_ne!(order(0), order(1), "each person has an order of items");
    }

    #[test]
    fn both_orders_of_an_item_are_shown_as_often() {
        let items = items(60, 1);
        for people in [2, 3, 4] {
            let all = for_several(&items, 1, &names(people), 1.0).unwrap();
            for own in judged(&all).values() {
                let first = own.iter().filter(|a_first| **a_first).count();
                assert!(own.len() == people && first.abs_diff(people - first) <= 1);
            }
            for one in &all {
                let first = one.shown.iter().filter(|shown| shown.a_first).count();
                assert!((15..=45).contains(&first), "{first} of 60");
            }
        }
        // The first in turn sees what the only one does.
        let same = |item: &Item| item.shown(9, 0).a_first != item.shown(9, 1).a_first;
        assert!(items.iter().all(same));
    }

    #[test]
    fn the_order_is_by_chance_and_by_seed() {
        let first = |seed: u64| -> Vec<bool> {
            (0..200).map(|at| a_first(seed, "test/x", &at.to_string())).collect()
        };
        for seed in [0, 1] {
            let count = first(seed).into_iter().filter(|a_first| *a_first).count();
            assert!((70..130).contains(&count), "{count}");
        }
        assert_ne!(first(0), first(1));
    }

    #[test]
    fn a_set_is_shown_whole_in_an_order_by_chance() {
        let items = items(50, 4);
        let mut orders = BTreeMap::new();
        for item in &items {
            let shown = item.shown(2, 0);
            let a = if shown.a_first { &shown.first } else { &shown.second };
            let mut sorted = a.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, item.a);
            *orders.entry(a.clone()).or_insert(0) += 1;
        }
        assert!(orders.len() > 12, "{} of 24 orders", orders.len());
    }

    #[test]
    fn a_key_is_of_everything_that_is_shown() {
        let item = items(1, 2).remove(0);
        let mut keys = vec![item.key()];
        keys.push(Item { question: Question::Better, ..item.clone() }.key());
        keys.push(Item { split: "test/y".into(), ..item.clone() }.key());
        keys.push(Item { id: "1".into(), ..item.clone() }.key());
        keys.push(Item { prompt: "q".into(), ..item.clone() }.key());
        keys.push(Item { a: vec!["a0".into(), "a2".into()], ..item.clone() }.key());
        keys.push(Item { a: item.b.clone(), b: item.a.clone(), ..item.clone() }.key());
        // What is cut in another place is another text.
        keys.push(Item { a: vec!["a".into(), "0a1".into()], ..item.clone() }.key());
        let n = keys.len();
        keys.sort();
        keys.dedup();
        assert!(keys.len() == n && keys.iter().all(|key| key.len() == 16));
    }

    #[test]
    fn what_cannot_be_assigned_is_refused() {
        let items = items(2, 1);
        let refusal = |names: &[&str], overlap: f64| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            for_several(&items, 0, &names, overlap).unwrap_err().to_string()
        };
        assert!(refusal(&["ann"], 1.5).contains("from 0 to 1, found 1.5"));
        assert!(refusal(&["ann"], f64::NAN).contains("found NaN"));
        assert!(refusal(&["ann", "ann"], 1.0).contains("two annotators `ann`"));
        assert!(refusal(&["a/b"], 1.0).contains("`a/b` is no name"));
        assert!(refusal(&[""], 1.0).contains("is no name"));
        assert!(refusal(&["a", "b", "c"], 0.0).contains("2 items are too few for 3 annotators"));
    }
}
