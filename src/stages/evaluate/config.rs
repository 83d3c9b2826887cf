//! The config of `evaluate`, with the values that are out of range and the conditions on other
//! stages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::distributions_config::DistributionsConfig;
use super::optimum_config::OptimumConfig;
use super::own_metrics_config::OwnMetricConfig;
use super::quality::QualityConfig;
use super::similarity::SimilarityConfig;
use super::{REFERENCE, REWARD_MODEL};
use crate::reference::{
    Artefact, Dataset as DatasetArtefact, Judgements, Place, Policy, Ref, RewardModel, Samples,
};
use crate::stages::diversity::DiversityConfig;
use crate::stages::lineage::OnLeak;
use crate::stages::{Checks, Constraint, Problem, Rule};

/// The config of `uses: evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateStage {
    /// Dataset with the test sets and their references.
    pub dataset: Ref<DatasetArtefact>,
    /// Names of the test sets without `test/`, in the order of the table; an empty list means all.
    #[serde(default)]
    pub test_sets: Vec<String>,
    /// Methods that are compared, in the order of the table.
    pub methods: Vec<Method>,
    /// Reward model that scores every text; without one the table has no `rm`.
    #[serde(default)]
    pub reward_model: Option<Ref<RewardModel>>,
    /// Policy that KL is measured from; without one the table has no `kl` of policies.
    #[serde(default)]
    pub reference_policy: Option<Ref<Policy>>,
    /// Dataset with held-out preference pairs of the same test sets, or of some of them.
    #[serde(default)]
    pub preferences: Option<Ref<DatasetArtefact>>,
    /// Judge of wins against the reference; without one the table has no `win_rate`.
    #[serde(default)]
    pub judge: Option<Judge>,
    /// Further judges by name; each has the stages `judge` that judged a method, by the name of the
    /// method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, BTreeMap<String, Ref<Judgements>>>,
    /// Metrics of your own by name, each with the stages `metric` whose program gives that number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, OwnMetricConfig>,
    /// What people say of two methods, by name: each measure is held against it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<String, PeopleConfig>,
    /// Longest prompt in tokens that models read; a longer prompt loses its beginning. `null` cuts
    /// nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Measures of the diversity of samples.
    #[serde(default)]
    pub diversity: DiversityConfig,
    /// Quality of samples beside their diversity; without it neither classes nor good samples are
    /// counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityConfig>,
    /// How alike samples of one input are, within a method and between methods; without it they are
    /// not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<SimilarityConfig>,
    /// Measures of methods' own distributions, which need their models; without it the models are
    /// not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributions: Option<DistributionsConfig>,
    /// Optimum of the KL-regularised objective; `null` estimates none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimum: Option<OptimumConfig>,
    /// Treatment of rows that a model was trained on; `allow` also admits a reward model that is
    /// not held out.
    #[serde(default)]
    pub on_leak: OnLeak,
    /// Seed of the signs that differences are tested with, and of the letters that
    /// `nli_released_sampled` draws.
    #[serde(default)]
    pub seed: u64,
}

/// One method.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Name of the method in the table.
    pub name: String,
    /// One output for each row of each test set; scores and win rates are of these.
    #[serde(default)]
    pub outputs: Option<Ref<Samples>>,
    /// Several samples for some rows of each test set; diversity and KL are of these.
    #[serde(default)]
    pub samples: Option<Ref<Samples>>,
    /// Policy of the method, if a stage `ppo` trained it: its rollouts give KL and reward of each
    /// step, and it is compared with best-of-n at the same KL.
    #[serde(default)]
    pub policy: Option<Ref<Policy>>,
    /// Name of the method that this one was made from: `attribution.json` then has what each stage
    /// of training changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Model that the method's samples are drawn from, for `distributions`, where it is no
    /// `policy`, which is one too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Ref<Policy>>,
}

impl Method {
    /// The model that its samples are drawn from, where it names one.
    pub(super) fn own_model(&self) -> Option<&Ref<Policy>> {
        self.model.as_ref().or(self.policy.as_ref())
    }
}

/// Two methods that people have compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleConfig {
    /// Name of the method whose texts were `a` of the stage `judge`.
    pub a: String,
    /// Name of the method whose texts were `b`, or `reference`.
    pub b: String,
    /// The stage `judge`, with `people`.
    pub judgements: Ref<Judgements>,
}

