//! People as judges: sheets of several of them, what they amount to, every sheet that is refused,
//! and measures of an evaluation beside them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::place::Place;
use crate::stages::bench::{Made, make, problems, refusal};
use crate::stages::fixture::{fixture, jsonl, write};

/// A dataset of `rows` rows in one test set, with two methods' three samples of each: those of
/// `varied` differ in every word, those of `alike` are one text.
struct Study {
    folder: tempfile::TempDir,
    rows: usize,
}

/// What a person says.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    A,
    B,
    Tie,
}
use Says::{A, B, Tie};

impl Study {
    fn new(rows: usize) -> Self {
        let study = Study { folder: tempfile::tempdir().unwrap(), rows };
        let example = |at: usize| {
            json!({"id": format!("row-{at}"), "prompt": format!("question {at} ?"),
                "completion": format!(" the reference of {at} .")})
        };
        write(&study.path("dataset/test/x.jsonl"), &jsonl((0..rows).map(example)));
        let words = ["red", "green", "blue", "grey", "pink", "black"];
        study.samples("varied", |at, sample| {
            format!(
                " {} cats eat {} mice .",
                words[(at + sample) % 6],
                words[(at * 5 + sample) % 6]
            )
        });
        study.samples("alike", |at, _| format!(" {} dogs eat bread at noon .", words[at % 6]));
        study
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> Value {
        json!({"$path": self.path(name)})
    }

    fn samples(&self, name: &str, text: impl Fn(usize, usize) -> String) {
        let row = |at: usize| {
            let output = |sample: usize| json!({"text": text(at, sample), "tokens": [5, 1], "logprob": -1.0, "ended": true});
            json!({"split": "test/x", "id": format!("row-{at}"),
                "prompt": format!("question {at} ?"), "temperature": 1.0,
                "outputs": (0..3).map(output).collect::<Vec<Value>>()})
        };
        write(&self.path(&format!("{name}/samples.jsonl")), &jsonl((0..self.rows).map(row)));
    }

    /// Exports a page and a sheet for each person.
    fn export(&self, place: &Place, more: &[&str]) -> String {
        let [dataset, a] = ["dataset", "varied"].map(|name| self.path(name).display().to_string());
        let own = ["annotate", "export", "--dataset", &dataset, "--a", &a, "--out", "page.html"];
        place.good(&[&own[..], &["--csv", "sheet.csv"], more].concat()).out
    }

    /// The sheet of a person, filled in by the row.
    fn filled(&self, place: &Place, name: &str, says: impl Fn(usize) -> Option<Says>) -> Value {
        let file = format!("sheet-{name}.csv");
        let sheet = place.read(&file);
        let filled: String = sheet.lines().map(|line| self.fill(line, &says) + "\r\n").collect();
        place.write(&file, &filled);
        json!({"$path": place.path(&file)})
    }

    /// A line of a sheet, which may begin in the middle of a cell, with the choice.
    fn fill(&self, line: &str, says: &impl Fn(usize) -> Option<Says>) -> String {
        let cells: Vec<&str> = line.split(',').collect();
        let row = cells.get(2).and_then(|id| id.strip_prefix("row-")?.parse().ok());
        let Some(said) = row.and_then(says) else { return line.into() };
        let choice = match (said, cells[3]) {
            (A, "ab") | (B, "ba") => "1",
            (A, _) | (B, _) => "2",
            (Tie, _) => "0",
        };
        [&cells[..4], &[choice], &cells[5..]].concat().join(",")
    }

    /// The config of a judge by sheets of sets, or of single answers.
    fn config(&self, set: Option<usize>, sheets: &[Value]) -> Value {
        let mut people = json!({"sheets": sheets});
        if let Some(set) = set {
            people["set"] = json!(set);
        }
        json!({"dataset": self.at("dataset"), "a": self.at("varied"), "b": self.at("alike"),
            "judge": {"people": people}})
    }
}

fn summary(made: &Made) -> Value {
    serde_json::from_str(&made.text("summary.json")).unwrap()
}

fn close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
}

