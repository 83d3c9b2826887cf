//! Planted faults, each with the sentinel that finds it, and a twin without the fault in which that
//! sentinel is silent.

use posttrain::backend::Sampling;
use posttrain::backend::cpu::Cpu;
use posttrain::model::checkpoint;
use posttrain::model::params::Trainable;
use posttrain::model::weights::Model;
use posttrain::random::Stream;
use posttrain::rl::advantage::Conventions;
use posttrain::rl::critic_free::{Algorithm, KlIn};
use posttrain::rl::group::{Baseline, Scale};
use posttrain::rl::policy_loss::PolicyLoss;
use posttrain::rl::sentinels::responses::{self, Response};
use posttrain::rl::sentinels::settings::Sentinels;
use posttrain::rl::sentinels::watch::Watch;
use posttrain::sample::{GenerateOptions, Limits, generate};
use posttrain::train::group::{Member, Settings};
use posttrain::train::kl_stops::KlStops;
use posttrain::train::optimiser::{OptimiserConfig, TrainState};
use posttrain::train::policy_training::PolicyTraining;
use posttrain::train::rollouts::{Rollout, RolloutSettings};
use serde_json::{Value, json};

use super::super::bench::{Made, make};
use super::super::fixture::{EOS, encode, fixture, jsonl, preference, prompt, write};
use super::{at_once, fired, found, grpo, rows, short_rows, tuned};

fn model() -> (Cpu<f32>, Model<Cpu<f32>>) {
    let b = Cpu::<f32>::new();
    let checkpoint = checkpoint::load(&fixture().path("policy")).unwrap();
    let model = Model::upload(&b, checkpoint.spec, checkpoint.head, checkpoint.params);
    (b, model)
}

/// The metrics of a step of `grpo` on responses that were sampled at `sampled` and are scored at
/// `scored`.
fn step(sampled: f32, scored: f32) -> Vec<(&'static str, f64)> {
    let (b, model) = model();
    let prompts: Vec<Vec<u32>> = (0..3).map(|at| encode(&prompt(at))).collect();
    let options = GenerateOptions {
        samples_per_prompt: 2,
        max_new_tokens: 6,
        sampling: Sampling::plain(sampled),
        ends: &[EOS],
        stream: Stream::new(0, "rollouts"),
        first_row: 0,
        limits: Limits::default(),
    };
    let samples = generate(&b, &model, &prompts, &options, &mut |_, _| Ok(())).unwrap();
    let of = |(prompt, samples): (&Vec<u32>, Vec<posttrain::sample::Sample>)| {
        let rollout = |(at, it): (usize, posttrain::sample::Sample)| {
            let mut rollout = Rollout::sampled(prompt, &it.tokens, it.logprobs, it.ended);
            rollout.score = at as f64;
            rollout
        };
        samples.into_iter().enumerate().map(rollout).collect::<Vec<_>>()
    };
    let mut rollouts: Vec<Rollout> = prompts.iter().zip(samples).flat_map(of).collect();
    let members: Vec<Member> = (0..rollouts.len())
        .map(|at| Member { group: at / 2, has_reward: true, compared: None })
        .collect();
    let optimiser: OptimiserConfig =
        serde_json::from_value(json!({"learning_rate": 0.001})).unwrap();
    let rules = Algorithm::Grpo.rules();
    let settings = Settings {
        steps: 1,
        minibatches: 1,
        epochs: 1,
        rollouts: RolloutSettings {
            temperature: scored,
            max_new_tokens: 6,
            pad: 0,
            conventions: Conventions::default(),
        },
        baseline: Baseline::Group,
        scale: Scale::Group,
        kl_in: KlIn::Reward,
        kl_coef: 0.0,
        anneal: None,
        diversity: None,
        loss: PolicyLoss {
            ratio: rules.ratio,
            form: rules.form,
            bounds: rules.bounds,
            average: rules.average,
            kl: None,
        },
        optimiser: &optimiser,
        seed: 0,
        kl_stops: KlStops::default(),
    };
    let policy = TrainState::new(&b, &model, Trainable::ALL).unwrap();
    let mut training = PolicyTraining::new(&b, policy, None);
    training.learn_groups(0, &mut rollouts, (&members, &[]), &model, &settings).unwrap()
}

