//! Numbers that are none: a stage that meets one ends with an error of the user's that says where,
//! and leaves no artefact. Weights here are finite, and so large that what is computed with them is
//! not.

use std::collections::BTreeSet;

use posttrain::backend::Sampling;
use posttrain::backend::cpu::Cpu;
use posttrain::error::{Kind, kind_of};
use posttrain::model::checkpoint;
use posttrain::model::params::Params;
use posttrain::model::weights::Model;
use posttrain::random::Stream;
use posttrain::sample::{GenerateOptions, Limits, generate};
use serde_json::{Value, json};

use super::bench::{Work, refusal};
use super::fixture::{encode, example, fixture, prompt};

/// The fixture's model `name` with its tensor `tensor` multiplied, up to the greatest numbers that
/// there are.
fn scaled(name: &str, tensor: &str, by: f32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut model = checkpoint::load(&fixture().path(name)).unwrap();
    let slots = Params::slots(&model.spec, model.head).into_vec();
    for (slot, numbers) in
        slots.iter().zip(model.params.iter_mut()).filter(|(slot, _)| slot.name == tensor)
    {
        numbers.iter_mut().for_each(|number| *number = (*number * by).clamp(f32::MIN, f32::MAX));
        assert!(!slot.shape.is_empty());
    }
    checkpoint::save(folder.path(), &model).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "normalisation.json"] {
        if let Ok(bytes) = std::fs::read(fixture().path(name).join(file)) {
            std::fs::write(folder.path().join(file), bytes).unwrap();
        }
    }
    folder
}

fn at(folder: &tempfile::TempDir) -> Value {
    json!({"$path": folder.path()})
}

fn says(kind: &str, config: Value, words: &[&str]) {
    let message = refusal(kind, config);
    assert!(words.iter().all(|word| message.contains(word)), "{kind}: {message}");
    assert!(message.contains("hint: "), "{message}");
}

