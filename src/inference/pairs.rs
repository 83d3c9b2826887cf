//! Classifiers of text pairs: a model that reads both texts as one sequence, or a small network
//! over the embeddings of each (made by the stage `classifier`). Knows no measure.

use std::collections::BTreeMap;

use super::embed::{self, Options};
use super::pair_head::Description;
use super::{Progress, Reader, Subject, batch, classify, not_finite};
use crate::backend::Backend;
use crate::device::Precision;
use crate::error::Result;
use crate::model::pairs::{PairHead, features};
use crate::model::{heads, transformer};
use crate::tokenizer::encode::Encoded;

/// A classifier of text pairs.
pub enum PairModel<B: Backend> {
    /// A model that reads both texts as one sequence.
    Sequence(Subject<B>),
    /// A network over the embeddings of each.
    Embeddings(Subject<B>, Description, PairHead),
}

impl<B: Backend> PairModel<B> {
    /// Whichever the folder of `reader` holds.
    pub fn load(b: B, precision: Precision, reader: Reader) -> Result<Self> {
        match Description::open(&reader.folder)? {
            Some((description, head)) => {
                Ok(PairModel::Embeddings(Subject::load(b, precision, reader)?, description, head))
            }
            None => {
                classify::check_top(&reader)?;
                Ok(PairModel::Sequence(Subject::load(b, precision, reader)?))
            }
        }
    }

    /// What errors call it: its folder.
    pub fn name(&self) -> String {
        let (PairModel::Sequence(subject) | PairModel::Embeddings(subject, ..)) = self;
        subject.reader.name().to_string()
    }

    /// The classes, in the order of logits.
    pub fn labels(&self) -> Vec<String> {
        match self {
            PairModel::Sequence(subject) => subject.reader.origin.labels(subject.model.spec.labels),
            PairModel::Embeddings(_, description, _) => description.labels.clone(),
        }
    }

    /// Logits `[labels]` of each pair, `batch_size` at a time.
    pub fn logits(
        &self,
        pairs: &[(&str, &str)],
        batch_size: usize,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<f64>>> {
        let logits = match self {
            PairModel::Sequence(subject) => sequences(subject, pairs, batch_size, progress)?,
            PairModel::Embeddings(subject, description, head) => {
                let features =
                    pair_features(subject, pairs, description.embedding, batch_size, progress)?;
                let parts = features.chunks(batch_size);
                let logits: Vec<f64> =
                    parts.flat_map(|part| head.logits(&subject.b, &part.concat())).collect();
                logits.chunks_exact(head.labels).map(<[f64]>::to_vec).collect()
            }
        };
        match logits.iter().position(|own| own.iter().any(|number| !number.is_finite())) {
            Some(pair) => {
                Err(not_finite(&format!("what {} says of pair {}", self.name(), pair + 1)))
            }
            None => Ok(logits),
        }
    }
}

/// The features of each pair. Each distinct text is embedded once.
pub fn pair_features<B: Backend>(
    encoder: &Subject<B>,
    pairs: &[(&str, &str)],
    embedding: Options,
    batch_size: usize,
    progress: Progress<'_>,
) -> Result<Vec<Vec<f32>>> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut texts: Vec<&str> = Vec::new();
    for text in pairs.iter().flat_map(|(a, b)| [*a, *b]) {
        places.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() - 1
        });
    }
    let vectors = embed::vectors(encoder, &texts, embedding, batch_size, progress)?;
    let of = |text: &str| &vectors[places[text]];
    Ok(pairs.iter().map(|(a, b)| features(of(a), of(b))).collect())
}

/// As the released code of Kirk et al. asks a classifier: a full stop after each text.
fn sequences<B: Backend>(
    subject: &Subject<B>,
    pairs: &[(&str, &str)],
    batch_size: usize,
    progress: Progress<'_>,
) -> Result<Vec<Vec<f64>>> {
    let Subject { b, model, reader, .. } = subject;
    let encode = |(premise, hypothesis): &(&str, &str)| {
        reader.tokenizer()?.encode_input(
            &format!("{premise}."),
            Some(&format!("{hypothesis}.")),
            Some(reader.spec.context),
        )
    };
    let mut logits = Vec::with_capacity(pairs.len());
    for part in pairs.chunks(batch_size) {
        let encoded: Vec<Encoded> = part.iter().map(encode).collect::<Result<_>>()?;
        let batch = batch(encoded.iter());
        let hidden = transformer::hidden(b, model, &batch);
        let found = heads::class_logits(b, model, &hidden, &batch.firsts()).logits;
        logits.extend(found.chunks_exact(model.spec.labels).map(<[f64]>::to_vec));
        progress(logits.len(), pairs.len())?;
    }
    Ok(logits)
}
