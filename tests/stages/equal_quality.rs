//! Diversity at equal quality and the win rate of the best of k, against enumerations of subsets.

use posttrain::artefacts::comparisons::{Comparisons, MatchedQuality};
use posttrain::artefacts::quality::{AtK, Graded};
use posttrain::artefacts::table::{Row, Table};
use posttrain::data::rows::Example;
use posttrain::data::samples::{self, Output, Sampled};
use posttrain::eval::diversity::{Ngrams, VOCABULARY};
use posttrain::world;
use serde_json::{Value, json};

use super::bench::{Made, make};
use super::fixture::fixture;

const N: usize = 4;

fn best_of(n: usize, seed: u64) -> Made {
    let config = json!({"policy": fixture().at("policy"), "reward_model": fixture().at("reward"),
        "dataset": fixture().at("dataset"), "n": n, "outputs": 2, "seed": seed,
        "sampling": {"max_new_tokens": 12}});
    make("best_of_n", config)
}

fn rows(made: &Made) -> Vec<Sampled> {
    samples::read(made.path("").as_path()).unwrap()
}

/// Samples of a policy that is as good as best of `n`: its choices, without what they are from.
fn policy(n: usize) -> (tempfile::TempDir, Vec<Sampled>, Value) {
    let plain = |row: Sampled| Sampled { best_of: None, candidates: Vec::new(), ..row };
    let rows: Vec<Sampled> = rows(&best_of(n, 9)).into_iter().map(plain).collect();
    let folder = tempfile::tempdir().unwrap();
    samples::write(folder.path(), &rows).unwrap();
    let reference = json!({"$path": folder.path()});
    (folder, rows, reference)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn subsets(of: usize, size: usize) -> Vec<Vec<usize>> {
    let sets = (0u32..1 << of).filter(|set| set.count_ones() as usize == size);
    sets.map(|set| (0..of).filter(|at| set >> at & 1 == 1).collect()).collect()
}

fn rewards(texts: &[Output]) -> Vec<f64> {
    texts.iter().map(|text| text.reward.unwrap()).collect()
}

/// The mean over all subsets of n of the greatest.
fn greatest(values: &[f64], n: usize) -> f64 {
    let greatest =
        |set: &Vec<usize>| set.iter().map(|at| values[*at]).fold(f64::NEG_INFINITY, f64::max);
    mean(&subsets(values.len(), n).iter().map(greatest).collect::<Vec<f64>>())
}

fn ead(texts: &[&str]) -> f64 {
    Ngrams::new(texts).ead(&(0..texts.len()).collect::<Vec<usize>>(), VOCABULARY)
}

fn texts(row: &Sampled) -> Vec<&str> {
    row.outputs.iter().map(|output| output.text.as_str()).collect()
}

/// Diversity of the best of the first n of each output's candidates.
fn diversity(row: &Sampled, n: usize) -> f64 {
    let best = |own: &[Output]| {
        let rewards = rewards(&own[..n]);
        let most = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        rewards.iter().position(|reward| *reward == most).unwrap()
    };
    let chosen: Vec<&str> =
        row.candidates.chunks(N).map(|own| own[best(own)].text.as_str()).collect();
    ead(&chosen)
}

fn evaluate(best: &Made, own: &Value, trained: bool, quality: Value) -> Value {
    let mut method = json!({"name": "ppo", "samples": own});
    if trained {
        method["policy"] = fixture().at("other");
    }
    json!({"dataset": fixture().at("dataset"), "reward_model": fixture().at("reward"),
        "reference_policy": fixture().at("policy"), "quality": quality, "methods": [
            {"name": "best", "outputs": best.reference(), "samples": best.reference()}, method]})
}

fn matched(made: &Made) -> Vec<MatchedQuality> {
    serde_json::from_str::<Comparisons>(&made.text("comparisons.json")).unwrap().matched_quality
}

#[test]
fn a_policy_is_compared_with_best_of_n_at_its_own_score() {
    let (best, (_folder, own, reference)) = (best_of(N, 1), policy(2));
    let quality = json!({"by": "reward_model", "good": 0.0});
    let made = make("evaluate", evaluate(&best, &reference, true, quality.clone()));
    let found = matched(&made);
    assert!(!found.is_empty(), "best of 2 is within the reach of best of {N}");
    let candidates = rows(&best);
    let in_set = |rows: &[Sampled], set: &str| -> Vec<Sampled> {
        let split = format!("test/{set}");
        rows.iter().filter(|row| row.split == split).cloned().collect()
    };
    for one in &found {
        let set = one.difference.test_set.as_str();
        let (own, theirs) = (in_set(&own, set), in_set(&candidates, set));
        let score = mean(&own.iter().map(|row| mean(&rewards(&row.outputs))).collect::<Vec<f64>>());
        let at = |n: usize| {
            let scores: Vec<f64> =
                theirs.iter().map(|row| greatest(&rewards(&row.candidates), n)).collect();
            let diversities: Vec<f64> = theirs.iter().map(|row| diversity(row, n)).collect();
            (mean(&scores), mean(&diversities))
        };
        let n = (1..N).find(|n| at(*n).0 <= score && score <= at(n + 1).0).unwrap();
        let (low, high) = (at(n), at(n + 1));
        let weight = (score - low.0) / (high.0 - low.0);
        let (mine, best) = (
            mean(&own.iter().map(|row| ead(&texts(row))).collect::<Vec<f64>>()),
            low.1 + weight * (high.1 - low.1),
        );
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-4, "{found} for {expected}: {one:?}");
        };
        close(one.quality.mean, score);
        close(one.best_of, n as f64 + weight);
        close(one.own, mine);
        close(one.best, best);
        close(one.difference.interval.mean, mine - best);
        let names = (one.difference.method.as_str(), one.difference.with.as_str());
        assert_eq!((names, one.by.as_str(), one.temperature), (("ppo", "best"), "rm", 1.0));
    }
    let text = made.text("table.md");
    assert!(text.contains("ead_per_input_at_equal_quality"), "{text}");
    // Without training for the reward, or without quality, there is nothing to compare.
    let untrained = evaluate(&best, &reference, false, quality.clone());
    assert!(matched(&make("evaluate", untrained)).is_empty());
    let mut none = evaluate(&best, &reference, true, quality);
    none.as_object_mut().unwrap().remove("quality");
    assert!(matched(&make("evaluate", none)).is_empty());
}

