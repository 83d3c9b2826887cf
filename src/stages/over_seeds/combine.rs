//! The values of several evaluations over seeds: means, intervals, what the spread is made of.

use std::collections::{BTreeMap, BTreeSet};

use super::collect::{Entry, Files, Name};
use crate::artefacts::metric::OwnMetric;
use crate::artefacts::quality::is_of_good;
use crate::artefacts::seeds::{Figure, Quantity, Sources, TestInputs, errors_over_inputs};
use crate::error::{Result, user};
use crate::eval::crossed::{Block, Crossed, Variance, crossed};
use crate::eval::interval::{Interval, Kind};
use crate::eval::seeds::{OverSeeds, over_seeds};

/// The fewest seeds of a figure that some seeds lack.
const FEWEST_SEEDS: usize = 3;
/// The share of a seed's prompts that may be another seed's by chance.
const BY_CHANCE: f64 = 0.05;

/// A figure over seeds with what its tests need.
pub(super) struct Combined {
    pub(super) figure: Figure,
    /// Of the mean; `None` of seeds that are all equal.
    pub(super) variance: Option<Variance>,
}

/// Refuses tables that measured different things.
pub(super) fn check(all: &[Files]) -> Result<()> {
    let keys = |files: &Files| -> BTreeSet<(String, String, String)> {
        let rows = files.table.rows.iter().filter(|row| !is_of_good(&row.metric));
        rows.map(|row| (row.method.clone(), row.test_set.clone(), row.metric.clone())).collect()
    };
    for (at, files) in all.iter().enumerate().skip(1) {
        if let Some((method, test_set, metric)) =
            keys(&all[0]).symmetric_difference(&keys(files)).next()
        {
            let message = format!(
                "evaluations 1 and {} measured different things: one has no `{metric}` of \
                 `{method}` on `{test_set}`",
                at + 1
            );
            return Err(user(message).hint("give evaluations that differ in a seed only").into());
        }
    }
    Ok(())
}

/// What the metrics of the user's are, the same in all evaluations; `warn` gets those whose
/// differences some seed lacks.
///
/// # Errors
/// The user's: evaluations that describe one otherwise.
pub(super) fn own(all: &[Files], mut warn: impl FnMut(String)) -> Result<Vec<OwnMetric>> {
    let whole = |own: &OwnMetric| OwnMetric { partial: Vec::new(), ..own.clone() };
    let described = |files: &Files| files.table.own.iter().map(whole).collect::<Vec<_>>();
    let first = described(&all[0]);
    for (at, files) in all.iter().enumerate().skip(1) {
        let others = described(files);
        let other = first.iter().find(|own| !others.contains(own));
        if let Some(own) = other.or_else(|| others.iter().find(|own| !first.contains(own))) {
            let message = format!(
                "evaluations 1 and {} describe `{}` differently, or one does not have it",
                at + 1,
                own.metric
            );
            return Err(user(message).hint("give evaluations that differ in a seed only").into());
        }
    }
    let partial = |mut own: OwnMetric| {
        let of = |files: &Files| {
            files.table.own(&own.metric).map(|own| own.partial.clone()).unwrap_or_default()
        };
        let sets: BTreeSet<String> = all.iter().flat_map(of).collect();
        for set in &sets {
            warn(format!(
                "differences in `{}` on `{set}` are not over all seeds: with some of them, inputs \
                 of a method have no such number, or other counts of samples",
                own.metric
            ));
        }
        own.partial = sets.into_iter().collect();
        own
    };
    Ok(first.into_iter().map(partial).collect())
}

/// A value of an evaluation, with the evaluation.
type Of<'a> = Vec<(&'a Files, Entry)>;

