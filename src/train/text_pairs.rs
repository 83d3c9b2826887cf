//! Training of a classifier of text pairs: on frozen features, or of the encoder that makes them
//! and the network over them at once. Knows no text.
//!
//! 1. The loss is the mean negative log-likelihood of the labels of a batch; weights decay, biases
//!    do not.
//! 2. With the encoder, the gradient goes on through features and pooling, which are on the host in
//!    double precision as they are where the classifier is asked, into the blocks that train. The
//!    global norm is over encoder and network.
//! 3. Each text of a pair is a separate sequence, and equal texts are read as often as they come:
//!    no row's bits depend on its company.

use super::archive::Archive;
use super::optimiser::{OptimiserConfig, TrainState};
use super::steps::State;
use crate::backend::{AdamW, Backend};
use crate::data::tokens::Encoded;
use crate::error::{Context, Result};
use crate::model::batch::{Batch, MICRO_BATCH_TOKENS, pack_by_tokens};
use crate::model::pairs::{self, NAMES, PairHead, PairNetwork, features_backward, wide_features};
use crate::model::params::{Role, Slot};
use crate::model::pooling::Pooling;
use crate::rl::Metrics;

/// A network in training.
pub struct PairHeadState<'a, B: Backend> {
    b: &'a B,
    /// (inputs, hidden, labels).
    sizes: (usize, usize, usize),
    tensors: [B::Buf; 4],
    masters: [B::Buf; 4],
    first: [B::Buf; 4],
    second: [B::Buf; 4],
    updates: u64,
}

impl<'a, B: Backend> PairHeadState<'a, B> {
    /// Takes a network into training.
    pub fn new(b: &'a B, head: &PairHead) -> Self {
        let tensors = head.tensors.each_ref().map(|tensor| b.upload(tensor));
        let masters = head.tensors.each_ref().map(|tensor| b.upload_wide(tensor));
        let zeros = || head.tensors.each_ref().map(|tensor| b.wide(tensor.len()));
        PairHeadState {
            b,
            sizes: head.sizes(),
            tensors,
            masters,
            first: zeros(),
            second: zeros(),
            updates: 0,
        }
    }

    /// What it has learned.
    pub fn finished(&self) -> PairHead {
        let (inputs, hidden, labels) = self.sizes;
        PairHead {
            inputs,
            hidden,
            labels,
            tensors: self.masters.each_ref().map(|tensor| self.b.download(tensor)),
        }
    }

    /// One step on features `[n,inputs]` and their labels; returns `loss`, in nats, `accuracy` and
    /// `grad_norm`, before it.
    pub fn step(
        &mut self,
        features: &[f32],
        targets: &[u32],
        config: &OptimiserConfig,
        rate: f64,
    ) -> Metrics {
        let (x, mut total, mut gradients) =
            (self.b.upload(features), Total::new(targets.len()), self.gradients());
        self.accumulate(&mut gradients, &mut total, &x, targets);
        let norm = self.squares(&gradients).sqrt();
        self.update(
            &gradients,
            config,
            rate,
            config.clip_norm.filter(|clip| norm > *clip).map_or(1.0, |clip| clip / norm),
        );
        total.metrics(norm)
    }

    /// Gradients of nothing yet.
    fn gradients(&self) -> [B::Buf; 4] {
        self.tensors.each_ref().map(|tensor| self.b.wide(self.b.len(tensor)))
    }

    /// Sum of squares of gradients.
    fn squares(&self, gradients: &[B::Buf; 4]) -> f64 {
        gradients.iter().map(|gradient| self.b.sum_squares(gradient)).sum()
    }

    /// Adds the loss of some pairs of a batch, with features `x [n,inputs]`, and its gradients;
    /// returns the gradient `[n,hidden]` of the hidden layer before its activation.
    fn accumulate(
        &self,
        gradients: &mut [B::Buf; 4],
        total: &mut Total,
        x: &B::Buf,
        targets: &[u32],
    ) -> B::Buf {
        let (b, n, (_, _, labels)) = (self.b, targets.len(), self.sizes);
        let network = PairNetwork::new(b, self.sizes, &self.tensors);
        let forward = network.forward(x, n);
        let logits = b.download_f64(&forward.logits);
        let dlogits = b.upload_f64(&cross_entropy(total, &logits, targets, labels));
        network.backward(gradients, &forward, &dlogits, x, n)
    }