#[test]
fn a_loss_that_is_no_number_ends_training_at_its_step() {
    let huge = scaled("policy", "norm", 3e38);
    let optimiser = json!({"learning_rate": 0.01});
    let sft = json!({"policy": at(&huge), "dataset": fixture().at("dataset"), "batch_size": 4,
        "optimiser": optimiser});
    says("sft", sft, &["step 1 of 3", "`loss` is", "learning rate"]);
    let pairs = json!({"policy": at(&huge), "dataset": fixture().at("preferences"), "batch_size": 4,
        "optimiser": optimiser});
    says("reward_model", pairs, &["step 1 of 3", "`loss` is"]);
    let direct = json!({"policy": at(&huge), "reference": fixture().at("logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 8, "beta": 0.1,
        "optimiser": optimiser});
    says("dpo", direct, &["step 1 of 3", "`loss` is"]);
    let single = json!({"policy": at(&huge), "reference": fixture().at("kto_logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 16, "beta": 0.1,
        "optimiser": optimiser});
    says("kto", single, &["step 1 of 3", "`loss` is"]);
    let reference = json!({"policy": at(&huge), "dataset": fixture().at("preferences")});
    says("reference_logprobs", reference, &["row `20/1-0` of split `preferences`"]);
}

/// An artefact and its checkpoint are not left behind for a run to go on from.
#[test]
fn nothing_is_kept_of_a_step_that_diverged() {
    let huge = scaled("policy", "norm", 3e38);
    let config = json!({"policy": at(&huge), "dataset": fixture().at("dataset"), "batch_size": 4,
        "optimiser": {"learning_rate": 0.01}});
    let work = Work::new();
    let error = work.attempt("sft", config, Some(1)).unwrap_err();
    assert_eq!(kind_of(&error), Kind::User, "{error:#}");
    let left = |name: &str| {
        std::fs::read_dir(work.folder().join(name))
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!((left("out"), left("checkpoints")), Default::default());
}

/// Decay alone may carry a weight beyond the greatest number, after the last loss that could tell.
#[test]
fn weights_that_are_no_numbers_are_not_published() {
    // No row has this character, so that its embedding meets no text.
    let rows = (40..44).map(example).map(|row| row.to_string()).collect::<String>();
    let unused = ['^', '~', '`'].into_iter().find(|character| !rows.contains(*character)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut model = checkpoint::load(&fixture().path("policy")).unwrap();
    let row = encode(&unused.to_string())[0] as usize;
    let width = model.spec.width;
    model.params.embedding[row * width..][..width].fill(3e38);
    checkpoint::save(folder.path(), &model).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture().path("policy").join(file), folder.path().join(file)).unwrap();
    }
    // Of a reward model the embedding is no language head, so that no loss depends on that row.
    let config = json!({"policy": at(&folder), "dataset": fixture().at("preferences"),
        "batch_size": 12,
        "optimiser": {"learning_rate": 10.0, "weight_decay": 1.0,
            "schedule": {"shape": "constant"}}});
    says("reward_model", config, &["after the last step", "`embedding`", "not finite"]);
}

#[test]
fn rollouts_and_scores_that_are_no_numbers_end_ppo() {
    let config = |policy: Value, reward: Value| {
        json!({"policy": policy, "reward_model": reward, "dataset": fixture().at("dataset"),
            "steps": 2, "batch_size": 4,
            "max_new_tokens": 6, "kl": {"coef": 0.05}, "optimiser": {"learning_rate": 0.01}})
    };
    let huge = scaled("policy", "norm", 3e38);
    says(
        "ppo",
        config(at(&huge), fixture().at("reward")),
        &["step 1 of 2", "no token can be drawn", "prompt 0", "new token 1"],
    );
    let reward = scaled("reward", "scalar.weight", f32::INFINITY);
    says(
        "ppo",
        config(fixture().at("policy"), at(&reward)),
        &["step 1 of 2", "the reward model's score of response 1"],
    );
}

#[test]
fn scores_that_are_no_numbers_end_whoever_asks_for_them() {
    let reward = scaled("reward", "scalar.weight", f32::INFINITY);
    let best_of_n = json!({"policy": fixture().at("policy"), "reward_model": at(&reward),
        "dataset": fixture().at("dataset"), "n": 2,
        "sampling": {"max_new_tokens": 6}});
    says(
        "best_of_n",
        best_of_n,
        &["the reward model's score of a response to row `row-70` of split `test/id`"],
    );
    let score = json!({"dataset": fixture().at("dataset"), "splits": ["sft"],
        "by": {"reward_model": {"model": at(&reward)}}});
    says("score", score, &["the score of row `row-20` of split `sft`"]);
    let judge = json!({"dataset": fixture().at("dataset"), "a": fixture().at("outputs"),
        "judge": {"reward_model": at(&reward)}});
    says("judge", judge, &["the reward model's score of text 1 of the pair of row"]);
    let evaluate = json!({"dataset": fixture().at("dataset"), "reward_model": at(&reward),
        "reference_policy": fixture().at("policy"),
        "judge": "gold", "methods": [{"name": "policy", "outputs": fixture().at("outputs"),
            "samples": fixture().at("samples")}]});
    says("evaluate", evaluate, &["the reward model's score of text 1"]);
    let huge = scaled("policy", "norm", 3e38);
    let generate = json!({"policy": at(&huge), "dataset": fixture().at("dataset"),
        "sampling": {"max_new_tokens": 6}});
    says("generate", generate, &["no token can be drawn", "prompt 0", "new token 1"]);
}

/// One row of a batch cannot be drawn from; the error names it.
#[test]
fn a_prompt_whose_logits_are_no_numbers_is_named() {
    let mut checkpoint = checkpoint::load(&fixture().path("policy")).unwrap();
    let (width, token) = (checkpoint.spec.width, encode("~")[0]);
    checkpoint.params.embedding[token as usize * width] = f32::NAN;
    // The head is tied: give the model a separate one, so that other rows are as they were.
    checkpoint.params.lm_head = Some(vec![0.01; checkpoint.params.embedding.len()]);
    checkpoint.spec.tied = false;
    let b = Cpu::<f32>::new();
    let model = Model::upload(&b, checkpoint.spec, checkpoint.head, checkpoint.params);
    let options = GenerateOptions {
        samples_per_prompt: 1,
        max_new_tokens: 2,
        sampling: Sampling::plain(1.0),
        ends: &[],
        stream: Stream::new(0, "test"),
        first_row: 10,
        limits: Limits::default(),
    };
    let error =
        generate(&b, &model, &[encode(&prompt(1)), vec![token]], &options, &mut |_, _| Ok(()))
            .unwrap_err();
    assert_eq!(kind_of(&error), Kind::User);
    assert!(
        format!("{error:#}")
            .contains("prompt 11: no token can be drawn: the logits of new token 1"),
        "{error:#}"
    );
}
