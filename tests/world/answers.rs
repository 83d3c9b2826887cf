//! The right answers of examples: every text of small contents, and draws of all, are read back by
//! the gold reader; counts are those of a formula worked out apart.

use std::collections::{BTreeMap, BTreeSet};

use posttrain::data::rows::Example;
use posttrain::random::Stream;
use posttrain::world::answers::{Content, RightAnswers};
use posttrain::world::instructions::{self, Instructions};
use posttrain::world::posts::{self, World};
use posttrain::world::{gold, statement};

/// Texts of a content that are written out at most.
const EXHAUSTIVE: u64 = 6_000;

/// Examples of all test sets of both worlds.
fn examples(n: usize) -> Vec<Example> {
    let (world, tasks) = (World::new(3), Instructions::new(3));
    let posts = posts::TEST_SETS.iter().flat_map(|set| world.test(set, n));
    posts.chain(instructions::TEST_SETS.iter().flat_map(|set| tasks.test(set, n))).collect()
}

/// Checks that a text is right, has this class, states this, and has this many words.
fn check(example: &Example, answers: &RightAnswers, class: usize, text: &str) {
    let content = &answers.contents()[class];
    assert_eq!(answers.class_of(text, true), Some(class), "{text} for {}", example.prompt);
    assert_eq!(statement(example, text).unwrap(), content.statement(), "{text}");
    let words = text.split_whitespace().count();
    assert!(content.texts_by_words().contains_key(&words), "{text}");
    let parts: BTreeMap<String, f64> =
        gold(example, text, true).unwrap().parts.into_iter().collect();
    for name in ["invented", "repeated", "malformed"] {
        assert_eq!(parts[name], 0.0, "{name}: {text}");
    }
}

#[test]
fn every_right_answer_is_read_back_as_what_it_was_made_from() {
    let stream = Stream::new(1, "right answers");
    let mut exhausted = 0;
    for (row, example) in examples(3).iter().enumerate() {
        let answers = RightAnswers::of(example).unwrap();
        let mut random = stream.sequence(row as u64);
        for (class, content) in answers.contents().iter().enumerate() {
            if content.texts() <= EXHAUSTIVE {
                let texts: BTreeSet<String> =
                    (0..content.texts()).map(|at| content.text(at)).collect();
                assert_eq!(texts.len() as u64, content.texts(), "{}", content.statement());
                texts.iter().for_each(|text| check(example, &answers, class, text));
                exhausted += 1;
            } else {
                (0..100).for_each(|_| check(example, &answers, class, &content.draw(&mut random)));
            }
            assert_eq!(content.texts_by_words().values().sum::<u64>(), content.texts());
        }
        let statements: BTreeSet<&str> =
            answers.contents().iter().map(Content::statement).collect();
        assert_eq!(statements.len(), answers.contents().len());
    }
    assert!(exhausted > 100, "{exhausted}");
}

/// Every text that a writer writes and that is right is one of the enumerated texts.
#[test]
fn right_answers_of_the_writers_are_among_them() {
    let stream = Stream::new(2, "writers");
    let (mut right, mut complete) = (0, 0);
    for (row, example) in examples(6).iter().enumerate() {
        let answers = RightAnswers::of(example).unwrap();
        let mut random = stream.sequence(row as u64);
        for _ in 0..20 {
            let text = written(example, &mut random);
            let Some(class) = answers.class_of(&text, true) else { continue };
            right += 1;
            let content = &answers.contents()[class];
            if content.texts() <= EXHAUSTIVE {
                complete += 1;
                let found = (0..content.texts()).any(|at| content.text(at) == text);
                assert!(found, "{text} is not among the texts of {}", content.statement());
            }
        }
    }
    assert!(right > 300 && complete > 100, "{right} {complete}");
}

/// What a nearly faultless writer writes.
fn written(example: &Example, random: &mut posttrain::random::Sequence) -> String {
    use posttrain::world::Facts;
    match Facts::read(example.facts.as_ref().unwrap()).unwrap() {
        Facts::Post(facts) => posts::tldr::write(&facts, posts::Writer::Good, random),
        Facts::Instruction(task) => instructions::write(&task, instructions::Writer::Exact, random),
    }
}

