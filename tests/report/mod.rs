//! Reports: the page in a real browser, the tables, two runs side by side, event files under
//! TensorBoard's own reader, LaTeX under a real pdflatex. `tests/report/fetch` brings the browser,
//! the reader and TeX.

#![expect(clippy::unwrap_used)]

mod browser;
mod commands;
mod events;
mod figures;
mod fixture;
mod latex;
mod names;
mod page;

/// Says that a test cannot be made for want of a tool; where all tools are asked for, that is a
/// failure.
fn skip(tool: &str) {
    let required = std::env::var("POSTTRAIN_TESTS_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "there is no {tool} (tests/report/fetch), and POSTTRAIN_TESTS_REQUIRE_TOOLS=1 asks for it"
    );
    eprintln!("skipped: there is no {tool}; tests/report/fetch brings it");
}
