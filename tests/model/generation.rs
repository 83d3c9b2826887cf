//! Generation: samples are scored bit for bit as they were drawn, and nothing but prompt, stream
//! and row decides them.

use posttrain::backend::Sampling;
use posttrain::backend::prelude::*;
use posttrain::error::{Kind, kind_of};
use posttrain::model::batch::Batch;
use posttrain::model::heads::{self, TargetTokens};
use posttrain::model::params::HeadKind;
use posttrain::model::spec::Spec;
use posttrain::model::transformer;
use posttrain::model::weights::Model;
use posttrain::random::Stream;
use posttrain::sample::{GenerateOptions, Limits, Sample, generate};

use super::gradients::mixed_spec;
use super::{Single, model, on_threads, sequences, spec};

fn options() -> GenerateOptions<'static> {
    GenerateOptions {
        samples_per_prompt: 3,
        max_new_tokens: 21,
        sampling: Sampling::plain(0.8),
        ends: &[4],
        stream: Stream::new(7, "generation"),
        first_row: 100,
        limits: Limits::default(),
    }
}

fn run<B: Backend>(
    b: &B,
    model: &Model<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
) -> Vec<Vec<Sample>> {
    generate(b, model, prompts, options, &mut |_, _| Ok(())).expect("prompts and options are right")
}

/// Prompts around the block size of the cache.
fn prompts(spec: &Spec) -> Vec<Vec<u32>> {
    sequences(spec, &[1, 15, 16, 17, 31, 32, 40, 2, 48, 5])
}

#[test]
fn sampled_logprobs_are_bit_for_bit_those_of_scoring_the_whole_sequence() {
    let b = Single::new();
    for spec in [spec(false), spec(true), mixed_spec()] {
        let model = model(&b, &spec, HeadKind::Language);
        let (prompts, options) = (prompts(&spec), options());
        let samples = on_threads(2, || run(&b, &model, &prompts, &options));
        for (prompt, samples) in prompts.iter().zip(&samples) {
            for sample in samples {
                let batch = Batch::new(&[[&prompt[..], &sample.tokens].concat()]);
                let rows: Vec<u32> =
                    (prompt.len() - 1..batch.rows() - 1).map(|row| row as u32).collect();
                let scored = TargetTokens {
                    rows: &rows,
                    targets: &sample.tokens,
                    temperature: options.sampling.temperature,
                };
                let hidden = on_threads(1, || transformer::hidden(&b, &model, &batch));
                let scores = heads::token_logprobs(&b, &model, &hidden, scored, false);
                let drawn: Vec<f64> =
                    sample.logprobs.iter().map(|&logprob| f64::from(logprob)).collect();
                assert_eq!(
                    b.download_f64(&scores.logprobs),
                    drawn,
                    "a prompt of {} tokens",
                    prompt.len()
                );
            }
        }
    }
}

#[test]
fn neither_batching_nor_company_nor_threads_change_a_sample() {
    let b = Single::new();
    let spec = spec(true);
    let model = model(&b, &spec, HeadKind::Language);
    let prompts = prompts(&spec);
    let expected = run(&b, &model, &prompts, &options());
    for rows in [1, 4, 7, 1000] {
        for positions in [0, 300, 100_000] {
            for threads in [1, 2] {
                let options = GenerateOptions { limits: Limits { rows, positions }, ..options() };
                let found = on_threads(threads, || run(&b, &model, &prompts, &options));
                assert!(found == expected, "{rows} rows, {positions} positions, {threads} threads");
            }
        }
    }
    for (index, prompt) in prompts.iter().enumerate() {
        let options =
            GenerateOptions { first_row: options().first_row + index as u64, ..options() };
        assert_eq!(run(&b, &model, std::slice::from_ref(prompt), &options)[0], expected[index]);
    }
}

