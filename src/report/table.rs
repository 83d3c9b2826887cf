//! The result table: rows of (method, test set, metric, interval), as JSON, for a terminal, and in Markdown. Knows the names and meanings of
//! the usual metrics, for headings; any other metric is shown without one.
//!
//! 1. Methods, test sets and metrics appear in the order of their first row.
//! 2. One block a metric, methods down and test sets across, because methods are compared on one test set and test sets of one method;
//!    each cell is mean [low, high]. Test sets that do not fit the width go below.
//! 3. The parts of the gold score are a table of their own, one block a test set, means only: they explain a gold score, and many fit a line.
//!    So are the measures of diversity beside EAD: each says much the same.
//! 4. A block has as many decimals everywhere as its largest number leaves room for. A cell without a row, or of no input, is a dash.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::layout::{Block, lines};
use crate::eval::interval::{FEWEST, Interval, Kind, end};
use crate::eval::spread::{FEWEST_SELF_BLEU, FEWEST_VENDI};

/// Columns that a terminal table may fill.
pub const WIDTH: usize = 120;

/// One figure of one method on one test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// `base`, `sft`, `best_of_n`, `ppo`, `reference`.
    pub method: String,
    /// `id`, `ood_forum`, ….
    pub test_set: String,
    /// `gold`, `win_rate`, ….
    pub metric: String,
    /// The estimate on all inputs.
    pub mean: f64,
    /// Lower end of the 95% interval; NaN where there is none, which is `null` in JSON.
    #[serde(deserialize_with = "end")]
    pub low: f64,
    /// Upper end.
    #[serde(deserialize_with = "end")]
    pub high: f64,
    /// Inputs.
    pub n: usize,
    /// How the interval was made, and why there is none.
    #[serde(default, skip_serializing_if = "Kind::is_unsaid")]
    pub interval: Kind,
}

impl Row {
    /// A row from an interval.
    pub fn new(method: &str, test_set: &str, metric: &str, interval: Interval) -> Self {
        let Interval { mean, low, high, n, kind } = interval;
        Row { method: method.into(), test_set: test_set.into(), metric: metric.into(), mean, low, high, n, interval: kind }
    }

    /// Its figure.
    pub(super) fn figure(&self) -> Interval {
        Interval { mean: self.mean, low: self.low, high: self.high, n: self.n, kind: self.interval }
    }
}

/// All rows, in the order they were pushed; that order is kept in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What intervals are over.
    #[serde(default, skip_serializing_if = "Over::is_inputs")]
    pub over: Over,
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
    fn is_inputs(&self) -> bool {
        *self == Over::Inputs
    }

    fn name(self) -> &'static str {
        match self {
            Over::Inputs => "inputs",
            Over::Seeds => "seeds",
        }
    }

    pub(super) fn footnote(self) -> &'static str {
        match self {
            Over::Inputs => "mean [95% interval over inputs]",
            Over::Seeds => "mean [95% interval], Student's t over seeds of training",
        }
    }
}

/// Diversity of the samples of one input, as the paper measures it: what is printed and drawn where there is room for one measure.
pub const DIVERSITY: &str = "ead_per_input";

/// What a metric is, for its heading.
pub(super) fn meaning(metric: &str) -> &'static str {
    match metric {
        "gold" => "exact score of the text, -1 to 1; higher is better",
        "rm" => "normalised score of the reward model; higher is what it prefers",
        "win_rate" => "share of inputs won against the reference, a tie counting half",
        "kl" => "nats away from the SFT model, summed over the response",
        "length" => "words a response",
        "ead_per_input" => "diversity of the samples of one input; higher is more diverse",
        "ead_per_input_matched" => "the same over texts cut to a common length: longer texts repeat more",
        "ead_across_inputs_matched" => "the same over texts cut to a common length",
        "rm_accuracy_clean" => "share of pairs ordered as gold orders them",
        "noise_ceiling" => "share of labels that gold itself agrees with: the best that rm_accuracy can be",
        "ead_across_inputs" => "diversity of first samples over all inputs; higher is more diverse",
        "rm_accuracy" => "share of pairs ordered as labelled, a tie counting half",
        "rouge_l" => "overlap with the reference, F1 of the longest common subsequence",
        _ if metric.ends_with("head_to_head") => "share of inputs on which the first is scored above the second, a tie counting half",
        _ if metric.ends_with("_at_equal_kl") => {
            "a policy minus best-of-n with the n whose KL bound is the policy's KL, both on samples at one temperature"
        }
        _ if metric.ends_with(DIFFERENCE) => "one method minus another, input by input; intervals without 0 are differences",
        _ if metric.starts_with("win_rate_") && !metric.ends_with("_gap") => {
            "share of inputs won, a tie counting half, by the judge of this name"
        }
        "ead_per_input_gap" => "in distribution minus out of it",
        _ if metric.ends_with("_gap") => "in distribution minus out of it: what generalises loses little",
        _ => meaning_of_spread(metric),
    }
}