/// Every value of all evaluations over seeds, in the order of the first evaluation, and then of
/// the next. `warn` gets what is left out because seeds lack it.
pub(super) fn combine(all: &[Files], full: bool, mut warn: impl FnMut(String)) -> Vec<Combined> {
    let (mut names, mut found): (Vec<Name>, BTreeMap<Name, Of<'_>>) = Default::default();
    for files in all {
        let mut entries = files.of_table();
        if full {
            entries.extend(files.of_comparisons());
        }
        for entry in entries {
            let own = found.entry(entry.name.clone()).or_insert_with(|| {
                names.push(entry.name.clone());
                Vec::new()
            });
            own.push((files, entry));
        }
    }
    let mut kept: Vec<Name> = Vec::new();
    let mut lacking: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names {
        let (has, of) = (found[&name].len(), all.len());
        // Each table lacks diversity of good samples where no input has two.
        let level = name.quantity == Quantity::Level;
        if has == of || (!level && has >= FEWEST_SEEDS) {
            kept.push(name);
            continue;
        }
        let Name { quantity, metric, method, test_set, .. } = &name;
        let whose = format!("`{metric}` of `{method}` on `{test_set}`");
        match quantity {
            Quantity::Level => {
                let reason = "with one of them no input has two good samples".to_owned();
                lacking.entry(reason).or_default().push(whose);
            }
            // One entry for the four figures of a comparison.
            Quantity::MatchedOwn | Quantity::MatchedBest | Quantity::MatchedKl => {}
            _ => {
                let reason =
                    format!("{has} of {of} seeds have them, {FEWEST_SEEDS} are the fewest");
                let what = format!("the {} in {whose}", quantity.plural());
                lacking.entry(reason).or_default().push(what);
            }
        }
    }
    lacking.into_iter().for_each(|(reason, figures)| warn(left_out(&reason, &figures)));
    let inputs = full.then(|| Inputs::of(all));
    let one = |name: Name| one(all.len(), inputs.as_ref(), name.clone(), &found[&name]);
    kept.into_iter().map(one).collect()
}

/// Figures that are left out for one reason, of which the first are named.
fn left_out(reason: &str, figures: &[String]) -> String {
    const NAMED: usize = 3;
    let named = figures[..figures.len().min(NAMED)].join(", ");
    match figures.len().checked_sub(NAMED) {
        None | Some(0) => format!("not over seeds, since {reason}: {named}"),
        Some(more) => format!("not over seeds, since {reason}: {named} and {more} more"),
    }
}

/// One figure; `inputs` with `statistics: full`.
fn one(seeds: usize, inputs: Option<&Inputs>, name: Name, of: &Of<'_>) -> Combined {
    let mut over = over_seeds(of.iter().map(|(_, entry)| entry.value).collect());
    let k = of.len();
    // What is known without error is so for every seed.
    let own: Vec<Interval> = of.iter().filter_map(|(_, entry)| entry.own).collect();
    let exact = over.interval.kind == Kind::NoneAllEqual
        && own.len() == k
        && own.iter().all(|own| own.kind == Kind::Exact);
    if exact {
        over.interval = Interval::exact(over.interval.mean, k);
    }
    let alone = match over.interval.kind {
        Kind::StudentT => Some(Variance::of_seeds(over.std, k)),
        _ => None,
    };
    let over_inputs: Vec<[f64; 2]> = own
        .iter()
        .filter(|own| !own.low.is_nan())
        .map(|own| [own.low, own.high])
        .filter(|_| inputs.is_some() || name.quantity == Quantity::Level)
        .collect();
    let (mut sources, mut variance) = (None, alone);
    if let Some(inputs) = inputs {
        let inputs = inputs.behind(&name);
        let both = if exact || inputs != TestInputs::Same { None } else { of_inputs(of) };
        let errors = errors_over_inputs(&over_inputs);
        let square = errors.iter().map(|error| error * error).sum::<f64>() / k as f64;
        let every = errors.len() == k;
        let training = match (inputs, &both) {
            (TestInputs::Same, Some(both)) => Some(both.training),
            (TestInputs::Different, _) if every => {
                Some((over.std * over.std - square).max(0.0).sqrt())
            }
            _ => None,
        };
        let seeds_alone = both
            .as_ref()
            .and(over.interval.has_ends().then_some([over.interval.low, over.interval.high]));
        if let Some(Crossed { variance: of_both, .. }) = both {
            over = OverSeeds {
                interval: of_both.around(over.interval.mean, k),
                p: of_both.p(over.interval.mean),
                ..over
            };
            variance = Some(of_both);
        }
        let error_over_inputs = every.then(|| square.sqrt());
        let lacking = seeds - k;
        sources = Some(Sources { inputs, lacking, error_over_inputs, training, seeds_alone });
    }
    let figure = Figure {
        quantity: sources.as_ref().map(|_| name.quantity),
        method: name.method,
        with: name.with,
        test_set: name.test_set,
        to: name.to,
        metric: name.metric,
        over,
        p_holm: None,
        over_inputs,
        sources,
        test: None,
        sequential: None,
    };
    Combined { figure, variance }
}

/// What varies over seeds and inputs, of seeds that share their inputs.
fn of_inputs(of: &Of<'_>) -> Option<Crossed> {
    let behind = |(files, entry): &(&Files, Entry)| files.behind(entry);
    let all: Vec<Vec<(f64, Vec<f64>)>> = of.iter().map(behind).collect::<Option<_>>()?;
    let block = |at: usize| Block {
        sign: all[0][at].0,
        values: all.iter().map(|seed| seed[at].1.clone()).collect(),
    };
    crossed(&(0..all[0].len()).map(block).collect::<Vec<Block>>())
}

/// Which inputs the evaluations were measured on, by test set.
struct Inputs(BTreeMap<String, TestInputs>);

impl Inputs {
    fn of(all: &[Files]) -> Self {
        let sets: BTreeSet<&String> = all.iter().flat_map(Files::test_sets).collect();
        Inputs(sets.into_iter().map(|set| (set.clone(), of_test_set(set, all))).collect())
    }

    /// Of all test sets of a figure.
    fn behind(&self, name: &Name) -> TestInputs {
        let of = |set: &String| self.0.get(set).copied().unwrap_or(TestInputs::Unknown);
        let first = of(&name.test_set);
        match &name.to {
            Some(to) if of(to) != first => TestInputs::Overlapping,
            _ => first,
        }
    }
}

fn of_test_set(set: &str, all: &[Files]) -> TestInputs {
    let prompts: Vec<&[String]> = all.iter().map(|files| files.prompts(set)).collect();
    if prompts.iter().any(|own| own.is_empty()) {
        return TestInputs::Unknown;
    }
    if prompts.iter().all(|own| *own == prompts[0]) {
        return TestInputs::Same;
    }
    let sets: Vec<BTreeSet<&String>> = prompts.iter().map(|own| own.iter().collect()).collect();
    let apart = |a: &BTreeSet<&String>, b: &BTreeSet<&String>| {
        a.intersection(b).count() as f64 <= BY_CHANCE * a.len().min(b.len()) as f64
    };
    let different =
        sets.iter().enumerate().all(|(at, a)| sets[at + 1..].iter().all(|b| apart(a, b)));
    if different { TestInputs::Different } else { TestInputs::Overlapping }
}
