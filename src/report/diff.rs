//! Two runs side by side: configs, inputs, figures with significance, and the step at which curves
//! of training part. Knows runs as data alone.
//!
//! 1. Nodes are paired by name. A config's leaves are compared path by path; hashes of content
//!    among them are inputs.
//! 2. Figures of the same evaluation, method, test set and metric are paired input by input where
//!    both have asked the same prompts: mean of B minus A with its interval, and p values as in
//!    [`crate::eval::compare`], Holm-corrected over all differences in one metric.
//! 3. Curves are compared bit by bit: the same inputs give the same bytes, so the first step that
//!    differs is where something else came in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::layout::{Verdict, distinct};
use super::run::{Evaluation, Node, Run};
use crate::eval::compare::{self, Flips, holm, p_value};
use crate::eval::interval::Interval;
use crate::random::Stream;

/// What differs between two runs, A and B.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The id of A.
    pub a: String,
    /// The id of B.
    pub b: String,
    /// Nodes of A alone.
    pub only_a: Vec<String>,
    /// Nodes of B alone.
    pub only_b: Vec<String>,
    /// Nodes of both that differ.
    pub nodes: Vec<NodeDiff>,
    /// Nodes of both that made the same bytes from the same config.
    pub equal_nodes: usize,
    /// Figures of both, equal ones left out.
    pub figures: Vec<Figure>,
    /// Figures that are equal.
    pub equal_figures: usize,
}

/// What differs in a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeDiff {
    /// Its name.
    pub node: String,
    /// Values of its config, its VERSION and its numerics class.
    pub config: Vec<Change>,
    /// Contents that it reads, by short hash.
    pub inputs: Vec<Change>,
    /// Whether it made other bytes.
    pub made_differs: bool,
    /// Where its curves part.
    pub parts: Option<Part>,
    /// Curves that part only after that, by step.
    pub later: Vec<Part>,
}

/// One value that differs; none where it is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its dotted path.
    pub path: String,
    /// In A.
    pub a: Option<Value>,
    /// In B.
    pub b: Option<Value>,
}

/// The first step at which curves differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The step, from 1.
    pub step: u64,
    /// The figures that differ there.
    pub metrics: Vec<String>,
}

/// One figure in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The evaluation.
    pub evaluation: String,
    /// The metric.
    pub metric: String,
    /// The test set.
    pub test_set: String,
    /// The method.
    pub method: String,
    /// The mean in A.
    pub a: f64,
    /// The mean in B.
    pub b: f64,
    /// B minus A over the same inputs; none where they have not both answered the same.
    pub paired: Option<Paired>,
}

/// A paired difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Mean of B minus A, with its interval.
    #[serde(flatten)]
    pub interval: Interval,
    /// Two-sided p value of no difference.
    pub p: f64,
    /// The same, Holm-corrected over all differences in this metric.
    pub p_holm: f64,
}

/// Compares two runs.
pub fn diff(a: &Run, b: &Run) -> Diff {
    let find = |run: &Run, name: &str| run.nodes.iter().position(|node| node.name == name);
    let only = |here: &Run, there: &Run| {
        here.nodes
            .iter()
            .filter(|node| find(there, &node.name).is_none())
            .map(|node| node.name.clone())
            .collect::<Vec<String>>()
    };
    let pairs: Vec<(&Node, &Node)> = a
        .nodes
        .iter()
        .filter_map(|node| find(b, &node.name).map(|at| (node, &b.nodes[at])))
        .collect();
    let nodes: Vec<NodeDiff> = pairs.iter().filter_map(|(a, b)| node_diff(a, b)).collect();
    let all = all_figures(a, b);
    let compared = all.len();
    let figures: Vec<Figure> =
        all.into_iter().filter(|(_, differs)| *differs).map(|(figure, _)| figure).collect();
    Diff {
        a: a.id.clone(),
        b: b.id.clone(),
        only_a: only(a, b),
        only_b: only(b, a),
        equal_nodes: pairs.len() - nodes.len(),
        nodes,
        equal_figures: compared - figures.len(),
        figures,
    }
}

