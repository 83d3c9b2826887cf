//! Temporary buffers that a thread keeps for their next use, so that kernels do not allocate each
//! time. Independent of their content.

use std::ops::{Deref, DerefMut};

use super::number::Number;

/// A buffer with unspecified content. Goes back to the thread that drops it.
pub struct Scratch<T: Number> {
    buffer: Vec<T>,
    len: usize,
}

impl<T: Number> Scratch<T> {
    /// `len` numbers with unspecified values.
    pub fn new(len: usize) -> Self {
        // The smallest that is large enough, else the largest: so that small requests do not make
        // all buffers grow in time.
        let mut buffer = T::pool().with_borrow_mut(|pool| {
            let fitting = (0..pool.len())
                .filter(|&at| pool[at].len() >= len)
                .min_by_key(|&at| pool[at].len());
            let at = fitting.or_else(|| (0..pool.len()).max_by_key(|&at| pool[at].len()));
            at.map(|at| pool.swap_remove(at)).unwrap_or_default()
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_nested_ones_are_apart() {
        let mut outer = Scratch::<f64>::new(1000);
        outer.fill(1.0);
        let place = outer.as_ptr();
        {
            let mut inner = Scratch::<f64>::new(10);
            inner.fill(2.0);
            assert_eq!(inner.len(), 10);
        }
        assert!(outer.iter().all(|&x| x == 1.0));
        drop(outer);
        let small = Scratch::<f64>::new(5);
        assert_eq!(Scratch::<f64>::new(900).as_ptr(), place);
        assert_ne!(small.as_ptr(), place);
    }
}
