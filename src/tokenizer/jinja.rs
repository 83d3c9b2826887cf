//! The dialect of Jinja that chat templates are written in, as transformers sets it up. Uses no
//! message and no file.
//!
//! 1. Blocks are trimmed (`trim_blocks`, `lstrip_blocks`), loops have `break` and `continue`,
//!    strings and dicts have Python's methods.
//! 2. `raise_exception(text)` refuses what is rendered.
//! 3. `tojson` writes as Python's `json.dumps` does: `", "` and `": "`, nothing escaped that need
//!    not be, keys in their order; and numbers, lists and objects are printed as Python prints
//!    them.
//! 4. There is no `strftime_now`: what is rendered becomes part of an artefact, which must not
//!    depend on the day. A template that asks whether there is one (`strftime_now is defined`)
//!    finds none and takes its own date.
//! 5. `{% generation %}…{% endgeneration %}` becomes a filter block, whose filter sets a mark
//!    before and after its text, around a `with` block, since transformers gives the part a
//!    separate scope as well.
//! 6. What is rendered costs steps, which are limited: an instruction is one, and so are 64 bytes
//!    that are made.
//! 7. What `set` keeps is measured, because the engine prints and compares lists without steps: as
//!    text it is no larger than the steps that are left, nested at most [`DEPTH`] levels, and a
//!    namespace never holds itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::template_source::{GENERATION, KEPT};

/// What a template refused by calling `raise_exception`.
#[derive(Debug)]
pub(super) struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// The function that templates may not have.
pub(super) const CLOCK: &str = "strftime_now";

/// Bytes that cost as much as an instruction.
const BYTES_A_STEP: usize = 64;

/// An environment whose generation parts are rendered between the two marks, in `steps` at most.
pub(super) fn environment(marks: [char; 2], steps: u64) -> Environment<'static> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the standard delimiters are sound");
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refused(message)))
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter(KEPT, kept);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.set_formatter(|out, state, value| match (float(value), value.kind()) {
        (Some(number), _) => out.write_str(&python_float(number)).map_err(Error::from),
        (None, ValueKind::Seq | ValueKind::Map) => {
            let (item, key) = (", ".into(), ": ".into());
            let python = Dumps {
                state,
                item,
                key,
                indent: None,
                ascii: false,
                sorted: false,
                python: true,
                out: String::new(),
                paid: 0,
            };
            out.write_str(&python.written(value)?).map_err(Error::from)
        }
        (None, _) => escape_formatter(out, state, value),
    });
    environment.set_fuel(Some(steps));
    environment
        .add_filter(GENERATION, move |text: String| format!("{}{text}{}", marks[0], marks[1]));
    environment
}

/// Parts of a value that are measured in a step.
const PARTS_A_STEP: u64 = 16;

/// An object whose reader is watched. Its fields are data: they hold nothing that a template made.
#[derive(Debug)]
pub(super) struct Watched {
    /// What it holds.
    pub(super) fields: Value,
    /// Set once a reader goes through all fields.
    pub(super) all: Arc<AtomicBool>,
}

impl Object for Watched {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.fields.get_item(key).ok().filter(|value| !value.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.all.store(true, Ordering::Relaxed);
        Enumerator::Values(self.fields.try_iter().map(Iterator::collect).unwrap_or_default())
    }
}

/// The value, measured; `in_namespace` says that it becomes a field of a namespace.
fn kept(state: &State<'_, '_>, value: Value, in_namespace: Option<bool>) -> Result<Value, Error> {
    let left = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
    let mut measure = Measure { left, parts: 0, in_namespace: in_namespace.unwrap_or(false) };
    let whole = measure.value(&value, 0)?;
    state.consume_fuel(if whole { measure.parts / PARTS_A_STEP } else { left + 1 })?;
    Ok(value)
}

/// The size of a value as text, each part counted as often as it is there.
struct Measure {
    /// Parts that it may have.
    left: u64,
    /// Items, and pieces of [`BYTES_A_STEP`] bytes, so far.
    parts: u64,
    in_namespace: bool,
}

