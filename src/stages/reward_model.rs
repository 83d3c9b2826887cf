//! `reward_model`: a scalar head on a policy, trained on preference pairs (Bradley-Terry).
//!
//! 1. The score is read at the end-of-text token. The head begins at N(0, 1/sqrt(d+1)) and has no
//!    bias, which pairs cannot determine.
//! 2. A step takes `batch_size` prompts with all their pairs, wherever the rows of a prompt are in
//!    the split; prompts are in the order of
//!    their first rows. Each text is scored once. Each prompt weighs the same (Ouyang et al. 2022,
//!    section 3.5), in the loss that is
//!    logged as well; `num_prompts` and `num_pairs` say how many a step has.
//! 3. After training, scores are normalised: mean 0 and standard deviation 1 over both texts of
//!    training pairs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::models::{self, Form, Forms};
use super::reading::{Part, Reading, Source, Splits};
use super::supervised::Training;
use super::{Checks, Problem, Stage, artefacts, lineage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::batches;
use crate::data::dataset::{self, Dataset};
use crate::data::lineage::Lineage;
use crate::data::rows::{Preference, Rows};
use crate::data::tokenised::{Limits, MODEL, TooLong};
use crate::data::tokens::Tokenizer;
use crate::error::Result;
use crate::model::batch::{Batch, micro_batches};
use crate::model::heads;
use crate::model::init::{self, ScalarInit};
use crate::model::memory::Memory;
use crate::model::params::{HeadKind, Trainable};
use crate::model::score::last_scalars;
use crate::model::transformer::{self, Recompute};
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref};
use crate::rl::Metrics;
use crate::rl::preference::{Normalisation, PairStatistics, PairWeight, pair_loss};
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::steps::{self, StepReport, diverged};

/// The config of `uses: reward_model`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardModelStage {
    /// Policy that the head is put on.
    pub policy: Ref<Policy>,
    /// Dataset with preference pairs.
    pub dataset: Ref<DatasetArtefact>,
    /// Split of `dataset` that is trained on.
    #[serde(default = "split")]
    pub split: String,
    /// Seed of the initial head and of the order of rows.
    #[serde(default)]
    pub seed: u64,
    /// Prompts of a step, each with all its pairs.
    pub batch_size: usize,
    /// Passes over all prompts.
    #[serde(default = "one")]
    pub epochs: usize,
    /// Fraction of the lowest blocks that is frozen, and with them the embedding; 0 trains
    /// everything.
    #[serde(default)]
    pub frozen: f64,
    /// Longest prompt in tokens; a longer prompt loses its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Weight of (chosen + rejected)^2 in the loss of a pair, of raw scores, which keeps their mean
    /// near 0 (Eisenstein et al. 2023, eq. 2).
    #[serde(default)]
    pub center_rewards_coefficient: f64,
    /// Number of training prompts whose pairs decide the normalisation of scores.
    #[serde(default = "normalisation_prompts")]
    pub normalisation_prompts: usize,
    /// Activations that the backward pass computes again instead of keeping them.
    #[serde(default)]
    pub recompute: Recompute,
    /// Optimiser and learning rate.
    pub optimiser: OptimiserConfig,
}

fn split() -> String {
    dataset::PREFERENCES.into()
}

fn one() -> usize {
    1
}

fn normalisation_prompts() -> usize {
    500
}

/// The texts of one prompt, and its pairs as indices into them.
pub(super) struct Group {
    sequences: Vec<Vec<u32>>,
    /// (chosen, rejected).
    pairs: Vec<(usize, usize)>,
}

impl Group {
    fn tokens(&self) -> usize {
        self.sequences.iter().map(Vec::len).sum()
    }
}

