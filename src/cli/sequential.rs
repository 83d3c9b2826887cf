//! `run --sequential`: the seeds of a sweep one after another, until the comparisons of an
//! `over_seeds` are decided or a budget is spent.
//!
//! 1. An `over_seeds` with `sequential` names the comparisons; the axis is the one in which its
//!    evaluations differ.
//! 2. The first look is at [`FEWEST`] values of the axis, the fewest that can decide; then each
//!    value is added with another run, whose record has the values so far. What a run has made
//!    the next one finds.
//! 3. The comparisons hold at whatever look the seeds end (`eval/sequential.rs`).

use serde_json::Value;

use super::common::Source;
use super::number_format::{count, duration};
use crate::artefacts::points::{family, point};
use crate::artefacts::seeds::{Figure, SEEDS};
use crate::dag::node::{Node, STAGE_TAG};
use crate::dag::outcome::Outcome;
use crate::dag::record::Ending;
use crate::dag::store::Store;
use crate::error::{Context, Result, user};
use crate::eval::seeds::Decision;
use crate::eval::sequential::FEWEST;
use crate::fs;
use crate::pipeline::expand::Pipeline;

/// The sweep that grows.
pub struct Sweep {
    axis: String,
    /// In the order of the matrix.
    values: Vec<String>,
    /// The nodes with comparisons to decide.
    nodes: Vec<String>,
}

/// What is known after a look.
pub struct Look {
    /// Values of the axis so far.
    pub seeds: usize,
    /// Values in all.
    pub of: usize,
    /// Comparisons that are decided.
    pub decided: usize,
    /// Those that are not, in words.
    pub open: Vec<String>,
    /// How many values in all would decide all of them, at their means and deviations so far.
    pub needed: Option<usize>,
    /// Node time of the last value, in seconds; `None` where all of it was there.
    pub last: Option<f64>,
    /// Node time so far, in seconds.
    pub spent: f64,
}

impl Sweep {
    /// Of the nodes of `pipeline` that are asked for.
    ///
    /// # Errors
    /// The user's: no comparisons to decide, evaluations that differ in no axis or in another one,
    /// or too few values.
    pub fn of(pipeline: &Pipeline, targets: &[String]) -> Result<Self> {
        let has = |node: &&Node| {
            node.config.get("sequential").is_some_and(|own| !own.is_null())
                && (targets.is_empty() || targets.contains(&node.name))
        };
        let nodes: Vec<&Node> = pipeline.graph.nodes.iter().filter(has).collect();
        let mut found: Option<(String, Vec<String>)> = None;
        for node in &nodes {
            let own = axis(node)?;
            match &found {
                Some(first) if *first != own => {
                    let message = format!(
                        "{} and {} go over other values: one sweep grows at a time",
                        nodes[0].name, node.name
                    );
                    return Err(user(message).hint("name one of them as a stage to run").into());
                }
                _ => found = Some(own),
            }
        }
        let Some((axis, values)) = found else {
            let hint = "add `sequential: {metric: gold, compare: [{method: …, with: …}]}` to an \
                        `over_seeds`";
            return Err(user("no `over_seeds` has comparisons to decide").hint(hint).into());
        };
        if values.len() < FEWEST {
            let message = format!(
                "`{axis}` has {}, and {FEWEST} are the fewest that can decide",
                count(values.len(), "value")
            );
            return Err(user(message).hint(format!("give `matrix.{axis}` more values")).into());
        }
        let nodes = nodes.into_iter().map(|node| node.name.clone()).collect();
        Ok(Sweep { axis, values, nodes })
    }

    /// How many values the looks are at.
    pub fn looks(&self) -> std::ops::RangeInclusive<usize> {
        FEWEST..=self.values.len()
    }

    /// `source` with the first values of the axis alone.
    pub fn first(&self, source: &Source, seeds: usize) -> Source {
        let list = self.values[..seeds].join(", ");
        let mut sets = source.sets.clone();
        sets.push(format!("matrix.{}=[{list}]", self.axis));
        Source { pipeline: source.pipeline.clone(), profiles: source.profiles.clone(), sets }
    }

