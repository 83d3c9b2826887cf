//! Reductions of one row in the one order that all rows share: sixteen lanes by index modulo 16,
//! ascending, then a fixed tree. Independent of the meaning of the numbers.

use super::number::Number;

/// Lanes of every row reduction. A constant of the numerics, for every instruction set.
pub const LANES: usize = 16;

/// Adds up lanes by halves: (0+8), (1+9), …, then (0+4), …
#[inline(always)]
pub fn tree<T: Number>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Folds triples of elements into lanes by `step`, then adds up the lanes.
#[inline(always)]
pub fn fold3<T: Number>(a: &[T], b: &[T], c: &[T], step: impl Fn(T, T, T, T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_whole, a_rest) = a.as_chunks::<LANES>();
    let (b_whole, b_rest) = b[..a.len()].as_chunks::<LANES>();
    let (c_whole, c_rest) = c[..a.len()].as_chunks::<LANES>();
    for ((a, b), c) in a_whole.iter().zip(b_whole).zip(c_whole) {
        for lane in 0..LANES {
            lanes[lane] = step(lanes[lane], a[lane], b[lane], c[lane]);
        }
    }
    for (lane, ((&a, &b), &c)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest).zip(c_rest)) {
        *lane = step(*lane, a, b, c);
    }
    tree(lanes)
}

/// Folds elements into lanes of two sums by `step`, then adds up both.
#[inline(always)]
pub fn fold_pair<T: Number>(x: &[T], step: impl Fn((T, T), T) -> (T, T)) -> (T, T) {
    let (mut a, mut b) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            (a[lane], b[lane]) = step((a[lane], b[lane]), x[lane]);
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        (a[lane], b[lane]) = step((a[lane], b[lane]), x);
    }
    (tree(a), tree(b))
}

/// Sum of products.
#[inline(always)]
pub fn dot<T: Number>(a: &[T], b: &[T]) -> T {
    fold3(a, b, b, |sum, a, b, _| a.mul_add(b, sum))
}

/// Sum of squares in double precision.
#[inline(always)]
pub fn sum_squares_f64<T: Number>(x: &[T]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] = x[lane].to_f64().mul_add(x[lane].to_f64(), lanes[lane]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = x.to_f64().mul_add(x.to_f64(), *lane);
    }
    tree(lanes)
}

/// Sum in double precision.
#[inline(always)]
pub fn sum_f64<T: Number>(x: &[T]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] += x[lane].to_f64();
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x.to_f64();
    }
    tree(lanes)
}

/// Sum.
#[inline(always)]
pub fn sum<T: Number>(x: &[T]) -> T {
    fold3(x, x, x, |sum, x, _, _| sum + x)
}

/// The greatest element that is a number; minus infinity of nothing.
#[inline(always)]
pub fn max<T: Number>(x: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] = if x[lane] > lanes[lane] { x[lane] } else { lanes[lane] };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] =
                if lanes[lane + half] > lanes[lane] { lanes[lane + half] } else { lanes[lane] };
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_sum_is_sixteen_lanes_and_a_tree() {
        for len in [0, 1, 15, 16, 17, 40, 100] {
            let x: Vec<f32> =
                (0..len).map(|i| ((i * 7919) % 1000) as f32 * 1.1e-3 + 1e-7 * i as f32).collect();
            let mut lanes: Vec<f32> = (0..16)
                .map(|lane| x.iter().skip(lane).step_by(16).fold(0.0, |sum, x| sum + x))
                .collect();
            while lanes.len() > 1 {
                let upper = lanes.split_off(lanes.len() / 2);
                lanes.iter_mut().zip(upper).for_each(|(a, b)| *a += b);
            }
            assert_eq!(sum(&x).to_bits(), lanes[0].to_bits());
        }
    }

    #[test]
    fn the_maximum_skips_what_is_not_a_number() {
        assert_eq!(max(&[1.0f32, f32::NAN, 3.0]), 3.0);
        assert_eq!(max::<f64>(&[]), f64::NEG_INFINITY);
        assert_eq!(max(&(0..37).map(f64::from).collect::<Vec<_>>()), 36.0);
    }
}
