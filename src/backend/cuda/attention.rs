//! Launches kernels/attention.cu, or the kernels of the Hopper generation. Independent of layers.

use super::Cuda;
use super::attention_backward::attention_backward;
use super::attention_shape::{
    NARROW, STEP, Shape, for_channels, single_bytes, sizes, stages, tiles,
};
use super::buffer::Buf;
use super::kernels::Kernels;
use super::{attention_backward_hopper, attention_hopper};
use crate::DType;
use crate::ops::{Attention, AttentionBackward, AttentionOps, Mask};

impl AttentionOps for Cuda {
    fn attention_unchecked(&self, attention: Attention<'_, Buf>) {
        match attention_hopper::takes(self.gemm.attention, attention.q.kind(), attention.heads) {
            true => attention_hopper::attention(&self.kernels, attention),
            false => self::attention(&self.kernels, attention),
        }
    }

    fn attention_backward_unchecked(&self, attention: AttentionBackward<'_, Buf>) {
        match attention_hopper::takes(self.gemm.attention, attention.q.kind(), attention.heads) {
            true => attention_backward_hopper::attention_backward(&self.kernels, attention),
            false => attention_backward(&self.kernels, attention),
        }
    }
}

fn forward(kind: DType, channels: usize) -> Shape {
    let names = [
        "attention_c32",
        "attention_c64",
        "attention_c96",
        "attention_c128",
        "attention_c192",
        "attention_c256",
    ];
    let (method, width) = for_channels(kind, channels, ["attention", "attention_wide"], names);
    match kind {
        DType::F32 => {
            let rows = if width > NARROW { 16 } else { 64 };
            Shape { method, rows, threads: 256, shared: single_bytes(width, rows + STEP, rows) }
        }
        DType::Bf16 => {
            let rows = if width > 64 { 64 } else { 128 };
            Shape {
                method,
                rows,
                threads: 128,
                shared: 2 * width * (rows + 2 * stages(width) * STEP),
            }
        }
    }
}

/// `out[n,h,c]`, `lse[n,h]`.
fn attention(kernels: &Kernels, attention: Attention<'_, Buf>) {
    let Attention { out, lse, q, k, v, starts, heads, mask } = attention;
    let shape = forward(q.kind(), heads.channels);
    let tiles = tiles(starts, shape.rows, matches!(mask, Mask::Causal { .. }));
    let call = kernels.call_with("attention", shape.method, q.kind(), shape.shared);
    let call = call.out(out).out_floats(lse).input(q).input(k).input(v).host(tiles.as_flattened());
    sizes(call, heads, mask).launch([tiles.len(), heads.query, 1], shape.threads);
}
