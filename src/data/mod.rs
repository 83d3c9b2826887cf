//! Data: rows and files, templates, sources, checks, the built-in synthetic world, tokens and batches. Knows no model and no back end.
//!
//! | module | what it is |
//! |---|---|
//! | [`rows`] | the row types and their JSONL files |
//! | [`dataset`] | a folder of splits |
//! | [`template`] | texts with named columns |
//! | [`source`] | rows of any JSONL file, by template, filter and share |
//! | [`contrast`] | preference pairs made from a reference and a worse text |
//! | [`hygiene`] | no test text in training, by content |
//! | [`world`] | the synthetic world of forum posts, its writers and its gold score |
//! | [`tokens`] | a tokenizer: trained, saved, loaded |
//! | [`chat`] | chats as text, by the template that a model brings along |
//! | [`tokenised`] | rows as token sequences with their response part |
//! | [`versus`] | two answers to one prompt, to be compared |
//! | [`sheet`] | judgements of people: a page, a table |
//! | [`batches`] | which rows make up which batch of an epoch |

pub mod batches;
pub mod chat;
pub mod contrast;
pub mod dataset;
pub mod hygiene;
mod jinja;
mod older_tokenizers;
pub mod rows;
pub mod samples;
pub mod sheet;
pub mod source;
mod special;
pub mod template;
mod token_files;
mod token_training;
pub mod tokenised;
pub mod tokens;
pub mod versus;
pub mod world;
