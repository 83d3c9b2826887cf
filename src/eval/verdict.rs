//! What a judge is asked about two texts, how its answer is read, and what verdicts amount to.
//! Knows no judge.

use serde::{Deserialize, Serialize};

use super::question;

/// The prompt for summaries.
pub const SUMMARISATION: &str = include_str!("prompts/summarisation.txt");
/// The prompt for responses to instructions.
pub const INSTRUCTIONS: &str = include_str!("prompts/instructions.txt");
/// The places of a prompt in which texts are put.
const PLACES: [&str; 3] = ["{prompt}", "{first}", "{second}"];

/// Which of the two texts `a` and `b` is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The text of `a`.
    A,
    /// The text of `b`.
    B,
    /// Neither.
    Tie,
    /// The judge has not said; counts as a tie.
    Unclear,
}

impl Verdict {
    /// 1 where `a` wins, 0 where it loses, else 0.5.
    pub fn score(self) -> f64 {
        match self {
            Verdict::A => 1.0,
            Verdict::B => 0.0,
            Verdict::Tie | Verdict::Unclear => 0.5,
        }
    }

    /// The verdict of a choice between the text shown first (1), the second (2), and neither (0).
    pub fn of_choice(choice: Option<u8>, a_first: bool) -> Self {
        match (choice, a_first) {
            (Some(1), true) | (Some(2), false) => Verdict::A,
            (Some(1), false) | (Some(2), true) => Verdict::B,
            (Some(0), _) => Verdict::Tie,
            _ => Verdict::Unclear,
        }
    }

    /// The verdict of two scores.
    pub fn of_scores(a: f64, b: f64) -> Self {
        match a.partial_cmp(&b) {
            Some(std::cmp::Ordering::Greater) => Verdict::A,
            Some(std::cmp::Ordering::Less) => Verdict::B,
            _ => Verdict::Tie,
        }
    }
}

/// What more than half of some verdicts on one pair say; a tie where that is neither `a` nor `b`.
pub fn majority(verdicts: &[Verdict]) -> Verdict {
    let most = |of: &Verdict| {
        2 * verdicts.iter().filter(|verdict| *verdict == of).count() > verdicts.len()
    };
    [Verdict::A, Verdict::B].into_iter().find(most).unwrap_or(Verdict::Tie)
}

/// A prompt file with the texts in their places.
pub fn fill(file: &str, prompt: &str, first: &str, second: &str) -> String {
    let [of_prompt, of_first, of_second] = PLACES;
    question::fill(file, &[(of_prompt, prompt), (of_first, first), (of_second, second)])
}

/// The places that a prompt file must have and has not.
pub fn missing_places(file: &str) -> Vec<&'static str> {
    question::missing_places(file, &PLACES)
}

/// The choice that an answer states: it must be the JSON object that was asked for, and nothing
/// else.
pub fn choice(answer: &str) -> Option<u8> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Object {
        better: u8,
    }
    let Object { better } = serde_json::from_str(answer.trim()).ok()?;
    (better <= 2).then_some(better)
}

/// Of the verdicts that decide, the share for the text that was shown first; 0.5 is no bias. `None`
/// where none decides.
pub fn first_share(verdicts: impl Iterator<Item = (Verdict, bool)>) -> Option<f64> {
    let (mut first, mut decided) = (0, 0);
    for (verdict, a_first) in
        verdicts.filter(|(verdict, _)| matches!(verdict, Verdict::A | Verdict::B))
    {
        first += usize::from((verdict == Verdict::A) == a_first);
        decided += 1;
    }
    (decided > 0).then(|| first as f64 / decided as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fill_their_places() {
        assert_eq!(fill("{second}|{prompt}|{first}", "p ", "f", "s"), "s|p|f");
        assert_eq!(missing_places("{first} {prompt}"), ["{second}"]);
        assert!(
            missing_places(SUMMARISATION).is_empty() && missing_places(INSTRUCTIONS).is_empty()
        );
        assert!(fill(SUMMARISATION, "p", "f", "s").contains("{\"better\": 1}"));
    }

    #[test]
    fn only_the_object_that_was_asked_for_is_an_answer() {
        assert_eq!(
            [" {\"better\": 1}\n", "{\"better\":2}", "{\"better\": 0}"].map(choice),
            [Some(1), Some(2), Some(0)]
        );
        for wrong in [
            "1",
            "{\"better\": 3}",
            "{\"better\": \"1\"}",
            "Summary 1",
            "{\"better\": 1} as it says more",
            "{\"better\": 1, \"x\": 2}",
            "",
        ] {
            assert_eq!(choice(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_majority_is_more_than_half() {
        use Verdict::{A, B, Tie};
        let found = [
            majority(&[A]),
            majority(&[A, B]),
            majority(&[B, A, B]),
            majority(&[A, A, B, Tie]),
            majority(&[Tie, Tie, A]),
            majority(&[]),
        ];
        assert_eq!(found, [A, Tie, B, Tie, Tie, Tie]);
    }

    #[test]
    fn a_judge_that_always_says_first_is_all_bias_and_says_nothing_of_a() {
        let both = [true, false].map(|a_first| (Verdict::of_choice(Some(1), a_first), a_first));
        assert_eq!(first_share(both.into_iter()), Some(1.0));
        assert_eq!(both.iter().map(|(verdict, _)| verdict.score()).sum::<f64>(), 1.0);
        assert_eq!(
            first_share([(Verdict::Tie, true), (Verdict::Unclear, false)].into_iter()),
            None
        );
        assert_eq!(
            [Verdict::of_choice(Some(2), true), Verdict::of_choice(None, true)],
            [Verdict::B, Verdict::Unclear]
        );
    }
}
