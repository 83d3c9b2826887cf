//! The CUDA back end: this file checks shapes and hands over to one file a family of operations,
//! which launches the kernels of the file of the same name in kernels/. Knows no file but the
//! folder that machine code is kept in, no config and no clock.
//!
//! Numerics:
//! 1. Kernels are compiled without contraction, and `exp` and `ln` are the CPU back end's own
//!    sequences, so an operation on one number has the bits of the CPU's, as has a matrix product
//!    in single precision: one chain of fused multiply-adds over the contraction index.
//! 2. The order of a sum along a row (kernels/prelude.cuh) depends on the row's width alone.
//! 3. A gradient of weights is a chain over rows in row order, continued from what the output
//!    holds; threads own columns.
//! 4. There are no atomics on numbers, and no choice of a kernel depends on a measurement.

mod activation;
mod attention;
mod attention_backward;
mod attention_backward_hopper;
mod attention_hopper;
mod buffer;
mod cache;
mod cached;
mod code;
mod compiler;
mod cublaslt;
mod driver;
mod graph_cache;
mod kernels;
mod layer_norm;
mod libraries;
mod linear;
mod linear_hopper;
mod loss;
mod norm;
mod opened;
mod optimiser;
mod products;
mod queue;
mod rotary;
mod rows;
mod sampling;
mod token;

use std::sync::Arc;

pub use buffer::{Buf, Type};
pub use cache::Cache;
pub use code::{Code, PREPARED, architecture, files, headers, options, prepare, watched};
pub use compiler::{Compiler, Source};
pub use graph_cache::GraphCache;
pub use loss::Sums;
pub use opened::About;
pub use products::{Gemm, Way, Ways};

use super::linear::in_passes;
use super::shapes::{self, below, divisor, drawn, grouped, holds_itself, sequences, viewed};
use super::{
    Activation, AdamW, BLOCK, Backend, CacheView, Epilogue, Heads, Mask, Projection, RATIO_SUMS,
    RatioLoss, SQUARE_SUMS, Sampling, Sizes, SquareLoss,
};
use buffer::shape;
use cublaslt::Library;
use driver::Device;
use kernels::Kernels;

/// One CUDA device, computing in single precision and storing in that or in bf16.
#[derive(Clone, Debug)]
pub struct Cuda {
    device: Arc<Device>,
    kernels: Arc<Kernels>,
    kind: Type,
    ways: Ways,
    /// Whether the device was seen to add products of warp groups up as those of warps
    /// (`attention_hopper.rs`), where anything asked.
    adds_alike: Option<bool>,
    /// Where a way is the library's.
    library: Option<Arc<Library>>,
}

impl Cuda {
    /// The library, where it is this way's; what has no numbers is not its business.
    fn library_for(&self, way: Way, sizes: [usize; 3]) -> Option<&Library> {
        self.library.as_deref().filter(|_| way == Way::Library && !sizes.contains(&0))
    }

    /// `dx[n,i] = dout[n,o] weight[o,i]`, and what `dx` holds where it `adds`.
    fn backward_input(
        &self,
        dx: &mut Buf,
        adds: bool,
        dout: &Buf,
        weight: &Buf,
        [n, i, o]: [usize; 3],
    ) {
        shape(dx, n * i, "dx [n,i]");
        shape(dout, n * o, "dout [n,o]");
        shape(weight, o * i, "weight [o,i]");
        match self.library_for(self.ways.backward, [n, i, o]) {
            Some(library) => library.backward_input(dx, adds, dout, weight, n, i, o),
            None => linear::linear_backward_input(
                &self.kernels,
                self.ways.backward,
                dx,
                adds,
                dout,
                weight,
                n,
                i,
                o,
            ),
        }
    }
}

/// Panics unless the operands of a linear layer have these sizes.
#[track_caller]
fn layer(out: &Buf, x: &Buf, weight: &Buf, bias: Option<&Buf>, [n, i, o]: [usize; 3]) {
    shape(out, n * o, "out [n,o]");
    shape(x, n * i, "x [n,i]");
    shape(weight, o * i, "weight [o,i]");
    if let Some(bias) = bias {
        shape(bias, o, "bias [o]");
    }
}

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

impl Backend for Cuda {
    fn free_memory(&self) -> Option<u64> {
        Some(self.device.free())
    }

    type Buf = Buf;
    type Cache = Cache;
    type GraphCache = GraphCache;
    type Sums = Sums;

    fn sizes(&self) -> Sizes {
        Self::sizes_of(self.kind)
    }

