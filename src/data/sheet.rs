//! Judgements of people: the sheet that is filled in (CSV, RFC 4180) and the page that fills it in
//! (HTML). Uses nothing of agreement.

use std::path::Path;

use super::answer_pairs::AnswerPair;
use crate::error::{Result, user};
use crate::fs;

/// The columns that a sheet must have to be read; others are for the annotator.
const COLUMNS: [&str; 5] = ["annotator", "split", "id", "order", "choice"];
/// The page, with a place for the items.
const PAGE: &str = include_str!("sheet.html");
/// That place.
const ITEMS: &str = "/*ITEMS*/[]";

/// One judgement of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Who.
    pub annotator: String,
    /// The split of the row.
    pub split: String,
    /// The row.
    pub id: String,
    /// Whether `a` was shown first.
    pub a_first: bool,
    /// 1 for the first, 2 for the second, 0 for neither.
    pub choice: u8,
}

/// A sheet without choices.
pub fn empty(items: &[AnswerPair], seed: u64) -> String {
    let mut sheet = COLUMNS.join(",") + ",prompt,first,second\r\n";
    for item in items {
        let (order, first, second) = shown(item, seed);
        // A text that begins like a formula is one to some programs; names must stay as they are.
        let text = |text: &str| {
            if text.starts_with(['=', '+', '-', '@']) {
                format!("'{text}")
            } else {
                text.to_owned()
            }
        };
        let [prompt, first, second] = [&item.prompt, first, second].map(text);
        let cells = ["", &item.split, &item.id, order, "", &prompt, &first, &second];
        sheet += &(cells.map(quoted).join(",") + "\r\n");
    }
    sheet
}

/// The page: it needs nothing but a browser, shows two texts at a time without saying whose they
/// are, and keeps what was chosen.
pub fn page(items: &[AnswerPair], seed: u64) -> String {
    let item = |item: &AnswerPair| {
        let (order, first, second) = shown(item, seed);
        let (split, id, prompt) = (&item.split, &item.id, &item.prompt);
        serde_json::json!({"split": split, "id": id, "order": order, "prompt": prompt.trim(),
            "first": first.trim(), "second": second.trim()})
    };
    let items = serde_json::Value::Array(items.iter().map(item).collect()).to_string();
    // Within a script no text may end it, nor begin a comment that hides its end; U+2028 and U+2029
    // end lines in older engines.
    let safe = items.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let safe = safe.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    let name = blake3::hash(items.as_bytes()).to_hex();
    // No script but the page's own runs, and nothing is fetched.
    let page = PAGE.replace("/*NONCE*/", &name[..32]);
    page.replacen("/*NAME*/", &name[..16], 1).replacen(ITEMS, &safe, 1)
}

fn shown(item: &AnswerPair, seed: u64) -> (&'static str, &str, &str) {
    match item.a_first(seed) {
        true => ("ab", &item.a.text, &item.b.text),
        false => ("ba", &item.b.text, &item.a.text),
    }
}

