//! A run as data, of the default study's size, with texts that would do harm if they were taken for
//! HTML.

use std::collections::BTreeMap;

use posttrain::artefacts::attribution::{Attribution, Step};
use posttrain::artefacts::comparisons::{Between, Comparisons, MatchedQuality};
use posttrain::artefacts::curves::{BestOfN, Training, TrainingStep};
use posttrain::artefacts::distributions::ByPosition;
use posttrain::artefacts::inputs::{Answer, Input};
use posttrain::artefacts::judgements::{OfSplit, Usage, Verdicts};
use posttrain::artefacts::optimum::{AtBeta, AtN, OfMethod, Optimum};
use posttrain::artefacts::quality::AtK;
use posttrain::artefacts::reward_model::Accuracy;
use posttrain::artefacts::seeds::Figure;
use posttrain::artefacts::table::{Over, Row, Table};
use posttrain::artefacts::temperatures::Temperatures;
use posttrain::eval::best_of_n::{curve, kl_bound};
use posttrain::eval::compare::{
    Difference, Gap, Matched, Measured, Wins, differences, gaps, head_to_head,
};
use posttrain::eval::gains::gain_gaps;
use posttrain::eval::interval::{Interval, Kind, of_mean};
use posttrain::eval::over_optimisation::{Fall, Fit, Form};
use posttrain::eval::reward::Bin;
use posttrain::eval::seeds;
use posttrain::random::Stream;
use posttrain::report::run::{Curve, Evaluation, Judging, Made, Node, Run};
use posttrain::rl::sentinels::table::Action;
use posttrain::rl::sentinels::watch::{Fired, Verdict};
use serde_json::json;

pub const TEST_SETS: [&str; 3] = ["id", "ood_forum", "ood_<b>length"];
pub const METHODS: [&str; 4] = ["sft", "best_of_n", "ppo", "reference"];
/// Inputs of each test set.
pub const INPUTS: usize = 30;

/// Every way out of a text that is not escaped: each would set the window's `harmed`.
pub const HOSTILE: [&str; 5] = [
    "</script><script>window.harmed = 1</script>",
    "<img src=x onerror=\"window.harmed = 2\">",
    "\" onmouseover=\"window.harmed = 3\" x=\"",
    "<!--<script>",
    "</pre></details><svg onload='window.harmed = 4'>\u{2028}",
];

/// The run.
pub fn run() -> Run {
    let nodes = [
        ("world", "dataset", vec![]),
        ("tokenizer", "tokenizer", vec!["world"]),
        ("base", "pretrain", vec!["world", "tokenizer"]),
        ("sft", "sft", vec!["base", "world"]),
        ("labels", "dataset", vec!["world", "sft"]),
        ("reward", "reward_model", vec!["sft", "labels"]),
        ("ppo[kl=0.02]", "ppo", vec!["sft", "reward", "world"]),
        ("ppo[kl=0.1]", "ppo", vec!["sft", "reward", "world"]),
        ("answers", "generate", vec!["ppo[kl=0.1]", "world"]),
        ("report", "evaluate", vec!["answers", "reward", "sft", "world"]),
        ("over_seeds", "over_seeds", vec!["report"]),
        ("later", "command", vec!["report"]),
    ];
    Run {
        name: "a <b>study</b>".into(),
        id: "20261123-120000.000-0".into(),
        started: "2026-11-23 12:00:00 UTC".into(),
        seconds: Some(812.5),
        version: "0.1.0".into(),
        device: json!({"cpu": {"threads": 2}}),
        threads: 2,
        command: format!("posttrain run study.yaml --set 'note={}'", HOSTILE[0]),
        pipeline: "/home/someone/study.yaml".into(),
        pipeline_hash: "0123456789abcdef".repeat(4),
        pipeline_text: Some(format!("name: study\n# {}\n", HOSTILE[4])),
        nodes: nodes
            .into_iter()
            .enumerate()
            .map(|(at, (name, stage, needs))| node(at, name, stage, &needs))
            .collect(),
        evaluations: vec![evaluation(), over_seeds()],
        judgings: vec![judging()],
    }
}

