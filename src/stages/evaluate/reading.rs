//! What the reward model of an evaluation reads of datasets: the references of test sets, and
//! preference pairs. Samples have fitted the model that wrote them.

use super::EvaluateStage;
use crate::data::dataset::test_split;
use crate::data::tokenised::Limits;
use crate::reference::{Dataset, Ref};
use crate::stages::models::ArtefactShapes;
use crate::stages::reading::{Part, Reading, Splits};
use crate::stages::source::Source;

pub(super) fn readings(config: &EvaluateStage, shapes: &ArtefactShapes) -> Vec<Reading> {
    let reader = config.reward_model.as_ref().and_then(|own| shapes.reader(own));
    let Some((tokenizer, context)) = reader else { return Vec::new() };
    let test_sets: Vec<String> = config.test_sets.iter().map(|name| test_split(name)).collect();
    let reading = |dataset: &Ref<Dataset>, part| Reading {
        dataset: Source::from(dataset),
        splits: match test_sets.is_empty() {
            true => Splits::Tests,
            false => Splits::Present(test_sets.clone()),
        },
        rows: None,
        tokenizer: tokenizer.clone(),
        limits: Limits::of_stage(context, config.max_prompt_tokens),
        reader: "the reward model",
        part,
    };
    let outputs = config.methods.iter().any(|method| method.outputs.is_some());
    let references = outputs.then(|| reading(&config.dataset, Part::Text));
    let pairs = config.preferences.as_ref().map(|pairs| reading(pairs, Part::Pair));
    references.into_iter().chain(pairs).collect()
}
