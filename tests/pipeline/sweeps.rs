//! The matrix: which nodes a sweep has, what they share, and what a reference between them means.

use serde_json::json;

use posttrain::pipeline::selection::Part;

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

/// The nodes of `tuned`, in order.
fn tuned(matrix: &str) -> Vec<String> {
    let pipeline = expand(&sweep(matrix, "[tuned]"));
    let own = names(&pipeline).into_iter().filter_map(|name| name.strip_prefix("tuned"));
    own.map(str::to_owned).collect()
}

#[test]
fn zipped_axes_take_their_values_side_by_side() {
    let zipped = "[rate=1,seed=5] [rate=2,seed=6] [rate=1,seed=7]";
    for matrix in [
        "{zip: {rate: [1, 2, 1], seed: [5, 6, 7]}}",
        "{zip: [{rate: [1, 2, 1.0], seed: [5, 6, 7]}]}",
    ] {
        assert_eq!(tuned(matrix).join(" "), zipped);
        let pipeline = expand(&sweep(matrix, "[tuned]"));
        let sft: Vec<_> =
            names(&pipeline).into_iter().filter(|name| name.starts_with("sft")).collect();
        assert_eq!(sft, ["sft[rate=1]", "sft[rate=2]"], "a stage of one of the axes");
    }
    // Of two items, each combination; and beside a plain axis.
    let pipeline = expand(&sweep("{zip: {rate: [1, 2], seed: [5, 6]}, metric: [a, b]}", "[tuned]"));
    let compared: Vec<_> =
        names(&pipeline).into_iter().filter(|name| name.starts_with("compare")).collect();
    assert_eq!(
        compared,
        [
            "compare[rate=1,seed=5,metric=a]",
            "compare[rate=1,seed=5,metric=b]",
            "compare[rate=2,seed=6,metric=a]",
            "compare[rate=2,seed=6,metric=b]"
        ]
    );
}

#[test]
fn nested_axes_have_values_that_depend_on_those_of_others() {
    let matrix = "{nested: [{rate: 1, seed: [0, 1]}, {seed: 0, rate: [2, 3]}]}";
    let expected = "[rate=1,seed=0] [rate=1,seed=1] [rate=2,seed=0] [rate=3,seed=0]";
    assert_eq!(tuned(matrix).join(" "), expected);
}

#[test]
fn include_adds_points_with_values_of_their_own() {
    assert_eq!(
        tuned("{rate: [1, 2], seed: [0], include: [{rate: 9, seed: 7}, {rate: 1, seed: 0}]}"),
        ["[rate=1,seed=0]", "[rate=2,seed=0]", "[rate=9,seed=7]"],
        "a point that is there is there once"
    );
    assert_eq!(
        tuned("{rate: [1, 2], seed: [0], include: [{seed: 7}]}"),
        ["[rate=1,seed=0]", "[rate=2,seed=0]", "[rate=1,seed=7]", "[rate=2,seed=7]"],
        "an axis that is not named takes the values of the product"
    );
    assert_eq!(
        tuned("{rate: [1, 2], seed: [0, 1], exclude: [{rate: 2}], include: [{rate: 2, seed: 1}]}"),
        ["[rate=1,seed=0]", "[rate=1,seed=1]", "[rate=2,seed=1]"],
        "what is included is not excluded"
    );
    // The stages below have the added values too, and no others.
    let pipeline =
        expand(&sweep("{rate: [1], seed: [0], include: [{rate: 9, seed: 7}]}", "[tuned]"));
    assert_eq!(
        config(&pipeline, "tuned[rate=9,seed=7]")["base"]["$stage"].as_str(),
        Some("sft[rate=9]")
    );
    assert_eq!(config(&pipeline, "sft[rate=9]")["learning_rate"], json!(9.0));
    let all =
        expand(&sweep("{rate: [1], seed: [0], include: [{rate: 9, seed: 7}]}", "{all: tuned}"));
    assert_eq!(config(&all, "compare")["policies"].as_array().map(Vec::len), Some(2));
}

