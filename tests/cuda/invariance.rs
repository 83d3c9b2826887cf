//! Matrix products, attention and token distributions on the emulated device: that their bits do
//! not depend on what is beside a row, a sequence or a batch, and that what must not be read is
//! not.

use posttrain::backend::cuda::{Buf, Cuda, GemmRequest};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{BLOCK, CacheView, GROUP, Heads, Mask};

use super::agree::{buffer, numbers};
use super::emulated::{cuda, cuda_bf16};
use crate::ops::{bits, dirty};

const CAUSAL: Mask = Mask::Causal { window: None };

/// q, k, v, dout of a batch.
fn tensors<B: Backend>(b: &B, n: usize, heads: Heads) -> [B::Buf; 4] {
    let (queries, keys) = (n * heads.query * heads.channels, n * heads.key_value * heads.channels);
    [("q", queries), ("k", keys), ("v", keys), ("dout", queries)]
        .map(|(name, len)| buffer(b, name, len))
}

#[test]
fn what_a_row_may_not_see_is_not_read_for_it() {
    let Some(b) = cuda() else { return };
    let (heads, starts) = (Heads { query: 2, key_value: 1, channels: 8 }, [0, 40, 90]);
    let [q, k, v, dout] = tensors(&b, 90, heads);
    let run = |k: &Buf, v: &Buf| {
        let (mut out, mut lse) = (dirty(&b, b.len(&q)), dirty(&b, 180));
        let mask = Mask::Causal { window: Some(20) };
        b.attention(ops::Attention {
            out: &mut out,
            lse: &mut lse,
            q: &q,
            k,
            v,
            starts: &starts,
            heads,
            mask,
        });
        let [mut dq, mut dk, mut dv] = [&q, k, v].map(|x| dirty(&b, b.len(x)));
        b.attention_backward(ops::AttentionBackward {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
            dout: &dout,
            out: &out,
            lse: &lse,
            q: &q,
            k,
            v,
            starts: &starts,
            heads,
            mask,
        });
        (bits(&b, &out), bits(&b, &dq))
    };
    let broken = |x: &Buf| {
        let mut host = b.download(x);
        // Positions 5 to 7 of the second sequence; rows from 28 on do not see them any more.
        host[45 * 8..48 * 8].fill(f32::NAN);
        b.upload(&host)
    };
    let (whole, dq) = run(&k, &v);
    let (with_nan, dq_with_nan) = run(&broken(&k), &broken(&v));
    let unaffected = [0..45 * 16, 67 * 16..90 * 16];
    for range in unaffected {
        assert_eq!(whole[range.clone()], with_nan[range.clone()]);
        assert_eq!(dq[range.clone()], dq_with_nan[range]);
    }
    assert!(with_nan[45 * 16..67 * 16].iter().all(|bits| f64::from_bits(*bits).is_nan()));
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    let Some(b) = cuda() else { return };
    let heads = Heads { query: 4, key_value: 2, channels: 12 };
    let (starts, n) = ([0, 5, 75, 108], 108);
    let [q, k, v, dout] = tensors(&b, n, heads);
    let run = |[q, k, v, dout]: [&Buf; 4], starts: &[usize]| {
        let (mut out, mut lse) = (dirty(&b, b.len(q)), dirty(&b, b.len(q) / heads.channels));
        b.attention(ops::Attention {
            out: &mut out,
            lse: &mut lse,
            q,
            k,
            v,
            starts,
            heads,
            mask: CAUSAL,
        });
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| dirty(&b, b.len(x)));
        b.attention_backward(ops::AttentionBackward {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
            dout,
            out: &out,
            lse: &lse,
            q,
            k,
            v,
            starts,
            heads,
            mask: CAUSAL,
        });
        [bits(&b, &out), bits(&b, &dq), bits(&b, &dk), bits(&b, &dv)]
    };
    let together = run([&q, &k, &v, &dout], &starts);
    let part = |x: &Buf| {
        let width = b.len(x) / n;
        b.upload(&b.download(x)[5 * width..75 * width])
    };
    let alone = run([&part(&q), &part(&k), &part(&v), &part(&dout)], &[0, 70]);
    for (together, alone) in together.iter().zip(&alone) {
        let width = together.len() / n;
        assert_eq!(together[5 * width..75 * width], alone[..]);
    }
}

