//! Training of a tokenizer: a byte-level BPE of given texts. Uses no row.
//!
//! Training gives the same bytes for the same texts, in any order and for any number of threads:
//! words are counted (sums do not depend on an order), the alphabet is sorted, and among pairs of
//! one count the trainer takes the one with the smallest ids.

use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, TokenizerBuilder};

use super::files::{CONFIG, Files, SPECIAL_TOKENS, TOKENIZER, pretty};
use super::tokens::{Tokenizer, library};
use crate::error::{Result, user};

/// The special token that fills room. Nothing here writes it; other programs expect one.
pub const PAD: &str = "<pad>";
/// The special token that ends a text.
pub const EOS: &str = "<eos>";
/// The smallest vocabulary: every byte and the special tokens.
pub const SMALLEST: usize = 256 + 2;

impl Tokenizer {
    /// Trains a byte-level BPE of at most `size` tokens, special tokens first; less, if no pair of
    /// tokens is left that occurs twice.
    ///
    /// # Errors
    /// The user's, if `size` has no room for all bytes.
    pub fn train<S: AsRef<str> + Sync>(texts: &[S], size: usize) -> Result<Self> {
        if size < SMALLEST {
            return Err(user(format!(
                "a vocabulary of {size} tokens is too small: bytes and special tokens alone are \
                 {SMALLEST}"
            ))
            .into());
        }
        let bytes = ByteLevel::new(false, true, true);
        let mut trainer = BpeTrainer::builder()
            .vocab_size(size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens([PAD, EOS].map(|token| AddedToken::from(token, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer =
            TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
                .with_model(BPE::default())
                .with_normalizer(None)
                .with_pre_tokenizer(Some(bytes))
                .with_post_processor(Some(bytes))
                .with_decoder(Some(bytes))
                .build()
                .map_err(library)?;
        tokenizer.train(&mut trainer, texts.iter().map(AsRef::as_ref)).map_err(library)?;
        let names = json!({"eos_token": EOS, "pad_token": PAD});
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false});
        config
            .as_object_mut()
            .expect("it is an object")
            .extend(names.as_object().cloned().expect("it is an object"));
        let contents = [
            tokenizer.to_string(true).map_err(library)?.into_bytes(),
            pretty(&config),
            pretty(&names),
        ];
        let files = [TOKENIZER, CONFIG, SPECIAL_TOKENS]
            .map(str::to_owned)
            .into_iter()
            .zip(contents)
            .collect();
        Self::from_files(Files::made("the trained tokenizer", files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::texts;
    use crate::error::{Kind, kind_of};

    #[test]
    fn training_depends_on_neither_threads_nor_order() {
        let mut texts = texts();
        let train = |texts: &[String], threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Tokenizer::train(texts, 320).unwrap().files)
        };
        let first = train(&texts, 1);
        for threads in [1, 2, 2, 5] {
            texts.rotate_left(37);
            assert_eq!(train(&texts, threads), first);
        }
    }

    #[test]
    fn a_vocabulary_without_room_for_bytes_is_refused() {
        let error = Tokenizer::train(&texts(), 257).unwrap_err();
        assert_eq!(kind_of(&error), Kind::User);
        assert_eq!(Tokenizer::train(&texts(), 258).unwrap().size(), 258);
    }
}
