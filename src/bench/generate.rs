//! Generation: a step of decoding at several batch sizes, against the bytes that it must read.
//! Independent of texts.

use super::models::{self, Size};
use super::{Bench, Row, timing};
use crate::backend::{Backend, Sampling};
use crate::error::Result;
use crate::model::params::HeadKind;
use crate::model::weights::Model;
use crate::random::Stream;
use crate::sample::{GenerateOptions, Limits, generate};

/// What is sampled, of prompts of `prompt` tokens.
struct Lengths {
    prompt: usize,
    few: usize,
    many: usize,
}

/// How `new` tokens are drawn; nothing ends a sample.
pub fn options(new: usize) -> GenerateOptions<'static> {
    GenerateOptions {
        samples_per_prompt: 1,
        max_new_tokens: new,
        sampling: Sampling::plain(1.0),
        ends: &[],
        stream: Stream::new(3, "bench"),
        first_row: 0,
        limits: Limits::default(),
    }
}

/// Decoding of one size, batch by batch.
pub fn run<B: Backend>(bench: &Bench<'_, B>, size: &Size) -> Result<Vec<Row>> {
    let model = size.model(bench.b, bench.options, HeadKind::Language);
    let lengths = if bench.options.quick {
        Lengths { prompt: 7, few: 2, many: 5 }
    } else {
        Lengths { prompt: 256, few: 8, many: 72 }
    };
    let batches = if bench.options.quick { vec![1, 3] } else { vec![1, 16, 64] };
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(decode(bench, size, &model, batch, &lengths)?);
    }
    Ok(rows)
}

/// A step is what the further tokens of a long sample take, divided by their count, so that the
/// prompts' pass and all that is made once do not count.
fn decode<B: Backend>(
    bench: &Bench<'_, B>,
    size: &Size,
    model: &Model<B>,
    batch: usize,
    lengths: &Lengths,
) -> Result<Vec<Row>> {
    let prompts = models::sequences(&size.spec, batch, lengths.prompt);
    let once = |new: usize| -> Result<f64> {
        let start = (bench.options.clock)();
        generate(bench.b, model, &prompts, &options(new), &mut |_, _| Ok(()))?;
        bench.wait();
        Ok((bench.options.clock)() - start)
    };
    once(lengths.few)?;
    let begun = (bench.options.clock)();
    let (mut steps, mut wholes) = (Vec::new(), Vec::new());
    while steps.is_empty()
        || steps.len() < 5 && (bench.options.clock)() - begun < bench.options.seconds
    {
        let (few, many) = (once(lengths.few)?, once(lengths.many)?);
        steps.push(((many - few) / (lengths.many - lengths.few) as f64).max(1e-9));
        wholes.push(many);
    }
    let positions = batch * (lengths.prompt + (lengths.few + lengths.many) / 2);
    let shape = format!("{}, batch {batch}", size.name);
    Ok(vec![
        Row {
            what: "decode step".into(),
            shape: shape.clone(),
            timing: timing::of(steps, 1),
            operations: 2.0 * size.multiplied().0 * batch as f64,
            bytes: size.decoded_bytes(positions, bench.b.sizes().stored),
            tokens: batch as f64,
        },
        Row {
            what: "generation".into(),
            shape: format!("{shape}, {} and {} tokens", lengths.prompt, lengths.many),
            timing: timing::of(wholes, 1),
            operations: 0.0,
            bytes: 0.0,
            tokens: (batch * lengths.many) as f64,
        },
    ])
}
