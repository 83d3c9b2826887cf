//! Temporary buffers that a thread keeps for their next use, so that kernels do not allocate each time. Knows nothing of what is in them.

use std::ops::{Deref, DerefMut};

use super::number::Number;

/// A buffer with unspecified content. Goes back to the thread that drops it.
pub struct Scratch<T: Number> {
    buffer: Vec<T>,
    len: usize,
}

impl<T: Number> Scratch<T> {
    /// `len` numbers, whatever they are.
    pub fn new(len: usize) -> Self {
        let mut buffer = T::pool().with_borrow_mut(Vec::pop).unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, T::ZERO);
        }
        Scratch { buffer, len }
    }
}

impl<T: Number> Drop for Scratch<T> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        T::pool().with_borrow_mut(|pool| pool.push(buffer));
    }
}

impl<T: Number> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.buffer[..self.len]
    }
}

impl<T: Number> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[..self.len]
    }
}
