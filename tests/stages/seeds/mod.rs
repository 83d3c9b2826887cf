//! `over_seeds` with `statistics: full` against independent figures (make.py, golden.json); what is
//! said of its families, and what is refused.

use std::collections::BTreeMap;
use std::path::Path;

use posttrain::artefacts::seeds::{Figure, Quantity, Sources, Test};
use posttrain::eval::interval::Kind;
use posttrain::report::formats;
use posttrain::report::latex::latex;
use posttrain::report::page::page;
use posttrain::report::run::{Evaluation, Run};
use posttrain::report::summary::summary;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::write;

const GOLDEN: &str = include_str!("golden.json");

#[derive(Deserialize)]
struct Golden {
    /// The files of each seed, by case.
    evaluations: BTreeMap<String, Vec<Files>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Files {
    table: Value,
    comparisons: Value,
    inputs: Vec<Value>,
}

#[derive(Deserialize)]
struct Case {
    evaluations: String,
    config: Value,
    figures: Vec<Value>,
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).unwrap()
}

/// The files of one case below `folder`, as evaluations of a config.
fn evaluations(folder: &Path, seeds: &[Files]) -> Vec<Value> {
    let one = |(at, seed): (usize, &Files)| {
        let own = folder.join(at.to_string());
        write(&own.join("table.json"), &seed.table.to_string());
        write(&own.join("comparisons.json"), &seed.comparisons.to_string());
        let lines: String = seed.inputs.iter().map(|input| format!("{input}\n")).collect();
        write(&own.join("inputs.jsonl"), &lines);
        json!({"$path": own})
    };
    seeds.iter().enumerate().map(one).collect()
}

/// What the stage makes of the evaluations of a case.
fn made(folder: &Path, golden: &Golden, of: &str, config: &Value) -> Made {
    let mut own = json!({"statistics": "full",
        "evaluations": evaluations(folder, &golden.evaluations[of])});
    own.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    make("over_seeds", own)
}

fn figures(made: &Made) -> Vec<Figure> {
    serde_json::from_str(&made.text("seeds.json")).unwrap()
}

/// A figure as the independent script has it.
fn flat(figure: &Figure) -> Value {
    let Figure { quantity, method, with, test_set, to, metric, over, sources, test, .. } = figure;
    let Sources { inputs, lacking, error_over_inputs, training, seeds_alone } =
        sources.as_ref().unwrap();
    let interval = over.interval;
    let mut found = json!({"quantity": quantity, "method": method, "with": with,
        "test_set": test_set, "to": to, "metric": metric, "interval": interval.kind,
        "mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n,
        "std": over.std, "p": over.p, "inputs": inputs, "lacking": lacking,
        "error_over_inputs": error_over_inputs, "training": training, "seeds_alone": seeds_alone});
    if let Some(test) = test {
        let Test { of, p_corrected, p_equivalence, p_equivalence_corrected, verdict, .. } = test;
        let test = json!({"of": of, "p_corrected": p_corrected, "p_equivalence": p_equivalence,
            "p_equivalence_corrected": p_equivalence_corrected, "verdict": verdict,
            "seeds_for_difference": test.seeds_for_difference,
            "seeds_for_equivalence": test.seeds_for_equivalence});
        found.as_object_mut().unwrap().extend(test.as_object().unwrap().clone());
    }
    found
}

/// Equal, numbers to a part in a million.
fn is_close(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-6 * b.abs() + 1e-12
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b))
        }
        _ => found == expected,
    }
}

#[test]
fn figures_over_seeds_are_those_of_independent_code() {
    let golden = golden();
    for case in &golden.cases {
        let folder = tempfile::tempdir().unwrap();
        let made = made(folder.path(), &golden, &case.evaluations, &case.config);
        let all = figures(&made);
        assert_eq!(all.len(), case.figures.len(), "{}", made.text("seeds.json"));
        for expected in &case.figures {
            let names = ["quantity", "metric", "method", "with", "test_set", "to"];
            let found = all.iter().map(flat);
            let mut own = found.filter(|one| names.iter().all(|name| one[name] == expected[name]));
            let own = own.next().unwrap_or_else(|| panic!("no {expected}"));
            for (field, value) in expected.as_object().unwrap() {
                assert!(is_close(&own[field], value), "{field}: {own}\nexpected {expected}");
            }
        }
    }
}

#[test]
fn a_comparison_that_few_seeds_have_is_left_out_and_said() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let made = made(folder.path(), &golden, "same", &json!({}));
    assert_eq!(
        made.warnings(),
        ["not over seeds, since 2 of 4 seeds have them, 3 are the fewest: the differences at \
          equal KL in `gold` of `ppo` on `ood`"]
    );
    let matched = |figure: &&Figure| figure.quantity() == Quantity::Matched;
    let all = figures(&made);
    let found: Vec<&Figure> = all.iter().filter(matched).collect();
    assert_eq!((found.len(), found[0].over.interval.n), (1, 3));
    assert_eq!(found[0].sources.as_ref().unwrap().lacking, 1);
}

