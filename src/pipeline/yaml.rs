//! YAML text to a tree with the place of every node and the spelling of every scalar. Uses
//! no pipeline, gives no scalar a type.
//!
//! White space within a line may be a tab (YAML 1.2.2, 6.2); the parser takes none between a key
//! and a plain word, so it is given a space.
//!
//! Refused, because each is a way to write a pipeline that means something else than it says: tabs
//! for indentation, duplicate keys, several documents, keys that are not plain words, tags,
//! anchors, aliases and merge keys (params do their work, visibly).

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::diagnostic::{Mistake, Sources, Span};

/// Deeper nesting than this is refused.
const MAX_DEPTH: usize = 64;

/// A node and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its place; for a block that is the value of a key, the place of the key.
    pub span: Span,
    /// Where a `${param}` that this node came from is written.
    pub used_at: Option<Span>,
    /// What it is.
    pub value: Value,
}

/// The three shapes of YAML.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text, whose type is decided by who asks for it.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values, in the order of the file, keys unique.
    Mapping(Vec<Entry>),
}

/// A scalar as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// Its text, quotes and escapes removed.
    pub text: String,
    /// Without quotes: it may be read as a number, true, false or null.
    pub plain: bool,
    /// The source whose folder a relative path in the text starts from.
    pub folder_of: usize,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// The key's place.
    pub key_span: Span,
    /// Its value.
    pub value: Node,
}

impl Scalar {
    /// True for `null`, `~` and nothing at all, without quotes.
    pub fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null")
    }
}

impl Node {
    /// A node of a mapping's shape.
    pub fn mapping(span: Span, entries: Vec<Entry>) -> Self {
        Node { span, used_at: None, value: Value::Mapping(entries) }
    }

    /// The scalar, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// True for an empty or null scalar.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// The value of `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// The node that a dotted path (`optimiser.beta`, `items[0]`) leads to, or the last one on the
    /// way to it. A key may hold dots and brackets itself.
    pub fn find<'a>(&'a self, path: &str) -> &'a Node {
        let (mut node, mut rest) = (self, path);
        while !rest.is_empty() {
            let next = match &node.value {
                Value::Sequence(items) => {
                    let digits = rest.strip_prefix('[').unwrap_or(rest);
                    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                    let after = digits[end..].strip_prefix(']').unwrap_or(&digits[end..]);
                    digits[..end]
                        .parse()
                        .ok()
                        .and_then(|index: usize| Some((items.get(index)?, after)))
                }
                Value::Mapping(entries) => {
                    let leads = |entry: &'a Entry| {
                        let after = rest.strip_prefix(entry.key.as_str())?;
                        (after.is_empty() || after.starts_with(['.', '[']))
                            .then_some((&entry.value, after))
                    };
                    entries.iter().filter_map(leads).min_by_key(|(_, after)| after.len())
                }
                Value::Scalar(_) => None,
            };
            let Some((found, after)) = next else { break };
            (node, rest) = (found, after.strip_prefix('.').unwrap_or(after));
        }
        node
    }

    /// What it is, for an error.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(scalar) if scalar.is_null() => "nothing".into(),
            Value::Scalar(scalar) if scalar.plain => format!("`{}`", scalar.text),
            Value::Scalar(scalar) => format!("the text {:?}", scalar.text),
            Value::Sequence(_) => "a list".into(),
            Value::Mapping(_) => "a mapping".into(),
        }
    }

    /// A mistake at this node, and where a param brought it in.
    pub fn mistake(&self, message: impl Into<String>) -> Mistake {
        let mistake = Mistake::new(self.span, message);
        match self.used_at {
            Some(span) => mistake.note(span, "used here"),
            None => mistake,
        }
    }
}

/// Parses one source. `Ok(None)` if there is nothing in it but comments.
pub fn parse(sources: &Sources, source: usize) -> Result<Option<Node>, Vec<Mistake>> {
    let text = &tabs_after_keys_as_spaces(&sources.get(source).text);
    // A tab is an ordinary character inside a block of text, so that it is looked for only when
    // something is wrong.
    let events = read_events(text, source).map_err(|mistake| {
        vec![tab_in_indentation(text, source, mistake.span.line).unwrap_or(mistake)]
    })?;
    let mut builder = Builder {
        events: events.into_iter(),
        lines: text.lines().collect(),
        source,
        mistakes: Vec::new(),
    };
    match builder.document() {
        Ok(root) if builder.mistakes.is_empty() => Ok(root),
        Ok(_) => Err(builder.mistakes),
        Err(mistake) => {
            builder.mistakes.push(mistake);
            Err(builder.mistakes)
        }
    }
}

