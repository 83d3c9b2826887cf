//! The result table: rows of (method, test set, metric, interval), as JSON, for a terminal, and in
//! Markdown. What a metric is says [`super::metrics`]; one that is not in it is shown without a
//! meaning.
//!
//! 1. Methods, test sets and metrics appear in the order of their first row.
//! 2. One block a metric, methods down and test sets across, because methods are compared on one
//!    test set and test sets of one method; each cell is mean [low, high]. Test sets that do not
//!    fit the width go below.
//! 3. The parts of the gold score are a separate table, one block a test set, means only: they
//!    explain a gold score, and many fit a line. So are the measures of diversity beside EAD: each
//!    says much the same.
//! 4. A block has as many decimals everywhere as its largest number leaves room for. A cell without
//!    a row, or of no input, is a dash.

use std::fmt::Write;

use super::layout::{Block, Directions, distinct, lines, wrapped};
use super::metrics::{
    COVERAGE, Direction, WAYS, Way, define, define_in, is_detail, is_loss, is_matched, is_part,
    is_spread, is_taken, measure,
};
use crate::artefacts::table::{Over, Row, Table};
use crate::eval::interval::{FEWEST, Kind};
use crate::eval::spread::{FEWEST_SELF_BLEU, FEWEST_VENDI};

/// Metrics whose `n` counts preference pairs.
const PAIRED: [&str; 3] = ["rm_accuracy", "rm_accuracy_clean", "noise_ceiling"];

/// Columns that a table fills where no terminal says how many it has.
pub const WIDTH: usize = 80;

/// For a terminal of `width` columns (see [`WIDTH`]): without details, which Markdown and the page
/// have.
pub fn text(table: &Table, width: usize) -> String {
    let mut out = String::new();
    for block in results(table).iter().filter(|block| !is_detail(&block.title)) {
        block.write_text(&mut out, width);
    }
    if !out.is_empty() {
        let _ = writeln!(
            out,
            "{}",
            wrapped(&format!("{}; {}.", footnote(table), counts(table)), width)
        );
    }
    let plain = |way: &Way| !is_detail(way.ending);
    for (at, block) in spreads_of(table, plain).iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { "" });
        block.write_text(&mut out, width);
    }
    let parts = parts(table);
    if !parts.is_empty() {
        let words = "What the gold score is made of: means; coverage is the share of texts \
            that state the fact";
        let _ = writeln!(out, "\n{}\n", wrapped(words, width));
    }
    for block in parts {
        block.write_text(&mut out, width);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// For a document: a third-level heading and a table a block.
pub fn markdown(table: &Table) -> String {
    let mut out = String::new();
    for block in results(table) {
        block.write_markdown(&mut out);
    }
    if !out.is_empty() {
        let _ = writeln!(out, "{}; {}.\n", footnote(table), counts(table));
    }
    for block in spreads(table).into_iter().chain(parts(table)) {
        block.write_markdown(&mut out);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// One block a metric that is no part of gold.
pub(super) fn results(table: &Table) -> Vec<Block<'_>> {
    let metrics = distinct(
        table
            .rows
            .iter()
            .map(|row| row.metric.as_str())
            .filter(|metric| !is_part(metric) && !is_spread(metric)),
    );
    let block = |metric: &str| {
        let rows: Vec<&Row> = table.rows.iter().filter(|row| row.metric == metric).collect();
        let columns = distinct(rows.iter().map(|row| row.test_set.as_str()));
        let lines = lines(&rows, &columns, |row| &row.test_set, true);
        let definition = define_in(table, metric);
        let direction = definition.as_ref().map_or(Direction::Neither, |of| of.direction);
        let meaning = definition.map_or_else(String::new, |definition| definition.sentence());
        let directions = Directions { title: direction, columns: Vec::new() };
        Block { title: metric.to_string(), meaning, columns, lines, directions }
    };
    metrics.into_iter().map(block).collect()
}

/// One block a test set and a way of measuring, of the measures of diversity that are not EAD:
/// means. Those of cut texts are not shown.
pub(super) fn spreads(table: &Table) -> Vec<Block<'_>> {
    spreads_of(table, |_| true)
}

fn spreads_of(table: &Table, wanted: impl Fn(&Way) -> bool) -> Vec<Block<'_>> {
    let shown = |row: &&Row| is_spread(&row.metric) && !is_matched(&row.metric);
    let all: Vec<&Row> = table.rows.iter().filter(shown).collect();
    let block = |test_set: &str, way: &'static Way| {
        let of = |row: &&&Row| row.test_set == test_set && is_taken(&row.metric, way);
        let rows: Vec<&Row> = all.iter().filter(of).copied().collect();
        let metrics = distinct(rows.iter().map(|row| row.metric.as_str()));
        let lines = lines(&rows, &metrics, |row| &row.metric, false);
        let columns = metrics.iter().map(|metric| short(metric)).collect();
        Block {
            title: format!("{test_set}, {}", way.title),
            meaning: directions(&metrics),
            columns,
            lines,
            directions: Directions::of(&metrics),
        }
    };
    let sets = distinct(all.iter().map(|row| row.test_set.as_str()));
    sets.into_iter()
        .flat_map(|set| WAYS.iter().map(move |way| (set, way)))
        .filter(|(_, way)| wanted(way))
        .map(|(set, way)| block(set, way))
        .filter(|block| !block.lines.is_empty())
        .collect()
}