/// Every figure of both runs, equal ones too.
pub fn figures(a: &Run, b: &Run) -> Vec<Figure> {
    all_figures(a, b).into_iter().map(|(figure, _)| figure).collect()
}

/// Every figure of both runs, and whether it differs.
fn all_figures(a: &Run, b: &Run) -> Vec<(Figure, bool)> {
    evaluations(a, b).into_iter().flat_map(|(a, b)| compare(a, b)).collect()
}

fn node_diff(a: &Node, b: &Node) -> Option<NodeDiff> {
    let leaves = |node: &Node| {
        let mut leaves = BTreeMap::new();
        if let Some(made) = &node.made {
            flatten(&made.config, String::new(), &mut leaves);
            leaves.insert("(version)".into(), made.version.into());
            leaves.insert("(numerics)".into(), made.numerics.clone().into());
        }
        leaves
    };
    let (of_a, of_b) = (leaves(a), leaves(b));
    let (mut config, mut inputs) = (Vec::new(), Vec::new());
    // What was never made has no config that is known.
    if a.made.is_some() && b.made.is_some() {
        let paths: BTreeSet<&String> = of_a.keys().chain(of_b.keys()).collect();
        for path in paths.into_iter().filter(|path| of_a.get(*path) != of_b.get(*path)) {
            let (own, hash) = (
                path.trim_end_matches(".$object").trim_end_matches(".$content"),
                path.contains('$'),
            );
            let short = |value: Option<&Value>| match value {
                Some(Value::String(text)) if hash => {
                    Some(text.chars().take(12).collect::<String>().into())
                }
                value => value.cloned(),
            };
            let change =
                Change { path: own.to_owned(), a: short(of_a.get(path)), b: short(of_b.get(path)) };
            if hash { inputs.push(change) } else { config.push(change) }
        }
    }
    let made_differs = a.object != b.object;
    let mut parts = parts(a, b).into_iter();
    let diff = NodeDiff {
        node: a.name.clone(),
        config,
        inputs,
        made_differs,
        parts: parts.next(),
        later: parts.collect(),
    };
    (made_differs || !diff.config.is_empty() || !diff.inputs.is_empty() || diff.parts.is_some())
        .then_some(diff)
}

/// Every value that holds no others, by its dotted path.
fn flatten(value: &Value, path: String, leaves: &mut BTreeMap<String, Value>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| flatten(value, below(name), leaves))
        }
        Value::Array(items) if !items.is_empty() => {
            items
                .iter()
                .enumerate()
                .for_each(|(at, value)| flatten(value, format!("{path}[{at}]"), leaves));
        }
        plain => drop(leaves.insert(path, plain.clone())),
    }
}

/// The first step at which each curve differs, is absent, or has ended on one side, by step.
fn parts(a: &Node, b: &Node) -> Vec<Part> {
    if a.curves.is_empty() || b.curves.is_empty() {
        return Vec::new();
    }
    type Point = (u64, Option<f64>);
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let alone = b.curves.iter().filter(|curve| a.curve(&curve.metric).is_none());
    for curve in a.curves.iter().chain(alone) {
        let points = |node: &'_ Node| -> Vec<Point> {
            node.curve(&curve.metric).map(|curve| curve.points.clone()).unwrap_or_default()
        };
        let (own, other) = (points(a), points(b));
        let same =
            |(x, y): (&Point, &Point)| x.0 == y.0 && x.1.map(f64::to_bits) == y.1.map(f64::to_bits);
        let until = own.iter().zip(&other).take_while(|pair| same(*pair)).count();
        if let Some(step) =
            own.get(until).into_iter().chain(other.get(until)).map(|point| point.0).min()
        {
            found.entry(step).or_default().push(curve.metric.clone());
        }
    }
    found.into_iter().map(|(step, metrics)| Part { step, metrics }).collect()
}

/// Evaluations of the same name; where each run has just one, these.
fn evaluations<'a>(a: &'a Run, b: &'a Run) -> Vec<(&'a Evaluation, &'a Evaluation)> {
    match (a.evaluations.as_slice(), b.evaluations.as_slice()) {
        ([one], [other]) => vec![(one, other)],
        (all, others) => all
            .iter()
            .filter_map(|one| {
                others.iter().find(|other| other.node == one.node).map(|other| (one, other))
            })
            .collect(),
    }
}

