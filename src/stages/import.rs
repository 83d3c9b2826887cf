//! `model`: a language model from a folder in the Hugging Face layout, or from the hub.

use serde::{Deserialize, Serialize};

use super::models::{ArtefactShape, ArtefactShapes, ModelShape};
use super::{KindInfo, Problem, Stage, made, model_files};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::error::Result;
use crate::model::checkpoint;
use crate::model::memory::{self, Memory};
use crate::model::params::HeadKind;
use crate::reference::ModelFolder;

/// The config of `uses: model`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelStage {
    /// Folder of the model, with `config.json`, `model.safetensors` (or its shards) and
    /// `tokenizer.json`; or `hub:owner/name@revision`.
    pub path: ModelFolder,
}

impl Stage for ModelStage {
    const INFO: KindInfo = KindInfo::on_host("model", 3, "policy");

    fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        shapes.folder(&self.path).map(ArtefactShape::Model)
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let ModelShape { spec, head, .. } = shapes.folder(&self.path)?;
        shapes.counted(("import", &spec, head), |b| {
            let _model = memory::model(b, &spec, head);
            Ok(Memory::of(b, Memory::default()))
        })
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let folder = self.path.path();
        let model = made::model(folder, HeadKind::Language)?;
        checkpoint::describe(folder)?.remark(folder).into_iter().for_each(|it| context.warn(it));
        checkpoint::save(context.out(), &model)?;
        model_files::copy_tokenizer(context.out(), folder)?;
        // A folder that was made here has its lineage in it.
        Lineage::read(folder)?.write(context.out())
    }
}
