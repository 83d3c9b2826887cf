//! What `evaluate` measures, and what it refuses to measure.

use posttrain::artefacts::table::{Row, Table};
use posttrain::data::samples::Sampled;
use posttrain::eval::interval::Kind;
use serde_json::{Value, json};

use super::bench::{Made, make, refusal};
use super::fixture::{example, fixture, jsonl, write};

fn evaluate(methods: Value, more: Value) -> Value {
    let mut config = json!({"dataset": fixture().at("dataset"),
        "reward_model": fixture().at("reward"), "reference_policy": fixture().at("policy"),
        "judge": "gold", "methods": methods});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn table(made: &Made) -> Table {
    serde_json::from_str(&made.text("table.json")).unwrap()
}

fn row<'a>(table: &'a Table, method: &str, test_set: &str, metric: &str) -> &'a Row {
    let found =
        |row: &&Row| row.method == method && row.test_set == test_set && row.metric == metric;
    table
        .rows
        .iter()
        .find(found)
        .unwrap_or_else(|| panic!("no row for {method}, {test_set}, {metric}"))
}

fn generated(policy: &str, samples: usize) -> Made {
    let config = json!({"policy": fixture().at(policy), "dataset": fixture().at("dataset"),
        "samples": samples, "sampling": {"max_new_tokens": 12}});
    make("generate", config)
}

#[test]
fn a_policy_is_at_distance_0_from_itself_exactly_and_another_is_not() {
    let [own, other] = ["policy", "other"].map(|policy| generated(policy, 3));
    let methods = json!([{"name": "own", "outputs": own.reference(), "samples": own.reference()},
        {"name": "other", "outputs": other.reference(), "samples": other.reference()}]);
    let table = table(&make("evaluate", evaluate(methods, json!({}))));
    for test_set in ["id", "ood"] {
        let kl = row(&table, "own", test_set, "kl");
        assert_eq!(
            (kl.figure.mean, kl.figure.low, kl.figure.high, kl.figure.n, kl.figure.kind),
            (0.0, 0.0, 0.0, 5, Kind::Exact)
        );
        // Of five inputs nothing can be said of the error.
        let kl = row(&table, "other", test_set, "kl");
        assert!(
            kl.figure.mean > 0.0
                && kl.figure.low.is_nan()
                && kl.figure.high.is_nan()
                && kl.figure.kind == Kind::NoneTooFew,
            "{kl:?}"
        );
    }
}

#[test]
fn the_distance_of_best_of_n_is_its_bound() {
    let config = json!({"policy": fixture().at("policy"), "reward_model": fixture().at("reward"),
        "dataset": fixture().at("dataset"), "n": 4,
        "sampling": {"max_new_tokens": 12}});
    let best = make("best_of_n", config);
    let made = make(
        "evaluate",
        evaluate(
            json!([{"name": "best", "outputs": best.reference(), "samples": best.reference()}]),
            json!({}),
        ),
    );
    assert!(
        (row(&table(&made), "best", "id", "kl").figure.mean - (4f64.ln() - 0.75)).abs() < 1e-12
    );
}

/// Outputs that are all this text.
fn answers(text: impl Fn(&Value) -> String) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let rows = [(70, "test/id"), (80, "test/ood")]
        .into_iter()
        .flat_map(|(first, split)| (first..first + 5).map(move |at| (split, example(at))));
    let row = |(split, example): (&str, Value)| {
        let output =
            json!({"text": text(&example), "tokens": [5, 1], "logprob": -1.0, "ended": true});
        json!({"split": split, "id": example["id"], "prompt": example["prompt"], "temperature": 1.0,
            "outputs": [output]})
    };
    write(&folder.path().join("samples.jsonl"), &jsonl(rows.map(row)));
    let reference = json!({"$path": folder.path()});
    (folder, reference)
}

