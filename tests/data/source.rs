//! Splits and bad rows: the in-distribution and out-of-distribution splits of Kirk et al. 2024 are
//! disjoint, cover all rows and do not depend on their order; a row that cannot be understood is
//! named, or left out and listed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{bytes, complaint, examples, read};

/// Posts of several forums and lengths.
fn posts() -> Vec<Value> {
    let subreddits =
        ["relationship_advice", "AskReddit", "relationships", "tifu", "dating_advice", "pets"];
    let row = |at: usize| {
        let words = vec![format!("w{at}"); at * 37 % 491 + 1].join(" ");
        json!({"id": format!("t3_{at}"), "subreddit": subreddits[at % 6],
            "title": format!("title {at}"), "post": words, "summary": "s"})
    };
    (0..200).map(row).collect()
}

fn ids(rows: &[Value], more: Value) -> BTreeSet<String> {
    let mut options = json!({"format": "tldr", "id": "id"});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    examples(rows, options).into_iter().map(|row| row.id).collect()
}

#[test]
fn splits_by_forum_by_length_and_at_random_part_the_rows_whatever_their_order() {
    let rows = posts();
    let mut turned = rows.clone();
    turned.rotate_left(77);
    turned.reverse();
    let all = ids(&rows, json!({}));
    let keep = |condition: Value| json!({ "keep": [condition] });
    let share = |from: f64, to: f64| json!({"share": {"from": from, "to": to, "seed": 10}});
    for (inside, outside) in [
        (
            keep(json!({"column": "subreddit", "equals": "tifu"})),
            keep(json!({"column": "subreddit", "not": "tifu"})),
        ),
        (
            keep(json!({"column": "subreddit", "any_of": ["tifu", "relationships"]})),
            keep(json!({"column": "subreddit", "none_of": ["tifu", "relationships"]})),
        ),
        (
            keep(json!({"column": "post", "max_words": 245})),
            keep(json!({"column": "post", "more_words_than": 245})),
        ),
        (share(0.0, 0.5), share(0.5, 1.0)),
    ] {
        let (a, b) = (ids(&rows, inside.clone()), ids(&rows, outside.clone()));
        assert!(a.is_disjoint(&b) && !a.is_empty() && !b.is_empty(), "{inside}");
        assert_eq!(a.union(&b).cloned().collect::<BTreeSet<_>>(), all, "{inside}");
        assert_eq!((ids(&turned, inside), ids(&turned, outside)), (a, b));
    }
}

#[test]
fn a_word_is_what_single_spaces_part() {
    let rows = |post: &str| [json!({"subreddit": "s", "title": "t", "post": post, "summary": "s"})];
    let kept = |post: &str, most: usize| {
        let options = json!({"format": "tldr", "keep": [{"column": "post", "max_words": most}]});
        let (_folder, path) = super::file(&rows(post));
        read(&path, options).is_ok()
    };
    // As Python's "a b\nc".split(" ") counts.
    assert!(kept("a b\nc", 2) && !kept("a b\nc", 1));
    assert!(kept("a  b", 3) && !kept("a  b", 2));
    assert!(kept("", 1));
    let at_the_edge = |count: usize| vec!["w"; count].join(" ");
    assert!(kept(&at_the_edge(245), 245) && !kept(&at_the_edge(246), 245));
}

#[test]
fn a_tenth_of_the_rows_is_in_their_half_and_another_seed_gives_another() {
    let rows: Vec<Value> = (0..4000)
        .map(|at| json!({"id": at, "prompt": format!("text {at}"), "completion": " x"}))
        .collect();
    let part = |to: f64, seed: Option<u64>| {
        let rows =
            examples(&rows, json!({"id": "id", "share": {"from": 0.0, "to": to, "seed": seed}}));
        rows.into_iter().map(|row| row.id).collect::<BTreeSet<_>>()
    };
    let (tenth, half) = (part(0.1, Some(10)), part(0.5, Some(10)));
    // Four standard deviations of a binomial draw.
    assert!(
        (324..=476).contains(&tenth.len()) && (1873..=2127).contains(&half.len()),
        "{} {}",
        tenth.len(),
        half.len()
    );
    assert!(tenth.is_subset(&half));
    let common = |other: BTreeSet<String>| other.intersection(&half).count();
    assert!((873..=1127).contains(&common(part(0.5, Some(11)))));
    assert!((873..=1127).contains(&common(part(0.5, None))));
}

