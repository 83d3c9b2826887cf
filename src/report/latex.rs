//! The tables of a run for LaTeX. Knows only what [`super::layout`] lays out.
//!
//! 1. The text is for `\input` in the body of a document. It needs no package: rules are lines
//!    unless `booktabs` is loaded.
//! 2. Every table is a float with a caption and a label. After every [`FLOATS`] of them the page is
//!    cleared, so that LaTeX never holds more floats than it can.
//! 3. A table is no wider than [`WIDTH`]: columns that do not fit go below, in the same float.
//!    Widths of text are estimated from above. A table that is higher than a page ([`ROOM`]) goes
//!    on in the next float.

use std::fmt::Write;

use super::layout::{Block, Cell, Listing};
use super::run::Run;
use super::{formats, judges, significance, table};

/// Points of a line that tables fill: `article` at 10 pt on A4 and on letter paper has 345.
const WIDTH: f64 = 335.0;
/// Points between two columns: twice `\tabcolsep`.
const GAP: f64 = 8.0;
/// Points of a letter of `\footnotesize`, from above, the widest capitals apart.
const LETTER: f64 = 4.7;
/// Points of a digit of `\footnotesize`.
const DIGIT: f64 = 4.3;
/// Points of a digit of `\scriptsize`.
const SMALL_DIGIT: f64 = 4.0;
/// Points that a column of text takes at most: more is broken into lines.
const BROAD: f64 = 130.0;
/// Floats between two cleared pages: LaTeX holds 18 without packages.
const FLOATS: usize = 8;
/// Lines of a page that a float's parts take at most: a page of `article` has 55 of this size.
const ROOM: f64 = 48.0;
/// Lines of a page that a part's heading and rules take.
const HEAD: f64 = 3.0;

/// All tables of a run.
pub fn latex(run: &Run) -> String {
    let mut document =
        Document { out: head(run), floats: 0, labels: Vec::new(), artefact: String::new() };
    for evaluation in &run.evaluations {
        document.artefact = artefact(run, &evaluation.node);
        let (node, found) = (evaluation.node.as_str(), &evaluation.table);
        let compared = significance::table(evaluation);
        for block in
            table::results(found).iter().chain(&table::spreads(found)).chain(&table::parts(found))
        {
            document.block(node, block);
        }
        formats::listings(evaluation).iter().for_each(|listing| document.listing(node, listing));
        table::results(&compared).iter().for_each(|block| document.block(node, block));
        for note in evaluation.notes() {
            let note = words(&note).replace("\\_", BREAK);
            let _ = writeln!(document.out, "{{\\footnotesize\\sloppy\\noindent {note}\\par}}\n");
        }
    }
    document.artefact.clear();
    judges::listing(run).iter().for_each(|listing| document.listing("judges", listing));
    document.out
}

/// What the text is and how it is used, as comments; and rules where `booktabs` is not loaded.
fn head(run: &Run) -> String {
    let id: String = run.id.chars().filter(|letter| !letter.is_control()).collect();
    format!(
        "% Tables of the run {id}, by posttrain. In the body of a document: \\input{{tables}}, \
         e.g.\n%   \\documentclass{{article}}\n%   \\usepackage{{booktabs}} % not needed; better \
         rules\n%   \\begin{{document}}\n%   \\input{{tables}}\n%   \\end{{document}}\n% Fewer \
         tables: posttrain report --format latex --metrics gold --methods sft,ppo --test-sets \
         id\n\\providecommand{{\\toprule}}{{\\hline}}\n\\providecommand{{\\midrule}}{{\\hline}}\n\\providecommand{{\\bottomrule}}{{\\hline}}\n\n"
    )
}

/// What is written so far.
struct Document {
    out: String,
    floats: usize,
    labels: Vec<String>,
    /// A comment that says which artefact the numbers are from.
    artefact: String,
}

/// The comment of the tables of an evaluation; empty where its artefact is not known.
fn artefact(run: &Run, node: &str) -> String {
    let object = run.nodes.iter().find(|own| own.name == node).and_then(|own| own.object.as_ref());
    let name: String = node.chars().filter(|letter| !letter.is_control()).collect();
    object.map_or_else(String::new, |object| format!("  % numbers of {name}: object {object}\n"))
}

/// A column: its heading, its width in points, and whether its text is broken into lines.
struct Column {
    head: String,
    width: f64,
    text: bool,
    /// Lines of a page that a line of the column takes.
    lines: f64,
}

impl Column {
    /// As wide as its heading and its cells, up to [`BROAD`] where it is text.
    fn of(head: &str, cells: impl Iterator<Item = f64>, text: bool) -> Self {
        let widest = cells.fold(width_of(head), f64::max);
        let width = if text { widest.min(BROAD) } else { widest };
        let broken = text && widest > BROAD;
        // Lines that are broken at words are not full.
        let lines = if broken { (widest / (0.75 * BROAD)).ceil() } else { 1.0 };
        Column { head: plain(head), width, text: broken, lines }
    }

