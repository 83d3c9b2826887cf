//! Measures of methods' own models: entropy of the next-token distribution over a method's
//! samples, branching factor by position, the forward KL, and the loss on texts of earlier phases
//! (`retention.rs`). One model at a time is on the device beside those of the other measures.
//!
//! 1. Entropies are exact: each sample goes through its own model once more, at its temperature.
//! 2. Forward KL of a method: mean over inputs of the mean over samples y of the reference policy
//!    of log p_ref(y) - log p(y), summed over tokens, both at the temperature of these samples.
//!    log p_ref is what the samples were drawn with.
//! 3. Best-of-n has no model whose next-token distribution it samples from, so it has none of this.
//!    Nor has a method of greedy or cut samples an entropy: its tokens are of another distribution.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Found;
use super::config::{EvaluateStage, Method};
use super::curves::distance;
use super::distributions_config::DistributionsConfig;
use super::leaks::Rows;
use super::measuring::{Answers, Judges, log_ratios, temperature};
use crate::artefacts::distributions::{
    BRANCHING_FACTOR, ByPosition, DISTRIBUTIONS, FORWARD_KL, TOKEN_ENTROPY,
};
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::data::dataset::test_split;
use crate::data::rows::Example;
use crate::data::samples::Sampled;
use crate::error::{Context as _, Result, user};
use crate::eval::compare::{Measured, of_values};
use crate::eval::interval::Clusters;
use crate::eval::token_entropy::{self, branching_factor, by_position};
use crate::fs;
use crate::sample::scoring::TokenScore;
use crate::stages::model_files::{self, Loaded, have_one_tokenizer};

/// What is found beside the table.
#[derive(Default)]
pub(super) struct Distributions {
    /// Branching factors by position.
    curves: Vec<ByPosition>,
}

impl Distributions {
    /// The file, where there is a curve.
    pub(super) fn write(&self, out: &Path) -> Result<()> {
        match self.curves.is_empty() {
            true => Ok(()),
            false => fs::write_atomic(
                &out.join(DISTRIBUTIONS),
                &serde_json::to_vec_pretty(&self.curves)?,
            ),
        }
    }
}

/// A method's entropies on a test set, in the order of its rows.
struct Entropies<'a> {
    method: &'a str,
    test_set: &'a str,
    /// Mean over the tokens of each input's samples.
    by_input: Vec<(&'a str, f64)>,
}

/// Samples of the reference policy, by test set, where they have rows of it; with their
/// temperature.
type Reference = BTreeMap<String, (Vec<Sampled>, f64)>;

impl DistributionsConfig {
    /// The measures of every method that names its model, on every test set. `told` hears of each
    /// model that is done, and says whether to stop.
    pub(super) fn measure<B: Backend>(
        &self,
        found: &mut Found,
        judge: &Judges<'_, B>,
        config: &EvaluateStage,
        (test_sets, Rows { examples, retention, .. }): (&[String], &Rows),
        methods: &[Answers],
        mut told: impl FnMut() -> bool,
    ) -> Result<()> {
        let reference = self.reference(found, test_sets, examples)?;
        let mut measured: Vec<(&Method, &Answers, &Path)> = Vec::new();
        for (method, answers) in config.methods.iter().zip(methods) {
            match (method.own_model(), answers.is_best_of_n()) {
                (Some(model), false) => measured.push((method, answers, model.path())),
                (None, false) => self.leave_out(found, method, test_sets, "it names no `model`"),
                (_, true) => {
                    self.leave_out(
                        found,
                        method,
                        test_sets,
                        "best-of-n has no model: it chooses among samples",
                    );
                }
            }
        }
        self.check_tokenizers(config, &measured)?;
        let mut entropies: Vec<Entropies<'_>> = Vec::new();
        for (method, answers, folder) in measured {
            let model = model_files::load(judge.b, folder)?;
            for (texts, rows) in self.retention.iter().zip(retention) {
                let place = || format!("`{}` of method `{}`", texts.metric(), method.name);
                let cut = config.max_prompt_tokens;
                found
                    .retention(judge.b, (method, &model), (texts, rows), cut)
                    .with_context(place)?;
            }
            for test_set in test_sets {
                let place = || format!("method `{}`, test set `{test_set}`", method.name);
                let of = (test_set.as_str(), examples[test_set].as_slice());
                entropies.extend(
                    found.entropies(judge, (method, &model), of, answers).with_context(place)?,
                );
                if let Some((rows, temperature)) = reference.get(test_set) {
                    found
                        .forward_kl(judge, (method, &model), of, (rows, *temperature))
                        .with_context(place)?;
                }
            }
            if told() {
                return Ok(());
            }
        }
        found.compare(test_sets, &entropies);
        Ok(())
    }

