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
//! | [`data`] | rows, sources, templates, batches | models |
//! | [`tokenizer`] | texts to tokens and back, training, chat templates | rows |
//! | [`world`] | the synthetic worlds, their writers and gold scores | files, tokens |
//! | [`train`], [`rl`], [`sample`], [`eval`], [`report`] | trainer, RLHF arithmetic, generation, metrics, tables | stages, files of the store |
//! | [`artefacts`] | names and types of the files of artefacts that several modules read | how a file comes about |
//! | [`model`] | the transformer over a back end; checkpoints | devices, stages |
//! | [`inference`] | commands on rows: score, generate, embed, classify | arguments, files |
//! | [`serve`] | a server of a model with OpenAI's API | arguments, printing |
//! | [`bundle`] | a run as one file, and the check of such a file | what is in artefacts |
//! | [`bench`] | the speed of a back end | devices, clocks, printing |
//! | [`device`] | selects the back end, the only module to do so | the work on the device |
//! | [`backend`] | buffers and operations | files, config, clocks |
//! | [`endpoint`] | requests to a language model on another server, each sent once | the content of requests |
//! | [`hub`] | downloads of models and datasets by name and of files by address, into the cache that other tools share | the content of files; pipelines |
//! | [`remote`] | a cache of artefacts that several hosts share | runs, stages |
//! | [`reference`](mod@reference) | the typed references of configs | stage kinds |
//! | [`error`], [`check`], [`fs`], [`json`], [`limits`], [`random`] | utilities for all modules: kinds of error, values out of range, files, JSON, bounds, draws | everything above |

pub use posttrain_artefacts as artefacts;
pub use posttrain_backend as backend;
pub use posttrain_base::{check, error, fs, json, limits, random};
pub use posttrain_dag as dag;
pub use posttrain_data as data;
pub use posttrain_eval as eval;
pub use posttrain_model as model;
pub use posttrain_reference as reference;
pub use posttrain_remote as remote;
pub use posttrain_report as report;
pub use posttrain_rl as rl;
pub use posttrain_sample as sample;
pub use posttrain_tokenizer as tokenizer;
pub use posttrain_train as train;
pub use posttrain_world as world;

pub mod bench;
pub mod bundle;
pub mod cli;
pub mod device;
pub mod endpoint;
pub mod hub;
pub mod inference;
pub mod pipeline;
pub mod serve;
pub mod stages;
