//! `classify`: what a sequence classifier, or a reward model, says of a text or a pair of texts;
//! and what a network over embeddings, as the stage `classifier` makes it, says of a pair.

use serde::{Deserialize, Serialize};

use super::pair_head::Description;
use super::{
    Answer, Given, Known, Numbers, Progress, Reader, Subject, batch, check_finite, embed, unclear,
};
use crate::backend::Backend;
use crate::backend::counting::Counting;
use crate::error::{Context, Result, user};
use crate::json::Object;
use crate::model::heads;
use crate::model::memory::{Memory, Use, of_forward};
use crate::model::pairs::{best, features};
use crate::model::params::HeadKind;
use crate::model::spec::Spec;
use crate::model::transformer;
use crate::tokenizer::encode::Encoded;

/// What a row may have.
#[derive(Clone, Debug, Deserialize)]
pub struct Fields {
    /// Token ids, taken as they are.
    tokens: Option<Vec<u32>>,
    /// A text, which gets the tokenizer's special tokens.
    text: Option<String>,
    /// A second text (the hypothesis, where `text` is the premise).
    text_pair: Option<String>,
}

/// A row: what it may have, and its other fields.
pub type Row = Given<Fields>;

impl Known for Fields {
    const NAMES: &'static [&'static str] = &["tokens", "text", "text_pair"];
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
    /// Its row in the file.
    row: usize,
    /// One sequence; of a network over embeddings, one for each text.
    sequences: Vec<Encoded>,
    rest: Object,
}

/// Refuses a model that gives no logits.
pub fn check_top(reader: &Reader) -> Result<()> {
    match reader.head {
        HeadKind::Classifier | HeadKind::Reward => Ok(()),
        _ => Err(user("this model has no head for classes")
            .hint("a `*ForSequenceClassification` is expected")
            .into()),
    }
}

/// Rows as tokens.
pub fn prepare(reader: &Reader, rows: Vec<(usize, Row)>) -> Result<Vec<Text>> {
    let embedding =
        Description::open(&reader.folder)?.map(|(description, _)| description.embedding);
    if embedding.is_none() {
        check_top(reader)?;
    }
    let text = |(row, content): (usize, Row)| {
        let Given { known: Fields { tokens, text, text_pair }, rest } = content;
        let sequences = match (tokens, text, text_pair, embedding) {
            (None, Some(text), Some(pair), Some(options)) => {
                let encode = |text: &str| {
                    let tokenizer = reader.tokenizer()?;
                    tokenizer
                        .encode_input(text, None, Some(options.max_tokens))
                        .with_context(|| format!("row {row}"))
                };
                vec![encode(&text)?, encode(&pair)?]
            }
            (.., Some(_)) => {
                return Err(unclear(
                    row,
                    "`text` and `text_pair`: this classifier reads two texts",
                ));
            }
            (Some(tokens), None, None, None) => {
                vec![Encoded { types: vec![0; tokens.len()], tokens }]
            }
            (None, Some(text), pair, None) => {
                let (tokenizer, context) = (reader.tokenizer()?, reader.spec.context);
                vec![
                    tokenizer
                        .encode_input(&text, pair.as_deref(), Some(context))
                        .with_context(|| format!("row {row}"))?,
                ]
            }
            _ => return Err(unclear(row, "`tokens`, or `text` with or without `text_pair`")),
        };
        sequences.iter().try_for_each(|sequence| reader.check(row, &sequence.tokens))?;
        Ok(Text { row, sequences, rest })
    };
    rows.into_iter().map(text).collect()
}

/// What classifying takes, counted on `b`.
pub fn memory(
    b: &Counting,
    spec: &Spec,
    head: HeadKind,
    texts: &[Text],
    batch_size: usize,
) -> Memory {
    let tokens = |part: &[Text]| -> Vec<Vec<u32>> {
        let sequences = part.iter().flat_map(|text| &text.sequences);
        sequences.map(|sequence| sequence.tokens.clone()).collect()
    };
    let wanted = if head == HeadKind::Encoder { Use::Hidden } else { Use::Head };
    of_forward(b, spec, head, texts.chunks(batch_size).map(tokens), wanted)
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
    let network = Description::open(&reader.folder)?;
    let names = match &network {
        Some((description, _)) => description.labels.clone(),
        None => reader.origin.labels(if reader.head == HeadKind::Reward {
            1
        } else {
            model.spec.labels
        }),
    };
    let labels = names.len();
    let mut answers = Vec::with_capacity(total);
    for part in texts.chunks(batch_size) {
        let sequences = part.iter().flat_map(|text| &text.sequences);
        let logits = match &network {
            Some((description, head)) => {
                let vectors = embed::pooled(subject, sequences, description.embedding);
                let features: Vec<f32> =
                    vectors.chunks_exact(2).flat_map(|two| features(&two[0], &two[1])).collect();
                head.logits(b, &features)
            }
            None => {
                let batch = batch(sequences);
                let hidden = transformer::hidden(b, model, &batch);
                match reader.head {
                    HeadKind::Reward => heads::scalar_scores(b, model, &hidden, &batch.lasts()),
                    _ => heads::class_logits(b, model, &hidden, &batch.firsts()).logits,
                }
            }
        };
        for (logits, text) in logits.chunks_exact(labels).zip(part) {
            check_finite(logits, |at| format!("row {}: the logit {}", text.row, at + 1))?;
            let best = best(logits);
            let result = Class {
                logits: subject.numbers(logits.iter().copied()),
                label: names[best].clone(),
            };
            answers.push(Answer { result, rest: text.rest.clone() });
        }
        progress(answers.len(), total)?;
    }
    Ok(answers)
}
