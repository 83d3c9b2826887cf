//! What the training stages learn, what they leave alone, and what they write down.

use posttrain::backend::cpu::Cpu;
use posttrain::model::checkpoint::{self, Checkpoint};
use posttrain::model::params::Params;
use posttrain::model::score::{last_scalars, response_logprobs};
use posttrain::model::weights::Model;
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{CONTEXT, EOS, LAYERS, encode, fixture, jsonl, prompt, summary, write};

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn optimiser(learning_rate: f64) -> Value {
    json!({"learning_rate": learning_rate, "schedule": {"shape": "constant"}, "weight_decay": 0.1})
}

fn sft(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "batch_size": 12, "optimiser": optimiser(0.01)});
    with(base, more)
}

fn reward_model(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "dataset": fixture().at("preferences"),
        "batch_size": 4, "optimiser": optimiser(0.01)});
    with(base, more)
}

fn dpo(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "reference": fixture().at("logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 4, "beta": 0.1,
        "optimiser": optimiser(0.01)});
    with(base, more)
}

fn kto(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "reference": fixture().at("kto_logprobs"),
        "dataset": fixture().at("preferences"), "batch_size": 8, "beta": 0.1,
        "optimiser": optimiser(0.01)});
    with(base, more)
}

fn ppo(more: Value) -> Value {
    let base = json!({"policy": fixture().at("policy"), "reward_model": fixture().at("reward"),
        "dataset": fixture().at("dataset"),
        "steps": 3, "batch_size": 4, "minibatches": 2, "epochs": 2, "max_new_tokens": 12,
        "kl": {"coef": 0.05}, "optimiser": optimiser(0.01)});
    with(base, more)
}

fn fixture_checkpoint(name: &str) -> Checkpoint {
    checkpoint::load(&fixture().path(name)).unwrap()
}

fn model(checkpoint: &Checkpoint) -> Model<Cpu<f32>> {
    Model::upload(&Cpu::new(), checkpoint.spec.clone(), checkpoint.head, checkpoint.params.clone())
}

/// The rows of the fixture's split `sft`, prompt and response with EOS.
fn sft_rows() -> Vec<(Vec<u32>, Vec<u32>)> {
    (20..32).map(|at| (encode(&prompt(at)), [encode(&summary(at)), vec![EOS]].concat())).collect()
}

#[test]
fn sft_loss_is_on_response_and_eos_alone() {
    let made = make("sft", sft(json!({})));
    let rows = sft_rows();
    let tokens: usize = rows.iter().map(|(_, response)| response.len()).sum();
    assert_eq!(made.metric("num_tokens"), [tokens as f64]);
    let sequences: Vec<Vec<u32>> =
        rows.iter().map(|(prompt, response)| [prompt.as_slice(), response].concat()).collect();
    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let from: Vec<usize> = rows.iter().map(|(prompt, _)| prompt.len()).collect();
    let scored = response_logprobs(
        &Cpu::new(),
        &model(&fixture_checkpoint("policy")),
        &sequences,
        &from,
        1.0,
    );
    let loss =
        -scored.iter().flatten().map(|logprob| f64::from(*logprob)).sum::<f64>() / tokens as f64;
    assert!((made.metric("loss")[0] - loss).abs() < 1e-6, "{} for {loss}", made.metric("loss")[0]);
}

#[test]
fn pretraining_learns_every_token_but_the_first() {
    let config = json!({"dataset": fixture().at("dataset"), "tokenizer": fixture().at("tokenizer"),
        "phases": ["notes", "pretrain"],
        "batch_size": 6, "model": {"width": 16, "layers": 2, "heads": 2, "feed_forward": 24,
            "context": 128}, "optimiser": optimiser(0.01)});
    let made = make("pretrain", config);
    let tokens = |rows: std::ops::Range<usize>| {
        rows.map(|at| prompt(at).len() + summary(at).len()).sum::<usize>() as f64
    };
    // One batch a phase, in the order of the phases; each row has an EOS more and a first token
    // less.
    assert_eq!(made.metric("num_tokens"), [tokens(0..6), tokens(10..16)]);
}

#[test]
fn a_prompt_that_is_cut_leaves_the_response_as_it_was() {
    let made = make("sft", sft(json!({"max_prompt_tokens": 5})));
    assert_eq!(made.metric("num_tokens"), make("sft", sft(json!({}))).metric("num_tokens"));
    assert_ne!(
        made.bytes("model.safetensors"),
        make("sft", sft(json!({}))).bytes("model.safetensors")
    );
}

