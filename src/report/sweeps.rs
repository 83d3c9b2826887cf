//! Figures along the axes of sweeps: for every axis that an evaluation or a method has in its name,
//! a metric over the values of the axis, a line a method and test set; and the comparisons of
//! neighbouring values. Lays out what evaluations have, and tests nothing itself.
//!
//! 1. Evaluations of one family (`evaluation[seed=0]`, `evaluation[seed=1]`) are one sweep, and so
//!    are methods of one family (`ppo[kl=0.02]`, `ppo[kl=0.1]`).
//! 2. A line is of the figures that differ in the axis alone. It has the other axes in its name:
//!    `ppo[seed=1]` along `kl`. A method of which there is one value of the axis is no line.
//! 3. Neighbours are compared where one evaluation has both methods, by the p values of the
//!    evaluation: the higher value of the axis minus the lower.

use super::figures::{Figure, RESULTS, figures};
use super::layout::{Block, Cell, Directions, Line, Listing, Verdict, decimals, distinct, ordered};
use super::metrics::{Direction, define};
use super::run::{Evaluation, Run};
use super::significance::p;
use crate::artefacts::points::{family, point};
use crate::artefacts::seeds::Quantity;
use crate::artefacts::table::DIVERSITY;
use crate::eval::interval::Interval;

/// A metric over the values of an axis.
pub(super) struct Sweep {
    /// The family of evaluations.
    pub(super) evaluation: String,
    /// The axis.
    pub(super) axis: String,
    /// The metric.
    pub(super) metric: String,
    /// The values, in ascending order where all are numbers.
    pub(super) values: Vec<String>,
    /// The methods of the evaluations, whether they differ in the axis or not.
    pub(super) methods: Vec<String>,
    /// In the order of test sets, and then of methods.
    pub(super) tracks: Vec<Track>,
    /// Comparisons of neighbouring values.
    neighbours: Vec<Neighbours>,
}

/// The figures that differ in the axis alone.
pub(super) struct Track {
    /// The method, with the values of the other axes.
    pub(super) name: String,
    /// The test set.
    pub(super) test_set: String,
    /// The place of the value of the axis, in ascending order, with the figure there.
    pub(super) points: Vec<(usize, Interval)>,
}

/// One method at two neighbouring values of the axis.
struct Neighbours {
    name: String,
    test_set: String,
    /// The higher value of the axis minus the lower.
    interval: Interval,
    /// The p value, corrected over the family of the evaluation.
    p: f64,
    verdict: Verdict,
    /// The place of the lower value of the axis.
    from: usize,
}

/// A figure with its point.
struct At<'a> {
    figure: Figure<'a>,
    point: Vec<(String, String)>,
}

impl At<'_> {
    fn value(&self, axis: &str) -> Option<&str> {
        self.point.iter().find(|(own, _)| own == axis).map(|(_, value)| value.as_str())
    }

    /// The method with the values of all axes but one.
    fn name(&self, axis: &str) -> String {
        let rest = self.point.iter().filter(|(own, _)| own != axis);
        let rest: Vec<(&str, &str)> =
            rest.map(|(own, value)| (own.as_str(), value.as_str())).collect();
        format!("{}{}", self.figure.family(), words(&rest))
    }
}

/// All sweeps of a run: of each family of evaluations, axis by axis, performance, diversity and KL.
pub(super) fn sweeps(run: &Run) -> Vec<Sweep> {
    let mut found = Vec::new();
    for of in distinct(run.evaluations.iter().map(|evaluation| family(&evaluation.node))) {
        let own: Vec<&Evaluation> =
            run.evaluations.iter().filter(|evaluation| family(&evaluation.node) == of).collect();
        let performance = own.iter().find_map(|evaluation| evaluation.performance());
        let metrics: Vec<&str> = performance.into_iter().chain([DIVERSITY, "kl"]).collect();
        let all = own.iter().flat_map(|evaluation| figures(evaluation));
        let shown = all.filter(|one| {
            RESULTS.contains(&one.kind) && metrics.contains(&&*one.metric) && one.interval.n > 0
        });
        let all: Vec<At<'_>> = shown.map(at).collect();
        let axes = distinct(all.iter().flat_map(|one| &one.point).map(|(axis, _)| axis.as_str()));
        for axis in axes {
            found.extend(metrics.iter().filter_map(|metric| sweep(of, &own, &all, axis, metric)));
        }
    }
    found
}

