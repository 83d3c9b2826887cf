//! Prompt templates: literal text with named columns, `"POST: {post}\nTL;DR:"`. `{{` and `}}` are
//! literal braces. Uses no files.

use crate::error::{Result, user};
use crate::json::{Json, Object};

/// A template that was read: every brace has its partner.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    Column(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The user's: an opening brace that is never closed, a lone closing one, an empty name.
    pub fn parse(text: &str) -> Result<Self> {
        let mistake = |what: &str| {
            user(format!("{what} in the template {text:?}"))
                .hint("write {{ and }} for literal braces")
        };
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(mistake("a lone }").into());
            }
            let Some(end) = after.find(['{', '}']).filter(|end| after[*end..].starts_with('}'))
            else {
                return Err(mistake("a { without its }").into());
            };
            if after[..end].is_empty() {
                return Err(mistake("a {} without the name of a column").into());
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Column(after[..end].to_string()));
            rest = &after[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Template(parts))
    }

    /// The columns it names, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The text for one row.
    ///
    /// # Errors
    /// The user's: the row lacks a column (named with those it has), or the column holds no text,
    /// number or truth value.
    pub fn render(&self, row: &Object) -> Result<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Column(name) => text.push_str(&column_text(row, name)?),
            }
        }
        Ok(text)
    }
}

/// The text of a column; `a.b` is the field `b` of the column `a`, unless a column is called so. A
/// number is what the file has, to the last digit.
pub(super) fn column_text(row: &Object, name: &str) -> Result<String> {
    let inner = || {
        name.split('.')
            .skip(1)
            .try_fold(row.get(name.split('.').next()?)?, |value, field| value.get(field))
    };
    match row.get(name).or_else(inner) {
        Some(Json::Text(text)) => Ok(text.clone()),
        Some(Json::Number(digits)) => Ok(digits.clone()),
        Some(Json::Bool(truth)) => Ok(truth.to_string()),
        Some(other) => {
            Err(user(format!("the column `{name}` holds {}, not text", other.what())).into())
        }
        None => {
            let columns: Vec<&str> = row.keys().map(String::as_str).collect();
            let nearest =
                columns.iter().min_by_key(|column| strsim::damerau_levenshtein(column, name));
            let nearest = nearest
                .filter(|column| strsim::damerau_levenshtein(column, name) <= 2)
                .map(|column| format!("did you mean `{column}`? "));
            let hint =
                format!("{}the columns are: {}", nearest.unwrap_or_default(), columns.join(", "));
            Err(user(format!("there is no column `{name}`")).hint(hint).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Object {
        let text = r#"{"post":"a {b}","score":1.5,"done":true,"list":[1],"none":null,"long":-80241446968629135069,"cents":0.10}"#;
        crate::json::parse(text).unwrap().as_object().unwrap().clone()
    }

    fn render(template: &str) -> String {
        Template::parse(template).unwrap().render(&row()).unwrap()
    }

    fn complaint(template: &str) -> String {
        let error =
            Template::parse(template).and_then(|template| template.render(&row())).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::User);
        error.to_string()
    }

    #[test]
    fn columns_are_filled_in_and_doubled_braces_are_literal() {
        assert_eq!(render("POST: {post}\nTL;DR:"), "POST: a {b}\nTL;DR:");
        assert_eq!(render("{{post}} {{{score}}} {done}{post}"), "{post} {1.5} truea {b}");
        assert_eq!(render("{long} {cents}"), "-80241446968629135069 0.10");
        assert_eq!(render(""), "");
        assert_eq!(
            Template::parse("é{post}{{{score}").unwrap().columns().collect::<Vec<_>>(),
            ["post", "score"]
        );
    }

    #[test]
    fn unbalanced_braces_and_empty_names_are_refused() {
        assert!(complaint("a {post").contains("a { without its }"));
        assert!(complaint("a {po{st}").contains("a { without its }"));
        assert!(complaint("post}").contains("a lone }"));
        assert!(complaint("{}").contains("without the name"));
    }

    #[test]
    fn an_unknown_column_is_named_with_those_there_are() {
        let message = complaint("{pots}");
        assert!(
            message.contains("no column `pots`")
                && message.contains("did you mean `post`?")
                && message.contains("the columns are: post, score, done, list"),
            "{message}"
        );
        assert!(complaint("{list}").contains("`list` holds a list"));
        assert!(complaint("{none}").contains("`none` holds null"));
    }
}
