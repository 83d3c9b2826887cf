//! The matrix: which nodes a sweep has, what they share, and what a reference between them means.

use serde_json::json;

use super::toys::{config, expand, expand_with, mistake, mistake_with, names};

/// posts <- sft(rate) <- tuned(seed), and all of tuned side by side.
fn sweep(matrix: &str, compare: &str) -> String {
    format!(
        "params: {{rate: 1, seed: 0, metric: gold}}\nmatrix: {matrix}\nstages:\n  posts: \
         {{uses: corpus, source: synthetic}}\n  sft: \
         {{uses: train, data: posts, learning_rate: \"${{rate}}\"}}\n  tuned: \
         {{uses: train, data: posts, base: sft, learning_rate: 1, steps: 5, note: \"${{seed}}\"}}\n  compare: {{uses: compare, metric: \"${{metric}}\", policies: {compare}}}\n"
    )
}

#[test]
fn a_stage_is_multiplied_only_by_the_axes_it_depends_on() {
    let pipeline = expand(&sweep("{rate: [1, 2], seed: [0, 1]}", "[tuned]"));
    let expected = [
        "posts",
        "sft[rate=1]",
        "sft[rate=2]",
        "tuned[rate=1,seed=0]",
        "tuned[rate=1,seed=1]",
        "tuned[rate=2,seed=0]",
        "tuned[rate=2,seed=1]",
        "compare[rate=1,seed=0]",
        "compare[rate=1,seed=1]",
        "compare[rate=2,seed=0]",
        "compare[rate=2,seed=1]",
    ];
    assert_eq!(names(&pipeline), expected);
    assert_eq!(
        config(&pipeline, "tuned[rate=2,seed=1]")["base"],
        json!({"$stage": "sft[rate=2]", "kind": "policy"})
    );
    assert_eq!(config(&pipeline, "tuned[rate=2,seed=1]")["data"]["$stage"], "posts");
    assert_eq!(
        config(&pipeline, "compare[rate=1,seed=1]")["policies"][0]["$stage"],
        "tuned[rate=1,seed=1]"
    );
    assert_eq!(
        pipeline.stages[1],
        ("sft".into(), vec!["sft[rate=1]".into(), "sft[rate=2]".into()])
    );
}

#[test]
fn all_gathers_every_point() {
    for written in ["{all: tuned}", "[{all: tuned}]"] {
        let pipeline = expand(&sweep("{rate: [1, 2], seed: [0, 1]}", written));
        assert_eq!(names(&pipeline).last(), Some(&"compare"));
        let policies = config(&pipeline, "compare")["policies"].as_array().unwrap();
        let policies: Vec<_> =
            policies.iter().map(|policy| policy["$stage"].as_str().unwrap()).collect();
        assert_eq!(
            policies,
            [
                "tuned[rate=1,seed=0]",
                "tuned[rate=1,seed=1]",
                "tuned[rate=2,seed=0]",
                "tuned[rate=2,seed=1]"
            ]
        );
    }
}

#[test]
fn all_gathers_the_points_that_agree_with_what_else_the_stage_depends_on() {
    let pipeline = expand(&sweep("{rate: [1, 2], seed: [0, 1]}", "[sft, {all: tuned}]"));
    let policies = config(&pipeline, "compare[rate=2]")["policies"].as_array().unwrap();
    let policies: Vec<_> =
        policies.iter().map(|policy| policy["$stage"].as_str().unwrap()).collect();
    assert_eq!(policies, ["sft[rate=2]", "tuned[rate=2,seed=0]", "tuned[rate=2,seed=1]"]);
    assert_eq!(names(&pipeline).len(), 1 + 2 + 4 + 2);
}

