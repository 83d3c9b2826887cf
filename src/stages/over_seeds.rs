//! `over_seeds`: the tables of several evaluations, which differ in the seed of training, as one:
//! means over seeds with intervals, and the differences of methods. Computes nothing on texts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Checks, KindInfo, Problem, Stage};
use crate::artefacts::quality::is_of_good;
use crate::artefacts::seeds::{Figure, SEEDS};
use crate::artefacts::table::{Over, Row, TABLE, TABLE_MARKDOWN, TABLE_TEXT, Table};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::error::{Context as _, Result, user};
use crate::eval::compare::holm;
use crate::eval::interval::{Interval, Kind};
use crate::eval::seeds::{OverSeeds, over_seeds};
use crate::fs;
use crate::reference::{Evaluation, Ref};
use crate::report::table::{WIDTH, markdown, text};

/// The config of `uses: over_seeds`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverSeedsStage {
    /// Evaluations, one for each seed; `{all: evaluation}` names every point of a matrix, `{all:
    /// evaluation, over: seed}` the points that differ in the seed alone.
    pub evaluations: Vec<Ref<Evaluation>>,
}

impl Stage for OverSeedsStage {
    const INFO: KindInfo =
        KindInfo { repetitions: true, ..KindInfo::on_host("over_seeds", 4, "evaluation") };

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let many = self.evaluations.len() >= 2 || self.evaluations.iter().any(Ref::stands_for_all);
        checks.require(many, "evaluations", "expected at least two: one seed has no spread");
        checks.done()
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        let read = |evaluation: &Ref<Evaluation>| -> Result<Table> {
            let file = evaluation.path().join(TABLE);
            serde_json::from_str(&fs::read_to_string(&file)?)
                .with_context(|| format!("in {}", file.display()))
        };
        if self.evaluations.len() < 2 {
            return Err(user("there is one evaluation, and one seed has no spread")
                .hint("give the matrix two seeds or more")
                .into());
        }
        let tables: Vec<Table> = self.evaluations.iter().map(read).collect::<Result<_>>()?;
        let figures = figures(&tables, |message| context.warn(message))?;
        let differences = differences(&figures);
        let mut table = Table { over: Over::Seeds, rows: Vec::new() };
        for figure in figures
            .iter()
            .chain(differences.iter().filter(|figure| COMPARED.contains(&figure.metric.as_str())))
        {
            let (method, metric) = match &figure.with {
                Some(with) => {
                    (format!("{} - {with}", figure.method), format!("{}_difference", figure.metric))
                }
                None => (figure.method.clone(), figure.metric.clone()),
            };
            table.rows.push(Row::new(&method, &figure.test_set, &metric, figure.over.interval));
        }
        let all: Vec<&Figure> = figures.iter().chain(&differences).collect();
        fs::write_atomic(&context.out().join(SEEDS), &serde_json::to_vec_pretty(&all)?)?;
        fs::write_atomic(&context.out().join(TABLE), table.json().as_bytes())?;
        fs::write_atomic(&context.out().join(TABLE_TEXT), text(&table, WIDTH).as_bytes())?;
        fs::write_atomic(&context.out().join(TABLE_MARKDOWN), markdown(&table).as_bytes())
    }
}

/// Metrics whose differences between methods are printed; `seeds.json` has those of all.
const COMPARED: [&str; 2] = ["gold", "rm"];

/// What a row is of: method, test set, metric.
fn key(row: &Row) -> (String, String, String) {
    (row.method.clone(), row.test_set.clone(), row.metric.clone())
}

/// Every row of the first table, over all tables. Diversity of good samples that a table lacks,
/// because no input has two in that seed, is left out, and told to `warn`.
fn figures(tables: &[Table], mut warn: impl FnMut(String)) -> Result<Vec<Figure>> {
    let keys = |table: &Table| {
        let rows = table.rows.iter().filter(|row| !is_of_good(&row.metric));
        rows.map(key).collect::<BTreeSet<_>>()
    };
    for (at, table) in tables.iter().enumerate().skip(1) {
        if let Some((method, test_set, metric)) =
            keys(&tables[0]).symmetric_difference(&keys(table)).next()
        {
            let message = format!(
                "evaluations 1 and {} measured different things: one has no `{metric}` of \
                 `{method}` on `{test_set}`",
                at + 1
            );
            return Err(user(message).hint("give evaluations that differ in a seed only").into());
        }
    }
    let of = |row: &Row| -> Vec<&Row> {
        tables
            .iter()
            .filter_map(|table| table.rows.iter().find(|other| key(other) == key(row)))
            .collect()
    };
    let over = |row: &Row| {
        let found = over_seeds(of(row).iter().map(|row| row.figure.mean).collect());
        // What is known without error is so for every seed.
        let exact = found.interval.kind == Kind::NoneAllEqual
            && of(row).iter().all(|row| row.figure.kind == Kind::Exact);
        if exact {
            OverSeeds { interval: Interval::exact(found.interval.mean, found.interval.n), ..found }
        } else {
            found
        }
    };
    let figure = |row: &Row| Figure {
        method: row.method.clone(),
        with: None,
        test_set: row.test_set.clone(),
        metric: row.metric.clone(),
        over: over(row),
        p_holm: None,
        over_inputs: of(row)
            .iter()
            .filter(|row| !row.figure.low.is_nan())
            .map(|row| [row.figure.low, row.figure.high])
            .collect(),
    };
    let all: BTreeSet<_> = tables.iter().flat_map(|table| table.rows.iter().map(key)).collect();
    let has = |table: &Table, wanted: &_| table.rows.iter().any(|row| key(row) == *wanted);
    let lacking: BTreeSet<_> =
        all.into_iter().filter(|key| !tables.iter().all(|table| has(table, key))).collect();
    for (method, test_set, metric) in &lacking {
        warn(format!(
            "`{metric}` of `{method}` on `{test_set}` is not over seeds: with one of them no input \
             has two good samples"
        ));
    }
    let rows = tables[0].rows.iter().filter(|row| !lacking.contains(&key(row)));
    Ok(rows.map(figure).collect())
}

/// Every two methods with the same metric on the same test set, the later one first, seed by seed.
/// The p values of a metric are one family. Diversity of good samples is of other inputs of each
/// method, so there is no difference in it.
fn differences(figures: &[Figure]) -> Vec<Figure> {
    let mut found: Vec<Figure> = Vec::new();
    for (at, b) in figures.iter().enumerate().filter(|(_, one)| !is_of_good(&one.metric)) {
        for a in figures[at + 1..]
            .iter()
            .filter(|a| (&a.metric, &a.test_set) == (&b.metric, &b.test_set))
        {
            let values = a.over.values.iter().zip(&b.over.values).map(|(a, b)| a - b).collect();
            let (method, test_set, metric) =
                (a.method.clone(), a.test_set.clone(), a.metric.clone());
            let over = over_seeds(values);
            found.push(Figure {
                method,
                with: Some(b.method.clone()),
                test_set,
                metric,
                over,
                p_holm: None,
                over_inputs: Vec::new(),
            });
        }
    }
    let metrics: BTreeSet<String> = found.iter().map(|figure| figure.metric.clone()).collect();
    for metric in metrics {
        let family: Vec<&mut Figure> =
            found.iter_mut().filter(|figure| figure.metric == metric).collect();
        let corrected = holm(&family.iter().map(|figure| figure.over.p).collect::<Vec<f64>>());
        family.into_iter().zip(corrected).for_each(|(figure, p)| figure.p_holm = Some(p));
    }
    found
}
