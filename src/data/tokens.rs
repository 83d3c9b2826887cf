//! A tokenizer: trained on texts, saved and loaded in the Hugging Face layout. Knows no row and no model.
//!
//! Training gives the same bytes for the same texts, in any order and for any number of threads: words are counted (sums do not depend
//! on an order), the alphabet is sorted, and among pairs of one count the trainer takes the one with the smallest ids.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, TokenizerBuilder};

use crate::error::{Result, user};
use crate::fs;

/// The special token that fills room. Nothing here writes it; other programs expect one.
pub const PAD: &str = "<pad>";
/// The special token that ends a text.
pub const EOS: &str = "<eos>";
/// The smallest vocabulary: every byte and the special tokens.
pub const SMALLEST: usize = 256 + 2;

/// The files that make up a tokenizer, as other programs know them; only the first must be there.
const FILES: [&str; 4] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// A tokenizer with the ids that mean something.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Its files, name and bytes: what is loaded is saved unchanged.
    files: Vec<(String, Vec<u8>)>,
    size: usize,
    eos: u32,
    pad: Option<u32>,
    /// What the tokenizer puts before every text (LLaMA's `<s>`).
    prefix: Vec<u32>,
    /// Whether two texts, the second of which starts with a space, have the same tokens apart as together.
    splits_at_spaces: bool,
}

