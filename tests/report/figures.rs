//! Differences, gaps and figures over seeds: the page, CSV, JSON, Markdown and LaTeX say the same,
//! and the page's filters keep what they say.

use posttrain::artefacts::table::Row;
use posttrain::eval::interval::{Interval, Kind};
use posttrain::report::charts::charts;
use posttrain::report::formats::{csv, json, markdown};
use posttrain::report::latex::latex;
use posttrain::report::page::page;
use posttrain::report::run::{Evaluation, Run};
use serde_json::Value;

use super::browser::{Browser, program};
use super::fixture::{TEST_SETS, run};
use super::skip;

/// A figure as each format that rounds has it: to three decimals, without the sign of a zero.
fn shown(x: f64) -> String {
    let text = format!("{x:.3}");
    text.strip_prefix('-')
        .filter(|digits| digits.chars().all(|letter| "0.".contains(letter)))
        .unwrap_or(&text)
        .to_owned()
}

fn html(text: &str) -> String {
    text.replace('<', "&lt;").replace('>', "&gt;")
}

fn tex(text: &str) -> String {
    text.replace('_', "\\_").replace('<', "\\textless{}").replace('>', "\\textgreater{}")
}

/// The lines in which page, Markdown and LaTeX show a figure: a name, a test set where it has one
/// in its line, cells of which the first is an interval, a word at the end.
struct Line<'a> {
    name: &'a str,
    test_set: &'a str,
    interval: Interval,
    rest: Vec<String>,
    word: Option<&'a str>,
}

impl Line<'_> {
    fn html(&self) -> String {
        let Interval { mean, low, high, .. } = self.interval;
        let cells: String = self.rest.iter().map(|cell| format!("<td>{cell}")).collect();
        let interval = format!(
            "<td>{} <span class=note>[{}, {}]</span>",
            shown(mean),
            shown(low),
            shown(high)
        );
        let (class, word) = self.word.map_or_else(Default::default, |word| {
            (format!(" class={word}"), format!("<td>{word}"))
        });
        format!("<tr{class}><th scope=row>{}{interval}{cells}{word}\n", html(self.name))
    }

    fn markdown(&self) -> String {
        let Interval { mean, low, high, .. } = self.interval;
        let word = self.word.map_or(String::new(), |word| format!(" {word} |"));
        let interval = format!("{} [{}, {}]", shown(mean), shown(low), shown(high));
        format!(
            "| {} | {} | {interval} | {} |{word}\n",
            self.name,
            self.test_set,
            self.rest.join(" | ")
        )
    }

    /// What LaTeX has of it: the name with its first cell; every other cell, behind a column's
    /// mark.
    fn latex(&self) -> Vec<String> {
        let Interval { mean, low, high, .. } = self.interval;
        let number = |number: &str| format!("${number}$");
        let cell = |cell: &String| cell.split(", ").map(number).collect::<Vec<String>>().join(", ");
        let interval =
            format!("${}$ {{\\scriptsize [${}$, ${}$]}}", shown(mean), shown(low), shown(high));
        let first = format!("    {} & {interval}", tex(self.name));
        let rest = self.rest.iter().map(|text| format!(" & {}", cell(text)));
        [
            vec![first],
            rest.collect(),
            self.word.map(|word| format!(" & {word} \\\\\n")).into_iter().collect(),
        ]
        .concat()
    }
}

/// Every rounding format of a run.
struct Texts {
    page: String,
    markdown: String,
    latex: String,
}

impl Texts {
    fn of(run: &Run) -> Self {
        Texts { page: page(run, None), markdown: markdown(run), latex: latex(run) }
    }

    fn have(&self, line: &Line<'_>) {
        for (text, line) in [(&self.page, line.html()), (&self.markdown, line.markdown())] {
            assert!(text.contains(&line), "there is no line {line}");
        }
        // Columns that do not fit go below: cells of a line are in one of the float's parts.
        let heading = format!("\\textit{{{}}}", tex(line.test_set));
        let lines = line.latex();
        let has = |float: &&str| {
            float.contains(&heading) && lines.iter().all(|cell| float.contains(cell.as_str()))
        };
        assert!(
            self.latex.split("\\begin{table}").any(|float| has(&float)),
            "no float has {lines:?} under {heading}"
        );
    }
}

