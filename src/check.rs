//! Config values that are well-typed but out of their range. Knows no file: the pipeline finds the place of a field.

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

    /// The problems found.
    pub fn done(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.0)
    }
}