    /// A text of the column; one that may be broken is, behind its underscores too.
    fn cell(&self, text: &str) -> String {
        if self.text { breakable(text) } else { plain(text) }
    }

    /// How `tabular` has it.
    fn format(&self, aligned: char) -> String {
        match self.text {
            true => format!("p{{{:.0}pt}}", self.width),
            false => aligned.to_string(),
        }
    }
}

/// Lines that belong together under a heading, each a name and its cells.
type Group = (Option<String>, Vec<Vec<String>>);

impl Document {
    fn block(&mut self, node: &str, block: &Block<'_>) {
        let name = Column::of("", block.lines.iter().map(|(method, _)| width_of(method)), true);
        let column = |(at, head): (usize, &&str)| {
            Column::of(head, block.lines.iter().map(|(_, cells)| cell_width(&cells[at])), false)
        };
        let columns: Vec<Column> = block.columns.iter().enumerate().map(column).collect();
        let line = |(method, cells): &(&str, Vec<Cell>)| {
            [vec![name.cell(method)], cells.iter().map(cell).collect()].concat()
        };
        let groups = [(None, block.lines.iter().map(line).collect())];
        self.table(
            &caption(node, &block.title, &block.meaning),
            &[node, &block.title],
            name,
            &columns,
            &groups,
        );
    }

    /// Test sets are headings; lines with a verdict end in it.
    fn listing(&mut self, node: &str, listing: &Listing) {
        let lines = &listing.lines;
        let name =
            Column::of(listing.columns[0], lines.iter().map(|line| width_of(&line.name)), true);
        let column = |(at, head): (usize, &&'static str)| {
            let cells = lines.iter().filter_map(|line| line.cells.get(at));
            let is_list = cells.clone().any(|cell| cell.0.len() == 1 && cell.0[0].contains(", "));
            Column::of(head, cells.map(cell_width), is_list)
        };
        let mut columns: Vec<Column> =
            listing.columns[1..].iter().enumerate().map(column).collect();
        if listing.judged() {
            columns.push(Column {
                head: String::new(),
                width: width_of("unclear"),
                text: false,
                lines: 1.0,
            });
        }
        let group = |(test_set, lines): (&str, Vec<&super::layout::Line>)| -> Group {
            let line = |line: &&super::layout::Line| {
                let mut cells = vec![name.cell(&line.name)];
                cells.extend(line.cells.iter().map(cell));
                cells.extend(line.verdict.map(|verdict| verdict.word().to_owned()));
                cells
            };
            (Some(plain(test_set)), lines.iter().map(line).collect())
        };
        let groups: Vec<Group> = listing.groups().into_iter().map(group).collect();
        let caption = caption(node, &listing.title, &listing.meaning);
        self.table(&caption, &[node, &listing.title], name, &columns, &groups);
    }

    /// A float, or several where there are more lines than one has.
    fn table(
        &mut self,
        caption: &str,
        label: &[&str],
        name: Column,
        columns: &[Column],
        groups: &[Group],
    ) {
        let parts = parts(name.width, columns);
        let tall = columns.iter().map(|column| column.lines).fold(name.lines, f64::max);
        // As many parts below each other as fit; of long ones two, which go on in the next float.
        let lone = HEAD + height(groups, tall).min(ROOM / 2.0 - HEAD);
        let beside = ((ROOM / lone) as usize).max(1);
        let floats = parts.chunks(beside).flat_map(|parts| {
            let pages = pages(groups, ROOM / parts.len() as f64 - HEAD, tall);
            pages.into_iter().map(move |groups| (parts, groups))
        });
        for (at, (parts, groups)) in floats.enumerate() {
            let (part, suffix) = match at {
                0 => (String::new(), String::new()),
                _ => (" (continued)".into(), format!("-{}", at + 1)),
            };
            let label = self.label(label, &suffix);
            let _ = writeln!(
                self.out,
                "\\begin{{table}}[htbp]\n  \\centering\\footnotesize\\emergencystretch=3em"
            );
            let _ = writeln!(self.out, "  \\setlength{{\\tabcolsep}}{{{:.0}pt}}", GAP / 2.0);
            let artefact = &self.artefact;
            let _ = writeln!(
                self.out,
                "{artefact}  \\caption{{{caption}{part}}}\n  \\label{{{label}}}"
            );
            for range in parts {
                self.tabular(&name, &columns[range.clone()], range.start, &groups);
            }
            self.out.push_str("\\end{table}\n\n");
            self.floats += 1;
            if self.floats.is_multiple_of(FLOATS) {
                self.out.push_str("\\clearpage\n\n");
            }
        }
    }