#[test]
fn blocks_of_the_cache_are_copied_in_the_order_of_the_pairs() {
    let Some(b) = cuda() else { return };
    let heads = Heads { query: 3, key_value: 3, channels: 5 };
    let n = 2 * BLOCK;
    let [q, k, v, _] = tensors(&b, n, heads);
    let mut cache = b.cache(5, heads);
    b.cache_write(&mut cache, &k, &v, &(0..n as u32).collect::<Vec<u32>>());
    // 0 to 2, 1 to 3, then 2, which is 0 by now, to 4.
    b.cache_copy_blocks(&mut cache, &[(2, 0), (3, 1), (4, 2)]);
    b.cache_copy_blocks(&mut cache, &[]);
    let view = |blocks| vec![CacheView { blocks, length: n }; n];
    let (mut original, mut copied) = (dirty(&b, b.len(&q)), dirty(&b, b.len(&q)));
    b.attention_cached(&mut original, &q, &cache, &view(&[0, 1]), None);
    b.attention_cached(&mut copied, &q, &cache, &view(&[4, 3]), None);
    assert_eq!(bits(&b, &original), bits(&b, &copied));
    assert!(bits(&b, &original).iter().all(|bits| f64::from_bits(*bits).is_finite()));
}

#[test]
fn a_row_of_logits_has_the_same_bits_wherever_it_lies() {
    let Some(b) = cuda() else { return };
    let v = 1003;
    let row: Vec<f32> = numbers("logits", v).into_iter().map(|x| x as f32).collect();
    let mut several = numbers("others", 3 * v).into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    several.extend(&row);
    let run = |logits: &[f32], m: usize| {
        let [mut logprob, mut lse, mut entropy] = [(); 3].map(|()| dirty(&b, m));
        b.token_logprobs(ops::TokenLogprobs {
            logprob: &mut logprob,
            lse: &mut lse,
            entropy: &mut entropy,
            logits: &b.upload(logits),
            targets: &vec![77; m],
            temperature: 0.9,
            v,
        });
        [logprob, lse, entropy].map(|x| *bits(&b, &x).last().unwrap())
    };
    assert_eq!(run(&row, 1), run(&several, 4));
}

/// What a layer's gradients of weights are after calls on these parts of a batch of 150 rows:
/// `dweight`, `dbias`.
fn in_parts(b: &Cuda, parts: &[(usize, usize)]) -> [Vec<u64>; 2] {
    let (n, i, o) = (150, 24, 72);
    let [x, dout] = [("x", n * i), ("dout", n * o)].map(|(name, len)| buffer(b, name, len));
    let wide = |name: &str, len: usize| {
        b.upload_wide(&numbers(name, len).into_iter().map(|x| x as f32).collect::<Vec<f32>>())
    };
    let (mut dweight, mut dbias) = (wide("dweight", o * i), wide("dbias", o));
    for &(first, end) in parts {
        let part = |x: &Buf, width: usize| b.upload(&b.download(x)[first * width..end * width]);
        b.linear_backward_weight(ops::LinearBackwardWeight {
            dweight: &mut dweight,
            dbias: Some(&mut dbias),
            dout: &part(&dout, o),
            x: &part(&x, i),
            n: end - first,
            i,
            o,
        });
    }
    [bits(b, &dweight), bits(b, &dbias)]
}

/// Two parts of 150 rows, cut here.
fn cut(at: usize) -> [(usize, usize); 2] {
    [(0, at), (at, 150)]
}

#[test]
fn two_halves_of_a_batch_add_the_bits_of_the_whole_to_a_gradient_of_weights() {
    let Some(b) = cuda() else { return };
    let whole = in_parts(&b, &[(0, 150)]);
    for at in [1, 64, 133] {
        assert_eq!(in_parts(&b, &cut(at)), whole, "cut at {at}");
    }
}

#[test]
fn on_tensor_cores_so_do_halves_that_are_cut_at_a_group_of_rows_and_no_others() {
    for gemm in [GemmRequest::Plain, GemmRequest::Hopper] {
        let Some(b) = cuda_bf16() else { return };
        let Ok(b) = b.multiplying(gemm) else {
            eprintln!("skipped: {gemm:?} is not for this device");
            continue;
        };
        let whole = in_parts(&b, &[(0, 150)]);
        for at in [GROUP, 4 * GROUP, 9 * GROUP] {
            assert_eq!(in_parts(&b, &cut(at)), whole, "{gemm:?}, cut at {at}");
        }
        for at in [1, 133] {
            let [dweight, dbias] = in_parts(&b, &cut(at));
            assert_ne!(dweight, whole[0], "{gemm:?}, cut at {at}");
            // A gradient of a bias is added up row by row.
            assert_eq!(dbias, whole[1], "{gemm:?}, cut at {at}");
        }
    }
}
