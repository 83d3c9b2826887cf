//! How figures over seeds of training are shown. Knows neither how a figure came about nor what a
//! seed changed.

use super::layout::{Cell, Line, Listing, Verdict, decimals, distinct, number};
use super::metrics::{is_part, is_spread};
use super::run::Evaluation;
use super::significance::{p, pair};
use crate::artefacts::seeds::{Figure, Quantity, Sources, Test};
use crate::eval::correction::Correction;

/// Metrics whose verdicts are printed, beside those that have a region of equivalence.
const PRINTED: [&str; 2] = ["gold", "rm"];

/// Every seed's value.
fn values(figure: &Figure, decimals: usize) -> Cell {
    let values: Vec<String> =
        figure.over.values.iter().map(|value| number(*value, decimals)).collect();
    Cell(vec![values.join(", ")])
}

fn optional(x: Option<f64>, decimals: usize) -> Cell {
    x.map_or(Cell(vec![]), |x| Cell::number(x, decimals))
}

/// The part of training in the spread; nothing where it is not known.
fn training(figure: &Figure, decimals: usize) -> Cell {
    optional(figure.sources.as_ref().and_then(|sources: &Sources| sources.training), decimals)
}

/// The figures of every method and what a seed changes: a listing a metric. The parts of gold and
/// the measures of diversity beside EAD are left to CSV and JSON.
pub(super) fn figures(evaluation: &Evaluation) -> Vec<Listing> {
    let spread = "the standard deviation over seeds, and the standard error of a single seed's \
        figure over inputs: where the first is the larger, the interval over inputs is too narrow \
        for another seed";
    let line = |figure: &Figure, decimals: usize| {
        let inputs = figure.error_over_inputs();
        let ratio = inputs.filter(|inputs| *inputs > 0.0).map(|inputs| figure.over.std / inputs);
        let mut cells = vec![
            Cell::interval(&figure.over.interval, decimals),
            Cell::number(figure.over.std, decimals),
            optional(inputs, decimals),
            optional(ratio, 1),
        ];
        cells.extend(figure.sources.as_ref().map(|_| training(figure, decimals)));
        cells.push(values(figure, decimals));
        Line {
            name: figure.method.clone(),
            test_set: figure.test_set.clone(),
            cells,
            verdict: None,
        }
    };
    let listing = |own: &[&Figure]| {
        let mut columns = vec!["method", "mean", "std, seeds", "error, inputs", "ratio"];
        let meaning = match is_full(own) {
            true => {
                columns.push("std, training");
                format!(
                    "mean over seeds with its 95% interval; {spread}; the part of training in the \
                     standard deviation, as estimated"
                )
            }
            false => format!("mean over seeds with its 95% interval by Student's t; {spread}"),
        };
        columns.push("each seed");
        (meaning, columns)
    };
    listings(evaluation, &[Quantity::Level], |_| true, |_| "every seed".into(), listing, line)
}

/// Comparisons over seeds: a listing a metric and a kind of comparison.
pub(super) fn differences(evaluation: &Evaluation) -> Vec<Listing> {
    let line = |figure: &Figure, decimals: usize| {
        let mut cells = vec![
            Cell::interval(&figure.over.interval, decimals),
            p(figure.over.p),
            figure.p_corrected().map_or(Cell(vec![]), p),
        ];
        if let Some(test) = &figure.test {
            cells.extend(decided(test));
        }
        cells.push(Cell::number(figure.over.std, decimals));
        cells.extend(figure.test.as_ref().map(|_| training(figure, decimals)));
        cells.push(values(figure, decimals));
        compared(figure, cells)
    };
    let listing = |own: &[&Figure]| {
        let Some(test) = &own[0].test else {
            let meaning = "one method minus another, seed by seed, with its 95% interval by \
                Student's t; p of the paired t test, and Holm-corrected over all of this table";
            let columns = ["methods", "difference", "p", "p, Holm", "std, seeds", "each seed"];
            return (meaning.to_owned(), columns.to_vec());
        };
        let mut columns = vec!["comparison", "mean", "p", corrected(test)];
        columns.extend(decisions(test));
        columns.extend(["std, seeds", "std, training", "each seed"]);
        (meaning(test), columns)
    };
    let title = |quantity: Quantity| format!("{} over seeds", words(quantity));
    let mut found = listings(evaluation, COMPARISONS, |_| true, title, listing, line);
    found.extend(sequential(evaluation));
    found
}

/// The verdicts of comparisons that are printed below the table: by gold and `rm`, and by the
/// metrics that have a region of equivalence. None with `statistics: basic`.
pub(super) fn verdicts(evaluation: &Evaluation) -> Vec<Listing> {
    let line = |figure: &Figure, decimals: usize| {
        let mut cells = vec![
            Cell::interval(&figure.over.interval, decimals),
            figure.p_corrected().map_or(Cell(vec![]), p),
        ];
        cells.extend(figure.test.iter().flat_map(decided));
        compared(figure, cells)
    };
    let wanted = |figure: &Figure| {
        figure
            .test
            .as_ref()
            .is_some_and(|test| PRINTED.contains(&figure.metric.as_str()) || test.margin.is_some())
    };
    let listing = |own: &[&Figure]| {
        let (mut columns, mut words) = (vec!["comparison", "mean"], String::new());
        if let Some(test) = &own[0].test {
            columns.push(corrected(test));
            columns.extend(decisions(test));
            words = meaning(test);
        }
        (words, columns)
    };
    let title = |quantity: Quantity| format!("{} over seeds", words(quantity));
    let mut found = listings(evaluation, COMPARISONS, wanted, title, listing, line);
    found.extend(sequential(evaluation));
    found
}