    fn tabular(&mut self, name: &Column, columns: &[Column], from: usize, groups: &[Group]) {
        let formats: String = columns.iter().map(|column| column.format('r')).collect();
        let _ = writeln!(
            self.out,
            "  \\par\\smallskip\n  \\begin{{tabular}}{{{}{formats}}}",
            name.format('l')
        );
        let heads: Vec<&str> = columns.iter().map(|column| column.head.as_str()).collect();
        let _ = writeln!(self.out, "    \\toprule\n    {} & {} \\\\", name.head, heads.join(" & "));
        for (heading, lines) in groups {
            out_heading(&mut self.out, heading.as_deref(), columns.len() + 1);
            for line in lines {
                let cells = line.iter().skip(1 + from).take(columns.len());
                let cells: Vec<&str> = cells.map(String::as_str).collect();
                let _ = writeln!(self.out, "    {} & {} \\\\", line[0], cells.join(" & "));
            }
        }
        self.out.push_str("    \\bottomrule\n  \\end{tabular}\n");
    }

    /// A label that no other table has, of letters, digits and hyphens.
    fn label(&mut self, of: &[&str], suffix: &str) -> String {
        let plain = |name: &&str| -> String {
            let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
            let all: String = name.chars().map(letter).collect();
            all.split('-').filter(|part| !part.is_empty()).collect::<Vec<&str>>().join("-")
        };
        let first =
            format!("tab:{}{suffix}", of.iter().map(plain).collect::<Vec<String>>().join(":"));
        let mut label = first.clone();
        for again in 2.. {
            if !self.labels.contains(&label) {
                break;
            }
            label = format!("{first}-again-{again}");
        }
        self.labels.push(label.clone());
        label
    }
}

fn out_heading(out: &mut String, heading: Option<&str>, columns: usize) {
    out.push_str("    \\midrule\n");
    if let Some(heading) = heading {
        let _ = writeln!(out, "    \\multicolumn{{{columns}}}{{l}}{{\\textit{{{heading}}}}} \\\\");
    }
}

/// Which columns are beside each other, so that none is wider than a line.
fn parts(name: f64, columns: &[Column]) -> Vec<std::ops::Range<usize>> {
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    let mut used = f64::INFINITY;
    for (at, column) in columns.iter().enumerate() {
        let width = column.width + GAP;
        match parts.last_mut() {
            Some(part) if used + width <= WIDTH => part.end = at + 1,
            _ => {
                parts.push(at..at + 1);
                used = name + GAP;
            }
        }
        used += width;
    }
    parts
}

/// Lines of a page that groups take, of lines that are so `tall`: their headings and rules too.
fn height(groups: &[Group], tall: f64) -> f64 {
    groups.iter().map(|(heading, lines)| above(heading) + lines.len() as f64 * tall).sum()
}

/// Lines of a page that a rule takes, and a heading where there is one.
fn above(heading: &Option<String>) -> f64 {
    if heading.is_some() { 1.5 } else { 0.5 }
}

/// The lines of groups, each so `tall`, page by page of so much room; a group that goes on has its
/// heading again.
fn pages(groups: &[Group], room: f64, tall: f64) -> Vec<Vec<Group>> {
    let mut pages: Vec<Vec<Group>> = vec![Vec::new()];
    let mut used = 0.0;
    for (heading, lines) in groups {
        let mut left = lines.as_slice();
        while !left.is_empty() {
            let fits = ((room - used - above(heading)) / tall).floor();
            let page = pages.last_mut().expect("there is a page");
            // A page has a line at least.
            let fits = if page.is_empty() { fits.max(1.0) } else { fits.max(0.0) };
            let (now, later) = left.split_at(left.len().min(fits as usize));
            if !now.is_empty() {
                page.push((heading.clone(), now.to_vec()));
                used += above(heading) + now.len() as f64 * tall;
            }
            if !later.is_empty() {
                pages.push(Vec::new());
                used = 0.0;
            }
            left = later;
        }
    }
    pages
}

fn caption(node: &str, title: &str, meaning: &str) -> String {
    let gap = if meaning.is_empty() { "" } else { ": " };
    words(&format!("{title} ({node}){gap}{meaning}")).replace("\\_", BREAK)
}

/// An underscore at which a line may be broken: names have no blank.
const BREAK: &str = "\\_\\allowbreak{}";

/// Text that may be broken behind its underscores.
fn breakable(text: &str) -> String {
    plain(text).replace("\\_", BREAK)
}

/// A mean with its interval below it in size; of a list, each number.
fn cell(cell: &Cell) -> String {
    match cell.0.as_slice() {
        [mean, low, high] => format!("${mean}$ {{\\scriptsize [${low}$, ${high}$]}}"),
        [one] => {
            one.split(", ").map(|number| format!("${number}$")).collect::<Vec<String>>().join(", ")
        }
        _ => "--".into(),
    }
}