/// What the parser says of a tab between a key and a plain word.
const TAB_AFTER_KEY: &str = "':' must be followed by a valid YAML whitespace";

/// The text with a space for every tab between a key and its value that the parser stops at. Tabs
/// within texts stay, since it does not stop there, and every character keeps its place.
fn tabs_after_keys_as_spaces(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    while text.contains(":\t") {
        let error = Parser::new_from_str(&text)
            .find_map(Result::err)
            .filter(|error| error.info() == TAB_AFTER_KEY);
        let Some((line, column)) = error.map(|error| (error.marker().line(), error.marker().col()))
        else {
            break;
        };
        let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
        let end = text[start..].char_indices().nth(column).map_or(text.len(), |(at, _)| start + at);
        let tabs = text[start..end].len() - text[start..end].trim_end_matches('\t').len();
        if tabs == 0 {
            break;
        }
        text.to_mut().replace_range(end - tabs..end, &" ".repeat(tabs));
    }
    text
}

/// A tab in the indentation of the line where the parser stopped, or of the one before it.
fn tab_in_indentation(text: &str, source: usize, stopped: usize) -> Option<Mistake> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(index, line)| (index + 1).abs_diff(stopped) <= 1 && !line.trim().is_empty());
    for (index, line) in lines {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if let Some(at) = indent.find('\t') {
            let span = Span { source, line: index + 1, column: at + 1, width: indent.len() - at };
            return Some(
                Mistake::new(span, "a tab in the indentation")
                    .help("YAML is indented with spaces; use two a level"),
            );
        }
    }
    None
}

type Spanned<'a> = (Event<'a>, Span);

fn read_events(text: &str, source: usize) -> Result<Vec<Spanned<'_>>, Mistake> {
    let lines: Vec<&str> = text.lines().collect();
    let mut events = Vec::new();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => events.push((event, place(&lines, source, &span))),
            Err(error) => return Err(syntax_mistake(&lines, source, &error)),
        }
    }
    Ok(events)
}

fn place(lines: &[&str], source: usize, span: &saphyr_parser::Span) -> Span {
    let (start, end) = (&span.start, &span.end);
    let rest = || {
        lines
            .get(start.line() - 1)
            .map_or(0, |line| line.chars().count().saturating_sub(start.col()))
    };
    let width =
        if end.line() == start.line() { end.col().saturating_sub(start.col()) } else { rest() };
    Span { source, line: start.line(), column: start.col() + 1, width }
}

/// A parser error in our words. The commonest one by far is a `${param}` in a flow list or mapping,
/// where `{` ends a plain word.
fn syntax_mistake(lines: &[&str], source: usize, error: &saphyr_parser::ScanError) -> Mistake {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let near = (line.saturating_sub(2)..line.min(lines.len())).rev();
    for index in near {
        if let Some((at, word)) = bare_param_in_flow(lines[index]) {
            let span =
                Span { source, line: index + 1, column: at + 1, width: word.chars().count() };
            return Mistake::new(span, format!("`{word}` must be quoted inside [ ] or {{ }}"))
                .help(format!("write \"{word}\", or one item a line, each after `- `"));
        }
    }
    // At the end of the file the marker is after the last line.
    let line = line.clamp(1, lines.len().max(1));
    Mistake::new(
        Span { source, line, column, width: 1 },
        format!("this is not YAML: {}", error.info()),
    )
}

/// The first unquoted word with `${` in it between flow brackets of one line: its column (from 0)
/// and text.
fn bare_param_in_flow(line: &str) -> Option<(usize, String)> {
    let chars: Vec<char> = line.chars().collect();
    let (mut depth, mut quote, mut at) = (0, None, 0);
    while at < chars.len() {
        let c = chars[at];
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') if at > 0 && chars[at - 1] == ' ' => return None,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, '$') if depth > 0 && chars.get(at + 1) == Some(&'{') => {
                let start = chars[..at]
                    .iter()
                    .rposition(|c| matches!(c, ' ' | ',' | '[' | '{'))
                    .map_or(0, |before| before + 1);
                let close = at + chars[at..].iter().position(|c| *c == '}')?;
                let after = &chars[close + 1..];
                let end = close
                    + 1
                    + after
                        .iter()
                        .position(|c| matches!(c, ' ' | ',' | ']' | '}'))
                        .unwrap_or(after.len());
                return Some((start, chars[start..end].iter().collect()));
            }
            _ => {}
        }
        at += 1;
    }
    None
}