    /// Notes the figures that a method lacks because no model of it is measured.
    fn leave_out(&self, found: &mut Found, method: &Method, test_sets: &[String], why: &str) {
        let forward = self.reference_samples.is_some().then_some(FORWARD_KL);
        let figures: Vec<&str> =
            [TOKEN_ENTROPY, BRANCHING_FACTOR].into_iter().chain(forward).collect();
        for test_set in test_sets {
            found.left_out.note(&figures, Some(&method.name), test_set, why);
        }
        for texts in &self.retention {
            found.left_out.note(&[&texts.metric()], Some(&method.name), texts.test_set(), why);
        }
    }

    /// Refuses models that do not read the tokens of the reference policy, whose samples are in
    /// its tokens, or of each other, whose losses a token would be of other tokens.
    fn check_tokenizers(
        &self,
        config: &EvaluateStage,
        measured: &[(&Method, &Answers, &Path)],
    ) -> Result<()> {
        let policy = config.reference_policy.as_ref().filter(|_| self.reference_samples.is_some());
        let mut others: Vec<(String, &Path, &str)> = Vec::new();
        others.extend(policy.map(|policy| {
            ("`reference_policy`".to_owned(), policy.path(), "distributions.reference_samples")
        }));
        others.extend(measured.iter().take(1).filter(|_| !self.retention.is_empty()).map(
            |(first, _, folder)| {
                (format!("method `{}`", first.name), *folder, "distributions.retention")
            },
        ));
        for (method, _, own) in measured {
            for (other, folder, field) in &others {
                if !have_one_tokenizer(own, folder)? {
                    let message = format!(
                        "the model of method `{}` and that of {other} have different tokenizers: \
                         `{field}` compares log-probabilities of the same tokens",
                        method.name
                    );
                    return Err(user(message)
                        .hint(format!("remove `{field}`, or the method's model"))
                        .into());
                }
            }
        }
        Ok(())
    }

    /// The samples of the reference policy; what cannot have a forward KL is noted.
    fn reference(
        &self,
        found: &mut Found,
        test_sets: &[String],
        examples: &BTreeMap<String, Vec<Example>>,
    ) -> Result<Reference> {
        let Some(samples) = &self.reference_samples else { return Ok(Reference::new()) };
        let all = Answers::of_samples("distributions.reference_samples", samples)?;
        if all.is_best_of_n() {
            let message = "`distributions.reference_samples` are of best-of-n, not of the policy";
            return Err(user(message).hint("name a stage `generate`").into());
        }
        all.check_samples(examples)?;
        let mut reference = Reference::new();
        for test_set in test_sets {
            let rows = all.samples_of(test_set, &examples[test_set]);
            let why = match (rows.is_empty(), temperature(&rows)) {
                (true, _) => "`reference_samples` have no row of it",
                (false, None) => {
                    "`reference_samples` are not of one temperature, or of a cut distribution"
                }
                (false, Some(temperature)) => {
                    let rows = rows.into_iter().cloned().collect();
                    reference.insert(test_set.clone(), (rows, temperature));
                    continue;
                }
            };
            found.left_out.note(&[FORWARD_KL], None, test_set, why);
        }
        Ok(reference)
    }
}