/// What three people say of six rows.
fn three(name: &str) -> impl Fn(usize) -> Option<Says> {
    let said = match name {
        "ann" => [A, A, A, B, Tie, A],
        "bob" => [A, A, B, B, Tie, B],
        _ => [A, B, A, B, A, Tie],
    };
    move |at| said.get(at).copied()
}

/// Three people's sheets of six rows of sets.
fn sets(study: &Study, place: &Place) -> Vec<Value> {
    let alike = study.path("alike").display().to_string();
    let names = ["--annotator", "ann", "--annotator", "bob", "--annotator", "eve"];
    let said = study.export(place, &[&["--b", &alike, "--set", "3"], &names[..]].concat());
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.starts_with("6 pairs of sets are in page-ann.html\n"), "{said}");
    ["ann", "bob", "eve"].map(|name| study.filled(place, name, three(name))).into()
}

#[test]
fn sets_judged_by_several_people_are_counted() {
    let (study, place) = (Study::new(6), Place::new(""));
    let sheets = sets(&study, &place);
    let page = place.read("page-bob.html");
    assert!(page.contains("\"annotator\":\"bob\"") && page.contains("\"varied\":true"));
    let made = make("judge", study.config(Some(3), &sheets));
    let summary = summary(&made);
    let split = &summary["splits"]["test/x"];
    // Means of the rows: 1, 2/3, 2/3, 0, 2/3, 1/2.
    close(&split["win_rate"]["mean"], (1.0 + 3.0 * 2.0 / 3.0 + 0.5) / 6.0);
    assert_eq!((&split["win_rate"]["n"], &split["ties"]), (&json!(6), &json!(1)));
    let people = &summary["people"];
    assert_eq!((&people["question"], &people["set"]), (&json!("more_varied"), &json!(3)));
    assert_eq!((&people["items"], &people["by_several"]), (&json!(6), &json!(6)));
    // Of the last two rows two say tie, and each says another thing.
    let majority = &people["majority"]["test/x"];
    let counts = ["a", "b", "tie"].map(|name| majority[name].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 2]);
    close(&majority["win_rate"]["mean"], (3.0 + 1.0) / 6.0);
    // Of the ordered pairs of verdicts of a row 0, 4, 4, 0, 4 and 6 differ; halved (m - 1 = 2) they
    // are 9. Of 18 verdicts 9 are a, 6 b and 3 tie: expected 2 (54 + 27 + 18) / 17.
    close(&people["alpha_nominal"]["mean"], 1.0 - 9.0 / (198.0 / 17.0));
    // Distances: from b to tie (6 + 3) / 2, from tie to a (3 + 9) / 2, from b to a 3 + (6 + 9) / 2.
    // Two rows have two pairs b, a; one has two pairs tie, a; one has a pair of each kind.
    let [low, high, all] = [4.5f64, 6.0, 10.5].map(|distance| distance * distance);
    let observed = 2.0 * 2.0 * all + 2.0 * high + (low + high + all);
    let expected = 2.0 * (18.0 * low + 27.0 * high + 54.0 * all) / 17.0;
    close(&people["alpha_ordinal"]["mean"], 1.0 - observed / expected);
    assert_eq!(people["alpha_ordinal"]["interval"], "none_too_few");
    // ann and bob: the same of rows 0, 1, 3, 4.
    let pair = &people["pairs"][0];
    assert_eq!(pair["annotators"], json!(["ann", "bob"]));
    close(&pair["agreement"]["mean"], 4.0 / 6.0);
    // Shares 4/6 1/6 1/6 and 2/6 3/6 1/6: expected 12/36.
    close(&pair["cohen_kappa"], (4.0 / 6.0 - 12.0 / 36.0) / (1.0 - 12.0 / 36.0));
    assert_eq!(people["pairs"].as_array().unwrap().len(), 3);
    let names: Vec<&Value> =
        people["annotators"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["ann", "bob", "eve"]);
    assert_eq!(people["annotators"][0]["ties"], 1);
    let items: Vec<Value> = made.rows("items.jsonl");
    assert_eq!(items[1]["votes"], json!({"a": 2, "b": 1, "tie": 0}));
    let majorities: Vec<&Value> = items.iter().map(|item| &item["majority"]).collect();
    assert_eq!(majorities, ["a", "a", "a", "b", "tie", "tie"]);
    assert_eq!(made.rows::<Value>("judgements.jsonl").len(), 18);
    // Sheets in another order are the same judgements.
    let turned: Vec<Value> = sheets.into_iter().rev().collect();
    assert_eq!(make("judge", study.config(Some(3), &turned)).object(), made.object());
}

