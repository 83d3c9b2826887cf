//! Pinned memory of the host, which the device copies from and to without the driver.

use cudarc::driver::result;

use super::fault::fault;
use crate::error::raise;

/// Pinned memory of the host.
#[derive(Debug)]
pub struct Pinned {
    at: *mut u8,
    bytes: usize,
}

// SAFETY: plain memory, which belongs to no thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Some, on a device that is bound.
    pub fn new(bytes: usize) -> Pinned {
        // SAFETY: allocates; freed only by `Drop`.
        let at = unsafe { result::malloc_host(bytes, 0) }
            .unwrap_or_else(|error| raise(fault("pin memory of the host", error)));
        Pinned { at: at.cast(), bytes }
    }

    /// Bytes into it, from `offset` on.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.bytes, "what is written to pinned memory fits");
        // SAFETY: it fits, and nothing else of the program refers to this memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.add(offset), bytes.len()) }
    }

    /// The address of the byte at `offset`, which is within it.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.bytes, "an address within pinned memory");
        // SAFETY: within the allocation.
        unsafe { self.at.add(offset) }
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` and freed once; its owner has waited for the stream. An error
        // cannot be returned from here.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}