/// The comparisons that seeds are added for until they are decided.
fn sequential(evaluation: &Evaluation) -> Vec<Listing> {
    let line = |figure: &Figure, decimals: usize| {
        let mut cells = vec![Cell::number(figure.over.interval.mean, decimals)];
        if let Some(own) = &figure.sequential {
            cells.extend([own.known.low, own.known.high].map(|end| optional(end, decimals)));
            cells.extend([p(own.known.p), Cell(own.seeds.iter().map(usize::to_string).collect())]);
        }
        let verdict = figure.sequential.as_ref().map(|own| Verdict::decided(own.verdict));
        Line { verdict, ..compared(figure, cells) }
    };
    let head = |own: &[&Figure]| {
        let columns = vec!["comparison", "mean", "low", "high", "p", "seeds"];
        let Some(first) = &own[0].sequential else { return (String::new(), columns) };
        let region = first.margin.map_or(String::new(), |margin| {
            format!("; equivalent: the interval is within {margin} of 0")
        });
        let meaning = format!(
            "mean over the first {} seeds, with an interval and a p value that hold however often \
             seeds were added, at 0.05 over the {} comparisons together{region}; seeds: how many \
             in all would decide at the observed mean and spread, a planning aid and no evidence",
            own[0].over.values.len(),
            first.of,
        );
        (meaning, columns)
    };
    let title = |_| "decided at any number of seeds".to_owned();
    let wanted = |figure: &Figure| figure.sequential.is_some();
    listings(evaluation, COMPARISONS, wanted, title, head, line)
}

/// What is compared with 0.
const COMPARISONS: &[Quantity] =
    &[Quantity::Difference, Quantity::Gap, Quantity::GainGap, Quantity::Matched];

fn is_full(own: &[&Figure]) -> bool {
    own.iter().any(|figure| figure.sources.is_some())
}

/// A quantity in a title.
fn words(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Difference => "differences",
        Quantity::Gap => "gaps",
        Quantity::GainGap => "gaps of gains",
        Quantity::Matched => "against best-of-n at equal KL",
        other => other.plural(),
    }
}

/// A comparison with its verdict.
fn compared(figure: &Figure, cells: Vec<Cell>) -> Line {
    let name =
        figure.with.as_ref().map_or(figure.method.clone(), |with| pair(&figure.method, with));
    let to = figure.to.as_ref();
    let verdict = match (&figure.test, figure.p_holm) {
        (Some(test), _) => Some(Verdict::decided(test.verdict)),
        (None, p) => p.map(|p| Verdict::of(figure.over.interval.mean, p)),
    };
    Line {
        name,
        test_set: to.map_or(figure.test_set.clone(), |to| pair(&figure.test_set, to)),
        cells,
        verdict,
    }
}

/// What a family's tests are, in words.
fn meaning(test: &Test) -> String {
    let region = test.margin.map_or(String::new(), |margin| {
        format!("; equivalent: within {margin} of 0, by two one-sided tests, corrected likewise")
    });
    format!(
        "mean over seeds with its 95% interval; p corrected by {} over the {} {}{region}; seeds: \
         how many in all would decide at the observed mean and spread with power 0.8, a planning \
         aid and no evidence",
        test.correction.name(),
        test.of,
        test.family,
    )
}

fn corrected(test: &Test) -> &'static str {
    match test.correction {
        Correction::Holm => "p, Holm",
        Correction::BenjaminiHochberg => "p, BH",
    }
}

/// The headings of [`decided`].
fn decisions(test: &Test) -> Vec<&'static str> {
    match test.margin {
        Some(_) => vec!["seeds", "p, equivalent", "seeds, equivalent"],
        None => vec!["seeds"],
    }
}

fn decided(test: &Test) -> Vec<Cell> {
    let count = |seeds: Option<usize>| Cell(seeds.iter().map(usize::to_string).collect());
    let mut cells = vec![count(test.seeds_for_difference)];
    if test.margin.is_some() {
        cells.push(test.p_equivalence_corrected.map_or(Cell(vec![]), p));
        cells.push(count(test.seeds_for_equivalence));
    }
    cells
}

fn listings(
    evaluation: &Evaluation,
    quantities: &[Quantity],
    wanted: impl Fn(&Figure) -> bool,
    title: impl Fn(Quantity) -> String,
    head: impl Fn(&[&Figure]) -> (String, Vec<&'static str>),
    line: impl Fn(&Figure, usize) -> Line,
) -> Vec<Listing> {
    let mut found = Vec::new();
    for quantity in quantities {
        let all: Vec<&Figure> = evaluation
            .seeds
            .iter()
            .filter(|figure| figure.quantity() == *quantity && wanted(figure))
            .filter(|figure| !is_part(&figure.metric) && !is_spread(&figure.metric))
            .collect();
        for metric in distinct(all.iter().map(|figure| figure.metric.as_str())) {
            let own: Vec<&Figure> =
                all.iter().copied().filter(|figure| figure.metric == metric).collect();
            let decimals = decimals(own.iter().map(|figure| figure.over.interval.mean));
            let (meaning, columns) = head(&own);
            found.push(Listing {
                title: format!("{metric}: {}", title(*quantity)),
                metric: metric.into(),
                meaning,
                columns,
                lines: own.iter().map(|figure| line(figure, decimals)).collect(),
            });
        }
    }
    found
}
