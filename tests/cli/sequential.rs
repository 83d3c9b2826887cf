//! `run --sequential`: seeds one after another until comparisons are decided, by the real program.

use posttrain::artefacts::seeds::Figure;
use posttrain::eval::seeds::Decision;
use posttrain::eval::sequential::anytime;
use serde_json::Value;

use super::place::Place;

/// Two ways of sampling from an untrained model: one is cut off at 6 tokens, the other at 24.
const GROWING: &str = "\
params: {seed: 0}
matrix: {seed: [0, 1, 2, 3, 4, 5, 6, 7]}
stages:
  world:
    uses: dataset
    source:
      world: {notes: 0, pretrain: 30, sft: 4, compare: 0, prompts: 0, validation: 0, test: 6}
  words: {uses: tokenizer, dataset: world, vocabulary: 400}
  base:
    uses: pretrain
    dataset: world
    tokenizer: words
    phases: [pretrain]
    batch_size: 10
    model: {width: 16, layers: 1, heads: 2, feed_forward: 32, context: 256}
    optimiser: {learning_rate: 0.003}
  short:
    {uses: generate, policy: base, dataset: world, splits: [test/id], seed: '${seed}',
     sampling: {max_new_tokens: 6}}
  long:
    {uses: generate, policy: base, dataset: world, splits: [test/id], seed: '${seed}',
     sampling: {max_new_tokens: 24}}
  evaluation:
    uses: evaluate
    dataset: world
    test_sets: [id]
    methods: [{name: short, outputs: short}, {name: long, outputs: long}]
  over_seeds:
    uses: over_seeds
    evaluations: [{all: evaluation}]
    sequential: {metric: length, compare: [{method: long, with: short}]}
";

/// The events of a kind that a run printed.
fn events(out: &str, kind: &str) -> Vec<Value> {
    let all = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == kind).collect()
}

fn run(place: &Place, more: &[&str]) -> String {
    place.good(&[&["run", "p.yaml", "--sequential", "--log", "json"], more].concat()).out
}

#[test]
fn seeds_are_added_until_the_comparison_is_decided_and_no_further() {
    let place = Place::new(GROWING);
    let out = run(&place, &[]);
    let looks = events(&out, "look");
    let counts: Vec<u64> = looks.iter().map(|look| look["seeds"].as_u64().unwrap()).collect();
    let last = *counts.last().unwrap();
    assert_eq!(counts, (4..=last).collect::<Vec<u64>>());
    assert!(last < 8, "{looks:?}");
    let open = |look: &Value| look["open"].as_array().unwrap().len();
    assert!(looks[..looks.len() - 1].iter().all(|look| open(look) == 1), "{looks:?}");
    assert_eq!(open(&looks[looks.len() - 1]), 0);
    assert!(looks[0]["needed"].as_u64().unwrap() >= 4);
    // The verdict is that of the values in their order, at that look and at none before.
    let made = events(&out, "node");
    let object = made.iter().rfind(|node| node["node"] == "over_seeds").unwrap()["object"].clone();
    let file = format!("cache/v1/objects/{}/seeds.json", object.as_str().unwrap());
    let figures: Vec<Figure> = serde_json::from_str(&place.read(&file)).unwrap();
    let decided: Vec<&Figure> = figures.iter().filter(|one| one.sequential.is_some()).collect();
    assert_eq!(decided.len(), 1);
    let (figure, own) = (decided[0], decided[0].sequential.as_ref().unwrap());
    let values = &figure.over.values;
    assert_eq!((values.len() as u64, own.of, own.level), (last, 1, 0.05));
    assert_eq!(own.known, anytime(values, 0.05));
    let at = |n: usize| anytime(&values[..n], 0.05).decide(None);
    assert_ne!(own.verdict, Decision::Open);
    assert_eq!(at(values.len()), own.verdict);
    assert!((4..values.len()).all(|n| at(n) == Decision::Open));
    // It is the run with these seeds: the same command finds all of it, and so does a plain run.
    let again = events(&run(&place, &[]), "finished");
    assert_eq!((again[0]["ran"].as_u64(), again[0]["ok"].as_bool()), (Some(0), Some(true)));
    let list = (0..last).map(|seed| seed.to_string()).collect::<Vec<String>>().join(", ");
    assert_eq!(place.counts(&["--set", &format!("matrix.seed=[{list}]")]).0, 0);
    let said = place.good(&["run", "p.yaml", "--sequential"]);
    let line = format!("{last} of 8 seeds: 1 of 1 comparison decided");
    assert!(said.err.contains(&line), "{}", said.err);
    assert!(said.out.contains("length: decided at any number of seeds"), "{}", said.out);
}

#[test]
fn a_comparison_that_stays_open_takes_all_seeds_or_the_budget() {
    let open = GROWING.replace("metric: length", "margin: 0.001, metric: rouge_l");
    let open = open.replace("[0, 1, 2, 3, 4, 5, 6, 7]", "[0, 1, 2, 3, 4]");
    let place = Place::new(&open);
    let said = place.good(&["run", "p.yaml", "--sequential", "--budget", "0.0001"]);
    assert!(said.err.contains("4 of 5 seeds: 0 of 1 comparison decided"), "{}", said.err);
    assert!(said.err.contains("open: "), "{}", said.err);
    assert!(said.err.contains("the budget does not allow another seed"), "{}", said.err);
    assert!(!said.err.contains("5 of 5 seeds"), "{}", said.err);
    let said = place.good(&["run", "p.yaml", "--sequential"]);
    assert!(said.err.contains("5 of 5 seeds: 0 of 1 comparison decided"), "{}", said.err);
}

#[test]
fn what_has_no_seeds_to_add_is_refused_before_anything_runs() {
    let nothing = GROWING
        .replace("    sequential: {metric: length, compare: [{method: long, with: short}]}\n", "");
    let few = GROWING.replace("[0, 1, 2, 3, 4, 5, 6, 7]", "[0, 1, 2]");
    let empty = GROWING.replace("[{method: long, with: short}]", "[]");
    for (pipeline, words) in [
        (nothing, "no `over_seeds` has comparisons to decide"),
        (few, "`seed` has 3 values, and 4 are the fewest that can decide"),
        (empty, "expected at least one pair of methods"),
    ] {
        let place = Place::new(&pipeline);
        let said = place.say(&["run", "p.yaml", "--sequential"]);
        assert_eq!(said.code, 2, "{}", said.err);
        assert!(said.err.contains(words), "{words}: {}", said.err);
        assert!(!place.path("cache/v1/runs").exists(), "{words}");
    }
}

#[test]
fn a_run_stops_when_its_budget_is_spent_and_goes_on_later() {
    let place = Place::new(
        "stages:\n  a: {uses: command, run: [touch, made]}\n  b: {uses: command, run: [sh, -c, \
         'test -e LOG || { touch LOG; sleep 600; }; touch made'], inputs: {a: a}}\n",
    );
    let said = place.say(&["run", "p.yaml", "--budget", "3s"]);
    assert_eq!(said.code, 130, "{}", said.err);
    assert!(said.err.contains("the budget of 3.00 s is spent"), "{}", said.err);
    assert!(said.err.contains("the same command goes on from here"), "{}", said.err);
    assert_eq!(place.counts(&["--budget", "10m"]), (1, 1));
    for wrong in ["0", "-1m", "x", "1d", "nanm"] {
        let said = place.say(&["run", "p.yaml", &format!("--budget={wrong}")]);
        assert_eq!(said.code, 2, "{wrong}: {}", said.err);
        assert!(said.err.contains("expected a time above 0"), "{wrong}: {}", said.err);
    }
}
