//! `distributions` of `evaluate`: entropies, branching factors and forward KLs against softmaxes in
//! float64 of logits, computed here; what is left out, and what is refused.

use std::collections::BTreeMap;

use posttrain::artefacts::distributions::{ByPosition, DISTRIBUTIONS};
use posttrain::artefacts::inputs::Input;
use posttrain::artefacts::table::{Row, Table};
use posttrain::backend::Buffers;
use posttrain::backend::cpu::Cpu;
use posttrain::data::samples::{self, Sampled};
use posttrain::eval::compare::Difference;
use posttrain::eval::interval::{Interval, Kind};
use posttrain::model::batch::Batch;
use posttrain::model::weights::Model;
use posttrain::model::{checkpoint, heads, transformer};
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{EOS, encode, example, fixture, jsonl, prompt, summary, write};
use crate::cli::place::Place;

/// Rows of the test set, from 70 on: enough for intervals.
const ROWS: usize = 9;
const TEMPERATURE: f64 = 0.7;

/// A dataset with one test set of [`ROWS`] rows.
fn dataset() -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("test/id.jsonl"), &jsonl((70..70 + ROWS).map(example)));
    let reference = json!({"$path": folder.path()});
    (folder, reference)
}

fn generated(dataset: &Value, policy: &str, samples: usize, sampling: Value) -> Made {
    make(
        "generate",
        json!({"policy": fixture().at(policy), "dataset": dataset, "samples": samples,
            "sampling": sampling}),
    )
}

fn sampled(dataset: &Value, policy: &str) -> Made {
    generated(dataset, policy, 3, json!({"max_new_tokens": 8, "temperature": TEMPERATURE}))
}

fn evaluate(dataset: &Value, methods: Value, distributions: Value) -> Value {
    json!({"dataset": dataset, "reference_policy": fixture().at("policy"), "methods": methods,
        "distributions": distributions})
}

fn rows(made: &Made) -> Vec<Sampled> {
    samples::read(made.path("").as_path()).unwrap()
}

/// At each token of a response, the log-probabilities of all tokens at a temperature.
fn distributions(model: &str, row: &Sampled, tokens: &[u32], temperature: f64) -> Vec<Vec<f64>> {
    let checkpoint = checkpoint::load(&fixture().path(model)).unwrap();
    let b = Cpu::<f32>::new();
    let model = Model::upload(&b, checkpoint.spec.clone(), checkpoint.head, checkpoint.params);
    let prompt = encode(&row.prompt);
    let (whole, v) = ([prompt.as_slice(), tokens].concat(), model.spec.vocabulary);
    let hidden = transformer::hidden(&b, &model, &Batch::new(&[&whole]));
    let logits = b.download_f64(&heads::logits(&b, &model, &hidden, whole.len()));
    let of_row = |at: usize| -> Vec<f64> {
        let own = logits[at * v..(at + 1) * v].iter().map(|logit| logit / temperature);
        let own: Vec<f64> = own.collect();
        let most = own.iter().copied().fold(f64::MIN, f64::max);
        let sum = own.iter().map(|logit| (logit - most).exp()).sum::<f64>().ln() + most;
        own.iter().map(|logit| logit - sum).collect()
    };
    (0..tokens.len()).map(|at| of_row(prompt.len() - 1 + at)).collect()
}

fn entropy(logprobs: &[f64]) -> f64 {
    -logprobs.iter().map(|logprob| logprob.exp() * logprob).sum::<f64>()
}

/// The entropies at the tokens of each sample of each row.
fn entropies(model: &str, rows: &[Sampled]) -> Vec<Vec<Vec<f64>>> {
    let of_tokens = |row: &Sampled, tokens: &[u32]| -> Vec<f64> {
        distributions(model, row, tokens, TEMPERATURE).iter().map(|own| entropy(own)).collect()
    };
    let of_row = |row: &Sampled| {
        row.outputs.iter().map(|output| of_tokens(row, &output.tokens)).collect::<Vec<_>>()
    };
    rows.iter().map(of_row).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn table(made: &Made) -> Table {
    serde_json::from_str(&made.text("table.json")).unwrap()
}

fn figure(table: &Table, method: &str, metric: &str) -> Interval {
    let found = |row: &&Row| row.method == method && row.metric == metric;
    table.rows.iter().find(found).unwrap_or_else(|| panic!("{metric} of {method}")).figure
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 2e-5 * expected.abs().max(1.0), "{found} for {expected}");
}

