//! Launches kernels/attention_backward.cu. Independent of layers.

use super::attention_shape::{NARROW, Shape, for_channels, single_bytes, sizes, tiles};
use super::buffer::Buf;
use super::kernels::Kernels;
use crate::DType;
use crate::ops::{AttentionBackward, Heads, Mask};

/// `delta[rows]`: of each row of a head of `c` channels, the sum of `dout out`.
pub fn delta(kernels: &Kernels, dout: &Buf, out: &Buf, rows: usize, c: usize) -> Buf {
    let mut delta = Buf::zeros(kernels.device(), rows, DType::F32);
    let call = kernels
        .call("attention_backward", "attention_backward_delta", out.kind())
        .out_floats(&mut delta)
        .input(dout)
        .input(out);
    call.size(rows)
        .integer(i32::try_from(c).expect("a head has at most 256 channels"))
        .over(rows, 8, 256);
    delta
}

/// `weights`: matrices of weights between rows and columns.
fn shape(
    kind: DType,
    channels: usize,
    single: [&'static str; 2],
    bf16: [&'static str; 6],
    weights: usize,
) -> Shape {
    let (method, width) = for_channels(kind, channels, single, bf16);
    match kind {
        DType::F32 => {
            let rows = if width > NARROW { 16 } else { 32 };
            Shape {
                method,
                rows,
                threads: 256,
                shared: single_bytes(width, 4 * rows, weights * rows),
            }
        }
        // Two tiles that stay, and two stages of two tiles of fewer rows.
        DType::Bf16 => {
            let across = if width > NARROW { 16 } else { 32 };
            Shape { method, rows: 64, threads: 128, shared: 2 * width * (2 * 64 + 4 * across) }
        }
    }
}

/// `dq`, `dk`, `dv` overwritten.
pub fn attention_backward(kernels: &Kernels, attention: AttentionBackward<'_, Buf>) {
    let AttentionBackward { dq, dk, dv, dout, out, lse, q, k, v, starts, heads, mask } = attention;
    let Heads { query: h, key_value: g, channels: c } = heads;
    let (kind, rows) = (q.kind(), q.len() / c);
    let causal = matches!(mask, Mask::Causal { .. });
    let delta = delta(kernels, dout, out, rows, c);

    let names = [
        "attention_backward_query_c32",
        "attention_backward_query_c64",
        "attention_backward_query_c96",
        "attention_backward_query_c128",
        "attention_backward_query_c192",
        "attention_backward_query_c256",
    ];
    let query =
        shape(kind, c, ["attention_backward_query", "attention_backward_query_wide"], names, 1);
    let work = tiles(starts, query.rows, causal);
    let call = kernels.call_with("attention_backward", query.method, kind, query.shared).out(dq);
    let call = call
        .input(dout)
        .floats(lse)
        .floats(&delta)
        .input(q)
        .input(k)
        .input(v)
        .host(work.as_flattened());
    sizes(call, heads, mask).launch([work.len(), h, 1], query.threads);

    let names = [
        "attention_backward_key_c32",
        "attention_backward_key_c64",
        "attention_backward_key_c96",
        "attention_backward_key_c128",
        "attention_backward_key_c192",
        "attention_backward_key_c256",
    ];
    let key = shape(kind, c, ["attention_backward_key", "attention_backward_key_wide"], names, 2);
    // Beyond 128 channels in bf16 a block has one of the two gradients.
    let gradients = if kind == DType::Bf16 && c > NARROW { 2 } else { 1 };
    // The first keys are seen by most.
    let work = tiles(starts, key.rows, false);
    let call =
        kernels.call_with("attention_backward", key.method, kind, key.shared).out(dk).out(dv);
    let call = call
        .input(dout)
        .floats(lse)
        .floats(&delta)
        .input(q)
        .input(k)
        .input(v)
        .host(work.as_flattened());
    sizes(call, heads, mask).launch([work.len(), g, gradients], key.threads);
}
