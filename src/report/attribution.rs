//! What each stage of training changed, as listings: a listing a metric, a line a stage. Lays out
//! what `attribution.json` has; every format shows the same.

use super::layout::{Cell, Line, Listing, Verdict, decimals, distinct};
use super::run::Evaluation;
use super::significance::{p, pair};
use crate::artefacts::attribution::{Attribution, Step};

/// A listing a metric; nothing where no method names the one that it was made from.
pub(super) fn listings(evaluation: &Evaluation) -> Vec<Listing> {
    let all = &evaluation.attributions;
    distinct(all.iter().map(|one| one.metric.as_str()))
        .into_iter()
        .map(|metric| listing(metric, all.iter().filter(|one| one.metric == metric)))
        .collect()
}

fn listing<'a>(metric: &str, all: impl Iterator<Item = &'a Attribution>) -> Listing {
    let mut all: Vec<&Attribution> = all.collect();
    // Those of one test set follow one another.
    let sets = distinct(all.iter().map(|one| one.test_set.as_str()));
    all.sort_by_key(|one| sets.iter().position(|set| *set == one.test_set));
    let means = all.iter().flat_map(|one| one.steps.iter().map(|step| &step.change));
    let digits = decimals(means.map(|change| change.interval.mean));
    let lines =
        all.iter().flat_map(|one| one.steps.iter().map(|step| line(one, step, digits))).collect();
    Listing {
        title: format!("{metric}: what each stage changed"),
        metric: metric.into(),
        meaning: "a method minus the one that it was made from, input by input, with its 95% \
            interval; p Holm-corrected over all differences in this metric; share of the change \
            from the first method to the last, where that is significant"
            .into(),
        columns: vec!["stage", "change", "p, Holm", "share of the total"],
        lines,
    }
}

/// A stage of a chain. Its share is of the change to the end of the chain, which is named where it
/// is not the method itself.
fn line(chain: &Attribution, step: &Step, digits: usize) -> Line {
    let change = &step.change;
    let last = chain.chain.last().map(String::as_str).unwrap_or_default();
    let name = pair(&change.method, &change.with);
    let share = step.share.as_ref().map(|share| Cell::interval(share, 2));
    let name = if change.method == last { name } else { format!("{name} (to {last})") };
    Line {
        name,
        test_set: chain.test_set.clone(),
        cells: vec![
            Cell::interval(&change.interval, digits),
            p(change.p_holm),
            share.unwrap_or_else(|| Cell(Vec::new())),
        ],
        verdict: Some(Verdict::of(change.interval.mean, change.p_holm)),
    }
}
