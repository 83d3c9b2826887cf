//! Figures of the responses of a step that sentinels read beside the metrics of the step. They are
//! made of what the rollouts of an artefact record, and so are in no file themselves.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Metrics, ratio_or_zero};

/// Version of [`figures`]: raised whenever the same responses give other figures, because those of
/// artefacts are remembered by it.
pub const VERSION: u32 = 1;
/// Share of the responses whose text is also that of a response to another prompt.
pub const DUPLICATES: &str = "responses/duplicates";
/// Share of the responses without any text.
pub const EMPTY: &str = "responses/empty";
/// Share of the prompts whose text is also that of another row.
pub const DUPLICATE_PROMPTS: &str = "prompts/duplicates";
/// Standard deviation of the optimised score over all responses of the step.
pub const SCORE_STD: &str = "responses/score_std";
/// Mean KL (k1) of a response over its standard error.
pub const KL_ERRORS: &str = "responses/kl_errors";

/// A sampled response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response<'a> {
    /// The row of its prompt.
    pub id: &'a str,
    /// The prompt.
    pub prompt: &'a str,
    /// The response, without EOS.
    pub text: &'a str,
    /// The score that is optimised; `None` where no reward applies.
    pub score: Option<f64>,
    /// log p - log p_reference, summed over the response, in nats.
    pub kl: f64,
}

/// The figures of the responses of a step. [`SCORE_STD`] needs two scores; [`KL_ERRORS`] needs two
/// responses of different KL.
pub fn figures(responses: &[Response<'_>]) -> Metrics {
    let count = responses.len();
    let mut prompts_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut rows_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for response in responses {
        prompts_of.entry(response.text).or_default().insert(response.prompt);
        rows_of.entry(response.prompt).or_default().insert(response.id);
    }
    let duplicates = responses.iter().filter(|it| prompts_of[it.text].len() > 1).count();
    let empty = responses.iter().filter(|it| it.text.trim().is_empty()).count();
    let rows: usize = rows_of.values().map(BTreeSet::len).sum();
    let repeated: usize = rows_of.values().map(BTreeSet::len).filter(|rows| *rows > 1).sum();
    let mut figures = vec![
        (DUPLICATES, ratio_or_zero(duplicates as f64, count)),
        (EMPTY, ratio_or_zero(empty as f64, count)),
        (DUPLICATE_PROMPTS, ratio_or_zero(repeated as f64, rows)),
    ];
    let scores: Vec<f64> = responses.iter().filter_map(|it| it.score).collect();
    figures.extend(moments(&scores).map(|(_, variance)| (SCORE_STD, variance.sqrt())));
    let kls: Vec<f64> = responses.iter().map(|it| it.kl).collect();
    if let Some((mean, variance)) = moments(&kls).filter(|(_, variance)| *variance > 0.0) {
        figures.push((KL_ERRORS, mean / (variance / count as f64).sqrt()));
    }
    figures
}

/// Mean and unbiased variance of at least two numbers.
fn moments(numbers: &[f64]) -> Option<(f64, f64)> {
    let count = numbers.len();
    let mean = ratio_or_zero(numbers.iter().sum(), count);
    let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
    (count > 1).then(|| (mean, squares / (count - 1) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(responses: &[Response<'_>], name: &str) -> Option<f64> {
        figures(responses).into_iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    #[test]
    fn figures_of_five_responses_are_as_counted_by_hand() {
        let response = |id, prompt, text, score, kl| Response { id, prompt, text, score, kl };
        let all = [
            response("a", "p", "x", Some(1.0), 1.0),
            response("a", "p", "x", Some(3.0), 3.0),
            response("b", "q", "y", None, 2.0),
            response("c", "q", "y", Some(5.0), 2.0),
            response("d", "r", "x", Some(7.0), 2.0),
        ];
        // `x` answers `p` and `r`; `y` answers one prompt, which two of the four rows have.
        assert_eq!(figure(&all, DUPLICATES), Some(3.0 / 5.0));
        assert_eq!(figure(&all, DUPLICATE_PROMPTS), Some(2.0 / 4.0));
        assert_eq!(figure(&all, EMPTY), Some(0.0));
        // Scores 1, 3, 5, 7: squares around 4 are 9, 1, 1, 9.
        assert_eq!(figure(&all, SCORE_STD), Some((20.0_f64 / 3.0).sqrt()));
        // KL 1, 3, 2, 2, 2: mean 2, variance 2 / 4, standard error sqrt(0.1).
        let errors = figure(&all, KL_ERRORS).expect("KL differs");
        assert!((errors - 2.0 / 0.1_f64.sqrt()).abs() < 1e-12, "{errors}");
    }

    #[test]
    fn what_has_no_spread_has_no_figure() {
        let one = Response { id: "a", prompt: "p", text: " ", score: Some(1.0), kl: 0.0 };
        assert_eq!((figure(&[one], SCORE_STD), figure(&[one], EMPTY)), (None, Some(1.0)));
        assert_eq!((figure(&[one; 2], SCORE_STD), figure(&[one; 2], KL_ERRORS)), (Some(0.0), None));
        let without = Response { score: None, ..one };
        assert_eq!(figure(&[without; 2], SCORE_STD), None);
    }
}