#[test]
fn references_against_themselves_tie_and_better_texts_win() {
    let (_a, same) = answers(|example| example["completion"].as_str().unwrap().to_owned());
    let full = |example: &Value| {
        let fact = |slot: &str| example["facts"][slot].as_str().unwrap().to_owned();
        format!(
            " my {} {} my {} . {} , deadline {} . should i {} ?",
            fact("who"),
            fact("verb"),
            fact("obj"),
            fact("done"),
            fact("when"),
            fact("ask")
        )
    };
    let (_b, better) = answers(full);
    let (_c, worse) = answers(|_| " the the the".into());
    let methods: Vec<Value> = [("same", &same), ("better", &better), ("worse", &worse)]
        .map(|(name, folder)| json!({"name": name, "outputs": folder, "samples": folder}))
        .into();
    let table = table(&make("evaluate", evaluate(json!(methods), json!({}))));
    for (method, rate) in [("same", 0.5), ("better", 1.0), ("worse", 0.0)] {
        let wins = row(&table, method, "id", "win_rate");
        // Of five outcomes an interval is wide, whatever they are.
        assert!(
            wins.figure.mean == rate
                && wins.figure.low <= rate
                && rate <= wins.figure.high
                && wins.figure.high - wins.figure.low > 0.3,
            "{method}: {wins:?}"
        );
    }
    for metric in ["gold", "rm", "length", "rouge_l", "coverage"] {
        let [a, b] = ["same", "reference"].map(|method| row(&table, method, "ood", metric));
        assert_eq!(
            (a.figure.mean, a.figure.n, a.figure.kind),
            (b.figure.mean, b.figure.n, b.figure.kind),
            "{metric}"
        );
    }
    assert_eq!(row(&table, "better", "id", "coverage").figure.mean, 1.0);
    let ties = row(&table, "reference", "id", "win_rate");
    assert_eq!(
        (ties.figure.mean, ties.figure.low, ties.figure.high, ties.figure.kind),
        (0.5, 0.5, 0.5, Kind::Exact),
        "a text ties with itself"
    );
    let [a, b] = ["same", "reference"].map(|method| row(&table, method, "id", "ead_across_inputs"));
    assert_eq!(
        (a.figure.mean, a.figure.n, a.figure.kind),
        (b.figure.mean, b.figure.n, b.figure.kind)
    );
}

#[test]
fn every_documented_figure_is_there_with_its_interval() {
    let method = json!([{"name": "policy", "outputs": fixture().at("outputs"),
        "samples": fixture().at("samples")}]);
    let made =
        make("evaluate", evaluate(method, json!({"preferences": fixture().at("preferences")})));
    let table = table(&made);
    for metric in ["gold", "rm", "win_rate", "kl", "length", "ead_per_input", "ead_across_inputs"] {
        for test_set in ["id", "ood"] {
            let row = row(&table, "policy", test_set, metric);
            assert!(
                (row.figure.low <= row.figure.high || row.figure.kind == Kind::NoneTooFew)
                    && row.figure.mean.is_finite()
                    && row.figure.n == 5,
                "{row:?}"
            );
        }
    }
    // 3 pairs a test set, all of them clean: the ceiling is 1.
    let ceiling = row(&table, "reward_model", "id", "noise_ceiling");
    assert_eq!((ceiling.figure.mean, ceiling.figure.n), (1.0, 3));
    let (noisy, clean) = (
        row(&table, "reward_model", "id", "rm_accuracy"),
        row(&table, "reward_model", "id", "rm_accuracy_clean"),
    );
    assert_eq!(noisy.figure.mean, clean.figure.mean);
    let metrics: Vec<Value> = made.rows("metrics.jsonl");
    assert_eq!(
        metrics[0]["policy/id/gold"].as_f64(),
        Some(row(&table, "policy", "id", "gold").figure.mean)
    );
    for file in ["table.txt", "table.md"] {
        assert!(made.text(file).contains("win_rate"), "{file}");
    }
}

