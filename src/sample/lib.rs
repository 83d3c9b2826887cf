//! Generation: prompts to samples with their log-probabilities; [`continuous`]: the loop that makes
//! them, for prompts that come and go; [`scoring`]: many responses to one prompt. Knows no text and
//! no reward.
//!
//! Details that matter:
//! 1. A prompt is prefilled once by the ordinary forward pass. Its full cache blocks are shared by
//!    its samples; the last, partly filled one is copied for each of them.
//! 2. Rows leave the batch as they end, and waiting prompts take their place. Since a row's bits
//!    depend on that row alone, neither the order nor the batch size changes a sample.
//! 3. The draw for a token is that of (global row, step) of the caller's stream; the global row is
//!    `(first_row + prompt) * samples_per_prompt + sample`.
//! 4. Without truncation a sampled token's log-probability is, bit for bit, what
//!    [`crate::model::heads::token_logprobs`] gives for it.
//!
//! ```
//! use posttrain_backend::{Sampling, cpu::Cpu};
//! use posttrain_base::random::Stream;
//! use posttrain_model::init::{Init, language_model};
//! use posttrain_model::{params::HeadKind, spec::Spec, weights::Model};
//! use posttrain_sample::{GenerateOptions, Limits, generate};
//! # fn main() -> posttrain_base::error::Result<()> {
//! let (b, spec) = (Cpu::<f32>::new(), Spec::decoder(16, 8, 1, 2, 16, 32));
//! let params = language_model(&spec, Init::Copying, 0);
//! let model = Model::upload(&b, spec.clone(), HeadKind::Language, params);
//! let options = GenerateOptions {
//!     samples_per_prompt: 2,
//!     max_new_tokens: 4,
//!     sampling: Sampling::plain(1.0),
//!     ends: &[0],
//!     stream: Stream::new(7, "generate"),
//!     first_row: 0,
//!     limits: Limits::within(&spec, 1 << 20, 4),
//! };
//! let samples = generate(&b, &model, &[vec![3, 1, 4]], &options, &mut |_, _| Ok(()))?;
//! assert_eq!(samples[0].len(), 2);
//! # Ok(())
//! # }
//! ```

use posttrain_backend as backend;
use posttrain_base::{error, random};
use posttrain_model as model;

pub mod continuous;
pub mod footprint;
mod generate;
mod paged;
mod pages;
pub mod scoring;

pub use continuous::PREFILL;

use crate::backend::{Backend, NO_TOKEN, Sampling};
use crate::error::{Result, user};
use crate::model::spec::Spec;
use crate::model::weights::Model;
use crate::random::Stream;

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct GenerateOptions<'a> {
    /// Samples of each prompt.
    pub samples_per_prompt: usize,
    /// Tokens of a sample at most, EOS included.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// The tokens that end a sample, each of them.
    pub ends: &'a [u32],
    /// Where draws come from.
    pub stream: Stream,
    /// The first prompt's index among all prompts of this stream.
    pub first_row: u64,
    /// How much is done at a time: never changes a sample.
    pub limits: Limits,
}

/// How much is done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Samples in the batch at once; all samples of one prompt always fit.
    pub rows: usize,
    /// Positions in the key/value cache; one prompt with all its samples always fits.
    pub positions: usize,
}

impl Limits {
    /// The default, but no more positions than fit in `bytes`, where a number has `size` of them.
    pub fn within(spec: &Spec, bytes: u64, size: usize) -> Self {
        let position = 2 * spec.layers * spec.key_value_width() * size;
        let limits = Limits::default();
        Limits { positions: limits.positions.min(bytes as usize / position.max(1)), ..limits }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: 256, positions: 1 << 16 }
    }
}

/// One continuation of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The new tokens, EOS included where the sample ended.
    pub tokens: Vec<u32>,
    /// Each token's log-probability under the distribution it was drawn from, in nats.
    pub logprobs: Vec<f32>,
    /// Whether EOS came within the tokens allowed.
    pub ended: bool,
}

