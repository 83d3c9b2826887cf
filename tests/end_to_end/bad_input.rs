//! What users get wrong outside of the pipeline file: each mistake ends in an error that says what,
//! where and what to do.

use super::smoke::{SMOKE, edited, filled};
use crate::cli::place::Place;

/// Rows from a file.
const FILES: &str = "\
stages:
  data:
    uses: dataset
    source:
      files:
        sft: {path: posts.jsonl, prompt: \"{post} TL;DR:\", completion: \" {title}\"}
        test/id: {path: tests.jsonl, prompt: \"{post} TL;DR:\", completion: \" {title}\"}
  tokenizer: {uses: tokenizer, dataset: data, vocabulary: 300}
  base:
    uses: pretrain
    dataset: data
    tokenizer: tokenizer
    phases: [sft]
    batch_size: 2
    model: {width: 16, layers: 1, heads: 2, feed_forward: 16, context: 64}
    optimiser: {learning_rate: 0.01}
  samples: {uses: generate, policy: base, dataset: data, sampling: {max_new_tokens: 8}}
";

fn rows(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| {
            format!("{{\"post\": \"the {name} is on the table\", \"title\": \"a {name}\"}}\n")
        })
        .collect()
}

fn place() -> Place {
    let place = Place::new(FILES);
    place.write("posts.jsonl", &rows(&["cup", "key", "pen", "hat"]));
    place.write("tests.jsonl", &rows(&["map", "box"]));
    place
}

/// Runs; a stage fails with these words, and so does the run. Nothing that the stage made comes
/// into the cache.
fn fails(place: &Place, stage: &str, words: &[&str]) {
    let made = || place.objects().into_iter().filter(|(node, _)| node == stage).collect::<Vec<_>>();
    let before = made();
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains(&format!("{stage}  failed after ")), "{}", said.err);
    for word in words {
        assert!(said.err.contains(word), "{word:?} in\n{}", said.err);
    }
    assert_eq!(made(), before);
}

#[test]
fn good_files_go_through() {
    let place = place();
    place.good(&["run", "p.yaml", "--quiet"]);
    assert_eq!(place.objects().len(), 4);
    assert_eq!(place.made("samples", "samples.jsonl").lines().count(), 2);
}

#[test]
fn a_missing_file_is_named_before_anything_runs() {
    let place = place();
    std::fs::remove_file(place.path("tests.jsonl")).unwrap();
    for command in ["run", "plan"] {
        let said = place.say(&[command, "p.yaml"]);
        assert_eq!(said.code, 2, "{}", said.err);
        assert!(
            said.err.starts_with("error: ") && said.err.contains("tests.jsonl"),
            "{}",
            said.err
        );
    }
    assert!(place.objects().is_empty());
}

#[test]
fn a_broken_row_is_named_with_its_file() {
    let place = place();
    place.write("posts.jsonl", &format!("{}{{\"post\": \"the cup\n", rows(&["cup", "key"])));
    fails(
        &place,
        "data",
        &["posts.jsonl, row 3: broken JSON", "one JSON object a line is expected"],
    );
    place.write("posts.jsonl", &format!("{}{{\"post\": \"the cup\"}}\n", rows(&["cup"])));
    fails(&place, "data", &["posts.jsonl, row 2: there is no column `title`"]);
}

#[test]
fn an_empty_split_is_refused() {
    let place = place();
    place.write("tests.jsonl", "\n");
    fails(&place, "data", &["tests.jsonl", "0 rows"]);
    place.write("tests.jsonl", &rows(&["map"]));
    place.pipeline(&edited(
        FILES,
        "posts.jsonl,",
        "posts.jsonl, keep: [{column: title, equals: a cat}],",
    ));
    fails(&place, "data", &["posts.jsonl: none of its 4 rows is kept"]);
    // A split that the dataset does not have at all.
    place.pipeline(&edited(FILES, "phases: [sft]", "phases: [pretrain]"));
    let said = place.say(&["run", "p.yaml"]);
    assert_eq!(said.code, 2, "{}", said.err);
    let error = "error: `base`: the dataset has no split `pretrain`\n  hint: it has: sft, test/id";
    assert!(said.err.contains(error), "{}", said.err);
}

