//! Gold scores worked out by hand from the rule in `src/world/posts/gold.rs`.

use posttrain::data::rows::Example;
use posttrain::world::posts::{Gold, World, gold};
use posttrain::world::statement;

use super::facts;

/// Scores a text about [`facts`] and checks the score to rounding.
#[track_caller]
fn scored(text: &str, ended: bool, expected: f64) -> Gold {
    let gold = gold(&facts(), text, ended);
    assert!((gold.unclipped - expected).abs() < 1e-12, "{text}: {gold:?}, not {expected}");
    assert_eq!(gold.score, gold.unclipped.clamp(-1.0, 1.0));
    gold
}

#[test]
fn a_complete_summary_scores_one() {
    let gold =
        scored(" my boss lost my laptop . i told hr . due friday . should i quit ?", true, 1.0);
    assert_eq!((gold.coverage, gold.recalled, gold.length), (1.0, [true; 6], 17));
}

#[test]
fn each_fact_is_worth_its_share() {
    // who .2, verb .1, obj .1: coverage .4.
    scored("my boss lost my laptop .", true, 2.0 * 0.4 - 1.0);
    scored("i told hr .", true, 2.0 * 0.2 - 1.0);
    scored("due friday .", true, 2.0 * 0.2 - 1.0);
    scored("want to quit .", true, 2.0 * 0.2 - 1.0);
    let gold = scored("someone lost my laptop .", true, 2.0 * 0.2 - 1.0);
    assert_eq!(gold.recalled, [false, true, true, false, false, false]);
}

#[test]
fn every_different_wrong_value_costs_once() {
    // verb and obj right; the manager and monday are wrong.
    let gold = scored("my manager lost my laptop , due monday .", true, 2.0 * 0.2 - 1.0 - 0.6);
    assert_eq!((gold.wrong, gold.repeated, gold.score), (2, 0, -1.0));
    // A fact and a wrong value of the same slot: covered, and wrong. `intern` is wrong once but
    // said twice.
    let gold = scored(
        "problem with my boss . problem with my intern , my intern is a problem .",
        true,
        0.4 - 1.0 - 0.3 - 0.25 * 2.0,
    );
    assert_eq!((gold.wrong, gold.repeated), (1, 2));
}

#[test]
fn words_beyond_twenty_cost_each() {
    let text = "my boss lost my laptop and i told hr and must decide by friday . want to quit . \
        please help . long story .";
    let gold = scored(text, true, 1.0 - 5.0 * 0.05);
    assert_eq!((gold.length, gold.over), (25, 5));
}

#[test]
fn repetition_counts_values_and_runs_of_three_words() {
    // 3 values again; `boss lost my`, `lost my laptop` and `my laptop .` again.
    let gold = scored("boss lost my laptop . boss lost my laptop .", true, 0.8 - 1.0 - 6.0 * 0.25);
    assert_eq!(gold.repeated, 6);
}

#[test]
fn neighbours_outside_the_grammar_are_malformed() {
    // No text: start meets end.
    assert_eq!(scored("", true, -1.1).malformed, 1);
    // `quit quit`: the two values are no neighbours, and the second meets the end. One value again.
    assert_eq!(scored("quit quit", true, 0.4 - 1.0 - 0.25 - 0.2).malformed, 2);
    // `laptop lost` twice over: start-laptop, laptop-lost, lost-boss, boss-.
    assert_eq!(scored("laptop lost boss .", true, 0.8 - 1.0 - 0.1 * 3.0).malformed, 3);
    // A full stop without its space is an unknown word: laptop. is no laptop.
    let gold = scored("my boss lost my laptop.", true, 0.6 - 1.0 - 0.2);
    assert_eq!((gold.malformed, gold.recalled[2]), (2, false));
}

#[test]
fn a_text_that_did_not_end_counts_three_more() {
    assert_eq!(scored("my boss lost my laptop .", false, 0.8 - 1.0 - 0.3).malformed, 3);
}

#[test]
fn a_value_of_two_words_is_read_as_one() {
    let gold = scored("i told hr . should i move out ?", true, 0.4 - 1.0 - 0.3);
    assert_eq!((gold.wrong, gold.malformed, gold.recalled[3]), (1, 0, true));
    // Its first word alone is none.
    assert_eq!(scored("i told .", true, -1.0 - 0.2).wrong, 0);
}

#[test]
fn scores_are_clipped_and_the_unclipped_one_is_kept() {
    let gold = gold(&facts(), "mother mother mother", false);
    assert_eq!(gold.score, -1.0);
    assert!(gold.unclipped < -1.5);
}

#[test]
fn parts_are_reported_by_slot_and_name() {
    let parts = gold(&facts(), "my boss lost my car .", true).parts();
    let part = |name: &str| parts.iter().find(|(part, _)| part == name).unwrap().1;
    assert_eq!(
        (part("coverage_who"), part("coverage_obj"), part("invented"), part("repeated")),
        (1.0, 0.0, 1.0, 0.0)
    );
    assert!((part("coverage") - 0.3).abs() < 1e-12);
}

/// Of one statement are texts that name the same values, whatever their order and wording.
#[test]
fn a_statement_is_the_set_of_values() {
    let post = &World::new(0).sft(1)[0];
    let of = |text: &str| statement(post, text).unwrap();
    let stated = "who: boss; verb: lost; when: friday";
    assert_eq!(of(" my boss lost it , due friday ."), stated);
    assert_eq!(of("only until friday . problem with my boss . they lost , lost ."), stated);
    assert_ne!(of("my boss lost it , due monday ."), stated);
    assert_eq!((of(""), of("please help .")), (String::new(), String::new()));
    assert_eq!(statement(&Example { facts: None, ..post.clone() }, "boss"), None);
}
