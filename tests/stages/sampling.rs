//! What `generate` and `best_of_n` draw, keep and choose.

use posttrain::backend::cpu::Cpu;
use posttrain::data::samples::{Output, Sampled};
use posttrain::model::checkpoint;
use posttrain::model::score::{last_scalars, response_logprobs};
use posttrain::model::weights::Model;
use serde_json::{Value, json};

use super::bench::{Made, make, refusal};
use super::fixture::{CONTEXT, EOS, encode, fixture};

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn generate(more: Value) -> Value {
    with(
        json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"), "sampling": {"temperature": 0.7, "max_new_tokens": 12}}),
        more,
    )
}

fn best_of_n(more: Value) -> Value {
    with(generate(json!({"reward_model": fixture().at("reward"), "n": 4})), more)
}

fn samples(made: &Made) -> Vec<Sampled> {
    made.rows("samples.jsonl")
}

fn model(name: &str) -> Model<Cpu<f32>> {
    let checkpoint = checkpoint::load(&fixture().path(name)).unwrap();
    Model::upload(&Cpu::new(), checkpoint.spec, checkpoint.params)
}

#[test]
fn a_samples_logprob_is_what_rescoring_gives_bit_for_bit() {
    for temperature in [0.7, 1.0] {
        let made = make("generate", generate(json!({"samples": 3, "sampling": {"temperature": temperature, "max_new_tokens": 12}})));
        for row in samples(&made) {
            assert_eq!(row.temperature, Some(temperature));
            let prompt = encode(&row.prompt);
            let sequences: Vec<Vec<u32>> = row.outputs.iter().map(|output| [prompt.as_slice(), &output.tokens].concat()).collect();
            let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let scored = response_logprobs(&Cpu::new(), &model("policy"), &sequences, &[prompt.len(); 3], temperature as f32);
            for (output, scored) in row.outputs.iter().zip(scored) {
                assert_eq!(output.logprob, scored.iter().map(|logprob| f64::from(*logprob)).sum::<f64>());
            }
        }
    }
}

#[test]
fn a_sample_ends_at_eos_or_at_its_limit() {
    let rows = samples(&make("generate", generate(json!({"samples": 8}))));
    let outputs: Vec<&Output> = rows.iter().flat_map(|row| &row.outputs).collect();
    for output in &outputs {
        assert_eq!(output.ended, output.tokens.last() == Some(&EOS));
        assert!(output.tokens.iter().rev().skip(1).all(|token| *token != EOS));
        assert!(output.ended || output.tokens.len() == 12);
        assert!(output.reward.is_none());
        if output.tokens.iter().all(|token| *token > EOS) {
            assert_eq!(encode(&output.text), output.tokens);
        }
    }
    assert!(outputs.iter().any(|output| output.ended) && outputs.iter().any(|output| !output.ended), "both kinds occur");
}

#[test]
fn rows_come_in_the_order_of_splits_and_rows() {
    let names = |config| samples(&make("generate", config)).into_iter().map(|row| format!("{} {}", row.split, row.id)).collect::<Vec<_>>();
    let all = names(generate(json!({})));
    assert_eq!((all.len(), all[0].as_str(), all[5].as_str()), (10, "test/id row-70", "test/ood row-80"));
    assert_eq!(names(generate(json!({"limit": 1}))), ["test/id row-70", "test/ood row-80"]);
    assert_eq!(
        names(generate(json!({"splits": ["test/ood", "compare"], "limit": 2}))),
        ["test/ood row-80", "test/ood row-81", "compare row-40", "compare row-41"]
    );
}

#[test]
fn greedy_samples_are_the_likeliest_token_each_and_have_no_temperature() {
    let greedy = samples(&make("generate", generate(json!({"samples": 2, "sampling": {"temperature": 0.0, "max_new_tokens": 6}}))));
    assert!(greedy.iter().all(|row| row.outputs[0].tokens == row.outputs[1].tokens && row.temperature.is_none()));
    let first = samples(&make("generate", generate(json!({"samples": 2, "sampling": {"top_k": 1, "max_new_tokens": 6}}))));
    for (greedy, first) in greedy.iter().zip(&first) {
        assert_eq!(greedy.outputs[0].tokens, first.outputs[0].tokens);
        assert!(first.temperature.is_none(), "its log-probabilities are not of the whole distribution");
    }
}

