//! Outputs of many inputs, read from anyone's rows and from what this program writes:
//! `samples.jsonl` of an artefact, lines of `posttrain generate`. Uses no measure.
//!
//! 1. A row with `outputs` is an input; each output is a text, a list of token ids, or an object
//!    with `text` (or, without one, `tokens`).
//! 2. A row with `text` (or `tokens`) is one output, as `posttrain generate` writes it: of the
//!    input before, where its `sample` is above 0, else of the next.
//! 3. Ids of tokens count as words.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::data::rows::parse_jsonl;
use crate::error::{Result, user};

/// What a row may be, for hints.
const ROWS: &str = "a row is {\"outputs\": [\"a text\", \"another\"]}, a row of a `samples.jsonl` \
                    of this program, or a line of `posttrain generate`";

/// The outputs of one input.
#[derive(Debug, PartialEq)]
pub struct Outputs {
    /// The split that the row names.
    pub split: Option<String>,
    /// Its texts; at least one.
    pub texts: Vec<String>,
}

/// The inputs of a JSONL text that was read from `path`; those of one split where it is given.
///
/// # Errors
/// A row that is none of what is read, with its number and what it is; a split without rows.
pub fn parse(bytes: &[u8], path: &Path, split: Option<&str>) -> Result<Vec<Outputs>> {
    let rows: Vec<(usize, Map<String, Value>)> = parse_jsonl(bytes, path)?;
    let mut inputs: Vec<Outputs> = Vec::new();
    for (number, row) in &rows {
        let refused =
            |what: String| user(format!("{}, row {number}: {what}", path.display())).hint(ROWS);
        let name = row.get("split").and_then(Value::as_str).map(str::to_owned);
        if let Some(outputs) = row.get("outputs") {
            let texts = texts(outputs).map_err(refused)?;
            inputs.push(Outputs { split: name, texts });
            continue;
        }
        let text = text(&Value::Object(row.clone())).map_err(|_| refused(unlike(row)))?;
        let goes_on = row.get("sample").and_then(Value::as_u64).is_some_and(|sample| sample > 0);
        match inputs.last_mut().filter(|_| goes_on) {
            Some(input) => input.texts.push(text),
            None if goes_on => {
                return Err(refused("`sample` is above 0 and no row comes before".into()).into());
            }
            None => inputs.push(Outputs { split: name, texts: vec![text] }),
        }
    }
    if inputs.is_empty() {
        return Err(user(format!("{} has no rows", path.display())).hint(ROWS).into());
    }
    let Some(wanted) = split else { return Ok(inputs) };
    let names = splits(&inputs);
    inputs.retain(|input| input.split.as_deref() == Some(wanted));
    if inputs.is_empty() {
        let hint = match names.is_empty() {
            true => "its rows name no `split`".into(),
            false => format!("its splits are {}", names.join(", ")),
        };
        return Err(user(format!("{} has no row of split `{wanted}`", path.display()))
            .hint(hint)
            .into());
    }
    Ok(inputs)
}

/// The splits that rows name, by name.
pub fn splits(inputs: &[Outputs]) -> Vec<String> {
    let names: BTreeSet<&String> = inputs.iter().filter_map(|input| input.split.as_ref()).collect();
    names.into_iter().cloned().collect()
}

fn texts(outputs: &Value) -> Result<Vec<String>, String> {
    let Value::Array(outputs) = outputs else {
        return Err(format!("`outputs` is {}, not a list", kind(outputs)));
    };
    if outputs.is_empty() {
        return Err("`outputs` is empty".into());
    }
    let one = |(at, output): (usize, &Value)| {
        text(output).map_err(|what| {
            format!(
                "`outputs[{at}]` is {what}, not a text, a list of token ids or an object with \
                 `text`"
            )
        })
    };
    outputs.iter().enumerate().map(one).collect()
}

/// The text of an output, or what it is.
fn text(output: &Value) -> Result<String, String> {
    match output {
        Value::String(text) => Ok(text.clone()),
        Value::Array(tokens) => {
            let ids: Option<Vec<u64>> = tokens.iter().map(Value::as_u64).collect();
            let ids = ids.ok_or("a list with something that is no token id")?;
            Ok(ids.iter().map(u64::to_string).collect::<Vec<String>>().join(" "))
        }
        Value::Object(fields) => match (fields.get("text"), fields.get("tokens")) {
            (Some(Value::String(text)), _) => Ok(text.clone()),
            (None | Some(Value::Null), Some(tokens @ Value::Array(_))) => text(tokens),
            (Some(Value::Null) | None, _) => Err("an object without `text`".into()),
            (Some(other), _) => Err(format!("an object whose `text` is {}", kind(other))),
        },
        other => Err(kind(other).into()),
    }
}