/// Who decides wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The synthetic world's exact score.
    Gold,
    /// The reward model, which the methods were optimised against: not an independent judge.
    RewardModel,
}

impl Judge {
    /// Who it is, for below the table.
    pub(super) fn who(self) -> &'static str {
        match self {
            Judge::Gold => "the synthetic world's exact score",
            Judge::RewardModel => "the reward model whose score is `rm`",
        }
    }
}

impl EvaluateStage {
    /// Values out of range.
    pub(super) fn out_of_range(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.require(!self.methods.is_empty(), "methods", "expected at least one method");
        checks.positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        self.check_fields(&mut checks);
        self.quality.iter().for_each(|quality| quality.out_of_range(&mut checks));
        self.metrics.iter().for_each(|(name, own)| own.check(&mut checks, name, &self.methods));
        if let Some(optimum) = &self.optimum {
            optimum.check(&mut checks);
        }
        if let Some(similarity) = &self.similarity {
            let samples = self.methods.iter().any(|method| method.samples.is_some());
            similarity.check(&mut checks, samples, self.diversity.encoder.is_some());
        }
        if let Some(distributions) = &self.distributions {
            let models = self.methods.iter().any(|method| method.own_model().is_some());
            distributions.check(&mut checks, models, self.reference_policy.is_some());
        }
        for (at, method) in self.methods.iter().enumerate() {
            let taken = [REFERENCE, REWARD_MODEL].contains(&method.name.as_str());
            let twice = self.methods[..at].iter().any(|other| other.name == method.name);
            checks.require(
                !taken && !twice,
                &format!("methods.{at}.name"),
                format!("the table already has a method `{}`", method.name),
            );
            checks.require(
                method.outputs.is_some() || method.samples.is_some(),
                &format!("methods.{at}"),
                "expected `outputs`, `samples`, or both",
            );
            let field = format!("methods.{at}.model");
            checks
                .require(
                    method.policy.is_none() || method.model.is_none(),
                    &field,
                    "expected `policy` or `model`, not both: `policy` is the method's model too",
                )
                .require(
                    self.distributions.is_some() || method.model.is_none(),
                    &field,
                    "nothing reads it without `distributions`: remove it, or add them",
                );
        }
        for (at, method) in self.methods.iter().enumerate() {
            let Some(after) = &method.after else { continue };
            checks.require(
                self.methods.iter().any(|other| other.name == *after),
                &format!("methods.{at}.after"),
                format!("there is no method `{after}`"),
            );
            checks.require(
                !self.is_made_from_itself(method),
                &format!("methods.{at}.after"),
                format!("`{}` is made from itself", method.name),
            );
        }
        for (name, people) in &self.people {
            checks.require(
                is_plain(name),
                "people",
                format!("expected a name of letters, digits, `_` and `-`, found `{name}`"),
            );
            for (field, side) in [("a", &people.a), ("b", &people.b)] {
                let is_method = self.methods.iter().any(|method| method.name == *side);
                checks.require(
                    is_method || (field == "b" && side == REFERENCE),
                    &format!("people.{name}.{field}"),
                    format!("there is no method `{side}`"),
                );
            }
            checks.require(
                people.a != people.b,
                &format!("people.{name}.b"),
                "expected another method than `a`",
            );
        }
        for (name, judged) in &self.judges {
            let has_outputs = |name: &String| {
                self.methods.iter().any(|method| method.name == *name && method.outputs.is_some())
            };
            let stranger = judged.keys().find(|name| !has_outputs(name));
            checks
                .require(
                    is_plain(name),
                    "judges",
                    format!("expected a name of letters, digits, `_` and `-`, found `{name}`"),
                )
                .require(
                    !judged.is_empty(),
                    &format!("judges.{name}"),
                    "expected at least one method",
                )
                .require(
                    stranger.is_none(),
                    &format!("judges.{name}"),
                    stranger.map_or_else(String::new, |name| {
                        format!("there is no method `{name}` with `outputs`")
                    }),
                );
        }
        checks.done()
    }

    /// Whether the methods that a method was made from lead back to it, or to a circle.
    fn is_made_from_itself(&self, method: &Method) -> bool {
        let mut next = method.after.as_ref();
        for _ in &self.methods {
            let Some(before) =
                next.and_then(|name| self.methods.iter().find(|other| other.name == *name))
            else {
                return false;
            };
            next = before.after.as_ref();
        }
        next.is_some()
    }