/// The lines of CSV of one kind, by field; no field of the fixture has a comma.
fn of_kind(csv: &str, kind: &str) -> Vec<Vec<String>> {
    let lines =
        csv.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<String>>());
    lines.filter(|fields| fields[8] == kind).collect()
}

fn numbers(fields: &[String], at: &[usize]) -> Vec<f64> {
    at.iter()
        .map(|at| fields[*at].parse().unwrap_or_else(|_| panic!("{fields:?}: {at} is no number")))
        .collect()
}

fn word(mean: f64, p: f64) -> &'static str {
    match (p < 0.05, mean > 0.0) {
        (true, true) => "higher",
        (true, false) => "lower",
        (false, _) => "unclear",
    }
}

#[test]
fn differences_are_the_same_in_every_format() {
    let run = run();
    let (texts, csv, all) = (Texts::of(&run), csv(&run), &run.evaluations[0].comparisons);
    let json: Value = serde_json::from_str(&json(&run)).unwrap();
    let json = &json["evaluations"][0]["comparisons"];
    let lines = of_kind(&csv, "difference");
    // Six pairs of four methods, three test sets, four metrics.
    assert_eq!(
        (lines.len(), all.differences.len(), json["differences"].as_array().unwrap().len()),
        (54, 54, 54)
    );
    let mut told = 0;
    for (at, (difference, fields)) in all.differences.iter().zip(&lines).enumerate() {
        let Interval { mean, low, high, n, .. } = difference.interval;
        let (method, with) = (&difference.method, &difference.with);
        assert_eq!(
            [&fields[1], &fields[2], &fields[3], &fields[9]],
            [method, &difference.test_set, &difference.metric, with]
        );
        assert_eq!(
            numbers(fields, &[4, 5, 6, 7, 10, 11]),
            [mean, low, high, n as f64, difference.p, difference.p_holm]
        );
        let own = &json["differences"][at];
        assert_eq!(
            (own["mean"].as_f64(), own["p_holm"].as_f64()),
            (Some(mean), Some(difference.p_holm))
        );
        let word = word(mean, difference.p_holm);
        told += usize::from(word != "unclear");
        let rest = [difference.p, difference.p_holm].map(|p| format!("{p:.4}")).to_vec();
        texts.have(&Line {
            name: &format!("{method} - {with}"),
            test_set: &difference.test_set,
            interval: difference.interval,
            rest,
            word: Some(word),
        });
    }
    assert!(told > 5 && told < 49, "{told} of 54: both are shown");
    let (matched, fields) = (&all.matched[0], &of_kind(&csv, "at_equal_kl")[0]);
    assert_eq!(numbers(fields, &[4, 12]), [matched.difference.interval.mean, 1.25]);
    let rest = [
        format!("{:.4}", matched.difference.p),
        format!("{:.4}", matched.difference.p_holm),
        "1.250".into(),
    ]
    .to_vec();
    let word = word(matched.difference.interval.mean, matched.difference.p_holm);
    let test_set = &matched.difference.test_set;
    texts.have(&Line {
        name: "ppo - best_of_n",
        test_set,
        interval: matched.difference.interval,
        rest,
        word: Some(word),
    });
}

#[test]
fn gaps_and_wins_are_the_same_in_every_format() {
    let run = run();
    let (texts, csv, all) = (Texts::of(&run), csv(&run), &run.evaluations[0].comparisons);
    let gaps = of_kind(&csv, "gap");
    assert_eq!(
        (gaps.len(), all.gaps.len()),
        (24, 24),
        "two test sets out of distribution, four methods, three metrics"
    );
    let wins = of_kind(&csv, "head_to_head");
    assert_eq!((wins.len(), all.head_to_head.len()), (18, 18));
    let intervals = all
        .gaps
        .iter()
        .map(|gap| gap.interval)
        .chain(all.head_to_head.iter().map(|wins| wins.interval));
    for (fields, Interval { mean, low, high, n, .. }) in gaps.iter().chain(&wins).zip(intervals) {
        assert_eq!(numbers(fields, &[4, 5, 6, 7]), [mean, low, high, n as f64]);
        let [mean, low, high] = [mean, low, high].map(shown);
        let cells = [
            (&texts.page, format!("<td>{mean} <span class=note>[{low}, {high}]</span>")),
            (&texts.markdown, format!("{mean} [{low}, {high}]")),
            (&texts.latex, format!("${mean}$ {{\\scriptsize [${low}$, ${high}$]}}")),
        ];
        cells
            .iter()
            .for_each(|(text, cell)| assert!(text.contains(cell), "{fields:?}: no cell {cell}"));
    }
    for heading in ["<b>gold_gap</b>", "<th scope=col>id - ood_forum", "<b>gold_head_to_head</b>"] {
        assert!(texts.page.contains(heading), "{heading}");
    }
}

