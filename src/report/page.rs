//! The page of a run: one HTML file with all it needs, plotly.js included. Does not know where it
//! will be.
//!
//! 1. Nothing is fetched, and nothing can be: the page's own policy allows no source but the
//!    scripts that bear its nonce. So nothing that a model has written can run, even if it were
//!    taken for HTML; and it is not: the page puts samples in as text.
//! 2. plotly.js, what is drawn and what is browsed are in the page as base64 of zlib's format,
//!    which the browser unpacks: a page is a third as long, and no text can end its element.
//! 3. Tables are HTML and there without scripts, but long ones, which are packed too.
//! 4. Of a family of many evaluations the page has its summaries and one evaluation in full.

use std::fmt::Write;

use serde_json::{Value, json};

use super::charts::{self, Chart};
use super::formats::{self, text};
use super::graph;
use super::layout::distinct;
use super::metrics::is_part;
use super::packed::{Packs, compressed, packed, rounded};
use super::run::{Evaluation, Node, Run};
pub use super::samples::SAMPLES;
use super::samples::{browser, default_samples, embedded};
use super::sentinels;
use super::shown::{not_shown, of, of_seeds, shown, single};
use super::summary;
use super::sweeps::{Sweep, sweeps};
use super::training;

/// plotly.js, compressed by the build script.
const PLOTLY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plotly.js.zz"));
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Findings that are shown before the rest is unfolded.
const FINDINGS: usize = 10;

/// The whole page, with at most `samples` inputs of each test set; by default at most [`SAMPLES`],
/// and fewer where evaluations have many methods.
pub fn page(run: &Run, samples: Option<usize>) -> String {
    let samples = samples.unwrap_or_else(|| default_samples(run));
    let (mut drawn, mut packs) = (Vec::new(), Packs::default());
    let mut body = String::new();
    let sweeps = sweeps(run);
    body.push_str(&head(run, !sweeps.is_empty()));
    body.push_str("<main>\n");
    body.push_str(&findings(run));
    body.push_str(&accepted(run));
    body.push_str(&along_axes(&sweeps, (&mut drawn, &mut packs)));
    body.push_str(&over_seeds(run, (&mut drawn, &mut packs)));
    for (at, evaluation) in shown(run).enumerate() {
        let (name, heading) =
            (text(&evaluation.node), format!("<h2>Results{}</h2>", of(run, &evaluation.node)));
        let results = packs.place(formats::html(evaluation))
            + &figures(&mut drawn, charts::charts(evaluation));
        let id = if at == 0 { " id=results" } else { "" };
        let _ = writeln!(
            body,
            "<section{id} aria-label=\"Results of {name}\">{}</section>",
            folded(run, at, &heading, &results)
        );
    }
    body.push_str(&not_shown(run));
    body.push_str(&significance(run, &mut packs));
    body.push_str(
        &formats::html_judges(run)
            .map_or_else(String::new, |judges| section("judges", "Judges", &judges)),
    );
    body.push_str(&beside_people(run));
    body.push_str(&section("samples", "Samples", &browser(run, samples)));
    if let Some(fired) = sentinels::html(run) {
        body.push_str(&section("sentinels", "Sentinels", &fired));
    }
    body.push_str(&curves(run, &mut drawn));
    let graph = figures(&mut drawn, graph::charts(run));
    body.push_str(&section("graph", "Graph", &graph));
    body.push_str(
        &formats::html_definitions(run)
            .map_or_else(String::new, |all| section("definitions", "What the figures are", &all)),
    );
    body.push_str(&section("reproduce", "How to do it again", &reproduce(run)));
    body.push_str(&section("nodes", "Configs, versions, hashes", &packs.place(nodes(run))));
    body.push_str("</main>\n");
    let charts: Vec<Value> = drawn
        .iter()
        .map(|chart| {
            let data: Vec<Value> = chart.data.iter().map(rounded).collect();
            json!({"id": chart.id, "data": data, "layout": chart.layout})
        })
        .collect();
    let samples: Vec<Value> = shown(run).map(|evaluation| embedded(evaluation, samples)).collect();
    document(
        run,
        &body,
        &[("charts", Value::Array(charts)), ("samples-data", Value::Array(samples))],
        &packs,
    )
}

