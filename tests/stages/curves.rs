//! What `evaluate` leaves beside its table (curves against KL, every measure of diversity,
//! calibration of the reward model), and what `over_seeds` makes of several evaluations.

use posttrain::artefacts::table::Table;
use posttrain::data::rows::Example;
use posttrain::data::samples::Sampled;
use posttrain::eval::best_of_n::kl_bound;
use posttrain::world;
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::fixture;
use crate::cli::place::Place;

fn evaluate(more: Value) -> Value {
    let mut config = json!({"dataset": fixture().at("dataset"),
        "reward_model": fixture().at("reward"), "reference_policy": fixture().at("policy"),
        "judge": "gold", "methods": [{"name": "policy", "outputs": fixture().at("outputs"),
            "samples": fixture().at("samples")}]});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn json(made: &Made, file: &str) -> Value {
    serde_json::from_str(&made.text(file)).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_metric_that_is_asked_for_is_measured_whole_and_cut() {
    let metrics = [
        "ead",
        "ead_tokenizer",
        "distinct",
        "entropy",
        "self_bleu",
        "vendi",
        "compression",
        "length",
    ];
    let made = make("evaluate", evaluate(json!({"diversity": {"metrics": metrics}})));
    let table: Table = serde_json::from_str(&made.text("table.json")).unwrap();
    let all = json(&made, "diversity.json");
    let policy = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["method"] == "policy" && one["test_set"] == "id")
        .unwrap();
    for metric in metrics {
        for suffix in ["", "_matched"] {
            let spread = &policy["metrics"][format!("{metric}{suffix}")];
            let across = &spread["across_inputs"];
            let ways = [
                ("per_input", &spread["per_input"]["mean"]),
                ("across_inputs", &across["mean"]),
                ("across_inputs_first", &across["first"]),
            ];
            for (way, mean) in ways {
                let name = format!("{metric}_{way}{suffix}");
                let row = table
                    .rows
                    .iter()
                    .find(|row| {
                        row.method == "policy" && row.test_set == "id" && row.metric == name
                    })
                    .unwrap();
                assert_eq!(row.figure.mean, number(mean), "{name}");
            }
        }
    }
    assert!(
        number(&policy["metrics"]["length_matched"]["per_input"]["mean"])
            <= number(&policy["matched_length"])
    );
    let found =
        problems("evaluate", evaluate(json!({"diversity": {"metrics": ["ead", "embedding"]}})));
    assert_eq!(
        (found[0].field.as_str(), found[0].message.as_str()),
        ("diversity.metrics", "`embedding` needs `encoder`")
    );
}

/// The same samples under `posttrain diversity`: each figure is the one that its name says.
#[test]
fn the_table_has_the_figures_of_the_command_under_their_names() {
    let made = make(
        "evaluate",
        evaluate(json!({"diversity": {"metrics": ["ead", "self_bleu", "vendi"]}})),
    );
    let table: Table = serde_json::from_str(&made.text("table.json")).unwrap();
    let samples = fixture().at("samples")["$path"].as_str().unwrap().to_owned() + "/samples.jsonl";
    for test_set in ["id", "ood"] {
        let all = json(&made, "diversity.json");
        let own = all
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["method"] == "policy" && one["test_set"] == test_set)
            .unwrap();
        let (length, split) = (own["matched_length"].to_string(), format!("test/{test_set}"));
        let said = Place::new("").good(&[
            "diversity",
            "--input",
            &samples,
            "--split",
            &split,
            "--length",
            &length,
            "--metrics",
            "ead,self_bleu,vendi",
            "--json",
        ]);
        let found: Value = serde_json::from_str(&said.out).unwrap();
        for (metric, suffix) in ["ead", "self_bleu", "vendi"]
            .iter()
            .flat_map(|metric| [(metric, ""), (metric, "_matched")])
        {
            let spread = &found[format!("{metric}{suffix}")];
            for (way, kind, place) in [
                ("per_input", "per_input", "mean"),
                ("across_inputs", "across_inputs", "mean"),
                ("across_inputs_first", "across_inputs", "first"),
            ] {
                let name = format!("{metric}_{way}{suffix}");
                let row = table.rows.iter().find(|row| {
                    row.method == "policy" && row.test_set == test_set && row.metric == name
                });
                assert_eq!(
                    row.map(|row| row.figure.mean),
                    spread[kind][place].as_f64(),
                    "{name} of {test_set}"
                );
            }
        }
        // The fixture tells the two apart.
        assert_ne!(found["ead"]["across_inputs"]["first"], found["ead"]["across_inputs"]["mean"]);
    }
}

