//! `evaluate`: the result table. Every method on every test set: performance, distance from the reference policy, length, diversity, with
//! bootstrap 95% intervals over inputs; and the reward model's accuracy on held-out pairs.
//!
//! 1. Performance is of `outputs` (the first of each input), diversity and KL of `samples` (several an input, at temperature 1).
//! 2. `kl` of a policy: mean over inputs of the mean over samples of log p - log p_reference, summed over tokens (k1). Of best-of-N: its
//!    upper bound log N - (N-1)/N, which needs no samples.
//! 3. The texts of all methods on one test set are resampled with the same indices.
//! 4. The references are a method too, as far as one text an input goes: they tie with themselves, and they are diverse across inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::artefacts::{self, Loaded, normalisation};
use super::models::{self, Forms};
use super::{Checks, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::{Dataset, test_split};
use crate::data::rows::{self, Example, Preference};
use crate::data::samples::{self, Output, Sampled};
use crate::data::world::gold;
use crate::error::{Context as _, Result, user};
use crate::eval::bootstrap::{Interval, RESAMPLES, Resamples};
use crate::eval::compare::{Difference, Gap, Measured, differences, gaps};
use crate::eval::diversity::{self, Ngrams, VOCABULARY};
use crate::eval::{best_of_n, reward, text, win};
use crate::fs;
use crate::model::memory::Memory;
use crate::model::params::Top;
use crate::model::score::{self, MICRO_BATCH_TOKENS};
use crate::random::Stream;
use crate::reference::{Dataset as DatasetArtefact, Policy, Ref, RewardModel, Samples};
use crate::report::inputs::{Answer, Input};
use crate::report::table::{Row, Table, WIDTH};
use crate::rl::preference::Normalisation;
use crate::sample::scoring::{self, Group};

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
    /// Held-out preference pairs of the same test sets.
    #[serde(default)]
    pub preferences: Option<Ref<DatasetArtefact>>,
    /// Who decides wins against the reference.
    pub judge: Judge,
    /// Tokens of a prompt that models are given; more are cut off its beginning. `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Seed of the bootstrap.
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
    /// The metric that it decides by.
    fn metric(self) -> &'static str {
        match self {
            Judge::Gold => GOLD,
            Judge::RewardModel => REWARD,
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
/// A slot that fewer summaries than this state is warned of.
const HARDLY_EVER: f64 = 0.2;

impl Stage for Evaluate {
    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 4;
    const OUTPUT: &'static str = "evaluation";
    const THREADS: Option<usize> = None;
    const ON_DEVICE: bool = true;

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks.require(!self.methods.is_empty(), "methods", "expected at least one method");
        checks.require(self.max_prompt_tokens != Some(0), "max_prompt_tokens", "expected at least 1, or null");
        for (at, method) in self.methods.iter().enumerate() {
            let taken = [REFERENCE, REWARD_MODEL].contains(&method.name.as_str());
            let twice = self.methods[..at].iter().any(|other| other.name == method.name);
            checks.require(!taken && !twice, &format!("methods.{at}.name"), format!("the table already has a method `{}`", method.name));
        }
        checks.done()
    }

    fn memory(&self, forms: &Forms) -> Option<Memory> {
        let ((spec, top), (reward, _)) = (forms.model(&self.reference_policy)?, forms.model(&self.reward_model)?);
        Some(models::scoring(&spec, top).beside(models::scoring(&reward, Top::Reward)))
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let judge = Judges {
            b,
            reward: artefacts::load(b, self.reward_model.path())?,
            normalisation: normalisation(self.reward_model.path())?,
            policy: artefacts::load(b, self.reference_policy.path())?,
            max_prompt: self.max_prompt_tokens.unwrap_or(usize::MAX),
        };
        let dataset = Dataset::open(self.dataset.path())?;
        let all = dataset.tests().into_iter().map(String::from).collect();
        let test_sets: &Vec<String> = if self.test_sets.is_empty() { &all } else { &self.test_sets };
        let methods: Vec<Answers> = self.methods.iter().map(Answers::read).collect::<Result<_>>()?;
        let (mut table, mut measured, mut curves, mut inputs) = (Table::default(), Vec::new(), Vec::new(), Vec::new());
        for (at, test_set) in test_sets.iter().enumerate() {
            context.progress(at as u64, test_sets.len() as u64, &[]);
            let examples: Vec<Example> = dataset.split(&test_split(test_set))?;
            let place = || format!("in test set `{test_set}`");
            let warned = (at == 0).then_some(context);
            let found = self.test_set(warned, &mut table, &judge, test_set, &examples, &methods).with_context(place)?;
            measured.extend(found.measured);
            curves.extend(found.curves);
            inputs.extend(found.inputs);
            if let Some(preferences) = &self.preferences {
                let pairs: Vec<Preference> = Dataset::open(preferences.path())?.split(&test_split(test_set))?;
                self.reward_accuracy(&mut table, &judge, test_set, &pairs).with_context(|| format!("in the preferences of {test_set}"))?;
            }
            if context.stop_requested() {
                return context.interrupted();
            }
        }
        context.progress(test_sets.len() as u64, test_sets.len() as u64, &[]);
        let compared = Compared { differences: differences(&measured, self.seed), gaps: gaps(&measured, self.seed) };
        fs::write_atomic(&context.out().join("comparisons.json"), &serde_json::to_vec_pretty(&compared)?)?;
        fs::write_atomic(&context.out().join("best_of_n.json"), &serde_json::to_vec_pretty(&curves)?)?;
        rows::write_jsonl(&context.out().join("inputs.jsonl"), &inputs)?;
        let comparisons = compared.table(self.judge.metric());
        fs::write_atomic(&context.out().join("table.json"), table.json().as_bytes())?;
        let text = format!("{}\n{}", table.text(WIDTH), comparisons.text(WIDTH));
        fs::write_atomic(&context.out().join("table.txt"), text.as_bytes())?;
        let markdown = format!("{}\n{}", table.markdown(), comparisons.markdown());
        fs::write_atomic(&context.out().join("table.md"), markdown.as_bytes())?;
        fs::write_atomic(&context.out().join("metrics.jsonl"), metrics(&table).as_bytes())
    }
}

/// What one test set comes to, beside its rows of the table.
struct Found {
    measured: Vec<Measured>,
    curves: Vec<Curve>,
    /// Each input with every method's answer: `inputs.jsonl`.
    inputs: Vec<Input>,
}

/// What best-of-n gives for every n, from the same candidates: one of `best_of_n.json`.
#[derive(Serialize)]
struct Curve {
    method: String,
    test_set: String,
    /// `rm`, by which candidates are picked, or `gold`.
    metric: String,
    /// For n = 1, 2, ....
    by_n: Vec<Interval>,
    /// The most nats that best-of-n is away from its policy, for n = 1, 2, ....
    kl_bound: Vec<f64>,
}

impl Curve {
    /// The curves of a method whose rows keep their candidates; none of any other.
    fn of(method: &str, test_set: &str, examples: &[Example], rows: &[&Sampled], resamples: &Resamples) -> Vec<Curve> {
        let scores: Option<Vec<Vec<f64>>> = rows
            .iter()
            .map(|row| row.candidates.iter().map(|candidate| candidate.reward).collect::<Option<Vec<f64>>>().filter(|all| !all.is_empty()))
            .collect();
        let Some(scores) = scores else { return Vec::new() };
        let golds: Option<Vec<Vec<f64>>> = examples
            .iter()
            .zip(rows)
            .map(|(example, row)| {
                let score =
                    |facts| row.candidates.iter().map(|candidate| gold::gold(facts, &candidate.text, candidate.ended).score).collect();
                example.facts.as_ref().map(score)
            })
            .collect();
        let one = |metric: &str, values: &[Vec<f64>]| {
            let inputs: Vec<(Vec<f64>, Vec<f64>)> = scores.iter().cloned().zip(values.iter().cloned()).collect();
            let by_n = best_of_n::curve(&inputs, resamples);
            let kl_bound = (1..=by_n.len()).map(best_of_n::kl_bound).collect();
            Curve { method: method.into(), test_set: test_set.into(), metric: metric.into(), by_n, kl_bound }
        };
        [one(REWARD, &scores)].into_iter().chain(golds.iter().map(|golds| one(GOLD, golds))).collect()
    }
}

/// What is compared with what: `comparisons.json`.
#[derive(Serialize)]
struct Compared {
    differences: Vec<Difference>,
    gaps: Vec<Gap>,
}

impl Compared {
    /// The comparisons by one metric, for people.
    fn table(&self, metric: &str) -> Table {
        let (differences, gaps) = (self.differences.iter(), self.gaps.iter());
        let differences = differences.filter(|difference| difference.metric == metric).map(|difference| {
            let pair = format!("{} - {}", difference.method, difference.with);
            Row::new(&pair, &difference.test_set, &format!("{metric}_difference"), difference.interval)
        });
        let gaps = gaps.filter(|gap| gap.metric == metric).map(|gap| {
            let way = format!("{} - {}", gap.from, gap.to);
            Row::new(&gap.method, &way, &format!("{metric}_gap"), gap.interval)
        });
        Table { rows: differences.chain(gaps).collect() }
    }
}

/// One line a row of the table, the figure under `METHOD/TEST_SET/METRIC`.
fn metrics(table: &Table) -> String {
    let name = |row: &Row| format!("{}/{}/{}", row.method, row.test_set, row.metric);
    let object: serde_json::Map<String, serde_json::Value> = table.rows.iter().map(|row| (name(row), row.mean.into())).collect();
    format!("{}\n", serde_json::Value::Object(object))
}

/// A method's texts, by split and row.
struct Answers {
    name: String,
    outputs: BTreeMap<(String, String), Sampled>,
    samples: BTreeMap<(String, String), Sampled>,
}

impl Answers {
    fn read(method: &Method) -> Result<Self> {
        let keyed = |folder: &std::path::Path| -> Result<BTreeMap<(String, String), Sampled>> {
            Ok(samples::read(folder)?.into_iter().map(|row| ((row.split.clone(), row.id.clone()), row)).collect())
        };
        Ok(Answers { name: method.name.clone(), outputs: keyed(method.outputs.path())?, samples: keyed(method.samples.path())? })
    }
}

/// What texts are measured with.
struct Judges<'a, B: Backend> {
    b: &'a B,
    reward: Loaded<B>,
    normalisation: Normalisation,
    policy: Loaded<B>,
    max_prompt: usize,
}

