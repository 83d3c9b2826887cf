//! `artefact`: an artefact that was made elsewhere, from a folder or the hub, checked to be of the
//! kind that the pipeline says.

use serde::{Deserialize, Serialize};

use super::made::{self, Makes};
use super::models::{ArtefactShape, ArtefactShapes};
use super::{KindInfo, Problem, Stage, model_files};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::error::Result;
use crate::fs;
use crate::model::checkpoint;
use crate::model::params::HeadKind;
use crate::reference::{Artefact, Files, ModelFolder};

/// The config of `uses: artefact`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtefactStage {
    /// Folder of the artefact; of a model, `hub:owner/name@revision` as well.
    path: ModelFolder,
    /// Kind of the artefact.
    #[serde(default)]
    makes: Makes,
}

impl ArtefactStage {
    /// The head of the model that it is, if it is one.
    fn head(&self) -> Option<HeadKind> {
        match self.makes {
            Makes::Policy => Some(HeadKind::Language),
            Makes::RewardModel => Some(HeadKind::Reward),
            Makes::Files | Makes::Dataset | Makes::Samples => None,
        }
    }
}

impl Stage for ArtefactStage {
    const INFO: KindInfo = KindInfo::on_host("artefact", 1, Files::KIND);

    fn output(&self) -> &'static str {
        self.makes.kind()
    }

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        let shape = || shapes.folder(&self.path).map(ArtefactShape::Model);
        self.head().and_then(|_| shape())
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let (from, out) = (self.path.path(), context.out());
        let Some(head) = self.head() else {
            self.makes.check(from)?;
            return fs::copy_all(from, out);
        };
        let model = made::model(from, head)?;
        // In the one form that the other stages write and read.
        checkpoint::describe(from)?.remark(from).into_iter().for_each(|it| context.warn(it));
        checkpoint::save(out, &model)?;
        model_files::copy_tokenizer(out, from)?;
        if self.makes == Makes::RewardModel {
            model_files::save_normalisation(out, &model_files::normalisation(from)?)?;
        }
        Lineage::read(from)?.write(out)
    }
}
