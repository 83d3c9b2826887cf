//! What each stage of training changed: the differences between methods and those that they were
//! made from, along every chain. Knows no model and no text.

use super::config::Method;
use crate::artefacts::attribution::{Attribution, Step};
use crate::eval::compare::{Difference, Measured, share_of_total};
use crate::eval::interval::average;

/// The level of a total change that is shared out among stages.
const LEVEL: f64 = 0.05;

/// The chains of methods, each from one that was made from no other to one that no other was made
/// from, in the order of the last ones.
pub(super) fn chains(methods: &[Method]) -> Vec<Vec<&str>> {
    let after = |name: &str| {
        methods.iter().find(|method| method.name == name).and_then(|own| own.after.as_deref())
    };
    let is_last =
        |method: &&Method| !methods.iter().any(|other| other.after.as_ref() == Some(&method.name));
    let chain = |method: &'_ Method| {
        let mut chain: Vec<&str> = Vec::new();
        let mut next = methods.iter().find(|own| own.name == method.name).map(|own| &*own.name);
        while let Some(name) = next {
            chain.insert(0, name);
            next = after(name).filter(|before| !chain.contains(before));
        }
        chain
    };
    methods.iter().filter(is_last).map(chain).filter(|chain| chain.len() > 1).collect()
}

/// Every metric on every test set that all methods of a chain are compared by.
pub(super) fn attributions(
    methods: &[Method],
    measured: &[Measured],
    differences: &[Difference],
) -> Vec<Attribution> {
    let mut found = Vec::new();
    for chain in chains(methods) {
        let of_first = measured.iter().filter(|one| one.method == chain[0]);
        for first in of_first {
            found.extend(attribution(&chain, first, measured, differences));
        }
    }
    found
}

/// Of the metric and test set of `first`; `None` where a method of the chain was not measured.
fn attribution(
    chain: &[&str],
    first: &Measured,
    measured: &[Measured],
    differences: &[Difference],
) -> Option<Attribution> {
    let values = |method: &str| -> Option<&[f64]> {
        let same = |one: &&Measured| {
            (one.method.as_str(), &one.metric, &one.test_set)
                == (method, &first.metric, &first.test_set)
        };
        measured.iter().find(same).map(|one| one.values.as_slice())
    };
    let minus = |method: &str, with: &str| -> Option<Vec<f64>> {
        Some(values(method)?.iter().zip(values(with)?).map(|(a, b)| a - b).collect())
    };
    let of = (first.metric.as_str(), first.test_set.as_str());
    let last = *chain.last()?;
    let total = difference(differences, of, last, chain[0])?;
    let all = minus(last, chain[0])?;
    let is_told = total.p_holm < LEVEL && total.interval.has_ends();
    let step = |pair: &[&str]| -> Option<Step> {
        let [with, method] = pair else { return None };
        let change = difference(differences, of, method, with)?;
        let own = minus(method, with)?;
        Some(Step { change, share: is_told.then(|| share_of_total(&own, &all)) })
    };
    Some(Attribution {
        metric: first.metric.clone(),
        test_set: first.test_set.clone(),
        chain: chain.iter().map(|name| (*name).to_owned()).collect(),
        start: average(&first.values),
        steps: chain.windows(2).map(step).collect::<Option<_>>()?,
        total,
    })
}

/// One method minus another, whichever came first in the table.
fn difference(
    differences: &[Difference],
    (metric, test_set): (&str, &str),
    method: &str,
    with: &str,
) -> Option<Difference> {
    let find = |a: &str, b: &str| {
        differences.iter().find(|one| {
            (one.metric.as_str(), one.test_set.as_str()) == (metric, test_set)
                && (one.method.as_str(), one.with.as_str()) == (a, b)
        })
    };
    find(method, with).cloned().or_else(|| find(with, method).map(Difference::reversed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::compare::differences;

    fn method(name: &str, after: Option<&str>) -> Method {
        Method {
            name: name.into(),
            outputs: None,
            samples: None,
            policy: None,
            model: None,
            after: after.map(str::to_owned),
        }
    }

    #[test]
    fn chains_end_where_no_method_follows() {
        let methods = [
            method("ppo", Some("sft")),
            method("base", None),
            method("sft", Some("base")),
            method("best", Some("sft")),
            method("other", None),
        ];
        assert_eq!(chains(&methods), [vec!["base", "sft", "ppo"], vec!["base", "sft", "best"]]);
    }

    /// Changes add up to the total, and shares to 1, whatever the order of the table.
    #[test]
    fn changes_add_up() {
        let methods =
            [method("ppo", Some("sft")), method("sft", Some("base")), method("base", None)];
        let values = |scale: f64, shift: f64| -> Vec<f64> {
            (0..40).map(|at| shift + scale * f64::from((at * 7) % 11) / 11.0).collect()
        };
        let measured = |name: &str, values: Vec<f64>| Measured {
            metric: "gold".into(),
            test_set: "id".into(),
            method: name.into(),
            values,
        };
        let all = [
            measured("ppo", values(0.4, 1.0)),
            measured("sft", values(0.2, 0.75)),
            measured("base", values(0.1, 0.0)),
        ];
        let compared = differences(&all, 0);
        let found = attributions(&methods, &all, &compared);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(one.chain, ["base", "sft", "ppo"]);
        let mean = |at: usize| average(&all[at].values);
        assert!((one.start - mean(2)).abs() < 1e-12);
        assert!((one.steps[0].change.interval.mean - (mean(1) - mean(2))).abs() < 1e-12);
        assert!((one.steps[1].change.interval.mean - (mean(0) - mean(1))).abs() < 1e-12);
        assert!((one.total.interval.mean - (mean(0) - mean(2))).abs() < 1e-12);
        assert!(one.steps.iter().all(|step| step.change.interval.low > 0.0), "{one:?}");
        let shares: Vec<f64> = one.steps.iter().map(|step| step.share.unwrap().mean).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{shares:?}");
    }
}
