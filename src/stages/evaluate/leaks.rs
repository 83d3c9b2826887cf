//! Rows of the test sets, and held-out pairs, that models of the evaluation were trained on; judges
//! that are not held out. Knows no figure.

use std::collections::{BTreeMap, BTreeSet};

use super::EvaluateStage;
use super::judging::Judging;
use crate::dag::context::Context;
use crate::data::dataset::{Dataset, test_split};
use crate::data::lineage::Lineage;
use crate::data::rows::{Example, Preference};
use crate::error::Result;
use crate::reference::Ref;
use crate::stages::lineage::{self, Found, Guard};

/// The rows that an evaluation is of.
pub(super) struct Rows {
    /// Those of each test set.
    pub(super) examples: BTreeMap<String, Vec<Example>>,
    /// Preference pairs of those test sets that have any.
    pub(super) pairs: BTreeMap<String, Vec<Preference>>,
    /// Those of each entry of `distributions.retention`.
    pub(super) retention: Vec<Vec<Example>>,
    /// What was found.
    pub(super) found: Found,
}

/// Reads the rows, and holds them and the judges against what the models were trained on. Verdicts
/// on rows that are left out go too.
///
/// # Errors
/// The user's: of leaks that are to be refused, of a judge that is not held out.
pub(super) fn rows(
    config: &EvaluateStage,
    context: &Context,
    (dataset, preferences): (&Dataset, Option<&Dataset>),
    test_sets: &[String],
    judgings: &mut [Judging],
) -> Result<Rows> {
    let methods = config.methods.iter().map(|method| {
        let mut made_of: Option<Lineage> = None;
        let texts = [&method.outputs, &method.samples].into_iter().flatten().map(Ref::path);
        let model = method.own_model().filter(|_| config.distributions.is_some()).map(Ref::path);
        for folder in texts.chain(model) {
            let lineage = Lineage::read(folder)?;
            made_of = Some(match made_of {
                Some(others) => others.with(lineage),
                None => lineage,
            });
        }
        Ok((format!("methods.{}", method.name), made_of.expect("a method has texts")))
    });
    let methods: Vec<(String, Lineage)> = methods.collect::<Result<_>>()?;
    let others: Vec<(String, &Lineage)> =
        methods.iter().map(|(name, lineage)| (name.clone(), lineage)).collect();
    let mut judges = Vec::new();
    for judging in &mut *judgings {
        let Some(judge) = judging.lineage.take() else { continue };
        judging.note_standing(lineage::standing(
            &format!("`{}`", judging.field()),
            &judge,
            &others,
            config.on_leak,
        )?);
        judges.push((judging.field(), judge));
    }
    let mut models = Vec::new();
    if let Some(reward_model) = &config.reward_model {
        models.push(("reward_model".to_owned(), lineage::of_reward_model(reward_model.path())?));
    }
    // Of held-out pairs the reward model alone says something.
    let mut of_pairs = Guard::new(config.on_leak, models.clone());
    if let Some(policy) = &config.reference_policy {
        models.push(("reference_policy".to_owned(), Lineage::read(policy.path())?));
    }
    if let Some(optimum) = &config.optimum {
        let candidates = Lineage::read(optimum.candidates.path())?;
        models.push(("optimum.candidates".to_owned(), candidates));
    }
    let reference = config.distributions.as_ref().and_then(|own| own.reference_samples.as_ref());
    if let Some(samples) = reference {
        let lineage = Lineage::read(samples.path())?;
        models.push(("distributions.reference_samples".to_owned(), lineage));
    }
    models.extend(methods);
    models.extend(judges);
    let mut guard = Guard::new(config.on_leak, models);
    let (mut examples, mut pairs) = (BTreeMap::new(), BTreeMap::new());
    for test_set in test_sets {
        let split = test_split(test_set);
        let rows: Vec<Example> = dataset.split(&split)?;
        let keep = guard.rows(&split, &rows);
        let (kept, removed): (Vec<_>, Vec<_>) =
            rows.into_iter().zip(keep).partition(|(_, keep)| *keep);
        let removed: BTreeSet<String> = removed.into_iter().map(|(row, _)| row.id).collect();
        judgings.iter_mut().for_each(|judging| judging.leave_out(&split, &removed));
        examples.insert(test_set.clone(), kept.into_iter().map(|(row, _)| row).collect());
        if let Some(preferences) =
            preferences.filter(|preferences| preferences.tests().contains(&test_set.as_str()))
        {
            let rows: Vec<Preference> = preferences.split(&split)?;
            let keep = of_pairs.pairs(&split, &rows);
            let kept = rows.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(row, _)| row);
            pairs.insert(test_set.clone(), kept.collect());
        }
    }
    guard.join(of_pairs);
    let mut retention = Vec::new();
    if let Some(distributions) = &config.distributions {
        let mut held_out = Guard::new(config.on_leak, models_of_methods(config)?);
        for texts in &distributions.retention {
            let rows: Vec<Example> = Dataset::open(texts.dataset.path())?.split(&texts.split)?;
            let keep = held_out.rows(&texts.split, &rows);
            let kept = rows.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(row, _)| row);
            retention.push(kept.collect());
        }
        guard.join(held_out);
    }
    Ok(Rows { examples, pairs, retention, found: guard.finish(context)? })
}

/// The lineages of the methods' own models, which alone read the texts of earlier phases.
fn models_of_methods(config: &EvaluateStage) -> Result<Vec<(String, Lineage)>> {
    let own = config.methods.iter().filter_map(|method| Some((method, method.own_model()?)));
    own.map(|(method, model)| {
        Ok((format!("methods.{}", method.name), Lineage::read(model.path())?))
    })
    .collect()
}