/// Of a post: with one part, w wordings and 6 phrases before or behind it, where a part that is no
/// question has one of 3 separators before a phrase. Of when (5 wordings, no question): 5 alone,
/// 5 x 6 x 3 in either order.
#[test]
fn counts_of_a_post_are_those_of_the_formula() {
    let example = &World::new(3).test("id", 1)[0];
    let answers = RightAnswers::of(example).unwrap();
    assert_eq!(answers.contents().len(), 31);
    let find = |names: &[&str]| {
        let of = |content: &&Content| {
            let named: Vec<&str> = content
                .statement()
                .split("; ")
                .map(|stated| stated.split(": ").next().unwrap())
                .collect();
            named == names
        };
        answers.contents().iter().find(of).unwrap()
    };
    assert_eq!(find(&["when"]).texts(), 5 + 2 * 90);
    // 4 of 6 wordings of the question take no separator; a phrase before has one always.
    assert_eq!(find(&["ask"]).texts(), 6 + 6 * 6 * 3 + (4 + 2 * 3) * 6);
    // Two parts without a question: 2 orders, 6 x 5 wordings, 3 separators; with a phrase 3 more
    // separators and 6 phrases, on two sides.
    assert_eq!(find(&["done", "when"]).texts(), 2 * 30 * 3 * (1 + 2 * 6 * 3));
    assert_eq!(find(&["done", "when"]).orders(), 2);
    // When and ask: the question last (4 questions and 2 others), or first (no separator after the
    // 4), alone; a phrase before: 18 times as many; behind: 6 times, and 3 after a last part that
    // is no question.
    let [last, first] = [5 * 3 * 6, 5 * (4 + 2 * 3)];
    let behind = 6 * (5 * 3 * (4 + 2 * 3) + 5 * (4 + 2 * 3) * 3);
    assert_eq!(find(&["when", "ask"]).texts(), (last + first) * (1 + 18) + behind);
    let all = find(&["who", "verb", "obj", "done", "when", "ask"]);
    assert_eq!((all.facts(), all.orders()), (6, 24));
    assert!(all.texts() > 1_000_000);
}

/// Of an instruction: orders x 3^(k - 1) separators x 6 leads or none x 4 closings or none, and two
/// spellings of a count.
#[test]
fn counts_of_an_instruction_are_those_of_the_formula() {
    let mut seen = BTreeSet::new();
    for example in Instructions::new(3).test("id", 60) {
        let task = instructions::read(&example.prompt).unwrap();
        let answer = task.answer();
        let answers = RightAnswers::of(&example).unwrap();
        assert_eq!(answers.contents().len(), (1 << answer.elements.len()) - 1);
        let counted = task.steps.contains(&instructions::task::Step::Counted);
        for content in answers.contents() {
            let k = content.facts() as u64;
            let orders: u64 = if answer.ordered { 1 } else { (1..=k).product() };
            assert_eq!(content.orders(), orders);
            let spellings = if counted { 2 } else { 1 };
            assert_eq!(content.texts(), orders * 3u64.pow(k as u32 - 1) * 24 * spellings);
        }
        seen.insert((answer.elements.len(), answer.ordered, counted));
    }
    assert!(seen.len() >= 8, "{seen:?}");
}

/// Wrong by one invented value, or by one thing said again, and right otherwise.
#[test]
fn wrong_answers_are_wrong_in_the_way_that_was_asked_for() {
    let stream = Stream::new(4, "wrong answers");
    for (row, example) in examples(4).iter().enumerate() {
        let answers = RightAnswers::of(example).unwrap();
        let mut random = stream.sequence(row as u64);
        for class in 0..answers.contents().len() {
            let right = answers.contents()[class].statement().to_string();
            for (invented, content) in [
                (true, answers.invented(class, &mut random)),
                (false, answers.repeated(class, &mut random)),
            ] {
                assert_eq!(content.statement() != right, invented);
                for _ in 0..5 {
                    let text = content.draw(&mut random);
                    assert_eq!(answers.class_of(&text, true), None, "{text}");
                    assert_eq!(statement(example, &text).unwrap(), content.statement(), "{text}");
                    let parts: BTreeMap<String, f64> =
                        gold(example, &text, true).unwrap().parts.into_iter().collect();
                    assert_eq!(parts["invented"], f64::from(invented), "{text}");
                    assert_eq!(parts["repeated"] > 0.0, !invented, "{text}");
                }
            }
        }
    }
}

#[test]
fn an_answer_that_is_cut_off_or_of_another_world_has_no_class() {
    let example = &World::new(3).test("id", 1)[0];
    let answers = RightAnswers::of(example).unwrap();
    let text = answers.contents()[0].text(0);
    assert_eq!((answers.class_of(&text, true), answers.class_of(&text, false)), (Some(0), None));
    assert_eq!(answers.class_of(" please help .", true), None);
    assert_eq!(answers.class_of("", true), None);
    let plain = Example { facts: None, ..example.clone() };
    assert!(RightAnswers::of(&plain).is_none());
}
