//! Every tile of the matrix kernels, and the kernels of bf16, against double precision; with
//! threads in order, in reverse and at random, and with asynchronous copies as late and as early as
//! may be. All outputs that are overwritten are NaN before.

use posttrain::backend::DType;
use posttrain::backend::cpu::Cpu;
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{Activation, AdamW, Heads, Mask, Sampling};

use super::launched::{Argument, Emulator, Memory, Options, rounded};
use crate::ops::{below, close, normals, oracle};

use Argument::{At, Float, Integer, Size};

/// As exact as one rounding of the output.
pub fn tolerance(kind: DType) -> f64 {
    match kind {
        DType::F32 => 2e-6,
        DType::Bf16 => 5e-3,
    }
}

/// Numbers as a storage type has them.
pub fn stored(kind: DType, name: &str, len: usize) -> Vec<f64> {
    normals(name, len).into_iter().map(|x| rounded(kind, x)).collect()
}

/// One kind of tile.
#[derive(Clone, Copy)]
pub struct Tile {
    pub suffix: &'static str,
    pub rows: usize,
    pub columns: usize,
    pub threads: usize,
    pub shared: usize,
}

pub const fn tile(
    suffix: &'static str,
    rows: usize,
    columns: usize,
    threads: usize,
    shared: usize,
) -> Tile {
    Tile { suffix, rows, columns, threads, shared }
}

/// The numbers that a linear layer starts from, and what comes of them in double precision.
pub struct Layer {
    pub sizes: [usize; 3],
    pub x: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
    pub dout: Vec<f64>,
    pub dx: Vec<f64>,
    pub dweight: Vec<f64>,
    pub expected: [Vec<f64>; 3],
}

pub fn layer(kind: DType, n: usize, i: usize, o: usize) -> Layer {
    let [x, weight, bias] =
        [("x", n * i), ("weight", o * i), ("bias", o)].map(|(name, len)| stored(kind, name, len));
    let (dout, dx, dweight) = (
        stored(kind, "dout", n * o),
        stored(kind, "dx", n * i),
        stored(DType::F32, "dweight", o * i),
    );
    let b = oracle();
    let up = |x: &[f64]| b.upload_f64(x);
    let (mut out, mut input, mut weights) = (b.zeros(n * o), up(&dx), up(&dweight));
    b.linear(ops::Linear {
        out: &mut out,
        x: &up(&x),
        weight: &up(&weight),
        bias: Some(&up(&bias)),
        n,
        i,
        o,
    });
    b.linear_backward_input(ops::LinearBackwardInput {
        dx: &mut input,
        dout: &up(&dout),
        weight: &up(&weight),
        n,
        i,
        o,
    });
    b.linear_backward_weight(ops::LinearBackwardWeight {
        dweight: &mut weights,
        dbias: None,
        dout: &up(&dout),
        x: &up(&x),
        n,
        i,
        o,
    });
    let expected = [out, input, weights].map(|x| b.download_f64(&x));
    Layer { sizes: [n, i, o], x, weight, bias, dout, dx, dweight, expected }
}

/// The operands of a kernel, with the layer's sizes.
fn sized<'a>(operands: Vec<Argument<'a>>, layer: &Layer) -> Vec<Argument<'a>> {
    operands.into_iter().chain(layer.sizes.map(Size)).collect()
}

/// Tells apart what is to have the same bits.
pub fn same(what: &str, first: &mut Option<Vec<f64>>, got: Vec<f64>) {
    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
    match first {
        Some(first) => assert_eq!(
            bits(first),
            bits(&got),
            "{what}: other bits than with another tile or order of threads"
        ),
        None => *first = Some(got),
    }
}

/// A wide output is as exact as sums in float, and the stored one is it, rounded.
pub fn rounds_to(what: &str, wide: &[f64], stored: &[f64], expected: &[f64]) {
    close(&format!("{what}, wide"), wide, expected, 2e-6);
    assert!(
        wide.iter().zip(stored).all(|(wide, stored)| rounded(DType::Bf16, *wide) == *stored),
        "{what}: the stored output is not the wide one, rounded"
    );
}

