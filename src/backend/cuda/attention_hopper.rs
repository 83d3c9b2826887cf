//! Launches kernels/attention_hopper.cu, and looks whether it may be taken. Independent of
//! layers.

use super::attention_shape::{Shape, sizes, tiles};
use super::buffer::Buf;
use super::gemm_selection::GemmKind;
use super::kernels::Kernels;
use crate::DType;
use crate::error::{Result, caught};
use crate::ops::{Attention, Heads, Mask};

/// Positions of a step along the keys, and channels of a line of shared memory.
pub const STEP: usize = 64;
/// Steps that what is gone over may be ahead.
pub const STAGES: usize = 4;
/// Spreads of magnitudes that the probe tries, a block each.
const SPREADS: usize = 8;

/// Whether it is the kind that was selected, and the kernels are for such heads.
pub fn takes(gemm: GemmKind, kind: DType, heads: Heads) -> bool {
    gemm == GemmKind::Hopper && kind == DType::Bf16 && [64, 128].contains(&heads.channels)
}

/// Consumer warp groups of 64 rows, and one that brings; queries, two rings of stages, and a ring's
/// four barriers a stage and two more.
fn shape(channels: usize) -> Shape {
    let (method, groups) =
        if channels == 64 { ("attention_hopper_c64", 3) } else { ("attention_hopper_c128", 2) };
    let rows = 64 * groups;
    Shape {
        method,
        rows,
        threads: 128 * (groups + 1),
        shared: 2 * channels * (rows + 2 * STAGES * STEP) + 8 * (4 * STAGES + 2),
    }
}

/// `out[n,h,c]`, `lse[n,h]`; the bits of kernels/attention.cu where [`wgmma_matches_mma`].
pub fn attention(kernels: &Kernels, attention: Attention<'_, Buf>) {
    let Attention { out, lse, q, k, v, starts, heads, mask } = attention;
    let Heads { query: h, key_value: g, channels: c } = heads;
    let (shape, n) = (shape(c), q.len() / (h * c));
    let tiles = tiles(starts, shape.rows, matches!(mask, Mask::Causal { .. }));
    if tiles.is_empty() {
        return;
    }
    let call = kernels
        .call_with("attention_hopper", shape.method, DType::Bf16, shape.shared)
        .out(out)
        .out_floats(lse);
    let call = call
        .matrix(q, n, h * c, shape.rows)
        .matrix(k, n, g * c, STEP)
        .matrix(v, n, g * c, STEP)
        .host(tiles.as_flattened());
    sizes(call, heads, mask).launch([tiles.len(), h, 1], shape.threads);
}

/// Whether the device adds products of warp groups up as those of warps, to the bit: over tiles of
/// numbers from a counter, whose magnitudes are alike or spread over 2^28. The manual leaves the
/// order within 16 products to the device.
pub fn wgmma_matches_mma(kernels: &Kernels) -> Result<bool> {
    caught(|| {
        let counts = kernels.device().allocate(4 * SPREADS * 128);
        let call = kernels.call_with(
            "attention_hopper",
            "attention_hopper_probe",
            DType::Bf16,
            2 * 3 * STEP * STEP,
        );
        call.memory(&counts).launch([SPREADS, 1, 1], 128);
        kernels.device().download::<u32>(&counts).iter().all(|differing| *differing == 0)
    })
}
