//! The speed of a back end: operations, training, generation, whole PPO steps, each beside the
//! lower bounds of its time. The clock is a parameter; the module names no device and prints
//! nothing.
//!
//! 1. Models have the sizes of well-known ones and random weights, made on the device: nothing is
//!    read.
//! 2. Numbers are random everywhere: products of zeros run faster than products of anything else.
//! 3. Work is queued several calls at a time between two waits, so that waiting is not what is
//!    measured.
//! 4. What a device's second cache would hold between two calls is given several sets of inputs,
//!    which take turns.

pub mod generate;
mod harness;
pub mod kernels;
pub mod models;
pub mod ppo;
mod products;
pub mod timing;
pub mod train;

use serde::Serialize;

use crate::backend::Backend;
use crate::random::Stream;
use timing::{Clock, Timing};

/// How to measure.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// What tells the time.
    pub clock: Clock<'a>,
    /// Seconds that one measurement takes, about; at least one repetition is made.
    pub seconds: f64,
    /// Tiny sizes: for tests of the benchmark itself.
    pub quick: bool,
}

/// What is measured, and how.
pub struct Bench<'a, B> {
    /// The back end.
    pub b: &'a B,
    /// How to measure.
    pub options: Options<'a>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The operation, or the part of a whole.
    pub what: String,
    /// Its sizes.
    pub shape: String,
    /// How long it takes.
    #[serde(flatten)]
    pub timing: Timing,
    /// Floating-point operations that must be done; 0 if they are not counted.
    pub operations: f64,
    /// Bytes that must go to and from memory, each input read once and each output written once; 0
    /// if they are not counted.
    pub bytes: f64,
    /// Tokens that it processes or makes; 0 if there are none.
    pub tokens: f64,
}

impl Row {
    /// The share of the greater floor that the time reaches: 1 is as fast as `ceilings` let it be.
    /// `None` where there is no floor.
    pub fn share(&self, ceilings: Ceilings) -> Option<f64> {
        let floor = (self.operations / ceilings.operations).max(self.bytes / ceilings.bytes);
        (floor > 0.0 && floor.is_finite()).then_some(floor / self.timing.seconds)
    }
}

/// What the device can do at most.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceilings {
    /// Floating-point operations a second, of products in the storage type.
    pub operations: f64,
    /// Bytes a second, read and written, of a copy.
    pub bytes: f64,
}

/// Numbers in the tile that random buffers are made of.
const TILE: usize = 1 << 20;
/// Standard deviation of random weights.
const STD: f64 = 0.02;

/// Random numbers, made on the device: rows of a tile of normal numbers of standard deviation 0.02,
/// in random order.
pub struct Source<B: Backend> {
    tile: B::Buf,
    len: usize,
}

impl<B: Backend> Source<B> {
    /// Of what `upload` makes of host numbers.
    pub fn new(upload: impl Fn(&[f32]) -> B::Buf, quick: bool) -> Self {
        let len = if quick { TILE >> 6 } else { TILE };
        let mut draws = Stream::new(5, "numbers").sequence(0);
        let host: Vec<f32> = (0..len).map(|_| (STD * draws.normal()) as f32).collect();
        Source { tile: upload(&host), len }
    }

    /// Writes `out`, of the tile's storage type, over.
    pub fn fill(&self, b: &B, out: &mut B::Buf) {
        let len = b.len(out);
        // The widest rows that divide the buffer; few, wide rows are quickly described.
        let width = (0..=10)
            .rev()
            .map(|power| 1usize << power)
            .find(|width| len.is_multiple_of(*width))
            .expect("1 divides every length");
        let mut draws = Stream::new(6, "rows").sequence(len as u64);
        let rows: Vec<u32> =
            (0..len / width).map(|_| draws.below(self.len / width) as u32).collect();
        b.gather_rows(out, &self.tile, &rows, width);
    }
}

impl<B: Backend> Bench<'_, B> {
    /// Waits for what was queued.
    pub fn wait(&self) {
        self.b.download(&self.b.zeros(1));
    }

    /// Times `body`, which queues work once.
    pub fn time(&self, body: &mut dyn FnMut()) -> Timing {
        timing::time(self.options.clock, self.options.seconds, &|| self.wait(), body)
    }
}
