//! The contract every back end fulfils: contiguous buffers and about forty operations. No file, no
//! config, no clock, no model family.
//!
//! Conventions. Argument order is outputs, inputs, sizes. Every matrix is row-major and contiguous.
//! `+=` in a doc means that the operation adds to what the output holds; otherwise the output is
//! overwritten. Shapes are asserted at entry, in release too.
//!
//! Letters: `n` rows (tokens of all sequences of a batch, packed one after the other, no padding),
//! `d` model width, `e` width of embeddings (mostly `d`), `i`/`o` input and output width of a
//! linear layer, `h` query heads, `g` key/value heads, `c` channels of a head, `v` vocabulary, `m`
//! scored positions.
//!
//! Numerics that callers rely on, on every back end:
//! 1. A row's result depends on that row's inputs alone, bit for bit: never on the other rows of
//!    the batch, or on the thread count.
//! 2. Gradients of weights are sums over rows in row order, continued from what the output holds,
//!    so that two calls on two halves of a batch give the same bits as one call on the whole. Where
//!    factors are stored in a narrow precision, a back end may add rows up in groups of [`GROUP`]:
//!    then this holds for halves that are cut at a multiple of it.
//! 3. `attention` on a whole sequence and `attention_cached` on the same keys give the same bits
//!    for the same query.
//! 4. The doc of a fused operation names its parts; a back end without a fused kernel does them one
//!    after the other. The bits are the same, except for a residual that is added to a wide sum
//!    (`linear_with`).
//!
//! Precision. A back end stores weights, activations and their gradients, keys and values in one
//! precision, and computes and adds up in a wider one, or in the same. The name of an argument
//! decides, in every operation, whether its buffer is wide. Wide buffers are statistics (`mean`,
//! `rstd`, `lse`, `logprob`, `dlogprob`, `entropy`), `logits`, angles (`cos`, `sin`), gradients of
//! weights (`dweight`, `dbias`, `dtable`), and what an optimiser keeps (`master`, `first`,
//! `second`, `gradient`), and what losses of tokens read (`old`, `advantage`, `value`, `target`).
//! All others are stored ones; `copy`, `fill`, `add`, `sum_squares`, `gather_rows` and
//! `scatter_add_rows` take either, and `linear` writes either: what it adds up, rounded to what its
//! output holds.
//!
//! ```
//! use posttrain_backend::{Backend, cpu::Cpu};
//! // out[n,o] = x[n,i] weight[o,i]^T, of 2 rows, 2 inputs, 1 output.
//! let b = Cpu::<f32>::new();
//! let (x, weight) = (b.upload(&[1.0, 2.0, 3.0, 4.0]), b.upload(&[10.0, 1.0]));
//! let mut out = b.zeros(2);
//! b.linear(&mut out, &x, &weight, None, 2, 2, 1);
//! assert_eq!(b.download(&out), [12.0, 34.0]);
//! ```

use posttrain_base::{error, fs};

pub mod cpu;
pub mod cuda;
mod linear;
mod shapes;

pub use linear::{Epilogue, Projection};

/// Sizes of one attention call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// `h`: query heads, a multiple of `key_value`.
    pub query: usize,
    /// `g`: key/value heads.
    pub key_value: usize,
    /// `c`: channels of a head.
    pub channels: usize,
}

/// Which positions a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and what is before it.
    Causal {
        /// Only the last `window` positions, the token's included; all if there is no window.
        window: Option<usize>,
    },
    /// All of its sequence.
    Bidirectional,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0); the derivative at 0 is 0.
    Relu,
    /// x Phi(x), with the normal distribution's Phi by the error function (Hendrycks & Gimpel
    /// 2016).
    Gelu,
    /// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    GeluTanh,
    /// x / (1 + exp(-x)).
    Silu,
    /// tanh x.
    Tanh,
}

/// Positions in one block of the paged key/value cache.
pub const BLOCK: usize = 16;

/// Rows that a back end may add up at a time in a gradient of weights, where their numbers are
/// stored in a narrow precision: the depth of one product of tensor cores.
pub const GROUP: usize = 16;

