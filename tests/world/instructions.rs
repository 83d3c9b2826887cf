//! Instructions from outside: what they ask for by hand and by an oracle, how answers are graded,
//! splits without leaks.

use std::collections::BTreeSet;

use posttrain::data::dataset::{self, is_held_out};
use posttrain::data::decontamination;
use posttrain::data::rows::Example;
use posttrain::random::Stream;
use posttrain::world::instructions::gold::{Gold, stated};
use posttrain::world::instructions::prompt::bucket;
use posttrain::world::instructions::task::{Kind, Step};
use posttrain::world::instructions::words::{JUNK, SEQUENTIAL, TRAINED};
use posttrain::world::instructions::{
    CANDIDATE_WRITERS, Instructions, TEST_SETS, Task, Writer, gold, read, splits, write,
};
use posttrain::world::{
    self, Bucket, Candidate, Facts, Noise, Options, TestsFrom, noisy_preferences,
};

use super::mean;

const RECORD: &str = "thing laptop ; day friday ; person boss ; place work";

fn task(instruction: &str) -> Task {
    let prompt = format!("input : {RECORD} . {instruction} . answer :");
    read(&prompt).unwrap_or_else(|| panic!("cannot read: {prompt}"))
}

fn asked(row: &Example) -> Task {
    match row.facts.as_ref().and_then(Facts::read) {
        Some(Facts::Instruction(task)) => task,
        other => panic!("no instruction: {other:?}"),
    }
}

fn every_split() -> Vec<(String, Vec<Example>)> {
    let options = Options {
        seed: 3,
        notes: 1_500,
        pretrain: 3_000,
        sft: 1_500,
        compare: 800,
        prompts: 1_500,
        validation: 300,
        test: 400,
        ..Options::default()
    };
    splits(&options)
}

#[test]
fn instructions_mean_what_they_say() {
    for (instruction, ordered, expected) in [
        ("list them", false, "laptop friday boss work"),
        ("name them , count them", false, "4"),
        ("list them , keep day and place", false, "friday work"),
        ("list them , then leave out day", false, "laptop boss work"),
        ("name them , sort by label", true, "friday boss work laptop"),
        ("name them , then put the labels in backward order", true, "laptop work boss friday"),
        ("list them , replace boss by guide", false, "laptop friday guide work"),
        ("list them , use capitals", false, "LAPTOP FRIDAY BOSS WORK"),
        (
            "list them , take only thing and person and day , then sort by label",
            true,
            "friday boss laptop",
        ),
        (
            "could you kindly show me each and please skip thing and day and after that tell me \
             only the total",
            false,
            "2",
        ),
        ("hello , please give me all but call boss dean", false, "laptop friday dean work"),
        (
            "i would like you to give me all but spare me place and also go through the alphabet \
             from its end",
            true,
            "laptop boss friday",
        ),
        (
            "first list them , then keep thing and day and person , next sort backward by label , \
             then write dean for boss , finally use capitals",
            true,
            "LAPTOP DEAN FRIDAY",
        ),
        // What is sorted last counts, and a count comes last.
        (
            "first list them , then sort by label , then sort backward by label",
            true,
            "laptop work boss friday",
        ),
        ("first list them , then drop day and thing , finally count them", false, "2"),
    ] {
        let answer = task(instruction).answer();
        assert_eq!(
            (answer.elements.join(" ").as_str(), answer.ordered),
            (expected, ordered),
            "{instruction}"
        );
    }
}

