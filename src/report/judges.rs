//! Who judged in an evaluation, in words: by the stages of the run that it took verdicts from. The artefact itself knows no names of stages.

use serde_json::Value;

use super::run::Node;

/// A sentence for every judge that an evaluation names; of a reward model, what it and the evaluation's own were trained on.
pub fn told(nodes: &[Node], evaluation: &Node) -> Vec<String> {
    let Some(made) = &evaluation.made else { return Vec::new() };
    let own = behind(nodes, &made.config["reward_model"]);
    let judge = |(name, methods): (&String, &Value)| {
        let stage = behind(nodes, methods.as_object()?.values().next()?)?;
        Some(format!("win_rate_{name}: {}.", who(nodes, &stage.made.as_ref()?.config["judge"], own)))
    };
    made.config["judges"].as_object().into_iter().flatten().filter_map(judge).collect()
}

fn who(nodes: &[Node], judge: &Value, own: Option<&Node>) -> String {
    if let Some(model) = behind(nodes, &judge["reward_model"]) {
        let name = &model.name;
        let others = own.and_then(|own| Some((&own.name, trained_on(nodes, own)?)));
        return match (trained_on(nodes, model), others) {
            (Some(pairs), Some((own, others))) if pairs == others => format!("`{name}`, trained on {pairs}, as `{own}` was"),
            (Some(pairs), Some((own, others))) => format!("`{name}`, trained on {pairs}; `{own}` was on {others}"),
            _ => format!("`{name}`"),
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
fn trained_on(nodes: &[Node], model: &Node) -> Option<String> {
    let config = &model.made.as_ref()?.config;
    Some(format!("`{}` of `{}`", config["split"].as_str()?, behind(nodes, &config["dataset"])?.name))
}

/// The node that made what a value of a config refers to.
fn behind<'a>(nodes: &'a [Node], value: &Value) -> Option<&'a Node> {
    let object = value["$object"].as_str()?;
    nodes.iter().find(|node| node.object.as_deref() == Some(object))
}