#[test]
fn entropies_and_the_forward_kl_are_those_of_the_softmax_of_the_logits() {
    let (_folder, dataset) = dataset();
    let [own, other] = ["policy", "other"].map(|policy| sampled(&dataset, policy));
    let methods = json!([
        {"name": "own", "outputs": own.reference(), "samples": own.reference(),
            "model": fixture().at("policy")},
        {"name": "other", "samples": other.reference(), "policy": fixture().at("other")}]);
    let config = json!({"reference_samples": own.reference()});
    let made = make("evaluate", evaluate(&dataset, methods, config));
    let (table, curves) = (table(&made), made.text(DISTRIBUTIONS));
    let curves: Vec<ByPosition> = serde_json::from_str(&curves).unwrap();
    assert_eq!(curves.len(), 2);
    let mut by_input = BTreeMap::new();
    for ((name, model, made), curve) in
        [("own", "policy", &own), ("other", "other", &other)].into_iter().zip(&curves)
    {
        let expected = entropies(model, &rows(made));
        let of_inputs: Vec<f64> = expected.iter().map(|samples| mean(&samples.concat())).collect();
        let found = figure(&table, name, "token_entropy");
        close(found.mean, mean(&of_inputs));
        assert_eq!((found.n, found.kind), (ROWS, Kind::SkewT));
        let branching = figure(&table, name, "branching_factor");
        for (found, entropy) in
            [(branching.mean, found.mean), (branching.low, found.low), (branching.high, found.high)]
        {
            assert!((found - entropy.exp()).abs() < 1e-12);
        }
        assert_eq!((curve.method.as_str(), curve.temperature), (name, TEMPERATURE));
        assert!(curve.by_position.len() > 2);
        for (at, point) in curve.by_position.iter().enumerate() {
            let of_input = |samples: &Vec<Vec<f64>>| {
                let own: Vec<f64> =
                    samples.iter().filter_map(|tokens| tokens.get(at).copied()).collect();
                (!own.is_empty()).then(|| mean(&own))
            };
            let values: Vec<f64> = expected.iter().filter_map(of_input).collect();
            close(point.mean, mean(&values).exp());
            assert!(point.n == values.len() && point.n >= 8);
        }
        by_input.insert(name, of_inputs);
    }
    let compared: Value = serde_json::from_str(&made.text("comparisons.json")).unwrap();
    let differences: Vec<Difference> =
        serde_json::from_value(compared["differences"].clone()).unwrap();
    let of = |metric: &str| differences.iter().find(|one| one.metric == metric).unwrap();
    let difference = of("token_entropy");
    assert_eq!((difference.method.as_str(), difference.with.as_str()), ("other", "own"));
    close(difference.interval.mean, mean(&by_input["other"]) - mean(&by_input["own"]));
    let inputs: Vec<Input> = made.rows("inputs.jsonl");
    for (input, entropy) in inputs.iter().zip(&by_input["own"]) {
        let answer = input.answer("own").unwrap();
        close(answer.scores["token_entropy"].unwrap(), *entropy);
        assert_eq!(answer.scores["forward_kl"], Some(0.0));
    }
    // Of the reference policy itself there is no distance.
    let itself = figure(&table, "own", "forward_kl");
    assert_eq!((itself.mean, itself.n, itself.kind), (0.0, ROWS, Kind::Exact));
    let of_row = |row: &Sampled| {
        let of_output = |tokens: &Vec<u32>| {
            let [p, q] = ["policy", "other"].map(|model| {
                let all = distributions(model, row, tokens, TEMPERATURE);
                all.iter().zip(tokens).map(|(own, token)| own[*token as usize]).sum::<f64>()
            });
            p - q
        };
        mean(&row.outputs.iter().map(|output| of_output(&output.tokens)).collect::<Vec<f64>>())
    };
    let expected: Vec<f64> = rows(&own).iter().map(of_row).collect();
    let found = figure(&table, "other", "forward_kl");
    close(found.mean, mean(&expected));
    assert_eq!((found.n, found.kind), (ROWS, Kind::SkewT));
    close(of("forward_kl").interval.mean, mean(&expected));
}