/// A text to be judged.
struct Text<'a> {
    text: &'a str,
    ended: bool,
}

impl<B: Backend> Judges<'_, B> {
    /// The reward model's normalised score of one text for each prompt.
    fn rewards(&self, prompts: &[&str], texts: &[&str]) -> Result<Vec<f64>> {
        let sequences: Vec<Vec<u32>> = prompts
            .iter()
            .zip(texts)
            .map(|(prompt, text)| {
                let (mut prompt, response) = self.reward.tokenizer.encode_example(prompt, text)?;
                prompt.drain(..prompt.len().saturating_sub(self.max_prompt));
                Ok([prompt, response].concat())
            })
            .collect::<Result<_>>()?;
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        self.reward.check("the reward model", &sequences)?;
        let raw = score::last_scalars(self.b, &self.reward.model, &sequences);
        Ok(raw.into_iter().map(|raw| self.normalisation.apply(f64::from(raw))).collect())
    }

    /// log p - log p_reference of every sample, meant over the samples of each row.
    fn kl(&self, rows: &[&Sampled], temperature: f64) -> Result<Vec<f64>> {
        let encode = |row: &&Sampled| -> Result<Vec<u32>> {
            let mut prompt = self.policy.tokenizer.encode_prompt(&row.prompt)?;
            prompt.drain(..prompt.len().saturating_sub(self.max_prompt));
            Ok(prompt)
        };
        let prompts: Vec<Vec<u32>> = rows.iter().map(encode).collect::<Result<_>>()?;
        let mut groups = Vec::with_capacity(rows.len());
        for (row, prompt) in rows.iter().zip(&prompts) {
            groups.push(Group { prompt, responses: row.outputs.iter().map(|output| output.tokens.as_slice()).collect() });
        }
        for group in &groups {
            let sequences: Vec<Vec<u32>> = group.responses.iter().map(|response| [group.prompt, response].concat()).collect();
            self.policy.check("the reference policy", &sequences.iter().map(Vec::as_slice).collect::<Vec<&[u32]>>())?;
        }
        let scored = scoring::response_logprobs(self.b, &self.policy.model, &groups, temperature as f32, MICRO_BATCH_TOKENS).concat();
        let mut sums = scored.iter().map(|logprobs| logprobs.iter().map(|logprob| f64::from(*logprob)).sum::<f64>());
        let mean = |row: &&Sampled| {
            let log_ratios = row.outputs.iter().map(|output| output.logprob - sums.next().expect("a sum for every sample"));
            log_ratios.sum::<f64>() / row.outputs.len() as f64
        };
        Ok(rows.iter().map(mean).collect())
    }
}

