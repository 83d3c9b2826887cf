//! Messages, tools and templates from a data file to the text that is learned; templates as Jinja 2
//! reads them (jinja/make.py).

use std::path::Path;

use posttrain::data::conversations::tokenise_conversations;
use posttrain::data::load::Loaded;
use posttrain::data::rows::{Example, Rows};
use posttrain::data::tokenised::{Limits, Tokenised, tokenise, tokenise_prompts};
use posttrain::json::{Json, Object};
use posttrain::tokenizer::chat::{Chat, ChatTemplate, Message};
use posttrain::tokenizer::tokens::Tokenizer;
use posttrain::tokenizer::training::SMALLEST;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{bytes, complaint, loaded};

/// A template that writes roles, calls of tools and contents.
const PLAIN: &str = "{% for m in messages %}<{{ m.role[0] }}>{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{{ m.content or '' }}</{{ m.role[0] }}>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";

/// A model's folder with this template, and with `<s>` put before every text by the tokenizer.
fn model(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Tokenizer::train(&["none"], SMALLEST).unwrap().save(folder.path()).unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let id = SMALLEST as u32;
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": id, "content": "<s>", "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true}));
    tokenizer["post_processor"] = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [id], "tokens": ["<s>"]}}});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let config = json!({"eos_token": "<eos>", "pad_token": "<pad>", "bos_token": "<s>"});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    folder
}

/// What rows become when this template writes them out.
fn written(template: &str, rows: &str, more: Value) -> Loaded {
    let (folder, (_rows, path)) = (model(template), bytes(rows.as_bytes()));
    let mut options = json!({"format": "trl", "chat": {"$path": folder.path()}});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    loaded(&path, options).unwrap()
}

fn texts(template: &str, rows: &str) -> Vec<(String, String)> {
    let Rows::Examples(rows) = written(template, rows, json!({})).rows else {
        panic!("examples are written out")
    };
    assert!(rows.iter().all(|row| row.chat));
    rows.into_iter().map(|row| (row.prompt, row.completion)).collect()
}

fn pair(prompt: &str, completion: &str) -> (String, String) {
    (prompt.into(), completion.into())
}

#[derive(Deserialize)]
struct Golden {
    row: Json,
    made: Vec<(String, String)>,
}

