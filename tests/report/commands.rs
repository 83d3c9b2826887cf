//! `report`, `diff`, and what `run` leaves: the real program in temporary folders.

use std::path::PathBuf;

use serde_json::Value;

use crate::cli::place::Place;

const SMOKE: &str = include_str!("../../pipelines/smoke.yaml");

const TWO: &str = "\
name: two
params: {word: hello}
stages:
  greet: {uses: command, run: [sh, -c, \"echo ${word} > greeting.txt\"]}
  fail: {uses: command, run: [sh, -c, \"test -e {greet}/absent\"], inputs: {greet: greet}}
";

/// The ids of all runs, oldest first.
fn runs(place: &Place) -> Vec<String> {
    let folders = std::fs::read_dir(place.path("cache/v1/runs")).unwrap();
    let mut ids: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    ids.sort();
    ids
}

#[test]
fn a_run_leaves_its_page_and_its_pipeline_beside_its_record_even_if_it_failed() {
    let place = Place::new(TWO);
    let said = place.say(&["run", "p.yaml", "--set", "word=a b"]);
    assert_eq!(said.code, 1);
    let id = &runs(&place)[0];
    let page = place.path(&format!("cache/v1/runs/{id}/report.html")).canonicalize().unwrap();
    assert!(
        said.err.lines().any(
            |line| line.starts_with("report: ") && line.ends_with(&format!("{id}/report.html"))
        ),
        "{}",
        said.err
    );
    let text = std::fs::read_to_string(&page).unwrap();
    for words in [
        "<b>fail</b> <span class=note>command, failed",
        "2 nodes: 1 ran, 1 failed",
        "--set &#39;word=a b&#39;",
        "No evaluation of this run",
    ] {
        assert!(text.contains(words), "{words}");
    }
    assert_eq!(place.read(&format!("cache/v1/runs/{id}/pipeline.yaml")), place.read("p.yaml"));
}

#[test]
fn a_run_is_named_by_its_id_by_the_beginning_of_it_by_its_folder_or_as_the_latest() {
    let place = Place::new(TWO);
    let none = place.say(&["report"]);
    assert_eq!(none.code, 2);
    assert!(
        none.err.contains("there is no run in") && none.err.contains("run a pipeline first"),
        "{}",
        none.err
    );
    place.say(&["run", "p.yaml"]);
    place.say(&["run", "p.yaml", "--set", "word=again"]);
    let ids = runs(&place);
    let id = |word: &str| {
        let run: Value =
            serde_json::from_str(&place.good(&["report", word, "--format", "json"]).out).unwrap();
        run["id"].as_str().unwrap().to_owned()
    };
    let folder = format!("cache/v1/runs/{}", ids[0]);
    assert_eq!(
        [id("latest"), id(&ids[0]), id(&ids[1]), id(&folder)],
        [&ids[1], &ids[0], &ids[1], &ids[0]].map(String::clone)
    );
    // Under another cache, a folder still tells where its artefacts are.
    let elsewhere = place.good(&["report", &folder, "--cache", "other", "--output", "page.html"]);
    assert!(elsewhere.out.ends_with("page.html\n") && place.read("page.html").contains(&ids[0]));
    assert_eq!([id("1"), id("2")], [&ids[0], &ids[1]].map(String::clone));
    let many = place.say(&["report", "20"]);
    let listed = format!("give more of one of {}, {}", ids[0], ids[1]);
    assert!(many.code == 2 && many.err.contains("`20` begins several runs"), "{}", many.err);
    assert!(many.err.contains(&listed), "{}", many.err);
    let wrong = place.say(&["report", "x"]);
    assert!(
        wrong.code == 2 && wrong.err.contains("there is no run `x`") && wrong.err.contains(&ids[1]),
        "{}",
        wrong.err
    );
}

#[test]
fn the_tables_of_a_study_come_in_every_format_and_two_runs_are_compared() {
    let place = Place::new(SMOKE);
    place.counts(&[]);
    let table: Value = serde_json::from_str(&place.made("evaluation", "table.json")).unwrap();
    let rows = table["rows"].as_array().unwrap();
    let report = |format: &str| place.good(&["report", "--format", format]).out;
    let compared: Value =
        serde_json::from_str(&place.made("evaluation", "comparisons.json")).unwrap();
    let kinds = [
        ("differences", "difference"),
        ("head_to_head", "head_to_head"),
        ("gaps", "gap"),
        ("gains", "gain_gap"),
        ("matched", "at_equal_kl"),
        ("matched_quality", "at_equal_quality"),
    ];
    let csv = report("csv");
    let of_kind =
        |kind: &str| csv.lines().filter(|line| line.split(',').nth(8) == Some(kind)).count();
    let compared_figures: usize = kinds
        .iter()
        .map(|(field, kind)| (compared[field].as_array().unwrap().len(), of_kind(kind)))
        .fold(0, |sum, (a, b)| {
            assert_eq!(a, b, "{kinds:?}");
            sum + a
        });
    // Three methods' verdicts and the judge's worth, on four test sets each.
    assert_eq!(of_kind("judgement"), 16);
    let of_optimum = ["optimum", "optimum_best_of_n", "optimum_method"].map(of_kind);
    assert!(of_optimum.iter().all(|lines| *lines > 0), "{of_optimum:?}");
    let beside = of_optimum.iter().sum::<usize>() + 16;
    assert_eq!(
        (of_kind("result"), csv.lines().count()),
        (rows.len(), rows.len() + compared_figures + beside + 1)
    );
    let json: Value = serde_json::from_str(&report("json")).unwrap();
    assert_eq!(json["evaluations"][0]["table"], table);
    assert_eq!(json["evaluations"][0]["comparisons"], compared);
    assert_eq!(json["nodes"].as_array().unwrap().len(), 25);
    assert!(
        report("markdown").contains("### gold\n")
            && report("latex").contains("\\caption{gold (evaluation): ")
    );
    every_figure_is_defined(&json);
    a_part_is_chosen_by_names(&place);
    what_is_shown_is_readable(&place);
    let first = place.artefact("evaluation");
    // Every input has every method's answer and the scores that the table means.
    let inputs: Vec<Value> = std::fs::read_to_string(first.join("inputs.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (method, metric) = ("ppo", "rm");
    let of = |input: &Value| {
        input["answers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|answer| answer["method"] == method)
            .unwrap()
            .clone()
    };
    let values: Vec<f64> = inputs
        .iter()
        .filter(|input| input["test_set"] == "id")
        .map(|input| of(input)["scores"][metric].as_f64().unwrap())
        .collect();
    let row = rows
        .iter()
        .find(|row| row["method"] == method && row["metric"] == metric && row["test_set"] == "id")
        .unwrap();
    assert!(
        (values.iter().sum::<f64>() / values.len() as f64 - row["mean"].as_f64().unwrap()).abs()
            < 1e-12
    );

    place.counts(&["--set", "kl=0.5"]);
    let ids = runs(&place);
    let diff: Value =
        serde_json::from_str(&place.good(&["diff", &ids[0], "latest", "--json"]).out).unwrap();
    let nodes = diff["nodes"].as_array().unwrap();
    let ppo = nodes.iter().find(|node| node["node"] == "ppo").unwrap();
    assert_eq!(
        (&ppo["config"][0]["path"], &ppo["config"][0]["b"]),
        (&"kl.coef".into(), &0.5.into())
    );
    assert_eq!(ppo["parts"]["step"], 1);
    assert!(
        nodes.iter().all(|node| node["node"].as_str().unwrap().starts_with("ppo")
            || node["node"] == "evaluation"),
        "{nodes:?}"
    );
    let figures = diff["figures"].as_array().unwrap();
    assert!(
        !figures.is_empty() && figures.iter().all(|figure| figure["method"] == "ppo"),
        "{figures:?}"
    );
    let same = place.good(&["diff", "latest", &ids[1]]).out;
    assert!(
        same.contains("\n0 of 25 nodes differ\n") && same.contains("\n0 figures differ, "),
        "{same}"
    );
    // Two evaluations by their folders, without their runs.
    let second = json_path(&place, "kl=0.5");
    let folders = place.good(&["diff", first.to_str().unwrap(), &second]).out;
    assert!(folders.contains(&format!("\n{} figures differ, ", figures.len())), "{folders}");
}

/// Of tables, comparisons and training.
fn every_figure_is_defined(run: &Value) {
    let evaluation = &run["evaluations"][0];
    let compared =
        ["differences", "head_to_head", "gaps"].map(|kind| &evaluation["comparisons"][kind]);
    let rows = [&evaluation["table"]["rows"]]
        .into_iter()
        .chain(compared)
        .flat_map(|list| list.as_array().unwrap());
    let curves =
        run["nodes"].as_array().unwrap().iter().flat_map(|node| node["curves"].as_array().unwrap());
    for figure in rows.chain(curves) {
        let metric = figure["metric"].as_str().unwrap();
        assert!(run["definitions"][metric]["heading"].is_string(), "{metric} is not defined");
    }
}

fn a_part_is_chosen_by_names(place: &Place) {
    let part = [
        "report",
        "--format",
        "csv",
        "--metrics",
        "gold,kl",
        "--methods",
        "sft,ppo",
        "--test-sets",
        "id",
    ];
    let csv = place.good(&part).out;
    let lines: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let results: Vec<&Vec<&str>> = lines.iter().filter(|line| line[8] == "result").collect();
    assert_eq!(results.len(), 4, "{csv}");
    let known = |line: &Vec<&str>| {
        // Beside methods is what the objective asks for, and best-of-n.
        let beside = ["optimum", "optimum_best_of_n"].contains(&line[8]);
        let method = beside || ["sft", "ppo"].contains(&line[1]);
        let metric = ["gold", "kl"].contains(&line[3]) || (beside && line[3] == "ess");
        metric && line[2] == "id" && method
    };
    assert!(lines.iter().all(known) && lines.iter().any(|line| line[8] == "difference"), "{csv}");
    let wrong = place.say(&["report", "--format", "latex", "--metrics", "golf"]);
    assert!(
        wrong.code == 2 && wrong.err.contains("no evaluation of the run has a metric `golf`"),
        "{}",
        wrong.err
    );
    assert!(wrong.err.contains("hint: there are: gold, "), "{}", wrong.err);
}

/// No line of an artefact's figures is wider than a terminal; paths and configs are as long as they
/// are.
fn what_is_shown_is_readable(place: &Place) {
    let shown = place.good(&["show", "p.yaml", "evaluation"]).out;
    let figures = shown.split_once("\n\n").unwrap().1.split_once("  config  ").unwrap().0;
    let wide: Vec<&str> = figures.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(
        wide.is_empty()
            && figures.contains("gold \u{2191}: exact score")
            && figures.contains("ood_register"),
        "{wide:?}"
    );
    let shown = place.good(&["show", "p.yaml", "ppo"]).out;
    let metrics: Vec<&str> = shown.lines().filter(|line| line.starts_with("  metric  ")).collect();
    assert!(
        metrics.iter().any(|line| line.contains("objective/kl  ") && line.ends_with("nats")),
        "{shown}"
    );
    assert!(metrics.iter().all(|line| line.chars().count() <= 80), "{shown}");
}

/// The shipped pipeline with `quality`: rows and paired differences in every format, each of them
/// defined; lines over k of each method on the page.
#[test]
fn quality_of_samples_is_in_every_format_and_on_the_page() {
    let quality = "    quality: {by: reward_model, good: -1.0, k: 2}\n";
    let shipped = "    quality: {by: gold, good: 0.3, classes: gold}\n";
    let place = Place::new(&SMOKE.replace(shipped, quality));
    place.counts(&[]);
    let report = |format: &str| place.good(&["report", "--format", format]).out;
    let json: Value = serde_json::from_str(&report("json")).unwrap();
    every_figure_is_defined(&json);
    let evaluation = &json["evaluations"][0];
    let curves: Value = serde_json::from_str(&place.made("evaluation", "quality.json")).unwrap();
    assert_eq!((&evaluation["at_k"], curves.as_array().unwrap().len()), (&curves, 4 * 4 * 2));
    let csv = report("csv");
    let lines = |kind: &str, metric: &str| {
        let of = |line: &&str| {
            let fields: Vec<&str> = line.split(',').collect();
            (fields[3], fields[8]) == (metric, kind)
        };
        csv.lines().filter(of).count()
    };
    // Four methods, six pairs, four test sets, the first of which is compared with three.
    for metric in ["distinct_k", "utility_k", "pass_at_k", "best_at_k", "class_entropy"] {
        let found = ["result", "difference", "gap"].map(|kind| lines(kind, metric));
        assert_eq!(found, [16, 24, 12], "{metric}");
    }
    assert!(lines("difference", "vendi_per_input_good") > 0, "{csv}");
    let [markdown, latex] = ["markdown", "latex"].map(report);
    assert!(
        markdown.contains("### distinct_k\n")
            && latex.contains("{distinct\\_\\allowbreak{}k (evaluation)")
    );
    place.good(&["report", "--output", "page.html"]);
    let page = place.read("page.html");
    assert!(page.contains("aria-label=\"pass@k on id\""), "a chart of pass@k");
    let csv = place.good(&["report", "--format", "csv", "--metrics", "pass_at_k"]).out;
    assert_eq!(csv.lines().count(), 1 + 16 + 24 + 12 + 18);
}

/// A matrix over seeds and the stage over its evaluations: each format has every seed's own
/// figures.
#[test]
fn seeds_of_training_are_in_every_format() {
    let over = "  over_seeds:\n    uses: over_seeds\n    evaluations: [{all: evaluation}]\n";
    let place = Place::new(
        &SMOKE
            .replace("\nstages:\n", "\nmatrix:\n  seed: [0, 1]\n\nstages:\n")
            .replace("  evaluation:\n", &format!("{over}\n  evaluation:\n")),
    );
    place.counts(&[]);
    let seeds: Value = serde_json::from_str(&place.made("over_seeds", "seeds.json")).unwrap();
    let gold = |figure: &&Value| {
        figure["method"] == "ppo"
            && figure["test_set"] == "id"
            && figure["metric"] == "gold"
            && figure["with"].is_null()
    };
    let figure = seeds.as_array().unwrap().iter().find(gold).unwrap();
    let values: Vec<f64> = serde_json::from_value(figure["values"].clone()).unwrap();
    let report = |format: &str| place.good(&["report", "--format", format]).out;
    let json: Value = serde_json::from_str(&report("json")).unwrap();
    let evaluations = json["evaluations"].as_array().unwrap();
    let of = |node: &str| evaluations.iter().find(|evaluation| evaluation["node"] == node).unwrap();
    assert_eq!(of("over_seeds")["seeds"], seeds);
    // A seed's value and its interval over inputs are those of that seed's own evaluation.
    for (seed, value) in values.iter().enumerate() {
        let rows = of(&format!("evaluation[seed={seed}]"))["table"]["rows"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| {
                row["method"] == "ppo" && row["test_set"] == "id" && row["metric"] == "gold"
            })
            .unwrap();
        assert_eq!(
            (row["mean"].as_f64(), &row["low"], &row["high"]),
            (Some(*value), &figure["over_inputs"][seed][0], &figure["over_inputs"][seed][1])
        );
    }
    let each = values.iter().map(|value| format!("{value:.3}")).collect::<Vec<String>>().join(", ");
    place.good(&["report", "--output", "page.html"]);
    let in_latex =
        values.iter().map(|value| format!("${value:.3}$")).collect::<Vec<String>>().join(", ");
    for (text, each) in [
        (report("markdown"), &each),
        (report("latex"), &in_latex),
        (super::page::unpacked(&place.read("page.html")), &each),
    ] {
        assert!(text.contains("gold: every seed") && text.contains(each), "{each}");
    }
    let exact = values.iter().map(f64::to_string).collect::<Vec<String>>().join(" ");
    assert!(
        report("csv").lines().any(|line| line.starts_with("over_seeds,ppo,id,gold,")
            && line.ends_with(&format!(",{exact},score,higher is better,ppo,"))),
        "{exact}"
    );
    let one = place.say(&["run", "p.yaml", "over_seeds", "--set", "matrix.seed=[0]"]);
    assert!(
        one.code == 1
            && one.err.contains("one seed has no spread")
            && one.err.contains("two seeds or more"),
        "{}",
        one.err
    );
    // What differs in more than a seed is no repetition: that is refused, and can be said.
    let both = place.say(&["plan", "p.yaml", "--set", "matrix.kl=[0.1, 0.2]"]);
    assert!(
        both.code == 2
            && both.err.contains(
                "`over_seeds` would take points of `evaluation` for repetitions that differ in \
                 seed and kl"
            ),
        "{}",
        both.err
    );
    assert!(
        both.err.contains(
            "hint: {all: evaluation, over: seed} means those that differ in `seed` alone"
        ),
        "{}",
        both.err
    );
    place.pipeline(
        &place.read("p.yaml").replace("{all: evaluation}", "{all: evaluation, over: seed}"),
    );
    let both = place.good(&["plan", "p.yaml", "--set", "matrix.kl=[0.1, 0.2]"]).out;
    assert!(both.contains("over_seeds[kl=0.1]") && both.contains("over_seeds[kl=0.2]"), "{both}");
}

fn json_path(place: &Place, set: &str) -> String {
    let shown: Value = serde_json::from_str(
        &place.good(&["show", "p.yaml", "evaluation", "--set", set, "--json"]).out,
    )
    .unwrap();
    shown[0]["path"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_without_work_shares_the_page_of_the_run_before() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new(
        "params: {word: a}\nstages:\n  a: {uses: command, run: [sh, -c, 'echo ${word} > x']}\n",
    );
    let page = |more: &[&str]| {
        let last = place.run(more);
        let path = PathBuf::from(last["report"].as_str().unwrap());
        (path.metadata().unwrap().ino(), path)
    };
    let (first, path) = page(&[]);
    let (second, shared) = page(&[]);
    let (third, _) = page(&[]);
    assert_eq!((first, first), (second, third));
    assert_ne!(path, shared, "each run has a page in its folder");
    let before = std::fs::read(&path).unwrap();
    // Writing one anew leaves the others.
    place.good(&["report"]);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_ne!(page(&["--set", "word=b"]).0, first);
    assert_ne!(page(&[]).0, first, "the run before had written another");
}
