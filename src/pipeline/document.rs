//! The top level of a pipeline file, section by section. Does not know what is in a stage, nor what
//! `${param}` means.

use super::cache_section::CACHE;
use super::diagnostic::{Mistake, Span, advice};
use super::extends::EXTENDS;
use super::matrix_section::{RESERVED, Section};
use super::yaml::{Entry, Node, Value};

/// The sections of a file.
pub(super) const SECTIONS: [&str; 8] =
    ["name", "description", EXTENDS, CACHE, "params", "profiles", "matrix", "stages"];

/// A param with its value at hand: its default, or what a profile or an option put in its place.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub key_span: Span,
    /// The default, whose type every override keeps.
    pub default: Node,
    /// The value.
    pub value: Node,
}

/// A pipeline file, taken apart.
#[derive(Clone, Debug)]
pub struct Document {
    /// What the user calls the pipeline.
    pub name: Option<String>,
    /// What the user says about it.
    pub description: Option<String>,
    /// The remote cache, not read yet.
    pub cache: Option<Entry>,
    /// Params in the order of the file.
    pub params: Vec<Param>,
    /// Profiles: name to overrides.
    pub profiles: Vec<(Entry, Vec<Entry>)>,
    /// The params that take several values in turn.
    pub matrix: Section,
    /// Stages in the order of the file; each value is a mapping.
    pub stages: Vec<Entry>,
}

impl Document {
    /// The param of this name.
    pub fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| param.name == name)
    }

    /// A mistake for a name that no param has.
    pub fn unknown_param(&self, name: &str, span: Span) -> Mistake {
        let names: Vec<&str> = self.params.iter().map(|param| param.name.as_str()).collect();
        Mistake::new(span, format!("there is no param `{name}`"))
            .help(advice(name, names, "params"))
    }

    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&Entry> {
        self.stages.iter().find(|stage| stage.key == name)
    }

    /// The mapping of this stage to write into.
    pub fn stage_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.stages.iter_mut().find(|stage| stage.key == name).map(|stage| &mut stage.value)
    }
}

/// Takes a file apart; `end` is where an empty file is reported.
pub fn read(root: Option<Node>, end: Span) -> Result<Document, Vec<Mistake>> {
    let Some(root) = root else {
        return Err(vec![
            Mistake::new(end, "there is nothing in this file").help("a pipeline has `stages`"),
        ]);
    };
    let mut reader = Reader { mistakes: Vec::new() };
    let start = root.span;
    let sections = reader.mapping(root, "the file");
    for section in sections.iter().filter(|section| !SECTIONS.contains(&section.key.as_str())) {
        let help = advice(&section.key, SECTIONS, "sections");
        reader.mistakes.push(
            Mistake::new(section.key_span, format!("unknown section `{}`", section.key)).help(help),
        );
    }
    let mut sections = sections;
    let mut take = |name: &str| {
        sections.iter().position(|section| section.key == name).map(|at| sections.swap_remove(at))
    };
    let document = Document {
        name: take("name").and_then(|entry| reader.text(entry)),
        description: take("description").and_then(|entry| reader.text(entry)),
        cache: take(CACHE),
        params: reader.params(take("params")),
        profiles: reader.profiles(take("profiles")),
        matrix: reader.matrix(take("matrix")),
        stages: Vec::new(),
    };
    let stages = match take("stages") {
        Some(section) => reader.stages(section),
        None => {
            reader.mistakes.push(
                Mistake::new(start, "the section `stages` is missing")
                    .help("a pipeline is made of stages"),
            );
            Vec::new()
        }
    };
    match reader.mistakes.is_empty() {
        true => Ok(Document { stages, ..document }),
        false => Err(reader.mistakes),
    }
}

struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn mapping(&mut self, node: Node, what: &str) -> Vec<Entry> {
        if node.is_null() {
            return Vec::new();
        }
        let found = node.describe();
        let mistake = node.mistake(format!("expected {what} to be a mapping, found {found}"));
        match node.value {
            Value::Mapping(entries) => entries,
            _ => {
                self.mistakes.push(mistake);
                Vec::new()
            }
        }
    }

    fn text(&mut self, entry: Entry) -> Option<String> {
        match entry.value.scalar() {
            Some(scalar) if !scalar.is_null() => Some(scalar.text.clone()),
            _ => {
                let found = entry.value.describe();
                self.mistakes.push(
                    entry
                        .value
                        .mistake(format!("expected text for `{}`, found {found}", entry.key)),
                );
                None
            }
        }
    }

    fn name(&mut self, entry: &Entry, what: &str) {
        self.check_name(entry, &entry.key, what);
    }

    /// What follows a bracket is a matrix point: the name of a node of a resolved pipeline.
    fn stage_name(&mut self, entry: &Entry) {
        let (name, point) = entry
            .key
            .split_once('[')
            .map_or((entry.key.as_str(), None), |(name, point)| (name, Some(point)));
        self.check_name(entry, name, "stage");
        if point.is_some_and(|point| !point.ends_with(']') || point.chars().any(char::is_control)) {
            let mistake =
                Mistake::new(entry.key_span, format!("`{}` cannot name a stage", entry.key));
            self.mistakes
                .push(mistake.help("what follows `[` is a point of a matrix, and ends in `]`"));
        }
    }

    fn check_name(&mut self, entry: &Entry, name: &str, what: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            || !name.chars().all(fits)
        {
            let mistake =
                Mistake::new(entry.key_span, format!("`{}` cannot name a {what}", entry.key));
            self.mistakes.push(
                mistake.help(
                    "a name is made of letters, digits, `_` and `-`, and starts with a letter",
                ),
            );
        }
    }

    fn params(&mut self, section: Option<Entry>) -> Vec<Param> {
        let entries =
            section.map_or_else(Vec::new, |section| self.mapping(section.value, "`params`"));
        let mut params = Vec::new();
        for entry in entries {
            self.name(&entry, "param");
            let name = entry.key.as_str();
            if matches!(name, "stages" | "matrix") || RESERVED.contains(&name) {
                let mistake =
                    Mistake::new(entry.key_span, format!("`{}` cannot name a param", entry.key));
                self.mistakes.push(mistake.help(format!(
                    "`{}` has another meaning in `--set` or in `matrix`",
                    entry.key
                )));
            }
            let (value, default) = (entry.value.clone(), entry.value);
            params.push(Param { name: entry.key, key_span: entry.key_span, default, value });
        }
        params
    }

    fn profiles(&mut self, section: Option<Entry>) -> Vec<(Entry, Vec<Entry>)> {
        let entries =
            section.map_or_else(Vec::new, |section| self.mapping(section.value, "`profiles`"));
        let mut profiles = Vec::new();
        for entry in entries {
            self.name(&entry, "profile");
            let overrides =
                self.mapping(entry.value.clone(), &format!("the profile `{}`", entry.key));
            profiles.push((entry, overrides));
        }
        profiles
    }

    fn matrix(&mut self, section: Option<Entry>) -> Section {
        let entries =
            section.map_or_else(Vec::new, |section| self.mapping(section.value, "`matrix`"));
        Section::read(entries).unwrap_or_else(|mistakes| {
            self.mistakes.extend(mistakes);
            Section::default()
        })
    }

    fn stages(&mut self, section: Entry) -> Vec<Entry> {
        let entries = self.mapping(section.value, "`stages`");
        if entries.is_empty() && self.mistakes.is_empty() {
            self.mistakes.push(
                Mistake::new(section.key_span, "`stages` is empty")
                    .help("a pipeline is made of stages"),
            );
        }
        for entry in &entries {
            self.stage_name(entry);
            if !matches!(entry.value.value, Value::Mapping(_)) {
                let found = entry.value.describe();
                let mistake = Mistake::new(
                    entry.key_span,
                    format!("expected `{}` to be a mapping, found {found}", entry.key),
                );
                self.mistakes.push(mistake.help("a stage starts with `uses: <kind>`"));
            }
        }
        entries
    }
}