fn document(run: &Run, body: &str, data: &[(&str, Value)], packs: &Packs) -> String {
    let title = match run.name.is_empty() {
        true => format!("posttrain run {}", text(&run.id)),
        false => format!("{}: run {}", text(&run.name), text(&run.id)),
    };
    let data: String = data
        .iter()
        .map(|(id, value)| packed(id, &compressed(value.to_string().as_bytes())))
        .chain([packs.elements()])
        .collect();
    let noscript = match packs.is_empty() {
        true => "Charts and samples need scripts; the tables do not.",
        false => {
            "Charts, samples and long tables need scripts; <code>posttrain report --format \
             markdown</code> prints the tables."
        }
    };
    let body = format!("<noscript><p>{noscript}</p></noscript>\n{body}");
    let library = packed("library", PLOTLY);
    let nonce = blake3::hash(format!("{title}{body}{data}").as_bytes()).to_hex();
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src \
         'nonce-{nonce}'"
    );
    format!(
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n<meta \
         http-equiv=Content-Security-Policy content=\"{policy}\">\n<meta name=viewport \
         content=\"width=device-width, initial-scale=1\">\n<meta name=color-scheme content=\"light \
         dark\">\n<title>{title}</title>\n<link rel=icon \
         href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}{data}{library}<script \
         type=module nonce={nonce}>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

fn section(id: &str, heading: &str, content: &str) -> String {
    format!(
        "<section id={id} aria-labelledby={id}-heading><h2 \
         id={id}-heading>{heading}</h2>\n{content}</section>\n"
    )
}

/// What was found, the most important first, those after the first [`FINDINGS`] folded; nothing
/// where nothing was compared.
fn findings(run: &Run) -> String {
    let all = summary::all(&run.evaluations);
    if all.is_empty() {
        return String::new();
    }
    let list = |findings: &[String]| {
        let items: String =
            findings.iter().map(|finding| format!("<li>{}\n", text(finding))).collect();
        format!("<ul>\n{items}</ul>\n")
    };
    let (first, rest) = all.split_at(FINDINGS.min(all.len()));
    let rest = match rest.len() {
        0 => String::new(),
        count => {
            format!("<details><summary>{count} more</summary>\n{}</details>\n", list(rest))
        }
    };
    let legend = text(&summary::legend(&run.evaluations));
    section("findings", "Findings", &format!("<p class=note>{legend}</p>\n{}{rest}", list(first)))
}

/// The results that were not made under their keys but accepted by the user.
fn accepted(run: &Run) -> String {
    let items: String =
        run.accepted().map(|(node, why)| format!("<li>{}: {}\n", text(node), text(why))).collect();
    match items.is_empty() {
        true => String::new(),
        false => section("accepted", "Accepted results", &format!("<ul>\n{items}</ul>\n")),
    }
}

/// What differs along the axes of sweeps: small multiples, and tables of the same; nothing where
/// no axis has two values.
fn along_axes(sweeps: &[Sweep], (drawn, packs): (&mut Vec<Chart>, &mut Packs)) -> String {
    let titles: Vec<String> = sweeps.iter().map(Sweep::title).collect();
    let mut content = String::new();
    for title in distinct(titles.iter().map(String::as_str)) {
        let own = || sweeps.iter().zip(&titles).filter(|(_, of)| *of == title).map(|pair| pair.0);
        let _ = writeln!(content, "<h3>{}</h3>", text(title));
        for sweep in own() {
            let panels = figures(drawn, charts::sweeps::panels(sweep));
            content.push_str(&panels.replacen("class=charts", "class=\"charts small\"", 1));
        }
        let tables = packs.place(own().map(formats::html_sweep).collect());
        let _ = writeln!(
            content,
            "<details><summary>Tables, and differences of neighbouring values</summary>{tables}\
             </details>"
        );
    }
    match content.is_empty() {
        true => content,
        false => section("sweeps", "Along the axes of sweeps", &content),
    }
}

/// The results of the evaluation at `at`: of several, those after the first are folded, and all are
/// where there are figures over their seeds.
fn folded(run: &Run, at: usize, heading: &str, results: &str) -> String {
    let open = if at == 0 && of_seeds(run).next().is_none() { " open" } else { "" };
    match single(run).count() {
        0 | 1 => format!("{heading}\n{results}"),
        _ => format!(
            "<details class=evaluation{open}><summary>{heading}</summary>\n{results}</details>\n"
        ),
    }
}

/// Each evaluation over seeds: its tables and charts, and then every seed's value and differences;
/// nothing, if there is none.
fn over_seeds(run: &Run, (drawn, packs): (&mut Vec<Chart>, &mut Packs)) -> String {
    let mut content = String::new();
    for evaluation in of_seeds(run) {
        if of_seeds(run).count() > 1 {
            let _ = writeln!(content, "<h3>{}</h3>", text(&evaluation.node));
        }
        content.push_str(&packs.place(formats::html(evaluation)));
        content.push_str(&figures(drawn, charts::charts(evaluation)));
    }
    if content.is_empty() {
        return content;
    }
    let of_figures = of_seeds(run).flat_map(|evaluation| &evaluation.seeds);
    content.push_str("<h3>Every seed, and significant differences</h3>\n");
    content.push_str(&filter(
        of_seeds(run),
        of_figures.map(|figure| (&figure.metric, &figure.test_set)),
    ));
    for evaluation in of_seeds(run) {
        let _ = writeln!(
            content,
            "<div data-evaluation=\"{}\">{}</div>",
            text(&evaluation.node),
            packs.place(formats::html_seeds(evaluation))
        );
    }
    section("seeds", "Over seeds of training", &content)
}

/// The significant differences of each evaluation; nothing, if no evaluation compares anything.
fn significance(run: &Run, packs: &mut Packs) -> String {
    let compared = shown(run).filter(|evaluation| !evaluation.comparisons.differences.is_empty());
    if compared.clone().next().is_none() {
        return String::new();
    }
    let differences = compared.clone().flat_map(|evaluation| &evaluation.comparisons.differences);
    let mut content = String::from(
        "<p class=note>Bold: significant, Holm-corrected p below 0.05. Intervals and p values \
         are over inputs: they say nothing of another seed of training.</p>\n",
    );
    content.push_str(&filter(
        compared.clone(),
        differences.map(|difference| (&difference.metric, &difference.test_set)),
    ));
    for evaluation in compared.clone() {
        let name = text(&evaluation.node);
        let heading =
            if compared.clone().count() > 1 { format!("<h3>{name}</h3>\n") } else { String::new() };
        let _ = writeln!(
            content,
            "<div data-evaluation=\"{name}\">{heading}{}</div>",
            packs.place(formats::html_significance(evaluation))
        );
    }
    section("significance", "Significance", &content)
}

/// What the listings of a section are filtered by: metrics, with the one of performance chosen, and
/// test sets. Hidden without scripts, which leave nothing out.
fn filter<'a>(
    evaluations: impl Iterator<Item = &'a Evaluation> + Clone,
    keys: impl Iterator<Item = (&'a String, &'a String)> + Clone,
) -> String {
    let performance = evaluations.clone().find_map(Evaluation::performance).unwrap_or_default();
    let options = |names: Vec<&str>, chosen: &str| -> String {
        let option = |name: &str| {
            let (selected, name) = (if name == chosen { " selected" } else { "" }, text(name));
            format!("<option value=\"{name}\"{selected}>{name}</option>")
        };
        names.into_iter().map(option).collect()
    };
    let nodes: Vec<&str> = evaluations.map(|evaluation| evaluation.node.as_str()).collect();
    let evaluation = match nodes.len() {
        0 | 1 => String::new(),
        _ => format!(
            "<label>Evaluation <select name=evaluation>{}</select></label> ",
            options(nodes, "")
        ),
    };
    let metrics = options(
        distinct(keys.clone().map(|key| key.0.as_str()).filter(|metric| !is_part(metric))),
        performance,
    );
    let test_sets = options(distinct(keys.map(|key| key.1.as_str())), "");
    format!(
        "<form class=filter hidden>{evaluation}<label>Metric <select name=metric><option \
         value=\"\">all</option>{metrics}</select></label> <label>Test set <select \
         name=test-set><option value=\"\">all</option>{test_sets}</select></label> <label><input \
         type=checkbox name=told> only significant differences</label></form>\n<p class=filtered \
         role=status></p>\n"
    )
}