#[test]
fn greedy_takes_the_likeliest_token_at_every_step() {
    let b = Single::new();
    let spec = spec(false);
    let model = model(&b, &spec, HeadKind::Language);
    let sampling = Sampling::GREEDY;
    let greedy = GenerateOptions { sampling, ends: &[], samples_per_prompt: 2, ..options() };
    let prompts = prompts(&spec);
    let samples = run(&b, &model, &prompts, &greedy);
    for (prompt, samples) in prompts.iter().zip(&samples) {
        assert_eq!(samples[0], samples[1]);
        let mut sequence = prompt.clone();
        for &token in &samples[0].tokens {
            let hidden = transformer::hidden(&b, &model, &Batch::new(&[&sequence]));
            let logits = heads::logits(&b, &model, &hidden, sequence.len());
            let last = &logits[(sequence.len() - 1) * spec.vocabulary..];
            assert!(last.iter().all(|&logit| logit <= last[token as usize]));
            sequence.push(token);
        }
    }
    // One candidate is left: the same tokens, drawn with certainty.
    let single = run(
        &b,
        &model,
        &prompts,
        &GenerateOptions {
            sampling: Sampling { temperature: 1.0, top_k: 1, top_p: 1.0, min_p: 0.0 },
            ..greedy
        },
    );
    for (one, greedy) in single.iter().flatten().zip(samples.iter().flatten()) {
        assert_eq!(one.tokens, greedy.tokens);
        assert!(one.logprobs.iter().all(|&logprob| logprob == 0.0));
    }
}

/// Frequencies of the first token over many samples, against the probabilities that the model
/// gives.
fn frequencies_match(sampling: Sampling, probability: impl Fn(&[f64]) -> Vec<f64>) {
    const SAMPLES: usize = 20_000;
    let b = Single::new();
    let spec = spec(true);
    let model = model(&b, &spec, HeadKind::Language);
    let prompt = sequences(&spec, &[6]).remove(0);
    let hidden = transformer::hidden(&b, &model, &Batch::new(&[&prompt]));
    let logits = heads::logits(&b, &model, &hidden, prompt.len());
    let scaled = logits[5 * spec.vocabulary..]
        .iter()
        .map(|&logit| (f64::from(logit) / f64::from(sampling.temperature)).exp());
    let scaled: Vec<f64> = scaled.collect();
    let sum: f64 = scaled.iter().sum();
    let expected = probability(&scaled.iter().map(|x| x / sum).collect::<Vec<f64>>());
    let options = GenerateOptions {
        samples_per_prompt: SAMPLES,
        max_new_tokens: 1,
        sampling,
        ends: &[],
        ..options()
    };
    let samples = run(&b, &model, &[prompt], &options).remove(0);
    let mut counts = vec![0.0; spec.vocabulary];
    for sample in &samples {
        let token = sample.tokens[0] as usize;
        counts[token] += 1.0;
        assert!((f64::from(sample.logprobs[0]) - expected[token].ln()).abs() < 1e-5);
    }
    for (count, p) in counts.iter().zip(&expected) {
        let deviation = (p * (1.0 - p) / SAMPLES as f64).sqrt();
        assert!(
            (count / SAMPLES as f64 - p).abs() <= 4.5 * deviation,
            "{count} of {SAMPLES}, expected {p}"
        );
    }
}

#[test]
fn tokens_come_as_often_as_the_distribution_says() {
    frequencies_match(Sampling::plain(0.6), <[f64]>::to_vec);
}

/// Zero except for the tokens kept, which are scaled to a sum of 1.
fn renormalised(p: &[f64], keep: impl Fn(usize, f64) -> bool) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[j].total_cmp(&p[i]));
    let (mut kept, mut mass) = (vec![0.0; p.len()], 0.0);
    for (rank, &token) in order.iter().enumerate() {
        if keep(rank, mass) {
            kept[token] = p[token];
        }
        mass += p[token];
    }
    let sum: f64 = kept.iter().sum();
    kept.iter().map(|x| x / sum).collect()
}

