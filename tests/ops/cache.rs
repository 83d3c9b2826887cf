//! The paged key/value cache and attention over it.

use posttrain::backend::cpu::{Cache, Cpu, Number};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{BLOCK, CacheView, Heads, Mask};

use super::{bits, dirty, levels, normals, oracle};

/// Blocks of three sequences, out of order, as an allocator that reuses blocks would hand them out.
const BLOCKS: [&[u32]; 3] = [&[5, 0, 9], &[3], &[8, 1, 2, 7]];
const LENGTHS: [usize; 3] = [37, 16, 50];

struct Case<T> {
    heads: Heads,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    starts: Vec<usize>,
}

fn case<T: Number>(b: &Cpu<T>, heads: Heads) -> Case<T>
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let starts: Vec<usize> = (0..=3).map(|s| LENGTHS[..s].iter().sum()).collect();
    let n = starts[3];
    let [q, k, v] = [("q", heads.query), ("k", heads.key_value), ("v", heads.key_value)]
        .map(|(name, count)| b.upload_f64(&normals(name, n * count * heads.channels)));
    Case { heads, q, k, v, starts }
}

/// The slot of a position of a sequence.
fn slot(sequence: usize, position: usize) -> u32 {
    BLOCKS[sequence][position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
}

fn positions() -> impl Iterator<Item = (usize, usize)> {
    LENGTHS
        .into_iter()
        .enumerate()
        .flat_map(|(sequence, len)| (0..len).map(move |position| (sequence, position)))
}

fn cached_is_attention<T: Number>(b: &Cpu<T>, heads: Heads, window: Option<usize>)
where
    Cpu<T>: Backend<Buf = Vec<T>, Cache = Cache<T>>,
{
    let x = case(b, heads);
    let n = x.starts[3];
    let (mut whole, mut lse) = (b.zeros(b.len(&x.q)), b.zeros(n * heads.query));
    b.attention(ops::Attention {
        out: &mut whole,
        lse: &mut lse,
        q: &x.q,
        k: &x.k,
        v: &x.v,
        starts: &x.starts,
        heads: x.heads,
        mask: Mask::Causal { window },
    });
    let mut cache = b.cache(10, heads);
    let slots: Vec<u32> =
        positions().map(|(sequence, position)| slot(sequence, position)).collect();
    // In two calls, as prefill and decoding do.
    let width = heads.key_value * heads.channels;
    for rows in [0..60, 60..n] {
        let part = |x: &[T]| x[rows.start * width..rows.end * width].to_vec();
        b.cache_write(&mut cache, &part(&x.k), &part(&x.v), &slots[rows.clone()]);
    }
    let views: Vec<CacheView<'_>> = positions()
        .map(|(sequence, position)| CacheView { blocks: BLOCKS[sequence], length: position + 1 })
        .collect();
    let mut out = dirty(b, b.len(&x.q));
    b.attention_cached(&mut out, &x.q, &cache, &views, window);
    assert_eq!(bits(b, &out), bits(b, &whole), "{heads:?} {window:?}");
    for row in [0, 17, 40, n - 1] {
        let width = heads.query * heads.channels;
        let mut alone = dirty(b, width);
        b.attention_cached(
            &mut alone,
            &x.q[row * width..][..width].to_vec(),
            &cache,
            &views[row..=row],
            window,
        );
        assert_eq!(bits(b, &alone), bits(b, &whole)[row * width..][..width], "row {row} alone");
    }
}

#[test]
fn attention_over_the_cache_has_the_bits_of_attention_over_the_sequence() {
    for (query, key_value, channels) in [(1, 1, 1), (4, 2, 8), (3, 1, 17), (4, 4, 32), (2, 1, 50)] {
        let heads = Heads { query, key_value, channels };
        for (level, b) in levels() {
            for window in
                [None, Some(1), Some(2), Some(15), Some(16), Some(17), Some(33), Some(100)]
            {
                cached_is_attention(&b, heads, window);
                cached_is_attention(&Cpu::<f64>::with_level(level), heads, window);
            }
        }
    }
}

#[test]
fn rows_see_only_their_own_positions() {
    let heads = Heads { query: 2, key_value: 1, channels: 20 };
    let b = Cpu::<f32>::new();
    let (q, row) = (b.upload_f64(&normals("q", 40)), b.upload_f64(&normals("k", 20)));
    let mut cache = b.cache(2, heads);
    let run = |cache: &_| {
        let mut out = dirty(&b, 40);
        b.attention_cached(&mut out, &q, cache, &[CacheView { blocks: &[1], length: 3 }], None);
        bits(&b, &out)
    };
    b.cache_write(&mut cache, &row.repeat(3), &row.repeat(3), &[16, 17, 18]);
    let before = run(&cache);
    let garbage = vec![f32::NAN; 20];
    for slot in (0..32).filter(|slot| !(16..19).contains(slot)) {
        b.cache_write(&mut cache, &garbage, &garbage, &[slot]);
    }
    assert_eq!(run(&cache), before);
}

#[test]
fn rows_see_only_their_window() {
    let heads = Heads { query: 2, key_value: 1, channels: 9 };
    let b = Cpu::<f32>::new();
    let (q, k) = (b.upload_f64(&normals("q", 18)), b.upload_f64(&normals("k", 64 * 9)));
    let slots: Vec<u32> = (0..64).collect();
    let mut cache = b.cache(4, heads);
    for (length, window) in
        [(50, 1), (50, 2), (50, 17), (50, 18), (50, 19), (48, 16), (48, 17), (33, 33), (60, 40)]
    {
        b.cache_write(&mut cache, &k, &k, &slots);
        let run = |cache: &_| {
            let mut out = dirty(&b, 18);
            b.attention_cached(
                &mut out,
                &q,
                cache,
                &[CacheView { blocks: &[0, 1, 2, 3], length }],
                Some(window),
            );
            bits(&b, &out)
        };
        let before = run(&cache);
        for slot in
            slots.iter().filter(|&&slot| !(length - window..length).contains(&(slot as usize)))
        {
            let garbage = vec![[f32::NAN, f32::INFINITY][*slot as usize % 2]; 9];
            b.cache_write(&mut cache, &garbage, &garbage, &[*slot]);
        }
        assert_eq!(run(&cache), before, "{length} positions, a window of {window}");
    }
}

#[test]
#[should_panic(expected = "a window of 0 positions does not hold the row's own")]
fn an_empty_window_is_refused() {
    let b = oracle();
    let cache = b.cache(1, Heads { query: 1, key_value: 1, channels: 1 });
    b.attention_cached(
        &mut vec![0.0],
        &vec![0.0],
        &cache,
        &[CacheView { blocks: &[0], length: 1 }],
        Some(0),
    );
}

#[test]
fn a_copied_block_is_a_copy_and_the_others_stay() {
    let heads = Heads { query: 1, key_value: 2, channels: 3 };
    let heads = Heads { query: 2, ..heads };
    let b = oracle();
    let mut cache = b.cache(3, heads);
    let (k, v, q) = (normals("k", 48 * 6), normals("v", 48 * 6), normals("q", 6));
    b.cache_write(&mut cache, &k, &v, &(0..48).collect::<Vec<u32>>());
    let run = |cache: &_| {
        [0, 1, 2].map(|block| {
            let mut out = dirty(&b, 6);
            b.attention_cached(
                &mut out,
                &q,
                cache,
                &[CacheView { blocks: &[block], length: 16 }],
                None,
            );
            bits(&b, &out)
        })
    };
    let before = run(&cache);
    b.cache_copy_blocks(&mut cache, &[(2, 0)]);
    assert_eq!(run(&cache), [before[0].clone(), before[1].clone(), before[0].clone()]);
    // In order: block 0 becomes block 1, then block 2 becomes what block 0 is by then.
    b.cache_copy_blocks(&mut cache, &[(0, 1), (2, 0)]);
    assert_eq!(run(&cache), [before[1].clone(), before[1].clone(), before[1].clone()]);
}

#[test]
#[should_panic(expected = "slots[0] = 32 is not below 32")]
fn a_slot_beyond_the_cache_is_refused() {
    let b = oracle();
    let mut cache = b.cache(2, Heads { query: 1, key_value: 1, channels: 1 });
    b.cache_write(&mut cache, &vec![0.0], &vec![0.0], &[32]);
}

#[test]
#[should_panic(expected = "a row attends to 17 positions in 1 blocks")]
fn a_view_longer_than_its_blocks_is_refused() {
    let b = oracle();
    let cache = b.cache(2, Heads { query: 1, key_value: 1, channels: 1 });
    b.attention_cached(
        &mut vec![0.0],
        &vec![0.0],
        &cache,
        &[CacheView { blocks: &[0], length: 17 }],
        None,
    );
}
