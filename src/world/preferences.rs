//! Noisy pairwise preferences drawn from the gold score. Uses candidate texts, not who wrote them.

use serde::{Deserialize, Serialize};

use super::{Facts, gold, instructions, posts};
use crate::data::rows::{Example, Preference};
use crate::random::{Sequence, Stream};

/// An answer to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The completion, leading space included.
    pub text: String,
    /// Whether it ended by itself.
    pub ended: bool,
}

/// How labels are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// Bradley-Terry: a is preferred to b with probability sigmoid(beta (gold a - gold b + per_word
    /// (words a - words b))).
    pub beta: f64,
    /// Smallest difference of gold scores; closer pairs are left out.
    pub min_gap: f64,
    /// A bias of the labeller for long texts: gold that each word of a text is worth. Above 0, a
    /// longer text is preferred more often than its gold score says; below 0, less often.
    #[serde(skip_serializing_if = "is_zero")]
    pub per_word: f64,
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

impl Default for Noise {
    fn default() -> Self {
        Noise { beta: 4.0, min_gap: 0.2, per_word: 0.0 }
    }
}

/// `n` candidates, each by a writer drawn at random.
pub fn writers_candidates(facts: &Facts, n: usize, random: &mut Sequence) -> Vec<Candidate> {
    let write = |random: &mut Sequence| match facts {
        Facts::Post(facts) => {
            posts::tldr::write(facts, *random.choose(&posts::tldr::CANDIDATE_WRITERS), random)
        }
        Facts::Instruction(task) => {
            instructions::write(task, *random.choose(&instructions::CANDIDATE_WRITERS), random)
        }
    };
    (0..n).map(|_| Candidate { text: write(random), ended: true }).collect()
}

/// Labels for all pairs of different candidates that are far enough apart in gold. The label of
/// candidates i and j of row `row` is a pure function of (stream, row, i, j). The pairs of a row
/// follow one another; the id is `ROW/I-J`.
///
/// # Panics
/// If the example is of no built-in world.
pub fn noisy_preferences(
    example: &Example,
    candidates: &[Candidate],
    noise: Noise,
    stream: &Stream,
    row: u64,
) -> Vec<Preference> {
    let score = |candidate: &Candidate| {
        gold(example, &candidate.text, candidate.ended).map(|grade| grade.score)
    };
    let scores: Option<Vec<f64>> = candidates.iter().map(score).collect();
    let scores = scores.expect("only rows of the built-in worlds have a gold score");
    let words = |at: usize| candidates[at].text.split_whitespace().count() as f64;
    let mut pairs = Vec::new();
    for i in 0..candidates.len() {
        for j in 0..i {
            let gap = scores[i] - scores[j];
            if candidates[i].text == candidates[j].text || gap.abs() < noise.min_gap {
                continue;
            }
            let draw = stream.uniform(row, (i * candidates.len() + j) as u64);
            let seen = match noise.per_word {
                0.0 => gap,
                per_word => gap + per_word * (words(i) - words(j)),
            };
            let first = draw < 1.0 / (1.0 + (-noise.beta * seen).exp());
            let (chosen, rejected, margin) = if first { (i, j, gap) } else { (j, i, -gap) };
            pairs.push(Preference {
                id: format!("{}/{i}-{j}", example.id),
                prompt: example.prompt.clone(),
                chosen: candidates[chosen].text.clone(),
                rejected: candidates[rejected].text.clone(),
                margin: Some(margin),
                clean: Some(margin > 0.0),
                chat: example.chat,
                ..Preference::default()
            });
        }
    }
    pairs
}
