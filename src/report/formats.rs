//! The tables of a run in other languages: Markdown, JSON, and HTML for the page; LaTeX is
//! [`super::latex`], CSV [`super::csv`]. Knows only what [`super::layout`] lays out.
//!
//! Every format except JSON has, of each evaluation: its table; differences and gaps
//! ([`super::significance`]); figures over seeds of training ([`super::seeds`]). JSON has all
//! figures as they are, the others those of the usual metrics to a few decimals.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

pub use super::csv::csv;

use super::layout::{Block, Cell, Listing, distinct};
use super::metrics::{DIFFERENCE, Definition, define_in, define_step};
use super::run::{Evaluation, Run};
use super::sweeps::{Sweep, sweeps};
use super::{attribution, judges, optimum, people, seeds, significance, summary, table};

/// All tables, under a heading for each evaluation.
pub fn markdown(run: &Run) -> String {
    let one = |evaluation: &Evaluation| {
        let mut out = format!("## {}\n\n{}", evaluation.node, table::markdown(&evaluation.table));
        for note in evaluation.notes() {
            let _ = write!(out, "\n{note}\n");
        }
        for listing in listings(evaluation) {
            out.push('\n');
            listing.write_markdown(&mut out);
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        let compared = significance::table(evaluation);
        if !compared.rows.is_empty() {
            let _ = write!(out, "\n{}", table::markdown(&compared));
        }
        out
    };
    let findings = summary::all(&run.evaluations);
    let findings = match findings.is_empty() {
        true => String::new(),
        false => {
            let items: String = findings.iter().map(|finding| format!("- {finding}\n")).collect();
            format!("## Findings\n\n{}.\n\n{items}\n", summary::legend(&run.evaluations))
        }
    };
    let mut out = format!(
        "# Run {}\n\n{findings}{}",
        run.id,
        markdown_sweeps(run) + &run.evaluations.iter().map(one).collect::<Vec<String>>().join("\n")
    );
    if let Some(listing) = judges::listing(run) {
        out.push_str("\n## Judges\n\n");
        run.judgings.iter().for_each(|judging| {
            let _ = writeln!(out, "- {}", judging.who);
        });
        out.push('\n');
        listing.write_markdown(&mut out);
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    let definitions = definitions(run);
    if !definitions.is_empty() {
        out.push_str(
            "\n## Definitions\n\n| figure | what it is | unit | section |\n|---|---|---|---|\n",
        );
        for (metric, definition) in &definitions {
            let [sentence, unit] =
                [&definition.sentence(), &definition.unit].map(|text| text.replace('|', "\\|"));
            let _ = writeln!(out, "| `{metric}` | {sentence} | {unit} | {} |", definition.link());
        }
    }
    out
}

/// What differs along the axes of sweeps, under a heading for each axis.
fn markdown_sweeps(run: &Run) -> String {
    let (sweeps, mut out, mut last) = (sweeps(run), String::new(), String::new());
    for sweep in &sweeps {
        let title = sweep.title();
        if title != last {
            let _ = write!(out, "## {title}\n\n");
            last = title;
        }
        sweep.blocks().iter().for_each(|block| block.write_markdown(&mut out));
        if let Some(listing) = sweep.listing() {
            listing.write_markdown(&mut out);
        }
    }
    out
}

/// All that is laid out as listings, in the order of the page.
pub(super) fn listings(evaluation: &Evaluation) -> Vec<Listing> {
    let of_seeds = seeds::figures(evaluation).into_iter().chain(seeds::differences(evaluation));
    of_seeds
        .chain(significance::differences(evaluation))
        .chain(significance::at_equal_kl(evaluation))
        .chain(significance::gain_gaps(evaluation))
        .chain(attribution::listings(evaluation))
        .chain(significance::at_equal_quality(evaluation))
        .chain(optimum::listing(evaluation))
        .chain(optimum::fits(evaluation))
        .chain(people::listings(evaluation))
        .collect()
}

/// What the figures of a run are, each metric once: those of evaluations, and then those of
/// training.
pub(super) fn definitions(run: &Run) -> Vec<(&str, Definition)> {
    let of_tables = run
        .evaluations
        .iter()
        .flat_map(|evaluation| &evaluation.table.rows)
        .map(|row| row.metric.as_str());
    let of_seeds = run
        .evaluations
        .iter()
        .flat_map(|evaluation| &evaluation.seeds)
        .map(|figure| figure.metric.as_str());
    let compared =
        run.evaluations.iter().flat_map(|evaluation| &evaluation.comparisons.differences);
    let of_optima = run.evaluations.iter().flat_map(optimum::figures).map(|of| of.metric);
    let compared = compared.map(|difference| difference.metric.as_str());
    let all = distinct(of_tables.chain(of_seeds).chain(compared).chain(of_optima));
    let steps =
        distinct(run.nodes.iter().flat_map(|node| &node.curves).map(|curve| curve.metric.as_str()));
    let tables = || run.evaluations.iter().map(|evaluation| &evaluation.table);
    let defined = |metric: &str| tables().find_map(|table| define_in(table, metric));
    let defined = all.into_iter().filter_map(|metric| Some((metric, defined(metric)?)));
    defined
        .chain(steps.into_iter().filter_map(|metric| Some((metric, define_step(metric)?))))
        .collect()
}

/// A run with what its figures are.
#[derive(Serialize)]
struct Defined<'a> {
    #[serde(flatten)]
    run: &'a Run,
    definitions: BTreeMap<&'a str, Definition>,
}

/// All that is known of the run, samples apart; and what its figures are.
pub fn json(run: &Run) -> String {
    let defined = Defined { run, definitions: definitions(run).into_iter().collect() };
    format!("{}\n", serde_json::to_string_pretty(&defined).expect("a run is plain data"))
}

/// For a page: a heading and a table a block, each in a box that scrolls by itself.
pub fn html(evaluation: &Evaluation) -> String {
    let mut out = String::new();
    let (mut results, spreads, parts) = (
        table::results(&evaluation.table),
        table::spreads(&evaluation.table),
        table::parts(&evaluation.table),
    );
    // Differences over seeds are listed with their p values.
    results.retain(|block| evaluation.seeds.is_empty() || !block.title.ends_with(DIFFERENCE));
    write_blocks(&mut out, &results);
    let _ = writeln!(
        out,
        "<p class=note>{}; {}.</p>",
        text(&table::footnote(&evaluation.table)),
        text(&table::counts(&evaluation.table))
    );
    for note in evaluation.notes() {
        let _ = writeln!(out, "<p class=note>{}</p>", text(&note));
    }
    let of_optimum: Vec<Listing> =
        optimum::listing(evaluation).into_iter().chain(optimum::fits(evaluation)).collect();
    if !of_optimum.is_empty() {
        let _ = writeln!(
            out,
            "<details><summary>Optimum of the KL-regularised objective</summary>{}</details>",
            html_listings(&of_optimum)
        );
    }
    for (summary, blocks) in
        [("More measures of diversity", spreads), ("What the gold score is made of", parts)]
    {
        if !blocks.is_empty() {
            let _ = writeln!(out, "<details><summary>{summary}</summary>");
            write_blocks(&mut out, &blocks);
            out.push_str("</details>\n");
        }
    }
    out
}

/// The comparisons of an evaluation, for a page: listings and blocks, each with what the
/// page's filters ask of it.
pub fn html_significance(evaluation: &Evaluation) -> String {
    let mut out = String::from("<div class=tables>\n");
    out.push_str(&html_listings(&significance::differences(evaluation)));
    out.push_str(&html_listings(&significance::at_equal_kl(evaluation)));
    out.push_str(&html_listings(&significance::gain_gaps(evaluation)));
    out.push_str(&html_listings(&attribution::listings(evaluation)));
    out.push_str(&html_listings(&significance::at_equal_quality(evaluation)));
    for block in table::results(&significance::table(evaluation)) {
        let metric = ["_gap", "_head_to_head", "_between", "_between_high", "_apart"]
            .iter()
            .find_map(|ending| block.title.strip_suffix(ending))
            .unwrap_or(&block.title);
        let _ = write!(out, "<div data-metric=\"{}\">", text(metric));
        write_block(&mut out, &block);
        out.push_str("</div>\n");
    }
    out + "</div>\n"
}

/// A metric along an axis, for a page: a block a test set, and differences of neighbouring values.
pub(super) fn html_sweep(sweep: &Sweep) -> String {
    let mut out = String::new();
    write_blocks(&mut out, &sweep.blocks());
    out + &html_listings(&Vec::from_iter(sweep.listing()))
}

/// Figures and differences over seeds of training, for a page.
pub fn html_seeds(evaluation: &Evaluation) -> String {
    html_listings(&seeds::figures(evaluation)) + &html_listings(&seeds::differences(evaluation))
}

/// How often the measures of an evaluation pick what people picked, for a page.
pub fn html_people(evaluation: &Evaluation) -> String {
    html_listings(&people::listings(evaluation))
}

/// What judges found, and who they are, for a page; nothing where there is none.
pub fn html_judges(run: &Run) -> Option<String> {
    let listing = judges::listing(run)?;
    let who: String =
        run.judgings.iter().map(|judging| format!("<li>{}\n", text(&judging.who))).collect();
    Some(format!("<ul class=note>\n{who}</ul>\n{}", html_listings(&[listing])))
}

/// A table a listing, a body a test set. Significant differences are bold and marked in words.
fn html_listings(listings: &[Listing]) -> String {
    let mut out = String::new();
    for listing in listings {
        let (heading, metric) = (text(&listing.title), text(&listing.metric));
        let _ = write!(
            out,
            "<div class=scroll tabindex=0 role=region aria-label=\"{heading}\" \
             data-metric=\"{metric}\"><table class=\"listing{}\">",
            if listing.judged() { " judged" } else { "" }
        );
        let _ = write!(
            out,
            "<caption><b>{heading}</b> <span class=note>{}</span></caption><thead><tr>",
            text(&listing.meaning)
        );
        listing.columns.iter().for_each(|name| {
            let _ = write!(out, "<th scope=col>{}", text(name));
        });
        out.push_str(if listing.judged() {
            "<th scope=col>verdict</thead>\n"
        } else {
            "</thead>\n"
        });
        for (test_set, lines) in listing.groups() {
            let (name, columns) =
                (text(test_set), listing.columns.len() + usize::from(listing.judged()));
            let _ = writeln!(
                out,
                "<tbody data-test-set=\"{name}\"><tr class=group><th colspan={columns} \
                 scope=rowgroup>{name}"
            );
            for line in lines {
                let word = line.verdict.map(|verdict| verdict.word());
                let _ = write!(
                    out,
                    "<tr{}><th scope=row>{}",
                    word.map_or(String::new(), |word| format!(" class={word}")),
                    text(&line.name)
                );
                line.cells.iter().for_each(|cell| html_cell(&mut out, cell));
                let _ =
                    writeln!(out, "{}", word.map_or(String::new(), |word| format!("<td>{word}")));
            }
            out.push_str("</tbody>\n");
        }
        out.push_str("</table></div>\n");
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
    let _ = write!(
        out,
        "<div class=scroll tabindex=0 role=region aria-label=\"{heading}\"><table \
         class=block><caption><b>{heading}</b>"
    );
    let _ = write!(
        out,
        " <span class=note>{}</span></caption><thead><tr><th scope=col>method",
        text(&block.meaning)
    );
    block.columns.iter().for_each(|name| {
        let _ = write!(out, "<th scope=col>{}", text(name));
    });
    out.push_str("</thead><tbody>");
    for (method, cells) in &block.lines {
        let _ = write!(out, "<tr><th scope=row>{}", text(method));
        cells.iter().for_each(|cell| html_cell(out, cell));
    }
    out.push_str("</tbody></table></div>\n");
}

fn html_cell(out: &mut String, cell: &Cell) {
    let _ = match cell.0.as_slice() {
        [mean, low, high] => write!(out, "<td>{mean} <span class=note>[{low}, {high}]</span>"),
        [mean] => write!(out, "<td>{mean}"),
        _ => write!(out, "<td>–"),
    };
}

/// What the figures of a run are, for a page; nothing where there is none.
pub fn html_definitions(run: &Run) -> Option<String> {
    let definitions = definitions(run);
    let line = |(metric, definition): &(&str, Definition)| {
        let (metric, sentence) = (text(metric), text(&definition.sentence()));
        format!(
            "<tr><th scope=row>{metric}<td>{sentence}<td>{}<td>{}\n",
            text(&definition.unit),
            definition.link()
        )
    };
    (!definitions.is_empty()).then(|| {
        let lines: String = definitions.iter().map(line).collect();
        format!(
            "<div class=scroll tabindex=0 role=region aria-label=Definitions><table \
             class=definitions><thead><tr><th scope=col>figure<th scope=col>what it is<th \
             scope=col>unit<th scope=col>section</thead><tbody>{lines}</tbody></table></div>\n"
        )
    })
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
    use super::*;
    use crate::artefacts::table::{Row, Table};
    use crate::eval::interval::{Interval, Kind};

    fn run() -> Run {
        let row = |method: &str, metric: &str, mean| {
            Row::new(
                method,
                "id_1",
                metric,
                Interval { mean, low: mean - 0.5, high: mean + 0.25, n: 9, kind: Kind::Unsaid },
            )
        };
        let table = Table {
            rows: vec![
                row("a, \"b\"", "gold", 0.125),
                row("50%_<c>", "gold", -1.0),
                row("50%_<c>", "coverage_who", 0.5),
            ],
            ..Table::default()
        };
        Run {
            id: "r".into(),
            evaluations: vec![Evaluation { node: "report".into(), table, ..Evaluation::default() }],
            ..Run::default()
        }
    }

    #[test]
    fn names_are_text_in_html() {
        let html = html(&run().evaluations[0]);
        assert!(
            html.contains("<th scope=row>50%_&lt;c&gt;<td>-1.000 ")
                && html.contains("a, &quot;b&quot;"),
            "{html}"
        );
    }

    #[test]
    fn json_has_the_figures() {
        let value: serde_json::Value = serde_json::from_str(&json(&run())).unwrap();
        assert_eq!(value["evaluations"][0]["table"]["rows"][0]["mean"], 0.125);
        assert!(markdown(&run()).starts_with("# Run r\n\n## report\n\n### gold\n"));
    }
}
