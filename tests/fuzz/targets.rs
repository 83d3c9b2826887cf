//! The parsers of foreign bytes, each as a function of bytes: for the replay of the corpus and the
//! mutations in the suite (`mod.rs`), and for the coverage-guided search of cargo-fuzz.
//!
//! A target gives whether the bytes were understood. It panics where a parser does, and where the
//! kind of its error is not that of a mistake in a file.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use posttrain::data::load::load as load_rows;
use posttrain::data::rows::{Conversation, Example, Preference, parse_jsonl};
use posttrain::data::source::Files;
use posttrain::data::tables;
use posttrain::data::template::Template;
use posttrain::error::{Kind, Result, kind_of};
use posttrain::inference::Reader;
use posttrain::json::{self, Json, Object};
use posttrain::model::checkpoint;
use posttrain::model::pickle;
use posttrain::model::tensors::Tensors;
use posttrain::model::zip;
use posttrain::pipeline::expand::load;
use posttrain::pipeline::overrides::Overrides;
use posttrain::pipeline::registry::Builtin;
use posttrain::pipeline::resolved::to_yaml;
use posttrain::remote::{entries, manifest::Manifest};
use posttrain::serve::api::{self, ask};
use posttrain::serve::http::{Connection, Refusal};
use posttrain::tokenizer::chat::{Chat, ChatTemplate, Message};
use posttrain::tokenizer::tokens::Tokenizer;
use posttrain::tokenizer::training::SMALLEST;
use serde_json::json;
use tempfile::TempDir;

/// A parser as a function of bytes: whether they were understood.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("chat_template", chat_template),
    ("configuration", configuration),
    ("http", http),
    ("parquet", parquet),
    ("pickle", pickle),
    ("pipeline", pipeline),
    ("remote_entry", remote_entry),
    ("remote_files", remote_files),
    ("rows", rows),
    ("safetensors", safetensors),
    ("table", table),
    ("template", template),
    ("tokenizer", tokenizer),
    ("zip", zip),
];

/// Whether there is a result. An error must be a mistake in the file.
fn understood<T>(result: Result<T>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(kind_of(&error), Kind::User, "{error:#}");
            false
        }
    }
}

/// An entry of a remote cache, as the one of the key that it names.
pub fn remote_entry(bytes: &[u8]) -> bool {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let key = value["entry"]["key"].as_str().and_then(|key| key.parse().ok());
    entries::read(bytes, key.unwrap_or_else(|| blake3::hash(b"").into()), &[]).is_ok()
}

/// The list of files of an object in a remote cache, as that of the object that it is of.
pub fn remote_files(bytes: &[u8]) -> bool {
    let id = serde_json::from_slice::<Manifest>(bytes).map(|manifest| manifest.id());
    let read = Manifest::read(bytes, id.unwrap_or_else(|_| blake3::hash(b"").into()));
    read.is_ok_and(|manifest| {
        (0..manifest.parts.len()).map(|at| manifest.pieces(at).len()).sum::<usize>() > 0
            || manifest.bytes() == 0
    })
}

/// A folder of this thread, with these files.
fn folder<T>(files: &[(&str, &[u8])], read: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FOLDER: TempDir = temporary();
    }
    FOLDER.with(|root| {
        // One name for each set of files, so that no case sees the files of another.
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let folder = root.path().join(names.concat());
        std::fs::create_dir_all(&folder).expect("a folder for temporary files is writable");
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).expect("a temporary file is writable");
        }
        read(&folder)
    })
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("the folder for temporary files is writable")
}

/// A pickled table of tensors, as in `data.pkl` of PyTorch's files.
pub fn pickle(bytes: &[u8]) -> bool {
    pickle::tensors(bytes).is_ok()
}

/// A zip archive: its directory, then the whole as a file of PyTorch's.
pub fn zip(bytes: &[u8]) -> bool {
    let read = |out: &mut [u8], start: u64| {
        let start = usize::try_from(start).expect("a place within the bytes");
        out.copy_from_slice(&bytes[start..start + out.len()]);
        Ok(())
    };
    let entries = zip::entries(&read, bytes.len() as u64);
    for span in entries.iter().flatten().map(|(_, span)| span) {
        assert!(span.start + span.length <= bytes.len() as u64, "{span:?} is outside");
    }
    tensors("weights.bin", bytes);
    entries.is_ok()
}