/// What a measure of diversity is, whichever way it is taken.
fn meaning_of_spread(metric: &str) -> &'static str {
    let whole = metric.strip_suffix("_matched").unwrap_or(metric);
    match WAYS.iter().find_map(|(_, ending)| whole.strip_suffix(ending)).unwrap_or_default() {
        "ead_tokenizer" => "distinct n-grams over those expected of the tokenizer's vocabulary; higher is more diverse",
        "distinct" => "share of n-grams that are distinct; higher is more diverse",
        "entropy" => "entropy of n-grams in nats; higher is more diverse",
        "self_bleu" => "overlap of each text with the others; lower is more diverse",
        "vendi" => "effective number of texts by their n-grams; higher is more diverse",
        "compression" => "bytes over bytes as gzip; lower is more diverse",
        "embedding" => "mean distance of two texts' sentence embeddings; higher is more diverse",
        "embedding_vendi" => "effective number of texts by their sentence embeddings; higher is more diverse",
        "nli" => "contradictions minus entailments of two texts; higher is more diverse",
        _ => "",
    }
}

/// Whether a metric is a part of the gold score rather than a result of its own.
pub(super) fn is_part(metric: &str) -> bool {
    metric.starts_with(COVERAGE) || ["exact", "coverage", "invented", "repeated", "malformed"].contains(&metric)
}

const COVERAGE: &str = "coverage_";
/// How the name of a metric ends whose rows are differences between methods.
pub(super) const DIFFERENCE: &str = "_difference";

/// The ways of measuring diversity that share a block: what its title says, and how its metrics end.
const WAYS: [(&str, &str); 2] =
    [("diversity of the samples of one input", "_per_input"), ("diversity over all inputs, one sample of each", "_across_inputs")];

/// Whether a metric is a measure of diversity beside EAD, which has blocks of its own.
pub(super) fn is_spread(metric: &str) -> bool {
    let whole = metric.strip_suffix("_matched").unwrap_or(metric);
    WAYS.iter().any(|(_, ending)| whole.strip_suffix(ending).is_some_and(|metric| metric != "ead"))
}

impl Table {
    /// `{"rows":[…]}`, one row a line.
    pub fn json(&self) -> String {
        let row = |row: &Row| serde_json::to_string(row).expect("a row of strings and numbers is JSON");
        let rows: Vec<String> = self.rows.iter().map(row).collect();
        let over = if self.over.is_inputs() { "" } else { "\"over\":\"seeds\"," };
        format!("{{{over}\"rows\":[\n{}\n]}}\n", rows.join(",\n"))
    }

    /// For a terminal of `width` columns (see [`WIDTH`]).
    pub fn text(&self, width: usize) -> String {
        let mut out = String::new();
        for block in self.results() {
            block.write_text(&mut out, width);
        }
        if !out.is_empty() {
            let _ = writeln!(out, "{}; {}.", self.over.footnote(), self.counts());
        }
        for block in self.spreads() {
            block.write_text(&mut out, width);
        }
        let parts = self.parts();
        if !parts.is_empty() {
            out.push_str("\nWhat the gold score is made of: means; coverage is the share of texts that state the fact\n\n");
        }
        for block in parts {
            block.write_text(&mut out, width);
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    /// For a document: a third-level heading and a table a block.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        for block in self.results() {
            block.write_markdown(&mut out);
        }
        if !out.is_empty() {
            let _ = writeln!(out, "{}; {}.\n", self.over.footnote(), self.counts());
        }
        for block in self.spreads().into_iter().chain(self.parts()) {
            block.write_markdown(&mut out);
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    /// One block a metric that is no part of gold.
    pub(super) fn results(&self) -> Vec<Block<'_>> {
        let metrics = distinct(self.rows.iter().map(|row| row.metric.as_str()).filter(|metric| !is_part(metric) && !is_spread(metric)));
        let block = |metric: &str| {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.metric == metric).collect();
            let columns = distinct(rows.iter().map(|row| row.test_set.as_str()));
            let lines = lines(&rows, &columns, |row| &row.test_set, true);
            Block { title: metric.to_string(), meaning: meaning(metric), columns, lines }
        };
        metrics.into_iter().map(block).collect()
    }

