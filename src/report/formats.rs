//! The tables of a run in other languages: Markdown, CSV, LaTeX, JSON, and HTML for the page. Knows only what [`super::table`] lays out.

use std::fmt::Write;

use super::run::{Evaluation, Run};
use super::table::Block;

/// All tables, under a heading for each evaluation.
pub fn markdown(run: &Run) -> String {
    let one = |evaluation: &Evaluation| format!("## {}\n\n{}", evaluation.node, evaluation.table.markdown());
    format!("# Run {}\n\n{}", run.id, run.evaluations.iter().map(one).collect::<Vec<String>>().join("\n"))
}

/// One line a figure, under a line of names.
pub fn csv(run: &Run) -> String {
    let mut out = String::from("evaluation,method,test_set,metric,mean,low,high,n\n");
    for evaluation in &run.evaluations {
        for row in &evaluation.table.rows {
            let names = [&evaluation.node, &row.method, &row.test_set, &row.metric].map(|name| csv_field(name));
            let _ = writeln!(out, "{},{},{},{},{}", names.join(","), row.mean, row.low, row.high, row.n);
        }
    }
    out
}

/// As RFC 4180 has it.
fn csv_field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// All that is known of the run, but for samples.
pub fn json(run: &Run) -> String {
    format!("{}\n", serde_json::to_string_pretty(run).expect("a run is plain data"))
}

/// One `table` a metric, for a document that loads `booktabs`.
pub fn latex(run: &Run) -> String {
    let mut out = String::from("% Needs \\usepackage{booktabs}.\n");
    for evaluation in &run.evaluations {
        for block in evaluation.table.results().iter().chain(&evaluation.table.parts()) {
            let _ = writeln!(out, "\\begin{{table}}\n  \\centering\n  \\caption{{{}}}", latex_text(&caption(evaluation, block)));
            let _ = writeln!(out, "  \\begin{{tabular}}{{l{}}}\n    \\toprule", "r".repeat(block.columns.len()));
            let heads: Vec<String> = block.columns.iter().map(|name| latex_text(name)).collect();
            let _ = writeln!(out, "    & {} \\\\\n    \\midrule", heads.join(" & "));
            for (method, cells) in &block.lines {
                let cells: Vec<String> = cells.iter().map(|cell| latex_cell(&cell.0)).collect();
                let _ = writeln!(out, "    {} & {} \\\\", latex_text(method), cells.join(" & "));
            }
            out.push_str("    \\bottomrule\n  \\end{tabular}\n\\end{table}\n\n");
        }
    }
    out
}

fn caption(evaluation: &Evaluation, block: &Block<'_>) -> String {
    let gap = if block.meaning.is_empty() { "" } else { ": " };
    format!("{} ({}){gap}{}", block.title, evaluation.node, block.meaning)
}

/// A mean with its interval below it in size.
fn latex_cell(numbers: &[String]) -> String {
    match numbers {
        [mean, low, high] => format!("${mean}$ {{\\scriptsize [${low}$, ${high}$]}}"),
        [mean] => format!("${mean}$"),
        _ => "--".into(),
    }
}

fn latex_text(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '_' | '%' | '&' | '#' | '$' | '{' | '}' => out.extend(['\\', letter]),
            letter => out.push(letter),
        }
    }
    out
}

/// For a page: a heading and a table a block, each in a box that scrolls by itself.
pub fn html(evaluation: &Evaluation) -> String {
    let mut out = String::new();
    let (results, parts) = (evaluation.table.results(), evaluation.table.parts());
    write_blocks(&mut out, &results);
    let _ = writeln!(out, "<p class=note>{}; {}.</p>", text(evaluation.table.over.footnote()), text(&evaluation.table.counts()));
    if !parts.is_empty() {
        out.push_str("<details><summary>What the gold score is made of</summary>\n");
        write_blocks(&mut out, &parts);
        out.push_str("</details>\n");
    }
    out
}

fn write_blocks(out: &mut String, blocks: &[Block<'_>]) {
    out.push_str("<div class=tables>\n");
    blocks.iter().for_each(|block| write_block(out, block));
    out.push_str("</div>\n");
}

fn write_block(out: &mut String, block: &Block<'_>) {
    let heading = text(&block.title);
    let _ = write!(out, "<div class=scroll tabindex=0 role=region aria-label=\"{heading}\"><table><caption><b>{heading}</b>");
    let _ = write!(out, " <span class=note>{}</span></caption><thead><tr><th scope=col>method", text(block.meaning));
    block.columns.iter().for_each(|name| {
        let _ = write!(out, "<th scope=col>{}", text(name));
    });
    out.push_str("</thead><tbody>");
    for (method, cells) in &block.lines {
        let _ = write!(out, "<tr><th scope=row>{}", text(method));
        for cell in cells {
            let _ = match cell.0.as_slice() {
                [mean, low, high] => write!(out, "<td>{mean} <span class=note>[{low}, {high}]</span>"),
                [mean] => write!(out, "<td>{mean}"),
                _ => write!(out, "<td>–"),
            };
        }
    }
    out.push_str("</tbody></table></div>\n");
}

/// Text as HTML, in and out of attributes.
pub fn text(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for letter in plain.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::table::{Row, Table};
    use super::*;
    use crate::eval::bootstrap::Interval;

    fn run() -> Run {
        let row = |method: &str, metric: &str, mean| {
            Row::new(method, "id_1", metric, Interval { mean, low: mean - 0.5, high: mean + 0.25, n: 9 })
        };
        let table = Table {
            rows: vec![row("a, \"b\"", "gold", 0.125), row("50%_<c>", "gold", -1.0), row("50%_<c>", "coverage_who", 0.5)],
            ..Table::default()
        };
        Run { id: "r".into(), evaluations: vec![Evaluation { node: "report".into(), table, ..Evaluation::default() }], ..Run::default() }
    }

    #[test]
    fn commas_and_quotes_stay_in_their_field() {
        let csv = csv(&run());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "evaluation,method,test_set,metric,mean,low,high,n");
        assert_eq!(lines[1], "report,\"a, \"\"b\"\"\",id_1,gold,0.125,-0.375,0.375,9");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn latex_has_no_letter_that_it_would_take_for_its_own() {
        let latex = latex(&run());
        assert!(
            latex.contains("    50\\%\\_\\textless{}c\\textgreater{} & $-1.000$ {\\scriptsize [$-1.500$, $-0.750$]} \\\\\n"),
            "{latex}"
        );
        assert!(latex.contains("\\caption{gold (report): exact score"), "{latex}");
        assert_eq!((latex.matches("\\begin{table}").count(), latex.matches("\\end{tabular}").count()), (2, 2));
    }

    #[test]
    fn names_are_text_in_html() {
        let html = html(&run().evaluations[0]);
        assert!(html.contains("<th scope=row>50%_&lt;c&gt;<td>-1.000 ") && html.contains("a, &quot;b&quot;"), "{html}");
    }

    #[test]
    fn json_has_the_figures() {
        let value: serde_json::Value = serde_json::from_str(&json(&run())).unwrap();
        assert_eq!(value["evaluations"][0]["table"]["rows"][0]["mean"], 0.125);
        assert!(markdown(&run()).starts_with("# Run r\n\n## report\n\n### gold\n"));
    }
}
