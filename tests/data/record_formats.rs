//! The record layouts of public data sets, on invented records of each.

use serde_json::{Value, json};

use super::{complaint, examples, file, pairs, read};

/// (prompt, completion) of the one row.
fn example(row: Value, format: &str) -> (String, String) {
    let mut rows = examples(&[row], json!({ "format": format }));
    let row = rows.remove(0);
    (row.prompt, row.completion)
}

/// (prompt, chosen, rejected) of the one row.
fn pair(row: Value, format: &str) -> (String, String, String) {
    let mut rows = pairs(&[row], json!({ "format": format }));
    let row = rows.remove(0);
    (row.prompt, row.chosen, row.rejected)
}

fn texts<const N: usize>(texts: [&str; N]) -> [String; N] {
    texts.map(str::to_owned)
}

fn comparison(choice: usize) -> Value {
    json!({"info": {"id": "t3_a", "post": "I lost it.", "title": "Lost", "subreddit": "tifu",
        "site": null, "article": null},
        "summaries": [{"text": " lost it", "policy": "ref", "note": "ok"},
            {"text": "found it", "policy": "sup2", "note": null}],
        "choice": choice, "worker": "w", "batch": "batch3", "split": "valid1",
        "extra": {"confidence": 7}})
}

#[test]
fn a_post_and_an_article_have_the_papers_templates_and_one_space_before_the_summary() {
    let post = json!({"id": "t3_a", "subreddit": "tifu", "title": "Lost", "post": "I lost it.\n\
        Twice.", "summary": "  lost it"});
    let expected =
        texts(["SUBREDDIT: r/tifu\nTITLE: Lost\nPOST: I lost it.\nTwice.\nTL;DR:", " lost it"]);
    assert_eq!(example(post, "tldr"), expected.into());
    let article = json!({"id": "1", "article": "It rained.", "highlights": "Rain .\nMore rain ."});
    assert_eq!(
        example(article, "cnn_dailymail"),
        texts(["ARTICLE: It rained.\nTL;DR:", " Rain .\nMore rain ."]).into()
    );
}

#[test]
fn a_comparison_is_the_chosen_summary_against_the_other() {
    let prompt = "SUBREDDIT: r/tifu\nTITLE: Lost\nPOST: I lost it.\nTL;DR:";
    assert_eq!(
        pair(comparison(0), "openai_comparisons"),
        texts([prompt, " lost it", " found it"]).into()
    );
    assert_eq!(
        pair(comparison(1), "openai_comparisons"),
        texts([prompt, " found it", " lost it"]).into()
    );
    let news = json!({"info": {"id": "n", "article": "It rained.", "title": null}, "choice": 1,
        "batch": "cnndm0", "split": "validation",
        "summaries": [{"text": "Sun."}, {"text": "Rain."}]});
    assert_eq!(
        pair(news, "openai_comparisons"),
        texts(["ARTICLE: It rained.\nTL;DR:", " Rain.", " Sun."]).into()
    );
    assert!(
        complaint(&[comparison(2)], json!({"format": "openai_comparisons"}))
            .contains("row 1: expected a `choice` of 0 or 1")
    );
    let mut same = comparison(0);
    same["summaries"][1]["text"] = "lost it".into();
    assert!(complaint(&[same], json!({"format": "openai_comparisons"})).contains("are the same"));
}

#[test]
fn columns_of_info_are_there_for_filters_and_templates() {
    let mut other = comparison(0);
    other["info"]["subreddit"] = "relationships".into();
    let options = |column: &str, value: &str| json!({"format": "openai_comparisons", "keep": [{"column": column, "equals": value}], "prompt": "{subreddit} {extra.confidence}:"});
    let rows = pairs(&[comparison(0), other.clone()], options("subreddit", "tifu"));
    assert_eq!((rows.len(), rows[0].prompt.as_str()), (1, "tifu 7:"));
    assert_eq!(pairs(&[comparison(0), other], options("extra.confidence", "7")).len(), 2);
}

#[test]
fn instructions_have_alpacas_template_with_and_without_an_input() {
    let head = "Below is an instruction that describes a task. Write a response that appropriately \
        completes the request.\n\n";
    let with = "Below is an instruction that describes a task, paired with an input that provides \
        further context. Write a response that appropriately completes the request.\n\n";
    let bare = format!("{head}### Instruction:\nAdd.\n\n### Response:");
    let full = format!("{with}### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:");
    for format in ["alpaca_farm", "self_instruct", "sequential_instructions"] {
        for input in [json!({"input": ""}), json!({"input": null}), json!({})] {
            let mut row = json!({"instruction": "Add.", "output": "3"});
            row.as_object_mut().unwrap().extend(input.as_object().unwrap().clone());
            assert_eq!(example(row, format), (bare.clone(), "3".to_owned()));
        }
        assert_eq!(
            example(json!({"instruction": "Add.", "input": "1 2", "output": "3"}), format),
            (full.clone(), "3".to_owned())
        );
    }
    let seed = json!({"id": "s", "name": "add", "instruction": "Add.",
        "instances": [{"input": "1 2", "output": "3"}, {"input": "", "output": "x"}]});
    assert_eq!(example(seed, "self_instruct"), (full.clone(), "3".to_owned()));
    let judged = |preference: i32| {
        json!({"instruction": "Add.", "input": "1 2", "output_1": "3",
        "output_2": "4", "preference": preference})
    };
    assert_eq!(
        pair(judged(1), "alpaca_farm_preferences"),
        (full.clone(), "3".to_owned(), "4".to_owned())
    );
    assert_eq!(pair(judged(2), "alpaca_farm_preferences"), (full, "4".to_owned(), "3".to_owned()));
    assert!(
        complaint(&[judged(0)], json!({"format": "alpaca_farm_preferences"}))
            .contains("expected a `preference` of 1 or 2")
    );
}

