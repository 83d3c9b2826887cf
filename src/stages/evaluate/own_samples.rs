//! How well the reward model tells a method's own samples of one input apart: what is left of it
//! for a method that has been optimised against it. Knows no interval's making.

use super::Found;
use super::curves::golds;
use super::equal_kl::rewards;
use super::measuring::{Answers, Judges};
use crate::artefacts::table::{OWN_ACCURACY, Row};
use crate::backend::Backend;
use crate::data::rows::Example;
use crate::data::samples::Sampled;
use crate::error::Result;
use crate::eval::compare::of_values;
use crate::eval::reward::ordered;

impl Found {
    /// The accuracy of the reward model on the samples of each method, against gold: the mean over
    /// the inputs whose samples differ in gold. Nothing without a reward model, or without gold.
    pub(super) fn own_samples(
        &mut self,
        judge: &Judges<'_, impl Backend>,
        (test_set, examples): (&str, &[Example]),
        methods: &[(&Answers, Vec<&Sampled>)],
    ) -> Result<()> {
        if judge.reward.is_none() {
            return Ok(());
        }
        for (method, rows) in methods {
            let example = |row: &&Sampled| examples.iter().find(|example| example.id == row.id);
            let inputs: Vec<(&Example, &Sampled)> =
                rows.iter().filter_map(|row| Some((example(row)?, *row))).collect();
            let graded: Option<Vec<Vec<f64>>> =
                inputs.iter().map(|(example, row)| golds(example, &row.outputs)).collect();
            let Some(graded) = graded else { return Ok(()) };
            // Of one sample there is no pair.
            if inputs.iter().all(|(_, row)| row.outputs.len() < 2) {
                continue;
            }
            let Some(scores) = rewards(judge, test_set, &inputs)? else { return Ok(()) };
            let of = graded.iter().zip(&scores);
            let values: Vec<f64> =
                of.filter_map(|(golds, scores)| ordered(golds, scores)).collect();
            if values.is_empty() {
                let why = "all samples of each input have one gold score";
                self.left_out.note(&[OWN_ACCURACY], Some(&method.name), test_set, why);
                continue;
            }
            let row =
                Row::new(&method.name, test_set, OWN_ACCURACY, of_values(OWN_ACCURACY, &values));
            self.table.rows.push(row);
        }
        Ok(())
    }
}