/// Every figure of both evaluations, and whether it differs: as a whole, or on any input.
fn compare(a: &Evaluation, b: &Evaluation) -> Vec<(Figure, bool)> {
    let mut figures: Vec<(Figure, bool)> = Vec::new();
    let mut flips: BTreeMap<(String, usize), Flips> = BTreeMap::new();
    for row in &a.table.rows {
        let same = b.table.rows.iter().find(|other| {
            (&other.method, &other.test_set, &other.metric)
                == (&row.method, &row.test_set, &row.metric)
        });
        let Some(other) = same else { continue };
        let values = differences(a, b, &row.test_set, &row.method, &row.metric);
        let differs = row.figure.mean.to_bits() != other.figure.mean.to_bits()
            || values.iter().flatten().any(|difference| *difference != 0.0);
        let paired = values.map(|values| {
            let n = values.len();
            let draw = || Flips::new(n, &Stream::new(0, &format!("diff {}", row.test_set)));
            let flips = flips.entry((row.test_set.clone(), n)).or_insert_with(draw);
            let p = p_value(&row.metric, &values, flips);
            Paired { interval: compare::paired(&row.metric, &values), p, p_holm: 1.0 }
        });
        let figure = Figure {
            evaluation: a.node.clone(),
            metric: row.metric.clone(),
            test_set: row.test_set.clone(),
            method: row.method.clone(),
            a: row.figure.mean,
            b: other.figure.mean,
            paired,
        };
        figures.push((figure, differs));
    }
    let metrics: BTreeSet<String> =
        figures.iter().map(|(figure, _)| figure.metric.clone()).collect();
    for metric in metrics {
        let mut family: Vec<&mut Paired> = figures
            .iter_mut()
            .filter(|(figure, _)| figure.metric == metric)
            .filter_map(|(figure, _)| figure.paired.as_mut())
            .collect();
        let corrected = holm(&family.iter().map(|paired| paired.p).collect::<Vec<f64>>());
        family.iter_mut().zip(corrected).for_each(|(paired, p)| paired.p_holm = p);
    }
    figures
}

/// B minus A for every input of a test set: none unless both have asked the same, and measured
/// every answer so.
fn differences(
    a: &Evaluation,
    b: &Evaluation,
    test_set: &str,
    method: &str,
    metric: &str,
) -> Option<Vec<f64>> {
    let of = |evaluation: &Evaluation| -> Option<BTreeMap<(String, String), f64>> {
        let inputs = evaluation.inputs.iter().filter(|input| input.test_set == test_set);
        inputs
            .map(|input| {
                Some((
                    (input.id.clone(), input.prompt.clone()),
                    input.answer(method)?.scores.get(metric).copied()??,
                ))
            })
            .collect()
    };
    let (a, b) = (of(a)?, of(b)?);
    (!a.is_empty() && a.keys().eq(b.keys()))
        .then(|| a.values().zip(b.values()).map(|(a, b)| b - a).collect())
}

