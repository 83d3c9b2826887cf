//! Who judged, in words, and what verdicts amount to: by the stages of the run. The artefacts
//! themselves know no names of stages.

use serde_json::Value;

use super::layout::{Cell, Line, Listing};
use super::run::{Judging, Node, Run};
use crate::artefacts::judgements::{OfPeople, Verdicts};
use crate::eval::interval::Interval;

/// What the stage `judge` of `node` found.
pub fn judging(nodes: &[Node], node: &Node, verdicts: Verdicts) -> Judging {
    let config = node.made.as_ref().map_or(&Value::Null, |made| &made.config);
    let name = |field: &str, without: &str| {
        behind(nodes, &config[field]).map_or_else(|| without.to_owned(), |node| node.name.clone())
    };
    let (a, b) = if config["a"].is_null() { ("chosen", "rejected") } else { ("a", "reference") };
    let (a, b) = (name("a", a), name("b", b));
    let mut who =
        format!("{}: {a} against {b}, by {}", node.name, who(nodes, &config["judge"], None));
    if let Some(usage) = &verdicts.usage {
        let tokens = usage.prompt_tokens + usage.completion_tokens;
        who += &format!("; {} questions, {tokens} tokens", usage.questions);
        who.extend(usage.cost.map(|cost| format!(", {cost:.2} by their price")));
    }
    if let Some(agreement) = &verdicts.agreement {
        let alpha =
            agreement.krippendorff_alpha.map(|alpha| format!(", Krippendorff's alpha {alpha:.3}"));
        who += &format!("; {} of them{}", agreement.annotators, alpha.unwrap_or_default());
    }
    if let Some(people) = &verdicts.people {
        who += &format!("; {}", of_people(people));
    }
    Judging { node: node.name.clone(), a, b, who: format!("{who}."), verdicts }
}

/// What people were asked, and how far they agree.
fn of_people(people: &OfPeople) -> String {
    let asked = match (people.question.as_str(), people.set) {
        ("more_varied", Some(k)) => format!("which of two sets of {k} answers is more varied"),
        _ => "which of two answers is better".to_owned(),
    };
    let mut said = format!(
        "asked {asked}; {} of them judged {} items, {} by two or more",
        people.annotators.len(),
        people.items,
        people.by_several
    );
    for (alpha, name) in [(&people.alpha_nominal, "nominal"), (&people.alpha_ordinal, "ordinal")] {
        let text = alpha.as_ref().map(|alpha| with_ends(alpha, 3));
        said.extend(text.map(|text| format!("; Krippendorff's alpha ({name}) {text}")));
    }
    for pair in &people.pairs {
        let [one, other] = &pair.annotators;
        let kappa = pair.cohen_kappa.map(|kappa| format!(", Cohen's kappa {kappa:.3}"));
        let (n, share) = (pair.agreement.n, with_ends(&pair.agreement, 2));
        let kappa = kappa.unwrap_or_default();
        said += &format!("; {one} and {other} say the same of {share} of {n}{kappa}");
    }
    said
}

fn with_ends(figure: &Interval, decimals: usize) -> String {
    let Interval { mean, low, high, .. } = figure;
    match figure.has_ends() {
        true => format!("{mean:.decimals$} [{low:.decimals$}, {high:.decimals$}]"),
        false => format!("{mean:.decimals$}"),
    }
}