/// No pointer.
pub const NULL: Argument<'static> = Size(0);
/// Silu as swiglu has it, as kernels/functions.cuh numbers it.
pub const GATE: i32 = 5;
/// The others.
pub const FUNCTIONS: [(i32, Activation); 5] = [
    (0, Activation::Relu),
    (1, Activation::Gelu),
    (2, Activation::GeluTanh),
    (3, Activation::Silu),
    (4, Activation::Tanh),
];

/// A function of numbers in double precision.
pub fn applied(function: Activation, x: &[f64]) -> Vec<f64> {
    let (b, mut out) = (oracle(), vec![0.0; x.len()]);
    b.activation(&mut out, &x.to_vec(), function);
    out
}

/// Ones, less than a tile, a tile and a bit, unaligned rows, a column, a row longer than the ring
/// of stages.
const LAYERS: [(usize, usize, usize); 7] =
    [(1, 1, 1), (3, 5, 7), (130, 24, 136), (70, 9, 64), (17, 72, 40), (65, 40, 1), (2, 1000, 33)];

#[test]
fn every_tile_of_a_matrix_product_gives_the_same_bits() {
    let Some(e) = Emulator::open() else { return };
    let single = [tile("", 128, 128, 256, 0), tile("_small", 32, 64, 128, 0)];
    let bf16 = [
        tile("", 128, 128, 256, 4 * 256 * 64),
        tile("_small", 64, 64, 128, 4 * 128 * 64),
        tile("_few", 16, 32, 128, 6 * 48 * 256),
    ];
    for (kind, tiles) in [(DType::F32, &single[..]), (DType::Bf16, &bf16[..])] {
        for (n, i, o) in LAYERS {
            let layer = layer(kind, n, i, o);
            let [x, weight, bias, dout] =
                [&layer.x, &layer.weight, &layer.bias, &layer.dout].map(|x| e.numbers(kind, x));
            let mut firsts = [const { None }; 4];
            for (tile, options) in
                tiles.iter().flat_map(|tile| Options::ALL.map(|options| (tile, options)))
            {
                let what = format!("{kind:?} {n} x {i} to {o}{} {options:?}", tile.suffix);
                let launch = |name: &str, blocks: usize, arguments: Vec<Argument<'_>>| {
                    let kernel = format!("{name}{}", tile.suffix);
                    e.launch(
                        kind,
                        "linear",
                        &kernel,
                        [blocks, 1, 1],
                        tile.threads,
                        tile.shared,
                        options,
                        &arguments,
                    );
                };
                let blocks = |rows: usize, columns: usize| {
                    rows.div_ceil(tile.rows) * columns.div_ceil(tile.columns)
                };
                let sizes = || layer.sizes.map(Size);
                let out = e.room(kind, n * o);
                launch(
                    "linear",
                    blocks(n, o),
                    sized(vec![At(&out), At(&x), At(&weight), At(&bias), NULL], &layer),
                );
                let out = out.numbers(kind, n * o);
                close(&what, &out, &layer.expected[0], tolerance(kind));
                if kind == DType::Bf16 {
                    let wide = e.room(DType::F32, n * o);
                    launch(
                        "linear_wide",
                        blocks(n, o),
                        sized(vec![At(&wide), At(&x), At(&weight), At(&bias)], &layer),
                    );
                    rounds_to(&what, &wide.numbers(DType::F32, n * o), &out, &layer.expected[0]);
                }
                let added = e.room(kind, n * o);
                launch(
                    "linear",
                    blocks(n, o),
                    sized(vec![At(&added), At(&x), At(&weight), At(&bias), At(&dout)], &layer),
                );
                let (added, sum) = (
                    added.numbers(kind, n * o),
                    layer.expected[0].iter().zip(&layer.dout).map(|(x, y)| x + y),
                );
                close(
                    &format!("{what}, residual"),
                    &added,
                    &sum.collect::<Vec<f64>>(),
                    tolerance(kind),
                );
                same(&what, &mut firsts[3], added);
                for (which, function) in FUNCTIONS {
                    let (f, kept, alone) =
                        (e.room(kind, n * o), e.room(kind, n * o), e.room(kind, n * o));
                    for (to, kept) in [(&f, At(&kept)), (&alone, NULL)] {
                        let arguments = [At(to), kept, At(&x), At(&weight), At(&bias), NULL]
                            .into_iter()
                            .chain(sizes())
                            .chain([Integer(which)]);
                        launch("linear_function", blocks(n, o), arguments.collect());
                    }
                    let [f, kept, alone] = [f, kept, alone].map(|x| x.numbers(kind, n * o));
                    assert_eq!(
                        (&kept, &alone),
                        (&out, &f),
                        "{what}, {function:?}: what is kept is the layer's output, and changes no \
                         bit"
                    );
                    close(
                        &format!("{what}, {function:?}"),
                        &f,
                        &applied(function, &out),
                        tolerance(kind),
                    );
                }
                let (gated, kept) = (e.room(kind, n * o), e.room(kind, n * o));
                let arguments = [At(&gated), At(&kept), At(&x), At(&weight), At(&bias), At(&dout)]
                    .into_iter()
                    .chain(sizes());
                launch("linear_function", blocks(n, o), arguments.chain([Integer(GATE)]).collect());
                let (gated, kept) = (gated.numbers(kind, n * o), kept.numbers(kind, n * o));
                assert_eq!(kept, out, "{what}, gate");
                let silu = applied(Activation::Silu, &out);
                let expected: Vec<f64> = silu.iter().zip(&layer.dout).map(|(x, y)| x * y).collect();
                close(&format!("{what}, gate"), &gated, &expected, tolerance(kind));
                // The rows are a weight of n outputs too.
                let (first, second, third) =
                    (e.room(kind, n * o), e.room(kind, n * n), e.room(kind, n * o));
                let outs = [
                    At(&first),
                    At(&second),
                    At(&third),
                    At(&x),
                    At(&weight),
                    At(&x),
                    At(&weight),
                    At(&bias),
                    NULL,
                    NULL,
                ];
                let widths = [n, i, o, n, o].map(Size);
                launch(
                    "linear_several",
                    2 * blocks(n, o) + blocks(n, n),
                    outs.into_iter().chain(widths).collect(),
                );
                let (alone, unbiased) = (e.room(kind, n * n), e.room(kind, n * o));
                launch(
                    "linear",
                    blocks(n, n),
                    vec![At(&alone), At(&x), At(&x), NULL, NULL, Size(n), Size(i), Size(n)],
                );
                launch(
                    "linear",
                    blocks(n, o),
                    sized(vec![At(&unbiased), At(&x), At(&weight), NULL, NULL], &layer),
                );
                assert_eq!(first.numbers(kind, n * o), out, "{what}, the first of several");
                assert_eq!(
                    second.numbers(kind, n * n),
                    alone.numbers(kind, n * n),
                    "{what}, the second of several"
                );
                assert_eq!(
                    third.numbers(kind, n * o),
                    unbiased.numbers(kind, n * o),
                    "{what}, the third of several"
                );
                same(&what, &mut firsts[0], out);
                if tile.suffix == "_few" {
                    continue;
                }
                let backward = |dx: &Memory<'_>, adds: i32| {
                    let arguments = [At(dx), At(&dout), At(&weight)]
                        .into_iter()
                        .chain(sizes())
                        .chain([Integer(adds)]);
                    launch("linear_backward_input", blocks(n, i), arguments.collect());
                    dx.numbers(kind, n * i)
                };
                let dx = backward(&e.numbers(kind, &layer.dx), 1);
                close(&what, &dx, &layer.expected[1], tolerance(kind));
                same(&what, &mut firsts[1], dx);
                let zeros = vec![0.0; n * i];
                assert_eq!(
                    backward(&e.room(kind, n * i), 0),
                    backward(&e.numbers(kind, &zeros), 1),
                    "{what}: from nothing"
                );
                let dweight = e.numbers(DType::F32, &layer.dweight);
                launch(
                    "linear_backward_weight",
                    blocks(o, i),
                    sized(vec![At(&dweight), At(&dout), At(&x)], &layer),
                );
                close(&what, &dweight.numbers(DType::F32, o * i), &layer.expected[2], 2e-6);
                same(&what, &mut firsts[2], dweight.numbers(DType::F32, o * i));
            }
        }
    }
}