    /// One block a test set and a way of measuring, of the measures of diversity that are not EAD: means. Those of cut texts are not shown.
    pub(super) fn spreads(&self) -> Vec<Block<'_>> {
        let all: Vec<&Row> = self.rows.iter().filter(|row| is_spread(&row.metric)).collect();
        let block = |test_set: &str, (way, ending): (&str, &str)| {
            let of = |row: &&&Row| row.test_set == test_set && row.metric.ends_with(ending);
            let rows: Vec<&Row> = all.iter().filter(of).copied().collect();
            let metrics = distinct(rows.iter().map(|row| row.metric.as_str()));
            let lines = lines(&rows, &metrics, |row| &row.metric, false);
            let columns = metrics.iter().map(|metric| metric.strip_suffix(ending).unwrap_or(metric)).collect();
            Block { title: format!("{test_set}, {way}"), meaning: "", columns, lines }
        };
        let sets = distinct(all.iter().map(|row| row.test_set.as_str()));
        sets.into_iter().flat_map(|set| WAYS.map(|way| block(set, way))).filter(|block| !block.lines.is_empty()).collect()
    }

    /// One block a test set, of the parts of gold.
    pub(super) fn parts(&self) -> Vec<Block<'_>> {
        let all: Vec<&Row> = self.rows.iter().filter(|row| is_part(&row.metric)).collect();
        let block = |test_set: &str| {
            let rows: Vec<&Row> = all.iter().copied().filter(|row| row.test_set == test_set).collect();
            let metrics = distinct(rows.iter().map(|row| row.metric.as_str()));
            let lines = lines(&rows, &metrics, |row| &row.metric, false);
            let columns = metrics.iter().map(|metric| metric.strip_prefix(COVERAGE).unwrap_or(metric)).collect();
            Block { title: format!("gold's parts, {test_set}"), meaning: "", columns, lines }
        };
        distinct(all.iter().map(|row| row.test_set.as_str())).into_iter().map(block).collect()
    }

    /// How many inputs or seeds the figures are over, and why some have no interval.
    pub(super) fn counts(&self) -> String {
        let shown = || self.rows.iter().filter(|row| !is_part(&row.metric));
        let counts = || shown().map(|row| row.n);
        let over = self.over.name();
        let counted = match (counts().min(), counts().max()) {
            (Some(least), Some(most)) if least != most => format!("{least} to {most} {over} a cell"),
            (_, most) => format!("{} {over} a cell", most.unwrap_or(0)),
        };
        let any = |kind: Kind| shown().any(|row| row.n > 0 && row.interval == kind);
        let few = format!(
            "fewer than {FEWEST} {over} ({FEWEST_VENDI} for a Vendi score, {FEWEST_SELF_BLEU} for self-BLEU) tell nothing of its error"
        );
        let why = [(Kind::NoneTooFew, few.as_str()), (Kind::NoneAllEqual, "values that are all equal tell nothing of its error")];
        let why: Vec<&str> = why.into_iter().filter(|(kind, _)| any(*kind)).map(|(_, why)| why).collect();
        if why.is_empty() { counted } else { format!("{counted}; a mean without an interval: {}", why.join(", and ")) }
    }
}