impl Tokenizer {
    /// Trains a byte-level BPE of at most `size` tokens, special tokens first; less, if no pair of tokens is left that occurs twice.
    ///
    /// # Errors
    /// The user's, if `size` has no room for all bytes.
    pub fn train<S: AsRef<str> + Sync>(texts: &[S], size: usize) -> Result<Self> {
        if size < SMALLEST {
            return Err(user(format!("a vocabulary of {size} tokens is too small: bytes and special tokens alone are {SMALLEST}")).into());
        }
        let bytes = ByteLevel::new(false, true, true);
        let mut trainer = BpeTrainer::builder()
            .vocab_size(size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens([PAD, EOS].map(|token| AddedToken::from(token, true)).to_vec())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer = TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
            .with_model(BPE::default())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(bytes))
            .with_post_processor(Some(bytes))
            .with_decoder(Some(bytes))
            .build()
            .map_err(library)?;
        tokenizer.train(&mut trainer, texts.iter().map(AsRef::as_ref)).map_err(library)?;
        let names = json!({"eos_token": EOS, "pad_token": PAD});
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false});
        config.as_object_mut().expect("it is an object").extend(names.as_object().cloned().expect("it is an object"));
        let pretty = |value: &Value| serde_json::to_vec_pretty(value).expect("a JSON value is plain data");
        let contents = [tokenizer.to_string(true).map_err(library)?.into_bytes(), pretty(&config), pretty(&names)];
        let files = FILES.iter().map(|name| name.to_string()).zip(contents).collect();
        Self::from_files(files, None, "the trained tokenizer")
    }

    /// Loads the tokenizer of a folder in the Hugging Face layout.
    ///
    /// # Errors
    /// The user's: there is no `tokenizer.json`, a file cannot be understood, or none of them says which token ends a text.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.join(FILES[0]).is_file() {
            return Err(user(format!("{} holds no tokenizer", folder.display())).hint("a file tokenizer.json is expected").into());
        }
        let mut files = Vec::new();
        for name in FILES.iter().filter(|name| folder.join(name).is_file()) {
            files.push((name.to_string(), fs::read(&folder.join(name))?));
        }
        let config = folder.join("config.json");
        let config = if config.is_file() { Some(fs::read(&config)?) } else { None };
        Self::from_files(files, config, &folder.display().to_string())
    }

    fn from_files(files: Vec<(String, Vec<u8>)>, model_config: Option<Vec<u8>>, place: &str) -> Result<Self> {
        let broken = |name: &str, error: &dyn std::fmt::Display| user(format!("{name} of {place} cannot be understood: {error}"));
        let json = |name: &str| -> Result<Value> {
            match files.iter().find(|(file, _)| file == name) {
                Some((_, bytes)) => Ok(serde_json::from_slice(bytes).map_err(|error| broken(name, &error))?),
                None => Ok(Value::Null),
            }
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(&files[0].1).map_err(|error| broken(FILES[0], &error))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(library)?;
        let config = json(FILES[1])?;
        let model_config = match model_config {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| broken("config.json", &error))?,
            None => Value::Null,
        };
        let sources = [config.clone(), json(FILES[2])?, model_config];
        let Some(eos) = special(&inner, &sources, "eos") else {
            let hint = "tokenizer_config.json should have an eos_token, or config.json an eos_token_id";
            return Err(user(format!("nothing in {place} says which token ends a text")).hint(hint).into());
        };
        let pad = special(&inner, &sources, "pad").filter(|pad| *pad != eos);
        let size = inner.get_vocab(true).values().max().map_or(0, |last| *last as usize + 1);
        let mut tokenizer = Tokenizer { inner, files, size, eos, pad, prefix: Vec::new(), splits_at_spaces: false };
        tokenizer.prefix = tokenizer.find_prefix()?;
        if tokenizer.prefix.is_empty() && config["add_bos_token"] == json!(true) {
            tokenizer.prefix.extend(special(&tokenizer.inner, &sources, "bos"));
        }
        tokenizer.splits_at_spaces = tokenizer.find_whether_it_splits_at_spaces()?;
        Ok(tokenizer)
    }

    /// What stands before the tokens of a text once special tokens are added.
    fn find_prefix(&self) -> Result<Vec<u32>> {
        let plain = self.encode("a")?;
        let with = self.inner.encode_fast("a", true).map_err(library)?.get_ids().to_vec();
        let at = (0..with.len()).find(|at| with[*at..].starts_with(&plain)).unwrap_or(0);
        Ok(with[..at].to_vec())
    }

    fn find_whether_it_splits_at_spaces(&self) -> Result<bool> {
        let text = "One two, three: 4th (five) tl;dr: six's\nSeven!? eight. nine";
        let whole = self.encode(text)?;
        for (at, _) in text.match_indices(' ') {
            if [self.encode(&text[..at])?, self.encode(&text[at..])?].concat() != whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes its files into a folder.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        self.files.iter().try_for_each(|(name, bytes)| fs::write_atomic(&folder.join(name), bytes))
    }

    /// The tokens of a text; none is added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, false).map_err(library)?.get_ids().to_vec())
    }

    /// The text of tokens; special ones show by name.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, false).map_err(library)
    }

    /// The tokens of a prompt as a model is given it: with the tokenizer's own first token, if it has one.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        Ok([self.prefix.clone(), self.encode(prompt)?].concat())
    }

    /// The tokens of a prompt, and those of its completion with the end-of-text token. The first are those of [`encode_prompt`]
    /// always, so that what is trained on is what generation starts from.
    ///
    /// [`encode_prompt`]: Self::encode_prompt
    pub fn encode_example(&self, prompt: &str, completion: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let head = self.encode(prompt)?;
        let mut tail = self.encode_after(prompt, &head, completion)?;
        tail.push(self.eos);
        Ok(([self.prefix.clone(), head].concat(), tail))
    }

    /// The tokens of `completion` as it stands after `prompt`. Tokenizers that put a space of their own before a text (SentencePiece)
    /// would give other tokens for the completion alone.
    fn encode_after(&self, prompt: &str, head: &[u32], completion: &str) -> Result<Vec<u32>> {
        let parts = self.splits_at_spaces && !prompt.ends_with(char::is_whitespace) && completion.starts_with(' ');
        if !parts {
            let whole = self.encode(&format!("{prompt}{completion}"))?;
            if let Some(tail) = whole.strip_prefix(head) {
                return Ok(tail.to_vec());
            }
        }
        self.encode(completion)
    }

    /// The text that `tokens` add after those of a prompt: the inverse of [`Self::encode_example`], the leading space included.
    /// The end-of-text token must have been taken off.
    pub fn decode_after(&self, prompt: &[u32], tokens: &[u32]) -> Result<String> {
        if !self.splits_at_spaces {
            let (head, whole) = (self.decode(prompt)?, self.decode(&[prompt, tokens].concat())?);
            if let Some(tail) = whole.strip_prefix(&head) {
                return Ok(tail.to_string());
            }
        }
        self.decode(tokens)
    }

    /// The token that ends a text.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The token that fills room, if the tokenizer has one of its own. Nothing here needs it: batches are packed.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// How many ids there are: the largest plus 1.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// The id of the special token `ROLE_token` (a name, or an object with one) or `ROLE_token_id` (a number, or a list: its first), from
