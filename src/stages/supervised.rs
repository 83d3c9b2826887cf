//! What `pretrain` and `sft` share: rows as tokens, batches of every epoch, and the loop over them;
//! and the state of a run with one training state, which `reward_model` shares too.

use std::ops::Range;
use std::path::Path;

use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::phased_batches;
use crate::data::chat::ChatTemplate;
use crate::data::conversations::tokenise_conversations;
use crate::data::dataset::Dataset;
use crate::data::rows::Rows;
use crate::data::tokenised::{Limits, Tokenised, tokenise};
use crate::data::tokens::Tokenizer;
use crate::error::{Result, user};
use crate::model::params::Trainable;
use crate::model::transformer::Recompute;
use crate::model::weights::Model;
use crate::train::archive::Archive;
use crate::train::language;
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::steps::{self, State, StepReport};

/// A supervised run.
pub struct Supervised<'a> {
    /// What is learned.
    pub rows: &'a [Tokenised],
    /// Ranges of rows that follow one another in an epoch.
    pub phases: &'a [Range<usize>],
    /// Rows a step.
    pub batch_size: usize,
    /// Times through all rows.
    pub epochs: usize,
    /// Seed of the order.
    pub seed: u64,
    /// The optimiser.
    pub optimiser: &'a OptimiserConfig,
    /// What backward passes make again.
    pub recompute: Recompute,
    /// What trains.
    pub trainable: Trainable,
    /// The folder that the model was loaded from, if it was.
    pub from: Option<&'a Path>,
}

/// A training run whose whole state is one `TrainState`.
pub struct Training<'a, B: Backend> {
    /// The device.
    pub b: &'a B,
    /// The model with its optimiser.
    pub state: TrainState<B>,
}

impl<B: Backend> State for Training<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.state.save(self.b, "model", archive);
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.state.load(self.b, "model", archive)
    }
}

impl Supervised<'_> {
    /// Trains a copy of the model, and writes `metrics.jsonl`. The model that comes back is to be
    /// written: [`TrainState::finished`].
    pub fn run<B: Backend>(&self, b: &B, context: &Context, model: &Model<B>) -> Result<Model<B>> {
        let lengths: Vec<usize> = self.rows.iter().map(|row| row.tokens.len()).collect();
        let epoch = |epoch: usize| {
            phased_batches(&lengths, self.phases, self.batch_size, self.seed, epoch as u64)
        };
        let batches: Vec<Vec<usize>> = (0..self.epochs).flat_map(epoch).collect();
        let mut state = TrainState::new(b, model, self.trainable.clone())?.with(self.recompute);
        if let Some(folder) = self.from {
            state = state.with_masters_of(b, folder)?;
        }
        let mut training = Training { b, state };
        steps::run(context, &mut training, batches.len(), |training, step| {
            let batch: Vec<&Tokenised> = batches[step].iter().map(|row| &self.rows[*row]).collect();
            training.state.clear_gradients(b);
            let mut metrics = language::accumulate(b, &mut training.state, &batch);
            let rate = self.optimiser.rate(step, batches.len());
            let norm = training.state.update(b, self.optimiser, rate, 1.0, |_| true);
            metrics.extend([("grad_norm", norm), ("learning_rate", rate)]);
            Ok(StepReport {
                metrics,
                shown: &["loss"],
                tokens: batch.iter().map(|row| row.tokens.len()).sum(),
            })
        })?;
        Ok(training.state.finished())
    }
}

/// The rows of a split as tokens. Conversations are written out by the chat template of the model
/// in `folder`; fields that it ignores are given to `warn`.
pub fn rows_of(
    warn: &mut dyn FnMut(String),
    dataset: &Dataset,
    split: &str,
    tokenizer: &Tokenizer,
    limits: Limits,
    folder: &Path,
) -> Result<Vec<Tokenised>> {
    match dataset.rows(split)? {
        Rows::Examples(rows) => tokenise(&rows, tokenizer, limits, split),
        Rows::Conversations(rows) if limits.prompt.is_none() => {
            let template = ChatTemplate::open(folder)?.ok_or_else(|| {
                let message = format!(
                    "split `{split}` holds conversations, and the model has no chat template"
                );
                user(message).hint(
                    "put chat_template.jinja beside the model, or name another model under `chat` \
                     where the rows are read",
                )
            })?;
            let (rows, ignored) =
                tokenise_conversations(&rows, tokenizer, &template, limits.context, split)?;
            if !ignored.is_empty() {
                let names = ignored.into_iter().collect::<Vec<_>>().join("`, `");
                warn(format!(
                    "split `{split}`: the chat template never looks at `{names}` of messages"
                ));
            }
            Ok(rows)
        }
        Rows::Conversations(_) => {
            let message = format!(
                "split `{split}` holds conversations, which `max_prompt_tokens` cannot cut"
            );
            Err(user(message).hint("remove `max_prompt_tokens`").into())
        }
        rows @ Rows::Preferences(_) => Err(user(format!(
            "split `{split}` holds {}, not prompts with completions",
            rows.kind()
        ))
        .hint("name another split")
        .into()),
    }
}
