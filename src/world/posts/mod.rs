//! Forum posts with known facts, summaries of them by writers of unequal care, and an exact score.
//!
//! Posts of training, validation and test are drawn from disjoint combinations of facts (see
//! [`post::bucket`]).

pub mod gold;
pub mod post;
pub mod tldr;
pub mod words;

pub use gold::{Gold, gold};
pub use post::Facts;
pub use tldr::Writer;

use self::post::{Post, Register};
use self::words::{EDIT, FORUMS, Forum, HELD_OUT};
use super::{Bucket, Options, TestsFrom};
use crate::data::dataset;
use crate::data::rows::Example;
use crate::random::{Sequence, Stream};

/// The names of the test sets: in distribution; a forum never trained on; longer posts; news
/// reports.
pub const TEST_SETS: [&str; 4] = ["id", "ood_forum", "ood_length", "ood_register"];

/// The world of a seed.
#[derive(Clone, Copy, Debug)]
pub struct World {
    seed: u64,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64) -> Self {
        World { seed }
    }

    /// Short notes with complete summaries: the first phase of pre-training.
    pub fn notes(&self, n: usize) -> Vec<Example> {
        self.rows(dataset::NOTES, n, |random| {
            let (prompt, completion) = post::note(random.choose(FORUMS), random);
            Example { id: String::new(), prompt, completion, ..Example::default() }
        })
    }

    /// Documents as the web has them: most are posts with a summary, some of the held-out forum
    /// (60% of them with one), some are news (never with one). Those without are completions of an
    /// empty prompt.
    pub fn pretrain(&self, n: usize) -> Vec<Example> {
        self.rows(dataset::PRETRAIN, n, |random| {
            let kind = random.uniform();
            let document = |text| Example {
                id: String::new(),
                prompt: String::new(),
                completion: text,
                ..Example::default()
            };
            if kind < 0.12 {
                return document(
                    post::draw(random.choose(FORUMS), Register::News, Bucket::Train, random).text,
                );
            }
            let held_out = kind < 0.24;
            let forum = if held_out { &HELD_OUT } else { random.choose(FORUMS) };
            let post = post::draw(forum, Register::Forum, Bucket::Train, random);
            if held_out && !random.chance(0.6) {
                let edit = if random.chance(0.3) { format!(" {EDIT}") } else { String::new() };
                return document(post.text + &edit);
            }
            Example { facts: None, ..example(post, Writer::Web, random) }
        })
    }

    /// Posts with reference summaries.
    pub fn sft(&self, n: usize) -> Vec<Example> {
        self.posts(dataset::SFT, n, Register::Forum, Bucket::Train)
    }

    /// Posts whose candidate summaries are compared.
    pub fn compare(&self, n: usize) -> Vec<Example> {
        self.posts(dataset::COMPARE, n, Register::Forum, Bucket::Train)
    }

    /// Posts for reinforcement learning.
    pub fn prompts(&self, n: usize) -> Vec<Example> {
        self.posts(dataset::PROMPTS, n, Register::Forum, Bucket::Train)
    }

    /// Posts to measure on while training.
    pub fn validation(&self, n: usize) -> Vec<Example> {
        self.posts(dataset::VALIDATION, n, Register::Forum, Bucket::Validation)
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
        match name {
            "id" => self.posts(split, n, Register::Forum, bucket),
            "ood_length" => self.posts(split, n, Register::Long, bucket),
            "ood_register" => self.posts(split, n, Register::News, bucket),
            "ood_forum" => {
                self.rows(split, n, |random| reference(&HELD_OUT, Register::Forum, bucket, random))
            }
            _ => panic!("the world has no test set {name}"),
        }
    }

    fn posts(&self, split: &str, n: usize, register: Register, from: Bucket) -> Vec<Example> {
        self.rows(split, n, |random| reference(random.choose(FORUMS), register, from, random))
    }

    fn rows(&self, split: &str, n: usize, draw: impl Fn(&mut Sequence) -> Example) -> Vec<Example> {
        super::rows(&Stream::new(self.seed, &format!("world/{split}")), split, n, draw)
    }
}

fn reference(forum: &Forum, register: Register, from: Bucket, random: &mut Sequence) -> Example {
    example(post::draw(forum, register, from, random), Writer::Reference, random)
}

fn example(post: Post, writer: Writer, random: &mut Sequence) -> Example {
    let completion = tldr::write(&post.facts, writer, random);
    let prompt = post.prompt();
    Example {
        prompt,
        completion,
        facts: Some(super::Facts::Post(post.facts).column()),
        ..Example::default()
    }
}

/// All splits of the dataset of posts that these options ask for, by name.
pub fn splits(options: &Options) -> Vec<(String, Vec<Example>)> {
    let world = World::new(options.seed);
    let training = [
        (dataset::NOTES.to_string(), world.notes(options.notes)),
        (dataset::PRETRAIN.to_string(), world.pretrain(options.pretrain)),
        (dataset::SFT.to_string(), world.sft(options.sft)),
        (dataset::COMPARE.to_string(), world.compare(options.compare)),
        (dataset::PROMPTS.to_string(), world.prompts(options.prompts)),
        (dataset::VALIDATION.to_string(), world.validation(options.validation)),
    ];
    let tests = TEST_SETS.map(|name| {
        (dataset::test_split(name), world.held_out(name, options.tests_from, options.test))
    });
    let kinds = (options.every_kind > 0)
        .then(|| (dataset::EVERY_KIND.to_string(), world.every_kind(options.every_kind)));
    training.into_iter().chain(kinds).chain(tests).collect()
}
