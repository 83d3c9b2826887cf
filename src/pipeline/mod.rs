//! YAML to params, profiles, matrix to nodes. Every mistake is found here, before anything runs,
//! and shown where it is written. Does not know what a stage does; what a kind of stage needs to be
//! told it learns from its config struct.
//!
//! | module | what it is |
//! |---|---|
//! | [`diagnostic`] | places, mistakes, code frames, nearest names |
//! | [`yaml`], [`scalar`], [`decode`] | text to a spanned tree; what a scalar means; tree to typed values |
//! | [`extends`] | the file that a pipeline extends |
//! | [`document`], [`overrides`], [`params`] | the top level of the file; the options laid over it; `${param}` |
//! | [`matrix_section`] | the section `matrix` as it is written |
//! | [`matrix`], [`typed`], `rewrite`, [`expand`] | points of a sweep; a stage as its kind sees it; its references to those of a node; stages to nodes |
//! | [`selection`] | parts of a pipeline by name and by value |
//! | [`defaults`] | which fields are at their defaults, and so in no key |
//! | [`held_out`] | what must have had no part in something |
//! | [`lengths`] | rows that are too long for their models |
//! | [`memory`] | what nodes will take of the device |
//! | [`fetch`] | names of what is elsewhere to folders |
//! | [`registry`], `execute` | the kinds of stage, by name; the run of one stage |
//! | [`cache_section`] | the remote cache that a pipeline names |
//! | [`resolved`] | nodes written back as a pipeline |
//! | [`queue_file`] | the file about the queue of a cluster |
//! | [`edits`] | the edits between two graphs, and graphs with some of them |
//! | [`rebuild`] | nodes made of entries alone |
//! | [`names`] | names on the command line, whole or in part |
//! | [`schema`] | the form of a pipeline as a JSON Schema |

pub mod cache_section;
pub mod decode;
mod decode_error;
pub mod defaults;
pub mod diagnostic;
pub mod document;
pub mod edits;
mod execute;
pub mod expand;
pub mod extends;
pub mod fetch;
pub mod held_out;
pub mod lengths;
pub mod matrix;
pub mod matrix_section;
pub mod memory;
pub mod names;
pub mod overrides;
pub mod params;
pub mod queue_file;
pub mod rebuild;
pub mod registry;
pub mod resolved;
mod rewrite;
pub mod scalar;
pub mod schema;
pub mod selection;
pub mod typed;
pub mod yaml;
