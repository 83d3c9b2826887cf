//! How far two lists of numbers order the same things alike: Kendall's tau-b, Spearman's rho, and
//! the share of ordered pairs. Knows no meaning of the numbers.
//!
//! 1. Two numbers are tied if they differ by at most 1e-9 of the larger, or of 1: sums in another
//!    order are equal.
//! 2. Of all pairs of things, P are ordered alike by both lists, Q oppositely, X tied in the first
//!    list alone and Y in the second alone. [`tau_b`] is (P - Q) / sqrt((P + Q + X)(P + Q + Y))
//!    (Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33:239).
//! 3. [`spearman`] is Pearson's correlation of the ranks, tied things having the mean of their
//!    ranks (Spearman 1904; Kendall 1948, "Rank correlation methods", chapter 3).
//! 4. [`ordered`] is the share of the pairs which the second list, the truth, orders that the first
//!    orders in the same way; a tie of the first counts a half.
//! 5. Where a list has one value only, it orders nothing: tau-b and Spearman's rho are 0 then, and
//!    the share is a half.

use std::cmp::Ordering;

/// How far rounding may part equal numbers, of the larger or of 1.
const ROUNDING: f64 = 1e-9;

fn compare(a: f64, b: f64) -> Ordering {
    match (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(1.0) {
        true => Ordering::Equal,
        false => a.total_cmp(&b),
    }
}

/// Pairs of things by how two lists order them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pairs {
    alike: usize,
    opposite: usize,
    tied_in_first: usize,
    tied_in_second: usize,
}

impl Pairs {
    fn of(first: &[f64], second: &[f64]) -> Self {
        assert_eq!(first.len(), second.len(), "two lists of the same things");
        let mut pairs = Pairs::default();
        for j in 0..first.len() {
            for i in 0..j {
                pairs.add([first[i], first[j]], [second[i], second[j]]);
            }
        }
        pairs
    }

    fn add(&mut self, first: [f64; 2], second: [f64; 2]) {
        match (compare(first[0], first[1]), compare(second[0], second[1])) {
            (Ordering::Equal, Ordering::Equal) => {}
            (Ordering::Equal, _) => self.tied_in_first += 1,
            (_, Ordering::Equal) => self.tied_in_second += 1,
            (a, b) if a == b => self.alike += 1,
            _ => self.opposite += 1,
        }
    }

    fn tau_b(&self) -> f64 {
        let [alike, opposite, x, y] =
            [self.alike, self.opposite, self.tied_in_first, self.tied_in_second].map(|n| n as f64);
        let scale = ((alike + opposite + x) * (alike + opposite + y)).sqrt();
        if scale == 0.0 { 0.0 } else { (alike - opposite) / scale }
    }
}

/// Kendall's tau-b, -1 to 1.
///
/// # Panics
/// If the lists have unequal lengths.
pub fn tau_b(first: &[f64], second: &[f64]) -> f64 {
    Pairs::of(first, second).tau_b()
}

/// Kendall's tau-b over given pairs of things instead of over all pairs of a list: P, Q, X and Y
/// count the pairs of values that the two lists have at the same place (Deutsch, Foster and Freitag
/// 2023, "Ties matter", arXiv 2305.14324, section 3: the pairs of one segment, of all segments
/// together).
///
/// # Panics
/// If the lists have unequal lengths.
pub fn tau_b_of_pairs(first: &[[f64; 2]], second: &[[f64; 2]]) -> f64 {
    assert_eq!(first.len(), second.len(), "two lists of the same pairs");
    let mut pairs = Pairs::default();
    first.iter().zip(second).for_each(|(first, second)| pairs.add(*first, *second));
    pairs.tau_b()
}

/// Whether the first pair of values is ordered as the second, the truth: 1, 0, or, where the first
/// is tied, a half; `None` where the truth is tied.
pub fn ordered_alike(found: [f64; 2], truth: [f64; 2]) -> Option<f64> {
    match (compare(found[0], found[1]), compare(truth[0], truth[1])) {
        (_, Ordering::Equal) => None,
        (Ordering::Equal, _) => Some(0.5),
        (found, truth) => Some(f64::from(u8::from(found == truth))),
    }
}

/// Spearman's rho, -1 to 1.
///
/// # Panics
/// If the lists have unequal lengths.
pub fn spearman(first: &[f64], second: &[f64]) -> f64 {
    assert_eq!(first.len(), second.len(), "two lists of the same things");
    let (first, second) = (ranks(first), ranks(second));
    let middle = (first.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum()
    };
    let scale = (product(&first, &first) * product(&second, &second)).sqrt();
    if scale == 0.0 { 0.0 } else { product(&first, &second) / scale }
}

/// The share of the pairs that `truth` orders which `found` orders alike, a tie of `found` counting
/// a half; 0 to 1.
///
/// # Panics
/// If the lists have unequal lengths.
pub fn ordered(found: &[f64], truth: &[f64]) -> f64 {
    let pairs = Pairs::of(found, truth);
    let of_truth = pairs.alike + pairs.opposite + pairs.tied_in_first;
    if of_truth == 0 {
        return 0.5;
    }
    (pairs.alike as f64 + 0.5 * pairs.tied_in_first as f64) / of_truth as f64
}

