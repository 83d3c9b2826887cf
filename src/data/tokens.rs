//! A tokenizer: loaded and saved in the Hugging Face layout, texts to tokens and back. Uses no row
//! and no model.

use std::ops::Range;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::models::{unigram::UnigramError, wordlevel, wordpiece};
use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{
    Encoding, ModelWrapper, PostProcessor, PostProcessorWrapper, Token, TruncationParams,
};

use super::chat::Rendered;
use super::older_tokenizers;
use super::special::{self, Names, Special, add_tokens};
use super::token_files::{CONFIG, Files, SPECIAL_TOKENS, TOKENIZER, pretty};
use super::token_growth::Growth;
pub use super::token_training::{EOS, PAD, SMALLEST};
use crate::error::{Result, contained, user};

/// A tokenizer with the ids that mean something.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Watches normalisers that may make a text much longer.
    growth: Growth,
    /// Special tokens, by id in order: a generated text is without them.
    specials: Vec<u32>,
    /// What puts special tokens around a text.
    around: Option<PostProcessorWrapper>,
    /// What is loaded is saved unchanged, except a pad token that was chosen here.
    pub(super) files: Files,
    size: usize,
    eos: u32,
    special: Special,
    /// What the tokenizer puts before every text, such as `<s>`.
    prefix: Vec<u32>,
    /// Whether two texts, the second of which starts with a space, have the same tokens apart as
    /// together.
    splits_at_spaces: bool,
}

/// What an encoder reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The tokens, special ones included.
    pub tokens: Vec<u32>,
    /// The type of each: 0 in the first text, 1 in the second.
    pub types: Vec<u32>,
}

/// A chat as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedChat {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// For each whether any of its text was between generation tags.
    pub generated: Vec<bool>,
}

/// A text as tokens, with the places of some parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedParts {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Those of each part.
    pub parts: Vec<Range<usize>>,
}

