//! Measures beside people, in every format of a report.

use posttrain::artefacts::people::BesidePeople;
use posttrain::eval::interval::{Interval, Kind, of_share};
use posttrain::report::formats::{csv, json, markdown};
use posttrain::report::latex::latex;
use posttrain::report::page::page;
use posttrain::report::run::Run;
use posttrain::report::select::Selection;
use posttrain::report::text::text;

use super::fixture::run;

fn entry(metric: &str, test_set: &str, wins: usize) -> BesidePeople {
    let outcomes: Vec<f64> = (0..20).map(|at| f64::from(u8::from(at < wins))).collect();
    BesidePeople {
        name: "asked".into(),
        question: "more_varied".into(),
        a: "sft".into(),
        b: "ppo".into(),
        test_set: test_set.into(),
        metric: metric.into(),
        judged: 24,
        agreement: of_share(&outcomes),
        tau_b: Interval::none(0.25, 24, Kind::NoneTooFew),
    }
}

/// A run whose first evaluation has two measures on two test sets.
fn with_people() -> Run {
    let mut run = run();
    run.evaluations[0].beside_people = vec![
        entry("ead_per_input", "id", 11),
        entry("self_bleu_per_input", "id", 16),
        entry("ead_per_input", "ood_forum", 14),
    ];
    run
}

#[test]
fn a_terminal_and_a_document_list_measures_by_how_often_they_pick_what_people_pick() {
    let run = with_people();
    for shown in [text(&run.evaluations[0], 100), markdown(&run)] {
        let (_, listing) = shown.split_once("measures beside people: asked").unwrap();
        assert!(listing.contains("of the pairs of sets of sft and ppo"), "{listing}");
        // The highest comes first, whatever the order of the file.
        let place = |words: &str| listing.find(words).unwrap_or_else(|| panic!("{listing}"));
        assert!(place("0.800") < place("0.550") && place("0.550") < place("0.700"), "{listing}");
    }
}

#[test]
fn csv_and_json_have_both_figures_and_a_part_can_be_taken() {
    let run = with_people();
    let lines: Vec<String> =
        csv(&run).lines().filter(|line| line.contains("people_")).map(str::to_owned).collect();
    assert_eq!(lines.len(), 6);
    let first = lines[0].split(',').collect::<Vec<&str>>();
    assert!(first.contains(&"sft - ppo") && first.contains(&"people_agreement"), "{first:?}");
    assert!(first.contains(&"0.55") && first.contains(&"asked") && first.contains(&"share"));
    let value: serde_json::Value = serde_json::from_str(&json(&run)).unwrap();
    assert_eq!(value["evaluations"][0]["beside_people"][1]["metric"], "self_bleu_per_input");
    let selection = Selection {
        metrics: vec!["ead_per_input".into()],
        methods: vec!["sft".into(), "ppo".into()],
        test_sets: vec!["id".into()],
        ..Selection::default()
    };
    let part = selection.of(run.clone()).unwrap();
    let [only] = part.evaluations[0].beside_people.as_slice() else { panic!("one is left") };
    assert_eq!((only.metric.as_str(), only.test_set.as_str()), ("ead_per_input", "id"));
    assert_eq!(only.agreement, entry("ead_per_input", "id", 11).agreement);
    let selection = Selection { methods: vec!["sft".into()], ..selection };
    assert!(selection.of(run).unwrap().evaluations[0].beside_people.is_empty());
}

#[test]
fn the_page_and_latex_have_them_where_there_are_any() {
    let (with, without) = (page(&with_people(), None), page(&run(), None));
    let heading = "Measures beside people";
    assert!(with.contains(heading) && with.contains("href=\"#people\""));
    assert!(!without.contains(heading) && !without.contains("href=\"#people\""));
    assert!(latex(&with_people()).contains("beside people"));
}
