//! The token head: its scores and gradients have the same bits for any size of chunks and any
//! number of passes.

use posttrain::backend::Backend;
use posttrain::model::batch::Batch;
use posttrain::model::heads::{self, TargetTokens};
use posttrain::model::params::{HeadKind, Trainable};
use posttrain::model::spec::Spec;
use posttrain::model::transformer;
use posttrain::model::weights::{Gradients, Model};

use super::{Double, Single, model, next_tokens, sequences, spec};

/// How a head is run over its rows.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// Forward and backward in one pass.
    AtOnce,
    /// Forward, then backward.
    InTurn,
    /// The same for a loss that depends on entropies too.
    WithEntropies,
}

/// What a head is run on.
pub struct Case<'a, B: Backend> {
    pub model: &'a Model<B>,
    pub hidden: &'a B::Buf,
    pub rows: &'a [u32],
    pub targets: &'a [u32],
}

impl<B: Backend> Case<'_, B> {
    /// Log-probabilities, entropies, the gradients of hidden states and of the head, as bits;
    /// `at_a_time` rows to a call.
    pub fn run(&self, b: &B, how: How, at_a_time: usize) -> [Vec<u64>; 4] {
        let (mut dhidden, mut gradients) =
            (b.zeros(b.len(self.hidden)), Gradients::zeros(b, self.model, &Trainable::ALL));
        let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
        for (rows, targets) in self.rows.chunks(at_a_time).zip(self.targets.chunks(at_a_time)) {
            let scored = TargetTokens { rows, targets, temperature: 0.9 };
            let (dhidden, gradients, dlogprob) = (&mut dhidden, &mut gradients, -0.37);
            let mut said = |scores: &heads::Scores<B>| {
                logprobs.extend(b.download_f64(&scores.logprobs));
                entropies.extend(b.download_f64(&scores.entropies));
            };
            match how {
                How::AtOnce => said(&heads::token_gradients(
                    b,
                    self.model,
                    dhidden,
                    gradients,
                    self.hidden,
                    scored,
                    dlogprob,
                )),
                How::InTurn | How::WithEntropies => {
                    let scores = heads::token_logprobs(b, self.model, self.hidden, scored, true);
                    said(&scores);
                    let dlogprobs = b.upload_wide_f64(&vec![dlogprob; rows.len()]);
                    let dentropies = matches!(how, How::WithEntropies).then_some(&dlogprobs);
                    heads::token_scores_backward(
                        b,
                        self.model,
                        dhidden,
                        gradients,
                        self.hidden,
                        scored,
                        scores,
                        heads::ScoreGradients { logprobs: &dlogprobs, entropies: dentropies },
                    );
                }
            }
        }
        let total = gradients.total(b);
        let head =
            total.lm_head.as_ref().unwrap_or(&total.embedding).as_ref().expect("all of it trains");
        [logprobs, entropies, b.download_f64(&dhidden), b.download_f64(head)]
            .map(|x| x.into_iter().map(f64::to_bits).collect())
    }
}

/// A gradient of weights is summed over groups of at most 16 rows, which parts here do not cut.
pub fn agrees<B: Backend>(b: &B) {
    for spec in [spec(true), Spec { vocabulary: 40, ..spec(false) }] {
        let model = model(b, &spec, HeadKind::Language);
        let batch = Batch::new(&sequences(&spec, &[20, 1, 27]));
        let hidden = transformer::hidden(b, &model, &batch);
        let (rows, targets) = next_tokens(&batch);
        let case = Case { model: &model, hidden: &hidden, rows: &rows, targets: &targets };
        let whole = case.run(b, How::InTurn, rows.len());
        assert!(whole.iter().all(|x| x.iter().any(|bits| f64::from_bits(*bits) != 0.0)));
        for (how, at_a_time) in [(How::AtOnce, rows.len()), (How::AtOnce, 16), (How::InTurn, 32)] {
            assert!(case.run(b, how, at_a_time) == whole, "{how:?}, {at_a_time} rows at a time");
        }
        let whole = case.run(b, How::WithEntropies, rows.len());
        assert!(case.run(b, How::WithEntropies, 32) == whole, "entropies, 32 rows at a time");
    }
}

#[test]
fn passes_and_parts_change_no_bit_of_scores_and_gradients() {
    agrees(&Single::new());
    agrees(&Double::new());
}
