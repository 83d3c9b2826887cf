//! The config of a stage to that of one of its nodes: names of stages become names of nodes.
//!
//! 1. In a list, a reference to several points becomes as many references.
//! 2. In a field of an item of a list, it becomes as many items, each with its own point of all
//!    such references of the item; where the item has a `name`, the point is added to it:
//!    `ppo[kl=0.1]`.
//! 3. As the value of a free key, it becomes as many keys, the point added to each.

use serde_json::{Map, Value as Json, json};

use super::diagnostic::Mistake;
use crate::dag::node::STAGE_TAG;
use crate::reference::of_every_point;

/// What references mean at one node.
pub trait Resolve {
    /// The nodes that a reference means, at least one.
    ///
    /// # Errors
    /// There is no such node.
    fn nodes(&self, reference: &str) -> Result<Vec<String>, Mistake>;

    /// Of a reference to points along axes: each point, as in the name of a node, with its node;
    /// `None` of any other reference.
    ///
    /// # Errors
    /// The stage does not depend on the axes.
    fn along(&self, reference: &str) -> Result<Option<Vec<(String, String)>>, Mistake>;

    /// A mistake where the reference is written.
    fn mistake(&self, reference: &str, message: String) -> Mistake;
}

/// The key of an item that names it.
const NAME: &str = "name";

/// The config with the names in its references replaced by those of nodes.
///
/// # Errors
/// Of [`Resolve`], and references of one item that differ in other points.
pub fn rewrite(config: &Json, here: &dyn Resolve) -> Result<Json, Mistake> {
    match config {
        Json::Object(fields) if fields.contains_key(STAGE_TAG) => {
            let mut named = references(fields, here)?;
            Ok(named.pop().expect("a reference means at least one node"))
        }
        Json::Object(fields) => {
            let mut rewritten = Map::new();
            for (key, value) in fields {
                match value.as_object().map(|value| points(value, here)).transpose()?.flatten() {
                    Some(points) => rewritten.extend(
                        points.into_iter().map(|(point, node)| (format!("{key}{point}"), node)),
                    ),
                    None => {
                        rewritten.insert(key.clone(), rewrite(value, here)?);
                    }
                }
            }
            Ok(Json::Object(rewritten))
        }
        Json::Array(items) => {
            let mut rewritten = Vec::with_capacity(items.len());
            for item in items {
                match item {
                    Json::Object(fields) if fields.contains_key(STAGE_TAG) => {
                        rewritten.extend(references(fields, here)?)
                    }
                    Json::Object(fields) => rewritten.extend(repeated(fields, here)?),
                    other => rewritten.push(rewrite(other, here)?),
                }
            }
            Ok(Json::Array(rewritten))
        }
        plain => Ok(plain.clone()),
    }
}

/// Whether a reference of the config repeats what it is in.
pub fn repeats(config: &Json) -> bool {
    let is_reference = |fields: &Map<String, Json>| fields.contains_key(STAGE_TAG);
    match config {
        Json::Object(fields) if is_reference(fields) => false,
        Json::Object(fields) => fields.values().any(|value| match value {
            Json::Object(inner) if is_reference(inner) => of_every_point(name(inner)).is_some(),
            other => repeats(other),
        }),
        Json::Array(items) => items.iter().any(repeats),
        _ => false,
    }
}

/// The name in a reference.
fn name(reference: &Map<String, Json>) -> &str {
    reference[STAGE_TAG].as_str().expect("a reference holds a name")
}

fn references(fields: &Map<String, Json>, here: &dyn Resolve) -> Result<Vec<Json>, Mistake> {
    let to = |node: String| json!({ STAGE_TAG: node, "kind": fields["kind"] });
    Ok(here.nodes(name(fields))?.into_iter().map(to).collect())
}

/// Each point of a reference along axes, with the reference to its node; `None` of anything else.
fn points(
    fields: &Map<String, Json>,
    here: &dyn Resolve,
) -> Result<Option<Vec<(String, Json)>>, Mistake> {
    if !fields.contains_key(STAGE_TAG) {
        return Ok(None);
    }
    let to = |node: String| json!({ STAGE_TAG: node, "kind": fields["kind"] });
    let along = here.along(name(fields))?;
    Ok(along.map(|all| all.into_iter().map(|(point, node)| (point, to(node))).collect()))
}

/// An item of a list, once for each point of its references along axes.
fn repeated(item: &Map<String, Json>, here: &dyn Resolve) -> Result<Vec<Json>, Mistake> {
    let mut first: Option<(&str, Vec<String>)> = None;
    let mut along = Vec::new();
    for (key, value) in item {
        let Some(fields) = value.as_object() else { continue };
        let Some(points) = points(fields, here)? else { continue };
        let own: Vec<String> = points.iter().map(|(point, _)| point.clone()).collect();
        match &first {
            Some((key, all)) if *all != own => {
                let message = format!(
                    "this names the points {}, but `{key}` beside it {}",
                    own.join(", "),
                    all.join(", ")
                );
                return Err(here.mistake(name(fields), message));
            }
            Some(_) => {}
            None => first = Some((key, own)),
        }
        along.push((key, points));
    }
    let Some((_, labels)) = first else {
        return Ok(vec![rewrite(&Json::Object(item.clone()), here)?]);
    };
    let one = |(at, label): (usize, &String)| {
        let mut own = item.clone();
        along.iter().for_each(|(key, _)| {
            own.remove(*key);
        });
        let Json::Object(mut own) = rewrite(&Json::Object(own), here)? else {
            unreachable!("a mapping stays one")
        };
        for (key, points) in &along {
            own.insert((*key).clone(), points[at].1.clone());
        }
        if let Some(Json::String(name)) = own.get_mut(NAME) {
            name.push_str(label);
        }
        Ok(Json::Object(own))
    };
    labels.iter().enumerate().map(one).collect()
}
