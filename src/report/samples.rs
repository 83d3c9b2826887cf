//! The browser of samples on a page: inputs with every method's answers, as its script takes them.

use std::fmt::Write;

use serde_json::{Value, json};

use super::formats::text;
use super::layout::distinct;
use super::run::{Evaluation, Run};
use super::shown::{of, shown};
use crate::artefacts::inputs::{Answer, Input};

/// Inputs of a test set that a page has at most, unless it is asked for more.
pub const SAMPLES: usize = 200;
/// Inputs of a test set that a page has at least, where there are as many.
const LEAST_SAMPLES: usize = 20;
/// Samples of an input, beside the output, that a page has.
const DRAWS: usize = 4;
/// Answers of methods that a page has at most, as far as [`LEAST_SAMPLES`] allows.
const ANSWERS: usize = 4_000;

/// Inputs of each test set that make a page of [`ANSWERS`].
pub(super) fn default_samples(run: &Run) -> usize {
    let answers = |evaluation: &Evaluation| -> usize {
        let of_first = |set: &str| evaluation.inputs.iter().find(|input| input.test_set == set);
        let of_set = |set: &str| of_first(set).map_or(0, |input| input.answers.len());
        test_sets(evaluation).into_iter().map(of_set).sum()
    };
    let all: usize = shown(run).map(answers).sum();
    (ANSWERS / all.max(1)).clamp(LEAST_SAMPLES, SAMPLES)
}

/// The inputs of an evaluation as the page's script takes them.
pub(super) fn embedded(evaluation: &Evaluation, samples: usize) -> Value {
    let mut inputs: Vec<Value> = Vec::new();
    for test_set in test_sets(evaluation) {
        for input in
            evaluation.inputs.iter().filter(|input| input.test_set == test_set).take(samples)
        {
            let answer = |answer: &Answer| {
                let draws: Vec<&String> = answer.samples.iter().take(DRAWS).collect();
                json!({"method": answer.method, "text": answer.text, "scores": answer.scores,
                    "samples": draws})
            };
            let answers: Vec<Value> = input.answers.iter().map(answer).collect();
            inputs.push(json!({"test_set": test_set, "id": input.id, "prompt": input.prompt,
                "answers": answers}));
        }
    }
    json!({"node": evaluation.node, "test_sets": test_sets(evaluation), "inputs": inputs})
}

fn test_sets(evaluation: &Evaluation) -> Vec<&str> {
    distinct(evaluation.inputs.iter().map(|input| input.test_set.as_str()))
}

/// The form and the places that the script fills, and what is left out.
pub(super) fn browser(run: &Run, samples: usize) -> String {
    let all: Vec<&Input> = shown(run).flat_map(|evaluation| &evaluation.inputs).collect();
    if all.is_empty() {
        return "<p>No evaluation of this run has written its inputs.</p>\n".into();
    }
    let mut left_out = String::new();
    for evaluation in shown(run) {
        for test_set in test_sets(evaluation) {
            let count = evaluation.inputs.iter().filter(|input| input.test_set == test_set).count();
            if count > samples {
                let _ = write!(
                    left_out,
                    " Of {} inputs of {}{}, the first {samples} are here.",
                    count,
                    text(test_set),
                    of(run, &evaluation.node)
                );
            }
        }
    }
    if !left_out.is_empty() {
        left_out = format!(
            "<p class=note id=left-out>{} More with <code>posttrain report --samples \
             N</code>.</p>\n",
            left_out.trim_start()
        );
    }
    format!(
        "{left_out}<form id=filters><label>Evaluation <select id=evaluation></select></label> \
         <label>Test set <select id=test-set></select></label> <label>Order <select \
         id=order></select></label> <label>Search <input type=search id=search \
         placeholder=\"prompt, text or id\"></label></form>\n<p id=found role=status></p>\n<div \
         id=inputs></div>\n<button type=button id=more>Show more</button>\n"
    )
}
