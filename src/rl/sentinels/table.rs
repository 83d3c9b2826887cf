//! The table of sentinels: for each the figures that it reads, its condition, what it means and
//! what to do.

use serde::{Deserialize, Serialize};

use super::responses::{DUPLICATE_PROMPTS, DUPLICATES, EMPTY, KL_ERRORS, SCORE_STD};

/// Figure of the first minibatch of a step, where it is not 0: the mean probability ratio less 1.
pub const FIRST_RATIO_ERROR: &str = "sampling/first_ratio_error";
/// Figure of the first minibatch of a step, where it is not 0: the root mean square of scored minus
/// sampled log-probabilities, in nats.
pub const LOGPROB_GAP: &str = "sampling/logprob_gap";
/// Figure of the last step, where it is not 0: the norm of the change of tensors that are frozen.
pub const FROZEN_MOVEMENT: &str = "frozen/movement";

/// What is done when a sentinel fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A warning; the stage goes on.
    Warn,
    /// The stage ends with an error.
    Stop,
}

/// A figure of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The metric of this name.
    Named(&'static str),
    /// Entropy of the next token in nats: `objective/entropy` over `response_length/mean`, and
    /// `entropy` of steps without responses.
    TokenEntropy,
}

/// What is compared with the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The figure.
    Plain(Figure),
    /// The size of the figure, without its sign.
    Size(Figure),
    /// The figure over its mean in the first [`START`] steps, where that is above 0.
    ToStart(Figure),
    /// How far `validation/score` is below its best, where `objective/scores` has risen since then
    /// (means over [`RISE`] steps); 0 where it has not.
    AgainstHeldOut,
}

/// Steps whose mean is the start of a series.
pub const START: usize = 3;
/// Steps whose means are compared by [`Measure::AgainstHeldOut`].
pub const RISE: usize = 5;

/// The side of the threshold on which a sentinel fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Above it.
    Above,
    /// Below it.
    Below,
    /// At it, or above.
    AtLeast,
    /// At it, or below.
    AtMost,
}

/// The measured steps that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Each of this number of steps in a row.
    Each(usize),
    /// The mean over this number of steps in a row.
    Mean(usize),
}

/// A condition on a training run.
#[derive(Debug)]
pub struct Sentinel {
    /// The name in configs.
    pub name: &'static str,
    /// The stage kinds that have it.
    pub kinds: &'static [&'static str],
    /// What is compared.
    pub measure: Measure,
    /// Where it fires.
    pub side: Side,
    /// The default threshold.
    pub threshold: f64,
    /// The unit of the threshold.
    pub unit: &'static str,
    /// The steps that decide.
    pub over: Over,
    /// Share of the steps of the stage before which nothing is measured.
    pub after: f64,
    /// What is done by default.
    pub action: Action,
    /// Whether the condition never holds in a sound program, so that an error is the program's.
    pub exact: bool,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Figure {
    /// Its name in conditions.
    pub fn words(self) -> &'static str {
        match self {
            Figure::Named(name) => name,
            Figure::TokenEntropy => "entropy of a token",
        }
    }
}

impl Side {
    /// Whether `value` is on this side of `threshold`.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Side::Above => value > threshold,
            Side::Below => value < threshold,
            Side::AtLeast => value >= threshold,
            Side::AtMost => value <= threshold,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Side::Above => "above",
            Side::Below => "below",
            Side::AtLeast => "at least",
            Side::AtMost => "at most",
        }
    }
}

impl Over {
    /// The number of steps.
    pub fn steps(self) -> usize {
        match self {
            Over::Each(steps) | Over::Mean(steps) => steps,
        }
    }
}

impl Sentinel {
    /// What is measured, in words: `mean over 3 steps of objective/kl_token`.
    pub fn measured(&self) -> String {
        let what = match self.measure {
            Measure::Plain(figure) => figure.words().to_owned(),
            Measure::Size(figure) => format!("size of {}", figure.words()),
            Measure::ToStart(figure) => format!("{}, over its start,", figure.words()),
            Measure::AgainstHeldOut => "fall of validation/score while scores rise".to_owned(),
        };
        match self.over {
            Over::Each(1) => what,
            Over::Each(steps) => format!("{what} in each of {steps} steps"),
            Over::Mean(steps) => format!("mean over {steps} steps of {what}"),
        }
    }

    /// When it fires with this threshold, in words.
    pub fn condition(&self, threshold: f64) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let later = match self.after > 0.0 {
            true => format!(", after {}% of the steps", (self.after * 100.0).round()),
            false => String::new(),
        };
        format!("{} {} {threshold}{unit}{later}", self.measured(), self.side.words())
    }
}

