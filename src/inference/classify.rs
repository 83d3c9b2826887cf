//! `classify`: what a sequence classifier, or a reward model, says of a text or a pair of texts.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Answer, Numbers, Progress, Subject, unclear};
use crate::backend::Backend;
use crate::data::tokens::Encoded;
use crate::error::{Result, user};
use crate::model::heads;
use crate::model::params::Top;
use crate::model::transformer::{self, Batch};

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

/// Classifies rows, `batch_size` at a time.
pub fn classify<B: Backend>(
    subject: &Subject<B>,
    rows: Vec<(usize, Row)>,
    batch_size: usize,
    progress: Progress<'_>,
) -> Result<Vec<Answer<Class>>> {
    let Subject { b, model, .. } = subject;
    let top = model.weights.top(&model.spec);
    if !matches!(top, Top::Classifier | Top::Reward) {
        return Err(user("this model has no head for classes").hint("a `*ForSequenceClassification` is expected").into());
    }
    let (mut sequences, mut rests) = (Vec::new(), Vec::new());
    for (row, content) in rows {
        let encoded = match (content.tokens, content.text, content.text_pair) {
            (Some(tokens), None, None) => Encoded { types: vec![0; tokens.len()], tokens },
            (None, Some(text), pair) => subject.tokenizer()?.encode_input(&text, pair.as_deref(), Some(model.spec.context))?,
            _ => return Err(unclear(row, "`tokens`, or `text` with or without `text_pair`")),
        };
        subject.check(row, &encoded.tokens)?;
        sequences.push(encoded);
        rests.push(content.rest);
    }
    let total = sequences.len();
    let labels = if top == Top::Reward { 1 } else { model.spec.labels };
    let names = subject.origin.labels(labels);
    let mut answers = Vec::with_capacity(total);
    let mut rests = rests.into_iter();
    for part in sequences.chunks(batch_size) {
        let tokens: Vec<&[u32]> = part.iter().map(|encoded| encoded.tokens.as_slice()).collect();
        let mut batch = Batch::new(&tokens);
        batch.types = part.iter().flat_map(|encoded| encoded.types.iter().copied()).collect();
        let hidden = transformer::hidden(b, model, &batch);
        let logits = match top {
            Top::Reward => heads::scalar_scores(b, model, &hidden, &batch.lasts()),
            _ => heads::class_logits(b, model, &hidden, &batch.firsts()).logits,
        };
        for (logits, rest) in logits.chunks_exact(labels).zip(rests.by_ref()) {
            let mut best = 0;
            (1..labels).for_each(|class| {
                if logits[class] > logits[best] {
                    best = class
                }
            });
            let result = Class { logits: subject.numbers(logits.iter().copied()), label: names[best].clone() };
            answers.push(Answer { result, rest });
        }
        progress(answers.len(), total)?;
    }
    Ok(answers)
}
