//! `grpo`: what it samples, how prompts are replaced, and that the cut of a step into passes
//! changes nothing.

use posttrain::backend::Buffers;
use posttrain::backend::cpu::Cpu;
use posttrain::model::params::Trainable;
use posttrain::model::weights::Model;
use posttrain::random::Stream;
use posttrain::rl::advantage::Conventions;
use posttrain::rl::critic_free::{Algorithm, KlIn};
use posttrain::rl::policy_loss::{LossKl, PolicyLoss};
use posttrain::train::group::{Member, Settings};
use posttrain::train::kl_stops::KlStops;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::policy_training::PolicyTraining;
use posttrain::train::rollouts::{Rollout, RolloutSettings};
use serde_json::{Value, json};

use super::bench::{make, problems, refusal};
use super::fixture::{CONTEXT, EOS, fixture};

fn grpo(more: Value) -> Value {
    let mut config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "reward_model": fixture().at("reward"), "steps": 3, "batch_size": 3,
        "samples_per_prompt": 4, "max_new_tokens": 12, "kl": {"coef": 0.1},
        "optimiser": {"learning_rate": 0.01}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// The rows of rollouts of a step.
fn rollouts(made: &super::bench::Made, step: usize) -> Vec<Value> {
    made.rows(&format!("rollouts/step-{step:05}.jsonl"))
}

#[test]
fn each_prompt_of_a_step_has_a_group_of_responses() {
    let made = make("grpo", grpo(json!({})));
    for step in 1..=3 {
        let rows = rollouts(&made, step);
        let ids: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 12);
        assert!(ids.chunks(4).all(|group| group.iter().all(|id| *id == group[0])), "{ids:?}");
        assert_ne!(ids[0], ids[4]);
        let texts: std::collections::BTreeSet<String> =
            rows[..4].iter().map(|row| row["response"].to_string()).collect();
        assert!(texts.len() > 1, "samples of one prompt differ");
    }
    assert_eq!(made.metric("episode"), [12.0, 24.0, 36.0]);
    assert_eq!(made.metric("objective/kl")[0], 0.0);
    assert_eq!(made.metric("val/ratio")[0], 1.0);
}

/// The policy learns what a rule asks for.
#[test]
fn a_policy_learns_a_rule() {
    for algorithm in ["grpo", "rloo", "reinforce_pp", "gspo"] {
        let rewards = json!({"short": {"by": {"length": {"most": 8}}}});
        let made = make(
            "grpo",
            grpo(json!({"algorithm": algorithm, "reward_model": null, "rewards": rewards,
                "steps": 20, "batch_size": 8, "samples_per_prompt": 8, "kl": {"coef": 0.0},
                "optimiser": {"learning_rate": 0.003}})),
        );
        let scores = made.metric("rewards/short/mean");
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        let (first, last) = (mean(&scores[..4]), mean(&scores[16..]));
        assert!(last > first + 0.2, "{algorithm}: from {first} to {last}");
    }
}

/// A rule that every response fulfils, or none, teaches nothing.
#[test]
fn groups_without_signal_are_replaced_as_far_as_tries_go() {
    let config = |most: usize, tries: Value| {
        let rewards = json!({"short": {"by": {"length": {"most": most}}}});
        grpo(json!({"reward_model": null, "rewards": rewards, "batch_size": 2,
            "samples_per_prompt": 2, "dynamic_sampling": tries}))
    };
    let none = make("grpo", config(12, json!({"tries": 3})));
    assert_eq!(none.metric("dynamic_sampling/batches"), [3.0; 3]);
    assert_eq!(none.metric("frac_reward_zero_std"), [1.0; 3]);
    assert_eq!(none.metric("reward_std"), [0.0; 3]);
    let (with, without) =
        (make("grpo", config(8, json!({"tries": 4}))), make("grpo", config(8, Value::Null)));
    let share =
        |made: &super::bench::Made| -> f64 { made.metric("frac_reward_zero_std").iter().sum() };
    assert!(share(&with) < share(&without), "{} and {}", share(&with), share(&without));
    assert_eq!(rollouts(&with, 1).len(), 4, "a batch has its size");
}

/// The deviation with n - 1 in the divisor.
fn deviation(numbers: &[f64]) -> f64 {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
    (squares / (numbers.len() - 1) as f64).sqrt()
}

/// Each number less the mean, by the deviation and 1e-4.
fn normal(numbers: &[f64]) -> Vec<f64> {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    numbers.iter().map(|x| (x - mean) / (deviation(numbers) + 1e-4)).collect()
}