#[test]
fn small_templates_write_what_jinja_2_writes() {
    let Golden { row, made } = serde_json::from_str(include_str!("jinja/golden.json")).unwrap();
    let variables: Object = [("row".to_owned(), row)].into();
    let chat = [Message::new("user", "hi")];
    let mut others = Vec::new();
    for (source, expected) in &made {
        let template = ChatTemplate::new(source, Default::default(), "a test".into());
        let text = template.and_then(|template| {
            template.render(Chat { variables: Some(&variables), ..Chat::from(&chat) }, false)
        });
        match text {
            Ok(rendered) if rendered.text == *expected => {}
            other => others.push(format!(
                "{source:?}: {:?} for {expected:?}",
                other.map(|rendered| rendered.text)
            )),
        }
    }
    assert!(made.len() > 190 && others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn line_ends_of_a_template_are_no_part_of_what_it_writes_and_those_of_messages_are() {
    let template = "{% for m in messages %}\r\n[{{ m.role }}]\r\n{{ m.content }}\r{% endfor %}\r\n\
        {% if add_generation_prompt %}\r\n[assistant]\r\n{{ '' }}{% endif %}";
    let rows = r#"{"messages": [{"role": "user", "content": "a\r\nb"}, {"role": "assistant", "content": "yo"}]}"#;
    assert_eq!(texts(template, rows), [pair("[user]\na\r\nb\n[assistant]\n", "yo\n")]);
}

#[test]
fn arguments_of_calls_keep_their_order_and_messages_that_call_need_no_content() {
    let call = r#"[{"id":"c","type":"function","function":{"name":"f","arguments":{"z":"B","a":12345678901234567890123,"m":{"y":1,"x":null}}}}]"#;
    let rest = r#"{"role":"tool","content":"ok","tool_call_id":"c"},{"role":"assistant","content":"done"}]}"#;
    let rows = ["\"content\":null,", "", "\"content\":\"\","].map(|content| {
        format!(r#"{{"messages":[{{"role":"user","content":"go"}},{{"role":"assistant",{content}"tool_calls":{call}}},{rest}"#)
    });
    let prompt = r#"<u>go</u><a>f{"z": "B", "a": 12345678901234567890123, "m": {"y": 1, "x": null}}</a><t>ok</t><a>"#;
    assert_eq!(texts(PLAIN, &rows.join("\n")), vec![pair(prompt, "done</a>"); 3]);
    let nothing = [json!({"messages": [{"role": "user", "content": "a"},
            {"role": "assistant", "content": null}]})];
    assert!(
        complaint(&nothing, json!({}))
            .contains("message 2: it has neither `content` nor `tool_calls`")
    );
}

#[test]
fn tools_and_variables_of_a_row_reach_the_template_or_are_refused() {
    let template = format!(
        "{{% if tools %}}[{{{{ tools | map(attribute='function.name') | join(',') }}}}{{{{ mode }}}}]{{% endif %}}{PLAIN}"
    );
    let tools = r#"[{"type":"function","function":{"name":"add"}},{"type":"function","function":{"name":"mul"}}]"#;
    let row = |tools: &str| {
        format!(
            r#"{{"prompt":[{{"role":"user","content":"2+3?"}}],"completion":[{{"role":"assistant","content":"5"}}],"tools":{tools}}}"#
        )
    };
    let as_text = serde_json::to_string(tools).unwrap();
    let expected = pair("[add,mul]<u>2+3?</u><a>", "5</a>");
    assert_eq!(
        texts(&template, &format!("{}\n{}", row(tools), row(&as_text))),
        [expected.clone(), expected]
    );
    let messages = format!(
        r#"{{"messages":[{{"role":"user","content":"x"}},{{"role":"assistant","content":"5"}}],"tools":{tools},"chat_template_kwargs":{{"mode":"!"}}}}"#
    );
    assert_eq!(texts(&template, &messages), [pair("[add,mul!]<u>x</u><a>", "5</a>")]);
    // Without a model they stay with the conversation, in their order.
    let (_folder, path) = bytes(messages.as_bytes());
    let Rows::Conversations(rows) = loaded(&path, json!({})).unwrap().rows else {
        panic!("conversations stay what they are")
    };
    let written = serde_json::to_string(&rows[0]).unwrap();
    assert!(
        written.contains(r#""tools":[{"type":"function","function":{"name":"add"}}"#),
        "{written}"
    );
    assert!(written.contains(r#""chat_template_kwargs":{"mode":"!"}"#), "{written}");
    assert_eq!(
        serde_json::from_str::<posttrain::data::rows::Conversation>(&written).unwrap(),
        rows[0]
    );
    // Where nothing can look at them.
    let (folder, (_rows, path)) = (model(PLAIN), bytes(row(tools).as_bytes()));
    let error = loaded(&path, json!({"chat": {"$path": folder.path()}})).unwrap_err().to_string();
    assert!(error.contains("row 1: there are `tools`, and the chat template"), "{error}");
    let texts = json!({"prompt": "a", "completion": "b", "tools": [{"type": "function"}]});
    assert!(
        complaint(&[texts], json!({}))
            .contains("it has `tools` or `chat_template_kwargs`, and its columns are texts")
    );
    let wrong = json!({"messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"}], "tools": "add"});
    assert!(
        complaint(&[wrong], json!({})).contains("the column `tools` is a text that is no JSON")
    );
}

#[test]
fn what_a_row_says_and_nothing_reads_is_named() {
    let rows = r#"{"id": 7, "lang": "en", "score": 0, "none": null, "messages": [{"role": "user", "content": "a", "mood": "b", "name": "c"}, {"role": "assistant", "content": "b"}]}"#;
    let ignored =
        written(PLAIN, rows, json!({"keep": [{"column": "lang", "equals": "en"}]})).ignored;
    assert_eq!(ignored.columns, ["score".to_owned()].into());
    assert_eq!(ignored.fields, ["mood".to_owned()].into());
    let turns = r#"{"system": "s", "conversations": [{"from": "human", "value": "a", "mood": 1}, {"from": "gpt", "value": "b", "weight": 1}], "source": "x"}"#;
    let (_folder, path) = bytes(turns.as_bytes());
    let Loaded { rows, ignored, .. } = loaded(&path, json!({"format": "sharegpt"})).unwrap();
    let Rows::Conversations(rows) = rows else { panic!("they are conversations") };
    assert_eq!(
        rows[0].messages.iter().map(Message::role).collect::<Vec<_>>(),
        ["system", "user", "assistant"]
    );
    assert_eq!(
        (ignored.columns, ignored.fields),
        (["source".to_owned()].into(), ["mood".to_owned()].into())
    );
    let picture = json!({"image": "a.png",
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    assert!(complaint(&[picture], json!({})).contains("the column `image` holds more than text"));
}

fn tokenised(folder: &Path, rows: &str) -> Vec<Tokenised> {
    let (_rows, path) = bytes(rows.as_bytes());
    let Rows::Conversations(rows) = loaded(&path, json!({})).unwrap().rows else {
        panic!("they are conversations")
    };
    let (tokenizer, template) =
        (Tokenizer::open(folder).unwrap(), ChatTemplate::open(folder).unwrap().unwrap());
    tokenise_conversations(&rows, &tokenizer, &template, 1000, "sft").unwrap().0
}

/// What is learned of a sequence.
fn learned(folder: &Path, row: &Tokenised) -> String {
    let own =
        row.tokens.iter().zip(row.response_mask()).filter(|(_, own)| *own).map(|(token, _)| *token);
    Tokenizer::open(folder).unwrap().decode(&own.collect::<Vec<u32>>()).unwrap()
}

#[test]
fn a_message_of_weight_0_is_context_alone() {
    let plain = "{% for m in messages %}{% if m.role == 'assistant' %}<a>{{ m.content }}<eos>{% else %}<u>{{ m.content }}</u>{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";
    let marked = "{% for m in messages %}{% if m.role == 'assistant' %}<a>{% generation %}{{ m.content }}<eos>{% endgeneration %}{% else %}<u>{{ m.content }}</u>{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";
    let row = |first: &str, second: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"wrong"{first}}},{{"role":"user","content":"b"}},{{"role":"assistant","content":"right"{second}}}]}}"#
        )
    };
    let (zero, one) = (r#","weight":0"#, r#","weight":1"#);
    for template in [plain, marked] {
        let folder = model(template);
        let rows = tokenised(
            folder.path(),
            &[row("", ""), row(zero, one), row(zero, ""), row("", zero)].join("\n"),
        );
        let found: Vec<String> = rows.iter().map(|row| learned(folder.path(), row)).collect();
        assert_eq!(found, ["wrong<eos>right<eos>", "right<eos>", "right<eos>", "wrong<eos>"]);
        assert!(
            rows.iter().all(|row| row.tokens == rows[0].tokens),
            "a weight is no part of the text"
        );
    }
    let messages = |weight: Value| {
        json!({"messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": weight}]})
    };
    assert!(
        complaint(&[messages(json!(0))], json!({}))
            .contains("every message of the assistant has `weight` 0")
    );
    assert!(
        complaint(&[messages(json!(0.3))], json!({}))
            .contains("message 2: `weight` is neither 0 nor 1")
    );
    let folder = model(plain);
    assert!(
        complaint(&[messages(json!(0))], json!({"chat": {"$path": folder.path()}}))
            .contains("the last answer has `weight` 0")
    );
    let answer = json!({"prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b", "weight": 0}]});
    assert!(
        complaint(&[answer], json!({"chat": {"$path": folder.path()}}))
            .contains("a message of the answer has `weight` 0")
    );
}

