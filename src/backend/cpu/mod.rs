//! The CPU back end, in single and in double precision: this file checks shapes and calls the
//! kernels, which have one file per family of operations. Independent of files, configs and clocks.
//!
//! Numerics, the same bits for every instruction set, thread count and batch composition:
//! 1. An element of a matrix product is one chain of fused multiply-adds over the contraction
//!    index, ascending, from 0 or from what the output holds. Blocking and vectors run across
//!    outputs, never along the chain.
//! 2. A sum along a row (norms, softmax) is sixteen lanes by index modulo 16 and a fixed tree
//!    (`lanes.rs`).
//! 3. A gradient of weights is a chain over rows in row order, continued from what the output
//!    holds; threads own columns.
//! 4. `exp` and `ln` are our own (`number.rs`), and so is what is made of them (`special.rs`).

mod activation;
mod attention;
mod attention_backward;
mod cache;
mod cached;
mod gemm;
mod lanes;
mod layer_norm;
mod loss;
mod mask;
mod norm;
mod number;
mod optimiser;
mod pool;
mod rotary;
mod rows;
mod sampling;
mod scratch;
mod simd;
mod special;
mod threads;
mod tile;
mod token;
mod vector;

use std::marker::PhantomData;

pub use cache::Cache;
pub use number::Number;
pub use simd::Level;

use super::shapes::{
    self, below, divisor, drawn, grouped, holds_itself, sequences, turned, viewed,
};
use super::{
    Activation, AdamW, BLOCK, Backend, CacheView, Epilogue, Heads, Mask, RATIO_SUMS, RatioLoss,
    SQUARE_SUMS, Sampling, Sizes, SquareLoss, linear,
};
use attention_backward::Forward;
use simd::Simd;

/// The version of what the kernels compute: raised whenever one of them gives another bit for the
/// same input. It is a part of the numerics class, and so of keys. `tests/structure/numerics.txt`
/// has a digest of the code at this version.
pub const KERNELS: u32 = 1;

/// The CPU, computing in `T`: `f32`, or `f64` as the oracle of gradient checks and other
/// precisions.
#[derive(Clone, Copy, Debug)]
pub struct Cpu<T> {
    simd: Simd,
    precision: PhantomData<T>,
}

impl<T: Number> Cpu<T> {
    /// With the best instruction set of this machine.
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Cpu { simd: Simd::best(), precision: PhantomData }
    }

    /// With a given instruction set, for tests: results are the same bits. Panics where the machine
    /// lacks it.
    pub fn with_level(level: Level) -> Self {
        Cpu { simd: Simd::at(level), precision: PhantomData }
    }
}

/// Panics unless `x` has `expected` elements.
#[track_caller]
fn shape<T>(x: &[T], expected: usize, what: &str) {
    shapes::length(x.len(), expected, what);
}

