//! Who judged in an evaluation, in words: as the pipeline has it, for below the table. The artefact itself knows no names of stages.

use serde_json::Value;

use crate::dag::node::{Graph, Node, STAGE_TAG};

/// A sentence for every judge that an evaluation names; of a reward model, what it and the evaluation's own were trained on.
pub fn told(graph: &Graph, evaluation: &str) -> Vec<String> {
    let Some(node) = named(graph, evaluation) else { return Vec::new() };
    let own = stage(&node.config["reward_model"]).unwrap_or_default();
    let judge = |(name, methods): (&String, &Value)| {
        let judged = methods.as_object()?.values().next().and_then(stage)?;
        Some(format!("win_rate_{name}: {}.", who(graph, &named(graph, judged)?.config["judge"], own)))
    };
    node.config["judges"].as_object().into_iter().flatten().filter_map(judge).collect()
}

fn who(graph: &Graph, judge: &Value, own: &str) -> String {
    if let Some(model) = stage(&judge["reward_model"]) {
        return match (trained_on(graph, model), trained_on(graph, own)) {
            (Some(pairs), Some(others)) if pairs == others => format!("`{model}`, trained on {pairs}, as `{own}` was"),
            (Some(pairs), Some(others)) => format!("`{model}`, trained on {pairs}; `{own}` was on {others}"),
            _ => format!("`{model}`"),
        };
    }
    let llm = &judge["llm"];
    match (llm["model"].as_str(), llm["endpoint"].as_str(), judge.get("human")) {
        (Some(model), Some(endpoint), _) => format!("{model} at {endpoint}"),
        (.., Some(_)) => "people".into(),
        _ => "the exact score of the synthetic world".into(),
    }
}

/// The pairs that a reward model learned from, where it was trained in the pipeline.
fn trained_on(graph: &Graph, model: &str) -> Option<String> {
    let config = &named(graph, model)?.config;
    Some(format!("`{}` of `{}`", config["split"].as_str()?, stage(&config["dataset"])?))
}

fn named<'a>(graph: &'a Graph, name: &str) -> Option<&'a Node> {
    graph.nodes.iter().find(|node| node.name == name)
}

/// The node that a value refers to.
fn stage(value: &Value) -> Option<&str> {
    value.get(STAGE_TAG)?.as_str()
}
