//! Measures of texts, scores and samples, with intervals. Knows no model, no tokenizer, no file: words, numbers and indices only.

pub mod best_of_n;
pub mod bootstrap;
pub mod diversity;
pub mod reward;
pub mod text;
pub mod win;