fn node(at: usize, name: &str, stage: &str, needs: &[&str]) -> Node {
    let ending = [
        "cached",
        "cached",
        "cached",
        "ran",
        "ran",
        "ran",
        "ran",
        "interrupted",
        "ran",
        "ran",
        "ran",
        "failed",
    ][at];
    let steps = if stage == "ppo" { 40 } else { 1500 };
    let trains = ["pretrain", "sft", "reward_model", "ppo"].contains(&stage);
    let names: &[&str] = if stage == "ppo" {
        &["objective/kl", "objective/scores", "objective/entropy", "val/ratio"]
    } else {
        &["loss", "grad_norm"]
    };
    let curve = |(which, metric): (usize, &&str)| {
        let value = |step: u64| {
            (step as f64 / 10.0 + which as f64 + at as f64).sin()
                + step as f64 / steps as f64 * (which as f64 - 0.5)
        };
        Curve {
            metric: metric.to_string(),
            points: (1..=steps).map(|step| (step, (step != 7).then(|| value(step)))).collect(),
        }
    };
    let config =
        json!({"note": HOSTILE[1], "rate": 0.001 * at as f64, "of": {"$object": "f".repeat(64)}});
    Node {
        name: name.into(),
        stage: stage.into(),
        ending: ending.into(),
        needs: needs.iter().map(|need| need.to_string()).collect(),
        seconds: if ending == "cached" { 0.0 } else { 10.0 * at as f64 },
        key: Some("a".repeat(64)),
        object: (ending != "failed").then(|| "b".repeat(64)),
        made: (ending != "failed").then(|| Made {
            output: "policy".into(),
            version: 3,
            numerics: "cpu f32".into(),
            seconds: 40.0,
            finished: "2026-11-23 12:05:00 UTC".into(),
            config,
            sources: [("of".to_owned(), HOSTILE[2].to_owned())].into(),
            accepted: (stage == "sft").then(|| format!("made under another key: {}", HOSTILE[0])),
        }),
        curves: if trains { names.iter().enumerate().map(curve).collect() } else { Vec::new() },
        sentinels: trains.then(|| Verdict { fired: fired(stage), judged: Vec::new() }),
    }
}