/// The different items, in the order they first come.
pub(super) fn distinct<'a>(items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHODS: [&str; 5] = ["base", "sft", "best_of_n", "ppo", "reference"];
    const TEST_SETS: [&str; 4] = ["id", "ood_forum", "ood_length", "ood_register"];

    #[test]
    fn measures_of_diversity_beside_ead_share_a_block() {
        let mut table = Table::default();
        for (metric, mean) in
            [("ead_per_input", 0.5), ("vendi_per_input", 3.25), ("self_bleu_per_input", 0.125), ("vendi_per_input_matched", 2.5)]
        {
            table.rows.push(Row::new("ppo", "id", metric, Interval { mean, low: mean, high: mean, n: 4, kind: Kind::Unsaid }));
        }
        let text = table.text(WIDTH);
        assert!(text.contains("ead_per_input: diversity of the samples"), "{text}");
        let block = "id, diversity of the samples of one input\n       vendi  self_bleu\n  ppo  3.250  0.125\n";
        assert!(text.contains(block), "{text}");
        assert!(!text.contains("2.5"), "texts cut to a length are in the JSON: {text}");
    }

    /// A table of the default run's size, with figures in the usual ranges.
    fn table() -> Table {
        let mut table = Table::default();
        let figures = |method: f64, set: f64| {
            [
                ("gold", -0.62 + 0.31 * method - 0.1 * set, 0.043),
                ("rm", -1.5 + 0.8 * method - 0.2 * set, 0.11),
                ("win_rate", 0.02 + 0.15 * method, 0.03),
                ("kl", 3.7 * method, 0.4),
                ("length", 18.0 - method + set, 0.7),
                ("ead_per_input", 0.8 - 0.15 * method, 0.02),
                ("ead_across_inputs", 0.71 - 0.03 * method, 0.01),
                ("coverage_who", 0.6, 0.03),
                ("coverage_verb", 0.7, 0.03),
                ("coverage_object", 0.5, 0.03),
                ("coverage_tried", 0.4, 0.03),
                ("coverage_when", 0.3, 0.03),
                ("coverage_ask", 0.2, 0.03),
                ("invented", 0.41, 0.05),
                ("repeated", 0.07, 0.02),
                ("malformed", 0.93, 0.05),
            ]
        };
        for (m, method) in METHODS.iter().enumerate() {
            for (s, test_set) in TEST_SETS.iter().enumerate() {
                for (metric, mean, half) in figures(m as f64, s as f64) {
                    let interval = Interval { mean, low: mean - half, high: mean + half, n: 200, kind: Kind::Unsaid };
                    table.rows.push(Row::new(method, test_set, metric, interval));
                }
            }
        }
        table
    }

    fn one(mean: f64, low: f64, high: f64) -> Table {
        Table { rows: vec![Row::new("sft", "id", "gold", Interval { mean, low, high, n: 7, kind: Kind::Unsaid })], ..Table::default() }
    }

    #[test]
    fn the_default_runs_table_fits_its_width_with_nothing_left_out() {
        let text = table().text(WIDTH);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(text.lines().all(|line| line.trim_end() == line));
        for name in METHODS.iter().chain(&TEST_SETS) {
            assert!(text.contains(name), "{name} is missing");
        }
        // Seven results of four test sets in one block each: a heading, the test sets, five methods and an empty line.
        assert_eq!(text.lines().take_while(|line| !line.starts_with("mean [")).count(), 7 * 8);
        assert_eq!(text.matches("gold's parts, ").count(), 4);
    }

    #[test]
    fn a_narrow_terminal_gets_the_columns_below_each_other() {
        let text = table().text(60);
        assert!(text.lines().filter(|line| line.contains('[') && !line.starts_with("mean")).all(|line| line.chars().count() <= 60));
        assert_eq!(text.matches("0.310]").count(), table().text(WIDTH).matches("0.310]").count());
    }

    #[test]
    fn a_cell_is_mean_and_interval_and_decimals_follow_the_size() {
        assert_eq!(
            one(0.25, -0.0001, 0.5).text(WIDTH),
            "gold: exact score of the text, -1 to 1; higher is better\n          id\n  sft  0.250 [0.000, 0.500]\n\n\
             mean [95% interval over inputs]; 7 inputs a cell.\n"
        );
        assert!(one(12.34, 1.0, 20.0).text(WIDTH).contains("12.34 [ 1.00, 20.00]"));
        assert!(one(-123.4, -200.0, 3.0).text(WIDTH).contains("-123.4 [-200.0,    3.0]"));
    }

    #[test]
    fn a_missing_cell_and_one_of_no_input_are_dashes() {
        let mut table = one(0.5, 0.4, 0.6);
        table.rows.push(Row::new("ppo", "ood", "gold", Interval::none(0.0, 0, Kind::NoneTooFew)));
        let text = table.text(WIDTH);
        assert_eq!(text.lines().filter(|line| line.trim_end().ends_with(" -")).count(), 2, "{text}");
        assert!(text.contains("0 to 7 inputs a cell"));
    }

    #[test]
    fn markdown_has_one_table_a_block() {
        let text = one(0.25, 0.0, 0.5).markdown();
        assert!(text.contains("### gold\n\n") && text.contains("| method | id |\n|---|---:|\n| sft | 0.250 [0.000, 0.500] |\n"), "{text}");
        assert_eq!(table().markdown().matches("### ").count(), 7 + 4);
    }

    #[test]
    fn json_has_the_promised_shape_and_reads_back() {
        let json = one(0.25, 0.0, 0.5).json();
        assert_eq!(
            json,
            "{\"rows\":[\n{\"method\":\"sft\",\"test_set\":\"id\",\"metric\":\"gold\",\"mean\":0.25,\"low\":0.0,\"high\":0.5,\"n\":7}\n]}\n"
        );
        assert_eq!(serde_json::from_str::<Table>(&table().json()).expect("it is JSON"), table());
        assert_eq!(serde_json::from_str::<Table>(&Table::default().json()).expect("it is JSON"), Table::default());
    }
}
