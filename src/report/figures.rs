//! Every figure of an evaluation in one list, as CSV and `posttrain results` have it: results,
//! comparisons, figures over seeds, the optimum. Each figure has the point of a sweep that it is
//! of. Knows no format.

use std::borrow::Cow;

use super::metrics::{DIFFERENCE, define, define_in};
use super::optimum;
use super::run::{Evaluation, Judging, Run};
use super::significance::{of_two, pair};
use crate::artefacts::judgements::OfSplit;
use crate::artefacts::points::{family, point};
use crate::artefacts::seeds::{Figure as SeedFigure, Quantity};
use crate::artefacts::table::Table;
use crate::eval::correction::Correction;
use crate::eval::interval::Interval;

/// The kinds of figures of one method on one test set.
pub const RESULTS: [&str; 2] = ["result", "over_seeds"];

/// The kind of the KL of a comparison at equal KL, whose metric has another unit.
const KL_OVER_SEEDS: &str = "kl_at_equal_kl_over_seeds";

/// One figure. What its kind does not have is `None` or empty. docs/report.md lists the kinds.
#[derive(Clone, Debug)]
pub struct Figure<'a> {
    /// The node.
    pub evaluation: &'a str,
    /// The method; two methods (`a - b`) of a gap of gains.
    pub method: Cow<'a, str>,
    /// The test set.
    pub test_set: &'a str,
    /// The metric.
    pub metric: Cow<'a, str>,
    /// The figure, in the unit of the metric, with its 95% interval.
    pub interval: Interval,
    /// What it is: `result`, `difference`, `over_seeds`, and so on.
    pub kind: &'static str,
    /// What is subtracted, or compared with: a method, a test set, a beta, an n.
    pub with: Cow<'a, str>,
    /// The p value of no difference.
    pub p: Option<f64>,
    /// The same after Holm's correction.
    pub p_holm: Option<f64>,
    /// The KL of the comparison, or of the point, in nats.
    pub kl: Option<f64>,
    /// The standard deviation over seeds of training.
    pub std_over_seeds: Option<f64>,
    /// The standard error over inputs of one seed's figure.
    pub error_over_inputs: Option<f64>,
    /// Each seed's value.
    pub each_seed: &'a [f64],
    /// The method whose point the figure has; the first of two. Empty where there is none.
    subject: Cow<'a, str>,
    /// The table of the evaluation, which says what metrics of the user's are.
    table: Option<&'a Table>,
}

