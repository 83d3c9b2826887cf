//! How far those who judge the same things agree beyond chance. Knows categories as numbers,
//! nothing of what they mean.

use std::collections::BTreeMap;

/// Cohen's kappa of two raters (Cohen 1960): (p - e) / (1 - e), p the share of items on which they
/// agree, e what the product of their shares of each category gives. `None` without an item, or
/// where both have said one thing only.
pub fn cohen(pairs: &[(u8, u8)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let mut counts: BTreeMap<u8, (f64, f64)> = BTreeMap::new();
    for (first, second) in pairs {
        counts.entry(*first).or_default().0 += 1.0;
        counts.entry(*second).or_default().1 += 1.0;
    }
    let observed = pairs.iter().filter(|(first, second)| first == second).count() as f64 / n;
    let expected: f64 = counts.values().map(|(first, second)| first * second / (n * n)).sum();
    (!pairs.is_empty() && expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
}

/// Krippendorff's alpha for categories (Krippendorff 2004, "Content Analysis", 11.3): 1 - observed
/// / expected disagreement, over the items that at least two have judged; raters may miss items.
/// `None` where there is no such item, or only one category was ever used.
pub fn krippendorff(items: &[Vec<u8>]) -> Option<f64> {
    let mut totals: BTreeMap<u8, f64> = BTreeMap::new();
    let (mut n, mut disagreement) = (0.0, 0.0);
    for values in items.iter().filter(|values| values.len() > 1) {
        let m = values.len() as f64;
        let mut own: BTreeMap<u8, f64> = BTreeMap::new();
        values.iter().for_each(|value| *own.entry(*value).or_default() += 1.0);
        n += m;
        disagreement += own.values().map(|count| count * (m - count)).sum::<f64>() / (m - 1.0);
        own.iter().for_each(|(value, count)| *totals.entry(*value).or_default() += count);
    }
    let expected: f64 = totals.values().map(|count| count * (n - count)).sum::<f64>() / (n - 1.0);
    (n > 1.0 && expected > 0.0).then(|| 1.0 - disagreement / expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kappa_of_the_textbook_table() {
        // 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, expected 0.5.
        let cells = [((1, 1), 20), ((1, 0), 5), ((0, 1), 10), ((0, 0), 15)];
        let pairs: Vec<(u8, u8)> =
            cells.iter().flat_map(|(pair, count)| std::iter::repeat_n(*pair, *count)).collect();
        assert!((cohen(&pairs).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!((cohen(&[]), cohen(&[(1, 1), (1, 1)])), (None, None));
    }

    #[test]
    fn alpha_of_krippendorffs_own_example() {
        // Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example C: four
        // observers, twelve units, missing values; 0.743.
        let observers = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ];
        let unit = |at: usize| {
            observers.iter().map(|row| row[at]).filter(|value| *value > 0).collect::<Vec<u8>>()
        };
        let alpha = krippendorff(&(0..12).map(unit).collect::<Vec<_>>()).unwrap();
        assert!((alpha - 0.743).abs() < 5e-4, "{alpha}");
        assert_eq!(krippendorff(&[vec![1, 2], vec![2, 1]]).map(|alpha| alpha < 0.0), Some(true));
        assert_eq!((krippendorff(&[vec![1], vec![2]]), krippendorff(&[vec![1, 1]])), (None, None));
    }
}
