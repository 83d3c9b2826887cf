//! Attention by products of warp groups (kernels/attention_hopper.cu,
//! attention_backward_hopper.cu): the bits of attention.cu, of attention_backward.cu and of the
//! paged cache, in any order of threads and copies; sequences beside others that hold no numbers;
//! and that a device which adds up otherwise is found out.

use posttrain::backend::DType;
use posttrain::backend::cuda::{Cuda, GemmRequest};
use posttrain::backend::ops;
use posttrain::backend::prelude::*;
use posttrain::backend::{BLOCK, CacheView, Heads, Mask};

use super::emulated::{cuda_bf16, elsewhere, load, real};
use super::kernels::{cached, same, stored, tiles};
use super::launched::{Argument, Emulator, Memory, Options};
use crate::ops::{bits, close, dirty, normals, oracle};

use Argument::{At, Integer, Size};

/// In a row: no mask but causality, windows shorter and longer than a step, none at all.
const MASKS: [Mask; 4] = [
    Mask::Causal { window: None },
    Mask::Causal { window: Some(3) },
    Mask::Causal { window: Some(100) },
    Mask::Bidirectional,
];

fn heads(query: usize, key_value: usize, channels: usize) -> Heads {
    Heads { query, key_value, channels }
}

/// Rows short of a step, of one, and a bit longer; empty ones; blocks whose warp groups have all,
/// some or no rows; more steps than stages.
fn batches() -> Vec<(Vec<usize>, Heads)> {
    vec![
        (vec![0, 1], heads(1, 1, 64)),
        (vec![0, 63, 127], heads(2, 1, 64)),
        (vec![0, 64, 64, 129, 130], heads(3, 1, 64)),
        (vec![0, 65, 260], heads(2, 2, 128)),
        (vec![0, 1, 130], heads(4, 2, 128)),
        (vec![0, 700], heads(1, 1, 64)),
        (vec![0, 513], heads(1, 1, 128)),
    ]
}

/// Inputs and room for outputs on a device.
struct Launch<'a> {
    e: &'a Emulator,
    starts: &'a [usize],
    heads: Heads,
    inputs: [&'a Memory<'a>; 3],
}

