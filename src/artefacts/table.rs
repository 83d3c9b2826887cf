//! `table.json` of an evaluation: figures of methods on test sets, each with its interval.

use serde::{Deserialize, Serialize};

use super::metric::OwnMetric;
use crate::eval::interval::Interval;

/// The file.
pub const TABLE: &str = "table.json";
/// The same for a terminal.
pub const TABLE_TEXT: &str = "table.txt";
/// The same for a document.
pub const TABLE_MARKDOWN: &str = "table.md";

/// The metric that is printed and drawn where there is room for one measure of diversity: that of
/// the samples of one input, as the paper measures it.
pub const DIVERSITY: &str = "ead_per_input";

/// The metric of the reward model's accuracy on a method's own samples.
pub const OWN_ACCURACY: &str = "rm_accuracy_own";

/// One figure of one method on one test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `base`, `sft`, `best_of_n`, `ppo`, `reference`.
    pub method: String,
    /// `id`, `ood_forum`, ….
    pub test_set: String,
    /// `gold`, `win_rate`, ….
    pub metric: String,
    /// The estimate on all inputs, with its interval.
    #[serde(flatten)]
    pub figure: Interval,
}

impl Row {
    /// A row from an interval.
    pub fn new(method: &str, test_set: &str, metric: &str, figure: Interval) -> Self {
        Row { method: method.into(), test_set: test_set.into(), metric: metric.into(), figure }
    }
}

/// All rows, in the order they were pushed; that order is kept in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What intervals are over.
    #[serde(default, skip_serializing_if = "Over::is_inputs")]
    pub over: Over,
    /// What its metrics are that programs of the user's measured; all others have names that say
    /// it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<OwnMetric>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// What a row's `n` counts, and its interval is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Inputs of a test set.
    #[default]
    Inputs,
    /// Seeds of training, by Student's t.
    Seeds,
}

impl Over {
    /// Whether it is inputs.
    pub fn is_inputs(&self) -> bool {
        *self == Over::Inputs
    }
}

impl Table {
    /// What a metric is, if a program of the user's measured it.
    pub fn own(&self, metric: &str) -> Option<&OwnMetric> {
        self.own.iter().find(|own| own.metric == metric)
    }

    /// `{"rows":[…]}`, one row a line.
    pub fn json(&self) -> String {
        let row =
            |row: &Row| serde_json::to_string(row).expect("a row of strings and numbers is JSON");
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        let over = if self.over.is_inputs() { "" } else { "\"over\":\"seeds\"," };
        let own = serde_json::to_string(&self.own).expect("strings and truth values are JSON");
        let own = if self.own.is_empty() { String::new() } else { format!("\"own\":{own},") };
        format!("{{{over}{own}\"rows\":[\n{}\n]}}\n", rows.join(",\n"))
    }
}