    /// What a run with the first values has shown; `before` is the look before it.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn look(
        &self,
        store: &Store,
        outcome: &Outcome,
        seeds: usize,
        before: Option<&Look>,
    ) -> Result<Look> {
        let ran = outcome.nodes.iter().filter(|node| node.ending == Ending::Ran);
        let own: f64 = ran.map(|node| node.seconds).sum();
        let added = if before.is_some() { 1 } else { seeds };
        let mut look = Look {
            seeds,
            of: self.values.len(),
            decided: 0,
            open: Vec::new(),
            needed: Some(seeds),
            last: (own > 0.0).then_some(own / added as f64),
            spent: own + before.map_or(0.0, |before| before.spent),
        };
        for name in &self.nodes {
            let node = outcome.nodes.iter().find(|node| node.name == *name);
            let object = node.and_then(|node| node.object);
            let object = object.with_context(|| format!("{name} has not been made"))?;
            let file = store.object_path(object).join(SEEDS);
            let figures: Vec<Figure> = serde_json::from_slice(&fs::read(&file)?)
                .with_context(|| format!("in {}", file.display()))?;
            for figure in &figures {
                let Some(own) = &figure.sequential else { continue };
                if own.verdict != Decision::Open {
                    look.decided += 1;
                    continue;
                }
                look.needed = look.needed.zip(own.seeds).map(|(all, own)| all.max(own));
                let with = figure.with.as_deref().unwrap_or_default();
                look.open.push(format!("{} - {with} on {}", figure.method, figure.test_set));
            }
        }
        Ok(look)
    }
}

/// The axis in which the evaluations of `node` differ, and its values.
fn axis(node: &Node) -> Result<(String, Vec<String>)> {
    let evaluations = node.config["evaluations"].as_array().into_iter().flatten();
    let names: Vec<&str> =
        evaluations.filter_map(|one| one.get(STAGE_TAG).and_then(Value::as_str)).collect();
    let points: Vec<Vec<(&str, &str)>> = names.iter().map(|name| point(name)).collect();
    let differing = points.first().and_then(|first| {
        let differs = |(axis, value): &&(&str, &str)| {
            points.iter().any(|other| !other.contains(&(*axis, *value)))
        };
        first.iter().find(differs)
    });
    let of_axis = |axis: &str| -> Option<Vec<String>> {
        let value = |own: &Vec<(&str, &str)>| {
            own.iter().find(|(name, _)| *name == axis).map(|(_, value)| value.to_string())
        };
        points.iter().map(value).collect()
    };
    let found = differing.and_then(|(axis, _)| Some((axis.to_string(), of_axis(axis)?)));
    found.with_context(|| {
        let stage = names.first().map_or("evaluation", |name| family(name));
        user(format!("the evaluations of {} are no points of one axis", node.name))
            .hint(format!("name them as `{{all: {stage}, over: AXIS}}`"))
    })
}

impl Look {
    /// In one line.
    pub fn words(&self) -> String {
        let all = self.decided + self.open.len();
        let mut words = format!(
            "{} of {} seeds: {} of {} decided, {} of node time",
            self.seeds,
            self.of,
            self.decided,
            count(all, "comparison"),
            duration(self.spent)
        );
        if self.open.is_empty() {
            return words;
        }
        words.push_str(&format!("; open: {}", self.open.join(", ")));
        match (self.needed.filter(|needed| *needed > self.seeds), self.last) {
            (Some(needed), Some(last)) => words.push_str(&format!(
                "; {} in all would decide, in about {} more, if means and deviations stay",
                count(needed, "seed"),
                duration((needed - self.seeds) as f64 * last)
            )),
            (Some(needed), None) => words.push_str(&format!(
                "; {} in all would decide, if means and deviations stay",
                count(needed, "seed")
            )),
            (None, _) => words.push_str("; no number of seeds would decide at these means"),
        }
        words
    }
}
