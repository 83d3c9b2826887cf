//! A cache of artefacts that several hosts share: entries and objects in a store of S3, Google
//! Cloud, Azure, on a plain HTTP server with PUT, or in a folder. Uses nothing of runs and stages.
//!
//! | module | what it is |
//! |---|---|
//! | [`settings`] | which remote, what may be done with it, whom to trust |
//! | [`keys`] | keys that sign entries, and those that are trusted |
//! | [`shared`] | the remote of a run: looks up, pulls, pushes |
//! | [`audit`] | checks all that a remote has |
//! | `layout`, [`manifest`], [`entries`], `objects` | names in the remote; the files of an object; entries with signatures; transfers |
//! | `client`, `location`, `http` | reads and writes by name; the store of an address; requests |
//!
//! `docs/remote.md` has the layout, the guarantees and whom one has to trust.

use posttrain_base::{error, fs};
use posttrain_dag as dag;

pub mod audit;
mod client;
pub mod entries;
mod http;
pub mod keys;
mod layout;
mod location;
pub mod manifest;
mod objects;
pub mod settings;
pub mod shared;
