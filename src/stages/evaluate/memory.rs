//! The memory that an evaluation takes of a device: all its models side by side, of which one works
//! at a time, and beside them the models of methods, of which one is there at a time.

use super::EvaluateStage;
use crate::backend::counting::Counting;
use crate::model::memory::{Memory, model, model_beside};
use crate::model::params::HeadKind;
use crate::model::weights::Model;
use crate::stages::footprint::score;
use crate::stages::models::ArtefactShapes;

/// `None` where there is no model, or one is not known yet.
pub(super) fn memory(stage: &EvaluateStage, shapes: &ArtefactShapes) -> Option<Memory> {
    let policy = match &stage.reference_policy {
        Some(policy) => Some(shapes.model(policy)?),
        None => None,
    };
    let reward = match &stage.reward_model {
        Some(reward) => Some(shapes.model(reward)?),
        None => None,
    };
    let shared = stage.reference_policy.as_ref().zip(stage.reward_model.as_ref());
    let shared = shared.and_then(|(policy, reward)| shapes.shared(policy, reward));
    let mut others = stage.diversity.models(shapes)?;
    if let Some(classifier) = stage.quality.as_ref().and_then(|of| of.classes.classifier()) {
        others.push(shapes.model(classifier)?);
    }
    let mut own = Vec::new();
    for method in stage.methods.iter().filter(|_| stage.distributions.is_some()) {
        if let Some(model) = method.own_model() {
            own.push(shapes.model(model)?);
        }
    }
    if policy.is_none() && reward.is_none() && others.is_empty() && own.is_empty() {
        return None;
    }
    shapes.counted(("evaluate", &policy, &reward, shared, &others, &own), |b| {
        let policy = policy.as_ref().map(|(spec, head)| model(b, spec, *head));
        let reward = reward.as_ref().map(|(spec, _)| match &policy {
            Some(policy) => model_beside(b, spec, HeadKind::Reward, policy, shared),
            None => model(b, spec, HeadKind::Reward),
        });
        let others = others.iter().map(|(spec, head)| model(b, spec, *head));
        let models: Vec<Model<Counting>> = policy.into_iter().chain(reward).chain(others).collect();
        models.iter().for_each(|model| score(b, model));
        // Those of methods are loaded one after another.
        own.iter().for_each(|(spec, head)| score(b, &model(b, spec, *head)));
        Ok(Memory::of(b, Memory::default()))
    })
}
