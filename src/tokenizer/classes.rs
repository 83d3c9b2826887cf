//! Tokenizer classes of older repositories, by the names that their configurations have: how each
//! splits texts, and what its special tokens are called.

use super::files::{CONFIG, Files};
use crate::error::Result;

/// What a class makes of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Byte-level BPE; what surrounds a text is asked for by flags.
    Bytes,
    /// Byte-level BPE with a first and a last token around every text.
    BytesBetween,
    /// WordPiece.
    Words,
}

/// Classes, without `Fast` at their ends, and the model types that use them where no class is
/// named.
pub(super) const CLASSES: [(&str, &[&str], Style); 7] = [
    ("GPT2Tokenizer", &["gpt2", "opt"], Style::Bytes),
    ("RobertaTokenizer", &["roberta"], Style::BytesBetween),
    ("BartTokenizer", &["bart"], Style::BytesBetween),
    ("LongformerTokenizer", &["longformer"], Style::BytesBetween),
    ("BertTokenizer", &["bert"], Style::Words),
    ("DistilBertTokenizer", &["distilbert"], Style::Words),
    ("ElectraTokenizer", &["electra"], Style::Words),
];

/// The names of special tokens that a style is known for.
const USUAL: [(Style, &[(&str, &str)]); 3] = [
    (Style::Bytes, &[("bos", "<|endoftext|>"), ("eos", "<|endoftext|>"), ("unk", "<|endoftext|>")]),
    (
        Style::BytesBetween,
        &[
            ("bos", "<s>"),
            ("eos", "</s>"),
            ("sep", "</s>"),
            ("cls", "<s>"),
            ("unk", "<unk>"),
            ("pad", "<pad>"),
            ("mask", "<mask>"),
        ],
    ),
    (
        Style::Words,
        &[
            ("unk", "[UNK]"),
            ("sep", "[SEP]"),
            ("pad", "[PAD]"),
            ("cls", "[CLS]"),
            ("mask", "[MASK]"),
        ],
    ),
];

/// The class of a tokenizer or the type of its model, whichever is named first, and its style.
pub(super) fn named(files: &Files) -> Result<(Option<String>, Option<Style>)> {
    let (config, model) = (files.object(CONFIG)?, files.of_the_model()?);
    let class = std::iter::once(&config)
        .chain(&model)
        .find_map(|source| source.get("tokenizer_class")?.as_str());
    if let Some(class) = class {
        let short = class.strip_suffix("Fast").unwrap_or(class);
        let known = CLASSES.iter().find(|(name, _, _)| *name == short);
        return Ok((Some(class.to_owned()), known.map(|(_, _, style)| *style)));
    }
    let model_type = model.iter().find_map(|source| source.get("model_type")?.as_str());
    let known =
        model_type.and_then(|name| CLASSES.iter().find(|(_, types, _)| types.contains(&name)));
    Ok((model_type.map(str::to_owned), known.map(|(_, _, style)| *style)))
}

/// The name that a role's token has in a class, where no file says otherwise.
pub(super) fn usual_name(files: &Files, role: &str) -> Option<tokenizers::AddedToken> {
    let style = named(files).ok()?.1?;
    let (_, names) = USUAL.iter().find(|(of, _)| *of == style)?;
    let (_, name) = names.iter().find(|(of, _)| *of == role)?;
    Some(tokenizers::AddedToken::from(*name, true))
}
