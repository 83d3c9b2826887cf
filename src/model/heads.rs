//! Hidden states to log-probabilities of tokens, to scalar scores or to logits of classes, and
//! their gradients back. Independent of losses.
//!
//! Details that matter:
//! 1. Logits, scalar scores and logits of classes are wide: what is stored in bf16 has steps of
//!    1/32 near 5, too coarse for a log-probability. Their gradients are stored, as every factor of
//!    a matrix product is: rounding one is off by a share of itself, and is added up in wide sums.
//! 2. Logits are made for scored rows only, and for [`CHUNK`] numbers at a time, so that a long
//!    batch never has them all in memory. A row's bits do not depend on its chunk, and the language
//!    head's gradient is summed in row order over all chunks.
//! 3. Where the loss is linear in the log-probabilities, a chunk's gradient is taken at once
//!    ([`token_gradients`]). Where it depends on them, as PPO's does, the logits of a batch of one
//!    chunk are kept for the backward pass, those of a larger one are made again: the same bits.

use crate::backend::{Activation, Backend, GROUP, ops};

use super::linear::Linear;
use super::weights::{Gradients, Model};

/// Logits made at a time (numbers, not bytes): 128 MiB in single precision, and a half or all of it
/// again for their gradient. That is some 640 rows for 50,000 tokens, for which reading the head's
/// weights, and its gradient and writing that, takes no longer than the products, on a device that
/// computes some 270 times as fast as it reads.
const CHUNK: usize = 1 << 25;
/// Rows of a tile: chunks of at least this many rows are whole tiles.
const TILE: usize = 128;

/// Tokens to score: for each of m rows of hidden states, the token that follows it.
#[derive(Clone, Copy, Debug)]
pub struct TargetTokens<'a> {
    /// `[m]`: rows of the batch; the row of a token predicts the next one.
    pub rows: &'a [u32],
    /// `[m]`: the tokens that follow.
    pub targets: &'a [u32],
    /// Logits are divided by it.
    pub temperature: f32,
}

/// Log-probabilities of `m` tokens, where they were computed.
pub struct Scores<B: Backend> {
    /// `[m]`, wide: log-probability of each target, in nats.
    pub logprobs: B::Buf,
    /// `[m]`, wide: entropy of each row's distribution, in nats.
    pub entropies: B::Buf,
    /// For a backward pass: `[m]` of each chunk.
    lses: Vec<B::Buf>,
    /// For a backward pass: `[m,v]`, where there is one chunk.
    logits: Option<B::Buf>,
}

/// Rows of a chunk of logits of `v` tokens.
pub(super) fn chunk_rows(v: usize) -> usize {
    let rows = (CHUNK / v).max(GROUP);
    rows - rows % if rows < TILE { GROUP } else { TILE }
}

/// `[m,e]`: the hidden states of `rows`.
fn gather<B: Backend>(b: &B, hidden: &B::Buf, rows: &[u32], d: usize) -> B::Buf {
    let mut out = b.zeros(rows.len() * d);
    b.gather_rows(&mut out, hidden, rows, d);
    out
}

/// `[m,v]`, wide: logits of all `m` rows of `hidden[m,e]`.
pub fn logits<B: Backend>(b: &B, model: &Model<B>, hidden: &B::Buf, m: usize) -> B::Buf {
    let mut out = b.wide(m * model.spec.vocabulary);
    language_head(b, model).forward(&mut out, hidden, m);
    out
}

/// The layer from what heads read to logits of tokens.
fn language_head<'a, B: Backend>(b: &'a B, model: &'a Model<B>) -> Linear<'a, B> {
    let sizes = [model.spec.embedding_width, model.spec.vocabulary];
    Linear::new(b, model.language_head(), None, sizes)
}

impl<'a> TargetTokens<'a> {
    /// Some rows after others, each with its first row's index.
    fn chunks(self, v: usize) -> impl Iterator<Item = (usize, TargetTokens<'a>)> {
        assert_eq!(self.rows.len(), self.targets.len(), "a target for every scored row");
        let (size, TargetTokens { rows, targets, temperature }) = (chunk_rows(v), self);
        let chunks = rows.chunks(size).zip(targets.chunks(size)).enumerate();
        chunks.map(move |(at, (rows, targets))| {
            (at * size, TargetTokens { rows, targets, temperature })
        })
    }
}

/// Scores of chunks, as they come.
struct Chunks<B: Backend> {
    logprobs: Vec<B::Buf>,
    entropies: Vec<B::Buf>,
}

impl<B: Backend> Chunks<B> {
    fn none() -> Self {
        Chunks { logprobs: Vec::new(), entropies: Vec::new() }
    }

