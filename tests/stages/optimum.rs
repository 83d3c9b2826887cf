//! `optimum` of `evaluate`: its figures are recomputed here from the candidates by their
//! definitions, one candidate after another, without the functions of the program.

use std::collections::BTreeMap;

use posttrain::artefacts::optimum::{OPTIMUM, Optimum};
use posttrain::data::rows::Example;
use posttrain::data::samples::{Output, Sampled};
use posttrain::eval::best_of_n::kl_bound;
use posttrain::eval::diversity::words;
use posttrain::world;
use serde_json::{Value, json};

use super::bench::{Made, make, problems, refusal};
use super::fixture::{fixture, jsonl};
use crate::cli::place::Place;

fn best_of(more: Value) -> Made {
    let mut config = json!({"policy": fixture().at("policy"),
        "reward_model": fixture().at("reward"), "dataset": fixture().at("dataset"), "n": 4,
        "outputs": 3, "missing_eos": {"subtract": 0.5}, "sampling": {"max_new_tokens": 12}});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    make("best_of_n", config)
}

fn sampled(policy: &str, temperature: f64) -> Made {
    let sampling = json!({"max_new_tokens": 12, "temperature": temperature});
    let config = json!({"policy": fixture().at(policy), "dataset": fixture().at("dataset"),
        "samples": 2, "sampling": sampling});
    make("generate", config)
}

fn evaluate(methods: Value, optimum: Value) -> Value {
    json!({"dataset": fixture().at("dataset"), "reward_model": fixture().at("reward"),
        "reference_policy": fixture().at("policy"), "judge": "gold", "methods": methods,
        "optimum": optimum})
}

fn read(made: &Made) -> Vec<Optimum> {
    serde_json::from_str(&made.text(OPTIMUM)).unwrap()
}

