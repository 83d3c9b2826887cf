//! What a language model is asked about one response, how the grade in its answer is read, and
//! which reward a grade is. Knows no model.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::question;

/// The template for summaries.
pub const SUMMARISATION: &str = include_str!("prompts/grade_summary.txt");
/// The template for responses to instructions.
pub const INSTRUCTIONS: &str = include_str!("prompts/grade_response.txt");
/// The places that a template must have. It may have `{from}` and `{to}` besides.
const PLACES: [&str; 2] = ["{prompt}", "{response}"];

/// The grades that a model may give: every number from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scale {
    /// The worst grade, of which the reward is 0.
    pub from: f64,
    /// The best grade, of which the reward is 1.
    pub to: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Scale { from: 1.0, to: 10.0 }
    }
}

impl Scale {
    /// Whether both ends are finite, and the best grade is above the worst.
    pub fn is_in_range(self) -> bool {
        self.from.is_finite() && self.to.is_finite() && self.from < self.to
    }

    /// (grade - from) / (to - from): 0 for the worst grade, 1 for the best, linear between.
    pub fn reward(self, grade: f64) -> f64 {
        (grade - self.from) / (self.to - self.from)
    }
}

/// The place of the grade in an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Field of this name of a JSON object, which is the whole answer.
    Field(String),
    /// The last word of the answer, which is a number; a full stop may follow it.
    LastWord,
}

impl Default for Place {
    fn default() -> Self {
        Place::Field("grade".to_owned())
    }
}

impl Place {
    /// The grade that an answer states; `None` where there is no number of the scale in its place.
    pub fn grade(&self, answer: &str, scale: Scale) -> Option<f64> {
        let stated = match self {
            Place::Field(name) => match serde_json::from_str(answer.trim()).ok()? {
                Value::Object(fields) => fields.get(name)?.as_f64()?,
                _ => return None,
            },
            Place::LastWord => {
                let last = answer.split_whitespace().last()?;
                last.strip_suffix('.').unwrap_or(last).parse().ok()?
            }
        };
        (scale.from..=scale.to).contains(&stated).then_some(stated)
    }
}

/// A template with the texts and the ends of the scale in their places.
pub fn fill(template: &str, prompt: &str, response: &str, scale: Scale) -> String {
    let (from, to) = (scale.from.to_string(), scale.to.to_string());
    let texts =
        [(PLACES[0], prompt), (PLACES[1], response), ("{from}", from.as_str()), ("{to}", &to)];
    question::fill(template, &texts)
}

/// The places that a template must have and has not.
pub fn missing_places(template: &str) -> Vec<&'static str> {
    question::missing_places(template, &PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grade_is_a_number_of_the_scale_in_its_place() {
        let scale = Scale::default();
        let field = Place::default();
        for (answer, expected) in [
            (" {\"grade\": 7}\n", Some(7.0)),
            ("{\"why\": \"short\", \"grade\": 7.5}", Some(7.5)),
            ("{\"grade\": 1}", Some(1.0)),
            ("{\"grade\": 10}", Some(10.0)),
            ("{\"grade\": 0}", None),
            ("{\"grade\": 10.5}", None),
            ("{\"grade\": \"7\"}", None),
            ("{\"grade\": null}", None),
            ("{\"score\": 7}", None),
            ("[7]", None),
            ("7", None),
            ("It is {\"grade\": 7}", None),
            ("", None),
        ] {
            assert_eq!(field.grade(answer, scale), expected, "{answer}");
        }
        assert_eq!(Place::Field("score".into()).grade("{\"score\": 7}", scale), Some(7.0));
        for (answer, expected) in [
            ("It is clear.\nGrade: 7", Some(7.0)),
            ("3", Some(3.0)),
            ("I give it 4.5.", Some(4.5)),
            ("7/10", None),
            ("11", None),
            ("-3", None),
            ("nan", None),
            ("inf", None),
            ("seven", None),
            ("7 points", None),
            (" ", None),
        ] {
            assert_eq!(Place::LastWord.grade(answer, scale), expected, "{answer}");
        }
    }

    #[test]
    fn rewards_are_linear_between_the_ends_of_the_scale() {
        let scale = Scale::default();
        assert_eq!([1.0, 5.5, 10.0].map(|grade| scale.reward(grade)), [0.0, 0.5, 1.0]);
        let signed = Scale { from: -2.0, to: 2.0 };
        assert_eq!([-2.0, -1.0, 2.0].map(|grade| signed.reward(grade)), [0.0, 0.25, 1.0]);
        for (from, to) in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            assert!(!Scale { from, to }.is_in_range(), "{from}, {to}");
        }
    }

    #[test]
    fn templates_have_the_texts_and_the_scale() {
        let scale = Scale { from: 0.0, to: 2.5 };
        let filled = fill("{from} to {to}: {response} of {prompt}", " {to} ", "r ", scale);
        assert_eq!(filled, "0 to 2.5: r of {to}");
        assert_eq!(missing_places("{prompt}"), ["{response}"]);
        for template in [SUMMARISATION, INSTRUCTIONS] {
            assert!(missing_places(template).is_empty());
            let filled = fill(template, "p", "r", scale);
            assert!(filled.contains("{\"grade\": N}") && filled.contains("from 0 to 2.5"));
        }
    }
}