#[test]
fn scoring_at_another_temperature() {
    let exact = ["first_ratio", "sampled_logprobs"];
    assert_eq!(at_once("grpo", &step(1.0, 0.7)), exact);
    assert_eq!(at_once("grpo", &step(1.0, 1.0)), [""; 0]);
    assert_eq!(at_once("grpo", &step(0.7, 0.7)), [""; 0]);
}

/// A thousand times the learning rate.
#[test]
fn a_learning_rate_that_diverges() {
    let sft = |rate: f64| {
        let config = json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
            "batch_size": 4, "epochs": 5, "optimiser": {"learning_rate": rate}});
        make("sft", config)
    };
    found("loss_rise", &sft(3.0), &sft(0.003));
}

#[test]
fn a_reward_of_constant_value() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    let run = |most: usize| {
        let rewards = json!({"short": {"by": {"length": {"most": most}}}});
        make("grpo", grpo(&policy, &dataset, json!({"rewards": rewards, "steps": 4})))
    };
    let (fault, twin) = (run(30), run(8));
    found("constant_reward", &fault, &twin);
    found("groups_without_signal", &fault, &twin);
}

/// A program that gives each response `score`, a sum of the shell's in which `n` is the number of
/// its characters.
fn paid(score: &str) -> Value {
    let script = format!(
        r#"while read -r row; do
            r=${{row#*\"response\":\"}}; r=${{r%%\"*}}; n=${{#r}}
            echo "{{\"score\": $(({score}))}}"
        done"#
    );
    json!({"paid": {"by": {"command": {"run": ["sh", "-c", script]}}}})
}

#[test]
fn a_reward_that_pays_length() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    let run = |score: &str| {
        let more = json!({"rewards": paid(score), "steps": 24, "kl": {"coef": 0.0},
            "max_new_tokens": 60, "optimiser": {"learning_rate": 0.003}});
        make("grpo", grpo(&policy, &dataset, more))
    };
    let twin = run("n % 2");
    found("length_runaway", &run("n"), &twin);
    let fault = run("-n");
    found("length_collapse", &fault, &twin);
    found("eos_at_once", &fault, &twin);
}

#[test]
fn too_few_new_tokens_for_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let long = |at: usize| (format!("{at} :"), format!(" {}", "lorem ipsum ".repeat(1 + at % 2)));
    let dataset = rows(&folder, &(0..24).map(long).collect::<Vec<_>>());
    let policy = tuned(&dataset, 40);
    let run = |new: usize| {
        make("grpo", grpo(&policy, &dataset, json!({"max_new_tokens": new, "steps": 4})))
    };
    let (fault, twin) = (run(2), run(60));
    found("eos_never", &fault, &twin);
    found("truncated", &fault, &twin);
}

#[test]
fn a_policy_that_is_deterministic_and_ignores_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let one = |at: usize| (format!("{at} :"), " same".to_owned());
    let dataset = rows(&folder, &(0..24).map(one).collect::<Vec<_>>());
    let policy = tuned(&dataset, 150);
    let healthy = tempfile::tempdir().unwrap();
    let others = rows(&healthy, &short_rows());
    let twin = tuned(&others, 10);
    found("deterministic", &policy, &twin);
    let run = |policy: &Made, dataset: &Value| make("grpo", grpo(policy, dataset, json!({})));
    let (fault, twin) = (run(&policy, &dataset), run(&twin, &others));
    found("deterministic", &fault, &twin);
    found("duplicates", &fault, &twin);
}

#[test]
fn prompts_of_one_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = short_rows();
    let dataset = rows(&folder, &all);
    let policy = tuned(&dataset, 10);
    let twin = make("grpo", grpo(&policy, &dataset, json!({})));
    all.iter_mut().for_each(|(prompt, _)| *prompt = "the template dropped it :".into());
    let same = tempfile::tempdir().unwrap();
    let fault = make("grpo", grpo(&policy, &rows(&same, &all), json!({})));
    found("duplicate_prompts", &fault, &twin);
}

