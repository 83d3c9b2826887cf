//! `classifier`: a classifier of text pairs, such as natural-language inference, on the embeddings of a frozen encoder. Trains the network
//! over them and measures it on held-out pairs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::artefacts;
use super::models::{self, Forms};
use super::{Checks, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::batches::batches;
use crate::data::rows::read_jsonl;
use crate::device::Precision;
use crate::error::{Result, user};
use crate::eval::bootstrap::{RESAMPLES, Resamples};
use crate::fs;
use crate::inference::pairs::{Description, pair_features};
use crate::inference::{Reader, Subject, embed};
use crate::model::checkpoint;
use crate::model::memory::Memory;
use crate::model::pairs::{PairHead, best};
use crate::random::Stream;
use crate::reference::{Input, ModelFolder};
use crate::train::optimiser::OptimiserConfig;
use crate::train::pairs::PairLearner;
use crate::train::steps::{self, StepReport};

/// Texts that the encoder reads at a time; no result depends on it.
const BATCH: usize = 32;

/// The config of `uses: classifier`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierStage {
    /// A sentence encoder; it is not trained.
    pub encoder: ModelFolder,
    /// Pairs to learn: a JSONL file with the columns `premise`, `hypothesis` and `label`.
    pub train: Input,
    /// Pairs to measure on.
    pub test: Input,
    /// Width of the hidden layer.
    #[serde(default = "hidden")]
    pub hidden: usize,
    /// Times through the pairs.
    pub epochs: usize,
    /// Pairs a step.
    pub batch_size: usize,
    /// Seed of the first weights and of the order.
    #[serde(default)]
    pub seed: u64,
    /// The optimiser.
    pub optimiser: OptimiserConfig,
}

fn hidden() -> usize {
    512
}

/// A labelled pair.
#[derive(Deserialize)]
struct Pair {
    premise: String,
    hypothesis: String,
    label: String,
}

impl Stage for ClassifierStage {
    const NAME: &'static str = "classifier";
    const VERSION: u32 = 1;
    const OUTPUT: &'static str = "classifier";
    const THREADS: Option<usize> = None;
    const ON_DEVICE: bool = true;
    const TRAINS: bool = true;

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.require(self.hidden > 0, "hidden", "expected at least 1").require(self.epochs > 0, "epochs", "expected at least 1").require(
            self.batch_size > 0,
            "batch_size",
            "expected at least 1",
        );
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn memory(&self, forms: &Forms) -> Option<Memory> {
        forms.folder(&self.encoder).map(|(spec, top)| models::scoring(&spec, top))
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let (train, test): (Vec<Pair>, Vec<Pair>) = (read_jsonl(self.train.path())?, read_jsonl(self.test.path())?);
        let labels: Vec<String> = train.iter().map(|pair| pair.label.clone()).collect::<BTreeSet<String>>().into_iter().collect();
        if let Some((row, pair)) = test.iter().enumerate().find(|(_, pair)| !labels.contains(&pair.label)) {
            let message = format!("{}, row {}: no training pair has the label `{}`", self.test.path().display(), row + 1, pair.label);
            return Err(user(message).hint(format!("they have {}", labels.join(", "))).into());
        }
        let folder = self.encoder.path();
        let encoder = Subject::load(b.clone(), Precision::Single, Reader::open(folder)?)?;
        let description = Description { embedding: embed::defaults(&encoder.reader)?, labels };
        let features = |pairs: &[Pair]| {
            let texts: Vec<(&str, &str)> = pairs.iter().map(|pair| (pair.premise.as_str(), pair.hypothesis.as_str())).collect();
            let mut stop = |_, _| if context.stop_requested() { context.interrupted() } else { Ok(()) };
            pair_features(&encoder, &texts, description.embedding, BATCH, &mut stop)
        };
        let (x, y) = (features(&train)?, targets(&train, &description.labels));
        let head = PairHead::new(x[0].len(), self.hidden, description.labels.len(), self.seed);
        let head = self.train(b, context, &head, &x, &y)?;

        let (x, y) = (features(&test)?, targets(&test, &description.labels));
        let logits: Vec<f64> = x.chunks(BATCH).flat_map(|part| head.logits(b, &part.concat())).collect();
        let answers: Vec<usize> = logits.chunks_exact(description.labels.len()).map(best).collect();
        self.report(context, &description.labels, &y, &answers)?;
        checkpoint::save(context.out(), &checkpoint::load(folder)?)?;
        artefacts::copy_tokenizer(context.out(), folder)?;
        description.save(context.out(), &head)
    }
}

fn targets(pairs: &[Pair], labels: &[String]) -> Vec<u32> {
    let target = |pair: &Pair| labels.iter().position(|label| *label == pair.label).expect("labels are of these pairs") as u32;
    pairs.iter().map(target).collect()
}

impl ClassifierStage {
    fn train<B: Backend>(&self, b: &B, context: &Context, head: &PairHead, x: &[Vec<f32>], y: &[u32]) -> Result<PairHead> {
        let lengths = vec![1; x.len()];
        let batches: Vec<Vec<usize>> =
            (0..self.epochs).flat_map(|epoch| batches(&lengths, self.batch_size, self.seed, epoch as u64)).collect();
        let mut learner = PairLearner::new(b, head);
        steps::run(context, &mut learner, batches.len(), |learner, step| {
            let features: Vec<f32> = batches[step].iter().flat_map(|row| x[*row].iter().copied()).collect();
            let targets: Vec<u32> = batches[step].iter().map(|row| y[*row]).collect();
            let rate = self.optimiser.rate(step, batches.len());
            let mut metrics = learner.step(&features, &targets, &self.optimiser, rate);
            metrics.push(("learning_rate", rate));
            Ok(StepReport { metrics, shown: &["loss", "accuracy"], tokens: 0 })
        })?;
        Ok(learner.finished())
    }

    /// `accuracy.json`: accuracy on the held-out pairs, the share of the commonest label, and how often which label was taken for which.
    fn report(&self, context: &Context, labels: &[String], targets: &[u32], answers: &[usize]) -> Result<()> {
        let right: Vec<f64> =
            targets.iter().zip(answers).map(|(target, answer)| f64::from(u8::from(*target as usize == *answer))).collect();
        let accuracy = Resamples::new(right.len(), RESAMPLES, &Stream::new(self.seed, "accuracy")).mean(&right);
        let mut confusion = vec![vec![0usize; labels.len()]; labels.len()];
        targets.iter().zip(answers).for_each(|(target, answer)| confusion[*target as usize][*answer] += 1);
        let commonest = confusion.iter().map(|row| row.iter().sum::<usize>()).max().unwrap_or(0) as f64 / targets.len() as f64;
        let report = json!({"accuracy": accuracy, "commonest_label": commonest, "labels": labels, "confusion": confusion});
        fs::write_atomic(&context.out().join("accuracy.json"), &serde_json::to_vec_pretty(&report)?)
    }
}
