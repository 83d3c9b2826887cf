//! Buffers of the CPU: vectors.

use super::Cpu;
use super::number::Number;
use super::rows;
use crate::{Buffers, Sizes};

in_both_precisions! {
    impl Buffers for Cpu<T> {
        type Buf = Vec<T>;
        type GraphCache = ();

        fn sizes(&self) -> Sizes {
            Sizes {
                stored: size_of::<T>(),
                wide: size_of::<T>(),
                host: size_of::<f32>(),
                channels: usize::MAX,
            }
        }

        fn zeros(&self, len: usize) -> Vec<T> {
            vec![T::ZERO; len]
        }

        fn upload(&self, host: &[f32]) -> Vec<T> {
            host.iter().map(|&x| T::from_f32(x)).collect()
        }

        fn upload_owned(&self, host: Vec<f32>) -> Vec<T> {
            T::from_f32s(host)
        }

        fn upload_f64(&self, host: &[f64]) -> Vec<T> {
            host.iter().map(|&x| T::from_f64(x)).collect()
        }

        fn download(&self, x: &Vec<T>) -> Vec<f32> {
            x.iter().map(|x| x.to_f32()).collect()
        }

        fn download_f64(&self, x: &Vec<T>) -> Vec<f64> {
            x.iter().map(|x| x.to_f64()).collect()
        }

        fn len(&self, x: &Vec<T>) -> usize {
            x.len()
        }

        fn copy_unchecked(&self, out: &mut Vec<T>, x: &Vec<T>) {
            rows::copy(out, x);
        }

        fn fill(&self, out: &mut Vec<T>, value: f32) {
            rows::fill(out, T::from_f32(value));
        }

        fn add_unchecked(&self, out: &mut Vec<T>, x: &Vec<T>) {
            rows::add(self.simd, out, x);
        }

        fn sum_squares(&self, x: &Vec<T>) -> f64 {
            rows::sum_squares(self.simd, x)
        }
    }
}
