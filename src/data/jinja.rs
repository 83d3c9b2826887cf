//! The dialect of Jinja that chat templates are written in, as transformers sets it up. Knows no message and no file.
//!
//! 1. Blocks are trimmed (`trim_blocks`, `lstrip_blocks`), loops have `break` and `continue`, strings and dicts have Python's methods.
//! 2. `raise_exception(text)` refuses what is rendered.
//! 3. `tojson` writes as Python's `json.dumps` does: `", "` and `": "`, nothing escaped that need not be.
//! 4. There is no `strftime_now`: what is rendered becomes part of an artefact, which must not depend on the day. A template that asks
//!    whether there is one (`strftime_now is defined`) finds none and takes its own date.
//! 5. `{% generation %}…{% endgeneration %}` becomes a filter block, whose filter sets a mark before and after its text, around a `with`
//!    block, since transformers gives the part a scope of its own as well.

use std::fmt;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

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

/// An environment whose generation parts are rendered between the two marks.
pub(super) fn environment(marks: [char; 2]) -> Environment<'static> {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("the standard delimiters are sound");
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refused(message)))
    });
    environment.add_filter("tojson", tojson);
    environment.add_filter(GENERATION, move |text: String| format!("{}{text}{}", marks[0], marks[1]));
    environment
}

/// The filter of generation parts: no template has a filter of this name.
const GENERATION: &str = "__generation__";

/// A template's source with every generation tag replaced, and whether there was one. Tags in comments, raw blocks and strings stay.
pub(super) fn without_generation_tags(source: &str) -> (String, bool) {
    let mut text = String::with_capacity(source.len());
    let (mut rest, mut found) = (source, false);
    while let Some(at) = rest.find("{%").into_iter().chain(rest.find("{{")).chain(rest.find("{#")).min() {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = if rest.starts_with("{#") { rest.find("#}").map_or(rest.len(), |end| end + 2) } else { end_of_tag(rest) };
        let (tag, after) = rest.split_at(end);
        rest = after;
        match block_name(tag) {
            Some("raw") => {
                text.push_str(tag);
                // Up to the tag that closes it, whatever stands between.
                let end = rest.match_indices("{%").find(|(at, _)| block_name(&rest[*at..][..end_of_tag(&rest[*at..])]) == Some("endraw"));
                let end = end.map_or(rest.len(), |(at, _)| at);
                text.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            Some("generation") => {
                found = true;
                text.push_str(&format!("{} filter {GENERATION} %}}{{% with {}", opening(tag), closing(tag)));
            }
            Some("endgeneration") => text.push_str(&format!("{} endwith %}}{{% endfilter {}", opening(tag), closing(tag))),
            _ => text.push_str(tag),
        }
    }
    text.push_str(rest);
    (text, found)
}

/// Where the tag that `text` begins with ends: after its `%}` or `}}`, but for those in strings.
fn end_of_tag(text: &str) -> usize {
    let close = if text.starts_with("{%") { "%}" } else { "}}" };
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if open == letter => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(close) => return at + close.len(),
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            None => {}
        }
    }
    text.len()
}

/// The name of a block tag that has nothing beside its name.
fn block_name(tag: &str) -> Option<&str> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    Some(inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_end_matches(['-', '+']).trim())
}

/// How a tag begins and ends, with what it says about the space around it.
fn opening(tag: &str) -> &str {
    &tag[..2 + usize::from(tag[2..].starts_with(['-', '+']))]
}

fn closing(tag: &str) -> &str {
    let inner = &tag[..tag.len() - 2];
    &tag[inner.len() - usize::from(inner.ends_with(['-', '+']))..]
}

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> = match options.get::<Option<Vec<String>>>("separators")?.as_deref() {
        None => None,
        Some([item, key]) => Some((item.clone(), key.clone())),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators are two texts")),
    };
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let (item, key) = separators.unwrap_or((if indent.is_some() { "," } else { ", " }.into(), ": ".into()));
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Dumps { item, key, indent, ascii, depth: 0, filled: false });
    let written = match sorted {
        // The keys of our JSON objects are sorted.
        true => serde_json::to_value(value).and_then(|value| value.serialize(&mut serializer)),
        false => value.serialize(&mut serializer),
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, "tojson").with_source(error))?;
    Ok(String::from_utf8(bytes).expect("JSON is UTF-8"))
}

/// The layout of Python's `json.dumps`.
struct Dumps {
    item: String,
    key: String,
    indent: Option<usize>,
    ascii: bool,
    depth: usize,
    /// Whether the list or object that ends has had an entry.
    filled: bool,
}

impl Dumps {
    fn line(&self, out: &mut (impl io::Write + ?Sized)) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(out, "\n{:1$}", "", indent * self.depth),
            None => Ok(()),
        }
    }

    fn open(&mut self, out: &mut (impl io::Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        (self.depth, self.filled) = (self.depth + 1, false);
        out.write_all(bracket)
    }

    fn close(&mut self, out: &mut (impl io::Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(out)?;
        }
        // What it was an entry of is filled by it.
        self.filled = true;
        out.write_all(bracket)
    }

    fn entry(&mut self, out: &mut (impl io::Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.item.as_bytes())?;
        }
        self.filled = true;
        self.line(out)
    }
}

impl serde_json::ser::Formatter for Dumps {
    fn begin_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.entry(out, first)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.entry(out, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(fragment.as_bytes());
        }
        for letter in fragment.chars() {
            match letter.is_ascii() {
                true => write!(out, "{letter}")?,
                false => letter.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_are_replaced_where_they_are_tags_and_nowhere_else() {
        let (text, found) = without_generation_tags("a{%- generation -%} b {%+endgeneration +%}c");
        assert_eq!(text, "a{%- filter __generation__ %}{% with -%} b {%+ endwith %}{% endfilter +%}c");
        assert!(found);
        let untouched = [
            "{# {% generation %} #}{{ '{% generation %}' }}{% if x == \"{% generation %}\" %}{% endif %}",
            "{% raw %}{% generation %}{{ ' }}{% endraw %}",
            "{% raw %}{% generation %}",
            "{{ 'it\\'s {% generation %}' }}",
            "{% generations %} { % generation %} {% generation",
        ];
        for source in untouched {
            assert_eq!(without_generation_tags(source), (source.to_owned(), false));
        }
        assert!(without_generation_tags("{% raw %}{% x %}{% endraw %}{% generation %}").1);
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let render = |template: &str| environment(['<', '>']).render_str(template, ()).unwrap();
        assert_eq!(
            render("{{ {'b': [1, 2.5, none, true], 'a': {}, 'c': []} | tojson }}"),
            r#"{"b": [1, 2.5, null, true], "a": {}, "c": []}"#
        );
        assert_eq!(render("{{ {'b': 'é<\"\n', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true) }}"), r#"{"a": 1, "b": "\u00e9<\"\n"}"#);
        assert_eq!(render("{{ [[], {'a': [1, 2]}] | tojson(indent=2) }}"), "[\n  [],\n  {\n    \"a\": [\n      1,\n      2\n    ]\n  }\n]");
        assert_eq!(render("{{ [1, {'a': 2}] | tojson(separators=[',', ':']) }}"), r#"[1,{"a":2}]"#);
    }
}
