//! What goes over seeds: the files of one evaluation as a list of named values, each with its own
//! interval, and the values of every input behind one of them. Knows no other seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::artefacts::comparisons::{COMPARISONS, Comparisons};
use crate::artefacts::inputs::{INPUTS, Input};
use crate::artefacts::quality::is_of_good;
use crate::artefacts::seeds::Quantity;
use crate::artefacts::table::{Row, TABLE, Table};
use crate::error::{Context as _, Result, user};
use crate::eval::compare::{Gap, Matched};
use crate::eval::gains::GainGap;
use crate::eval::interval::{Interval, average};
use crate::fs;

/// What a value is of: one name a value in each evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) quantity: Quantity,
    pub(super) metric: String,
    pub(super) method: String,
    /// What is subtracted from `method`.
    pub(super) with: Option<String>,
    pub(super) test_set: String,
    /// The test set that is subtracted from `test_set`.
    pub(super) to: Option<String>,
}

/// One value of one evaluation.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) value: f64,
    /// Over the inputs of this evaluation, where there is one.
    pub(super) own: Option<Interval>,
}

/// The files of one evaluation.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    pub(super) table: Table,
    comparisons: Comparisons,
    /// By test set: the prompts, in order.
    prompts: BTreeMap<String, Vec<String>>,
    /// By test set, method and metric: the inputs' scores, in the order of the prompts.
    scores: BTreeMap<(String, String, String), Vec<Option<f64>>>,
}

impl Files {
    /// The table of the evaluation in a folder.
    pub(super) fn table(folder: &Path) -> Result<Self> {
        Ok(Files { table: json(&folder.join(TABLE))?, ..Files::default() })
    }

    /// All files of it.
    pub(super) fn all(folder: &Path) -> Result<Self> {
        let needed = |name: &str| -> Result<(Vec<u8>, PathBuf)> {
            let file = folder.join(name);
            match fs::read_if_exists(&file)? {
                Some(bytes) => Ok((bytes, file)),
                None => Err(user(format!("`statistics: full` needs {}", file.display()))
                    .hint("give evaluations that the stage `evaluate` made")
                    .into()),
            }
        };
        let (bytes, file) = needed(COMPARISONS)?;
        let comparisons =
            serde_json::from_slice(&bytes).with_context(|| format!("in {}", file.display()))?;
        let mut found = Files { comparisons, ..Files::table(folder)? };
        let (bytes, file) = needed(INPUTS)?;
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if !line.is_empty() {
                let input: Input = serde_json::from_slice(line)
                    .with_context(|| format!("in {}, line {}", file.display(), at + 1))?;
                found.add(input);
            }
        }
        Ok(found)
    }

    fn add(&mut self, input: Input) {
        let prompts = self.prompts.entry(input.test_set.clone()).or_default();
        for answer in input.answers {
            for (metric, score) in answer.scores {
                let key = (input.test_set.clone(), answer.method.clone(), metric);
                let scores = self.scores.entry(key).or_default();
                // Inputs before this one that lack it.
                scores.resize(prompts.len(), None);
                scores.push(score);
            }
        }
        prompts.push(input.prompt);
    }

    /// The test sets that have inputs.
    pub(super) fn test_sets(&self) -> impl Iterator<Item = &String> {
        self.prompts.keys()
    }

    /// The prompts of a test set; none where it has no inputs.
    pub(super) fn prompts(&self, test_set: &str) -> &[String] {
        self.prompts.get(test_set).map_or(&[], Vec::as_slice)
    }

    /// What the table has: every figure, and every difference of two methods with the same metric
    /// on the same test set, the later one first. Diversity of good samples is of other inputs of
    /// each method, so there is no difference in it; likewise a metric of the user's on a test set
    /// of which some method lacks numbers.
    pub(super) fn of_table(&self) -> Vec<Entry> {
        let rows = &self.table.rows;
        let level = |row: &Row| Entry {
            name: Name {
                quantity: Quantity::Level,
                metric: row.metric.clone(),
                method: row.method.clone(),
                with: None,
                test_set: row.test_set.clone(),
                to: None,
            },
            value: row.figure.mean,
            own: Some(row.figure),
        };
        let mut found: Vec<Entry> = rows.iter().map(level).collect();
        let is_paired = |row: &Row| {
            let own = self.table.own(&row.metric);
            let partial = own.is_some_and(|own| own.partial.contains(&row.test_set));
            !is_of_good(&row.metric) && !partial
        };
        for (at, b) in rows.iter().enumerate().filter(|(_, row)| is_paired(row)) {
            let same = |a: &&Row| (&a.metric, &a.test_set) == (&b.metric, &b.test_set);
            for a in rows[at + 1..].iter().filter(same) {
                let name = Name {
                    quantity: Quantity::Difference,
                    with: Some(b.method.clone()),
                    ..level(a).name
                };
                let value = a.figure.mean - b.figure.mean;
                found.push(Entry { own: self.difference(&name, value), name, value });
            }
        }
        found
    }

    /// The interval over inputs of a difference, where the evaluation has this one.
    fn difference(&self, name: &Name, value: f64) -> Option<Interval> {
        let all = self.comparisons.differences.iter();
        let mut own = all.filter(|one| {
            (&one.metric, &one.test_set, &one.method)
                == (&name.metric, &name.test_set, &name.method)
                && Some(&one.with) == name.with.as_ref()
        });
        own.next().map(|one| one.interval).filter(|interval| is_same(interval.mean, value))
    }

    /// What the comparisons have beside differences. A further list of theirs is a line here and
    /// a function below.
    pub(super) fn of_comparisons(&self) -> Vec<Entry> {
        let Comparisons { gaps, gains, matched, .. } = &self.comparisons;
        let gaps = gaps.iter().map(gap).chain(gains.iter().map(gain_gap));
        gaps.chain(matched.iter().flat_map(at_equal_kl)).collect()
    }

    /// The values of every input behind a value: for each test set the sign with which it counts,
    /// and a value an input. `None` where the inputs have no values of it, or others: their mean is
    /// not the value.
    pub(super) fn behind(&self, entry: &Entry) -> Option<Vec<(f64, Vec<f64>)>> {
        let Name { quantity, metric, method, with, test_set, to } = &entry.name;
        match quantity {
            Quantity::Level | Quantity::Difference | Quantity::Gap | Quantity::GainGap => {}
            // Of samples, not of the outputs that inputs have scores of.
            Quantity::Matched
            | Quantity::MatchedOwn
            | Quantity::MatchedBest
            | Quantity::MatchedKl => return None,
        }
        let scores = |method: &str, test_set: &str| -> Option<Vec<f64>> {
            let key = (test_set.to_owned(), method.to_owned(), metric.clone());
            let scores = self.scores.get(&key)?;
            let all = scores.len() == self.prompts(test_set).len();
            scores.iter().copied().collect::<Option<Vec<f64>>>().filter(|_| all)
        };
        let of = |test_set: &str| -> Option<Vec<f64>> {
            let own = scores(method, test_set)?;
            let Some(with) = with else { return Some(own) };
            Some(own.iter().zip(scores(with, test_set)?).map(|(a, b)| a - b).collect())
        };
        let mut found = vec![(1.0, of(test_set)?)];
        if let Some(to) = to {
            found.push((-1.0, of(to)?));
        }
        let mean = found.iter().map(|(sign, values)| sign * average(values)).sum();
        is_same(mean, entry.value).then_some(found)
    }
}

