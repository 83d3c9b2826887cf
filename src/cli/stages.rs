//! `stages`: the stage kinds of this program, and the fields of each.

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::common::{print, print_json, terminal_width};
use crate::error::{Result, user};
use crate::pipeline::diagnostic::advice;
use crate::pipeline::registry::{Builtin, Registry};
use crate::stages::description::{self, Field};
use crate::stages::{Stage, Visitor};

/// Columns that a meaning is indented by.
const INDENT: usize = 4;

/// List the stage kinds, or the fields of one: type, default, range, meaning
#[derive(Args)]
pub struct Arguments {
    /// A stage kind
    kind: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the list.
pub fn main(arguments: &Arguments) -> Result<()> {
    let Some(kind) = &arguments.kind else { return list(arguments.json) };
    let described = Builtin.visit(kind, Fields).ok_or_else(|| {
        user(format!("there is no stage kind `{kind}`")).hint(advice(
            kind,
            Builtin.names(),
            "stage kinds",
        ))
    })??;
    if arguments.json { print_json(&described) } else { print(&described.text(terminal_width())) }
}

fn list(json: bool) -> Result<()> {
    let kinds: Vec<Kind> = Builtin
        .names()
        .into_iter()
        .filter_map(|name| Builtin.visit(name, Head))
        .collect::<Result<_>>()?;
    if json {
        return print_json(&kinds);
    }
    let width = terminal_width();
    print(&kinds.iter().map(|kind| kind.text(width)).collect::<String>())
}

/// A stage kind.
#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    /// The kind of artefact that it makes.
    makes: &'static str,
    meaning: String,
}

impl Kind {
    fn text(&self, width: usize) -> String {
        let meaning = wrapped(&self.meaning, width, INDENT, INDENT);
        format!("{} -> {}\n{meaning}", self.kind, self.makes)
    }
}

struct Head;

impl Visitor for Head {
    type Output = Result<Kind>;

    fn visit<S: Stage>(self) -> Result<Kind> {
        let meaning = description::meaning::<S>().map_err(|bug| anyhow!(bug))?;
        Ok(Kind { kind: S::INFO.name, makes: S::INFO.output, meaning })
    }
}

/// A stage kind with its fields.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    kind: Kind,
    fields: Vec<Field>,
}

impl Described {
    fn text(&self, width: usize) -> String {
        let mut text = self.kind.text(width);
        for field in &self.fields {
            text += "\n";
            text += &wrapped(&format!("{}: {}", field.field, facts(field)), width, 0, INDENT);
            text += &wrapped(&field.meaning, width, INDENT, INDENT);
            for value in field.values.iter().filter(|value| !value.is_key) {
                let line = format!("- {}: {}", value.value, value.meaning);
                text += &wrapped(&line, width, INDENT, INDENT + 2);
            }
        }
        text
    }
}

struct Fields;

impl Visitor for Fields {
    type Output = Result<Described>;

    fn visit<S: Stage>(self) -> Result<Described> {
        let fields =
            description::fields::<S>().map_err(|bug| anyhow!("{}: {bug}", S::INFO.name))?;
        Ok(Described { kind: Head.visit::<S>()?, fields })
    }
}

/// The type, the default and the range of a field.
fn facts(field: &Field) -> String {
    let mut facts = field.kind.clone();
    match (&field.default, field.required) {
        (Some(default), _) => facts += &format!(", default {}", flow(default)),
        (None, Some(true)) => facts += ", required",
        (None, Some(false)) => facts += ", optional",
        (None, None) => {}
    }
    field.expected.iter().fold(facts, |facts, message| format!("{facts}; {message}"))
}

/// A value as YAML on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", flow(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// Lines of at most `width` columns, broken at blanks; the first is indented by `first` columns,
/// the others by `others`. A word that is longer than a line stays whole.
fn wrapped(text: &str, width: usize, first: usize, others: usize) -> String {
    let mut line = " ".repeat(first);
    let (mut out, mut used) = (String::new(), 0);
    for word in text.split_whitespace() {
        if used > 0 && line.chars().count() + 1 + word.chars().count() > width {
            out += &line;
            out.push('\n');
            (line, used) = (" ".repeat(others), 0);
        }
        if used > 0 {
            line.push(' ');
        }
        line += word;
        used += 1;
    }
    out + &line + "\n"
}