    fn update(
        &mut self,
        gradients: &[B::Buf; 4],
        config: &OptimiserConfig,
        learning_rate: f64,
        gradient_scale: f64,
    ) {
        self.updates += 1;
        for (at, gradient) in gradients.iter().enumerate() {
            let weight_decay =
                if NAMES[at].ends_with("weight") { config.weight_decay } else { 0.0 };
            let OptimiserConfig { beta1, beta2, epsilon, .. } = *config;
            let step = AdamW {
                learning_rate,
                beta1,
                beta2,
                epsilon,
                weight_decay,
                step: self.updates,
                gradient_scale,
            };
            let moments = (&mut self.first[at], &mut self.second[at]);
            self.b.adamw(
                &mut self.masters[at],
                Some(&mut self.tensors[at]),
                moments.0,
                moments.1,
                gradient,
                step,
            );
        }
    }
}

/// Sums over the pairs of a batch.
struct Total {
    /// Pairs of the batch.
    pairs: usize,
    /// Sum over pairs, in nats.
    loss: f64,
    /// Pairs whose label is the likeliest.
    right: f64,
}

impl Total {
    fn new(pairs: usize) -> Self {
        Total { pairs, loss: 0.0, right: 0.0 }
    }

    fn metrics(&self, norm: f64) -> Metrics {
        let n = self.pairs as f64;
        vec![("loss", self.loss / n), ("accuracy", self.right / n), ("grad_norm", norm)]
    }
}

/// Adds the loss of logits `[n,classes]`, and gives its gradient in them, as a part of the batch's
/// mean.
fn cross_entropy(total: &mut Total, logits: &[f64], targets: &[u32], classes: usize) -> Vec<f64> {
    let (n, mut dlogits) = (total.pairs as f64, Vec::with_capacity(logits.len()));
    for (logits, target) in logits.chunks_exact(classes).zip(targets) {
        let (target, best) = (*target as usize, pairs::best(logits));
        let sum: f64 = logits.iter().map(|logit| (logit - logits[best]).exp()).sum();
        total.loss += logits[best] + sum.ln() - logits[target];
        total.right += f64::from(u8::from(best == target));
        let gradient = |class: usize| {
            (logits[class] - logits[best]).exp() / sum - f64::from(u8::from(class == target))
        };
        dlogits.extend((0..classes).map(|class| gradient(class) / n));
    }
    dlogits
}

/// An encoder and a network over pairs of its vectors, both in training.
pub struct PairTuner<'a, B: Backend> {
    /// The encoder.
    pub encoder: TrainState<B>,
    /// The network.
    pub head: PairHeadState<'a, B>,
    /// How a text's hidden states become its vector.
    pub pooling: Pooling,
    /// Whether vectors have length 1.
    pub normalize: bool,
}

/// The two texts of a pair.
pub type TokenPair = [Encoded; 2];

/// Tokens of both texts.
pub fn tokens(pair: &TokenPair) -> usize {
    pair.iter().map(|text| text.tokens.len()).sum()
}

