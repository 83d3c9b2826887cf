//! Training: the optimiser, learning-rate schedules, the loop of steps with checkpoints and resume,
//! and the algorithms: language modelling, preference pairs, policy optimisation. Independent of
//! stages and of the files that rows come from.
//!
//! ```
//! use posttrain_backend::cpu::Cpu;
//! use posttrain_data::tokenised::Tokenised;
//! use posttrain_model::init::{Init, language_model};
//! use posttrain_model::params::{HeadKind, Trainable};
//! use posttrain_model::{spec::Spec, weights::Model};
//! use posttrain_train::{language, optimiser::{TrainState, OptimiserConfig}};
//! # fn main() -> posttrain_base::error::Result<()> {
//! let (b, spec) = (Cpu::<f32>::new(), Spec::decoder(16, 8, 1, 2, 16, 32));
//! let params = language_model(&spec, Init::Copying, 0);
//! let model = Model::upload(&b, spec.clone(), HeadKind::Language, params);
//! let mut state = TrainState::new(&b, &model, Trainable::ALL)?;
//! let config = r#"{"learning_rate": 0.01}"#;
//! let config: OptimiserConfig = serde_json::from_str(config).expect("a rate alone");
//! // A prompt of one token; the three tokens of the response are learned.
//! let row = Tokenised { tokens: vec![3, 1, 4, 1], prompt: 1, ..Tokenised::default() };
//! let mut losses = Vec::new();
//! for _ in 0..2 {
//!     state.clear_gradients(&b);
//!     losses.push(language::accumulate(&b, &mut state, &[&row])[0].1);
//!     state.update(&b, &config, 0.01, 1.0, |_| true);
//! }
//! assert!(losses[1] < losses[0]);
//! # Ok(())
//! # }
//! ```

use posttrain_artefacts as artefacts;
use posttrain_backend as backend;
use posttrain_base::{check, error, fs, random};
use posttrain_dag as dag;
use posttrain_data as data;
use posttrain_model as model;
use posttrain_rl as rl;
use posttrain_tokenizer as tokenizer;

pub mod answers;
pub mod archive;
pub mod average;
pub mod classifier;
pub mod critic;
pub mod direct;
pub mod distill;
pub mod group;
pub mod kl_stops;
pub mod kto;
pub mod language;
pub mod minimise;
pub mod online;
pub mod optimiser;
mod policy_gradient;
mod policy_pass;
pub mod policy_training;
pub mod ppo;
pub mod ppo_options;
pub mod preference;
pub mod reward;
pub mod rollouts;
pub mod schedule;
pub mod steps;
pub mod supervised;
pub mod text_pairs;
pub mod trunk;
pub mod validation;
pub mod winners;