/// The sentinels of a stage kind, in the order of the table.
pub fn of(kind: &str) -> impl Iterator<Item = &'static Sentinel> {
    SENTINELS.iter().filter(move |sentinel| sentinel.kinds.contains(&kind))
}

/// The sentinel of this name.
pub fn named(name: &str) -> Option<&'static Sentinel> {
    SENTINELS.iter().find(|sentinel| sentinel.name == name)
}

/// Kinds that train a policy on its own responses.
const ON_POLICY: &[&str] = &["ppo", "grpo", "online_dpo", "expert_iteration", "distill"];
/// Those of them that optimise a reward.
const REWARDED: &[&str] = &["ppo", "grpo", "online_dpo", "expert_iteration"];
/// Kinds that learn from fixed rows.
const ROWS: &[&str] = &["sft", "reward_model", "dpo", "kto"];
/// All of them.
const ALL: &[&str] = &[
    "sft",
    "reward_model",
    "dpo",
    "kto",
    "ppo",
    "grpo",
    "online_dpo",
    "expert_iteration",
    "distill",
];

/// What most sentinels have in common; the others are written out.
const USUAL: Sentinel = Sentinel {
    name: "",
    kinds: &[],
    measure: Measure::AgainstHeldOut,
    side: Side::Above,
    threshold: 0.0,
    unit: "",
    over: Over::Mean(3),
    after: 0.0,
    action: Action::Warn,
    exact: false,
    meaning: "",
    remedy: "",
};

const fn plain(name: &'static str) -> Measure {
    Measure::Plain(Figure::Named(name))
}

