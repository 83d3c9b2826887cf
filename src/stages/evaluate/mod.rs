//! `evaluate`: the result table. Every method on every test set: performance, distance from the
//! reference policy, length, diversity, with 95% intervals over inputs; and the reward model's
//! accuracy on held-out pairs. Beside the table, what curves and comparisons are drawn from.
//!
//! 1. Performance is of `outputs` (the first of each input), diversity and KL of `samples` (several
//!    an input, at temperature 1).
//! 2. `kl` of a policy: mean over inputs of the mean over samples of log p - log p_reference,
//!    summed over tokens (k1). Of best-of-N: its upper bound log N - (N-1)/N, which needs no
//!    samples.
//! 3. At equal KL a policy and best-of-n are compared on their samples alone: KL, scores and
//!    diversity are of the same texts at the same temperature, and the difference has the error of
//!    all of them.
//! 4. The references are a method too, as far as one text an input goes: they tie with themselves,
//!    and they are diverse across inputs.
//! 5. Diversity per input is compared between methods on the inputs that all have as many samples
//!    of.
//! 6. Beside its own judge, which scores texts, it takes verdicts that `judge` stages have
//!    given (`judging.rs`).

mod accuracy;
mod curves;
mod diversity;
mod equal_kl;
mod judging;
mod leaks;
mod measuring;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::accuracy::Accuracy;
use self::curves::{Candidates, Curve, Training, distance, temperature};
use self::diversity::{Diversity, DiversityConfig, Measures};
use self::equal_kl::{AtEqualKl, PolicySamples};
use self::judging::Judging;
use self::measuring::{Answers, Judges, Scores, Text};
use super::artefacts::{self, normalisation};
use super::lineage::OnLeak;
use super::models::{self, Forms};
use super::{Bond, Checks, Problem, Rule, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::{Dataset, test_split};
use crate::data::rows::{self, Example};
use crate::data::samples::{Output, Sampled};
use crate::error::{Context as _, Result, user};
use crate::eval::compare::{Matched, Measured, differences, differences_of, gaps, head_to_head};
use crate::eval::interval::{Clusters, Interval, average, of_share};
use crate::eval::{best_of_n, win};
use crate::fs;
use crate::model::memory::Memory;
use crate::model::params::Top;
use crate::reference::{
    Artefact, Dataset as DatasetArtefact, Judgements, Place, Policy, Ref, RewardModel, Samples,
};
use crate::report::inputs::{Answer, Input};
use crate::report::run::{Comparisons, Evaluation, Temperatures};
use crate::report::table::{Row, Table, WIDTH};
use crate::report::text::{markdown, text};

/// The config of `uses: evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Test sets with references.
    pub dataset: Ref<DatasetArtefact>,
    /// Their names, without `test/`, in the order of the table; all, where none are named.
    #[serde(default)]
    pub test_sets: Vec<String>,
    /// What is compared, in the order of the table.
    pub methods: Vec<Method>,
    /// Scores every text.
    pub reward_model: Ref<RewardModel>,
    /// What KL is measured from.
    pub reference_policy: Ref<Policy>,
    /// Held-out preference pairs of the same test sets, or of some of them.
    #[serde(default)]
    pub preferences: Option<Ref<DatasetArtefact>>,
    /// Who decides wins against the reference.
    pub judge: Judge,
    /// Further judges by name, each with the stages `judge` that have judged methods, by the
    /// methods' names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, BTreeMap<String, Ref<Judgements>>>,
    /// Tokens of a prompt that models are given; more are cut off its beginning. `null` cuts
    /// nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// What is measured of samples' diversity.
    #[serde(default)]
    pub diversity: DiversityConfig,
    /// What to do with rows that a model was trained on; `allow` also lets a reward model judge
    /// that is not held out.
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
    /// Its name in the table.
    pub name: String,
    /// One output for each row of each test set.
    pub outputs: Ref<Samples>,
    /// Several samples for some rows of each test set.
    pub samples: Ref<Samples>,
    /// The policy, where it was trained by reinforcement: its rollouts tell how far it moved and
    /// what it gained, step by step, and it is compared with best-of-n at its own KL.
    #[serde(default)]
    pub policy: Option<Ref<Policy>>,
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
    fn who(self) -> &'static str {
        match self {
            Judge::Gold => "the synthetic world's exact score",
            Judge::RewardModel => "the reward model whose score is `rm`",
        }
    }
}