fn evaluation() -> Evaluation {
    let mut table = Table::default();
    let (mut measured, mut best_of_n) = (Vec::new(), Vec::new());
    let mut inputs: Vec<Input> = Vec::new();
    for (s, set) in TEST_SETS.iter().enumerate() {
        let first = inputs.len();
        for at in 0..INPUTS {
            let word = if at == 3 && s == 0 { "quokka " } else { "" };
            let prompt = format!(
                "SUBREDDIT: r/{set}\nPOST: {word}input {at} {}\nTL;DR:",
                HOSTILE[at % HOSTILE.len()]
            );
            inputs.push(Input::new(set, &format!("row-{at}"), &prompt));
        }
        for (m, method) in METHODS.iter().enumerate() {
            let mut draws = Stream::new(m as u64, set).sequence(0);
            for (metric, centre, deviation) in [
                ("gold", 0.2 + 0.2 * m as f64 - 0.3 * s as f64, 0.4),
                ("rm", 0.5 * m as f64 - 0.2 * s as f64, 1.0),
                ("win_rate", 0.3 + 0.1 * m as f64, 0.3),
                ("length", 18.0 + m as f64, 4.0),
                ("kl", 1.7 * m as f64, 1.0),
                ("ead_per_input", 0.8 - 0.1 * m as f64, 0.1),
                ("ead_across_inputs", 0.8 - 0.03 * m as f64, 0.1),
                ("coverage_who", 0.6, 0.2),
            ] {
                let values: Vec<f64> =
                    (0..INPUTS).map(|_| centre + deviation * draws.normal()).collect();
                table.rows.push(Row::new(method, set, metric, of_mean(&values)));
                if metric.len() <= 4 {
                    for (input, value) in inputs[first..].iter_mut().zip(&values) {
                        match input.answers.iter_mut().find(|answer| answer.method == *method) {
                            Some(answer) => drop(answer.scores.insert(metric.into(), Some(*value))),
                            None => {
                                let text = format!(
                                    "{method} says {} {}",
                                    input.id,
                                    HOSTILE[(m + s) % HOSTILE.len()]
                                );
                                let samples = if m < 3 {
                                    vec![text.clone(), HOSTILE[m].to_owned()]
                                } else {
                                    Vec::new()
                                };
                                let scores = [(metric.to_owned(), Some(*value))].into();
                                input.answers.push(Answer {
                                    method: method.to_string(),
                                    text,
                                    scores,
                                    samples,
                                });
                            }
                        }
                    }
                    measured.push(Measured {
                        metric: metric.into(),
                        test_set: set.to_string(),
                        method: method.to_string(),
                        values,
                    });
                }
            }
        }
        let candidates: Vec<(Vec<f64>, Vec<f64>)> = (0..INPUTS)
            .map(|at| {
                let mut draws = Stream::new(9, set).sequence(at as u64);
                let scores: Vec<f64> = (0..16).map(|_| draws.normal()).collect();
                let golds = scores
                    .iter()
                    .map(|score| 0.3 * score - 0.1 * score * score + 0.5 * draws.normal())
                    .collect();
                (scores, golds)
            })
            .collect();
        let own: Vec<(Vec<f64>, Vec<f64>)> =
            candidates.iter().map(|(scores, _)| (scores.clone(), scores.clone())).collect();
        for (metric, values) in [("rm", &own), ("gold", &candidates)] {
            let by_n = curve(values);
            let bounds = (1..=by_n.len()).map(kl_bound).collect();
            best_of_n.push(BestOfN {
                method: "best_of_n".into(),
                test_set: set.to_string(),
                metric: metric.into(),
                by_n,
                kl_bound: bounds,
            });
        }
        let narrower = |n: usize| {
            let mean = 0.7 - 0.01 * n as f64;
            Interval { mean, low: mean - 0.02, high: mean + 0.02, n: INPUTS, kind: Kind::SkewT }
        };
        best_of_n.push(BestOfN {
            method: "best_of_n".into(),
            test_set: set.to_string(),
            metric: "ead_per_input".into(),
            by_n: (1..=16).map(narrower).collect(),
            kl_bound: (1..=16).map(kl_bound).collect(),
        });
    }
    let compared = differences(&measured, 0);
    let attributions = attributions(&compared);
    let at_equal_kl = compared.iter().find(|difference| {
        (difference.method.as_str(), difference.with.as_str()) == ("ppo", "best_of_n")
    });
    let by = |difference: &Difference, metric: &str| Matched {
        kl: 1.25,
        kl_interval: Interval { mean: 1.25, low: 1.0, high: 1.5, n: INPUTS, kind: Kind::SkewT },
        temperature: 1.0,
        own: 0.75,
        best: 0.75 - difference.interval.mean,
        difference: Difference { metric: metric.into(), ..difference.clone() },
    };
    let matched = at_equal_kl
        .into_iter()
        .flat_map(|difference| ["gold", "ead_per_input"].map(|metric| by(difference, metric)))
        .collect();
    let wins = head_to_head(&measured, &["gold"]);
    let gains = gain_gaps(&measured);
    let comparisons = compared_by(compared, wins, gaps(&measured), matched);
    let comparisons = Comparisons { gains, ..comparisons };
    let interval = |mean: f64| Interval {
        mean,
        low: mean - 0.1,
        high: mean + 0.1,
        n: INPUTS,
        kind: Kind::SkewT,
    };
    let step = |step: usize| {
        let kl = 0.1 * step as f64;
        TrainingStep {
            step,
            kl: interval(kl),
            rm: interval(kl),
            raw_rm: None,
            gold: Some(interval(kl - 0.2 * kl * kl)),
        }
    };
    let over_optimisation =
        vec![Training { method: "ppo".into(), steps: (1..=20).map(step).collect() }];
    let bin = |at: usize| Bin {
        low: 0.5 + 0.1 * at as f64,
        high: 0.6 + 0.1 * at as f64,
        confidence: 0.55 + 0.1 * at as f64,
        accuracy: interval(0.52 + 0.07 * at as f64),
    };
    let reward_model = TEST_SETS
        .map(|set| Accuracy {
            test_set: set.into(),
            prompts: None,
            accuracy: None,
            by_confidence: (0..5).map(bin).collect(),
            calibration: None,
            by_source: BTreeMap::new(),
        })
        .into();
    Evaluation {
        node: "report".into(),
        table,
        comparisons,
        seeds: Vec::new(),
        judges: Vec::new(),
        left_out: vec!["Left out: `rm` of `base`: it has no `outputs`.".into()],
        leaks: vec!["Leaks: 2 of 5 rows of `test/id`, by `reward`: they are left out.".into()],
        temperatures: ["sft", "best_of_n", "ppo"]
            .map(|method| Temperatures {
                method: method.into(),
                outputs: Some(0.7),
                samples: Some(1.0),
                ..Temperatures::default()
            })
            .into(),
        at_k: at_k(),
        by_position: by_position(),
        best_of_n,
        over_optimisation,
        optimum: optima(),
        beside_people: Vec::new(),
        attributions,
        reward_model,
        inputs,
    }
}