/// Every stage `judge` on every split; nothing where there is none. Bias of position is there if a
/// judge sees two texts at a time.
pub(super) fn listing(run: &Run) -> Option<Listing> {
    let all = || run.judgings.iter().flat_map(|judging| &judging.verdicts.splits);
    let ordered =
        all().any(|(_, found)| found.first_share.is_some() || found.order_agreement.is_some());
    let line = |judging: &Judging, split: &str| {
        let found = &judging.verdicts.splits[split];
        let mut cells = vec![Cell::interval(&found.win_rate, 3)];
        cells.extend([found.ties, found.unclear].map(|count| Cell::number(count as f64, 0)));
        if ordered {
            cells.push(found.first_share.map_or(Cell(Vec::new()), |share| Cell::number(share, 3)));
            cells.push(
                found
                    .order_agreement
                    .as_ref()
                    .map_or(Cell(Vec::new()), |interval| Cell::interval(interval, 3)),
            );
        }
        let test_set = split.strip_prefix("test/").unwrap_or(split).to_owned();
        Line { name: judging.node.clone(), test_set, cells, verdict: None }
    };
    let lines: Vec<Line> = run
        .judgings
        .iter()
        .flat_map(|judging| judging.verdicts.splits.keys().map(move |split| line(judging, split)))
        .collect();
    let mut columns = vec!["stage", "won", "ties", "unclear"];
    columns.extend(
        ordered
            .then_some(["for the text shown first", "same in both orders"])
            .into_iter()
            .flatten(),
    );
    (!lines.is_empty()).then(|| Listing {
        title: "verdicts of judges".into(),
        metric: "win_rate".into(),
        meaning:
            "share of pairs that the first won, a tie counting half; of chosen against rejected, \
             how often the judge agrees with the label"
                .into(),
        columns,
        lines,
    })
}

/// A sentence for the evaluation's own judge and for every judge that it names; of a reward model,
/// what it and the evaluation's own were trained on.
pub fn told(nodes: &[Node], evaluation: &Node) -> Vec<String> {
    let Some(made) = &evaluation.made else { return Vec::new() };
    let own = behind(nodes, &made.config["reward_model"]);
    let judge = |(name, methods): (&String, &Value)| {
        let stage = behind(nodes, methods.as_object()?.values().next()?)?;
        Some(format!(
            "win_rate_{name}: {}.",
            who(nodes, &stage.made.as_ref()?.config["judge"], own)
        ))
    };
    let reward_model = || {
        own.map_or_else(|| "the evaluation's reward model".into(), |own| format!("`{}`", own.name))
    };
    let first = match made.config["judge"].as_str() {
        Some("gold") => Some("win_rate: the exact score of the synthetic world.".to_owned()),
        Some("reward_model") => {
            Some(format!("win_rate: {}, the reward model whose score is `rm`.", reward_model()))
        }
        _ => None,
    };
    first
        .into_iter()
        .chain(made.config["judges"].as_object().into_iter().flatten().filter_map(judge))
        .collect()
}

fn who(nodes: &[Node], judge: &Value, own: Option<&Node>) -> String {
    if let Some(model) = behind(nodes, &judge["reward_model"]) {
        let name = &model.name;
        let others = own.and_then(|own| Some((&own.name, trained_on(nodes, own)?)));
        return match (trained_on(nodes, model), others) {
            (Some(pairs), Some((own, others))) if pairs == others => {
                format!("`{name}`, trained on {pairs}, as `{own}` was")
            }
            (Some(pairs), Some((own, others))) => {
                format!("`{name}`, trained on {pairs}; `{own}` was on {others}")
            }
            (Some(pairs), None) => format!("`{name}`, trained on {pairs}"),
            (None, _) => format!("`{name}`"),
        };
    }
    let llm = &judge["llm"];
    let people = judge.get("human").or(judge.get("people"));
    match (llm["model"].as_str(), llm["endpoint"].as_str(), people) {
        (Some(model), Some(endpoint), _) => format!("{model} at {endpoint}"),
        (.., Some(_)) => "people".into(),
        _ => "the exact score of the synthetic world".into(),
    }
}

/// The pairs that a reward model learned from, where it was trained in the pipeline.
fn trained_on(nodes: &[Node], model: &Node) -> Option<String> {
    let config = &model.made.as_ref()?.config;
    Some(format!(
        "`{}` of `{}`",
        config["split"].as_str()?,
        behind(nodes, &config["dataset"])?.name
    ))
}

/// The node that made what a value of a config refers to.
fn behind<'a>(nodes: &'a [Node], value: &Value) -> Option<&'a Node> {
    let object = value["$object"].as_str()?;
    nodes.iter().find(|node| node.object.as_deref() == Some(object))
}
