//! Parts of a pipeline by name and by value: `ppo`, `ppo[kl=0.1]`, `--only kl=0.1`, `--sample 3`.
//!
//! 1. A target is a stage, a node, the beginning of one name alone ([`names`]), or a stage with
//!    values of some of its axes. `*` means any text, in the name and in the values.
//! 2. `--only` leaves out the nodes whose points have another value of an axis, and those that need
//!    one of them. A node that does not depend on the axis stays.
//! 3. `--sample` takes some of the nodes that depend on the most axes, chosen by the hash of their
//!    names, so that the same are chosen every time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::diagnostic::advice;
use super::expand::Pipeline;
use super::matrix::label;
use super::names;
use super::yaml::{Node, Scalar, Value};
use crate::artefacts::points::{family, point};
use crate::dag::node::{OwnedReference, references};
use crate::error::{Failure, Result, user};

/// What is wanted of a pipeline, beside stages.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// `AXIS=VALUE`: several of one axis are alternatives.
    pub only: Vec<String>,
    /// How many nodes of the sweep at most.
    pub sample: Option<usize>,
}

impl Part {
    /// Whether it is the whole.
    pub fn is_whole(&self) -> bool {
        self.only.is_empty() && self.sample.is_none()
    }
}

impl Pipeline {
    /// The names of the nodes that `targets` mean; none if there are none.
    ///
    /// # Errors
    /// A target that means nothing.
    pub fn select(&self, targets: &[String]) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for target in targets {
            names.extend(self.meant_by(target)?);
        }
        Ok(names)
    }

    /// The names of the nodes that are left of those that `targets` mean, or of all where there are
    /// none; without targets and for the whole, none.
    ///
    /// # Errors
    /// A target or an axis that there is not, or nothing is left.
    pub fn select_part(&self, targets: &[String], part: &Part) -> Result<Vec<String>> {
        let names = self.select(targets)?;
        if part.is_whole() {
            return Ok(names);
        }
        let all = self.graph.nodes.iter().map(|node| node.name.clone());
        let names = if targets.is_empty() { all.collect() } else { names };
        let names = self.only(names, &part.only)?;
        if names.is_empty() {
            let message = format!("no node has {}", part.only.join(" and "));
            return Err(user(message).hint("`posttrain plan` lists the nodes").into());
        }
        match part.sample {
            Some(count) => self.sample(&names, count),
            None => Ok(names),
        }
    }

    fn meant_by(&self, target: &str) -> Result<Vec<String>, Failure> {
        if let Some((_, nodes)) = self.stages.iter().find(|(stage, _)| stage == target) {
            return Ok(nodes.clone());
        }
        if self.names.contains(target) {
            return Ok(vec![target.to_owned()]);
        }
        let stage = family(target);
        let values: Vec<(&str, String)> =
            point(target).into_iter().map(|(axis, value)| (axis, spelt(value))).collect();
        let is_pattern = target.contains('*') || !values.is_empty();
        let stages = self.stages.iter().filter(|(name, _)| is_pattern && matches(stage, name));
        let found: Vec<String> = stages
            .flat_map(|(_, nodes)| nodes)
            .filter(|node| {
                let has = |(axis, wanted): &(&str, String)| {
                    self.value(node, axis).is_some_and(|value| matches(wanted, value))
                };
                values.iter().all(has)
            })
            .cloned()
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let stages = self.stages.iter().map(|(stage, nodes)| {
            (stage.as_str(), nodes.iter().map(String::as_str).collect::<Vec<&str>>())
        });
        let stages: names::Stages<'_> = stages.collect();
        let found = names::nodes(target, &stages, &format!("the pipeline `{}`", self.name))?;
        Ok(found.into_iter().map(str::to_owned).collect())
    }

    /// The value of an axis in a node's name.
    fn value(&self, node: &str, axis: &str) -> Option<&str> {
        let point = self.points.get(node)?;
        point.iter().find(|(name, _)| name == axis).map(|(_, value)| value.as_str())
    }

    /// Of some nodes, those that have these values and need no node that has others.
    fn only(&self, names: Vec<String>, only: &[String]) -> Result<Vec<String>> {
        let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for text in only {
            let Some((axis, value)) = text.split_once('=') else {
                let hint = "for example --only seed=0";
                return Err(user(format!("expected AXIS=VALUE, found `{text}`")).hint(hint).into());
            };
            wanted.entry(axis).or_default().push(spelt(value));
        }
        for (axis, values) in &wanted {
            self.check_values(axis, values)?;
        }
        let mut others: HashSet<&str> = HashSet::new();
        let mut needs: HashMap<&str, Vec<String>> = HashMap::new();
        for node in &self.graph.nodes {
            let differs = |(axis, values): (&&str, &Vec<String>)| {
                let own = self.value(&node.name, axis);
                own.is_some_and(|own| !values.iter().any(|value| matches(value, own)))
            };
            if wanted.iter().any(differs) {
                others.insert(&node.name);
            }
            needs.insert(&node.name, needed(&node.config)?);
        }
        // Nodes may come before what they need.
        let mut feeds: HashMap<&str, Vec<&str>> = HashMap::new();
        for (name, needs) in &needs {
            needs.iter().for_each(|need| feeds.entry(need).or_default().push(name));
        }
        let mut open: Vec<&str> = others.iter().copied().collect();
        while let Some(name) = open.pop() {
            for fed in feeds.get(name).into_iter().flatten() {
                if others.insert(fed) {
                    open.push(fed);
                }
            }
        }
        Ok(names.into_iter().filter(|name| !others.contains(name.as_str())).collect())
    }

    /// An axis without a value that one of these means is a mistake.
    fn check_values(&self, axis: &str, wanted: &[String]) -> Result<()> {
        let own = |point: &'_ Vec<(String, String)>| {
            point.iter().find(|(name, _)| name == axis).map(|(_, value)| value.clone())
        };
        let values: BTreeSet<String> = self.points.values().filter_map(own).collect();
        let known = || values.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if values.is_empty() {
            let axes: BTreeSet<&str> =
                self.points.values().flatten().map(|(name, _)| name.as_str()).collect();
            let message = format!("`{axis}` is not an axis that a node depends on");
            return Err(user(message).hint(advice(axis, axes, "axes")).into());
        }
        match wanted.iter().find(|wanted| !values.iter().any(|value| matches(wanted, value))) {
            None => Ok(()),
            Some(value) => {
                let hint = format!("its values: {}", known());
                Err(user(format!("`{axis}` never is `{value}`")).hint(hint).into())
            }
        }
    }

    /// Some of the nodes that depend on the most axes and that no other such node needs.
    fn sample(&self, names: &[String], count: usize) -> Result<Vec<String>> {
        let axes = |name: &str| self.points.get(name).map_or(0, Vec::len);
        let most = names.iter().map(|name| axes(name)).max().unwrap_or(0);
        if most == 0 {
            let hint = "--sample takes some points of a matrix";
            return Err(user("no node depends on an axis").hint(hint).into());
        }
        let last: HashSet<&str> =
            names.iter().map(String::as_str).filter(|name| axes(name) == most).collect();
        let mut inner: HashSet<String> = HashSet::new();
        for node in self.graph.nodes.iter().filter(|node| last.contains(node.name.as_str())) {
            inner.extend(needed(&node.config)?);
        }
        let mut found: Vec<&String> = names
            .iter()
            .filter(|name| last.contains(name.as_str()) && !inner.contains(*name))
            .collect();
        found.sort_by_key(|name| *blake3::hash(name.as_bytes()).as_bytes());
        found.truncate(count);
        Ok(found.into_iter().cloned().collect())
    }
}

/// Names of a list that are written out.
const SHOWN: usize = 20;

/// The nodes that a config refers to.
fn needed(config: &serde_json::Value) -> Result<Vec<String>> {
    let stage = |(_, reference)| match reference {
        OwnedReference::Stage(name) => Some(name),
        OwnedReference::Input(_) | OwnedReference::Fetch(_) => None,
    };
    Ok(references(config)?.into_iter().filter_map(stage).collect())
}

/// A value as names of nodes spell it: `0.10` is `0.1`.
fn spelt(text: &str) -> String {
    let span = super::diagnostic::Span { source: 0, line: 1, column: 1, width: 1 };
    let scalar = Scalar { text: text.to_owned(), plain: true, folder_of: 0 };
    label(&Node { span, used_at: None, value: Value::Scalar(scalar) })
}

/// Whether a text is what a pattern says, in which `*` is any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, fits) in [
            ("ppo", "ppo", true),
            ("ppo", "ppos", false),
            ("p*", "ppo", true),
            ("*o", "ppo", true),
            ("p*o", "po", true),
            ("p*p*o", "po", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
