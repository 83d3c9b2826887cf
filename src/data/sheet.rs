//! Judgements of people: the sheet that is filled in (CSV, RFC 4180). Uses nothing of agreement.

use std::path::Path;

use super::study::{Assignment, Shown};
use crate::error::{Result, user};
use crate::fs;

/// The columns that a sheet must have to be read; others are for the annotator.
const COLUMNS: [&str; 5] = ["annotator", "split", "id", "order", "choice"];
/// The columns by which a sheet is known to be of the items that it is read with.
const OF_ITEMS: [&str; 2] = ["question", "key"];

/// One judgement of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Who; empty where the sheet does not say.
    pub annotator: String,
    /// The split of the row.
    pub split: String,
    /// The row.
    pub id: String,
    /// Whether `a` was shown first.
    pub a_first: bool,
    /// 1 for the first, 2 for the second, 0 for neither.
    pub choice: u8,
    /// What was asked ([`Question::name`](super::study::Question::name)); none where the sheet has
    /// no such column.
    pub question: Option<String>,
    /// [`Item::key`](super::study::Item::key); none where the sheet has no such column.
    pub key: Option<String>,
    /// The line of the file that it begins on, from 1.
    pub line: usize,
}

/// A sheet without choices.
pub fn empty(assignment: &Assignment<'_>) -> String {
    let mut sheet = [&COLUMNS[..], &OF_ITEMS, &["prompt", "first", "second"]].concat().join(",");
    sheet += "\r\n";
    for shown in &assignment.shown {
        let Shown { item, first, second, .. } = shown;
        // A text that begins like a formula is one to some programs; names must stay as they are.
        let text = |text: &str| match text.starts_with(['=', '+', '-', '@']) {
            true => format!("'{text}"),
            false => text.to_owned(),
        };
        let set = |texts: &[&str]| match texts {
            [one] => text(one),
            _ => {
                let lines = texts.iter().enumerate();
                lines.map(|(at, text)| format!("{}. {}\n", at + 1, text.trim())).collect()
            }
        };
        let (prompt, key) = (text(&item.prompt), item.key());
        let (name, order, question) = (&assignment.annotator, order(shown), item.question.name());
        let (first, second) = (set(first), set(second));
        let cells: [&str; 10] =
            [name, &item.split, &item.id, order, "", question, &key, &prompt, &first, &second];
        sheet += &(cells.map(quoted).join(",") + "\r\n");
    }
    sheet
}

/// How a sheet names the order of two sides.
pub(super) fn order(shown: &Shown<'_>) -> &'static str {
    if shown.a_first { "ab" } else { "ba" }
}

/// The judgements of a sheet; rows without a choice are left out.
///
/// # Errors
/// The user's, with the line: no such file or column, a choice or an order that is none.
pub fn read(path: &Path) -> Result<Vec<Judgement>> {
    let text = fs::read_to_string(path)?;
    let mut rows = parse(text.trim_start_matches('\u{feff}')).into_iter();
    let head = rows.next().unwrap_or_default().cells;
    let place = |name: &str| head.iter().position(|column| column.trim() == name);
    let at = |name: &str| {
        let missing = || user(format!("{} has no column `{name}`", path.display()));
        place(name).ok_or_else(|| missing().hint(format!("it needs {}", COLUMNS.join(", "))))
    };
    let [annotator, split, id, order, choice] =
        [at("annotator")?, at("split")?, at("id")?, at("order")?, at("choice")?];
    let [question, key] = OF_ITEMS.map(place);
    let mut judgements = Vec::new();
    for Cells { line, cells } in rows {
        let cell = |at: usize| cells.get(at).map(|cell| cell.trim().to_owned()).unwrap_or_default();
        let wrong = |what: &str, found: String| {
            user(format!("{}, line {line}: {what}, found `{found}`", path.display()))
        };
        let choice = match cell(choice).as_str() {
            "" => continue,
            "0" => 0,
            "1" => 1,
            "2" => 2,
            other => return Err(wrong("expected the choice 1, 2 or 0", other.into()).into()),
        };
        let a_first = match cell(order).as_str() {
            "ab" => true,
            "ba" => false,
            other => return Err(wrong("expected the order ab or ba", other.into()).into()),
        };
        judgements.push(Judgement {
            annotator: cell(annotator),
            split: cell(split),
            id: cell(id),
            a_first,
            choice,
            question: question.map(cell),
            key: key.map(cell),
            line,
        });
    }
    Ok(judgements)
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// A row of a table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Cells {
    /// The line that it begins on, from 1.
    line: usize,
    cells: Vec<String>,
}

/// Rows of cells; empty rows are left out.
fn parse(text: &str) -> Vec<Cells> {
    let (mut rows, mut cell, mut inside) = (Vec::new(), String::new(), false);
    let (mut line, mut row) = (1, Cells { line: 1, cells: Vec::new() });
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        line += usize::from(character == '\n');
        match character {
            '"' if inside && characters.peek() == Some(&'"') => cell.extend(characters.next()),
            '"' if inside || cell.is_empty() => inside = !inside,
            ',' if !inside => row.cells.push(std::mem::take(&mut cell)),
            '\r' if !inside && characters.peek() == Some(&'\n') => {}
            '\n' if !inside => {
                row.cells.push(std::mem::take(&mut cell));
                rows.push(std::mem::replace(&mut row, Cells { line, cells: Vec::new() }));
            }
            other => cell.push(other),
        }
    }
    row.cells.push(cell);
    rows.push(row);
    rows.retain(|row| row.cells.iter().any(|cell| !cell.is_empty()));
    rows
}

