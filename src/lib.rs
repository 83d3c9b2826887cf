//! posttrain: a declarative DAG runner for the post-training of language models.
//!
//! The map. `cli -> pipeline -> stages -> {train, rl, sample, eval, data, model} -> backend`, and
//! `pipeline -> dag`. `docs/architecture.md` lists the imports that each module may have; a test
//! checks them.
//!
//! | module | what it does | what it is independent of |
//! |---|---|---|
//! | [`cli`] | commands, from arguments to exit codes; the only module that prints | methods of all kinds |
//! | [`pipeline`] | builds a graph of nodes from YAML with params, profiles and a matrix | what a stage computes |
//! | [`dag`] | keys, store, plan, run | machine learning: no tensor, no token |
//! | [`stages`] | one file per stage kind | other stage kinds |
//! | [`data`] | rows, sources, templates, the synthetic worlds | models |
//! | [`train`], [`rl`], [`sample`], [`eval`], [`report`] | trainer, RLHF arithmetic, generation, metrics, tables | stages, files of the store |
//! | [`model`] | the transformer over a back end; checkpoints | devices, stages |
//! | [`inference`] | commands on rows: score, generate, embed, classify | arguments, files |
//! | [`serve`] | a server of a model with OpenAI's API | arguments, printing |
//! | [`bench`] | the speed of a back end | devices, clocks, printing |
//! | [`device`] | selects the back end, the only module to do so | the work on the device |
//! | [`backend`] | buffers and operations | files, config, clocks |
//! | [`endpoint`] | requests to a language model on another server, each sent once | the content of requests |
//! | [`hub`] | downloads of models and datasets by name and of files by address, into the cache that other tools share | the content of files; pipelines |
//! | [`reference`](mod@reference) | the typed references of configs | stage kinds |
//! | [`error`], [`check`], [`fs`], [`limits`], [`random`] | utilities for all modules: kinds of error, values out of range, files, bounds, draws | everything above |

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