/// One block a test set, of the parts of gold.
pub(super) fn parts(table: &Table) -> Vec<Block<'_>> {
    let all: Vec<&Row> = table.rows.iter().filter(|row| is_part(&row.metric)).collect();
    let block = |test_set: &str| {
        let rows: Vec<&Row> = all.iter().copied().filter(|row| row.test_set == test_set).collect();
        let metrics = distinct(rows.iter().map(|row| row.metric.as_str()));
        let lines = lines(&rows, &metrics, |row| &row.metric, false);
        let columns = metrics.iter().map(|metric| short(metric)).collect();
        Block {
            title: format!("gold's parts, {test_set}"),
            meaning: directions(&metrics),
            columns,
            lines,
            directions: Directions::of(&metrics),
        }
    };
    distinct(all.iter().map(|row| row.test_set.as_str())).into_iter().map(block).collect()
}

/// How many inputs or seeds the figures are over, of the reward model's accuracy how many
/// pairs, and why some have no interval.
pub(super) fn counts(table: &Table) -> String {
    let is_of_pairs = |row: &&Row| table.over.is_inputs() && PAIRED.contains(&row.metric.as_str());
    let shown = || table.rows.iter().filter(|row| !is_part(&row.metric));
    let (pairs, others): (Vec<&Row>, Vec<&Row>) = shown().partition(is_of_pairs);
    let range = |rows: &[&Row], of: &str| {
        let counts = || rows.iter().map(|row| row.figure.n);
        match (counts().min(), counts().max()) {
            (Some(least), Some(most)) if least != most => {
                format!("{least} to {most} {of} a cell")
            }
            (_, most) => format!("{} {of} a cell", most.unwrap_or(0)),
        }
    };
    let of_pairs = match pairs.is_empty() {
        true => String::new(),
        false => format!(", {} of the reward model's accuracy", range(&pairs, "pairs")),
    };
    let over = counted(table.over);
    let counted = format!("{}{of_pairs}", range(&others, over));
    let any = |kind: Kind| shown().any(|row| row.figure.n > 0 && row.figure.kind == kind);
    // Losses take as many rows as Vendi scores take inputs.
    let or_loss = if shown().any(|row| is_loss(&row.metric)) { " or a loss" } else { "" };
    let few = format!(
        "fewer than {FEWEST} {over} ({FEWEST_VENDI} for a Vendi score{or_loss}, \
         {FEWEST_SELF_BLEU} for self-BLEU) tell nothing of its error"
    );
    let why = [
        (Kind::NoneTooFew, few.as_str()),
        (Kind::NoneAllEqual, "values that are all equal tell nothing of its error"),
    ];
    let why: Vec<&str> =
        why.into_iter().filter(|(kind, _)| any(*kind)).map(|(_, why)| why).collect();
    if why.is_empty() {
        counted
    } else {
        format!("{counted}; a mean without an interval: {}", why.join(", and "))
    }
}

