//! Scoring groups of responses gives the bits of scoring each whole sequence, for any number of
//! tokens at a time.

use posttrain::backend::{Backend, Buffers};
use posttrain::model::batch::{Batch, MICRO_BATCH_TOKENS};
use posttrain::model::params::HeadKind;
use posttrain::model::weights::Model;
use posttrain::model::{heads, score, transformer};
use posttrain::sample::scoring::{self, Group};

use super::{Double, Single, bits, model, on_threads, sequences, spec};

/// Prompts around the block size of the cache, with the lengths of the responses to each.
const LENGTHS: [(usize, &[usize]); 9] = [
    (1, &[1, 2, 15, 16, 30]),
    (15, &[1, 17, 2]),
    (16, &[1, 16, 0, 33]),
    (17, &[40, 1, 0]),
    (31, &[1, 2, 3, 1, 5]),
    (7, &[]),
    (32, &[1]),
    (33, &[15, 31, 16, 63]),
    (64, &[0, 1, 1, 32, 9]),
];

/// A prompt and responses to it.
pub type Texts = (Vec<u32>, Vec<Vec<u32>>);

pub fn texts(lengths: &[(usize, &[usize])]) -> Vec<Texts> {
    let all: Vec<usize> =
        lengths.iter().flat_map(|(prompt, responses)| [&[*prompt], *responses].concat()).collect();
    let mut tokens = sequences(&spec(false), &all).into_iter();
    let mut next = || tokens.next().expect("a sequence for every length");
    lengths
        .iter()
        .map(|(_, responses)| (next(), responses.iter().map(|_| next()).collect()))
        .collect()
}

fn groups(texts: &[Texts]) -> Vec<Group<'_>> {
    texts
        .iter()
        .map(|(prompt, responses)| Group {
            prompt,
            responses: responses.iter().map(Vec::as_slice).collect(),
        })
        .collect()
}

/// Whole sequences, one after the other, and the length of each one's prompt.
fn whole(texts: &[Texts]) -> (Vec<Vec<u32>>, Vec<usize>) {
    let pairs = texts
        .iter()
        .flat_map(|(prompt, responses)| responses.iter().map(move |response| (prompt, response)));
    pairs.map(|(prompt, response)| ([&prompt[..], response].concat(), prompt.len())).unzip()
}

fn expected_logprobs<B: Backend>(
    b: &B,
    model: &Model<B>,
    texts: &[Texts],
    temperature: f32,
) -> Vec<Vec<u32>> {
    let (sequences, from) = whole(texts);
    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    score::response_logprobs(b, model, &sequences, &from, temperature)
        .iter()
        .map(|logprobs| bits(logprobs))
        .collect()
}

fn expected_scalars<B: Backend>(b: &B, model: &Model<B>, texts: &[Texts]) -> Vec<u32> {
    let (sequences, _) = whole(texts);
    bits(&score::last_scalars(b, model, &sequences.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// Every number, in order; and the groups have the responses' count.
fn flat<T: Clone>(numbers: &[Vec<T>], texts: &[Texts]) -> Vec<T> {
    let counts = |count: &dyn Fn(usize) -> usize| (0..texts.len()).map(count).collect::<Vec<_>>();
    assert_eq!(numbers.len(), texts.len());
    assert_eq!(counts(&|at| numbers[at].len()), counts(&|at| texts[at].1.len()));
    numbers.concat()
}

pub fn agrees<B: Backend>(b: &B, texts: &[Texts], passes: &[usize]) {
    let groups = groups(texts);
    for tied in [false, true] {
        let policy = model(b, &spec(tied), HeadKind::Language);
        let reward = model(b, &spec(tied), HeadKind::Reward);
        let logprobs = expected_logprobs(b, &policy, texts, 0.7);
        let scalars = expected_scalars(b, &reward, texts);
        for &pass in passes {
            for threads in [1, 2] {
                let found = on_threads(threads, || {
                    scoring::response_logprobs(b, &policy, &groups, 0.7, pass)
                });
                let found: Vec<Vec<u32>> =
                    flat(&found, texts).iter().map(|logprobs| bits(logprobs)).collect();
                assert_eq!(found, logprobs, "passes of {pass} tokens, {threads} threads");
                let found =
                    on_threads(threads, || scoring::last_scalars(b, &reward, &groups, pass));
                assert_eq!(
                    bits(&flat(&found, texts)),
                    scalars,
                    "passes of {pass} tokens, {threads} threads"
                );
            }
        }
    }
}

#[test]
fn scores_by_the_group_have_the_bits_of_scores_of_whole_sequences() {
    let texts = texts(&LENGTHS);
    agrees(&Single::new(), &texts, &[1, 20, 64, 150, MICRO_BATCH_TOKENS]);
    agrees(&Double::new(), &texts, &[100]);
}

/// Entropies in float64, from the logits of whole sequences.
#[test]
fn entropies_are_those_of_the_softmax_of_the_logits() {
    let texts = texts(&LENGTHS);
    let (b, temperature) = (Double::new(), 0.7);
    let policy = model(&b, &spec(false), HeadKind::Language);
    let found = scoring::response_scores(&b, &policy, &groups(&texts), temperature as f32, 64);
    let (whole, from) = whole(&texts);
    let v = policy.spec.vocabulary;
    for ((tokens, from), scores) in whole.iter().zip(from).zip(flat(&found, &texts)) {
        assert_eq!(scores.len(), tokens.len() - from);
        let hidden = transformer::hidden(&b, &policy, &Batch::new(&[tokens]));
        let logits = b.download_f64(&heads::logits(&b, &policy, &hidden, tokens.len()));
        for (at, score) in scores.iter().enumerate() {
            let row = &logits[(from + at - 1) * v..(from + at) * v];
            let weights: Vec<f64> = row.iter().map(|x| (x / temperature).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let entropy: f64 = weights.iter().map(|w| -(w / sum) * (w / sum).ln()).sum();
            assert!((f64::from(score.entropy) - entropy).abs() < 1e-6, "{score:?} for {entropy}");
            let logprob = (weights[tokens[from + at] as usize] / sum).ln();
            assert!((f64::from(score.logprob) - logprob).abs() < 1e-6, "{score:?} for {logprob}");
        }
    }
}

#[test]
fn a_group_larger_than_a_pass_has_the_same_bits() {
    let lengths: Vec<usize> = (0..130).map(|at| 1 + at * 7 % 40).collect();
    assert!(lengths.iter().sum::<usize>() > MICRO_BATCH_TOKENS);
    agrees(
        &Single::new(),
        &texts(&[(20, &lengths), (1, &[3]), (48, &lengths)]),
        &[MICRO_BATCH_TOKENS],
    );
}

#[test]
fn responses_of_one_token_or_none_need_no_pass_of_their_own() {
    agrees(&Single::new(), &texts(&[(16, &[1, 1]), (5, &[0, 1])]), &[1, MICRO_BATCH_TOKENS]);
    agrees(&Single::new(), &texts(&[(16, &[0, 0])]), &[MICRO_BATCH_TOKENS]);
    agrees(&Single::new(), &[], &[MICRO_BATCH_TOKENS]);
}
