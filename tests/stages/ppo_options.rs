//! Options of `ppo` beside a plain run: what each leaves as it was, and where training ends. Whole
//! runs with them are held beside PyTorch's in `trajectories`.

use std::sync::Arc;

use posttrain::backend::Buffers;
use posttrain::backend::cpu::Cpu;
use posttrain::dag::context::Report;
use posttrain::model::checkpoint;
use posttrain::model::params::Trainable;
use posttrain::model::score::response_logprobs;
use posttrain::model::weights::Model;
use posttrain::random::Stream;
use posttrain::rl::advantage::Conventions;
use posttrain::rl::policy_loss::LossKl;
use posttrain::rl::ppo::{PolicyClip, ValueClip};
use posttrain::train::critic::{Critic, with_value_head};
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::ppo::{Ppo, Settings};
use posttrain::train::ppo_options::Options;
use posttrain::train::rollouts::{FrozenModels, Rollout, RolloutSettings};
use serde_json::{Value, json};

use super::bench::{Made, make, problems};
use super::fixture::{EOS, fixture};

fn ppo(more: Value) -> Value {
    let mut config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
        "reward_model": fixture().at("reward"), "steps": 4, "batch_size": 4, "minibatches": 2,
        "epochs": 2, "max_new_tokens": 12, "kl": {"coef": 0.1},
        "optimiser": {"learning_rate": 0.01, "schedule": {"shape": "constant"}}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn weights(made: &Made) -> Vec<u8> {
    made.bytes("model.safetensors")
}

#[test]
fn options_that_say_what_holds_without_them_change_no_byte() {
    let plain = make("ppo", ppo(json!({})));
    for more in [
        json!({"samples_per_prompt": 1}),
        json!({"policy_clip": {"range": 0.2, "high": 0.2}}),
        json!({"kl": {"coef": 0.1, "in": "reward"}}),
        json!({"reward_scaling": {"scale": "none"}}),
        json!({"value": {"fit": "once"}}),
        json!({"stop_at_kl": 1e6}),
    ] {
        assert_eq!(make("ppo", ppo(more.clone())).object(), plain.object(), "{more}");
    }
    // Those below have figures besides.
    for more in [json!({"epoch_stop_kl": 1e6}), json!({"reward_scaling": {"clip": 1e6}})] {
        assert!(weights(&make("ppo", ppo(more.clone()))) == weights(&plain), "{more}");
    }
}

/// Rewards and loss are the same where the coefficient is 0, whatever place has it.
#[test]
fn kl_in_the_loss_takes_none_off_rewards() {
    let of = |place: &str| make("ppo", ppo(json!({"kl": {"coef": 0.0, "in": place}})));
    let (reward, loss) = (of("reward"), of("loss"));
    assert!(weights(&reward) == weights(&loss));
    let kl = loss.metric("loss/kl_avg");
    // The first update is that of the reference itself, later ones are not.
    assert!(kl.iter().all(|kl| *kl > 0.0) && kl[0] < kl[3], "{kl:?}");
    // A large coefficient holds the policy near the reference.
    let strong = make("ppo", ppo(json!({"kl": {"coef": 20.0, "in": "loss"}})));
    let (held, free) = (strong.metric("loss/kl_avg")[3], kl[3]);
    assert!(held < 0.5 * free, "{held} and {free}");
}

#[test]
fn each_prompt_of_a_step_has_its_responses() {
    let more = json!({"samples_per_prompt": 3, "batch_size": 2, "minibatches": 6, "epochs": 1});
    let made = make("ppo", ppo(more));
    assert_eq!(made.metric("episode"), [6.0, 12.0, 18.0, 24.0]);
    for step in 1..=4 {
        let rows: Vec<Value> = made.rows(&format!("rollouts/step-{step:05}.jsonl"));
        let ids: Vec<&Value> = rows.iter().map(|row| &row["id"]).collect();
        assert_eq!(ids.len(), 6);
        assert!(ids.chunks(3).all(|own| own.iter().all(|id| *id == own[0])), "{ids:?}");
        assert_ne!(ids[0], ids[3]);
        assert!(rows[..3].iter().any(|row| row["response"] != rows[0]["response"]));
    }
    let refused = problems("ppo", ppo(json!({"samples_per_prompt": 2, "minibatches": 9})));
    let fields: Vec<&str> = refused.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["minibatches"]);
    assert!(problems("ppo", ppo(json!({"samples_per_prompt": 2, "minibatches": 8}))).is_empty());
}

