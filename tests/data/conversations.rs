//! Which tokens of a conversation are learned: by a plain count of pieces, for templates with and
//! without marks; and which templates are refused.

use std::path::Path;

use posttrain::data::conversations::tokenise_conversations;
use posttrain::data::rows::{Conversation, Rows};
use posttrain::data::tokenised::Tokenised;
use posttrain::error::{Kind, Result, kind_of};
use posttrain::tokenizer::chat::{ChatTemplate, Message};
use posttrain::tokenizer::tokens::Tokenizer;
use posttrain::tokenizer::training::SMALLEST;
use serde_json::{Value, json};

use super::{file, read};

/// The template of ChatML.
const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/// The same, with marks.
const MARKED: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
    {% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A model's folder with a tokenizer that has words, and ChatML's two tokens; the second ends a
/// text, if `ends`.
fn folder(ends: bool, template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = "user assistant hello there how are you fine thanks".repeat(20);
    Tokenizer::train(&[text], SMALLEST + 60).unwrap().save(folder.path()).unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (at, name) in ["<|im_start|>", "<|im_end|>"].into_iter().enumerate() {
        let token = json!({"id": SMALLEST + 60 + at, "content": name, "single_word": false,
            "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    }
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let config =
        json!({"eos_token": if ends { "<|im_end|>" } else { "<eos>" }, "pad_token": "<pad>"});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    folder
}

fn chat(turns: &[(&str, &str)]) -> Conversation {
    let messages = turns.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    Conversation { id: "1".into(), messages, ..Conversation::default() }
}

const TURNS: [(&str, &str); 5] = [
    ("system", "you are fine"),
    ("user", "hello\nthere"),
    ("assistant", "how are you\n\n"),
    ("user", "fine, é"),
    ("assistant", "thanks 🎉"),
];

fn tokenised(folder: &Path, rows: &[Conversation], context: usize) -> Result<Vec<Tokenised>> {
    let (tokenizer, template) =
        (Tokenizer::open(folder).unwrap(), ChatTemplate::open(folder).unwrap().unwrap());
    tokenise_conversations(rows, &tokenizer, &template, context, "sft")
        .map(|(sequences, _)| sequences)
}

fn complaint(folder: &Path, rows: &[Conversation]) -> String {
    let error = tokenised(folder, rows, 1000).unwrap_err();
    assert_eq!(kind_of(&error), Kind::User);
    format!("{error:#}")
}

/// Tokens, and which are learned, of texts that special tokens part: (text, learned).
fn pieces(tokenizer: &Tokenizer, pieces: &[(&str, bool)]) -> (Vec<u32>, Vec<bool>) {
    let encoded = pieces.iter().map(|(text, learned)| (tokenizer.encode(text).unwrap(), *learned));
    encoded
        .flat_map(|(tokens, learned)| tokens.into_iter().map(move |token| (token, learned)))
        .unzip()
}

#[test]
fn what_the_assistant_writes_is_learned_with_its_end_and_nothing_else() {
    for template in [CHATML, MARKED] {
        let folder = folder(true, template);
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let rows = tokenised(folder.path(), &[chat(&TURNS)], 1000).unwrap();
        let (tokens, learned) = pieces(
            &tokenizer,
            &[
                ("<|im_start|>system\nyou are fine<|im_end|>\n", false),
                ("<|im_start|>user\nhello\nthere<|im_end|>\n", false),
                ("<|im_start|>assistant\n", false),
                ("how are you\n\n<|im_end|>", true),
                ("\n<|im_start|>user\nfine, é<|im_end|>\n<|im_start|>assistant\n", false),
                ("thanks 🎉<|im_end|>", true),
                ("\n", false),
            ],
        );
        assert_eq!(tokenizer.decode(&rows[0].tokens).unwrap(), tokenizer.decode(&tokens).unwrap());
        assert_eq!((&rows[0].tokens, rows[0].response_mask()), (&tokens, learned), "{template}");
    }
}

#[test]
fn a_conversation_may_begin_with_the_assistant_and_end_with_another() {
    let folder = folder(true, CHATML);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let rows = tokenised(folder.path(), &[chat(&[("assistant", "hello"), ("user", "fine")])], 1000)
        .unwrap();
    // No prompt for an answer comes before the first turn, so all of it is the turn.
    let learned = [
        ("<|im_start|>assistant\nhello<|im_end|>", true),
        ("\n<|im_start|>user\nfine<|im_end|>\n", false),
    ];
    assert_eq!((rows[0].tokens.clone(), rows[0].response_mask()), pieces(&tokenizer, &learned));
}

#[test]
fn a_last_turn_that_no_token_ends_is_given_the_end_of_text() {
    let plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {{ m.content }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\
        {% endif %}";
    let folder = folder(false, plain);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let rows = tokenised(folder.path(), &[chat(&TURNS[1..3])], 1000).unwrap();
    let expected = [
        ("<|im_start|>user\nhello\nthere<|im_start|>assistant\n", false),
        ("how are you\n\n", true),
        ("<eos>", true),
    ];
    assert_eq!((rows[0].tokens.clone(), rows[0].response_mask()), pieces(&tokenizer, &expected));
}

#[test]
fn a_template_that_rewrites_what_was_said_is_refused() {
    // Like those that drop what the model thought in earlier turns.
    let forgetful = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {% if loop.last or m.role != 'assistant' %}{{ m.content }}{% endif %}<|im_end|>\n\
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let folder = folder(true, forgetful);
    let message = complaint(
        folder.path(),
        &[chat(&TURNS[..3]), Conversation { id: "2".into(), ..chat(&TURNS) }],
    );
    assert!(
        message.starts_with("split `sft`, row 2: the chat template (chat_template.jinja of "),
        "{message}"
    );
    assert!(message.contains("writes messages otherwise once they are answered"), "{message}");
    assert!(tokenised(folder.path(), &[chat(&TURNS[..3])], 1000).is_ok());
}

#[test]
fn a_turn_that_begins_within_a_token_is_refused() {
    let with = |prompt: &str| {
        let source = "{% for m in messages %}{{ m.role }}:SPACE{{ m.content }}\n\
            {% endfor %}{% if add_generation_prompt %}assistant:SPACE{% endif %}";
        folder(false, &source.replace("SPACE", prompt))
    };
    // The space is the beginning of the first word's token.
    let message =
        complaint(with(" ").path(), &[chat(&[("user", "hello"), ("assistant", "how are you")])]);
    assert!(
        message.contains("row 1: a token is part of the assistant's turn and of what is beside it"),
        "{message}"
    );
    assert!(
        tokenised(
            with("\n").path(),
            &[chat(&[("user", "hello"), ("assistant", "how are you")])],
            1000
        )
        .is_ok()
    );
}

#[test]
fn what_is_too_long_and_what_has_no_turn_is_named_with_its_row() {
    let folder = folder(true, MARKED);
    let rows = [chat(&TURNS[..3]), Conversation { id: "2".into(), ..chat(&TURNS) }];
    let length = tokenised(folder.path(), &rows, 1000).unwrap()[1].tokens.len();
    let error = tokenised(folder.path(), &rows, length - 1).unwrap_err().to_string();
    assert!(
        error.contains(&format!(
            "split `sft`, row 2: {length} tokens do not fit the model's context of {}",
            length - 1
        )),
        "{error}"
    );
    assert!(tokenised(folder.path(), &rows, length).is_ok());
    assert!(
        complaint(folder.path(), &[chat(&TURNS[..2])])
            .contains("marks nothing of this conversation")
    );
}

#[test]
fn a_model_under_chat_writes_messages_out_as_texts() {
    let folder = folder(true, CHATML);
    let user = |text: &str| json!({"role": "user", "content": text});
    let assistant = |text: &str| json!({"role": "assistant", "content": text});
    let options = json!({"chat": {"$path": folder.path()}});
    let prompt = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n";
    for row in [
        json!({"prompt": [user("hello")], "chosen": [assistant("fine")],
            "rejected": [assistant("you")]}),
        json!({"chosen": [user("hello"), assistant("fine")],
            "rejected": [user("hello"), assistant("you")]}),
    ] {
        let (_rows, path) = file(&[row]);
        let (Rows::Preferences(rows), _) = read(&path, options.clone()).unwrap() else {
            panic!("pairs")
        };
        assert_eq!(
            (rows[0].prompt.as_str(), rows[0].chosen.as_str(), rows[0].rejected.as_str()),
            (prompt, "fine", "you")
        );
    }
    for row in [
        json!({"prompt": [user("hello")], "completion": [assistant("fine")]}),
        json!({"messages": [user("hello"), assistant("fine")]}),
    ] {
        let (_rows, path) = file(&[row]);
        let (Rows::Examples(rows), _) = read(&path, options.clone()).unwrap() else {
            panic!("examples")
        };
        assert_eq!((rows[0].prompt.as_str(), rows[0].completion.as_str()), (prompt, "fine"));
        // As tokens they are what the conversation is, without the line break that no model writes.
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let (head, tail) = tokenizer.encode_example(prompt, "fine").unwrap();
        let whole =
            &tokenised(folder.path(), &[chat(&[("user", "hello"), ("assistant", "fine")])], 1000)
                .unwrap()[0];
        assert_eq!([head.clone(), tail].concat(), whole.tokens[..whole.others[0].start]);
        assert_eq!(head.len(), whole.prompt);
    }
    let (_rows, path) = file(&[json!({"prompt": [user("hello")]})]);
    let (Rows::Examples(rows), _) = read(&path, options).unwrap() else { panic!("examples") };
    assert_eq!((rows[0].prompt.as_str(), rows[0].completion.as_str()), (prompt, ""));
}