/// The curves of training of each stage; nothing where no stage took steps.
fn curves(run: &Run, drawn: &mut Vec<Chart>) -> String {
    let mut content = String::new();
    let mut is_thinned = false;
    for family in training::families(run) {
        let _ = writeln!(content, "<h3>{}</h3>", text(family));
        content.push_str(&figures(drawn, training::charts(run, family)));
        is_thinned |= training::is_thinned(run, family);
    }
    if is_thinned {
        let _ = writeln!(
            content,
            "<p class=note>Charts have about {} points, at least {} a line; the files have every \
             step.</p>",
            training::POINTS,
            training::LEAST_POINTS
        );
    }
    match content.is_empty() {
        true => content,
        false => section("training", "Training", &content),
    }
}

/// Measures beside people, of each evaluation; nothing, where people compared nothing.
fn beside_people(run: &Run) -> String {
    let tables: String = single(run).map(formats::html_people).collect();
    match tables.is_empty() {
        true => String::new(),
        false => section("people", "Measures beside people", &tables),
    }
}

fn head(run: &Run, swept: bool) -> String {
    let count = |ending: &str| run.nodes.iter().filter(|node| node.ending == ending).count();
    let endings =
        ["ran", "cached", "failed", "interrupted", "skipped"].map(|ending| (ending, count(ending)));
    let endings: Vec<String> = endings
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(ending, count)| format!("{count} {ending}"))
        .collect();
    let seconds = run.seconds.map_or("it did not end".into(), |seconds| format!("{seconds:.1} s"));
    let mut links = vec![
        ("samples", "Samples"),
        ("training", "Training"),
        ("graph", "Graph"),
        ("reproduce", "Again"),
        ("nodes", "Configs"),
    ];
    if !formats::definitions(run).is_empty() {
        links.insert(3, ("definitions", "Definitions"));
    }
    if single(run).any(|evaluation| !evaluation.beside_people.is_empty()) {
        links.insert(0, ("people", "People"));
    }
    if !run.judgings.is_empty() {
        links.insert(0, ("judges", "Judges"));
    }
    if single(run).any(|evaluation| !evaluation.comparisons.differences.is_empty()) {
        links.insert(0, ("significance", "Significance"));
    }
    if single(run).next().is_some() {
        links.insert(0, ("results", "Results"));
    }
    if of_seeds(run).next().is_some() {
        links.insert(0, ("seeds", "Seeds"));
    }
    if swept {
        links.insert(0, ("sweeps", "Sweeps"));
    }
    if !summary::all(&run.evaluations).is_empty() {
        links.insert(0, ("findings", "Findings"));
    }
    let links: String =
        links.iter().map(|(id, name)| format!("<a href=\"#{id}\">{name}</a> ")).collect();
    format!(
        "<header><h1>{}</h1>\n<p>Run {}, {}, {seconds}; {} nodes: {}</p>\n<nav \
         aria-label=Sections>{links}<button type=button id=theme aria-label=\"Light or \
         dark\">Light / dark</button></nav></header>\n",
        text(if run.name.is_empty() { &run.id } else { &run.name }),
        text(&run.id),
        text(&run.started),
        run.nodes.len(),
        endings.join(", ")
    )
}