#[test]
fn the_family_is_named_wherever_verdicts_are() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let config = json!({"equivalence": {"gold": 0.25}});
    let made = made(folder.path(), &golden, "same", &config);
    let difference = |figure: &&Figure| figure.quantity() == Quantity::Difference;
    let all = figures(&made);
    let test = all.iter().find(difference).unwrap().test.clone().unwrap();
    assert_eq!((test.family.as_str(), test.of, test.level), ("differences in gold", 2, 0.025));
    for file in ["table.txt", "table.md"] {
        let text = made.text(file);
        let one = text.split_whitespace().collect::<Vec<&str>>().join(" ");
        for said in [
            "p corrected by Holm over the 2 differences in gold",
            "p corrected by Holm over the 2 gaps in gold",
            "equivalent: within 0.25 of 0, by two one-sided tests",
            "over seeds of training and test inputs of gold",
        ] {
            assert!(one.contains(said), "{said}: {text}");
        }
        let line = text.lines().find(|line| line.contains("id - ood")).unwrap();
        assert!(line.contains("sft"), "{line}");
        if file == "table.txt" {
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
    let text = made.text("table.txt");
    let line = text.lines().find(|line| line.starts_with("  ppo - sft   ood ")).unwrap();
    assert!(line.contains("0.068 [-0.058, 0.194]  equivalent"), "{text}");
    // Differences are listed with their verdicts, and no rows of the table as well.
    assert!(!made.text("table.json").contains("gold_difference"));
}

#[test]
fn every_format_shows_the_verdicts() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let show = |correction: &str| {
        let config = json!({"correction": correction, "equivalence": {"gold": 0.25}});
        let made = made(folder.path(), &golden, "same", &config);
        let table = serde_json::from_str(&made.text("table.json")).unwrap();
        let evaluation = Evaluation {
            node: "over_seeds".into(),
            seeds: figures(&made),
            table,
            ..Evaluation::default()
        };
        Run { id: "r".into(), evaluations: vec![evaluation], ..Run::default() }
    };
    let run = show("benjamini_hochberg");
    let (markdown, page) = (formats::markdown(&run), page(&run, Some(0)));
    for text in [&markdown, &page, &latex(&run)] {
        let letters: String = text.chars().filter(|letter| letter.is_alphanumeric()).collect();
        for said in ["goldgapsoverseeds", "goldagainstbestofnatequalKLoverseeds", "equivalent"] {
            assert!(letters.contains(&said.replace("_", "")), "{said}: {text}");
        }
    }
    assert!(page.contains("p corrected by Benjamini-Hochberg over the 2 differences in gold"));
    assert!(page.contains("<tr class=equivalent>"));
    // A line a comparison: interval, p, corrected p, planned seeds, verdict.
    let line = markdown.lines().find(|line| line.starts_with("| ppo | id - ood |")).unwrap();
    assert!(line.contains("| 0.546 [0.257, 0.835] | 0.0027 | 0.0054 | 3 |"), "{line}");
    assert!(line.ends_with("| higher |"), "{line}");
    let kinds = |run: &Run| -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for line in formats::csv(run).lines().skip(1) {
            *found.entry(line.split(',').nth(8).unwrap().to_owned()).or_default() += 1;
        }
        found
    };
    let expected = [
        ("at_equal_kl_over_seeds", 1),
        ("best_at_equal_kl_over_seeds", 1),
        ("difference_over_seeds", 2),
        ("gap_over_seeds", 2),
        ("kl_at_equal_kl_over_seeds", 1),
        ("over_seeds", 6),
        ("own_at_equal_kl_over_seeds", 1),
    ];
    assert_eq!(kinds(&run), expected.map(|(kind, count)| (kind.to_owned(), count)).into());
    // The column of Holm's p values has those alone.
    let corrected = |run: &Run| {
        let csv = formats::csv(run);
        let line = csv.lines().find(|line| line.contains(",gap_over_seeds,")).unwrap();
        line.split(',').nth(11).unwrap().to_owned()
    };
    assert!(corrected(&run).is_empty() && !corrected(&show("holm")).is_empty());
    let summary = summary(&run.evaluations, &[], 80);
    assert!(summary.contains("after the stage's correction"), "{summary}");
    assert!(summary.contains("gold, id: ppo 0.600 > sft 0.251"), "{summary}");
}

