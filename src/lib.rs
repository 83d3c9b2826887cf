//! posttrain: a declarative DAG runner for the post-training of language models.
//!
//! The map. `cli -> pipeline -> stages -> {train, rl, sample, eval, data, model} -> backend`, and
//! `pipeline -> dag`; what each may import in full is in `docs/architecture.md`, and a test keeps
//! it.
//!
//! | module | what it is | what it does not know |
//! |---|---|---|
//! | [`cli`] | arguments to commands to exit codes; the only one that prints | how anything is done |
//! | [`pipeline`] | YAML to params, profiles, matrix to nodes | what a stage does |
//! | [`dag`] | keys, store, plan, run | ML: no tensor, no token |
//! | [`stages`] | one file a stage kind | other stages |
//! | [`data`] | rows, sources, templates, the synthetic worlds | models |
//! | [`train`], [`rl`], [`sample`], [`eval`], [`report`] | trainer, RLHF arithmetic, generation, metrics, tables | stages, files of the store |
//! | [`model`] | the transformer over a back end; checkpoints | devices, stages |
//! | [`inference`] | rows in, rows out: score, generate, embed, classify | arguments, files |
//! | [`serve`] | a model as a server that speaks OpenAI's API | arguments, printing |
//! | [`bench`] | how fast a back end is | devices, clocks, printing |
//! | [`device`] | the one place that picks a back end | what runs on it |
//! | [`backend`] | buffers and operations | files, config, clocks |
//! | [`endpoint`] | questions to a language model elsewhere, each asked once | what is asked |
//! | [`hub`] | models and datasets by name, files by address: downloads into the cache that other tools share | what is in their files; pipelines |
//! | [`reference`](mod@reference) | the typed references of configs | stage kinds |
//! | [`error`], [`check`], [`fs`], [`limits`], [`random`] | what anyone may use: kinds of error, values out of range, files, bounds, draws | everything above |

pub mod backend;
pub mod bench;
pub mod check;
pub mod cli;
pub mod dag;
pub mod data;
pub mod device;
pub mod endpoint;
pub mod error;
pub mod eval;
pub mod fs;
pub mod hub;
pub mod inference;
pub mod limits;
pub mod model;
pub mod pipeline;
pub mod random;
pub mod reference;
pub mod report;
pub mod rl;
pub mod sample;
pub mod serve;
pub mod stages;
pub mod train;
