//! `posttrain serve` over real sockets: what it answers, what it refuses, who may leave, how it
//! ends.

use std::io::{BufReader, Write};
use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::server::{Answer, Server, events, post, read_answer, with_tools};
use crate::cli::chained::Chained;

/// What `posttrain generate`, another loop over the same arithmetic, writes for a row alone.
fn generated(server: &Server, row: &Value, options: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows"), row.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_posttrain"))
        .args([
            "generate",
            "--input",
            "rows",
            "--quiet",
            "--model",
            server.model().to_str().unwrap(),
        ])
        .args(options)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect()
}

#[test]
fn every_request_has_the_answer_of_generate_whoever_asks_beside_it() {
    let server = Server::start(&["--batch-size", "5"]);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({"max_tokens": 40}), vec!["--max-new-tokens", "40"]),
        (
            json!({"max_tokens": 60, "seed": 3, "n": 3}),
            vec!["--max-new-tokens", "60", "--seed", "3", "--n", "3"],
        ),
        (
            json!({"max_tokens": 9, "temperature": 0}),
            vec!["--max-new-tokens", "9", "--temperature", "0"],
        ),
        (
            json!({"max_tokens": 30, "top_k": 5, "seed": 8}),
            vec!["--max-new-tokens", "30", "--top-k", "5", "--seed", "8"],
        ),
        (
            json!({"max_tokens": 30, "top_p": 0.5, "min_p": 0.01}),
            vec!["--max-new-tokens", "30", "--top-p", "0.5", "--min-p", "0.01"],
        ),
        (json!({}), vec!["--max-new-tokens", "16"]),
    ];
    let expected: Vec<Vec<Value>> = cases
        .iter()
        .map(|(_, options)| generated(&server, &json!({"prompt": "no 1 my boss"}), options))
        .collect();
    std::thread::scope(|scope| {
        for turn in 0..4 {
            for ((body, _), expected) in cases.iter().zip(&expected) {
                let server = &server;
                scope.spawn(move || {
                    let answer = server.complete(body.clone());
                    let wanted: Vec<&str> =
                        expected.iter().map(|row| row["text"].as_str().unwrap()).collect();
                    assert_eq!(texts(&answer), wanted, "{turn}: {body}");
                    let tokens: usize =
                        expected.iter().map(|row| row["tokens"].as_array().unwrap().len()).sum();
                    assert_eq!(
                        answer["usage"],
                        json!({"prompt_tokens": 12, "completion_tokens": tokens,
                            "total_tokens": 12 + tokens})
                    );
                    for (choice, row) in answer["choices"].as_array().unwrap().iter().zip(expected)
                    {
                        let finish = if row["finish"] == "length" { "length" } else { "stop" };
                        assert_eq!(choice["finish_reason"], finish);
                    }
                });
            }
        }
    });
}

/// A completion and a chat after `h`, whole and streamed, whose text must be this; gives the whole
/// completion.
fn written(server: &Server, text: &str) -> Value {
    let settings = json!({"model": "small", "temperature": 0, "max_tokens": 10});
    let ask = |path: &str, more: Value| {
        let mut body = settings.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post(path, &body)
    };
    let (completions, chats) = ("/v1/completions", "/v1/chat/completions");
    let messages = json!([{"role": "user", "content": "h"}]);
    let whole = ask(completions, json!({"prompt": "h", "logprobs": 0})).json();
    assert_eq!(whole["choices"][0]["text"], text);
    assert_eq!(
        ask(chats, json!({"messages": messages})).json()["choices"][0]["message"]["content"],
        text
    );
    let joined = |answer: &super::server::Answer, field: &dyn Fn(&Value) -> Value| -> String {
        events(answer)
            .iter()
            .map(|piece| field(&piece["choices"][0]).as_str().unwrap().to_owned())
            .collect()
    };
    let pieces = ask(completions, json!({"prompt": "h", "stream": true}));
    assert_eq!(joined(&pieces, &|choice| choice["text"].clone()), text);
    let pieces = ask(chats, json!({"messages": messages, "stream": true}));
    assert_eq!(joined(&pieces, &|choice| choice["delta"]["content"].clone()), text);
    whole
}

