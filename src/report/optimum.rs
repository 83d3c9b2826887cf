//! The optimum of the KL-regularised objective beside best-of-n and the methods, as a listing. Lays
//! out what `optimum.json` has; every format shows the same.

use super::layout::{Cell, Line, Listing, Verdict, decimals};
use super::run::Evaluation;
use super::significance::p;
use crate::artefacts::optimum::{DISTANCE, Figures, Optimum};
use crate::eval::interval::{Interval, Kind};
use crate::eval::over_optimisation::Fit;

/// The metrics of the listing, in the order of its columns.
pub(super) const METRICS: [&str; 6] = ["kl", "gold", "win_rate", "rm", "reward", DISTANCE];

/// A line a point of every test set; nothing without an optimum.
pub(super) fn listing(evaluation: &Evaluation) -> Option<Listing> {
    let optima = &evaluation.optimum;
    let points = || optima.iter().flat_map(Optimum::points);
    let has = |metric: &str| points().any(|(_, figures)| figures.contains_key(metric));
    let metrics: Vec<&'static str> = METRICS.into_iter().filter(|metric| has(metric)).collect();
    let digits: Vec<usize> = metrics
        .iter()
        .map(|metric| {
            let of = |(_, figures): (_, &Figures)| Some(figures.get(*metric)?.mean);
            decimals(points().filter_map(of))
        })
        .collect();
    let cells = |ess: Cell, figures: Option<&Figures>| {
        let cell = |(metric, digits): (&&str, &usize)| {
            let figure = figures.and_then(|figures| figures.get(*metric));
            figure.map_or_else(|| Cell(Vec::new()), |figure| Cell::interval(figure, *digits))
        };
        std::iter::once(ess).chain(metrics.iter().zip(&digits).map(cell)).collect()
    };
    let of_set = |optimum: &Optimum| {
        let line = |name: String, cells: Vec<Cell>| Line {
            name,
            test_set: optimum.test_set.clone(),
            cells,
            verdict: None,
        };
        let by_beta = optimum
            .by_beta
            .iter()
            .map(|at| line(at.name(), cells(Cell::number(at.ess, 1), at.figures.as_ref())));
        let none = || Cell(Vec::new());
        let best = optimum.best_of_n.iter();
        let best = best.map(|at| line(at.name(), cells(none(), Some(&at.figures))));
        let methods = optimum.methods.iter();
        let methods = methods.map(|of| line(of.method.clone(), cells(none(), Some(&of.figures))));
        by_beta.chain(best).chain(methods).collect::<Vec<Line>>()
    };
    let shown = evaluation.performance().filter(|performance| metrics.contains(performance));
    (!optima.is_empty()).then(|| Listing {
        title: "optimum of the KL-regularised objective".into(),
        metric: shown.unwrap_or("kl").into(),
        meaning:
            "from candidates of the reference policy, beside best-of-n of the same candidates \
            and the methods' samples at the same temperature; no figures where the effective \
            sample size (ESS) is too small"
                .into(),
        columns: ["point", "ESS"].into_iter().chain(metrics.iter().copied()).collect(),
        lines: optima.iter().flat_map(of_set).collect(),
    })
}

/// Gold over KL, fitted: a line a curve of every test set; nothing where no curve has three points.
pub(super) fn fits(evaluation: &Evaluation) -> Option<Listing> {
    let all: Vec<(&Optimum, &Fit)> = evaluation
        .optimum
        .iter()
        .flat_map(|optimum| optimum.fits.iter().map(move |fit| (optimum, fit)))
        .collect();
    let line = |(optimum, fit): &(&Optimum, &Fit)| {
        let number = |x: Option<f64>| x.map_or_else(|| Cell(Vec::new()), |x| Cell::number(x, 2));
        let fall = fit.fall.as_ref();
        let last = fall.map(|fall| [Cell::interval(&fall.difference, 3), p(fall.p)]);
        let verdict =
            fall.map(|fall| if fall.is_passed() { Verdict::Lower } else { Verdict::Unclear });
        let mut cells = vec![Cell::interval(&fit.a, 3), Cell::interval(&fit.b, 3)];
        cells.extend([number(Some(fit.residual)), number(fit.peak_kl), number(fit.peak_gain)]);
        cells.extend(last.unwrap_or_else(|| [Cell(Vec::new()), Cell(Vec::new())]));
        Line { name: fit.family.clone(), test_set: optimum.test_set.clone(), cells, verdict }
    };
    (!all.is_empty()).then(|| Listing {
        title: "gold: over-optimisation".into(),
        metric: "gold".into(),
        meaning: "gold gained at KL d^2, fitted by d (a - b d) for best-of-n and d (a - b log d)             for policies; the peak of the form; gold furthest from the reference minus the highest             gold, p times the number of points it was chosen from"
            .into(),
        columns: vec![
            "curve",
            "a",
            "b",
            "residual",
            "peak, nats",
            "gain there",
            "furthest - highest",
            "p",
        ],
        lines: all.iter().map(line).collect(),
    })
}

/// One figure of one point, for CSV.
pub(super) struct Figure<'a> {
    /// `optimum`, `optimum_best_of_n` or `optimum_method`.
    pub(super) kind: &'static str,
    /// `optimum`, `best_of_n`, or the method.
    pub(super) method: String,
    /// Beta, n, or nothing.
    pub(super) with: String,
    pub(super) test_set: &'a str,
    /// `ess`, or a metric.
    pub(super) metric: &'a str,
    pub(super) interval: Interval,
    /// The KL of the point, in nats.
    pub(super) kl: Option<f64>,
}

/// All figures of all points, and the effective sample size at each beta.
pub(super) fn figures(evaluation: &Evaluation) -> Vec<Figure<'_>> {
    evaluation.optimum.iter().flat_map(of_set).collect()
}

fn of_set(optimum: &Optimum) -> Vec<Figure<'_>> {
    let mut all = Vec::new();
    for at in &optimum.by_beta {
        let ess = Figure {
            kind: "optimum",
            method: "optimum".into(),
            with: at.beta.to_string(),
            test_set: &optimum.test_set,
            metric: "ess",
            interval: Interval::none(at.ess, optimum.inputs, Kind::Unsaid),
            kl: None,
        };
        if let Some(figures) = &at.figures {
            all.extend(of_point(optimum, "optimum", ["optimum", &ess.with], figures));
        }
        all.push(ess);
    }
    for at in &optimum.best_of_n {
        let names = ["best_of_n", &at.n.to_string()];
        all.extend(of_point(optimum, "optimum_best_of_n", names, &at.figures));
    }
    for of in &optimum.methods {
        all.extend(of_point(optimum, "optimum_method", [&of.method, ""], &of.figures));
    }
    all
}

fn of_point<'a>(
    optimum: &'a Optimum,
    kind: &'static str,
    [method, with]: [&str; 2],
    figures: &'a Figures,
) -> Vec<Figure<'a>> {
    let figure = |(metric, interval): (&'a String, &Interval)| Figure {
        kind,
        method: method.into(),
        with: with.into(),
        test_set: &optimum.test_set,
        metric,
        interval: *interval,
        kl: figures.get("kl").map(|kl| kl.mean),
    };
    figures.iter().map(figure).collect()
}
