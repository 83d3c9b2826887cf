//! What is said of a figure: heading, unit, direction, and the section that defines it.

use serde::Serialize;

/// Which values of a figure are wanted, or are more diverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Performance, agreement.
    HigherIsBetter,
    /// Errors, losses.
    LowerIsBetter,
    /// Diversity.
    HigherIsMoreDiverse,
    /// Likeness of texts.
    LowerIsMoreDiverse,
    /// No direction is better.
    Neither,
}

impl Direction {
    /// An arrow towards what is better or more diverse, after a blank; nothing where there is no
    /// direction.
    pub(super) fn arrow(self) -> &'static str {
        match self {
            Direction::HigherIsBetter | Direction::HigherIsMoreDiverse => " \u{2191}",
            Direction::LowerIsBetter | Direction::LowerIsMoreDiverse => " \u{2193}",
            Direction::Neither => "",
        }
    }

    /// In words; none where there is no direction.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Direction::HigherIsBetter => Some("higher is better"),
            Direction::LowerIsBetter => Some("lower is better"),
            Direction::HigherIsMoreDiverse => Some("higher is more diverse"),
            Direction::LowerIsMoreDiverse => Some("lower is more diverse"),
            Direction::Neither => None,
        }
    }
}

/// What a figure is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// What it measures, a phrase without a full stop.
    pub heading: String,
    /// What it is counted in.
    pub unit: String,
    /// Which way it points.
    pub direction: Direction,
    /// The section of docs/evaluation.md that defines it.
    pub section: &'static str,
}

impl Definition {
    /// The heading, with the direction where there is one.
    pub fn sentence(&self) -> String {
        let direction = self.direction.words().map(|words| format!("; {words}"));
        format!("{}{}", self.heading, direction.unwrap_or_default())
    }

    /// Where it is defined.
    pub fn link(&self) -> String {
        format!("docs/evaluation.md#{}", self.section)
    }
}

/// Name, heading, unit, direction and section of a figure.
pub(super) type Entry = (&'static str, &'static str, &'static str, Direction, &'static str);