#[test]
fn people_who_share_a_part_of_the_rows_have_agreement_on_that_part() {
    let (study, place) = (Study::new(12), Place::new(""));
    let said = study.export(
        &place,
        &["--annotator", "ann", "--annotator", "bob", "--overlap", "0.5", "--seed", "4"],
    );
    assert_eq!(said, "9 pairs are in page-ann.html\n9 pairs are in page-bob.html\n");
    let sheets = ["ann", "bob"].map(|name| study.filled(&place, name, |_| Some(A)));
    let mut config = study.config(None, &sheets);
    config.as_object_mut().unwrap().remove("b");
    let found = summary(&make("judge", config));
    assert_eq!(
        (&found["people"]["items"], &found["people"]["by_several"]),
        (&json!(12), &json!(6))
    );
    assert_eq!(found["splits"]["test/x"]["win_rate"]["mean"], 1.0);
    // All say one thing: there is no disagreement by chance.
    assert!(found["people"]["alpha_nominal"].is_null());
    assert_eq!(found["people"]["pairs"][0]["agreement"]["n"], 6);
    assert!(found["people"]["pairs"][0]["cohen_kappa"].is_null());
}

#[test]
fn a_bad_sheet_is_refused_with_its_file_and_line() {
    let (study, place) = (Study::new(6), Place::new(""));
    sets(&study, &place);
    let sheet = place.read("sheet-ann.csv");
    let head = sheet.lines().next().unwrap().to_owned();
    let row = sheet.lines().find(|line| line.starts_with("ann,test/x,row-0")).unwrap().to_owned();
    // The texts of a set are on several lines: the row alone, and its last cells left out.
    let row = row.split(',').take(7).collect::<Vec<&str>>().join(",");
    let refused = |set: Option<usize>, rows: &[String]| {
        place.write("bad.csv", &format!("{head}\r\n{}\r\n", rows.join("\r\n")));
        refusal("judge", study.config(set, &[json!({"$path": place.path("bad.csv")})]))
    };
    let said = |message: &str, words: &[&str]| {
        words.iter().for_each(|word| assert!(message.contains(word), "{word}: {message}"));
    };
    let nameless = row.replacen("ann,", ",", 1);
    said(
        &refused(Some(3), &[row.clone(), nameless]),
        &["bad.csv, line 3: the column `annotator` is empty"],
    );
    said(
        &refused(Some(3), &[row.replace("row-0", "row-9")]),
        &["bad.csv, line 2: row `row-9` of split `test/x` is not among the answers"],
    );
    said(
        &refused(Some(3), &[row.clone(), row.clone()]),
        &["bad.csv, line 3: `ann` has judged row `row-0`", "before, in line 2 of", "bad.csv"],
    );
    // Of the same rows, but smaller sets.
    said(
        &refused(Some(2), std::slice::from_ref(&row)),
        &["line 2: row `row-0` of split `test/x` was judged on other texts: its key is `"],
    );
    said(
        &refused(None, std::slice::from_ref(&row)),
        &["line 2: the question is `more_varied`, here it is `better`"],
    );
    said(&refused(Some(3), &[row.replace(",ab,", ",xy,").replace(",ba,", ",xy,")]), &["`xy`"]);
    let choice = |choice: &str| {
        let cells: Vec<&str> = row.split(',').collect();
        [&cells[..4], &[choice], &cells[5..]].concat().join(",")
    };
    said(&refused(Some(3), &[choice("3")]), &["line 2: expected the choice 1, 2 or 0, found `3`"]);
    said(&refused(Some(3), &[choice("")]), &["nothing was judged"]);
    let older = "annotator,split,id,order,choice\nann,test/x,row-0,ab,1\n";
    place.write("older.csv", older);
    let older = json!({"$path": place.path("older.csv")});
    said(
        &refusal("judge", study.config(Some(3), std::slice::from_ref(&older))),
        &["older.csv, line 2: the sheet has no columns `question` and `key`"],
    );
    // The form without checks reads it, of single answers.
    let mut config = study.config(None, &[]);
    config["judge"] = json!({"human": {"judgements": [older]}});
    make("judge", config);
    // Sets of more samples than there are.
    said(
        &refused(Some(4), std::slice::from_ref(&row)),
        &["`a` has 3 outputs of row `row-0` of split `test/x`"],
    );
}