#[test]
fn calibration_and_confidence_cover_all_pairs() {
    let made = make("evaluate", evaluate(json!({"preferences": fixture().at("preferences")})));
    let found = json(&made, "reward_model.json");
    let id = &found[0];
    assert_eq!((&id["test_set"], &id["accuracy"]["n"]), (&json!("id"), &json!(3)));
    for bins in [&id["by_confidence"], &id["calibration"]["bins"]] {
        let bins = bins.as_array().unwrap();
        let pairs: f64 = bins.iter().map(|bin| number(&bin["accuracy"]["n"])).sum();
        let right: f64 = bins
            .iter()
            .map(|bin| number(&bin["accuracy"]["n"]) * number(&bin["accuracy"]["mean"]))
            .sum();
        assert_eq!(pairs, 3.0);
        assert!((right / pairs - number(&id["accuracy"]["mean"])).abs() < 1e-12);
    }
    assert!(number(&id["calibration"]["log_loss"]) > 0.0 && id["by_source"] == json!({}));
}

#[test]
fn a_policy_is_compared_with_best_of_n_at_its_own_distance() {
    let sampling = json!({"max_new_tokens": 12});
    let best_of = |n: usize| {
        let config = json!({"policy": fixture().at("policy"),
            "reward_model": fixture().at("reward"), "dataset": fixture().at("dataset"), "n": n,
            "outputs": 2, "sampling": sampling});
        make("best_of_n", config)
    };
    let other = |samples: usize| {
        let config = json!({"policy": fixture().at("other"), "dataset": fixture().at("dataset"),
            "samples": samples, "sampling": sampling});
        make("generate", config)
    };
    let (more, other) = (other(3), other(2));
    // Best of 1 goes nowhere: nothing is matched beyond its distance.
    let one = best_of(1);
    let beside = |best: &Made, name: &str, other: &Made, policy: Value| {
        let mut own =
            json!({"name": name, "outputs": other.reference(), "samples": other.reference()});
        if !policy.is_null() {
            own["policy"] = policy;
        }
        json!([{"name": "best", "outputs": best.reference(), "samples": best.reference()}, own])
    };
    let trained = || fixture().at("other");
    let methods = beside(&one, "other", &other, trained());
    let near = make("evaluate", evaluate(json!({"methods": methods})));
    let table: Table = serde_json::from_str(&near.text("table.json")).unwrap();
    let kl = table
        .rows
        .iter()
        .find(|row| (&*row.method, &*row.test_set, &*row.metric) == ("other", "id", "kl"))
        .unwrap()
        .figure
        .mean;
    let near = json(&near, "comparisons.json");
    let own: Vec<&Value> =
        near["matched"].as_array().unwrap().iter().filter(|one| one["test_set"] == "id").collect();
    assert!(kl > 0.0 && own.is_empty(), "no n of 1 goes {kl} nats: {near}");
    let n = (2..1000)
        .find(|n| kl_bound(*n) >= kl)
        .unwrap_or_else(|| panic!("{kl} nats are out of reach"));
    let best = best_of(n);
    let methods = beside(&best, "other", &other, trained());
    let made = make("evaluate", evaluate(json!({"methods": methods})));
    let table: Table = serde_json::from_str(&made.text("table.json")).unwrap();
    let unlike = beside(&best, "other", &more, trained());
    let unlike = json(&make("evaluate", evaluate(json!({"methods": unlike}))), "comparisons.json");
    let mean = |method: &str, metric: &str| {
        table
            .rows
            .iter()
            .find(|row| row.method == method && row.test_set == "id" && row.metric == metric)
            .unwrap()
            .figure
            .mean
    };
    let (compared, curves) = (json(&made, "comparisons.json"), json(&made, "best_of_n.json"));
    assert_eq!(mean("other", "kl"), kl);
    let bounds: Vec<f64> = curves[0]["kl_bound"].as_array().unwrap().iter().map(number).collect();
    let matched: Vec<&Value> = compared["matched"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["test_set"] == "id")
        .collect();
    let gold = matched.iter().find(|one| one["metric"] == "gold").unwrap();
    let curve = curves
        .as_array()
        .unwrap()
        .iter()
        .find(|curve| curve["test_set"] == "id" && curve["metric"] == "gold")
        .unwrap();
    let by_n: Vec<f64> =
        curve["by_n"].as_array().unwrap().iter().map(|point| number(&point["mean"])).collect();
    let at = (1..n).find(|at| bounds[*at] >= kl).unwrap();
    let there = by_n[at - 1]
        + (kl - bounds[at - 1]) / (bounds[at] - bounds[at - 1]) * (by_n[at] - by_n[at - 1]);
    assert_eq!(
        (&gold["method"], &gold["with"], number(&gold["kl"])),
        (&json!("other"), &json!("best"), kl)
    );
    // KL, gold and best-of-n are of the same samples, not of the first output of each input.
    let rows: Vec<Sampled> = other.rows("samples.jsonl");
    let examples = std::fs::read_to_string(fixture().path("dataset/test/id.jsonl")).unwrap();
    let golds = examples.lines().map(|line| serde_json::from_str::<Example>(line).unwrap()).map(
        |example| {
            let row =
                rows.iter().find(|row| row.split == "test/id" && row.id == example.id).unwrap();
            let golds = row
                .outputs
                .iter()
                .map(|output| world::gold(&example, &output.text, output.ended).unwrap().score);
            golds.sum::<f64>() / row.outputs.len() as f64
        },
    );
    let own = golds.sum::<f64>() / 5.0;
    assert!(
        (number(&gold["own"]) - own).abs() < 1e-9 && (number(&gold["best"]) - there).abs() < 1e-9,
        "{gold}"
    );
    assert!((number(&gold["mean"]) - (own - there)).abs() < 1e-9, "{gold}");
    assert_eq!((&gold["temperature"], number(&gold["kl_interval"]["mean"])), (&json!(1.0), kl));
    let diverse = matched.iter().find(|one| one["metric"] == "ead_per_input").unwrap();
    let curve = curves
        .as_array()
        .unwrap()
        .iter()
        .find(|curve| curve["test_set"] == "id" && curve["metric"] == "ead_per_input")
        .unwrap();
    let [low, high] = [at - 1, at].map(|at| number(&curve["by_n"][at]["mean"]));
    let there = low + (kl - bounds[at - 1]) / (bounds[at] - bounds[at - 1]) * (high - low);
    assert!(
        (number(&diverse["mean"]) - (mean("other", "ead_per_input") - there)).abs() < 1e-9,
        "{diverse}"
    );
    // As many samples an input, and their diversity is compared, input by input; three are not
    // beside two.
    let spread = |compared: &Value, what: &str| {
        let own = compared[what]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["metric"] == "ead_per_input");
        own.map(|one| (one["test_set"].clone(), number(&one["mean"]))).collect::<Vec<_>>()
    };
    let differences = spread(&compared, "differences");
    assert!(
        (differences[0].1 - (mean("other", "ead_per_input") - mean("best", "ead_per_input"))).abs()
            < 1e-12,
        "{differences:?}"
    );
    // What was not trained by reinforcement is not compared at equal KL, however far it is; nor are
    // samples of another temperature.
    let cooler = {
        let sampling = json!({"max_new_tokens": 12, "temperature": 0.7});
        let config = json!({"policy": fixture().at("other"), "dataset": fixture().at("dataset"),
            "samples": 2, "sampling": sampling});
        make("generate", config)
    };
    for (other, policy) in [(&other, Value::Null), (&cooler, trained())] {
        let compared = json(
            &make("evaluate", evaluate(json!({"methods": beside(&best, "base", other, policy)}))),
            "comparisons.json",
        );
        assert_eq!(compared["matched"], json!([]));
    }
    assert!(
        spread(&unlike, "differences").is_empty()
            && spread(&unlike, "matched").is_empty()
            && spread(&unlike, "gaps").is_empty()
    );
    let wins = compared["head_to_head"].as_array().unwrap();
    let wins = wins.iter().find(|one| one["metric"] == "rm" && one["test_set"] == "id").unwrap();
    assert!(
        (0.0..=1.0).contains(&number(&wins["mean"]))
            && wins["method"] == "other"
            && wins["with"] == "best"
    );
    // Diversity for n = N is that of the samples themselves.
    let diverse = curves
        .as_array()
        .unwrap()
        .iter()
        .find(|curve| curve["test_set"] == "id" && curve["metric"] == "ead_per_input")
        .unwrap();
    assert!(
        (number(&diverse["by_n"][n - 1]["mean"]) - mean("best", "ead_per_input")).abs() < 1e-12,
        "{diverse}"
    );
}