fn json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    serde_json::from_str(&fs::read_to_string(file)?)
        .with_context(|| format!("in {}", file.display()))
}

/// Whether two figures are one, computed in two ways.
fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

fn gap(gap: &Gap) -> Entry {
    Entry {
        name: Name {
            quantity: Quantity::Gap,
            metric: gap.metric.clone(),
            method: gap.method.clone(),
            with: None,
            test_set: gap.from.clone(),
            to: Some(gap.to.clone()),
        },
        value: gap.interval.mean,
        own: Some(gap.interval),
    }
}

fn gain_gap(gap: &GainGap) -> Entry {
    Entry {
        name: Name {
            quantity: Quantity::GainGap,
            metric: gap.metric.clone(),
            method: gap.method.clone(),
            with: Some(gap.with.clone()),
            test_set: gap.from.clone(),
            to: Some(gap.to.clone()),
        },
        value: gap.interval.mean,
        own: Some(gap.interval),
    }
}

/// The difference, and what it is between.
fn at_equal_kl(matched: &Matched) -> Vec<Entry> {
    let of = &matched.difference;
    let one = |quantity: Quantity, value: f64, own: Option<Interval>| Entry {
        name: Name {
            quantity,
            metric: of.metric.clone(),
            method: of.method.clone(),
            with: Some(of.with.clone()),
            test_set: of.test_set.clone(),
            to: None,
        },
        value,
        own,
    };
    vec![
        one(Quantity::Matched, of.interval.mean, Some(of.interval)),
        one(Quantity::MatchedOwn, matched.own, None),
        one(Quantity::MatchedBest, matched.best, None),
        one(Quantity::MatchedKl, matched.kl, Some(matched.kl_interval)),
    ]
}