    /// Adds the scores of a chunk; gives back its `lse[m]`.
    fn push(&mut self, b: &B, logits: &B::Buf, chunk: TargetTokens<'_>, v: usize) -> B::Buf {
        let m = chunk.rows.len();
        let (mut logprob, mut lse, mut entropy) = (b.wide(m), b.wide(m), b.wide(m));
        b.token_logprobs(ops::TokenLogprobs {
            logprob: &mut logprob,
            lse: &mut lse,
            entropy: &mut entropy,
            logits,
            targets: chunk.targets,
            temperature: chunk.temperature,
            v,
        });
        self.logprobs.push(logprob);
        self.entropies.push(entropy);
        lse
    }

    /// All of them, with what a backward pass needs.
    fn scores(self, b: &B, lses: Vec<B::Buf>, logits: Option<B::Buf>) -> Scores<B> {
        Scores {
            logprobs: joined(b, self.logprobs),
            entropies: joined(b, self.entropies),
            lses,
            logits,
        }
    }
}

/// Wide parts, one after the other.
fn joined<B: Backend>(b: &B, mut parts: Vec<B::Buf>) -> B::Buf {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut whole = b.wide(parts.iter().map(|part| b.len(part)).sum());
    let mut first = 0;
    for part in &parts {
        let rows: Vec<u32> = (first..).take(b.len(part)).collect();
        b.scatter_add_rows(&mut whole, part, &rows, 1);
        first += rows.len() as u32;
    }
    whole
}

/// Scores tokens from the `hidden[n,e]` of a forward pass. `keep` is for a backward pass to come.
pub fn token_logprobs<B: Backend>(
    b: &B,
    model: &Model<B>,
    hidden: &B::Buf,
    scored: TargetTokens<'_>,
    keep: bool,
) -> Scores<B> {
    let (d, v) = (model.spec.embedding_width, model.spec.vocabulary);
    let (mut chunks, mut lses, mut kept) = (Chunks::none(), Vec::new(), None);
    for (_, chunk) in scored.chunks(v) {
        let logits = logits(b, model, &gather(b, hidden, chunk.rows, d), chunk.rows.len());
        let lse = chunks.push(b, &logits, chunk, v);
        if keep {
            lses.push(lse);
            kept = (chunk.rows.len() == scored.rows.len()).then_some(logits);
        }
    }
    chunks.scores(b, lses, kept)
}

/// Adds to `dhidden[n,e]` and to the language head's gradient, from `dlogprobs[m]`, wide, the
/// gradient of [`Scores::logprobs`].
///
/// # Panics
/// Where `scores` were made without `keep`, or of other rows.
#[expect(clippy::too_many_arguments)]
pub fn token_logprobs_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    dhidden: &mut B::Buf,
    gradients: &mut Gradients<B>,
    hidden: &B::Buf,
    scored: TargetTokens<'_>,
    scores: Scores<B>,
    dlogprobs: &B::Buf,
) {
    let loss = ScoreGradients { logprobs: dlogprobs, entropies: None };
    token_scores_backward(b, model, dhidden, gradients, hidden, scored, scores, loss);
}

/// The gradient of a loss by [`Scores`]; a number for each scored row, wide.
#[derive(Debug)]
pub struct ScoreGradients<'a, B: Backend> {
    /// By log-probabilities.
    pub logprobs: &'a B::Buf,
    /// By entropies, where the loss has them.
    pub entropies: Option<&'a B::Buf>,
}

/// [`token_logprobs_backward`] of a loss that may depend on entropies too.
///
/// # Panics
/// Where `scores` were made without `keep`, or of other rows.
#[expect(clippy::too_many_arguments)]
pub fn token_scores_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    dhidden: &mut B::Buf,
    gradients: &mut Gradients<B>,
    hidden: &B::Buf,
    scored: TargetTokens<'_>,
    mut scores: Scores<B>,
    loss: ScoreGradients<'_, B>,
) {
    let (d, v) = (model.spec.embedding_width, model.spec.vocabulary);
    for given in [Some(loss.logprobs), loss.entropies].into_iter().flatten() {
        assert_eq!(scored.rows.len(), b.len(given), "a gradient for every scored row");
    }
    assert_eq!(
        scores.lses.len(),
        scored.rows.len().div_ceil(chunk_rows(v)),
        "scores of these rows, kept"
    );
    for ((first, chunk), lse) in scored.chunks(v).zip(scores.lses) {
        let x = gather(b, hidden, chunk.rows, d);
        let m = chunk.rows.len();
        let logits = scores.logits.take().unwrap_or_else(|| logits(b, model, &x, m));
        if m == scored.rows.len() {
            let own = Chunk { scored: chunk, x, logits, lse: &lse, entropy: &scores.entropies };
            return backward(b, model, dhidden, gradients, own, &loss);
        }
        let of_chunk = |whole: &B::Buf| {
            let (mut part, rows) = (b.wide(m), (first as u32..).take(m).collect::<Vec<u32>>());
            b.gather_rows(&mut part, whole, &rows, 1);
            part
        };
        let (dlogprobs, dentropies) = (of_chunk(loss.logprobs), loss.entropies.map(of_chunk));
        let entropy = of_chunk(&scores.entropies);
        let own = Chunk { scored: chunk, x, logits, lse: &lse, entropy: &entropy };
        let loss = ScoreGradients { logprobs: &dlogprobs, entropies: dentropies.as_ref() };
        backward(b, model, dhidden, gradients, own, &loss);
    }
}