impl Evaluate {
    /// The rows of a test set; slots that are hardly ever stated are told to `warned`.
    fn test_set(
        &self,
        warned: Option<&Context>,
        table: &mut Table,
        judge: &Judges<'_, impl Backend>,
        test_set: &str,
        examples: &[Example],
        methods: &[Answers],
    ) -> Result<Found> {
        let (mut measured, mut curves) = (Vec::new(), Vec::new());
        let mut inputs: Vec<Input> = examples.iter().map(|example| Input::new(test_set, &example.id, &example.prompt)).collect();
        let split = test_split(test_set);
        let resamples = Resamples::new(examples.len(), RESAMPLES, &Stream::new(self.seed, &split));
        let prompts: Vec<&str> = examples.iter().map(|example| example.prompt.as_str()).collect();
        let references: Vec<Text<'_>> = examples.iter().map(|example| Text { text: &example.completion, ended: true }).collect();
        let reference = Scores::of(judge, examples, &prompts, &references)?;

        let mut diverse: Vec<(&Answers, Vec<&Sampled>)> = Vec::new();
        for method in methods {
            let rows: Vec<&Sampled> = examples.iter().map(|example| method.row(&method.outputs, &split, example)).collect::<Result<_>>()?;
            let outputs: Vec<&Output> =
                rows.iter().map(|row| row.outputs.first().context("every row has an output")).collect::<Result<_>>()?;
            let texts: Vec<Text<'_>> = outputs.iter().map(|output| Text { text: &output.text, ended: output.ended }).collect();
            let scores = Scores::of(judge, examples, &prompts, &texts)?;
            let name = &method.name;
            scores.rows(table, &resamples, name, test_set);
            let (own, other) = (scores.judged(self.judge)?, reference.judged(self.judge)?);
            let wins = win::outcomes(own, other);
            table.rows.push(Row::new(name, test_set, "win_rate", resamples.mean(&wins)));
            let values = scores.measured(name, test_set, wins);
            for (at, (input, output)) in inputs.iter_mut().zip(&outputs).enumerate() {
                input.answers.push(answer(name, &output.text, &values, at));
            }
            measured.extend(values);
            if let Some(context) = warned {
                warn_of_lost_slots(context, method, test_set, &scores);
            }

            curves.extend(Curve::of(name, test_set, examples, &rows, &resamples));

            let samples: Vec<&Sampled> =
                examples.iter().filter_map(|example| method.samples.get(&(split.clone(), example.id.clone()))).collect();
            if samples.is_empty() {
                return Err(user(format!("the samples of method `{name}` have no row of test set `{test_set}`")).into());
            }
            for (input, example) in inputs.iter_mut().zip(examples) {
                let row = method.samples.get(&(split.clone(), example.id.clone()));
                let answer = input.answers.last_mut().expect("this method's was pushed");
                answer.samples = row.iter().flat_map(|row| &row.outputs).map(|output| output.text.clone()).collect();
            }
            let kl = match (rows[0].best_of, samples[0].temperature) {
                (Some(n), _) => {
                    let bound = best_of_n::kl_bound(n);
                    Some(Interval { mean: bound, low: bound, high: bound, n: rows.len() })
                }
                (None, Some(temperature)) => {
                    let inputs = Resamples::new(samples.len(), RESAMPLES, &Stream::new(self.seed, &format!("{split} samples")));
                    Some(inputs.mean(&judge.kl(&samples, temperature)?))
                }
                (None, None) => None,
            };
            table.rows.extend(kl.map(|interval| Row::new(name, test_set, "kl", interval)));
            diverse.push((method, samples));
        }
        reference.rows(table, &resamples, REFERENCE, test_set);
        let own = reference.judged(self.judge)?;
        let ties = win::outcomes(own, own);
        table.rows.push(Row::new(REFERENCE, test_set, "win_rate", resamples.mean(&ties)));
        let values = reference.measured(REFERENCE, test_set, ties);
        for (at, (input, example)) in inputs.iter_mut().zip(examples).enumerate() {
            input.answers.push(answer(REFERENCE, &example.completion, &values, at));
        }
        self.diversity(table, test_set, examples, &diverse);
        Ok(Found { measured, curves, inputs })
    }