    /// The conditions on stages `judge`: each judged what is evaluated here.
    pub(super) fn constraints_of_judges(&self) -> Vec<Constraint> {
        let outputs: Vec<String> =
            self.methods.iter().filter_map(|method| node(method.outputs.as_ref()?)).collect();
        let mut constraints = Vec::new();
        for (name, judged) in &self.judges {
            let first = judged.values().next().and_then(node);
            for (method, reference) in judged {
                let own = self
                    .methods
                    .iter()
                    .find(|other| other.name == *method)
                    .and_then(|method| node(method.outputs.as_ref()?));
                let (Some(judging), Some(first), Some(own), Some(dataset)) =
                    (node(reference), &first, own, node(&self.dataset))
                else {
                    continue;
                };
                let constraint = |inner: &str, rule| Constraint {
                    field: format!("judges.{name}.{method}"),
                    node: judging.clone(),
                    inner: inner.into(),
                    rule,
                };
                constraints.extend([
                    constraint("a", Rule::Is(own)),
                    constraint("dataset", Rule::Is(dataset)),
                ]);
                constraints.extend(
                    ["b", "judge.reward_model", "judge.llm", "max_prompt_tokens"]
                        .map(|inner| constraint(inner, Rule::AsIn(first.clone()))),
                );
                if self.on_leak != OnLeak::Allow {
                    constraints
                        .push(constraint("judge.reward_model", Rule::NoPartIn(outputs.clone())));
                }
            }
        }
        constraints
    }
}

impl EvaluateStage {
    /// The conditions on the stage whose candidates the optimum is estimated from.
    pub(super) fn constraints_of_optimum(&self) -> Vec<Constraint> {
        let Some(candidates) = self.optimum.as_ref().and_then(|own| node(&own.candidates)) else {
            return Vec::new();
        };
        let policy = self.reference_policy.as_ref().and_then(node);
        OptimumConfig::constraints(candidates, policy, self.reward_model.as_ref().and_then(node))
    }
}

impl EvaluateStage {
    /// The conditions on stages whose samples are measured with a model: they are drawn from it.
    pub(super) fn constraints_of_distributions(&self) -> Vec<Constraint> {
        let Some(distributions) = &self.distributions else { return Vec::new() };
        let own = self.methods.iter().enumerate().filter_map(|(at, method)| {
            let field = format!("methods.{at}.samples");
            Some((field, node(method.samples.as_ref()?)?, node(method.own_model()?)?))
        });
        let reference = distributions.reference_samples.as_ref().and_then(|samples| {
            let field = "distributions.reference_samples".to_owned();
            Some((field, node(samples)?, node(self.reference_policy.as_ref()?)?))
        });
        own.chain(reference)
            .map(|(field, samples, policy)| DistributionsConfig::constraint(field, samples, policy))
            .collect()
    }
}

impl EvaluateStage {
    /// The conditions on stages `metric`: each has the number, measured what is evaluated here, and
    /// did so by the same program as the others of its metric.
    pub(super) fn constraints_of_metrics(&self) -> Vec<Constraint> {
        let mut constraints = Vec::new();
        for (name, own) in &self.metrics {
            let first = own.methods.values().next().and_then(node);
            for (method, reference) in &own.methods {
                let (Some(measuring), Some(first)) = (node(reference), &first) else { continue };
                let constraint = |inner: &str, rule| Constraint {
                    field: format!("metrics.{name}.methods.{method}"),
                    node: measuring.clone(),
                    inner: inner.into(),
                    rule,
                };
                let number = format!("values.{name}");
                constraints.push(constraint(&number, Rule::IsSet));
                let config = self.methods.iter().find(|other| other.name == *method);
                let samples = config.and_then(|method| own.of.of(method)).and_then(node);
                constraints.extend(samples.map(|node| constraint("samples", Rule::Is(node))));
                let same = ["run", "files", "env", "per", "dataset", &number];
                constraints.extend(same.map(|inner| constraint(inner, Rule::AsIn(first.clone()))));
            }
        }
        constraints
    }
}

/// Whether a name can be a part of a metric's name.
fn is_plain(name: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
    !name.is_empty() && name.chars().all(is_plain)
}

/// The node that is referred to, before it is made.
fn node<A: Artefact>(reference: &Ref<A>) -> Option<String> {
    match reference.place() {
        Place::Stage(name) => Some(name.to_owned()),
        Place::Path(_) => None,
    }
}
