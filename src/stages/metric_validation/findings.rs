//! What the metrics are worth, over inputs: agreement with the truths of populations, response to
//! each axis, errors as estimates; with intervals. Knows no text.
//!
//! 1. Agreement is of one input: over all its populations, between a metric, taken with the sign by
//!    which more is more diverse, and a truth. The mean over inputs has an interval.
//! 2. The response to an axis is the change of a metric from one end of the axis to the other over
//!    its change from the fewest to the most content classes: the ratio of the means over inputs.
//!    Where the change by content has no interval, or an end of it is farther from the mean than
//!    half of the mean, there is no ratio: its denominator may be 0.
//! 3. Errors of an estimate are over the populations without wrong answers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::populations::{Axis, Ends, Truth};
use super::values::{Estimand, Values};
use crate::eval::interval::{Interval, average, of_mean};
use crate::eval::ranks::{ordered, spearman, tau_b};
use crate::eval::ratio::of_ratio;

/// The populations of one input with their truths, and what each metric says of them.
pub(super) struct Measured {
    pub(super) names: Vec<String>,
    pub(super) axes: Vec<Axis>,
    pub(super) truths: Vec<Truth>,
    pub(super) values: Vec<Values>,
}

/// Agreement with one truth.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Agreement {
    /// Kendall's tau-b.
    pub(super) tau_b: Interval,
    /// Spearman's rho.
    pub(super) spearman: Interval,
    /// Share of the pairs that the truth orders which the metric orders alike.
    pub(super) ordered: Interval,
}

/// Errors as an estimate.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Errors {
    /// What is estimated.
    pub(super) of: &'static str,
    /// Mean of estimate less truth.
    pub(super) bias: Interval,
    /// Root of the mean squared error.
    pub(super) rmse: Interval,
}

/// All of one metric at one k.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) test_set: String,
    pub(super) k: usize,
    pub(super) metric: String,
    /// By truth.
    pub(super) agreement: BTreeMap<&'static str, Agreement>,
    /// By axis, the change by content in the metric's unit, all others over it.
    pub(super) responses: BTreeMap<Axis, Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errors: Option<Errors>,
}

/// A truth by its name.
pub(super) type Named = (&'static str, fn(&Truth) -> f64);

/// The truths that metrics are held against.
pub(super) const TRUTHS: [Named; 5] = [
    ("class_entropy", |truth| truth.class_entropy),
    ("classes", |truth| truth.classes),
    ("simpson", |truth| truth.simpson),
    ("wording_entropy", |truth| truth.wording_entropy),
    ("wrong", |truth| truth.wrong),
];

/// The findings of a test set, metric by metric, in the order of their agreement with the entropy
/// of content classes at the greatest k; each for every k.
pub(super) fn findings(
    test_set: &str,
    inputs: &[Measured],
    k: &[usize],
    ends: &Ends,
) -> Vec<Finding> {
    let Some(first) = inputs.first() else { return Vec::new() };
    let of_metric = |metric: usize| -> Vec<Finding> {
        let finding = |at: usize| finding((test_set, k[at]), inputs, (metric, at), ends);
        (0..k.len()).map(finding).collect()
    };
    let mut all: Vec<Vec<Finding>> = (0..first.values.len()).map(of_metric).collect();
    all.sort_by(|a, b| {
        let agreement =
            |of: &[Finding]| of.last().map_or(0.0, |one| one.agreement[TRUTHS[0].0].tau_b.mean);
        agreement(b).total_cmp(&agreement(a))
    });
    all.concat()
}

/// Of the metric at `metric` and the k at `at`.
fn finding(
    (test_set, k): (&str, usize),
    inputs: &[Measured],
    (metric, at): (usize, usize),
    ends: &Ends,
) -> Finding {
    let own = &inputs[0].values[metric];
    // More is more diverse.
    let signed = |input: &Measured| -> Vec<f64> {
        let sign = if own.falls { -1.0 } else { 1.0 };
        input.values[metric].by_k[at].iter().map(|value| sign * value).collect()
    };
    let values: Vec<Vec<f64>> = inputs.iter().map(signed).collect();
    let over_inputs = |of: &dyn Fn(&Measured, &[f64]) -> f64| -> Interval {
        of_mean(
            &inputs.iter().zip(&values).map(|(input, own)| of(input, own)).collect::<Vec<f64>>(),
        )
    };
    let agreement = TRUTHS.map(|(name, truth)| {
        let held = |of: fn(&[f64], &[f64]) -> f64| {
            over_inputs(&|input, own| {
                of(own, &input.truths.iter().map(truth).collect::<Vec<f64>>())
            })
        };
        let agreement =
            Agreement { tau_b: held(tau_b), spearman: held(spearman), ordered: held(ordered) };
        (name, agreement)
    });
    let changes = |axis: Axis| -> Vec<f64> {
        let change = |(input, own): (&Measured, &Vec<f64>)| {
            let value = |name: &String| {
                let at = input.names.iter().position(|other| other == name);
                own[at.expect("every input has the populations of the ends")]
            };
            let pairs = ends.pairs.iter().filter(|(of, _)| *of == axis);
            let pairs: Vec<f64> = pairs.map(|(_, [high, low])| value(high) - value(low)).collect();
            average(&pairs)
        };
        inputs.iter().zip(&values).map(change).collect()
    };
    let by_content = changes(Axis::Content);
    let content = of_mean(&by_content);
    let mut responses = BTreeMap::from([(Axis::Content, content)]);
    let reach = (content.high - content.mean).max(content.mean - content.low);
    if content.has_ends() && reach <= content.mean.abs() / 2.0 {
        for axis in [Axis::Wording, Axis::Wrong, Axis::Length, Axis::Facts] {
            responses.insert(axis, of_ratio(&changes(axis), &by_content));
        }
    }
    let errors = own.estimates.map(|estimand| errors(estimand, inputs, &values));
    Finding {
        test_set: test_set.to_owned(),
        k,
        metric: own.name.clone(),
        agreement: agreement.into(),
        responses,
        errors,
    }
}

fn errors(estimand: Estimand, inputs: &[Measured], values: &[Vec<f64>]) -> Errors {
    let of_input = |(input, own): (&Measured, &Vec<f64>)| -> (f64, f64) {
        let right = (0..own.len()).filter(|at| input.axes[*at] != Axis::Wrong);
        let errors: Vec<f64> = right.map(|at| own[at] - estimand.of(&input.truths[at])).collect();
        (average(&errors), average(&errors.iter().map(|error| error * error).collect::<Vec<f64>>()))
    };
    let (bias, squares): (Vec<f64>, Vec<f64>) = inputs.iter().zip(values).map(of_input).unzip();
    let squared = of_mean(&squares);
    // No square is below 0, but the lower end of their mean may be.
    let root = |x: f64| if x.is_nan() { x } else { x.max(0.0).sqrt() };
    let rmse = Interval {
        mean: root(squared.mean),
        low: root(squared.low),
        high: root(squared.high),
        ..squared
    };
    Errors { of: estimand.name(), bias: of_mean(&bias), rmse }
}
