//! A tokenizer, loaded and saved in the Hugging Face layout, and its ids that mean something.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::{ModelWrapper, PostProcessorWrapper};

use super::files::{CONFIG, Files, SPECIAL_TOKENS, TOKENIZER, pretty};
use super::growth::Growth;
use super::legacy_tokenizers;
use super::special_tokens::{self, SpecialNames, SpecialTokens, add_tokens};
use crate::error::{Result, contained, user};

/// A tokenizer with the ids that mean something.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(super) inner: tokenizers::Tokenizer,
    /// Watches normalisers that may make a text much longer.
    pub(super) growth: Growth,
    /// Special tokens, by id in order: a generated text is without them.
    pub(super) specials: Vec<u32>,
    /// What puts special tokens around a text.
    pub(super) around: Option<PostProcessorWrapper>,
    /// What is loaded is saved unchanged, except a pad token that was chosen here.
    pub(super) files: Files,
    size: usize,
    pub(super) eos: u32,
    special: SpecialTokens,
    /// What the tokenizer puts before every text, such as `<s>`.
    pub(super) prefix: Vec<u32>,
    /// Whether two texts, the second of which starts with a space, have the same tokens apart as
    /// together.
    pub(super) splits_at_spaces: bool,
}

/// The tokens that end what the model in a folder writes, where it has no tokenizer: those that its
/// generation configuration names, else its configuration.
pub fn stated_ends(folder: &Path) -> Result<Vec<u32>> {
    Ok(special_tokens::stated_ends(&Files::read(folder)?.of_the_model()?))
}

/// A tokenizer in SentencePiece's own format, which is not read.
const SENTENCEPIECE: &str = "tokenizer.model";
/// What to do about it.
pub const CONVERT: &str = "convert it: AutoTokenizer.from_pretrained(FOLDER, \
    use_fast=True).save_pretrained(FOLDER) of transformers writes tokenizer.json";

/// Whether a folder's tokenizer is a SentencePiece file alone.
pub fn has_sentencepiece_alone(folder: &Path) -> bool {
    folder.join(SENTENCEPIECE).exists() && !folder.join(TOKENIZER).exists()
}

impl Tokenizer {
    /// Loads the tokenizer of a folder in the Hugging Face layout: `tokenizer.json`, or what older
    /// repositories have in its place (`vocab.json` with `merges.txt`, or `vocab.txt`). What is put
    /// around a text is what `tokenizer.json` says, as in transformers 5; `add_bos_token` and
    /// `add_eos_token` are asked in older repositories only.
    ///
    /// # Errors
    /// The user's: there is no tokenizer (what was looked for is named), a file cannot be
    /// understood, or none says which token ends a text.
    pub fn open(folder: &Path) -> Result<Self> {
        let files = Files::read(folder)?;
        match files.hold_a_tokenizer() || !has_sentencepiece_alone(folder) {
            true => Self::from_files(files),
            false => {
                Err(user(format!("{} has {SENTENCEPIECE}, and no {TOKENIZER}", folder.display()))
                    .hint(CONVERT)
                    .into())
            }
        }
    }

    /// [`Tokenizer::open`] where the folder has any of the files that can be a tokenizer.
    pub fn open_if_there(folder: &Path) -> Result<Option<Self>> {
        let files = Files::read(folder)?;
        if files.hold_a_tokenizer() { Self::from_files(files).map(Some) } else { Ok(None) }
    }