#[test]
fn a_training_step_in_bf16_keeps_its_master_in_float_and_writes_a_rounded_copy() {
    let Some(e) = Emulator::open() else { return };
    let n = 300;
    let [weight, gradient] = ["weight", "gradient"].map(|name| stored(DType::F32, name, n));
    let step = AdamW {
        learning_rate: 3e-2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 1,
        gradient_scale: 0.5,
    };
    let cpu = Cpu::<f32>::new();
    let (mut expected, mut first, mut second) =
        (cpu.upload_f64(&weight), cpu.zeros(n), cpu.zeros(n));
    cpu.adamw(&mut expected, None, &mut first, &mut second, &cpu.upload_f64(&gradient), step);
    let (master, copy) = (e.numbers(DType::F32, &weight), e.room(DType::Bf16, n));
    let [m, v] = [0; 2].map(|_| e.numbers(DType::F32, &vec![0.0; n]));
    let given = e.numbers(DType::F32, &gradient);
    let rest = |beta: f64| 1.0 - beta;
    let (beta1, beta2, correction) = (0.9, 0.95, |beta: f64| 1.0 / (1.0 - beta));
    let numbers = [
        beta1,
        rest(beta1),
        beta2,
        rest(beta2),
        correction(beta1),
        correction(beta2),
        1e-8,
        0.5,
        3e-2,
        1.0 - 3e-2 * 0.1,
    ];
    let arguments = [At(&master), At(&copy), At(&m), At(&v), At(&given), Size(n)].into_iter();
    let arguments: Vec<Argument> = arguments.chain(numbers.map(|x| Float(x as f32))).collect();
    e.launch(
        DType::Bf16,
        "optimiser",
        "adamw",
        [n.div_ceil(256), 1, 1],
        256,
        0,
        Options::ALL[0],
        &arguments,
    );
    assert_eq!(
        (master.read::<f32>(n), m.read::<f32>(n), v.read::<f32>(n)),
        (expected.clone(), first, second)
    );
    let rounded: Vec<f64> = expected.iter().map(|x| rounded(DType::Bf16, f64::from(*x))).collect();
    assert_eq!(copy.numbers(DType::Bf16, n), rounded);
}