    /// EAD of whole texts, and of texts cut to the length that at least half of every method's texts reach. References, of which an input
    /// has one, vary across the inputs that the first method has samples of.
    fn diversity(&self, table: &mut Table, test_set: &str, examples: &[Example], methods: &[(&Answers, Vec<&Sampled>)]) {
        let sampled: BTreeSet<&str> = methods.iter().take(1).flat_map(|(_, rows)| rows.iter().map(|row| row.id.as_str())).collect();
        let references = examples.iter().filter(|example| sampled.contains(example.id.as_str()));
        let mut sets: Vec<(&str, Vec<Vec<&str>>)> = Vec::new();
        for (method, rows) in methods {
            let inputs = rows.iter().map(|row| row.outputs.iter().map(|output| output.text.as_str()).collect());
            sets.push((&method.name, inputs.collect()));
        }
        sets.push((REFERENCE, references.map(|example| vec![example.completion.as_str()]).collect()));
        let all: Vec<Vec<String>> = sets.iter().map(|(_, inputs)| inputs.concat().iter().map(|text| text.to_string()).collect()).collect();
        let common = diversity::common_length(&all);
        for (name, inputs) in &sets {
            let firsts: Vec<&str> = inputs.iter().filter_map(|samples| samples.first().copied()).collect();
            let resamples = Resamples::new(inputs.len(), RESAMPLES, &Stream::new(self.seed, &format!("test/{test_set} samples")));
            for (suffix, length) in [("", usize::MAX), ("_matched", common)] {
                let mut push = |metric: &str, interval| table.rows.push(Row::new(name, test_set, &format!("{metric}{suffix}"), interval));
                if *name != REFERENCE {
                    let ead =
                        |samples: &Vec<&str>| Ngrams::cut(samples, length).ead(&(0..samples.len()).collect::<Vec<usize>>(), VOCABULARY);
                    push("ead_per_input", resamples.mean(&inputs.iter().map(ead).collect::<Vec<f64>>()));
                }
                let across = Ngrams::cut(&firsts, length);
                push("ead_across_inputs", resamples.set(|indices| across.ead(indices, VOCABULARY)));
            }
        }
    }

