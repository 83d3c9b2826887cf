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
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::policy_training::PolicyTraining;
use posttrain::train::rollouts::{Rollout, RolloutSettings};
use serde_json::{Value, json};

use super::bench::{make, refusal};
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
