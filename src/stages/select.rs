//! `select`: the best of several models by validation, with the lowest loss or, of policies that
//! were optimised, the highest score: the winner of a sweep, which later stages begin with. Copies
//! it as it is, so that the store holds it once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::model_files::check_same_tokenizer;
use super::models::{ArtefactShape, ArtefactShapes};
use super::{Checks, Constraint, KindInfo, Problem, Rule, Stage};
use crate::artefacts::validation::{VALIDATION, Validation};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::{Context as _, Result, user};
use crate::fs;
use crate::reference::{Any, AnyRef, Artefact, Place};
use crate::train::validation::is_higher_better;

/// The config of `uses: select`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectStage {
    /// Models of one kind that were trained with `validation` on one split; `{all: sft}` names
    /// every point of a matrix. The first of equals is taken.
    pub of: Vec<AnyRef>,
}

impl Stage for SelectStage {
    const INFO: KindInfo = KindInfo::on_host("select", 1, Any::KIND);

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let many = self.of.len() >= 2 || self.of.iter().any(AnyRef::stands_for_all);
        checks.require(many, "of", "expected at least two: there is nothing to choose");
        checks.done()
    }

    fn constraints(&self) -> Vec<Constraint> {
        let node = |reference: &AnyRef| match reference.place() {
            Place::Stage(name) => Some(name.to_owned()),
            Place::Path(_) => None,
        };
        let nodes: Vec<String> = self.of.iter().filter_map(node).collect();
        let Some(first) = nodes.first() else { return Vec::new() };
        let constraint = |node: &String, inner: &str, rule| Constraint {
            field: "of".into(),
            node: node.clone(),
            inner: inner.into(),
            rule,
        };
        let mut constraints = Vec::new();
        for node in &nodes {
            constraints.push(constraint(node, "validation", Rule::IsSet));
        }
        for node in &nodes[1..] {
            let same = ["dataset", "validation.split", "validation.by", "tokenizer"];
            constraints
                .extend(same.map(|inner| constraint(node, inner, Rule::AsIn(first.clone()))));
        }
        constraints
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        shapes.one_of(&self.of)
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let mut best: Option<(&AnyRef, Validation)> = None;
        for candidate in &self.of {
            check_same_tokenizer(self.of[0].path(), candidate.path())?;
            let found = read(candidate.path())?;
            let is_better = match &best {
                None => true,
                Some((first, least)) if least.by != found.by => {
                    return Err(user(format!(
                        "{} has `{}`, and {} has `{}`: they do not compare",
                        first.path().display(),
                        least.by,
                        candidate.path().display(),
                        found.by
                    ))
                    .hint("name models that one figure was measured of")
                    .into());
                }
                Some((_, most)) if is_higher_better(&found.by) => found.value > most.value,
                Some((_, least)) => found.value < least.value,
            };
            if is_better {
                best = Some((candidate, found));
            }
        }
        let Some((best, _)) = best else {
            return Err(user("there is no model to choose from").into());
        };
        fs::copy_all(best.path(), context.out())
    }
}

/// What is known of a model's validation.
fn read(folder: &Path) -> Result<Validation> {
    let file = folder.join(VALIDATION);
    let Some(bytes) = fs::read_if_exists(&file)? else {
        return Err(user(format!("{} is not there", file.display()))
            .hint("train the model with `validation`")
            .into());
    };
    serde_json::from_slice(&bytes).with_context(|| format!("in {}", file.display()))
}
