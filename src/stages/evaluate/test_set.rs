//! The measures of one test set: every method's outputs and samples, and the references.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{EvaluateStage, Method};
use super::curves::{Candidates, distance};
use super::equal_kl::PolicySamples;
use super::judging::Judging;
use super::measuring::{Answers, Judges, Scores, Text, temperature};
use super::optimum::Pool;
use super::quality::QualityConfig;
use super::{Found, GOLD, REFERENCE};
use crate::artefacts::inputs::{Answer, Input};
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::dataset::test_split;
use crate::data::rows::Example;
use crate::data::samples::{Output, Sampled};
use crate::error::{Context as _, Result};
use crate::eval::compare::Measured;
use crate::eval::interval::{Clusters, Interval, of_share};
use crate::eval::{best_of_n, win};
use crate::stages::diversity::Measures;

/// What a text scores against itself.
const TIE: f64 = 0.5;
/// A part of gold that fewer answers than this cover is warned of.
const HARDLY_EVER: f64 = 0.2;

impl EvaluateStage {
    /// The rows of a test set; parts that are hardly ever covered are told to `warned`.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn test_set<B: Backend>(
        &self,
        warned: Option<&Context>,
        found: &mut Found,
        judge: &Judges<'_, B>,
        judgings: &[Judging],
        measures: &Measures<'_, B>,
        test_set: &str,
        examples: &[Example],
        methods: &[Answers],
        pool: Option<&Pool<'_>>,
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
        if let Some(similarity) = &self.similarity {
            similarity.test_set(found, measures, (test_set, examples), &diverse)?;
        }
        if let Some(quality) = &self.quality {
            quality.test_set(warned, found, (judge, measures), (test_set, examples), &diverse)?;
        }
        found.own_samples(judge, (test_set, examples), &diverse)?;
        for policy in policies.iter().filter(|policy| policy.trained) {
            for best in &candidates {
                found.match_kl(judge, test_set, examples, policy, best, &common)?;
                if let Some(QualityConfig { by, .. }) = self.quality {
                    let of = (test_set, examples);
                    found.match_quality(judge, by, of, policy, (best, &common))?;
                }
            }
        }
        if let Some(pool) = pool {
            let of = (test_set, examples);
            self.optimum(found, judge, pool, of, reference.as_ref(), &policies)?;
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
    /// themselves, where they are of one temperature.
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
        Ok(temperature(samples).map(|_| PolicySamples {
            method: name,
            trained: trained.is_some(),
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
pub(super) fn as_many<'a>(methods: &[(&Answers, Vec<&'a Sampled>)]) -> BTreeSet<&'a str> {
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