impl Sample {
    /// Whether the model's logits were not finite: the last token is then none ([`NO_TOKEN`]), its
    /// log-probability NaN.
    pub fn has_failed(&self) -> bool {
        self.tokens.last() == Some(&NO_TOKEN)
    }
}

/// The error of a sample that [has failed](Sample::has_failed); `prompt` is what errors call its
/// prompt.
pub fn failed(prompt: &str, sample: &Sample) -> crate::error::Error {
    let message = format!(
        "{prompt}: no token can be drawn: the logits of new token {} are not finite",
        sample.tokens.len()
    );
    user(message)
        .hint(
            "the model's weights are too large for this precision, or its training diverged: take \
             an earlier checkpoint",
        )
        .into()
}

/// Samples of every prompt, in the prompts' order. `progress` hears of (samples done, samples in
/// all), and stops the generation by returning an error.
///
/// # Errors
/// The user's: prompts or options out of range; a prompt after which the model's logits are not
/// finite.
pub fn generate<B: Backend>(
    b: &B,
    model: &Model<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions<'_>,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Vec<Vec<Sample>>> {
    let samples = generate_until(b, model, prompts, options, &|_, _| false, progress)?;
    for (index, samples) in samples.iter().enumerate() {
        if let Some(sample) = samples.iter().find(|sample| sample.has_failed()) {
            return Err(failed(&format!("prompt {}", options.first_row + index as u64), sample));
        }
    }
    Ok(samples)
}

/// [`generate`], where a sample also stops once `stop`, given its prompt's index and its new tokens
/// so far, says so. Such a sample has not `ended`. Samples may have [failed](Sample::has_failed).
pub fn generate_until<B: Backend>(
    b: &B,
    model: &Model<B>,
    prompts: &[Vec<u32>],
    options: &GenerateOptions<'_>,
    stop: &dyn Fn(usize, &[u32]) -> bool,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Vec<Vec<Sample>>> {
    check(&model.spec, prompts, options)?;
    generate::generate_all(b, model, prompts, options, stop, progress)
}

/// Everything about prompts and options that a user may have got wrong.
fn check(spec: &Spec, prompts: &[Vec<u32>], options: &GenerateOptions<'_>) -> Result<()> {
    let Sampling { temperature, top_p, min_p, .. } = options.sampling;
    if options.samples_per_prompt == 0 || options.max_new_tokens == 0 {
        return Err(user("at least one sample a prompt and one new token must be asked for").into());
    }
    if !(temperature >= 0.0 && temperature.is_finite()) {
        return Err(user(format!(
            "the temperature must be 0 (greedy) or more, it is {temperature}"
        ))
        .into());
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(
            user(format!("top_p must be above 0 and at most 1 (keep all), it is {top_p}")).into()
        );
    }
    if !(0.0..=1.0).contains(&min_p) {
        return Err(user(format!("min_p must be from 0 (keep all) to 1, it is {min_p}")).into());
    }
    for (index, prompt) in prompts.iter().enumerate() {
        let row = options.first_row + index as u64;
        if prompt.is_empty() {
            return Err(user(format!("prompt {row} has no token"))
                .hint("a prompt begins with at least one token")
                .into());
        }
        if let Some(token) = prompt.iter().find(|&&token| token as usize >= spec.vocabulary) {
            let message = format!(
                "prompt {row} has token {token}, the model's vocabulary has {}",
                spec.vocabulary
            );
            return Err(user(message).hint("the tokenizer belongs to another model").into());
        }
        if prompt.len() + options.max_new_tokens > spec.context {
            let (length, new) = (prompt.len(), options.max_new_tokens);
            let message = format!(
                "prompt {row} has {length} tokens, with {new} new ones it exceeds the context of \
                 {}",
                spec.context
            );
            return Err(user(message)
                .hint("shorten the prompt or ask for fewer new tokens")
                .into());
        }
    }
    Ok(())
}
