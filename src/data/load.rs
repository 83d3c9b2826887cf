//! The rows that a pipeline asks for of a data file: read, filtered, put into templates, in order.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use super::bad_rows::Bad;
pub use super::bad_rows::Skipped;
use super::record_content::{Content, Ignored, Laid};
use super::record_formats::{Answer, Format};
use super::rows::{Conversation, Example, Origin, Preference, Rows};
use super::source::{Files, OnBadRow, cut_words};
use super::tables::{self, Place, Row};
use super::template::{Template, column_text};
use crate::error::{Failure, Result, user};
use crate::json::Json;
use crate::reference::{Policy, Ref};
use crate::tokenizer::chat::ChatTemplate;

/// What a file becomes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The rows.
    pub rows: Rows,
    /// Those that were left out because they cannot be understood.
    pub skipped: Skipped,
    /// What rows say and nothing reads.
    pub ignored: Ignored,
}

/// The rows that the options ask for. With a `limit` and without `shuffle`, no more of the file is
/// read than it takes.
///
/// # Errors
/// The user's, with file and row, the first ten at once: rows that cannot be read (see
/// [`tables::each`]), whose layout is not that of the format, that lack a column which a template,
/// filter or id names, or that are of another kind than those before. Two rows have one id; no row
/// is left.
pub fn load(files: &Files) -> Result<Loaded> {
    let path = files.path.path();
    let reader = Reader::new(files)?;
    let enough = files.limit.filter(|_| files.shuffle.is_none()).unwrap_or(usize::MAX);
    let (mut rows, mut found, mut skipped, mut ignored) =
        (None, 0, Skipped::default(), Ignored::default());
    let mut bad = Bad::default();
    tables::each(path, &mut |place, row| {
        found += 1;
        let added = row.and_then(|row| match reader.content(row, place)? {
            Some(read) => add(&mut rows, read, &mut ignored),
            None => Ok(()),
        });
        match added.map_err(|error| error.downcast::<Failure>()) {
            Ok(()) => {}
            Err(Ok(failure)) if files.on_bad_row == OnBadRow::Skip => {
                skipped.add(path, place, &failure)
            }
            Err(Ok(failure)) => bad.add(place, failure),
            Err(Err(other)) => return Err(other),
        }
        match rows.as_ref().is_some_and(|rows| rows.len() >= enough) {
            true => Ok(ControlFlow::Break(())),
            false => Ok(ControlFlow::Continue(())),
        }
    })?;
    bad.check(found)?;
    let nothing = || {
        let bad = if skipped.count > 0 {
            format!(" ({} of them cannot be understood)", skipped.count)
        } else {
            String::new()
        };
        user(format!("{}: none of its {found} rows is kept{bad}", path.display()))
            .hint("look at keep and share")
    };
    let mut rows: Rows = rows.ok_or_else(nothing)?;
    rows.order(files.shuffle, files.limit);
    unique(path, &rows)?;
    if let Some(id) = &files.id {
        ignored.columns.remove(id);
    }
    for column in files
        .keep
        .iter()
        .map(|filter| &filter.column)
        .chain(&files.margin)
        .chain(files.cut.as_ref().map(|cut| &cut.column))
    {
        ignored.columns.remove(column.split('.').next().unwrap_or(column));
    }
    Ok(Loaded { rows, skipped, ignored })
}

/// The options, ready to read rows with.
struct Reader<'a> {
    files: &'a Files,
    prompt: Option<Template>,
    completion: Option<Template>,
    chosen: Option<Template>,
    rejected: Option<Template>,
    chat: Option<ChatTemplate>,
}

impl<'a> Reader<'a> {
    fn new(files: &'a Files) -> Result<Self> {
        let template = |text: &Option<String>| text.as_deref().map(Template::parse).transpose();
        let open = |policy: &Ref<Policy>| -> Result<ChatTemplate> {
            ChatTemplate::open(policy.path())?
                .ok_or_else(|| user("the model under `chat` has no chat template").into())
        };
        Ok(Reader {
            files,
            prompt: template(&files.prompt)?,
            completion: template(&files.completion)?,
            chosen: template(&files.chosen)?,
            rejected: template(&files.rejected)?,
            chat: files.chat.as_ref().map(open).transpose()?,
        })
    }