#[test]
fn special_tokens_are_counted_and_not_shown() {
    let specials = ["<|turn|>", "<|pad|>", "<eos>"];
    let chain = ["i", "<|turn|>", "j", "<|pad|>", "k", "<eos>"];
    let model = Chained { tokens: &[], specials: &specials, written: &chain, config: json!({}) };
    let server = Server::of(|folder| model.save(folder, |_, _| {}), &[]);
    let whole = written(&server, "ijk");
    assert_eq!(whole["usage"]["completion_tokens"], 6);
    assert_eq!(whole["choices"][0]["logprobs"]["tokens"], json!(["i", "", "j", "", "k", ""]));
    assert_eq!(whole["choices"][0]["logprobs"]["text_offset"], json!([0, 1, 1, 2, 2, 3]));
    let stopped = server
        .post(
            "/v1/completions",
            &json!({"model": "small", "prompt": "h", "temperature": 0, "stop": ["<|pad|>"]}),
        )
        .json();
    assert_eq!(
        (&stopped["choices"][0]["text"], &stopped["choices"][0]["finish_reason"]),
        (&json!("ij"), &json!("stop"))
    );
    assert_eq!(stopped["usage"]["completion_tokens"], 4);
}

#[test]
fn places_of_tokens_are_counted_in_characters() {
    // Letters of two and three bytes, as byte-level vocabularies spell them.
    let letters = ["Ã©", "æĹ¥"];
    let chain = ["Ã©", "æĹ¥", "!", "<eos>"];
    let model =
        Chained { tokens: &letters, specials: &["<eos>"], written: &chain, config: json!({}) };
    let server = Server::of(|folder| model.save(folder, |_, _| {}), &[]);
    let logprobs = written(&server, "é日!")["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["tokens"], json!(["é", "日", "!", ""]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2, 3]));
}

#[test]
fn logits_that_are_not_finite_are_an_error_of_the_request_alone() {
    let model =
        Chained { tokens: &[], specials: &["<eos>"], written: &["i", "<eos>"], config: json!({}) };
    // After `h` all is well; the embedding of `x` is too large for what comes after it.
    let x = model.id("x");
    let server = Server::of(
        |folder| {
            model.save(folder, |name, numbers| match name {
                "model.embed_tokens.weight" => numbers[x * 8 + 5] = 1.0,
                "lm_head.weight" => {
                    (0..numbers.len()).filter(|at| at % 8 == 5).for_each(|at| numbers[at] = 3e38)
                }
                _ => {}
            })
        },
        &[],
    );
    let ask = |prompt: &str| {
        server
            .post("/v1/completions", &json!({"model": "small", "prompt": prompt, "temperature": 0}))
    };
    for _ in 0..2 {
        let failed = ask("x");
        assert!(failed.status == 500 && failed.body.contains("not finite"), "{}", failed.body);
        assert_eq!(ask("h").json()["choices"][0]["text"], "i");
    }
}

#[test]
fn a_field_is_refused_for_its_value_and_not_for_being_there() {
    let server = Server::start(&[]);
    let both = [
        ("response_format", json!({"type": "text"}), json!({"type": "json_object"})),
        ("tools", json!([]), json!([{"type": "function", "function": {"name": "f"}}])),
        ("tool_choice", json!("none"), json!("required")),
        ("tool_choice", json!("auto"), json!({"type": "function", "function": {"name": "f"}})),
        ("parallel_tool_calls", json!(true), json!("yes")),
        ("logit_bias", json!({}), json!({"5": 1})),
        ("modalities", json!(["text"]), json!(["text", "audio"])),
        ("repetition_penalty", json!(1.0), json!(1.1)),
        ("presence_penalty", json!(0), json!(0.5)),
        ("top_k", json!(-1), json!(-2)),
        (
            "stream_options",
            json!({"include_obfuscation": false}),
            json!({"continuous_usage_stats": true}),
        ),
    ];
    let chat = |more: &[(&str, &Value)]| {
        let mut body = json!({"model": "small", "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 3});
        more.iter().for_each(|(field, value)| body[*field] = (*value).clone());
        server.post("/v1/chat/completions", &body)
    };
    let plain = chat(&[]).json()["choices"].clone();
    let completion = |field: &str, value: &Value| {
        server.post(
            "/v1/completions",
            &json!({"model": "small", "prompt": "hi", "max_tokens": 3, field: value}),
        )
    };
    for (field, neutral, other) in &both {
        assert_eq!(chat(&[(field, neutral)]).json()["choices"], plain, "{field}: {neutral}");
        assert_eq!(completion(field, neutral).status, 200, "{field}: {neutral}");
        for refused in [chat(&[(field, other)]), completion(field, other)] {
            assert!(
                refused.status == 400 && refused.body.contains(field),
                "{field}: {other}: {}",
                refused.body
            );
        }
    }
    let all: Vec<(&str, &Value)> =
        both.iter().map(|(field, neutral, _)| (*field, neutral)).collect();
    let (no, zero, key) = (json!(false), json!(0), json!("x"));
    let more = [
        ("logprobs", &no),
        ("top_logprobs", &zero),
        ("prompt_cache_key", &key),
        ("safety_identifier", &key),
    ];
    assert_eq!(chat(&[&all[..], &more].concat()).json()["choices"], plain);
    assert_eq!(chat(&[("logprobs", &json!(true)), ("top_logprobs", &json!(3))]).status, 400);
    assert_eq!(
        (completion("suffix", &json!("")).status, completion("suffix", &json!("end")).status),
        (200, 400)
    );
}

#[test]
fn tools_and_variables_are_given_to_the_chat_template() {
    let server = Server::of(with_tools, &[]);
    let tools = json!([{"type": "function", "function": {"name": "boss"}}]);
    let messages = json!([{"role": "user", "content": "my boss"}]);
    let chat = |more: Value| {
        let mut body = json!({"model": "small", "messages": messages, "max_tokens": 6});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/chat/completions", &body)
    };
    let tokens = |answer: &Answer| answer.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    let (plain, told) = (chat(json!({})), chat(json!({"tools": tools})));
    assert_eq!((plain.status, told.status), (200, 200), "{}", told.body);
    assert!(tokens(&told) > tokens(&plain), "the tool is in the prompt");
    let row = json!({"messages": messages, "tools": tools});
    let written = generated(&server, &row, &["--max-new-tokens", "6"]);
    assert_eq!(told.json()["choices"][0]["message"]["content"], written[0]["text"]);
    for same in [
        json!({"tools": tools, "tool_choice": "auto", "parallel_tool_calls": true}),
        json!({"tools": tools.to_string(), "tool_choice": null}),
    ] {
        assert_eq!(chat(same).json()["choices"], told.json()["choices"]);
    }
    let none = chat(json!({"tools": tools, "tool_choice": "none"}));
    assert_eq!(none.json()["choices"], plain.json()["choices"]);
    let moody = chat(json!({"chat_template_kwargs": {"mood": "no 1 "}}));
    assert_eq!(moody.status, 200, "{}", moody.body);
    assert!(tokens(&moody) > tokens(&plain));
    for (wrong, said) in [
        (json!({"tools": tools, "tool_choice": "required"}), "`tool_choice`"),
        (json!({"tools": tools, "parallel_tool_calls": false}), "`parallel_tool_calls` is false"),
        (json!({"tools": [1]}), "`tools` is"),
        (json!({"tools": {"name": "f"}}), "`tools` is"),
        (json!({"functions": [{"name": "f"}]}), "`functions`"),
        (json!({"chat_template_kwargs": [1]}), "`chat_template_kwargs` is a list"),
        (json!({"chat_template_kwargs": {"tone": 1}}), "`chat_template_kwargs` has `tone`"),
        (json!({"chat_template_kwargs": {"tools": []}}), "`tools` is a variable"),
    ] {
        let refused = chat(wrong.clone());
        assert!(
            refused.status == 400 && refused.body.contains(said),
            "{wrong}: {} {}",
            refused.status,
            refused.body
        );
    }
}

#[test]
fn pages_and_foreign_names_are_refused_unless_they_are_allowed() {
    let get = |server: &Server, headers: &str| server.get("/v1/models", headers);
    let plain = Server::start(&[]);
    let own = format!("Host: localhost:{}\r\n", plain.port);
    assert_eq!(get(&plain, &own).status, 200);
    for (headers, said) in [
        (format!("Host: evil.example:{}\r\n", plain.port), "--allow-host evil.example"),
        (format!("{own}Origin: http://evil.example\r\n"), "--allow-origin http://evil.example"),
        (format!("{own}Origin: null\r\n"), "--allow-origin"),
    ] {
        let refused = get(&plain, &headers);
        assert!(
            refused.status == 403 && refused.body.contains(said),
            "{headers}: {}",
            refused.body
        );
        assert!(!refused.head.contains("Access-Control"), "{}", refused.head);
    }
    assert_eq!(get(&plain, &format!("{own}{own}")).status, 400);
    // A simple request of a page, which a browser sends without asking first.
    let body = json!({"model": "small", "prompt": "hi"}).to_string();
    let sent = format!(
        "POST /v1/completions HTTP/1.1\r\n{own}Origin: http://evil.example\r\nContent-Type: \
         text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(plain.raw(sent.as_bytes()).status, 403);

    let open = Server::start(&[
        "--allow-host",
        "box.lan",
        "--allow-origin",
        "http://localhost:3000",
        "--api-key-env",
        "JUDGES_KEY",
    ]);
    let (host, origin, key) = (
        "Host: box.lan\r\n",
        "Origin: http://localhost:3000\r\n",
        "Authorization: Bearer right\r\n",
    );
    let answer = get(&open, &format!("{host}{origin}{key}"));
    assert!(
        answer.status == 200
            && answer.head.contains("Access-Control-Allow-Origin: http://localhost:3000\r\n"),
        "{}",
        answer.head
    );
    let asked = open.raw(
        format!("OPTIONS /v1/completions HTTP/1.1\r\n{host}{origin}Connection: close\r\n\r\n")
            .as_bytes(),
    );
    assert!(
        asked.status == 204
            && asked.head.contains("Access-Control-Allow-Headers: authorization, content-type"),
        "{}",
        asked.head
    );
    assert_eq!(get(&open, &format!("Host: other.lan\r\n{key}")).status, 403);
    assert_eq!(get(&open, &format!("{host}{origin}")).status, 401);
}

#[test]
fn a_chat_goes_through_the_models_template() {
    let server = Server::start(&[]);
    let messages = json!([{"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]}]);
    let answer = server.post(
        "/v1/chat/completions",
        &json!({"model": "small", "messages": messages, "max_tokens": 20, "seed": 5}),
    );
    let plain =
        json!([{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]);
    let expected =
        generated(&server, &json!({"messages": plain}), &["--max-new-tokens", "20", "--seed", "5"]);
    assert_eq!(
        answer.json()["choices"][0]["message"],
        json!({"role": "assistant", "content": expected[0]["text"]})
    );
    let prompt = "system: be brief\nuser: hello\nassistant:".len();
    assert_eq!(answer.json()["usage"]["prompt_tokens"], prompt);
    let whole = server.post("/v1/chat/completions", &json!({"model": "small", "messages": plain}));
    let used = whole.json()["usage"]["total_tokens"].as_u64().unwrap();
    assert!(
        whole.json()["choices"][0]["finish_reason"] == "stop"
            || used == crate::stages::fixture::CONTEXT as u64,
        "{}",
        whole.body
    );
}

#[test]
fn pieces_put_together_are_the_whole_answer() {
    let server = Server::start(&[]);
    let asked_for =
        |seed: u64| json!({"max_tokens": 50, "n": 2, "seed": seed, "stop": ["~~", "zq"]});
    // The model of arbitrary weights may end at once; two texts that go on for a while show more.
    let long = |answer: &Value| texts(answer).iter().all(|text| text.len() > 20);
    let seed = (0..200).find(|seed| long(&server.complete(asked_for(*seed)))).unwrap();
    let body = asked_for(seed);
    let whole = server.complete(body.clone());
    let mut asked = json!({"model": "small", "prompt": "no 1 my boss", "stream": true,
        "stream_options": {"include_usage": true}});
    asked.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let streamed = server.post("/v1/completions", &asked);
    assert!(streamed.head.contains("Content-Type: text/event-stream"), "{}", streamed.head);
    let mut pieces = events(&streamed);
    assert_eq!(pieces.pop().unwrap()["usage"], whole["usage"]);
    for index in 0..2 {
        let own: Vec<&Value> = pieces
            .iter()
            .map(|piece| &piece["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        let text: String = own.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(text, texts(&whole)[index]);
        assert_eq!(own.last().unwrap()["finish_reason"], whole["choices"][index]["finish_reason"]);
        assert!(own.len() > 10, "it comes in pieces");
    }
    let chat = json!({"model": "small", "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 20});
    let mut streaming = chat.clone();
    streaming["stream"] = true.into();
    let pieces = events(&server.post("/v1/chat/completions", &streaming));
    assert_eq!(pieces[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = pieces
        .iter()
        .map(|piece| piece["choices"][0]["delta"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(
        text,
        server.post("/v1/chat/completions", &chat).json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
    );
    // HTTP/1.0 knows no pieces: the answer ends with the connection.
    let old = format!(
        "POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{asked}",
        asked.to_string().len()
    );
    assert_eq!(events(&server.raw(old.as_bytes())).len(), events(&streamed).len());
}

#[test]
fn a_stop_text_ends_the_answer_and_is_not_shown() {
    let server = Server::start(&[]);
    let with = |seed: u64| server.complete(json!({"max_tokens": 40, "seed": seed}));
    let seed = (0..200).find(|seed| texts(&with(*seed))[0].len() > 20).unwrap();
    let whole = with(seed);
    let whole = texts(&whole)[0];
    let stop = &whole[10..12];
    let at = whole.find(stop).unwrap();
    let answer =
        server.complete(json!({"max_tokens": 40, "seed": seed, "stop": stop, "logprobs": 0}));
    assert_eq!(
        (texts(&answer)[0], &answer["choices"][0]["finish_reason"]),
        (&whole[..at], &json!("stop"))
    );
    // Every character is a token: those shown, and the two of the stop text.
    assert_eq!(answer["usage"]["completion_tokens"], at + 2);
    let logprobs = &answer["choices"][0]["logprobs"];
    let expected = generated(
        &server,
        &json!({"prompt": "no 1 my boss"}),
        &["--max-new-tokens", "40", "--seed", &seed.to_string()],
    );
    let drawn = &expected[0]["logprobs"].as_array().unwrap()[..at + 2];
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap(), drawn);
    assert_eq!(logprobs["text_offset"], json!((0..at + 2).collect::<Vec<usize>>()));
}

#[test]
fn what_cannot_be_answered_is_refused_as_openai_does() {
    let server = Server::start(&[]);
    let refused = |path: &str, body: &str| {
        let answer = server.raw(post(path, body).as_bytes());
        let error = answer.json()["error"].clone();
        (
            answer.status,
            error["type"].as_str().unwrap().to_owned(),
            error["message"].as_str().unwrap().to_owned(),
        )
    };
    let good = json!({"model": "small", "prompt": "no"});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    for (body, said) in [
        ("{".to_owned(), "EOF"),
        (json!({"prompt": "no"}).to_string(), "missing field `model`"),
        (json!({"model": "small"}).to_string(), "`prompt`"),
        (with("temperature", json!(-1)), "`temperature`"),
        (with("top_p", json!(0)), "`top_p`"),
        (with("max_tokens", json!(0)), "`max_tokens`"),
        (with("max_tokens", json!(127)), "exceeds the context of 128"),
        (with("n", json!(0)), "`n`"),
        (with("n", json!(1000)), "more than this server holds"),
        (with("stop", json!("")), "`stop`"),
        (with("logprobs", json!(5)), "`logprobs`"),
        (with("logit_bias", json!({"1": 5})), "`logit_bias`"),
        (with("presence_penalty", json!(1)), "`presence_penalty`"),
        (with("prompt", json!(["a", "b"])), "`prompt`"),
        (with("prompt", json!([9999])), "no token 9999"),
        (with("prompt", json!("")), "no token"),
    ] {
        let (status, kind, message) = refused("/v1/completions", &body);
        assert_eq!((status, kind.as_str()), (400, "invalid_request_error"), "{body}");
        assert!(message.contains(said), "{body}: {message}");
    }
    assert_eq!(refused("/v1/completions", &with("model", json!("other"))).0, 404);
    assert_eq!(refused("/v1/embeddings", "{}").0, 404);
    assert_eq!(refused("/v1/models", "{}").0, 405);
    let image = json!([{"role": "user", "content": [{"type": "image_url"}]}]);
    assert_eq!(
        refused("/v1/chat/completions", &json!({"model": "small", "messages": image}).to_string())
            .0,
        400
    );
    assert_eq!(
        refused("/v1/chat/completions", &json!({"model": "small", "messages": []}).to_string()).0,
        400
    );
    let neutral = json!({"user": "me", "presence_penalty": 0, "logit_bias": null, "max_tokens": 1});
    assert_eq!(server.complete(neutral)["object"], "text_completion");
    let listed = server.get("/v1/models", "").json();
    assert_eq!((&listed["object"], &listed["data"][0]["id"]), (&json!("list"), &json!("small")));
    assert_eq!(server.get("/v1/models/small?x=1", "").json()["object"], "model");
}

#[test]
fn bytes_that_are_no_request_are_told_so_and_the_server_goes_on() {
    let server = Server::start(&[]);
    let status = |bytes: &[u8]| server.raw(bytes).status;
    assert_eq!(status(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"), 400);
    assert_eq!(status(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"), 413);
    assert_eq!(status(b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 411);
    assert_eq!(
        status(
            format!("GET /v1/models HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(20 << 10)).as_bytes()
        ),
        431
    );
    assert_eq!(status(post("/v1/completions", "\u{0}\u{1}").as_bytes()), 400);
    let large = format!(
        "POST /v1/completions HTTP/1.1\r\nContent-Length: {0}\r\n\r\n{1}",
        5 << 20,
        " ".repeat(5 << 20)
    );
    assert_eq!(status(large.as_bytes()), 413);
    // One connection, two requests at once, then one byte by byte.
    let mut stream = server.connect();
    let get = "GET /v1/models HTTP/1.1\r\n\r\n";
    stream.write_all(format!("{get}{get}").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert_eq!([read_answer(&mut reader).status, read_answer(&mut reader).status], [200, 200]);
    for byte in get.bytes() {
        stream.write_all(&[byte]).unwrap();
        stream.flush().unwrap();
    }
    assert_eq!(read_answer(&mut reader).status, 200);
    let waits = "POST /v1/models HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(waits.as_bytes()).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    stream.write_all(b"{}").unwrap();
    assert_eq!(read_answer(&mut reader).status, 405);
}

#[test]
fn clients_that_leave_take_nothing_with_them() {
    let server = Server::start(&["--batch-size", "2"]);
    let expected = server.complete(json!({"max_tokens": 30}));
    for at in 0..30 {
        let body = json!({"model": "small", "prompt": "no", "max_tokens": 120,
            "stream": at % 2 == 0, "seed": at})
        .to_string();
        let mut stream = server.connect();
        let request = post("/v1/completions", &body);
        // Some leave in the middle of what they say.
        stream
            .write_all(
                &request.as_bytes()[..if at % 3 == 0 { request.len() - 5 } else { request.len() }],
            )
            .unwrap();
    }
    assert_eq!(texts(&server.complete(json!({"max_tokens": 30}))), texts(&expected));
}

#[test]
fn a_full_queue_says_try_again() {
    let server = Server::start(&["--batch-size", "1", "--queue", "1"]);
    let expected = server.complete(json!({"max_tokens": 110}));
    let barrier = Barrier::new(40);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            let answer = server.post(
                "/v1/completions",
                &json!({"model": "small", "prompt": "no 1 my boss", "max_tokens": 110}),
            );
            match answer.status {
                200 => assert_eq!(texts(&answer.json()), texts(&expected)),
                _ => assert!(
                    answer.head.contains("Retry-After: 1")
                        && answer.json()["error"]["type"] == "rate_limit_error"
                ),
            }
            answer.status
        };
        let threads: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
}

#[test]
fn only_who_has_the_key_is_answered() {
    let server = Server::start(&["--api-key-env", "JUDGES_KEY"]);
    let status = |headers: &str| server.get("/v1/models", headers).status;
    assert_eq!(status("Authorization: Bearer right\r\n"), 200);
    for wrong in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: right\r\n",
        "Authorization: Bearer right2\r\n",
    ] {
        assert_eq!(status(wrong), 401, "{wrong}");
    }
    let said = Command::new(env!("CARGO_BIN_EXE_posttrain"))
        .args(["serve", server.model().to_str().unwrap(), "--api-key-env", "JUDGES_NO_SUCH_KEY"])
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(2));
}

#[test]
fn told_to_stop_it_finishes_what_it_has_begun() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&[]);
        let mut stream = server.connect();
        let idle = server.connect();
        let body = json!({"model": "small", "prompt": "no", "max_tokens": 120, "stream": true})
            .to_string();
        stream.write_all(post("/v1/completions", &body).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        std::io::BufRead::fill_buf(&mut reader).unwrap();
        let start = Instant::now();
        kill_process(Pid::from_child(&server.child), signal).unwrap();
        events(&read_answer(&mut reader));
        assert_eq!(server.child.wait().unwrap().code(), Some(130));
        assert!(start.elapsed() < Duration::from_secs(8), "it ends soon");
        drop(idle);
    }
}