/// The exact score.
const GOLD: &str = "gold";
/// The reward model's score.
const REWARD: &str = "rm";
/// The name of the references among the methods.
const REFERENCE: &str = "reference";
/// The name of the reward model among the methods.
const REWARD_MODEL: &str = "reward_model";
/// A part of gold that fewer answers than this cover is warned of.
const HARDLY_EVER: f64 = 0.2;

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 8;
    const OUTPUT: &'static str = "evaluation";
    const THREADS: Option<usize> = None;
    const ON_DEVICE: bool = true;

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.require(!self.methods.is_empty(), "methods", "expected at least one method");
        checks.require(
            self.max_prompt_tokens != Some(0),
            "max_prompt_tokens",
            "expected at least 1, or null",
        );
        if let Some((metric, field)) = self.diversity.lacks() {
            checks.require(
                false,
                "diversity.metrics",
                format!("`{}` needs `{field}`", metric.name()),
            );
        }
        let both = self.diversity.nli.is_some() && self.diversity.classifier.is_some();
        checks.require(!both, "diversity.classifier", "expected `nli` or `classifier`, not both");
        for (at, method) in self.methods.iter().enumerate() {
            let taken = [REFERENCE, REWARD_MODEL].contains(&method.name.as_str());
            let twice = self.methods[..at].iter().any(|other| other.name == method.name);
            checks.require(
                !taken && !twice,
                &format!("methods.{at}.name"),
                format!("the table already has a method `{}`", method.name),
            );
        }
        for (name, judged) in &self.judges {
            let plain = !name.is_empty()
                && name
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
            let stranger =
                judged.keys().find(|name| self.methods.iter().all(|method| method.name != **name));
            checks
                .require(
                    plain,
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
                    stranger
                        .map_or_else(String::new, |name| format!("there is no method `{name}`")),
                );
        }
        checks.done()
    }

    fn bonds(&self) -> Vec<Bond> {
        let outputs: Vec<String> =
            self.methods.iter().filter_map(|method| node(&method.outputs)).collect();
        let mut bonds = Vec::new();
        for (name, judged) in &self.judges {
            let first = judged.values().next().and_then(node);
            for (method, reference) in judged {
                let own = self
                    .methods
                    .iter()
                    .find(|other| other.name == *method)
                    .and_then(|method| node(&method.outputs));
                let (Some(judging), Some(first), Some(own), Some(dataset)) =
                    (node(reference), &first, own, node(&self.dataset))
                else {
                    continue;
                };
                let bond = |inner, rule| Bond {
                    field: format!("judges.{name}.{method}"),
                    node: judging.clone(),
                    inner,
                    rule,
                };
                bonds.extend([bond("a", Rule::Is(own)), bond("dataset", Rule::Is(dataset))]);
                bonds.extend(
                    ["b", "judge.reward_model", "judge.llm", "max_prompt_tokens"]
                        .map(|inner| bond(inner, Rule::AsIn(first.clone()))),
                );
                if self.on_leak != OnLeak::Allow {
                    bonds.push(bond("judge.reward_model", Rule::NoPartIn(outputs.clone())));
                }
            }
        }
        bonds
    }

    fn memory(&self, forms: &Forms) -> Option<Memory> {
        let ((spec, top), (reward, _)) =
            (forms.model(&self.reference_policy)?, forms.model(&self.reward_model)?);
        let shared = forms.shared(&self.reference_policy, &self.reward_model);
        let mut memory = models::scoring(&spec, top)
            .beside(models::scoring(&reward, Top::Reward).sharing(&reward, shared));
        for folder in [&self.diversity.encoder, &self.diversity.nli].into_iter().flatten() {
            let (spec, top) = forms.folder(folder)?;
            memory = memory.beside(models::scoring(&spec, top));
        }
        if let Some(classifier) = &self.diversity.classifier {
            let (spec, top) = forms.model(classifier)?;
            memory = memory.beside(models::scoring(&spec, top));
        }
        Some(memory)
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let dataset = Dataset::open(self.dataset.path())?;
        let all = dataset.tests().into_iter().map(String::from).collect();
        let test_sets: &Vec<String> =
            if self.test_sets.is_empty() { &all } else { &self.test_sets };
        let preferences = self.preferences(context, test_sets)?;
        let mut judgings = Judging::read(self)?;
        let rows =
            leaks::rows(self, context, (&dataset, preferences.as_ref()), test_sets, &mut judgings)?;
        let policy = artefacts::load(b, self.reference_policy.path())?;
        let judge = Judges {
            b,
            reward: artefacts::load_beside(
                b,
                self.reward_model.path(),
                &policy,
                self.reference_policy.path(),
            )?,
            normalisation: normalisation(self.reward_model.path())?,
            policy,
            max_prompt: self.max_prompt_tokens.unwrap_or(usize::MAX),
        };
        let methods: Vec<Answers> =
            self.methods.iter().map(Answers::read).collect::<Result<_>>()?;
        let measures =
            Measures::load(b, &self.diversity, judge.policy.tokenizer.size(), self.seed)?;
        let mut found = Found::default();
        for (at, test_set) in test_sets.iter().enumerate() {
            context.progress(at as u64, test_sets.len() as u64, &[]);
            let examples = &rows.examples[test_set];
            let place = || format!("in test set `{test_set}`");
            let warned = (at == 0).then_some(context);
            self.test_set(
                warned, &mut found, &judge, &judgings, &measures, test_set, examples, &methods,
            )
            .with_context(place)?;
            if let Some(pairs) = rows.pairs.get(test_set) {
                let place = || format!("in the preferences of {test_set}");
                accuracy::measure(&mut found, &judge, test_set, pairs).with_context(place)?;
            }
            if context.stop_requested() {
                return context.interrupted();
            }
        }
        found.temperatures = methods.iter().map(Answers::temperatures).collect();
        for (config, method) in self.methods.iter().zip(&methods) {
            if let Some(policy) = &config.policy {
                found.trainings.extend(Training::read(method, policy.path(), &dataset)?);
            }
        }
        context.progress(test_sets.len() as u64, test_sets.len() as u64, &[]);
        rows.found.write(context.out())?;
        found.write(context.out(), self.judge, &judgings, &rows.found.notes(), self.seed)
    }
}

