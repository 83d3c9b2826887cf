//! All that a report says of a run, as data. Does not know where it was read.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::metrics::{is_graded, is_loss, is_of_model, is_of_samples};
use crate::artefacts::attribution::Attribution;
use crate::artefacts::comparisons::Comparisons;
use crate::artefacts::curves::{BestOfN, Training};
use crate::artefacts::distributions::ByPosition;
use crate::artefacts::inputs::Input;
use crate::artefacts::judgements::Verdicts;
use crate::artefacts::optimum::Optimum;
use crate::artefacts::people::BesidePeople;
use crate::artefacts::quality::AtK;
use crate::artefacts::reward_model::Accuracy;
use crate::artefacts::seeds::Figure;
use crate::artefacts::table::Table;
use crate::artefacts::temperatures::Temperatures;
use crate::rl::sentinels::watch::Verdict;

/// One run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// When it began, for people.
    pub started: String,
    /// Wall time; none if it did not end.
    pub seconds: Option<f64>,
    /// The version of the program.
    pub version: String,
    /// What nodes computed on.
    pub device: Value,
    /// Threads that all nodes together could use.
    pub threads: usize,
    /// The command that does it again.
    pub command: String,
    /// The pipeline file.
    pub pipeline: String,
    /// What it calls itself, else the name of the file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The hash of its bytes.
    pub pipeline_hash: String,
    /// Its text at the time.
    pub pipeline_text: Option<String>,
    /// The nodes that were looked at, in the order of the file.
    pub nodes: Vec<Node>,
    /// What its evaluations found.
    pub evaluations: Vec<Evaluation>,
    /// What its judges found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub judgings: Vec<Judging>,
}

/// One node of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its stage kind.
    pub stage: String,
    /// `ran`, `cached`, `failed`, `skipped`, `interrupted`.
    pub ending: String,
    /// The nodes it needs.
    pub needs: Vec<String>,
    /// Seconds that it took in this run.
    pub seconds: f64,
    /// Its key, if it is known.
    pub key: Option<String>,
    /// What it made.
    pub object: Option<String>,
    /// What is known of what it made.
    pub made: Option<Made>,
    /// Figures by step, where it takes steps.
    pub curves: Vec<Curve>,
    /// What the sentinels say, where the kind has sentinels and its steps are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinels: Option<Verdict>,
}

impl Run {
    /// The nodes whose results were made under another key and accepted by the user, each with what
    /// was said.
    pub fn accepted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes
            .iter()
            .filter_map(|node| Some((node.name.as_str(), node.made.as_ref()?.accepted.as_deref()?)))
    }
}

/// How an artefact was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Made {
    /// The kind of artefact.
    pub output: String,
    /// The stage kind's VERSION.
    pub version: u32,
    /// The numerics class.
    pub numerics: String,
    /// Seconds that it took then.
    pub seconds: f64,
    /// When, for people.
    pub finished: String,
    /// Its config; references are hashes of content.
    pub config: Value,
    /// For every reference, by dotted path, whence it came.
    pub sources: BTreeMap<String, String>,
    /// Set if it was made under another key and the user has declared it to be the same: why, and
    /// what differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
}

/// One figure by step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curve {
    /// The figure's name.
    pub metric: String,
    /// Step and value; none where that is no number.
    pub points: Vec<(u64, Option<f64>)>,
}

/// What one evaluation found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Evaluation {
    /// The node.
    pub node: String,
    /// The result table.
    pub table: Table,
    /// What is compared with what.
    pub comparisons: Comparisons,
    /// Of an evaluation over seeds of training: every figure with every seed's value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<Figure>,
    /// Who the judges are whose win rates have names, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub judges: Vec<String>,
    /// What was found of rows that models were trained on, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<String>,
    /// At which temperatures methods were sampled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<Temperatures>,
    /// What is left out, and why, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// pass@k and best@k of samples, for every k.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at_k: Vec<AtK>,
    /// Branching factors by position of the response.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_position: Vec<ByPosition>,
    /// Best-of-n for every n.
    pub best_of_n: Vec<BestOfN>,
    /// The training of policies by KL, reward model and gold.
    pub over_optimisation: Vec<Training>,
    /// The optimum of the KL-regularised objective, a test set an entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub optimum: Vec<Optimum>,
    /// How often each measure picks what people picked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside_people: Vec<BesidePeople>,
    /// What each stage of training changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributions: Vec<Attribution>,
    /// How far the reward model's confidence is to be trusted.
    pub reward_model: Vec<Accuracy>,
    /// Inputs with answers; not part of its JSON, which is about figures.
    #[serde(skip)]
    pub inputs: Vec<Input>,
}

/// What a stage `judge` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Judging {
    /// The node.
    pub node: String,
    /// What it compared: the stage of the answers, or `chosen`.
    pub a: String,
    /// What with: another stage's answers, `reference`, or `rejected`.
    pub b: String,
    /// Who judged, a sentence.
    pub who: String,
    /// What it found.
    #[serde(flatten)]
    pub verdicts: Verdicts,
}

