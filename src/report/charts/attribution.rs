//! What each stage of training changed, as a waterfall: a bar of the first method, a bar that
//! starts where the last one ended for each stage, and a bar of the last method; one chart a
//! metric and chain, one colour a test set.

use serde_json::{Value, json};

use super::{Chart, colour, label, test_sets};
use crate::artefacts::attribution::Attribution;
use crate::artefacts::table::DIVERSITY;
use crate::eval::interval::Interval;
use crate::run::Evaluation;

/// One chart for performance, one for diversity, and one for each metric of the user's, of every
/// chain.
pub(super) fn charts(evaluation: &Evaluation) -> Vec<Chart> {
    let mut chains: Vec<&[String]> = Vec::new();
    for one in &evaluation.attributions {
        if !chains.contains(&one.chain.as_slice()) {
            chains.push(&one.chain);
        }
    }
    let own = evaluation.table.own.iter().map(|own| own.metric.as_str());
    let metrics = evaluation.performance().into_iter().chain([DIVERSITY]).chain(own);
    let both = metrics.flat_map(|metric| chains.iter().map(move |chain| (metric, *chain)));
    both.filter_map(|(metric, chain)| chart(evaluation, metric, chain)).collect()
}

fn chart(evaluation: &Evaluation, metric: &str, chain: &[String]) -> Option<Chart> {
    let own: Vec<&Attribution> = evaluation
        .attributions
        .iter()
        .filter(|one| one.metric == metric && one.chain == chain)
        .collect();
    let (first, last) = (chain.first()?, chain.last()?);
    let sets = test_sets(evaluation);
    let place = |one: &Attribution| sets.iter().position(|set| *set == one.test_set).unwrap_or(0);
    let data: Vec<Value> = own.iter().map(|one| bars(one, colour(place(one)))).collect();
    let layout = json!({"barmode": "group", "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": evaluation.axis(metric)}}});
    let note = format!(
        "From {first} to {last}: the first and the last bar are the two methods, each bar between \
         them is what a stage changed, with its interval."
    );
    (!data.is_empty()).then_some(Chart {
        id: format!("attribution {metric} {}", chain.join(" ")),
        title: format!("{metric}: what each stage changed, {first} to {last}"),
        note,
        data,
        layout,
        height: 420,
    })
}

/// The bars of one test set.
fn bars(one: &Attribution, colour: &str) -> Value {
    let changes: Vec<Interval> = one.steps.iter().map(|step| step.change.interval).collect();
    let (mut level, mut bases) = (one.start, vec![0.0]);
    for change in &changes {
        bases.push(level);
        level += change.mean;
    }
    bases.push(0.0);
    let within = |value: f64| std::iter::once(value);
    let heights: Vec<f64> = within(one.start)
        .chain(changes.iter().map(|change| change.mean))
        .chain(within(level))
        .collect();
    // The two methods' own intervals are in the charts of the table.
    let ends = |of: fn(&Interval) -> f64| -> Vec<Option<f64>> {
        let of_changes = changes.iter().map(|change| change.has_ends().then(|| of(change)));
        std::iter::once(None).chain(of_changes).chain([None]).collect()
    };
    let named = one.chain.iter().skip(1).map(|name| format!("{} +", label(name)));
    let ending = one.chain.iter().take(1).chain(one.chain.last());
    let mut names: Vec<String> = ending.map(|name| label(name)).collect();
    names.splice(1..1, named);
    json!({
        "type": "bar", "name": label(&one.test_set), "x": names, "y": heights, "base": bases,
        "error_y": {"type": "data", "symmetric": false, "array": ends(|one| one.high - one.mean),
            "arrayminus": ends(|one| one.mean - one.low), "thickness": 1.5, "width": 4},
        "hovertemplate": "%{x}: %{y:.3f}", "marker": {"color": colour},
    })
}