/// the first source that names one.
fn special(inner: &tokenizers::Tokenizer, sources: &[Value], role: &str) -> Option<u32> {
    sources.iter().find_map(|source| {
        let token = &source[format!("{role}_token")];
        let name = token.as_str().or_else(|| token["content"].as_str());
        let id = &source[format!("{role}_token_id")];
        let number = id.as_u64().or_else(|| id[0].as_u64());
        name.and_then(|name| inner.token_to_id(name)).or(number.and_then(|id| u32::try_from(id).ok()))
    })
}

/// The crate's errors are boxed without a type of ours; on texts and files that were checked they are bugs.
fn library(error: tokenizers::Error) -> anyhow::Error {
    anyhow::anyhow!("tokenizer: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    fn texts() -> Vec<String> {
        let words = ["my", "boss", "lost", "the", "laptop", "and", "café", "tl;dr:", "should", "i", "wait", "?", "."];
        (0..400)
            .map(|at| (0..9).map(|step| words[(at * 7 + step * step * (at % 5 + 1)) % words.len()]).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn any_text_survives_encoding_and_decoding() {
        let tokenizer = Tokenizer::train(&texts(), 300).unwrap();
        for text in ["", " my boss", "Ünïcode 漢字 🎉\n\ttabs  two", "\u{0}", "the laptop ."] {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
        }
        assert!(tokenizer.encode("").unwrap().is_empty());
        assert_eq!((tokenizer.pad(), tokenizer.eos()), (Some(0), 1));
        assert_eq!(tokenizer.decode(&[1]).unwrap(), EOS);
    }

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

    #[test]
    fn a_saved_tokenizer_opens_as_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(&texts(), 300).unwrap();
        tokenizer.save(folder.path()).unwrap();
        let opened = Tokenizer::open(folder.path()).unwrap();
        assert_eq!(opened.files, tokenizer.files);
        assert_eq!((opened.size(), opened.eos(), opened.pad()), (300, 1, Some(0)));
        assert_eq!(opened.encode(" my laptop .").unwrap(), tokenizer.encode(" my laptop .").unwrap());
    }

    #[test]
    fn prompt_and_completion_are_encoded_apart_and_closed_by_eos() {
        let tokenizer = Tokenizer::train(&texts(), 300).unwrap();
        let (prompt, completion) = tokenizer.encode_example("i wait . tl;dr:", " my boss").unwrap();
        assert_eq!(prompt, tokenizer.encode("i wait . tl;dr:").unwrap());
        assert_eq!(completion[..completion.len() - 1], tokenizer.encode(" my boss").unwrap());
        assert_eq!(completion.last(), Some(&tokenizer.eos()));
        assert_eq!(tokenizer.decode_after(&prompt, &completion[..completion.len() - 1]).unwrap(), " my boss");
        // Without the space the texts join to one word, which the parts' tokens need not be.
        let (prompt, completion) = tokenizer.encode_example("my la", "ptop").unwrap();
        let whole = tokenizer.decode(&[prompt, completion].concat()).unwrap();
        assert_eq!(whole, format!("my laptop{EOS}"));
    }

    /// A tokenizer as SentencePiece models have it: spaces are `▁`, one is put before every text, and `<s>` before its tokens.
    fn sentencepiece(folder: &Path) {
        let vocabulary: serde_json::Map<String, Value> = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", ":", "▁a", "▁b", "▁c"]
            .iter()
            .enumerate()
            .map(|(id, token)| (token.to_string(), json!(id)))
            .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{"id": 1, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null,
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": true, "byte_fallback": false, "vocab": vocabulary, "merges": ["▁ a", "▁ b", "▁ c"]}
        });
        std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(folder.join("config.json"), r#"{"eos_token_id":[2,7],"pad_token_id":2}"#).unwrap();
    }

    #[test]
    fn a_tokenizer_that_adds_spaces_of_its_own_adds_none_between_prompt_and_completion() {
        let folder = tempfile::tempdir().unwrap();
        sentencepiece(folder.path());
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        assert_eq!((tokenizer.eos(), tokenizer.pad(), tokenizer.size()), (2, None, 11));
        assert_eq!(tokenizer.encode_prompt("a b:").unwrap(), [1, 8, 9, 7]);
        let (prompt, completion) = tokenizer.encode_example("a b:", " c a").unwrap();
        assert_eq!((&prompt[..], &completion[..]), (&[1, 8, 9, 7][..], &[10, 8, 2][..]));
        assert_eq!(tokenizer.decode_after(&prompt, &[10, 8]).unwrap(), " c a");
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
        std::fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
        assert!(complaint().contains("tokenizer.json of"));
        sentencepiece(folder.path());
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        assert!(complaint().contains("which token ends a text"));
    }
}
