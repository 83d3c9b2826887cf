//! Data: rows and files, templates, sources, checks, rows as tokens, batches. Uses no model and no
//! back end.
//!
//! | module | what it is |
//! |---|---|
//! | [`rows`] | the row types and their JSONL files |
//! | [`dataset`] | a folder of splits |
//! | [`samples`] | the outputs of a policy for rows |
//! | [`template`] | texts with named columns |
//! | [`tables`] | rows of files as JSON objects: JSONL, Parquet, CSV |
//! | [`record_formats`] | the records of public data sets |
//! | [`record_content`] | what a record becomes |
//! | [`source`] | options: which rows of a file a split has |
//! | [`load`] | the rows that these options ask for |
//! | [`subset`] | rows of a split, picked by a score, a share, a number |
//! | [`contrast`] | preference pairs made from a reference and a worse text |
//! | [`census`] | what a split holds, in figures |
//! | [`decontamination`] | no test text in training, by content |
//! | [`lineage`] | what a model was trained on, by content |
//! | [`conversations`] | conversations as token sequences, the assistant's turns learned |
//! | [`tokenised`] | rows as token sequences with their response part |
//! | [`answer_pairs`] | two answers to one prompt, to be compared |
//! | [`study`] | what people are asked about, and who about which |
//! | [`sheet`] | judgements of people: a table |
//! | [`sheet_page`] | the page that fills it in |
//! | [`batches`] | which rows make up which batch of an epoch |
//!
//! ```
//! use posttrain_data::template::Template;
//! # fn main() -> posttrain_base::error::Result<()> {
//! let row = posttrain_base::json::parse(r#"{"title": "A cat"}"#).expect("it is JSON");
//! let template = Template::parse("TITLE: {title}\nTL;DR:")?;
//! assert_eq!(template.render(row.as_object().expect("it is an object"))?, "TITLE: A cat\nTL;DR:");
//! # Ok(())
//! # }
//! ```

use posttrain_base::{check, error, fs, json, limits, random};
use posttrain_reference as reference;
use posttrain_tokenizer as tokenizer;

pub mod answer_pairs;
mod bad_rows;
pub mod batches;
pub mod census;
pub mod contrast;
pub mod conversations;
pub mod dataset;
pub mod decontamination;
pub mod fitting;
pub mod lineage;
pub mod load;
mod message_records;
mod parquet_rows;
mod raw_rows;
pub mod record_content;
pub mod record_formats;
pub mod rows;
pub mod samples;
mod separated;
pub mod sheet;
pub mod sheet_page;
pub mod source;
pub mod study;
pub mod subset;
pub mod tables;
pub mod template;
pub mod tokenised;