impl Node {
    /// A curve by its name.
    pub fn curve(&self, metric: &str) -> Option<&Curve> {
        self.curves.iter().find(|curve| curve.metric == metric)
    }

    /// The stage of the pipeline that it is of: its name without the point of a sweep.
    pub fn family(&self) -> &str {
        self.name.split('[').next().unwrap_or_default()
    }
}

impl Evaluation {
    /// The metric that performance is shown by: gold where there is one, else what there is.
    pub fn performance(&self) -> Option<&str> {
        ["gold", "win_rate", "rm"]
            .into_iter()
            .find(|metric| self.table.rows.iter().any(|row| row.metric == *metric))
    }

    /// The notes below its figures, a sentence each: who the judges are, at which temperatures
    /// methods were sampled, which optima have no
    /// estimate, what was found of rows that models were trained on, what is left out.
    pub fn notes(&self) -> Vec<String> {
        let words = |of_samples: bool| {
            let is_any = self.sampled(of_samples).next().is_some();
            let known = self.sampled_at(of_samples);
            is_any.then(|| known.unwrap_or_else(|| "an unknown temperature".to_owned()))
        };
        let any = |is: fn(&str) -> bool| self.table.rows.iter().any(|row| is(&row.metric));
        let own = self.table.own.iter().filter(|own| own.of_samples);
        let mut of_samples = vec!["KL"];
        of_samples.extend(any(is_of_model).then_some("entropy"));
        of_samples.push("diversity");
        of_samples.extend(any(is_graded).then_some("quality beside it"));
        of_samples.extend(own.map(|own| own.metric.as_str()));
        let last = of_samples.pop().unwrap_or_default();
        let of_samples = format!("{} and {last}", of_samples.join(", "));
        let sampled = match (words(true), words(false)) {
            (Some(samples), Some(outputs)) => Some(format!(
                "{of_samples} are of samples at {samples}, all else of outputs at {outputs}."
            )),
            (Some(samples), None) => Some(format!("All figures are of samples at {samples}.")),
            (None, Some(outputs)) => Some(format!("All figures are of outputs at {outputs}.")),
            (None, None) => None,
        };
        let losses = any(is_loss)
            .then(|| "Losses are of texts of earlier phases, at temperature 1.".to_owned());
        let notes = self.judges.iter().cloned().chain(sampled).chain(losses);
        let notes = notes.chain(self.optimum.iter().flat_map(Optimum::notes));
        notes.chain(self.leaks.iter().cloned()).chain(self.left_out.iter().cloned()).collect()
    }

    /// The title of a chart's axis: a metric's name, and on a second line the temperature of what
    /// it is measured on. On one line it would be longer than the axis of a narrow chart.
    pub fn axis(&self, metric: &str) -> String {
        if is_loss(metric) {
            return metric.to_owned();
        }
        let own = self.table.own(metric);
        let of_samples = own.map_or_else(|| is_of_samples(metric), |own| own.of_samples);
        let what = if of_samples { "samples" } else { "outputs" };
        match self.sampled_at(of_samples) {
            Some(words) => format!("{metric}<br>({what} at {words})"),
            None => metric.to_owned(),
        }
    }

    /// The temperatures of all methods' samples, or outputs, in words; none where a method's is not
    /// known.
    fn sampled_at(&self, of_samples: bool) -> Option<String> {
        let all: Option<Vec<f64>> = self.sampled(of_samples).collect();
        let mut all = all.filter(|all| !all.is_empty())?;
        all.sort_by(f64::total_cmp);
        all.dedup();
        let word = if all.len() == 1 { "temperature" } else { "temperatures" };
        let all: Vec<String> = all.iter().map(f64::to_string).collect();
        Some(format!("{word} {}", all.join(", ")))
    }

    /// The temperature of each method that has samples, or outputs; `None` where it is unknown.
    fn sampled(&self, of_samples: bool) -> impl Iterator<Item = Option<f64>> {
        let has = move |one: &&Temperatures| {
            if of_samples { !one.no_samples } else { !one.no_outputs }
        };
        let of = move |one: &Temperatures| if of_samples { one.samples } else { one.outputs };
        self.temperatures.iter().filter(has).map(of)
    }
}

/// The figures of a `metrics.jsonl`: one curve for each name but `step`, if there are at least two
/// lines.
pub fn curves(jsonl: &str) -> Vec<Curve> {
    let lines: Vec<serde_json::Map<String, Value>> =
        jsonl.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut curves: Vec<Curve> = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|_| lines.len() > 1) {
        let step = line.get("step").and_then(Value::as_u64).unwrap_or(at as u64 + 1);
        for (name, value) in line.iter().filter(|(name, _)| *name != "step") {
            let place =
                curves.iter().position(|curve| curve.metric == *name).unwrap_or_else(|| {
                    curves.push(Curve { metric: name.clone(), points: Vec::new() });
                    curves.len() - 1
                });
            curves[place].points.push((step, value.as_f64()));
        }
    }
    curves
}