#[test]
fn a_bias_gradient_is_the_sum_of_the_rows() {
    let Some(e) = Emulator::open() else { return };
    for kind in [DType::F32, DType::Bf16] {
        for (n, o) in [(1, 1), (64, 32), (200, 70)] {
            let (start, dout) = (stored(DType::F32, "dbias", o), stored(kind, "dout", n * o));
            let (dbias, given) = (e.numbers(DType::F32, &start), e.numbers(kind, &dout));
            let arguments = [At(&dbias), At(&given), Size(n), Size(o)];
            e.launch(
                kind,
                "rows",
                "add_rows",
                [o.div_ceil(32), 1, 1],
                256,
                0,
                Options::ALL[2],
                &arguments,
            );
            let expected: Vec<f64> =
                (0..o).map(|c| start[c] + dout.iter().skip(c).step_by(o).sum::<f64>()).collect();
            close(&format!("{kind:?} {n} x {o}"), &dbias.numbers(DType::F32, o), &expected, 2e-6);
        }
    }
}

/// Sequences and heads in bf16: every width of a tile, channels that fill it or not, rows that are
/// aligned or not.
fn batches() -> Vec<(Vec<usize>, Heads)> {
    let heads = |query, key_value, channels| Heads { query, key_value, channels };
    vec![
        (vec![0, 1], heads(1, 1, 1)),
        (vec![0, 17, 18], heads(4, 2, 5)),
        (vec![0, 150, 150, 190], heads(2, 1, 20)),
        (vec![0, 130], heads(2, 2, 64)),
        (vec![0, 70], heads(2, 1, 80)),
        (vec![0, 33, 66], heads(1, 1, 128)),
        (vec![0, 9], heads(18, 1, 8)),
        (vec![0, 65], heads(2, 1, 131)),
        (vec![0, 40, 60], heads(1, 1, 192)),
        (vec![0, 70], heads(1, 1, 248)),
    ]
}

/// Channels of a tile's rows, and the steps of keys and values that a block holds.
fn width_of(c: usize) -> (usize, usize) {
    if c > 128 { (c.next_multiple_of(64), 1) } else { (c.next_multiple_of(32), 2) }
}