/// The back end in one precision. Not generic, so that every kernel is compiled once, here, and not
/// again in each program that uses it.
macro_rules! back_end {
    ($T:ident) => {
        impl Backend for Cpu<$T> {
            type Buf = Vec<$T>;
            type Cache = Cache<$T>;
            type GraphCache = ();
            type Sums = Vec<f64>;

            fn sizes(&self) -> Sizes {
                Sizes {
                    stored: size_of::<$T>(),
                    wide: size_of::<$T>(),
                    host: size_of::<f32>(),
                    channels: usize::MAX,
                }
            }

            fn zeros(&self, len: usize) -> Vec<$T> {
                vec![$T::ZERO; len]
            }

            fn upload(&self, host: &[f32]) -> Vec<$T> {
                host.iter().map(|&x| $T::from_f32(x)).collect()
            }

            fn upload_owned(&self, host: Vec<f32>) -> Vec<$T> {
                $T::from_f32s(host)
            }

            fn upload_f64(&self, host: &[f64]) -> Vec<$T> {
                host.iter().map(|&x| $T::from_f64(x)).collect()
            }

            fn download(&self, x: &Vec<$T>) -> Vec<f32> {
                x.iter().map(|x| x.to_f32()).collect()
            }

            fn download_f64(&self, x: &Vec<$T>) -> Vec<f64> {
                x.iter().map(|x| x.to_f64()).collect()
            }

            fn len(&self, x: &Vec<$T>) -> usize {
                x.len()
            }

            fn copy(&self, out: &mut Vec<$T>, x: &Vec<$T>) {
                shape(x, out.len(), "x");
                rows::copy(out, x);
            }

            fn fill(&self, out: &mut Vec<$T>, value: f32) {
                rows::fill(out, $T::from_f32(value));
            }

            fn add(&self, out: &mut Vec<$T>, x: &Vec<$T>) {
                shape(x, out.len(), "x");
                rows::add(self.simd, out, x);
            }

            fn sum_squares(&self, x: &Vec<$T>) -> f64 {
                rows::sum_squares(self.simd, x)
            }

            fn embedding(&self, out: &mut Vec<$T>, table: &Vec<$T>, ids: &[u32], d: usize) {
                self.gather_rows(out, table, ids, d);
            }

            fn embedding_backward(
                &self,
                dtable: &mut Vec<$T>,
                dout: &Vec<$T>,
                ids: &[u32],
                d: usize,
            ) {
                self.scatter_add_rows(dtable, dout, ids, d);
            }

            fn gather_rows(&self, out: &mut Vec<$T>, x: &Vec<$T>, rows: &[u32], d: usize) {
                shape(out, rows.len() * d, "out [m,d]");
                below(rows, shapes::rows(x.len(), d, "x"), "rows");
                rows::gather(out, x, rows, d);
            }

            fn scatter_add_rows(&self, dx: &mut Vec<$T>, dout: &Vec<$T>, rows: &[u32], d: usize) {
                shape(dout, rows.len() * d, "dout [m,d]");
                below(rows, shapes::rows(dx.len(), d, "dx"), "rows");
                rows::scatter_add(self.simd, dx, dout, rows, d);
            }

            fn rms_norm(
                &self,
                out: &mut Vec<$T>,
                rstd: &mut Vec<$T>,
                x: &Vec<$T>,
                weight: &Vec<$T>,
                n: usize,
                d: usize,
                epsilon: f64,
            ) {
                shape(out, n * d, "out [n,d]");
                shape(rstd, n, "rstd [n]");
                shape(x, n * d, "x [n,d]");
                shape(weight, d, "weight [d]");
                norm::rms_norm(self.simd, out, rstd, x, weight, epsilon);
            }

            fn rms_norm_backward(
                &self,
                dx: &mut Vec<$T>,
                dweight: Option<&mut Vec<$T>>,
                dout: &Vec<$T>,
                x: &Vec<$T>,
                weight: &Vec<$T>,
                rstd: &Vec<$T>,
                n: usize,
                d: usize,
            ) {
                shape(dx, n * d, "dx [n,d]");
                shape(dout, n * d, "dout [n,d]");
                shape(x, n * d, "x [n,d]");
                shape(weight, d, "weight [d]");
                shape(rstd, n, "rstd [n]");
                norm::rms_norm_backward(self.simd, dx, dout, x, weight, rstd);
                if let Some(dweight) = dweight {
                    shape(dweight, d, "dweight [d]");
                    norm::rms_norm_backward_weight(self.simd, dweight, dout, x, rstd);
                }
            }

            fn layer_norm(
                &self,
                out: &mut Vec<$T>,
                mean: &mut Vec<$T>,
                rstd: &mut Vec<$T>,
                x: &Vec<$T>,
                weight: &Vec<$T>,
                bias: &Vec<$T>,
                n: usize,
                d: usize,
                epsilon: f64,
            ) {
                shape(out, n * d, "out [n,d]");
                shape(mean, n, "mean [n]");
                shape(rstd, n, "rstd [n]");
                shape(x, n * d, "x [n,d]");
                shape(weight, d, "weight [d]");
                shape(bias, d, "bias [d]");
                layer_norm::layer_norm(self.simd, out, mean, rstd, x, weight, bias, epsilon);
            }

            fn layer_norm_backward(
                &self,
                dx: &mut Vec<$T>,
                dweight: Option<&mut Vec<$T>>,
                dbias: Option<&mut Vec<$T>>,
                dout: &Vec<$T>,
                x: &Vec<$T>,
                weight: &Vec<$T>,
                mean: &Vec<$T>,
                rstd: &Vec<$T>,
                n: usize,
                d: usize,
            ) {
                shape(dx, n * d, "dx [n,d]");
                shape(dout, n * d, "dout [n,d]");
                shape(x, n * d, "x [n,d]");
                shape(weight, d, "weight [d]");
                shape(mean, n, "mean [n]");
                shape(rstd, n, "rstd [n]");
                layer_norm::layer_norm_backward(self.simd, dx, dout, x, weight, mean, rstd);
                if let Some(dweight) = dweight {
                    shape(dweight, d, "dweight [d]");
                    layer_norm::layer_norm_backward_weight(self.simd, dweight, dout, x, mean, rstd);
                }
                if let Some(dbias) = dbias {
                    shape(dbias, d, "dbias [d]");
                    rows::add_rows(self.simd, dbias, dout, d);
                }
            }

            fn activation(&self, out: &mut Vec<$T>, x: &Vec<$T>, activation: Activation) {
                shape(x, out.len(), "x");
                activation::activation(self.simd, out, Some(x), activation);
            }

            fn activation_backward(
                &self,
                dx: &mut Vec<$T>,
                dout: &Vec<$T>,
                x: &Vec<$T>,
                activation: Activation,
            ) {
                shape(dout, dx.len(), "dout");
                shape(x, dx.len(), "x");
                activation::activation_backward(self.simd, dx, dout, x, activation);
            }

            fn linear(
                &self,
                out: &mut Vec<$T>,
                x: &Vec<$T>,
                weight: &Vec<$T>,
                bias: Option<&Vec<$T>>,
                n: usize,
                i: usize,
                o: usize,
            ) {
                shape(out, n * o, "out [n,o]");
                shape(x, n * i, "x [n,i]");
                shape(weight, o * i, "weight [o,i]");
                if let Some(bias) = bias {
                    shape(bias, o, "bias [o]");
                }
                gemm::linear(self.simd, out, x, weight, bias.map(Vec::as_slice), n, i, o);
            }

            fn linear_with(
                &self,
                out: &mut Vec<$T>,
                x: &Vec<$T>,
                weight: &Vec<$T>,
                bias: Option<&Vec<$T>>,
                epilogue: Epilogue<'_, Vec<$T>>,
                n: usize,
                i: usize,
                o: usize,
            ) {
                match epilogue {
                    // A value that is not kept needs no separate memory.
                    Epilogue::Activate { kept: None, activation } => {
                        self.linear(out, x, weight, bias, n, i, o);
                        activation::activation(self.simd, out, None, activation);
                    }
                    Epilogue::Gate { kept: None, up } => {
                        shape(up, n * o, "up [n,o]");
                        self.linear(out, x, weight, bias, n, i, o);
                        activation::swiglu(self.simd, out, None, up);
                    }
                    epilogue => linear::in_passes(self, out, x, weight, bias, epilogue, n, i, o),
                }
            }

            fn linear_backward_input(
                &self,
                dx: &mut Vec<$T>,
                dout: &Vec<$T>,
                weight: &Vec<$T>,
                n: usize,
                i: usize,
                o: usize,
            ) {
                shape(dx, n * i, "dx [n,i]");
                shape(dout, n * o, "dout [n,o]");
                shape(weight, o * i, "weight [o,i]");
                gemm::backward_input(self.simd, dx, dout, weight, n, i, o);
            }

            fn linear_backward_weight(
                &self,
                dweight: &mut Vec<$T>,
                dbias: Option<&mut Vec<$T>>,
                dout: &Vec<$T>,
                x: &Vec<$T>,
                n: usize,
                i: usize,
                o: usize,
            ) {
                shape(dweight, o * i, "dweight [o,i]");
                shape(dout, n * o, "dout [n,o]");
                shape(x, n * i, "x [n,i]");
                gemm::backward_weight(self.simd, dweight, dout, x, n, i, o);
                if let Some(dbias) = dbias {
                    shape(dbias, o, "dbias [o]");
                    rows::add_rows(self.simd, dbias, dout, o);
                }
            }

            fn rotary(
                &self,
                x: &mut Vec<$T>,
                cos: &Vec<$T>,
                sin: &Vec<$T>,
                positions: &[u32],
                heads: usize,
                channels: usize,
                rotated: usize,
                inverse: bool,
            ) {
                shape(x, positions.len() * heads * channels, "x [n,heads,c]");
                turned(rotated, channels);
                shape(sin, cos.len(), "sin [positions,r/2]");
                below(positions, cos.len() / (rotated / 2), "positions");
                rotary::rotary(self.simd, x, cos, sin, positions, channels, rotated, inverse);
            }

            fn attention(
                &self,
                out: &mut Vec<$T>,
                lse: &mut Vec<$T>,
                q: &Vec<$T>,
                k: &Vec<$T>,
                v: &Vec<$T>,
                starts: &[usize],
                heads: Heads,
                mask: Mask,
            ) {
                if let Mask::Causal { window } = mask {
                    holds_itself(window);
                }
                let n = *starts.last().expect("starts holds at least the 0 of no sequences");
                grouped(heads);
                sequences(starts, n);
                shape(q, n * heads.query * heads.channels, "q [n,h,c]");
                shape(out, q.len(), "out [n,h,c]");
                shape(lse, n * heads.query, "lse [n,h]");
                shape(k, n * heads.key_value * heads.channels, "k [n,g,c]");
                shape(v, k.len(), "v [n,g,c]");
                attention::attention(self.simd, out, lse, q, k, v, starts, heads, mask);
            }

            fn attention_backward(
                &self,
                dq: &mut Vec<$T>,
                dk: &mut Vec<$T>,
                dv: &mut Vec<$T>,
                dout: &Vec<$T>,
                out: &Vec<$T>,
                lse: &Vec<$T>,
                q: &Vec<$T>,
                k: &Vec<$T>,
                v: &Vec<$T>,
                starts: &[usize],
                heads: Heads,
                mask: Mask,
            ) {
                if let Mask::Causal { window } = mask {
                    holds_itself(window);
                }
                let n = *starts.last().expect("starts holds at least the 0 of no sequences");
                grouped(heads);
                sequences(starts, n);
                let (queries, keys) =
                    (n * heads.query * heads.channels, n * heads.key_value * heads.channels);
                for (x, what) in [
                    (&*dq, "dq [n,h,c]"),
                    (dout, "dout [n,h,c]"),
                    (out, "out [n,h,c]"),
                    (q, "q [n,h,c]"),
                ] {
                    shape(x, queries, what);
                }
                for (x, what) in
                    [(&*dk, "dk [n,g,c]"), (&*dv, "dv [n,g,c]"), (k, "k [n,g,c]"), (v, "v [n,g,c]")]
                {
                    shape(x, keys, what);
                }
                shape(lse, n * heads.query, "lse [n,h]");
                let forward = Forward { dout, out, lse, q, k, v };
                attention_backward::attention_backward(
                    self.simd, dq, dk, dv, forward, starts, heads, mask,
                );
            }

            fn swiglu(&self, out: &mut Vec<$T>, gate: &Vec<$T>, up: &Vec<$T>) {
                shape(gate, out.len(), "gate");
                shape(up, out.len(), "up");
                activation::swiglu(self.simd, out, Some(gate), up);
            }

            fn swiglu_backward(
                &self,
                dgate: &mut Vec<$T>,
                dup: &mut Vec<$T>,
                dout: &Vec<$T>,
                gate: &Vec<$T>,
                up: &Vec<$T>,
            ) {
                for (x, what) in [(&*dup, "dup"), (dout, "dout"), (gate, "gate"), (up, "up")] {
                    shape(x, dgate.len(), what);
                }
                activation::swiglu_backward(self.simd, dgate, dup, dout, gate, up);
            }

            fn token_logprobs(
                &self,
                logprob: &mut Vec<$T>,
                lse: &mut Vec<$T>,
                entropy: &mut Vec<$T>,
                logits: &Vec<$T>,
                targets: &[u32],
                temperature: f32,
                v: usize,
            ) {
                for (x, what) in
                    [(&*logprob, "logprob [m]"), (&*lse, "lse [m]"), (&*entropy, "entropy [m]")]
                {
                    shape(x, targets.len(), what);
                }
                shape(logits, targets.len() * v, "logits [m,v]");
                below(targets, v, "targets");
                divisor(temperature);
                let inverse = sampling::inverse_temperature(temperature);
                token::logprobs(self.simd, logprob, lse, entropy, logits, targets, inverse, v);
            }

            fn token_logprobs_backward(
                &self,
                dlogits: &mut Vec<$T>,
                logits: &Vec<$T>,
                dlogprob: &Vec<$T>,
                lse: &Vec<$T>,
                targets: &[u32],
                temperature: f32,
                v: usize,
            ) {
                shape(dlogits, targets.len() * v, "dlogits [m,v]");
                shape(logits, targets.len() * v, "logits [m,v]");
                shape(dlogprob, targets.len(), "dlogprob [m]");
                shape(lse, targets.len(), "lse [m]");
                below(targets, v, "targets");
                divisor(temperature);
                let inverse = sampling::inverse_temperature(temperature);
                token::logprobs_backward(
                    self.simd, dlogits, logits, dlogprob, lse, targets, inverse, v,
                );
            }

            fn sample(
                &self,
                logits: &Vec<$T>,
                uniforms: &[f64],
                sampling: Sampling,
                v: usize,
            ) -> (Vec<u32>, Vec<f32>) {
                shape(logits, uniforms.len() * v, "logits [m,v]");
                drawn(uniforms, sampling, v);
                sampling::sample(self.simd, logits, uniforms, sampling, v)
            }

            fn sums(&self, len: usize) -> Vec<f64> {
                vec![0.0; len]
            }

            fn download_sums(&self, sums: &Vec<f64>) -> Vec<f64> {
                sums.clone()
            }

            fn add_sum(&self, sums: &mut Vec<f64>, x: &Vec<$T>) {
                shape(sums, 1, "sums");
                sums[0] += loss::sum(x);
            }

            fn clipped_ratio_loss(
                &self,
                dlogprob: &mut Vec<$T>,
                sums: &mut Vec<f64>,
                logprob: &Vec<$T>,
                old: &Vec<$T>,
                advantage: &Vec<$T>,
                loss: RatioLoss,
            ) {
                let inputs = [
                    (logprob.len(), "logprob [n]"),
                    (old.len(), "old [n]"),
                    (advantage.len(), "advantage [n]"),
                ];
                shapes::losses(dlogprob.len(), inputs, loss.count, sums.len(), RATIO_SUMS);
                loss::clipped_ratio(dlogprob, sums, logprob, old, advantage, loss);
            }

            fn clipped_square_loss(
                &self,
                dvalue: &mut Vec<$T>,
                sums: &mut Vec<f64>,
                value: &Vec<$T>,
                old: &Vec<$T>,
                target: &Vec<$T>,
                loss: SquareLoss,
            ) {
                let inputs = [
                    (value.len(), "value [n]"),
                    (old.len(), "old [n]"),
                    (target.len(), "target [n]"),
                ];
                shapes::losses(dvalue.len(), inputs, loss.count, sums.len(), SQUARE_SUMS);
                loss::clipped_square(dvalue, sums, value, old, target, loss);
            }

            fn cache(&self, blocks: usize, heads: Heads) -> Cache<$T> {
                grouped(heads);
                Cache::new(blocks, heads)
            }

            fn cache_write(&self, cache: &mut Cache<$T>, k: &Vec<$T>, v: &Vec<$T>, slots: &[u32]) {
                shape(k, slots.len() * cache.heads.key_value * cache.heads.channels, "k [n,g,c]");
                shape(v, k.len(), "v [n,g,c]");
                below(slots, cache.blocks() * BLOCK, "slots");
                cache::write(cache, k, v, slots);
            }

            fn cache_copy_blocks(&self, cache: &mut Cache<$T>, pairs: &[(u32, u32)]) {
                for &(to, from) in pairs {
                    below(&[to, from], cache.blocks(), "block");
                }
                cache::copy_blocks(cache, pairs);
            }

            fn attention_cached(
                &self,
                out: &mut Vec<$T>,
                q: &Vec<$T>,
                cache: &Cache<$T>,
                views: &[CacheView<'_>],
                window: Option<usize>,
            ) {
                holds_itself(window);
                shape(q, views.len() * cache.heads.query * cache.heads.channels, "q [n,h,c]");
                shape(out, q.len(), "out [n,h,c]");
                viewed(views, cache.blocks());
                cached::attention(self.simd, out, q, cache, views, window);
            }

            fn adamw(
                &self,
                master: &mut Vec<$T>,
                copy: Option<&mut Vec<$T>>,
                first: &mut Vec<$T>,
                second: &mut Vec<$T>,
                gradient: &Vec<$T>,
                step: AdamW,
            ) {
                for (x, what) in [(&*first, "first"), (&*second, "second"), (gradient, "gradient")]
                {
                    shape(x, master.len(), what);
                }
                assert!(step.step > 0, "the first step is 1");
                optimiser::adamw(self.simd, master, first, second, gradient, step);
                if let Some(copy) = copy {
                    self.copy(copy, master);
                }
            }
        }
    };
}

back_end!(f32);
back_end!(f64);