/// A gap of gains is a difference on one test set minus the same on another, of the same inputs.
#[test]
fn gaps_of_gains_go_over_seeds_as_the_differences_that_they_are_made_of() {
    let (mut golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let mut expected = Vec::new();
    for seed in golden.evaluations.get_mut("same").unwrap() {
        let mean = |test_set: &str| {
            let all = seed.comparisons["differences"].as_array().unwrap();
            let own = all.iter().find(|one| one["test_set"] == test_set).unwrap();
            own["mean"].as_f64().unwrap()
        };
        let gap = mean("id") - mean("ood");
        expected.push(gap);
        seed.comparisons["gains"] = json!([{"metric": "gold", "method": "ppo", "with": "sft",
            "from": "id", "to": "ood", "mean": gap, "low": gap - 0.1, "high": gap + 0.1, "n": 21,
            "p": 0.5, "p_holm": 0.5}]);
    }
    let made = made(folder.path(), &golden, "same", &json!({}));
    let all = figures(&made);
    let own: Vec<&Figure> =
        all.iter().filter(|figure| figure.quantity == Some(Quantity::GainGap)).collect();
    let [own] = own.as_slice() else { panic!("{}", made.text("seeds.json")) };
    assert_eq!(own.over.values, expected);
    let names = (own.method.as_str(), own.with.as_deref(), &*own.test_set, own.to.as_deref());
    assert_eq!(names, ("ppo", Some("sft"), "id", Some("ood")));
    assert_eq!(own.over.interval.kind, Kind::Crossed, "the inputs behind it are found");
    assert_eq!(own.test.as_ref().unwrap().of, 1, "a family apart");
    let run = Run {
        evaluations: vec![Evaluation { seeds: all.clone(), ..Evaluation::default() }],
        ..Run::default()
    };
    let csv = formats::csv(&run);
    let line = csv.lines().find(|line| line.contains(",gain_gap_over_seeds,ood,")).unwrap();
    assert!(line.starts_with(",ppo - sft,id,gold,"), "{line}");
    assert!(formats::markdown(&run).contains("gold: gaps of gains over seeds"));
}

/// Inputs whose scores are not what the table has, and few of them, are no source of an interval.
#[test]
fn an_interval_over_inputs_needs_the_figures_inputs() {
    let interval = |change: fn(&mut Golden)| {
        let (mut golden, folder) = (golden(), tempfile::tempdir().unwrap());
        change(&mut golden);
        let made = made(folder.path(), &golden, "same", &json!({}));
        let first = figures(&made).remove(0);
        (serde_json::to_value(first.over.interval.kind).unwrap(), first.sources.unwrap())
    };
    let (kind, sources) = interval(|_| {});
    assert!(kind == "crossed" && sources.training.is_some());
    let (kind, sources) = interval(|golden| {
        let seed = &mut golden.evaluations.get_mut("same").unwrap()[1];
        seed.inputs[0]["answers"][0]["scores"]["gold"] = json!(null);
    });
    assert!(kind == "student_t" && sources.training.is_none() && sources.seeds_alone.is_none());
    let (kind, _) = interval(|golden| {
        let seed = &mut golden.evaluations.get_mut("same").unwrap()[1];
        seed.inputs[0]["answers"][0]["scores"]["gold"] = json!(9.0);
    });
    assert_eq!(kind, "student_t");
    let (kind, sources) = interval(|golden| {
        let seed = &mut golden.evaluations.get_mut("same").unwrap()[1];
        seed.inputs[0]["prompt"] = json!("another");
    });
    assert_eq!(kind, "student_t");
    assert_eq!(serde_json::to_value(sources.inputs).unwrap(), "overlapping");
}

#[test]
fn files_that_are_absent_and_options_without_effect_are_refused() {
    let (golden, folder) = (golden(), tempfile::tempdir().unwrap());
    let all = evaluations(folder.path(), &golden.evaluations["same"]);
    let unknown = json!({"evaluations": all, "statistics": "full", "equivalence": {"rm": 0.1}});
    let message = refusal("over_seeds", unknown);
    assert!(
        message.contains("`equivalence` has `rm`, and nothing is compared by it")
            && message.contains("compared by: gold"),
        "{message}"
    );
    std::fs::remove_file(folder.path().join("1/inputs.jsonl")).unwrap();
    let message = refusal("over_seeds", json!({"evaluations": all, "statistics": "full"}));
    assert!(
        message.contains("`statistics: full` needs") && message.contains("inputs.jsonl"),
        "{message}"
    );
    for (more, field) in [
        (json!({"correction": "benjamini_hochberg"}), "correction"),
        (json!({"equivalence": {"gold": 0.1}}), "equivalence"),
        (json!({"statistics": "full", "equivalence": {"gold": 0.0}}), "equivalence.gold"),
    ] {
        let mut config = json!({"evaluations": all});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = problems("over_seeds", config);
        let fields: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, [field], "{more}");
    }
}