#[test]
fn methods_are_compared_with_one_another_and_between_test_sets() {
    let (_a, same) = answers(|example| example["completion"].as_str().unwrap().to_owned());
    let (_b, worse) = answers(|_| " the the the".into());
    let methods: Vec<Value> = [("worse", &worse), ("same", &same)]
        .map(|(name, folder)| json!({"name": name, "outputs": folder, "samples": folder}))
        .into();
    let made = make("evaluate", evaluate(json!(methods), json!({})));
    let (table, compared) =
        (table(&made), serde_json::from_str::<Value>(&made.text("comparisons.json")).unwrap());
    let found = |list: &str, keys: &[(&str, &str)]| {
        let all = compared[list].as_array().unwrap();
        all.iter()
            .find(|one| keys.iter().all(|(key, value)| one[key] == *value))
            .unwrap_or_else(|| panic!("{keys:?}: {compared}"))
            .clone()
    };
    let difference = found(
        "differences",
        &[("metric", "gold"), ("test_set", "id"), ("method", "same"), ("with", "worse")],
    );
    let gold = |method: &str, test_set: &str| row(&table, method, test_set, "gold").figure.mean;
    assert!(
        (difference["mean"].as_f64().unwrap() - (gold("same", "id") - gold("worse", "id"))).abs()
            < 1e-12
    );
    // Better on all of five inputs is 2 of 32 ways of the signs to fall. Two test sets are two
    // claims by gold.
    assert_eq!(difference["p"].as_f64(), Some(2.0 / 32.0));
    assert_eq!(
        (difference["p_holm"].as_f64(), &difference["interval"]),
        (Some(4.0 / 32.0), &json!("none_too_few"))
    );
    assert!(difference["low"].is_null() && difference["high"].is_null(), "{difference}");
    let gap =
        found("gaps", &[("metric", "gold"), ("method", "same"), ("from", "id"), ("to", "ood")]);
    assert!(
        (gap["mean"].as_f64().unwrap() - (gold("same", "id") - gold("same", "ood"))).abs() < 1e-12
    );
    for file in ["table.txt", "table.md"] {
        let text = made.text(file).split_whitespace().collect::<Vec<&str>>().join(" ");
        assert!(text.contains("same - worse") && text.contains("id - ood"), "{file}");
        assert!(
            text.contains(
                "a mean without an interval: fewer than 8 inputs (20 for a Vendi score, 40 for \
                 self-BLEU) tell nothing of its error"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "Too few inputs for any difference, however large, to be significant after Holm's \
                 correction: ead_per_input"
            ),
            "{text}"
        );
    }
}

#[test]
fn the_curve_of_best_of_n_ends_at_what_was_picked_and_rises_by_its_own_score() {
    let config = json!({"policy": fixture().at("policy"), "reward_model": fixture().at("reward"),
        "dataset": fixture().at("dataset"), "n": 4,
        "sampling": {"max_new_tokens": 12}});
    let best = make("best_of_n", config);
    let made = make(
        "evaluate",
        evaluate(
            json!([{"name": "best", "outputs": best.reference(), "samples": best.reference()}]),
            json!({}),
        ),
    );
    let curves: Vec<Value> = serde_json::from_str(&made.text("best_of_n.json")).unwrap();
    let of = |metric: &str| {
        let curve = curves
            .iter()
            .find(|curve| curve["test_set"] == "id" && curve["metric"] == metric)
            .unwrap();
        curve["by_n"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["mean"].as_f64().unwrap())
            .collect::<Vec<f64>>()
    };
    let rm = of("rm");
    assert!(rm.len() == 4 && rm.windows(2).all(|pair| pair[0] < pair[1]), "{rm:?}");
    // The best of all four is what the method answers with.
    assert!((of("gold")[3] - row(&table(&made), "best", "id", "gold").figure.mean).abs() < 1e-12);
    assert!((rm[3] - row(&table(&made), "best", "id", "rm").figure.mean).abs() < 1e-4);
}