/// Pairs of a reward model: the labels of the training split are swapped; or both texts are one.
#[test]
fn labels_of_pairs_that_teach_nothing_or_the_opposite() {
    let folder = tempfile::tempdir().unwrap();
    let swapped = |at: usize| {
        let mut row = preference(at);
        let chosen = row["chosen"].clone();
        row["chosen"] = row["rejected"].clone();
        row["rejected"] = chosen;
        row
    };
    let equal = |at: usize| {
        let mut row = preference(at);
        row["rejected"] = row["chosen"].clone();
        row
    };
    let splits: [(&str, Vec<Value>); 4] = [
        ("right", (20..36).map(preference).collect()),
        ("swapped", (20..36).map(swapped).collect()),
        ("equal", (20..36).map(equal).collect()),
        ("held_out", (70..78).map(preference).collect()),
    ];
    for (split, pairs) in splits {
        write(&folder.path().join(format!("{split}.jsonl")), &jsonl(pairs));
    }
    let run = |split: &str| {
        let config = json!({"policy": fixture().at("policy"), "split": split,
            "dataset": {"$path": folder.path()}, "batch_size": 4, "epochs": 12,
            "validation": {"split": "held_out", "every": 4},
            "optimiser": {"learning_rate": 0.003}});
        make("reward_model", config)
    };
    let twin = run("right");
    found("held_out_at_chance", &run("swapped"), &twin);
    found("accuracy_at_chance", &run("equal"), &twin);
    let dpo = |split: &str| {
        let config = json!({"policy": fixture().at("policy"), "split": split, "loss": "orpo",
            "dataset": {"$path": folder.path()}, "batch_size": 4, "epochs": 12, "beta": 0.1,
            "optimiser": {"learning_rate": 0.01}});
        make("dpo", config)
    };
    found("preferences_at_chance", &dpo("equal"), &dpo("right"));
}

#[test]
fn no_charge_for_kl_and_a_high_rate() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    let run = |coef: f64, rate: f64| {
        let more = json!({"kl": {"coef": coef}, "optimiser": {"learning_rate": rate}, "epochs": 4,
            "steps": 8});
        make("grpo", grpo(&policy, &dataset, more))
    };
    let (fault, twin) = (run(0.0, 0.3), run(0.1, 0.001));
    found("kl_runaway", &fault, &twin);
    found("update_kl", &fault, &twin);
}

/// A value function that does not learn.
#[test]
fn a_value_loss_of_no_weight() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    let run = |value: Value| {
        let config = json!({"policy": policy.reference(), "dataset": dataset, "steps": 24,
            "rewards": {"short": {"by": {"length": {"most": 8}}}}, "batch_size": 24,
            "max_new_tokens": 30, "kl": {"coef": 0.1}, "value": value,
            "optimiser": {"learning_rate": 0.0001}});
        make("ppo", config)
    };
    let twin = run(json!({"clip": {"coef": 0.5}, "head_ratio": 20.0}));
    let idle = run(json!({"clip": {"coef": 0.0}}));
    let wild = run(json!({"clip": {"coef": 0.5, "range": null}, "head_ratio": 5000.0}));
    found("idle_value", &idle, &twin);
    found("unexplained_value", &wild, &twin);
}

/// A training state whose frozen tensors are not those of the folder that it says it began with.
#[test]
fn a_frozen_tensor_that_moved() {
    let (b, model) = model();
    let state = |folder: &str| {
        let trainable = Trainable::frozen_fraction(&model.spec, 0.8);
        let state = TrainState::new(&b, &model, trainable).unwrap();
        state.with_masters_of(&b, &fixture().path(folder)).unwrap().frozen_movement(&b).unwrap()
    };
    assert_eq!(at_once("sft", &state("other")), ["frozen_moved"]);
    assert_eq!(at_once("sft", &state("policy")), [""; 0]);
}

