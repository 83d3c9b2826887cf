//! Steps of generation that are queued by one call: the same bits, and what reaches the driver,
//! counted in a separate process.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use libloading::os::unix::{Library, RTLD_NOW};
use posttrain::backend::DType;
use posttrain::backend::Sampling;
use posttrain::backend::cuda::{Cuda, GraphCache};
use posttrain::backend::prelude::*;
use posttrain::error::{caught, raise, user};
use posttrain::model::batch::Batch;
use posttrain::model::params::{HeadKind, Trainable};
use posttrain::model::score::response_logprobs;
use posttrain::model::spec::{Activation, Spec, Wiring};
use posttrain::model::transformer::hidden;
use posttrain::random::Stream;
use posttrain::sample::{GenerateOptions, Limits, Sample, generate};

use super::emulated::{alone, load, real};
use super::models::{self, options};
use crate::model::{gradients, model, sequences};
use crate::ops::bits;

/// With room for longer texts than elsewhere.
fn specs() -> [Spec; 2] {
    models::specs().map(|spec| Spec { context: 64, ..spec })
}

/// Calls that reached the driver, as kernels/emulator/driver.cpp counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Calls {
    launches: usize,
    graph_launches: usize,
    captures: usize,
    copies_to_device: usize,
    waits: usize,
}

/// Those since it was last asked.
fn calls() -> Calls {
    // SAFETY: it is loaded already; the type is that of the emulator's function.
    let count = |what| unsafe {
        let library = Library::open(Some(load().unwrap().join("libcuda.so")), RTLD_NOW).unwrap();
        library.get::<unsafe extern "C" fn(i32, i32) -> usize>(b"emulator_calls").unwrap()(what, 1)
    };
    Calls {
        launches: count(0),
        graph_launches: count(1),
        captures: count(2),
        copies_to_device: count(3),
        waits: count(4),
    }
}

/// Names a test that is to do its work in this process.
const HERE: &str = "POSTTRAIN_TESTS_ALONE";

