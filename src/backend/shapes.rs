//! The assertions of every back end on its arguments at entry, with the same messages. Independent
//! of buffers.

use super::{BLOCK, CacheView, Heads, Sampling};

/// Panics unless there are `expected` elements.
#[track_caller]
pub fn length(len: usize, expected: usize, what: &str) {
    assert!(len == expected, "{what}: {len} elements, not {expected}");
}

/// Panics unless the elements are rows of `d`; how many.
#[track_caller]
pub fn rows(len: usize, d: usize, what: &str) -> usize {
    assert!(d > 0 && len.is_multiple_of(d), "{what}: {len} elements are not rows of {d}");
    len / d
}

/// Panics unless every index is below `limit`.
#[track_caller]
pub fn below(indices: &[u32], limit: usize, what: &str) {
    if let Some(at) = indices.iter().position(|&index| index as usize >= limit) {
        panic!("{what}[{at}] = {} is not below {limit}", indices[at]);
    }
}

/// Panics unless the heads divide.
#[track_caller]
pub fn grouped(heads: Heads) {
    let whole =
        heads.key_value > 0 && heads.channels > 0 && heads.query.is_multiple_of(heads.key_value);
    assert!(
        whole && heads.query > 0,
        "{heads:?}: query heads must be a multiple of key/value heads, and none may be 0"
    );
}

/// Panics unless a row is in its own window.
#[track_caller]
pub fn holds_itself(window: Option<usize>) {
    assert!(window != Some(0), "a window of 0 positions does not hold the row's own");
}

/// Panics unless rotary turns pairs within a head.
#[track_caller]
pub fn turned(rotated: usize, channels: usize) {
    let pairs = rotated > 0 && rotated.is_multiple_of(2) && rotated <= channels;
    assert!(pairs, "rotary turns pairs of a head's {channels} channels, not {rotated}");
}

/// Panics unless `starts` cuts `n` rows into sequences.
#[track_caller]
pub fn sequences(starts: &[usize], n: usize) {
    assert!(
        starts.first() == Some(&0) && starts.last() == Some(&n) && starts.is_sorted(),
        "sequence starts must rise from 0 to {n}: {starts:?}"
    );
}

/// Panics unless the temperature divides.
#[track_caller]
pub fn divisor(temperature: f32) {
    assert!(
        temperature > 0.0 && temperature.is_finite(),
        "temperature {temperature} is not a positive number"
    );
}

/// Panics unless every input has `n` numbers, one per token, the update's `count` of tokens is at
/// least `n`, and `sums` is `wanted`.
#[track_caller]
pub fn losses(n: usize, inputs: [(usize, &str); 3], count: usize, sums: usize, wanted: usize) {
    inputs.into_iter().for_each(|(len, what)| length(len, n, what));
    length(sums, wanted, "sums");
    assert!(n <= count, "{n} tokens are not a part of {count}");
}

/// Panics unless every view is within a cache of `blocks` blocks.
#[track_caller]
pub fn viewed(views: &[CacheView<'_>], blocks: usize) {
    for view in views {
        assert!(
            view.length > 0 && view.length.div_ceil(BLOCK) <= view.blocks.len(),
            "a row attends to {} positions in {} blocks",
            view.length,
            view.blocks.len()
        );
        below(view.blocks, blocks, "blocks");
    }
}

/// Panics unless tokens can be drawn like this.
#[track_caller]
pub fn drawn(uniforms: &[f64], sampling: Sampling, v: usize) {
    assert!(v > 0, "there is no token to sample");
    assert!(
        uniforms.iter().all(|u| (0.0..1.0).contains(u)),
        "uniform numbers must be in [0, 1): {uniforms:?}"
    );
    assert!(
        sampling.top_p > 0.0 && sampling.top_p <= 1.0,
        "top_p {} is not in (0, 1]",
        sampling.top_p
    );
    if sampling.temperature != 0.0 {
        divisor(sampling.temperature);
    }
}
