//! Assertions on arguments that several families of operations share. Independent of buffers.

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

/// Panics unless the temperature divides.
#[track_caller]
pub fn divisor(temperature: f32) {
    assert!(
        temperature > 0.0 && temperature.is_finite(),
        "temperature {temperature} is not a positive number"
    );
}
