//! `embed`: a text as one vector, pooled from hidden states.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Answer, Given, Known, Numbers, Progress, Reader, Subject, batch, check_finite, not_finite,
    unclear,
};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::error::{Context, Result, user};
use crate::fs;
use crate::json::Object;
use crate::model::memory::{Memory, Use, of_forward};
use crate::model::params::HeadKind;
pub use crate::model::pooling::Pooling;
use crate::model::spec::Spec;
use crate::model::transformer;
use crate::tokenizer::encode::Encoded;

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How tokens become one vector.
    pub pooling: Pooling,
    /// Vectors are scaled to length 1.
    pub normalize: bool,
    /// Tokens of a text at most, special ones included; more are cut off its end.
    pub max_tokens: usize,
}

/// What a row may have.
#[derive(Clone, Debug, Deserialize)]
pub struct Fields {
    /// Token ids, taken as they are.
    tokens: Option<Vec<u32>>,
    /// A text, which gets the tokenizer's special tokens.
    text: Option<String>,
}

/// A row: what it may have, and its other fields.
pub type Row = Given<Fields>;

impl Known for Fields {
    const NAMES: &'static [&'static str] = &["tokens", "text"];
}

/// What comes of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Embedding {
    /// `[d]`.
    pub embedding: Numbers,
}

/// What the folder's sentence-transformers files say, where they are there: pooling,
/// normalisation, greatest length. Else the mean of all tokens up to the model's context, not
/// normalised.
pub fn defaults(reader: &Reader) -> Result<Options> {
    let context = reader.spec.context;
    let mut options = Options { pooling: Pooling::Mean, normalize: false, max_tokens: context };
    let read = |name: &str| -> Result<Option<Value>> {
        let path = reader.folder.join(name);
        let Some(bytes) = fs::read_if_exists(&path)? else { return Ok(None) };
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| user(format!("{} is not JSON: {error}", path.display())))?;
        Ok(Some(value))
    };
    if let Some(limit) =
        read("sentence_bert_config.json")?.and_then(|config| config["max_seq_length"].as_u64())
    {
        options.max_tokens = context.min(limit as usize);
    }
    let modules = read("modules.json")?.unwrap_or(Value::Null);
    for module in modules.as_array().into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => options.normalize = true,
            "Pooling" => {
                let place = format!("{}/config.json", module["path"].as_str().unwrap_or_default());
                let config = read(&place)?.ok_or_else(|| {
                    user(format!("modules.json names {place}, which is not there"))
                })?;
                options.pooling = pooling(&config, &place)?;
            }
            other => {
                return Err(user(format!("modules.json asks for a module {other}"))
                    .hint("Transformer, Pooling and Normalize are known")
                    .into());
            }
        }
    }
    Ok(options)
}