/// First row, length, first position of every tile of `rows`.
pub fn tiles(starts: &[usize], rows: usize) -> Vec<u32> {
    let of = |pair: &[usize]| {
        (0..pair[1] - pair[0])
            .step_by(rows)
            .flat_map(|first| [pair[0], pair[1] - pair[0], first])
            .collect::<Vec<usize>>()
    };
    starts.windows(2).flat_map(of).map(|x| x as u32).collect()
}

#[test]
fn attention_in_bf16_agrees_and_the_cache_gives_its_bits() {
    let (Some(e), kind) = (Emulator::open(), DType::Bf16) else { return };
    for (at, (starts, heads)) in batches().into_iter().enumerate() {
        let Heads { query: h, key_value: g, channels: c } = heads;
        let (n, (width, stages)) = (*starts.last().unwrap(), width_of(c));
        let [q, k, v, dout] = [("q", h), ("k", g), ("v", g), ("dout", h)]
            .map(|(name, heads)| stored(kind, name, n * heads * c));
        let [at_q, at_k, at_v, at_dout] = [&q, &k, &v, &dout].map(|x| e.numbers(kind, x));
        for (mask, options) in [None, Some(3), Some(50)]
            .map(|window| Mask::Causal { window })
            .into_iter()
            .chain([Mask::Bidirectional])
            .zip(Options::ALL)
        {
            let what = format!("{starts:?} {heads:?} {mask:?}");
            let b = oracle();
            let up = |x: &[f64]| b.upload_f64(x);
            let [mut out, mut dq, mut dk, mut dv] = [&q, &q, &k, &v].map(|x| b.zeros(x.len()));
            let mut lse = b.zeros(n * h);
            b.attention(ops::Attention {
                out: &mut out,
                lse: &mut lse,
                q: &up(&q),
                k: &up(&k),
                v: &up(&v),
                starts: &starts,
                heads,
                mask,
            });
            b.attention_backward(ops::AttentionBackward {
                dq: &mut dq,
                dk: &mut dk,
                dv: &mut dv,
                dout: &up(&dout),
                out: &out,
                lse: &lse,
                q: &up(&q),
                k: &up(&k),
                v: &up(&v),
                starts: &starts,
                heads,
                mask,
            });

            let (causal, window) = match mask {
                Mask::Causal { window } => (1, window.unwrap_or(1 << 40)),
                Mask::Bidirectional => (0, 1 << 40),
            };
            let sizes = || {
                [
                    Integer(h as i32),
                    Integer(g as i32),
                    Integer(c as i32),
                    Integer(causal),
                    Size(window),
                ]
            };
            let (got_out, got_lse) = (e.room(kind, q.len()), e.room(DType::F32, n * h));
            let rows = if width > 64 { 64 } else { 128 };
            let work = tiles(&starts, rows);
            let table = e.plain(&work);
            let arguments =
                [At(&got_out), At(&got_lse), At(&at_q), At(&at_k), At(&at_v), At(&table)]
                    .into_iter()
                    .chain(sizes())
                    .collect::<Vec<_>>();
            let grid = [work.len() / 3, h, 1];
            e.launch(
                kind,
                "attention",
                &format!("attention_c{width}"),
                grid,
                128,
                2 * width * (rows + 128 * stages),
                options,
                &arguments,
            );
            close(&what, &got_out.numbers(kind, q.len()), &b.download_f64(&out), 1e-2);
            close(&what, &got_lse.numbers(DType::F32, n * h), &b.download_f64(&lse), 1e-5);

            let delta = e.room(DType::F32, n * h);
            let arguments =
                [At(&delta), At(&at_dout), At(&got_out), Size(n * h), Integer(c as i32)];
            e.launch(
                kind,
                "attention_backward",
                "attention_backward_delta",
                [(n * h).div_ceil(8), 1, 1],
                256,
                0,
                options,
                &arguments,
            );
            let [got_dq, got_dk, got_dv] = [&q, &k, &v].map(|x| e.room(kind, x.len()));
            let work = tiles(&starts, 64);
            let table = e.plain(&work);
            let rest = || {
                [
                    At(&at_dout),
                    At(&got_lse),
                    At(&delta),
                    At(&at_q),
                    At(&at_k),
                    At(&at_v),
                    At(&table),
                ]
                .into_iter()
                .chain(sizes())
            };
            let (query, key): (Vec<_>, Vec<_>) = (
                [At(&got_dq)].into_iter().chain(rest()).collect(),
                [At(&got_dk), At(&got_dv)].into_iter().chain(rest()).collect(),
            );
            let run = |name: &str, heads: usize, blocks: usize, arguments: &[Argument<'_>]| {
                let (kernel, shared) = (
                    format!("attention_backward_{name}_c{width}"),
                    2 * width * (128 + 64 * stages),
                );
                e.launch(
                    kind,
                    "attention_backward",
                    &kernel,
                    [work.len() / 3, heads, blocks],
                    128,
                    shared,
                    options,
                    arguments,
                );
            };
            run("query", h, 1, &query);
            run("key", g, if c > 128 { 2 } else { 1 }, &key);
            for (name, got, expected) in
                [("dq", &got_dq, &dq), ("dk", &got_dk, &dk), ("dv", &got_dv, &dv)]
            {
                close(
                    &format!("{what} {name}"),
                    &got.numbers(kind, b.len(expected)),
                    &b.download_f64(expected),
                    2e-2,
                );
            }
            if causal == 1 {
                let cached =
                    cached(&e, &at_q, &at_k, &at_v, &starts, heads, window, options, at % 2 == 0);
                same(&what, &mut Some(got_out.numbers(kind, q.len())), cached);
            }
        }
    }
}

