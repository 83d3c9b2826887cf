//! `classifier`: a classifier of text pairs, such as natural-language inference, on the embeddings
//! of an encoder. Trains the network over them, with the encoder's upper blocks or all of it where
//! that is asked for, and measures it on held-out pairs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::footprint;
use super::model_files;
use super::models::{ArtefactShape, ArtefactShapes, ModelShape};
use super::{Checks, KindInfo, Problem, Stage};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::dag::context::Context;
use crate::data::batches::batches;
use crate::data::lineage::Lineage;
use crate::data::rows::{Example, read_jsonl};
use crate::device::Precision;
use crate::error::{Result, user};
use crate::eval::interval::of_share;
use crate::fs;
use crate::inference::embed::{self, Options};
use crate::inference::pair_head::Description;
use crate::inference::pairs::pair_features;
use crate::inference::{Reader, Subject};
use crate::model::batch::MICRO_BATCH_TOKENS;
use crate::model::checkpoint;
use crate::model::memory::{self, Memory};
use crate::model::pairs::{PairHead, best};
use crate::model::params::Trainable;
use crate::model::pooling::Pooling;
use crate::model::weights::Model;
use crate::reference::{Input, ModelFolder};
use crate::tokenizer::encode::Encoded;
use crate::train::classifier::{train_head, train_with_encoder};
use crate::train::optimiser::{OptimiserConfig, TrainState};
use crate::train::text_pairs::{PairHeadState, PairTuner, TokenPair, tokens};

/// Texts that the encoder reads at a time; no result depends on it.
const BATCH: usize = 32;

/// Labels that the estimate of memory assumes: those of natural-language inference.
const LABELS: usize = 3;

/// The config of `uses: classifier`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierStage {
    /// Sentence encoder.
    pub encoder: ModelFolder,
    /// Fraction of the encoder's lowest blocks that is frozen, and with them its embeddings. 1
    /// freezes all of it, so that the network over its vectors is all that trains; 0 trains
    /// everything.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub frozen: f64,
    /// Pairs that are trained on: a JSONL file with the columns `premise`, `hypothesis` and
    /// `label`.
    pub train: Input,
    /// Pairs that the classifier is measured on, in the same format.
    pub test: Input,
    /// Width of the hidden layer.
    #[serde(default = "hidden")]
    pub hidden: usize,
    /// Passes over the pairs.
    pub epochs: usize,
    /// Pairs of a step.
    pub batch_size: usize,
    /// Seed of the initial weights and of the order of pairs.
    #[serde(default)]
    pub seed: u64,
    /// Optimiser and learning rate.
    pub optimiser: OptimiserConfig,
}

fn whole() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_whole(frozen: &f64) -> bool {
    *frozen == whole()
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
    const INFO: KindInfo =
        KindInfo { trains: true, ..KindInfo::on_device("classifier", 3, "classifier") };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .positive(self.hidden, "hidden")
            .positive(self.epochs, "epochs")
            .positive(self.batch_size, "batch_size")
            .require(
                (0.0..=1.0).contains(&self.frozen),
                "frozen",
                format!("expected a fraction of the blocks, 0 to 1, found {}", self.frozen),
            );
        let mut problems = checks.done();
        problems.extend(self.optimiser.problems());
        problems
    }

    fn makes(&self, shapes: &ArtefactShapes) -> Option<ArtefactShape> {
        shapes.folder(&self.encoder).map(ArtefactShape::Model)
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let ModelShape { spec, head, .. } = shapes.folder(&self.encoder)?;
        if is_whole(&self.frozen) {
            return footprint::scoring(shapes, &spec, head);
        }
        let what = ("classifier", &spec, head, self.frozen, self.hidden);
        shapes.counted(what, |b| self.count(b, &memory::model(b, &spec, head)))
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let (train, test): (Vec<Pair>, Vec<Pair>) =
            (read_jsonl(self.train.path())?, read_jsonl(self.test.path())?);
        let labels: Vec<String> = train
            .iter()
            .map(|pair| pair.label.clone())
            .collect::<BTreeSet<String>>()
            .into_iter()
            .collect();
        if let Some((row, pair)) =
            test.iter().enumerate().find(|(_, pair)| !labels.contains(&pair.label))
        {
            let message = format!(
                "{}, row {}: no training pair has the label `{}`",
                self.test.path().display(),
                row + 1,
                pair.label
            );
            return Err(user(message).hint(format!("they have {}", labels.join(", "))).into());
        }
        let folder = self.encoder.path();
        let mut encoder = Subject::load(b.clone(), Precision::Single, Reader::open(folder)?)?;
        encoder.reader.remark().into_iter().for_each(|remark| context.warn(remark));
        let description = Description { embedding: embed::defaults(&encoder.reader)?, labels };
        let features = |encoder: &Subject<B>, pairs: &[Pair]| {
            let texts: Vec<(&str, &str)> = pairs
                .iter()
                .map(|pair| (pair.premise.as_str(), pair.hypothesis.as_str()))
                .collect();
            let mut stop =
                |_, _| if context.stop_requested() { context.interrupted() } else { Ok(()) };
            pair_features(encoder, &texts, description.embedding, BATCH, &mut stop)
        };
        let y = targets(&train, &description.labels);
        let inputs = 4 * encoder.model.spec.embedding_width;
        let head = PairHead::new(inputs, self.hidden, description.labels.len(), self.seed);
        let (head, tuned) = match is_whole(&self.frozen) {
            true => {
                let (x, optimiser) = (features(&encoder, &train)?, &self.optimiser);
                let batches = self.batches(&vec![1; x.len()]);
                (train_head(b, context, &head, (&x, &y), &batches, optimiser)?, None)
            }
            false => {
                let (head, state) =
                    self.tune(b, context, &head, &encoder, description.embedding, &train, &y)?;
                // What is asked below computes with the numbers that were trained; what is written
                // has all their digits.
                let spec = &encoder.model.spec;
                let nothing = Trainable::above(spec, spec.layers);
                encoder.model = state.model.trainable_copy(b, &nothing);
                (head, Some(state.finished()))
            }
        };

        let (x, y) = (features(&encoder, &test)?, targets(&test, &description.labels));
        let logits: Vec<f64> =
            x.chunks(BATCH).flat_map(|part| head.logits(b, &part.concat())).collect();
        let answers: Vec<usize> = logits.chunks_exact(description.labels.len()).map(best).collect();
        self.report(context, &description.labels, &y, &answers)?;
        match tuned {
            Some(model) => {
                model_files::save(b, context.out(), &model, &encoder.reader.origin, folder)?
            }
            None => {
                checkpoint::save(context.out(), &checkpoint::load(folder)?)?;
                model_files::copy_tokenizer(context.out(), folder)?;
            }
        }
        description.save(context.out(), &head)?;
        let row = |pair: Pair| Example {
            prompt: pair.premise,
            completion: pair.hypothesis,
            ..Example::default()
        };
        let learned = Lineage::of_examples(&train.into_iter().map(row).collect::<Vec<_>>());
        Lineage::read(folder)?.with(learned).write(context.out())
    }
}

