//! `alpaca.yaml` on files of which the pairs contain test tasks, as the public ones do: nothing
//! that trains has a test task, and enough is left to train on.

use serde_json::{Value, json};

use crate::cli::place::Place;
use crate::stages::fixture::jsonl;

/// A task of a number, with an input where the number is even.
fn task(at: usize) -> (String, String) {
    let things = ["rivers", "towns", "birds", "tools", "games", "meals", "songs"];
    let input = if at.is_multiple_of(2) {
        format!("The list begins with number {at} and goes on for a while")
    } else {
        String::new()
    };
    (format!("Tell me {} facts about {} of the {at}th kind.", at + 2, things[at % 7]), input)
}

fn tasks(rows: std::ops::Range<usize>) -> String {
    jsonl(rows.map(|at| {
        let (instruction, input) = task(at);
        json!({"id": format!("t{at}"), "instruction": instruction, "input": input,
            "output": format!("Fact {at}.")})
    }))
}

/// Two pairs of each task, the input below the instruction, as AlpacaEval writes them.
fn pairs(rows: impl Iterator<Item = usize>) -> String {
    let prompt = |at: usize| {
        let (instruction, input) = task(at);
        if input.is_empty() { instruction } else { format!("{instruction}\n\n{input}") }
    };
    jsonl(rows.flat_map(|at| (0..2).map(move |pair| (at, pair))).map(|(at, pair)| {
        json!({"prompt": prompt(at), "chosen": format!("A good fact {at} \
            {pair}."), "rejected": format!("Some fact {at} {pair}.")})
    }))
}

/// Letters and digits alone: coarser than what the program compares.
fn bare(text: &str) -> String {
    text.to_lowercase().chars().filter(|character| character.is_alphanumeric()).collect()
}

#[test]
fn no_test_task_is_in_what_the_models_of_alpaca_learn() {
    let place = Place::new(include_str!("../../pipelines/alpaca.yaml"));
    // The base model takes no part, but must be there.
    std::fs::create_dir(place.path("base_model")).unwrap();
    place.write("demonstrations.jsonl", &tasks(0..60));
    place.write("easy.jsonl", &tasks(100..120));
    place.write("hard.jsonl", &tasks(200..210));
    // Two thirds of the pairs are of other tasks; all easy and some hard ones, and some
    // demonstrations, are among them.
    place.write("pairs.jsonl", &pairs((300..380).chain(100..120).chain(200..205).chain(50..60)));
    place.good(&["run", "p.yaml", "texts", "preferences", "held_out_preferences", "--quiet"]);
    let rows = |node: &str, split: &str| -> Vec<Value> {
        place
            .made(node, &format!("{split}.jsonl"))
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let number = |row: &Value| -> Vec<usize> {
        let prompt = bare(row["prompt"].as_str().unwrap());
        (0..400).filter(|at| prompt.contains(&bare(&task(*at).0))).collect()
    };
    let of = |node: &str, split: &str| -> Vec<usize> {
        rows(node, split).iter().flat_map(number).collect()
    };
    let tests: Vec<usize> = ["test/id", "test/ood_easy", "test/ood_hard"]
        .iter()
        .flat_map(|split| of("texts", split))
        .collect();
    assert!(
        tests.len() >= 35 && tests.iter().filter(|at| (100..120).contains(*at)).count() == 20,
        "{tests:?}"
    );
    for (node, split, least) in [
        ("texts", "sft", 15),
        ("texts", "prompts", 20),
        ("preferences", "preferences", 30),
        ("held_out_preferences", "preferences", 30),
    ] {
        let learned = of(node, split);
        assert!(learned.len() >= least, "{} rows of `{split}` of `{node}`", learned.len());
        assert!(!learned.iter().any(|at| tests.contains(at)), "{node} {split}: {learned:?}");
    }
    // The two reward models learn from pairs of different prompts.
    let others = of("held_out_preferences", "preferences");
    assert!(!of("preferences", "preferences").iter().any(|at| others.contains(at)));
}