/// Gaps of gains and what each stage changed: a line each, in CSV the first as they are.
#[test]
fn gains_and_stages_are_the_same_in_every_format() {
    let run = run();
    let (texts, csv) = (Texts::of(&run), csv(&run));
    let Evaluation { comparisons, attributions, .. } = &run.evaluations[0];
    let lines = of_kind(&csv, "gain_gap");
    assert_eq!(lines.len(), comparisons.gains.len());
    for (fields, gain) in lines.iter().zip(&comparisons.gains) {
        assert_eq!(fields[1], format!("{} - {}", gain.method, gain.with));
        let numbers = [gain.interval.mean, gain.p, gain.p_holm];
        assert_eq!([4, 10, 11].map(|at| fields[at].parse::<f64>().unwrap()), numbers);
    }
    let gain = comparisons.gains.iter().find(|one| one.metric == "gold").unwrap();
    let line = format!(
        "| {} - {} | {} - {} | {:.3} [{:.3}, {:.3}] | {:.4} | {:.4} |",
        gain.method,
        gain.with,
        gain.from,
        gain.to,
        gain.interval.mean,
        gain.interval.low,
        gain.interval.high,
        gain.p,
        gain.p_holm
    );
    assert!(texts.markdown.contains(&line), "{line}");
    assert!(texts.page.contains("gold: gaps of gains"), "no heading on the page");
    let [one, ..] = attributions.as_slice() else { panic!("no chain") };
    let (first, second) = (&one.steps[0], &one.steps[1]);
    let share = first.share.unwrap();
    let line = format!(
        "| best_of_n - sft (to ppo) | {} | {:.3} [{:.3}, {:.3}] | {:.4} | {:.2} [{:.2}, {:.2}] |",
        one.test_set,
        first.change.interval.mean,
        first.change.interval.low,
        first.change.interval.high,
        first.change.p_holm,
        share.mean,
        share.low,
        share.high
    );
    assert!(texts.markdown.contains(&line), "{line}: {}", texts.markdown);
    assert!(texts.page.contains("gold: what each stage changed"), "no heading on the page");
    let all = charts(&run.evaluations[0]);
    let chart = all.iter().find(|chart| chart.id.contains("attribution gold")).unwrap();
    let bars = &chart.data[0];
    assert_eq!(bars["x"], serde_json::json!(["sft", "best_of_n +", "ppo +", "ppo"]));
    let end = one.start + first.change.interval.mean + second.change.interval.mean;
    assert_eq!(bars["y"][3], serde_json::json!(end));
    assert_eq!(bars["base"][2], serde_json::json!(one.start + first.change.interval.mean));
}

/// What is said beside figures: every format for people has it.
#[test]
fn notes_are_in_every_format() {
    let run = run();
    let texts = Texts::of(&run);
    let plain = |text: &str| text.replace(['\\', '`'], "");
    for note in run.evaluations[0].notes() {
        let of_latex = plain(&texts.latex).replace("allowbreak{}", "").replace("texttt", "");
        let letters = |text: &str| {
            text.chars().filter(|letter| letter.is_ascii_alphanumeric()).collect::<String>()
        };
        assert!(letters(&of_latex).contains(&letters(&note)), "{note}: {of_latex}");
        assert!(texts.page.contains(&note) && texts.markdown.contains(&note), "{note}");
    }
    assert_eq!(run.evaluations[0].notes().len(), 7);
}

