//! Vectors of plain arithmetic, which every target has.

use super::number::Number;
use super::vector::Vector;

/// The proof that every machine has.
#[derive(Clone, Copy)]
pub struct Always;

/// Four numbers in the registers that the target guarantees.
#[derive(Clone, Copy)]
pub struct Plain<T>([T; 4]);

impl<T: Number> Vector<T> for Plain<T> {
    type Proof = Always;
    const WIDTH: usize = 4;
    #[inline(always)]
    fn splat(_: Always, x: T) -> Self {
        Plain([x; 4])
    }
    #[inline(always)]
    fn load(_: Always, from: &[T]) -> Self {
        Plain([from[0], from[1], from[2], from[3]])
    }
    #[inline(always)]
    fn store(self, to: &mut [T]) {
        to[..4].copy_from_slice(&self.0);
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        Plain(std::array::from_fn(|lane| self.0[lane].mul_add(a.0[lane], b.0[lane])))
    }
    #[inline(always)]
    fn mul(self, a: Self) -> Self {
        Plain(std::array::from_fn(|lane| self.0[lane] * a.0[lane]))
    }
    #[inline(always)]
    fn add(self, a: Self) -> Self {
        Plain(std::array::from_fn(|lane| self.0[lane] + a.0[lane]))
    }
}