#[test]
fn what_is_no_instruction_is_not_read() {
    for text in [
        "list them",
        "",
        "input : person boss . list them . answer",
        "input : person boss . list dogs . answer :",
        "input : boss . list them . answer :",
        "input : animal dog . list them . answer :",
        "input : person boss . list them , keep those . answer :",
        "input : person boss . list them , keep person and dog . answer :",
        "input : person boss . list them finally use capitals . answer :",
        "input : person boss . first list them , then shout . answer :",
        "input : person boss . list them . answer : boss . list them . answer :",
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

/// The prompt's writer knows the task, the reader the text alone.
#[test]
fn every_prompt_reads_back_as_the_task_it_was_drawn_for() {
    let mut read_back = 0;
    for (split, rows) in every_split() {
        for row in rows.iter().filter(|row| !row.prompt.is_empty()) {
            let task = read(&row.prompt).unwrap_or_else(|| panic!("{split}: {}", row.prompt));
            if row.facts.is_some() {
                assert_eq!(task, asked(row), "{split}: {}", row.prompt);
                read_back += 1;
            }
            assert_eq!(row.prompt, row.prompt.to_lowercase());
            assert!(!row.prompt.contains("  "));
        }
    }
    assert_eq!(read_back, 1_500 + 800 + 1_500 + 300 + 3 * 400);
}

/// Another way to the answer: labels as words, picked and put in order by the alphabet.
fn by_hand(task: &Task) -> Vec<String> {
    let mut pairs: Vec<(&str, String)> =
        task.fields.iter().map(|field| (field.label.name(), field.value.clone())).collect();
    for step in &task.steps {
        match step {
            Step::Keep(labels) => {
                pairs.retain(|pair| labels.iter().any(|label| label.name() == pair.0))
            }
            Step::Drop(labels) => {
                pairs.retain(|pair| labels.iter().all(|label| label.name() != pair.0))
            }
            Step::Sorted => pairs.sort(),
            Step::Backward => {
                pairs.sort();
                pairs.reverse();
            }
            Step::Replaced { from, to } => {
                pairs.iter_mut().filter(|pair| pair.1 == *from).for_each(|pair| pair.1 = to.clone())
            }
            Step::Capitals => {
                pairs.iter_mut().for_each(|pair| pair.1 = pair.1.to_ascii_uppercase())
            }
            Step::Counted => return vec![pairs.len().to_string()],
        }
    }
    pairs.into_iter().map(|pair| pair.1).collect()
}

#[test]
fn answers_are_what_another_way_of_working_them_out_gives() {
    for name in TEST_SETS {
        for row in Instructions::new(5).test(name, 1_000) {
            assert_eq!(asked(&row).answer().elements, by_hand(&asked(&row)), "{}", row.prompt);
        }
    }
}

#[track_caller]
fn scored(instruction: &str, text: &str, ended: bool, expected: f64) -> Gold {
    let gold = gold(&task(instruction), text, ended);
    assert!((gold.unclipped - expected).abs() < 1e-12, "{text}: {gold:?}, not {expected}");
    assert_eq!(gold.score, gold.unclipped.clamp(-1.0, 1.0));
    gold
}

const THREE: &str = "list them , leave out place";
const SORTED: &str = "list them , leave out place , then sort by label";

#[test]
fn every_wording_of_a_right_answer_scores_one() {
    for text in [
        " laptop , friday and boss .",
        " boss ; laptop ; friday .",
        " sure : friday and boss and laptop . hope this helps .",
        " here you go : boss , friday , laptop . anything else ?",
    ] {
        scored(THREE, text, true, 1.0);
    }
    for text in [" 3 .", " three .", " the result is 3 . that is all ."] {
        scored("list them , leave out place , count them", text, true, 1.0);
    }
    let gold = scored(SORTED, " friday , boss and laptop .", true, 1.0);
    assert!(gold.parts().contains(&("exact".to_string(), 1.0)));
}

#[test]
fn elements_order_and_form_earn_their_shares() {
    // Two of three.
    scored(THREE, "boss and friday .", true, 2.0 * 2.0 / 3.0 - 1.0);
    // All, of which two are in order: friday before laptop, boss after both.
    let gold =
        scored(SORTED, "friday , laptop , boss .", true, 2.0 * (0.75 + 0.25 * 2.0 / 3.0) - 1.0);
    assert_eq!((gold.elements, gold.form), (1.0, 1.0));
    // Three, of which one is in order: all the other way round.
    scored(SORTED, "laptop , boss , friday .", true, 2.0 * (0.75 + 0.25 / 3.0) - 1.0);
    // One of three in capitals.
    let gold = scored(
        "list them , leave out place , use capitals",
        "LAPTOP , boss , friday .",
        true,
        2.0 * (0.75 + 0.25 / 3.0) - 1.0,
    );
    assert_eq!((gold.elements, gold.order), (1.0, 1.0));
    // Capitals where none were asked for.
    scored(THREE, "LAPTOP , boss , friday .", true, 2.0 * (0.75 + 0.25 * 2.0 / 3.0) - 1.0);
}

#[test]
fn what_is_invented_repeated_or_too_long_costs() {
    // Work was to be left out; the manager is not in the record; no number was asked for.
    let gold = scored(THREE, "laptop , work , friday , manager , boss , 3 .", true, 1.0 - 0.9);
    assert_eq!((gold.invented, gold.repeated), (3, 0));
    // The same one twice, and once more in capitals; what is wrong twice counts as one more and one
    // again.
    assert_eq!(
        scored(THREE, "boss , boss , BOSS , friday , laptop .", true, 1.0 - 0.5).repeated,
        2
    );
    assert_eq!(
        scored(THREE, "work , work , boss , friday , laptop .", true, 1.0 - 0.3 - 0.25).invented,
        1
    );
    // The name that was replaced.
    scored(
        "list them , replace boss by guide",
        "laptop , friday , boss , work .",
        true,
        2.0 * 0.75 - 1.0 - 0.3,
    );
    // A wrong count, and values in place of a count.
    scored("list them , count them", "3 .", true, -1.3);
    assert_eq!(scored("list them , count them", "boss , work .", true, -1.6).score, -1.0);
    // 26 words.
    let text = ["boss ,"; 12].join(" ") + " friday .";
    let gold = scored(THREE, &text, true, 2.0 * 2.0 / 3.0 - 1.0 - 2.0 * 0.05 - 11.0 * 0.25);
    assert_eq!((gold.over, gold.malformed), (2, 0));
}

#[test]
fn neighbours_outside_the_grammar_are_malformed() {
    // Nothing: the start meets the end.
    assert_eq!(scored(THREE, "", true, -1.1).malformed, 1);
    // No separator, and no full stop.
    assert_eq!(scored(THREE, "boss friday , laptop", true, 1.0 - 0.2).malformed, 2);
    // An unknown word has no neighbours; two separators; a lead in the middle.
    assert_eq!(scored(THREE, "banana boss , friday , laptop .", true, 1.0 - 0.2).malformed, 2);
    assert_eq!(scored(THREE, "boss , and friday , laptop .", true, 1.0 - 0.1).malformed, 1);
    assert_eq!(scored(THREE, "boss , sure : friday , laptop .", true, 1.0 - 0.1).malformed, 1);
    // Letters of both cases are no value.
    assert_eq!(
        scored(THREE, "Boss , friday , laptop .", true, 2.0 * 2.0 / 3.0 - 1.0 - 0.2).malformed,
        2
    );
    // A text that was cut off.
    assert_eq!(scored(THREE, "boss , friday , laptop .", false, 1.0 - 0.3).malformed, 3);
}

/// Means over 4,000 instructions: the writers differ as they are meant to.
#[test]
fn writers_are_as_good_as_they_are_meant_to_be() {
    let rows = Instructions::new(7).test("id", 4_000);
    let [exact, good, reference, mid, bad] =
        [Writer::Exact, Writer::Good, Writer::Reference, Writer::Mid, Writer::Bad].map(|writer| {
            let stream = Stream::new(1, "writers");
            let scores = rows.iter().enumerate().map(|(at, row)| {
                let text = write(&asked(row), writer, &mut stream.sequence(at as u64));
                assert!(text.starts_with(' ') && !text.contains("  "));
                gold(&asked(row), &text, true).score
            });
            let mean = mean(scores);
            println!("{writer:?}: {mean:.3}");
            mean
        });
    assert_eq!(exact, 1.0);
    // Means of 4,000: four standard errors are 0.04.
    for (found, expected) in [(good, 0.93), (reference, 0.55), (mid, 0.30), (bad, -0.38)] {
        assert!((found - expected).abs() < 0.04, "{found}, not {expected}");
    }
    assert_eq!(CANDIDATE_WRITERS.len(), 4);
}

#[test]
fn an_answer_that_is_none_scores_least() {
    for junk in JUNK {
        assert_eq!(gold(&task(THREE), junk, true).score, -1.0);
    }
}

#[test]
fn the_gold_score_of_a_row_is_read_off_its_prompt() {
    let row = &Instructions::new(1).sft(1)[0];
    let text = write(&asked(row), Writer::Exact, &mut Stream::new(1, "text").sequence(0));
    assert_eq!(world::gold(row, &text, true).unwrap().score, 1.0);
    let other =
        Example { prompt: format!("input : {RECORD} . list them . answer :"), ..row.clone() };
    assert_eq!(world::gold(&other, " boss , work , laptop , friday .", true).unwrap().score, 1.0);
    assert_eq!(world::gold(&Example { facts: None, ..row.clone() }, &text, true), None);
}

#[test]
fn labels_agree_with_gold_as_often_as_the_noise_says() {
    let rows = Instructions::new(9).compare(1_500);
    let (candidates, labels) = (Stream::new(1, "candidates"), Stream::new(1, "labels"));
    let mut pairs = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let candidates: Vec<Candidate> = world::writers_candidates(
            &Facts::read(row.facts.as_ref().unwrap()).unwrap(),
            4,
            &mut candidates.sequence(at as u64),
        );
        pairs.extend(noisy_preferences(row, &candidates, Noise::default(), &labels, at as u64));
    }
    let agreement = mean(pairs.iter().map(|pair| f64::from(pair.clean.unwrap())));
    let expected =
        mean(pairs.iter().map(|pair| 1.0 / (1.0 + (-4.0 * pair.margin.unwrap().abs()).exp())));
    println!("{agreement:.3} of {} labels agree", pairs.len());
    assert!((agreement - expected).abs() < 0.015 && agreement < 0.98, "{agreement} {expected}");
}

/// Every instruction in a row, the ones in its completion too, as a task about the row's record.
fn instructions(row: &Example) -> Vec<Task> {
    let text = format!("{}{}", row.prompt, row.completion);
    let (record, rest) = text.split_once(" . ").unwrap();
    let mut pieces: Vec<&str> = rest.split(" . answer :").collect();
    let after_the_last = pieces.pop().unwrap();
    assert_eq!(after_the_last.is_empty(), row.prompt.is_empty());
    // An answer is before every instruction but the first: the instruction is the longest end
    // that can be read.
    let longest = |piece: &str| {
        let words: Vec<&str> = piece.split(' ').collect();
        (0..words.len())
            .find_map(|start| read(&format!("{record} . {} . answer :", words[start..].join(" "))))
    };
    pieces
        .into_iter()
        .map(|piece| longest(piece).unwrap_or_else(|| panic!("{piece} in {text}")))
        .collect()
}

#[test]
fn no_composition_of_the_hard_test_set_occurs_anywhere_else() {
    let hard: BTreeSet<Vec<Kind>> = SEQUENTIAL.iter().map(|kinds| kinds.to_vec()).collect();
    let mut met = BTreeSet::new();
    for (split, rows) in every_split() {
        let answered = rows.iter().filter(|row| !row.prompt.is_empty()).count();
        let expected = match split.as_str() {
            dataset::NOTES => 4 * rows.len(),
            dataset::PRETRAIN => rows.len() + answered,
            _ => rows.len(),
        };
        let tasks: Vec<Task> = rows.iter().flat_map(instructions).collect();
        assert_eq!(tasks.len(), expected, "{split}");
        for task in tasks {
            assert_eq!(
                hard.contains(&task.composition()),
                split == "test/ood_hard",
                "{split}: {task:?}"
            );
            met.insert(task.composition());
        }
    }
    // All are drawn, and every operation of the hard set is trained.
    assert_eq!(met.len(), SEQUENTIAL.len() + TRAINED.len());
    let kinds =
        |compositions: &[&[Kind]]| compositions.concat().into_iter().collect::<BTreeSet<Kind>>();
    assert!(kinds(TRAINED).is_superset(&kinds(SEQUENTIAL)));
}

#[test]
fn no_test_record_occurs_in_training() {
    let all = every_split();
    let of_row = |row: &Example| instructions(row).swap_remove(0).fields;
    for (split, rows) in &all {
        let expected = match split.as_str() {
            dataset::VALIDATION => Bucket::Validation,
            split if is_held_out(split) => Bucket::Test,
            _ => Bucket::Train,
        };
        assert!(rows.iter().all(|row| bucket(&of_row(row)) == expected), "{split}");
    }
    for name in TEST_SETS {
        let rows = Instructions::new(8).held_out(name, TestsFrom::Validation, 100);
        assert!(rows.iter().all(|row| bucket(&of_row(row)) == Bucket::Validation), "{name}");
    }
    let kinds = Instructions::new(8).every_kind(100);
    assert!(kinds.iter().all(|row| bucket(&of_row(row)) == Bucket::Train));
    let of = |name: &str| kinds.iter().filter(|row| row.id.starts_with(name)).count();
    assert_eq!(TEST_SETS.map(of), [100; 3]);
    let (held_out, training): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(split, _)| is_held_out(split));
    let records = |splits: &[(String, Vec<Example>)]| {
        splits
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(|row| format!("{:?}", of_row(row)))
            .collect::<BTreeSet<String>>()
    };
    assert!(records(&held_out).is_disjoint(&records(&training)));
    assert!(decontamination::leaks(&held_out, &training).is_empty());
}