#[test]
fn all_over_an_axis_gathers_the_points_that_differ_along_it_once_for_each_value_of_the_others() {
    for over in ["seed", "[seed]"] {
        let pipeline = expand(&sweep(
            "{rate: [1, 2], seed: [0, 1]}",
            &format!("{{all: tuned, over: {over}}}"),
        ));
        let policies = config(&pipeline, "compare[rate=2]")["policies"].as_array().unwrap();
        let policies: Vec<_> =
            policies.iter().map(|policy| policy["$stage"].as_str().unwrap()).collect();
        assert_eq!(policies, ["tuned[rate=2,seed=0]", "tuned[rate=2,seed=1]"]);
        assert_eq!(names(&pipeline).len(), 1 + 2 + 4 + 2);
    }
    let pipeline =
        expand(&sweep("{rate: [1, 2], seed: [0, 1]}", "{all: tuned, over: [rate, seed]}"));
    assert_eq!(config(&pipeline, "compare")["policies"].as_array().unwrap().len(), 4);
    // A param that is no axis has one value.
    let text = sweep("{rate: [1, 2], seed: [0]}", "{all: sft, over: seed}")
        .replace("matrix: {rate: [1, 2], seed: [0]}\n", "");
    assert_eq!(
        config(&expand(&text), "compare")["policies"],
        json!([{"$stage": "sft", "kind": "policy"}])
    );
    let text = mistake(&sweep("{rate: [1, 2], seed: [0, 1]}", "{all: tuned, over: sed}"));
    assert!(
        text.contains("there is no param `sed`") && text.contains("did you mean `seed`?"),
        "{text}"
    );
    for (over, expected) in [
        ("seed, ovr: seed", "unknown key `ovr`"),
        ("{}", "found a mapping"),
        ("[]", "expected an axis of the matrix, or a list of them"),
        ("null", "found nothing"),
    ] {
        let text = mistake(&sweep(
            "{rate: [1, 2], seed: [0, 1]}",
            &format!("{{all: tuned, over: {over}}}"),
        ));
        assert!(text.contains(expected), "{text}");
    }
}

/// `compare` of these fields, over rates and seeds.
fn compared(fields: &str) -> String {
    sweep("{rate: [1, 2], seed: [0, 1]}", "[]").replace("policies: []", fields)
}

#[test]
fn a_reference_over_an_axis_repeats_the_item_that_it_is_in() {
    let text = compared(
        "methods: [{name: sft, policy: sft}, {name: tuned, policy: {all: tuned, over: seed}, \
         beside: {all: tuned, over: seed}}], judged: {sft: sft, tuned: {all: tuned, over: seed}}",
    );
    let pipeline = expand(&text);
    let node = |name: &str| json!({"$stage": name, "kind": "policy"});
    let tuned = |seed: u32| node(&format!("tuned[rate=2,seed={seed}]"));
    let config_of = config(&pipeline, "compare[rate=2]");
    assert_eq!(
        config_of["methods"],
        json!([
            {"name": "sft", "policy": node("sft[rate=2]"), "beside": null},
            {"name": "tuned[seed=0]", "policy": tuned(0), "beside": tuned(0)},
            {"name": "tuned[seed=1]", "policy": tuned(1), "beside": tuned(1)},
        ])
    );
    assert_eq!(
        config_of["judged"],
        json!({"sft": node("sft[rate=2]"), "tuned[seed=0]": tuned(0), "tuned[seed=1]": tuned(1)})
    );
    // An axis that an option has taken away leaves one item, under its plain name.
    let pipeline = expand_with(&text, &[], &["seed=1"]);
    assert_eq!(
        config(&pipeline, "compare[rate=2]")["methods"][1],
        json!({"name": "tuned", "policy": node("tuned[rate=2]"), "beside": node("tuned[rate=2]")})
    );
}

#[test]
fn what_cannot_be_repeated_is_a_mistake() {
    for (fields, expected) in [
        ("methods: [{name: a, policy: {all: tuned}}]", "the key `over` is missing"),
        ("methods: [{name: a, policy: {all: sft, over: seed}}]", "`sft` does not differ in seed"),
        (
            "methods: [{name: a, policy: {all: tuned, over: seed}, beside: {all: sft, over: rate}}]",
            "this names the points [",
        ),
        ("judged: {a: {all: tuned, over: sed}}", "there is no param `sed`"),
    ] {
        let text = mistake(&compared(fields));
        assert!(text.contains(expected), "{fields}: {text}");
    }
    let text = compared("methods: [{name: tuned, policy: {all: tuned, over: seed}}]");
    let text = mistake_with(&text, &[], &["matrix.seed=[0, 3]"]);
    assert!(text.contains("`methods`: `tuned[seed=3]` is taken"), "{text}");
}

#[test]
fn all_of_a_stage_with_one_node_is_that_node() {
    let pipeline = expand(
        &sweep("{rate: [1, 2], seed: [0]}", "{all: sft}")
            .replace("matrix: {rate: [1, 2], seed: [0]}\n", ""),
    );
    assert_eq!(
        config(&pipeline, "compare")["policies"],
        json!([{"$stage": "sft", "kind": "policy"}])
    );
}

