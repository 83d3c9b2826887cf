//! Causal attention, forward and backward.

use posttrain::backend::cpu::{Cache, Cpu, Number};
use posttrain::backend::{Backend, Heads};

use super::{bits, check_gradient, close, dirty, dot, normals, oracle};

fn heads(query: usize, key_value: usize, channels: usize) -> Heads {
    Heads { query, key_value, channels }
}

/// Sequence lengths, one empty, and heads: single, grouped, odd channels, wide.
fn cases() -> Vec<(Vec<usize>, Heads)> {
    vec![
        (vec![0, 1], heads(1, 1, 1)),
        (vec![0, 3, 3, 10], heads(2, 2, 4)),
        (vec![0, 17, 18], heads(4, 2, 5)),
        (vec![0, 16, 49], heads(6, 2, 16)),
        (vec![0, 33, 40], heads(3, 1, 33)),
        (vec![0, 100, 150], heads(4, 4, 32)),
        (vec![0, 60], heads(2, 1, 64)),
        (vec![0, 260], heads(2, 1, 20)),
    ]
}

/// By the definition, one row at a time: softmax of q k / sqrt(c) over the positions of the sequence up to the row's own.
fn formula(q: &[f64], k: &[f64], v: &[f64], starts: &[usize], heads: Heads) -> (Vec<f64>, Vec<f64>) {
    let Heads { query: h, key_value: g, channels: c } = heads;
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; q.len() / c]);
    for sequence in starts.windows(2) {
        for row in sequence[0]..sequence[1] {
            for head in 0..h {
                let at = |row: usize| (row * g + head * g / h) * c;
                let q = &q[(row * h + head) * c..][..c];
                let scores: Vec<f64> = (sequence[0]..=row).map(|j| dot(q, &k[at(j)..][..c]) / (c as f64).sqrt()).collect();
                let sum: f64 = scores.iter().map(|s| s.exp()).sum();
                lse[row * h + head] = sum.ln();
                for (j, score) in (sequence[0]..).zip(&scores) {
                    for channel in 0..c {
                        out[(row * h + head) * c + channel] += score.exp() / sum * v[at(j) + channel];
                    }
                }
            }
        }
    }
    (out, lse)
}

struct Inputs {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    dout: Vec<f64>,
}

fn inputs(starts: &[usize], heads: Heads) -> Inputs {
    let n = starts[starts.len() - 1];
    let (queries, keys) = (n * heads.query * heads.channels, n * heads.key_value * heads.channels);
    Inputs { q: normals("q", queries), k: normals("k", keys), v: normals("v", keys), dout: normals("dout", queries) }
}

fn forward<B: Backend>(b: &B, q: &B::Buf, k: &B::Buf, v: &B::Buf, starts: &[usize], heads: Heads) -> (B::Buf, B::Buf) {
    let (mut out, mut lse) = (dirty(b, b.len(q)), dirty(b, b.len(q) / heads.channels));
    b.attention(&mut out, &mut lse, q, k, v, starts, heads);
    (out, lse)
}

fn backward<B: Backend>(b: &B, x: &Inputs, starts: &[usize], heads: Heads) -> [B::Buf; 3] {
    let [q, k, v, dout] = [&x.q, &x.k, &x.v, &x.dout].map(|x| b.upload_f64(x));
    let (out, lse) = forward(b, &q, &k, &v, starts, heads);
    let (mut dq, mut dk, mut dv) = (dirty(b, b.len(&q)), dirty(b, b.len(&k)), dirty(b, b.len(&v)));
    b.attention_backward(&mut dq, &mut dk, &mut dv, &dout, &out, &lse, &q, &k, &v, starts, heads);
    [dq, dk, dv]
}

#[test]
fn forward_is_the_definition() {
    for (starts, heads) in cases() {
        let x = inputs(&starts, heads);
        let (out, lse) = formula(&x.q, &x.k, &x.v, &starts, heads);
        let double = oracle();
        let got = forward(&double, &x.q, &x.k, &x.v, &starts, heads);
        close(&format!("{heads:?} out"), &got.0, &out, 1e-14);
        close(&format!("{heads:?} lse"), &got.1, &lse, 1e-14);
        // Scores of size 5 are rounded by 3e-7, so that probabilities are off by as much of themselves, and more for many channels.
        let single = Cpu::<f32>::new();
        let [q, k, v] = [&x.q, &x.k, &x.v].map(|x| single.upload_f64(x));
        let got = forward(&single, &q, &k, &v, &starts, heads);
        close(&format!("{heads:?} out in f32"), &single.download_f64(&got.0), &out, 2e-6);
        close(&format!("{heads:?} lse in f32"), &single.download_f64(&got.1), &lse, 1e-6);
    }
}