impl<'a> Figure<'a> {
    fn new(
        evaluation: &'a str,
        [method, test_set, metric]: [&'a str; 3],
        interval: Interval,
        kind: &'static str,
    ) -> Self {
        Figure {
            evaluation,
            method: method.into(),
            test_set,
            metric: metric.into(),
            interval,
            kind,
            with: "".into(),
            p: None,
            p_holm: None,
            kl: None,
            std_over_seeds: None,
            error_over_inputs: None,
            each_seed: &[],
            subject: method.into(),
            table: None,
        }
    }

    /// The point of the sweep that it is of, each axis with its value: the point of the node, and
    /// that of the method, which counts where both have an axis. Of a comparison, the point of the
    /// first method.
    pub fn point(&self) -> Vec<(&str, &str)> {
        let mut all = point(self.evaluation);
        for (axis, value) in point(&self.subject) {
            match all.iter_mut().find(|(other, _)| *other == axis) {
                Some(own) => own.1 = value,
                None => all.push((axis, value)),
            }
        }
        all
    }

    /// The method without its point: `ppo` of `ppo[kl=0.02]`. Two methods of a gap of gains are
    /// left as they are.
    pub fn family(&self) -> &str {
        if self.subject == self.method { family(&self.method) } else { &self.method }
    }

    /// Its unit, and its direction, which a figure of one method alone has.
    pub fn unit_and_direction(&self) -> (String, &'static str) {
        let definition = match self.table {
            Some(table) => define_in(table, &self.metric),
            None => define(&self.metric),
        };
        let Some(definition) = definition else { return (String::new(), "") };
        let unit = match self.kind {
            "head_to_head" | "people_agreement" => "share".into(),
            "people_tau_b" => String::new(),
            KL_OVER_SEEDS => "nats".into(),
            _ => definition.unit,
        };
        let direction = (RESULTS.contains(&self.kind)
            || self.kind == "judgement"
            || self.kind.starts_with("optimum"))
        .then(|| definition.direction.words());
        (unit, direction.flatten().unwrap_or_default())
    }
}

/// All figures of an evaluation, kind by kind.
pub fn figures(evaluation: &Evaluation) -> Vec<Figure<'_>> {
    let node = evaluation.node.as_str();
    let mut all: Vec<Figure<'_>> = Vec::new();
    // A table over seeds has nothing that is not among its figures.
    for row in evaluation.table.rows.iter().filter(|_| evaluation.seeds.is_empty()) {
        let names = [row.method.as_str(), &row.test_set, &row.metric];
        let mut figure = Figure::new(node, names, row.figure, "result");
        if row.metric.ends_with(DIFFERENCE) {
            // A row of two methods, as tables over seeds without `seeds.json` have it.
            figure.subject = "".into();
        }
        all.push(figure);
    }
    all.extend(evaluation.seeds.iter().map(|figure| of_seeds(node, figure)));
    let comparisons = &evaluation.comparisons;
    let matched = comparisons
        .matched
        .iter()
        .map(|matched| (&matched.difference, "at_equal_kl", Some(matched.kl)));
    let scored = comparisons
        .matched_quality
        .iter()
        .map(|matched| (&matched.difference, "at_equal_quality", None));
    let differences = comparisons.differences.iter().map(|one| (one, "difference", None));
    for (one, kind, kl) in differences.chain(matched).chain(scored) {
        let names = [one.method.as_str(), &one.test_set, &one.metric];
        all.push(Figure {
            with: one.with.as_str().into(),
            p: Some(one.p),
            p_holm: Some(one.p_holm),
            kl,
            ..Figure::new(node, names, one.interval, kind)
        });
    }
    for wins in &comparisons.head_to_head {
        let names = [wins.method.as_str(), &wins.test_set, &wins.metric];
        let figure = Figure::new(node, names, wins.interval, "head_to_head");
        all.push(Figure { with: wins.with.as_str().into(), ..figure });
    }
    for of in &comparisons.between {
        for (ending, interval) in of_two(of) {
            let names = [of.method.as_str(), &of.test_set, ""];
            all.push(Figure {
                metric: format!("{}{ending}", of.metric).into(),
                with: of.with.as_str().into(),
                ..Figure::new(node, names, interval, "similarity")
            });
        }
    }
    for of in optimum::figures(evaluation) {
        let figure = Figure::new(node, ["", of.test_set, of.metric], of.interval, of.kind);
        let (method, with) = (of.method, of.with.into());
        all.push(Figure {
            subject: method.clone().into(),
            method: method.into(),
            with,
            kl: of.kl,
            ..figure
        });
    }
    for one in &evaluation.beside_people {
        let kinds = [("people_agreement", one.agreement), ("people_tau_b", one.tau_b)];
        all.extend(kinds.map(|(kind, interval)| Figure {
            method: pair(&one.a, &one.b).into(),
            with: one.name.as_str().into(),
            ..Figure::new(node, [one.a.as_str(), &one.test_set, &one.metric], interval, kind)
        }));
    }
    for gap in &comparisons.gaps {
        let names = [gap.method.as_str(), &gap.from, &gap.metric];
        let figure = Figure::new(node, names, gap.interval, "gap");
        all.push(Figure { with: gap.to.as_str().into(), ..figure });
    }
    for gap in &comparisons.gains {
        let names = [gap.method.as_str(), &gap.from, &gap.metric];
        all.push(Figure {
            method: pair(&gap.method, &gap.with).into(),
            with: gap.to.as_str().into(),
            p: Some(gap.p),
            p_holm: Some(gap.p_holm),
            ..Figure::new(node, names, gap.interval, "gain_gap")
        });
    }
    all.iter_mut().for_each(|figure| figure.table = Some(&evaluation.table));
    all
}

/// A figure over seeds. A gap of gains is of two methods and two test sets.
fn of_seeds<'a>(node: &'a str, of: &'a SeedFigure) -> Figure<'a> {
    let kind = match of.quantity() {
        Quantity::Level => "over_seeds",
        Quantity::Difference => "difference_over_seeds",
        Quantity::Gap => "gap_over_seeds",
        Quantity::GainGap => "gain_gap_over_seeds",
        Quantity::Matched => "at_equal_kl_over_seeds",
        Quantity::MatchedOwn => "own_at_equal_kl_over_seeds",
        Quantity::MatchedBest => "best_at_equal_kl_over_seeds",
        Quantity::MatchedKl => KL_OVER_SEEDS,
    };
    let holm = of.test.as_ref().is_none_or(|test| test.correction == Correction::Holm);
    let names = [of.method.as_str(), &of.test_set, &of.metric];
    let figure = Figure::new(node, names, of.over.interval, kind);
    let (method, with) = match (&of.with, &of.to) {
        (Some(with), Some(to)) => (pair(&of.method, with).into(), Some(to)),
        (with, to) => (figure.method.clone(), with.as_ref().or(to.as_ref())),
    };
    Figure {
        method,
        with: with.map(String::as_str).unwrap_or_default().into(),
        p: of.quantity().is_comparison().then_some(of.over.p),
        p_holm: of.p_corrected().filter(|_| holm),
        std_over_seeds: Some(of.over.std),
        error_over_inputs: of.error_over_inputs(),
        each_seed: &of.over.values,
        ..figure
    }
}

/// The win rates of a stage `judge`, a split each.
pub fn of_judge<'a>(judging: &'a Judging) -> Vec<Figure<'a>> {
    let one = |(split, found): (&'a String, &'a OfSplit)| {
        let names = [judging.a.as_str(), split.as_str(), "win_rate"];
        let figure = Figure::new(&judging.node, names, found.win_rate, "judgement");
        Figure { with: judging.b.as_str().into(), ..figure }
    };
    judging.verdicts.splits.iter().map(one).collect()
}

/// All figures of a run: its evaluations', then its judges'.
pub fn of_run(run: &Run) -> Vec<Figure<'_>> {
    let evaluations = run.evaluations.iter().flat_map(figures);
    evaluations.chain(run.judgings.iter().flat_map(of_judge)).collect()
}
