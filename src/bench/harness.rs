//! What measures a kernel: inputs of random numbers, sizes, rows of results.

use super::{Bench, Row, Source};
use crate::backend::Backend;

/// What is measured, row by row.
pub struct Kernels<'a, B: Backend> {
    /// The back end, and how to measure it.
    pub bench: &'a Bench<'a, B>,
    source: Source<B>,
    /// The rows so far.
    pub rows: Vec<Row>,
}

impl<'a, B: Backend> Kernels<'a, B> {
    /// Before the first measurement.
    pub fn new(bench: &'a Bench<'a, B>) -> Self {
        let source = Source::new(|host| bench.b.upload(host), bench.options.quick);
        Kernels { bench, source, rows: Vec::new() }
    }

    /// Whether sizes are tiny.
    pub fn quick(&self) -> bool {
        self.bench.options.quick
    }

    /// A size, or a tiny one.
    pub fn pick(&self, size: usize, tiny: usize) -> usize {
        if self.quick() { tiny } else { size }
    }

    /// Random numbers in the storage type.
    pub fn random(&self, len: usize) -> B::Buf {
        let mut out = self.bench.b.zeros(len);
        self.source.fill(self.bench.b, &mut out);
        out
    }

    /// Wide zeros: statistics, gradients of weights, moments.
    pub fn floats(&self, len: usize) -> B::Buf {
        self.bench.b.wide(len)
    }

    /// Measures.
    pub fn row(
        &mut self,
        what: &str,
        shape: &str,
        operations: f64,
        bytes: f64,
        body: &mut dyn FnMut(),
    ) {
        let timing = self.bench.time(body);
        self.rows.push(Row {
            what: what.into(),
            shape: shape.into(),
            timing,
            operations,
            bytes,
            tokens: 0.0,
        });
    }
}