#[test]
fn samples_that_share_their_candidates_are_warned_of() {
    let best = |pool: Option<usize>| {
        let config = json!({"policy": fixture().at("policy"),
            "reward_model": fixture().at("reward"), "dataset": fixture().at("dataset"), "n": 2,
            "outputs": 3, "pool": pool, "sampling": {"max_new_tokens": 12}});
        make("best_of_n", config)
    };
    let warned = |best: Made| {
        let made = make(
            "evaluate",
            evaluate(
                json!([{"name": "best", "outputs": best.reference(), "samples": best.reference()}]),
                json!({}),
            ),
        );
        made.warnings()
            .iter()
            .filter(|warning| warning.contains("candidates"))
            .map(|warning| warning.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        warned(best(Some(4))),
        ["method `best`: its 3 samples of an input, each the best of 2, share 4 candidates: they \
            look less diverse than best-of-2 is"]
    );
    assert!(warned(best(None)).is_empty());
}

#[test]
fn slots_that_are_hardly_ever_stated_are_warned_of() {
    let (_folder, silent) = answers(|_| " what ?".into());
    let made = make(
        "evaluate",
        evaluate(json!([{"name": "silent", "outputs": silent, "samples": silent}]), json!({})),
    );
    let warned: Vec<&str> = made.warnings();
    let expected = "method `silent`: hardly an answer in `id` covers `who` (0%), `verb` (0%), \
        `obj` (0%), `done` (0%), `when` (0%), `ask` (0%)";
    assert_eq!(warned, [expected], "in distribution only");
}

#[test]
fn the_reward_models_accuracy_is_measured_where_there_are_pairs_and_nowhere_is_a_mistake() {
    let (_folder, outputs) = answers(|_| " what ?".into());
    let config = |sets: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        for (test_set, of) in sets {
            let pairs =
                std::fs::read_to_string(fixture().path(&format!("preferences/test/{of}.jsonl")))
                    .unwrap();
            write(&folder.path().join(format!("test/{test_set}.jsonl")), &pairs);
        }
        let preferences = json!({"$path": folder.path()});
        (
            folder,
            evaluate(
                json!([{"name": "m", "outputs": outputs, "samples": outputs}]),
                json!({"preferences": preferences}),
            ),
        )
    };
    let (_some, some) = config(&[("id", "id")]);
    let made = make("evaluate", some);
    let measured: Vec<String> = table(&made)
        .rows
        .into_iter()
        .filter(|row| row.metric == "rm_accuracy")
        .map(|row| row.test_set)
        .collect();
    assert_eq!(measured, ["id"]);
    let warned = |warning: &&str| warning.contains("`preferences` has no pairs of `ood`");
    assert!(made.warnings().iter().any(warned), "{:?}", made.warnings());
    let (_none, none) = config(&[("elsewhere", "id")]);
    let message = refusal("evaluate", none);
    assert!(
        message.contains("no pairs of the test sets `id`, `ood`") && message.contains("elsewhere"),
        "{message}"
    );
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (_folder, good) = answers(|_| " what ?".into());
    let changed = |change: &dyn Fn(Vec<Sampled>) -> Vec<Sampled>| {
        let folder = tempfile::tempdir().unwrap();
        let rows =
            posttrain::data::samples::read(std::path::Path::new(good["$path"].as_str().unwrap()))
                .unwrap();
        posttrain::data::samples::write(folder.path(), &change(rows)).unwrap();
        let reference = json!({"$path": folder.path()});
        (folder, reference)
    };
    let method = |outputs: &Value, samples: &Value| {
        evaluate(json!([{"name": "m", "outputs": outputs, "samples": samples}]), json!({}))
    };
    let (_a, short) = changed(&|rows| rows.into_iter().filter(|row| row.id != "row-72").collect());
    let message = refusal("evaluate", method(&short, &good));
    assert!(
        message.contains("outputs of method `m` have no row `row-72` of split `test/id`"),
        "{message}"
    );
    let (_b, strange) = changed(&|rows| {
        rows.into_iter().map(|row| Sampled { prompt: format!("{} ", row.prompt), ..row }).collect()
    });
    assert!(refusal("evaluate", method(&strange, &good)).contains("have no row `row-70`"));
    let (_c, one_set) =
        changed(&|rows| rows.into_iter().filter(|row| row.split == "test/id").collect());
    let (_d, none) =
        changed(&|rows| rows.into_iter().map(|row| Sampled { id: "x".into(), ..row }).collect());
    let message = refusal("evaluate", method(&good, &none));
    let expected = "the samples of method `m` have no row of the test sets `id`, `ood`";
    assert!(message.contains(expected), "{message}");
    // Of one test set they may have none, which is said.
    let made = make("evaluate", method(&good, &one_set));
    let said = "Left out: `kl`, `diversity` of `m` on `ood`: its `samples` have no row of it.";
    assert!(made.warnings().contains(&said), "{:?}", made.warnings());
    assert!(unwrapped(&made, "table.txt").contains(said));
    let of_ood = |row: &&Row| row.test_set == "ood" && row.method == "m";
    let metrics: Vec<String> =
        table(&made).rows.iter().filter(of_ood).map(|row| row.metric.clone()).collect();
    assert!(metrics.contains(&"gold".into()) && !metrics.contains(&"kl".into()), "{metrics:?}");
    assert!(metrics.iter().all(|metric| !metric.starts_with("ead")), "{metrics:?}");
    // Fewer inputs than test rows are no mistake there.
    make("evaluate", method(&good, &short));
    let unknown = evaluate(
        json!([{"name": "m", "outputs": good, "samples": good}]),
        json!({"test_sets": ["id", "odd"]}),
    );
    let message = refusal("evaluate", unknown);
    assert!(message.contains("no split `test/odd`") && message.contains("test/ood"), "{message}");
}

