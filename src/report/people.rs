//! Measures beside people: how often each picks what people picked, a listing for each comparison
//! that people made. Computes nothing.

use super::layout::{Cell, Line, Listing, distinct};
use super::run::Evaluation;
use crate::artefacts::people::BesidePeople;

/// A listing a comparison; in each test set the measures in the order of how often they pick what
/// people picked.
pub(super) fn listings(evaluation: &Evaluation) -> Vec<Listing> {
    let all = &evaluation.beside_people;
    let names = distinct(all.iter().map(|one| one.name.as_str()));
    names.into_iter().filter_map(|name| listing(all, name)).collect()
}

fn listing(all: &[BesidePeople], name: &str) -> Option<Listing> {
    let own: Vec<&BesidePeople> = all.iter().filter(|one| one.name == name).collect();
    let first = own.first()?;
    let (what, picked) = match first.question.as_str() {
        "more_varied" => ("pairs of sets", "the more varied set"),
        _ => ("pairs of answers", "the better answer"),
    };
    let mut lines = Vec::new();
    for test_set in distinct(own.iter().map(|one| one.test_set.as_str())) {
        let mut of_set: Vec<&&BesidePeople> =
            own.iter().filter(|one| one.test_set == test_set).collect();
        of_set.sort_by(|one, other| other.agreement.mean.total_cmp(&one.agreement.mean));
        lines.extend(of_set.into_iter().map(|one| Line {
            name: one.metric.clone(),
            test_set: test_set.into(),
            cells: vec![
                Cell::interval(&one.agreement, 3),
                Cell::number(one.agreement.n as f64, 0),
                Cell::interval(&one.tau_b, 3),
                Cell::number(one.judged as f64, 0),
            ],
            verdict: None,
        }));
    }
    Some(Listing {
        title: format!("measures beside people: {name}"),
        metric: "people".into(),
        meaning: format!(
            "of the {what} of {} and {} on which people agree, the share on which the measure \
             picks {picked} too, its ties counting half; tau-b over all that are judged",
            first.a, first.b
        ),
        columns: vec!["measure", "picks the same", "agreed", "tau-b", "judged"],
        lines,
    })
}
