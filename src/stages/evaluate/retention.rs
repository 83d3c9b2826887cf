//! Retention: the loss of methods' models on held-out texts of earlier phases of training. Knows
//! no sample.
//!
//! 1. The loss is that of training, over the learned tokens of all rows: of a prompt with a
//!    completion the completion and EOS, of a document all but its first token.
//! 2. A mean over tokens of rows of unequal lengths is a ratio. Its interval and its differences
//!    are of the rows' linearised values, whose mean it is (`eval/ratio.rs`).
//! 3. All models read the same tokens, so that nats a token are the same unit for all.

use super::Found;
use super::config::Method;
use super::distributions_config::Retention;
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::data::rows::Example;
use crate::data::tokenised::{Limits, tokenise};
use crate::error::{Result, user};
use crate::eval::compare::Measured;
use crate::eval::interval::FEWEST_CLUSTERS;
use crate::eval::ratio::{linearised, of_sums};
use crate::stages::model_files::{self, Loaded};
use crate::train::language;

impl Found {
    /// The loss of a method's model on some held-out texts, in the table.
    pub(super) fn retention<B: Backend>(
        &mut self,
        b: &B,
        (method, model): (&Method, &Loaded<B>),
        (config, rows): (&Retention, &[Example]),
        max_prompt: Option<usize>,
    ) -> Result<()> {
        let (name, split) = (method.name.as_str(), config.split.as_str());
        let limits = Limits::of_stage(model.model.spec.context, max_prompt);
        let tokens = tokenise(rows, &model.tokenizer, limits, split)?;
        let losses = language::losses(b, &model.model, &tokens);
        let (sums, counts): (Vec<f64>, Vec<f64>) =
            losses.iter().map(|(sum, count)| (*sum, *count as f64)).unzip();
        if counts.iter().sum::<f64>() == 0.0 {
            let message = format!("no row of `{split}` has a token whose loss counts");
            return Err(user(message)
                .hint("name another split under `distributions.retention`")
                .into());
        }
        model_files::check_finite(&sums, "the loss", |at| {
            format!("row `{}` of split `{split}`", rows[at].id)
        })?;
        let metric = config.metric();
        let test_set = config.test_set();
        let figure = of_sums(&sums, &counts);
        self.table.rows.push(Row::new(name, test_set, &metric, figure));
        if rows.len() >= FEWEST_CLUSTERS {
            self.measured.push(Measured {
                metric,
                test_set: test_set.into(),
                method: name.into(),
                values: linearised(&sums, &counts),
            });
        }
        Ok(())
    }
}