/// Scores tokens and adds to `dhidden[n,e]` and to the language head's gradient, for a loss with
/// the same derivative `dlogprob` by each log-probability: [`token_logprobs`] and
/// [`token_logprobs_backward`] in one pass, which makes the logits of a chunk once.
pub fn token_gradients<B: Backend>(
    b: &B,
    model: &Model<B>,
    dhidden: &mut B::Buf,
    gradients: &mut Gradients<B>,
    hidden: &B::Buf,
    scored: TargetTokens<'_>,
    dlogprob: f64,
) -> Scores<B> {
    let (d, v) = (model.spec.embedding_width, model.spec.vocabulary);
    let mut chunks = Chunks::none();
    for (_, chunk) in scored.chunks(v) {
        let x = gather(b, hidden, chunk.rows, d);
        let logits = logits(b, model, &x, chunk.rows.len());
        let lse = chunks.push(b, &logits, chunk, v);
        let dlogprobs = b.upload_wide_f64(&vec![dlogprob; chunk.rows.len()]);
        let entropy = chunks.entropies.last().expect("the chunk's own");
        let own = Chunk { scored: chunk, x, logits, lse: &lse, entropy };
        let loss = ScoreGradients { logprobs: &dlogprobs, entropies: None };
        backward(b, model, dhidden, gradients, own, &loss);
    }
    chunks.scores(b, Vec::new(), None)
}

/// Rows of one chunk, with their hidden states `x[m,e]`, wide `logits[m,v]`, `lse[m]` and
/// `entropy[m]`.
struct Chunk<'a, B: Backend> {
    scored: TargetTokens<'a>,
    x: B::Buf,
    logits: B::Buf,
    lse: &'a B::Buf,
    entropy: &'a B::Buf,
}

/// The backward pass of one chunk.
fn backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    dhidden: &mut B::Buf,
    gradients: &mut Gradients<B>,
    chunk: Chunk<'_, B>,
    loss: &ScoreGradients<'_, B>,
) {
    let Chunk { scored, x, logits, lse, entropy } = chunk;
    let TargetTokens { rows, targets, temperature } = scored;
    let (m, d, v) = (rows.len(), model.spec.embedding_width, model.spec.vocabulary);
    // logprob = logits[target] / temperature - lse
    let mut dlogits = b.zeros(m * v);
    match loss.entropies {
        None => b.token_logprobs_backward(ops::TokenLogprobsBackward {
            dlogits: &mut dlogits,
            logits: &logits,
            dlogprob: loss.logprobs,
            lse,
            targets,
            temperature,
            v,
        }),
        Some(dentropy) => b.token_scores_backward(ops::TokenScoresBackward {
            dlogits: &mut dlogits,
            logits: &logits,
            dlogprob: loss.logprobs,
            dentropy,
            lse,
            entropy,
            targets,
            temperature,
            v,
        }),
    }
    drop(logits);
    // logits = linear(x, language_head)
    let (head, mut dx) = (language_head(b, model), b.zeros(m * d));
    head.backward_input(&mut dx, &dlogits, m);
    head.backward_weight(gradients.language_head_mut(b), None, &dlogits, &x, m);
    // x = hidden[rows]
    b.scatter_add_rows(dhidden, &dx, rows, d);
}

/// `[m]`, wide: the scalar head's number for each of `rows`, from the `hidden[n,e]` of a forward
/// pass.
///
/// # Panics
/// Where the model has no scalar head.
pub fn scalars<B: Backend>(b: &B, model: &Model<B>, hidden: &B::Buf, rows: &[u32]) -> B::Buf {
    let (m, mut scores) = (rows.len(), b.wide(rows.len()));
    let x = gather(b, hidden, rows, model.spec.embedding_width);
    scalar_head(b, model).forward(&mut scores, &x, m);
    scores
}

/// The layer from what heads read to one number.
///
/// # Panics
/// If the model has no scalar head.
fn scalar_head<'a, B: Backend>(b: &'a B, model: &'a Model<B>) -> Linear<'a, B> {
    let weights = model.weights.scalar.as_ref().expect("the model has a scalar head");
    Linear::of(b, weights, [model.spec.embedding_width, 1])
}