impl Stage for RewardModelStage {
    const NAME: &'static str = "reward_model";
    const VERSION: u32 = 3;
    const OUTPUT: &'static str = "reward_model";
    const THREADS: Option<usize> = None;
    const ON_DEVICE: bool = true;
    const BYTE_NEUTRAL: &'static [&'static str] = &["recompute"];
    const TRAINS: bool = true;

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .require(self.batch_size > 0, "batch_size", "expected at least 1")
            .require(self.epochs > 0, "epochs", "expected at least 1")
            .require(
                (0.0..1.0).contains(&self.frozen),
                "frozen",
                format!(
                    "expected a fraction of the blocks, at least 0 and below 1, found {}",
                    self.frozen
                ),
            )
            .require(
                self.center_rewards_coefficient >= 0.0,
                "center_rewards_coefficient",
                "expected 0 or more",
            )
            .require(self.normalisation_prompts > 0, "normalisation_prompts", "expected at least 1")
            .require(
                self.max_prompt_tokens != Some(0),
                "max_prompt_tokens",
                "expected at least 1, or null",
            );
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn makes(&self, forms: &Forms) -> Option<Form> {
        forms.trained(&self.policy, HeadKind::Reward, self.frozen)
    }

    fn memory(&self, forms: &Forms) -> Option<Memory> {
        let (spec, _) = forms.model(&self.policy)?;
        Some(models::training(
            &spec,
            HeadKind::Reward,
            &Trainable::frozen_fraction(&spec, self.frozen),
            self.recompute,
        ))
    }

    fn readings(&self, forms: &Forms) -> Vec<Reading> {
        let reading = |(tokenizer, context)| Reading {
            dataset: Source::from(&self.dataset),
            splits: Splits::Named(vec![self.split.clone()]),
            rows: None,
            tokenizer,
            limits: Limits::of_stage(context, self.max_prompt_tokens),
            reader: MODEL,
            part: Part::Pair,
        };
        forms.reader(&self.policy).map(reading).into_iter().collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let from = artefacts::load(b, self.policy.path())?;
        let dataset = Dataset::open(self.dataset.path())?;
        let rows: Vec<Preference> = dataset.split(&self.split)?;
        let limits = Limits::of_stage(from.model.spec.context, self.max_prompt_tokens);
        let groups = groups(&rows, &from.tokenizer, limits, MODEL, &self.split)?;

        let head =
            init::scalar_head(&from.model.spec, HeadKind::Reward, ScalarInit::Normal, self.seed)
                .expect("a reward model has a scalar head");
        let trainable = Trainable::frozen_fraction(&from.model.spec, self.frozen);
        let state = TrainState::new(b, &from.model.with_scalar(b, head), trainable)?
            .with(self.recompute)
            .with_masters_of(b, self.policy.path())?;
        let mut training = Training { b, state };
        let lengths: Vec<usize> = groups.iter().map(Group::tokens).collect();
        let batches: Vec<Vec<usize>> = (0..self.epochs)
            .flat_map(|epoch| batches(&lengths, self.batch_size, self.seed, epoch as u64))
            .collect();
        steps::run(context, &mut training, batches.len(), |training, step| {
            let batch: Vec<&Group> = batches[step].iter().map(|group| &groups[*group]).collect();
            training.state.clear_gradients(b);
            let mut metrics =
                accumulate(b, &mut training.state, &batch, self.center_rewards_coefficient);
            let rate = self.optimiser.rate(step, batches.len());
            let norm = training.state.update(b, &self.optimiser, rate, 1.0, |_| true);
            metrics.extend([("grad_norm", norm), ("learning_rate", rate)]);
            Ok(StepReport {
                metrics,
                shown: &["loss", "accuracy"],
                tokens: batch.iter().map(|group| group.tokens()).sum(),
            })
        })?;

        let state = training.state;
        let (mut chosen, mut rejected) = (Vec::new(), Vec::new());
        for group in groups.iter().take(self.normalisation_prompts) {
            let sequences: Vec<&[u32]> = group.sequences.iter().map(Vec::as_slice).collect();
            let scores = last_scalars(b, &state.model, &sequences);
            chosen.extend(group.pairs.iter().map(|pair| scores[pair.0]));
            rejected.extend(group.pairs.iter().map(|pair| scores[pair.1]));
        }
        let normalisation = Normalisation::of(&chosen, &rejected);
        if !(normalisation.mean.is_finite() && normalisation.std.is_finite()) {
            let Normalisation { mean, std } = normalisation;
            return Err(diverged(format!(
                "scores of the training pairs have mean {mean} and standard deviation {std}"
            ))
            .into());
        }
        artefacts::save(b, context.out(), &state.finished(), &from.origin, self.policy.path())?;
        artefacts::save_normalisation(context.out(), &normalisation)?;
        let learned =
            Lineage::read(self.policy.path())?.with(Lineage::of_rows(&Rows::Preferences(rows)));
        learned.of_reward_model(lineage::identity(context.out())?).write(context.out())
    }
}