/// The part of the cache that one query row attends to: `length` positions, [`BLOCK`] to a block,
/// in the order of `blocks`.
#[derive(Clone, Debug)]
pub struct CacheView<'a> {
    /// Block indices into the cache; at least `length.div_ceil(BLOCK)` of them.
    pub blocks: &'a [u32],
    /// Positions to attend to, the row's own included.
    pub length: usize,
}

/// The id that [`Backend::sample`] gives a row that nothing can be drawn from.
pub const NO_TOKEN: u32 = u32::MAX;

/// How the next token is drawn from logits. Log-probabilities are of this distribution: temperature
/// and truncation belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 means greedy (the lowest id among equals), whose log-probability is taken at temperature 1
    /// without truncation.
    pub temperature: f32,
    /// Keep the k likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of likeliest tokens whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens whose probability is at least this multiple of the largest; 0 keeps all.
    pub min_p: f32,
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Sampling = Sampling::plain(0.0);

    /// The whole distribution at a temperature.
    pub const fn plain(temperature: f32) -> Self {
        Sampling { temperature, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

/// A clipped loss of ratios of probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioLoss {
    /// A ratio is clipped to 1 minus and plus this.
    pub range: f64,
    /// Where an advantage A is negative, the loss is at most this multiple of -A.
    pub dual: Option<f64>,
    /// Tokens of the whole update, over which the loss is averaged.
    pub count: usize,
}

/// A clipped loss of squared distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SquareLoss {
    /// A value is clipped to what it was minus and plus this, if it is.
    pub range: Option<f64>,
    /// The weight of the loss beside others.
    pub coef: f64,
    /// Tokens of the whole update, over which the loss is averaged.
    pub count: usize,
}

/// Sums of [`Backend::clipped_ratio_loss`].
pub const RATIO_SUMS: usize = 5;
/// Sums of [`Backend::clipped_square_loss`].
pub const SQUARE_SUMS: usize = 2;

/// One AdamW step (Loshchilov & Hutter 2019, algorithm 2), decoupled weight decay.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay of this tensor.
    pub weight_decay: f64,
    /// 1 for the first step.
    pub step: u64,
    /// Every gradient is multiplied by this first (clipping).
    pub gradient_scale: f64,
}

impl AdamW {
    /// `beta1` to the power of the step.
    fn beta1_power(&self) -> f64 {
        power(self.beta1, self.step)
    }

    /// `beta2` to the power of the step.
    fn beta2_power(&self) -> f64 {
        power(self.beta2, self.step)
    }
}

/// `base^exponent` by squaring: the same bits everywhere, which `powi` does not promise.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Bytes of a number in a device's memory, by where it is, and how wide heads may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A weight, an activation, a key.
    pub stored: usize,
    /// A statistic, a gradient of a weight, a moment, a master.
    pub wide: usize,
    /// On the host; 0 where its memory is not the device's.
    pub host: usize,
    /// The most channels of a head that attention takes.
    pub channels: usize,
}

impl Sizes {
    /// Whether a stored number has fewer digits than a wide one, so that a weight that trains needs
    /// a wide master.
    pub fn is_narrow(self) -> bool {
        self.stored < self.wide
    }
}

/// A device with its buffers and operations.
pub trait Backend: Clone + Sync {
    /// A contiguous array of numbers, stored or wide.
    type Buf: Send + Sync;
    /// One layer's paged key/value cache.
    type Cache: Send + Sync;
    /// Launch lists of earlier steps, as device graphs (nothing on the CPU).
    type GraphCache: Default + Send;
    /// Sums in double precision, which stay where they are added up.
    type Sums: Send;

    // ---- buffers