/// Of responses of one token the divergence is known: the sum over all tokens.
#[test]
fn the_forward_kl_of_many_samples_is_that_of_the_enumeration() {
    let (_folder, dataset) = dataset();
    let sampling = json!({"max_new_tokens": 1, "temperature": TEMPERATURE});
    let own = generated(&dataset, "policy", 400, sampling);
    let methods = json!([{"name": "other", "samples": own.reference()},
        {"name": "m", "outputs": own.reference(), "model": fixture().at("other")}]);
    let config = json!({"reference_samples": own.reference()});
    let made = make("evaluate", evaluate(&dataset, methods, config));
    let (mut exact, mut variance) = (Vec::new(), 0.0);
    for row in rows(&own) {
        let [p, q] = ["policy", "other"]
            .map(|model| distributions(model, &row, &row.outputs[0].tokens, TEMPERATURE).remove(0));
        let ratio: Vec<f64> = p.iter().zip(&q).map(|(p, q)| p - q).collect();
        let kl: f64 = p.iter().zip(&ratio).map(|(p, ratio)| p.exp() * ratio).sum();
        variance +=
            p.iter().zip(&ratio).map(|(p, ratio)| p.exp() * (ratio - kl).powi(2)).sum::<f64>()
                / 400.0
                / (ROWS * ROWS) as f64;
        exact.push(kl);
    }
    let found = figure(&table(&made), "m", "forward_kl").mean;
    assert!(mean(&exact) > 5.0 * variance.sqrt(), "a test that tells: {exact:?}, {variance}");
    assert!((found - mean(&exact)).abs() < 4.0 * variance.sqrt(), "{found} for {exact:?}");
}

#[test]
fn what_has_no_model_or_no_distribution_is_left_out_with_a_sentence() {
    let (_folder, dataset) = dataset();
    let own = sampled(&dataset, "policy");
    let greedy = generated(&dataset, "policy", 1, json!({"max_new_tokens": 8, "temperature": 0.0}));
    let best = make(
        "best_of_n",
        json!({"policy": fixture().at("policy"), "reward_model": fixture().at("reward"),
            "dataset": dataset, "n": 2, "sampling": {"max_new_tokens": 8}}),
    );
    let at = |name| fixture().at(name);
    let methods = json!([{"name": "own", "samples": own.reference(), "model": at("policy")},
        {"name": "best", "samples": best.reference(), "model": at("policy")},
        {"name": "greedy", "samples": greedy.reference(), "model": at("policy")},
        {"name": "silent", "outputs": own.reference(), "model": at("policy")},
        {"name": "unnamed", "samples": own.reference()}]);
    let config = json!({"reference_samples": greedy.reference()});
    let made = make("evaluate", evaluate(&dataset, methods, config));
    let left_out: Vec<Value> = serde_json::from_str(&made.text("left_out.json")).unwrap();
    let notes: Vec<&str> = left_out.iter().filter_map(|one| one["note"].as_str()).collect();
    for note in [
        "Left out: `forward_kl`: `reference_samples` are not of one temperature, or of a cut \
         distribution.",
        "Left out: `token_entropy`, `branching_factor`, `forward_kl` of `best`: best-of-n has no \
         model: it chooses among samples.",
        "Left out: `token_entropy`, `branching_factor` of `greedy`: its samples are not of one \
         temperature, or of a cut distribution.",
        "Left out: `token_entropy`, `branching_factor` of `silent`: it has no `samples`.",
        "Left out: `token_entropy`, `branching_factor`, `forward_kl` of `unnamed`: it names no \
         `model`.",
    ] {
        assert!(notes.contains(&note), "{note}: {notes:?}");
    }
    let table = table(&made);
    let of = |metric: &str| {
        let rows = table.rows.iter().filter(|row| row.metric == metric);
        rows.map(|row| row.method.as_str()).collect::<Vec<&str>>()
    };
    assert_eq!((of("token_entropy"), of("forward_kl")), (vec!["own"], vec![]));
    let words = "KL, entropy and diversity are of samples at an unknown temperature";
    assert!(made.text("table.md").contains(words), "one method is greedy");
}