/// A place for each chart, and the charts among what is drawn.
fn figures(drawn: &mut Vec<Chart>, charts: Vec<Chart>) -> String {
    let mut out = String::from("<div class=charts>\n");
    for chart in charts {
        let note = if chart.note.is_empty() {
            String::new()
        } else {
            format!(" <span class=note>{}</span>", text(&chart.note))
        };
        let heading = text(&chart.title);
        let _ = writeln!(
            out,
            "<figure><figcaption><b>{heading}</b>{note}</figcaption><div class=plot role=img \
             aria-label=\"{heading}\" data-chart={} style=\"height:{}px\"></div></figure>",
            drawn.len(),
            chart.height
        );
        drawn.push(chart);
    }
    out + "</div>\n"
}

fn reproduce(run: &Run) -> String {
    let mut out = format!("<pre class=command><code>{}</code></pre>\n", text(&run.command));
    let mut facts = vec![
        ("Program", format!("posttrain {}", run.version)),
        ("Pipeline", run.pipeline.clone()),
        ("Its hash (BLAKE3)", run.pipeline_hash.clone()),
        ("Device", run.device.to_string()),
        ("Threads", run.threads.to_string()),
    ];
    facts.retain(|(_, fact)| !["", "null", "0", "posttrain "].contains(&fact.as_str()));
    out.push_str(&list(&facts));
    if let Some(pipeline) = &run.pipeline_text {
        let _ = writeln!(
            out,
            "<details><summary>The pipeline as it was</summary><pre>{}</pre></details>",
            text(pipeline)
        );
    }
    out
}

fn list(facts: &[(&str, String)]) -> String {
    let row = |(name, fact): &(&str, String)| format!("<dt>{name}<dd>{}", text(fact));
    format!("<dl>{}</dl>\n", facts.iter().map(row).collect::<String>())
}

fn nodes(run: &Run) -> String {
    run.nodes.iter().map(node).collect()
}

fn node(node: &Node) -> String {
    let mut facts = vec![
        ("Object", node.object.clone().unwrap_or_default()),
        ("Key", node.key.clone().unwrap_or_default()),
        ("Needs", node.needs.join(", ")),
    ];
    let mut config = String::new();
    if let Some(made) = &node.made {
        facts.extend([
            ("Stage", format!("{} version {}, makes {}", node.stage, made.version, made.output)),
            ("Numerics", made.numerics.clone()),
            ("Made", format!("{}, in {:.2} s", made.finished, made.seconds)),
        ]);
        let sources: Vec<String> =
            made.sources.iter().map(|(field, source)| format!("{field}: {source}")).collect();
        facts.push(("From", sources.join("; ")));
        facts.push(("Accepted", made.accepted.clone().unwrap_or_default()));
        config = format!(
            "<pre>{}</pre>",
            text(&serde_json::to_string_pretty(&made.config).expect("a config is plain data"))
        );
    }
    facts.retain(|(_, fact)| !fact.is_empty());
    let (name, stage, ending) = (text(&node.name), text(&node.stage), text(&node.ending));
    format!(
        "<details class=node><summary><b>{name}</b> <span class=note>{stage}, \
         {ending}</span></summary>{}{config}</details>\n",
        list(&facts)
    )
}