    /// Bytes of the device's memory that are free, where it is not the host's.
    fn free_memory(&self) -> Option<u64> {
        None
    }
    /// Bytes of its numbers.
    fn sizes(&self) -> Sizes;
    /// `len` zeros.
    fn zeros(&self, len: usize) -> Self::Buf;
    /// `len` wide zeros.
    fn wide(&self, len: usize) -> Self::Buf {
        self.zeros(len)
    }
    /// A copy of host numbers.
    fn upload(&self, host: &[f32]) -> Self::Buf;
    /// Host numbers that the caller gives up: no copy, where the device is the host and computes in
    /// their precision.
    fn upload_owned(&self, host: Vec<f32>) -> Self::Buf {
        self.upload(&host)
    }
    /// A copy of host numbers in double precision, rounded to the back end's.
    fn upload_f64(&self, host: &[f64]) -> Self::Buf;
    /// A wide copy of host numbers.
    fn upload_wide(&self, host: &[f32]) -> Self::Buf {
        self.upload(host)
    }
    /// A wide copy of host numbers in double precision.
    fn upload_wide_f64(&self, host: &[f64]) -> Self::Buf {
        self.upload_f64(host)
    }
    /// A copy on the host.
    fn download(&self, x: &Self::Buf) -> Vec<f32>;
    /// A copy on the host in double precision.
    fn download_f64(&self, x: &Self::Buf) -> Vec<f64>;
    /// Count of numbers.
    fn len(&self, x: &Self::Buf) -> usize;
    /// `out = x`.
    fn copy(&self, out: &mut Self::Buf, x: &Self::Buf);
    /// `out = value` everywhere.
    fn fill(&self, out: &mut Self::Buf, value: f32);
    /// `out += x`.
    fn add(&self, out: &mut Self::Buf, x: &Self::Buf);
    /// Sum of squares in double precision, in a fixed order.
    fn sum_squares(&self, x: &Self::Buf) -> f64;
    /// The same of many buffers, each with the same bits as alone.
    fn sums_of_squares(&self, buffers: &[&Self::Buf]) -> Vec<f64> {
        buffers.iter().map(|x| self.sum_squares(x)).collect()
    }
    /// Runs `step`. A back end may record the launches and replay them as one device graph when the
    /// same list recurs with the same `cache`: the same operations on buffers of the same sizes,
    /// with other ids, positions and views. Results do not depend on it. Buffers that the step
    /// allocates should be dropped by the end of the step.
    fn with_graph<R>(&self, _cache: &mut Self::GraphCache, step: impl FnOnce() -> R) -> R {
        step()
    }

    // ---- rows

    /// `out[n,d] = table[ids[n],d]`.
    fn embedding(&self, out: &mut Self::Buf, table: &Self::Buf, ids: &[u32], d: usize);
    /// `dtable[ids[n],d] += dout[n,d]`, in row order.
    fn embedding_backward(&self, dtable: &mut Self::Buf, dout: &Self::Buf, ids: &[u32], d: usize);
    /// `out[m,d] = x[rows[m],d]`.
    fn gather_rows(&self, out: &mut Self::Buf, x: &Self::Buf, rows: &[u32], d: usize);
    /// `dx[rows[m],d] += dout[m,d]`, in row order.
    fn scatter_add_rows(&self, dx: &mut Self::Buf, dout: &Self::Buf, rows: &[u32], d: usize);

    // ---- layers

