//! Tests of comparisons over seeds: families, corrected p values, equivalence, seeds to plan for.

use std::collections::{BTreeMap, BTreeSet};

use super::combine::Combined;
use crate::artefacts::seeds::{Figure, Quantity, Test};
use crate::error::{Result, user};
use crate::eval::compare::holm;
use crate::eval::correction::{Correction, LEVEL};
use crate::eval::power::{seeds_for_difference, seeds_for_equivalence};
use crate::eval::seeds::Decision;

/// Families of comparisons: a quantity by a metric, with the places of its figures.
fn families(all: &[Combined]) -> Vec<((Quantity, String), Vec<usize>)> {
    let mut found: BTreeMap<(Quantity, String), Vec<usize>> = BTreeMap::new();
    for (at, Combined { figure, .. }) in all.iter().enumerate() {
        if figure.quantity().is_comparison() {
            found.entry((figure.quantity(), figure.metric.clone())).or_default().push(at);
        }
    }
    found.into_iter().collect()
}

/// Holm-corrected p values of differences and nothing else.
pub(super) fn correct(all: &mut [Combined]) {
    for (_, family) in families(all) {
        let p: Vec<f64> = family.iter().map(|at| all[*at].figure.over.p).collect();
        family.iter().zip(holm(&p)).for_each(|(at, p)| all[*at].figure.p_holm = Some(p));
    }
}

/// Refuses a margin for a metric that nothing is compared by.
pub(super) fn check(all: &[Combined], equivalence: &BTreeMap<String, f64>) -> Result<()> {
    let known: BTreeSet<&str> = all
        .iter()
        .filter(|one| one.figure.quantity().is_comparison())
        .map(|one| one.figure.metric.as_str())
        .collect();
    match equivalence.keys().find(|metric| !known.contains(metric.as_str())) {
        None => Ok(()),
        Some(metric) => {
            let known = known.into_iter().collect::<Vec<&str>>().join(", ");
            let message = format!("`equivalence` has `{metric}`, and nothing is compared by it");
            Err(user(message).hint(format!("compared by: {known}")).into())
        }
    }
}

/// All tests of all families.
pub(super) fn test(
    all: &mut [Combined],
    correction: Correction,
    equivalence: &BTreeMap<String, f64>,
) {
    for ((quantity, metric), family) in families(all) {
        let margin = equivalence.get(&metric).copied();
        let p: Vec<f64> = family.iter().map(|at| all[*at].figure.over.p).collect();
        let p_equivalence = |at: &usize| {
            let one = &all[*at];
            Some(one.variance.as_ref()?.p_of_equivalence(mean(&one.figure), margin?))
        };
        let of_equivalence: Vec<Option<f64>> = family.iter().map(p_equivalence).collect();
        // What has no test of equivalence counts as not shown.
        let filled: Vec<f64> = of_equivalence.iter().map(|p| p.unwrap_or(1.0)).collect();
        let (corrected, equivalent) = (correction.correct(&p), correction.correct(&filled));
        let level = LEVEL / family.len() as f64;
        for (place, at) in family.iter().enumerate() {
            let Combined { figure, variance } = &mut all[*at];
            let p_equivalence = of_equivalence[place];
            let p_equivalence_corrected = p_equivalence.map(|_| equivalent[place]);
            let mean = mean(figure);
            let difference = |variance| seeds_for_difference(mean, variance, level);
            let equivalence = |variance| seeds_for_equivalence(mean, variance, margin?, level);
            figure.test = Some(Test {
                family: format!("{} in {metric}", quantity.plural()),
                of: family.len(),
                correction,
                p_corrected: corrected[place],
                margin,
                p_equivalence,
                p_equivalence_corrected,
                verdict: Decision::of(mean, corrected[place], p_equivalence_corrected),
                level,
                seeds_for_difference: variance.as_ref().and_then(difference),
                seeds_for_equivalence: variance.as_ref().and_then(equivalence),
            });
        }
    }
}

fn mean(figure: &Figure) -> f64 {
    figure.over.interval.mean
}
