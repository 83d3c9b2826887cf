//! A run, or what a stage of it needs, as one file that others can check: a tar archive, compressed
//! by zstd. Uses entries and objects; not what is in them.
//!
//! | in the archive | what |
//! |---|---|
//! | `manifest.json` | what there is: nodes with keys and objects, inputs, hashes of all other files |
//! | `prov.json` | the provenance, as W3C PROV-JSON |
//! | `run/` | the record of the run, its pipeline and what that extends |
//! | `documents/` | tables and the page of the run |
//! | `actions/KEY.json` | the entry of each node: what its key is made of |
//! | `objects/ID/` | the files of each artefact, unless its kind is left out |
//!
//! The same run gives the same bytes: files are sorted, and have no times, owners or permissions.

pub mod differs;
mod hashes;
pub mod manifest;
pub mod provenance;
pub mod read;
pub mod write;
