//! A tokenizer: trained on texts, saved and loaded in the Hugging Face layout. Knows no row and no model.

use std::path::Path;

use crate::error::Result;

/// A tokenizer with the ids that mean something.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    eos: u32,
    pad: Option<u32>,
}

impl Tokenizer {
    /// Trains a byte-level BPE of `size` tokens (special tokens `<pad>` and `<eos>` first): the same texts give the same bytes.
    pub fn train<S: AsRef<str> + Send + Sync>(texts: &[S], size: usize) -> Result<Self> {
        let _ = (texts, size);
        unimplemented!()
    }
    /// Loads the tokenizer of a folder in the Hugging Face layout.
    pub fn open(folder: &Path) -> Result<Self> {
        let _ = folder;
        unimplemented!()
    }
    /// Writes `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into a folder.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let _ = folder;
        unimplemented!()
    }
    /// The tokens of a text, no special ones added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let _ = text;
        unimplemented!()
    }
    /// The text of tokens; special ones show by name.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let _ = tokens;
        unimplemented!()
    }
    /// The tokens of a prompt as a model is given it (with the tokenizer's own first token, if it has one).
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let _ = prompt;
        unimplemented!()
    }
    /// The tokens of a prompt, and those of its completion with the end-of-text token.
    pub fn encode_example(&self, prompt: &str, completion: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let _ = (prompt, completion);
        unimplemented!()
    }
    /// The token that ends a text.
    pub fn eos(&self) -> u32 {
        self.eos
    }
    /// The token that fills room, if the tokenizer has one of its own. Nothing here needs it.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }
    /// How many ids there are: the largest plus 1.
    pub fn size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}
