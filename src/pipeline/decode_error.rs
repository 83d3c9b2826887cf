//! The error of `decode`: what serde has to say, in the words of a writer of YAML, on its
//! way to a place.

use std::fmt;

use serde::de::{self, Unexpected};

use super::diagnostic::{Mistake, advice};
use super::scalar::Unfit;
use super::yaml::Node;

/// An error on its way up to the innermost node, which gives it a place.
#[derive(Debug)]
pub struct Error {
    /// Boxed: errors are rare, results are everywhere.
    place: Option<Box<Mistake>>,
    message: String,
    help: Option<String>,
}

impl Error {
    /// An error that has no place yet.
    pub fn new(message: impl Into<String>, help: Option<String>) -> Self {
        Error { place: None, message: message.into(), help }
    }

    /// The same error, placed at this node unless an inner one was before.
    pub fn at(mut self, node: &Node) -> Self {
        if self.place.is_none() {
            self.place = Some(Box::new(
                node.mistake(std::mem::take(&mut self.message)).maybe_help(self.help.take()),
            ));
        }
        self
    }

    /// The error as a mistake, at this node if it has no place.
    pub fn into_mistake(self, node: &Node) -> Mistake {
        *self.at(node).place.expect("`at` gave it a place")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.place.as_ref().map_or(&self.message, |place| &place.message))
    }
}

impl std::error::Error for Error {}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        Error::new(unfit.message, unfit.help)
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error::new(message.to_string(), None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Error::custom(format_args!("expected {expected}, found {}", plain_words(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Error::custom(format_args!("expected {expected}, found {}", plain_words(found)))
    }

    fn invalid_length(found: usize, expected: &dyn de::Expected) -> Self {
        Error::custom(format_args!("expected {expected}, found {found} of them"))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let help = Some(advice(found, expected.iter().copied(), "known words"));
        Error::new(format!("unknown word `{found}`"), help)
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Self {
        let help = Some(advice(found, expected.iter().copied(), "known keys"));
        Error::new(format!("unknown key `{found}`"), help)
    }

    fn missing_field(field: &'static str) -> Self {
        Error::custom(format_args!("the key `{field}` is missing"))
    }
}

fn plain_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(value) => format!("the text {value:?}"),
        Unexpected::Unit | Unexpected::Option => "nothing".into(),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a mapping".into(),
        other => other.to_string(),
    }
}