impl Diff {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("A {}\nB {}\n", self.a, self.b);
        for (side, names) in [("A", &self.only_a), ("B", &self.only_b)] {
            if !names.is_empty() {
                let _ = writeln!(out, "only in {side}: {}", names.join(", "));
            }
        }
        let _ = writeln!(
            out,
            "\n{} of {} nodes differ",
            self.nodes.len(),
            self.nodes.len() + self.equal_nodes
        );
        for node in &self.nodes {
            let _ = writeln!(
                out,
                "  {}{}",
                node.node,
                if node.made_differs { "" } else { ": made the same all the same" }
            );
            for (kind, changes) in [("", &node.config), ("content of ", &node.inputs)] {
                for Change { path, a, b } in changes {
                    let value = |value: &Option<Value>| {
                        value.as_ref().map_or("absent".into(), Value::to_string)
                    };
                    let _ = writeln!(out, "    {kind}{path}: {} -> {}", value(a), value(b));
                }
            }
            if let Some(part) = &node.parts {
                let _ = writeln!(
                    out,
                    "    curves part at step {}: {}",
                    part.step,
                    part.metrics.join(", ")
                );
            }
            for part in &node.later {
                let _ =
                    writeln!(out, "      then at step {}: {}", part.step, part.metrics.join(", "));
            }
        }
        self.write_figures(&mut out);
        out
    }

    fn write_figures(&self, out: &mut String) {
        if self.figures.is_empty() && self.equal_figures == 0 {
            return;
        }
        let _ = writeln!(
            out,
            "\n{} figures differ, {} are equal",
            self.figures.len(),
            self.equal_figures
        );
        if self.figures.is_empty() {
            return;
        }
        let told =
            |figure: &&Figure| figure.paired.is_some_and(|paired| paired.p_holm < Verdict::LEVEL);
        let _ = writeln!(
            out,
            "A -> B, and B - A over the same inputs [95% interval], Holm-corrected p; * where p < \
             {}: {} of {}",
            Verdict::LEVEL,
            self.figures.iter().filter(told).count(),
            self.figures.iter().filter(|figure| figure.paired.is_some()).count()
        );
        let names = |figure: &Figure| {
            [figure.metric.clone(), figure.test_set.clone(), figure.method.clone()]
        };
        let widths = [0, 1, 2].map(|at| {
            self.figures.iter().map(|figure| names(figure)[at].chars().count()).max().unwrap_or(0)
        });
        // All of a metric together: evaluations go test set by test set.
        for metric in distinct(self.figures.iter().map(|figure| figure.metric.as_str())) {
            for figure in self.figures.iter().filter(|figure| figure.metric == metric) {
                let paired = match figure.paired {
                    Some(Paired { interval, p_holm, .. }) => {
                        let Interval { mean, low, high, .. } = interval;
                        let ends = if interval.has_ends() {
                            format!("[{low:>7.3}, {high:>7.3}]")
                        } else {
                            format!("{:>18}", "-")
                        };
                        format!(
                            "{mean:>8.3} {ends}  p {p_holm:.4}{}",
                            if told(&figure) { " *" } else { "" }
                        )
                    }
                    None => format!("{:>8.3}  not paired", figure.b - figure.a),
                };
                let [metric, test_set, method] = names(figure);
                let [first, second, third] = widths;
                let _ = writeln!(
                    out,
                    "  {metric:<first$}  {test_set:<second$}  {method:<third$}  {:>8.3} -> \
                     {:>8.3}  {paired}",
                    figure.a, figure.b
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::run::{Curve, Made};
    use super::*;
    use crate::artefacts::inputs::{Answer, Input};
    use crate::artefacts::table::{Row, Table};

    fn node(config: Value, object: &str, losses: &[f64]) -> Node {
        let points =
            losses.iter().enumerate().map(|(at, loss)| (at as u64 + 1, Some(*loss))).collect();
        Node {
            name: "sft".into(),
            object: Some(object.into()),
            made: Some(Made { config, ..Made::default() }),
            curves: vec![Curve { metric: "loss".into(), points }],
            ..Node::default()
        }
    }

    fn evaluation(shift: impl Fn(usize) -> f64) -> Evaluation {
        let values: Vec<f64> = (0..40).map(|at| (at * 37 % 40) as f64 + shift(at)).collect();
        let input = |(at, value): (usize, &f64)| Input {
            answers: vec![Answer {
                method: "sft".into(),
                text: String::new(),
                scores: [("gold".into(), Some(*value))].into(),
                samples: vec![],
            }],
            ..Input::new("id", &at.to_string(), "prompt")
        };
        let mean = values.iter().sum::<f64>() / 40.0;
        let row = |metric: &str| Row::new("sft", "id", metric, Interval::exact(mean, 40));
        let table = Table { rows: vec![row("gold"), row("kl")], ..Table::default() };
        Evaluation {
            node: "report".into(),
            table,
            inputs: values.iter().enumerate().map(input).collect(),
            ..Evaluation::default()
        }
    }

    #[test]
    fn what_differs_is_named_with_its_path_and_its_step() {
        let run = |node: Node| Run { nodes: vec![node], ..Run::default() };
        let a = run(node(
            json!({"lr": 0.1, "of": {"$object": "aaaaaaaaaaaaaaaaaa"}, "list": [1, 2]}),
            "x",
            &[3.0, 2.0, 1.0],
        ));
        let b = run(node(
            json!({"lr": 0.2, "of": {"$object": "bbbbbbbbbbbbbbbbbb"}, "list": [1]}),
            "y",
            &[3.0, 2.0, 1.5],
        ));
        let found = diff(&a, &b);
        let paths: Vec<&str> =
            found.nodes[0].config.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["list[1]", "lr"]);
        let input = &found.nodes[0].inputs[0];
        assert_eq!(
            (input.path.as_str(), input.a.clone(), input.b.clone()),
            ("of", Some("aaaaaaaaaaaa".into()), Some("bbbbbbbbbbbb".into()))
        );
        assert_eq!(found.nodes[0].parts, Some(Part { step: 3, metrics: vec!["loss".into()] }));
        assert!(
            found.text().contains("    lr: 0.1 -> 0.2\n")
                && found.text().contains("curves part at step 3: loss"),
            "{}",
            found.text()
        );
        let same = diff(&a, &a);
        assert_eq!((same.nodes.len(), same.equal_nodes, same.only_a.len()), (0, 1, 0));
        // Curves that part later are told of after the first.
        let with_rate = |node: Node, rate: f64| {
            let rate = Curve { metric: "learning_rate".into(), points: vec![(1, Some(rate))] };
            run(Node { curves: vec![rate, node.curves[0].clone()], ..node })
        };
        let later = diff(&with_rate(a.nodes[0].clone(), 0.1), &with_rate(b.nodes[0].clone(), 0.2));
        assert_eq!(later.nodes[0].later, vec![Part { step: 3, metrics: vec!["loss".into()] }]);
        assert!(
            later
                .text()
                .contains("curves part at step 1: learning_rate\n      then at step 3: loss\n"),
            "{}",
            later.text()
        );
        // A curve that goes on parts where the other ends.
        let longer = run(node(
            json!({"lr": 0.1, "of": {"$object": "aaaaaaaaaaaaaaaaaa"}, "list": [1, 2]}),
            "x",
            &[3.0, 2.0, 1.0, 0.5],
        ));
        assert_eq!(diff(&a, &longer).nodes[0].parts.as_ref().map(|part| part.step), Some(4));
    }

    #[test]
    fn figures_are_paired_input_by_input_where_both_have_asked_the_same() {
        let run = |evaluation: Evaluation| Run { evaluations: vec![evaluation], ..Run::default() };
        let base = run(evaluation(|_| 0.0));
        let better = diff(&base, &run(evaluation(|at| 0.5 + (at % 3) as f64 * 0.1)));
        // Inputs vary by tens; unpaired, a shift of a half would drown.
        let (gold, kl) = (&better.figures[0], &better.figures[1]);
        let paired = gold.paired.unwrap();
        assert!(
            (paired.interval.mean - (gold.b - gold.a)).abs() < 1e-9
                && paired.interval.low > 0.5
                && paired.p_holm < 0.001,
            "{paired:?}"
        );
        assert_eq!(
            (kl.metric.as_str(), kl.paired),
            ("kl", None),
            "what is not measured input by input"
        );
        assert!(better.text().contains(" *\n") && better.text().contains("not paired"));
        // Different, and no better: the mean is the same.
        let noise = diff(&base, &run(evaluation(|at| if at % 2 == 0 { 1.0 } else { -1.0 })));
        assert!(noise.figures[0].paired.unwrap().p > 0.5);
        // The same inputs, other prompts.
        let mut other = evaluation(|_| 0.1);
        other.inputs[3].prompt.push('?');
        assert_eq!(diff(&base, &run(other)).figures[0].paired, None);
        assert_eq!((diff(&base, &base).figures.len(), diff(&base, &base).equal_figures), (0, 2));
    }
}