#[test]
fn what_no_sheet_can_answer_is_a_problem_of_the_config() {
    let study = Study::new(2);
    let fields = |config: Value| -> Vec<String> {
        problems("judge", config).into_iter().map(|problem| problem.field).collect()
    };
    assert_eq!(fields(study.config(None, &[])), ["judge.people.sheets"]);
    assert_eq!(fields(study.config(Some(1), &[study.at("x.csv")])), ["judge.people.set"]);
    let mut config = study.config(Some(3), &[study.at("x.csv")]);
    config.as_object_mut().unwrap().remove("b");
    assert_eq!(fields(config), ["judge.people.set"]);
}

#[test]
fn exports_that_cannot_be_are_refused() {
    let (study, place) = (Study::new(2), Place::new(""));
    let [dataset, a] = ["dataset", "varied"].map(|name| study.path(name).display().to_string());
    let refused = |more: &[&str]| {
        let own = ["annotate", "export", "--dataset", &dataset, "--a", &a, "--out", "page.html"];
        let said = place.say(&[&own[..], more].concat());
        assert_eq!(said.code, 2, "{}", said.err);
        said.err
    };
    assert!(refused(&["--set", "3"]).contains("`--set` needs `--b`"));
    assert!(refused(&["--set", "1", "--b", &a]).contains("a set has at least 2 answers"));
    assert!(refused(&["--set", "4", "--b", &a]).contains("`a` has 3 outputs of row `row-0`"));
    assert!(refused(&["--overlap", "0.5"]).contains("--annotator"));
    assert!(refused(&["--annotator", "ann", "--overlap", "2"]).contains("from 0 to 1, found 2"));
}

/// An evaluation of both methods, with what people say of their sets or outputs.
fn evaluation(study: &Study, judgements: &Made, a: &str, b: &str) -> Value {
    let method =
        |name: &str| json!({"name": name, "outputs": study.at(name), "samples": study.at(name)});
    json!({"dataset": study.at("dataset"), "methods": [method("varied"), method("alike")],
        "diversity": {"metrics": ["distinct", "self_bleu", "length"]},
        "people": {"asked": {"a": a, "b": b, "judgements": judgements.reference()}}})
}

/// The entry of a measure in `people.json`.
fn beside(made: &Made, metric: &str) -> Value {
    let all: Vec<Value> = serde_json::from_str(&made.text("people.json")).unwrap();
    let one = all.iter().find(|one| one["metric"] == metric);
    one.unwrap_or_else(|| panic!("no {metric} in {all:?}")).clone()
}