    fn zeros(&self, len: usize) -> Buf {
        Buf::zeros(&self.device, len, self.kind)
    }

    fn wide(&self, len: usize) -> Buf {
        Buf::zeros(&self.device, len, Type::F32)
    }

    fn upload(&self, host: &[f32]) -> Buf {
        Buf::upload(&self.device, host, self.kind)
    }

    fn upload_f64(&self, host: &[f64]) -> Buf {
        self.upload(&single(host))
    }

    fn upload_wide(&self, host: &[f32]) -> Buf {
        Buf::upload(&self.device, host, Type::F32)
    }

    fn upload_wide_f64(&self, host: &[f64]) -> Buf {
        self.upload_wide(&single(host))
    }

    fn download(&self, x: &Buf) -> Vec<f32> {
        x.download(&self.device)
    }

    fn download_f64(&self, x: &Buf) -> Vec<f64> {
        self.download(x).into_iter().map(f64::from).collect()
    }

    fn len(&self, x: &Buf) -> usize {
        x.len()
    }

    fn copy(&self, out: &mut Buf, x: &Buf) {
        shape(x, out.len(), "x");
        self.device.copy(out.memory_mut(), x.memory());
    }

    fn fill(&self, out: &mut Buf, value: f32) {
        rows::fill(&self.kernels, out, value);
    }

    fn add(&self, out: &mut Buf, x: &Buf) {
        shape(x, out.len(), "x");
        rows::add(&self.kernels, out, x);
    }

    fn sum_squares(&self, x: &Buf) -> f64 {
        self.sums_of_squares(&[x])[0]
    }

    fn sums_of_squares(&self, buffers: &[&Buf]) -> Vec<f64> {
        rows::sums_of_squares(&self.kernels, &self.device, buffers)
    }