#[test]
fn figures_over_seeds_are_the_same_in_every_format() {
    let run = run();
    let (texts, csv) = (Texts::of(&run), csv(&run));
    let json: Value = serde_json::from_str(&json(&run)).unwrap();
    let evaluation = &run.evaluations[1];
    let (lines, differences) =
        (of_kind(&csv, "over_seeds"), of_kind(&csv, "difference_over_seeds"));
    assert_eq!((lines.len(), differences.len()), (6, 3));
    assert_eq!(
        csv.lines().filter(|line| line.starts_with("over_seeds,")).count(),
        9,
        "no figure twice"
    );
    let (mut single, mut pairs) = (lines.iter(), differences.iter());
    for (at, figure) in evaluation.seeds.iter().enumerate() {
        let values: Vec<f64> = figure.over.values.clone();
        assert_eq!(
            serde_json::from_value::<Vec<f64>>(
                json["evaluations"][1]["seeds"][at]["values"].clone()
            )
            .unwrap(),
            values
        );
        let Interval { mean, low, high, n, .. } = figure.over.interval;
        let fields = if figure.with.is_some() { pairs.next() } else { single.next() }.unwrap();
        assert_eq!(
            numbers(fields, &[4, 5, 6, 7, 13]),
            [mean, low, high, n as f64, figure.over.std]
        );
        let listed: Vec<f64> = fields[15].split(' ').map(|value| value.parse().unwrap()).collect();
        assert_eq!(listed, values);
        let each = values.iter().map(|value| shown(*value)).collect::<Vec<String>>().join(", ");
        let (name, rest, word) = match (&figure.with, figure.p_holm) {
            (Some(with), Some(p_holm)) => {
                assert_eq!(numbers(fields, &[10, 11]), [figure.over.p, p_holm]);
                let p = [figure.over.p, p_holm].map(|p| format!("{p:.4}"));
                (
                    format!("{} - {with}", figure.method),
                    [p.to_vec(), vec![shown(figure.over.std), each]].concat(),
                    Some(word(mean, p_holm)),
                )
            }
            _ => {
                // Each seed's interval is ± 0.05: by 1.96, that is a deviation of 0.0255.
                assert!((numbers(fields, &[14])[0] - 0.05 / 1.96).abs() < 1e-12);
                let ratio = format!("{:.1}", figure.over.std / (0.05 / 1.96));
                (
                    figure.method.clone(),
                    vec![shown(figure.over.std), "0.026".into(), ratio, each],
                    None,
                )
            }
        };
        texts.have(&Line {
            name: &name,
            test_set: &figure.test_set,
            interval: figure.over.interval,
            rest,
            word,
        });
    }
}

