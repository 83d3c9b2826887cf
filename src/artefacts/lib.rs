//! The files of artefacts that more than one module reads: names and types. A stage writes them;
//! other stages, the report and the commands read them. Samples are in `posttrain_data::samples`,
//! models in `posttrain_model::checkpoint`.
//!
//! | module | file | artefact |
//! |---|---|---|
//! | [`table`] | `table.json` | evaluation |
//! | [`inputs`] | `inputs.jsonl` | evaluation |
//! | [`comparisons`] | `comparisons.json` | evaluation |
//! | [`curves`] | `best_of_n.json`, `over_optimisation.json` | evaluation |
//! | [`quality`] | `quality.json`, `quality.jsonl` | evaluation |
//! | [`distributions`] | `distributions.json` | evaluation |
//! | [`optimum`] | `optimum.json` | evaluation |
//! | [`reward_model`] | `reward_model.json` | evaluation |
//! | [`temperatures`] | `temperatures.json` | evaluation |
//! | [`left_out`] | `left_out.json` | evaluation |
//! | [`seeds`] | `seeds.json` | evaluation over seeds |
//! | [`reference_logprobs`] | `SPLIT.jsonl` | reference log-probabilities |
//! | [`leaks`] | `leaks.json` | evaluation, samples, judgements |
//! | [`metric`] | `values.jsonl`, `metric.json` | metric |
//! | [`judgements`] | `judgements.jsonl`, `summary.json`, `items.jsonl` | judgements |
//! | [`people`] | `people.json` | evaluation |
//! | [`rollouts`] | `rollouts/` | policy of `ppo` |
//! | [`names`] | the others | |
//!
//! ```
//! use posttrain_artefacts::table::{Row, Table};
//! use posttrain_eval::interval::of_share;
//! let wins = of_share(&[1.0, 1.0, 0.0, 1.0]);
//! let table = Table { rows: vec![Row::new("ppo", "id", "win_rate", wins)], ..Table::default() };
//! assert_eq!(serde_json::from_str::<Table>(&table.json()).expect("it is a table"), table);
//! ```

use posttrain_eval as eval;
use posttrain_rl as rl;

pub mod attribution;
pub mod comparisons;
pub mod curves;
pub mod distributions;
pub mod inputs;
pub mod judgements;
pub mod leaks;
pub mod left_out;
pub mod metric;
pub mod names;
pub mod optimum;
pub mod people;
pub mod points;
pub mod quality;
pub mod reference_logprobs;
pub mod reward_model;
pub mod rollouts;
pub mod seeds;
pub mod table;
pub mod temperatures;
pub mod validation;