#[test]
fn a_larger_batch_is_the_same_as_its_parts_added_up() {
    // Lengths differ, so a mean of means would be another number than the mean over all tokens.
    let whole = make("sft", sft(json!({"optimiser": optimiser(0.0)})));
    let parts = make("sft", sft(json!({"optimiser": optimiser(0.0), "batch_size": 5})));
    let (losses, tokens) = (parts.metric("loss"), parts.metric("num_tokens"));
    let total: f64 = losses.iter().zip(&tokens).map(|(loss, tokens)| loss * tokens).sum();
    assert!((total / tokens.iter().sum::<f64>() - whole.metric("loss")[0]).abs() < 1e-9);
}

#[test]
fn sft_learns_its_rows() {
    let losses = make("sft", sft(json!({"epochs": 40}))).metric("loss");
    assert!(losses[39] < 0.5 * losses[0], "{} to {}", losses[0], losses[39]);
}

/// Names of tensors that differ between two models of one form, and of those that are the same bit
/// for bit.
fn compare(before: &Checkpoint, after: &Checkpoint) -> (Vec<String>, Vec<String>) {
    let bits = |numbers: &Vec<f32>| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (mut moved, mut kept) = (Vec::new(), Vec::new());
    let layers = before.params.layers.iter().zip(&after.params.layers);
    for (slot, (old, new)) in Params::slots(&before.spec, before.head)
        .iter()
        .zip(before.params.iter().zip(after.params.iter()))
    {
        if bits(old) == bits(new) {
            kept.push(slot.name.clone())
        } else {
            moved.push(slot.name.clone())
        }
    }
    assert_eq!(layers.len(), LAYERS);
    (moved, kept)
}

fn is_trained(name: &str) -> bool {
    name == "norm" || name.starts_with(&format!("layers.{}.", LAYERS - 1))
}

#[test]
fn frozen_tensors_stay_bit_for_bit_and_all_others_move() {
    let frozen = json!({"frozen": 0.8});
    let separate = json!({"frozen": 0.8, "value": {"critic": "separate"}});
    for (kind, config) in [
        ("sft", sft(frozen.clone())),
        ("ppo", ppo(frozen.clone())),
        ("ppo", ppo(separate)),
        ("dpo", dpo(frozen.clone())),
        ("kto", kto(frozen.clone())),
        ("reward_model", reward_model(frozen)),
    ] {
        let after = make(kind, config).checkpoint();
        let mut before = fixture_checkpoint("policy");
        // A new reward head has nothing to be compared with.
        before.params.scalar = after.params.scalar.clone();
        let (moved, kept) = compare(&before, &after);
        assert!(moved.iter().all(|name| is_trained(name)), "{kind} moved {moved:?}");
        assert!(
            kept.iter().all(|name| !is_trained(name) || name.starts_with("scalar.")),
            "{kind} kept {kept:?}"
        );
        assert_eq!(moved.len(), 10, "nine tensors of the last block and the final norm: {moved:?}");
    }
}

#[test]
fn without_freezing_everything_moves() {
    for (kind, config) in [
        ("sft", sft(json!({}))),
        ("dpo", dpo(json!({}))),
        ("kto", kto(json!({}))),
        ("ppo", ppo(json!({}))),
    ] {
        let (_, kept) = compare(&fixture_checkpoint("policy"), &make(kind, config).checkpoint());
        assert!(kept.is_empty(), "{kind} kept {kept:?}");
    }
}

#[test]
fn a_learning_rate_of_0_leaves_the_weights_file_as_it_is() {
    let before = std::fs::read(fixture().path("policy/model.safetensors")).unwrap();
    let still = json!({"optimiser": optimiser(0.0)});
    let separate = with(still.clone(), json!({"value": {"critic": "separate"}}));
    for (kind, config) in [
        ("sft", sft(still.clone())),
        ("dpo", dpo(still.clone())),
        ("kto", kto(still.clone())),
        ("ppo", ppo(still)),
        ("ppo", ppo(separate)),
    ] {
        let made = make(kind, config);
        assert_eq!(made.bytes("model.safetensors"), before, "{kind}");
        assert_eq!(
            made.bytes("tokenizer.json"),
            std::fs::read(fixture().path("policy/tokenizer.json")).unwrap()
        );
    }
}