/// All sentinels: first those of the program itself, then of responses, of optimisation, of rows.
pub const SENTINELS: &[Sentinel] = &[
    Sentinel {
        name: "first_ratio",
        kinds: &["ppo", "grpo", "distill"],
        measure: plain(FIRST_RATIO_ERROR),
        threshold: 1e-6,
        over: Over::Each(1),
        action: Action::Stop,
        exact: true,
        meaning: "The mean probability ratio of a step's first minibatch is not 1, although the \
            policy has not moved since it sampled.",
        remedy: "Report it with the config and the device: sampling and scoring differ.",
        ..USUAL
    },
    Sentinel {
        name: "sampled_logprobs",
        kinds: &["ppo", "grpo", "distill"],
        measure: plain(LOGPROB_GAP),
        unit: "nats",
        over: Over::Each(1),
        action: Action::Stop,
        exact: true,
        meaning: "The log-probabilities that were sampled are not those that the same weights \
            score: advantages and ratios are of another policy.",
        remedy: "Report it with the config and the device: sampling and scoring differ.",
        ..USUAL
    },
    Sentinel {
        name: "frozen_moved",
        kinds: ALL,
        measure: plain(FROZEN_MOVEMENT),
        over: Over::Each(1),
        action: Action::Stop,
        exact: true,
        meaning: "Tensors that are frozen are not those of the model that training began with.",
        remedy: "Report it with the config and the device: the optimiser wrote to them.",
        ..USUAL
    },
    Sentinel {
        name: "negative_kl",
        kinds: ON_POLICY,
        measure: plain(KL_ERRORS),
        side: Side::Below,
        threshold: -4.0,
        unit: "standard errors",
        over: Over::Each(2),
        meaning: "The KL of responses from the reference is below 0 by more than its error, which \
            the KL of responses that the policy itself sampled cannot be.",
        remedy: "Look for a reference with another temperature or another tokenizer.",
        ..USUAL
    },
    Sentinel {
        name: "eos_never",
        kinds: ON_POLICY,
        measure: plain("response_length/clip_ratio"),
        side: Side::AtLeast,
        threshold: 0.98,
        over: Over::Each(2),
        meaning: "No response, or nearly none, ends by itself.",
        remedy: "Raise `max_new_tokens`, or begin with a policy that has learned to end (`sft` \
            rows end with EOS).",
        ..USUAL
    },
    Sentinel {
        name: "truncated",
        kinds: ON_POLICY,
        measure: plain("response_length/clip_ratio"),
        threshold: 0.5,
        meaning: "Most responses are cut at `max_new_tokens`: their scores are of texts that the \
            policy had not finished.",
        remedy: "Raise `max_new_tokens`, or lower the score of unended responses (`missing_eos`).",
        ..USUAL
    },
    Sentinel {
        name: "eos_at_once",
        kinds: ON_POLICY,
        measure: plain(EMPTY),
        threshold: 0.5,
        meaning: "Most responses are empty: they end at once.",
        remedy: "Read the rollouts: the reward may prefer an empty response. Penalise it, or \
            raise `kl.coef`.",
        ..USUAL
    },
    Sentinel {
        name: "entropy_collapse",
        kinds: ON_POLICY,
        measure: Measure::ToStart(Figure::TokenEntropy),
        side: Side::Below,
        threshold: 0.2,
        meaning: "The policy has lost most of the entropy that it began with.",
        remedy: "Raise `kl.coef`, lower the learning rate or the epochs, or keep an earlier step \
            (`validation`).",
        ..USUAL
    },
    Sentinel {
        name: "deterministic",
        kinds: &["sft", "ppo", "grpo", "online_dpo", "expert_iteration", "distill"],
        measure: Measure::Plain(Figure::TokenEntropy),
        side: Side::Below,
        threshold: 0.02,
        unit: "nats",
        meaning: "The policy gives nearly the same response always, so samples teach nothing.",
        remedy: "Begin with a policy that was trained for fewer epochs, or raise `temperature`.",
        ..USUAL
    },
    Sentinel {
        name: "length_collapse",
        kinds: ON_POLICY,
        measure: Measure::ToStart(Figure::Named("response_length/mean")),
        side: Side::Below,
        threshold: 0.4,
        meaning: "Responses have become much shorter than those of the first steps.",
        remedy: "Read the rollouts: the reward may prefer short responses.",
        ..USUAL
    },
    Sentinel {
        name: "length_runaway",
        kinds: ON_POLICY,
        measure: Measure::ToStart(Figure::Named("response_length/mean")),
        threshold: 2.0,
        meaning: "Responses have become much longer than those of the first steps.",
        remedy: "Read the rollouts: the reward may prefer long responses. Penalise length or \
            compare at equal length.",
        ..USUAL
    },
    Sentinel {
        name: "duplicates",
        kinds: ON_POLICY,
        measure: plain(DUPLICATES),
        threshold: 0.3,
        meaning: "Different prompts get the same response.",
        remedy: "Read the rollouts: the policy may ignore prompts. Raise `kl.coef`.",
        ..USUAL
    },
    Sentinel {
        name: "duplicate_prompts",
        kinds: ON_POLICY,
        measure: plain(DUPLICATE_PROMPTS),
        threshold: 0.3,
        meaning: "Many prompts of a step are the same text, so a step has less data than its size \
            says.",
        remedy: "Remove duplicates from the split, or look for a template that drops the prompt.",
        ..USUAL
    },
    Sentinel {
        name: "constant_reward",
        kinds: REWARDED,
        measure: plain(SCORE_STD),
        side: Side::AtMost,
        threshold: 1e-6,
        unit: "score",
        over: Over::Each(2),
        meaning: "All responses of a step have one reward, so advantages have no variance that \
            quality explains.",
        remedy: "Look at the parts of the reward in the rollouts: one that never varies teaches \
            nothing.",
        ..USUAL
    },
    Sentinel {
        name: "groups_without_signal",
        kinds: &["grpo", "online_dpo", "expert_iteration"],
        measure: plain("frac_reward_zero_std"),
        threshold: 0.8,
        meaning: "The responses to most prompts have one reward, so most of a step has no \
            gradient.",
        remedy: "Choose prompts of another difficulty, raise `samples_per_prompt` or \
            `temperature`, or use `dynamic_sampling` (`grpo`).",
        ..USUAL
    },
    Sentinel {
        name: "reward_against_held_out",
        kinds: REWARDED,
        threshold: 0.3,
        unit: "score",
        over: Over::Each(2),
        meaning: "The reward still rises while the held-out score (`validation`) falls: the \
            reward model is over-optimised.",
        remedy: "Keep the best step (`validation.keep: best`), stop earlier or raise `kl.coef`.",
        ..USUAL
    },
    Sentinel {
        name: "kl_runaway",
        kinds: ON_POLICY,
        measure: plain("objective/kl_token"),
        threshold: 1.5,
        unit: "nats",
        meaning: "The policy is far from its reference.",
        remedy: "Raise `kl.coef`, lower the learning rate, or take fewer steps.",
        ..USUAL
    },
    Sentinel {
        name: "update_kl",
        kinds: &["ppo", "grpo"],
        measure: plain("policy/approxkl_avg"),
        threshold: 0.5,
        unit: "nats^2",
        meaning: "The policy moves far within a step, so its responses are those of another \
            policy.",
        remedy: "Lower the learning rate, or take fewer `epochs` or `minibatches`.",
        ..USUAL
    },
    Sentinel {
        name: "clip_fraction",
        kinds: &["ppo", "grpo"],
        measure: plain("policy/clipfrac_avg"),
        threshold: 0.6,
        meaning: "Most ratios are clipped, so most tokens of an update have no gradient.",
        remedy: "Lower the learning rate, or take fewer `epochs` or `minibatches`.",
        ..USUAL
    },
    Sentinel {
        name: "unexplained_value",
        kinds: &["ppo"],
        measure: plain("critic/vf_explained_var"),
        side: Side::Below,
        threshold: -0.1,
        over: Over::Mean(20),
        meaning: "The value function predicts returns worse than their mean does.",
        remedy: "Raise `value.clip.coef` or `value.head_ratio`, or give it `value.warmup` steps.",
        ..USUAL
    },
    Sentinel {
        name: "idle_value",
        kinds: &["ppo"],
        measure: Measure::Size(Figure::Named("critic/vf_explained_var")),
        side: Side::AtMost,
        threshold: 0.001,
        over: Over::Each(10),
        meaning: "The value function explains nothing of the returns: it says the same everywhere.",
        remedy: "Raise `value.clip.coef`, `value.head_ratio` or the learning rate.",
        ..USUAL
    },
    Sentinel {
        name: "loss_rise",
        kinds: ROWS,
        measure: Measure::ToStart(Figure::Named("loss")),
        threshold: 1.5,
        over: Over::Mean(5),
        meaning: "The loss is well above that of the first steps: training diverges.",
        remedy: "Lower the learning rate or lengthen its warm-up.",
        ..USUAL
    },
    Sentinel {
        name: "accuracy_at_chance",
        kinds: &["reward_model"],
        measure: plain("accuracy"),
        side: Side::Below,
        threshold: 0.55,
        over: Over::Mean(20),
        after: 0.5,
        meaning: "The reward model orders the pairs that it trains on no better than chance.",
        remedy: "Look at the pairs: labels may be random, or texts cut to the same beginning. \
            Else raise the learning rate or the epochs.",
        ..USUAL
    },
    Sentinel {
        name: "held_out_at_chance",
        kinds: &["reward_model"],
        measure: plain("validation/accuracy"),
        side: Side::Below,
        threshold: 0.55,
        over: Over::Each(2),
        after: 0.5,
        meaning: "The reward model orders the validation pairs no better than chance.",
        remedy: "Compare the labels of both splits: those of one may be swapped. Else it has \
            learned its rows by heart: give more rows.",
        ..USUAL
    },
    Sentinel {
        name: "preferences_at_chance",
        kinds: &["dpo"],
        measure: plain("rewards/accuracies"),
        side: Side::Below,
        threshold: 0.55,
        over: Over::Mean(20),
        after: 0.5,
        meaning: "The policy prefers chosen answers no more often than chance.",
        remedy: "Look at the pairs and at the reference's rows; raise the learning rate.",
        ..USUAL
    },
    Sentinel {
        name: "margin_not_positive",
        kinds: &["kto"],
        measure: plain("rewards/margins"),
        side: Side::AtMost,
        threshold: 0.0,
        unit: "reward",
        over: Over::Mean(20),
        after: 0.5,
        meaning: "Desirable answers have no greater implicit reward than undesirable ones.",
        remedy: "Compare the splits `desirable` and `undesirable`; raise the learning rate.",
        ..USUAL
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_whole_and_its_name_is_unique() {
        for (at, sentinel) in SENTINELS.iter().enumerate() {
            let Sentinel { name, kinds, meaning, remedy, over, after, .. } = sentinel;
            assert!(SENTINELS[..at].iter().all(|other| other.name != *name), "{name} twice");
            let is_snake = name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
            assert!(is_snake && !name.is_empty(), "{name}");
            assert!(kinds.iter().all(|kind| ALL.contains(kind)) && !kinds.is_empty(), "{name}");
            assert!(meaning.ends_with('.') && remedy.ends_with('.'), "{name}");
            assert!(over.steps() > 0 && (0.0..1.0).contains(after), "{name}");
            let waits_for_held_out = sentinel.measure == Measure::AgainstHeldOut;
            assert_eq!(waits_for_held_out, *name == "reward_against_held_out", "{name}");
        }
        for kind in ALL {
            assert!(of(kind).count() >= 3, "{kind}");
        }
    }
}
