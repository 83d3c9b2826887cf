//! The LaTeX of a run under a real pdflatex; `POSTTRAIN_TESTS_PICTURES=DIR` keeps the PDF.

use std::path::Path;
use std::process::{Command, Stdio};

use posttrain::report::latex::latex;
use posttrain::report::run::Run;

use super::fixture::run;
use super::skip;

/// Points that a line may stick out by.
const SLACK: f64 = 2.0;

/// What TeX complains of in an article with these tables: errors, too many floats, lines and pages
/// that are too full.
fn complaints(folder: &Path, preamble: &str, tables: &str) -> Vec<String> {
    std::fs::write(folder.join("tables.tex"), tables).unwrap();
    let document = format!(
        "\\documentclass{{article}}\n{preamble}\\begin{{document}}\nResults: \
         Table~\\ref{{tab:report:gold}}.\n\\input{{tables}}\n\\end{{document}}\n"
    );
    std::fs::write(folder.join("main.tex"), document).unwrap();
    for _ in 0..2 {
        let mut command = Command::new("pdflatex");
        command
            .args(["-interaction=nonstopmode", "main.tex"])
            .current_dir(folder)
            .stdin(Stdio::null());
        command.stdout(Stdio::null()).status().unwrap();
    }
    let log = std::fs::read(folder.join("main.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("Output written on main.pdf"), "{log}");
    let wide = |line: &str| {
        let points = line
            .strip_prefix("Overfull \\")?
            .split_once('(')?
            .1
            .split_once("pt")?
            .0
            .parse::<f64>()
            .ok()?;
        Some(points > SLACK)
    };
    let bad = |line: &&str| {
        let words =
            ["Too many unprocessed floats", "Float too large", "undefined", "multiply defined"];
        line.starts_with('!')
            || wide(line).unwrap_or(false)
            || words.iter().any(|word| line.contains(word))
    };
    log.lines().filter(bad).map(str::to_owned).collect()
}

fn is_there() -> bool {
    Command::new("pdflatex")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The fixture, and its methods and test sets again under long names and names that TeX would take
/// for its own.
fn wider() -> Run {
    let mut run = run();
    let mut again = run.evaluations[0].clone();
    again.node = "report_[kl=0.02,seed=1]".into();
    let renamed = |name: &str| match name {
        "ppo" => "ppo_after_a_long_warm_up_with_adaptive_kl".to_owned(),
        "sft" => "100% of #5 & $x^2$ {~\\} \"é\" 中".to_owned(),
        name => name.to_owned(),
    };
    for row in &mut again.table.rows {
        row.method = renamed(&row.method);
    }
    for difference in &mut again.comparisons.differences {
        difference.method = renamed(&difference.method);
        difference.with = renamed(&difference.with);
    }
    again.judges = vec!["win_rate: `some_model`, trained on `pairs` of `data_1`.".into()];
    run.evaluations.push(again);
    run
}

#[test]
fn tables_compile_as_they_are_and_fit_the_page() {
    if !is_there() {
        return skip("pdflatex");
    }
    let folder = tempfile::tempdir().unwrap();
    let tables = latex(&wider());
    assert_eq!(complaints(folder.path(), "", &tables), Vec::<String>::new());
    if let Ok(pictures) = std::env::var("POSTTRAIN_TESTS_PICTURES") {
        std::fs::copy(folder.path().join("main.pdf"), Path::new(&pictures).join("tables.pdf"))
            .unwrap();
    }
    if Path::new("/usr/share/texlive/texmf-dist/tex/latex/booktabs").exists() {
        assert_eq!(
            complaints(folder.path(), "\\usepackage{booktabs}\n", &tables),
            Vec::<String>::new()
        );
    }
    // The check can fail.
    let broken = tables.replacen("\\begin{tabular}", "\\begin{tabula}", 1);
    assert!(!complaints(folder.path(), "", &broken).is_empty());
    let wide = tables.replacen("    \\toprule\n    ", "    \\toprule\n    \\rule{400pt}{1pt}", 1);
    assert!(complaints(folder.path(), "", &wide).iter().any(|line| line.starts_with("Overfull")));
}
