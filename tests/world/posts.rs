//! Posts and splits: lengths, mixture, determinism, and no test text in training.

use std::collections::BTreeSet;

use posttrain::data::dataset::{self, Dataset, is_held_out, write_split};
use posttrain::data::decontamination;
use posttrain::data::rows::Example;
use posttrain::world::posts::post::bucket;
use posttrain::world::posts::words::{EDIT, SLOTS};
use posttrain::world::posts::{TEST_SETS, World, splits};
use posttrain::world::{Bucket, Options, TestsFrom};

use super::{mean, said, words};

type Splits = Vec<(String, Vec<Example>)>;

fn held_out(all: Splits) -> (Splits, Splits) {
    all.into_iter().partition(|(name, _)| is_held_out(name))
}

#[test]
fn posts_are_as_long_as_they_are_meant_to_be() {
    // The prototype's means, one word more for `tl;dr:`.
    let expected =
        [("id", 57.5), ("ood_forum", 57.5), ("ood_length", 97.6), ("ood_register", 53.3)];
    for (name, length) in expected {
        let lengths: Vec<usize> =
            World::new(3).test(name, 2_000).iter().map(|post| words(&post.prompt)).collect();
        let found = mean(lengths.iter().map(|length| *length as f64));
        println!(
            "{name}: mean {found:.1}, most {} words with `tl;dr:`",
            lengths.iter().max().unwrap()
        );
        // The spread is about 9 words: four standard errors are 0.8.
        assert!((found - length - 1.0).abs() < 0.8, "{name}: {found}");
        assert!(lengths.iter().all(|length| *length < 130));
    }
    let notes = World::new(3).notes(2_000);
    let (prompt, completion) = (
        mean(notes.iter().map(|n| words(&n.prompt) as f64)),
        mean(notes.iter().map(|n| words(&n.completion) as f64)),
    );
    println!("notes: {prompt:.1} and {completion:.1} words");
    assert!(
        (prompt - 20.35).abs() < 0.8 && (completion - 12.4).abs() < 0.5,
        "{prompt} {completion}"
    );
}

#[test]
fn a_post_states_its_facts_and_names_its_distractors() {
    for name in TEST_SETS {
        for post in World::new(1).test(name, 300) {
            let facts = said(&post);
            for slot in SLOTS {
                assert!(
                    post.prompt.contains(facts.value(slot)),
                    "{}: {}",
                    slot.name(),
                    post.prompt
                );
            }
            assert!(facts.distractors.values().all(|value| post.prompt.contains(value.as_str())));
            assert!(facts.distractors.iter().all(|(slot, value)| facts.value(*slot) != value));
            assert!(post.prompt.ends_with(" tl;dr:") && !post.prompt.contains("  "));
            assert_eq!(post.prompt, post.prompt.to_lowercase());
            assert_eq!(facts.forum == "travel", name == "ood_forum");
            assert_eq!(post.prompt.starts_with("news report :"), name == "ood_register");
        }
    }
}

#[test]
fn pretraining_mixes_registers_as_specified() {
    let rows = World::new(5).pretrain(10_000);
    let share = |is: &dyn Fn(&Example) -> bool| {
        rows.iter().filter(|row| is(row)).count() as f64 / rows.len() as f64
    };
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() < 0.015, "{found}, not {expected}")
    };
    near(share(&|row| row.completion.starts_with("news report :")), 0.12);
    near(share(&|row| row.prompt.starts_with("forum travel ")), 0.12 * 0.6);
    near(share(&|row| row.completion.starts_with("forum travel ")), 0.12 * 0.4);
    near(share(&|row| row.completion.ends_with(EDIT)), 0.12 * 0.4 * 0.3);
    near(share(&|row| row.prompt.ends_with(" tl;dr:")), 0.76 + 0.12 * 0.6);
    assert!(rows.iter().all(|row| !row.prompt.starts_with("news") && row.facts.is_none()));
}

#[test]
fn a_row_is_a_function_of_seed_split_and_number() {
    let world = World::new(11);
    assert_eq!(world.sft(50), world.sft(200)[..50]);
    assert_eq!(world.notes(50), world.notes(200)[..50]);
    assert_eq!(world.test("id", 50), world.test("id", 200)[..50]);
    assert_ne!(world.sft(5)[0].prompt, world.prompts(5)[0].prompt);
    assert_ne!(world.sft(5)[0].prompt, World::new(12).sft(5)[0].prompt);
}