#[test]
fn the_seed_changes_what_depends_on_it() {
    for (kind, config) in [
        ("sft", sft(json!({"batch_size": 4}))),
        ("ppo", ppo(json!({}))),
        ("dpo", dpo(json!({}))),
        ("kto", kto(json!({}))),
        ("reward_model", reward_model(json!({}))),
    ] {
        let [a, b] = [0, 1].map(|seed| make(kind, with(config.clone(), json!({"seed": seed}))));
        assert_ne!(a.bytes("model.safetensors"), b.bytes("model.safetensors"), "{kind}");
        assert_eq!(
            (a.bytes("config.json"), a.bytes("tokenizer.json")),
            (b.bytes("config.json"), b.bytes("tokenizer.json")),
            "{kind}"
        );
    }
}

/// The normalised scores that a reward model gives to responses, computed here.
fn rewards(
    checkpoint: &Checkpoint,
    normalisation: &Value,
    rows: &[(Vec<u32>, Vec<u32>)],
) -> Vec<f64> {
    let sequences: Vec<Vec<u32>> =
        rows.iter().map(|(prompt, response)| [prompt.as_slice(), response].concat()).collect();
    let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let raw = last_scalars(&Cpu::new(), &model(checkpoint), &sequences);
    let number = |name: &str| normalisation[name].as_f64().unwrap();
    raw.into_iter().map(|raw| (f64::from(raw) - number("mean")) / number("std")).collect()
}

#[test]
fn the_reward_models_scores_have_mean_0_and_deviation_1_on_its_training_pairs() {
    let made = make("reward_model", reward_model(json!({"epochs": 2})));
    let normalisation: Value = serde_json::from_str(&made.text("normalisation.json")).unwrap();
    let pairs = pairs();
    let text =
        |pair: &Value, field: &str| [encode(pair[field].as_str().unwrap()), vec![EOS]].concat();
    let rows: Vec<(Vec<u32>, Vec<u32>)> = pairs
        .iter()
        .flat_map(|pair| {
            ["chosen", "rejected"]
                .map(|side| (encode(pair["prompt"].as_str().unwrap()), text(pair, side)))
        })
        .collect();
    let scores = rewards(&made.checkpoint(), &normalisation, &rows);
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1.0);
    assert!(mean.abs() < 1e-9 && (variance - 1.0).abs() < 1e-9, "mean {mean}, variance {variance}");
}

#[test]
fn a_reward_model_learns_to_order_its_pairs() {
    let made = make("reward_model", reward_model(json!({"epochs": 30})));
    let (loss, accuracy) = (made.metric("loss"), made.metric("accuracy"));
    assert!(
        (loss[0] - std::f64::consts::LN_2).abs() < 0.3,
        "a new head knows nothing: {}",
        loss[0]
    );
    assert!(
        accuracy[accuracy.len() - 3..].iter().all(|share| *share == 1.0),
        "{:?}",
        &accuracy[accuracy.len() - 3..]
    );
}

