//! Tokenizers and chat templates against what transformers makes of the same files
//! (golden/make.py).

#![expect(clippy::unwrap_used)]

mod patterns;
mod unusual;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use posttrain::error::{Kind, kind_of};
use posttrain::tokenizer::chat::{ChatTemplate, Message};
use posttrain::tokenizer::tokens::Tokenizer;

#[derive(Deserialize)]
struct Tokenizers {
    /// Files that several repositories have.
    shared: BTreeMap<String, String>,
    cases: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    name: String,
    shared: Vec<String>,
    files: BTreeMap<String, String>,
    roles: Roles,
    texts: Vec<Text>,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Roles {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    plain: Vec<u32>,
    whole: Vec<u32>,
    decoded: String,
}

#[derive(Deserialize)]
struct Pair {
    texts: [String; 2],
    tokens: Vec<u32>,
    types: Vec<u32>,
    at_most_9: Vec<u32>,
}

#[derive(Deserialize)]
struct Chats {
    config: serde_json::Value,
    templates: BTreeMap<String, String>,
    chats: BTreeMap<String, Vec<Message>>,
    cases: Vec<Chat>,
}

#[derive(Deserialize)]
struct Chat {
    template: String,
    chat: String,
    add_generation_prompt: bool,
    #[serde(default)]
    text: String,
    #[serde(default)]
    tokens: Vec<u32>,
    #[serde(default)]
    generated: Vec<usize>,
    refused: Option<String>,
}

fn tokenizers() -> Tokenizers {
    serde_json::from_str(include_str!("golden/tokenizers.json")).expect("the golden file is JSON")
}

fn chats() -> Chats {
    serde_json::from_str(include_str!("golden/chats.json")).expect("the golden file is JSON")
}

impl Repository {
    fn write(&self, shared: &BTreeMap<String, String>, folder: &Path) {
        let shared = self.shared.iter().map(|name| (name, &shared[name]));
        for (name, text) in shared.chain(&self.files) {
            std::fs::write(folder.join(name), text).expect("the folder is there");
        }
    }
}

fn check(tokenizer: &Tokenizer, repository: &Repository) {
    let name = &repository.name;
    for Text { text, plain, whole, decoded } in &repository.texts {
        assert_eq!(
            tokenizer.encode(text).expect("any text can be encoded"),
            *plain,
            "{name}: {text:?}"
        );
        assert_eq!(
            tokenizer.encode_input(text, None, None).expect("any text can be encoded").tokens,
            *whole,
            "{name}: {text:?}"
        );
        assert_eq!(
            tokenizer.decode(whole).expect("any text can be encoded"),
            *decoded,
            "{name}: {text:?}"
        );
    }
    for Pair { texts: [first, second], tokens, types, at_most_9 } in &repository.pairs {
        let encoded =
            tokenizer.encode_input(first, Some(second), None).expect("any text can be encoded");
        assert_eq!(
            (&encoded.tokens, &encoded.types),
            (tokens, types),
            "{name}: {first:?} {second:?}"
        );
        assert_eq!(
            tokenizer
                .encode_input(first, Some(second), Some(9))
                .expect("any text can be encoded")
                .tokens,
            *at_most_9,
            "{name}: {first:?} {second:?}"
        );
    }
    let Roles { bos, eos, pad } = repository.roles;
    assert_eq!(tokenizer.bos(), bos, "{name}");
    assert!(eos.is_none_or(|eos| tokenizer.eos() == eos), "{name}");
    match pad.filter(|_| pad != eos) {
        Some(pad) => assert_eq!(tokenizer.pad(), Some(pad), "{name}"),
        None => assert_ne!(tokenizer.pad(), Some(tokenizer.eos()), "{name}"),
    }
}

#[test]
fn repositories_of_every_layout_give_the_tokens_that_transformers_gives() {
    let Tokenizers { shared, cases } = tokenizers();
    assert_eq!(cases.len(), 12);
    for repository in &cases {
        let folder = tempfile::tempdir().unwrap();
        repository.write(&shared, folder.path());
        check(&Tokenizer::open(folder.path()).unwrap(), repository);
    }
}

#[test]
fn what_an_older_repository_is_saved_as_reads_the_same_without_its_older_files() {
    let Tokenizers { shared, cases } = tokenizers();
    for repository in &cases {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        repository.write(&shared, from.path());
        Tokenizer::open(from.path()).unwrap().save(to.path()).unwrap();
        for name in repository
            .shared
            .iter()
            .chain(repository.files.keys())
            .filter(|name| name.ends_with(".txt") || *name == "vocab.json")
        {
            assert_eq!(
                std::fs::read(to.path().join(name)).unwrap(),
                std::fs::read(from.path().join(name)).unwrap()
            );
            std::fs::remove_file(to.path().join(name)).unwrap();
        }
        // A model's own files are saved with the model.
        if let Some(config) = repository.files.get("config.json") {
            std::fs::write(to.path().join("config.json"), config).unwrap();
        }
        check(
            &Tokenizer::open(to.path())
                .unwrap_or_else(|error| panic!("{}: {error}", repository.name)),
            repository,
        );
    }
}

#[test]
fn chats_are_rendered_and_marked_as_transformers_does_it() {
    let (Chats { config, templates, chats, cases }, shared) = (chats(), tokenizers().shared);
    let mut marked = 0;
    for case in &cases {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config.clone();
        config["chat_template"] = templates[&case.template].as_str().into();
        let files = [
            ("vocab.json", &shared["vocab.json"]),
            ("merges.txt", &shared["merges.txt"]),
            ("tokenizer_config.json", &config.to_string()),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let what = format!("{}: {} {}", case.template, case.chat, case.add_generation_prompt);
        let template = ChatTemplate::open(folder.path()).unwrap().expect("there is one");
        assert_eq!(template.marks_generation(), case.template.contains("marked"), "{what}");
        let mut chat = chats[&case.chat].clone();
        if case.chat == "tools" && !templates[&case.template].contains("tool_calls") {
            let error = template.render(&chat, case.add_generation_prompt).unwrap_err();
            assert!(
                error.to_string().contains("a message has `tool_calls`, and the chat template"),
                "{what}: {error}"
            );
            // transformers drops calls that a template never looks at, without a word.
            chat = chat
                .iter()
                .map(|message| Message::new(message.role(), message.content()))
                .collect();
        }
        let rendered = template.render(&chat, case.add_generation_prompt);
        if let Some(refused) = &case.refused {
            let error = rendered.unwrap_err();
            assert_eq!(kind_of(&error), Kind::User);
            assert!(error.to_string().contains(refused), "{what}: {error}");
            continue;
        }
        let rendered = rendered.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(rendered.text, case.text, "{what}");
        let encoded = Tokenizer::open(folder.path()).unwrap().encode_chat(&rendered).unwrap();
        assert_eq!(encoded.tokens, case.tokens, "{what}");
        let generated: Vec<usize> =
            (0..encoded.tokens.len()).filter(|at| encoded.generated[*at]).collect();
        assert_eq!(generated, case.generated, "{what}");
        marked += usize::from(!generated.is_empty());
    }
    assert!(marked >= 16, "{marked} of {} chats have marks", cases.len());
}
