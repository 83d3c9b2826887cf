//! What the figures of quality beside diversity are: heading, unit, direction, and the section of
//! docs/evaluation.md that defines them.

use super::definition::Direction::{HigherIsBetter, HigherIsMoreDiverse};
use super::definition::Entry;

/// The section of docs/evaluation.md.
pub(super) const QUALITY: &str = "quality-beside-diversity";

/// Figures of quality beside diversity, of the samples of one input.
pub(super) const GRADED: &[Entry] = &[
    (
        "good_share",
        "share of the samples of one input that are good",
        "share",
        HigherIsBetter,
        QUALITY,
    ),
    (
        "distinct_k",
        "functional classes of the first k samples of one input",
        "classes",
        HigherIsMoreDiverse,
        QUALITY,
    ),
    (
        "utility_k",
        "utility of the first samples of classes among the first k samples of one input",
        "utility",
        HigherIsBetter,
        QUALITY,
    ),
    (
        "pass_at_k",
        "chance that one of k samples of one input is good",
        "share",
        HigherIsBetter,
        QUALITY,
    ),
    (
        "best_at_k",
        "expected best score of k samples of one input",
        "score",
        HigherIsBetter,
        QUALITY,
    ),
    (
        "win_at_k",
        "chance that the best of k samples of one input wins against the reference, a tie counting \
         half",
        "share",
        HigherIsBetter,
        QUALITY,
    ),
    (
        "effective_semantic_diversity",
        "share of the pairs of samples of one input that are good and of two classes",
        "share",
        HigherIsMoreDiverse,
        QUALITY,
    ),
    (
        "class_entropy",
        "entropy of the functional classes of the samples of one input",
        "nats",
        HigherIsMoreDiverse,
        QUALITY,
    ),
];
