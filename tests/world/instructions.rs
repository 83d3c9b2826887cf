//! Instructions from outside: what they ask for by hand and by an oracle, how answers are graded, splits without leaks.

use std::collections::BTreeSet;

use posttrain::data::dataset::{self, is_held_out};
use posttrain::data::hygiene;
use posttrain::data::rows::Example;
use posttrain::data::world::instructions::gold::Gold;
use posttrain::data::world::instructions::prompt::bucket;
use posttrain::data::world::instructions::task::{Column, Kind, Step};
use posttrain::data::world::instructions::words::{JUNK, SEQUENTIAL, TRAINED};
use posttrain::data::world::instructions::{CANDIDATE_WRITERS, Instructions, TEST_SETS, Task, Writer, gold, read, splits, write};
use posttrain::data::world::{self, Bucket, Candidate, Facts, Noise, Options, noisy_preferences};
use posttrain::random::Stream;

use super::mean;

const RECORD: &str = "boss laptop friday 3 ; uncle key monday 7 ; client sofa friday 9 ; tutor ring friday 1";

fn task(instruction: &str) -> Task {
    let prompt = format!("{instruction} . input : {RECORD} . answer :");
    read(&prompt).unwrap_or_else(|| panic!("cannot read: {prompt}"))
}

fn asked(row: &Example) -> &Task {
    match row.facts.as_ref() {
        Some(Facts::Instruction(task)) => task,
        other => panic!("no instruction: {other:?}"),
    }
}

fn every_split() -> Vec<(String, Vec<Example>)> {
    let options = Options { seed: 3, notes: 1_500, pretrain: 3_000, sft: 1_500, compare: 800, prompts: 1_500, validation: 300, test: 400 };
    splits(&options)
}

#[test]
fn instructions_mean_what_they_say() {
    for (instruction, ordered, expected) in [
        ("list the people", false, "boss uncle client tutor"),
        ("name the things , count them", false, "4"),
        ("list the people and keep those of friday", false, "boss client tutor"),
        ("list the things , take only numbers over 3", false, "key sofa"),
        ("name the people , sort them from low to high", true, "tutor boss uncle client"),
        ("name the things and put the highest first", true, "sofa key laptop ring"),
        ("list the people , turn the order around", true, "tutor client uncle boss"),
        ("list the people and replace uncle by guide", false, "boss guide client tutor"),
        ("list the things and use capitals", false, "LAPTOP KEY SOFA RING"),
        ("list the people , take only friday , then put the lowest first", true, "tutor boss client"),
        ("could you kindly show me each item and please skip numbers up to 2 and after that tell me only the total", false, "3"),
        ("hello , please give me everyone but call tutor dean", false, "boss uncle client dean"),
        (
            "i would like you to give me everything but leave out all days but friday and also let the numbers fall",
            true,
            "sofa laptop ring",
        ),
        (
            "first list the people , then keep those of friday , next reverse them , then write dean for boss and finally use capitals",
            true,
            "TUTOR CLIENT DEAN",
        ),
    ] {
        let answer = task(instruction).answer();
        assert_eq!((answer.elements.join(" ").as_str(), answer.ordered), (expected, ordered), "{instruction}");
    }
}

#[test]
fn what_is_no_instruction_is_not_read() {
    for text in [
        "list the people",
        "",
        "list the people . input : boss laptop friday 3 . answer",
        "list the dogs . input : boss laptop friday 3 . answer :",
        "list the people . input : boss laptop friday . answer :",
        "list the people , keep those . input : boss laptop friday 3 . answer :",
        "list the people finally use capitals . input : boss laptop friday 3 . answer :",
        "first list the people , then shout . input : boss laptop friday 3 . answer :",
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
                assert_eq!(task, *asked(row), "{split}: {}", row.prompt);
                read_back += 1;
            }
            assert_eq!(row.prompt, row.prompt.to_lowercase());
            assert!(!row.prompt.contains("  "));
        }
    }
    assert_eq!(read_back, 1_500 + 800 + 1_500 + 300 + 3 * 400);
}