/// The judgements of a sheet; rows without a choice are left out.
///
/// # Errors
/// The user's, with the row: no such file or column, a choice or an order that is none.
pub fn read(path: &Path) -> Result<Vec<Judgement>> {
    let text = fs::read_to_string(path)?;
    let mut rows = parse(text.trim_start_matches('\u{feff}')).into_iter();
    let head = rows.next().unwrap_or_default();
    let at = |name: &str| {
        let missing = || user(format!("{} has no column `{name}`", path.display()));
        head.iter()
            .position(|column| column == name)
            .ok_or_else(|| missing().hint(format!("it needs {}", COLUMNS.join(", "))))
    };
    let [annotator, split, id, order, choice] =
        [at("annotator")?, at("split")?, at("id")?, at("order")?, at("choice")?];
    let mut judgements = Vec::new();
    for (row, cells) in rows.enumerate() {
        let cell = |at: usize| cells.get(at).map(|cell| cell.trim().to_owned()).unwrap_or_default();
        let wrong = |what: &str, found: String| {
            user(format!("{}, row {}: {what}, found `{found}`", path.display(), row + 2))
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

/// Rows of cells; empty rows are left out.
fn parse(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut inside) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside && characters.peek() == Some(&'"') => cell.extend(characters.next()),
            '"' if inside || cell.is_empty() => inside = !inside,
            ',' if !inside => row.push(std::mem::take(&mut cell)),
            '\r' if !inside && characters.peek() == Some(&'\n') => {}
            '\n' if !inside => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    row.push(cell);
    rows.push(row);
    rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
    rows
}

#[cfg(test)]
mod tests {
    use super::super::answer_pairs::Answer;
    use super::*;

    fn item(id: &str, text: &str) -> AnswerPair {
        let answer = |text: &str| Answer { text: text.into(), ended: true };
        AnswerPair {
            split: "test/x".into(),
            id: id.into(),
            origin: None,
            prompt: "p".into(),
            chat: false,
            a: answer(text),
            b: answer("b"),
            facts: None,
        }
    }

    #[test]
    fn the_page_lets_no_script_but_its_own_run_and_fetches_nothing() {
        let page =
            page(&[item("1", "</script><script>alert(1)</script><img src=x onerror=alert(1)>")], 0);
        let policy = page
            .split("http-equiv=\"Content-Security-Policy\" content=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let nonce = page
            .split("<script nonce=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("the script has a nonce");
        assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nonce}");
        assert_eq!(
            policy,
            Some(&*format!(
                "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
            ))
        );
        assert_eq!(
            (
                page.matches("<script").count(),
                page.matches(&format!("<style nonce=\"{nonce}\">")).count()
            ),
            (1, 1)
        );
        assert!(!page.contains("/*NONCE*/") && !page.contains("onerror=alert(1)>"));
    }

    #[test]
    fn cells_come_back_as_they_went() {
        let rows = parse("a,\"b,\"\"c\"\"\nd\",\r\n\r\n,x\"y,\"\"");
        assert_eq!(rows, [vec!["a", "b,\"c\"\nd", ""], vec!["", "x\"y", ""]]);
        let sheet = empty(&[item("1,2", " \"quoted\",\nlines"), item("3", "=1+1")], 0);
        let rows = parse(&sheet);
        assert!(
            rows[1].contains(&" \"quoted\",\nlines".to_owned())
                && rows[2].contains(&"'=1+1".to_owned()),
            "{rows:?}"
        );
    }

    #[test]
    fn filled_in_rows_are_read_and_empty_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.csv");
        std::fs::write(
            &path,
            empty(&[item("1", "a"), item("2", "a")], 0)
                .replacen(",1,ab,,", ",1,ab,2,", 1)
                .replacen(",1,ba,,", ",1,ba,2,", 1),
        )
        .unwrap();
        let read_ = read(&path).unwrap();
        assert_eq!((read_.len(), read_[0].id.as_str(), read_[0].choice), (1, "1", 2));
        std::fs::write(&path, "annotator,split,id,order,choice\nx,s,1,ab,3\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("row 2: expected the choice"));
        std::fs::write(&path, "annotator,split,id,choice\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no column `order`"));
    }

    #[test]
    fn no_text_gets_out_of_the_script() {
        let page = page(&[item("1", "</script><!-- & \u{2028} /*ITEMS*/[]")], 0);
        assert_eq!(page.matches("</script").count(), 1);
        assert!(!page.contains("<!-- &") && page.contains("\\u003c/script"));
    }

    #[test]
    fn the_order_is_by_chance_and_by_seed() {
        let first = |seed| (0..200).filter(|at| item(&at.to_string(), "a").a_first(seed)).count();
        assert!((70..130).contains(&first(0)) && (70..130).contains(&first(1)));
        assert!((0..50).any(
            |at| item(&at.to_string(), "a").a_first(0) != item(&at.to_string(), "a").a_first(1)
        ));
    }
}