    pub(super) fn from_files(mut files: Files) -> Result<Self> {
        let names = SpecialNames::read(&files)?;
        let (older, bytes) = match files.bytes(TOKENIZER) {
            Some(bytes) => (false, bytes.to_vec()),
            None => {
                (true, legacy_tokenizers::tokenizer_json(&files, &names)?.to_string().into_bytes())
            }
        };
        let growth = Growth::read(&bytes, &files)?;
        let opened = contained(|| {
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())
        });
        let mut inner =
            opened.and_then(|opened| opened).map_err(|why| files.broken(TOKENIZER, &why))?;
        without_chance(&mut inner);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(library)?;
        add_tokens(&mut inner, &files, &names)?;
        if older {
            files.put(TOKENIZER, inner.to_string(true).map_err(library)?.into_bytes());
        }
        let size = inner.get_vocab(true).values().max().map_or(0, |last| *last as usize + 1);
        if size == 0 {
            return Err(files.broken(TOKENIZER, &"its vocabulary is empty"));
        }
        let special = SpecialTokens::find(&inner, &names, &files.of_the_model()?);
        let Some(eos) = special.eos else {
            let hint =
                "tokenizer_config.json should have an eos_token, or config.json an eos_token_id";
            return Err(user(format!("nothing in {} says which token ends a text", files.place()))
                .hint(hint)
                .into());
        };
        // Kept apart, so that the places of tokens in a text are those of the model:
        // post-processors trim spaces off them.
        let around = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let added = inner.get_added_tokens_decoder();
        let mut specials: Vec<u32> =
            added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        specials.sort_unstable();
        let (prefix, splits_at_spaces) = (Vec::new(), false);
        let mut tokenizer = Tokenizer {
            inner,
            growth,
            specials,
            around,
            files,
            size,
            eos,
            special,
            prefix,
            splits_at_spaces,
        };
        tokenizer.prefix = tokenizer.find_prefix()?;
        tokenizer.splits_at_spaces = tokenizer.find_whether_it_splits_at_spaces()?;
        tokenizer.name_pad()?;
        Ok(tokenizer)
    }

    /// Writes a pad token that was chosen here into the files that other programs look it up in:
    /// they would take the end of a text for padding where the two are one token, and see no end in
    /// a loss, or a reward's place one token too early.
    fn name_pad(&mut self) -> Result<()> {
        let Some(pad) = self.special.pad.filter(|_| !self.special.pad_is_stated) else {
            return Ok(());
        };
        let name = self.inner.id_to_token(pad).expect("the pad token is of this vocabulary");
        for file in [CONFIG, SPECIAL_TOKENS] {
            if file == CONFIG || self.files.bytes(file).is_some() {
                let mut object = self.files.object(file)?;
                object.insert("pad_token".into(), json!(name));
                self.files.put(file, pretty(&Value::Object(object)));
            }
        }
        Ok(())
    }

    /// Writes its files into a folder: as they were read, with `tokenizer.json` where an older
    /// repository has none, and with the pad token that was chosen where there was none to be used.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.files.write(folder)
    }

    /// Tokens without special ones, wherever they are.
    pub fn without_specials(&self, tokens: &[u32]) -> Vec<u32> {
        tokens.iter().copied().filter(|token| self.specials.binary_search(token).is_err()).collect()
    }

    /// The special tokens that any of these texts is the name of.
    pub fn specials_among(&self, texts: &[String]) -> Vec<u32> {
        let named = texts.iter().filter_map(|text| self.inner.token_to_id(text));
        named.filter(|token| self.specials.binary_search(token).is_ok()).collect()
    }

    /// The token that ends a text. For an encoder, which writes none, the one that it closes a text
    /// with.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The tokens that end what a model writes: [`Self::eos`] first, then what else its generation
    /// configuration names.
    pub fn ends(&self) -> &[u32] {
        &self.special.ends
    }

    /// The token that begins a text, if there is one; whether it is there is the tokenizer's
    /// own business.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that fills room, never [`Self::eos`]: the one that is named for it, else one that
    /// is reserved, else that for unknown text. Nothing here needs it, since batches are packed;
    /// other programs ask for one.
    pub fn pad(&self) -> Option<u32> {
        self.special.pad
    }

    /// How many ids there are: the largest plus 1.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// Takes the chance out of a model: merges that are left out at random belong to the training of
/// another model. The files keep it.
fn without_chance(inner: &mut tokenizers::Tokenizer) {
    if let ModelWrapper::BPE(model) = inner.get_model()
        && model.dropout.is_some()
    {
        let mut model = model.clone();
        model.dropout = None;
        inner.with_model(model);
    }
}

/// The crate's errors are boxed without a type of ours; where no text of a user's is in it, they
/// are bugs.
pub(super) fn library(error: tokenizers::Error) -> anyhow::Error {
    anyhow::anyhow!("tokenizer: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::tests::{sentencepiece, texts};
    use crate::error::{Kind, kind_of};
    use crate::training::EOS;

    #[test]
    fn any_text_survives_encoding_and_decoding() {
        let tokenizer = Tokenizer::train(&texts(), 300).unwrap();
        for text in ["", " my boss", "Ünïcode 漢字 🎉\n\ttabs  two", "\u{0}", "the laptop ."]
        {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        assert!(tokenizer.encode("").unwrap().is_empty());
        assert_eq!((tokenizer.pad(), tokenizer.eos()), (Some(0), 1));
        assert_eq!(tokenizer.decode(&[1]).unwrap(), EOS);
    }

    #[test]
    fn a_saved_tokenizer_opens_as_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(&texts(), 300).unwrap();
        tokenizer.save(folder.path()).unwrap();
        let opened = Tokenizer::open(folder.path()).unwrap();
        for file in [TOKENIZER, CONFIG, SPECIAL_TOKENS] {
            assert_eq!(opened.files.bytes(file), tokenizer.files.bytes(file));
        }
        assert_eq!((opened.size(), opened.eos(), opened.pad()), (300, 1, Some(0)));
        assert_eq!(
            opened.encode(" my laptop .").unwrap(),
            tokenizer.encode(" my laptop .").unwrap()
        );
    }

    #[test]
    fn folders_that_hold_no_usable_tokenizer_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let complaint = || {
            let error = Tokenizer::open(folder.path()).unwrap_err();
            assert_eq!(kind_of(&error), Kind::User);
            error.to_string()
        };
        assert!(complaint().contains("holds no tokenizer"));
        assert!(complaint().contains(
            "looked for tokenizer.json, for vocab.json with merges.txt, and for vocab.txt"
        ));
        std::fs::write(folder.path().join("tokenizer.model"), "\n").unwrap();
        assert!(
            complaint().contains("has tokenizer.model, and no tokenizer.json")
                && complaint().contains("save_pretrained")
        );
        std::fs::write(folder.path().join("vocab.txt"), "[UNK]\n").unwrap();
        assert!(complaint().contains("vocab.txt, but names no tokenizer class"));
        std::fs::write(
            folder.path().join("config.json"),
            r#"{"tokenizer_class": "SomeTokenizerFast"}"#,
        )
        .unwrap();
        assert!(
            complaint()
                .contains("the class SomeTokenizerFast, which does not say how to read them")
        );
        std::fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
        assert!(complaint().contains("tokenizer.json of"));
        sentencepiece(folder.path());
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        assert!(complaint().contains("which token ends a text"));
    }
}