#[test]
fn a_post_longer_than_the_context_is_named_with_its_row() {
    let place = place();
    let long = |word: &str| {
        format!("{{\"post\": \"{}\", \"title\": \"x\"}}\n", format!("{word} ").repeat(99))
    };
    place.write("posts.jsonl", &(rows(&["cup", "key"]) + &long("word")));
    let untrained = |words: &[&str]| {
        let said = place.say(&["run", "p.yaml"]);
        assert_eq!(said.code, 2, "{}", said.err);
        for word in words {
            assert!(said.err.contains(word), "{word:?} in\n{}", said.err);
        }
        let made = place.objects();
        assert!(made.iter().all(|(node, _)| ["data", "tokenizer"].contains(&&**node)), "{made:?}");
    };
    untrained(&[
        "error: `base`: split `sft`, row 3: ",
        "do not fit the model's context of 64",
        "leave the rows out",
    ]);
    // All rows that any stage reads, at once.
    place.write("tests.jsonl", &(rows(&["map"]) + &long("text")));
    let again = "  again: {uses: generate, policy: base, dataset: data, seed: 1, sampling: \
        {max_new_tokens: 8}}\n";
    place.pipeline(&format!("{FILES}{again}"));
    untrained(&[
        "error: 2 errors in rows that models read; nothing was trained:",
        "\n  `base`: split `sft`, row 3: ",
        "\n  `samples`, `again`: split `test/id`, row 2: ",
        "the policy's context of 64",
        "hint: set `max_prompt_tokens: 56`",
    ]);
    place.write("posts.jsonl", &rows(&["cup", "key"]));
    place.pipeline(FILES);
    untrained(&[
        "error: `samples`: split `test/id`, row 2: ",
        "the policy's context of 64",
        "max_prompt_tokens: 56",
    ]);
    place.pipeline(&edited(
        FILES,
        "dataset: data, sampling",
        "dataset: data, max_prompt_tokens: 50, sampling",
    ));
    place.good(&["run", "p.yaml", "--quiet"]);
}

#[test]
fn a_test_text_in_training_is_refused() {
    let place = place();
    place.write("tests.jsonl", &rows(&["map", "key"]));
    fails(&place, "data", &["1 held-out texts occur in training: test/id row 2 is in sft row 2"]);
}

#[test]
fn a_checkpoint_whose_shapes_do_not_fit_is_refused_with_every_tensor_that_does_not() {
    let place = place();
    place.good(&["run", "p.yaml", "--quiet"]);
    let base = place.artefact("base");
    std::fs::create_dir(place.path("folder")).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(base.join(name), place.path("folder").join(name)).unwrap();
    }
    let config = std::fs::read_to_string(base.join("config.json")).unwrap();
    place.write("folder/config.json", &config);
    let outside = format!(
        "{}  outside: {{uses: model, path: folder}}\n  answers: \
         {{uses: generate, policy: outside, dataset: data, sampling: {{max_new_tokens: 8}}}}\n",
        FILES
    );
    place.pipeline(&outside);
    place.good(&["run", "p.yaml", "--quiet"]);
    assert_eq!(
        place.made("answers", "samples.jsonl"),
        place.made("samples", "samples.jsonl"),
        "a model from outside is that model"
    );
    place.write(
        "folder/config.json",
        &edited(&config, "\"intermediate_size\": 16", "\"intermediate_size\": 24"),
    );
    let words = [
        "the tensors of",
        "do not fit its config.json",
        "misshapen: `model.layers.0.mlp.gate_proj.weight` is [16, 16], expected [24, 16]",
    ];
    fails(&place, "outside", &words);
    std::fs::remove_file(place.path("folder/model.safetensors")).unwrap();
    place.write("folder/config.json", &config);
    fails(
        &place,
        "outside",
        &["has none of model.safetensors, model.safetensors.index.json, pytorch_model.bin"],
    );
}

#[test]
fn values_out_of_range_are_found_with_their_line_before_anything_runs() {
    let place = filled(SMOKE);
    // The line that begins so becomes this; the field and what is expected are named, with the
    // line.
    let mistakes = [
        ("    minibatches: ", "    minibatches: 300", "minibatches", "at most `batch_size`"),
        ("    judge: ", "    judge: golden", "golden", "gold"),
        ("    batch_size: ", "    batch_sise: 8", "batch_sise", "batch_size"),
    ];
    for (begin, becomes, field, expected) in mistakes {
        let old = SMOKE.lines().find(|line| line.starts_with(begin)).unwrap();
        let text = edited(SMOKE, &format!("\n{old}\n"), &format!("\n{becomes}\n"));
        place.pipeline(&text);
        let said = place.say(&["run", "p.yaml"]);
        assert_eq!(said.code, 2, "{}", said.err);
        let last = becomes.lines().last().unwrap();
        let line = 1 + text.lines().position(|line| line == last).unwrap();
        assert!(said.err.contains(&format!("p.yaml:{line}:")), "line {line} in\n{}", said.err);
        assert!(said.err.contains(field) && said.err.contains(expected), "{}", said.err);
    }
}
