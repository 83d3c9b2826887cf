//! Buffers: arrays of numbers in a device's memory, their copies from and to the host, and
//! operations on whole buffers.

use crate::shapes::length;

/// Bytes of a number in a device's memory, by where it is, and how wide heads may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// A weight, an activation, a key.
    pub stored: usize,
    /// A statistic, a gradient of a weight, a moment, a master.
    pub wide: usize,
    /// On the host; 0 where its memory is not the device's.
    pub host: usize,
    /// The most channels of a head that attention takes.
    pub channels: usize,
}

impl Sizes {
    /// Whether a stored number has fewer digits than a wide one, so that a weight that trains needs
    /// a wide master.
    pub fn is_narrow(self) -> bool {
        self.stored < self.wide
    }
}

/// A device with its buffers.
pub trait Buffers: Clone + Sync {
    /// A contiguous array of numbers, stored or wide.
    type Buf: Send + Sync;
    /// Launch lists of earlier steps, as device graphs (nothing on the CPU).
    type GraphCache: Default + Send;

    /// Bytes of the device's memory that are free, where it is not the host's.
    fn free_memory(&self) -> Option<u64> {
        None
    }
    /// Bytes of its numbers.
    fn sizes(&self) -> Sizes;
    /// `len` zeros.
    fn zeros(&self, len: usize) -> Self::Buf;
    /// `len` wide zeros.
    fn wide(&self, len: usize) -> Self::Buf {
        self.zeros(len)
    }
    /// A copy of host numbers.
    fn upload(&self, host: &[f32]) -> Self::Buf;
    /// Host numbers that the caller gives up: no copy, where the device is the host and computes in
    /// their precision.
    fn upload_owned(&self, host: Vec<f32>) -> Self::Buf {
        self.upload(&host)
    }
    /// A copy of host numbers in double precision, rounded to the back end's.
    fn upload_f64(&self, host: &[f64]) -> Self::Buf;
    /// A wide copy of host numbers.
    fn upload_wide(&self, host: &[f32]) -> Self::Buf {
        self.upload(host)
    }
    /// A wide copy of host numbers in double precision.
    fn upload_wide_f64(&self, host: &[f64]) -> Self::Buf {
        self.upload_f64(host)
    }
    /// A copy on the host.
    fn download(&self, x: &Self::Buf) -> Vec<f32>;
    /// A copy on the host in double precision.
    fn download_f64(&self, x: &Self::Buf) -> Vec<f64>;
    /// Count of numbers.
    fn len(&self, x: &Self::Buf) -> usize;

    /// `out = x`.
    fn copy(&self, out: &mut Self::Buf, x: &Self::Buf) {
        length(self.len(x), self.len(out), "x");
        self.copy_unchecked(out, x);
    }
    /// [`Buffers::copy`] of checked arguments.
    fn copy_unchecked(&self, out: &mut Self::Buf, x: &Self::Buf);
    /// `out = value` everywhere.
    fn fill(&self, out: &mut Self::Buf, value: f32);
    /// `out += x`.
    fn add(&self, out: &mut Self::Buf, x: &Self::Buf) {
        length(self.len(x), self.len(out), "x");
        self.add_unchecked(out, x);
    }
    /// [`Buffers::add`] of checked arguments.
    fn add_unchecked(&self, out: &mut Self::Buf, x: &Self::Buf);
    /// Sum of squares in double precision, in a fixed order.
    fn sum_squares(&self, x: &Self::Buf) -> f64;
    /// [`Buffers::sum_squares`] of many buffers, with the same bits.
    fn sums_of_squares(&self, buffers: &[&Self::Buf]) -> Vec<f64> {
        buffers.iter().map(|x| self.sum_squares(x)).collect()
    }

    /// Runs `step`. A back end may record the launches and replay them as one device graph when the
    /// same list recurs with the same `cache`: the same operations on buffers of the same sizes,
    /// with other ids, positions and views. Results do not depend on it. Buffers that the step
    /// allocates should be dropped by the end of the step.
    fn with_graph<R>(&self, _cache: &mut Self::GraphCache, step: impl FnOnce() -> R) -> R {
        step()
    }
}
