//! Config values that are well-typed but out of their range, and texts that cannot be the name of a
//! file. Independent of files: the pipeline finds the place of a field.

/// A value that is well-typed but out of its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The field, dotted: `optimiser.learning_rate`.
    pub field: String,
    /// What was expected, and what was found.
    pub message: String,
}

/// Collects the values of a config that are out of range.
#[derive(Default)]
pub struct Checks(Vec<Problem>);

impl Checks {
    /// Notes a problem with `field` unless `ok`.
    pub fn require(&mut self, ok: bool, field: &str, message: impl Into<String>) -> &mut Self {
        if !ok {
            self.0.push(Problem { field: field.into(), message: message.into() });
        }
        self
    }

    /// Notes a problem with a count of 0.
    pub fn positive(&mut self, count: usize, field: &str) -> &mut Self {
        self.require(count > 0, field, "expected at least 1")
    }

    /// Notes a problem with a bound of 0; `None` is no bound.
    pub fn positive_or_null(&mut self, bound: Option<usize>, field: &str) -> &mut Self {
        self.require(bound != Some(0), field, "expected at least 1, or null")
    }

    /// Notes a problem with a fraction of `whole` that is below 0, or not below 1.
    pub fn fraction(&mut self, fraction: f64, field: &str, whole: &str) -> &mut Self {
        self.require(
            (0.0..1.0).contains(&fraction),
            field,
            format!("expected a fraction of {whole}, at least 0 and below 1, found {fraction}"),
        )
    }

    /// The problems found.
    pub fn done(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.0)
    }
}

/// Bytes of a name at most: file systems take 255, and an ending is added.
const NAME: usize = 200;

/// Why a text cannot be the name of one file in a folder, if it cannot: it is a path to another
/// folder, or no file system can hold it. Every name from a config that becomes a path is checked
/// here.
pub fn unfit_as_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        _ if name.contains(['/', '\\']) => Some("it holds a slash"),
        _ if name.starts_with('.') => Some("it starts with a dot"),
        _ if name.chars().any(char::is_control) => Some("it holds a control character"),
        _ if name.len() > NAME => Some("it is longer than 200 bytes"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere() {
        let fit = ["sft", "a b", "kl=0.1", "\u{e9}t\u{e9}", "x..y", "~"];
        assert!(fit.iter().all(|name| unfit_as_name(name).is_none()));
        let long = "x".repeat(201);
        for unfit in [
            "",
            ".",
            "..",
            "/abs",
            "../up",
            "a/b",
            "a\\b",
            ".hidden",
            "a\0b",
            "a\nb",
            "\u{1b}[2J",
            &long,
        ] {
            assert!(unfit_as_name(unfit).is_some(), "{unfit:?}");
        }
    }
}
