//! The built-in worlds and their tokens, from outside: scores worked out by hand, the figures of
//! writers and posts, splits without leaks.

#![expect(clippy::unwrap_used)]

mod answers;
mod gold;
mod instructions;
mod posts;
mod preferences;
mod tokens;
mod writers;

use posttrain::data::rows::Example;
use posttrain::world::Facts as AnyFacts;
use posttrain::world::posts::{Facts, World};

/// The post that hand-made summaries are about.
fn facts() -> Facts {
    let [forum, who, verb, obj, done, when, ask] =
        ["work", "boss", "lost", "laptop", "told hr", "friday", "quit"].map(str::to_string);
    Facts { forum, who, verb, obj, done, when, ask, distractors: Default::default() }
}

/// Posts in distribution.
fn posts(n: usize) -> Vec<Example> {
    World::new(7).sft(n)
}

/// What a post says.
fn said(post: &Example) -> Facts {
    match post.facts.as_ref().and_then(AnyFacts::read) {
        Some(AnyFacts::Post(facts)) => facts,
        other => panic!("no post: {other:?}"),
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}
