//! What `generate` and `best_of_n` draw, keep and choose.

use posttrain::backend::cpu::Cpu;
use posttrain::data::samples::{Output, Sampled};
use posttrain::model::checkpoint;
use posttrain::model::score::{last_scalars, response_logprobs};
use posttrain::model::weights::Model;
use serde_json::{Value, json};

use super::bench::{Made, make, refusal};
use super::fixture::{CONTEXT, EOS, encode, fixture, write};

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn generate(more: Value) -> Value {
    with(
        json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
            "sampling": {"temperature": 0.7, "max_new_tokens": 12}}),
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
    Model::upload(&Cpu::new(), checkpoint.spec, checkpoint.head, checkpoint.params)
}

#[test]
fn a_samples_logprob_is_what_rescoring_gives_bit_for_bit() {
    for temperature in [0.7, 1.0] {
        let made = make(
            "generate",
            generate(json!({"samples": 3, "sampling": {"temperature": temperature,
                    "max_new_tokens": 12}})),
        );
        for row in samples(&made) {
            assert_eq!(row.temperature, Some(temperature));
            let prompt = encode(&row.prompt);
            let sequences: Vec<Vec<u32>> = row
                .outputs
                .iter()
                .map(|output| [prompt.as_slice(), &output.tokens].concat())
                .collect();
            let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
            let scored = response_logprobs(
                &Cpu::new(),
                &model("policy"),
                &sequences,
                &[prompt.len(); 3],
                temperature as f32,
            );
            for (output, scored) in row.outputs.iter().zip(scored) {
                assert_eq!(
                    output.logprob,
                    scored.iter().map(|logprob| f64::from(*logprob)).sum::<f64>()
                );
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
    assert!(
        outputs.iter().any(|output| output.ended) && outputs.iter().any(|output| !output.ended),
        "both kinds occur"
    );
}

#[test]
fn rows_come_in_the_order_of_splits_and_rows() {
    let names = |config| {
        samples(&make("generate", config))
            .into_iter()
            .map(|row| format!("{} {}", row.split, row.id))
            .collect::<Vec<_>>()
    };
    let all = names(generate(json!({})));
    assert_eq!(
        (all.len(), all[0].as_str(), all[5].as_str()),
        (10, "test/id row-70", "test/ood row-80")
    );
    assert_eq!(names(generate(json!({"limit": 1}))), ["test/id row-70", "test/ood row-80"]);
    assert_eq!(
        names(generate(json!({"splits": ["test/ood", "compare"], "limit": 2}))),
        ["test/ood row-80", "test/ood row-81", "compare row-40", "compare row-41"]
    );
}

#[test]
fn greedy_samples_are_the_likeliest_token_each_and_have_no_temperature() {
    let greedy = samples(&make(
        "generate",
        generate(json!({"samples": 2, "sampling": {"temperature": 0.0, "max_new_tokens": 6}})),
    ));
    assert!(
        greedy
            .iter()
            .all(|row| row.outputs[0].tokens == row.outputs[1].tokens && row.temperature.is_none())
    );
    let first = samples(&make(
        "generate",
        generate(json!({"samples": 2, "sampling": {"top_k": 1, "max_new_tokens": 6}})),
    ));
    for (greedy, first) in greedy.iter().zip(&first) {
        assert_eq!(greedy.outputs[0].tokens, first.outputs[0].tokens);
        assert!(
            first.temperature.is_none(),
            "its log-probabilities are not of the whole distribution"
        );
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
        let ended = |output: &Output| {
            [prompt.as_slice(), &output.tokens, if output.ended { &[] } else { &[EOS] }].concat()
        };
        let sequences: Vec<Vec<u32>> = row.candidates.iter().map(ended).collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let raw = last_scalars(&Cpu::new(), &model("reward"), &sequences);
        for (candidate, raw) in row.candidates.iter().zip(raw) {
            assert_eq!(candidate.reward, Some((f64::from(raw) - 0.25) / 0.5));
        }
        let best = row
            .candidates
            .iter()
            .filter_map(|candidate| candidate.reward)
            .fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(row.outputs[0].reward, Some(best));
        assert!(row.candidates.contains(&row.outputs[0]));
    }
}

/// Best-of-n and PPO optimise the same reward: what a missing EOS makes of the score.
#[test]
fn a_candidate_without_an_end_has_the_reward_that_ppo_gives_it() {
    let [keep, replaced, less] =
        [json!("keep"), json!({"replace": -7.0}), json!({"subtract": 2.0})].map(|missing_eos| {
            samples(&make("best_of_n", best_of_n(json!({"n": 8, "missing_eos": missing_eos}))))
        });
    assert_eq!(
        keep,
        samples(&make("best_of_n", best_of_n(json!({"n": 8})))),
        "the default keeps it"
    );
    let all = |rows: &[Sampled]| {
        rows.iter().flat_map(|row| row.candidates.clone()).collect::<Vec<Output>>()
    };
    for ((keep, replaced), less) in all(&keep).iter().zip(all(&replaced)).zip(all(&less)) {
        let raw = keep.reward.unwrap();
        let expected =
            if keep.ended { [(raw, None); 2] } else { [(-7.0, Some(raw)), (raw - 2.0, Some(raw))] };
        assert_eq!(
            [&replaced, &less].map(|output| (output.reward.unwrap(), output.raw_reward)),
            expected
        );
        assert_eq!(replaced.raw_reward(), Some(raw));
    }
    let ended = |rows: &[Sampled]| rows.iter().filter(|row| row.outputs[0].ended).count();
    assert!(ended(&keep) < ended(&replaced), "{} answers end, {}", ended(&keep), ended(&replaced));
    let could = replaced
        .iter()
        .filter(|row| row.candidates.iter().any(|candidate| candidate.ended))
        .count();
    assert_eq!(ended(&replaced), could, "one that ends is better than any that does not");
}

/// Whatever samples ends at each token that the model's generation configuration names.
#[test]
fn a_sample_ends_at_every_end_of_the_generation_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture().path("policy").join(name), folder.path().join(name)).unwrap();
    }
    let ends = [EOS, encode("e")[0], encode(" ")[0]];
    write(
        &folder.path().join("generation_config.json"),
        &json!({"eos_token_id": ends}).to_string(),
    );
    let policy = json!({"$path": folder.path()});
    let check = |outputs: &[Output]| {
        for output in outputs {
            assert_eq!(output.ended, ends.contains(output.tokens.last().unwrap()));
            assert!(output.tokens.iter().rev().skip(1).all(|token| !ends.contains(token)));
            assert!(
                !output.ended || !output.text.ends_with(['e', ' ']),
                "the end is no part of the text"
            );
        }
        assert!(
            outputs.iter().any(|output| output.ended && output.tokens.last() != Some(&EOS)),
            "another end than EOS comes"
        );
    };
    let sampling = json!({"temperature": 1.0, "max_new_tokens": 40});
    let rows = samples(&make(
        "generate",
        generate(json!({"policy": policy, "samples": 4, "sampling": sampling})),
    ));
    check(&rows.iter().flat_map(|row| row.outputs.clone()).collect::<Vec<_>>());
    let rows =
        samples(&make("best_of_n", best_of_n(json!({"policy": policy, "sampling": sampling}))));
    check(&rows.iter().flat_map(|row| row.candidates.clone()).collect::<Vec<_>>());
    // The reward model sees the end that it was trained with, behind the end that came.
    let (row, output) = rows
        .iter()
        .find_map(|row| {
            row.candidates.iter().find(|c| c.tokens.last() == Some(&ends[1])).map(|c| (row, c))
        })
        .unwrap();
    let sequence = [encode(&row.prompt), output.tokens.clone(), vec![EOS]].concat();
    assert_eq!(
        output.reward,
        Some(
            (f64::from(last_scalars(&Cpu::new(), &model("reward"), &[&sequence])[0]) - 0.25) / 0.5
        )
    );

    let config = json!({"policy": policy, "reward_model": fixture().at("reward"),
        "dataset": fixture().at("dataset"), "steps": 1,
        "batch_size": 8, "max_new_tokens": 40, "kl": {"coef": 0.05},
        "optimiser": {"learning_rate": 0.0}});
    let made = make("ppo", config);
    let rollouts: Vec<Value> = made.rows("rollouts/step-00001.jsonl");
    assert!(
        rollouts.iter().all(|row| !row["response"].as_str().unwrap().contains(['e', ' '])),
        "{rollouts:?}"
    );
    let ended = rollouts.iter().filter(|row| row["ended"] == true).count() as f64;
    assert!(ended > 0.0 && made.metric("val/num_eos_tokens") == [ended]);
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
            assert_eq!(
                output.reward,
                own.iter()
                    .map(|candidate| candidate.reward)
                    .max_by(|a, b| a.partial_cmp(b).unwrap())
                    .unwrap()
            );
        }
    }
    let pooled = samples(&make("best_of_n", best_of_n(json!({"n": 3, "outputs": 5, "pool": 6}))));
    assert!(
        pooled
            .iter()
            .all(|row| (row.candidates.len(), row.outputs.len(), row.best_of) == (6, 5, Some(3)))
    );
    assert!(
        pooled.iter().all(|row| row.outputs.iter().all(|output| row.candidates.contains(output)))
    );
}

#[test]
fn a_prompt_without_room_for_an_answer_is_refused_and_one_that_just_fits_is_not() {
    let longest = samples(&make("generate", generate(json!({}))))
        .iter()
        .map(|row| row.prompt.len())
        .max()
        .unwrap();
    let room = CONTEXT - longest;
    let sampling = |tokens: usize| json!({"sampling": {"max_new_tokens": tokens}});
    let message = refusal("generate", generate(sampling(room + 1)));
    assert!(
        message.contains(&format!("{longest} tokens"))
            && message.contains(&format!("context of {CONTEXT}")),
        "{message}"
    );
    make("generate", generate(sampling(room)));
    // The reward model sees one token more, the EOS that an unfinished answer lacks.
    let message = refusal("best_of_n", best_of_n(sampling(room)));
    assert!(message.contains(&format!("context of {CONTEXT}")), "{message}");
    make("best_of_n", best_of_n(sampling(room - 1)));
}