impl Evaluate {
    /// The preference pairs, if there are any: of one test set at least.
    fn preferences(&self, context: &Context, test_sets: &[String]) -> Result<Option<Dataset>> {
        let Some(preferences) = &self.preferences else { return Ok(None) };
        let pairs = Dataset::open(preferences.path())?;
        let (with, without): (Vec<&String>, Vec<&String>) =
            test_sets.iter().partition(|test_set| pairs.tests().contains(&test_set.as_str()));
        let listed = |names: &[&String]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        if with.is_empty() {
            let message =
                format!("`preferences` has no pairs of the test sets {}", listed(&without));
            return Err(user(message)
                .hint(format!("its test sets: {}", pairs.tests().join(", ")))
                .into());
        }
        if !without.is_empty() {
            context.warn(format!(
                "`preferences` has no pairs of {}: the reward model's accuracy is not measured \
                 there",
                listed(&without)
            ));
        }
        Ok(Some(pairs))
    }
}

/// All that is found, test set by test set.
#[derive(Default)]
struct Found {
    table: Table,
    measured: Vec<Measured>,
    matched: Vec<AtEqualKl>,
    curves: Vec<Curve>,
    diversity: Vec<Diversity>,
    reward: Vec<Accuracy>,
    trainings: Vec<Training>,
    temperatures: Vec<Temperatures>,
    /// Each input with every method's answer.
    inputs: Vec<Input>,
}

impl Found {
    /// The files of the artefact.
    fn write(
        &self,
        out: &Path,
        judge: Judge,
        judgings: &[Judging],
        leaks: &[String],
        seed: u64,
    ) -> Result<()> {
        let pairs: Vec<(&Measured, &Measured)> =
            self.matched.iter().map(|one| (&one.method, &one.best)).collect();
        let matched =
            self.matched.iter().zip(differences_of(&pairs, seed)).map(|(one, difference)| {
                Matched {
                    kl: one.kl.mean,
                    kl_interval: one.kl,
                    temperature: one.temperature,
                    own: average(&one.method.values),
                    best: average(&one.best.values),
                    difference,
                }
            });
        let comparisons = Comparisons {
            differences: differences(&self.measured, seed),
            head_to_head: head_to_head(&self.measured, &[GOLD, REWARD]),
            gaps: gaps(&self.measured),
            matched: matched.collect(),
        };
        rows::write_jsonl(&out.join("inputs.jsonl"), &self.inputs)?;
        let json = |name: &str, bytes: serde_json::Result<Vec<u8>>| {
            fs::write_atomic(&out.join(name), &bytes?)
        };
        json("comparisons.json", serde_json::to_vec_pretty(&comparisons))?;
        json("temperatures.json", serde_json::to_vec_pretty(&self.temperatures))?;
        json("best_of_n.json", serde_json::to_vec_pretty(&self.curves))?;
        json("diversity.json", serde_json::to_vec_pretty(&self.diversity))?;
        json("reward_model.json", serde_json::to_vec_pretty(&self.reward))?;
        json("over_optimisation.json", serde_json::to_vec_pretty(&self.trainings))?;
        let notes: Vec<String> = judgings.iter().map(Judging::note).collect();
        if !judgings.is_empty() {
            json("judges.json", serde_json::to_vec_pretty(judgings))?;
            json("notes.json", serde_json::to_vec_pretty(&notes))?;
        }
        let own = format!(
            "win_rate: share of inputs won against the references, as judged by {}.",
            judge.who()
        );
        let shown = Evaluation {
            table: self.table.clone(),
            comparisons,
            judges: [own].into_iter().chain(notes).collect(),
            leaks: leaks.to_vec(),
            temperatures: self.temperatures.clone(),
            ..Evaluation::default()
        };
        fs::write_atomic(&out.join("table.json"), self.table.json().as_bytes())?;
        fs::write_atomic(&out.join("table.txt"), text(&shown, WIDTH).as_bytes())?;
        fs::write_atomic(&out.join("table.md"), markdown(&shown).as_bytes())?;
        fs::write_atomic(&out.join("metrics.jsonl"), metrics(&self.table).as_bytes())
    }
}