    /// Accuracy on held-out pairs: against the labels, against the gold order, and what the gold order itself reaches on the labels.
    fn reward_accuracy(&self, table: &mut Table, judge: &Judges<'_, impl Backend>, test_set: &str, pairs: &[Preference]) -> Result<()> {
        let prompts: Vec<&str> = pairs.iter().map(|pair| pair.prompt.as_str()).collect();
        let chosen = judge.rewards(&prompts, &pairs.iter().map(|pair| pair.chosen.as_str()).collect::<Vec<_>>())?;
        let rejected = judge.rewards(&prompts, &pairs.iter().map(|pair| pair.rejected.as_str()).collect::<Vec<_>>())?;
        let correct = reward::correct(&chosen, &rejected);
        let resamples = Resamples::new(pairs.len(), RESAMPLES, &Stream::new(self.seed, &format!("{test_set} pairs")));
        let mut push = |metric: &str, values: &[f64]| table.rows.push(Row::new(REWARD_MODEL, test_set, metric, resamples.mean(values)));
        push("rm_accuracy", &correct);
        if let Some(clean) = pairs.iter().map(|pair| pair.clean).collect::<Option<Vec<bool>>>() {
            let agrees: Vec<f64> =
                clean.iter().zip(&correct).map(|(clean, correct)| if *clean { *correct } else { 1.0 - correct }).collect();
            push("rm_accuracy_clean", &agrees);
            push("noise_ceiling", &clean.iter().map(|clean| f64::from(*clean)).collect::<Vec<f64>>());
        }
        Ok(())
    }
}

/// What a method answers to the input at `at`, with what was measured of it.
fn answer(method: &str, text: &str, measured: &[Measured], at: usize) -> Answer {
    let scores = measured.iter().map(|measured| (measured.metric.clone(), Some(measured.values[at]))).collect();
    Answer { method: method.into(), text: text.into(), scores, samples: Vec::new() }
}