/// The first step of a run, of which every ratio is 1: by `token_mean` the loss is minus the mean
/// advantage of a token. One part of the reward is -tokens / 64, so lengths are in the rollouts.
#[test]
fn parts_are_normalised_each_before_they_are_compared() {
    let rewards = json!({"length": {"by": {"overlong": {"limit": 64, "buffer": 64}}},
        "model": {"by": {"reward_model": fixture().at("reward")}, "weight": -0.25}});
    let config = |parts: &str| {
        grpo(json!({"reward_model": null, "rewards": rewards, "kl": {"coef": 0.0},
            "steps": 1, "batch_size": 4, "max_new_tokens": 60,
            "loss": {"average": "token_mean"}, "advantages": {"parts": parts}}))
    };
    let made = make("grpo", config("normalise_each"));
    let rows = rollouts(&made, 1);
    let part = |name: &str| -> Vec<f64> {
        rows.iter().map(|row| row["rewards"][name].as_f64().unwrap()).collect()
    };
    let (length, model) = (part("length"), part("model"));
    let sums: Vec<f64> = length
        .chunks(4)
        .zip(model.chunks(4))
        .flat_map(|(length, model)| {
            let both = normal(length).into_iter().zip(normal(model));
            both.map(|(length, model)| length - 0.25 * model).collect::<Vec<_>>()
        })
        .collect();
    let tokens: Vec<f64> = length.iter().map(|reward| (-64.0 * reward).round()).collect();
    let loss: f64 = normal(&sums).iter().zip(&tokens).map(|(a, n)| -a * n).sum::<f64>()
        / tokens.iter().sum::<f64>();
    let found = made.metric("loss/policy_avg")[0];
    assert!(loss.abs() > 1e-2 && (found - loss).abs() < 1e-6, "{found} for {loss}");
    let spread = sums.chunks(4).map(deviation).sum::<f64>() / 4.0;
    assert!((made.metric("reward_std")[0] - spread).abs() < 1e-9);
    // Scores are the plain sum, whatever advantages compare.
    let plain = make("grpo", config("sum"));
    assert_eq!(plain.metric("objective/scores"), made.metric("objective/scores"));
    assert_eq!(plain.text("rollouts/step-00001.jsonl"), made.text("rollouts/step-00001.jsonl"));
    assert!((plain.metric("loss/policy_avg")[0] - loss).abs() > 1e-4);
    let default = grpo(json!({"reward_model": null, "rewards": rewards, "kl": {"coef": 0.0},
        "steps": 1, "batch_size": 4, "max_new_tokens": 60, "loss": {"average": "token_mean"}}));
    assert_eq!(make("grpo", default).object(), plain.object());
}

/// Three parts of which one is 1 for each response: their sum is the same for all, but a rare part
/// counts more once each is normalised.
#[test]
fn a_group_whose_parts_differ_has_a_signal() {
    let rewards = json!({"short": {"by": {"length": {"most": 20}}},
        "middle": {"by": {"length": {"least": 21, "most": 50}}},
        "long": {"by": {"length": {"least": 51}}}});
    let config = |parts: &str| {
        grpo(json!({"reward_model": null, "rewards": rewards, "batch_size": 2,
            "samples_per_prompt": 4, "max_new_tokens": 60, "dynamic_sampling": {"tries": 4},
            "advantages": {"parts": parts}}))
    };
    let (each, summed) = (make("grpo", config("normalise_each")), make("grpo", config("sum")));
    assert_eq!(summed.metric("reward_std"), [0.0; 3]);
    assert_eq!(summed.metric("dynamic_sampling/batches"), [4.0; 3]);
    assert!(each.metric("reward_std").iter().any(|spread| *spread > 0.1));
    assert!(each.metric("dynamic_sampling/batches").iter().any(|batches| *batches < 4.0));
}

#[test]
fn what_normalised_parts_do_not_go_with_is_refused_by_field() {
    let parts = |more: Value| {
        let mut config = grpo(json!({"reward_model": null,
            "rewards": {"short": {"by": {"length": {"most": 8}}}},
            "advantages": {"parts": "normalise_each"}}));
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        problems("grpo", config).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert_eq!(parts(json!({})), [""; 0]);
    assert_eq!(parts(json!({"algorithm": "reinforce_pp"})), [""; 0]);
    let own = |more: Value| {
        let mut own = json!({"parts": "normalise_each"});
        own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"advantages": own})
    };
    for (more, field) in [
        (own(json!({"baseline": "group"})), "advantages.baseline"),
        (own(json!({"scale": "group"})), "advantages.scale"),
        (json!({"missing_eos": {"replace": -1.0}}), "missing_eos"),
        (json!({"diversity": {"novelty": {}}}), "diversity"),
        (json!({"algorithm": "rloo"}), "kl.in"),
        (json!({"samples_per_prompt": 1}), "samples_per_prompt"),
        (json!({"reward_model": fixture().at("reward"), "rewards": {}}), "advantages.parts"),
    ] {
        assert_eq!(parts(more), [field]);
    }
}