#[test]
fn options_reach_every_key_of_a_matrix() {
    let text = sweep("{zip: {rate: [1, 2], seed: [5, 6]}, metric: [a, b]}", "[tuned]");
    let own = |sets: &[&str]| {
        let pipeline = expand_with(&text, &[], sets);
        let names = names(&pipeline).into_iter().filter(|name| name.starts_with("compare"));
        names.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(own(&["metric=a"]), "compare[rate=1,seed=5] compare[rate=2,seed=6]");
    assert_eq!(own(&["metric=a", "seed=1"]), "compare[rate=1] compare[rate=2]");
    assert_eq!(own(&["metric=a", "matrix.zip={rate: [7], seed: [8]}"]), "compare[rate=7,seed=8]");
    assert_eq!(
        own(&["matrix.exclude=[{metric: b}]"]),
        "compare[rate=1,seed=5,metric=a] compare[rate=2,seed=6,metric=a]"
    );
    assert_eq!(
        own(&["metric=a", "matrix.include=[{rate: 3, seed: 9}]"]),
        "compare[rate=1,seed=5] compare[rate=2,seed=6] compare[rate=3,seed=9]"
    );
    let said = mistake_with(&text, &[], &["matrix.rate=[1, 2]"]);
    assert!(
        said.contains("`rate` is an axis under `zip`") && said.contains("matrix.zip"),
        "{said}"
    );
}

/// The nodes that a part of the sweep has, without what they need.
fn part(
    matrix: &str,
    compare: &str,
    targets: &[&str],
    only: &[&str],
    sample: Option<usize>,
) -> String {
    let pipeline = expand(&sweep(matrix, compare));
    let owned = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    match pipeline.select_part(&owned(targets), &Part { only: owned(only), sample }) {
        Ok(names) => names.join(" "),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_part_of_a_sweep_is_chosen_by_values() {
    let of = |targets: &[&str], only: &[&str]| {
        part("{rate: [1, 2], seed: [0, 1]}", "[tuned]", targets, only, None)
    };
    assert_eq!(of(&["tuned[rate=1]"], &[]), "tuned[rate=1,seed=0] tuned[rate=1,seed=1]");
    assert_eq!(of(&["tuned[seed=1,rate=2.0]"], &[]), "tuned[rate=2,seed=1]");
    assert_eq!(of(&["*[rate=2]"], &[]).split(' ').count(), 1 + 2 + 2);
    assert_eq!(of(&["s*"], &[]), "sft[rate=1] sft[rate=2]");
    assert_eq!(
        of(&[], &["rate=2", "seed=0"]),
        "posts sft[rate=2] tuned[rate=2,seed=0] compare[rate=2,seed=0]"
    );
    assert_eq!(of(&["tuned"], &["rate=1", "rate=2", "seed=0"]).split(' ').count(), 2);
    // What gathers all seeds needs some that are not wanted.
    let gathered = part("{rate: [1, 2], seed: [0, 1]}", "[{all: tuned}]", &[], &["seed=0"], None);
    assert_eq!(gathered, "posts sft[rate=1] sft[rate=2] tuned[rate=1,seed=0] tuned[rate=2,seed=0]");
    for (said, expected) in [
        (of(&["tuned[rate=3]"], &[]), "nodes of `tuned`: tuned[rate=1,seed=0]"),
        (of(&[], &["rat=1"]), "did you mean `rate`?"),
        (of(&[], &["rate=3"]), "`rate` never is `3`\n  hint: its values: 1, 2"),
        (of(&[], &["rate"]), "expected AXIS=VALUE"),
        (of(&["sft[rate=1]"], &["rate=2"]), "no node has rate=2"),
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_sample_of_a_sweep_is_the_same_every_time() {
    let of = |seeds: &str, count| {
        let matrix = format!("{{rate: [1, 2], seed: {seeds}}}");
        part(&matrix, "[tuned]", &[], &[], Some(count))
    };
    let two = of("[0, 1, 2, 3]", 2);
    assert_eq!(two.split(' ').filter(|name| name.starts_with("compare[")).count(), 2, "{two}");
    assert_eq!(of("[3, 1, 0, 2]", 2), two, "whatever the order of the values");
    assert!(of("[0, 1, 2, 3]", 3).starts_with(&two));
    assert_eq!(of("[0]", 9).split(' ').count(), 2, "no more than there are");
    let said = part("{rate: [1]}", "[tuned]", &["posts"], &[], Some(1));
    assert!(said.contains("no node depends on an axis"), "{said}");
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