#[test]
fn best_of_n_keeps_all_candidates_and_answers_with_the_best() {
    let made = make("best_of_n", best_of_n(json!({})));
    let drawn = samples(&make("generate", generate(json!({"samples": 4}))));
    for (row, drawn) in samples(&made).iter().zip(&drawn) {
        assert_eq!((row.candidates.len(), row.outputs.len(), row.best_of), (4, 1, Some(4)));
        // The candidates are what `generate` draws with the same seed.
        let plain = |output: &Output| Output { reward: None, ..output.clone() };
        assert_eq!(row.candidates.iter().map(plain).collect::<Vec<_>>(), drawn.outputs);
        let prompt = encode(&row.prompt);
        let ended = |output: &Output| [prompt.as_slice(), &output.tokens, if output.ended { &[] } else { &[EOS] }].concat();
        let sequences: Vec<Vec<u32>> = row.candidates.iter().map(ended).collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let raw = last_scalars(&Cpu::new(), &model("reward"), &sequences);
        for (candidate, raw) in row.candidates.iter().zip(raw) {
            assert_eq!(candidate.reward, Some((f64::from(raw) - 0.25) / 0.5));
        }
        let best = row.candidates.iter().filter_map(|candidate| candidate.reward).fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(row.outputs[0].reward, Some(best));
        assert!(row.candidates.contains(&row.outputs[0]));
    }
}

#[test]
fn the_best_of_one_is_the_sample() {
    let rows = samples(&make("best_of_n", best_of_n(json!({"n": 1}))));
    let drawn = samples(&make("generate", generate(json!({}))));
    for (row, drawn) in rows.iter().zip(&drawn) {
        assert_eq!(Output { reward: None, ..row.outputs[0].clone() }, drawn.outputs[0]);
    }
    assert_eq!(rows.len(), 10);
}

#[test]
fn several_outputs_are_each_the_best_of_candidates_of_their_own() {
    let rows = samples(&make("best_of_n", best_of_n(json!({"n": 3, "outputs": 2}))));
    for row in rows {
        assert_eq!((row.candidates.len(), row.outputs.len()), (6, 2));
        for (output, own) in row.outputs.iter().zip(row.candidates.chunks(3)) {
            assert_eq!(output.reward, own.iter().map(|candidate| candidate.reward).max_by(|a, b| a.partial_cmp(b).unwrap()).unwrap());
        }
    }
    let pooled = samples(&make("best_of_n", best_of_n(json!({"n": 3, "outputs": 5, "pool": 6}))));
    assert!(pooled.iter().all(|row| (row.candidates.len(), row.outputs.len(), row.best_of) == (6, 5, Some(3))));
    assert!(pooled.iter().all(|row| row.outputs.iter().all(|output| row.candidates.contains(output))));
}

#[test]
fn a_prompt_without_room_for_an_answer_is_refused_and_one_that_just_fits_is_not() {
    let longest = samples(&make("generate", generate(json!({})))).iter().map(|row| row.prompt.len()).max().unwrap();
    let room = CONTEXT - longest;
    let sampling = |tokens: usize| json!({"sampling": {"max_new_tokens": tokens}});
    let message = refusal("generate", generate(sampling(room + 1)));
    assert!(message.contains(&format!("{longest} tokens")) && message.contains(&format!("context of {CONTEXT}")), "{message}");
    make("generate", generate(sampling(room)));
    // The reward model sees one token more, the EOS that an unfinished answer lacks.
    let message = refusal("best_of_n", best_of_n(sampling(room)));
    assert!(message.contains(&format!("context of {CONTEXT}")), "{message}");
    make("best_of_n", best_of_n(sampling(room - 1)));
}