/// What a `Pooling` module asks for: a truth value for each mode or, since sentence-transformers
/// 5.4, the names of modes.
fn pooling(config: &Value, place: &str) -> Result<Pooling> {
    let fields = config.as_object().into_iter().flatten();
    let flags = fields
        .filter(|(mode, on)| mode.starts_with("pooling_mode_") && **on == Value::Bool(true))
        .map(|(mode, _)| mode.clone());
    let named = |mode: &Value| mode.as_str().map_or_else(|| mode.to_string(), str::to_owned);
    let modes: Vec<String> = match &config["pooling_mode"] {
        Value::Null => flags.collect(),
        Value::Array(modes) => modes.iter().map(named).collect(),
        mode => vec![named(mode)],
    };
    match modes.iter().map(String::as_str).collect::<Vec<&str>>().as_slice() {
        ["pooling_mode_mean_tokens" | "mean"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token" | "cls"] => Ok(Pooling::Cls),
        other => {
            let message = match other {
                [] => format!("{place} names no pooling"),
                modes => format!("{place} names the pooling \"{}\"", modes.join(", ")),
            };
            Err(user(message).hint("the mean of tokens or the first token can be taken").into())
        }
    }
}

/// A text as tokens.
pub struct Text {
    /// Its row in the file.
    row: usize,
    encoded: Encoded,
    rest: Object,
}

/// Rows as tokens.
pub fn prepare(reader: &Reader, rows: Vec<(usize, Row)>, options: Options) -> Result<Vec<Text>> {
    let text = |(row, content): (usize, Row)| {
        let encoded = match (content.known.tokens, content.known.text) {
            (Some(tokens), None) => Encoded { types: vec![0; tokens.len()], tokens },
            (None, Some(text)) => {
                let tokenizer = reader.tokenizer()?;
                tokenizer
                    .encode_input(&text, None, Some(options.max_tokens))
                    .with_context(|| format!("row {row}"))?
            }
            _ => return Err(unclear(row, "`tokens`, or `text`")),
        };
        reader.check(row, &encoded.tokens)?;
        Ok(Text { row, encoded, rest: content.rest })
    };
    rows.into_iter().map(text).collect()
}

/// What embedding takes, counted on `b`.
pub fn memory(
    b: &Counting,
    spec: &Spec,
    head: HeadKind,
    texts: &[Text],
    batch_size: usize,
) -> Memory {
    let tokens = texts.iter().map(|text| text.encoded.tokens.as_slice()).collect::<Vec<_>>();
    of_forward(b, spec, head, tokens.chunks(batch_size), Use::Hidden)
}

/// Embeds texts, `batch_size` at a time.
pub fn embed<B: Backend>(
    subject: &Subject<B>,
    texts: Vec<Text>,
    batch_size: usize,
    options: Options,
    progress: Progress<'_>,
) -> Result<Vec<Answer<Embedding>>> {
    let total = texts.len();
    let mut answers = Vec::with_capacity(total);
    for part in texts.chunks(batch_size) {
        for (vector, text) in
            pooled(subject, part.iter().map(|text| &text.encoded), options).into_iter().zip(part)
        {
            check_finite(&vector, |at| {
                format!("row {}: the embedding's number {}", text.row, at + 1)
            })?;
            answers.push(Answer {
                result: Embedding { embedding: subject.numbers(vector) },
                rest: text.rest.clone(),
            });
        }
        progress(answers.len(), total)?;
    }
    Ok(answers)
}

/// One vector a text, `batch_size` texts at a time; equal texts are embedded once.
pub fn vectors<B: Backend>(
    subject: &Subject<B>,
    texts: &[&str],
    options: Options,
    batch_size: usize,
    progress: Progress<'_>,
) -> Result<Vec<Vec<f64>>> {
    let distinct: Vec<&str> =
        texts.iter().copied().collect::<BTreeSet<&str>>().into_iter().collect();
    let encode = |text: &&str| {
        subject.reader.tokenizer()?.encode_input(text, None, Some(options.max_tokens))
    };
    let encoded: Vec<Encoded> = distinct.iter().map(encode).collect::<Result<_>>()?;
    let mut found = BTreeMap::new();
    for (part, names) in encoded.chunks(batch_size).zip(distinct.chunks(batch_size)) {
        for (name, vector) in names.iter().copied().zip(pooled(subject, part.iter(), options)) {
            if vector.iter().any(|number| !number.is_finite()) {
                return Err(not_finite(&format!(
                    "the embedding of the text {:?}",
                    name.chars().take(60).collect::<String>()
                )));
            }
            found.insert(name, vector);
        }
        progress(found.len(), distinct.len())?;
    }
    Ok(texts.iter().map(|text| found[text].clone()).collect())
}

/// One vector `[d]` a text, of texts that go through the model together.
pub fn pooled<'a, B: Backend>(
    subject: &Subject<B>,
    texts: impl Iterator<Item = &'a Encoded> + Clone,
    options: Options,
) -> Vec<Vec<f64>> {
    let Subject { b, model, .. } = subject;
    let (batch, width) = (batch(texts), model.spec.embedding_width);
    let hidden = b.download_f64(&transformer::hidden(b, model, &batch));
    let pool = |hidden: &[f64]| options.pooling.pool(hidden, width, options.normalize);
    batch.starts.windows(2).map(|range| pool(&hidden[range[0] * width..range[1] * width])).collect()
}