impl Found {
    /// Token entropy and branching factor of a method on a test set, in the table; by position,
    /// beside it. `None` where its samples have none.
    fn entropies<'a, B: Backend>(
        &mut self,
        judge: &Judges<'_, B>,
        (method, model): (&'a Method, &Loaded<B>),
        (test_set, examples): (&'a str, &'a [Example]),
        answers: &'a Answers,
    ) -> Result<Option<Entropies<'a>>> {
        let name = method.name.as_str();
        let rows = answers.samples_of(test_set, examples);
        let (known, figures) = (temperature(&rows), [TOKEN_ENTROPY, BRANCHING_FACTOR]);
        let temperature = match (&method.samples, rows.is_empty(), known) {
            (Some(_), false, Some(temperature)) => temperature,
            (samples, none, _) => {
                let why = match (samples.is_none(), none) {
                    (true, _) => "it has no `samples`",
                    (false, true) => "its `samples` have no row of it",
                    (false, false) => {
                        "its samples are not of one temperature, or of a cut distribution"
                    }
                };
                self.left_out.note(&figures, Some(name), test_set, why);
                return Ok(None);
            }
        };
        let (split, reader) = (test_split(test_set), format!("the model of `{name}`"));
        let scores =
            judge.token_scores((model, &reader), &split, (examples, &rows), temperature)?;
        let of_input = |samples: &Vec<Vec<_>>| -> Vec<Vec<f64>> {
            let of_tokens = |tokens: &Vec<TokenScore>| {
                tokens.iter().map(|token| f64::from(token.entropy)).collect()
            };
            samples.iter().map(of_tokens).collect()
        };
        let inputs: Vec<Vec<Vec<f64>>> = scores.iter().map(of_input).collect();
        let by_input: Vec<(&str, f64)> = rows
            .iter()
            .zip(&inputs)
            .filter_map(|(row, samples)| Some((row.id.as_str(), token_entropy::of_input(samples)?)))
            .collect();
        let values: Vec<f64> = by_input.iter().map(|(_, value)| *value).collect();
        model_files::check_finite(&values, "the entropy", |at| {
            format!("the samples of row `{}` of split `{split}`", by_input[at].0)
        })?;
        for (id, value) in &by_input {
            self.answered(test_set, name, id, [(TOKEN_ENTROPY, *value)]);
        }
        let mean = of_values(TOKEN_ENTROPY, &values);
        let branching = branching_factor(mean);
        self.table.rows.push(Row::new(name, test_set, TOKEN_ENTROPY, mean));
        self.table.rows.push(Row::new(name, test_set, BRANCHING_FACTOR, branching));
        let by_position = by_position(&inputs);
        if !by_position.is_empty() {
            self.distributions.curves.push(ByPosition {
                method: name.into(),
                test_set: test_set.into(),
                metric: BRANCHING_FACTOR.into(),
                temperature,
                by_position,
            });
        }
        Ok(Some(Entropies { method: name, test_set, by_input }))
    }

    /// The forward KL of a method on a test set, from samples of the reference policy.
    fn forward_kl<B: Backend>(
        &mut self,
        judge: &Judges<'_, B>,
        (method, model): (&Method, &Loaded<B>),
        (test_set, examples): (&str, &[Example]),
        (rows, temperature): (&[Sampled], f64),
    ) -> Result<()> {
        let (name, split) = (method.name.as_str(), test_split(test_set));
        let (rows, reader): (Vec<&Sampled>, String) =
            (rows.iter().collect(), format!("the model of `{name}`"));
        let scores =
            judge.token_scores((model, &reader), &split, (examples, &rows), temperature)?;
        let values = log_ratios(&rows, &scores, "the forward KL")?;
        let interval = distance(&Clusters::each(values.len()), &values);
        self.table.rows.push(Row::new(name, test_set, FORWARD_KL, interval));
        for (row, value) in rows.iter().zip(&values) {
            self.answered(test_set, name, &row.id, [(FORWARD_KL, *value)]);
        }
        self.measured.push(Measured {
            metric: FORWARD_KL.into(),
            test_set: test_set.into(),
            method: name.into(),
            values,
        });
        Ok(())
    }

    /// Entropies of methods are compared over the inputs that all of them have samples of.
    fn compare<'a>(&mut self, test_sets: &[String], entropies: &[Entropies<'a>]) {
        for test_set in test_sets {
            let own: Vec<&Entropies<'a>> =
                entropies.iter().filter(|one| one.test_set == test_set).collect();
            let ids = |one: &&Entropies<'a>| {
                one.by_input.iter().map(|(id, _)| *id).collect::<BTreeSet<&'a str>>()
            };
            let common = own.iter().map(ids).reduce(|all, own| &all & &own).unwrap_or_default();
            for one in own.iter().filter(|_| !common.is_empty()) {
                let shared = one.by_input.iter().filter(|(id, _)| common.contains(id));
                self.measured.push(Measured {
                    metric: TOKEN_ENTROPY.into(),
                    test_set: test_set.clone(),
                    method: one.method.into(),
                    values: shared.map(|(_, value)| *value).collect(),
                });
            }
        }
    }
}