impl Launch<'_> {
    fn rows(&self) -> usize {
        *self.starts.last().unwrap()
    }

    fn sizes(&self, mask: Mask) -> [Argument<'static>; 5] {
        let (causal, window) = match mask {
            Mask::Causal { window } => (1, window.unwrap_or(1 << 40)),
            Mask::Bidirectional => (0, 1 << 40),
        };
        let Heads { query, key_value, channels } = self.heads;
        let [h, g, c] = [query, key_value, channels].map(|x| Integer(x as i32));
        [h, g, c, Integer(causal), Size(window)]
    }

    /// `dq`, `dk`, `dv` of `dout`, `lse`, `delta`, by warp groups or by warps.
    fn backward(
        &self,
        groups: bool,
        [dout, lse, delta]: [&Memory<'_>; 3],
        mask: Mask,
        options: Options,
    ) -> [Vec<f64>; 3] {
        let (Launch { e, inputs: [q, k, v], .. }, Heads { query: h, key_value: g, channels: c }) =
            (self, self.heads);
        let (kind, n) = (DType::Bf16, self.rows());
        let (suffix, rows, threads) = if groups { ("_hopper", 128, 384) } else { ("", 64, 128) };
        let work = tiles(self.starts, rows);
        let (table, dq, [dk, dv]) =
            (e.plain(&work), e.room(kind, n * h * c), [0; 2].map(|_| e.room(kind, n * g * c)));
        for (name, heads, outputs, across) in
            [("query", h, vec![&dq], false), ("key", g, vec![&dk, &dv], true)]
        {
            let matrix = |x: &'_ Memory<'_>, heads: usize, stays: bool| match stays {
                true => e.map(x, n, heads * c, 128),
                false => e.map(x, n, heads * c, 64),
            };
            let mut arguments: Vec<Argument<'_>> = outputs.into_iter().map(At).collect();
            if groups {
                arguments.extend([matrix(dout, h, !across), At(lse), At(delta)]);
                arguments.extend([
                    matrix(q, h, !across),
                    matrix(k, g, across),
                    matrix(v, g, across),
                ]);
            } else {
                arguments.extend([At(dout), At(lse), At(delta), At(q), At(k), At(v)]);
            }
            arguments.push(At(&table));
            arguments.extend(self.sizes(mask));
            let numbers = if across { 2 * 4 * 4 * 64 } else { 0 };
            let shared = if groups { 2 * c * (2 * 128 + 8 * 64) + numbers + 80 } else { 512 * c };
            let kernel = format!("attention_backward_{name}{suffix}_c{c}");
            let grid = [work.len() / 3, heads, 1];
            e.launch(
                kind,
                &format!("attention_backward{suffix}"),
                &kernel,
                grid,
                threads,
                shared,
                options,
                &arguments,
            );
        }
        [(dq, h), (dk, g), (dv, g)].map(|(x, heads)| x.numbers(kind, n * heads * c))
    }

    /// `out`, `lse`, of warp groups or of warps.
    fn run(&self, groups: bool, mask: Mask, options: Options) -> (Vec<f64>, Vec<f64>) {
        let (Launch { e, inputs: [q, k, v], .. }, Heads { query: h, key_value: g, channels: c }) =
            (self, self.heads);
        let (kind, n) = (DType::Bf16, self.rows());
        let (stem, rows, threads, shared) = match (groups, c) {
            (true, 64) => ("attention_hopper", 192, 512, 144),
            (true, _) => ("attention_hopper", 128, 384, 144),
            (false, 64) => ("attention", 128, 128, 0),
            (false, _) => ("attention", 64, 128, 0),
        };
        let steps = if groups { 8 } else { 4 };
        let (out, lse) = (e.room(kind, n * h * c), e.room(DType::F32, n * h));
        let work = tiles(self.starts, rows);
        let table = e.plain(&work);
        let mut arguments = vec![At(&out), At(&lse)];
        if groups {
            arguments.extend([
                e.map(q, n, h * c, rows),
                e.map(k, n, g * c, 64),
                e.map(v, n, g * c, 64),
            ]);
        } else {
            arguments.extend([At(q), At(k), At(v)]);
        }
        arguments.push(At(&table));
        arguments.extend(self.sizes(mask));
        let shared = 2 * c * (rows + 64 * steps) + shared;
        e.launch(
            kind,
            stem,
            &format!("{stem}_c{c}"),
            [work.len() / 3, h, 1],
            threads,
            shared,
            options,
            &arguments,
        );
        (out.numbers(kind, n * h * c), lse.numbers(DType::F32, n * h))
    }
}

/// Where there are the instructions.
fn open() -> Option<Emulator> {
    let e = Emulator::open()?;
    if !e.has("attention_hopper") {
        eprintln!("skipped: this device is not of the one generation that has these instructions");
        return None;
    }
    Some(e)
}

/// How many sums of the probe differ.
fn differing(e: &Emulator) -> u32 {
    let counts = e.raw(4 * 8 * 128);
    e.launch(
        DType::Bf16,
        "attention_hopper",
        "attention_hopper_probe",
        [8, 1, 1],
        128,
        2 * 3 * 64 * 64,
        Options::ALL[2],
        &[At(&counts)],
    );
    counts.read::<u32>(8 * 128).iter().sum()
}

#[test]
fn whole_sequences_have_the_bits_of_warps_and_of_the_cache() {
    let (Some(e), kind) = (open(), DType::Bf16) else { return };
    // What a real device does is for it to say, and for the back end to heed.
    let alike = differing(&e) == 0;
    assert!(alike || real().is_some(), "the emulator adds up in one order");
    for (at, (starts, heads)) in batches().into_iter().enumerate() {
        let n = *starts.last().unwrap();
        let [q, k, v] = [("q", heads.query), ("k", heads.key_value), ("v", heads.key_value)]
            .map(|(name, heads_of)| stored(kind, name, n * heads_of * heads.channels));
        let [at_q, at_k, at_v] = [&q, &k, &v].map(|x| e.numbers(kind, x));
        let launch = Launch { e: &e, starts: &starts, heads, inputs: [&at_q, &at_k, &at_v] };
        for (i, mask) in MASKS.into_iter().enumerate() {
            let (what, options) =
                (format!("{starts:?} {heads:?} {mask:?}"), Options::ALL[(at + i) % 4]);
            let b = oracle();
            let (mut out, mut lse) = (b.zeros(q.len()), b.zeros(n * heads.query));
            b.attention(ops::Attention {
                out: &mut out,
                lse: &mut lse,
                q: &b.upload_f64(&q),
                k: &b.upload_f64(&k),
                v: &b.upload_f64(&v),
                starts: &starts,
                heads,
                mask,
            });
            let (got, got_lse) = launch.run(true, mask, options);
            close(&what, &got, &b.download_f64(&out), 1e-2);
            close(&what, &got_lse, &b.download_f64(&lse), 1e-5);
            if !alike {
                continue;
            }
            let (of_warps, lse_of_warps) = launch.run(false, mask, options);
            same(&format!("{what}, lse"), &mut Some(got_lse), lse_of_warps);
            same(&what, &mut Some(got.clone()), of_warps);
            if let Mask::Causal { window } = mask {
                let of_cache = cached(
                    &e,
                    &at_q,
                    &at_k,
                    &at_v,
                    &starts,
                    heads,
                    window.unwrap_or(1 << 40),
                    options,
                    at % 2 == 0,
                );
                same(&format!("{what}, cached"), &mut Some(got), of_cache);
            }
        }
    }
}