/// The rows of the fixture's preferences.
fn pairs() -> Vec<Value> {
    let text = std::fs::read_to_string(fixture().path("preferences/preferences.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A dataset with these preferences.
fn preferences(rows: &[Value]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("preferences.jsonl"), &jsonl(rows.iter().cloned()));
    folder
}

#[test]
fn pairs_of_a_prompt_are_together_wherever_their_rows_are() {
    let rows = pairs();
    // First the first pair of every prompt, then all second pairs, from the last prompt to the
    // first.
    let scattered: Vec<Value> =
        rows.iter().step_by(2).chain(rows.iter().skip(1).step_by(2).rev()).cloned().collect();
    let made = [rows, scattered].map(|rows| {
        let folder = preferences(&rows);
        make(
            "reward_model",
            reward_model(
                json!({"dataset": {"$path": folder.path()}, "center_rewards_coefficient": 0.1}),
            ),
        )
    });
    assert_eq!(made[0].metric("num_prompts"), [4.0; 3]);
    assert_eq!(made[0].metric("num_pairs"), [8.0; 3]);
    assert_eq!(made[0].text("metrics.jsonl"), made[1].text("metrics.jsonl"));
    assert_eq!(made[0].object(), made[1].object());
}

#[test]
fn the_loss_that_is_logged_is_the_one_that_is_optimised() {
    // One prompt has both of its pairs, all others have one: each prompt weighs the same.
    let rows: Vec<Value> = pairs()
        .into_iter()
        .enumerate()
        .filter(|(at, _)| at % 2 == 0 || *at == 1)
        .map(|(_, row)| row)
        .collect();
    let folder = preferences(&rows);
    let config = |more: Value| {
        with(reward_model(json!({"dataset": {"$path": folder.path()}, "batch_size": 12})), more)
    };
    let made = make(
        "reward_model",
        config(json!({"center_rewards_coefficient": 0.3, "optimiser": optimiser(0.0)})),
    );
    let text = |row: &Value, side: &str| {
        (
            encode(row["prompt"].as_str().unwrap()),
            [encode(row[side].as_str().unwrap()), vec![EOS]].concat(),
        )
    };
    let score = |side: &str| {
        rewards(
            &made.checkpoint(),
            &json!({"mean": 0.0, "std": 1.0}),
            &rows.iter().map(|row| text(row, side)).collect::<Vec<_>>(),
        )
    };
    let losses: Vec<f64> = score("chosen")
        .iter()
        .zip(score("rejected"))
        .map(|(c, r)| (r - c).exp().ln_1p() + 0.3 * (c + r) * (c + r))
        .collect();
    let prompts = [(losses[0] + losses[1]) / 2.0].into_iter().chain(losses[2..].iter().copied());
    let expected = prompts.sum::<f64>() / 12.0;
    assert!(
        (made.metric("loss")[0] - expected).abs() < 1e-6,
        "{} for {expected}",
        made.metric("loss")[0]
    );
    assert_eq!((made.metric("num_prompts")[0], made.metric("num_pairs")[0]), (12.0, 13.0));
}

fn rollouts(made: &Made, step: usize) -> Vec<Value> {
    made.rows(&format!("rollouts/step-{step:05}.jsonl"))
}

#[test]
fn ppo_keeps_the_rollouts_of_every_step() {
    let made = make("ppo", ppo(json!({"steps": 4})));
    let files: Vec<_> = std::fs::read_dir(made.path("rollouts")).unwrap().collect();
    assert_eq!(files.len(), 4);
    let mut ids: Vec<Vec<String>> = Vec::new();
    for step in 1..=4 {
        let rows = rollouts(&made, step);
        assert_eq!(rows.len(), 4, "one a prompt");
        ids.push(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect());
        let mean =
            |name: &str| rows.iter().map(|row| row[name].as_f64().unwrap()).sum::<f64>() / 4.0;
        assert!((mean("score") - made.metric("objective/scores")[step - 1]).abs() < 1e-9);
        assert!((mean("kl") - made.metric("objective/kl")[step - 1]).abs() < 1e-9);
        let ended = rows.iter().filter(|row| row["ended"] == true).count() as f64;
        assert_eq!(ended, made.metric("val/num_eos_tokens")[step - 1]);
    }
    // Nine prompts make two batches of four, drawn without replacement; then the order is new.
    for epoch in ids.chunks(2) {
        let mut seen = epoch.concat();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 8);
    }
    assert_ne!(ids[..2], ids[2..]);
}

#[test]
fn ppo_scores_are_the_reward_models() {
    let made = make("ppo", ppo(json!({})));
    let normalisation = json!({"mean": 0.25, "std": 0.5});
    for step in 1..=3 {
        let rows = rollouts(&made, step);
        // A response that was cut is shown to the reward model with an EOS all the same.
        let texts: Vec<(Vec<u32>, Vec<u32>)> = rows
            .iter()
            .map(|row| {
                (
                    encode(row["prompt"].as_str().unwrap()),
                    [encode(row["response"].as_str().unwrap()), vec![EOS]].concat(),
                )
            })
            .collect();
        // Special tokens are in no text, so of a cut response with one in it the text is short.
        let plain = |row: &Value| {
            let response = row["response"].as_str().unwrap();
            let whole = row["ended"] == true || encode(response).len() == 12;
            whole && response.chars().all(|c| c == '\n' || (' '..='~').contains(&c))
        };
        let scores = rewards(&fixture_checkpoint("reward"), &normalisation, &texts);
        for (row, score) in rows
            .iter()
            .zip(scores)
            .filter(|(row, _)| plain(row) && !row["response"].as_str().unwrap().contains('<'))
        {
            assert!((row["score"].as_f64().unwrap() - score).abs() < 1e-9, "{row} for {score}");
        }
    }
}

#[test]
fn a_policy_that_does_not_move_keeps_ratio_1_and_kl_0() {
    for critic in ["shared", "separate"] {
        let made =
            make("ppo", ppo(json!({"optimiser": optimiser(0.0), "value": {"critic": critic}})));
        assert_eq!(made.metric("val/ratio"), [1.0; 3]);
        for name in [
            "val/ratio_var",
            "policy/approxkl_avg",
            "policy/clipfrac_avg",
            "objective/kl",
            "objective/kl_token",
            "objective/non_score_reward",
        ] {
            assert!(
                made.metric(name).iter().all(|value| *value == 0.0),
                "{name}: {:?}",
                made.metric(name)
            );
        }
    }
    // One that moves is still the reference in the first step.
    let made = make("ppo", ppo(json!({})));
    assert_eq!(made.metric("objective/kl")[0], 0.0);
    assert!(made.metric("objective/kl")[1] != 0.0 && made.metric("val/ratio")[0] != 1.0);
}

#[test]
fn while_the_value_function_warms_up_the_policy_stays() {
    let before = std::fs::read(fixture().path("policy/model.safetensors")).unwrap();
    for critic in ["shared", "separate"] {
        let config = |warmup: usize| ppo(json!({"value": {"critic": critic, "warmup": warmup}}));
        let warm = make("ppo", config(3));
        assert_eq!(warm.bytes("model.safetensors"), before, "{critic}");
        let losses = warm.metric("loss/value_avg");
        assert!(losses.iter().all(|loss| *loss > 0.0), "{losses:?}");
        assert_ne!(make("ppo", config(2)).bytes("model.safetensors"), before, "{critic}");
    }
}

#[test]
fn a_separate_critic_begins_as_the_reward_model_and_learns_on() {
    let [shared, separate] =
        ["shared", "separate"].map(|critic| make("ppo", ppo(json!({"value": {"critic": critic}}))));
    // The first responses are the same; what is expected of them is not.
    assert_eq!(rollouts(&shared, 1), rollouts(&separate, 1));
    assert_ne!(shared.metric("loss/value_avg")[0], separate.metric("loss/value_avg")[0]);
    assert_ne!(shared.bytes("model.safetensors"), separate.bytes("model.safetensors"));
    let head = |checkpoint: Checkpoint| checkpoint.head;
    assert_eq!(
        head(separate.checkpoint()),
        posttrain::model::params::HeadKind::Language,
        "the critic is not part of the policy"
    );
    assert_eq!(
        head(shared.checkpoint()),
        posttrain::model::params::HeadKind::Language,
        "nor is a value head"
    );
}

/// Adam counts updates per tensor, as PyTorch does: the first update of a tensor is of the learning
/// rate's size, after however many updates of others.
#[test]
fn a_trunk_that_was_held_back_takes_a_first_step() {
    let plain = json!({"learning_rate": 0.001, "schedule": {"shape": "constant"}, "beta2": 0.95});
    let config = |warmup: usize| {
        json!({"steps": warmup + 1, "minibatches": 1, "epochs": 1,
        "value": {"warmup": warmup}, "optimiser": plain})
    };
    for warmup in [0, 4] {
        let (before, after) =
            (fixture_checkpoint("policy"), make("ppo", ppo(config(warmup))).checkpoint());
        let moved = before
            .params
            .iter()
            .zip(after.params.iter())
            .flat_map(|(before, after)| before.iter().zip(after));
        let most = moved.map(|(before, after)| (before - after).abs()).fold(0.0, f32::max);
        assert!((most - 0.001).abs() < 1e-5, "{most} after {warmup} steps of warm-up");
    }
}

/// Adam hides a factor of all gradients, but not where it adds epsilon, nor where a norm is
/// clipped.
#[test]
fn the_coefficient_of_the_value_loss_weighs_it_whoever_makes_values() {
    let sharp = json!({"learning_rate": 0.01, "schedule": {"shape": "constant"}, "clip_norm": 0.5});
    for critic in ["shared", "separate"] {
        for warmup in [0, 1] {
            let config = |coef: f64| {
                json!({"value": {"critic": critic, "warmup": warmup,
                "clip": {"coef": coef}}, "optimiser": sharp})
            };
            let [small, large] =
                [0.1, 7.0].map(|coef| make("ppo", ppo(config(coef))).metric("loss/value_avg"));
            assert_ne!(small, large, "{critic}, {warmup}");
        }
    }
}

#[test]
fn an_adaptive_coefficient_follows_the_sequence_kl() {
    let config =
        ppo(json!({"steps": 5, "kl": {"coef": 0.1, "adaptive": {"target": 0.5, "horizon": 40.0}}}));
    let made = make("ppo", config);
    let (coefs, kls) = (made.metric("objective/kl_coef"), made.metric("objective/kl"));
    let mut expected = 0.1;
    for (coef, kl) in coefs.iter().zip(kls) {
        assert!((coef - expected).abs() < 1e-12, "{coefs:?}");
        expected *= 1.0 + (kl / 0.5 - 1.0).clamp(-0.2, 0.2) * 4.0 / 40.0;
    }
    assert!(coefs[1] < coefs[0], "no KL at first: the penalty is eased");
    // The KL that is steered is the one that is plotted, whatever is charged.
    let config = json!({"steps": 5, "conventions": {"kl": {"estimator": "k2"}},
        "kl": {"coef": 0.1, "adaptive": {"target": 0.5, "horizon": 40.0}}});
    let charged = make("ppo", ppo(config));
    let mut expected = 0.1;
    for (coef, kl) in charged.metric("objective/kl_coef").iter().zip(charged.metric("objective/kl"))
    {
        assert!((coef - expected).abs() < 1e-12, "{expected}");
        expected *= 1.0 + (kl / 0.5 - 1.0).clamp(-0.2, 0.2) * 4.0 / 40.0;
    }
    assert!(
        make("ppo", ppo(json!({}))).metric("objective/kl_coef").iter().all(|coef| *coef == 0.05)
    );
}

#[test]
fn ppo_without_a_penalty_raises_the_reward() {
    let config = ppo(json!({"steps": 30, "batch_size": 9, "minibatches": 3, "kl": {"coef": 0.0},
            "optimiser": optimiser(0.02)}));
    let scores = make("ppo", config).metric("objective/scores");
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    assert!(mean(&scores[25..]) > mean(&scores[..5]) + 0.5, "{scores:?}");
}

#[test]
fn a_cut_response_may_have_its_score_replaced() {
    // Nothing ends within one token but an EOS.
    let config = |conventions: Value| {
        ppo(json!({"max_new_tokens": 1, "steps": 1, "conventions": conventions,
                "optimiser": optimiser(0.0)}))
    };
    let [keep, replaced] = [json!({}), json!({"missing_eos": {"replace": -7.0}})]
        .map(|conventions| make("ppo", config(conventions)));
    let rows = rollouts(&replaced, 1);
    assert_eq!(
        rows.iter().filter(|row| row["ended"] == true).count(),
        0,
        "the fixture ends no response so soon"
    );
    let rewards = |made: &Made| made.metric("objective/rlhf_reward")[0];
    let [scores, raw] =
        ["objective/scores", "objective/raw_scores"].map(|name| replaced.metric(name)[0]);
    assert_eq!((rewards(&replaced), scores, raw), (-7.0, -7.0, keep.metric("objective/scores")[0]));
    assert_eq!(rewards(&keep), keep.metric("objective/scores")[0]);
    for (row, kept) in rows.iter().zip(rollouts(&keep, 1)) {
        assert_eq!((&row["score"], &row["raw_score"]), (&json!(-7.0), &kept["score"]));
    }
}

#[test]
fn a_preset_is_a_base_that_conventions_override() {
    // Nothing ends within one token, so that the rule for a missing EOS is seen in the scores.
    let scores = |compat: Value, conventions: Value| {
        let config = json!({"compat": compat, "conventions": conventions, "max_new_tokens": 1,
            "steps": 1, "optimiser": optimiser(0.0)});
        let made = make("ppo", ppo(config));
        ["objective/scores", "objective/raw_scores"].map(|name| made.metric(name)[0])
    };
    let raw = scores(Value::Null, json!({}))[1];
    assert_eq!(scores(json!("nplus"), json!({})), [-1.0, raw]);
    assert_eq!(scores(json!("nplus"), json!({"gamma": 0.9})), [-1.0, raw]);
    assert_eq!(scores(json!("nplus"), json!({"missing_eos": {"replace": -3.0}})), [-3.0, raw]);
    assert_eq!(scores(json!("nplus"), json!({"missing_eos": "keep"})), [raw, raw]);
    let found = problems("ppo", ppo(json!({"compat": "nplus", "conventions": {"gamma": 1.5}})));
    assert!(found.iter().any(|problem| problem.field == "conventions.gamma"), "{found:?}");
    assert_ne!(
        make("ppo", ppo(json!({"compat": "nplus"}))).object(),
        make("ppo", ppo(json!({}))).object()
    );
    // verl does what is done here by default.
    assert_eq!(
        make("ppo", ppo(json!({"compat": "verl"}))).object(),
        make("ppo", ppo(json!({}))).object()
    );
}

#[test]
fn prompts_without_room_for_a_response_are_refused_and_those_that_just_fit_are_not() {
    let longest = (50..59).map(|at| prompt(at).len()).max().unwrap();
    let config = |new: usize| ppo(json!({"max_new_tokens": new, "steps": 1}));
    let message = refusal("ppo", config(CONTEXT - longest + 1));
    assert!(
        message.contains(&format!("{longest} tokens")) && message.contains("split `prompts`"),
        "{message}"
    );
    // The reward model sees one token more, the EOS that an unfinished response lacks.
    for new in [CONTEXT - longest + 1, CONTEXT - longest] {
        let message = refusal("ppo", config(new));
        let words = format!("the reward model's context of {CONTEXT}");
        assert!(message.contains(&words), "{message}");
    }
    make("ppo", config(CONTEXT - longest - 1));
}

#[test]
fn a_reward_model_that_reads_other_tokens_is_refused() {
    let stranger = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "normalisation.json", "tokenizer_config.json"]
    {
        std::fs::copy(fixture().path("reward").join(name), stranger.path().join(name)).unwrap();
    }
    let tokens = std::fs::read_to_string(fixture().path("reward/tokenizer.json")).unwrap();
    write(&stranger.path().join("tokenizer.json"), &tokens.replace("\"a\"", "\"Z\u{301}\""));
    let message = refusal("ppo", ppo(json!({"reward_model": {"$path": stranger.path()}})));
    assert!(message.contains("different tokenizers"), "{message}");
}