/// Runs a test in a separate process, where no other test calls the driver; true there.
fn is_alone(name: &str) -> bool {
    if real().is_some() || load().is_none() {
        return false;
    }
    if std::env::var(HERE).is_ok_and(|test| test == name) {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(HERE, name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn a_step_that_repeats_is_one_call_of_the_driver() {
    if !is_alone("cuda::graph_cache::a_step_that_repeats_is_one_call_of_the_driver") {
        return;
    }
    let b = alone(DType::F32).unwrap();
    for spec in specs() {
        let (model, prompts) = (model(&b, &spec, HeadKind::Language), sequences(&spec, &[3, 5]));
        let counted = |max_new_tokens| {
            let options = GenerateOptions { max_new_tokens, ends: &[], ..options() };
            calls();
            generate(&b, &model, &prompts, &options, &mut |_, _| Ok(())).unwrap();
            calls()
        };
        counted(3);
        // The first step is queued as it is, the second is recorded; every step waits for what was
        // drawn.
        let (few, many) = (counted(5), counted(11));
        assert_eq!((few.captures, few.graph_launches), (1, 3), "{few:?}");
        assert_eq!(
            many,
            Calls { graph_launches: few.graph_launches + 6, waits: few.waits + 6, ..few }
        );
    }
}

/// Launches for each layer of a model of `spec`: of a pass that keeps nothing, and of one with its
/// backward pass.
fn launches_of_a_layer(b: &Cuda, spec: &Spec) -> [usize; 2] {
    let counted = |layers: usize| {
        let spec = Spec { layers, ..spec.clone() };
        let (model, batch) =
            (model(b, &spec, HeadKind::LanguageAndValue), Batch::new(&sequences(&spec, &[7, 3])));
        calls();
        hidden(b, &model, &batch);
        let forward = calls().launches;
        gradients::gradient(b, &model, &batch, &Trainable::ALL);
        [forward, calls().launches]
    };
    let ([one, both], [more, more_both]) = (counted(1), counted(2));
    [more - one, more_both - both]
}

#[test]
fn a_layer_takes_as_many_launches_as_are_said() {
    if !is_alone("cuda::graph_cache::a_layer_takes_as_many_launches_as_are_said") {
        return;
    }
    let opt = gradients::layer_norm_spec(Wiring::Pre, Activation::Relu);
    let neox = gradients::layer_norm_spec(Wiring::Parallel, Activation::GeluTanh);
    let bert = gradients::layer_norm_spec(Wiring::Post, Activation::Gelu);
    let got = [models::specs()[0].clone(), opt, neox, bert].map(|spec| {
        let of =
            [DType::F32, DType::Bf16].map(|kind| launches_of_a_layer(&alone(kind).unwrap(), &spec));
        assert_eq!(of[0], of[1], "{spec:?}");
        of[0]
    });
    // docs/kernels.md has the list.
    assert_eq!(got, [[9, 36], [7, 35], [8, 36], [7, 39]]);
}

/// Samples of prompts that come and go: few rows at a time, some of them ending early.
fn changing(b: &Cuda, at: usize) -> (Vec<Vec<u32>>, Vec<Vec<Sample>>) {
    let spec = &specs()[at];
    let prompts = sequences(spec, &[1, 15, 17, 2, 9, 16]);
    let options = GenerateOptions {
        samples_per_prompt: 2,
        max_new_tokens: 14,
        sampling: Sampling::plain(1.0),
        ends: &[4],
        stream: Stream::new(11, "generation"),
        limits: Limits { rows: 4, ..Limits::default() },
        ..options()
    };
    let samples =
        generate(b, &model(b, spec, HeadKind::Language), &prompts, &options, &mut |_, _| Ok(()))
            .unwrap();
    (prompts, samples)
}

#[test]
fn samples_of_steps_that_repeat_are_those_of_whole_sequences() {
    if !is_alone("cuda::graph_cache::samples_of_steps_that_repeat_are_those_of_whole_sequences") {
        return;
    }
    for kind in [DType::F32, DType::Bf16] {
        let b = alone(kind).unwrap();
        for at in 0..specs().len() {
            calls();
            let (prompts, samples) = changing(&b, at);
            let calls = calls();
            assert!(
                calls.captures > 1 && calls.graph_launches > 2 * calls.captures,
                "nothing repeats: {calls:?}"
            );
            let lengths: BTreeSet<usize> =
                samples.iter().flatten().map(|sample| sample.tokens.len()).collect();
            assert!(
                lengths.len() > 3,
                "samples end together, so batches hardly change: {lengths:?}"
            );
            // Scored whole, without a cache and without a graph, every token has the bits that it
            // was drawn with.
            let spec = &specs()[at];
            let texts: Vec<(Vec<u32>, usize, &Sample)> = prompts
                .iter()
                .zip(&samples)
                .flat_map(|(prompt, samples)| {
                    samples.iter().map(|sample| {
                        ([&prompt[..], &sample.tokens].concat(), prompt.len(), sample)
                    })
                })
                .collect();
            let sequences: Vec<&[u32]> = texts.iter().map(|(text, _, _)| &text[..]).collect();
            let from: Vec<usize> = texts.iter().map(|(_, from, _)| *from).collect();
            let scored =
                response_logprobs(&b, &model(&b, spec, HeadKind::Language), &sequences, &from, 1.0);
            for ((_, _, sample), scored) in texts.iter().zip(scored) {
                assert_eq!(sample.logprobs, scored, "model {at} in {kind:?}");
            }
            if kind == DType::F32 {
                let cpu = crate::ops::oracle();
                let options = GenerateOptions {
                    samples_per_prompt: 2,
                    max_new_tokens: 14,
                    sampling: Sampling::plain(1.0),
                    ends: &[4],
                    stream: Stream::new(11, "generation"),
                    ..options()
                };
                let expected = generate(
                    &cpu,
                    &model(&cpu, spec, HeadKind::Language),
                    &prompts,
                    &options,
                    &mut |_, _| Ok(()),
                )
                .unwrap();
                let tokens = |samples: &[Vec<Sample>]| {
                    samples.iter().flatten().map(|sample| sample.tokens.clone()).collect::<Vec<_>>()
                };
                assert_eq!(tokens(&samples), tokens(&expected));
            }
        }
    }
}

/// Rows of a table, twice, added up, on memory of the step's own; one buffer is dropped before what
/// reads it has run.
fn step(b: &Cuda, table: &<Cuda as Buffers>::Buf, ids: &[u32], extra: Option<&[u32]>) -> Vec<u64> {
    let d = 4;
    let (mut sum, mut rows) = (b.zeros(ids.len() * d), b.zeros(ids.len() * d));
    b.gather_rows(&mut rows, table, ids, d);
    b.add(&mut sum, &rows);
    drop(rows);
    let mut again = b.zeros(ids.len() * d);
    b.gather_rows(&mut again, table, extra.unwrap_or(ids), d);
    b.add(&mut sum, &again);
    bits(b, &sum)
}

#[test]
fn what_differs_is_queued_as_it_is_and_what_fails_is_not_queued() {
    let Some(b) = alone(DType::F32) else { return };
    let table = b.upload(&(0..4000).map(|x| x as f32).collect::<Vec<f32>>());
    let mut cache = GraphCache::default();
    let ids = |n: u32, from: u32| (0..n).map(|row| (row * 7 + from) % 1000).collect::<Vec<u32>>();
    // Lengths that come again and do not; tables that grow past the room for them; ids that are the
    // same list by chance.
    for (at, n) in [5, 5, 5, 5, 9, 5, 70, 5, 3000, 5, 5, 5, 3000, 3000, 3000, 5, 64, 65, 64, 65, 64]
        .into_iter()
        .enumerate()
    {
        let (here, there) = (ids(n, at as u32), ids(n, at as u32 % 3));
        for extra in [None, Some(&there[..])] {
            let got = b.with_graph(&mut cache, || step(&b, &table, &here, extra));
            assert_eq!(got, step(&b, &table, &here, extra), "step {at} of {n} rows");
        }
    }
    let kept = b.upload(&[1.0; 8]);
    let failed = caught(|| {
        b.with_graph(&mut cache, || -> () {
            let mut out = b.zeros(8);
            b.copy(&mut out, &kept);
            raise(user("it fails"))
        })
    });
    assert!(failed.is_err());
    // A buffer that outlives its step keeps what it holds, whatever steps come after it.
    let outlives = b.with_graph(&mut cache, || {
        let mut out = b.zeros(20);
        b.copy(&mut out, &b.upload(&[2.5; 20]));
        out
    });
    let got = b.with_graph(&mut cache, || step(&b, &table, &ids(5, 1), None));
    assert_eq!(got, step(&b, &table, &ids(5, 1), None));
    assert_eq!(b.download(&outlives), [2.5; 20]);
    drop(cache);
    assert_eq!(b.download(&outlives), [2.5; 20]);
}

#[test]
fn two_threads_repeat_steps_of_their_own_on_one_device() {
    let Some(b) = alone(DType::F32) else { return };
    let table = b.upload(&(0..4000).map(|x| x as f32).collect::<Vec<f32>>());
    let ids = |thread: u32, at: u32| {
        (0..5 + thread).map(|row| (row * 7 + at + 100 * thread) % 1000).collect::<Vec<u32>>()
    };
    let one = |thread: u32| {
        let mut cache = GraphCache::default();
        (0..30)
            .map(|at| b.with_graph(&mut cache, || step(&b, &table, &ids(thread, at), None)))
            .collect::<Vec<Vec<u64>>>()
    };
    let got: Vec<Vec<Vec<u64>>> = std::thread::scope(|scope| {
        let threads = [0, 1].map(|thread| {
            let one = &one;
            scope.spawn(move || one(thread))
        });
        threads.map(|thread| thread.join().unwrap()).into()
    });
    for (thread, got) in (0..).zip(got) {
        let expected: Vec<Vec<u64>> =
            (0..30).map(|at| step(&b, &table, &ids(thread, at), None)).collect();
        assert_eq!(got, expected, "thread {thread}");
    }
}

#[test]
fn many_small_uploads_in_a_row_keep_what_they_were_given() {
    let Some(b) = alone(DType::F32) else { return };
    // More than the ring holds, before anything is waited for.
    let numbers = |at: usize| vec![at as f32; 40_000];
    let buffers: Vec<_> = (0..64).map(|at| b.upload(&numbers(at))).collect();
    for (at, buffer) in buffers.iter().enumerate() {
        assert_eq!(b.download(buffer), numbers(at));
    }
    let large: Vec<f32> = (0..3 << 20).map(|x| x as f32).collect();
    assert_eq!(b.download(&b.upload(&large)), large);
}

#[test]
fn uploads_keep_what_they_were_given_while_another_thread_waits() {
    let Some(b) = alone(DType::F32) else { return };
    let over = AtomicBool::new(false);
    let kept = std::thread::scope(|scope| {
        // Waits that take a while, in which others queue: a separate download, behind the kernels
        // of a third thread.
        scope.spawn(|| {
            let large = b.zeros(600_000);
            while !over.load(Ordering::Relaxed) {
                b.download(&large);
            }
        });
        scope.spawn(|| {
            let (mut sum, one) = (b.zeros(500), b.upload(&[1.0; 500]));
            while !over.load(Ordering::Relaxed) {
                b.add(&mut sum, &one);
            }
        });
        let rounds = (0..100).map(|round| {
            let numbers = |at: usize| vec![(20 * round + at) as f32; 16];
            let buffers: Vec<_> = (0..20).map(|at| b.upload(&numbers(at))).collect();
            buffers.iter().enumerate().all(|(at, buffer)| b.download(buffer) == numbers(at))
        });
        let kept: Vec<bool> = rounds.collect();
        over.store(true, Ordering::Relaxed);
        kept
    });
    assert!(kept.iter().all(|kept| *kept), "{kept:?}");
}

#[test]
fn sums_of_squares_of_many_buffers_are_those_of_each() {
    let Some(b) = alone(DType::F32) else { return };
    let cpu = posttrain::backend::cpu::Cpu::<f32>::new();
    let hosts: Vec<Vec<f32>> = [3, 0, 70_000, 1, 200]
        .map(|len| crate::ops::normals("x", len).into_iter().map(|x| x as f32).collect())
        .into();
    let buffers: Vec<_> = hosts.iter().map(|host| b.upload(host)).collect();
    let got = b.sums_of_squares(&buffers.iter().collect::<Vec<_>>());
    let alone: Vec<f64> = buffers.iter().map(|x| b.sum_squares(x)).collect();
    assert_eq!(got, alone);
    let exact: Vec<f64> =
        hosts.iter().map(|host| host.iter().map(|x| f64::from(*x).powi(2)).sum()).collect();
    assert!(
        got.iter().zip(&exact).all(|(got, exact)| (got - exact).abs() <= 1e-9 * exact),
        "{got:?} {exact:?}"
    );
    let each: Vec<_> = hosts.iter().map(|host| cpu.upload(host)).collect();
    let together = cpu.sums_of_squares(&each.iter().collect::<Vec<_>>());
    assert_eq!(together, each.iter().map(|x| cpu.sum_squares(x)).collect::<Vec<f64>>());
}
