//! Stages that make datasets, tokenizers and models from what is there already, and programs.

use serde_json::{Value, json};

use super::{Case, Others, Pair, plain, with};
use crate::stages::fixture::fixture;

/// Rows of a file with a name, a body and a gist.
fn rows(path: Value) -> Value {
    json!({"path": path, "prompt": "{body} tl;dr:", "completion": " {gist}"})
}

pub fn dataset(others: &Others) -> Case {
    let base = json!({"source": {"files": {"key": rows(fixture().at("posts.jsonl"))}}});
    let pairs = [files(others), selected(others), worlds(), made(others)].concat();
    let posts = rows(fixture().at("posts.jsonl"));
    let tests = with(&posts, &json!({"limit": 3}));
    let skipping = with(&rows(others.at("bad.jsonl")), &json!({"on_bad_row": "skip"}));
    let refused = vec![
        (
            "leaks",
            json!("fail"),
            json!({"source": {"files": {"key": posts, "test/x": tests}}, "leaks": "remove"}),
            "held-out texts occur in training",
        ),
        (
            "source.files.key.on_bad_row",
            json!("error"),
            json!({"source.files.key": skipping}),
            "there is no column `gist`",
        ),
    ];
    Case { refused, ..Case::new(base, pairs) }
}

/// Fields of the rows of a file.
fn files(others: &Others) -> Vec<Pair> {
    let only = |config: Value| json!({"source.files.key": config});
    let posts = rows(fixture().at("posts.jsonl"));
    let lengths = rows(others.at("lengths.jsonl"));
    let kept = |filter: Value| only(with(&lengths, &json!({"keep": [filter]})));
    let cut = only(with(&lengths, &json!({"cut": {"column": "body", "words": 3}})));
    let shared = |share: Value| only(with(&posts, &json!({"share": share})));
    let two = || {
        only(json!({"path": fixture().at("posts.jsonl"), "prompt": "{body}",
            "chosen": " {gist}", "rejected": " {name}"}))
    };
    vec![
        plain("source.files.key.path", others.at("posts.jsonl")),
        plain("source.files.key.prompt", json!("{body} ?")),
        plain("source.files.key.completion", json!(" {name}")),
        plain("source.files.key.id", json!("name")),
        plain("source.files.key.shuffle", json!(1)),
        plain("source.files.key.limit", json!(3)),
        (
            "source.files.key.format",
            json!("alpaca_farm"),
            only(json!({"path": others.at("laid.jsonl"), "format": "trl"})),
        ),
        ("source.files.key.chosen", json!(" {name} {gist}"), two()),
        ("source.files.key.rejected", json!(" {name} {name}"), two()),
        (
            "source.files.key.margin",
            json!("by"),
            only(json!({"path": others.at("margins.jsonl"), "margin": "gap"})),
        ),
        (
            "source.files.key.chat",
            others.at("chat"),
            only(json!({"path": fixture().at("chats.jsonl")})),
        ),
        (
            "source.files.key.keep.0.column",
            json!("gist"),
            kept(json!({"column": "name", "not": "r1"})),
        ),
        (
            "source.files.key.keep.0.equals",
            json!("r2"),
            kept(json!({"column": "name", "equals": "r1"})),
        ),
        ("source.files.key.keep.0.not", json!("r2"), kept(json!({"column": "name", "not": "r1"}))),
        (
            "source.files.key.keep.0.any_of.0",
            json!("r2"),
            kept(json!({"column": "name", "any_of": ["r1"]})),
        ),
        (
            "source.files.key.keep.0.none_of.0",
            json!("r2"),
            kept(json!({"column": "name", "none_of": ["r1"]})),
        ),
        (
            "source.files.key.keep.0.contains",
            json!("2"),
            kept(json!({"column": "name", "contains": "1"})),
        ),
        (
            "source.files.key.keep.0.max_words",
            json!(4),
            kept(json!({"column": "body", "max_words": 3})),
        ),
        (
            "source.files.key.keep.0.more_words_than",
            json!(4),
            kept(json!({"column": "body", "more_words_than": 3})),
        ),
        ("source.files.key.share.from", json!(0.5), shared(json!({"from": 0, "to": 1}))),
        ("source.files.key.share.to", json!(0.5), shared(json!({"from": 0, "to": 1}))),
        ("source.files.key.share.seed", json!(2), shared(json!({"from": 0, "to": 0.5, "seed": 1}))),
        ("source.files.key.cut.column", json!("gist"), cut.clone()),
        ("source.files.key.cut.words", json!(2), cut.clone()),
        ("source.files.key.cut.keep", json!("end"), cut),
    ]
}

/// Fields of rows that are picked from another dataset.
fn selected(others: &Others) -> Vec<Pair> {
    let at = |name| fixture().at(name);
    let select = |more: Value| {
        let pick = with(&json!({"from": "sft"}), &more);
        json!({"source": {"select": {"dataset": at("dataset"), "splits": {"key": pick}}}})
    };
    let half = || select(json!({"half": {"scores": at("scores"), "keep": "upper"}}));
    let shared = |share: Value| select(json!({"share": share}));
    vec![
        ("source.select.dataset", others.at("dataset"), select(json!({}))),
        ("source.select.splits.key.from", json!("notes"), select(json!({}))),
        ("source.select.splits.key.shuffle", json!(1), select(json!({}))),
        ("source.select.splits.key.limit", json!(3), select(json!({}))),
        ("source.select.splits.key.half.scores", others.at("scores"), half()),
        ("source.select.splits.key.half.keep", json!("lower"), half()),
        ("source.select.splits.key.share.from", json!(0.5), shared(json!({"from": 0, "to": 1}))),
        ("source.select.splits.key.share.to", json!(0.5), shared(json!({"from": 0, "to": 1}))),
        (
            "source.select.splits.key.share.seed",
            json!(2),
            shared(json!({"from": 0, "to": 0.5, "seed": 1})),
        ),
    ]
}