    /// One row, if it is kept.
    fn content(&self, mut row: Row, place: Place<'_>) -> Result<Option<Read>> {
        let files = self.files;
        if let Some(format) = files.format {
            format.flatten(&mut row)?;
        }
        for filter in &files.keep {
            if !filter.passes(&column_text(&row, &filter.column)?) {
                return Ok(None);
            }
        }
        let number = || (place.before + place.number).to_string();
        let id =
            files.id.as_ref().map_or_else(|| Ok(number()), |column| column_text(&row, column))?;
        if let Some(cut) = &files.cut {
            let text = column_text(&row, &cut.column)?;
            row.insert(
                cut.column.clone(),
                Json::Text(cut_words(&text, cut.words, cut.keep).to_string()),
            );
        }
        let laid = self.texts(&row)?;
        if let Content::Preference { chosen, rejected, .. } = &laid.content
            && chosen == rejected
        {
            return Err(user("the chosen text and the rejected one are the same").into());
        }
        if files.share.is_some_and(|share| !share.has(&laid.content.prompt())) {
            return Ok(None);
        }
        let is_pair = matches!(laid.content, Content::Preference { .. });
        let margin = match &files.margin {
            Some(_) if !is_pair => {
                let message = "`margin` is of preference pairs, and this row is none";
                return Err(user(message).hint("remove `margin` from this split").into());
            }
            Some(column) => Some(margin(&row, column)?),
            None => None,
        };
        let of_several = files.path.path() != place.file;
        let file = of_several
            .then(|| place.file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let origin =
            (of_several || files.id.is_some()).then_some(Origin { row: place.number, file });
        Ok(Some(Read { id, origin, margin, laid }))
    }

    /// The content of a row: by the given templates, else by the format's, else by its columns.
    fn texts(&self, row: &Row) -> Result<Laid> {
        let texts = self.files.format.and_then(|format| format.texts(row));
        if texts.is_none() && self.prompt.is_none() {
            return self.files.format.unwrap_or(Format::Trl).content(row, self.chat.as_ref());
        }
        let render = |given: &Option<Template>, usual: Option<&str>| match (given, usual) {
            (Some(template), _) => template.render(row),
            (None, Some(usual)) => Template::parse(usual)?.render(row),
            (None, None) => Err(user("there is no template for all of the row").into()),
        };
        let prompt = render(&self.prompt, texts.map(|texts| texts.prompt))?;
        let (completion, pair) = match texts.map(|texts| texts.answer) {
            Some(Answer::Completion(completion)) => (Some(completion), None),
            Some(Answer::Pair(chosen, rejected)) => (None, Some((chosen, rejected))),
            None => (None, None),
        };
        if self.completion.is_none() && (pair.is_some() || self.chosen.is_some()) {
            let chosen = render(&self.chosen, pair.map(|pair| pair.0))?;
            let rejected = render(&self.rejected, pair.map(|pair| pair.1))?;
            return Ok(Content::Preference { prompt, chosen, rejected, chat: false }.into());
        }
        Ok(Content::Example {
            prompt,
            completion: render(&self.completion, completion)?,
            chat: false,
        }
        .into())
    }
}

/// A row that is kept.
struct Read {
    id: String,
    origin: Option<Origin>,
    margin: Option<f64>,
    laid: Laid,
}

/// The number in a column.
fn margin(row: &Row, column: &str) -> Result<f64> {
    let text = column_text(row, column)?;
    let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| {
        user(format!("the column `{column}` has `{text}`, which is no finite number"))
            .hint("`margin` names a column of numbers")
            .into()
    })
}

/// Adds a row to those of its kind.
fn add(rows: &mut Option<Rows>, read: Read, ignored: &mut Ignored) -> Result<()> {
    let Read { id, origin, margin, laid: Laid { content, ignored: more } } = read;
    let rows = rows.get_or_insert_with(|| match content {
        Content::Example { .. } => Rows::Examples(Vec::new()),
        Content::Preference { .. } => Rows::Preferences(Vec::new()),
        Content::Conversation { .. } => Rows::Conversations(Vec::new()),
    });
    match (content, rows) {
        (Content::Example { prompt, completion, chat }, Rows::Examples(rows)) => {
            rows.push(Example { id, prompt, completion, facts: None, chat, origin });
        }
        (Content::Preference { prompt, chosen, rejected, chat }, Rows::Preferences(rows)) => {
            rows.push(Preference {
                id,
                prompt,
                chosen,
                rejected,
                margin,
                clean: None,
                source: None,
                chat,
                origin,
            });
        }
        (Content::Conversation { messages, tools, variables }, Rows::Conversations(rows)) => {
            rows.push(Conversation {
                id,
                messages,
                tools,
                chat_template_kwargs: variables,
                origin,
            });
        }
        (_, rows) => {
            return Err(user(format!(
                "it is of another kind than the rows before, which are {}",
                rows.kind()
            ))
            .into());
        }
    }
    ignored.columns.extend(more.columns);
    ignored.fields.extend(more.fields);
    Ok(())
}

