//! How much every method's samples vary on a test set: rows of the table, and everything that was
//! measured. Knows no reward.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::measuring::Answers;
use super::{Found, REFERENCE};
use crate::artefacts::table::Row;
use crate::backend::Backend;
use crate::data::rows::Example;
use crate::data::samples::Sampled;
use crate::error::Result;
use crate::eval::compare::Measured;
use crate::eval::diversity::common_length;
use crate::eval::interval::{Interval, Kind};
use crate::eval::spread::{Inputs, Spread, cut};
use crate::stages::diversity::Measures;

impl<B: Backend> Measures<'_, B> {
    /// Whole texts, and texts cut to the length that at least half of every method's texts reach.
    /// References, of which an input has one, vary across the inputs that the first method has
    /// samples of. What is measured per input is compared on the inputs named in `common`.
    pub(super) fn test_set(
        &self,
        found: &mut Found,
        test_set: &str,
        examples: &[Example],
        methods: &[(&Answers, Vec<&Sampled>)],
        common: &BTreeSet<&str>,
    ) -> Result<()> {
        if methods.is_empty() {
            return Ok(());
        }
        let sampled: BTreeSet<&str> = methods
            .iter()
            .take(1)
            .flat_map(|(_, rows)| rows.iter().map(|row| row.id.as_str()))
            .collect();
        let references = examples.iter().filter(|example| sampled.contains(example.id.as_str()));
        let mut sets: Vec<(&str, Inputs, Vec<&str>, Vec<String>)> = Vec::new();
        for (method, rows) in methods {
            let rows = rows.iter().filter(|row| !row.outputs.is_empty());
            let inputs = Inputs::new(rows.clone().map(|row| row.outputs.len()));
            let texts =
                rows.clone().flat_map(|row| row.outputs.iter().map(|output| output.text.clone()));
            sets.push((
                &method.name,
                inputs,
                rows.clone().map(|row| row.id.as_str()).collect(),
                texts.collect(),
            ));
        }
        let texts: Vec<String> = references.map(|example| example.completion.clone()).collect();
        sets.push((REFERENCE, Inputs::new(texts.iter().map(|_| 1)), Vec::new(), texts));
        let length =
            common_length(&sets.iter().map(|(.., texts)| texts.as_slice()).collect::<Vec<_>>());
        for (name, inputs, ids, texts) in &sets {
            let cut: Vec<String> = texts.iter().map(|text| cut(text, length)).collect();
            let mut all = BTreeMap::new();
            for (suffix, texts) in [("", texts), ("_matched", &cut)] {
                for (metric, spread) in
                    self.of(inputs, &texts.iter().map(String::as_str).collect::<Vec<&str>>())?
                {
                    let (each, across, n) = (spread.per_input, spread.across_inputs, inputs.len());
                    let mut push = |way: &str, mean: f64, low: f64, high: f64, kind: Kind| {
                        let metric = format!("{}_{way}{suffix}", metric.name());
                        found.table.rows.push(Row::new(
                            name,
                            test_set,
                            &metric,
                            Interval { mean, low, high, n, kind },
                        ));
                    };
                    if *name != REFERENCE {
                        push("per_input", each.mean, each.low, each.high, each.interval);
                        let values = ids
                            .iter()
                            .zip(&spread.each)
                            .filter(|(id, _)| common.contains(*id))
                            .map(|(_, value)| *value);
                        let (metric, values) = (
                            format!("{}_per_input{suffix}", metric.name()),
                            values.collect::<Vec<f64>>(),
                        );
                        if !values.is_empty() {
                            found.measured.push(Measured {
                                metric,
                                test_set: test_set.into(),
                                method: name.to_string(),
                                values,
                            });
                        }
                    }
                    push("across_inputs", across.mean, across.low, across.high, across.interval);
                    push(
                        "across_inputs_first",
                        across.first,
                        across.first_low,
                        across.first_high,
                        across.first_interval,
                    );
                    all.insert(format!("{}{suffix}", metric.name()), spread);
                }
            }
            found.diversity.push(Diversity {
                method: name.to_string(),
                test_set: test_set.into(),
                matched_length: length,
                metrics: all,
            });
        }
        Ok(())
    }
}

/// All that was measured of a method's samples on a test set: one of `diversity.json`.
#[derive(Serialize)]
pub(super) struct Diversity {
    method: String,
    test_set: String,
    /// Words that `_matched` metrics are cut to.
    matched_length: usize,
    metrics: BTreeMap<String, Spread>,
}