/// Points of a cell, from above.
fn cell_width(cell: &Cell) -> f64 {
    let of = |text: &String, digit: f64| text.chars().count() as f64 * digit;
    match cell.0.as_slice() {
        [mean, low, high] => {
            of(mean, DIGIT) + of(low, SMALL_DIGIT) + of(high, SMALL_DIGIT) + 5.0 * SMALL_DIGIT
        }
        [one] => of(one, DIGIT),
        _ => DIGIT,
    }
}

/// Points of a text of `\footnotesize`, from above.
fn width_of(text: &str) -> f64 {
    let letter = |letter: char| match letter {
        'm' | 'w' | 'A'..='Z' => 1.6 * LETTER,
        letter if letter.is_ascii() => LETTER,
        _ => 7.0 * LETTER,
    };
    text.chars().map(letter).sum()
}

/// Our own words, in which names are between backquotes.
fn words(text: &str) -> String {
    let part = |(at, part): (usize, &str)| match at % 2 {
        0 => plain(part),
        _ => format!("\\texttt{{{}}}", plain(part)),
    };
    text.split('`').enumerate().map(part).collect()
}

/// Text without a letter that LaTeX takes for its own. What its default encoding cannot show is
/// shown by its number.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '|' => out.push_str("\\textbar{}"),
            '"' => out.push_str("\\textquotedblright{}"),
            '_' | '%' | '&' | '#' | '$' | '{' | '}' => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            'À'..='ÿ' if !"ÐðÞþ×÷".contains(letter) => out.push(letter),
            _ => {
                let _ = write!(out, "U+{:04X}", u32::from(letter));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::run::Evaluation;
    use super::*;
    use crate::artefacts::table::{Row, Table};
    use crate::eval::interval::{Interval, Kind};

    fn run(methods: &[&str], test_sets: &[&str], metrics: &[&str]) -> Run {
        let mut table = Table::default();
        for (metric, method) in
            metrics.iter().flat_map(|metric| methods.iter().map(move |method| (metric, method)))
        {
            for test_set in test_sets {
                let interval =
                    Interval { mean: -1.0, low: -1.5, high: -0.75, n: 9, kind: Kind::Unsaid };
                table.rows.push(Row::new(method, test_set, metric, interval));
            }
        }
        let evaluation = Evaluation { node: "report".into(), table, ..Evaluation::default() };
        Run { id: "r".into(), evaluations: vec![evaluation], ..Run::default() }
    }

    #[test]
    fn latex_has_no_letter_that_it_would_take_for_its_own() {
        let text = latex(&run(&["50%_<c>"], &["id_1"], &["gold"]));
        let line = "    50\\%\\_\\textless{}c\\textgreater{} & $-1.000$ \
            {\\scriptsize [$-1.500$, $-0.750$]} \\\\\n";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("\\caption{gold (report): exact score")
                && text.contains("\\label{tab:report:gold}"),
            "{text}"
        );
        assert_eq!(
            plain("a|b \"é\" 中\n"),
            "a\\textbar{}b \\textquotedblright{}é\\textquotedblright{} U+4E2DU+000A"
        );
        assert_eq!(words("by `a_b`"), "by \\texttt{a\\_b}");
    }

    #[test]
    fn what_does_not_fit_a_line_goes_below_and_what_does_not_fit_a_page_goes_on() {
        let sets = ["id", "ood_forum", "ood_length", "ood_register"];
        let text = latex(&run(&["sft", "ppo"], &sets, &["gold"]));
        assert_eq!(
            (text.matches("\\begin{table}").count(), text.matches("\\begin{tabular}").count()),
            (1, 2)
        );
        let methods: Vec<String> = (0..100).map(|at| format!("method{at}")).collect();
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        let text = latex(&run(&methods, &["id"], &["gold"]));
        assert_eq!(
            (text.matches("\\begin{table}").count(), text.matches(" (continued)}").count()),
            (3, 2)
        );
        assert!(methods.iter().all(|method| text.contains(&format!("    {method} & "))));
        assert!(text.contains("\\label{tab:report:gold-3}"));
    }

    #[test]
    fn labels_are_unique_and_pages_are_cleared_before_latex_holds_too_many_floats() {
        let metrics: Vec<String> =
            (0..40).map(|at| format!("m{at}_x")).chain(["m0-x".into()]).collect();
        let text = latex(&run(
            &["sft"],
            &["id"],
            &metrics.iter().map(String::as_str).collect::<Vec<&str>>(),
        ));
        assert_eq!(
            (text.matches("\\clearpage").count(), text.matches("\\label{").count()),
            (5, 41)
        );
        assert!(
            text.contains("\\label{tab:report:m0-x}")
                && text.contains("\\label{tab:report:m0-x-again-2}")
        );
    }
}
