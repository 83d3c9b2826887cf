//! Numbers of a user's program: what the stage `metric` makes of them, and that `evaluate`,
//! `over_seeds` and the report treat them as any other measure. The programs are lines of awk,
//! which cut the rows of these tests at quotes.

use posttrain::artefacts::metric::{Better, Summary, Valued};
use posttrain::artefacts::seeds::Figure;
use posttrain::artefacts::table::{Row, Table};
use posttrain::eval::interval::{Kind, of_share};
use posttrain::report::charts::charts;
use posttrain::report::run::{Evaluation, Run};
use posttrain::report::{formats, latex};
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{example, fixture, jsonl, write};

/// Inputs of a test set.
const INPUTS: usize = 12;

/// Prints the words of the first sample as `own`.
const WORDS: &str = r#"{n = split($16, w, " ");
    printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"own\":%d}}\n", $4, $8, n}"#;
/// Prints whether the first sample has more than three words.
const LONG: &str = r#"{n = split($16, w, " ");
    printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"share_long\":%d}}\n", $4, $8, (n > 3)}"#;
/// Prints the words of each sample, but `null` of the samples of the row `none`.
const EACH: &str = r#"{out = "";
    for (at = 16; at < NF; at += 2) {
        n = split($at, w, " ");
        out = out (at > 16 ? "," : "") ($8 == none ? "null" : n)}
    printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"own\":[%s]}}\n", $4, $8, out}"#;

fn awk(program: &str) -> Value {
    json!(["awk", "-F\"", program])
}

fn own() -> Value {
    json!({"own": {"description": "words of an answer", "unit": "words", "better": "lower"}})
}