/// What a row without outputs is, in words.
fn unlike(row: &Map<String, Value>) -> String {
    let fields: Vec<String> = row.keys().map(|name| format!("`{name}`")).collect();
    let has = |names: &[&str]| names.iter().all(|name| row.contains_key(*name));
    let known = [
        (
            &["test_set", "answers"][..],
            "an input of an evaluation; the samples are in the artefacts it reads",
        ),
        (&["response", "kl"], "a rollout of PPO, of which a prompt has one"),
        (&["prompt", "completion"], "a row of a dataset, which has no outputs"),
        (&["prompt", "chosen"], "a preference pair, which has no outputs"),
    ];
    match known.iter().find(|(names, _)| has(names)) {
        Some((_, what)) => format!("this is {what}"),
        None if fields.is_empty() => "the row is empty".into(),
        None => {
            format!("it has neither `outputs` nor `text`; its fields are {}", fields.join(", "))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(text: &str) -> Vec<Outputs> {
        parse(text.as_bytes(), Path::new("rows.jsonl"), None).unwrap()
    }

    fn refused(text: &str) -> String {
        format!("{:#}", parse(text.as_bytes(), Path::new("rows.jsonl"), None).unwrap_err())
    }

    #[test]
    fn what_this_program_writes_is_read_as_what_anyone_does() {
        let own = "{\"split\": \"test/id\", \"outputs\": [{\"text\": \"a\", \"tokens\": [5]}, {\"tokens\": [5, 6]}]}";
        let input = |split: Option<&str>, texts: &[&str]| Outputs {
            split: split.map(str::to_owned),
            texts: texts.iter().map(|text| text.to_string()).collect(),
        };
        assert_eq!(inputs(own), [input(Some("test/id"), &["a", "5 6"])]);
        assert_eq!(
            inputs("{\"outputs\": [\"a\", [7, 8]], \"id\": 3}"),
            [input(None, &["a", "7 8"])]
        );
        let lines = "{\"sample\": 0, \"text\": \"a\"}\n{\"sample\": 1, \"text\": \"b\"}\n\
            {\"sample\": 0, \"text\": \"c\"}\n";
        assert_eq!(inputs(lines), [input(None, &["a", "b"]), input(None, &["c"])]);
        assert_eq!(inputs("{\"text\": \"a\"}\n{\"tokens\": [1]}\n").len(), 2);
    }

    #[test]
    fn a_split_is_taken_by_its_name() {
        let rows =
            "{\"split\": \"a\", \"outputs\": [\"x\"]}\n{\"split\": \"b\", \"outputs\": [\"y\"]}\n";
        let path = Path::new("rows.jsonl");
        assert_eq!(parse(rows.as_bytes(), path, Some("b")).unwrap()[0].texts, ["y"]);
        let wrong = format!("{:#}", parse(rows.as_bytes(), path, Some("c")).unwrap_err());
        assert!(
            wrong.contains("no row of split `c`") && wrong.contains("its splits are a, b"),
            "{wrong}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_in_words() {
        for (row, words) in [
            ("{\"outputs\": 3}", "rows.jsonl, row 1: `outputs` is a number, not a list"),
            ("{\"outputs\": []}", "`outputs` is empty"),
            ("{\"outputs\": [\"a\", null]}", "`outputs[1]` is null, not a text"),
            (
                "{\"outputs\": [{\"text\": 4}]}",
                "`outputs[0]` is an object whose `text` is a number",
            ),
            (
                "{\"outputs\": [[1, \"a\"]]}",
                "`outputs[0]` is a list with something that is no token id",
            ),
            ("{\"test_set\": \"id\", \"answers\": []}", "this is an input of an evaluation"),
            (
                "{\"id\": \"a\", \"prompt\": \"b\", \"completion\": \"c\"}",
                "this is a row of a dataset",
            ),
            ("{\"answer\": \"a\"}", "it has neither `outputs` nor `text`; its fields are `answer`"),
            ("{\"sample\": 2, \"text\": \"a\"}", "`sample` is above 0 and no row comes before"),
        ] {
            let said = refused(row);
            assert!(said.contains(words) && said.contains("hint: a row is"), "{said}");
        }
        assert!(refused("").contains("has no rows"));
    }
}