/// Another way to the answer: the places of entries, picked and put in order by plain comparisons of pairs.
fn by_hand(task: &Task) -> Vec<String> {
    let mut places: Vec<usize> = (0..task.entries.len()).collect();
    let mut shown: Vec<String> =
        task.entries.iter().map(|entry| if task.column == Column::People { entry.person.clone() } else { entry.thing.clone() }).collect();
    for step in &task.steps {
        let number = |place: &usize| task.entries[*place].number;
        match step {
            Step::Day(day) => places = places.into_iter().filter(|place| &task.entries[*place].day == day).collect(),
            Step::Above(least) => places = (0..places.len()).map(|at| places[at]).filter(|place| number(place) >= least + 1).collect(),
            Step::Ascending | Step::Descending => {
                let before = |a: u8, b: u8| if *step == Step::Ascending { a < b } else { a > b };
                let rank = |place: &usize| places.iter().filter(|other| before(number(other), number(place))).count();
                let mut sorted = places.clone();
                places.iter().for_each(|place| sorted[rank(place)] = *place);
                places = sorted;
            }
            Step::Reversed => places = (0..places.len()).map(|at| places[places.len() - 1 - at]).collect(),
            Step::Replaced { from, to } => shown = shown.iter().map(|name| if name == from { to.clone() } else { name.clone() }).collect(),
            Step::Capitals => shown = shown.iter().map(|name| name.to_ascii_uppercase()).collect(),
            Step::Counted => return vec![places.len().to_string()],
        }
    }
    places.into_iter().map(|place| shown[place].clone()).collect()
}