fn with(mut config: Value, more: Value) -> Value {
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// The words of a first sample under `WORDS`.
fn words(samples: &Value) -> Made {
    make("metric", json!({"samples": samples, "run": awk(WORDS), "values": own()}))
}

fn share(samples: &Value) -> Made {
    let values = json!({"share_long": {"description": "answers of more than three words"}});
    make("metric", json!({"samples": samples, "run": awk(LONG), "values": values}))
}

/// A dataset of two test sets, and one answer of each method to each input, of 1 to 9 words.
struct Study(tempfile::TempDir);

const METHODS: [&str; 3] = ["base", "sft", "ppo"];

impl Study {
    fn new(seed: usize) -> Self {
        let study = Study(tempfile::tempdir().unwrap());
        for (set, first) in [("id", 100), ("ood", 200)] {
            let rows = (first..first + INPUTS).map(example);
            write(&study.path(&format!("dataset/test/{set}.jsonl")), &jsonl(rows));
        }
        for (place, method) in METHODS.iter().enumerate() {
            let row = |(split, at): (&str, usize)| {
                let more = (at * 7 + seed * 3 + place * place) % 6;
                let text = vec!["w"; 1 + place + more].join(" ");
                let output =
                    json!({"text": text, "tokens": [5, 1], "logprob": -1.0, "ended": true});
                let example = example(at);
                json!({"split": split, "id": example["id"], "prompt": example["prompt"],
                    "temperature": 1.0, "outputs": [output]})
            };
            let rows = [("test/id", 100), ("test/ood", 200)]
                .into_iter()
                .flat_map(|(split, first)| (first..first + INPUTS).map(move |at| (split, at)));
            write(&study.path(&format!("{method}/samples.jsonl")), &jsonl(rows.map(row)));
        }
        study
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn at(&self, name: &str) -> Value {
        json!({"$path": self.path(name)})
    }

    /// The evaluation, with the words and the share of long answers as metrics of the outputs.
    fn evaluated(&self) -> Made {
        let methods: Vec<Value> = METHODS
            .iter()
            .zip([None, Some("base"), Some("sft")])
            .map(|(name, after)| json!({"name": name, "outputs": self.at(name), "after": after}))
            .collect();
        let made: Vec<[Made; 2]> =
            METHODS.iter().map(|name| [words(&self.at(name)), share(&self.at(name))]).collect();
        let stages = |which: usize| {
            let of = METHODS
                .iter()
                .zip(&made)
                .map(|(name, made)| (name.to_string(), made[which].reference()));
            Value::Object(of.collect())
        };
        make(
            "evaluate",
            json!({"dataset": self.at("dataset"), "methods": methods, "metrics": {
                "own": {"of": "outputs", "methods": stages(0)},
                "share_long": {"of": "outputs", "methods": stages(1)}}}),
        )
    }
}

fn read(made: &Made, file: &str) -> Value {
    serde_json::from_str(&made.text(file)).unwrap()
}

fn table(made: &Made) -> Table {
    serde_json::from_str(&made.text("table.json")).unwrap()
}

/// The rows of a metric, under the name `own`, without those of the references.
fn rows(table: &Table, metric: &str) -> Vec<Row> {
    let of = table.rows.iter().filter(|row| row.metric == metric && row.method != "reference");
    of.map(|row| Row { metric: "own".into(), ..row.clone() }).collect()
}

/// The entries of a list that are of a metric, under the name `own`.
fn of(list: &Value, metric: &str) -> String {
    let all = list.as_array().unwrap().iter().filter(|one| one["metric"] == metric);
    let text = all.map(|one| format!("{one}\n")).collect::<String>();
    assert!(!text.is_empty(), "{metric}");
    text.replace(&format!("\"{metric}\""), "\"own\"")
}

/// The built-in `length` counts the words of an answer too: all that is made of the one is made of
/// the other, to the last bit.
#[test]
fn numbers_of_a_program_are_treated_as_those_of_the_built_in_measure() {
    let made = Study::new(0).evaluated();
    let table = table(&made);
    let own = rows(&table, "own");
    assert_eq!(own, rows(&table, "length"));
    assert_eq!(own.len(), METHODS.len() * 2);
    assert!(own.iter().all(|row| row.figure.n == INPUTS && row.figure.kind == Kind::SkewT));
    let comparisons = read(&made, "comparisons.json");
    for list in ["differences", "gaps", "gains"] {
        assert_eq!(of(&comparisons[list], "own"), of(&comparisons[list], "length"), "{list}");
    }
    let attribution = read(&made, "attribution.json");
    let changes = |metric: &str| of(&attribution, metric);
    assert_eq!(changes("own"), changes("length"));
    for input in made.rows::<Value>("inputs.jsonl") {
        for answer in input["answers"].as_array().unwrap() {
            let scores = &answer["scores"];
            let is_measured = answer["method"] != "reference";
            assert_eq!(scores.get("own"), is_measured.then_some(&scores["length"]), "{scores}");
        }
    }
}

#[test]
fn a_share_has_the_interval_of_a_share() {
    let study = Study::new(0);
    let made = study.evaluated();
    let table = table(&made);
    let inputs: Vec<Value> = made.rows("inputs.jsonl");
    for row in table.rows.iter().filter(|row| row.metric == "share_long") {
        let answers = inputs.iter().filter(|input| input["test_set"] == *row.test_set);
        let long = answers.map(|input| {
            let all = input["answers"].as_array().unwrap();
            let answer = all.iter().find(|answer| answer["method"] == *row.method).unwrap();
            f64::from(u8::from(answer["text"].as_str().unwrap().split(' ').count() > 3))
        });
        assert_eq!(row.figure, of_share(&long.collect::<Vec<f64>>()), "{row:?}");
        assert_eq!(row.figure.kind, Kind::Wilson);
    }
    let described = table.own("share_long").unwrap();
    assert_eq!((described.unit.as_str(), described.better), ("share", Better::Neither));
}

#[test]
fn every_format_says_what_the_numbers_are() {
    let made = Study::new(0).evaluated();
    let text = made.text("table.txt");
    assert!(text.contains("own \u{2193}: words of an answer; lower is better"), "{text}");
    assert!(text.contains("by own: one method minus another, paired"), "{text}");
    let evaluation = Evaluation {
        node: "evaluation".into(),
        table: table(&made),
        comparisons: serde_json::from_value(read(&made, "comparisons.json")).unwrap(),
        temperatures: serde_json::from_value(read(&made, "temperatures.json")).unwrap(),
        attributions: serde_json::from_value(read(&made, "attribution.json")).unwrap(),
        ..Evaluation::default()
    };
    let all = charts(&evaluation);
    let chart = |id: &str| {
        let id = format!("evaluation: {id}");
        all.iter().find(|chart| chart.id == id).unwrap_or_else(|| panic!("no chart {id}"))
    };
    assert_eq!(chart("bars own").note, "Words of an answer; lower is better.");
    let axis = &chart("bars own").layout["yaxis"]["title"]["text"];
    assert_eq!(axis, "own<br>(outputs at temperature 1)");
    assert_eq!(chart("attribution own base sft ppo").data.len(), 2);
    let run = Run { id: "r".into(), evaluations: vec![evaluation], ..Run::default() };
    let csv = formats::csv(&run);
    let result = csv.lines().find(|line| line.starts_with("evaluation,sft,id,own,")).unwrap();
    assert!(result.ends_with(",words,lower is better"), "{result}");
    let difference = csv.lines().find(|line| line.contains(",own,") && line.contains("difference"));
    assert!(difference.unwrap().ends_with(",words,"), "{difference:?}");
    let definition = "| `own` | words of an answer; lower is better | words | \
        docs/evaluation.md#metrics-of-your-own |";
    assert!(formats::markdown(&run).contains(definition));
    assert!(formats::html_definitions(&run).unwrap().contains("words of an answer"));
    let json: Value = serde_json::from_str(&formats::json(&run)).unwrap();
    assert_eq!(json["definitions"]["own"]["direction"], "lower_is_better");
    assert_eq!(json["evaluations"][0]["table"]["own"][0]["metric"], "own");
    let latex = latex::latex(&run);
    assert!(latex.contains("words of an answer") && latex.contains("own"), "{latex}");
}

/// Over seeds too, with either statistics, it is what it is of the built-in measure.
#[test]
fn numbers_go_over_seeds() {
    let seeds: Vec<Made> = [0, 1, 3].map(|seed| Study::new(seed).evaluated()).into();
    let evaluations: Vec<Value> = seeds.iter().map(Made::reference).collect();
    for statistics in ["basic", "full"] {
        let config = json!({"evaluations": evaluations, "statistics": statistics});
        let made = make("over_seeds", config);
        assert!(made.warnings().iter().all(|warning| !warning.contains("own")));
        let figures: Vec<Figure> = serde_json::from_value(read(&made, "seeds.json")).unwrap();
        let of = |metric: &str| -> Vec<String> {
            let is_of = |figure: &&Figure| {
                let names = [Some(&figure.method), figure.with.as_ref()];
                figure.metric == metric && !names.contains(&Some(&"reference".to_owned()))
            };
            let plain = |figure: &Figure| Figure {
                metric: "own".into(),
                p_holm: None,
                test: None,
                ..figure.clone()
            };
            let text = |figure: &Figure| serde_json::to_string(&plain(figure)).unwrap();
            figures.iter().filter(is_of).map(text).collect()
        };
        let own = of("own");
        assert_eq!(own, of("length"), "{statistics}");
        let differences = own.iter().filter(|figure| figure.contains("\"with\"")).count();
        assert!(own.len() > differences && differences >= 6, "{own:?}");
        let table = table(&made);
        assert_eq!(table.own("own").unwrap().description, "words of an answer");
        let text = made.text("table.txt");
        assert!(text.contains("own \u{2193}: words of an answer; lower is better"), "{text}");
    }
}

/// The fixture's samples, three of each input, measured sample by sample.
fn each(none: &str) -> Made {
    make(
        "metric",
        json!({"samples": fixture().at("samples"), "per": "sample",
            "run": ["awk", "-F\"", "-v", format!("none={none}"), EACH], "values": own()}),
    )
}

#[test]
fn inputs_without_a_number_are_in_no_mean_and_in_no_comparison() {
    let [whole, lacking] = ["-", "row-71"].map(each);
    let valued: Vec<Valued> = lacking.rows("values.jsonl");
    let samples: Vec<Value> = std::fs::read_to_string(fixture().path("samples/samples.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(valued.len(), samples.len());
    for (row, sampled) in valued.iter().zip(&samples) {
        let counts: Vec<f64> = sampled["outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|output| output["text"].as_str().unwrap().split_whitespace().count() as f64)
            .collect();
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let lacks = row.id == "row-71";
        assert_eq!(row.values["own"], (!lacks).then_some(mean), "{row:?}");
        let each: Vec<Option<f64>> =
            counts.into_iter().map(|count| (!lacks).then_some(count)).collect();
        assert_eq!(row.each["own"], each);
    }
    assert_eq!(lacking.warnings(), ["`own`: 1 of 5 rows of split `test/id` have no number"]);
    let summary: Summary = serde_json::from_value(read(&lacking, "metric.json")).unwrap();
    let id = &summary.values["own"].splits["test/id"];
    assert_eq!((id.inputs_without, id.samples_without, id.mean.unwrap().n), (1, Some(3), 4));
    assert_eq!(lacking.metric("test/id/own"), [id.mean.unwrap().mean]);

    let method = |name: &str| {
        json!({"name": name, "outputs": fixture().at("outputs"),
            "samples": fixture().at("samples")})
    };
    let config = json!({"dataset": fixture().at("dataset"),
        "methods": [method("whole"), method("lacking"), method("other")],
        "metrics": {"own": {"methods": {
            "whole": whole.reference(), "lacking": lacking.reference()}}}});
    let made = make("evaluate", config);
    let table = table(&made);
    let counts: Vec<(&str, &str, usize)> = table
        .rows
        .iter()
        .filter(|row| row.metric == "own")
        .map(|row| (row.method.as_str(), row.test_set.as_str(), row.figure.n))
        .collect();
    let wanted =
        [("whole", "id", 5), ("lacking", "id", 4), ("whole", "ood", 5), ("lacking", "ood", 5)];
    assert_eq!(counts, wanted);
    let comparisons = read(&made, "comparisons.json");
    let compared: Vec<(&str, u64, f64)> = comparisons["differences"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["metric"] == "own")
        .map(|one| {
            let set = one["test_set"].as_str().unwrap();
            (set, one["n"].as_u64().unwrap(), one["mean"].as_f64().unwrap())
        })
        .collect();
    assert_eq!(
        compared,
        [("id", 4, 0.0), ("ood", 5, 0.0)],
        "the same numbers, where both have one"
    );
    assert_eq!(table.own("own").unwrap().partial, ["id"]);
    let text = made.text("table.txt").replace("\n    ", " ");
    for sentence in [
        "Left out: `own` of `lacking` on `id`: 1 of 5 inputs have no such number.",
        "Left out: `own` of `other`: `metrics.own` has no stage that measured it.",
        "diversity and own are of samples at temperature 1",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
    // Over seeds, a difference of means over other inputs is none of the methods.
    let over = make("over_seeds", json!({"evaluations": [made.reference(), made.reference()]}));
    let told = "differences in `own` on `id` are not over all seeds";
    assert!(over.warnings().iter().any(|one| one.starts_with(told)), "{:?}", over.warnings());
    let figures: Vec<Figure> = serde_json::from_value(read(&over, "seeds.json")).unwrap();
    let differences = figures.iter().filter(|one| one.metric == "own" && one.with.is_some());
    assert_eq!(differences.map(|one| one.test_set.as_str()).collect::<Vec<_>>(), ["ood"]);
}

/// A number of all samples of an input together is compared where all have as many.
#[test]
fn a_number_of_an_input_is_compared_over_inputs_of_as_many_samples() {
    let count = r#"{printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"own\":%d}}\n",
        $4, $8, (NF - 15) / 2}"#;
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixture().path("samples/samples.jsonl")).unwrap();
    let fewer = text.lines().map(|line| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if row["id"] == "row-70" {
            row["outputs"].as_array_mut().unwrap().truncate(2);
        }
        row
    });
    write(&folder.path().join("samples.jsonl"), &jsonl(fewer));
    let samples = [fixture().at("samples"), json!({"$path": folder.path()})];
    let made = samples.each_ref().map(|samples| {
        make("metric", json!({"samples": samples, "run": awk(count), "values": own()}))
    });
    let methods: Vec<Value> = ["all", "fewer"]
        .iter()
        .zip(&samples)
        .map(|(name, samples)| json!({"name": name, "samples": samples}))
        .collect();
    let evaluated = make(
        "evaluate",
        json!({"dataset": fixture().at("dataset"), "methods": methods,
            "metrics": {"own": {"methods": {
                "all": made[0].reference(), "fewer": made[1].reference()}}}}),
    );
    let table = table(&evaluated);
    let means: Vec<(f64, usize)> = rows(&table, "own")
        .iter()
        .filter(|row| row.test_set == "id")
        .map(|row| (row.figure.mean, row.figure.n))
        .collect();
    assert_eq!(means, [(3.0, 5), (14.0 / 5.0, 5)]);
    let comparisons = read(&evaluated, "comparisons.json");
    let id = comparisons["differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| (&one["metric"], &one["test_set"]) == (&json!("own"), &json!("id")));
    assert_eq!((&id.unwrap()["n"], &id.unwrap()["mean"]), (&json!(4), &json!(0.0)));
}

#[test]
fn rows_have_their_references_where_there_is_a_dataset() {
    let program = r#"{n = split($16, w, " ");
        if ($14 != "reference" || $18 != "samples") exit 1;
        printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"own\":%d}}\n", $4, $8, n}"#;
    let config = json!({"samples": fixture().at("outputs"), "dataset": fixture().at("dataset"),
        "run": awk(program), "values": own()});
    let made = make("metric", config.clone());
    for row in made.rows::<Valued>("values.jsonl") {
        let at: usize = row.id.strip_prefix("row-").unwrap().parse().unwrap();
        let reference = example(at)["completion"].as_str().unwrap().to_owned();
        assert_eq!(row.values["own"], Some(reference.split_whitespace().count() as f64));
    }
    let without = with(config.clone(), json!({"dataset": null}));
    assert!(refusal("metric", without).contains("`awk` failed: exit status: 1"));
    let other = Study::new(0);
    let message = refusal("metric", with(config, json!({"dataset": other.at("dataset")})));
    assert!(
        message.contains("`dataset` has no row `row-70` in split `test/id` with the prompt"),
        "{message}"
    );
}

#[test]
fn a_program_that_fails_or_says_too_little_fails_the_stage() {
    let run = |run: Value| {
        refusal("metric", json!({"samples": fixture().at("outputs"), "run": run, "values": own()}))
    };
    assert!(run(json!(["true"])).contains("`true` printed no line for 10 of 10 rows"));
    assert!(run(json!(["false"])).contains("`false` failed: exit status: 1"));
    assert!(run(json!(["no-such-program"])).contains("there is no program `no-such-program`"));
    let message = run(json!(["sh", "-c", "head -n 1"]));
    assert!(message.contains("line 1 that `sh` printed: it has a field `prompt`"), "{message}");
    let message = run(awk(&format!("NR < 4 {WORDS}")));
    assert!(message.contains("no line for 7 of 10 rows, the first of which is row `row-73`"));
    assert!(message.contains("\"values\": {\"own\": NUMBER}"), "{message}");
    // What it prints to standard error is no answer, and rows that it does not read are no fault.
    let all = r#"{printf "{\"split\":\"%s\",\"id\":\"%s\",\"values\":{\"own\":1}}\n", $4, $8;
        print "read" > "/dev/stderr"}"#;
    let config = json!({"samples": fixture().at("outputs"), "run": awk(all), "values": own()});
    assert_eq!(make("metric", config).rows::<Valued>("values.jsonl").len(), 10);
}

#[test]
fn names_and_descriptions_are_checked() {
    let of = |values: Value| -> Vec<String> {
        let config = json!({"samples": fixture().at("outputs"), "run": ["true"], "values": values});
        let found = problems("metric", config).into_iter();
        found.map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
    };
    let named = |name: &str| of(json!({name: {"description": "d"}}));
    assert_eq!(named("own"), [""; 0]);
    assert_eq!(of(json!({})), ["values: expected at least one number"]);
    for name in ["gold", "length", "win_rate_x", "loss_x", "x_gap", "x_per_input", "kl"] {
        let message = format!(
            "values.{name}: `{name}` is, or may be, a measure of `evaluate`: take another name"
        );
        assert_eq!(named(name), [message]);
    }
    for name in ["Own", "1st", "a b", "", "a-b"] {
        assert!(named(name)[0].contains("expected a name of small letters"), "{name}");
    }
    let told = of(json!({"own": {"description": " ", "unit": "a\nb"}}));
    assert_eq!(
        told,
        [
            "values.own.description: expected what the number measures, in one line",
            "values.own.unit: expected a unit in one line"
        ]
    );
}

#[test]
fn an_evaluation_refuses_numbers_that_are_not_of_its_methods() {
    let outputs = words(&fixture().at("outputs"));
    let method = json!({"name": "policy", "outputs": fixture().at("outputs"),
        "samples": fixture().at("samples")});
    let dataset = fixture().at("dataset");
    let evaluation =
        |metrics: Value| json!({"dataset": dataset, "methods": [method], "metrics": metrics});
    let of = |name: &str, of: &str, method: &str| {
        let config = json!({"of": of, "methods": {method: outputs.reference()}});
        evaluation(json!({name: config}))
    };
    let message = refusal("evaluate", of("own", "samples", "policy"));
    let wanted = "`metrics.own.methods.policy` has not measured the 3 `samples` of row `row-70` of \
        split `test/id`";
    assert!(message.contains(wanted), "{message}");
    let message = refusal("evaluate", of("other", "outputs", "policy"));
    assert!(message.contains("`metrics.other.methods.policy` has no number `other`"), "{message}");
    assert!(message.contains("it has: own"), "{message}");
    let found = problems("evaluate", of("own", "outputs", "nobody"));
    assert_eq!(found[0].message, "there is no method `nobody` with `outputs`");
    assert_eq!(found[0].field, "metrics.own.methods");
    let found = problems("evaluate", evaluation(json!({"own": {"methods": {}}})));
    assert_eq!(found[0].message, "expected at least one method");

    let values = json!({"own": {"description": "something else", "unit": "words"}});
    let other = make(
        "metric",
        json!({"samples": fixture().at("outputs"), "run": awk(WORDS), "values": values}),
    );
    let two = with(
        evaluation(json!({"own": {"of": "outputs",
            "methods": {"policy": outputs.reference(), "second": other.reference()}}})),
        json!({"methods": [method, {"name": "second", "outputs": fixture().at("outputs")}]}),
    );
    let message = refusal("evaluate", two);
    assert!(message.contains("describes `own` otherwise than that of `policy`"), "{message}");
}
