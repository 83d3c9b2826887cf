//! What the figures of `metric_validation` are: heading, unit, direction, and the section of
//! docs/evaluation.md that defines them.

use super::definition::Direction::{HigherIsBetter, HigherIsMoreDiverse, LowerIsBetter, Neither};
use super::definition::Entry;

/// The section of docs/evaluation.md.
const TRUTH: &str = "metrics-against-a-known-truth";

/// What metrics of diversity are worth, by populations whose diversity is known, and what samples
/// cover of all right answers.
pub(super) const VALIDATED: &[Entry] = &[
    (
        "content_tau",
        "agreement with the entropy of content classes over populations, Kendall's tau-b",
        "tau",
        HigherIsBetter,
        TRUTH,
    ),
    (
        "content_ordered",
        "share of the pairs of populations that a metric orders as the entropy of content classes",
        "share",
        HigherIsBetter,
        TRUTH,
    ),
    (
        "wording_tau",
        "agreement with the entropy of wording over populations, Kendall's tau-b",
        "tau",
        Neither,
        TRUTH,
    ),
    (
        "wording_response",
        "change of a metric by wording alone over its change by content",
        "ratio",
        Neither,
        TRUTH,
    ),
    (
        "wrong_response",
        "change of a metric by wrong answers alone over its change by content",
        "ratio",
        Neither,
        TRUTH,
    ),
    (
        "length_response",
        "change of a metric by the number of words alone over its change by content",
        "ratio",
        Neither,
        TRUTH,
    ),
    (
        "facts_response",
        "change of a metric by the number of facts that a text states over its change by content",
        "ratio",
        Neither,
        TRUTH,
    ),
    (
        "classes_bias",
        "estimate of the number of content classes less the truth",
        "classes",
        Neither,
        TRUTH,
    ),
    (
        "classes_rmse",
        "root mean squared error of an estimate of the number of content classes",
        "classes",
        LowerIsBetter,
        TRUTH,
    ),
    (
        "class_entropy_bias",
        "estimate of the entropy of content classes less the truth",
        "nats",
        Neither,
        TRUTH,
    ),
    (
        "class_entropy_rmse",
        "root mean squared error of an estimate of the entropy of content classes",
        "nats",
        LowerIsBetter,
        TRUTH,
    ),
    (
        "right_coverage",
        "share of the right contents of an input that its samples have",
        "share",
        HigherIsMoreDiverse,
        TRUTH,
    ),
    (
        "right_classes",
        "content classes of the right samples of one input",
        "classes",
        HigherIsMoreDiverse,
        TRUTH,
    ),
    (
        "right_share",
        "share of the samples of one input that are right",
        "share",
        HigherIsBetter,
        TRUTH,
    ),
    (
        "right_class_entropy",
        "entropy of the content classes of the right samples of one input, by Chao and Shen",
        "nats",
        HigherIsMoreDiverse,
        TRUTH,
    ),
    (
        "sampled_tau",
        "agreement with `right_coverage` over methods and inputs, Kendall's tau-b",
        "tau",
        HigherIsBetter,
        TRUTH,
    ),
];
