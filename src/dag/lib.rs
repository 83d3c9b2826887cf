//! The engine: nodes, action keys, the store, plans and runs. Uses bytes, paths and names; no ML.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`], [`request`], [`dispatch`] | what the engine is given: nodes, those that are wanted, the code of stages |
//! | [`context`] | what a running stage is given |
//! | [`key`], [`digest`] | the action key and its preimage; digests |
//! | [`topology`] | edges, order, targets, cycles |
//! | [`tree`], [`inputs`] | content of folders; content of files from outside, remembered by their stat |
//! | [`logs`] | what nodes print |
//! | [`store`], [`entry`], [`action`], [`object`], [`work`], [`lock`] | what was made, whole or not at all, once |
//! | [`derived`] | what was derived from objects, remembered |
//! | [`object_store`], [`object_folder`] | where objects are kept: the interface, the local folder |
//! | [`remote_cache`], [`pulls`] | a cache that several hosts share: the interface, what a run knows of it; what is pulled |
//! | [`presence`], [`watch`], [`processes`] | runs at work in a store, on this host and on others; processes and their descendants |
//! | [`plan`], [`explain`], [`compare`] | what would run, and why; what an edit changes |
//! | [`accept`], [`tags`] | results declared equal; names of runs and artefacts |
//! | [`run`], [`options`], [`observer`], [`outcome`] | running it: options, progress, outcome |
//! | [`executor`], [`process`], [`in_process`] | what runs nodes: the interface, processes, threads |
//! | [`cluster`] | the executor whose jobs are those of a cluster's queue |
//! | [`order`], [`exec`], [`reports`] | what a node's process is given, what it does, what it reports |
//! | [`cancellation`], [`stop`] | the request to end, of a node and of the run (Ctrl-C) |
//! | [`events`], [`clock`] | figures of a running stage, for those who watch; the time |
//! | [`record`], [`gc`] | what each invocation did; what nothing refers to any more |
//!
//! A stage is any code that writes a folder; here, one that writes its `text`. The second run finds
//! what the first has made.
//!
//! ```
//! use posttrain_base::error::Result;
//! use posttrain_dag::context::Context;
//! use posttrain_dag::dispatch::Dispatch;
//! use posttrain_dag::in_process::InProcessExecutor;
//! use posttrain_dag::node::{Graph, Node, Numerics};
//! use posttrain_dag::options::Options;
//! use posttrain_dag::record::Ending;
//! use posttrain_dag::request::Request;
//! use posttrain_dag::run::run;
//! use posttrain_dag::store::Store;
//! use serde_json::{Value, json};
//!
//! struct Write;
//!
//! impl Dispatch for Write {
//!     fn execute(&self, _: &str, _: &Value, config: Value, context: &Context) -> Result<()> {
//!         let text = config["text"].as_str().unwrap_or_default();
//!         posttrain_base::fs::write_atomic(&context.out().join("text"), text.as_bytes())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(&folder.path().join("cache"))?;
//! let graph = Graph { nodes: vec![Node::new("hello", "write", json!({"text": "hello"}))] };
//! let numerics = Numerics { device: None, host: "any machine" };
//! let request = Request { graph: &graph, targets: &[], numerics };
//! let mut endings = Vec::new();
//! for _ in 0..2 {
//!     let executor = InProcessExecutor(&Write);
//!     let outcome = run(&store, request, &Options::default(), &executor, &mut (), None)?;
//!     endings.push(outcome.nodes[0].ending);
//! }
//! assert_eq!(endings, [Ending::Ran, Ending::Cached]);
//! # Ok(())
//! # }
//! ```

use posttrain_base::{error, fs};

pub mod accept;
pub mod action;
mod by_name;
pub mod cancellation;
mod checked;
pub mod clock;
pub mod cluster;
pub mod compare;
pub mod context;
pub mod derived;
pub mod digest;
pub mod dispatch;
pub mod entry;
pub mod events;
pub mod exec;
pub mod executor;
pub mod explain;
pub mod gc;
pub mod in_process;
pub mod inputs;
mod job;
pub mod key;
pub mod lock;
pub mod logs;
pub mod node;
pub mod object;
pub mod object_folder;
pub mod object_store;
pub mod observer;
pub mod options;
pub mod order;
pub mod outcome;
mod placement;
pub mod plan;
mod prepared;
pub mod presence;
pub mod price;
pub mod process;
pub mod processes;
pub mod pulls;
mod pushes;
pub mod record;
pub mod remote_cache;
pub mod reports;
pub mod request;
pub mod run;
mod scheduler;
mod states;
pub mod stop;
pub mod store;
pub mod tags;
mod taken;
pub mod topology;
pub mod tree;
pub mod watch;
pub mod work;
