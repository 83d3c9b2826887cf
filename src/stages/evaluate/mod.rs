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
//! 6. Beside its own judge, which scores texts, it takes verdicts that `judge` stages have given
//!    (`judging.rs`).
//! 7. Models, judge, outputs and samples are optional. What takes one that is absent is left out,
//!    and named below the table with the reason (`left_out.rs`).

mod accuracy;
mod curves;
mod diversity;
mod equal_kl;
mod judging;
mod leaks;
mod left_out;
mod measuring;
mod reading;
mod required;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::accuracy::Accuracy;
use self::curves::{Candidates, Curve, Training, distance, temperature};
use self::diversity::{Diversity, DiversityConfig, Measures};
use self::equal_kl::{AtEqualKl, PolicySamples};
use self::judging::Judging;
use self::left_out::LeftOut;
use self::measuring::{Answers, Judges, Scores, Text};
use super::lineage::OnLeak;
use super::models::{self, Forms, ModelForm};
use super::reading::Reading;
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
use crate::model::params::HeadKind;
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
    /// Longest prompt in tokens that models read; a longer prompt loses its beginning. `null` cuts
    /// nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Measures of the diversity of samples.
    #[serde(default)]
    pub diversity: DiversityConfig,
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
/// What a text scores against itself.
const TIE: f64 = 0.5;
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
        self.check_fields(&mut checks);
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
        }
        for (name, judged) in &self.judges {
            let plain = !name.is_empty()
                && name
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter));
            let has_outputs = |name: &String| {
                self.methods.iter().any(|method| method.name == *name && method.outputs.is_some())
            };
            let stranger = judged.keys().find(|name| !has_outputs(name));
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
                    stranger.map_or_else(String::new, |name| {
                        format!("there is no method `{name}` with `outputs`")
                    }),
                );
        }
        checks.done()
    }

    fn bonds(&self) -> Vec<Bond> {
        let outputs: Vec<String> =
            self.methods.iter().filter_map(|method| node(method.outputs.as_ref()?)).collect();
        let mut bonds = Vec::new();
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
        let mut models: Vec<Memory> = Vec::new();
        if let Some(policy) = &self.reference_policy {
            let (spec, head) = forms.model(policy)?;
            models.push(models::scoring(&spec, head));
        }
        if let Some(reward_model) = &self.reward_model {
            let (spec, _) = forms.model(reward_model)?;
            let shared =
                self.reference_policy.as_ref().and_then(|own| forms.shared(own, reward_model));
            models.push(models::scoring(&spec, HeadKind::Reward).sharing(&spec, shared));
        }
        for folder in [&self.diversity.encoder, &self.diversity.nli].into_iter().flatten() {
            let ModelForm { spec, head, .. } = forms.folder(folder)?;
            models.push(models::scoring(&spec, head));
        }
        if let Some(classifier) = &self.diversity.classifier {
            let (spec, head) = forms.model(classifier)?;
            models.push(models::scoring(&spec, head));
        }
        models.into_iter().reduce(Memory::beside)
    }

    fn readings(&self, forms: &Forms) -> Vec<Reading> {
        reading::readings(self, forms)
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
        let judge = Judges::load(b, self)?;
        let methods: Vec<Answers> =
            self.methods.iter().map(Answers::read).collect::<Result<_>>()?;
        let tokens = judge.policy.as_ref().map(|policy| policy.tokenizer.size());
        let measures = Measures::load(context, b, &self.diversity, tokens, self.seed)?;
        for method in &methods {
            method.check_samples(&rows.examples)?;
        }
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
            if let (Some(pairs), Some(reward)) = (rows.pairs.get(test_set), &judge.reward) {
                let place = || format!("in the preferences of {test_set}");
                accuracy::measure(&mut found, &judge, reward, test_set, pairs)
                    .with_context(place)?;
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
        let left_out = std::mem::take(&mut found.left_out).finish(context, self, test_sets)?;
        let notes = Below { leaks: rows.found.notes(), left_out };
        found.write(context.out(), self.judge, &judgings, notes, self.seed)
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

/// Sentences below the table.
struct Below {
    /// On rows that models were trained on.
    leaks: Vec<String>,
    /// On what is left out.
    left_out: Vec<String>,
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
    left_out: LeftOut,
}

impl Found {
    /// The files of the artefact.
    fn write(
        &self,
        out: &Path,
        judge: Option<Judge>,
        judgings: &[Judging],
        Below { leaks, left_out }: Below,
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
        let own = judge.map(|judge| {
            format!(
                "win_rate: share of inputs won against the references, as judged by {}.",
                judge.who()
            )
        });
        let shown = Evaluation {
            table: self.table.clone(),
            comparisons,
            judges: own.into_iter().chain(notes).collect(),
            leaks,
            left_out,
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
    #[expect(clippy::too_many_arguments)]
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
        let mut inputs: Vec<Input> = examples
            .iter()
            .map(|example| Input::new(test_set, &example.id, &example.prompt))
            .collect();
        let reference = match methods.iter().any(|method| method.outputs.is_some()) {
            true => Some(Scores::of(judge, &split, examples, &references(examples))?),
            false => None,
        };
        if reference.as_ref().is_some_and(|reference| reference.gold.is_none()) {
            found.left_out.note(&[GOLD], None, test_set, "its rows are of no synthetic world");
        }
        let mut diverse: Vec<(&Answers, Vec<&Sampled>)> = Vec::new();
        let (mut candidates, mut policies): (Vec<Candidates>, Vec<PolicySamples>) =
            (Vec::new(), Vec::new());
        for (method, config) in methods.iter().zip(&self.methods) {
            let name = &method.name;
            let rows: Option<Vec<&Sampled>> = method
                .outputs
                .as_ref()
                .map(|outputs| {
                    examples.iter().map(|example| method.row(outputs, &split, example)).collect()
                })
                .transpose()?;
            if let (Some(rows), Some(reference)) = (&rows, &reference) {
                let of = (name.as_str(), test_set, examples);
                let scores = self.outputs(
                    found,
                    &mut inputs,
                    judge,
                    judgings,
                    of,
                    (rows, reference, method),
                )?;
                if let Some(context) = warned {
                    warn_of_lost_slots(context, method, test_set, &scores);
                }
            }
            let samples: Vec<&Sampled> =
                examples.iter().filter_map(|example| method.sampled(&split, &example.id)).collect();
            if let (Some(context), Some(row)) = (warned, samples.first()) {
                warn_of_a_shared_pool(context, name, row);
            }
            let own = rows
                .as_ref()
                .and_then(|rows| Candidates::of(name, test_set, examples, rows, &samples));
            if let Some(own) = own {
                found.curves.extend(own.curves());
                found.curves.extend(own.diversity());
                candidates.push(own);
            }
            let chosen = rows.as_ref().unwrap_or(&samples).first().and_then(|row| row.best_of);
            if let Some(n) = chosen {
                let of = rows.as_ref().unwrap_or(&samples).len();
                let interval = Interval::exact(best_of_n::kl_bound(n), of);
                found.table.rows.push(Row::new(name, test_set, "kl", interval));
            } else if !samples.is_empty() {
                policies.extend(found.kl(judge, config, (test_set, examples), &samples)?);
            }
            match (&method.samples, samples.is_empty()) {
                (_, false) => diverse.push((method, samples)),
                (Some(_), true) => found.left_out.no_row(name, test_set, chosen.is_some()),
                (None, true) => {}
            }
        }
        if let Some(reference) = &reference {
            self.references(found, &mut inputs, reference, test_set, examples);
            found.inputs.extend(inputs);
        }
        let common = as_many(&diverse);
        measures.test_set(found, test_set, examples, &diverse, &common)?;
        for policy in &policies {
            for best in &candidates {
                found.match_kl(judge, test_set, examples, policy, best, &common)?;
            }
        }
        Ok(())
    }

    /// What is measured of a method's outputs, `rows`, one for each example.
    fn outputs<B: Backend>(
        &self,
        found: &mut Found,
        inputs: &mut [Input],
        judge: &Judges<'_, B>,
        judgings: &[Judging],
        (name, test_set, examples): (&str, &str, &[Example]),
        (rows, reference, method): (&[&Sampled], &Scores, &Answers),
    ) -> Result<Scores> {
        let split = test_split(test_set);
        let outputs: Vec<&Output> = rows
            .iter()
            .map(|row| row.outputs.first().context("every row has an output"))
            .collect::<Result<_>>()?;
        let texts: Vec<Text<'_>> =
            outputs.iter().map(|output| Text { text: &output.text, ended: output.ended }).collect();
        let scores = Scores::of(judge, &split, examples, &texts)?;
        scores.rows(&mut found.table, name, test_set);
        let wins = match self.judge {
            Some(judge) => {
                let wins = win::outcomes(scores.judged(judge)?, reference.judged(judge)?);
                found.table.rows.push(Row::new(name, test_set, "win_rate", of_share(&wins)));
                Some(wins)
            }
            None => None,
        };
        let values = scores.measured(name, test_set, wins);
        let judged = judgings
            .iter()
            .filter_map(|judging| judging.of(name, test_set, examples).transpose())
            .collect::<Result<Vec<_>>>()?;
        for (at, ((input, output), example)) in
            inputs.iter_mut().zip(&outputs).zip(examples).enumerate()
        {
            let samples = method
                .sampled(&split, &example.id)
                .iter()
                .flat_map(|row| &row.outputs)
                .map(|output| output.text.clone())
                .collect();
            let mut answer = Answer { samples, ..answer(name, &output.text, &values, at) };
            answer.scores.extend(
                judged
                    .iter()
                    .filter_map(|judged| Some((judged.metric.clone(), Some(judged.scores[at]?)))),
            );
            input.answers.push(answer);
        }
        found.measured.extend(values);
        for judged in judged {
            let measured = judged.measured(found, name, test_set);
            found.measured.push(measured);
        }
        Ok(scores)
    }

    /// The references as a method: they tie with themselves.
    fn references(
        &self,
        found: &mut Found,
        inputs: &mut [Input],
        reference: &Scores,
        test_set: &str,
        examples: &[Example],
    ) {
        reference.rows(&mut found.table, REFERENCE, test_set);
        let ties = self.judge.map(|_| vec![TIE; examples.len()]);
        if let Some(ties) = &ties {
            let interval = Interval::exact(TIE, ties.len());
            found.table.rows.push(Row::new(REFERENCE, test_set, "win_rate", interval));
        }
        let values = reference.measured(REFERENCE, test_set, ties);
        for (at, (input, example)) in inputs.iter_mut().zip(examples).enumerate() {
            input.answers.push(answer(REFERENCE, &example.completion, &values, at));
        }
    }
}

impl Found {
    /// How far a policy's samples are from the reference policy, in the table; and the samples
    /// themselves, where it was trained by reinforcement and they are of one temperature.
    fn kl<'a>(
        &mut self,
        judge: &Judges<'_, impl Backend>,
        Method { name, policy: trained, .. }: &'a Method,
        (test_set, examples): (&str, &[Example]),
        samples: &[&'a Sampled],
    ) -> Result<Option<PolicySamples<'a>>> {
        let Some(policy) = &judge.policy else { return Ok(None) };
        let Some(of_first) = samples[0].temperature else {
            let why = "its samples are greedy or of a cut distribution, which has no KL";
            self.left_out.note(&["kl"], Some(name), test_set, why);
            return Ok(None);
        };
        let kl = judge.kl(policy, &test_split(test_set), (examples, samples), of_first)?;
        let interval = distance(&Clusters::each(kl.len()), &kl);
        self.table.rows.push(Row::new(name, test_set, "kl", interval));
        let is_matched = trained.is_some() && temperature(samples).is_some();
        Ok(is_matched.then(|| PolicySamples {
            method: name,
            temperature: of_first,
            rows: samples.to_vec(),
            kl,
        }))
    }
}

/// The references of a test set.
fn references(examples: &[Example]) -> Vec<Text<'_>> {
    examples.iter().map(|example| Text { text: &example.completion, ended: true }).collect()
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