struct Builder<'a> {
    events: std::vec::IntoIter<Spanned<'a>>,
    lines: Vec<&'a str>,
    source: usize,
    mistakes: Vec<Mistake>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Option<Node>, Mistake> {
        let mut root = None;
        while let Some((event, span)) = self.events.next() {
            match event {
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Mistake::new(span, "a second document")
                        .help("one file holds one pipeline; remove the line `---`"));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Mistake> {
        if depth > MAX_DEPTH {
            return Err(Mistake::new(span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse(span, anchor, tag.is_some())?;
                let plain = style == ScalarStyle::Plain;
                // The parser says `~` for a value that is not there; the two mean the same.
                Value::Scalar(Scalar { text: text.into_owned(), plain, folder_of: self.source })
            }
            Event::SequenceStart(anchor, tag) => {
                refuse(span, anchor, tag.is_some())?;
                Value::Sequence(self.sequence(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                refuse(span, anchor, tag.is_some())?;
                Value::Mapping(self.mapping(depth)?)
            }
            Event::Alias(_) => {
                return refuse(span, 1, false)
                    .map(|()| unreachable!("an anchor is always refused"));
            }
            _ => unreachable!("the parser balances its events"),
        };
        Ok(Node { span, used_at: None, value })
    }

    fn next(&mut self) -> Spanned<'a> {
        self.events.next().expect("the parser balances its events")
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, Mistake> {
        let mut items = Vec::new();
        loop {
            match self.next() {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<Entry>, Mistake> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut given: HashMap<String, Span> = HashMap::new();
        loop {
            let (key, key_span) = match self.next() {
                (Event::MappingEnd, _) => return Ok(entries),
                (Event::Scalar(text, style, anchor, tag), span) => {
                    refuse(span, anchor, tag.is_some())?;
                    let scalar = Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                        folder_of: self.source,
                    };
                    (check_key(scalar, span)?, span)
                }
                (Event::Alias(_), span) => return refuse(span, 1, false).map(|()| Vec::new()),
                (_, span) => {
                    return Err(
                        Mistake::new(span, "a list or mapping as a key").help("a key is one word")
                    );
                }
            };
            let (event, span) = self.next();
            let mut value = self.node(event, span, depth + 1)?;
            if value.scalar().is_none() && !self.is_flow(value.span)
                || value.is_null() && value.span.width == 0
            {
                value.span = key_span;
            }
            if let Some(first) = given.get(&key) {
                let mistake = Mistake::new(key_span, format!("the key `{key}` is given twice"))
                    .note(*first, "first given here");
                self.mistakes.push(mistake.help("remove one of the two"));
                continue;
            }
            given.insert(key.clone(), key_span);
            entries.push(Entry { key, key_span, value });
        }
    }

    fn is_flow(&self, span: Span) -> bool {
        let first =
            self.lines.get(span.line - 1).and_then(|line| line.chars().nth(span.column - 1));
        matches!(first, Some('[' | '{'))
    }
}

fn check_key(key: Scalar, span: Span) -> Result<String, Mistake> {
    if key.plain && key.text == "<<" {
        return Err(Mistake::new(span, "merge keys are not supported")
            .help("put the common part into a param and write `${param}`"));
    }
    if key.is_null() || key.text.is_empty() {
        return Err(Mistake::new(span, "an empty key").help("a key is one word"));
    }
    Ok(key.text)
}

fn refuse(span: Span, anchor: usize, tag: bool) -> Result<(), Mistake> {
    if anchor > 0 {
        let help = "put the value into `params` and write `${name}` wherever it is needed; a param \
            may be a list or a mapping";
        return Err(Mistake::new(span, "anchors and aliases (`&name`, `*name`) are not supported")
            .help(help));
    }
    if tag {
        return Err(Mistake::new(span, "tags (`!name`) are not supported")
            .help("types follow from the fields; remove the tag"));
    }
    Ok(())
}
