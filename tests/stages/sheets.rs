//! Sheets of people that are filled in without a page: what the person says is a function of the
//! place of the item in the dataset.

use std::path::Path;

use posttrain::data::answer_pairs::{self, AnswerPair};
use posttrain::data::sheet;
use posttrain::data::study::{Item, for_several};
use posttrain::eval::verdict::Verdict;

/// What is judged of a test set: answers of `a` beside those of `b`, or the references; with `set`,
/// sets of that number.
pub fn items(dataset: &Path, a: &Path, b: Option<&Path>, set: Option<usize>) -> Vec<Item> {
    let pairs = answer_pairs::outputs(dataset, &["test/id".into()], None, a, b).unwrap();
    match set {
        Some(k) => answer_pairs::sets(&pairs, a, b.unwrap(), k).unwrap(),
        None => pairs.iter().map(AnswerPair::item).collect(),
    }
}

/// The sheet of one person.
pub fn filled(items: &[Item], name: &str, says: impl Fn(usize) -> Verdict) -> String {
    let all = for_several(items, 0, &[name.to_owned()], 1.0).unwrap();
    let mut sheet = sheet::empty(&all[0]);
    for shown in &all[0].shown {
        let at = items.iter().position(|item| item == shown.item).unwrap();
        let choice = match (says(at), shown.a_first) {
            (Verdict::A, true) | (Verdict::B, false) => "1",
            (Verdict::A, false) | (Verdict::B, true) => "2",
            _ => "0",
        };
        let head = format!("{name},{},{},", shown.item.split, shown.item.id);
        let order = if shown.a_first { "ab" } else { "ba" };
        let empty = format!("{head}{order},,");
        assert_eq!(sheet.matches(&empty).count(), 1, "{empty}: {sheet}");
        sheet = sheet.replace(&empty, &format!("{head}{order},{choice},"));
    }
    sheet
}