impl Measure {
    /// Counts a value; false once there are too many parts.
    fn value(&mut self, value: &Value, depth: usize) -> Result<bool, Error> {
        let refused = |message: String| Err(Error::new(ErrorKind::InvalidOperation, message));
        if depth > DEPTH {
            return refused(format!("set: nested deeper than {DEPTH} levels"));
        }
        let bytes = value.as_str().map_or(0, str::len);
        self.parts += 1 + (bytes / BYTES_A_STEP) as u64;
        if self.parts > self.left {
            return Ok(false);
        }
        let is_namespace =
            value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"));
        if is_namespace && self.in_namespace {
            return refused("set: a namespace in a namespace, which could hold itself".into());
        }
        let has_items = match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => value.len().is_some(),
            ValueKind::Map => value.downcast_object_ref::<Watched>().is_none(),
            _ => false,
        };
        if !has_items {
            return Ok(true);
        }
        for item in value.try_iter()? {
            let field = match value.kind() {
                ValueKind::Map => Some(value.get_item(&item)?),
                _ => None,
            };
            for part in [Some(item), field].into_iter().flatten() {
                if !self.value(&part, depth + 1)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`. What is written is paid for as
/// it is written: lists that hold one list many times are longer as text than in memory.
fn tojson(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, Error> {
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> =
        match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
            None => None,
            Some([item, key]) => Some((item.clone(), key.clone())),
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "tojson: separators are two texts",
                ));
            }
        };
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let (item, key) =
        separators.unwrap_or((if indent.is_some() { "," } else { ", " }.into(), ": ".into()));
    Dumps { state, item, key, indent, ascii, sorted, python: false, out: String::new(), paid: 0 }
        .written(value)
}

/// A value on its way to JSON in the layout of Python's `json.dumps`, or to what Python prints of
/// it.
struct Dumps<'a> {
    state: &'a State<'a, 'a>,
    item: String,
    key: String,
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    /// What Python prints: `None`, `True`, texts in its quotes.
    python: bool,
    out: String,
    /// Bytes of `out` that have been paid for.
    paid: usize,
}

/// Deeper nesting than this is not written.
const DEPTH: usize = 200;

impl Dumps<'_> {
    fn written(mut self, value: &Value) -> Result<String, Error> {
        self.value(value, 0)?;
        Ok(self.out)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson: nested deeper than {DEPTH} levels"),
            ));
        }
        self.state.consume_fuel(1 + ((self.out.len() - self.paid) / BYTES_A_STEP) as u64)?;
        self.paid = self.out.len();
        match value.kind() {
            ValueKind::None | ValueKind::Bool | ValueKind::Undefined if self.python => {
                self.out.push_str(&value.to_string())
            }
            ValueKind::Undefined | ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => match float(value) {
                Some(number) => self.out.push_str(&python_float(number)),
                None => self.out.push_str(&value.to_string()),
            },
            ValueKind::String => self.text(&value.to_string()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                let items: Vec<(Option<String>, Value)> =
                    items.into_iter().map(|item| (None, item)).collect();
                self.entries(['[', ']'], items, depth)?;
            }
            ValueKind::Map => {
                let keys = value.try_iter()?.collect::<Vec<Value>>();
                let mut items = Vec::with_capacity(keys.len());
                for key in keys {
                    items.push((Some(key.to_string()), value.get_item(&key)?));
                }
                if self.sorted {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.entries(['{', '}'], items, depth)?;
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::BadSerialization,
                    format!("tojson: {} is no JSON", value.kind()),
                ));
            }
        }
        Ok(())
    }

    fn entries(
        &mut self,
        [open, close]: [char; 2],
        entries: Vec<(Option<String>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        self.out.push(open);
        let filled = !entries.is_empty();
        for (at, (key, value)) in entries.into_iter().enumerate() {
            if at > 0 {
                self.out.push_str(&self.item);
            }
            self.line(depth + 1);
            if let Some(key) = key {
                self.text(&key);
                self.out.push_str(&self.key);
            }
            self.value(&value, depth + 1)?;
        }
        if filled {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent.min(DEPTH) * depth));
        }
    }

    fn text(&mut self, text: &str) {
        if self.python {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            self.out.push(quote);
            for letter in text.chars() {
                match letter {
                    '\n' => self.out.push_str("\\n"),
                    '\r' => self.out.push_str("\\r"),
                    '\t' => self.out.push_str("\\t"),
                    '\\' => self.out.push_str("\\\\"),
                    control if control.is_ascii_control() => {
                        self.out.push_str(&format!("\\x{:02x}", control as u32))
                    }
                    letter => {
                        if letter == quote {
                            self.out.push('\\');
                        }
                        self.out.push(letter);
                    }
                }
            }
            return self.out.push(quote);
        }
        let quoted = serde_json::to_string(text).expect("a text can be written");
        if !self.ascii {
            return self.out.push_str(&quoted);
        }
        for letter in quoted.chars() {
            match letter.is_ascii() {
                true => self.out.push(letter),
                false => letter
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| self.out.push_str(&format!("\\u{unit:04x}"))),
            }
        }
    }
}

/// The number, if it is one with a fraction or an exponent.
fn float(value: &Value) -> Option<f64> {
    (value.kind() == ValueKind::Number && !value.is_integer())
        .then(|| f64::try_from(value.clone()).ok())
        .flatten()
}

/// A number as Python prints it: the shortest digits that round to it, with an exponent below 1e-4
/// and from 1e16 on.
fn python_float(number: f64) -> String {
    let scientific = format!("{number:e}");
    match scientific
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)))
    {
        Some((digits, exponent)) if !(-4..16).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        Some(_) => format!("{number:?}"),
        None => number.to_string(),
    }
}

/// Jinja 2's tests, where minijinja's differ: none is not to be iterated over; texts and dicts are
/// sequences too, since they have a length and items.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template_source::with_measured_sets;

    #[test]
    fn what_is_set_is_measured_and_nothing_else_is_rewritten() {
        let rewritten = |source: &str| with_measured_sets(source);
        assert_eq!(rewritten("{% set x = 1 %}"), "{% set x =( 1 )|__kept__ %}");
        assert_eq!(
            rewritten("a{%- set ns.x=[1, '%}'] -%}b"),
            "a{%- set ns.x=([1, '%}'] )|__kept__(true) -%}b"
        );
        assert_eq!(
            rewritten("{%set a, b = 1 if c == 2 else 3, d%}"),
            "{%set a, b =( 1 if c == 2 else 3, d)|__kept__ %}"
        );
        for source in [
            "{% set x %}a = b{% endset %}",
            "{% set x | replace(a='b') %}{% endset %}",
            "{% if set == 1 %}{% endif %}{{ set = 1 }}",
            "{% settle = 1 %}{% set = 1 %}{% set x == 1 %}{# {% set x = 1 %} #}",
            "{% raw %}{% set x = 1 %}{% endraw %}",
            "{% set x = 1",
        ] {
            assert_eq!(rewritten(source), source);
        }
        let render =
            |source: &str| environment(['<', '>'], 10_000).render_str(&rewritten(source), ());
        let written = render(
            "{% set ns = namespace(n=0, xs=[]) %}{% for i in range(3) %}{% set ns.n = ns.n + i -%}\n \
             {% set ns.xs = ns.xs + [i] %}{% endfor %}{% set a, b = ns.n, none %}{% set c = d %}\
             {{ a }}{{ b }}{{ c }}{{ ns.xs }}{% set t = 'x' if a == 3 else 'y' %}{{ t }}",
        );
        assert_eq!(written.unwrap(), "3None[0, 1, 2]x");
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let render =
            |template: &str| environment(['<', '>'], 10_000).render_str(template, ()).unwrap();
        assert_eq!(
            render("{{ {'b': [1, 2.5, none, true], 'a': {}, 'c': []} | tojson }}"),
            r#"{"b": [1, 2.5, null, true], "a": {}, "c": []}"#
        );
        assert_eq!(
            render("{{ {'b': 'é<\"\n', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true) }}"),
            r#"{"a": 1, "b": "\u00e9<\"\n"}"#
        );
        assert_eq!(
            render("{{ [[], {'a': [1, 2]}] | tojson(indent=2) }}"),
            "[\n  [],\n  {\n    \"a\": [\n      1,\n      2\n    ]\n  }\n]"
        );
        assert_eq!(render("{{ [1, {'a': 2}] | tojson(separators=[',', ':']) }}"), r#"[1,{"a":2}]"#);
    }
}