#[test]
fn answers_are_what_another_way_of_working_them_out_gives() {
    for name in TEST_SETS {
        for row in Instructions::new(5).test(name, 1_000) {
            assert_eq!(asked(&row).answer().elements, by_hand(asked(&row)), "{}", row.prompt);
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

const FRIDAY: &str = "list the people , keep those of friday";
const SORTED: &str = "list the people , keep those of friday and sort them from low to high";

#[test]
fn every_wording_of_a_right_answer_scores_one() {
    for text in [
        " boss , client and tutor .",
        " tutor ; client ; boss .",
        " sure : client and boss and tutor . hope this helps .",
        " here you go : boss , tutor , client . anything else ?",
    ] {
        scored(FRIDAY, text, true, 1.0);
    }
    for text in [" 3 .", " three .", " the result is 3 . that is all ."] {
        scored("list the people , keep those of friday and count them", text, true, 1.0);
    }
    let text = " tutor , boss and client .";
    assert_eq!(scored(SORTED, text, true, 1.0).parts().iter().find(|(name, _)| name == "exact").unwrap().1, 1.0);
}

#[test]
fn elements_order_and_form_earn_their_shares() {
    // Two of three.
    scored(FRIDAY, "boss and tutor .", true, 2.0 * 2.0 / 3.0 - 1.0);
    // All, of which two are in order: tutor before client, boss after both.
    let gold = scored(SORTED, "tutor , client , boss .", true, 2.0 * (0.75 + 0.25 * 2.0 / 3.0) - 1.0);
    assert_eq!((gold.elements, gold.form), (1.0, 1.0));
    // One of three in capitals.
    let gold =
        scored("list the people , keep those of friday and use capitals", "BOSS , client , tutor .", true, 2.0 * (0.75 + 0.25 / 3.0) - 1.0);
    assert_eq!((gold.elements, gold.order), (1.0, 1.0));
    // Capitals where none were asked for.
    scored(FRIDAY, "BOSS , client , tutor .", true, 2.0 * (0.75 + 0.25 * 2.0 / 3.0) - 1.0);
}

#[test]
fn what_is_invented_repeated_or_too_long_costs() {
    // Uncle is of monday; a number was not asked for.
    let gold = scored(FRIDAY, "boss , uncle , client , tutor , 3 .", true, 1.0 - 0.6);
    assert_eq!((gold.invented, gold.repeated), (2, 0));
    // The same one twice, and once more in capitals; uncle twice counts as one more and one again.
    assert_eq!(scored(FRIDAY, "boss , boss , BOSS , client , tutor .", true, 1.0 - 0.5).repeated, 2);
    assert_eq!(scored(FRIDAY, "uncle , uncle , boss , client , tutor .", true, 1.0 - 0.3 - 0.25).invented, 1);
    // The name that was replaced.
    scored("list the people , replace uncle by guide", "boss , uncle , client , tutor .", true, 2.0 * 0.75 - 1.0 - 0.3);
    // A wrong count, and names in place of a count.
    scored("list the people , count them", "3 .", true, -1.3);
    assert_eq!(scored("list the people , count them", "boss , uncle .", true, -1.6).score, -1.0);
    // 26 words.
    let text = ["boss ,"; 12].join(" ") + " client .";
    let gold = scored(FRIDAY, &text, true, 2.0 * 2.0 / 3.0 - 1.0 - 2.0 * 0.05 - 11.0 * 0.25);
    assert_eq!((gold.over, gold.malformed), (2, 0));
}

#[test]
fn neighbours_outside_the_grammar_are_malformed() {
    // Nothing: the start meets the end.
    assert_eq!(scored(FRIDAY, "", true, -1.1).malformed, 1);
    // No separator, and no full stop.
    assert_eq!(scored(FRIDAY, "boss client , tutor", true, 1.0 - 0.2).malformed, 2);
    // An unknown word has no neighbours; two separators; a lead in the middle.
    assert_eq!(scored(FRIDAY, "banana boss , client , tutor .", true, 1.0 - 0.2).malformed, 2);
    assert_eq!(scored(FRIDAY, "boss , and client , tutor .", true, 1.0 - 0.1).malformed, 1);
    assert_eq!(scored(FRIDAY, "boss , sure : client , tutor .", true, 1.0 - 0.1).malformed, 1);
    // Letters of both cases are no name.
    assert_eq!(scored(FRIDAY, "Boss , client , tutor .", true, 2.0 * 2.0 / 3.0 - 1.0 - 0.2).malformed, 2);
    // A text that was cut off.
    assert_eq!(scored(FRIDAY, "boss , client , tutor .", false, 1.0 - 0.3).malformed, 3);
}

/// Means over 4,000 instructions: the writers differ as they are meant to.
#[test]
fn writers_are_as_good_as_they_are_meant_to_be() {
    let rows = Instructions::new(7).test("id", 4_000);
    let means = [Writer::Exact, Writer::Good, Writer::Reference, Writer::Web, Writer::Mid, Writer::Bad].map(|writer| {
        let stream = Stream::new(1, "writers");
        let scores = rows.iter().enumerate().map(|(at, row)| {
            let text = write(asked(row), writer, &mut stream.sequence(at as u64));
            assert!(text.starts_with(' ') && !text.contains("  "));
            gold(asked(row), &text, true).score
        });
        let mean = mean(scores);
        println!("{writer:?}: {mean:.3}");
        mean
    });
    assert_eq!(means[0], 1.0);
    assert!(means.windows(2).all(|pair| pair[0] > pair[1] + 0.05), "{means:?}");
    assert!(means[1] > 0.85 && means[5] < -0.3, "{means:?}");
    assert_eq!(CANDIDATE_WRITERS.len(), 4);
}

#[test]
fn an_answer_that_is_none_scores_least() {
    for junk in JUNK {
        assert_eq!(gold(&task(FRIDAY), junk, true).score, -1.0);
    }
}

#[test]
fn the_gold_score_of_a_row_is_read_off_its_prompt() {
    let row = &Instructions::new(1).sft(1)[0];
    let text = write(asked(row), Writer::Exact, &mut Stream::new(1, "text").sequence(0));
    assert_eq!(world::gold(row, &text, true).unwrap().score, 1.0);
    let other = Example { prompt: format!("list the people . input : {RECORD} . answer :"), ..row.clone() };
    assert_eq!(world::gold(&other, " boss , uncle , client , tutor .", true).unwrap().score, 1.0);
    assert_eq!(world::gold(&Example { facts: None, ..row.clone() }, &text, true), None);
}

#[test]
fn labels_agree_with_gold_as_often_as_the_noise_says() {
    let rows = Instructions::new(9).compare(1_500);
    let (candidates, labels) = (Stream::new(1, "candidates"), Stream::new(1, "labels"));
    let mut pairs = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let candidates: Vec<Candidate> = world::writers_candidates(row.facts.as_ref().unwrap(), 4, &mut candidates.sequence(at as u64));
        pairs.extend(noisy_preferences(row, &candidates, Noise::default(), &labels, at as u64));
    }
    let agreement = mean(pairs.iter().map(|pair| f64::from(pair.clean.unwrap())));
    let expected = mean(pairs.iter().map(|pair| 1.0 / (1.0 + (-4.0 * pair.margin.unwrap().abs()).exp())));
    println!("{agreement:.3} of {} labels agree", pairs.len());
    assert!((agreement - expected).abs() < 0.015 && agreement < 0.98, "{agreement} {expected}");
}

#[test]
fn no_composition_of_the_hard_test_set_occurs_anywhere_else() {
    let hard: BTreeSet<Vec<Kind>> = SEQUENTIAL.iter().map(|kinds| kinds.to_vec()).collect();
    let mut met = BTreeSet::new();
    for (split, rows) in every_split() {
        for row in &rows {
            let text = if row.prompt.is_empty() { row.completion.trim_start() } else { &row.prompt };
            let composition = read(text).unwrap_or_else(|| panic!("{split}: {text}")).composition();
            assert_eq!(hard.contains(&composition), split == "test/ood_hard", "{split}: {text}");
            met.insert(composition);
        }
    }
    // All are drawn, and every operation of the hard set is trained.
    assert_eq!(met.len(), SEQUENTIAL.len() + TRAINED.len());
    let kinds = |compositions: &[&[Kind]]| compositions.concat().into_iter().collect::<BTreeSet<Kind>>();
    assert!(kinds(TRAINED).is_superset(&kinds(SEQUENTIAL)));
}

#[test]
fn no_test_prompt_occurs_in_training() {
    let all = every_split();
    let prompts: Vec<BTreeSet<&str>> =
        all.iter().map(|(_, rows)| rows.iter().map(|row| row.prompt.as_str()).filter(|prompt| !prompt.is_empty()).collect()).collect();
    for one in 0..prompts.len() {
        for other in 0..one {
            let held_out = is_held_out(&all[one].0) || is_held_out(&all[other].0);
            assert!(!held_out || prompts[one].is_disjoint(&prompts[other]), "{} and {}", all[one].0, all[other].0);
        }
    }
    for (split, rows) in &all {
        let expected = match split.as_str() {
            dataset::VALIDATION => Bucket::Validation,
            split if is_held_out(split) => Bucket::Test,
            _ => Bucket::Train,
        };
        let tasks = rows.iter().filter_map(|row| read(if row.prompt.is_empty() { row.completion.trim_start() } else { &row.prompt }));
        assert!(tasks.map(|task| bucket(&task)).all(|found| found == expected), "{split}");
    }
    let (held_out, training): (Vec<_>, Vec<_>) = all.into_iter().partition(|(split, _)| is_held_out(split));
    assert!(hygiene::leaks(&held_out, &training).is_empty());
}

#[test]
fn every_step_does_something() {
    for name in TEST_SETS {
        for row in Instructions::new(8).test(name, 500) {
            let task = asked(&row);
            for at in 0..task.steps.len() {
                let before = Task { steps: task.steps[..at].to_vec(), ..task.clone() };
                let after = Task { steps: task.steps[..=at].to_vec(), ..task.clone() };
                let filter = matches!(task.steps[at].kind(), Kind::Day | Kind::Above);
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
