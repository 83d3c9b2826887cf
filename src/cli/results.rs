//! `results`: figures of the evaluations of all runs, in one table.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use clap::{Args, ValueEnum};

use super::common::{Cache, columns, print, tell};
use super::load_run::{figures_alone, pipeline_name};
use super::names::{LATEST, named};
use super::number_format::count;
use crate::dag::digest::{ActionKey, ObjectId};
use crate::dag::store::Store;
use crate::error::{Result, user};
use crate::reference::{Artefact, Evaluation as EvaluationKind};
use crate::report::query::Term;
use crate::report::results::{Evaluated, Mistake, Results};
use crate::report::run::Evaluation;

/// List figures of the evaluations of all runs that a query chooses
#[derive(Args)]
#[command(after_help = "\
Terms: NAME=VALUE, or !=, <, <=, >, >=. Names: pipeline, run, evaluation, method, set, metric, kind,
with, and every axis of a sweep or param of `--set` (axis_NAME where a name above has it). A value
may be a range (seed=0..4) or have * and ?. Several terms with = of one name are alternatives;
all others have to hold. Without a term of kind, results alone are listed, no comparisons
(kind=difference, kind=*).

  posttrain results metric=gold method=ppo --format csv
  posttrain results metric=gold set=id 'kl<0.1' --latest --pivot kl")]
pub struct Arguments {
    /// What to list; everything without a term
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
    /// A table for a terminal, one line a figure with a column an axis, or a list of objects
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// An evaluation that several runs have is shown of the latest of them alone
    #[arg(long)]
    latest: bool,
    /// A column a value of this axis or name; runs are left out. CSV has means alone
    #[arg(long, value_name = "NAME")]
    pivot: Option<String>,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal
    Table,
    /// One line a figure
    Csv,
    /// A list of objects
    Json,
}

/// Prints the figures.
pub fn main(arguments: &Arguments) -> Result<()> {
    let mistaken = |Mistake { message, hint }: Mistake| user(message).hint(hint);
    if arguments.pivot.is_some() && arguments.format == Format::Json {
        return Err(user("--pivot is for tables and CSV")
            .hint("JSON has the axes of every figure under `axes`")
            .into());
    }
    let store = arguments.cache.open()?;
    let all = evaluated(&store)?;
    let terms = arguments.query.iter().map(|text| Term::read(text)).collect::<Result<_, _>>();
    let mut terms: Vec<Term> = terms.map_err(|message| {
        user(message).hint("a query is made of terms such as metric=gold, seed=0..4, 'kl<0.1'")
    })?;
    let ids: BTreeSet<&str> = all.iter().map(|evaluated| evaluated.run.as_str()).collect();
    for term in terms.iter_mut().filter(|term| term.name == "run") {
        // A pattern is no name of a run.
        let named = match term.value.as_str() {
            LATEST => all.last().map(|latest| latest.run.clone()),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                named(number, ids.iter().copied())?
            }
            _ => None,
        };
        term.value = named.unwrap_or_else(|| term.value.clone());
    }
    let mut results = Results::of(&all, &terms).map_err(mistaken)?;
    match results.repeated() {
        0 => {}
        _ if arguments.latest => results = results.latest(),
        repeated => tell(&format!(
            "{} of several runs; --latest shows each once",
            if repeated == 1 {
                "1 evaluation is".to_owned()
            } else {
                format!("{repeated} evaluations are")
            }
        )),
    }
    let table = |(common, lines): (String, Vec<Vec<String>>)| match common.is_empty() {
        true => columns(&lines),
        false => format!("{common}\n{}", columns(&lines)),
    };
    let text = match (&arguments.pivot, arguments.format) {
        (None, Format::Table) => table(results.table()),
        (None, Format::Csv) => results.csv(),
        (_, Format::Json) => results.json(),
        (Some(name), Format::Table) => table(results.pivot(name).map_err(mistaken)?.table()),
        (Some(name), Format::Csv) => results.pivot(name).map_err(mistaken)?.csv(),
    };
    print(&text)
}

/// Every evaluation of every run, in the order of runs and of their graphs. Each artefact and each
/// entry is read once. One that is no longer in the cache is said to be left out.
fn evaluated(store: &Store) -> Result<Vec<Evaluated>> {
    let mut found = Vec::new();
    let mut read: BTreeMap<(ObjectId, String), Option<Rc<Evaluation>>> = BTreeMap::new();
    let mut kinds: BTreeMap<ActionKey, bool> = BTreeMap::new();
    let mut gone = 0;
    for record in store.records()? {
        let pipeline = pipeline_name(store, &record);
        let file = record.invocation.pipeline.file_stem().unwrap_or_default();
        let places: BTreeMap<&str, usize> =
            record.graph.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        let mut nodes: Vec<_> = record.nodes.iter().collect();
        nodes.sort_by_key(|node| places.get(node.name.as_str()).copied().unwrap_or(usize::MAX));
        for node in nodes {
            let (Some(key), Some(object)) = (node.key, node.object) else { continue };
            let is_evaluation = match kinds.get(&key) {
                Some(is_evaluation) => *is_evaluation,
                None => {
                    let entry = store.entry(key)?;
                    let is = entry.is_some_and(|entry| entry.output == EvaluationKind::KIND);
                    kinds.insert(key, is);
                    is
                }
            };
            if !is_evaluation {
                continue;
            }
            let folder = store.object_path(object);
            if !folder.exists() {
                gone += 1;
                continue;
            }
            let place = (object, node.name.clone());
            let evaluation = match read.get(&place) {
                Some(evaluation) => evaluation.clone(),
                None => {
                    let evaluation = figures_alone(&node.name, &folder)?.map(Rc::new);
                    read.insert(place, evaluation.clone());
                    evaluation
                }
            };
            found.extend(evaluation.map(|evaluation| Evaluated {
                pipeline: pipeline.clone(),
                file: file.to_string_lossy().into_owned(),
                run: record.id.clone(),
                options: record.invocation.options.clone(),
                object: object.to_string(),
                evaluation,
            }));
        }
    }
    if gone > 0 {
        tell(&format!("{} of runs left out: no longer in the cache", count(gone, "evaluation")));
    }
    match found.is_empty() {
        true => Err(user(format!("no run in {} has an evaluation", store.root().display()))
            .hint("run a pipeline first, or give `--cache`")
            .into()),
        false => Ok(found),
    }
}
