//! `generate`: samples of a policy for the prompts of a dataset.

use serde::{Deserialize, Serialize};

use super::footprint;
use super::generation::{self, Room, SamplingConfig};
use super::lineage::{Guard, OnLeak};
use super::models::ArtefactShapes;
use super::reading::{Part, Reading, Splits};
use super::source::Source;
use super::{Checks, KindInfo, Problem, Stage, model_files};
use crate::artefacts::names::METRICS;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::lineage::Lineage;
use crate::data::samples::{self, Sampled};
use crate::data::tokenised::Limits;
use crate::error::Result;
use crate::model::memory::{self, Memory};
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::{fs, train::steps};

/// The config of `uses: generate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateStage {
    /// Policy that answers the prompts.
    pub policy: Ref<Policy>,
    /// Dataset with the prompts.
    pub dataset: Ref<DatasetArtefact>,
    /// Splits of `dataset`; an empty list means all test sets.
    #[serde(default)]
    pub splits: Vec<String>,
    /// Largest number of rows of each split, which are the first; `null` takes all.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Samples for each prompt.
    #[serde(default = "one")]
    pub samples: usize,
    /// Distribution that samples are drawn from.
    pub sampling: SamplingConfig,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Treatment of rows of held-out splits that a model was trained on.
    #[serde(default)]
    pub on_leak: OnLeak,
    /// Seed of sampling.
    #[serde(default)]
    pub seed: u64,
}

fn one() -> usize {
    1
}

impl Stage for GenerateStage {
    const INFO: KindInfo = KindInfo::on_device("generate", 2, "samples");

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .positive(self.samples, "samples")
            .positive_or_null(self.limit, "limit")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        self.sampling.check(&mut checks);
        checks.done()
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let (spec, head) = shapes.model(&self.policy)?;
        let (samples, new) = (self.samples, self.sampling.max_new_tokens);
        shapes.counted(("generate", &spec, head, samples, new), |b| {
            let model = memory::model(b, &spec, head);
            footprint::generate(b, &model, samples, new)?;
            Ok(Memory::of(b, Memory::default()))
        })
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let Some((tokenizer, context)) = shapes.reader(&self.policy) else { return Vec::new() };
        let Room { context, response, reader } = self.room(context);
        vec![Reading {
            dataset: Source::from(&self.dataset),
            splits: Splits::named_or_tests(&self.splits),
            rows: self.limit,
            tokenizer,
            limits: Limits::of_stage(context, self.max_prompt_tokens),
            reader,
            part: Part::Prompt(response),
        }]
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let policy = model_files::load(b, self.policy.path())?;
        let prompts = generation::prompts(
            self.dataset.path(),
            &self.splits,
            self.limit,
            self.max_prompt_tokens,
            &policy.tokenizer,
        )?;
        self.room(policy.model.spec.context).check(&prompts)?;
        let made_of = Lineage::read(self.policy.path())?;
        let guard = Guard::new(self.on_leak, vec![("policy".into(), made_of.clone())]);
        let prompts = generation::guarded(prompts, guard, context)?;
        let sampled = generation::sample(
            b,
            context,
            &policy,
            &prompts,
            self.samples,
            &self.sampling,
            self.seed,
        )?;
        let mut rows = Vec::with_capacity(prompts.len());
        for (prompt, samples) in prompts.iter().zip(&sampled) {
            let outputs = samples
                .iter()
                .map(|sample| generation::output(&policy.tokenizer, prompt, sample))
                .collect::<Result<_>>()?;
            let (id, text) = (prompt.example.id.clone(), prompt.example.prompt.clone());
            let temperature = self.sampling.whole();
            rows.push(Sampled {
                split: prompt.split.clone(),
                id,
                prompt: text,
                chat: prompt.example.chat,
                temperature,
                outputs,
                best_of: None,
                candidates: Vec::new(),
            });
        }
        samples::write(context.out(), &rows)?;
        made_of.write(context.out())?;
        let metrics = generation::metrics(sampled.iter().flatten());
        fs::write_atomic(&context.out().join(METRICS), steps::line(1, &metrics).as_bytes())
    }
}

impl GenerateStage {
    fn room(&self, policy: usize) -> Room {
        Room::of(policy, None, self.sampling.max_new_tokens)
    }
}
