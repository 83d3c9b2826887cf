//! Launches kernels/attention_backward_hopper.cu. Independent of layers and of the
//! choice of kernels.

use super::attention_backward::delta;
use super::attention_hopper::{STAGES, STEP};
use super::attention_shape::{Shape, sizes, tiles};
use super::buffer::Buf;
use super::kernels::Kernels;
use crate::DType;
use crate::ops::{AttentionBackward, Heads, Mask};

/// Rows of a block: two consumer warp groups of 64.
const ROWS: usize = 128;

/// Two tiles that stay, a ring of stages of two, `floats` a row of a stage, and a ring's two
/// barriers a stage and two more.
fn shape(channels: usize, names: [&'static str; 2], floats: usize) -> Shape {
    let method = names[usize::from(channels > 64)];
    let tiles = 2 * channels * (2 * ROWS + 2 * STAGES * STEP);
    Shape {
        method,
        rows: ROWS,
        threads: 384,
        shared: tiles + 4 * floats * STAGES * STEP + 8 * (2 * STAGES + 2),
    }
}

/// `dq`, `dk`, `dv` overwritten; heads as [`super::attention_hopper::takes`] has them.
pub fn attention_backward(kernels: &Kernels, attention: AttentionBackward<'_, Buf>) {
    let AttentionBackward { dq, dk, dv, dout, out, lse, q, k, v, starts, heads, mask } = attention;
    let Heads { query: h, key_value: g, channels: c } = heads;
    let n = q.len() / (h * c);
    if n == 0 {
        return;
    }
    let delta = delta(kernels, dout, out, n * h, c);

    let query = shape(
        c,
        ["attention_backward_query_hopper_c64", "attention_backward_query_hopper_c128"],
        0,
    );
    let work = tiles(starts, ROWS, matches!(mask, Mask::Causal { .. }));
    let call = kernels
        .call_with("attention_backward_hopper", query.method, DType::Bf16, query.shared)
        .out(dq);
    let call =
        call.matrix(dout, n, h * c, ROWS).floats(lse).floats(&delta).matrix(q, n, h * c, ROWS);
    let call = call.matrix(k, n, g * c, STEP).matrix(v, n, g * c, STEP).host(work.as_flattened());
    sizes(call, heads, mask).launch([work.len(), h, 1], query.threads);

    let key =
        shape(c, ["attention_backward_key_hopper_c64", "attention_backward_key_hopper_c128"], 2);
    // The first keys are seen by most.
    let work = tiles(starts, ROWS, false);
    let call = kernels
        .call_with("attention_backward_hopper", key.method, DType::Bf16, key.shared)
        .out(dk)
        .out(dv);
    let call =
        call.matrix(dout, n, h * c, STEP).floats(lse).floats(&delta).matrix(q, n, h * c, STEP);
    let call = call.matrix(k, n, g * c, ROWS).matrix(v, n, g * c, ROWS).host(work.as_flattened());
    sizes(call, heads, mask).launch([work.len(), g, 1], key.threads);
}
