//! Tokenizers: texts to tokens and back, training, chat templates. Uses no row and no model.
//!
//! | module | what it is |
//! |---|---|
//! | [`tokens`] | a tokenizer: loaded and saved in the Hugging Face layout; its special tokens |
//! | [`encode`] | texts to tokens and back |
//! | [`training`] | a byte-level BPE of given texts |
//! | [`messages`] | the one reader of messages and tools |
//! | [`chat`] | chats as text, by the template that a model brings along |
//!
//! ```
//! use posttrain_tokenizer::tokens::Tokenizer;
//! # fn main() -> posttrain_base::error::Result<()> {
//! let tokenizer = Tokenizer::train(&["the cat sat on the mat"], 270)?;
//! let tokens = tokenizer.encode("the mat")?;
//! assert_eq!(tokenizer.decode(&tokens)?, "the mat");
//! # Ok(())
//! # }
//! ```

use posttrain_base::{error, fs, json, limits};

pub mod chat;
mod chat_values;
mod classes;
pub mod encode;
mod files;
mod growth;
mod jinja;
mod legacy_tokenizers;
pub mod messages;
mod special_tokens;
mod template_source;
pub mod tokens;
pub mod training;