#[test]
fn the_gold_judge_refuses_texts_of_another_world() {
    let folder = tempfile::tempdir().unwrap();
    let plain = |at| {
        let mut row = example(at);
        row.as_object_mut().unwrap().remove("facts");
        row
    };
    write(&folder.path().join("test/id.jsonl"), &jsonl((70..75).map(plain)));
    let (_answers, good) = answers(|_| " what ?".into());
    let config = |judge: &str| {
        evaluate(
            json!([{"name": "m", "outputs": good, "samples": good}]),
            json!({"dataset": {"$path": folder.path()}, "judge": judge}),
        )
    };
    let message = refusal("evaluate", config("gold"));
    assert!(
        message.contains("the gold judge knows only the synthetic world")
            && message.contains("judge: reward_model"),
        "{message}"
    );
    let made = make("evaluate", config("reward_model"));
    let said = "Left out: `gold`: its rows are of no synthetic world.";
    assert!(unwrapped(&made, "table.md").contains(said));
    let table = table(&made);
    assert!(table.rows.iter().all(|row| row.metric != "gold"), "no gold without facts");
    assert!(row(&table, "m", "id", "win_rate").figure.n == 5);
}

#[test]
fn a_reference_longer_than_the_context_is_refused_with_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let long = |at| {
        let mut row = example(at);
        if at == 72 {
            row["completion"] = json!(" word".repeat(30));
        }
        row
    };
    write(&folder.path().join("test/id.jsonl"), &jsonl((70..75).map(long)));
    let (_answers, good) = answers(|_| " what ?".into());
    let config = evaluate(
        json!([{"name": "m", "outputs": good, "samples": good}]),
        json!({"dataset": {"$path": folder.path()}}),
    );
    let message = refusal("evaluate", config);
    assert!(
        message.contains("in test set `id`")
            && message.contains("split `test/id`, row row-72: ")
            && message.contains("the reward model's context of 128")
            && message.contains("leave the rows out, or take a model with a longer context"),
        "{message}"
    );
}

/// Rows of a file that names them, two of which have long prompts, and answers to them.
fn long_rows() -> (tempfile::TempDir, Value, Value) {
    let folder = tempfile::tempdir().unwrap();
    let prompt = |at: usize| {
        let words = if at.is_multiple_of(2) { " so long".repeat(20) } else { String::new() };
        format!("row {at}{words} tl;dr:")
    };
    let row = |at: usize| {
        let origin = json!({"row": at + 1});
        json!({"id": format!("r{at}"), "prompt": prompt(at), "completion": " x", "origin": origin})
    };
    write(&folder.path().join("rows/test/id.jsonl"), &jsonl((0..4).map(row)));
    let output = json!({"text": " yes", "tokens": [5, 1], "logprob": -1.0, "ended": true});
    let answer = |at: usize| {
        json!({"split": "test/id", "id": format!("r{at}"), "prompt": prompt(at),
            "temperature": 1.0, "outputs": [output, output]})
    };
    write(&folder.path().join("answers/samples.jsonl"), &jsonl((0..4).map(answer)));
    let at = |name: &str| json!({"$path": folder.path().join(name)});
    let (rows, answers) = (at("rows"), at("answers"));
    (folder, rows, answers)
}