/// Fields of the two synthetic worlds.
fn worlds() -> Vec<Pair> {
    let world = |kind: &str| {
        let options = json!({"seed": 1, "notes": 2, "pretrain": 2, "sft": 3, "compare": 2,
            "prompts": 2, "validation": 2, "test": 2});
        json!({"source": {kind: options}})
    };
    let pair = |field: &'static str| {
        let kind = field.split('.').nth(1).unwrap();
        (field, json!(4), world(kind))
    };
    [
        "source.world.seed",
        "source.world.notes",
        "source.world.pretrain",
        "source.world.sft",
        "source.world.compare",
        "source.world.prompts",
        "source.world.validation",
        "source.world.test",
        "source.instructions.seed",
        "source.instructions.notes",
        "source.instructions.pretrain",
        "source.instructions.sft",
        "source.instructions.compare",
        "source.instructions.prompts",
        "source.instructions.validation",
        "source.instructions.test",
    ]
    .map(pair)
    .into_iter()
    .chain([
        ("source.world.every_kind", json!(2), world("world")),
        ("source.world.tests_from", json!("validation"), world("world")),
        ("source.instructions.every_kind", json!(2), world("instructions")),
        ("source.instructions.tests_from", json!("validation"), world("instructions")),
    ])
    .collect()
}

/// Fields of preference pairs that are made of another dataset.
fn made(others: &Others) -> Vec<Pair> {
    let at = |name| fixture().at(name);
    let world = || {
        json!({"source": {"world_preferences": {"posts": at("dataset"),
            "candidates": at("candidates"), "writers": 2, "seed": 1,
            "noise": {"beta": 4.0, "min_gap": 0.2}}}})
    };
    let contrast = || {
        json!({"source": {"contrast": {"dataset": at("dataset"), "splits": {"key": "sft"},
            "kinds": ["other"], "seed": 1}}})
    };
    let rewarded = || {
        json!({"source": {"reward_pairs": {"candidates": at("pool"), "splits": {"key": "test/id"},
            "min_gap": 0.0}}})
    };
    let diverse = || {
        with(
            &rewarded(),
            &json!({"source.reward_pairs.pairs": {"diverse":
        {"pool": 0.5, "by": "likelihood"}}}),
        )
    };
    vec![
        ("source.world_preferences.posts", others.at("facts"), world()),
        ("source.world_preferences.candidates", others.at("candidates"), world()),
        ("source.world_preferences.writers", json!(3), world()),
        ("source.world_preferences.seed", json!(2), world()),
        ("source.world_preferences.noise.beta", json!(0.0), world()),
        ("source.world_preferences.noise.min_gap", json!(0.5), world()),
        ("source.world_preferences.noise.per_word", json!(0.5), world()),
        ("source.contrast.dataset", others.at("dataset"), contrast()),
        ("source.contrast.splits.key", json!("notes"), contrast()),
        ("source.contrast.kinds.0", json!("cut"), contrast()),
        ("source.contrast.seed", json!(2), contrast()),
        ("source.reward_pairs.candidates", others.at("pool"), rewarded()),
        ("source.reward_pairs.splits.key", json!("test/ood"), rewarded()),
        ("source.reward_pairs.pairs", json!({"diverse": {"pool": 0.5}}), rewarded()),
        ("source.reward_pairs.pairs.diverse.pool", json!(0.25), diverse()),
        ("source.reward_pairs.pairs.diverse.by", json!("novelty"), diverse()),
        ("source.reward_pairs.min_gap", json!(3.0), diverse()),
    ]
}

pub fn tokenizer(others: &Others) -> Case {
    let base = json!({"dataset": fixture().at("dataset"), "vocabulary": 300});
    let pairs = vec![plain("dataset", others.at("tests")), plain("vocabulary", json!(280))];
    Case::new(base, pairs)
}

pub fn model(_: &Others) -> Case {
    let base = json!({"path": fixture().at("policy")});
    Case::new(base, vec![plain("path", fixture().at("other"))])
}

pub fn artefact(others: &Others) -> Case {
    let base = json!({"path": fixture().at("reward"), "makes": "reward_model"});
    let refused = vec![("makes", json!("policy"), json!({}), "is not a language model")];
    Case { refused, ..Case::new(base, vec![plain("path", others.at("reward"))]) }
}

pub fn command(others: &Others) -> Case {
    let at = |name| fixture().at(name);
    let shell = |text: &str| json!(["sh", "-c", text]);
    let pairs = vec![
        plain("run.0", json!("mkdir")),
        (
            "inputs.key",
            others.at("dataset"),
            json!({"run": shell("cat $key/notes.jsonl > copy"), "inputs": {"key": at("dataset")}}),
        ),
        (
            "gather.key.0",
            others.at("dataset"),
            json!({
                "run": shell("cat $key/notes.jsonl > copy"), "gather": {"key": [at("dataset")]}
            }),
        ),
        (
            "files.key",
            others.at("posts.jsonl"),
            json!({"run": shell("cat {key} > copy"), "files": {"key": at("posts.jsonl")}}),
        ),
        (
            "env.key",
            json!("other"),
            json!({"run": shell("echo $key > copy"), "env": {"key": "one"}}),
        ),
    ];
    let refused = vec![("makes", json!("dataset"), json!({}), "this is no `dataset`")];
    let elsewhere = vec![(
        "sandbox",
        "cli/made_elsewhere.rs",
        "a_sandboxed_program_sees_what_it_is_given_and_nothing_else",
    )];
    Case { refused, elsewhere, ..Case::new(json!({"run": ["touch", "made"]}), pairs) }
}
