//! Reports: the page in a real browser, the tables, two runs side by side, event files under
//! TensorBoard's own reader, LaTeX under a real pdflatex. `tests/report/fetch` brings the browser,
//! the reader and TeX.

#![expect(clippy::unwrap_used)]

mod annotation;
mod browser;
mod commands;
mod events;
mod figures;
mod fixture;
mod latex;
mod names;
mod optimum;
mod page;
mod people;
mod results;
mod sweeps;

use crate::tools::left_out;

/// Leaves a test out for want of a tool.
fn skip(tool: &str) {
    left_out(&format!("there is no {tool}; tests/report/fetch installs it"));
}
