//! `tokenizer`: a byte-level BPE trained on the training texts of a dataset.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::models::{ArtefactShape, ArtefactShapes};
use super::{Checks, KindInfo, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::{Dataset, is_held_out};
use crate::data::rows::Example;
use crate::data::tokens::Tokenizer;
use crate::error::Result;
use crate::reference::{Dataset as DatasetArtefact, Ref};

/// The config of `uses: tokenizer`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerStage {
    /// Dataset with the training texts: every split that is not held out.
    pub dataset: Ref<DatasetArtefact>,
    /// Number of tokens, special tokens included.
    pub vocabulary: usize,
}

impl Stage for TokenizerStage {
    const INFO: KindInfo = KindInfo::on_host("tokenizer", 1, "tokenizer");

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.require(
            self.vocabulary >= 258,
            "vocabulary",
            format!(
                "expected at least 258 (256 bytes, 2 special tokens), found {}",
                self.vocabulary
            ),
        );
        checks.done()
    }

    fn makes(&self, _: &ArtefactShapes) -> Option<ArtefactShape> {
        Some(ArtefactShape::Tokenizer(self.vocabulary))
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let dataset = Dataset::open(self.dataset.path())?;
        let mut texts: BTreeSet<String> = BTreeSet::new();
        for split in dataset.splits().iter().filter(|split| !is_held_out(split)) {
            for row in dataset.split::<Example>(split)? {
                texts.extend([row.prompt, row.completion]);
            }
        }
        let texts: Vec<String> = texts.into_iter().collect();
        Tokenizer::train(&texts, self.vocabulary)?.save(context.out())
    }
}