fn examples(test_set: &str) -> Vec<Example> {
    let path = fixture().path(&format!("dataset/test/{test_set}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn gold(example: &Example, output: &Output) -> f64 {
    world::gold(example, &output.text, output.ended).unwrap().score
}

/// The cosine of two texts' counts of n-grams.
pub fn cosine(a: &str, b: &str, n: usize) -> f64 {
    let count = |text: &str| {
        let mut counts = BTreeMap::<Vec<String>, f64>::new();
        words(text).windows(n).for_each(|ngram| *counts.entry(ngram.to_vec()).or_default() += 1.0);
        counts
    };
    let (a, b) = (count(a), count(b));
    let norm = |of: &BTreeMap<Vec<String>, f64>| of.values().map(|x| x * x).sum::<f64>().sqrt();
    let product: f64 = a.iter().filter_map(|(ngram, x)| Some(x * b.get(ngram)?)).sum();
    match (norm(&a), norm(&b)) {
        (0.0, 0.0) => 1.0,
        (x, y) if x * y == 0.0 => 0.0,
        (x, y) => product / (x * y),
    }
}

fn apart(a: &str, b: &str) -> f64 {
    1.0 - (cosine(a, b, 1) + cosine(a, b, 2)) / 2.0
}

/// The effective sample size, KL, distance, and the mean of some values of some candidates.
fn plain(candidates: &[&Output], values: &[f64], beta: f64) -> [f64; 4] {
    let exps: Vec<f64> = candidates.iter().map(|one| (one.reward.unwrap() / beta).exp()).collect();
    let (sum, n) = (exps.iter().sum::<f64>(), candidates.len());
    let weights: Vec<f64> = exps.iter().map(|x| x / sum).collect();
    let kl = weights.iter().map(|w| w * (n as f64 * w).ln()).sum();
    let (mut distance, mut pairs) = (0.0, 0.0);
    for i in 0..n {
        for j in (0..n).filter(|j| *j != i) {
            pairs += weights[i] * weights[j];
            distance += weights[i] * weights[j] * apart(&candidates[i].text, &candidates[j].text);
        }
    }
    let mean = weights.iter().zip(values).map(|(w, value)| w * value).sum();
    [1.0 / weights.iter().map(|w| w * w).sum::<f64>(), kl, distance / pairs, mean]
}

/// The same less the bias that the jackknife finds.
fn corrected(candidates: &[Output], values: &[f64], beta: f64) -> [f64; 4] {
    let n = candidates.len();
    let among = |left_out: Option<usize>| {
        let rest: Vec<usize> = (0..n).filter(|at| Some(*at) != left_out).collect();
        let own: Vec<&Output> = rest.iter().map(|&at| &candidates[at]).collect();
        plain(&own, &rest.iter().map(|&at| values[at]).collect::<Vec<f64>>(), beta)
    };
    let (whole, n) = (among(None), n as f64);
    let mut means = [0.0; 4];
    for left_out in 0..candidates.len() {
        means.iter_mut().zip(among(Some(left_out))).for_each(|(mean, one)| *mean += one / n);
    }
    let mut found = whole;
    for at in 1..4 {
        found[at] = n * whole[at] - (n - 1.0) * means[at];
    }
    found
}

fn close(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9
}

#[test]
fn every_figure_is_what_its_definition_says() {
    let (best, other) = (best_of(json!({})), sampled("other", 1.0));
    let methods = json!([{"name": "other", "outputs": other.reference(),
        "samples": other.reference()}]);
    let betas = [0.25, 1.0, 4.0];
    let optimum = json!({"candidates": best.reference(), "betas": betas, "min_ess": 1.0,
        "missing_eos": {"subtract": 0.5}});
    let made = make("evaluate", evaluate(methods, optimum));
    let (found, rows): (_, Vec<Sampled>) = (read(&made), best.rows("samples.jsonl"));
    assert_eq!(found.iter().map(|one| one.test_set.as_str()).collect::<Vec<_>>(), ["id", "ood"]);
    for one in &found {
        assert_eq!((one.candidates, one.temperature, one.by_beta.len()), (12, 1.0, 3));
        let examples = examples(&one.test_set);
        let row = |example: &Example| {
            let split = format!("test/{}", one.test_set);
            rows.iter().find(|row| row.split == split && row.id == example.id).unwrap()
        };
        let inputs: Vec<(&Example, &[Output])> =
            examples.iter().map(|example| (example, &*row(example).candidates)).collect();
        let n = inputs.len() as f64;
        assert_eq!(one.inputs, inputs.len());
        type Of = fn(&Example, &Output) -> f64;
        let wins: Of = |example, output| {
            let reference = world::gold(example, &example.completion, true).unwrap().score;
            let own = gold(example, output);
            if own == reference { 0.5 } else { f64::from(u8::from(own > reference)) }
        };
        let metrics: [(&str, Of); 4] = [
            ("reward", |_, output| output.reward.unwrap()),
            ("rm", |_, output| output.raw_reward().unwrap()),
            ("gold", gold),
            ("win_rate", wins),
        ];
        for (at, beta) in one.by_beta.iter().zip(betas) {
            let (figures, mut shares, mut sizes) = (at.figures.as_ref().unwrap(), 0.0, Vec::new());
            for (metric, of) in metrics {
                let mut means = [0.0; 4];
                shares = 0.0;
                for (example, candidates) in &inputs {
                    let values: Vec<f64> =
                        candidates.iter().map(|output| of(example, output)).collect();
                    let own = corrected(candidates, &values, beta);
                    means.iter_mut().zip(own).for_each(|(mean, one)| *mean += one / n);
                    shares += 1.0 / own[0] / n;
                    sizes.push(own[0]);
                }
                let expected = [("kl", means[1]), ("ngram_distance", means[2]), (metric, means[3])];
                for (name, expected) in expected {
                    let found = figures[name].mean;
                    assert!(close(found, expected), "{name} at {beta}: {found}, not {expected}");
                }
            }
            let least = sizes.into_iter().fold(f64::INFINITY, f64::min);
            assert!(close(at.ess, 1.0 / shares) && close(at.least_ess, least), "{at:?}");
        }
        // The larger beta, the nearer to the reference, which is best of 1.
        let sizes: Vec<f64> = one.by_beta.iter().map(|at| at.ess).collect();
        assert!(sizes.windows(2).all(|two| two[0] < two[1]), "{sizes:?}");
        let own: Vec<usize> = one.best_of_n.iter().map(|at| at.n).collect();
        assert_eq!(own, [1, 2, 4, 8]);
        let all = |of: Of| {
            let mean = |(example, candidates): &(&Example, &[Output])| {
                candidates.iter().map(|one| of(example, one)).sum::<f64>() / 12.0
            };
            inputs.iter().map(mean).sum::<f64>() / n
        };
        for (metric, of) in metrics {
            assert!(close(one.best_of_n[0].figures[metric].mean, all(of)), "{metric}");
        }
        assert_eq!(one.best_of_n[0].figures["kl"].mean, 0.0);
        // No two candidates of an input are tied here, so the KL is its bound.
        let tied = |(_, own): &(&Example, &[Output])| {
            (0..12).any(|i| (0..i).any(|j| own[i].reward == own[j].reward))
        };
        assert!(!inputs.iter().any(tied));
        for at in &one.best_of_n {
            assert!(close(at.figures["kl"].mean, kl_bound(at.n)), "{at:?}");
        }
        // Of the stage's 4 alone the diversity is known: of its outputs.
        let apart = |row: &Sampled| {
            let [a, b, c] = [0, 1, 2].map(|at| &*row.outputs[at].text);
            (apart(a, b) + apart(b, c) + apart(a, c)) / 3.0
        };
        let expected = examples.iter().map(|example| apart(row(example))).sum::<f64>() / n;
        for at in &one.best_of_n {
            let found = at.figures.get("ngram_distance").map(|found| found.mean);
            assert_eq!(found.map(|found| close(found, expected)), (at.n == 4).then_some(true));
        }
    }
}

#[test]
fn methods_are_beside_it_by_their_samples_at_the_temperature_of_the_candidates() {
    let (best, other, cool) = (best_of(json!({})), sampled("other", 1.0), sampled("other", 0.7));
    let reference = sampled("policy", 1.0);
    let methods = json!([
        {"name": "reference_policy", "samples": reference.reference()},
        {"name": "other", "outputs": cool.reference(), "samples": other.reference()},
        {"name": "cool", "samples": cool.reference()}]);
    let optimum =
        json!({"candidates": best.reference(), "min_ess": 1.0, "missing_eos": {"subtract": 0.5}});
    let found = read(&make("evaluate", evaluate(methods, optimum)));
    let own = &found[0].methods;
    let names: Vec<&str> = own.iter().map(|of| of.method.as_str()).collect();
    assert_eq!(names, ["reference_policy", "other"], "0.7 is another distribution");
    assert_eq!(own[0].figures["kl"].mean, 0.0);
    assert!(own[1].figures["kl"].mean > 0.0);
    let (rows, examples): (Vec<Sampled>, _) = (other.rows("samples.jsonl"), examples("id"));
    let row = |example: &Example| {
        rows.iter().find(|row| row.split == "test/id" && row.id == example.id).unwrap()
    };
    let mean = |of: &dyn Fn(&Example, &[Output]) -> f64| {
        let all = examples.iter().map(|example| of(example, &row(example).outputs));
        all.sum::<f64>() / examples.len() as f64
    };
    let golds = mean(&|example, own| (gold(example, &own[0]) + gold(example, &own[1])) / 2.0);
    let distance = mean(&|_, own| apart(&own[0].text, &own[1].text));
    let figures = &own[1].figures;
    assert!(close(figures["gold"].mean, golds), "{figures:?}");
    // Half a point less for each sample without an end.
    let cut = mean(&|_, own| own.iter().map(|one| 0.5 * f64::from(u8::from(!one.ended))).sum());
    assert!(close(figures["rm"].mean - figures["reward"].mean, cut / 2.0), "{figures:?}");
    assert!(cut > 0.0);
    assert!(close(figures["ngram_distance"].mean, distance), "{figures:?}");
}

#[test]
fn a_beta_with_a_small_effective_sample_size_has_no_figures_and_a_sentence_says_so() {
    let best = best_of(json!({"missing_eos": "keep"}));
    let methods = json!([{"name": "policy", "outputs": fixture().at("outputs"),
        "samples": fixture().at("samples")}]);
    let optimum = json!({"candidates": best.reference(), "betas": [0.01, 0.02, 1000.0]});
    let made = make("evaluate", evaluate(methods.clone(), optimum));
    let found = read(&made);
    let known: Vec<bool> = found[0].by_beta.iter().map(|at| at.figures.is_some()).collect();
    assert_eq!(known, [false, false, true], "{:?}", found[0].by_beta);
    let figures = found[0].by_beta[2].figures.as_ref().unwrap();
    assert!(!figures.contains_key("reward"), "the rule has changed no score");
    assert!(figures["kl"].mean.abs() < 1e-3, "nearly the reference: {figures:?}");
    let text = made.text("table.txt").split_whitespace().collect::<Vec<&str>>().join(" ");
    let said = "Optimum of the KL-regularised objective on `id`: no estimate at beta 0.02 and \
        below, where 12 candidates an input have an effective sample size of ";
    assert!(text.contains(said), "{text}");
    let plain = make("evaluate", evaluate(methods, Value::Null));
    assert!(!plain.path(OPTIMUM).exists());
}

#[test]
fn what_is_no_pool_of_candidates_is_refused() {
    let methods = json!([{"name": "policy", "outputs": fixture().at("outputs"),
        "samples": fixture().at("samples")}]);
    let with = |optimum: Value| evaluate(methods.clone(), optimum);
    let message = refusal("evaluate", with(json!({"candidates": fixture().at("samples")})));
    assert!(message.contains("has 0 candidates with a reward, 3 are the fewest"), "{message}");
    // Samples alone are enough, and the reward model scores them.
    let alone = json!([{"name": "policy", "samples": fixture().at("samples")}]);
    let mut config = evaluate(alone, json!({"candidates": fixture().at("pool")}));
    config["judge"] = Value::Null;
    assert_eq!(problems("evaluate", config).len(), 0);
    let best = best_of(json!({}));
    let message = refusal("evaluate", with(json!({"candidates": best.reference()})));
    assert!(message.contains("is not that of `optimum.candidates`"), "{message}");
    for (edit, field) in [
        (json!({"betas": []}), "optimum.betas"),
        (json!({"betas": [0.0, 1.0]}), "optimum.betas"),
        (json!({"betas": [1.0, 0.5]}), "optimum.betas"),
        (json!({"min_ess": 0.5}), "optimum.min_ess"),
    ] {
        let mut optimum = json!({"candidates": fixture().at("samples")});
        optimum.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        let found = problems("evaluate", with(optimum));
        assert_eq!(found.len(), 1, "{edit}");
        assert_eq!(found[0].field, field);
    }
    // All of one reward: best-of-n is the policy itself, whatever n is.
    let flat =
        best_of(json!({"missing_eos": {"replace": -3.0}, "sampling": {"max_new_tokens": 1}}));
    let optimum = json!({"candidates": flat.reference(), "missing_eos": {"replace": -3.0}});
    let found = read(&make("evaluate", with(optimum)));
    let flat =
        found[0].best_of_n.iter().all(|at| at.figures["kl"].mean < 0.2 * kl_bound(at.n).max(1e-9));
    assert!(flat, "{:?}", found[0].best_of_n);
    // Of a cut distribution the KL of a policy is not known: nothing is estimated.
    let cut = best_of(json!({"sampling": {"max_new_tokens": 12, "top_k": 3}}));
    let made = make(
        "evaluate",
        with(json!({"candidates": cut.reference(), "missing_eos": {"subtract": 0.5}})),
    );
    assert!(!made.path(OPTIMUM).exists());
    assert!(made.text("left_out.json").contains("greedy, of a cut distribution"));
}

/// Candidates of another policy than the reference say nothing of its optimum.
#[test]
fn candidates_of_another_policy_or_reward_model_are_refused_when_it_is_planned() {
    let files = "prompt: \"{p}\", completion: \" {c}\", id: i";
    let train = "batch_size: 2, optimiser: {learning_rate: 0.01}";
    let [base, other] = ["policy", "other"].map(|name| fixture().path(name).display().to_string());
    let pipeline = format!(
        "stages:
  posts: {{uses: dataset, source: {{files: {{test/x: {{path: rows.jsonl, {files}}}}}}}}}
  pairs: {{uses: dataset, source: {{contrast: {{dataset: posts, splits: {{preferences: test/x}}, kinds: [cut]}}}}}}
  base: {{uses: model, path: {base}}}
  other: {{uses: model, path: {other}}}
  rm: {{uses: reward_model, policy: base, dataset: pairs, {train}, seed: 1}}
  other_rm: {{uses: reward_model, policy: base, dataset: pairs, {train}, seed: 2}}
  best: {{uses: best_of_n, policy: base, reward_model: rm, dataset: posts, n: 4, sampling: {{max_new_tokens: 4}}}}
  evaluation:
    uses: evaluate
    dataset: posts
    reward_model: rm
    reference_policy: base
    methods: [{{name: best, outputs: best, samples: best}}]
    optimum: {{candidates: best}}
"
    );
    let place = Place::new(&pipeline);
    let row = |at| json!({"i": format!("{at}"), "p": format!("post {at}"), "c": "one two four"});
    place.write("rows.jsonl", &jsonl((0..4).map(row)));
    place.good(&["plan", "p.yaml"]);
    for (own, another, said) in [
        (
            "policy: base, reward_model: rm, dataset: posts",
            "policy: other, reward_model: rm, dataset: posts",
            "`policy` of `best` is `other`, not `base`",
        ),
        (
            "reward_model: rm, dataset: posts",
            "reward_model: other_rm, dataset: posts",
            "`reward_model` of `best` is `other_rm`, not `rm`",
        ),
    ] {
        assert!(pipeline.contains(own), "{own}");
        place.pipeline(&pipeline.replace(own, another));
        let plan = place.say(&["plan", "p.yaml"]);
        let expected = format!("`optimum.candidates` of `evaluation`: {said}");
        assert!(plan.code == 2 && plan.err.contains(&expected), "{}", plan.err);
    }
}