/// The same by way of the paged cache, rows together or alone.
#[expect(clippy::too_many_arguments)]
pub fn cached(
    e: &Emulator,
    q: &Memory<'_>,
    k: &Memory<'_>,
    v: &Memory<'_>,
    starts: &[usize],
    heads: Heads,
    window: usize,
    options: Options,
    together: bool,
) -> Vec<f64> {
    let Heads { query: h, key_value: g, channels: c } = heads;
    let (kind, n, (width, stages), group) =
        (DType::Bf16, *starts.last().unwrap(), width_of(c), h / g);
    let blocks: Vec<u32> =
        (0..starts.windows(2).map(|pair| (pair[1] - pair[0]).div_ceil(16) as u32).sum())
            .rev()
            .collect();
    let (mut slots, mut views, mut work): (Vec<u32>, Vec<u32>, Vec<u32>) =
        (Vec::new(), Vec::new(), Vec::new());
    let (mut table, most) = (0, if together { (16 / group).max(1) } else { 1 });
    for pair in starts.windows(2) {
        let length = pair[1] - pair[0];
        slots.extend((0..length).map(|at| blocks[table + at / 16] * 16 + at as u32 % 16));
        views.extend((1..=length as u32).flat_map(|length| [length, table as u32]));
        work.extend(
            (0..length)
                .step_by(most)
                .flat_map(|first| [(pair[0] + first) as u32, most.min(length - first) as u32]),
        );
        table += length.div_ceil(16);
    }
    let [keys, values] = [(); 2].map(|()| e.room(kind, (blocks.len() + 1) * 16 * g * c));
    let (at_slots, at_blocks, at_views, at_work) =
        (e.plain(&slots), e.plain(&blocks), e.plain(&views), e.plain(&work));
    let sizes = || [Integer(g as i32), Integer(c as i32)];
    let arguments: Vec<_> = [At(&keys), At(&values), At(k), At(v), At(&at_slots), Size(n)]
        .into_iter()
        .chain(sizes())
        .collect();
    e.launch(
        kind,
        "cache",
        "cache_write",
        [(n * g * c).div_ceil(256), 1, 1],
        256,
        0,
        options,
        &arguments,
    );
    let out = e.room(kind, n * h * c);
    let given = [
        At(&out),
        At(q),
        At(&keys),
        At(&values),
        At(&at_blocks),
        At(&at_views),
        At(&at_work),
        Integer(h as i32),
    ];
    let arguments: Vec<_> = given.into_iter().chain(sizes()).chain([Size(window)]).collect();
    let grid = [work.len() / 2, g, (most * group).div_ceil(16)];
    e.launch(
        kind,
        "cached",
        &format!("attention_cached_c{width}"),
        grid,
        128,
        2 * (width * (16 + 128 * stages) + 1024),
        options,
        &arguments,
    );
    out.numbers(kind, n * h * c)
}