fn unique(path: &Path, rows: &Rows) -> Result<()> {
    let mut ids = BTreeSet::new();
    match rows.ids().into_iter().find(|id| !ids.insert(*id)) {
        Some(id) => {
            let hint = "name another column as id, or none: the row's number is used then";
            Err(user(format!("{}: two rows have the id `{id}`", path.display())).hint(hint).into())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};
    use serde_json::{Value, json};

    /// Six rows; the third is of another category.
    fn load_with(options: Value) -> Result<Vec<Example>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("posts.jsonl");
        let row = |at: usize| {
            let category = if at == 3 { "sport" } else { "tech" };
            json!({"id": format!("r{at}"), "category": category, "year": 2000 + at,
                "post": format!("post {at} is  a long one"), "title": format!("title {at}")})
        };
        let text: String = (1..=6).map(|at| format!("{}\n", row(at))).collect();
        std::fs::write(&path, text).unwrap();
        let mut files = json!({"path": {"$path": path}, "prompt": "POST: {post}\n\
            TL;DR:", "completion": " {title}"});
        files.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let files: Files = serde_json::from_value(files)?;
        assert!(files.problems().is_empty());
        load(&files).map(|loaded| loaded.rows.texts())
    }

    fn ids(options: Value) -> Vec<String> {
        load_with(options).unwrap().into_iter().map(|example| example.id).collect()
    }

    fn complaint(options: Value) -> String {
        let error = load_with(options).unwrap_err();
        assert_eq!(kind_of(&error), Kind::User, "{error:#}");
        error.to_string()
    }

    #[test]
    fn rows_are_put_into_the_templates() {
        let examples = load_with(json!({})).unwrap();
        assert_eq!(examples.len(), 6);
        let first = Example {
            id: "1".into(),
            prompt: "POST: post 1 is  a long one\nTL;DR:".into(),
            completion: " title 1".into(),
            ..Example::default()
        };
        assert_eq!(examples[0], first);
    }

    #[test]
    fn filters_keep_and_drop_by_value() {
        assert_eq!(
            ids(json!({"id": "id", "keep": [{"column": "category", "equals": "sport"}]})),
            ["r3"]
        );
        assert_eq!(
            ids(json!({"id": "id", "keep": [{"column": "category", "not": "sport"},
                    {"column": "year", "not": "2001"}]})),
            ["r2", "r4", "r5", "r6"]
        );
    }

    #[test]
    fn shares_part_the_rows() {
        let (a, b) = (
            ids(json!({"share": {"from": 0.0, "to": 0.4}})),
            ids(json!({"share": {"from": 0.4, "to": 1.0}})),
        );
        let mut all = [a, b].concat();
        all.sort();
        assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
    }

    #[test]
    fn a_limit_takes_the_first_rows_of_the_order() {
        assert_eq!(ids(json!({"limit": 2})), ["1", "2"]);
        let shuffled = ids(json!({"shuffle": 1}));
        assert_ne!(shuffled, ids(json!({})));
        assert_eq!(ids(json!({"shuffle": 1, "limit": 3})), shuffled[..3]);
    }

    #[test]
    fn a_column_is_cut_at_either_end_and_white_space_stays() {
        let examples = load_with(json!({"cut": {"column": "post", "words": 3}})).unwrap();
        assert_eq!(examples[0].prompt, "POST: post 1 is\nTL;DR:");
        let examples =
            load_with(json!({"cut": {"column": "post", "words": 2, "keep": "end"}})).unwrap();
        assert_eq!(examples[0].prompt, "POST: long one\nTL;DR:");
    }

    #[test]
    fn mistakes_are_named_with_file_and_row() {
        let message = complaint(json!({"prompt": "{pots}"}));
        assert!(
            message.contains("posts.jsonl, row 1: there is no column `pots`")
                && message.contains("did you mean `post`"),
            "{message}"
        );
        assert!(complaint(json!({"id": "category"})).contains("two rows have the id `tech`"));
        assert!(
            complaint(json!({"keep": [{"column": "category", "equals": "art"}]}))
                .contains("none of its 6 rows is kept")
        );
        assert!(
            complaint(json!({"keep": [{"column": "kind", "equals": "art"}]}))
                .contains("row 1: there is no column `kind`")
        );
        assert!(
            complaint(json!({"path": {"$path": "/nowhere.jsonl"}})).contains("there is no file")
        );
    }

    #[test]
    fn unknown_options_and_values_out_of_range_are_refused() {
        assert!(
            load_with(json!({"limt": 3})).unwrap_err().to_string().contains("unknown field `limt`")
        );
        let files = json!({"path": {"$path": "x"}, "prompt": "{", "completion": "", "limit": 0,
            "share": {"from": 0.5, "to": 0.5},
            "keep": [{"column": "a"}], "cut": {"column": "a", "words": 0}});
        let fields: Vec<String> = serde_json::from_value::<Files>(files)
            .unwrap()
            .problems()
            .into_iter()
            .map(|(field, _)| field)
            .collect();
        assert_eq!(fields, ["prompt", "keep.0", "share", "limit", "cut.words"]);
    }
}