#[test]
fn rows_that_are_too_long_are_named_as_the_user_finds_them_all_at_once() {
    let (_folder, rows, answers) = long_rows();
    let measured = |more: Value| {
        let mut config = json!({"dataset": rows, "methods": [{"name": "m", "samples": answers}]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let judged = json!({"dataset": rows, "a": answers,
        "judge": {"reward_model": fixture().at("reward")}});
    let outputs = json!([{"name": "m", "outputs": answers}]);
    let reward = json!({"reward_model": fixture().at("reward"), "methods": outputs});
    for (kind, config, reader) in [
        ("evaluate", measured(reward), "the reward model"),
        (
            "evaluate",
            measured(json!({"reference_policy": fixture().at("policy")})),
            "the reference policy",
        ),
        ("judge", judged, "the reward model"),
    ] {
        let message = refusal(kind, config.clone());
        let begin = format!("2 rows of split `test/id` do not fit {reader}'s context of 128:");
        for words in [
            begin.as_str(),
            "row 1 of its file (`r0`): ",
            "row 3 of its file (`r2`): ",
            "set `max_prompt_tokens: ",
        ] {
            assert!(message.contains(words), "{kind}: {message}");
        }
        let mut cut = config;
        cut["max_prompt_tokens"] = json!(40);
        make(kind, cut);
    }
}

/// A text whose lines are joined.
fn unwrapped(made: &Made, file: &str) -> String {
    made.text(file).split_whitespace().collect::<Vec<&str>>().join(" ")
}

#[test]
fn diversity_is_measured_alone_and_what_a_method_lacks_is_named() {
    let (outputs, samples) = (fixture().at("outputs"), fixture().at("samples"));
    let with = |methods: Value, more: Value| {
        let mut config = json!({"dataset": fixture().at("dataset"), "methods": methods,
            "diversity": {"metrics": ["ead", "vendi"]}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        make("evaluate", config)
    };
    // Samples, and nothing else.
    let alone = with(json!([{"name": "a", "samples": samples}]), json!({}));
    let metrics: std::collections::BTreeSet<String> =
        table(&alone).rows.iter().map(|row| row.metric.clone()).collect();
    assert!(
        metrics.iter().all(|metric| metric.starts_with("ead_") || metric.starts_with("vendi_")),
        "{metrics:?}"
    );
    let whole = make(
        "evaluate",
        evaluate(
            json!([{"name": "a", "outputs": outputs, "samples": samples}]),
            json!({"diversity": {"metrics": ["ead", "vendi"]}}),
        ),
    );
    for row in table(&alone).rows {
        let same = self::row(&table(&whole), &row.method, &row.test_set, &row.metric).clone();
        assert_eq!(
            (row.figure.mean, row.figure.n),
            (same.figure.mean, same.figure.n),
            "{}",
            row.metric
        );
    }
    assert!(!whole.path("left_out.json").exists(), "{}", whole.text("table.txt"));
    assert!(!whole.text("table.txt").contains("Left out"));
    // Beside a method without samples.
    let methods = json!([{"name": "a", "samples": samples}, {"name": "b", "outputs": outputs}]);
    let made = with(methods, json!({}));
    let expected = [
        "Left out: `rm`: the evaluation has no `reward_model`.",
        "Left out: `win_rate`: the evaluation has no `judge`.",
        "Left out: `kl`: the evaluation has no `reference_policy`; best-of-n alone has a bound \
            without one.",
        "Left out: `gold`, `length`, `rouge_l` of `a`: it has no `outputs`.",
        "Left out: `diversity` of `b`: it has no `samples`.",
    ];
    for file in ["table.txt", "table.md"] {
        let text = unwrapped(&made, file);
        for sentence in expected {
            assert!(text.contains(sentence), "{file}: {text}");
        }
        assert_eq!(text.matches("Left out").count(), expected.len(), "{text}");
    }
    let left_out: Value = serde_json::from_str(&made.text("left_out.json")).unwrap();
    assert_eq!(
        left_out[4],
        json!({"figures": ["diversity"], "method": "b", "why": "it has no `samples`",
            "note": expected[4]})
    );
    let table = table(&made);
    assert!(
        row(&table, "b", "id", "gold").figure.n == 5
            && row(&table, "a", "id", "vendi_per_input").figure.n == 5
    );
    assert!(table.rows.iter().all(|row| row.figure.mean.is_finite()), "no figure is null");
    // Samples that were not drawn from the whole distribution have no KL.
    let greedy = make(
        "generate",
        json!({"policy": fixture().at("policy"), "dataset": fixture().at("dataset"),
            "sampling": {"temperature": 0.0, "max_new_tokens": 6}}),
    );
    let made = make(
        "evaluate",
        evaluate(
            json!([{"name": "m", "outputs": greedy.reference(), "samples": greedy.reference()}]),
            json!({}),
        ),
    );
    let said = "Left out: `kl` of `m`: its samples are greedy or of a cut distribution, which has \
        no KL.";
    assert!(unwrapped(&made, "table.txt").contains(said), "{}", made.text("table.txt"));
}

#[test]
fn tokens_that_the_reference_policy_does_not_have_are_refused() {
    let (folder, strange) = answers(|_| " what ?".into());
    let path = folder.path().join("samples.jsonl");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"tokens\":[5,1]", "\"tokens\":[5,4000,1]");
    write(&path, &text);
    let message = refusal(
        "evaluate",
        evaluate(json!([{"name": "m", "outputs": strange, "samples": strange}]), json!({})),
    );
    assert!(
        message.contains("there is no token 4000") && message.contains("another tokenizer"),
        "{message}"
    );
}