/// Of two methods on the first test set: one that is ahead with one sample, and one that reaches
/// more with many.
fn at_k() -> Vec<AtK> {
    let curve = |method: &str, metric: &str, one: f64, rate: f64| {
        let point = |k: usize| {
            let mean = 1.0 - (1.0 - one) * (k as f64).powf(-rate);
            Interval { mean, low: mean - 0.05, high: mean + 0.05, n: INPUTS, kind: Kind::SkewT }
        };
        AtK {
            method: method.into(),
            test_set: TEST_SETS[0].into(),
            metric: metric.into(),
            by_k: (1..=16).map(point).collect(),
        }
    };
    ["pass_at_k", "best_at_k"]
        .into_iter()
        .flat_map(|metric| [("sft", 0.3, 0.8), ("ppo", 0.6, 0.2)].map(|of| (metric, of)))
        .map(|(metric, (method, one, rate))| curve(method, metric, one, rate))
        .collect()
}

/// All comparisons.
fn compared_by(
    differences: Vec<Difference>,
    head_to_head: Vec<Wins>,
    gaps: Vec<Gap>,
    matched: Vec<Matched>,
) -> Comparisons {
    let scored = |one: &Matched| MatchedQuality {
        by: "gold".into(),
        quality: one.kl_interval,
        best_of: 2.5,
        temperature: one.temperature,
        own: one.own,
        best: one.best,
        difference: one.difference.clone(),
    };
    let diverse = matched.iter().filter(|one| one.difference.metric == "ead_per_input");
    let matched_quality = diverse.map(scored).collect();
    let between = between();
    Comparisons {
        differences,
        head_to_head,
        gaps,
        matched,
        matched_quality,
        between,
        ..Comparisons::default()
    }
}

/// Every two of three methods on the first test set.
fn between() -> Vec<Between> {
    let of = |(method, with, mean): (&str, &str, f64)| {
        let figure = |mean: f64| Interval {
            mean,
            low: mean - 0.05,
            high: mean + 0.05,
            n: INPUTS,
            kind: Kind::SkewT,
        };
        Between {
            metric: "ngram_similarity".into(),
            test_set: TEST_SETS[0].into(),
            method: method.into(),
            with: with.into(),
            similarity: figure(mean),
            high: figure(mean / 2.0),
            apart: Some(figure(0.7 - mean)),
        }
    };
    [("best_of_n", "sft", 0.4), ("ppo", "sft", 0.3), ("ppo", "best_of_n", 0.5)].map(of).into()
}