#[test]
fn the_win_rate_of_the_best_of_k_is_that_of_all_subsets() {
    let (best, (_folder, _, reference)) = (best_of(N, 1), policy(2));
    let examples: Vec<Example> = ["id", "ood"]
        .iter()
        .flat_map(|set| {
            let path = fixture().path(&format!("dataset/test/{set}.jsonl"));
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Example>>()
        })
        .collect();
    let quality = |by: &str| json!({"by": by, "good": 0.0, "wins": true});
    let made = make("evaluate", evaluate(&best, &reference, false, quality("gold")));
    let graded: Vec<Graded> = made.rows("quality.jsonl");
    let curves: Vec<AtK> = serde_json::from_str(&made.text("quality.json")).unwrap();
    let table: Table = serde_json::from_str(&made.text("table.json")).unwrap();
    for curve in curves.iter().filter(|curve| curve.metric == "win_at_k") {
        let own: Vec<&Graded> = graded
            .iter()
            .filter(|one| (&one.method, &one.test_set) == (&curve.method, &curve.test_set))
            .collect();
        for k in 1..=2 {
            let of_input = |one: &&Graded| {
                let row = examples.iter().find(|row| row.id == one.id).unwrap();
                let against = world::gold(row, &row.completion, true).unwrap().score;
                let outcome = |set: &Vec<usize>| {
                    let most = set.iter().map(|at| one.scores[*at]).fold(f64::MIN, f64::max);
                    match most.total_cmp(&against) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    }
                };
                mean(&subsets(one.scores.len(), k).iter().map(outcome).collect::<Vec<f64>>())
            };
            let expected = mean(&own.iter().map(of_input).collect::<Vec<f64>>());
            assert!((curve.by_k[k - 1].mean - expected).abs() < 1e-12, "{curve:?}");
        }
        let found = |row: &&Row| {
            (&row.method, &row.test_set) == (&curve.method, &curve.test_set)
                && row.metric == "win_at_k"
        };
        assert_eq!(table.rows.iter().find(found).unwrap().figure.mean, curve.by_k[1].mean);
    }
    assert_eq!(curves.iter().filter(|curve| curve.metric == "win_at_k").count(), 4);
    // By the reward model, references are scored too.
    let made = make("evaluate", evaluate(&best, &reference, false, quality("reward_model")));
    assert!(made.text("table.md").contains("win_at_k"));
}