#[test]
fn gradients_have_the_bits_of_warps() {
    let (Some(e), kind) = (open(), DType::Bf16) else { return };
    let alike = differing(&e) == 0;
    // Not the first: of a row alone, the gradient of the query is 0, which rounding is no share of.
    for (at, (starts, heads)) in batches().into_iter().enumerate().skip(1) {
        let Heads { query: h, key_value: g, channels: c } = heads;
        let n = *starts.last().unwrap();
        let [q, k, v, dout] = [("q", h), ("k", g), ("v", g), ("dout", h)]
            .map(|(name, heads)| stored(kind, name, n * heads * c));
        let [at_q, at_k, at_v, at_dout] = [&q, &k, &v, &dout].map(|x| e.numbers(kind, x));
        let launch = Launch { e: &e, starts: &starts, heads, inputs: [&at_q, &at_k, &at_v] };
        for (i, mask) in MASKS.into_iter().enumerate() {
            let (what, options, b) =
                (format!("{starts:?} {heads:?} {mask:?}"), Options::ALL[(at + i) % 4], oracle());
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
            let (got_out, got_lse) = launch.run(true, mask, options);
            let (at_out, at_lse, at_delta) = (
                e.numbers(kind, &got_out),
                e.numbers(DType::F32, &got_lse),
                e.room(DType::F32, n * h),
            );
            let arguments =
                [At(&at_delta), At(&at_dout), At(&at_out), Size(n * h), Integer(c as i32)];
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
            let given = [&at_dout, &at_lse, &at_delta];
            let got = launch.backward(true, given, mask, options);
            for (name, got, expected) in
                [("dq", &got[0], &dq), ("dk", &got[1], &dk), ("dv", &got[2], &dv)]
            {
                close(&format!("{what} {name}"), got, &b.download_f64(expected), 2e-2);
            }
            if alike {
                for (got, of_warps) in
                    got.into_iter().zip(launch.backward(false, given, mask, options))
                {
                    same(&what, &mut Some(got), of_warps);
                }
            }
        }
    }
}

#[test]
fn neighbours_that_are_no_numbers_change_nothing() {
    let (Some(e), kind, before) = (open(), DType::Bf16, 7) else { return };
    for (at, (length, channels)) in [1, 63, 64, 65, 129]
        .into_iter()
        .flat_map(|length| [(length, 64), (length, 128)])
        .enumerate()
    {
        let heads = heads(2, 1, channels);
        let starts = [0, before, before + length, before + length + 70];
        let n = starts[3];
        let run = |mask, others: bool| {
            let given = |kind: DType, name: &str, width: usize| {
                let mut numbers = stored(kind, name, n * width);
                if others {
                    numbers[..starts[1] * width].fill(f64::NAN);
                    numbers[starts[2] * width..].fill(f64::NAN);
                }
                e.numbers(kind, &numbers)
            };
            let [q, k, v, dout] = [("q", 2), ("k", 1), ("v", 1), ("dout", 2)]
                .map(|(name, heads)| given(kind, name, heads * channels));
            let [lse, delta] = ["lse", "delta"].map(|name| given(DType::F32, name, 2));
            let launch = Launch { e: &e, starts: &starts, heads, inputs: [&q, &k, &v] };
            let (out, lse_made) = launch.run(true, mask, Options::ALL[at % 4]);
            assert!(out.iter().all(|x| x.is_finite()) != others);
            let [dq, dk, dv] =
                launch.backward(true, [&dout, &lse, &delta], mask, Options::ALL[at % 4]);
            let own = |x: Vec<f64>| {
                x[starts[1] * x.len() / n..starts[2] * x.len() / n]
                    .iter()
                    .map(|x| x.to_bits())
                    .collect::<Vec<u64>>()
            };
            [out, lse_made, dq, dk, dv].map(own)
        };
        for mask in MASKS {
            let what = format!(
                "{length} rows of {channels} channels, {mask:?}: other bits beside neighbours that \
                 are no numbers"
            );
            assert!(run(mask, false) == run(mask, true), "{what}");
        }
    }
}

