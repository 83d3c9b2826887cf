//! The optimum of the objective: every format has its points, and the betas without an estimate.

use posttrain::artefacts::optimum::Optimum;
use posttrain::report::charts::charts;
use posttrain::report::formats::{csv, json, markdown};
use posttrain::report::latex::latex;
use posttrain::report::page::page;
use posttrain::report::select::Selection;
use serde_json::Value;

use super::fixture::{INPUTS, run};

/// The fields of the lines of CSV of one kind.
fn of_kind(csv: &str, kind: &str) -> Vec<Vec<String>> {
    let lines = csv.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<String>>());
    lines.filter(|fields| fields[8] == kind).collect()
}

#[test]
fn csv_and_json_have_every_figure_as_it_is() {
    let run = run();
    let (csv, optima) = (csv(&run), &run.evaluations[0].optimum);
    let mut lines = [
        of_kind(&csv, "optimum"),
        of_kind(&csv, "optimum_best_of_n"),
        of_kind(&csv, "optimum_method"),
    ]
    .map(Vec::into_iter);
    let mut next = |kind: usize, names: [&str; 4], numbers: &[f64]| {
        let fields = lines[kind].next().unwrap_or_else(|| panic!("no line of {names:?}"));
        assert_eq!([1, 2, 3, 9].map(|at| fields[at].as_str()), names);
        let at = [4, 5, 6, 7, 12];
        let found: Vec<f64> = at.iter().filter_map(|at| fields[*at].parse().ok()).collect();
        assert_eq!(found, numbers, "{fields:?}");
    };
    for optimum in optima {
        let mut points = Vec::new();
        for at in &optimum.by_beta {
            points.push((0, "optimum".to_owned(), at.beta.to_string(), at.figures.as_ref()));
        }
        for at in &optimum.best_of_n {
            points.push((1, "best_of_n".to_owned(), at.n.to_string(), Some(&at.figures)));
        }
        for of in &optimum.methods {
            points.push((2, of.method.clone(), String::new(), Some(&of.figures)));
        }
        let mut sizes = optimum.by_beta.iter().map(|at| at.ess);
        for (kind, method, with, figures) in points {
            for (metric, figure) in figures.into_iter().flatten() {
                let kl = figures.unwrap()["kl"].mean;
                let numbers = [figure.mean, figure.low, figure.high, figure.n as f64, kl];
                next(kind, [&method, &optimum.test_set, metric, &with], &numbers);
            }
            if kind == 0 {
                let numbers = [sizes.next().unwrap(), INPUTS as f64];
                next(kind, [&method, &optimum.test_set, "ess", &with], &numbers);
            }
        }
    }
    assert!(lines.iter_mut().all(|lines| lines.next().is_none()));
    let json: Value = serde_json::from_str(&json(&run)).unwrap();
    let own: Vec<Optimum> =
        serde_json::from_value(json["evaluations"][0]["optimum"].clone()).unwrap();
    assert_eq!(&own, optima);
    assert_eq!(json["definitions"]["ngram_distance"]["unit"], "distance");
}

#[test]
fn page_markdown_and_latex_have_every_point_and_what_is_not_estimated() {
    let run = run();
    let (page, markdown, latex) = (page(&run, None), markdown(&run), latex(&run));
    let note = "Optimum of the KL-regularised objective on `id`: no estimate at beta 0.1 and below, \
        where 256 candidates an input have an effective sample size of 4.0 or less (`min_ess` is \
        10).";
    assert!(page.contains(note) && markdown.contains(note));
    let line = "| optimum, beta 0.25 | id | 12.0 | 2.000 [1.950, 2.100] | 0.700 [0.650, 0.800] |";
    assert!(markdown.contains(line), "{markdown}");
    assert!(markdown.contains("| optimum, beta 0.1 | id | 4.0 | - | - | - | - |"), "{markdown}");
    let line = "<tr><th scope=row>optimum, beta 0.25<td>12.0<td>2.000 <span class=note>[1.950, \
        2.100]</span>";
    assert!(page.contains(line));
    for name in ["optimum, beta 0.1 ", "best of 16 ", "ppo "] {
        assert!(latex.contains(&format!("    {name}&")), "{name}");
        assert!(markdown.contains(&format!("| {name}| ood_forum |")), "{name}");
    }
}

#[test]
fn charts_leave_out_what_is_not_estimated() {
    let run = run();
    let own: Vec<_> = charts(&run.evaluations[0])
        .into_iter()
        .filter(|chart| chart.id.contains(": optimum "))
        .collect();
    assert_eq!(own.len(), 2 * 3);
    let names: Vec<&Value> = own[0].data.iter().map(|trace| &trace["name"]).collect();
    assert_eq!(names, ["optimum", "best-of-n", "ppo", "fit, best_of_n"]);
    assert_eq!(own[1].data.len(), 3, "the fit is of gold");
    let colours: Vec<&Value> = own[1].data.iter().map(|trace| &trace["marker"]["color"]).collect();
    assert_eq!(colours, ["#8c8c8c", "#0072b2", "#009e73"], "each another");
    assert_eq!(own[0].data[0]["x"], serde_json::json!([2.0, 1.0, 0.5]), "KL of three of four");
}

#[test]
fn a_part_of_a_report_has_a_part_of_the_optimum() {
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    let part = Selection {
        metrics: names(&["ngram_distance"]),
        methods: names(&["sft"]),
        test_sets: names(&["id"]),
        ..Selection::default()
    };
    let optima = part.of(run()).unwrap().evaluations.remove(0).optimum;
    assert_eq!(optima.len(), 1);
    assert!(optima[0].methods.is_empty() && optima[0].fits.is_empty());
    let figures = optima[0].by_beta[1].figures.as_ref().unwrap();
    assert_eq!(figures.keys().collect::<Vec<_>>(), ["kl", "ngram_distance"]);
}
