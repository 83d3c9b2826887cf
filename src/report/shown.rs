//! Which evaluations of a run a page shows in full.

use super::formats::text;
use super::run::{Evaluation, Run};
use crate::artefacts::points::family;

/// Evaluations of a family that are all shown in full; of a larger family, or where there are
/// figures over seeds, the first one is.
const FULL: usize = 3;

/// Evaluations of one training.
pub(super) fn single(run: &Run) -> impl Iterator<Item = &Evaluation> + Clone {
    run.evaluations.iter().filter(|evaluation| evaluation.seeds.is_empty())
}

/// Evaluations over seeds of training.
pub(super) fn of_seeds(run: &Run) -> impl Iterator<Item = &Evaluation> + Clone {
    run.evaluations.iter().filter(|evaluation| !evaluation.seeds.is_empty())
}

/// Evaluations of one training that are shown in full ([`FULL`]).
pub(super) fn shown(run: &Run) -> impl Iterator<Item = &Evaluation> + Clone {
    let most = if of_seeds(run).next().is_some() { 1 } else { FULL };
    let is_shown = move |evaluation: &&Evaluation| {
        let of = family(&evaluation.node);
        let mut members = single(run).filter(move |other| family(&other.node) == of);
        let first = members.next();
        members.count() < most || first.is_some_and(|first| first.node == evaluation.node)
    };
    single(run).filter(is_shown)
}

/// Which evaluations are not shown in full, and how to see them; nothing where all are.
pub(super) fn not_shown(run: &Run) -> String {
    let is_shown = |node: &str| shown(run).any(|evaluation| evaluation.node == node);
    let others: Vec<&str> =
        single(run).map(|one| one.node.as_str()).filter(|node| !is_shown(node)).collect();
    let Some(first) = others.first() else { return String::new() };
    format!(
        "<p class=note id=not-shown>Summarised above, and not shown in full: {}. The page of one: \
         <code>posttrain report {} --evaluations '{}'</code>.</p>\n",
        text(&others.join(", ")),
        text(&run.id),
        text(first)
    )
}

/// Whose results, where there are several.
pub(super) fn of(run: &Run, node: &str) -> String {
    if single(run).count() > 1 { format!(" of {}", text(node)) } else { String::new() }
}