#[test]
fn dialogues_are_cut_at_the_last_common_turn_of_the_assistant() {
    let row = json!({"chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nAssistant: \
        Because.",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nAssistant: Be quiet."});
    let prompt = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nAssistant:";
    assert_eq!(pair(row, "hh_rlhf"), texts([prompt, " Because.", " Be quiet."]).into());
    let early = json!({"chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A\n\nAssistant: B",
        "rejected": "\n\nHuman: Hi\n\nAssistant: No.\n\nHuman: C\n\nAssistant: D"});
    assert_eq!(pair(early, "hh_rlhf").0, "\n\nHuman: Hi\n\nAssistant:");
    let none =
        json!({"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: c\n\nAssistant: d"});
    assert!(
        complaint(&[none], json!({"format": "hh_rlhf"}))
            .contains("do not begin with the same dialogue")
    );
}

#[test]
fn trls_columns_are_known_by_name() {
    let row = |row: Value| example(row, "trl");
    assert_eq!(
        row(json!({"prompt": "The sky is", "completion": " blue."})),
        texts(["The sky is", " blue."]).into()
    );
    assert_eq!(row(json!({"text": "All of it."})), texts(["", "All of it."]).into());
    assert_eq!(row(json!({"prompt": "The sky is"})), texts(["The sky is", ""]).into());
    let explicit = json!({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."});
    assert_eq!(pair(explicit, "trl"), texts(["The sky is", " blue.", " green."]).into());
    // The prompt that both begin with, back to the last white space.
    let implicit =
        |chosen: &str, rejected: &str| pair(json!({"chosen": chosen, "rejected": rejected}), "trl");
    assert_eq!(
        implicit("The sky is blue.", "The sky is green."),
        texts(["The sky is", " blue.", " green."]).into()
    );
    assert_eq!(
        implicit("The sky is blue.", "The sky is black."),
        texts(["The sky is", " blue.", " black."]).into()
    );
    assert_eq!(implicit("é ü", "é ö"), texts(["é", " ü", " ö"]).into());
    assert_eq!(implicit("Blue", "Black"), texts(["", "Blue", "Black"]).into());
    // Without a format, these columns are what counts.
    assert_eq!(
        examples(&[json!({"prompt": "a", "completion": " b"})], json!({}))[0].completion,
        " b"
    );
}

#[test]
fn columns_that_say_nothing_or_too_little_are_refused() {
    let refused = |row: Value| complaint(&[row], json!({}));
    assert!(
        refused(json!({"post": "a", "summary": "b"})).contains(
            "give `format`, or `prompt` and `completion`; the columns are: post, summary"
        )
    );
    assert!(
        refused(json!({"prompt": "a", "chosen": "b"}))
            .contains("one of `chosen` and `rejected`, not both")
    );
    assert!(
        refused(json!({"prompt": "a", "completion": "b", "label": true}))
            .contains("nothing here learns from that")
    );
    assert!(
        refused(json!({"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}))
            .contains("some are lists of messages")
    );
    assert!(
        refused(json!({"prompt": [{"role": "user", "content": "a"}]}))
            .contains("name a model under `chat`")
    );
    assert!(
        refused(json!({"messages": [{"role": "user"}]})).contains(
            "the column `messages`: message 1: it has neither `content` nor `tool_calls`"
        )
    );
    assert!(
        refused(json!({"messages": [{"role": "user", "content": "a"}]}))
            .contains("no message is the assistant's")
    );
    assert!(
        refused(json!({"prompt": 3}))
            .contains("`prompt` holds neither a text nor a list of messages")
    );
}

#[test]
fn conversations_keep_their_messages_without_what_is_null() {
    let row = json!({"messages": [{"role": "user", "content": "a", "name": null},
        {"role": "assistant", "content": "b"}]});
    let turns =
        json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]});
    for (row, options) in [(row, json!({})), (turns, json!({"format": "sharegpt"}))] {
        let (_folder, path) = file(&[row]);
        let (rows, _) = read(&path, options).unwrap();
        let posttrain::data::rows::Rows::Conversations(rows) = rows else { panic!("{rows:?}") };
        let expected = json!({"id": "1",
            "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
        assert_eq!(serde_json::to_value(&rows[0]).unwrap(), expected);
    }
}