#[test]
fn all_stands_only_in_lists() {
    let text = sweep("{rate: [1, 2]}", "[tuned]").replace("base: sft", "base: {all: sft}");
    assert!(
        mistake(&text).contains("expected the name of a stage, found a mapping"),
        "{}",
        mistake(&text)
    );
    let text = sweep("{rate: [1, 2]}", "['tuned[*]']");
    assert!(
        mistake(&text).contains("hint: in a list, {all: tuned} means every point of `tuned`"),
        "{}",
        mistake(&text)
    );
}

#[test]
fn one_node_may_be_named() {
    let pipeline =
        expand(&sweep("{rate: [1, 2], seed: [0, 1]}", "[tuned, 'tuned[rate=1,seed=0]']"));
    assert_eq!(
        config(&pipeline, "compare[rate=2,seed=1]")["policies"][1]["$stage"],
        "tuned[rate=1,seed=0]"
    );
    let text = mistake(&sweep("{rate: [1, 2]}", "['tuned[rate=3]']"));
    assert!(
        text.contains("there is no node `tuned[rate=3]`\n")
            && text.ends_with("hint: nodes: tuned[rate=1], tuned[rate=2]"),
        "{text}"
    );
}

#[test]
fn exclude_takes_points_away() {
    let pipeline =
        expand(&sweep("{rate: [1, 2], seed: [0, 1], exclude: [{rate: 2.0, seed: 1}]}", "[tuned]"));
    let tuned: Vec<_> =
        names(&pipeline).into_iter().filter(|name| name.starts_with("tuned")).collect();
    assert_eq!(tuned, ["tuned[rate=1,seed=0]", "tuned[rate=1,seed=1]", "tuned[rate=2,seed=0]"]);
    let pipeline = expand(&sweep("{rate: [1, 2], seed: [0, 1], exclude: [{rate: 2}]}", "[tuned]"));
    assert!(!names(&pipeline).iter().any(|name| name.contains("rate=2")));
}

