//! The right answers of an example, all of them: which contents there are, and every order and
//! wording of each, counted exactly and drawn uniformly; and answers that are wrong in the ways of
//! the world's writers. What a set of answers says, and how much of all that can be said, is
//! therefore known by construction.
//!
//! 1. An answer is right if all that it states is right: no value is invented, none is named twice,
//!    its elements have the order and the letters that are asked for, and its grammar is that of
//!    the writers. It need not be complete, and its length is free (the gold score has a price for
//!    both).
//! 2. A content, or content class, is what an answer states, whatever the order and the wording: of
//!    a post a set of slots that the parts of a summary can state (the problem by who, by what was
//!    done to which thing, by both, or not at all; with any of the three others; 31), of an
//!    instruction a set of the elements that are asked for (2^n - 1 of n).
//! 3. The wordings are those of the world's writers: of a post one part for the problem and each
//!    other fact, in any order, each in any wording, any separator between two, and words that say
//!    nothing before or behind it, or none; of an instruction a lead or none, the elements in the
//!    order asked for or else in any, a count as a figure or a word, any separator between two, a
//!    closing or none.
//! 4. The gold reader has other texts that it accepts, of which no writer writes the like;
//!    [`RightAnswers::class_of`] gives them the class of what they state, where there is one.

mod content;
mod replies;
mod summaries;

use std::collections::HashMap;

pub use content::Content;

use crate::data::rows::Example;
use crate::random::Sequence;
use crate::{Facts, instructions, posts, statement};

/// What an example is about, and the parts of each content.
#[derive(Clone, Debug)]
enum About {
    Post(posts::Facts),
    Instruction(instructions::Task),
}

/// The right answers of an example.
#[derive(Clone, Debug)]
pub struct RightAnswers {
    example: Example,
    about: About,
    contents: Vec<Content>,
    /// Numbers of contents, by statement. Only looked up, never walked.
    classes: HashMap<String, usize>,
}

impl RightAnswers {
    /// Those of an example of a built-in world; `None` of another.
    pub fn of(example: &Example) -> Option<Self> {
        let (about, contents): (About, Vec<Content>) = match Facts::read(example.facts.as_ref()?)? {
            Facts::Post(facts) => {
                let parts = summaries::parts();
                let content =
                    parts.iter().map(|parts| summaries::content(parts, facts.values())).collect();
                (About::Post(facts), content)
            }
            Facts::Instruction(_) => {
                let task = instructions::read(&example.prompt)?;
                let answer = task.answer();
                let parts = replies::parts(&answer);
                let content =
                    parts.iter().map(|parts| replies::content(parts, answer.ordered)).collect();
                (About::Instruction(task), content)
            }
        };
        let statements = contents.iter().map(|content| content.statement().to_string());
        let classes = statements.enumerate().map(|(at, statement)| (statement, at)).collect();
        Some(RightAnswers { example: example.clone(), about, contents, classes })
    }

    /// The contents, in a fixed order; a content class is called by its number here.
    pub fn contents(&self) -> &[Content] {
        &self.contents
    }

    /// The content class of a right answer; `None` of one that is not right (see the head of the
    /// module), or that did not end by itself.
    pub fn class_of(&self, text: &str, ended: bool) -> Option<usize> {
        let is_right = match &self.about {
            About::Post(facts) => {
                let gold = posts::gold(facts, text, ended);
                (gold.wrong, gold.repeated, gold.malformed) == (0, 0, 0)
            }
            About::Instruction(task) => {
                let gold = instructions::gold(task, text, ended);
                (gold.invented, gold.repeated, gold.malformed) == (0, 0, 0)
                    && (gold.order, gold.form) == (1.0, 1.0)
            }
        };
        if !is_right {
            return None;
        }
        self.classes.get(&statement(&self.example, text)?).copied()
    }

    /// A content that is wrong by one value that is no fact of the example: that of a class, with
    /// one value replaced as a mistaken writer does.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn invented(&self, class: usize, random: &mut Sequence) -> Content {
        match &self.about {
            About::Post(facts) => summaries::invented(&summaries::parts()[class], facts, random),
            About::Instruction(task) => {
                let answer = task.answer();
                let parts = &replies::parts(&answer)[class];
                replies::invented(parts, &answer, task, random)
            }
        }
    }

    /// A content that is wrong by repetition: that of a class, with one part of a summary or one
    /// element said again. Its statement is that of the class.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn repeated(&self, class: usize, random: &mut Sequence) -> Content {
        match &self.about {
            About::Post(facts) => summaries::repeated(&summaries::parts()[class], facts, random),
            About::Instruction(task) => {
                let answer = task.answer();
                replies::repeated(&replies::parts(&answer)[class], answer.ordered, random)
            }
        }
    }
}