/// Of two methods on the first test set: one that narrows after its first tokens, and one that ends
/// earlier.
fn by_position() -> Vec<ByPosition> {
    let curve = |method: &str, first: f64, last: usize| {
        let point = |position: usize| {
            let mean = 1.5 + first * (-0.2 * position as f64).exp();
            Interval { mean, low: 0.9 * mean, high: 1.2 * mean, n: INPUTS, kind: Kind::SkewT }
        };
        ByPosition {
            method: method.into(),
            test_set: TEST_SETS[0].into(),
            metric: "branching_factor".into(),
            temperature: 1.0,
            by_position: (1..=last).map(point).collect(),
        }
    };
    [("sft", 20.0, 24), ("ppo", 4.0, 16)]
        .map(|(method, first, last)| curve(method, first, last))
        .into()
}

/// The optimum of the objective on two test sets, of whose betas the least has no estimate.
fn optima() -> Vec<Optimum> {
    let figure = |mean: f64| Interval {
        mean,
        low: mean - 0.05,
        high: mean + 0.1,
        n: INPUTS,
        kind: Kind::SkewTBias,
    };
    let figures = |kl: f64| {
        let gold = 0.3 + 0.4 * kl - 0.1 * kl * kl;
        let all = [("kl", kl), ("rm", kl), ("gold", gold), ("ngram_distance", 0.9 - 0.2 * kl)];
        all.map(|(metric, mean)| (metric.to_owned(), figure(mean))).into()
    };
    let at_beta = |(at, beta): (usize, f64)| AtBeta {
        beta,
        ess: 4.0 * 3f64.powi(at as i32),
        least_ess: 2.0,
        figures: (at > 0).then(|| figures(0.5 / beta)),
    };
    let optimum = |test_set: &str| Optimum {
        test_set: test_set.into(),
        temperature: 1.0,
        inputs: INPUTS,
        candidates: 256,
        min_ess: 10.0,
        by_beta: [0.1, 0.25, 0.5, 1.0].into_iter().enumerate().map(at_beta).collect(),
        best_of_n: [1, 4, 16].map(|n| AtN { n, figures: figures(0.9 * kl_bound(n)) }).into(),
        methods: vec![OfMethod { method: "ppo".into(), figures: figures(1.25) }],
        fits: vec![fit()],
    };
    TEST_SETS[..2].iter().map(|set| optimum(set)).collect()
}

/// Gold from `sft` by `best_of_n` to `ppo`, on every test set.
fn attributions(differences: &[Difference]) -> Vec<Attribution> {
    let chain = ["sft", "best_of_n", "ppo"];
    let of = |set: &str, method: &str, with: &str| {
        let own = |one: &&Difference| {
            (one.metric.as_str(), one.test_set.as_str(), one.method.as_str(), one.with.as_str())
                == ("gold", set, method, with)
        };
        differences.iter().find(own).expect("every two methods are compared").clone()
    };
    let one = |set: &&str| {
        let total = of(set, "ppo", "sft");
        let step = |pair: &[&str]| {
            let change = of(set, pair[1], pair[0]);
            let mean = change.interval.mean / total.interval.mean;
            let share = Interval {
                mean,
                low: mean - 0.2,
                high: mean + 0.2,
                n: INPUTS,
                kind: Kind::Jackknife,
            };
            Step { change, share: Some(share) }
        };
        Attribution {
            metric: "gold".into(),
            test_set: set.to_string(),
            chain: chain.map(str::to_owned).into(),
            start: 0.1,
            steps: chain.windows(2).map(step).collect(),
            total: total.clone(),
        }
    };
    TEST_SETS.iter().map(one).collect()
}