/// With the rows of the default study, where a test record was once the end of a longer one.
#[test]
fn no_test_record_occurs_in_the_training_of_the_default_study() {
    let options = Options {
        notes: 24_000,
        pretrain: 14_000,
        sft: 3_000,
        compare: 3_200,
        prompts: 3_840,
        validation: 0,
        test: 200,
        seed: 0,
        ..Options::default()
    };
    let (held_out, training): (Vec<_>, Vec<_>) =
        splits(&options).into_iter().partition(|(split, _)| is_held_out(split));
    assert!(decontamination::leaks(&held_out, &training).is_empty());
}

#[test]
fn every_step_does_something() {
    for name in TEST_SETS {
        for row in Instructions::new(8).test(name, 500) {
            let task = asked(&row);
            for at in 0..task.steps.len() {
                let before = Task { steps: task.steps[..at].to_vec(), ..task.clone() };
                let after = Task { steps: task.steps[..=at].to_vec(), ..task.clone() };
                let filter = matches!(task.steps[at].kind(), Kind::Keep | Kind::Drop);
                assert_eq!(filter, after.kept().len() < before.kept().len(), "{}", row.prompt);
                assert!(!after.kept().is_empty(), "{}", row.prompt);
            }
        }
    }
}

#[test]
fn a_row_is_a_function_of_seed_split_and_number() {
    let world = Instructions::new(11);
    assert_eq!(world.sft(20), world.sft(50)[..20]);
    assert_eq!(world.test("ood_hard", 20), world.test("ood_hard", 50)[..20]);
    assert_ne!(world.sft(1)[0].prompt, world.compare(1)[0].prompt);
    assert_ne!(world.sft(1)[0].prompt, Instructions::new(12).sft(1)[0].prompt);
}

/// An answer states its elements: in its order where the task asks for one.
#[test]
fn a_statement_is_a_set_or_a_sequence_of_elements() {
    let of = |instruction: &str, text: &str| stated(&task(instruction), text).join(" ");
    let (free, sorted) = ("list them", "name them , sort by label");
    let (one, other) = ("they are laptop , boss , laptop .", "boss and laptop . hope this helps .");
    assert_eq!((of(free, one), of(free, other)), ("boss laptop".into(), "boss laptop".into()));
    assert_eq!((of(sorted, one), of(sorted, other)), ("laptop boss".into(), "boss laptop".into()));
    // A number is the same as a figure and as a word; capitals are other elements.
    assert_eq!(
        (of("name them , count them", "four ."), of(free, "LAPTOP 4")),
        ("4".into(), "4 LAPTOP".into())
    );
    assert_eq!(of(free, "it depends ."), "");
}