#[test]
fn top_k_keeps_the_k_likeliest() {
    frequencies_match(Sampling { temperature: 1.3, top_k: 4, top_p: 1.0, min_p: 0.0 }, |p| {
        renormalised(p, |rank, _| rank < 4)
    });
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_p() {
    frequencies_match(Sampling { temperature: 1.3, top_k: 0, top_p: 0.7, min_p: 0.0 }, |p| {
        renormalised(p, |_, before| before < 0.7)
    });
}

#[test]
fn a_sample_ends_at_eos_and_is_the_start_of_what_would_have_come() {
    let b = Single::new();
    let spec = spec(true);
    let model = model(&b, &spec, HeadKind::Language);
    let prompts = prompts(&spec);
    let ending = run(&b, &model, &prompts, &options());
    let endless = run(&b, &model, &prompts, &GenerateOptions { ends: &[], ..options() });
    let (mut ended, mut cut) = (0, 0);
    for (short, long) in ending.iter().flatten().zip(endless.iter().flatten()) {
        let at = long.tokens.iter().position(|&token| token == 4);
        let length = at.map_or(21, |at| at + 1);
        assert_eq!((short.ended, &short.tokens[..]), (at.is_some(), &long.tokens[..length]));
        assert_eq!(short.logprobs, long.logprobs[..length]);
        assert!(!long.ended && long.tokens.len() == 21);
        *if short.ended { &mut ended } else { &mut cut } += 1;
    }
    assert!(ended > 0 && cut > 0, "{ended} ended, {cut} cut: the test needs both");
}

#[test]
fn progress_counts_up_to_all_samples_and_can_stop_the_generation() {
    let b = Single::new();
    let spec = spec(true);
    let model = model(&b, &spec, HeadKind::Language);
    let prompts = prompts(&spec);
    let mut heard = Vec::new();
    let small = GenerateOptions { limits: Limits { rows: 6, positions: 1 << 16 }, ..options() };
    generate(&b, &model, &prompts, &small, &mut |done, total| {
        heard.push((done, total));
        Ok(())
    })
    .expect("prompts and options are right");
    assert!(heard.is_sorted() && heard.len() > 3);
    assert_eq!(heard.last(), Some(&(30, 30)));
    let stopped = generate(&b, &model, &prompts, &small, &mut |_, _| anyhow::bail!("stop"));
    assert_eq!(stopped.expect_err("it was stopped").to_string(), "stop");
}

#[test]
fn what_cannot_be_generated_is_a_user_error_that_names_the_prompt() {
    let b = Single::new();
    let spec = spec(true);
    let model = model(&b, &spec, HeadKind::Language);
    let refused = |prompts: &[Vec<u32>], options: GenerateOptions, word: &str| {
        let error = generate(&b, &model, prompts, &options, &mut |_, _| Ok(()))
            .expect_err("it cannot be generated");
        assert!(kind_of(&error) == Kind::User && error.to_string().contains(word), "{error}");
    };
    let context = spec.context;
    refused(&[vec![1], vec![1; context - 20]], options(), "prompt 101 has 76 tokens");
    refused(&[vec![1], vec![]], options(), "prompt 101 has no token");
    refused(&[vec![11]], options(), "prompt 100 has token 11");
    refused(&[vec![1]], GenerateOptions { max_new_tokens: 0, ..options() }, "one new token");
    let nan = Sampling::plain(f32::NAN);
    refused(&[vec![1]], GenerateOptions { sampling: nan, ..options() }, "temperature");
    let none = Sampling { temperature: 1.0, top_k: 0, top_p: 0.0, min_p: 0.0 };
    refused(&[vec![1]], GenerateOptions { sampling: none, ..options() }, "top_p");
    assert_eq!(run(&b, &model, &[vec![1; context - 21]], &options())[0].len(), 3);
    assert!(run(&b, &model, &[], &options()).is_empty());
}