/// A file in the safetensors format.
pub fn safetensors(bytes: &[u8]) -> bool {
    tensors("model.safetensors", bytes)
}

/// Opens a file of tensors and reads each.
fn tensors(name: &str, bytes: &[u8]) -> bool {
    folder(&[(name, bytes)], |folder| {
        let opened = Tensors::open(&[folder.join(name)]);
        for name in opened.iter().flat_map(Tensors::names) {
            understood(opened.as_ref().map_or(Ok(vec![]), |tensors| tensors.read(name)));
        }
        understood(opened)
    })
}

/// A `config.json` of a model.
pub fn configuration(bytes: &[u8]) -> bool {
    folder(&[("config.json", bytes)], |folder| understood(checkpoint::describe(folder)))
}

/// A `tokenizer.json`, then a text to tokens and back.
pub fn tokenizer(bytes: &[u8]) -> bool {
    let config = br#"{"eos_token": "<eos>", "unk_token": "<unk>"}"#;
    let files: [(&str, &[u8]); 2] = [("tokenizer.json", bytes), ("tokenizer_config.json", config)];
    folder(&files, |folder| {
        let opened = Tokenizer::open(folder);
        if let Ok(tokenizer) = &opened {
            for text in ["", "a cat sat, é \u{1f600}  on\nthe mat <eos>"] {
                let tokens = tokenizer.encode(text);
                if let Ok(tokens) = &tokens {
                    understood(tokenizer.decode(tokens));
                }
                understood(tokens);
                understood(tokenizer.encode_input(text, Some("b"), Some(16)));
            }
        }
        understood(opened)
    })
}

/// A chat template in Jinja, then chats by it.
pub fn chat_template(bytes: &[u8]) -> bool {
    let config = br#"{"eos_token": "</s>", "bos_token": "<s>"}"#;
    let files: [(&str, &[u8]); 2] =
        [("chat_template.jinja", bytes), ("tokenizer_config.json", config)];
    folder(&files, |folder| {
        let opened = ChatTemplate::open(folder);
        if let Ok(Some(template)) = &opened {
            let messages = messages();
            let tools = object(json!({"tools": [{"name": "add", "parameters": {"a": 1.50}}]}));
            let variables = object(json!({"enable_thinking": false}));
            let chat = Chat {
                messages: &messages,
                tools: tools.get("tools"),
                variables: Some(&variables),
            };
            understood(template.render(&messages, false));
            understood(template.render(chat, true));
            understood(template.write_out(&messages[..2], &messages[2..]));
        }
        understood(opened)
    })
}

fn messages() -> Vec<Message> {
    let calls = json!({"tool_calls": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 + 1?\n"},
        {"role": "assistant", "content": "Two.", "tool_calls": [
            {"type": "function", "function": {"name": "add", "arguments": {"a": [1, null]}}}]},
        {"role": "tool", "content": "2", "tool_call_id": "x"},
    ]});
    let mut messages = object(calls);
    let list = messages.shift_remove("tool_calls").expect("it was just put there");
    Message::read_all(list).expect("these messages are right")
}

/// A JSON object as data files have it.
fn object(value: serde_json::Value) -> Object {
    match json::parse(&value.to_string()) {
        Ok(Json::Object(object)) => object,
        other => panic!("an object, not {other:?}"),
    }
}

/// The template of a prompt, and the text of one row by it.
pub fn template(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let row = object(json!({"post": "a", "n": 1.50, "of": {"title": "b"}, "list": []}));
    let read = Template::parse(text);
    if let Ok(template) = &read {
        understood(template.render(&row));
    }
    understood(read)
}

/// A pipeline in YAML: to nodes, and back to YAML.
pub fn pipeline(bytes: &[u8]) -> bool {
    folder(&[("pipeline.yaml", bytes)], |folder| {
        let read = load(&folder.join("pipeline.yaml"), &Overrides::default(), &Builtin);
        if let Ok(pipeline) = &read {
            to_yaml(pipeline).expect("what was read can be written");
        }
        understood(read)
    })
}