/// Best-of-n past its peak.
fn fit() -> Fit {
    let interval = |mean: f64| Interval {
        mean,
        low: mean - 0.05,
        high: mean + 0.05,
        n: INPUTS,
        kind: Kind::SkewT,
    };
    Fit {
        family: "best_of_n".into(),
        form: Form::BestOfN,
        points: 8,
        a: interval(0.9),
        b: interval(0.3),
        residual: 0.01,
        peak_kl: Some(2.25),
        peak_gain: Some(0.675),
        peak_is_within: true,
        fall: Some(Fall {
            best: "n = 16".into(),
            best_kl: 1.83,
            furthest: "n = 256".into(),
            furthest_kl: 4.55,
            difference: interval(-0.2),
            p: 0.001,
        }),
    }
}

/// What a language model says of one method, and of what people have preferred.
fn judging() -> Judging {
    let interval = |mean: f64| Interval {
        mean,
        low: mean - 0.1,
        high: mean + 0.1,
        n: INPUTS,
        kind: Kind::SkewT,
    };
    let split = || OfSplit {
        win_rate: interval(0.6),
        ties: 3,
        unclear: 1,
        first_share: Some(0.55),
        order_agreement: Some(interval(0.8)),
        by_confidence: BTreeMap::new(),
    };
    let splits = TEST_SETS.map(|set| (format!("test/{set}"), split())).into();
    let usage = Some(Usage {
        questions: 2 * INPUTS,
        prompt_tokens: 9000,
        completion_tokens: 120,
        cost: Some(0.25),
    });
    let verdicts = Verdicts { splits, usage, agreement: None, people: None };
    Judging {
        node: "asked".into(),
        a: "ppo_outputs".into(),
        b: "reference".into(),
        who: format!("asked: {}.", HOSTILE[0]),
        verdicts,
    }
}

/// Three seeds of two methods: on the first test set they agree on what is better, and nowhere
/// else.
fn over_seeds() -> Evaluation {
    let mut seeds: Vec<Figure> = Vec::new();
    for (s, set) in TEST_SETS.iter().enumerate() {
        let gold = [[0.30, 0.34, 0.29], [0.61 - 0.3 * s as f64, 0.64, 0.60 - 0.2 * s as f64]];
        let figure = |method: &str, with: Option<&str>, values: Vec<f64>| Figure {
            method: method.into(),
            with: with.map(str::to_owned),
            test_set: set.to_string(),
            metric: "gold".into(),
            quantity: None,
            to: None,
            sources: None,
            test: None,
            sequential: None,
            p_holm: with.map(|_| if s == 0 { 0.003 } else { 0.8 }),
            over_inputs: if with.is_none() {
                values.iter().map(|value| [value - 0.05, value + 0.05]).collect()
            } else {
                Vec::new()
            },
            over: seeds::over_seeds(values),
        };
        seeds.push(figure("sft", None, gold[0].to_vec()));
        seeds.push(figure("ppo", None, gold[1].to_vec()));
        seeds.push(figure(
            "ppo",
            Some("sft"),
            (0..3).map(|seed| gold[1][seed] - gold[0][seed]).collect(),
        ));
    }
    let row = |figure: &Figure| {
        Row::new(&figure.method, &figure.test_set, &figure.metric, figure.over.interval)
    };
    let rows = seeds.iter().filter(|figure| figure.with.is_none()).map(row).collect();
    Evaluation {
        node: "over_seeds".into(),
        table: Table { over: Over::Seeds, rows, ..Table::default() },
        seeds,
        ..Evaluation::default()
    }
}

/// The sentinels that fired in a stage: one in `ppo`, none elsewhere.
fn fired(stage: &str) -> Vec<Fired> {
    let own = Fired {
        sentinel: "kl_runaway".into(),
        step: 12,
        value: 2.5,
        threshold: 1.5,
        action: Action::Warn,
    };
    if stage == "ppo" { vec![own] } else { Vec::new() }
}