#[test]
fn fields_that_do_not_belong_together_are_refused() {
    let (_folder, dataset) = dataset();
    let own = sampled(&dataset, "policy");
    let at = |name| fixture().at(name);
    let method = json!({"name": "m", "samples": own.reference(), "model": at("policy")});
    let base = evaluate(&dataset, json!([method]), json!({}));
    assert!(problems("evaluate", base.clone()).is_empty());
    let found = |edit: &dyn Fn(&mut Value), field: &str| {
        let mut config = base.clone();
        edit(&mut config);
        let found = problems("evaluate", config);
        assert!(found.iter().any(|problem| problem.field == field), "{field}: {found:?}");
    };
    found(&|config| config["methods"][0]["policy"] = at("policy"), "methods.0.model");
    found(&|config| config["distributions"] = Value::Null, "methods.0.model");
    found(&|config| config["methods"][0]["model"] = Value::Null, "distributions");
    let reference = "distributions.reference_samples";
    let without = |config: &mut Value| {
        config["reference_policy"] = Value::Null;
        config["distributions"] = json!({"reference_samples": own.reference()});
    };
    found(&without, reference);
    let best = make(
        "best_of_n",
        json!({"policy": at("policy"), "reward_model": at("reward"), "dataset": dataset, "n": 2,
            "sampling": {"max_new_tokens": 8}}),
    );
    let mut config = base.clone();
    config["distributions"] = json!({"reference_samples": best.reference()});
    assert!(refusal("evaluate", config.clone()).contains("are of best-of-n"));
    // Samples of other rows.
    config["distributions"] = json!({"reference_samples": at("candidates")});
    let message = refusal("evaluate", config.clone());
    assert!(message.contains("`distributions.reference_samples` have no row"), "{message}");
    // A model of another tokenizer.
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture().path("other")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    write(&path, &format!("{text}\n"));
    config["distributions"] = json!({"reference_samples": own.reference()});
    config["methods"][0]["model"] = json!({"$path": folder.path()});
    let message = refusal("evaluate", config);
    let expected =
        "the model of method `m` and that of `reference_policy` have different tokenizers";
    assert!(message.contains(expected), "{message}");
}

