//! Diversity of samples by what models say of them: sentence embeddings and natural-language inference. Knows no measure's formula.

use std::collections::BTreeMap;

use super::{Progress, Subject, batch, classify, embed};
use crate::backend::Backend;
use crate::data::tokens::Encoded;
use crate::error::{Result, user};
use crate::eval::pairs::{LETTERS, Nli, Pairs, letters, released};
use crate::eval::spread::{Inputs, Spread};
use crate::model::heads;
use crate::model::transformer;
use crate::random::Stream;

/// One vector a text, `batch_size` texts at a time; equal texts are embedded once.
pub fn vectors<B: Backend>(subject: &Subject<B>, texts: &[&str], batch_size: usize, progress: Progress<'_>) -> Result<Vec<Vec<f64>>> {
    let distinct: Vec<&str> = texts.iter().copied().collect::<std::collections::BTreeSet<&str>>().into_iter().collect();
    let options = embed::defaults(&subject.reader)?;
    let encode = |text: &&str| subject.reader.tokenizer()?.encode_input(text, None, Some(options.max_tokens));
    let encoded: Vec<Encoded> = distinct.iter().map(encode).collect::<Result<_>>()?;
    let mut found = BTreeMap::new();
    for (part, names) in encoded.chunks(batch_size).zip(distinct.chunks(batch_size)) {
        found.extend(names.iter().copied().zip(embed::pooled(subject, part.iter(), options)));
        progress(found.len(), distinct.len())?;
    }
    Ok(texts.iter().map(|text| found[text].clone()).collect())
}

/// What natural-language inference says of a set of samples.
#[derive(Clone, Debug)]
pub struct Inference {
    /// The signed sum of both orders (see `eval::pairs`).
    pub nli: Spread,
    /// As the released code has it.
    pub released: Spread,
    /// Its sampled variant.
    pub released_sampled: Spread,
}

/// Judges all pairs of each input's samples, and of the first samples of all inputs, in both orders.
pub fn inference<B: Backend>(
    subject: &Subject<B>,
    inputs: &Inputs,
    texts: &[&str],
    batch_size: usize,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Inference> {
    let judge = Judge::new(subject)?;
    let first: Vec<usize> = inputs.choice(0).collect();
    let sets: Vec<&[usize]> = inputs.groups().iter().map(Vec::as_slice).chain([first.as_slice()]).collect();
    let pairs = || sets.iter().flat_map(|set| (0..set.len()).flat_map(move |j| (0..j).map(move |i| (set[i], set[j]))));
    let stream = Stream::new(seed, "letters of the released code");
    let sampled: Vec<Vec<(String, String)>> = pairs()
        .enumerate()
        .map(|(at, (a, b))| {
            let drawn = letters(texts[a], texts[b], &mut stream.sequence(at as u64));
            drawn.into_iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
        })
        .collect();
    let whole = pairs().map(|(a, b)| (texts[a], texts[b]));
    let wanted = whole.chain(sampled.iter().flatten().map(|(a, b)| (a.as_str(), b.as_str())));
    let said = judge.both_orders(wanted, batch_size, progress)?;

    let mut sums = pairs().map(|(a, b)| said[&(texts[a], texts[b])]);
    let mut of_letters =
        sampled.iter().map(|pairs| pairs.iter().map(|(a, b)| said[&(a.as_str(), b.as_str())]).sum::<f64>() / pairs.len().max(1) as f64);
    let spread = |values: &mut dyn Iterator<Item = f64>, value: fn(f64) -> f64| {
        let matrices: Vec<Pairs> =
            sets.iter().map(|set| Pairs::new(set.len(), |_, _| value(values.next().expect("a value for every pair")))).collect();
        let (across, within) = matrices.split_last().expect("the first samples are a set");
        inputs.spread_of_pairs(within, across, seed)
    };
    let plain: Vec<f64> = sums.by_ref().collect();
    Ok(Inference {
        nli: spread(&mut plain.iter().copied(), |sum| sum),
        released: spread(&mut plain.iter().copied(), released),
        released_sampled: spread(&mut of_letters, |sum| released(sum / LETTERS as f64)),
    })
}

/// A classifier of pairs with three labels.
struct Judge<'a, B: Backend> {
    subject: &'a Subject<B>,
    labels: Vec<Nli>,
}

impl<'a, B: Backend> Judge<'a, B> {
    fn new(subject: &'a Subject<B>) -> Result<Self> {
        classify::check_top(&subject.reader)?;
        let names = subject.reader.origin.labels(subject.model.spec.labels);
        let labels: Option<Vec<Nli>> = names.iter().map(|name| Nli::named(name)).collect();
        match labels.filter(|labels| labels.len() == 3) {
            Some(labels) => Ok(Judge { subject, labels }),
            None => Err(user(format!("{} has the labels {}", subject.reader.name(), names.join(", ")))
                .hint("a judge of inference has three, called entailment, neutral and contradiction in `id2label` of config.json")
                .into()),
        }
    }

    /// For each pair, the sum of what both orders add. Each distinct pair is judged once.
    fn both_orders<'t>(
        &self,
        pairs: impl Iterator<Item = (&'t str, &'t str)>,
        batch_size: usize,
        progress: Progress<'_>,
    ) -> Result<BTreeMap<(&'t str, &'t str), f64>> {
        let wanted: std::collections::BTreeSet<(&str, &str)> = pairs.collect();
        let ordered: std::collections::BTreeSet<(&str, &str)> = wanted.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        let ordered: Vec<(&str, &str)> = ordered.into_iter().collect();
        let mut said: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for part in ordered.chunks(batch_size) {
            said.extend(part.iter().copied().zip(self.judge(part)?));
            progress(said.len(), ordered.len())?;
        }
        Ok(wanted.into_iter().map(|(a, b)| ((a, b), said[&(a, b)] + said[&(b, a)])).collect())
    }

    fn judge(&self, pairs: &[(&str, &str)]) -> Result<Vec<f64>> {
        let Subject { b, model, reader, .. } = self.subject;
        // As the released code asks: a full stop after each text.
        let encode = |(premise, hypothesis): &(&str, &str)| {
            reader.tokenizer()?.encode_input(&format!("{premise}."), Some(&format!("{hypothesis}.")), Some(reader.spec.context))
        };
        let encoded: Vec<Encoded> = pairs.iter().map(encode).collect::<Result<_>>()?;
        let batch = batch(encoded.iter());
        let hidden = transformer::hidden(b, model, &batch);
        let logits = heads::class_logits(b, model, &hidden, &batch.firsts()).logits;
        let signed = |logits: &[f64]| {
            let best = (1..3).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
            let denominator: f64 = logits.iter().map(|logit| (logit - logits[best]).exp()).sum();
            self.labels[best].signed(1.0 / denominator)
        };
        Ok(logits.chunks_exact(3).map(signed).collect())
    }
}