/// The artefact of a run that ends in step k is that of a run of k - 1 steps: the policy whose KL
/// was measured.
#[test]
fn training_ends_with_the_policy_that_has_reached_the_kl() {
    let config = |more: Value| {
        let mut config = ppo(json!({"steps": 9, "samples_per_prompt": 4,
            "validation": {"split": "test/id", "every": 100, "by": "gold", "keep": "last"}}));
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let kl = make("ppo", config(json!({}))).metric("objective/kl");
    let most = 0.5 * kl.iter().copied().fold(0.0, f64::max);
    let last = kl.iter().position(|kl| *kl >= most).unwrap();
    assert!((1..8).contains(&last), "{kl:?}");
    let made = make("ppo", config(json!({"stop_at_kl": most})));
    assert_eq!(made.metric("objective/kl"), kl[..=last]);
    let lines = |made: &Made, name: &str| -> Vec<f64> {
        let rows: Vec<Value> = made.rows("metrics.jsonl");
        rows.iter().filter_map(|row| row[name].as_f64()).collect()
    };
    assert_eq!(lines(&made, "loss/policy_avg").len(), last, "its last step has no update");
    let rollouts = std::fs::read_dir(made.path("rollouts")).unwrap().count();
    assert_eq!(rollouts, last + 1);
    let shorter = make("ppo", config(json!({"steps": last})));
    assert!(weights(&made) == weights(&shorter));
    let scores = lines(&made, "validation/score");
    assert_eq!((scores.len(), &scores), (1, &lines(&shorter, "validation/score")));
    let told: Vec<&String> = made
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Warning { message } if !message.starts_with("sentinel") => Some(message),
            _ => None,
        })
        .collect();
    let begin = format!("training ended in step {} of 9: `objective/kl` is ", last + 1);
    assert!(told.len() == 1 && told[0].starts_with(&begin), "{told:?}");
}

#[test]
fn a_small_bound_leaves_the_first_epoch_alone() {
    let made = make("ppo", ppo(json!({"epochs": 3, "epoch_stop_kl": 1e-9})));
    assert_eq!(made.metric("policy/epochs"), [1.0; 4]);
    // The order of minibatches is that of epoch 3 * step of both.
    let first = |epochs: usize| {
        let mut config = ppo(json!({"steps": 1, "epochs": epochs}));
        if epochs > 1 {
            config["epoch_stop_kl"] = json!(1e-9);
        }
        make("ppo", config)
    };
    assert!(weights(&first(3)) == weights(&first(1)));
}

/// A reference that is replaced in every step is the policy that samples.
#[test]
fn a_new_reference_has_no_kl_and_the_distance_from_the_start_is_kept() {
    let made = make("ppo", ppo(json!({"reference": {"reset_every": 1}})));
    assert_eq!(made.metric("objective/kl"), [0.0; 4]);
    let initial = made.metric("objective/kl_initial");
    assert!(initial[0] == 0.0 && initial[1..].iter().all(|kl| *kl != 0.0), "{initial:?}");
    for (step, initial) in initial.iter().enumerate() {
        let rows: Vec<Value> = made.rows(&format!("rollouts/step-{:05}.jsonl", step + 1));
        let kl: f64 = rows.iter().map(|row| row["kl"].as_f64().unwrap()).sum();
        assert!((kl / 4.0 - initial).abs() < 1e-5, "step {step}: {kl}, {initial}");
    }
    let twice = make("ppo", ppo(json!({"reference": {"reset_every": 2}})));
    let zero: Vec<bool> = twice.metric("objective/kl").iter().map(|kl| *kl == 0.0).collect();
    assert_eq!(zero, [true, false, true, false]);
    // Without resets the two are one figure, up to the step at which the first would be.
    let plain = make("ppo", ppo(json!({})));
    assert_eq!(plain.metric("objective/kl")[..3], twice.metric("objective/kl_initial")[..3]);
}

/// The deviation is of all scores so far, as `rollouts/` has them.
#[test]
fn scores_are_scaled_by_what_rollouts_say() {
    let scaling = json!({"scale": "running_std", "clip": 0.8});
    let made = make("ppo", ppo(json!({"reward_scaling": scaling})));
    let (mut scores, divisors) = (Vec::new(), made.metric("reward_scaling/divisor"));
    let (means, shares) =
        (made.metric("objective/scaled_scores"), made.metric("reward_scaling/clipfrac"));
    for step in 0..4 {
        let rows: Vec<Value> = made.rows(&format!("rollouts/step-{:05}.jsonl", step + 1));
        let own: Vec<f64> = rows.iter().map(|row| row["score"].as_f64().unwrap()).collect();
        scores.extend(own.clone());
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let squares: f64 = scores.iter().map(|x| (x - mean) * (x - mean)).sum();
        let deviation = (squares / (scores.len() - 1) as f64).sqrt();
        let scaled = own.iter().map(|score| score / deviation);
        let clipped: Vec<f64> = scaled.clone().map(|score| score.clamp(-0.8, 0.8)).collect();
        let share = scaled.filter(|score| score.abs() > 0.8).count() as f64 / 4.0;
        let mean = clipped.iter().sum::<f64>() / 4.0;
        assert!((divisors[step] - deviation).abs() < 1e-12, "step {step}");
        assert!((means[step] - mean).abs() < 1e-12 && shares[step] == share, "step {step}");
    }
    let plain = make("ppo", ppo(json!({})));
    assert_eq!(plain.metric("objective/scores")[0], made.metric("objective/scores")[0]);
    assert!(weights(&plain) != weights(&made));
}