/// Pins the bytes of the world: a change of a word list, a wording or the order of draws shows
/// here.
#[test]
fn the_world_has_its_recorded_digest() {
    let options = Options {
        notes: 40,
        pretrain: 40,
        sft: 40,
        compare: 40,
        prompts: 40,
        validation: 40,
        test: 40,
        ..Options::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let mut hasher = blake3::Hasher::new();
    for (name, rows) in splits(&options) {
        write_split(folder.path(), &name, &rows).unwrap();
        hasher.update(&std::fs::read(folder.path().join(format!("{name}.jsonl"))).unwrap());
    }
    let dataset = Dataset::open(folder.path()).unwrap();
    assert_eq!(dataset.tests(), ["id", "ood_forum", "ood_length", "ood_register"]);
    assert_eq!(dataset.split::<Example>(dataset::SFT).unwrap(), World::new(0).sft(40));
    assert_eq!(hasher.finalize().to_hex()[..16], *"f935478a1c660e2e");
}

#[test]
fn no_test_text_occurs_in_training() {
    let options = Options {
        seed: 2,
        notes: 2_000,
        pretrain: 4_000,
        sft: 2_000,
        compare: 500,
        prompts: 2_000,
        validation: 300,
        test: 300,
        ..Options::default()
    };
    let (held_out, training) = held_out(splits(&options));
    assert_eq!((held_out.len(), training.len()), (5, 5));
    assert!(decontamination::leaks(&held_out, &training).is_empty());
}

#[test]
fn a_test_post_planted_in_training_is_found() {
    let options = Options {
        notes: 200,
        pretrain: 300,
        sft: 100,
        compare: 10,
        prompts: 100,
        validation: 50,
        test: 50,
        ..Options::default()
    };
    let (held_out, mut training) = held_out(splits(&options));
    let post = |set: usize, row: usize| {
        held_out[set].1[row].prompt.trim_end_matches(" tl;dr:").to_string()
    };
    // As a document without a summary, and under another reference.
    training[1].1[17].completion = post(2, 3);
    training[2].1[60].prompt = format!("{} tl;dr:", post(1, 40));
    let leaks = decontamination::leaks(&held_out, &training);
    let found: Vec<_> = leaks
        .iter()
        .map(|leak| (leak.split.as_str(), leak.row, leak.training.as_str(), leak.training_row))
        .collect();
    assert_eq!(found, [("test/id", 40, "sft", 60), ("test/ood_forum", 3, "pretrain", 17)]);
}

#[test]
fn no_combination_of_facts_is_both_trained_and_tested() {
    let world = World::new(4);
    let rows = |rows: Vec<Example>, expected: Bucket| {
        for facts in rows.iter().map(said) {
            assert_eq!(bucket(&facts.forum, &facts.values()), expected);
        }
    };
    rows(world.sft(300), Bucket::Train);
    rows(world.compare(300), Bucket::Train);
    rows(world.prompts(300), Bucket::Train);
    rows(world.validation(300), Bucket::Validation);
    for name in TEST_SETS {
        rows(world.test(name, 300), Bucket::Test);
        rows(world.held_out(name, TestsFrom::Validation, 300), Bucket::Validation);
    }
    let kinds = world.every_kind(100);
    rows(kinds.clone(), Bucket::Train);
    assert_eq!(kinds.len(), 100 * TEST_SETS.len());
    let names: Vec<&str> =
        kinds[..TEST_SETS.len()].iter().map(|row| row.id.split('-').next().unwrap()).collect();
    assert_eq!(names, TEST_SETS, "by turns");
    assert_eq!(world.every_kind(10), kinds[..10 * TEST_SETS.len()]);
}

#[test]
fn the_world_has_few_words() {
    let options = Options { test: 1_000, sft: 2_000, ..Options::default() };
    let all = splits(&options);
    let words: BTreeSet<&str> = all
        .iter()
        .flat_map(|(_, rows)| rows)
        .flat_map(|row| row.prompt.split(' ').chain(row.completion.split(' ')))
        .collect();
    println!("{} words", words.len());
    assert!((340..=363).contains(&words.len()), "{}", words.len());
}