/// What an interval is over.
pub(super) fn footnote(table: &Table) -> String {
    let is_crossed = |row: &&Row| row.figure.kind == Kind::Crossed;
    let crossed = distinct(table.rows.iter().filter(is_crossed).map(|row| row.metric.as_str()));
    match table.over {
        Over::Inputs => "mean [95% interval over inputs]".into(),
        Over::Seeds if crossed.is_empty() => {
            "mean [95% interval], Student's t over seeds of training".into()
        }
        Over::Seeds => format!(
            "mean [95% interval], over seeds of training and test inputs of {}, else Student's t \
             over seeds for these inputs alone where the seeds share them",
            crossed.join(", ")
        ),
    }
}

/// What is counted.
fn counted(over: Over) -> &'static str {
    match over {
        Over::Inputs => "inputs",
        Over::Seeds => "seeds",
    }
}

/// Which way some metrics point, as a sentence: those of a direction by name; nothing of the
/// others.
fn directions(metrics: &[&str]) -> String {
    use Direction::{HigherIsBetter, HigherIsMoreDiverse, LowerIsBetter, LowerIsMoreDiverse};
    let all = [HigherIsBetter, LowerIsBetter, HigherIsMoreDiverse, LowerIsMoreDiverse];
    let of = |direction: Direction| {
        let own = metrics
            .iter()
            .filter(|metric| define(metric).is_some_and(|of| of.direction == direction));
        let names: Vec<&str> = own.map(|metric| short(metric)).collect();
        Some(format!("{} of {}", direction.words()?, names.join(", ")))
            .filter(|_| !names.is_empty())
    };
    all.into_iter().filter_map(of).collect::<Vec<String>>().join("; ")
}

