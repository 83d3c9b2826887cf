//! The transformer over a back end, and its checkpoints. Independent of devices and stages; only
//! `arch` names a model family.
//!
//! A [`weights::Model`] is a [`spec::Spec`] with tensors on a device. [`transformer`] takes tokens
//! to hidden states and back, [`heads`] takes hidden states to log-probabilities or scalars and
//! back; gradients are added into [`weights::Gradients`].

pub mod arch;
mod block;
pub mod checkpoint;
pub mod form;
pub mod heads;
pub mod init;
pub mod memory;
pub mod pairs;
pub mod params;
pub mod pickle;
pub mod pooling;
pub mod score;
pub mod spec;
pub mod tensors;
pub mod transformer;
mod unlike;
pub mod weights;
pub mod zip;