fn at(figure: Figure<'_>) -> At<'_> {
    let own = |(axis, value): (&str, &str)| (axis.to_owned(), value.to_owned());
    let point = figure.point().into_iter().map(own).collect();
    At { figure, point }
}

fn sweep(
    of: &str,
    evaluations: &[&Evaluation],
    all: &[At<'_>],
    axis: &str,
    metric: &str,
) -> Option<Sweep> {
    let own: Vec<&At<'_>> = all.iter().filter(|one| one.figure.metric == metric).collect();
    let values = ordered(distinct(own.iter().filter_map(|one| one.value(axis))));
    let mut tracks: Vec<Track> = Vec::new();
    for one in &own {
        let place = one.value(axis).and_then(|value| values.iter().position(|own| *own == value));
        let Some(place) = place else { continue };
        let (name, set) = (one.name(axis), one.figure.test_set);
        let own = tracks.iter().position(|track| track.name == name && track.test_set == set);
        let own = own.unwrap_or_else(|| {
            tracks.push(Track { name, test_set: set.to_owned(), points: Vec::new() });
            tracks.len() - 1
        });
        tracks[own].points.push((place, one.figure.interval));
    }
    for track in &mut tracks {
        track.points.sort_by_key(|point| point.0);
    }
    tracks.retain(|track| track.points.first().map(|p| p.0) != track.points.last().map(|p| p.0));
    let sets = distinct(own.iter().map(|one| one.figure.test_set));
    tracks.sort_by_key(|track| sets.iter().position(|set| *set == track.test_set));
    let neighbours = evaluations
        .iter()
        .flat_map(|evaluation| neighbours(evaluation, axis, metric, &values))
        .collect();
    let methods = distinct(all.iter().map(|one| &*one.figure.method));
    (!tracks.is_empty()).then(|| Sweep {
        methods: methods.into_iter().map(str::to_owned).collect(),
        evaluation: of.to_owned(),
        axis: axis.to_owned(),
        metric: metric.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        tracks,
        neighbours,
    })
}

/// The comparisons of an evaluation between methods that differ in one axis alone, at neighbouring
/// values of it.
fn neighbours(
    evaluation: &Evaluation,
    axis: &str,
    metric: &str,
    values: &[&str],
) -> Vec<Neighbours> {
    let over_inputs = evaluation.comparisons.differences.iter().map(|one| {
        let names = [one.method.as_str(), &one.with, &one.metric, &one.test_set];
        (names, one.interval, one.p_holm, Verdict::of(one.interval.mean, one.p_holm))
    });
    let over_seeds = evaluation.seeds.iter().filter_map(|one| {
        let names = [one.method.as_str(), one.with.as_deref()?, &one.metric, &one.test_set];
        let own = (one.quantity() == Quantity::Difference).then_some(one.over.interval)?;
        let p = one.p_corrected()?;
        let verdict = match &one.test {
            Some(test) => Verdict::decided(test.verdict),
            None => Verdict::of(own.mean, p),
        };
        Some((names, own, p, verdict))
    });
    let own = over_inputs.chain(over_seeds).filter(|(names, ..)| names[2] == metric);
    let node = point(&evaluation.node);
    let compared = own.filter_map(|([method, with, _, test_set], interval, p, verdict)| {
        let ((value, name), (other, beside)) = (split(method, axis)?, split(with, axis)?);
        let place = |value: &str| values.iter().position(|own| *own == value);
        let (one, two) = (place(value)?, place(other)?);
        if name != beside || one.abs_diff(two) != 1 {
            return None;
        }
        let (from, to) = (one.min(two), one.max(two));
        let negative = one < two;
        let whose = if node.is_empty() { "" } else { " in " };
        Some(Neighbours {
            name: format!("{name}{whose}{}: {} - {}", words(&node), values[to], values[from]),
            test_set: test_set.to_owned(),
            interval: if negative { negated(interval) } else { interval },
            p,
            verdict: if negative { verdict.negated() } else { verdict },
            from,
        })
    });
    let mut all: Vec<Neighbours> = compared.collect();
    let sets = distinct(evaluation.table.rows.iter().map(|row| row.test_set.as_str()));
    all.sort_by_key(|one| (sets.iter().position(|set| *set == one.test_set), one.from));
    all
}

/// The value of an axis in the name of a method, and the name without it.
fn split<'a>(name: &'a str, axis: &str) -> Option<(&'a str, String)> {
    let (own, rest): (Vec<_>, Vec<_>) =
        point(name).into_iter().partition(|(other, _)| *other == axis);
    Some((own.first()?.1, format!("{}{}", family(name), words(&rest))))
}

/// A point as names have it: `[seed=1]`; nothing without an axis.
fn words(point: &[(&str, &str)]) -> String {
    let all: Vec<String> = point.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
    if all.is_empty() { String::new() } else { format!("[{}]", all.join(",")) }
}

fn negated(interval: Interval) -> Interval {
    Interval { mean: -interval.mean, low: -interval.high, high: -interval.low, ..interval }
}

impl Sweep {
    /// What a heading calls it, without the metric.
    pub(super) fn title(&self) -> String {
        format!("{} along {}", self.evaluation, self.axis)
    }

    /// The names of methods, each once.
    pub(super) fn names(&self) -> Vec<&str> {
        distinct(self.tracks.iter().map(|track| track.name.as_str()))
    }

    /// The test sets, each once.
    pub(super) fn test_sets(&self) -> Vec<&str> {
        distinct(self.tracks.iter().map(|track| track.test_set.as_str()))
    }

    /// A block a test set: methods down, values of the axis across.
    pub(super) fn blocks(&self) -> Vec<Block<'_>> {
        let means = self.tracks.iter().flat_map(|track| &track.points).map(|(_, own)| own.mean);
        let decimals = decimals(means);
        let line = |track: &'_ Track| -> Vec<Cell> {
            let cell = |at: usize| match track.points.iter().find(|(place, _)| *place == at) {
                Some((_, interval)) => Cell::interval(interval, decimals),
                None => Cell(vec![]),
            };
            (0..self.values.len()).map(cell).collect()
        };
        let direction = define(&self.metric).map_or(Direction::Neither, |of| of.direction);
        let block = |set: &str| Block {
            title: format!("{} along {}, {set}", self.metric, self.axis),
            meaning: String::new(),
            columns: self.values.iter().map(String::as_str).collect(),
            lines: self
                .tracks
                .iter()
                .filter(|track| track.test_set == set)
                .map(|track| (track.name.as_str(), line(track)))
                .collect(),
            directions: Directions { title: direction, columns: Vec::new() },
        };
        self.test_sets().into_iter().map(block).collect()
    }

    /// The comparisons of neighbouring values, where there are any.
    pub(super) fn listing(&self) -> Option<Listing> {
        let all = &self.neighbours;
        let decimals = decimals(all.iter().map(|one| one.interval.mean));
        let line = |one: &Neighbours| Line {
            name: one.name.clone(),
            test_set: one.test_set.clone(),
            cells: vec![Cell::interval(&one.interval, decimals), p(one.p)],
            verdict: Some(one.verdict),
        };
        (!all.is_empty()).then(|| Listing {
            title: format!("{}: neighbours along {}", self.metric, self.axis),
            metric: self.metric.clone(),
            meaning: "one value of the axis minus the value before it, paired, with its 95% \
                interval; p corrected over all comparisons of the evaluation in the metric"
                .into(),
            columns: vec!["methods", "difference", "p, corrected"],
            lines: all.iter().map(line).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefacts::table::{Row, Table};
    use crate::eval::compare::Difference;
    use crate::eval::interval::Kind;

    fn figure(mean: f64) -> Interval {
        Interval { mean, low: mean - 0.25, high: mean + 0.5, n: 9, kind: Kind::Unsaid }
    }

    /// `sft` without an axis, `ppo` of the values of kl, with gold of 10 kl plus the seed.
    fn evaluation(seed: usize, values: &[f64]) -> Evaluation {
        let mut rows = vec![Row::new("sft", "id", "gold", figure(seed as f64))];
        let mut found =
            Evaluation { node: format!("evaluation[seed={seed}]"), ..Evaluation::default() };
        for kl in values {
            let name = format!("ppo[kl={kl}]");
            for set in ["id", "ood"] {
                rows.push(Row::new(&name, set, "gold", figure(10.0 * kl + seed as f64)));
            }
        }
        // Each value minus the next of the list, as methods are compared.
        for pair in values.windows(2) {
            found.comparisons.differences.push(Difference {
                metric: "gold".into(),
                test_set: "id".into(),
                method: format!("ppo[kl={}]", pair[0]),
                with: format!("ppo[kl={}]", pair[1]),
                interval: figure(10.0 * (pair[0] - pair[1])),
                p: 0.001,
                p_holm: 0.01,
            });
        }
        found.table = Table { rows, ..Table::default() };
        found
    }

    #[test]
    fn figures_are_in_the_order_of_the_axis_with_the_other_axes_in_their_names() {
        let evaluations = vec![evaluation(0, &[0.5, 0.25, 1.0]), evaluation(1, &[0.5, 0.25])];
        let all = sweeps(&Run { evaluations, ..Run::default() });
        let titles: Vec<String> = all.iter().map(Sweep::title).collect();
        assert_eq!(titles, ["evaluation along seed", "evaluation along kl"]);
        type Means = (String, String, Vec<(usize, f64)>);
        let means = |sweep: &Sweep| -> Vec<Means> {
            let track = |track: &Track| {
                let points = track.points.iter().map(|(at, interval)| (*at, interval.mean));
                (track.name.clone(), track.test_set.clone(), points.collect())
            };
            sweep.tracks.iter().map(track).collect()
        };
        let own = |name: &str, set: &str, points: &[(usize, f64)]| -> Means {
            (name.to_owned(), set.to_owned(), points.to_vec())
        };
        // kl=1 has one seed alone, and is no line along seeds.
        assert_eq!(all[0].values, ["0", "1"]);
        assert_eq!(
            means(&all[0]),
            [
                own("sft", "id", &[(0, 0.0), (1, 1.0)]),
                own("ppo[kl=0.5]", "id", &[(0, 5.0), (1, 6.0)]),
                own("ppo[kl=0.25]", "id", &[(0, 2.5), (1, 3.5)]),
                own("ppo[kl=0.5]", "ood", &[(0, 5.0), (1, 6.0)]),
                own("ppo[kl=0.25]", "ood", &[(0, 2.5), (1, 3.5)]),
            ]
        );
        assert_eq!(all[1].values, ["0.25", "0.5", "1"]);
        assert_eq!(
            means(&all[1]),
            [
                own("ppo[seed=0]", "id", &[(0, 2.5), (1, 5.0), (2, 10.0)]),
                own("ppo[seed=1]", "id", &[(0, 2.5 + 1.0), (1, 6.0)]),
                own("ppo[seed=0]", "ood", &[(0, 2.5), (1, 5.0), (2, 10.0)]),
                own("ppo[seed=1]", "ood", &[(0, 3.5), (1, 6.0)]),
            ]
        );
        // A dash where a line has no value.
        let lines = &all[1].blocks()[0].lines;
        assert_eq!(lines[0].1[2].text(0), "10.00 [9.75, 10.50]");
        assert_eq!((lines[1].0, lines[1].1[2].text(0)), ("ppo[seed=1]", "-".to_owned()));
    }

    #[test]
    fn neighbours_are_compared_higher_minus_lower() {
        // 0.5 - 0.25 is compared as it is. 0.25 and 1 are no neighbours: 0.5 is between them.
        let evaluations = vec![evaluation(0, &[0.5, 0.25, 1.0])];
        let all = sweeps(&Run { evaluations, ..Run::default() });
        assert_eq!(all.len(), 1, "one seed is no axis");
        let found = all[0].listing().unwrap();
        let one = |line: &Line| (line.name.clone(), line.cells[0].text(0), line.verdict);
        assert_eq!(
            found.lines.iter().map(one).collect::<Vec<_>>(),
            [(
                "ppo in [seed=0]: 0.5 - 0.25".to_owned(),
                "2.500 [2.250, 3.000]".to_owned(),
                Some(Verdict::Higher)
            )]
        );
        // 0.25 minus 0.5 was compared: ends change places, and the verdict is the other one.
        let mut lower = evaluation(0, &[0.25, 0.5]);
        lower.node = "evaluation".into();
        lower.comparisons.differences[0].p_holm = 0.2;
        let mut higher = lower.clone();
        higher.comparisons.differences[0].p_holm = 0.01;
        for (evaluation, verdict) in [(lower, Verdict::Unclear), (higher, Verdict::Higher)] {
            let all = sweeps(&Run { evaluations: vec![evaluation], ..Run::default() });
            let found = all[0].listing().unwrap();
            assert_eq!(
                one(&found.lines[0]),
                ("ppo: 0.5 - 0.25".into(), "2.500 [2.000, 2.750]".into(), Some(verdict))
            );
        }
    }

    #[test]
    fn a_run_without_axes_has_no_sweep() {
        let mut plain = evaluation(0, &[]);
        plain.node = "evaluation".into();
        assert!(sweeps(&Run { evaluations: vec![plain], ..Run::default() }).is_empty());
    }
}
