//! The transformer over a back end, and its checkpoints. Independent of devices and stages; only
//! `arch` names a model family.
//!
//! A [`weights::Model`] is a [`spec::Spec`] with tensors on a device. [`transformer`] takes tokens
//! to hidden states and back, [`heads`] takes hidden states to log-probabilities or scalars and
//! back; gradients are added into [`weights::Gradients`].
//!
//! ```
//! use posttrain_backend::{Backend, cpu::Cpu};
//! use posttrain_model::init::{Init, language_model};
//! use posttrain_model::params::HeadKind;
//! use posttrain_model::score::response_logprobs;
//! use posttrain_model::spec::Spec;
//! use posttrain_model::weights::Model;
//! // 16 tokens, width 8, 1 block, 2 heads, a feed-forward of 16, a context of 32.
//! let (b, spec) = (Cpu::<f32>::new(), Spec::decoder(16, 8, 1, 2, 16, 32));
//! let params = language_model(&spec, Init::Copying, 0);
//! let model = Model::upload(&b, spec.clone(), HeadKind::Language, params);
//! // Log-probabilities of the tokens after the first two.
//! let scored = response_logprobs(&b, &model, &[&[3, 1, 4, 1]], &[2], 1.0);
//! assert_eq!(scored[0].len(), 2);
//! ```

use posttrain_backend as backend;
use posttrain_base::{error, fs, limits, random};

mod activations;
pub mod arch;
pub mod attend;
mod attention;
pub mod batch;
mod block;
pub mod checkpoint;
pub mod embeddings;
mod feed_forward;
pub mod form;
pub mod heads;
pub mod init;
pub mod linear;
pub mod memory;
pub mod merge;
mod norm;
pub mod pairs;
pub mod params;
mod pass;
pub mod pickle;
pub mod pooling;
pub mod score;
pub mod spec;
pub mod tensor_writer;
pub mod tensors;
pub mod transformer;
mod unlike;
pub mod weights;
pub mod zip;