fn classifier(frozen: f64) -> Value {
    // All of the encoder learns slowly, or not at all.
    let rate = if frozen == 0.0 { 0.002 } else { 0.01 };
    json!({"encoder": fixture().at("policy"), "train": fixture().at("pairs.jsonl"),
        "test": fixture().at("pairs.jsonl"), "hidden": 8, "epochs": 20,
        "batch_size": 10, "frozen": frozen, "optimiser": optimiser(rate)})
}

#[test]
fn a_classifier_that_tunes_its_encoder_fits_what_its_network_alone_does_not() {
    let made = [1.0, 0.8, 0.0].map(|frozen| make("classifier", classifier(frozen)));
    let losses: Vec<Vec<f64>> = made.iter().map(|made| made.metric("loss")).collect();
    // The same network on the same vectors, before anything has moved.
    assert!(losses.iter().all(|own| (own[0] - losses[0][0]).abs() < 1e-6), "{losses:?}");
    let last = |own: &Vec<f64>| own[own.len() - 1];
    assert!(losses[1..].iter().all(|tuned| last(tuned) < 0.7 * last(&losses[0])), "{losses:?}");
    let before = fixture_checkpoint("policy");
    let slots = Params::slots(&before.spec, before.head);
    for (made, first) in made.iter().zip([LAYERS, LAYERS - 1, 0]) {
        let after = made.checkpoint();
        for (slot, (after, before)) in
            slots.iter().zip(after.params.iter().zip(before.params.iter()))
        {
            let may_move =
                slot.layer.map_or(first < LAYERS && (first == 0 || slot.name == "norm"), |layer| {
                    layer >= first
                });
            assert_eq!(after != before, may_move, "{} with {first} blocks frozen", slot.name);
        }
    }
}

#[test]
fn a_classifier_freezes_a_fraction() {
    let found = problems("classifier", classifier(1.5));
    assert_eq!((found[0].field.as_str(), found[0].message.contains("found 1.5")), ("frozen", true));
}