#[cfg(test)]
mod tests {
    use super::super::study::{Item, Question, for_one, for_several};
    use super::*;

    fn item(id: &str, text: &str) -> Item {
        Item {
            question: Question::Better,
            split: "test/x".into(),
            id: id.into(),
            prompt: "p".into(),
            a: vec![text.into()],
            b: vec!["b".into()],
        }
    }

    fn cells(text: &str) -> Vec<Vec<String>> {
        parse(text).into_iter().map(|row| row.cells).collect()
    }

    #[test]
    fn cells_come_back_as_they_went() {
        let rows = parse("a,\"b,\"\"c\"\"\nd\",\r\n\r\n,x\"y,\"\"");
        let row =
            |line: usize, cells: [&str; 3]| Cells { line, cells: cells.map(String::from).into() };
        assert_eq!(rows, [row(1, ["a", "b,\"c\"\nd", ""]), row(4, ["", "x\"y", ""])]);
        let items = [item("1,2", " \"quoted\",\nlines"), item("3", "=1+1")];
        let rows = cells(&empty(&for_one(&items, 0)));
        assert!(
            rows[1].contains(&" \"quoted\",\nlines".to_owned())
                && rows[2].contains(&"'=1+1".to_owned()),
            "{rows:?}"
        );
        let sets = [Item { a: vec!["=x".into(), " y\n".into()], ..item("1", "") }];
        let rows = cells(&empty(&for_one(&sets, 0)));
        let known = ["1. =x\n2. y\n", "1. y\n2. =x\n"];
        assert!(rows[1].iter().any(|cell| known.contains(&cell.as_str())), "{rows:?}");
    }

    #[test]
    fn filled_in_rows_are_read_and_empty_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.csv");
        let items = [item("1", "two\nlines"), item("2", "a")];
        let names = ["ann".to_owned()];
        let all = for_several(&items, 0, &names, 1.0).unwrap();
        let sheet = empty(&all[0]).replacen(",2,ab,,", ",2,ab,2,", 1);
        std::fs::write(&path, sheet.replacen(",2,ba,,", ",2,ba,2,", 1)).unwrap();
        let read_ = read(&path).unwrap();
        let [only] = read_.as_slice() else { panic!("{read_:?}") };
        assert_eq!((only.annotator.as_str(), only.id.as_str(), only.choice), ("ann", "2", 2));
        assert_eq!(only.question.as_deref(), Some("better"));
        assert_eq!(only.key.as_deref(), Some(items[1].key().as_str()));
        // The row of two lines is above it or below it.
        let line = if all[0].shown[0].item.id == "1" { 4 } else { 2 };
        assert_eq!(only.line, line);
    }

    #[test]
    fn a_sheet_that_is_none_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.csv");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path).unwrap_err().to_string()
        };
        let head = "annotator,split,id,order,choice\n";
        assert!(
            refusal(&format!("{head}\"x\ny\",s,1,ab,1\nx,s,1,ab,3\n"))
                .contains("line 4: expected the choice 1, 2 or 0, found `3`")
        );
        assert!(
            refusal(&format!("{head}x,s,1,aa,1\n"))
                .contains("line 2: expected the order ab or ba, found `aa`")
        );
        assert!(refusal("annotator,split,id,choice\n").contains("no column `order`"));
        assert!(refusal("").contains("no column `annotator`"));
        // Without the columns of items they are not there.
        std::fs::write(&path, format!("{head}x,s,1,ab,1\n")).unwrap();
        let read = read(&path).unwrap();
        assert!(read.len() == 1 && read[0].key.is_none() && read[0].question.is_none());
    }
}
