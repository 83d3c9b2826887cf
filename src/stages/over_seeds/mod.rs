//! `over_seeds`: the tables of several evaluations, which differ in the seed of training, as one:
//! means over seeds with intervals, and the differences of methods. Computes nothing on texts.

mod collect;
mod combine;
mod families;
mod sequential;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::collect::Files;
use self::sequential::SequentialConfig;
use super::{Checks, KindInfo, Problem, Stage};
use crate::artefacts::seeds::{Figure, Quantity, SEEDS};
use crate::artefacts::table::{Over, Row, TABLE, TABLE_MARKDOWN, TABLE_TEXT, Table};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::{Result, user};
use crate::eval::correction::Correction;
use crate::fs;
use crate::reference::{Evaluation, Ref};
use crate::report::run;
use crate::report::table::WIDTH;
use crate::report::text::{markdown, text};

/// The config of `uses: over_seeds`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverSeedsStage {
    /// Evaluations, one for each seed; `{all: evaluation}` names every point of a matrix, `{all:
    /// evaluation, over: seed}` the points that differ in the seed alone.
    pub evaluations: Vec<Ref<Evaluation>>,
    /// What is worked out.
    #[serde(default, skip_serializing_if = "Statistics::is_basic")]
    pub statistics: Statistics,
    /// How the p values of a family are corrected: all differences in a metric, all gaps, or all
    /// differences at equal KL. Another than `holm` needs `statistics: full`.
    #[serde(default, skip_serializing_if = "is_holm")]
    pub correction: Correction,
    /// By metric, the region of practical equivalence: a difference between minus this and this
    /// does not matter. Needs `statistics: full`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub equivalence: BTreeMap<String, f64>,
    /// Comparisons that are decided by tests which hold at any number of seeds. With `posttrain run
    /// --sequential` seeds are added until all of them are decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequential: Option<SequentialConfig>,
}

/// What is worked out over seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// Figures of methods and their differences, with intervals over seeds.
    #[default]
    Basic,
    /// Also gaps and differences at equal KL, intervals over seeds and test inputs, the part of
    /// training in the spread, equivalence, verdicts, and how many seeds would decide.
    Full,
}

impl Statistics {
    fn is_basic(&self) -> bool {
        *self == Statistics::Basic
    }
}

fn is_holm(correction: &Correction) -> bool {
    *correction == Correction::Holm
}

impl Stage for OverSeedsStage {
    const INFO: KindInfo =
        KindInfo { repetitions: true, ..KindInfo::on_host("over_seeds", 4, "evaluation") };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let many = self.evaluations.len() >= 2 || self.evaluations.iter().any(Ref::stands_for_all);
        checks.require(many, "evaluations", "expected at least two: one seed has no spread");
        let full = !self.statistics.is_basic();
        checks.require(
            full || is_holm(&self.correction),
            "correction",
            "another correction than `holm` needs `statistics: full`",
        );
        checks.require(
            full || self.equivalence.is_empty(),
            "equivalence",
            "regions of equivalence need `statistics: full`",
        );
        self.sequential.iter().for_each(|own| own.out_of_range(&mut checks));
        for (metric, margin) in &self.equivalence {
            checks.require(
                margin.is_finite() && *margin > 0.0,
                &format!("equivalence.{metric}"),
                format!("expected a number above 0, found {margin}"),
            );
        }
        checks.done()
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        if self.evaluations.len() < 2 {
            return Err(user("there is one evaluation, and one seed has no spread")
                .hint("give the matrix two seeds or more")
                .into());
        }
        let full = !self.statistics.is_basic();
        let read = |evaluation: &Ref<Evaluation>| match full {
            true => Files::all(evaluation.path()),
            false => Files::table(evaluation.path()),
        };
        let all: Vec<Files> = self.evaluations.iter().map(read).collect::<Result<_>>()?;
        combine::check(&all)?;
        let own = combine::own(&all, |message| context.warn(message))?;
        let mut found = combine::combine(&all, full, |message| context.warn(message));
        if full {
            families::check(&found, &self.equivalence)?;
            families::test(&mut found, self.correction, &self.equivalence);
        } else {
            families::correct(&mut found);
        }
        if let Some(sequential) = &self.sequential {
            sequential.decide(&mut found)?;
        }
        let seeds: Vec<Figure> = found.into_iter().map(|one| one.figure).collect();
        let table = Table { over: Over::Seeds, own, rows: rows(&seeds, full) };
        fs::write_atomic(&context.out().join(SEEDS), &serde_json::to_vec_pretty(&seeds)?)?;
        fs::write_atomic(&context.out().join(TABLE), table.json().as_bytes())?;
        let shown = run::Evaluation { table, seeds, ..run::Evaluation::default() };
        fs::write_atomic(&context.out().join(TABLE_TEXT), text(&shown, WIDTH).as_bytes())?;
        fs::write_atomic(&context.out().join(TABLE_MARKDOWN), markdown(&shown).as_bytes())
    }
}

/// Metrics whose differences between methods are rows of the table; `seeds.json` has those of all.
const COMPARED: [&str; 2] = ["gold", "rm"];

/// The rows of the table. With `statistics: full` no difference is one: they are listed with their
/// verdicts.
fn rows(seeds: &[Figure], full: bool) -> Vec<Row> {
    let compared = |figure: &&Figure| COMPARED.contains(&figure.metric.as_str()) && !full;
    let row = |figure: &Figure| {
        let (method, metric) = match &figure.with {
            Some(with) => {
                (format!("{} - {with}", figure.method), format!("{}_difference", figure.metric))
            }
            None => (figure.method.clone(), figure.metric.clone()),
        };
        Row::new(&method, &figure.test_set, &metric, figure.over.interval)
    };
    let of = |quantity: Quantity| seeds.iter().filter(move |one| one.quantity() == quantity);
    of(Quantity::Level).chain(of(Quantity::Difference).filter(compared)).map(row).collect()
}