fn targets(pairs: &[Pair], labels: &[String]) -> Vec<u32> {
    let target = |pair: &Pair| {
        labels.iter().position(|label| *label == pair.label).expect("labels are of these pairs")
            as u32
    };
    pairs.iter().map(target).collect()
}

impl ClassifierStage {
    /// Trains the network and the blocks of the encoder that are not frozen.
    #[expect(clippy::too_many_arguments)]
    fn tune<B: Backend>(
        &self,
        b: &B,
        context: &Context,
        head: &PairHead,
        encoder: &Subject<B>,
        embedding: Options,
        pairs: &[Pair],
        y: &[u32],
    ) -> Result<(PairHead, TrainState<B>)> {
        let tokenizer = encoder.reader.tokenizer()?;
        let encode = |text: &str| tokenizer.encode_input(text, None, Some(embedding.max_tokens));
        let both = |pair: &Pair| Ok([encode(&pair.premise)?, encode(&pair.hypothesis)?]);
        let x: Vec<TokenPair> = pairs.iter().map(both).collect::<Result<_>>()?;
        let lengths: Vec<usize> = x.iter().map(tokens).collect();
        let batches = self.batches(&lengths);
        let trainable = Trainable::frozen_fraction(&encoder.model.spec, self.frozen);
        let state = TrainState::new(b, &encoder.model, trainable)?
            .with_masters_of(b, self.encoder.path())?;
        let Options { pooling, normalize, .. } = embedding;
        let tuner =
            PairTuner { encoder: state, head: PairHeadState::new(b, head), pooling, normalize };
        let PairTuner { encoder, head, .. } =
            train_with_encoder(context, tuner, (&x, y), &batches, &self.optimiser)?;
        Ok((head.finished(), encoder))
    }

    /// What a step takes that trains the encoder too.
    fn count(&self, b: &Counting, encoder: &Model<Counting>) -> Result<Memory> {
        let spec = &encoder.spec;
        let trainable = Trainable::frozen_fraction(spec, self.frozen);
        let head = PairHead::new(4 * spec.embedding_width, self.hidden, LABELS, self.seed);
        let mut tuner = PairTuner {
            encoder: TrainState::new(b, encoder, trainable)?,
            head: PairHeadState::new(b, &head),
            pooling: Pooling::Mean,
            normalize: false,
        };
        let text = |tokens: Vec<u32>| Encoded { types: vec![0; tokens.len()], tokens };
        let longest = spec.context.min(MICRO_BATCH_TOKENS / 2);
        let texts = memory::sequences(MICRO_BATCH_TOKENS / 2, longest).into_iter().map(text);
        let pairs: Vec<TokenPair> = texts.map(|text| [text.clone(), text]).collect();
        let pairs: Vec<&TokenPair> = pairs.iter().collect();
        tuner.step(&pairs, &vec![0; pairs.len()], &self.optimiser, 0.0);
        Ok(Memory::of(b, tuner.encoder.memory(b)))
    }

    /// The batches of all epochs.
    fn batches(&self, lengths: &[usize]) -> Vec<Vec<usize>> {
        (0..self.epochs)
            .flat_map(|epoch| batches(lengths, self.batch_size, self.seed, epoch as u64))
            .collect()
    }

    /// `accuracy.json`: accuracy on the held-out pairs, the share of the commonest label, and how
    /// often which label was taken for which.
    fn report(
        &self,
        context: &Context,
        labels: &[String],
        targets: &[u32],
        answers: &[usize],
    ) -> Result<()> {
        let right: Vec<f64> = targets
            .iter()
            .zip(answers)
            .map(|(target, answer)| f64::from(u8::from(*target as usize == *answer)))
            .collect();
        let accuracy = of_share(&right);
        let mut confusion = vec![vec![0usize; labels.len()]; labels.len()];
        targets
            .iter()
            .zip(answers)
            .for_each(|(target, answer)| confusion[*target as usize][*answer] += 1);
        let commonest = confusion.iter().map(|row| row.iter().sum::<usize>()).max().unwrap_or(0)
            as f64
            / targets.len() as f64;
        let report = json!({"accuracy": accuracy, "commonest_label": commonest, "labels": labels,
            "confusion": confusion});
        fs::write_atomic(&context.out().join("accuracy.json"), &serde_json::to_vec_pretty(&report)?)
    }
}