    /// `out = x * rstd * weight`, `rstd[n] = 1 / sqrt(mean(x^2) + epsilon)` (Zhang & Sennrich
    /// 2019). `out`, `x`: `[n,d]`.
    #[expect(clippy::too_many_arguments)]
    fn rms_norm(
        &self,
        out: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        weight: &Self::Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    );
    /// `x[n,d] += delta[n,d]`, then [`Backend::rms_norm`] of what `x` holds.
    #[expect(clippy::too_many_arguments)]
    fn rms_norm_residual(
        &self,
        out: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &mut Self::Buf,
        delta: &Self::Buf,
        weight: &Self::Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    ) {
        self.add(x, delta);
        self.rms_norm(out, rstd, x, weight, n, d, epsilon);
    }
    /// `dx[n,d] +=` and, where wanted, `dweight[d] +=`, from `dout[n,d]` and the forward pass's
    /// `x`, `weight`, `rstd`.
    #[expect(clippy::too_many_arguments)]
    fn rms_norm_backward(
        &self,
        dx: &mut Self::Buf,
        dweight: Option<&mut Self::Buf>,
        dout: &Self::Buf,
        x: &Self::Buf,
        weight: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
        d: usize,
    );
    /// `out = (x - mean) * rstd * weight + bias`, `mean[n]` of each row, `rstd[n] = 1 /
    /// sqrt(variance + epsilon)`, the variance being that of the row's `d` numbers, not an estimate
    /// (Ba et al. 2016). `out`, `x`: `[n,d]`.
    #[expect(clippy::too_many_arguments)]
    fn layer_norm(
        &self,
        out: &mut Self::Buf,
        mean: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &Self::Buf,
        weight: &Self::Buf,
        bias: &Self::Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    );
    /// `x[n,d] += delta[n,d]`, then [`Backend::layer_norm`] of what `x` holds.
    #[expect(clippy::too_many_arguments)]
    fn layer_norm_residual(
        &self,
        out: &mut Self::Buf,
        mean: &mut Self::Buf,
        rstd: &mut Self::Buf,
        x: &mut Self::Buf,
        delta: &Self::Buf,
        weight: &Self::Buf,
        bias: &Self::Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    ) {
        self.add(x, delta);
        self.layer_norm(out, mean, rstd, x, weight, bias, n, d, epsilon);
    }
    /// `dx[n,d] +=` and, where wanted, `dweight[d] +=` and `dbias[d] +=`, from `dout[n,d]` and the
    /// forward pass's `x`, `weight`, `mean`, `rstd`.
    #[expect(clippy::too_many_arguments)]
    fn layer_norm_backward(
        &self,
        dx: &mut Self::Buf,
        dweight: Option<&mut Self::Buf>,
        dbias: Option<&mut Self::Buf>,
        dout: &Self::Buf,
        x: &Self::Buf,
        weight: &Self::Buf,
        mean: &Self::Buf,
        rstd: &Self::Buf,
        n: usize,
        d: usize,
    );
    /// `out[n,o] = x[n,i] weight[o,i]^T + bias[o]`. A stored `out` is what a wide one would be,
    /// rounded.
    #[expect(clippy::too_many_arguments)]
    fn linear(
        &self,
        out: &mut Self::Buf,
        x: &Self::Buf,
        weight: &Self::Buf,
        bias: Option<&Self::Buf>,
        n: usize,
        i: usize,
        o: usize,
    );
    /// [`Backend::linear`] with what follows it, in one pass where the back end has one.
    #[expect(clippy::too_many_arguments)]
    fn linear_with(
        &self,
        out: &mut Self::Buf,
        x: &Self::Buf,
        weight: &Self::Buf,
        bias: Option<&Self::Buf>,
        epilogue: Epilogue<'_, Self::Buf>,
        n: usize,
        i: usize,
        o: usize,
    ) {
        linear::in_passes(self, out, x, weight, bias, epilogue, n, i, o);
    }
    /// [`Backend::linear`] of the same `x[n,i]` by several layers, each with the bits that it has
    /// alone.
    fn linears(&self, layers: &mut [Projection<'_, Self::Buf>], x: &Self::Buf, n: usize, i: usize) {
        for Projection { out, weight, bias, width } in layers {
            self.linear(out, x, weight, *bias, n, i, *width);
        }
    }
    /// `dx[n,i] += dout[n,o] weight[o,i]`.
    fn linear_backward_input(
        &self,
        dx: &mut Self::Buf,
        dout: &Self::Buf,
        weight: &Self::Buf,
        n: usize,
        i: usize,
        o: usize,
    );
    /// `dx[n,i] = dout[n,o] weight[o,i]`: the bits of [`Backend::linear_backward_input`] where `dx`
    /// holds zeros.
    fn linear_backward_input_first(
        &self,
        dx: &mut Self::Buf,
        dout: &Self::Buf,
        weight: &Self::Buf,
        n: usize,
        i: usize,
        o: usize,
    ) {
        self.fill(dx, 0.0);
        self.linear_backward_input(dx, dout, weight, n, i, o);
    }
    /// `dweight[o,i] += dout[n,o]^T x[n,i]` and, where there is one, `dbias[o] += sum over n of
    /// dout[n,o]`.
    #[expect(clippy::too_many_arguments)]
    fn linear_backward_weight(
        &self,
        dweight: &mut Self::Buf,
        dbias: Option<&mut Self::Buf>,
        dout: &Self::Buf,
        x: &Self::Buf,
        n: usize,
        i: usize,
        o: usize,
    );
    /// Rotates the first `r` channels of every head of `x[n,heads,c]` in place by the angles `cos`,
    /// `sin` `[positions,r/2]` of each row's position, or back by them (`inverse`, which is also
    /// the backward pass). Channel j pairs with j + r/2 (the Hugging Face layout of Su et al.
    /// 2021).
    #[expect(clippy::too_many_arguments)]
    fn rotary(
        &self,
        x: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        positions: &[u32],
        heads: usize,
        channels: usize,
        rotated: usize,
        inverse: bool,
    );
    /// [`Backend::rotary`] of `q[n,h,c]` and of `k[n,g,c]`, by the same angles.
    #[expect(clippy::too_many_arguments)]
    fn rotary_pair(
        &self,
        q: &mut Self::Buf,
        k: &mut Self::Buf,
        cos: &Self::Buf,
        sin: &Self::Buf,
        positions: &[u32],
        heads: Heads,
        rotated: usize,
        inverse: bool,
    ) {
        self.rotary(q, cos, sin, positions, heads.query, heads.channels, rotated, inverse);
        self.rotary(k, cos, sin, positions, heads.key_value, heads.channels, rotated, inverse);
    }
    /// Attention within each packed sequence, as `mask` allows. `out`, `q`: `[n,h,c]`; `k`, `v`:
    /// `[n,g,c]`; `lse[n,h]` is the log of the softmax's denominator (scores scaled by 1/sqrt(c)).
    /// Sequence s is rows `starts[s]..starts[s+1]`.
    #[expect(clippy::too_many_arguments)]
    fn attention(
        &self,
        out: &mut Self::Buf,
        lse: &mut Self::Buf,
        q: &Self::Buf,
        k: &Self::Buf,
        v: &Self::Buf,
        starts: &[usize],
        heads: Heads,
        mask: Mask,
    );
    /// `dq`, `dk`, `dv` overwritten, from `dout` and the forward pass's `out`, `lse`, `q`, `k`,
    /// `v`.
    #[expect(clippy::too_many_arguments)]
    fn attention_backward(
        &self,
        dq: &mut Self::Buf,
        dk: &mut Self::Buf,
        dv: &mut Self::Buf,
        dout: &Self::Buf,
        out: &Self::Buf,
        lse: &Self::Buf,
        q: &Self::Buf,
        k: &Self::Buf,
        v: &Self::Buf,
        starts: &[usize],
        heads: Heads,
        mask: Mask,
    );
    /// `out = silu(gate) * up` (Shazeer 2020), element by element.
    fn swiglu(&self, out: &mut Self::Buf, gate: &Self::Buf, up: &Self::Buf);
    /// `dgate`, `dup` overwritten, from `dout`, `gate`, `up`.
    fn swiglu_backward(
        &self,
        dgate: &mut Self::Buf,
        dup: &mut Self::Buf,
        dout: &Self::Buf,
        gate: &Self::Buf,
        up: &Self::Buf,
    );

    /// `out = activation(x)`, element by element.
    fn activation(&self, out: &mut Self::Buf, x: &Self::Buf, activation: Activation);
    /// `dx = dout * activation'(x)`.
    fn activation_backward(
        &self,
        dx: &mut Self::Buf,
        dout: &Self::Buf,
        x: &Self::Buf,
        activation: Activation,
    );

    // ---- token distributions

    /// For each row of `logits[m,v]`, at `temperature`: `logprob[m]` of `targets[m]`, `lse[m]` (of
    /// the scaled logits) and `entropy[m]` in nats.
    #[expect(clippy::too_many_arguments)]
    fn token_logprobs(
        &self,
        logprob: &mut Self::Buf,
        lse: &mut Self::Buf,
        entropy: &mut Self::Buf,
        logits: &Self::Buf,
        targets: &[u32],
        temperature: f32,
        v: usize,
    );
    /// `dlogits[m,v] = dlogprob[m] * (onehot(target) - softmax) / temperature`, stored: a factor of
    /// matrix products.
    #[expect(clippy::too_many_arguments)]
    fn token_logprobs_backward(
        &self,
        dlogits: &mut Self::Buf,
        logits: &Self::Buf,
        dlogprob: &Self::Buf,
        lse: &Self::Buf,
        targets: &[u32],
        temperature: f32,
        v: usize,
    );
    /// Draws one token a row of `logits[m,v]` by inversion: the first token, in id order, whose
    /// cumulative probability exceeds `uniforms[m]`. Returns ids and their log-probabilities;
    /// without truncation these equal [`Backend::token_logprobs`]'s bits. A row with NaN, +inf or
    /// no finite logit has no distribution: it gives [`NO_TOKEN`] and NaN.
    fn sample(
        &self,
        logits: &Self::Buf,
        uniforms: &[f64],
        sampling: Sampling,
        v: usize,
    ) -> (Vec<u32>, Vec<f32>);

    // ---- losses of tokens, forward and backward in one; the tokens of an update may come in parts

    /// `len` sums, 0.
    fn sums(&self, len: usize) -> Self::Sums;
    /// A copy of them on the host.
    fn download_sums(&self, sums: &Self::Sums) -> Vec<f64>;
    /// `sums[0] += ` the sum of `x`, wide.
    fn add_sum(&self, sums: &mut Self::Sums, x: &Self::Buf);
    /// For each of `n` tokens, with r = exp(logprob - old) and advantage A:
    /// max(-A r, -A clip(r, 1 - range, 1 + range)), and at most -A dual where A is negative and
    /// there is a `dual`
    /// (Schulman et al. 2017, eq. 7; Ye et al. 2020, eq. 5). `dlogprob[n]` is its derivative over
    /// `count`: 0 where a clip acts, and on the kink itself that of the unclipped term.
    /// `sums[RATIO_SUMS] += ` over the tokens: the loss, (logprob - old)^2, 1 where r was clipped,
    /// r - 1, (r - 1)^2.
    fn clipped_ratio_loss(
        &self,
        dlogprob: &mut Self::Buf,
        sums: &mut Self::Sums,
        logprob: &Self::Buf,
        old: &Self::Buf,
        advantage: &Self::Buf,
        loss: RatioLoss,
    );
    /// For each of `n` tokens: max((value - target)^2, (clip(value, old - range, old + range) -
    /// target)^2) / 2, without a `range` the first alone. `dvalue[n]`, stored, is its derivative
    /// times `coef` over `count`, with kinks as above. `sums[SQUARE_SUMS] += ` over the tokens: the
    /// loss, without `coef`; 1 where the value was clipped.
    fn clipped_square_loss(
        &self,
        dvalue: &mut Self::Buf,
        sums: &mut Self::Sums,
        value: &Self::Buf,
        old: &Self::Buf,
        target: &Self::Buf,
        loss: SquareLoss,
    );

    // ---- paged key/value cache

    /// A cache of `blocks` blocks of [`BLOCK`] positions.
    fn cache(&self, blocks: usize, heads: Heads) -> Self::Cache;
    /// Writes `k`, `v` `[n,g,c]`, row n at slot `slots[n]` = block * BLOCK + offset.
    fn cache_write(&self, cache: &mut Self::Cache, k: &Self::Buf, v: &Self::Buf, slots: &[u32]);
    /// Copies block `pairs[_].1` over block `pairs[_].0`.
    fn cache_copy_blocks(&self, cache: &mut Self::Cache, pairs: &[(u32, u32)]);
    /// `out[n,h,c]`: row n of `q[n,h,c]` attends to `views[n]`; where there is a `window`, to the
    /// last `window` positions of it.
    fn attention_cached(
        &self,
        out: &mut Self::Buf,
        q: &Self::Buf,
        cache: &Self::Cache,
        views: &[CacheView<'_>],
        window: Option<usize>,
    );

    // ---- training

    /// Updates `master` and both moments in place; `copy` is a stored buffer that becomes `master`,
    /// rounded. The gradient is only read.
    fn adamw(
        &self,
        master: &mut Self::Buf,
        copy: Option<&mut Self::Buf>,
        first: &mut Self::Buf,
        second: &mut Self::Buf,
        gradient: &Self::Buf,
        step: AdamW,
    );
}
