//! What is elsewhere, put in its place: names in the configs of nodes become folders. Does not
//! know how anything is fetched.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::expand::Pipeline;
use crate::dag::node::{FETCH_TAG, INPUT_TAG, Numerics};
use crate::dag::request::Request;
use crate::dag::topology::Topology;
use crate::error::{Context, Result};

/// Asks `locate` once for each name in the nodes wanted (`targets` with all they need; none means
/// all), and puts the folder that it gives in the name's place. Where it gives none the name stays,
/// and the node is unknown to a plan.
///
/// One name means one folder in the whole pipeline, even if it means another while this is
/// going on.
pub fn place(
    pipeline: &mut Pipeline,
    targets: &[String],
    locate: &mut dyn FnMut(&str) -> Result<Option<PathBuf>>,
) -> Result<()> {
    let topology =
        Topology::of(Request { graph: &pipeline.graph, targets, numerics: Numerics::default() })?;
    let mut folders = BTreeMap::new();
    for index in topology.order {
        let node = &mut pipeline.graph.nodes[index];
        place_in(&mut node.config, &mut folders, locate)
            .with_context(|| format!("in the stage `{}`", node.name))?;
    }
    Ok(())
}

fn place_in(
    config: &mut Json,
    folders: &mut BTreeMap<String, Option<PathBuf>>,
    locate: &mut dyn FnMut(&str) -> Result<Option<PathBuf>>,
) -> Result<()> {
    match config {
        Json::Object(fields) => {
            match fields.get(FETCH_TAG).and_then(Json::as_str).map(str::to_owned) {
                Some(name) => {
                    if !folders.contains_key(&name) {
                        let folder = locate(&name)?;
                        folders.insert(name.clone(), folder);
                    }
                    if let Some(folder) = &folders[&name] {
                        *config = json!({ INPUT_TAG: folder });
                    }
                    Ok(())
                }
                None => fields.values_mut().try_for_each(|value| place_in(value, folders, locate)),
            }
        }
        Json::Array(items) => items.iter_mut().try_for_each(|item| place_in(item, folders, locate)),
        _ => Ok(()),
    }
}