#[test]
fn what_a_template_wrote_is_given_no_first_token_and_other_texts_are() {
    let folder = model(PLAIN);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let row = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}"#;
    let (_rows, path) = bytes(row.as_bytes());
    let Rows::Examples(chat) =
        loaded(&path, json!({"chat": {"$path": folder.path()}})).unwrap().rows
    else {
        panic!("it is written out")
    };
    // What is in an artefact says so too.
    let chat: Vec<Example> = chat
        .iter()
        .map(|row| serde_json::from_str(&serde_json::to_string(row).unwrap()).unwrap())
        .collect();
    let text = vec![Example { chat: false, ..chat[0].clone() }];
    let limits = Limits { context: 100, prompt: None, field: None };
    let sequence = |rows: &[Example]| tokenise(rows, &tokenizer, limits, "sft").unwrap().remove(0);
    let as_messages = tokenised(folder.path(), row).remove(0);
    assert_eq!(
        as_messages.tokens[..as_messages.prompt],
        sequence(&chat).tokens[..sequence(&chat).prompt]
    );
    assert_eq!(tokenizer.decode(&sequence(&chat).tokens).unwrap(), "<u>hi</u><a>yo</a><eos>");
    assert_eq!(tokenizer.decode(&sequence(&text).tokens).unwrap(), "<s><u>hi</u><a>yo</a><eos>");
    let prompts = |rows: &[Example]| {
        tokenise_prompts(rows, &tokenizer, limits, 1, "prompts").unwrap().remove(0)
    };
    assert_eq!(
        (prompts(&chat).len() + 1, prompts(&chat).first()),
        (prompts(&text).len(), Some(&tokenizer.encode("<").unwrap()[0]))
    );
}