impl<B: Backend> PairTuner<'_, B> {
    /// One step on pairs and their labels; returns `loss`, in nats, `accuracy` and `grad_norm`,
    /// before it.
    pub fn step(
        &mut self,
        batch: &[&TokenPair],
        targets: &[u32],
        config: &OptimiserConfig,
        rate: f64,
    ) -> Metrics {
        let (total, gradients) = self.backward(batch, targets, MICRO_BATCH_TOKENS);
        let (b, squares) = (self.head.b, self.head.squares(&gradients));
        let norm = self.encoder.update_beside(b, config, rate, 1.0, squares, makes_vectors);
        self.head.update(
            &gradients,
            config,
            rate,
            config.clip_norm.filter(|clip| norm > *clip).map_or(1.0, |clip| clip / norm),
        );
        total.metrics(norm)
    }

    /// The loss of a batch and the network's gradients; the encoder's are its own. About `most`
    /// tokens go through it at a time.
    fn backward(
        &mut self,
        batch: &[&TokenPair],
        targets: &[u32],
        most: usize,
    ) -> (Total, [B::Buf; 4]) {
        let (mut total, mut gradients) = (Total::new(batch.len()), self.head.gradients());
        self.encoder.clear_gradients(self.head.b);
        for run in pack_by_tokens(batch.iter().map(|pair| tokens(pair)), most) {
            self.accumulate(&mut gradients, &mut total, &batch[run.clone()], &targets[run]);
        }
        (total, gradients)
    }

    /// Adds the loss of some pairs of a batch, and its gradients to `head` and to the encoder's
    /// own.
    fn accumulate(
        &mut self,
        head: &mut [B::Buf; 4],
        total: &mut Total,
        pairs: &[&TokenPair],
        targets: &[u32],
    ) {
        let (b, (inputs, _, _)) = (self.head.b, self.head.sizes);
        let texts = || pairs.iter().flat_map(|pair| pair.iter());
        let tokens: Vec<&[u32]> = texts().map(|text| text.tokens.as_slice()).collect();
        let batch = Batch {
            types: texts().flat_map(|text| text.types.iter().copied()).collect(),
            ..Batch::new(&tokens)
        };
        let activations = self.encoder.forward(b, &batch);
        let width = self.encoder.model.spec.embedding_width;
        let states = b.download_f64(&activations.hidden);
        let states: Vec<&[f64]> = batch
            .starts
            .windows(2)
            .map(|range| &states[range[0] * width..range[1] * width])
            .collect();
        let vectors: Vec<Vec<f64>> =
            states.iter().map(|states| self.pooling.pool(states, width, self.normalize)).collect();
        let features: Vec<f64> =
            vectors.chunks_exact(2).flat_map(|two| wide_features(&two[0], &two[1])).collect();

        let ddense = self.head.accumulate(head, total, &b.upload_f64(&features), targets);
        let mut dfeatures = b.zeros(features.len());
        let network = PairNetwork::new(b, self.head.sizes, &self.head.tensors);
        network.backward_features(&mut dfeatures, &ddense, pairs.len());
        let dfeatures = b.download_f64(&dfeatures);
        let mut dstates = Vec::with_capacity(batch.rows() * width);
        for (pair, dfeatures) in dfeatures.chunks_exact(inputs).enumerate() {
            let (du, dv) = features_backward(dfeatures, &vectors[2 * pair], &vectors[2 * pair + 1]);
            for (dvector, states) in [du, dv].iter().zip(&states[2 * pair..]) {
                dstates.extend(self.pooling.pool_backward(dvector, states, width, self.normalize));
            }
        }
        self.encoder.backward(b, &batch, &activations, &b.upload_f64(&dstates));
    }
}

/// Whether a tensor has a part in a text's vector: heads have none.
fn makes_vectors(slot: &Slot) -> bool {
    !matches!(
        slot.role,
        Role::LanguageHead | Role::Scalar | Role::ClassifierDense | Role::ClassifierOut
    )
}

impl<B: Backend> State for PairTuner<'_, B> {
    fn save(&self, archive: &mut Archive) {
        self.head.save(archive);
        self.encoder.save(self.head.b, "encoder", archive);
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        self.head.load(archive)?;
        self.encoder.load(self.head.b, "encoder", archive)
    }
}