/// Responses whose KL is below 0 by far more than its error, as under a reference of another
/// temperature.
#[test]
fn a_kl_below_zero() {
    let fires = |mean: f64| {
        let mut watch = Watch::new("ppo", 9, &Sentinels::new());
        let step = |step: usize| {
            let draws = |at: usize| (at as f64 - 15.5) / 16.0;
            let of = |at: usize| Response {
                id: "a",
                prompt: "p",
                text: "t",
                score: Some(at as f64),
                kl: mean + draws(at),
            };
            let figures = responses::figures(&(0..32).map(of).collect::<Vec<_>>());
            watch.step(step, &figures)
        };
        (1..=3).flat_map(step).any(|fired| fired.sentinel == "negative_kl")
    };
    // The standard error of 32 numbers of deviation 0.586 is 0.104.
    assert!(fires(-0.5) && !fires(-0.3) && !fires(0.5));
}
/// `kto` of answers whose labels say nothing: each text is a desirable and an undesirable answer.
#[test]
fn answers_that_are_desirable_and_undesirable() {
    let folder = tempfile::tempdir().unwrap();
    let equal = |at: usize| {
        let mut row = preference(at);
        row["rejected"] = row["chosen"].clone();
        row
    };
    for (split, pairs) in [
        ("right", (20..36).map(preference).collect::<Vec<Value>>()),
        ("equal", (20..36).map(equal).collect()),
    ] {
        write(&folder.path().join(format!("{split}.jsonl")), &jsonl(pairs));
    }
    let dataset = json!({"$path": folder.path()});
    let reference = make(
        "reference_logprobs",
        json!({"policy": fixture().at("policy"), "dataset": dataset, "mismatched": true,
            "splits": ["right", "equal"]}),
    );
    let run = |split: &str| {
        let config = json!({"policy": fixture().at("policy"), "reference": reference.reference(),
            "dataset": dataset, "desirable": split, "undesirable": split, "batch_size": 8,
            "epochs": 12, "beta": 0.1, "optimiser": {"learning_rate": 0.003}});
        make("kto", config)
    };
    let (fault, twin) = (run("equal"), run("right"));
    found("margin_not_positive", &fault, &twin);
}

/// A reward of one format, which one text has, without a charge for KL.
#[test]
fn a_reward_that_one_text_gets() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    let run = |rate: f64, kl: f64| {
        let rewards = json!({"one": {"by": {"regex": "^ ?a+$"}}});
        let more = json!({"rewards": rewards, "steps": 40, "kl": {"coef": kl},
            "optimiser": {"learning_rate": rate}});
        make("grpo", grpo(&policy, &dataset, more))
    };
    let (fault, twin) = (run(0.01, 0.0), run(0.0003, 0.1));
    found("entropy_collapse", &fault, &twin);
    // It falls gradually, not from the start.
    let step = fired(&fault).into_iter().find(|(name, _)| name == "entropy_collapse").unwrap().1;
    assert!(step > 10, "step {step}");
}

/// Bounds of the ratio that any update passes, and many epochs.
#[test]
fn bounds_of_the_ratio_that_are_too_narrow() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    let run = |range: f64| {
        let config = json!({"policy": policy.reference(), "dataset": dataset, "steps": 6,
            "rewards": {"short": {"by": {"length": {"most": 8}}}}, "batch_size": 24,
            "epochs": 16, "max_new_tokens": 30, "policy_clip": {"range": range},
            "kl": {"coef": 0.1}, "optimiser": {"learning_rate": 0.003}});
        make("ppo", config)
    };
    let (fault, twin) = (run(0.0001), run(0.2));
    found("clip_fraction", &fault, &twin);
    let shares = |made: &Made| made.metric("policy/clipfrac_avg");
    assert!(shares(&fault).iter().all(|share| *share > 0.75), "{:?}", shares(&fault));
    assert!(shares(&twin).iter().all(|share| *share < 0.55), "{:?}", shares(&twin));
}

/// A reward model whose scores the held-out one does not share, without a charge for KL.
#[test]
fn a_reward_that_the_held_out_model_does_not_share() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = rows(&folder, &short_rows());
    let policy = tuned(&dataset, 10);
    let run = |rate: f64, kl: f64| {
        let held_out = json!({"reward_model": fixture().at("judges/a")});
        let more = json!({"rewards": {"own": {"by": {"reward_model": fixture().at("judges/b")}}},
            "steps": 24, "kl": {"coef": kl}, "optimiser": {"learning_rate": rate},
            "validation": {"split": "sft", "every": 3, "by": held_out}});
        make("grpo", grpo(&policy, &dataset, more))
    };
    let (fault, twin) = (run(0.003, 0.0), run(0.0003, 0.1));
    found("reward_against_held_out", &fault, &twin);
}