#[test]
fn a_measure_is_held_against_what_people_say_of_sets() {
    let (study, place) = (Study::new(12), Place::new(""));
    let alike = study.path("alike").display().to_string();
    study.export(&place, &["--b", &alike, "--set", "3", "--annotator", "ann"]);
    // People find the varied set more varied, but for two rows, and call two the same.
    let ann = study.filled(&place, "ann", |at| {
        Some(match at {
            0 | 1 => B,
            2 | 3 => Tie,
            _ => A,
        })
    });
    let judged = make("judge", study.config(Some(3), &[ann]));
    let made = make("evaluate", evaluation(&study, &judged, "varied", "alike"));
    let distinct = beside(&made, "distinct_per_input");
    assert_eq!((&distinct["a"], &distinct["b"]), (&json!("varied"), &json!("alike")));
    assert_eq!(
        (&distinct["question"], &distinct["test_set"]),
        (&json!("more_varied"), &json!("x"))
    );
    // `distinct` finds the varied set more varied in every row: 8 of the 10 that people decide.
    assert_eq!((&distinct["judged"], &distinct["agreement"]["n"]), (&json!(12), &json!(10)));
    close(&distinct["agreement"]["mean"], 0.8);
    // P = 8, Q = 2, Y = 2 (ties of people alone): 6 / sqrt(10 * 12).
    close(&distinct["tau_b"]["mean"], 6.0 / (10.0f64 * 12.0).sqrt());
    // Self-BLEU falls with diversity, and agrees as often.
    close(&beside(&made, "self_bleu_per_input")["agreement"]["mean"], 0.8);
    close(&beside(&made, "distinct_per_input_matched")["agreement"]["mean"], 0.8);
    // The texts that are alike have a word more: length picks them in every row.
    close(&beside(&made, "length_per_input")["agreement"]["mean"], 0.2);
    // Scores of outputs are no measures of sets.
    assert!(!made.text("people.json").contains("rouge_l"));
    // A metric of the user's, of which less is better, picks the varied set in every row.
    let numbers = |name: &str, number: usize| {
        let row = r#"s/("split":"[^"]*","id":"[^"]*").*/\1,"values":{"own":N}}/"#;
        make(
            "metric",
            json!({"samples": study.at(name), "run": ["sed", "-E", row.replace('N', &number.to_string())],
                "values": {"own": {"description": "one", "better": "lower"}}}),
        )
    };
    let (varied, less) = (numbers("varied", 1), numbers("alike", 2));
    let mut config = evaluation(&study, &judged, "varied", "alike");
    let measured = json!({"varied": varied.reference(), "alike": less.reference()});
    config["metrics"] = json!({"own": {"of": "samples", "methods": measured}});
    close(&beside(&make("evaluate", config), "own")["agreement"]["mean"], 0.8);
    let text = made.text("table.txt");
    assert!(text.contains("measures beside people: asked"), "{text}");
    assert!(made.text("table.md").contains("measures beside people: asked"));
    // It is no win rate.
    let mut config = evaluation(&study, &judged, "varied", "alike");
    config.as_object_mut().unwrap().remove("people");
    config["judges"] = json!({"asked": {"varied": judged.reference()}});
    let refused = refusal("evaluate", config);
    assert!(refused.contains("which of two sets of answers is more varied"), "{refused}");
    // The other way round the texts are those of the other side.
    let refused = refusal("evaluate", evaluation(&study, &judged, "alike", "varied"));
    assert!(
        refused.contains("`people.asked`: row `row-0` of split `test/x` was judged on other texts"),
        "{refused}"
    );
}

#[test]
fn a_measure_is_held_against_what_people_say_of_answers() {
    let (study, place) = (Study::new(10), Place::new(""));
    study.export(&place, &["--annotator", "ann"]);
    let ann = study.filled(&place, "ann", |at| Some(if at < 9 { B } else { A }));
    let mut config = study.config(None, &[ann]);
    config.as_object_mut().unwrap().remove("b");
    let judged = make("judge", config);
    let made = make("evaluate", evaluation(&study, &judged, "varied", "reference"));
    // The reference overlaps with itself: people who prefer it agree with ROUGE-L.
    let rouge = beside(&made, "rouge_l");
    assert_eq!(rouge["question"], "better");
    close(&rouge["agreement"]["mean"], 0.9);
    assert!(!made.text("people.json").contains("distinct"));
    // Outputs of the other method were not judged.
    let refused = refusal("evaluate", evaluation(&study, &judged, "varied", "alike"));
    assert!(refused.contains("was judged on other texts"), "{refused}");
    let gold = json!({"dataset": fixture().at("dataset"), "a": fixture().at("outputs"),
        "judge": "gold"});
    let gold = make("judge", gold);
    let refused = refusal("evaluate", evaluation(&study, &gold, "varied", "reference"));
    assert!(refused.contains("`people.asked` is not judged by `people`"), "{refused}");
    let mut config = evaluation(&study, &judged, "none", "none");
    config["people"]["a b"] = config["people"]["asked"].take();
    config["people"].as_object_mut().unwrap().remove("asked");
    let fields: Vec<String> =
        problems("evaluate", config).into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["people", "people.a b.a", "people.a b.b", "people.a b.b"]);
}