/// What [`scalars`] gives, on the host.
///
/// # Panics
/// Where the model has no scalar head.
pub fn scalar_scores<B: Backend>(
    b: &B,
    model: &Model<B>,
    hidden: &B::Buf,
    rows: &[u32],
) -> Vec<f64> {
    b.download_f64(&scalars(b, model, hidden, rows))
}

/// Adds to `dhidden[n,e]` and to the scalar head's gradients, from `dscores[m]`, stored, the
/// gradient of what [`scalars`] gave.
///
/// # Panics
/// Where the model has no scalar head.
pub fn scalar_scores_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    dhidden: &mut B::Buf,
    gradients: &mut Gradients<B>,
    hidden: &B::Buf,
    rows: &[u32],
    dscores: &B::Buf,
) {
    let (m, d, head) = (rows.len(), model.spec.embedding_width, scalar_head(b, model));
    let dhead =
        gradients.params_mut().scalar.as_mut().expect("the gradients have the model's form");
    // scores = linear(hidden[rows], weight, bias)
    head.backward_weights(dhead, dscores, &gather(b, hidden, rows, d), m);
    let mut dx = b.zeros(m * d);
    head.backward_input(&mut dx, dscores, m);
    b.scatter_add_rows(dhidden, &dx, rows, d);
}

/// Logits of sequences' classes, with what their backward pass needs.
pub struct Classified<B: Backend> {
    /// `[s,labels]`: numbers are the back end's own, widened.
    pub logits: Vec<f64>,
    /// `[s,d]`: hidden states of the sequences' first tokens.
    x: B::Buf,
    /// `[s,d]`: linear(x, dense).
    dense: B::Buf,
    /// `[s,d]`: tanh(dense).
    features: B::Buf,
}

/// Classifies sequences by the hidden states of their first tokens, `rows` of the `hidden[n,d]` of
/// a forward pass.
///
/// # Panics
/// Where the model has no classifier.
pub fn class_logits<B: Backend>(
    b: &B,
    model: &Model<B>,
    hidden: &B::Buf,
    rows: &[u32],
) -> Classified<B> {
    let (s, d, labels) = (rows.len(), model.spec.width, model.spec.labels);
    let (dense_layer, out) = classifier(b, model);
    let x = gather(b, hidden, rows, d);
    let (mut dense, mut features, mut logits) =
        (b.zeros(s * d), b.zeros(s * d), b.wide(s * labels));
    dense_layer.forward(&mut dense, &x, s);
    b.activation(&mut features, &dense, Activation::Tanh);
    out.forward(&mut logits, &features, s);
    Classified { logits: b.download_f64(&logits), x, dense, features }
}

/// The two layers of the classifier.
///
/// # Panics
/// If the model has no classifier.
fn classifier<'a, B: Backend>(b: &'a B, model: &'a Model<B>) -> (Linear<'a, B>, Linear<'a, B>) {
    let (d, labels) = (model.spec.width, model.spec.labels);
    let head = model.weights.classifier.as_ref().expect("the model has a classifier");
    (Linear::of(b, &head.dense, [d, d]), Linear::of(b, &head.out, [d, labels]))
}

/// Adds to `dhidden[n,d]` and to the classifier's gradients, from `dlogits[s,labels]`, the gradient
/// of [`Classified::logits`].
///
/// # Panics
/// Where the model has no classifier.
pub fn class_logits_backward<B: Backend>(
    b: &B,
    model: &Model<B>,
    dhidden: &mut B::Buf,
    gradients: &mut Gradients<B>,
    rows: &[u32],
    classified: &Classified<B>,
    dlogits: &[f64],
) {
    let (s, d, (dense, out)) = (rows.len(), model.spec.width, classifier(b, model));
    let dhead =
        gradients.params_mut().classifier.as_mut().expect("the gradients have the model's form");
    let dlogits = b.upload_f64(dlogits);
    let zeros = || b.zeros(s * d);
    // logits = linear(features, out)
    let mut dfeatures = zeros();
    out.backward_input(&mut dfeatures, &dlogits, s);
    out.backward_weights(&mut dhead.out, &dlogits, &classified.features, s);
    // features = tanh(dense)
    let mut ddense = zeros();
    b.activation_backward(&mut ddense, &dfeatures, &classified.dense, Activation::Tanh);
    // dense = linear(x, dense)
    let mut dx = zeros();
    dense.backward_input(&mut dx, &ddense, s);
    dense.backward_weights(&mut dhead.dense, &ddense, &classified.x, s);
    b.scatter_add_rows(dhidden, &dx, rows, d);
}