/// The tokens that end what the model in a folder writes, where it has no tokenizer: those that its
/// generation configuration names, else its configuration.
pub fn stated_ends(folder: &Path) -> Result<Vec<u32>> {
    Ok(special::stated_ends(&Files::read(folder)?.of_the_model()?))
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
        let names = Names::read(&files)?;
        let (older, bytes) = match files.bytes(TOKENIZER) {
            Some(bytes) => (false, bytes.to_vec()),
            None => {
                (true, older_tokenizers::tokenizer_json(&files, &names)?.to_string().into_bytes())
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
        let special = Special::find(&inner, &names, &files.of_the_model()?);
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

    /// What is before the tokens of a text once special tokens are added.
    fn find_prefix(&self) -> Result<Vec<u32>> {
        // A token that no vocabulary has, so that it may have any letters.
        const TEXT: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(TEXT, "a".into(), (0, 1))], 0);
        let with = self.surround(text, None)?.get_ids().to_vec();
        let at = with.iter().position(|token| *token == TEXT).unwrap_or(0);
        Ok(with[..at].to_vec())
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

    fn find_whether_it_splits_at_spaces(&self) -> Result<bool> {
        let text = "One two, three: 4th (five) tl;dr: six's\nSeven!? eight. nine";
        // A vocabulary need not have all of these letters.
        let Ok(whole) = self.encode(text) else { return Ok(false) };
        for (at, _) in text.match_indices(' ') {
            if [self.encode(&text[..at])?, self.encode(&text[at..])?].concat() != whole {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes its files into a folder: as they were read, with `tokenizer.json` where an older
    /// repository has none, and with the pad token that was chosen where there was none to be used.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.files.write(folder)
    }

    /// What the library makes of a text or of tokens; `what` says in errors what could not be done.
    ///
    /// # Errors
    /// The user's: the vocabulary has no token for a part of the text, a search for a pattern of
    /// the tokenizer does not come to an end (the library panics then), the text would become too
    /// long.
    fn ask<T>(
        &self,
        what: &str,
        ask: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T>,
    ) -> Result<T> {
        let place = self.files.place();
        match contained(|| ask(&self.inner)) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if lacks_unknown(&error) => {
                let message = format!(
                    "the tokenizer of {place} has no token for a part of the text, and none for \
                     unknown text"
                );
                Err(user(message)
                    .hint(
                        "take what its vocabulary has not out of the text, or give it an unknown \
                         token",
                    )
                    .into())
            }
            Ok(Err(error)) => {
                Err(user(format!("the tokenizer of {place} cannot {what}: {error}")).into())
            }
            Err(panic) => Err(user(format!("the tokenizer of {place} cannot {what}: {panic}"))
                .hint(
                    "a pattern of its tokenizer.json is too expensive for this text: split the \
                     text, or take another tokenizer",
                )
                .into()),
        }
    }

    /// A text with the places of its tokens; none is added.
    fn encoding(&self, text: &str) -> Result<Encoding> {
        self.growth.check(text)?;
        self.ask("encode the text", |inner| inner.encode(text, false))
    }

    /// The tokens of a text; none is added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.growth.check(text)?;
        Ok(self.ask("encode the text", |inner| inner.encode_fast(text, false))?.get_ids().to_vec())
    }

    /// A text, or a pair of texts, with all special tokens that belong around it: what an encoder
    /// reads. With a limit, the longer text loses its end until all fit.
    ///
    /// # Errors
    /// The user's, if the limit leaves no room for a token of text.
    pub fn encode_input(
        &self,
        text: &str,
        pair: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Encoded> {
        let (mut first, mut second) =
            (self.encoding(text)?, pair.map(|pair| self.encoding(pair)).transpose()?);
        if let Some(limit) = limit {
            let added =
                self.around.as_ref().map_or(0, |around| around.added_tokens(second.is_some()));
            let room = limit.checked_sub(added).filter(|room| *room > 0);
            let max_length = room.ok_or_else(|| {
                user(format!("{limit} tokens leave no room for text: {added} are special"))
            })?;
            (first, second) = truncate_encodings(
                first,
                second,
                &TruncationParams { max_length, ..TruncationParams::default() },
            )
            .map_err(library)?;
        }
        let whole = self.surround(first, second)?;
        Ok(Encoded { tokens: whole.get_ids().to_vec(), types: whole.get_type_ids().to_vec() })
    }

    /// One text or two with the special tokens that belong around them.
    ///
    /// # Errors
    /// The user's: the post-processor of the file cannot do it. The library panics where it names a
    /// token that it does not describe.
    fn surround(&self, first: Encoding, second: Option<Encoding>) -> Result<Encoding> {
        let Some(around) = &self.around else {
            let parts = std::iter::once(first).chain(second).collect();
            let parts = <dyn PostProcessor>::default_process(parts, true).map_err(library)?;
            return Ok(Encoding::merge(parts, false));
        };
        contained(|| around.process(first, second, true).map_err(|error| error.to_string()))
            .and_then(|whole| whole)
            .map_err(|why| self.files.broken(TOKENIZER, &format!("its post_processor: {why}")))
    }

    /// A chat as tokens. The template has written all special tokens: none is added. A token
    /// belongs to a generated part if any of its text does, spaces included.
    pub fn encode_chat(&self, chat: &Rendered) -> Result<EncodedChat> {
        let encoding = self.encoding(&chat.text)?;
        let inside = |&(start, end): &(usize, usize)| {
            chat.generated.iter().any(|part| start < part.end && part.start < end)
        };
        Ok(EncodedChat {
            tokens: encoding.get_ids().to_vec(),
            generated: encoding.get_offsets().iter().map(inside).collect(),
        })
    }

    /// A text that a template wrote, as tokens, and which of them make up each of `parts`, ranges
    /// of bytes in order. `None` if a token reaches into a part from outside.
    pub fn encode_parts(&self, text: &str, parts: &[Range<usize>]) -> Result<Option<EncodedParts>> {
        let encoding = self.encoding(text)?;
        let places = encoding.get_offsets();
        if parts
            .iter()
            .flat_map(|part| [part.start, part.end])
            .any(|edge| places.iter().any(|(start, end)| *start < edge && edge < *end))
        {
            return Ok(None);
        }
        let before = |edge: usize| {
            places.iter().take_while(|(start, end)| *start < edge && *end <= edge).count()
        };
        let parts = parts.iter().map(|part| before(part.start)..before(part.end)).collect();
        Ok(Some(EncodedParts { tokens: encoding.get_ids().to_vec(), parts }))
    }

    /// The text of tokens; special ones show by name.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.ask("decode the tokens", |inner| inner.decode(tokens, false))
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

    /// The tokens of the prompt of a row: [`Self::encode_prompt`]'s, or, where a chat template
    /// wrote it (`chat`), those of its text alone, since the template has put every special token
    /// there.
    pub fn encode_row_prompt(&self, prompt: &str, chat: bool) -> Result<Vec<u32>> {
        if chat { self.encode(prompt) } else { self.encode_prompt(prompt) }
    }

    /// The tokens of the prompt of a row, as [`Self::encode_row_prompt`] gives them, and those of
    /// its completion with the end-of-text token.
    pub fn encode_row(
        &self,
        prompt: &str,
        completion: &str,
        chat: bool,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let head = self.encode(prompt)?;
        let mut tail = self.encode_after(prompt, &head, completion)?;
        tail.push(self.eos);
        Ok((if chat { head } else { self.begin(head) }, tail))
    }

    /// The tokens of a prompt as a model is given it: with the tokenizer's own first token, if it
    /// has one and the prompt does not begin with it already.
    pub fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        Ok(self.begin(self.encode(prompt)?))
    }

    /// Puts the tokenizer's own first token before tokens that do not begin with it: two would be a
    /// text that no model has seen.
    fn begin(&self, tokens: Vec<u32>) -> Vec<u32> {
        if tokens.starts_with(&self.prefix) {
            tokens
        } else {
            [self.prefix.clone(), tokens].concat()
        }
    }

    /// The tokens of a prompt, and those of its completion with the end-of-text token. The first
    /// are those of [`encode_prompt`] always, so that what is trained on is what generation starts
    /// from.
    ///
    /// [`encode_prompt`]: Self::encode_prompt
    pub fn encode_example(&self, prompt: &str, completion: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        self.encode_row(prompt, completion, false)
    }

    /// The tokens of `completion` as it is after `prompt`. Tokenizers that put a space of their
    /// own before a text (SentencePiece) would give other tokens for the completion alone.
    fn encode_after(&self, prompt: &str, head: &[u32], completion: &str) -> Result<Vec<u32>> {
        let parts = self.splits_at_spaces
            && !prompt.ends_with(char::is_whitespace)
            && completion.starts_with(' ');
        if !parts {
            let whole = self.encode(&format!("{prompt}{completion}"))?;
            if let Some(tail) = whole.strip_prefix(head) {
                return Ok(tail.to_vec());
            }
        }
        self.encode(completion)
    }

    /// The text that `tokens` add after those of a prompt: the inverse of [`Self::encode_example`],
    /// the leading space included. Special tokens among them add nothing. An end-of-text token must
    /// have been taken off: it need not be special.
    pub fn decode_after(&self, prompt: &[u32], tokens: &[u32]) -> Result<String> {
        let tokens = self.without_specials(tokens);
        if !self.splits_at_spaces {
            let (head, whole) = (self.decode(prompt)?, self.decode(&[prompt, &tokens].concat())?);
            if let Some(tail) = whole.strip_prefix(&head) {
                return Ok(tail.to_string());
            }
        }
        self.decode(&tokens)
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

/// Whether an error says that a part of a text has no token.
fn lacks_unknown(error: &tokenizers::Error) -> bool {
    matches!(error.downcast_ref(), Some(UnigramError::MissingUnkId))
        || matches!(error.downcast_ref(), Some(wordpiece::Error::MissingUnkToken))
        || matches!(error.downcast_ref(), Some(wordlevel::Error::MissingUnkToken))
}

/// The crate's errors are boxed without a type of ours; where no text of a user's is in it, they
/// are bugs.
pub(super) fn library(error: tokenizers::Error) -> anyhow::Error {
    anyhow::anyhow!("tokenizer: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    fn texts() -> Vec<String> {
        let words = [
            "my", "boss", "lost", "the", "laptop", "and", "café", "tl;dr:", "should", "i", "wait",
            "?", ".",
        ];
        (0..400)
            .map(|at| {
                (0..9)
                    .map(|step| words[(at * 7 + step * step * (at % 5 + 1)) % words.len()])
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect()
    }

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
    fn prompt_and_completion_are_encoded_apart_and_closed_by_eos() {
        let tokenizer = Tokenizer::train(&texts(), 300).unwrap();
        let (prompt, completion) = tokenizer.encode_example("i wait . tl;dr:", " my boss").unwrap();
        assert_eq!(prompt, tokenizer.encode("i wait . tl;dr:").unwrap());
        assert_eq!(completion[..completion.len() - 1], tokenizer.encode(" my boss").unwrap());
        assert_eq!(completion.last(), Some(&tokenizer.eos()));
        assert_eq!(
            tokenizer.decode_after(&prompt, &completion[..completion.len() - 1]).unwrap(),
            " my boss"
        );
        // Without the space the texts join to one word, which the parts' tokens need not be.
        let (prompt, completion) = tokenizer.encode_example("my la", "ptop").unwrap();
        let whole = tokenizer.decode(&[prompt, completion].concat()).unwrap();
        assert_eq!(whole, format!("my laptop{EOS}"));
    }

    /// A tokenizer as SentencePiece models have it: spaces are `▁`, one is put before every text,
    /// and `<s>` before its tokens.
    fn sentencepiece(folder: &Path) {
        let vocabulary: serde_json::Map<String, Value> =
            ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", ":", "▁a", "▁b", "▁c"]
                .iter()
                .enumerate()
                .map(|(id, token)| (token.to_string(), json!(id)))
                .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{"id": 1, "content": "<s>", "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false}],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null,
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": true, "byte_fallback": false, "vocab": vocabulary,
                "merges": ["▁ a", "▁ b", "▁ c"]}
        });
        std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        std::fs::write(folder.join("config.json"), r#"{"eos_token_id":[2,7],"pad_token_id":2}"#)
            .unwrap();
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
    fn a_first_token_that_the_text_brings_along_is_not_added_again() {
        let folder = tempfile::tempdir().unwrap();
        sentencepiece(folder.path());
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let alone = tokenizer.encode_prompt("<s>a:").unwrap();
        assert_eq!(alone.iter().filter(|token| **token == 1).count(), 1, "{alone:?}");
        assert_eq!(tokenizer.encode_example("<s>a:", " c").unwrap().0, alone);
        assert_eq!(tokenizer.encode_prompt("").unwrap(), [1]);
        // A chat's template has written all there is.
        let chat = |text: &str| {
            tokenizer
                .encode_chat(&Rendered { text: text.into(), ..Rendered::default() })
                .unwrap()
                .tokens
        };
        assert_eq!((chat("<s>a")[0], chat("<s>a")), (1, alone[..alone.len() - 1].to_vec()));
        assert!(!chat("a").contains(&1));
    }

    #[test]
    fn tokens_of_spaces_and_parts_of_letters_belong_to_the_part_that_they_are_in() {
        let tokenizer = Tokenizer::train(&texts(), 300).unwrap();
        let text = "my  \n boss 🎉.";
        let generated = vec![2..5, 10..text.len() - 1];
        let chat = tokenizer
            .encode_chat(&Rendered {
                text: text.into(),
                generated: generated.clone(),
                ..Rendered::default()
            })
            .unwrap();
        assert_eq!(chat.tokens, tokenizer.encode(text).unwrap());
        let mut at = 0;
        for (token, inside) in chat.tokens.iter().zip(&chat.generated) {
            // Tokens are bytes, so their places follow from their lengths; a letter's bytes count
            // as the whole letter.
            let bytes = tokenizer.inner.id_to_token(*token).unwrap().chars().count();
            let letter = |at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let (start, end) = (letter(at), at + bytes);
            assert_eq!(
                *inside,
                generated.iter().any(|part| start < part.end && part.start < end),
                "{at}"
            );
            at = end;
        }
        assert_eq!(at, text.len());
    }

    #[test]
    fn an_input_too_long_loses_text_and_never_a_special_token() {
        let folder = tempfile::tempdir().unwrap();
        sentencepiece(folder.path());
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let cut =
            |limit| tokenizer.encode_input("a b c", None, Some(limit)).map(|input| input.tokens);
        assert_eq!(cut(9).unwrap(), [1, 8, 9, 10]);
        assert_eq!(cut(3).unwrap(), [1, 8, 9]);
        assert_eq!(kind_of(&cut(1).unwrap_err()), Kind::User);
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
