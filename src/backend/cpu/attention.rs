//! Causal attention.
use super::cache::Cache;
use super::lanes;
use super::number::Number;
use super::simd::Simd;
use crate::backend::{BLOCK, CacheView, Heads};

/// One query against keys and values given by position. Returns the log of the softmax's denominator.
fn row<T: Number>(out: &mut [T], q: &[T], length: usize, key: impl Fn(usize, usize) -> T, value: impl Fn(usize, usize) -> T) -> T {
    let scale = T::ONE / T::from_f64(q.len() as f64).sqrt();
    let mut scores: Vec<T> = (0..length).map(|j| (0..q.len()).fold(T::ZERO, |sum, c| q[c].mul_add(key(j, c), sum)) * scale).collect();
    let max = lanes::max(&scores);
    scores.iter_mut().for_each(|s| *s = (*s - max).exp());
    let sum = lanes::sum(&scores);
    let inverse = T::ONE / sum;
    for (c, out) in out.iter_mut().enumerate() {
        *out = scores.iter().enumerate().fold(T::ZERO, |sum, (j, &e)| e.mul_add(value(j, c), sum)) * inverse;
    }
    max + sum.ln()
}

pub fn attention<T: Number>(_simd: Simd, out: &mut [T], lse: &mut [T], q: &[T], k: &[T], v: &[T], starts: &[usize], heads: Heads) {
    let Heads { query: h, key_value: g, channels: c } = heads;
    for range in starts.windows(2) {
        for n in range[0]..range[1] {
            for head in 0..h {
                let at = |j: usize, ch: usize| ((range[0] + j) * g + head / (h / g)) * c + ch;
                let qn = (n * h + head) * c;
                lse[n * h + head] = row(&mut out[qn..qn + c], &q[qn..qn + c], n - range[0] + 1, |j, ch| k[at(j, ch)], |j, ch| v[at(j, ch)]);
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
pub fn attention_backward<T: Number>(
    _simd: Simd,
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
    dout: &[T],
    out: &[T],
    lse: &[T],
    q: &[T],
    k: &[T],
    v: &[T],
    starts: &[usize],
    heads: Heads,
) {
    let Heads { query: h, key_value: g, channels: c } = heads;
    let scale = T::ONE / T::from_f64(c as f64).sqrt();
    for gradient in [&mut *dq, &mut *dk, &mut *dv] {
        gradient.fill(T::ZERO);
    }
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).fold(T::ZERO, |sum, (&a, &b)| a.mul_add(b, sum));
    for range in starts.windows(2) {
        for head in 0..h {
            for n in range[0]..range[1] {
                let qn = (n * h + head) * c;
                let d = lanes::dot(&dout[qn..qn + c], &out[qn..qn + c]);
                for j in range[0]..=n {
                    let kj = (j * g + head / (h / g)) * c;
                    let p = (dot(&q[qn..qn + c], &k[kj..kj + c]) * scale - lse[n * h + head]).exp();
                    let ds = p * (dot(&dout[qn..qn + c], &v[kj..kj + c]) - d) * scale;
                    for ch in 0..c {
                        dq[qn + ch] = ds.mul_add(k[kj + ch], dq[qn + ch]);
                        dk[kj + ch] = ds.mul_add(q[qn + ch], dk[kj + ch]);
                        dv[kj + ch] = p.mul_add(dout[qn + ch], dv[kj + ch]);
                    }
                }
            }
        }
    }
}

pub fn attention_cached<T: Number>(_simd: Simd, out: &mut [T], q: &[T], cache: &Cache<T>, views: &[CacheView<'_>]) {
    let Heads { query: h, key_value: g, channels: c } = cache.heads;
    for (n, view) in views.iter().enumerate() {
        for head in 0..h {
            let qn = (n * h + head) * c;
            let base = |j: usize| view.blocks[j / BLOCK] as usize * cache.block_len() + head / (h / g) * c * BLOCK;
            row(
                &mut out[qn..qn + c],
                &q[qn..qn + c],
                view.length,
                |j, ch| cache.keys[base(j) + ch * BLOCK + j % BLOCK],
                |j, ch| cache.values[base(j) + j % BLOCK * c + ch],
            );
        }
    }
}
