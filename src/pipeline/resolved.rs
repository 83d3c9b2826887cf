//! Nodes written back as a pipeline: every value known, every default filled in, no params left.
//! Read again, it gives the same keys.

use serde_json::Value as Json;
use serde_yaml::{Mapping, Value as Yaml};

use super::cache_section::CACHE;
use super::expand::Pipeline;
use crate::dag::node::{FETCH_TAG, INPUT_TAG, Node, Resources, Retry, STAGE_TAG};
use crate::error::{Context, Result};

/// The pipeline as YAML.
pub fn to_yaml(pipeline: &Pipeline) -> Result<String> {
    let mut stages = Mapping::new();
    for node in &pipeline.graph.nodes {
        stages.insert(node.name.clone().into(), Yaml::Mapping(stage(node)));
    }
    let mut file = Mapping::new();
    file.insert("name".into(), pipeline.name.clone().into());
    if let Some(description) = &pipeline.description {
        file.insert("description".into(), description.clone().into());
    }
    file.extend(pipeline.cache.to_yaml().map(|cache| (CACHE.into(), cache)));
    file.insert("stages".into(), Yaml::Mapping(stages));
    serde_yaml::to_string(&file).context("a resolved pipeline cannot be written as YAML")
}

fn stage(node: &Node) -> Mapping {
    let mut fields = Mapping::new();
    fields.insert("uses".into(), node.stage.clone().into());
    let Resources { threads, gpus, memory_mb, .. } = node.resources;
    let resources = [
        ("threads", threads.map(|count| count as u64)),
        ("gpus", gpus.map(|count| count as u64)),
        ("memory_mb", memory_mb),
    ];
    let resources: Mapping = resources
        .into_iter()
        .filter_map(|(name, count)| Some((Yaml::from(name), Yaml::from(count?))))
        .collect();
    if !resources.is_empty() {
        fields.insert("resources".into(), Yaml::Mapping(resources));
    }
    if let Some(timeout) = node.resources.time {
        fields.insert("timeout".into(), Yaml::from(timeout));
    }
    let Retry { times, on_environment, on_timeout, on_failure, wait } = node.resources.retry;
    if times > 0 {
        let on =
            [("environment", on_environment), ("timeout", on_timeout), ("failure", on_failure)];
        let on = on.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| Yaml::from(name));
        let retry = [
            (Yaml::from("times"), Yaml::from(times)),
            (Yaml::from("on"), Yaml::Sequence(on.collect())),
            (Yaml::from("wait"), Yaml::from(wait)),
        ];
        fields.insert("retry".into(), Yaml::Mapping(retry.into_iter().collect()));
    }
    if !node.report_to.is_empty() {
        fields.insert(
            "report_to".into(),
            serde_yaml::to_value(&node.report_to).expect("names are plain data"),
        );
    }
    if let Json::Object(config) = &node.config {
        fields.extend(
            config.iter().map(|(key, value)| (Yaml::from(key.clone()), value_to_yaml(value))),
        );
    }
    fields
}

fn value_to_yaml(value: &Json) -> Yaml {
    let text = |text: &str| Yaml::from(text.replace("${", "$${"));
    match value {
        Json::Null => Yaml::Null,
        Json::Bool(value) => Yaml::from(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => Yaml::from(value),
            (None, Some(value), _) => Yaml::from(value),
            (None, None, value) => Yaml::from(value.expect("a JSON number is one of the three")),
        },
        Json::String(value) => text(value),
        Json::Array(items) => Yaml::Sequence(items.iter().map(value_to_yaml).collect()),
        Json::Object(fields) => match [STAGE_TAG, INPUT_TAG, FETCH_TAG]
            .iter()
            .find_map(|tag| fields.get(*tag))
            .and_then(Json::as_str)
        {
            Some(name) => text(name),
            None => Yaml::Mapping(
                fields
                    .iter()
                    .map(|(key, value)| (Yaml::from(key.clone()), value_to_yaml(value)))
                    .collect(),
            ),
        },
    }
}
