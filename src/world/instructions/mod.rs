//! Instructions about a small record, in one or several steps; answers by writers of unequal care;
//! a checker that reads the prompt.
//!
//! 1. In distribution: single operations (list, filter, sort, replace, capitals, count) and some
//!    compositions of two.
//! 2. `ood_easy`: the same compositions in words that fine-tuning never meets. Pre-training has a
//!    little of them.
//! 3. `ood_hard`: other compositions of two, and longer chains, step by step. None occurs anywhere
//!    else.

pub mod gold;
pub mod prompt;
pub mod reader;
pub mod task;
pub mod words;
pub mod writers;

pub use gold::{Gold, gold};
pub use reader::read;
pub use task::Task;
pub use writers::{CANDIDATE_WRITERS, Writer, write};

use self::prompt::Draw;
use self::words::{CHATTY, PLAIN, Phrasing, SEQUENTIAL, STEPWISE};
use super::{Bucket, Facts, Options, TestsFrom};
use crate::data::dataset;
use crate::data::rows::Example;
use crate::random::{Sequence, Stream};

/// The names of the test sets: in distribution; other words; other compositions and longer chains.
pub const TEST_SETS: [&str; 3] = ["id", "ood_easy", "ood_hard"];

/// The instructions of a seed.
#[derive(Clone, Copy, Debug)]
pub struct Instructions {
    seed: u64,
}

impl Instructions {
    /// The instructions of `seed`.
    pub fn new(seed: u64) -> Self {
        Instructions { seed }
    }

    /// Short records, each with several instructions and their exact answers: the first phase of
    /// pre-training.
    pub fn notes(&self, n: usize) -> Vec<Example> {
        self.rows(dataset::NOTES, n, |random| {
            document(
                &Draw { fields: &[2, 3, 4], ..Draw::default() },
                &PLAIN,
                Writer::Exact,
                4,
                random,
            )
        })
    }

    /// Documents as the web has them: records, each with some instructions and answers. Some are in
    /// the words of others, some ask step by step; of these two 40% are records with instructions
    /// without an answer, completions of an empty prompt.
    pub fn pretrain(&self, n: usize) -> Vec<Example> {
        self.rows(dataset::PRETRAIN, n, |random| {
            let kind = random.uniform();
            let phrasing = match kind {
                _ if kind < 0.12 => &CHATTY,
                _ if kind < 0.24 => &STEPWISE,
                _ => &PLAIN,
            };
            if kind < 0.24 && !random.chance(0.6) {
                let unanswered =
                    prompt::word(&prompt::draw(&Draw::default(), random), phrasing, random);
                return Example {
                    id: String::new(),
                    prompt: String::new(),
                    completion: unanswered,
                    ..Example::default()
                };
            }
            document(&Draw::default(), phrasing, Writer::Web, 2, random)
        })
    }

    /// Instructions with reference answers.
    pub fn sft(&self, n: usize) -> Vec<Example> {
        self.plain(dataset::SFT, n, Bucket::Train)
    }

    /// Instructions whose candidate answers are compared.
    pub fn compare(&self, n: usize) -> Vec<Example> {
        self.plain(dataset::COMPARE, n, Bucket::Train)
    }

    /// In distribution: the split called `name`, from `bucket`.
    fn plain(&self, name: &str, n: usize, bucket: Bucket) -> Vec<Example> {
        self.rows(name, n, |random| {
            example(&Draw { bucket, ..Draw::default() }, &PLAIN, Writer::Reference, random)
        })
    }

    /// The test set called `name`, one of [`TEST_SETS`].
    ///
    /// # Panics
    /// If there is no such test set.
    pub fn test(&self, name: &str, n: usize) -> Vec<Example> {
        self.held_out(name, TestsFrom::Test, n)
    }

    /// The test set called `name`, or a set of the same kind from the contents of validation.
    ///
    /// # Panics
    /// If there is no such test set.
    pub fn held_out(&self, name: &str, from: TestsFrom, n: usize) -> Vec<Example> {
        let (bucket, split) = from.draws(name);
        self.of_kind(name, &split, bucket, n)
    }

    /// `n` rows for training of each kind of test set, by turns.
    pub fn every_kind(&self, n: usize) -> Vec<Example> {
        let of_kind = |name: &str| {
            let split = format!("{}/{name}", dataset::EVERY_KIND);
            self.of_kind(name, &split, Bucket::Train, n)
        };
        super::by_turns(TEST_SETS.iter().map(|name| of_kind(name)).collect())
    }

    /// Rows of the kind of the test set called `name`, drawn for `split`.
    fn of_kind(&self, name: &str, split: &str, bucket: Bucket, n: usize) -> Vec<Example> {
        let easy = Draw { bucket, ..Draw::default() };
        let hard = Draw { compositions: SEQUENTIAL, bucket, ..Draw::default() };
        match name {
            "id" => self.plain(split, n, bucket),
            "ood_easy" => {
                self.rows(split, n, |random| example(&easy, &CHATTY, Writer::Reference, random))
            }
            "ood_hard" => {
                self.rows(split, n, |random| example(&hard, &STEPWISE, Writer::Reference, random))
            }
            _ => panic!("the instructions have no test set {name}"),
        }
    }

    fn rows(&self, split: &str, n: usize, draw: impl Fn(&mut Sequence) -> Example) -> Vec<Example> {
        super::rows(&Stream::new(self.seed, &format!("instructions/{split}")), split, n, draw)
    }
}

fn example(from: &Draw<'_>, phrasing: &Phrasing, writer: Writer, random: &mut Sequence) -> Example {
    let task = prompt::draw(from, random);
    let prompt = prompt::word(&task, phrasing, random);
    let completion = write(&task, writer, random);
    Example {
        id: String::new(),
        prompt,
        completion,
        facts: Some(Facts::Instruction(task).column()),
        ..Example::default()
    }
}

/// A record with `count` instructions, one after the other, and their answers.
fn document(
    from: &Draw<'_>,
    phrasing: &Phrasing,
    writer: Writer,
    count: usize,
    random: &mut Sequence,
) -> Example {
    let task = prompt::draw(from, random);
    let prompt = prompt::word(&task, phrasing, random);
    let mut completion = write(&task, writer, random);
    for _ in 1..count {
        let task = prompt::draw_again(from, &task.fields, random);
        completion = format!(
            "{completion} {}{}",
            prompt::instruct(&task, phrasing, random),
            write(&task, writer, random)
        );
    }
    Example { id: String::new(), prompt, completion, ..Example::default() }
}

/// All splits of the dataset of instructions that these options ask for, by name.
pub fn splits(options: &Options) -> Vec<(String, Vec<Example>)> {
    let world = Instructions::new(options.seed);
    let plain =
        |name: &str, n: usize, bucket: Bucket| (name.to_string(), world.plain(name, n, bucket));
    let training = [
        (dataset::NOTES.to_string(), world.notes(options.notes)),
        (dataset::PRETRAIN.to_string(), world.pretrain(options.pretrain)),
        (dataset::SFT.to_string(), world.sft(options.sft)),
        (dataset::COMPARE.to_string(), world.compare(options.compare)),
        plain(dataset::PROMPTS, options.prompts, Bucket::Train),
        plain(dataset::VALIDATION, options.validation, Bucket::Validation),
    ];
    let tests = TEST_SETS.map(|name| {
        (dataset::test_split(name), world.held_out(name, options.tests_from, options.test))
    });
    let kinds = (options.every_kind > 0)
        .then(|| (dataset::EVERY_KIND.to_string(), world.every_kind(options.every_kind)));
    training.into_iter().chain(kinds).chain(tests).collect()
}