/// Whether an exclusion reaches a stage that depends on one of its axes, and leaves one that
/// depends on none.
#[test]
fn what_is_excluded_of_other_axes_takes_no_node_away() {
    let names = |exclude: &str| {
        let matrix = format!("{{rate: [1, 2], seed: [0, 1], metric: [a, b], exclude: {exclude}}}");
        let pipeline = expand(&sweep(&matrix, "[tuned]"));
        names(&pipeline).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let tied = names("[{rate: 1, seed: 0}, {rate: 1, seed: 1}]");
    let expected = ["posts", "sft[rate=2]", "tuned[rate=2,seed=0]", "tuned[rate=2,seed=1]"];
    assert_eq!(tied[..4], expected, "no seed is left for a rate of 1");
    assert_eq!(tied.len(), 4 + 4);
    let crossed = names("[{rate: 1, seed: 0, metric: a}, {seed: 1, metric: b}]");
    assert_eq!(
        crossed[3..],
        [
            "tuned[rate=1,seed=0]",
            "tuned[rate=1,seed=1]",
            "tuned[rate=2,seed=0]",
            "tuned[rate=2,seed=1]",
            "compare[rate=1,seed=0,metric=b]",
            "compare[rate=1,seed=1,metric=a]",
            "compare[rate=2,seed=0,metric=a]",
            "compare[rate=2,seed=0,metric=b]",
            "compare[rate=2,seed=1,metric=a]"
        ]
    );
}

/// A value of an axis may use another axis: a stage that uses the one depends on both.
#[test]
fn an_axis_whose_values_use_another_is_multiplied_by_it() {
    let text = "params: {x: a, y: 1}\nmatrix: {x: [\"n${y}\", m], y: [1, 2]}\nstages:\n  a: \
        {uses: train, data: b, learning_rate: 1, note: \"${x}\"}\n  b: \
        {uses: corpus, source: synthetic}\n";
    let pipeline = expand(text);
    let notes: Vec<&str> = pipeline
        .graph
        .nodes
        .iter()
        .filter(|node| node.stage == "train")
        .map(|node| node.config["note"].as_str().unwrap())
        .collect();
    assert_eq!(notes, ["n1", "n2", "m", "m"]);
}

#[test]
fn a_value_more_or_less_leaves_the_other_nodes_alone() {
    let two = expand(&sweep("{rate: [1, 2]}", "[tuned]"));
    let three = expand(&sweep("{rate: [1, 3, 2]}", "[tuned]"));
    for node in &two.graph.nodes {
        assert_eq!(config(&three, &node.name), &node.config);
    }
    assert_eq!(names(&three).len(), names(&two).len() + 3);
}

#[test]
fn names_do_not_depend_on_spelling() {
    let pipeline = expand(&sweep("{rate: [1e-1, 2.0], metric: [gold, '1', (a)]}", "[tuned]"));
    assert!(names(&pipeline).contains(&"compare[rate=0.1,metric=1]"), "{:?}", names(&pipeline));
    assert!(names(&pipeline).contains(&"sft[rate=2]"));
}

#[test]
fn a_value_given_on_the_command_line_takes_the_axis_away() {
    let text = format!(
        "profiles: {{one: {{seed: 5}}}}\n{}",
        sweep("{rate: [1, 2], seed: [0, 1], exclude: [{rate: 2, seed: 1}]}", "[tuned]")
    );
    let pipeline = expand_with(&text, &[], &["seed=1"]);
    assert_eq!(names(&pipeline), ["posts", "sft[rate=1]", "tuned[rate=1]", "compare[rate=1]"]);
    assert_eq!(config(&pipeline, "tuned[rate=1]")["note"], "1");
    let pipeline = expand_with(&text, &["one"], &["rate=3"]);
    assert_eq!(names(&pipeline), ["posts", "sft", "tuned", "compare"]);
    let pipeline = expand_with(&text, &[], &["matrix.seed=[7]", "rate=1", "matrix.metric=[a, b]"]);
    assert_eq!(
        names(&pipeline),
        ["posts", "sft", "tuned[seed=7]", "compare[seed=7,metric=a]", "compare[seed=7,metric=b]"]
    );
}

#[test]
fn a_reference_may_itself_be_swept() {
    let text = "params: {which: sft, rate: 1}\nmatrix: \
        {which: [sft, tuned], rate: [1, 2]}\nstages:\n  posts: \
        {uses: corpus, source: synthetic}\n  sft: {uses: train, data: posts, learning_rate: 1}\n  \
        tuned: {uses: train, data: posts, base: sft, learning_rate: \"${rate}\"}\n  compare: \
        {uses: compare, policies: [\"${which}\"]}\n";
    let pipeline = expand(text);
    // With `which` at `sft` nothing depends on `rate`.
    assert_eq!(
        names(&pipeline),
        [
            "posts",
            "sft",
            "tuned[rate=1]",
            "tuned[rate=2]",
            "compare[which=sft]",
            "compare[which=tuned,rate=1]",
            "compare[which=tuned,rate=2]"
        ]
    );
    assert_eq!(
        config(&pipeline, "compare[which=tuned,rate=2]")["policies"][0]["$stage"],
        "tuned[rate=2]"
    );
}

#[test]
fn an_axis_may_hold_mappings() {
    let text = "params: {source: {synthetic: {}}}\nmatrix:\n  source:\n    - synthetic: \
        {rows: 5}\n    - synthetic: {rows: 6}\nstages:\n  posts: \
        {uses: corpus, source: \"${source}\"}\n";
    assert_eq!(
        names(&expand(text)),
        ["posts[source=(synthetic:(rows:5))]", "posts[source=(synthetic:(rows:6))]"]
    );
}

#[test]
fn targets_are_stages_or_nodes() {
    let pipeline = expand(&sweep("{rate: [1, 2]}", "[tuned]"));
    let select = |targets: &[&str]| {
        pipeline.select(&targets.iter().map(|t| t.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(
        select(&["sft", "tuned[rate=2]"]).unwrap(),
        ["sft[rate=1]", "sft[rate=2]", "tuned[rate=2]"]
    );
    assert!(select(&[]).unwrap().is_empty());
    assert!(select(&["stf"]).unwrap_err().to_string().contains("did you mean `sft`?"));
    assert!(
        select(&["sft[rate=9]"])
            .unwrap_err()
            .to_string()
            .contains("nodes of `sft`: sft[rate=1], sft[rate=2]")
    );
}