/// One line a row of the table, the figure under `METHOD/TEST_SET/METRIC`.
fn metrics(table: &Table) -> String {
    let name = |row: &Row| format!("{}/{}/{}", row.method, row.test_set, row.metric);
    let object: serde_json::Map<String, serde_json::Value> =
        table.rows.iter().map(|row| (name(row), row.figure.mean.into())).collect();
    format!("{}\n", serde_json::Value::Object(object))
}

impl Evaluate {
    /// The rows of a test set; parts that are hardly ever covered are told to `warned`.
    #[allow(clippy::too_many_arguments)]
    fn test_set<B: Backend>(
        &self,
        warned: Option<&Context>,
        found: &mut Found,
        judge: &Judges<'_, B>,
        judgings: &[Judging],
        measures: &Measures<'_, B>,
        test_set: &str,
        examples: &[Example],
        methods: &[Answers],
    ) -> Result<()> {
        let split = test_split(test_set);
        let references: Vec<Text<'_>> = examples
            .iter()
            .map(|example| Text { text: &example.completion, ended: true })
            .collect();
        let reference = Scores::of(judge, examples, &references)?;

        let mut inputs: Vec<Input> = examples
            .iter()
            .map(|example| Input::new(test_set, &example.id, &example.prompt))
            .collect();
        let mut diverse: Vec<(&Answers, Vec<&Sampled>)> = Vec::new();
        let (mut candidates, mut policies): (Vec<Candidates>, Vec<PolicySamples>) =
            (Vec::new(), Vec::new());
        for (method, config) in methods.iter().zip(&self.methods) {
            let rows: Vec<&Sampled> = examples
                .iter()
                .map(|example| method.row(&method.outputs, &split, example))
                .collect::<Result<_>>()?;
            let outputs: Vec<&Output> = rows
                .iter()
                .map(|row| row.outputs.first().context("every row has an output"))
                .collect::<Result<_>>()?;
            let texts: Vec<Text<'_>> = outputs
                .iter()
                .map(|output| Text { text: &output.text, ended: output.ended })
                .collect();
            let scores = Scores::of(judge, examples, &texts)?;
            let name = &method.name;
            scores.rows(&mut found.table, name, test_set);
            let (own, other) = (scores.judged(self.judge)?, reference.judged(self.judge)?);
            let wins = win::outcomes(own, other);
            found.table.rows.push(Row::new(name, test_set, "win_rate", of_share(&wins)));
            let values = scores.measured(name, test_set, wins);
            let judged = judgings
                .iter()
                .filter_map(|judging| judging.of(name, test_set, examples).transpose())
                .collect::<Result<Vec<_>>>()?;
            for (at, ((input, output), example)) in
                inputs.iter_mut().zip(&outputs).zip(examples).enumerate()
            {
                let row = method.samples.get(&(split.clone(), example.id.clone()));
                let samples = row
                    .iter()
                    .flat_map(|row| &row.outputs)
                    .map(|output| output.text.clone())
                    .collect();
                let mut answer = Answer { samples, ..answer(name, &output.text, &values, at) };
                answer.scores.extend(
                    judged.iter().filter_map(|judged| {
                        Some((judged.metric.clone(), Some(judged.scores[at]?)))
                    }),
                );
                input.answers.push(answer);
            }
            found.measured.extend(values);
            for judged in judged {
                let measured = judged.measured(found, name, test_set);
                found.measured.push(measured);
            }
            let samples: Vec<&Sampled> = examples
                .iter()
                .filter_map(|example| method.samples.get(&(split.clone(), example.id.clone())))
                .collect();
            if samples.is_empty() {
                return Err(user(format!(
                    "the samples of method `{name}` have no row of test set `{test_set}`"
                ))
                .into());
            }
            if let Some(context) = warned {
                warn_of_lost_slots(context, method, test_set, &scores);
                warn_of_a_shared_pool(context, name, samples[0]);
            }
            if let Some(own) = Candidates::of(name, test_set, examples, &rows, &samples) {
                found.curves.extend(own.curves());
                found.curves.extend(own.diversity());
                candidates.push(own);
            }
            let kl = match (rows[0].best_of, samples[0].temperature) {
                (Some(n), _) => Some(Interval::exact(best_of_n::kl_bound(n), rows.len())),
                (None, Some(of_first)) => {
                    let kl = judge.kl(&samples, of_first)?;
                    let interval = distance(&Clusters::each(kl.len()), &kl);
                    if config.policy.is_some() && temperature(&samples).is_some() {
                        policies.push(PolicySamples {
                            method: name,
                            temperature: of_first,
                            rows: samples.clone(),
                            kl,
                        });
                    }
                    Some(interval)
                }
                (None, None) => None,
            };
            found.table.rows.extend(kl.map(|interval| Row::new(name, test_set, "kl", interval)));
            diverse.push((method, samples));
        }
        reference.rows(&mut found.table, REFERENCE, test_set);
        let own = reference.judged(self.judge)?;
        let ties = win::outcomes(own, own);
        found.table.rows.push(Row::new(
            REFERENCE,
            test_set,
            "win_rate",
            Interval::exact(0.5, ties.len()),
        ));
        let values = reference.measured(REFERENCE, test_set, ties);
        for (at, (input, example)) in inputs.iter_mut().zip(examples).enumerate() {
            input.answers.push(answer(REFERENCE, &example.completion, &values, at));
        }
        found.inputs.extend(inputs);
        let common = as_many(&diverse);
        measures.test_set(found, test_set, examples, &diverse, &common)?;
        for policy in &policies {
            for best in &candidates {
                found.match_kl(judge, test_set, examples, policy, best, &common)?;
            }
        }
        Ok(())
    }
}