/// The name of a metric in a block that says the rest: a measure without its way, a part without
/// its prefix.
fn short(metric: &str) -> &str {
    measure(metric).or(metric.strip_prefix(COVERAGE)).unwrap_or(metric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::interval::Interval;

    const METHODS: [&str; 5] = ["base", "sft", "best_of_n", "ppo", "reference"];
    const TEST_SETS: [&str; 4] = ["id", "ood_forum", "ood_length", "ood_register"];

    #[test]
    fn measures_of_diversity_beside_ead_share_a_block() {
        let mut table = Table::default();
        for (metric, mean) in [
            ("ead_per_input", 0.5),
            ("vendi_per_input", 3.25),
            ("self_bleu_per_input", 0.125),
            ("vendi_per_input_matched", 2.5),
        ] {
            table.rows.push(Row::new(
                "ppo",
                "id",
                metric,
                Interval { mean, low: mean, high: mean, n: 4, kind: Kind::Unsaid },
            ));
        }
        let text = text(&table, WIDTH);
        assert!(
            text.contains(
                "ead_per_input \u{2191}: expectation-adjusted distinct n-grams of the samples of \
                 one\n    input"
            ),
            "{text}"
        );
        let block = "id, diversity of the samples of one input, mean over inputs: higher is \
            more\n    diverse of vendi; lower is more diverse of self_bleu\n       vendi \u{2191}  \
            self_bleu \u{2193}\n  ppo  3.250    0.125\n";
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
                    let interval = Interval {
                        mean,
                        low: mean - half,
                        high: mean + half,
                        n: 200,
                        kind: Kind::Unsaid,
                    };
                    table.rows.push(Row::new(method, test_set, metric, interval));
                }
            }
        }
        table
    }

    fn one(mean: f64, low: f64, high: f64) -> Table {
        Table {
            rows: vec![Row::new(
                "sft",
                "id",
                "gold",
                Interval { mean, low, high, n: 7, kind: Kind::Unsaid },
            )],
            ..Table::default()
        }
    }

    #[test]
    fn the_default_runs_table_fits_its_width_with_nothing_left_out() {
        let text = text(&table(), WIDTH);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(text.lines().all(|line| line.trim_end() == line));
        for name in METHODS.iter().chain(&TEST_SETS) {
            assert!(text.contains(name), "{name} is missing");
        }
        // Seven results of four test sets in one block each: a heading, of which four go on in
        // a second line; three test sets and then the fourth, each time with five methods and an
        // empty line.
        let lines = text.lines().take_while(|line| !line.starts_with("mean [")).count();
        assert_eq!(lines, 7 * (1 + 2 * 7) + 4);
        assert_eq!(text.matches("gold's parts, ").count(), 4);
    }

    #[test]
    fn a_narrow_terminal_gets_the_columns_below_each_other() {
        let text = text(&table(), 60);
        assert!(
            text.lines()
                .filter(|line| line.contains('[') && !line.starts_with("mean"))
                .all(|line| line.chars().count() <= 60)
        );
        assert_eq!(
            text.matches("0.310]").count(),
            super::text(&table(), WIDTH).matches("0.310]").count()
        );
    }

    #[test]
    fn a_cell_is_mean_and_interval_and_decimals_follow_the_size() {
        assert_eq!(
            text(&one(0.25, -0.0001, 0.5), WIDTH),
            "gold \u{2191}: exact score of the text, -1 to 1; higher is better\n          id\n  sft  0.250 \
             [0.000, 0.500]\n\nmean [95% interval over inputs]; 7 inputs a cell.\n"
        );
        assert!(text(&one(12.34, 1.0, 20.0), WIDTH).contains("12.34 [ 1.00, 20.00]"));
        assert!(text(&one(-123.4, -200.0, 3.0), WIDTH).contains("-123.4 [-200.0,    3.0]"));
    }

    #[test]
    fn a_missing_cell_and_one_of_no_input_are_dashes() {
        let mut table = one(0.5, 0.4, 0.6);
        table.rows.push(Row::new("ppo", "ood", "gold", Interval::none(0.0, 0, Kind::NoneTooFew)));
        let text = text(&table, WIDTH);
        assert_eq!(
            text.lines().filter(|line| line.trim_end().ends_with(" -")).count(),
            2,
            "{text}"
        );
        assert!(text.contains("0 to 7 inputs a cell"));
    }

    #[test]
    fn markdown_has_one_table_a_block() {
        let text = markdown(&one(0.25, 0.0, 0.5));
        assert!(
            text.contains("### gold\n\n")
                && text.contains("| method | id |\n|---|---:|\n| sft | 0.250 [0.000, 0.500] |\n"),
            "{text}"
        );
        assert_eq!(markdown(&table()).matches("### ").count(), 7 + 4);
    }

    #[test]
    fn json_has_the_promised_shape_and_reads_back() {
        let json = one(0.25, 0.0, 0.5).json();
        assert_eq!(
            json,
            "{\"rows\":[\n\
             {\"method\":\"sft\",\"test_set\":\"id\",\"metric\":\"gold\",\"mean\":0.25,\"low\":0.0,\"high\":0.5,\"n\":7}\n]}\n"
        );
        assert_eq!(serde_json::from_str::<Table>(&table().json()).expect("it is JSON"), table());
        assert_eq!(
            serde_json::from_str::<Table>(&Table::default().json()).expect("it is JSON"),
            Table::default()
        );
    }
}