/// Responses that take several passes, with log-probabilities of sampling under `model`.
fn rollouts(b: &Cpu<f32>, model: &Model<Cpu<f32>>) -> Vec<Rollout> {
    let rollout = |at: u64| {
        let mut draws = Stream::new(at, "rollouts").sequence(0);
        let mut text = |length: usize| -> Vec<u32> {
            (0..length).map(|_| draws.below(90) as u32 + 2).collect()
        };
        let prompt = text(20 + at as usize % 7);
        let response = [text(9 + at as usize % 50), vec![EOS]].concat();
        let tokens = [prompt.as_slice(), &response].concat();
        let logprobs = response_logprobs(b, model, &[&tokens], &[prompt.len()], 1.0);
        let mut rollout = Rollout::sampled(&prompt, &response, logprobs[0].clone(), true);
        rollout.score = (at * 37 % 11) as f64 / 5.0;
        rollout
    };
    (0..48).map(rollout).collect()
}

/// Gradients of one update, a list for each tensor, and the KL in its loss.
fn update(
    b: &Cpu<f32>,
    model: &Model<Cpu<f32>>,
    reference: &Model<Cpu<f32>>,
    (estimator, coef): (LossKl, f64),
) -> (Vec<Vec<f64>>, f64) {
    let optimiser: OptimiserConfig = serde_json::from_value(json!({"learning_rate": 0.0,
        "schedule": {"shape": "constant"}, "clip_norm": null}))
    .unwrap();
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
        adaptive: None,
        policy_clip: PolicyClip::default(),
        value_clip: ValueClip::default(),
        value_warmup: 0,
        value_head_ratio: 1.0,
        optimiser: &optimiser,
        seed: 3,
        options: Options { kl_in_loss: Some(estimator), ..Options::default() },
    };
    let mut rollouts = rollouts(b, model);
    let tokens: usize = rollouts.iter().map(|rollout| rollout.tokens.len()).sum();
    assert!(tokens > posttrain::model::batch::MICRO_BATCH_TOKENS, "{tokens} tokens");
    let policy = with_value_head(b, model, 0).unwrap().trainable_copy(b, &Trainable::ALL);
    let policy = TrainState::new(b, &policy, Trainable::ALL).unwrap();
    let mut ppo = Ppo::new(b, policy, Critic::Shared, coef, None);
    let frozen = FrozenModels { reference, reward: None };
    let metrics = ppo.step(0, &mut rollouts, (&[], &[]), &frozen, &settings).unwrap();
    let (_, kl) = metrics.iter().find(|metric| metric.0 == "loss/kl_avg").unwrap();
    let gradients = ppo.policy.gradients.total(b);
    let numbers = gradients.iter().map(|tensor| b.download_f64(tensor.as_ref().unwrap()));
    (numbers.collect(), *kl)
}

/// What the coefficient adds to the gradient is the slope of the KL, a mean over the tokens of a
/// minibatch of several passes, by differences of the weights. Of `k3_plus` the value is another's.
#[test]
fn kl_in_the_loss_has_the_gradient_of_its_value() {
    let b = Cpu::<f32>::new();
    let [model, reference] = ["policy", "other"].map(|name| {
        let found = checkpoint::load(&fixture().path(name)).unwrap();
        Model::upload(&b, found.spec, found.head, found.params)
    });
    for estimator in [LossKl::K2, LossKl::K3] {
        let [(with, kl), (without, same)] =
            [0.5, 0.0].map(|coef| update(&b, &model, &reference, (estimator, coef)));
        assert!(kl == same && kl > 0.0);
        let slopes: Vec<Vec<f64>> = with
            .iter()
            .zip(&without)
            .map(|(with, without)| with.iter().zip(without).map(|(x, y)| (x - y) / 0.5).collect())
            .collect();
        let norm = slopes.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
        assert!(norm > 1e-3, "{norm}");
        let moved = |step: f64| {
            let mut moved = model.trainable_copy(&b, &Trainable::ALL);
            for (tensor, slope) in moved.weights.iter_mut().zip(&slopes) {
                let weights = b.download_f64(tensor);
                let further = weights.iter().zip(slope).map(|(w, x)| w + step * x / norm);
                *tensor = Arc::new(b.upload_f64(&further.collect::<Vec<f64>>()));
            }
            update(&b, &moved, &reference, (estimator, 0.0)).1
        };
        let slope = (moved(3e-3) - moved(-3e-3)) / 6e-3;
        assert!((slope - norm).abs() < 1e-3 * norm, "{estimator:?}: {slope} for {norm}");
    }
    let [k2, plus] = [LossKl::K2, LossKl::K3Plus]
        .map(|estimator| update(&b, &model, &reference, (estimator, 0.5)).0);
    assert_eq!(k2, plus, "k3_plus has the gradient of k2");
}