/// Rows of JSONL: of a dataset, of a data file.
pub fn rows(bytes: &[u8]) -> bool {
    let path = Path::new("rows.jsonl");
    let read = [
        understood(parse_jsonl::<Example>(bytes, path)),
        understood(parse_jsonl::<Preference>(bytes, path)),
        understood(parse_jsonl::<Conversation>(bytes, path)),
    ];
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    for line in text.lines().take(8).filter_map(|line| json::parse(line).ok()) {
        if let Some(messages) = line.get("messages") {
            understood(Message::read_all(messages.clone()).map_err(Into::into));
        }
    }
    folder(&[("rows.jsonl", bytes)], |folder| {
        let files = json!({"path": {"$path": folder.join("rows.jsonl")}});
        let files: Files = serde_json::from_value(files).expect("these options are right");
        understood(load_rows(&files)) || read.contains(&true)
    })
}

/// A data file of any text format: JSONL, a JSON list, CSV, TSV, each also packed by gzip.
pub fn table(bytes: &[u8]) -> bool {
    each_row("rows", bytes)
}

/// A data file in Parquet.
pub fn parquet(bytes: &[u8]) -> bool {
    each_row("rows.parquet", bytes)
}

fn each_row(name: &str, bytes: &[u8]) -> bool {
    folder(&[(name, bytes)], |folder| {
        let mut all = true;
        let visited = tables::each(&folder.join(name), &mut |_, row| {
            all &= understood(row);
            Ok(ControlFlow::Continue(()))
        });
        understood(visited) && all
    })
}

/// Requests to the server on one connection, and what their bodies ask for.
pub fn http(bytes: &[u8]) -> bool {
    let (client, mut server) = connection();
    let mut client = client;
    // More than a socket holds would wait for the reader below.
    client.write_all(&bytes[..bytes.len().min(1 << 15)]).expect("the reader is there");
    client.shutdown(Shutdown::Write).expect("the reader is there");
    let mut all = true;
    loop {
        match server.read(&|| true) {
            Ok(request) => {
                for kind in [api::Kind::Completion, api::Kind::Chat] {
                    let asked = ask(kind, &request.body, "m", reader());
                    all &= request.body.is_empty() || asked.is_ok() || !wanted(&request.path, kind);
                    if let Err(refused) = asked {
                        assert!((400..500).contains(&refused.status), "{refused:?}");
                        answer(&mut server, refused.status);
                    }
                }
            }
            Err(Refusal::Over) => return all,
            Err(Refusal::Status(status, _)) => {
                assert!((400..500).contains(&status), "{status}");
                answer(&mut server, status);
                return false;
            }
        }
    }
}

/// Whether a path asks for texts of this kind.
fn wanted(path: &str, kind: api::Kind) -> bool {
    path.ends_with("/chat/completions") == (kind == api::Kind::Chat)
}

fn answer(server: &mut Connection, status: u16) {
    server.answer(status, &json!({})).expect("the client still reads");
}

/// Both ends of a connection on this machine.
fn connection() -> (TcpStream, Connection) {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    let listener = LISTENER.get_or_init(|| {
        TcpListener::bind(("127.0.0.1", 0)).expect("a port of this machine is free")
    });
    let address = listener.local_addr().expect("it listens");
    let client = TcpStream::connect(address).expect("it listens");
    let (server, _) = listener.accept().expect("a client has connected");
    (client, Connection::new(server).expect("the client is there"))
}

/// What reads requests for a small model with a chat template.
fn reader() -> &'static Reader {
    static READER: OnceLock<(TempDir, Reader)> = OnceLock::new();
    let (_, reader) = READER.get_or_init(|| {
        let folder = temporary();
        Tokenizer::train(&["none"], SMALLEST)
            .and_then(|tokenizer| tokenizer.save(folder.path()))
            .expect("a tokenizer of bytes can be trained");
        let template =
            "{% for m in messages %}<{{ m.role }}>{{ m.content or m.tool_calls }}{% endfor %}{{ [tools, a] }}";
        let files: BTreeMap<&str, String> = BTreeMap::from([
            ("chat_template.jinja", template.to_owned()),
            ("config.json", model().to_string()),
        ]);
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a temporary file is writable");
        }
        let reader = Reader::open(folder.path()).expect("this model can be read");
        (folder, reader)
    });
    reader
}

fn model() -> serde_json::Value {
    json!({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 16, "n_head": 2,
        "n_layer": 1, "n_positions": 1024, "vocab_size": SMALLEST})
}
