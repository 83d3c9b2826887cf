//! Data: rows and files, templates, sources, checks, the built-in synthetic world, tokens and
//! batches. Uses no model and no back end.
//!
//! | module | what it is |
//! |---|---|
//! | [`rows`] | the row types and their JSONL files |
//! | [`dataset`] | a folder of splits |
//! | [`template`] | texts with named columns |
//! | [`tables`] | rows of files as JSON objects: JSONL, Parquet, CSV |
//! | [`layouts`] | the record layouts of public data sets |
//! | [`source`] | rows of any file, by layout or template, filter and share |
//! | [`halves`] | a split in two at the median of a score |
//! | [`contrast`] | preference pairs made from a reference and a worse text |
//! | [`census`] | what a split holds, in figures |
//! | [`decontamination`] | no test text in training, by content |
//! | [`lineage`] | what a model was trained on, by content |
//! | [`world`] | the synthetic worlds: forum posts and instructions, their writers and gold scores |
//! | [`tokens`] | a tokenizer: trained, saved, loaded |
//! | [`json`] | JSON values with their order and their digits |
//! | [`messages`] | the one reader of messages and tools |
//! | [`chat`] | chats as text, by the template that a model brings along |
//! | [`conversations`] | conversations as token sequences, the assistant's turns learned |
//! | [`tokenised`] | rows as token sequences with their response part |
//! | [`versus`] | two answers to one prompt, to be compared |
//! | [`sheet`] | judgements of people: a page, a table |
//! | [`batches`] | which rows make up which batch of an epoch |
//!
//! ```
//! use posttrain_data::tokens::Tokenizer;
//! # fn main() -> posttrain_base::error::Result<()> {
//! let tokenizer = Tokenizer::train(&["the cat sat on the mat"], 270)?;
//! let tokens = tokenizer.encode("the mat")?;
//! assert_eq!(tokenizer.decode(&tokens)?, "the mat");
//! # Ok(())
//! # }
//! ```

use posttrain_base::{check, error, fs, limits, random};
use posttrain_reference as reference;

mod bad_rows;
pub mod batches;
pub mod census;
pub mod chat;
pub mod contrast;
pub mod conversations;
pub mod dataset;
pub mod decontamination;
pub mod halves;
mod jinja;
pub mod json;
pub mod layouts;
pub mod lineage;
pub mod messages;
mod older_tokenizers;
mod parquet_rows;
pub mod rows;
pub mod samples;
mod separated;
pub mod sheet;
pub mod source;
mod special;
pub mod tables;
pub mod template;
mod token_files;
mod token_growth;
mod token_training;
pub mod tokenised;
pub mod tokens;
pub mod versus;
pub mod world;
