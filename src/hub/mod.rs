//! Models by name: `hub:owner/name@revision` to a local folder with the files that a model needs. Knows nothing of what is in them,
//! of pipelines, and of stages.
//!
//! | module | what it is |
//! |---|---|
//! | [`name`] | the text that names a model |
//! | [`settings`] | the environment: where the cache lies, which hub, which token, whether it may be asked |
//! | [`files`] | which files of a repository a model needs |
//! | [`cache`] | the cache that all tools of the hub share |
//! | [`client`], [`refusal`] | questions over HTTP; what it means that the hub says no |
//! | [`download`] | one file, whole or not at all |
//! | [`resolve`](mod@resolve) | all of it, in order |
//!
//! 1. A branch or tag is asked for each time, so that it means what it means now; a commit is asked for once. What the hub holds at
//!    a commit is noted in the cache.
//! 2. If the hub cannot be asked, what the cache holds of the model will do, if it is all there. With `HF_HUB_OFFLINE` the hub is not
//!    asked at all.
//! 3. Addresses and the layout of the cache are those of the `hf-hub` crate. Its downloads are not used: they check no checksum, add
//!    a whole answer to what is there if a range is not honoured, send the token on to other hosts, and tell refusals by their status
//!    alone.

pub mod cache;
pub mod client;
pub mod download;
pub mod files;
pub mod name;
pub mod refusal;
pub mod resolve;
pub mod settings;

pub use self::name::Name;
pub use self::resolve::{Progress, Tell, fetch, find, resolve};
pub use self::settings::Settings;
