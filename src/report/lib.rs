//! The results of a run, as strings: the result table (text, Markdown, CSV, LaTeX, JSON) and the
//! page. Knows no stages and no files.
//!
//! | module | what it is |
//! |---|---|
//! | [`table`] | the result table, for a terminal and in Markdown |
//! | [`metrics`] | what every figure is: heading, unit, direction, definition |
//! | [`run`] | all that is known of a run, as its reader hands it over |
//! | [`charts`], [`training`], [`graph`] | what is drawn: results, curves of training, the graph; one function a chart |
//! | [`page`] | one HTML file of all of it; its style and its behaviour are `page.css` and `page.js` |
//! | [`diff`] | two runs side by side |
//! | [`judges`] | who judged, in words, and what verdicts amount to |
//! | [`significance`], [`seeds`], [`optimum`], [`attribution`] | significant differences; figures over seeds of training; the optimum of the objective; what each stage changed |
//! | [`sweeps`] | figures along the axes of sweeps, and comparisons of neighbouring values |
//! | [`people`] | how often measures pick what people picked |
//! | [`sentinels`] | the sentinels of training that fired |
//! | [`summary`], [`text`] | what a terminal shows: findings in a few lines; an evaluation |
//! | [`formats`], [`latex`] | the tables in other languages, laid out by [`layout`] |
//! | [`figures`], [`csv`] | all figures in one list, each with its point of a sweep; that list as CSV |
//! | [`results`], [`query`] | figures of many runs in one table; the terms that choose them |
//! | [`select`] | a part of a run: some metrics, methods, test sets |
//!
//! ```
//! use posttrain_artefacts::table::{Row, Table};
//! use posttrain_eval::interval::of_share;
//! use posttrain_report::table::markdown;
//! let wins = of_share(&[1.0, 1.0, 0.0, 1.0]);
//! let table = Table { rows: vec![Row::new("ppo", "id", "win_rate", wins)], ..Table::default() };
//! assert!(markdown(&table).contains("ppo"));
//! ```

use posttrain_artefacts as artefacts;
use posttrain_base::random;
use posttrain_eval as eval;
use posttrain_rl as rl;

mod attribution;
pub mod charts;
mod csv;
mod definition;
pub mod diff;
pub mod figures;
pub mod formats;
mod graded_metrics;
pub mod graph;
pub mod judges;
pub mod latex;
mod layout;
pub mod metrics;
mod optimum;
mod packed;
pub mod page;
mod people;
pub mod query;
pub mod results;
pub mod run;
mod samples;
pub mod seeds;
pub mod select;
pub mod sentinels;
mod shown;
mod significance;
pub mod summary;
mod sweeps;
pub mod table;
pub mod text;
pub mod training;
mod training_metrics;
mod validated_metrics;