/// By the back end: the bits of attention over whole sequences, and those over the cache.
fn whole_and_cached(b: &Cuda, heads: Heads, window: Option<usize>) -> [Vec<u64>; 2] {
    let (n, starts) = (150, [0, 150]);
    let [q, k, v] = [("q", heads.query), ("k", heads.key_value), ("v", heads.key_value)].map(
        |(name, heads_of)| {
            let host: Vec<f32> = normals(name, n * heads_of * heads.channels)
                .into_iter()
                .map(|x| x as f32)
                .collect();
            b.upload(&host)
        },
    );
    let (mut out, mut lse, mut from_cache) =
        (dirty(b, b.len(&q)), b.upload_wide(&vec![f32::NAN; n * heads.query]), dirty(b, b.len(&q)));
    b.attention(ops::Attention {
        out: &mut out,
        lse: &mut lse,
        q: &q,
        k: &k,
        v: &v,
        starts: &starts,
        heads,
        mask: Mask::Causal { window },
    });
    let blocks: Vec<u32> = (0..n.div_ceil(BLOCK) as u32).collect();
    let mut cache = b.cache(blocks.len(), heads);
    b.cache_write(&mut cache, &k, &v, &(0..n as u32).collect::<Vec<u32>>());
    let views: Vec<CacheView<'_>> =
        (1..=n).map(|length| CacheView { blocks: &blocks, length }).collect();
    b.attention_cached(&mut from_cache, &q, &cache, &views, window);
    [bits(b, &out), bits(b, &from_cache)]
}

#[test]
fn what_the_back_end_takes_for_whole_sequences_has_the_bits_of_the_cache() {
    let Some(b) = cuda_bf16() else { return };
    let plain = b.multiplying(GemmRequest::Plain).unwrap();
    for (heads, window) in
        [(heads(2, 1, 64), None), (heads(1, 1, 128), Some(70)), (heads(2, 2, 96), None)]
    {
        let [whole, from_cache] = whole_and_cached(&b, heads, window);
        assert!(
            whole == from_cache && whole == whole_and_cached(&plain, heads, window)[0],
            "{heads:?} {window:?}"
        );
    }
}

/// Says to the emulator in which order products of warp groups add up.
const ORDER: &str = "EMULATOR_GROUP_PRODUCTS";

#[test]
fn another_order_is_met_in_a_process_of_its_own() {
    let (Ok(_), Some(folder)) = (std::env::var(ORDER), load()) else { return };
    let class = |gemm| Cuda::gemm_class(0, DType::Bf16, gemm, &folder.join("kernels")).unwrap();
    assert_eq!(class(GemmRequest::Auto), " hopper attention plain sm_90");
    assert_eq!(class(GemmRequest::Plain), " plain sm_90");
    let (b, e, heads) = (cuda_bf16().unwrap(), Emulator::open().unwrap(), heads(2, 1, 64));
    let [whole, from_cache] = whole_and_cached(&b, heads, None);
    assert!(whole == from_cache);
    // It is not that nothing would differ.
    assert!(differing(&e) > 0);
    let n = 150;
    let [q, k, v] = [("q", 2), ("k", 1), ("v", 1)].map(|(name, heads_of)| {
        e.numbers(DType::Bf16, &stored(DType::Bf16, name, n * heads_of * 64))
    });
    let launch = Launch { e: &e, starts: &[0, n], heads, inputs: [&q, &k, &v] };
    let [groups, warps] = [true, false].map(|groups| launch.run(groups, MASKS[0], Options::ALL[0]));
    assert!(groups != warps, "the order reaches no bit");
}

#[test]
fn a_device_that_adds_up_otherwise_is_found_out_and_leaves_attention_to_warps() {
    // On a real device nothing of the emulator is there.
    let Some(folder) = real().is_none().then(load).flatten() else { return };
    let test = "cuda::attention::another_order_is_met_in_a_process_of_its_own";
    let output = elsewhere(&["--exact", test], folder).env(ORDER, "reverse").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