#[test]
fn the_training_of_a_policy_is_told_step_by_step() {
    let optimiser = json!({"learning_rate": 0.01,
        "schedule": {"shape": "linear", "warmup": {"steps": 1}, "final_ratio": 0.1}});
    let config = |field: &str, value: Value| {
        let mut config = json!({"policy": fixture().at("policy"),
            "reward_model": fixture().at("reward"), "dataset": fixture().at("dataset"), "steps": 3,
            "batch_size": 4, "minibatches": 2, "epochs": 2, "max_new_tokens": 12,
            "kl": {"coef": 0.05}, "optimiser": optimiser,
            "conventions": {"missing_eos": {"subtract": 2.0}}});
        config[field] = value;
        config
    };
    let ppo = make("ppo", config("record", json!([2])));
    let again = make("ppo", config("replay", json!({"of": ppo.reference(), "step": 2})));
    let method = |name: &str, policy: Value| {
        json!({"name": name, "outputs": fixture().at("outputs"),
            "samples": fixture().at("samples"), "policy": policy})
    };
    let methods = json!([
        method("ppo", ppo.reference()),
        method("sft", fixture().at("policy")),
        method("again", again.reference())
    ]);
    let found =
        json(&make("evaluate", evaluate(json!({"methods": methods}))), "over_optimisation.json");
    assert_eq!(
        (found.as_array().unwrap().len(), &found[0]["method"], &found[1]["method"]),
        (2, &json!("ppo"), &json!("again")),
        "two of them have rollouts"
    );
    assert_eq!(found[1]["steps"], json!([found[0]["steps"][1]]), "a replay has its own step");
    let steps = found[0]["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| number(&step["step"])).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
    assert_eq!(number(&steps[0]["kl"]["mean"]), 0.0, "the first rollouts are the reference's own");
    assert!(steps.iter().all(|step| step["gold"]["n"] == 4 && step["rm"]["n"] == 4), "{found}");
    let metrics = ppo.rows("metrics.jsonl");
    let metrics: &[Value] = &metrics;
    for (step, metrics) in steps.iter().zip(metrics) {
        // What was optimised, and what the reward model said.
        for (name, metric) in [("rm", "objective/scores"), ("raw_rm", "objective/raw_scores")] {
            assert!(
                (number(&step[name]["mean"]) - number(&metrics[metric])).abs() < 1e-5,
                "{name}: {step} and {metrics}"
            );
        }
        assert!(
            number(&step["rm"]["mean"]) < number(&step["raw_rm"]["mean"]),
            "responses are cut: {step}"
        );
    }
}

#[test]
fn evaluations_of_several_seeds_are_one_table() {
    let one = |gold: [f64; 2]| {
        let folder = tempfile::tempdir().unwrap();
        let row = |method: &str, mean: f64| json!({"method": method, "test_set": "id", "metric": "gold", "mean": mean, "low": mean, "high": mean, "n": 5});
        let table = json!({"rows": [row("sft", gold[0]), row("ppo", gold[1])]});
        std::fs::write(folder.path().join("table.json"), table.to_string()).unwrap();
        let reference = json!({"$path": folder.path()});
        (folder, reference)
    };
    let (seeds, other) =
        ([one([0.1, 0.5]), one([0.3, 0.8]), one([0.2, 0.5])], tempfile::tempdir().unwrap());
    let references: Vec<&Value> = seeds.iter().map(|(_, reference)| reference).collect();
    let made = make("over_seeds", json!({"evaluations": references}));
    let found = json(&made, "seeds.json");
    let figure = |method: &str, with: Value| {
        let found = found.as_array().unwrap().iter();
        found
            .filter(|one| one["method"] == method && one["with"] == with)
            .map(|one| (number(&one["mean"]), number(&one["std"])))
            .next()
            .unwrap()
    };
    let close = |(mean, std): (f64, f64), expected: (f64, f64)| {
        (mean - expected.0).abs() < 1e-12 && (std - expected.1).abs() < 1e-12
    };
    assert!(close(figure("sft", Value::Null), (0.2, 0.1)), "{found}");
    // Differences 0.4, 0.5, 0.3.
    assert!(close(figure("ppo", json!("sft")), (0.4, 0.1)), "{found}");
    let all = found.as_array().unwrap();
    assert_eq!(
        all[0]["over_inputs"],
        json!([[0.1, 0.1], [0.3, 0.3], [0.2, 0.2]]),
        "each seed's own interval over inputs"
    );
    // A family of one: its p value stays as it is.
    assert!(
        all[2]["over_inputs"].is_null()
            && all[2]["p"] == all[2]["p_holm"]
            && all[0]["p_holm"].is_null(),
        "{found}"
    );
    let text = made.text("table.txt").split_whitespace().collect::<Vec<&str>>().join(" ");
    assert!(
        text.contains("Student's t over seeds of training; 3 seeds a cell")
            && text.contains("ppo - sft"),
        "{text}"
    );
    std::fs::write(other.path().join("table.json"), "{\"rows\":[]}").unwrap();
    let message =
        refusal("over_seeds", json!({"evaluations": [references[0], {"$path": other.path()}]}));
    assert!(
        message.contains("evaluations 1 and 2 measured different things")
            && message.contains("`gold`"),
        "{message}"
    );
    assert_eq!(
        problems("over_seeds", json!({"evaluations": [references[0]]})).len(),
        1,
        "one seed has no spread"
    );
    // Every point of a matrix: how many there are, only the run knows.
    let all = json!([{"$stage": "evaluation[*]", "kind": "evaluation"}]);
    assert_eq!(problems("over_seeds", json!({"evaluations": all})).len(), 0);
}