/// Responses without a reward are told apart from those with the reward 0.
#[test]
fn a_response_without_a_reward_is_in_no_mean() {
    let script = r#"while read -r row; do
        case "$row" in
            *'"ended":true'*) echo '{"score": 2}' ;;
            *) echo '{"score": null}' ;;
        esac
    done"#;
    let rewards = json!({"own": {"by": {"command": {"run": ["sh", "-c", script]}}}});
    let made = make("grpo", grpo(json!({"reward_model": null, "rewards": rewards})));
    let rows = rollouts(&made, 1);
    let ended = rows.iter().filter(|row| row["ended"] == true).count();
    assert!(ended > 0 && ended < rows.len(), "{ended} of {}", rows.len());
    for row in &rows {
        let expected = if row["ended"] == true { json!(2.0) } else { Value::Null };
        assert_eq!((&row["score"], &row["rewards"]["own"]), (&expected, &expected));
    }
    let without = 1.0 - ended as f64 / rows.len() as f64;
    assert!((made.metric("frac_without_reward")[0] - without).abs() < 1e-15);
    assert_eq!(made.metric("objective/scores")[0], 2.0);
    assert_eq!(made.metric("rewards/own/mean")[0], 2.0);
}

#[test]
fn prompts_that_leave_no_room_are_refused() {
    let message = refusal("grpo", grpo(json!({"max_new_tokens": CONTEXT})));
    assert!(message.contains("9 rows of split `prompts` do not fit"), "{message}");
    let message = refusal("grpo", grpo(json!({"batch_size": 30})));
    assert!(message.contains("fewer than one batch of 30"), "{message}");
}

fn rollout(at: u64) -> Rollout {
    let mut draws = Stream::new(at, "rollouts").sequence(0);
    let mut text =
        |length: usize| -> Vec<u32> { (0..length).map(|_| draws.below(90) as u32 + 2).collect() };
    let prompt = text(20 + at as usize % 7);
    let response = [text(9 + at as usize % 50), vec![EOS]].concat();
    let logprobs = vec![-4.0; response.len()];
    let mut rollout = Rollout::sampled(&prompt, &response, logprobs, true);
    rollout.score = (at * 37 % 11) as f64 / 5.0;
    rollout
}

/// One optimiser step on 48 responses, which take several passes, moves the weights as the mean of
/// gradients of single responses does: under plain gradient steps a batch is the sum of its parts.
#[test]
fn a_step_of_several_passes_has_the_gradients_of_its_responses() {
    const COUNT: usize = 48;
    let b = Cpu::<f64>::new();
    let checkpoint = posttrain::model::checkpoint::load(&fixture().path("policy")).unwrap();
    let model = Model::upload(&b, checkpoint.spec, checkpoint.head, checkpoint.params);
    let optimiser: OptimiserConfig = serde_json::from_value(json!({"learning_rate": 0.0,
        "schedule": {"shape": "constant"}, "clip_norm": null}))
    .unwrap();
    let tokens: usize = (0..COUNT as u64).map(|at| rollout(at).tokens.len()).sum();
    assert!(tokens > posttrain::model::batch::MICRO_BATCH_TOKENS, "{tokens} tokens");
    let rules = Algorithm::Grpo.rules();
    let settings = Settings {
        steps: 1,
        minibatches: 1,
        epochs: 1,
        rollouts: RolloutSettings {
            temperature: 1.0,
            max_new_tokens: 64,
            pad: 0,
            conventions: Conventions::default(),
        },
        baseline: rules.baseline,
        scale: rules.scale,
        kl_in: KlIn::Loss,
        kl_coef: 0.1,
        anneal: None,
        diversity: None,
        loss: PolicyLoss {
            ratio: rules.ratio,
            form: rules.form,
            bounds: rules.bounds,
            average: rules.average,
            kl: Some((LossKl::K3, 0.1)),
        },
        optimiser: &optimiser,
        seed: 3,
        kl_stops: KlStops::default(),
    };
    let scored = |range: std::ops::Range<u64>| {
        let mut rollouts: Vec<Rollout> = range.map(rollout).collect();
        // Log-probabilities of sampling are those of the policy.
        for rollout in &mut rollouts {
            let found = posttrain::model::score::response_logprobs(
                &b,
                &model,
                &[&rollout.tokens],
                &[rollout.prompt],
                1.0,
            );
            rollout.logprobs = found[0].clone();
        }
        rollouts
    };
    let norm = |mut rollouts: Vec<Rollout>, groups: usize| {
        let policy = TrainState::new(&b, &model, Trainable::ALL).unwrap();
        let mut training = PolicyTraining::new(&b, policy, None);
        let size = rollouts.len() / groups;
        let members: Vec<Member> = (0..rollouts.len())
            .map(|at| Member { group: at / size, has_reward: true, compared: None })
            .collect();
        training.learn_groups(0, &mut rollouts, (&members, &[]), &model, &settings).unwrap();
        let tensors = training.policy.gradients.total(&b).iter().flatten();
        let numbers: Vec<Vec<f64>> = tensors.map(|tensor| b.download_f64(tensor)).collect();
        numbers.concat()
    };
    let whole = norm(scored(0..COUNT as u64), 12);
    let mut sum = vec![0.0; whole.len()];
    for group in 0..12 {
        let own = norm(scored(4 * group..4 * group + 4), 1);
        sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / 12.0);
    }
    let most = sum.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    assert!(most > 1e-4, "{most}");
    for (whole, sum) in whole.iter().zip(&sum) {
        assert!((whole - sum).abs() < 1e-10 * most.max(1.0), "{whole}, {sum}");
    }
}
