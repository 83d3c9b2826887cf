//! What models of an evaluation read of datasets: the reward model the references of test sets and
//! preference pairs, methods' models the texts of earlier phases. Samples have fitted the model
//! that wrote them.

use super::EvaluateStage;
use super::config::Method;
use crate::data::dataset::test_split;
use crate::data::tokenised::Limits;
use crate::reference::{Dataset, Ref};
use crate::stages::models::ArtefactShapes;
use crate::stages::reading::{Part, Reading, Splits};
use crate::stages::source::Source;

pub(super) fn readings(config: &EvaluateStage, shapes: &ArtefactShapes) -> Vec<Reading> {
    let reader = config.reward_model.as_ref().and_then(|own| shapes.reader(own));
    let mut readings = retention(config, shapes);
    let Some((tokenizer, context)) = reader else { return readings };
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
    readings.extend(references.into_iter().chain(pairs));
    readings
}

/// The texts of earlier phases that the models of methods read.
fn retention(config: &EvaluateStage, shapes: &ArtefactShapes) -> Vec<Reading> {
    let texts = || config.distributions.iter().flat_map(|own| &own.retention);
    let models = config.methods.iter().filter_map(Method::own_model);
    let of_model = |(tokenizer, context)| {
        texts().map(move |texts| Reading {
            dataset: Source::from(&texts.dataset),
            splits: Splits::Named(vec![texts.split.clone()]),
            rows: None,
            tokenizer: Clone::clone(&tokenizer),
            limits: Limits::of_stage(context, config.max_prompt_tokens),
            reader: "the model of a method",
            part: Part::Completion,
        })
    };
    models.filter_map(|model| shapes.reader(model)).flat_map(of_model).collect()
}
