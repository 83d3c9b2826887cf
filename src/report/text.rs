//! What a terminal shows of an evaluation: its table, what is said of it, and what is compared, in
//! lines of a given width. Knows no terminal.

use std::fmt::Write;

use super::layout::wrapped;
use super::run::Evaluation;
use super::{people, seeds, significance, table};

/// For a terminal of `width` columns.
pub fn text(evaluation: &Evaluation, width: usize) -> String {
    let mut out = table::text(&evaluation.table, width);
    for note in evaluation.notes() {
        let _ = write!(out, "\n{}\n", wrapped(&note, width));
    }
    for listing in seeds::verdicts(evaluation).into_iter().chain(people::listings(evaluation)) {
        out.push('\n');
        listing.write_text(&mut out, width);
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    let compared = significance::printed(evaluation);
    if !compared.rows.is_empty() {
        let _ = write!(out, "\n{}", table::text(&compared, width));
    }
    if let Some(silent) = significance::silent(&evaluation.comparisons) {
        let _ = write!(out, "\n{}\n", wrapped(&silent, width));
    }
    out
}

/// The same for a document.
pub fn markdown(evaluation: &Evaluation) -> String {
    let mut out = table::markdown(&evaluation.table);
    for note in evaluation.notes() {
        let _ = write!(out, "\n{note}\n");
    }
    for listing in seeds::verdicts(evaluation).into_iter().chain(people::listings(evaluation)) {
        out.push('\n');
        listing.write_markdown(&mut out);
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    let compared = significance::printed(evaluation);
    if !compared.rows.is_empty() {
        let _ = write!(out, "\n{}", table::markdown(&compared));
    }
    if let Some(silent) = significance::silent(&evaluation.comparisons) {
        let _ = write!(out, "\n{silent}\n");
    }
    out
}