#[test]
fn token_distributions_beside_numbers_of_bf16_agree() {
    let (Some(e), kind) = (Emulator::open(), DType::Bf16) else { return };
    for (m, v, temperature) in [(2, 1, 1.0), (3, 257, 0.7), (2, 5000, 1.3)] {
        let b = oracle();
        let logits: Vec<f64> =
            stored(DType::F32, "logits", m * v).into_iter().map(|x| 4.0 * x).collect();
        let (targets, dlogprob) = (below("targets", m, v), stored(DType::F32, "dlogprob", m));
        let (host, mut dlogits) = (b.upload_f64(&logits), b.zeros(m * v));
        let [mut logprob, mut lse, mut entropy] = [(); 3].map(|()| b.zeros(m));
        b.token_logprobs(ops::TokenLogprobs {
            logprob: &mut logprob,
            lse: &mut lse,
            entropy: &mut entropy,
            logits: &host,
            targets: &targets,
            temperature,
            v,
        });
        let (ids, drawn) = b.sample(&host, &vec![0.4; m], Sampling::plain(temperature), v);
        b.token_logprobs_backward(ops::TokenLogprobsBackward {
            dlogits: &mut dlogits,
            logits: &host,
            dlogprob: &b.upload_f64(&dlogprob),
            lse: &lse,
            targets: &targets,
            temperature,
            v,
        });

        let (at, at_targets, given) =
            (e.numbers(DType::F32, &logits), e.plain(&targets), e.numbers(DType::F32, &dlogprob));
        let outputs = [(); 3].map(|()| e.room(DType::F32, m));
        let inverse = || Float(1.0 / temperature);
        let arguments = [
            At(&outputs[0]),
            At(&outputs[1]),
            At(&outputs[2]),
            At(&at),
            At(&at_targets),
            inverse(),
            Size(v),
        ];
        e.launch(kind, "token", "token_logprobs", [m, 1, 1], 256, 0, Options::ALL[3], &arguments);
        for (got, expected) in outputs.iter().zip([&logprob, &lse, &entropy]) {
            close(
                &format!("{m} x {v}"),
                &got.numbers(DType::F32, m),
                &b.download_f64(expected),
                3e-6,
            );
        }
        let (at_ids, at_drawn, uniforms) =
            (e.raw(4 * m), e.room(DType::F32, m), e.plain(&vec![0.4f64; m]));
        let arguments = [
            At(&at_ids),
            At(&at_drawn),
            At(&at),
            At(&uniforms),
            Float(temperature),
            Size(0),
            Float(1.0),
            Float(0.0),
            Size(v),
        ];
        e.launch(kind, "sampling", "sample", [m, 1, 1], 256, 0, Options::ALL[3], &arguments);
        assert_eq!(at_ids.read::<u32>(m), ids);
        close(
            "drawn",
            &at_drawn.numbers(DType::F32, m),
            &drawn.into_iter().map(f64::from).collect::<Vec<f64>>(),
            3e-6,
        );
        let out = e.room(kind, m * v);
        let arguments =
            [At(&out), At(&at), At(&given), At(&outputs[1]), At(&at_targets), inverse(), Size(v)];
        e.launch(
            kind,
            "token",
            "token_logprobs_backward",
            [m, v.div_ceil(2048), 1],
            256,
            0,
            Options::ALL[3],
            &arguments,
        );
        close("dlogits", &out.numbers(kind, m * v), &b.download_f64(&dlogits), 5e-3);

        let mut dscores = b.zeros(m * v);
        b.token_scores_backward(ops::TokenScoresBackward {
            dlogits: &mut dscores,
            logits: &host,
            dlogprob: &b.upload_f64(&dlogprob),
            dentropy: &logprob,
            lse: &lse,
            entropy: &entropy,
            targets: &targets,
            temperature,
            v,
        });
        let arguments = [
            At(&out),
            At(&at),
            At(&given),
            At(&outputs[0]),
            At(&outputs[1]),
            At(&outputs[2]),
            At(&at_targets),
            inverse(),
            Size(v),
        ];
        let grid = [m, v.div_ceil(2048), 1];
        let options = Options::ALL[3];
        e.launch(kind, "token", "token_scores_backward", grid, 256, 0, options, &arguments);
        close("dscores", &out.numbers(kind, m * v), &b.download_f64(&dscores), 5e-3);
    }
}
