//! `merge`: a policy made of other policies without training: a weighted sum of their weights, or
//! task arithmetic on a base.
//!
//! 1. Tensors are merged one at a time, in float64, and rounded once (`src/model/merge.rs`); a tied
//!    tensor is one. One tensor of each model is in memory at a time.
//! 2. All models have one architecture and one tokenizer. Configuration, tokenizer and the way to
//!    generate are those of `base` or, without one, of the first model.
//! 3. What any of the models was trained on, `base` included, belongs to what the result was
//!    trained on.

use std::cell::RefCell;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::model_files::{copy_tokenizer, have_one_tokenizer};
use super::models::{ArtefactShape, ArtefactShapes};
use super::{Checks, KindInfo, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::error::{Context as _, Result, user};
use crate::model::checkpoint::{self, Opened};
use crate::model::memory::Memory;
use crate::model::merge::{Combination, merged};
use crate::model::params::{HeadKind, Params, Slot};
use crate::reference::{Policy, Ref};

/// How far the sum of weights may be from 1: a third has ten digits.
const SUM_TOLERANCE: f64 = 1e-9;
/// Bytes of a number on the host.
const NUMBER: u64 = 4;

/// The config of `uses: merge`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeStage {
    /// Policies, in the order in which they are added up.
    pub models: Vec<Part>,
    /// Policy that task vectors are differences from; `null` adds up the weights themselves.
    #[serde(default)]
    pub base: Option<Ref<Policy>>,
    /// Combination of task vectors.
    #[serde(default)]
    pub how: Combination,
}

/// A policy with its weight.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The policy.
    pub model: Ref<Policy>,
    /// Factor of its weights or, with a base, of its task vector; a negative one moves away from
    /// the policy.
    pub weight: f64,
}

impl MergeStage {
    /// All policies, `base` first.
    fn policies(&self) -> Vec<Ref<Policy>> {
        self.base.iter().chain(self.models.iter().map(|part| &part.model)).cloned().collect()
    }
}