#[test]
fn filters_by_part_of_a_text_and_by_number() {
    let rows = [
        json!({"prompt": "a", "completion": "b", "batch": "batch0_cnndm", "n": 3}),
        json!({"prompt": "c", "completion": "d", "batch": "batch3", "n": 4}),
    ];
    assert_eq!(
        examples(&rows, json!({"keep": [{"column": "batch", "contains": "cnndm"}]}))[0].prompt,
        "a"
    );
    assert_eq!(
        examples(&rows, json!({"keep": [{"column": "n", "any_of": ["4", "5"]}]}))[0].prompt,
        "c"
    );
}

const BAD: &[u8] = b"{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"\n\
    {\"prompt\": 3, \"completion\": \"b\"}\n\xff\n\
    {\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n[]\n\
    {\"prompt\": \"c\", \"completion\": \"d\"}\n";

#[test]
fn a_bad_row_is_an_error_with_file_and_row() {
    let (_folder, path) = bytes(BAD);
    let message = format!("{:#}", read(&path, json!({})).unwrap_err());
    assert!(message.contains("rows.jsonl, row 2: broken JSON"), "{message}");
}

#[test]
fn bad_rows_are_left_out_and_listed_where_that_is_asked_for() {
    let (folder, path) = bytes(BAD);
    let (rows, skipped) = read(&path, json!({"on_bad_row": "skip"})).unwrap();
    assert_eq!(rows.ids(), ["1", "7"]);
    let listed: Vec<(u64, &str)> = skipped
        .first
        .iter()
        .map(|row| (row["row"].as_u64().unwrap(), row["why"].as_str().unwrap()))
        .collect();
    let expected = [
        (2, "broken JSON: EOF while parsing an object (character 14)"),
        (3, "the column `prompt` holds neither a text nor a list of messages"),
        (4, "the text is not UTF-8"),
        (5, "it is of another kind than the rows before, which are prompts with completions"),
        (6, "expected an object, found a list"),
    ];
    assert_eq!((skipped.count, listed), (5, expected.to_vec()));
    // In a folder, a row's file is named, and rows have different names across files.
    std::fs::write(
        folder.path().join("a.jsonl"),
        "{\"prompt\": \"x\", \"completion\": \"y\"}\n{}\n",
    )
    .unwrap();
    let (rows, skipped) = read(folder.path(), json!({"on_bad_row": "skip"})).unwrap();
    assert_eq!(rows.ids(), ["1", "3", "9"]);
    assert_eq!(skipped.first[0]["file"], "a.jsonl");
    assert_eq!(skipped.first[1]["file"], "rows.jsonl");
}

#[test]
fn where_every_row_is_bad_that_is_said() {
    let rows = vec![json!({"a": 1}); 150];
    assert!(
        complaint(&rows, json!({"on_bad_row": "skip"}))
            .contains("none of its 150 rows is kept (150 of them cannot be understood)")
    );
}

#[test]
fn templates_stand_in_for_a_formats_and_must_be_whole_without_one() {
    let row = [json!({"subreddit": "s", "title": "t", "post": "p", "summary": "x"})];
    let rows = examples(&row, json!({"format": "tldr", "prompt": "{title}?"}));
    assert_eq!((rows[0].prompt.as_str(), rows[0].completion.as_str()), ("t?", " x"));
    let pair = [json!({"q": "a", "good": "b", "bad": "c"})];
    let rows =
        super::pairs(&pair, json!({"prompt": "{q}:", "chosen": " {good}", "rejected": " {bad}"}));
    assert_eq!(
        (rows[0].prompt.as_str(), rows[0].chosen.as_str(), rows[0].rejected.as_str()),
        ("a:", " b", " c")
    );
    let fields = |options: Value| {
        let mut all = json!({"path": {"$path": "x"}});
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let files: posttrain::data::source::Files = serde_json::from_value(all).unwrap();
        files.problems().into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    assert_eq!(fields(json!({"prompt": "{a}"})), ["completion"]);
    assert_eq!(fields(json!({"completion": "{a}"})), ["prompt"]);
    assert_eq!(fields(json!({"prompt": "{a}", "chosen": "{b}"})), ["chosen"]);
    assert_eq!(
        fields(json!({"prompt": "{a}", "chosen": "{b}", "rejected": "{c}", "completion": "{d}"})),
        ["chosen"]
    );
    assert_eq!(fields(json!({"format": "trl", "prompt": "{a}"})), ["prompt"]);
    assert_eq!(
        fields(json!({"prompt": "", "completion": "{a}", "share": {"from": 0.0, "to": 0.5}})),
        ["share"]
    );
    assert_eq!(
        fields(json!({"format": "tldr", "completion": "{a}",
                "keep": [{"column": "a", "equals": "b", "max_words": 3}]})),
        ["keep.0"]
    );
}
