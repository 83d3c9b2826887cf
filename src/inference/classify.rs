//! `classify`: what a sequence classifier, or a reward model, says of a text or a pair of texts.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Numbers, Progress, Reader, Subject, batch, unclear};
use crate::backend::Backend;
use crate::data::tokens::Encoded;
use crate::error::{Result, user};
use crate::model::heads;
use crate::model::memory::Memory;
use crate::model::pairs::best;
use crate::model::params::Top;
use crate::model::spec::Spec;
use crate::model::transformer;

/// What a row may have.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Token ids, taken as they are.
    tokens: Option<Vec<u32>>,
    /// A text, which gets the tokenizer's special tokens.
    text: Option<String>,
    /// A second text (the hypothesis, where `text` is the premise).
    text_pair: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What comes of a row.
#[derive(Clone, Debug, Serialize)]
pub struct Class {
    /// `[labels]`; a reward model's one score.
    pub logits: Numbers,
    /// The name of the greatest; the first among equals.
    pub label: String,
}

/// A text, or two, as tokens.
pub struct Text {
    encoded: Encoded,
    rest: Map<String, Value>,
}

/// Refuses a model that gives no logits.
pub fn check_top(reader: &Reader) -> Result<()> {
    match reader.top {
        Top::Classifier | Top::Reward => Ok(()),
        _ => Err(user("this model has no head for classes").hint("a `*ForSequenceClassification` is expected").into()),
    }
}

/// Rows as tokens.
pub fn prepare(reader: &Reader, rows: Vec<(usize, Row)>) -> Result<Vec<Text>> {
    check_top(reader)?;
    let text = |(row, content): (usize, Row)| {
        let encoded = match (content.tokens, content.text, content.text_pair) {
            (Some(tokens), None, None) => Encoded { types: vec![0; tokens.len()], tokens },
            (None, Some(text), pair) => reader.tokenizer()?.encode_input(&text, pair.as_deref(), Some(reader.spec.context))?,
            _ => return Err(unclear(row, "`tokens`, or `text` with or without `text_pair`")),
        };
        reader.check(row, &encoded.tokens)?;
        Ok(Text { encoded, rest: content.rest })
    };
    rows.into_iter().map(text).collect()
}

/// What classifying takes.
pub fn memory(spec: &Spec, top: Top, texts: &[Text], batch_size: usize) -> Memory {
    let tokens = |part: &[Text]| part.iter().map(|text| text.encoded.tokens.len()).sum();
    Memory::weights(spec, top).forward(spec, texts.chunks(batch_size).map(tokens).max().unwrap_or(0), 0)
}

/// Classifies texts, `batch_size` at a time.
pub fn classify<B: Backend>(
    subject: &Subject<B>,
    texts: Vec<Text>,
    batch_size: usize,
    progress: Progress<'_>,
) -> Result<Vec<Answer<Class>>> {
    let Subject { b, model, reader, .. } = subject;
    let total = texts.len();
    let labels = if reader.top == Top::Reward { 1 } else { model.spec.labels };
    let names = reader.origin.labels(labels);
    let mut answers = Vec::with_capacity(total);
    for part in texts.chunks(batch_size) {
        let batch = batch(part.iter().map(|text| &text.encoded));
        let hidden = transformer::hidden(b, model, &batch);
        let logits = match reader.top {
            Top::Reward => heads::scalar_scores(b, model, &hidden, &batch.lasts()),
            _ => heads::class_logits(b, model, &hidden, &batch.firsts()).logits,
        };
        for (logits, text) in logits.chunks_exact(labels).zip(part) {
            let best = best(logits);
            let result = Class { logits: subject.numbers(logits.iter().copied()), label: names[best].clone() };
            answers.push(Answer { result, rest: text.rest.clone() });
        }
        progress(answers.len(), total)?;
    }
    Ok(answers)
}