#[test]
fn listings_are_filtered_by_metric_test_set_and_verdict() {
    let Some(program) = program() else { return skip("headless Chromium") };
    let (folder, run) = (tempfile::tempdir().unwrap(), run());
    let path = folder.path().join("report.html");
    std::fs::write(&path, page(&run, None)).unwrap();
    let mut browser = Browser::start(&program);
    browser.open(&path, 390, 844, "light");
    browser.wait("'ready' in document.documentElement.dataset");
    let rows = "[...document.querySelectorAll('#significance .listing tr.higher, #significance \
        .listing tr.lower, #significance .listing tr.unclear')] .filter((row) => row.offsetParent \
        !== null).length";
    let set = |browser: &mut Browser, name: &str, value: &str| {
        let script = format!(
            "(() => {{ const field = document.querySelector('#significance form').elements['{name}']; {value}; field.dispatchEvent(new Event('input', {{bubbles: true}})); return true; }})()"
        );
        assert_eq!(browser.value(&script), true);
    };
    let of = |metric: &str, test_set: &str, told: bool| {
        let all = run.evaluations[0].comparisons.differences.iter();
        let matched =
            run.evaluations[0].comparisons.matched.iter().map(|matched| &matched.difference);
        let wanted = all.chain(matched).filter(|difference| {
            (metric.is_empty() || difference.metric == metric)
                && (test_set.is_empty() || difference.test_set == test_set)
                && (!told || difference.p_holm < 0.05)
        });
        let of_metric = |name: &str| metric.is_empty() || name == metric;
        // A gap of gains is of two test sets.
        let gains = run.evaluations[0].comparisons.gains.iter().filter(|gain| {
            of_metric(&gain.metric) && test_set.is_empty() && (!told || gain.p_holm < 0.05)
        });
        let stages = run.evaluations[0].attributions.iter().filter(|one| {
            of_metric(&one.metric) && (test_set.is_empty() || one.test_set == test_set)
        });
        let stages = stages.flat_map(|one| &one.steps);
        let stages = stages.filter(|step| !told || step.change.p_holm < 0.05);
        wanted.count() + gains.count() + stages.count()
    };
    // What performance is told by is chosen at first.
    assert_eq!(browser.value(rows), of("gold", "", false));
    set(&mut browser, "test-set", "field.value = 'ood_<b>length'");
    assert_eq!(browser.value(rows), of("gold", TEST_SETS[2], false));
    set(&mut browser, "metric", "field.value = ''");
    assert_eq!(browser.value(rows), of("", TEST_SETS[2], false));
    set(&mut browser, "told", "field.checked = true");
    let told = of("", TEST_SETS[2], true);
    assert_eq!(browser.value(rows), told);
    let said = browser.value("document.querySelector('#significance .filtered').textContent");
    assert_eq!(
        said,
        format!("{told} of {} differences are significant", of("", TEST_SETS[2], false))
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// Of each method a line of means over k, 1 at the left, and a band between its ends.
#[test]
fn lines_over_k_are_of_every_method_with_their_bands() {
    let evaluation = &run().evaluations[0];
    let all = charts(evaluation);
    for metric in ["pass_at_k", "best_at_k"] {
        let id = format!("report: {metric} {}", TEST_SETS[0]);
        let chart = all.iter().find(|chart| chart.id == id).unwrap();
        let title = &chart.layout["yaxis"]["title"]["text"];
        assert_eq!(*title, format!("{metric}<br>(samples at temperature 1)"));
        assert_eq!(
            chart.layout["xaxis"]["ticktext"],
            serde_json::json!(["1", "2", "4", "8", "16"])
        );
        let curves: Vec<_> =
            evaluation.at_k.iter().filter(|curve| curve.metric == metric).collect();
        assert_eq!((chart.data.len(), curves.len()), (4, 2));
        for (traces, curve) in chart.data.chunks(2).zip(curves) {
            let means: Vec<f64> = curve.by_k.iter().map(|point| point.mean).collect();
            assert_eq!(traces[1]["name"], *curve.method);
            assert_eq!(
                (&traces[1]["y"], &traces[1]["x"][0]),
                (&serde_json::json!(means), &1.0.into())
            );
            let highs = curve.by_k.iter().map(|point| point.high);
            let lows = curve.by_k.iter().rev().map(|point| point.low);
            let ends: Vec<f64> = highs.chain(lows).collect();
            assert_eq!(traces[0]["y"], serde_json::json!(ends));
        }
    }
    let json: Value = serde_json::from_str(&json(&run())).unwrap();
    assert_eq!(json["evaluations"][0]["at_k"].as_array().unwrap().len(), 4);
    assert!(json["evaluations"][1].get("at_k").is_none(), "there is none over seeds");
}

/// Of each method a line of means over positions, 1 at the left, and a band between its ends.
#[test]
fn branching_factors_are_drawn_by_position() {
    let evaluation = &run().evaluations[0];
    let id = format!("report: branching_factor {}", TEST_SETS[0]);
    let all = charts(evaluation);
    let chart = all.iter().find(|chart| chart.id == id).unwrap();
    let title = &chart.layout["yaxis"]["title"]["text"];
    assert_eq!(*title, "branching_factor<br>(samples at temperature 1)");
    assert_eq!((chart.data.len(), evaluation.by_position.len()), (4, 2));
    for (traces, curve) in chart.data.chunks(2).zip(&evaluation.by_position) {
        let means: Vec<f64> = curve.by_position.iter().map(|point| point.mean).collect();
        assert_eq!(
            (&traces[1]["name"], &traces[1]["x"][0]),
            (&curve.method.as_str().into(), &1.0.into())
        );
        assert_eq!(traces[1]["y"], serde_json::json!(means));
        let highs = curve.by_position.iter().map(|point| point.high);
        let lows = curve.by_position.iter().rev().map(|point| point.low);
        assert_eq!(traces[0]["y"], serde_json::json!(highs.chain(lows).collect::<Vec<f64>>()));
    }
    let json: Value = serde_json::from_str(&json(&run())).unwrap();
    assert_eq!(json["evaluations"][0]["by_position"].as_array().unwrap().len(), 2);
}

/// A line for each method and for every two, each with the bar of its interval.
#[test]
fn similarities_are_drawn_within_and_between_methods() {
    let mut evaluation = run().evaluations.remove(0);
    for (method, mean) in [("sft", 0.45), ("best_of_n", 0.55), ("ppo", 0.75)] {
        let figure =
            Interval { mean, low: mean - 0.25, high: mean + 0.125, n: 30, kind: Kind::SkewT };
        let row = Row::new(method, TEST_SETS[0], "ngram_similarity", figure);
        evaluation.table.rows.push(row);
    }
    let id = format!("report: ngram_similarity {}", TEST_SETS[0]);
    let all = charts(&evaluation);
    let chart = all.iter().find(|chart| chart.id == id).unwrap();
    let [within, between] = [&chart.data[0], &chart.data[1]];
    assert_eq!(within["y"], serde_json::json!(["sft", "best_of_n", "ppo"]));
    assert_eq!(within["x"], serde_json::json!([0.45, 0.55, 0.75]));
    let ends = within["error_x"]["arrayminus"].as_array().unwrap();
    assert!(ends.iter().all(|end| (end.as_f64().unwrap() - 0.25).abs() < 1e-12), "{ends:?}");
    let pairs = ["best_of_n with sft", "ppo with sft", "ppo with best_of_n"];
    assert_eq!(between["y"], serde_json::json!(pairs));
    assert_eq!(between["x"], serde_json::json!([0.4, 0.3, 0.5]));
    let run = Run { evaluations: vec![evaluation], ..run() };
    let lines: Vec<String> = csv(&run).lines().map(str::to_owned).collect();
    for (ending, mean) in [("_between", "0.3,"), ("_between_high", "0.15,"), ("_apart", "0.39999")]
    {
        let begin = format!("report,ppo,{},ngram_similarity{ending},{mean}", TEST_SETS[0]);
        let line = lines.iter().find(|line| line.starts_with(&begin));
        assert!(line.is_some_and(|line| line.contains(",similarity,sft,")), "{begin}");
    }
}

/// Best-of-n is a line over n; a dotted line goes from a policy's samples to where best-of-n's are
/// at its KL.
#[test]
fn frontiers_join_a_policy_with_best_of_n_at_its_kl() {
    let evaluation = &run().evaluations[0];
    let all = charts(evaluation);
    let frontiers: Vec<_> = all.iter().filter(|chart| chart.id.contains("frontier")).collect();
    assert_eq!(frontiers.len(), TEST_SETS.len());
    let numbers = |trace: &Value, axis: &str| {
        trace[axis].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>()
    };
    for (chart, test_set) in frontiers.iter().zip(TEST_SETS) {
        let by_n = |metric: &str| {
            let curve = evaluation
                .best_of_n
                .iter()
                .find(|curve| curve.test_set == test_set && curve.metric == metric)
                .unwrap();
            curve.by_n.iter().map(|point| point.mean).collect::<Vec<f64>>()
        };
        // The label is of the number: diversity of samples, scores of outputs, each with its
        // temperature.
        let title = |axis: &str| chart.layout[axis]["title"]["text"].as_str().unwrap();
        assert_eq!(title("xaxis"), "ead_per_input<br>(samples at temperature 1)");
        assert_eq!(title("yaxis"), "gold<br>(outputs at temperature 0.7)");
        let [x, y] = ["x", "y"].map(|axis| numbers(&chart.data[0], axis));
        assert_eq!((x, y), (by_n("ead_per_input"), by_n("gold")));
        let dotted: Vec<&Value> =
            chart.data.iter().filter(|trace| trace["line"]["dash"] == "dot").collect();
        let matched: Vec<_> = evaluation
            .comparisons
            .matched
            .iter()
            .filter(|matched| matched.difference.test_set == test_set)
            .collect();
        assert_eq!(2 * dotted.len(), matched.len());
        for (axis, metric) in dotted.iter().flat_map(|_| [("x", "ead_per_input"), ("y", "gold")]) {
            let matched =
                matched.iter().find(|matched| matched.difference.metric == metric).unwrap();
            assert_eq!(numbers(dotted[0], axis), [matched.own, matched.best]);
        }
    }
}