/// Samples are drawn from the model that is asked for their distribution.
#[test]
fn a_model_that_samples_are_not_of_is_refused_when_it_is_planned() {
    let [base, other] = ["policy", "other"].map(|name| fixture().path(name).display().to_string());
    let pipeline = format!(
        "stages:
  posts: {{uses: dataset, source: {{files: {{test/x: {{path: rows.jsonl, prompt: \"{{p}}\", completion: \" {{c}}\", id: i}}}}}}}}
  base: {{uses: model, path: {base}}}
  other: {{uses: model, path: {other}}}
  own: {{uses: generate, policy: base, dataset: posts, samples: 2, sampling: {{max_new_tokens: 4}}}}
  others: {{uses: generate, policy: other, dataset: posts, samples: 2, sampling: {{max_new_tokens: 4}}}}
  evaluation:
    uses: evaluate
    dataset: posts
    reference_policy: base
    methods: [{{name: m, samples: others, model: other}}]
    distributions: {{reference_samples: own}}
"
    );
    let place = Place::new(&pipeline);
    let row = |at| json!({"i": format!("{at}"), "p": format!("post {at}"), "c": "one two four"});
    place.write("rows.jsonl", &jsonl((0..4).map(row)));
    place.good(&["plan", "p.yaml"]);
    for (own, another, said) in [
        (
            "samples: others",
            "samples: own",
            "`methods.0.samples` of `evaluation`: `policy` of `own` is `base`, not `other`",
        ),
        (
            "reference_samples: own",
            "reference_samples: others",
            "`distributions.reference_samples` of `evaluation`: `policy` of `others` is `other`, \
             not `base`",
        ),
    ] {
        assert!(pipeline.contains(own), "{own}");
        place.pipeline(&pipeline.replace(own, another));
        let plan = place.say(&["plan", "p.yaml"]);
        assert!(plan.code == 2 && plan.err.contains(said), "{}", plan.err);
    }
}

/// A dataset with a split of 24 documents, and one of the fixture's prompts with summaries.
fn earlier() -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let document = |at: usize| {
        json!({"id": format!("note-{at}"), "prompt": "",
        "completion": format!("{}{}", prompt(at), summary(at))})
    };
    write(&folder.path().join("notes.jsonl"), &jsonl((0..24).map(document)));
    write(&folder.path().join("validation.jsonl"), &jsonl((100..103).map(example)));
    let reference = json!({"$path": folder.path()});
    (folder, reference)
}

/// The losses of the tokens of a text after its first `prompt` tokens.
fn losses(model: &str, text: &[u32], prompt: usize) -> Vec<f64> {
    let checkpoint = checkpoint::load(&fixture().path(model)).unwrap();
    let b = Cpu::<f32>::new();
    let model = Model::upload(&b, checkpoint.spec.clone(), checkpoint.head, checkpoint.params);
    let hidden = transformer::hidden(&b, &model, &Batch::new(&[text]));
    let logits = b.download_f64(&heads::logits(&b, &model, &hidden, text.len()));
    let v = model.spec.vocabulary;
    let loss = |at: usize| {
        let row = &logits[(at - 1) * v..at * v];
        row.iter().map(|logit| logit.exp()).sum::<f64>().ln() - row[text[at] as usize]
    };
    (prompt.max(1)..text.len()).map(loss).collect()
}

#[test]
fn retention_is_the_loss_over_all_learned_tokens() {
    let ((_folder, dataset), (_earlier, texts)) = (dataset(), earlier());
    let [own, other] = ["policy", "other"].map(|policy| sampled(&dataset, policy));
    let at = |name| fixture().at(name);
    let methods = json!([{"name": "own", "samples": own.reference(), "model": at("policy")},
        {"name": "other", "samples": other.reference(), "policy": at("other")},
        {"name": "unnamed", "samples": own.reference()}]);
    let retention = json!([{"name": "notes", "dataset": texts, "split": "notes"},
        {"name": "sft", "dataset": texts, "split": "validation"}]);
    let made = make("evaluate", evaluate(&dataset, methods, json!({"retention": retention})));
    let table = table(&made);
    let mut means = BTreeMap::new();
    for (name, model) in [("own", "policy"), ("other", "other")] {
        let note = |at: usize| {
            let text = encode(&format!("{}{}", prompt(at), summary(at)));
            losses(model, &[text, vec![EOS]].concat(), 0)
        };
        let answer = |at: usize| {
            let prompt = encode(&prompt(at));
            let text = [prompt.as_slice(), &encode(&summary(at)), &[EOS]].concat();
            losses(model, &text, prompt.len())
        };
        let expected = mean(&(0..24).flat_map(note).collect::<Vec<f64>>());
        let found = figure(&table, name, "loss_notes");
        close(found.mean, expected);
        assert_eq!((found.n, found.kind), (24, Kind::SkewT));
        let found = figure(&table, name, "loss_sft");
        close(found.mean, mean(&(100..103).flat_map(answer).collect::<Vec<f64>>()));
        assert_eq!((found.n, found.kind), (3, Kind::NoneTooFew));
        means.insert(name, expected);
    }
    let of_loss = |row: &&Row| row.metric.starts_with("loss_");
    let sets: Vec<&str> =
        table.rows.iter().filter(of_loss).map(|row| row.test_set.as_str()).collect();
    assert_eq!(sets, ["notes", "validation", "notes", "validation"]);
    let compared: Value = serde_json::from_str(&made.text("comparisons.json")).unwrap();
    let differences: Vec<Difference> =
        serde_json::from_value(compared["differences"].clone()).unwrap();
    let found: Vec<&Difference> =
        differences.iter().filter(|of| of.metric.starts_with("loss_")).collect();
    assert_eq!((found.len(), found[0].metric.as_str()), (1, "loss_notes"), "three rows are few");
    close(found[0].interval.mean, means["other"] - means["own"]);
    let note = "Left out: `loss_sft` of `unnamed` on `validation`: it names no `model`.";
    assert!(made.text("left_out.json").contains(note));
    let text = made.text("table.md");
    assert!(text.contains("Losses are of texts of earlier phases, at temperature 1."), "{text}");
}

/// The loss of a trained model on the rows that it was measured on while it was trained is what its
/// validation said, and these rows, which chose its step, are a leak.
#[test]
fn rows_that_a_model_was_trained_on_are_refused_and_its_validation_loss_is_met() {
    let ((_folder, dataset), (_earlier, texts)) = (dataset(), earlier());
    let sft = |keep: &str| {
        make(
            "sft",
            json!({"policy": fixture().at("policy"), "dataset": texts, "split": "notes",
                "batch_size": 8, "optimiser": {"learning_rate": 0.01},
                "validation": {"split": "validation", "every": 3, "keep": keep}}),
        )
    };
    let own = sampled(&dataset, "policy");
    let config = |sft: &Made, on_leak: &str| {
        let methods = json!([{"name": "m", "samples": own.reference(), "model": sft.reference()}]);
        let retention = json!([{"name": "sft", "dataset": texts, "split": "validation"}]);
        let mut config = evaluate(&dataset, methods, json!({"retention": retention}));
        config["on_leak"] = json!(on_leak);
        config
    };
    let last = sft("last");
    let made = make("evaluate", config(&last, "refuse"));
    // One step of three is measured, the last.
    let steps: Vec<Value> = last.rows("metrics.jsonl");
    let loss = steps.last().unwrap()["validation/loss"].as_f64().unwrap();
    close(figure(&table(&made), "m", "loss_sft").mean, loss);
    let best = sft("best");
    let message = refusal("evaluate", config(&best, "refuse"));
    assert!(message.contains("3 of 3 rows of split `validation`"), "{message}");
    assert!(message.contains("methods.m"), "{message}");
    assert!(refusal("evaluate", config(&best, "remove")).contains("none is left"));
    let made = make("evaluate", config(&best, "allow"));
    assert_eq!(figure(&table(&made), "m", "loss_sft").n, 3);
    assert!(made.text("table.md").contains("Leaks: 3 of 3 rows of split `validation`"));
}

#[test]
fn texts_of_earlier_phases_that_cannot_be_named_or_compared_are_refused() {
    let ((_folder, dataset), (_earlier, texts)) = (dataset(), earlier());
    let own = sampled(&dataset, "policy");
    let method = json!({"name": "m", "samples": own.reference(), "model": fixture().at("policy")});
    let config = |names: &[&str], split: &str| {
        let retention: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "dataset": texts, "split": split}))
            .collect();
        evaluate(&dataset, json!([method]), json!({"retention": retention}))
    };
    for names in [&["a b"][..], &[""], &["a", "a"]] {
        let found = problems("evaluate", config(names, "notes"));
        let field = format!("distributions.retention.{}.name", names.len() - 1);
        assert!(found.iter().any(|problem| problem.field == field), "{names:?}: {found:?}");
    }
    assert!(refusal("evaluate", config(&["a"], "absent")).contains("absent"));
}
