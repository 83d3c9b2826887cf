//! Training of a classifier of text pairs on frozen features. Knows no text and no encoder.
//!
//! The loss is the mean negative log-likelihood of the labels of a batch; weights decay, biases do not.

use super::archive::Archive;
use super::optimiser::OptimiserConfig;
use super::steps::State;
use crate::backend::{Activation, AdamW, Backend};
use crate::error::{Context, Result};
use crate::model::pairs::{self, NAMES, PairHead};
use crate::rl::Metrics;

/// A network in training.
pub struct PairLearner<'a, B: Backend> {
    b: &'a B,
    /// (inputs, hidden, labels).
    sizes: (usize, usize, usize),
    tensors: [B::Buf; 4],
    masters: [B::Buf; 4],
    first: [B::Buf; 4],
    second: [B::Buf; 4],
    updates: u64,
}

impl<'a, B: Backend> PairLearner<'a, B> {
    /// Takes a network into training.
    pub fn new(b: &'a B, head: &PairHead) -> Self {
        let tensors = head.tensors.each_ref().map(|tensor| b.upload(tensor));
        let masters = head.tensors.each_ref().map(|tensor| b.upload_wide(tensor));
        let zeros = || head.tensors.each_ref().map(|tensor| b.wide(tensor.len()));
        PairLearner { b, sizes: head.sizes(), tensors, masters, first: zeros(), second: zeros(), updates: 0 }
    }

    /// What it has learned.
    pub fn finished(&self) -> PairHead {
        let (inputs, hidden, labels) = self.sizes;
        PairHead { inputs, hidden, labels, tensors: self.masters.each_ref().map(|tensor| self.b.download(tensor)) }
    }

    /// One step on features `[n,inputs]` and their labels; returns `loss`, in nats, `accuracy` and `grad_norm`, before it.
    pub fn step(&mut self, features: &[f32], targets: &[u32], config: &OptimiserConfig, rate: f64) -> Metrics {
        let (b, n, (i, h, o)) = (self.b, targets.len(), self.sizes);
        let x = b.upload(features);
        let forward = pairs::forward(b, self.sizes, &self.tensors, &x, n);
        let (loss, accuracy, dlogits) = cross_entropy(&b.download_f64(&forward.logits), targets, o);
        let dlogits = b.upload_f64(&dlogits);
        let mut gradients = self.tensors.each_ref().map(|tensor| b.wide(b.len(tensor)));
        let [ddense, ddense_bias, dout, dout_bias] = &mut gradients;
        b.linear_backward_weight(dout, Some(dout_bias), &dlogits, &forward.activated, n, h, o);
        let (mut dactivated, mut dhidden) = (b.zeros(n * h), b.zeros(n * h));
        b.linear_backward_input(&mut dactivated, &dlogits, &self.tensors[2], n, h, o);
        b.activation_backward(&mut dhidden, &dactivated, &forward.dense, Activation::Relu);
        b.linear_backward_weight(ddense, Some(ddense_bias), &dhidden, &x, n, i, h);
        let norm = gradients.iter().map(|gradient| b.sum_squares(gradient)).sum::<f64>().sqrt();
        self.update(&gradients, config, rate, config.clip_norm.filter(|clip| norm > *clip).map_or(1.0, |clip| clip / norm));
        vec![("loss", loss), ("accuracy", accuracy), ("grad_norm", norm)]
    }

    fn update(&mut self, gradients: &[B::Buf; 4], config: &OptimiserConfig, learning_rate: f64, gradient_scale: f64) {
        self.updates += 1;
        for (at, gradient) in gradients.iter().enumerate() {
            let weight_decay = if NAMES[at].ends_with("weight") { config.weight_decay } else { 0.0 };
            let OptimiserConfig { beta1, beta2, epsilon, .. } = *config;
            let step = AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step: self.updates, gradient_scale };
            let moments = (&mut self.first[at], &mut self.second[at]);
            self.b.adamw(&mut self.masters[at], Some(&mut self.tensors[at]), moments.0, moments.1, gradient, step);
        }
    }
}

/// Mean loss and accuracy of logits `[n,classes]`, and the loss's gradient in them.
fn cross_entropy(logits: &[f64], targets: &[u32], classes: usize) -> (f64, f64, Vec<f64>) {
    let n = targets.len() as f64;
    let (mut loss, mut right, mut dlogits) = (0.0, 0.0, Vec::with_capacity(logits.len()));
    for (logits, target) in logits.chunks_exact(classes).zip(targets) {
        let (target, best) = (*target as usize, pairs::best(logits));
        let sum: f64 = logits.iter().map(|logit| (logit - logits[best]).exp()).sum();
        loss += logits[best] + sum.ln() - logits[target];
        right += f64::from(u8::from(best == target));
        let gradient = |class: usize| (logits[class] - logits[best]).exp() / sum - f64::from(u8::from(class == target));
        dlogits.extend((0..classes).map(|class| gradient(class) / n));
    }
    (loss / n, right / n, dlogits)
}

impl<B: Backend> State for PairLearner<'_, B> {
    fn save(&self, archive: &mut Archive) {
        for (at, name) in NAMES.iter().enumerate() {
            for (part, tensor) in [("weight", &self.masters[at]), ("first", &self.first[at]), ("second", &self.second[at])] {
                archive.put(format!("{part}.{name}"), self.b.download(tensor));
            }
        }
        archive.put_text("updates", self.updates.to_string());
    }

    fn load(&mut self, archive: &Archive) -> Result<()> {
        for (at, name) in NAMES.iter().enumerate() {
            let part = |part: &str| archive.get(&format!("{part}.{name}"));
            (self.tensors[at], self.masters[at]) = (self.b.upload(part("weight")?), self.b.upload_wide(part("weight")?));
            (self.first[at], self.second[at]) = (self.b.upload_wide(part("first")?), self.b.upload_wide(part("second")?));
        }
        self.updates = archive.text("updates")?.parse().context("a checkpoint's count of updates is a number")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_of_the_loss_is_its_slope() {
        let (logits, targets) = ([0.3, -1.0, 2.0, 1.5, 0.2, -0.7], [2, 0]);
        let (_, accuracy, gradient) = cross_entropy(&logits, &targets, 3);
        assert_eq!(accuracy, 1.0);
        for at in 0..6 {
            let moved = |by: f64| {
                let mut logits = logits;
                logits[at] += by;
                cross_entropy(&logits, &targets, 3).0
            };
            assert!((gradient[at] - (moved(1e-6) - moved(-1e-6)) / 2e-6).abs() < 1e-8);
        }
    }
}