impl Stage for MergeStage {
    const INFO: KindInfo = KindInfo::on_host("merge", 1, "policy");

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let slerp = self.how == Combination::Slerp;
        let least = if self.base.is_some() { 1 } else { 2 };
        let sum: f64 = self.models.iter().map(|part| part.weight).sum();
        let has_count = self.models.len() >= least;
        checks
            .require(has_count, "models", format!("expected at least {least}"))
            .require(
                !slerp || self.models.len() == 2,
                "models",
                format!("`how: slerp` expected two, found {}", self.models.len()),
            )
            .require(
                !slerp || self.base.is_some(),
                "base",
                "`how: slerp` needs it: name the policy that both were trained from",
            );
        for (at, part) in self.models.iter().enumerate() {
            checks.require(
                part.weight.is_finite() && part.weight != 0.0,
                &format!("models.{at}.weight"),
                format!("expected a number other than 0, found {}", part.weight),
            );
        }
        checks.require(
            (self.base.is_some() && !slerp) || (sum - 1.0).abs() <= SUM_TOLERANCE,
            "models",
            format!(
                "expected weights that sum to 1 to within 1e-9{}, found {sum}",
                if slerp { "" } else { ", or a `base` for task arithmetic" }
            ),
        );
        checks.done()
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        shapes.one_of(&self.policies())
    }

    /// The largest tensor of each model, and the merged one.
    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let (spec, head) = shapes.model(&self.models.first()?.model)?;
        let largest = Params::slots(&spec, head).iter().map(Slot::count).max()? as u64;
        let weights = largest * NUMBER * (self.policies().len() as u64 + 1);
        Some(Memory { weights, ..Memory::default() })
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let policies = self.policies();
        let folders: Vec<&Path> = policies.iter().map(Ref::path).collect();
        let opened: Vec<Opened> =
            folders.iter().map(|folder| Opened::new(folder)).collect::<Result<_>>()?;
        for (own, folder) in opened.iter().zip(&folders) {
            check(&opened[0], own, (folders[0], folder))?;
        }
        let (spec, head) = (&opened[0].description.spec, opened[0].description.head);
        let slots = Params::slots(spec, head);
        let (count, done) = (slots.iter().count() as u64, RefCell::new(0));
        let failure = RefCell::new(None);
        let merge = |slot: &Slot| -> Result<Vec<f32>> {
            let tensors: Vec<Vec<f32>> = opened
                .iter()
                .map(|own| own.tensor(slot)?.context("models of one form have the same tensors"))
                .collect::<Result<_>>()?;
            let (base, own) = tensors.split_at(tensors.len() - self.models.len());
            let parts: Vec<(&[f32], f64)> = (own.iter().zip(&self.models))
                .map(|(tensor, part)| (tensor.as_slice(), part.weight))
                .collect();
            let found = merged(self.how, base.first().map(Vec::as_slice), &parts);
            if found.iter().any(|x| !x.is_finite()) {
                let message =
                    format!("the merged tensor `{}` has numbers that are not finite", slot.name);
                return Err(user(message).hint("take smaller weights").into());
            }
            *done.borrow_mut() += 1;
            context.progress(*done.borrow(), count, &[]);
            Ok(found)
        };
        // A writer asks for numbers, not for errors: the first one is kept and ends the stage.
        checkpoint::save_with(
            context.out(),
            &opened[0].description.origin,
            (spec, head),
            &slots,
            checkpoint::SHARD,
            |slot| {
                let zeros = || vec![0.0; slot.count()];
                if failure.borrow().is_some() || context.stop_requested() {
                    return zeros().into();
                }
                merge(slot)
                    .unwrap_or_else(|error| {
                        *failure.borrow_mut() = Some(error);
                        zeros()
                    })
                    .into()
            },
        )?;
        if let Some(error) = failure.into_inner() {
            return Err(error);
        }
        if context.stop_requested() {
            return context.interrupted();
        }
        copy_tokenizer(context.out(), folders[0])?;
        let learned = folders.iter().map(|folder| Lineage::read(folder));
        learned
            .reduce(|all, own| Ok(all?.with(own?)))
            .context("a merge has a model")??
            .write(context.out())
    }
}

/// Refuses models that cannot be merged, with the first tensor that differs in shape.
fn check(first: &Opened, own: &Opened, (first_folder, folder): (&Path, &Path)) -> Result<()> {
    let (spec, head) = (&own.description.spec, own.description.head);
    if head != HeadKind::Language {
        let message = format!("{} is no language model: it has another head", folder.display());
        return Err(user(message).hint("merge policies; reward models are not merged").into());
    }
    let both = format!("{} and {}", first_folder.display(), folder.display());
    let firsts = &first.description.spec;
    let slots = |of| Params::slots(of, HeadKind::Language).into_vec();
    let (theirs, ours) = (slots(firsts), slots(spec));
    let differs = |one: &&Slot, others: &[Slot]| {
        others.iter().all(|other| (&other.name, &other.shape) != (&one.name, &one.shape))
    };
    let shape = |of: &[Slot], name: &str| match of.iter().find(|slot| slot.name == name) {
        Some(slot) => format!("{:?}", slot.shape),
        None => "not there".into(),
    };
    let other = theirs.iter().find(|slot| differs(slot, &ours));
    if let Some(Slot { name, .. }) = other.or(ours.iter().find(|slot| differs(slot, &theirs))) {
        return Err(user(format!(
            "{both} do not have the same tensors: `{name}` is {} in the one, {} in the other",
            shape(&theirs, name),
            shape(&ours, name)
        ))
        .hint("merge models that were trained from one model")
        .into());
    }
    if firsts != spec {
        let message = format!(
            "{both} have the same tensors, but their config.json describe other computations"
        );
        return Err(user(message).hint("merge models that were trained from one model").into());
    }
    match have_one_tokenizer(first_folder, folder)? {
        true => Ok(()),
        false => Err(user(format!("{both} have different tokenizers"))
            .hint("merge models that were trained from one model")
            .into()),
    }
}