#[test]
fn backward_is_the_gradient_of_forward() {
    for (starts, heads) in [(vec![0, 1, 8], heads(2, 1, 3)), (vec![0, 9], heads(2, 2, 4)), (vec![0, 19], heads(1, 1, 2))] {
        let x = inputs(&starts, heads);
        let [dq, dk, dv] = backward(&oracle(), &x, &starts, heads);
        check_gradient("dq", &dq, &x.q, |q| dot(&formula(q, &x.k, &x.v, &starts, heads).0, &x.dout));
        check_gradient("dk", &dk, &x.k, |k| dot(&formula(&x.q, k, &x.v, &starts, heads).0, &x.dout));
        check_gradient("dv", &dv, &x.v, |v| dot(&formula(&x.q, &x.k, v, &starts, heads).0, &x.dout));
    }
}

/// The gradient by its formulas, for shapes that are too large for finite differences.
fn backward_formula(x: &Inputs, starts: &[usize], heads: Heads) -> [Vec<f64>; 3] {
    let Heads { query: h, key_value: g, channels: c } = heads;
    let (_, lse) = formula(&x.q, &x.k, &x.v, starts, heads);
    let (mut dq, mut dk, mut dv) = (vec![0.0; x.q.len()], vec![0.0; x.k.len()], vec![0.0; x.v.len()]);
    for sequence in starts.windows(2) {
        for row in sequence[0]..sequence[1] {
            for head in 0..h {
                let (at, i) = (|j: usize| (j * g + head * g / h) * c, (row * h + head) * c);
                let (q, dout) = (&x.q[i..][..c], &x.dout[i..][..c]);
                let p = |j: usize| (dot(q, &x.k[at(j)..][..c]) / (c as f64).sqrt() - lse[row * h + head]).exp();
                let dp = |j: usize| dot(dout, &x.v[at(j)..][..c]);
                let mean: f64 = (sequence[0]..=row).map(|j| p(j) * dp(j)).sum();
                for j in sequence[0]..=row {
                    let ds = p(j) * (dp(j) - mean) / (c as f64).sqrt();
                    for channel in 0..c {
                        dq[i + channel] += ds * x.k[at(j) + channel];
                        dk[at(j) + channel] += ds * q[channel];
                        dv[at(j) + channel] += p(j) * dout[channel];
                    }
                }
            }
        }
    }
    [dq, dk, dv]
}

#[test]
fn backward_is_the_formula_on_larger_shapes() {
    for (starts, heads) in cases() {
        let x = inputs(&starts, heads);
        let expected = backward_formula(&x, &starts, heads);
        let single = Cpu::<f32>::new();
        let in_single = backward(&single, &x, &starts, heads).map(|x| single.download_f64(&x));
        for ((double, single), expected) in backward(&oracle(), &x, &starts, heads).iter().zip(&in_single).zip(&expected) {
            // A row of one position has gradients of exactly 0 for q and k, up to rounding of dp - D.
            let size = expected.iter().fold(0.0f64, |size, x| size.max(x.abs())).max(1.0);
            let share = |x: &[f64]| x.iter().map(|x| x / size).collect::<Vec<_>>();
            let off = |x: &[f64]| share(x).iter().zip(share(expected)).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(off(double) < 1e-13 && double.iter().all(|x| x.is_finite()), "{heads:?}: {:e}", off(double));
            assert!(off(single) < 3e-6 && single.iter().all(|x| x.is_finite()), "{heads:?} in f32: {:e}", off(single));
        }
    }
}