/// The inputs that every method has samples of, and as many: sets of other sizes do not compare.
fn as_many<'a>(methods: &[(&Answers, Vec<&'a Sampled>)]) -> BTreeSet<&'a str> {
    let sizes = |rows: &[&'a Sampled]| -> BTreeMap<&'a str, usize> {
        rows.iter()
            .filter(|row| !row.outputs.is_empty())
            .map(|row| (row.id.as_str(), row.outputs.len()))
            .collect()
    };
    let mut all = methods.iter().map(|(_, rows)| sizes(rows));
    let Some(mut common) = all.next() else { return BTreeSet::new() };
    all.for_each(|other| common.retain(|id, size| other.get(id) == Some(size)));
    common.into_keys().collect()
}

/// The node that is referred to, before it is made.
fn node<A: Artefact>(reference: &Ref<A>) -> Option<String> {
    match reference.place() {
        Place::Stage(name) => Some(name.to_owned()),
        Place::Path(_) => None,
    }
}

/// What a method answers to the input at `at`, with what was measured of it.
fn answer(method: &str, text: &str, measured: &[Measured], at: usize) -> Answer {
    let scores = measured
        .iter()
        .map(|measured| (measured.metric.clone(), Some(measured.values[at])))
        .collect();
    Answer { method: method.into(), text: text.into(), scores, samples: Vec::new() }
}

/// Samples of best-of-n that are chosen from the same few candidates are the same few texts.
fn warn_of_a_shared_pool(context: &Context, method: &str, row: &Sampled) {
    let (outputs, n, pool) = (row.outputs.len(), row.best_of.unwrap_or(0), row.candidates.len());
    if pool < outputs * n {
        context.warn(format!(
            "method `{method}`: its {outputs} samples of an input, each the best of {n}, share \
             {pool} candidates: they look less diverse than best-of-{n} is"
        ));
    }
}

fn warn_of_lost_slots(context: &Context, method: &Answers, test_set: &str, scores: &Scores) {
    let lost = scores.parts.iter().filter_map(|(part, values)| {
        let (slot, mean) =
            (part.strip_prefix("coverage_")?, values.iter().sum::<f64>() / values.len() as f64);
        (mean < HARDLY_EVER).then(|| format!("`{slot}` ({:.0}%)", 100.0 * mean))
    });
    let lost: Vec<String> = lost.collect();
    if !lost.is_empty() {
        context.warn(format!(
            "method `{}`: hardly an answer in `{test_set}` covers {}",
            method.name,
            lost.join(", ")
        ));
    }
}