/// Gathers the pairs of each prompt, each text once. Prompts come in the order of their first rows.
///
/// # Errors
/// The user's, with all rows of the split that are too long for `reader`.
pub(super) fn groups(
    rows: &[Preference],
    tokenizer: &Tokenizer,
    limits: Limits,
    reader: &str,
    split: &str,
) -> Result<Vec<Group>> {
    let mut long = TooLong::new(limits.context, split, reader, limits.field);
    let mut groups: Vec<Group> = Vec::new();
    let mut prompts: BTreeMap<&str, usize> = BTreeMap::new();
    // Texts of a prompt, by the prompt's place.
    let mut texts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for row in rows {
        let own = *prompts.entry(&row.prompt).or_insert(groups.len());
        if own == groups.len() {
            groups.push(Group { sequences: Vec::new(), pairs: Vec::new() });
        }
        let group = &mut groups[own];
        let mut index = |text: &str, known: Option<usize>| -> Result<usize> {
            if let Some(index) = known {
                return Ok(index);
            }
            let (prompt, response) = tokenizer.encode_row(&row.prompt, text, row.chat)?;
            let prompt = limits.cut(prompt);
            long.pair(&row.id, row.origin.as_ref(), prompt.len(), response.len(), "response");
            group.sequences.push([prompt, response].concat());
            Ok(group.sequences.len() - 1)
        };
        let chosen = index(&row.chosen, texts.get(&(own, row.chosen.as_str())).copied())?;
        texts.insert((own, &row.chosen), chosen);
        let rejected = index(&row.rejected, texts.get(&(own, row.rejected.as_str())).copied())?;
        texts.insert((own, &row.rejected), rejected);
        group.pairs.push((chosen, rejected));
    }
    long.check()?;
    Ok(groups)
}

/// Adds the gradient of the mean loss over prompts to the gradients of `state`.
fn accumulate<B: Backend>(
    b: &B,
    state: &mut TrainState<B>,
    batch: &[&Group],
    centre: f64,
) -> Metrics {
    let mut statistics = PairStatistics::default();
    for run in micro_batches(batch.iter().map(|group| group.tokens())) {
        let groups = &batch[run];
        let sequences: Vec<&[u32]> =
            groups.iter().flat_map(|group| group.sequences.iter().map(Vec::as_slice)).collect();
        let packed = Batch::new(&sequences);
        let last: Vec<u32> = packed.starts[1..].iter().map(|end| (end - 1) as u32).collect();
        let x = transformer::trunk(b, &state.model, &packed, state.trainable.first_layer());
        let activations = transformer::forward(
            b,
            &state.model,
            x,
            &packed,
            state.trainable.first_layer(),
            Some(state.recompute),
        );
        let scores: Vec<f32> = heads::scalar_scores(b, &state.model, &activations.hidden, &last)
            .into_iter()
            .map(|score| score as f32)
            .collect();
        let mut dscores = vec![0.0; scores.len()];
        let mut start = 0;
        for group in groups {
            let score = |side: fn(&(usize, usize)) -> usize| {
                group.pairs.iter().map(|pair| scores[start + side(pair)]).collect::<Vec<f32>>()
            };
            let (mut dchosen, mut drejected) =
                (vec![0.0; group.pairs.len()], vec![0.0; group.pairs.len()]);
            let weight = PairWeight { divisor: group.pairs.len() * batch.len(), centre };
            pair_loss(
                &mut dchosen,
                &mut drejected,
                &mut statistics,
                &score(|pair| pair.0),
                &score(|pair| pair.1),
                weight,
            );
            for (pair, (dchosen, drejected)) in
                group.pairs.iter().zip(dchosen.iter().zip(&drejected))
            {
                dscores[start + pair.0] += f64::from(*dchosen);
                dscores[start + pair.1] += f64::from(*drejected);
            }
            start += group.sequences.len();
        }
        let mut dhidden = b.zeros(packed.rows() * state.model.spec.embedding_width);
        let TrainState { model, gradients, trainable, .. } = state;
        heads::scalar_scores_backward(
            b,
            model,
            &mut dhidden,
            gradients,
            &activations.hidden,
            &last,
            &b.upload_f64(&dscores),
        );
        transformer::backward(b, model, &packed, &activations, &dhidden, gradients, trainable);
    }
    let mut metrics = statistics.metrics();
    metrics.push(("num_prompts", batch.len() as f64));
    metrics
}
