//! Measures of texts, scores and samples, with intervals. Knows no model, no tokenizer, no file:
//! words, numbers and indices only.
//!
//! ```
//! use posttrain_eval::text::rouge_l;
//! assert_eq!(rouge_l("the cat sat", "the cat sat down"), 6.0 / 7.0);
//! ```

use posttrain_base::random;
use posttrain_rl as rl;

pub mod agreement;
pub mod beside;
pub mod best_of_n;
pub mod classes;
pub mod compare;
pub mod compression;
pub mod correction;
pub mod crossed;
pub mod diversity;
pub mod equal_quality;
pub mod gains;
pub mod grade;
pub mod interval;
pub mod optimum;
pub mod over_optimisation;
pub mod pairs;
pub mod power;
pub mod quality;
pub mod question;
pub mod ranks;
pub mod ratio;
pub mod reward;
pub mod richness;
pub mod seeds;
pub mod self_bleu;
pub mod sequential;
pub mod similarity;
pub mod spread;
pub mod text;
pub mod token_entropy;
pub mod vendi;
pub mod verdict;
pub mod win;