    fn with_graph<R>(&self, cache: &mut GraphCache, step: impl FnOnce() -> R) -> R {
        /// A step that fails is not queued.
        struct Gathering<'a>(&'a Device);
        impl Drop for Gathering<'_> {
            fn drop(&mut self) {
                self.0.abandon();
            }
        }
        self.device.begin(cache);
        let gathering = Gathering(&self.device);
        let result = step();
        self.device.finish();
        drop(gathering);
        result
    }

    fn embedding(&self, out: &mut Buf, table: &Buf, ids: &[u32], d: usize) {
        self.gather_rows(out, table, ids, d);
    }

    fn embedding_backward(&self, dtable: &mut Buf, dout: &Buf, ids: &[u32], d: usize) {
        shape(dout, ids.len() * d, "dout [n,d]");
        below(ids, shapes::rows(dtable.len(), d, "dtable"), "ids");
        rows::embedding_backward(&self.kernels, dtable, dout, ids, d);
    }

    fn gather_rows(&self, out: &mut Buf, x: &Buf, rows: &[u32], d: usize) {
        shape(out, rows.len() * d, "out [m,d]");
        below(rows, shapes::rows(x.len(), d, "x"), "rows");
        rows::gather(&self.kernels, out, x, rows, d);
    }

    fn scatter_add_rows(&self, dx: &mut Buf, dout: &Buf, rows: &[u32], d: usize) {
        shape(dout, rows.len() * d, "dout [m,d]");
        below(rows, shapes::rows(dx.len(), d, "dx"), "rows");
        rows::scatter_add(&self.kernels, dx, dout, rows, d);
    }

    fn rms_norm(
        &self,
        out: &mut Buf,
        rstd: &mut Buf,
        x: &Buf,
        weight: &Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    ) {
        norm::rms_norm(&self.kernels, out, rstd, x, None, weight, n, d, epsilon);
    }

    fn rms_norm_residual(
        &self,
        out: &mut Buf,
        rstd: &mut Buf,
        x: &mut Buf,
        delta: &Buf,
        weight: &Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    ) {
        norm::rms_norm(&self.kernels, out, rstd, x, Some(delta), weight, n, d, epsilon);
    }

    fn rms_norm_backward(
        &self,
        dx: &mut Buf,
        dweight: Option<&mut Buf>,
        dout: &Buf,
        x: &Buf,
        weight: &Buf,
        rstd: &Buf,
        n: usize,
        d: usize,
    ) {
        norm::rms_norm_backward(&self.kernels, dx, dweight, dout, x, weight, rstd, n, d);
    }

    fn layer_norm(
        &self,
        out: &mut Buf,
        mean: &mut Buf,
        rstd: &mut Buf,
        x: &Buf,
        weight: &Buf,
        bias: &Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    ) {
        layer_norm::layer_norm(
            &self.kernels,
            out,
            mean,
            rstd,
            x,
            None,
            weight,
            bias,
            n,
            d,
            epsilon,
        );
    }

    fn layer_norm_residual(
        &self,
        out: &mut Buf,
        mean: &mut Buf,
        rstd: &mut Buf,
        x: &mut Buf,
        delta: &Buf,
        weight: &Buf,
        bias: &Buf,
        n: usize,
        d: usize,
        epsilon: f64,
    ) {
        layer_norm::layer_norm(
            &self.kernels,
            out,
            mean,
            rstd,
            x,
            Some(delta),
            weight,
            bias,
            n,
            d,
            epsilon,
        );
    }

    fn layer_norm_backward(
        &self,
        dx: &mut Buf,
        dweight: Option<&mut Buf>,
        dbias: Option<&mut Buf>,
        dout: &Buf,
        x: &Buf,
        weight: &Buf,
        mean: &Buf,
        rstd: &Buf,
        n: usize,
        d: usize,
    ) {
        layer_norm::layer_norm_backward(
            &self.kernels,
            dx,
            dweight,
            dbias,
            dout,
            x,
            weight,
            mean,
            rstd,
            n,
            d,
        );
    }

    fn activation(&self, out: &mut Buf, x: &Buf, activation: Activation) {
        shape(x, out.len(), "x");
        activation::activation(&self.kernels, out, x, activation);
    }

    fn activation_backward(&self, dx: &mut Buf, dout: &Buf, x: &Buf, activation: Activation) {
        shape(dout, dx.len(), "dout");
        shape(x, dx.len(), "x");
        activation::activation_backward(&self.kernels, dx, dout, x, activation);
    }

    fn linear(
        &self,
        out: &mut Buf,
        x: &Buf,
        weight: &Buf,
        bias: Option<&Buf>,
        n: usize,
        i: usize,
        o: usize,
    ) {
        layer(out, x, weight, bias, [n, i, o]);
        // The library adds a bias of the output's storage type alone.
        let fits = bias.is_none_or(|bias| bias.kind() == out.kind());
        match self.library_for(self.ways.forward, [n, i, o]).filter(|_| fits) {
            Some(library) => library.linear(out, x, weight, bias, n, i, o),
            None => linear::linear(
                &self.kernels,
                self.ways.forward,
                out,
                x,
                weight,
                bias,
                None,
                n,
                i,
                o,
            ),
        }
    }

    fn linear_with(
        &self,
        out: &mut Buf,
        x: &Buf,
        weight: &Buf,
        bias: Option<&Buf>,
        epilogue: Epilogue<'_, Buf>,
        n: usize,
        i: usize,
        o: usize,
    ) {
        layer(out, x, weight, bias, [n, i, o]);
        let (beside, kept) = match &epilogue {
            Epilogue::Add(residual) => (Some(*residual), None),
            Epilogue::Activate { kept, .. } => (None, kept.as_deref()),
            Epilogue::Gate { kept, up } => (Some(*up), kept.as_deref()),
        };
        beside
            .into_iter()
            .chain(kept)
            .for_each(|x| shape(x, n * o, "what an epilogue takes and keeps [n,o]"));
        match self.library_for(self.ways.forward, [n, i, o]) {
            // Of the library's own epilogues none rounds what is kept before the function.
            Some(_) => in_passes(self, out, x, weight, bias, epilogue, n, i, o),
            None => linear::with(
                &self.kernels,
                self.ways.forward,
                out,
                x,
                weight,
                bias,
                epilogue,
                n,
                i,
                o,
            ),
        }
    }

    fn linears(&self, layers: &mut [Projection<'_, Buf>], x: &Buf, n: usize, i: usize) {
        layers.iter().for_each(|one| layer(one.out, x, one.weight, one.bias, [n, i, one.width]));
        match <&mut [Projection<'_, Buf>; 3]>::try_from(&mut *layers) {
            Ok(three) if self.ways.forward != Way::Library => {
                linear::several(&self.kernels, self.ways.forward, three, x, n, i)
            }
            _ => layers
                .iter_mut()
                .for_each(|one| self.linear(one.out, x, one.weight, one.bias, n, i, one.width)),
        }
    }

    fn linear_backward_input(
        &self,
        dx: &mut Buf,
        dout: &Buf,
        weight: &Buf,
        n: usize,
        i: usize,
        o: usize,
    ) {
        self.backward_input(dx, true, dout, weight, [n, i, o]);
    }

    fn linear_backward_input_first(
        &self,
        dx: &mut Buf,
        dout: &Buf,
        weight: &Buf,
        n: usize,
        i: usize,
        o: usize,
    ) {
        self.backward_input(dx, false, dout, weight, [n, i, o]);
    }

    fn linear_backward_weight(
        &self,
        dweight: &mut Buf,
        dbias: Option<&mut Buf>,
        dout: &Buf,
        x: &Buf,
        n: usize,
        i: usize,
        o: usize,
    ) {
        shape(dweight, o * i, "dweight [o,i]");
        shape(dout, n * o, "dout [n,o]");
        shape(x, n * i, "x [n,i]");
        if let Some(dbias) = &dbias {
            shape(dbias, o, "dbias [o]");
        }
        match self.library_for(self.ways.backward, [n, i, o]) {
            Some(library) => library.backward_weight(dweight, dout, x, n, i, o),
            None => linear::linear_backward_weight(
                &self.kernels,
                self.ways.backward,
                dweight,
                dout,
                x,
                n,
                i,
                o,
            ),
        }
        if let Some(dbias) = dbias {
            rows::add_rows(&self.kernels, dbias, dout, n, o);
        }
    }

    fn rotary(
        &self,
        x: &mut Buf,
        cos: &Buf,
        sin: &Buf,
        positions: &[u32],
        heads: usize,
        channels: usize,
        rotated: usize,
        inverse: bool,
    ) {
        rotary::rotary(
            &self.kernels,
            &mut [(x, heads)],
            cos,
            sin,
            positions,
            channels,
            rotated,
            inverse,
        );
    }

    fn rotary_pair(
        &self,
        q: &mut Buf,
        k: &mut Buf,
        cos: &Buf,
        sin: &Buf,
        positions: &[u32],
        heads: Heads,
        rotated: usize,
        inverse: bool,
    ) {
        let both = &mut [(q, heads.query), (k, heads.key_value)];
        rotary::rotary(&self.kernels, both, cos, sin, positions, heads.channels, rotated, inverse);
    }

    fn attention(
        &self,
        out: &mut Buf,
        lse: &mut Buf,
        q: &Buf,
        k: &Buf,
        v: &Buf,
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
        if attention_hopper::takes(self.ways.attention, q.kind(), heads) {
            attention_hopper::attention(&self.kernels, out, lse, q, k, v, starts, heads, mask);
        } else {
            attention::attention(&self.kernels, out, lse, q, k, v, starts, heads, mask);
        }
    }

    fn attention_backward(
        &self,
        dq: &mut Buf,
        dk: &mut Buf,
        dv: &mut Buf,
        dout: &Buf,
        out: &Buf,
        lse: &Buf,
        q: &Buf,
        k: &Buf,
        v: &Buf,
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
        for (x, what) in
            [(&*dq, "dq [n,h,c]"), (dout, "dout [n,h,c]"), (out, "out [n,h,c]"), (q, "q [n,h,c]")]
        {
            shape(x, queries, what);
        }
        for (x, what) in
            [(&*dk, "dk [n,g,c]"), (&*dv, "dv [n,g,c]"), (k, "k [n,g,c]"), (v, "v [n,g,c]")]
        {
            shape(x, keys, what);
        }
        shape(lse, n * heads.query, "lse [n,h]");
        if attention_hopper::takes(self.ways.attention, q.kind(), heads) {
            attention_backward_hopper::attention_backward(
                &self.kernels,
                dq,
                dk,
                dv,
                dout,
                out,
                lse,
                q,
                k,
                v,
                starts,
                heads,
                mask,
            );
        } else {
            attention_backward::attention_backward(
                &self.kernels,
                dq,
                dk,
                dv,
                dout,
                out,
                lse,
                q,
                k,
                v,
                starts,
                heads,
                mask,
            );
        }
    }

    fn swiglu(&self, out: &mut Buf, gate: &Buf, up: &Buf) {
        shape(gate, out.len(), "gate");
        shape(up, out.len(), "up");
        activation::swiglu(&self.kernels, out, gate, up);
    }

    fn swiglu_backward(&self, dgate: &mut Buf, dup: &mut Buf, dout: &Buf, gate: &Buf, up: &Buf) {
        for (x, what) in [(&*dup, "dup"), (dout, "dout"), (gate, "gate"), (up, "up")] {
            shape(x, dgate.len(), what);
        }
        activation::swiglu_backward(&self.kernels, dgate, dup, dout, gate, up);
    }

    fn token_logprobs(
        &self,
        logprob: &mut Buf,
        lse: &mut Buf,
        entropy: &mut Buf,
        logits: &Buf,
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
        token::logprobs(
            &self.kernels,
            self.kind,
            logprob,
            lse,
            entropy,
            logits,
            targets,
            temperature,
            v,
        );
    }

    fn token_logprobs_backward(
        &self,
        dlogits: &mut Buf,
        logits: &Buf,
        dlogprob: &Buf,
        lse: &Buf,
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
        token::logprobs_backward(
            &self.kernels,
            dlogits,
            logits,
            dlogprob,
            lse,
            targets,
            temperature,
            v,
        );
    }

    fn sample(
        &self,
        logits: &Buf,
        uniforms: &[f64],
        sampling: Sampling,
        v: usize,
    ) -> (Vec<u32>, Vec<f32>) {
        shape(logits, uniforms.len() * v, "logits [m,v]");
        drawn(uniforms, sampling, v);
        sampling::sample(&self.kernels, self.kind, logits, uniforms, sampling, v)
    }

    fn sums(&self, len: usize) -> Sums {
        Sums::new(&self.device, len)
    }

    fn download_sums(&self, sums: &Sums) -> Vec<f64> {
        sums.download(&self.device)
    }

    fn add_sum(&self, sums: &mut Sums, x: &Buf) {
        shapes::length(sums.count(), 1, "sums");
        loss::add_sum(&self.kernels, self.kind, sums, x);
    }

    fn clipped_ratio_loss(
        &self,
        dlogprob: &mut Buf,
        sums: &mut Sums,
        logprob: &Buf,
        old: &Buf,
        advantage: &Buf,
        loss: RatioLoss,
    ) {
        let inputs = [
            (logprob.len(), "logprob [n]"),
            (old.len(), "old [n]"),
            (advantage.len(), "advantage [n]"),
        ];
        shapes::losses(dlogprob.len(), inputs, loss.count, sums.count(), RATIO_SUMS);
        loss::clipped_ratio(
            &self.kernels,
            self.kind,
            dlogprob,
            sums,
            logprob,
            old,
            advantage,
            loss,
        );
    }

    fn clipped_square_loss(
        &self,
        dvalue: &mut Buf,
        sums: &mut Sums,
        value: &Buf,
        old: &Buf,
        target: &Buf,
        loss: SquareLoss,
    ) {
        let inputs =
            [(value.len(), "value [n]"), (old.len(), "old [n]"), (target.len(), "target [n]")];
        shapes::losses(dvalue.len(), inputs, loss.count, sums.count(), SQUARE_SUMS);
        loss::clipped_square(&self.kernels, dvalue, sums, value, old, target, loss);
    }

    fn cache(&self, blocks: usize, heads: Heads) -> Cache {
        grouped(heads);
        Cache::new(&self.device, blocks, heads, self.kind)
    }

    fn cache_write(&self, cache: &mut Cache, k: &Buf, v: &Buf, slots: &[u32]) {
        shape(k, slots.len() * cache.heads.key_value * cache.heads.channels, "k [n,g,c]");
        shape(v, k.len(), "v [n,g,c]");
        below(slots, cache.blocks() * BLOCK, "slots");
        cache::write(&self.kernels, cache, k, v, slots);
    }

    fn cache_copy_blocks(&self, cache: &mut Cache, pairs: &[(u32, u32)]) {
        for &(to, from) in pairs {
            below(&[to, from], cache.blocks(), "block");
        }
        cache::copy_blocks(&self.kernels, cache, pairs);
    }

    fn attention_cached(
        &self,
        out: &mut Buf,
        q: &Buf,
        cache: &Cache,
        views: &[CacheView<'_>],
        window: Option<usize>,
    ) {
        holds_itself(window);
        shape(q, views.len() * cache.heads.query * cache.heads.channels, "q [n,h,c]");
        shape(out, q.len(), "out [n,h,c]");
        viewed(views, cache.blocks());
        cached::attention(&self.kernels, out, q, cache, views, window);
    }

    fn adamw(
        &self,
        master: &mut Buf,
        copy: Option<&mut Buf>,
        first: &mut Buf,
        second: &mut Buf,
        gradient: &Buf,
        step: AdamW,
    ) {
        for (x, what) in [(&*first, "first"), (&*second, "second"), (gradient, "gradient")] {
            shape(x, master.len(), what);
        }
        if let Some(copy) = &copy {
            shape(copy, master.len(), "copy");
        }
        assert!(step.step > 0, "the first step is 1");
        optimiser::adamw(&self.kernels, master, copy, first, second, gradient, step);
    }
}
