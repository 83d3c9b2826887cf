//! Every class of mistake: the place, the words, the advice.

use super::toys::{HEAD, mistake, mistake_with};

/// A stage `sft` of the given fields, after the stage `posts`.
fn sft(fields: &str) -> String {
    let fields: String = fields.lines().map(|line| format!("    {line}\n")).collect();
    format!("{HEAD}  sft:\n    uses: train\n    data: posts\n{fields}")
}

/// What is said about a stage of these fields, the first of which is in line 8.
fn about(fields: &str) -> String {
    mistake(&sft(fields))
}

#[test]
fn a_misspelt_key_is_shown_with_the_nearest_one() {
    assert_eq!(
        about("learning_rate: 1e-4\nstpes: 10"),
        "p.yaml:9:5: unknown key `stpes`\n  9 |     stpes: 10\n    |     ^^^^^\n  hint: did you \
         mean `steps`? known keys: data, base, learning_rate, steps, shuffle, note, clip, \
         optimiser, layers"
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = about("learning_rate: 1e-4\nstpes: 10\nclp: 1\nshuffle: no")
        + &mistake(&format!("{HEAD}  b: {{uses: trian}}\n  c: {{}}\n"));
    assert!(text.starts_with("3 mistakes\n\np.yaml:9:5: unknown key `stpes`"), "{text}");
    assert!(
        text.contains("\n\np.yaml:10:5: unknown key `clp`")
            && text.contains("\n\np.yaml:11:14: expected true or false"),
        "{text}"
    );
    assert!(text.contains("2 mistakes\n\np.yaml:5:13: there is no stage kind `trian`\n"), "{text}");
    assert!(
        text.contains(
            "did you mean `train`? stage kinds: corpus, train, compare\n\np.yaml:6:3: the stage \
             `c` does not say"
        ),
        "{text}"
    );
}

#[test]
fn a_missing_key_is_reported_at_the_stage() {
    assert_eq!(
        about("steps: 1"),
        "p.yaml:5:3: the key `learning_rate` is missing\n  5 |   sft:\n    |   ^^^"
    );
}

#[test]
fn a_wrong_type_is_reported_at_the_value() {
    assert_eq!(
        about("learning_rate: fast"),
        "p.yaml:8:20: expected a number, found `fast`\n  8 |     learning_rate: fast\n    \
         |                    ^^^^"
    );
    assert!(
        about("learning_rate: [1e-4]")
            .starts_with("p.yaml:8:20: expected a number, found a list\n")
    );
    assert!(
        about("learning_rate: 1e-4\nsteps: 1.5")
            .starts_with("p.yaml:9:12: expected a whole number, found `1.5`\n")
    );
    assert!(
        about("learning_rate: 1e-4\nlayers: [1, two]")
            .starts_with("p.yaml:9:17: expected a whole number, found `two`\n")
    );
    assert!(
        about("learning_rate: 1e-4\nlayers: 1")
            .starts_with("p.yaml:9:13: expected a list, found `1`\n")
    );
    assert!(
        about("learning_rate: 1e-4\nlayers: [200]")
            .starts_with("p.yaml:9:14: expected a whole number from -128 to 127, found `200`\n")
    );
    assert!(
        about("learning_rate: 1e-4\nsteps: -1")
            .starts_with("p.yaml:9:12: expected a whole number from 0 to 4294967295, found `-1`\n")
    );
    assert!(about("learning_rate: 1e-4\nclip: 1e39").contains("which is too large"));
    assert!(about("learning_rate:").starts_with("p.yaml:8:5: expected a number, found nothing\n"));
}

#[test]
fn a_number_out_of_range_is_reported_at_the_number() {
    assert_eq!(
        about("learning_rate: -1"),
        "p.yaml:8:20: `learning_rate`: must be above 0\n  8 |     learning_rate: -1\n    \
         |                    ^^"
    );
    let nested = about("learning_rate: 1e-4\noptimiser:\n  beta: 2\nsteps: 0");
    assert!(nested.contains("p.yaml:10:13: `optimiser.beta`: must be below 1\n"), "{nested}");
    assert!(nested.contains("p.yaml:11:12: `steps`: must be at least 1\n"), "{nested}");
}

#[test]
fn nested_mistakes_keep_their_place() {
    assert!(
        about("learning_rate: 1e-4\noptimiser:\n  bta: 0.9")
            .contains("p.yaml:10:7: unknown key `bta`")
    );
    assert!(
        about("learning_rate: 1e-4\noptimiser:\n  bta: 0.9")
            .contains("p.yaml:9:5: the key `beta` is missing")
    );
    let schedule = about("learning_rate: 1e-4\noptimiser: {beta: 0.9, schedule: cosin}");
    assert!(schedule.starts_with("p.yaml:9:38: unknown word `cosin`\n"), "{schedule}");
    assert!(
        schedule.ends_with("hint: did you mean `cosine`? known words: constant, cosine"),
        "{schedule}"
    );
}

#[test]
fn choices_with_fields_keep_their_place() {
    let source =
        |text: &str| mistake(&format!("stages:\n  posts:\n    uses: corpus\n    source: {text}\n"));
    assert!(source("jsnl").starts_with("p.yaml:4:13: unknown word `jsnl`\n"));
    assert!(source("{jsnl: {path: a}}").starts_with("p.yaml:4:14: unknown word `jsnl`\n"));
    assert!(source("jsonl").starts_with("p.yaml:4:13: the key `path` is missing\n"));
    assert!(source("{synthetic: {sed: 1}}").starts_with("p.yaml:4:26: unknown key `sed`\n"));
    assert!(
        source("{synthetic: {seed: x}}")
            .starts_with("p.yaml:4:32: expected a whole number, found `x`\n")
    );
    assert!(
        source("{synthetic: {}, empty: {}}").starts_with(
            "p.yaml:4:13: expected one key of synthetic, jsonl, empty, found 2 keys\n"
        )
    );
    assert!(
        source("[]")
            .starts_with("p.yaml:4:13: expected one of synthetic, jsonl, empty, found a list\n")
    );
    assert!(
        source("{empty: {a: 1}}")
            .starts_with("p.yaml:4:21: expected nothing here, found a mapping\n")
    );
}

#[test]
fn yaml_traps_are_errors_that_say_what_to_write() {
    let shuffle = |text: &str| about(&format!("learning_rate: 1e-4\nshuffle: {text}"));
    assert!(
        shuffle("no").ends_with("hint: `no` is text in YAML 1.2; write `false`"),
        "{}",
        shuffle("no")
    );
    assert!(shuffle("on").ends_with("hint: `on` is text in YAML 1.2; write `true`"));
    assert!(shuffle("True").ends_with("hint: `True` is text in YAML 1.2; write `true`"));
    assert!(shuffle("\"true\"").ends_with(
        "expected true or false, found the text \"true\"\n  9 |     shuffle: \"true\"\n    \
         |              ^^^^^^\n  hint: drop the quotes"
    ));
    let steps = |text: &str| about(&format!("learning_rate: 1e-4\nsteps: {text}"));
    assert!(
        steps("010").contains("without leading zeros, found `010` (octal, so 8, in YAML 1.1)"),
        "{}",
        steps("010")
    );
    assert!(steps("010").ends_with("hint: write 10"));
    assert!(steps("1_000").ends_with("hint: write 1000"));
    assert!(steps("1e3").ends_with("hint: write 1000"));
    assert!(steps("0x10").ends_with("hint: write 16"));
    assert!(steps("\"10\"").ends_with("hint: drop the quotes"));
    let rate = |text: &str| about(&format!("learning_rate: {text}"));
    assert!(
        rate("'1e-4'").starts_with("p.yaml:8:20: expected a number, found the text \"1e-4\"\n")
    );
    assert!(rate("'1e-4'").ends_with("hint: drop the quotes"));
    for text in [".nan", ".NaN", "nan", ".inf", "-.inf"] {
        assert!(
            rate(text).contains(&format!("expected a number, found `{text}`"))
                && rate(text).ends_with("hint: numbers must be finite")
        );
    }
}

#[test]
fn a_reference_to_no_stage_is_shown_with_the_nearest_one() {
    assert_eq!(
        mistake(&format!("{HEAD}  sft: {{uses: train, data: post, learning_rate: 1}}\n")),
        "p.yaml:5:28: there is no stage `post`\n  5 |   sft: \
         {uses: train, data: post, learning_rate: 1}\n    |                            ^^^^\n  \
         hint: did you mean `posts`? stages: posts, sft"
    );
}

#[test]
fn a_reference_to_the_wrong_kind_of_artefact_shows_both_places() {
    assert_eq!(
        about("learning_rate: 1e-4\nbase: posts"),
        "p.yaml:9:11: expected a stage that makes a `policy`, but `posts` makes a `dataset`\n  9 \
         |     base: posts\n    |           ^^^^^\np.yaml:3:11: `posts` is made here, by \
         `corpus`\n  3 |     uses: corpus\n    |           ^^^^^^\n  hint: stages that make a \
         `policy`: sft"
    );
}

#[test]
fn a_circle_of_stages_is_printed() {
    let stage = |name: &str, base: &str| {
        format!(
            "  {name}:\n    uses: train\n    data: posts\n    learning_rate: 1\n    base: {base}\n"
        )
    };
    let text = mistake(&format!("{HEAD}{}{}{}", stage("a", "b"), stage("b", "c"), stage("c", "a")));
    assert!(
        text.starts_with("p.yaml:9:11: stages in a circle: a -> b -> c -> a\n  9 |     base: b\n"),
        "{text}"
    );
    assert!(
        text.contains("p.yaml:14:11: `b` refers to the next here")
            && text.contains("p.yaml:19:11: `c` refers"),
        "{text}"
    );
    let alone = mistake(&format!("{HEAD}{}", stage("a", "a")));
    assert!(alone.starts_with("p.yaml:9:11: stages in a circle: a -> a\n"), "{alone}");
}

#[test]
fn a_duplicate_key_shows_both_places() {
    assert_eq!(
        about("learning_rate: 1\nsteps: 1\nsteps: 2"),
        "p.yaml:10:5: the key `steps` is given twice\n  10 |     steps: 2\n     |     \
         ^^^^^\np.yaml:9:5: first given here\n  9 |     steps: 1\n    |     ^^^^^\n  hint: remove \
         one of the two"
    );
    assert!(
        mistake(&format!("{HEAD}  posts: {{uses: corpus}}\n"))
            .starts_with("p.yaml:5:3: the key `posts` is given twice\n")
    );
}

#[test]
fn a_param_nobody_uses_is_an_error_and_so_is_one_that_is_not_there() {
    let text = mistake(&format!(
        "params:\n  rate: 1e-4\n{HEAD}  sft: \
         {{uses: train, data: posts, learning_rate: \"${{rat}}\"}}\n"
    ));
    assert!(
        text.starts_with("2 mistakes\n\np.yaml:2:3: no stage uses the param `rate`\n"),
        "{text}"
    );
    assert!(text.contains("p.yaml:7:50: there is no param `rat`\n"), "{text}");
    assert!(text.ends_with("hint: did you mean `rate`? params: rate"), "{text}");
}

#[test]
fn a_param_of_the_wrong_type_shows_the_value_and_the_use() {
    let text = mistake(&format!("params:\n  rate: fast\n{}", sft("learning_rate: ${rate}")));
    assert!(
        text.starts_with(
            "p.yaml:2:9: expected a number, found `fast`\n  2 |   rate: fast\n    |         \
             ^^^^\np.yaml:10:20: used here\n"
        ),
        "{text}"
    );
}

#[test]
fn params_in_a_circle_are_printed() {
    let text = mistake(&format!(
        "params:\n  a: x${{b}}\n  b: ${{c}}\n  c: ${{a}}\n{}",
        sft("learning_rate: 1\nnote: ${a}")
    ));
    assert!(text.starts_with("p.yaml:2:3: params in a circle: a -> b -> c -> a\n"), "{text}");
}

#[test]
fn malformed_params_are_errors_at_their_text() {
    assert!(
        about("learning_rate: 1\nnote: ${rate").starts_with("p.yaml:9:11: `${rate` has no `}`\n")
    );
    assert!(
        about("learning_rate: 1\nnote: ${a b}")
            .starts_with("p.yaml:9:11: `${a b}` does not name a param\n")
    );
    let list = mistake(&format!("params: {{a: [1]}}\n{}", sft("learning_rate: 1\nnote: x${a}")));
    assert!(
        list.starts_with("p.yaml:10:11: `${a}` is a list, which cannot be inside other text\n"),
        "{list}"
    );
}

#[test]
fn what_yaml_is_refused_says_what_to_do() {
    let rate = "learning_rate: 1\n";
    assert!(about(&format!("{rate}note: &a x")).starts_with("p.yaml:9:11: anchors and aliases"));
    assert!(about(&format!("{rate}note: *a")).contains("p.yaml:9:11: "));
    assert!(
        about(&format!("{rate}<<: {{a: 1}}"))
            .starts_with("p.yaml:9:5: merge keys are not supported\n")
    );
    assert!(about(&format!("{rate}note: !!str 1")).contains("tags (`!name`) are not supported\n"));
    assert!(
        about(&format!("{rate}[a]: 1")).starts_with("p.yaml:9:5: a list or mapping as a key\n")
    );
    assert!(about(&format!("{rate}~: 1")).starts_with("p.yaml:9:5: an empty key\n"));
    let second = mistake(&format!("{HEAD}---\na: 1\n"));
    assert!(second.starts_with("p.yaml:5:1: a second document\n"), "{second}");
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert!(about(&format!("{rate}note: {deep}")).contains("nested deeper than 64 levels"));
}

#[test]
fn a_tab_is_shown_where_it_stands() {
    let text = mistake("stages:\n\tposts:\n\t\tuses: corpus\n");
    assert_eq!(
        text,
        "p.yaml:2:1: a tab in the indentation\n  2 |  posts:\n    | ^\n  hint: YAML is indented \
         with spaces; use two a level"
    );
    let inner = mistake(&format!("{HEAD}  \tcolumns: {{}}\n"));
    assert!(inner.starts_with("p.yaml:5:3: a tab in the indentation\n"), "{inner}");
}

#[test]
fn broken_yaml_is_reported_where_it_breaks() {
    let text = mistake(&format!("{HEAD}  sft: {{uses: train\n"));
    assert!(text.contains("this is not YAML: "), "{text}");
    assert!(mistake("stages:\n  a: 'x\n").contains("this is not YAML: "));
    assert!(mistake("").starts_with("p.yaml:1:1: there is nothing in this file"));
    assert!(mistake("# a remark\n").starts_with("p.yaml:1:1: there is nothing in this file"));
    assert!(mistake("stages:\n").starts_with("p.yaml:1:1: `stages` is empty"));
    assert!(
        mistake("- a\n").starts_with("p.yaml:1:1: expected the file to be a mapping, found a list"),
        "{}",
        mistake("- a\n")
    );
}

#[test]
fn sections_are_known_by_name() {
    let text = mistake(&format!("parms: {{a: 1}}\n{HEAD}"));
    assert!(text.starts_with("p.yaml:1:1: unknown section `parms`\n"), "{text}");
    assert!(
        text.ends_with(
            "did you mean `params`? sections: name, description, extends, cache, params, profiles, \
             matrix, stages"
        ),
        "{text}"
    );
    assert!(
        mistake("name: x\n").starts_with("p.yaml:1:1: the section `stages` is missing\n"),
        "{}",
        mistake("name: x\n")
    );
    let text = mistake("stages:\n  1st:\n    uses: corpus\n    source: empty\n");
    assert!(text.starts_with("p.yaml:2:3: `1st` cannot name a stage\n"), "{text}");
    assert!(
        mistake("stages:\n  a: corpus\n")
            .starts_with("p.yaml:2:3: expected `a` to be a mapping, found `corpus`\n")
    );
}

#[test]
fn a_missing_file_is_reported_at_its_name() {
    let text =
        mistake("stages:\n  posts:\n    uses: corpus\n    source: {jsonl: {path: posts.jsonl}}\n");
    assert!(
        text.starts_with("p.yaml:4:28: there is no file or folder /nowhere/posts.jsonl\n"),
        "{text}"
    );
}

#[test]
fn resources_are_checked_too() {
    assert!(
        about("learning_rate: 1\nresources: {thread: 1}")
            .starts_with("p.yaml:9:17: unknown key `thread`\n")
    );
    assert!(
        about("learning_rate: 1\nresources: {threads: 0}")
            .starts_with("p.yaml:9:26: expected at least 1 thread, found `0`\n")
    );
    let gpus = about("learning_rate: 1\nresources: {gpus: 2}");
    assert!(
        gpus.starts_with("p.yaml:9:23: a run computes on one GPU: expected 1 or 0, found `2`\n"),
        "{gpus}"
    );
    for (timeout, says) in
        [("0", "above 0"), ("-1", "above 0"), ("1e12", "at most"), ("1h", "expected a number")]
    {
        let text = about(&format!("learning_rate: 1\ntimeout: {timeout}"));
        assert!(text.starts_with("p.yaml:9:14: ") && text.contains(says), "{text}");
    }
}

#[test]
fn a_name_in_a_path_of_a_problem_may_hold_dots() {
    let node = |text: &str| {
        let mut sources = posttrain::pipeline::diagnostic::Sources::default();
        let source = posttrain::pipeline::diagnostic::Source {
            name: "p".into(),
            text: text.into(),
            folder: "/".into(),
            lines: true,
        };
        let source = sources.add(source);
        posttrain::pipeline::yaml::parse(&sources, source).unwrap().unwrap()
    };
    let node = node("files:\n  a: {path: 1}\n  a.b: {path: 2}\n  ../up: {list: [x, {deep: 3}]}\n");
    let line = |path: &str| node.find(path).span.line;
    assert_eq!(
        [
            line("files.a.path"),
            line("files.a.b.path"),
            line("files.../up"),
            line("files.../up.list[1].deep")
        ],
        [2, 3, 4, 4]
    );
    assert_eq!(node.find("files.../up.list[1].deep").scalar().unwrap().text, "3");
    assert_eq!(line("files.nobody.path"), 1, "the nearest that there is");
}

#[test]
fn options_are_checked_like_the_file() {
    let text = format!(
        "params: {{rate: 1e-4, big: false}}\nprofiles: {{quick: {{rate: 1}}}}\n{}",
        sft("learning_rate: ${rate}\nshuffle: ${big}")
    );
    let set = |set: &str| mistake_with(&text, &[], &[set]);
    assert!(
        set("rat=1").starts_with(
            "--set rat=1: there is no param `rat`\n  hint: did you mean `rate`? params: rate, big"
        ),
        "{}",
        set("rat=1")
    );
    assert!(set("rate=fast").starts_with(
        "--set rate=fast: `rate`: expected a number, found `fast`\np.yaml:1:16: an override keeps \
         the type"
    ));
    assert!(set("big=yes").ends_with("hint: `yes` is text in YAML 1.2; write `true`"));
    assert!(set("rate").starts_with("--set rate: expected KEY=VALUE"));
    assert!(
        set("rate.x=1").starts_with("--set rate.x=1: `rate` has no fields: it is a number"),
        "{}",
        set("rate.x=1")
    );
    assert!(
        set("stages.sft.stps=1").starts_with("--set stages.sft.stps=1: unknown key `stps`\n"),
        "{}",
        set("stages.sft.stps=1")
    );
    assert!(
        set("stages.stf.steps=1").contains("there is no stage `stf`\n  hint: did you mean `sft`?")
    );
    assert!(set("sft.steps=1").contains("--set stages.sft.FIELD=VALUE"), "{}", set("sft.steps=1"));
    assert!(set("matrix.seed=[1]").contains("there is no param `seed`"));
    let profile = mistake_with(&text, &["quik"], &[]);
    assert!(
        profile.starts_with(
            "--profile quik: there is no profile `quik`\n  hint: did you mean `quick`? profiles: \
             quick"
        ),
        "{profile}"
    );
}

#[test]
fn a_profile_is_checked_even_when_it_is_not_chosen() {
    let text = format!(
        "params: {{rate: 1e-4}}\nprofiles:\n  quick: {{rat: 1}}\n  slow: {{rate: [1]}}\n{}",
        sft("learning_rate: ${rate}")
    );
    let text = mistake(&text);
    assert!(text.starts_with("2 mistakes\n\np.yaml:3:11: there is no param `rat`\n"), "{text}");
    assert!(text.contains("p.yaml:4:16: `rate`: expected a number, found a list\n"), "{text}");
}

#[test]
fn a_matrix_is_checked() {
    let text = |matrix: &str| {
        mistake(&format!(
            "params: {{rate: 1, steps: 2}}\nmatrix: {matrix}\n{}",
            sft("learning_rate: ${rate}\nsteps: ${steps}")
        ))
    };
    assert!(text("{rat: [1]}").starts_with("p.yaml:2:10: there is no param `rat`\n"));
    assert!(
        text("{rate: 1}")
            .starts_with("p.yaml:2:16: expected a list of values for `rate`, found `1`\n")
    );
    assert!(text("{rate: []}").contains("expected a list of values"));
    assert!(text("{rate: [0.1, 1e-1]}").starts_with("p.yaml:2:22: `rate` has this value twice\n"));
    assert!(text("{rate: [a]}").starts_with("p.yaml:2:17: `rate`: expected a number, found `a`\n"));
    assert!(
        text("{rate: [1, 2], exclude: [{rate: 3}]}")
            .contains("`rate` never is `3`, so this excludes nothing\n")
    );
    assert!(
        text("{rate: [1, 2], exclude: [{steps: 3}]}")
            .contains("`steps` is not an axis of this matrix\n")
    );
    assert!(
        text("{rate: [1], exclude: [{rate: 1}]}")
            .starts_with("p.yaml:2:10: every point of the matrix is excluded\n")
    );
    for (matrix, said) in [
        ("{rate: [1], include: [{steps: 3}]}", "2:32: `steps` is not an axis of this matrix\n"),
        ("{rate: [1], include: [{rate: a}]}", "2:38: `rate`: expected a number, found `a`\n"),
        ("{rate: [1], include: {rate: 2}}", "expected a list of mappings for `include`"),
        ("{zip: 1}", "2:15: expected a mapping of lists for `zip`, found `1`\n"),
        (
            "{zip: {rate: [1, 2], steps: [1]}}",
            "2:30: `steps` has 1 values, but `rate` beside it has 2\n",
        ),
        ("{zip: {rate: 1}}", "2:22: expected a list of values for `rate`, found `1`\n"),
        ("{zip: {rate: [1, 1.0]}}", "this point is given twice\n"),
        ("{rate: [1], zip: {rate: [1]}}", "the axis `rate` is given twice\n"),
        ("{nested: {rate: 1}}", "expected a list of mappings for `nested`"),
        ("{nested: [{rate: 1}, {steps: 2}]}", "2:30: this item of `nested` has no `rate`\n"),
        (
            "{nested: [{rate: 1}, {rate: 2, steps: 2}]}",
            "2:40: `steps` is not an axis of the first item of `nested`\n",
        ),
        ("{nested: []}", "`nested` names no axis\n"),
    ] {
        assert!(text(matrix).contains(said), "{matrix}: {}", text(matrix));
    }
}

#[test]
fn of_many_mistakes_the_first_are_shown_and_the_rest_is_counted() {
    let stages: String = (0..80).map(|at| format!("  s{at}: {{uses: nothing}}\n")).collect();
    let text = mistake(&format!("stages:\n{stages}"));
    assert!(text.starts_with("80 mistakes\n"), "{text}");
    assert_eq!(text.matches("there is no stage kind `nothing`").count(), 50);
    assert!(text.ends_with("\n\nand 30 more"), "{text}");
}

/// Probe P14: what other tools do worst at is at least as good here.
#[test]
fn p14_a_param_in_a_flow_list_is_explained() {
    let text = about("learning_rate: 1\nlayers: [src/${item}]");
    assert_eq!(
        text,
        "p.yaml:9:14: `src/${item}` must be quoted inside [ ] or { }\n  9 |     layers: \
         [src/${item}]\n    |              ^^^^^^^^^^^\n  hint: write \"src/${item}\", or one item \
         a line, each after `- `"
    );
    assert!(
        about("layers: [1, ${item}, 2]").starts_with("p.yaml:8:17: `${item}` must be quoted"),
        "{}",
        about("layers: [1, ${item}, 2]")
    );
    assert!(
        about("optimiser: {beta: ${beta}}").starts_with("p.yaml:8:23: `${beta}` must be quoted")
    );
}