fn warn_of_lost_slots(context: &Context, method: &Answers, test_set: &str, scores: &Scores) {
    let lost = scores.parts.iter().filter_map(|(part, values)| {
        let (slot, mean) = (part.strip_prefix("coverage_")?, values.iter().sum::<f64>() / values.len() as f64);
        (mean < HARDLY_EVER).then(|| format!("`{slot}` ({:.0}%)", 100.0 * mean))
    });
    let lost: Vec<String> = lost.collect();
    if !lost.is_empty() {
        context.warn(format!("method `{}`: hardly a summary of `{test_set}` states {}", method.name, lost.join(", ")));
    }
}

impl Answers {
    /// The row of an example, which must have been asked the same prompt.
    fn row<'a>(&self, rows: &'a BTreeMap<(String, String), Sampled>, split: &str, example: &Example) -> Result<&'a Sampled> {
        let row = rows.get(&(split.to_string(), example.id.clone())).filter(|row| row.prompt == example.prompt);
        let missing = || user(format!("the outputs of method `{}` have no row `{}` of split `{split}`", self.name, example.id));
        Ok(row.ok_or_else(|| missing().hint("generate them from the same dataset, without a `limit`"))?)
    }
}

/// Figures of one text for each example.
struct Scores {
    gold: Option<Vec<f64>>,
    parts: Vec<(String, Vec<f64>)>,
    reward: Vec<f64>,
    length: Vec<f64>,
    rouge_l: Vec<f64>,
}

impl Scores {
    fn of(judge: &Judges<'_, impl Backend>, examples: &[Example], prompts: &[&str], texts: &[Text<'_>]) -> Result<Self> {
        let words = |text: &Text<'_>| text.text.split_whitespace().count() as f64;
        let golds: Option<Vec<gold::Gold>> = examples
            .iter()
            .zip(texts)
            .map(|(example, text)| example.facts.as_ref().map(|facts| gold::gold(facts, text.text, text.ended)))
            .collect();
        let mut parts: Vec<(String, Vec<f64>)> = Vec::new();
        for gold in golds.iter().flatten() {
            for (at, (name, value)) in gold.parts().into_iter().enumerate() {
                if parts.len() <= at {
                    parts.push((name, Vec::new()));
                }
                parts[at].1.push(value);
            }
        }
        Ok(Scores {
            gold: golds.map(|golds| golds.iter().map(|gold| gold.score).collect()),
            parts,
            reward: judge.rewards(prompts, &texts.iter().map(|text| text.text).collect::<Vec<&str>>())?,
            length: texts.iter().map(words).collect(),
            rouge_l: examples.iter().zip(texts).map(|(example, text)| text::rouge_l(text.text, &example.completion)).collect(),
        })
    }

    /// What the judge says of each text.
    fn judged(&self, judge: Judge) -> Result<&[f64]> {
        match (judge, &self.gold) {
            (Judge::RewardModel, _) => Ok(&self.reward),
            (Judge::Gold, Some(gold)) => Ok(gold),
            (Judge::Gold, None) => {
                Err(user("the gold judge knows only the synthetic world").hint("set `judge: reward_model` for other data").into())
            }
        }
    }

    /// What methods are compared by.
    fn measured(&self, method: &str, test_set: &str, wins: Vec<f64>) -> Vec<Measured> {
        let one = |metric: &str, values: &[f64]| Measured {
            metric: metric.into(),
            test_set: test_set.into(),
            method: method.into(),
            values: values.to_vec(),
        };
        let gold = self.gold.iter().map(|gold| one(GOLD, gold));
        gold.chain([one(REWARD, &self.reward), one("win_rate", &wins), one("length", &self.length), one("rouge_l", &self.rouge_l)])
            .collect()
    }

    fn rows(&self, table: &mut Table, resamples: &Resamples, method: &str, test_set: &str) {
        let mut push = |metric: &str, values: &[f64]| table.rows.push(Row::new(method, test_set, metric, resamples.mean(values)));
        if let Some(gold) = &self.gold {
            push(GOLD, gold);
        }
        push(REWARD, &self.reward);
        push("length", &self.length);
        push("rouge_l", &self.rouge_l);
        for (part, values) in &self.parts {
            push(part, values);
        }
    }
}
