//! Datasets as their user meets them: what `show` says of one, warnings of what nothing reads, all
//! bad rows at once.

use serde_json::Value;

use super::place::Place;

const PIPELINE: &str = "stages:\n  d: \
    {uses: dataset, source: {files: {sft: {path: rows.csv, prompt: \"{q}\", completion: \"{a}\"}}}}\n";

#[test]
fn show_says_how_many_rows_duplicates_and_empty_texts_a_split_has_and_how_long_they_are() {
    let place = Place::new(PIPELINE);
    place.write(
        "rows.csv",
        "q,a\nwhat is it,a cat\nwhat is  it,a cat\n,a dog\nand this one here,\n",
    );
    place.good(&["run", "p.yaml"]);
    let out = place.good(&["show", "p.yaml", "d"]).out;
    assert!(
        out.contains(
            "  split   sft  4 rows, 1 duplicates\n          prompt: 1 empty, 0 to 4 words, median \
             3\n"
        ),
        "{out}"
    );
    assert!(out.contains("          completion: 1 empty, 0 to 2 words, median 2\n"), "{out}");
    let shown: Value =
        serde_json::from_str(&place.good(&["show", "p.yaml", "d", "--json"]).out).unwrap();
    assert_eq!(shown[0]["splits"]["sft"]["texts"][0]["words"]["most"], 4);
    let none = place.say(&["show", "p.yaml", "d", "--tokenizer", "."]);
    assert!(none.code == 2 && none.err.contains("holds no tokenizer"), "{}", none.err);
}

#[test]
fn every_bad_row_is_named_at_once() {
    let place = Place::new(PIPELINE);
    place.write("rows.csv", "q,a\na,b\na\na,b,c\n");
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1);
    for expected in [
        "row 2: it has 1 values",
        "row 3: it has 3 values",
        "2 of 3 rows are bad",
        "on_bad_row: skip",
    ] {
        assert!(said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn columns_that_nothing_reads_are_named_in_a_warning() {
    let place =
        Place::new("stages:\n  d: {uses: dataset, source: {files: {sft: {path: rows.csv}}}}\n");
    place.write("rows.csv", "id,prompt,completion,quality\n1,a,b,good\n");
    let said = place.good(&["run", "p.yaml"]);
    assert!(said.err.contains("split `sft`: nothing reads the columns `quality`"), "{}", said.err);
}