#[test]
fn a_sequence_alone_gives_the_bits_it_gives_in_a_batch() {
    // Long enough for its rows, heads and sequences to be spread over threads.
    let (starts, heads) = (vec![0, 250, 251, 283], heads(4, 2, 20));
    let x = inputs(&starts, heads);
    let b = Cpu::<f32>::new();
    let whole = backward(&b, &x, &starts, heads);
    let whole_out = forward(&b, &b.upload_f64(&x.q), &b.upload_f64(&x.k), &b.upload_f64(&x.v), &starts, heads);
    for sequence in starts.windows(2) {
        let part = |x: &[f64], width: usize| x[sequence[0] * width..sequence[1] * width].to_vec();
        let (wide, narrow) = (heads.query * heads.channels, heads.key_value * heads.channels);
        let alone = Inputs { q: part(&x.q, wide), k: part(&x.k, narrow), v: part(&x.v, narrow), dout: part(&x.dout, wide) };
        let starts = [0, sequence[1] - sequence[0]];
        let out = forward(&b, &b.upload_f64(&alone.q), &b.upload_f64(&alone.k), &b.upload_f64(&alone.v), &starts, heads);
        assert_eq!(bits(&b, &out.0), bits(&b, &whole_out.0)[sequence[0] * wide..sequence[1] * wide]);
        assert_eq!(bits(&b, &out.1), bits(&b, &whole_out.1)[sequence[0] * heads.query..sequence[1] * heads.query]);
        for ((alone, whole), width) in backward(&b, &alone, &starts, heads).iter().zip(&whole).zip([wide, narrow, narrow]) {
            assert_eq!(bits(&b, alone), bits(&b, whole)[sequence[0] * width..sequence[1] * width]);
        }
    }
}

#[test]
fn a_row_does_not_see_what_comes_after_it_even_if_it_is_not_a_number() {
    fn check<T: Number>(b: &Cpu<T>)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
        let (n, heads) = (40, heads(2, 1, 18));
        let x = inputs(&[0, n], heads);
        let [q, k, v] = [&x.q, &x.k, &x.v].map(|x| b.upload_f64(x));
        let (out, lse) = forward(b, &q, &k, &v, &[0, n], heads);
        for seen in [1, 7, 16, 33] {
            let blind = |x: &[T]| [&x[..seen * 18], &vec![T::from_f64(f64::NAN); (n - seen) * 18]].concat();
            let (blind_out, blind_lse) = forward(b, &q, &blind(&k), &blind(&v), &[0, n], heads);
            assert_eq!(bits(b, &blind_out)[..seen * 36], bits(b, &out)[..seen * 36]);
            assert_eq!(bits(b, &blind_lse)[..seen * 2], bits(b, &lse)[..seen * 2]);
        }
    }
    check(&Cpu::<f32>::new());
    check(&oracle());
}

#[test]
fn a_longer_sequence_gives_its_first_rows_the_same_bits() {
    let (n, heads) = (70, heads(3, 3, 24));
    let x = inputs(&[0, n], heads);
    let b = Cpu::<f32>::new();
    let [q, k, v] = [&x.q, &x.k, &x.v].map(|x| b.upload_f64(x));
    let (whole, _) = forward(&b, &q, &k, &v, &[0, n], heads);
    for len in [1, 2, 15, 17, 48, 69] {
        let part = |x: &[f32]| x[..len * 72].to_vec();
        let (out, _) = forward(&b, &part(&q), &part(&k), &part(&v), &[0, len], heads);
        assert_eq!(bits(&b, &out), bits(&b, &whole)[..len * 72]);
    }
}

#[test]
fn no_sequences_are_fine() {
    let b = oracle();
    let (out, lse) = forward(&b, &vec![], &vec![], &vec![], &[0], heads(2, 1, 4));
    assert!(out.is_empty() && lse.is_empty());
}

#[test]
#[should_panic(expected = "query heads must be a multiple of key/value heads")]
fn heads_that_do_not_divide_are_refused() {
    forward(&oracle(), &vec![0.0; 3], &vec![0.0; 2], &vec![0.0; 2], &[0, 1], heads(3, 2, 1));
}

#[test]
#[should_panic(expected = "sequence starts must rise from 0 to 2")]
fn starts_that_fall_are_refused() {
    forward(&oracle(), &vec![0.0; 2], &vec![0.0; 2], &vec![0.0; 2], &[0, 3, 2], heads(1, 1, 1));
}