impl<B: Backend> State for PairHeadState<'_, B> {
    fn save(&self, archive: &mut Archive) {
        for (at, name) in NAMES.iter().enumerate() {
            for (part, tensor) in [
                ("weight", &self.masters[at]),
                ("first", &self.first[at]),
                ("second", &self.second[at]),
            ] {
                archive.put(format!("{part}.{name}"), self.b.download(tensor));
            }
        }
        archive.put_text("updates", self.updates.to_string());
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        for (at, name) in NAMES.iter().enumerate() {
            let part = |part: &str| archive.get(&format!("{part}.{name}"));
            (self.tensors[at], self.masters[at]) =
                (self.b.upload(part("weight")?), self.b.upload_wide(part("weight")?));
            (self.first[at], self.second[at]) =
                (self.b.upload_wide(part("first")?), self.b.upload_wide(part("second")?));
        }
        self.updates = archive
            .text("updates")?
            .parse()
            .context("a checkpoint's count of updates is a number")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::prelude::*;
    use crate::model::params::{HeadKind, Params, Trainable};
    use crate::model::spec::{Activation, FeedForward, Mask, Norm, Spec, Wiring};
    use crate::model::weights::{Model, unique};
    use crate::random::Stream;

    /// Adds to a number of a tensor.
    type Move<'a> = dyn Fn(&mut PairTuner<'_, Cpu<f64>>, usize, f64) + 'a;

    /// A small encoder of BERT's form.
    fn spec() -> Spec {
        let spec = Spec {
            wiring: Wiring::Post,
            norm: Norm::Layer,
            ..Spec::decoder(9, 8, 2, 2, 10, 7).with_learned_positions()
        };
        let spec = Spec {
            feed_forward: FeedForward::Plain(Activation::Silu),
            feed_forward_bias: true,
            query_key_value_bias: true,
            output_bias: true,
            ..spec
        };
        Spec {
            final_norm: false,
            embedding_norm: true,
            token_types: 2,
            ..spec.with_each_layer(|layer| layer.mask = Mask::Bidirectional)
        }
    }

    fn model<B: Backend>(b: &B, spec: Spec, head: HeadKind) -> Model<B> {
        let params = Params::slots(&spec, head).map(|slot| {
            let mut draws = Stream::new(5, &slot.name).sequence(0);
            let centre = if slot.role.is_norm() && !slot.bias { 1.0 } else { 0.0 };
            (0..slot.count()).map(|_| centre + 0.4 * draws.normal() as f32).collect()
        });
        Model::upload(b, spec, head, params)
    }

    fn tuner<'a, B: Backend>(
        b: &'a B,
        model: &Model<B>,
        trainable: Trainable,
        pooling: Pooling,
        normalize: bool,
    ) -> PairTuner<'a, B> {
        let encoder = TrainState::new(b, model, trainable).unwrap();
        PairTuner {
            encoder,
            head: PairHeadState::new(b, &PairHead::new(32, 10, 3, 1)),
            pooling,
            normalize,
        }
    }

    /// Pairs whose texts are of several lengths, and their labels; in one both texts are the same.
    fn pairs() -> (Vec<TokenPair>, Vec<u32>) {
        let text = |tokens: &[u32]| Encoded {
            types: (0..tokens.len()).map(|at| at as u32 % 2).collect(),
            tokens: tokens.to_vec(),
        };
        let pair = |one: &[u32], other: &[u32]| [text(one), text(other)];
        (
            vec![
                pair(&[1, 4, 2], &[1, 5, 6, 2]),
                pair(&[1, 7, 8, 3, 2], &[1]),
                pair(&[3, 4], &[4, 3]),
                pair(&[2, 6], &[2, 6]),
            ],
            vec![2, 0, 1, 1],
        )
    }

    #[test]
    fn gradients_through_pooling_and_encoder_match_differences() {
        const STEP: f64 = 1e-5;
        let (b, (pairs, targets)) = (Cpu::<f64>::new(), pairs());
        let pairs: Vec<&TokenPair> = pairs.iter().collect();
        for (pooling, normalize) in
            [(Pooling::Mean, true), (Pooling::Mean, false), (Pooling::Cls, true)]
        {
            let mut tuner = tuner(
                &b,
                &model(&b, spec(), HeadKind::Encoder),
                Trainable::ALL,
                pooling,
                normalize,
            );
            let (total, head) = tuner.backward(&pairs, &targets, usize::MAX);
            assert!(total.loss > 0.0);
            let slots = tuner.encoder.model.slots().into_vec();
            let encoder: Vec<Vec<f64>> = tuner
                .encoder
                .gradients
                .total(&b)
                .iter()
                .map(|own| b.download_f64(own.as_ref().unwrap()))
                .collect();
            let mut check = |name: &str, analytic: &[f64], tensor: &Move| {
                for (at, analytic) in analytic.iter().enumerate() {
                    let mut loss = |by: f64| {
                        tensor(&mut tuner, at, by);
                        let loss = tuner.backward(&pairs, &targets, usize::MAX).0.loss / 4.0;
                        tensor(&mut tuner, at, -by);
                        loss
                    };
                    let difference = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                    let error = (difference - analytic).abs();
                    assert!(
                        error < 1e-7,
                        "{name}[{at}], {pooling:?}: {analytic} by hand, {difference} by difference"
                    );
                }
                analytic.iter().fold(0.0f64, |largest, x| largest.max(x.abs()))
            };
            for (index, (slot, analytic)) in slots.iter().zip(&encoder).enumerate() {
                let scale = check(&slot.name, analytic, &|tuner, at, by| {
                    unique(tuner.encoder.model.weights.iter_mut().nth(index).unwrap())[at] += by;
                });
                // Adding the same to all keys changes all scores of a query alike.
                assert!(
                    (slot.role == Role::Key && slot.bias) == (scale < 1e-8),
                    "{}: a gradient of {scale} shows nothing",
                    slot.name
                );
            }
            for (index, gradient) in head.iter().enumerate() {
                let scale = check(NAMES[index], &b.download_f64(gradient), &|tuner, at, by| {
                    tuner.head.tensors[index][at] += by
                });
                assert!(scale > 1e-4);
            }
        }
    }

    #[test]
    fn a_step_has_the_same_bits_in_any_parts_and_on_any_threads() {
        let (b, (pairs, targets)) = (Cpu::<f32>::new(), pairs());
        let pairs: Vec<&TokenPair> = pairs.iter().collect();
        let gradients = |tokens: usize| {
            let trainable = Trainable::above(&spec(), 1);
            let mut tuner =
                tuner(&b, &model(&b, spec(), HeadKind::Encoder), trainable, Pooling::Mean, true);
            let (total, head) = tuner.backward(&pairs, &targets, tokens);
            let encoder: Vec<Vec<f32>> = tuner
                .encoder
                .gradients
                .total(&b)
                .iter()
                .flatten()
                .map(|own| b.download(own))
                .collect();
            (total.loss.to_bits(), head.map(|gradient| b.download(&gradient)), encoder)
        };
        let whole = gradients(usize::MAX);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for tokens in [1, 10] {
                assert!(
                    pool.install(|| gradients(tokens)) == whole,
                    "{tokens} tokens at a time on {threads} threads"
                );
            }
        }
    }

    #[test]
    fn heads_that_make_no_vector_keep_their_weights() {
        let b = Cpu::<f32>::new();
        let spec = Spec { tied: false, ..Spec::decoder(9, 8, 2, 2, 10, 7) };
        let model = model(&b, spec, HeadKind::Language);
        let mut tuner = tuner(&b, &model, Trainable::ALL, Pooling::Mean, true);
        let config: OptimiserConfig =
            serde_json::from_value(serde_json::json!({"learning_rate": 0.1, "weight_decay": 0.5}))
                .unwrap();
        let (pairs, targets) = pairs();
        tuner.step(&pairs.iter().collect::<Vec<_>>(), &targets, &config, 0.1);
        let slots = model.slots();
        for (slot, (now, before)) in
            slots.iter().zip(tuner.encoder.model.weights.iter().zip(model.weights.iter()))
        {
            assert_eq!(
                b.download(now) == b.download(before),
                slot.role == Role::LanguageHead,
                "{}",
                slot.name
            );
        }
    }

    #[test]
    fn the_gradient_of_the_loss_is_its_slope() {
        let (logits, targets) = ([0.3, -1.0, 2.0, 1.5, 0.2, -0.7], [2, 0]);
        let mut total = Total::new(2);
        let gradient = cross_entropy(&mut total, &logits, &targets, 3);
        assert_eq!(total.right, 2.0);
        for at in 0..6 {
            let moved = |by: f64| {
                let mut logits = logits;
                logits[at] += by;
                let mut total = Total::new(2);
                cross_entropy(&mut total, &logits, &targets, 3);
                total.loss / 2.0
            };
            assert!((gradient[at] - (moved(1e-6) - moved(-1e-6)) / 2e-6).abs() < 1e-8);
        }
    }
}