/// The ranks from 1, tied numbers having the mean of theirs.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut from = 0;
    while from < order.len() {
        let tied = |at: &&usize| compare(numbers[order[from]], numbers[**at]).is_eq();
        let to = from + order[from..].iter().take_while(tied).count();
        // Ranks from + 1 to `to`.
        order[from..to].iter().for_each(|at| ranks[*at] = (from + 1 + to) as f64 / 2.0);
        from = to;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
    }

    /// 1, 2, 2, 3 and 1, 3, 2, 2. Of six pairs (1,2), (1,3), (1,4), alike; (2,4) and (2,3): the
    /// first list ties (2,3), of (2,4) it says 2 < 3 and the second 3 > 2: opposite; (3,4) is tied
    /// in the second. P = 3, Q = 1, X = 1, Y = 1: 2 / 5. Ranks 1, 2.5, 2.5, 4 and 1, 4, 2.5, 2.5,
    /// less 2.5: products 2.25 + 0 + 0 + 0 over 4.5.
    #[test]
    fn ties_are_counted_as_worked_out_by_hand() {
        let (first, second) = ([1.0, 2.0, 2.0, 3.0], [1.0, 3.0, 2.0, 2.0]);
        close(tau_b(&first, &second), 0.4);
        close(spearman(&first, &second), 0.5);
        // The second orders all pairs but (3,4): 3 alike, 1 opposite, 1 tied of 5.
        close(ordered(&first, &second), 0.7);
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 3.0, 0.0]), [4.0, 2.0, 4.0, 4.0, 1.0]);
    }

    #[test]
    fn without_ties_tau_is_one_less_twice_the_share_of_inversions() {
        let first: Vec<f64> = (0..6).map(f64::from).collect();
        // 3, 0, 1, 5, 4, 2: inversions 3 of 3, then (5,4), (5,2), (4,2): 6 of 15.
        let second = [3.0, 0.0, 1.0, 5.0, 4.0, 2.0];
        close(tau_b(&first, &second), 1.0 - 12.0 / 15.0);
        close(ordered(&first, &second), 9.0 / 15.0);
        // 1 - 6 sum d^2 / (n (n^2 - 1)), d = 3, -1, -1, 2, 0, -3: 24.
        close(spearman(&first, &second), 1.0 - 6.0 * 24.0 / 210.0);
    }

    /// Of five pairs: alike, alike, opposite, tied in the first, tied in the second: P = 2, Q = 1,
    /// X = 1, Y = 1, (2 - 1) / sqrt(4 * 4).
    #[test]
    fn given_pairs_alone_are_counted() {
        let first = [[1.0, 2.0], [5.0, 3.0], [0.0, 1.0], [2.0, 2.0], [3.0, 4.0]];
        let second = [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]];
        close(tau_b_of_pairs(&first, &second), 0.25);
        let alike: Vec<Option<f64>> =
            first.iter().zip(&second).map(|(a, b)| ordered_alike(*a, *b)).collect();
        assert_eq!(alike, [Some(1.0), Some(1.0), Some(0.0), Some(0.5), None]);
        assert_eq!(tau_b_of_pairs(&[], &[]), 0.0);
    }

    #[test]
    fn a_list_of_one_value_orders_nothing_and_rounding_parts_nothing() {
        let (flat, rising) = ([0.1 + 0.2, 0.3, 0.3], [1.0, 2.0, 3.0]);
        for (a, b) in [(flat, rising), (rising, flat)] {
            assert_eq!((tau_b(&a, &b), spearman(&a, &b)), (0.0, 0.0));
            assert_eq!(ordered(&a, &b), 0.5);
        }
        assert_eq!((tau_b(&[], &[]), spearman(&[], &[]), ordered(&[], &[])), (0.0, 0.0, 0.5));
    }

    proptest! {
        /// A change of sign of one list changes the sign; any rising function changes nothing.
        #[test]
        fn only_the_order_counts(
            pairs in prop::collection::vec((-4i8..4, -4i8..4), 2..12),
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) =
                pairs.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).unzip();
            let cubed: Vec<f64> = a.iter().map(|a| a.powi(3) + 7.0).collect();
            let turned: Vec<f64> = a.iter().map(|a| -a).collect();
            for of in [tau_b, spearman] {
                prop_assert!((of(&a, &b) - of(&cubed, &b)).abs() < 1e-12);
                prop_assert!((of(&a, &b) + of(&turned, &b)).abs() < 1e-12);
                prop_assert!((of(&a, &b) - of(&b, &a)).abs() < 1e-12);
            }
            prop_assert!((ordered(&a, &b) + ordered(&turned, &b) - 1.0).abs() < 1e-12);
        }
    }
}
