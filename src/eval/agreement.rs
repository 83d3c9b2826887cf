//! How far those who judge the same things agree beyond chance. Knows categories as numbers,
//! nothing of what they mean.

use std::collections::BTreeMap;

use super::interval::{FEWEST, FEWEST_CLUSTERS, Interval, of_set};

/// Groups of clusters that the jackknife leaves out, one after another.
const GROUPS: usize = 40;

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

/// How far apart two categories are (Krippendorff 2011, section D; numbers of the same category
/// are at no distance).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// All different categories as far: 1.
    Nominal,
    /// Categories in the order of their numbers: the square of how many of all judgements are
    /// between the middles of the two.
    Ordinal,
}

/// Krippendorff's alpha for categories (Krippendorff 2004, "Content Analysis", 11.3): 1 - observed
/// / expected disagreement, over the items that at least two have judged; raters may miss items.
/// `None` where there is no such item, or only one category was ever used.
pub fn krippendorff(items: &[Vec<u8>], scale: Scale) -> Option<f64> {
    let counted = |values: &Vec<u8>| {
        let mut counts: BTreeMap<u8, f64> = BTreeMap::new();
        values.iter().for_each(|value| *counts.entry(*value).or_default() += 1.0);
        counts
    };
    let judged: Vec<_> = items.iter().filter(|values| values.len() > 1).map(counted).collect();
    let mut totals: BTreeMap<u8, f64> = BTreeMap::new();
    judged.iter().flatten().for_each(|(value, count)| *totals.entry(*value).or_default() += count);
    let n: f64 = totals.values().sum();
    let distance = |one: u8, other: u8| match scale {
        _ if one == other => 0.0,
        Scale::Nominal => 1.0,
        Scale::Ordinal => {
            let between = totals.range(one.min(other)..=one.max(other));
            let ends = totals[&one] + totals[&other];
            (between.map(|(_, count)| count).sum::<f64>() - ends / 2.0).powi(2)
        }
    };
    // The sum over ordered pairs of the distances of the categories.
    let apart = |counts: &BTreeMap<u8, f64>| -> f64 {
        let of = |(one, many): (&u8, &f64)| {
            many * counts
                .iter()
                .map(|(other, as_many)| as_many * distance(*one, *other))
                .sum::<f64>()
        };
        counts.iter().map(of).sum()
    };
    let observed: f64 =
        judged.iter().map(|counts| apart(counts) / (counts.values().sum::<f64>() - 1.0)).sum();
    let expected = apart(&totals) / (n - 1.0);
    (n > 1.0 && expected > 0.0).then(|| 1.0 - observed / expected)
}

/// The same with its 95% interval by the jackknife over clusters of items, such as those of one
/// prompt ([`of_set`]); n counts the items that at least two have judged. There is none of fewer
/// than 8 of them, of fewer than 20 clusters of several, and where without some of them only one
/// category is left.
pub fn alpha<K: Ord>(items: &[(K, Vec<u8>)], scale: Scale) -> Option<Interval> {
    let judged: Vec<&(K, Vec<u8>)> = items.iter().filter(|(_, own)| own.len() > 1).collect();
    let mut clusters: BTreeMap<&K, Vec<&Vec<u8>>> = BTreeMap::new();
    judged.iter().for_each(|(key, own)| clusters.entry(key).or_default().push(own));
    let clusters: Vec<Vec<&Vec<u8>>> = clusters.into_values().collect();
    let of = |places: &[usize]| {
        let own: Vec<Vec<u8>> =
            places.iter().flat_map(|&at| clusters[at].iter().copied().cloned()).collect();
        krippendorff(&own, scale)
    };
    let n = clusters.len();
    let whole = of(&(0..n).collect::<Vec<usize>>())?;
    let fewest = if n == judged.len() { FEWEST } else { FEWEST_CLUSTERS };
    let found = of_set(n, GROUPS, fewest, |places| of(places).unwrap_or(f64::NAN));
    let Interval { low, high, kind, .. } = found.around(whole, n);
    // No alpha is above 1.
    Some(Interval {
        mean: whole,
        low,
        high: if high > 1.0 { 1.0 } else { high },
        n: judged.len(),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::Kind;

    #[test]
    fn kappa_of_the_textbook_table() {
        // 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, expected 0.5.
        let cells = [((1, 1), 20), ((1, 0), 5), ((0, 1), 10), ((0, 0), 15)];
        let pairs: Vec<(u8, u8)> =
            cells.iter().flat_map(|(pair, count)| std::iter::repeat_n(*pair, *count)).collect();
        assert!((cohen(&pairs).unwrap() - 0.4).abs() < 1e-12);
        assert_eq!((cohen(&[]), cohen(&[(1, 1), (1, 1)])), (None, None));
    }

    /// Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example C: four observers,
    /// twelve units, missing values.
    fn example() -> Vec<Vec<u8>> {
        let observers = [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ];
        let unit = |at: usize| {
            observers.iter().map(|row| row[at]).filter(|value| *value > 0).collect::<Vec<u8>>()
        };
        (0..12).map(unit).collect()
    }

    #[test]
    fn alpha_of_krippendorffs_own_example() {
        // 0.743 and 0.815 in the paper; the further digits are of its matrix of coincidences,
        // worked out apart from this code.
        for (scale, expected) in
            [(Scale::Nominal, 0.743_421_052_631_579), (Scale::Ordinal, 0.815_387_503_754_881)]
        {
            let alpha = krippendorff(&example(), scale).unwrap();
            assert!((alpha - expected).abs() < 1e-12, "{alpha}");
        }
        let of = |items: &[Vec<u8>]| krippendorff(items, Scale::Nominal);
        assert_eq!(of(&[vec![1, 2], vec![2, 1]]).map(|alpha| alpha < 0.0), Some(true));
        assert_eq!((of(&[vec![1], vec![2]]), of(&[vec![1, 1]])), (None, None));
    }

    #[test]
    fn an_order_of_two_categories_is_no_order() {
        let items = [vec![0, 0, 1], vec![1, 1], vec![0, 1], vec![0, 0, 0]];
        let [nominal, ordinal] =
            [Scale::Nominal, Scale::Ordinal].map(|scale| krippendorff(&items, scale).unwrap());
        assert!((nominal - ordinal).abs() < 1e-12, "{nominal} {ordinal}");
        // A tie is nearer to a win than a loss is.
        let near = [vec![2, 1], vec![1, 0], vec![0, 0], vec![2, 2]];
        let far = [vec![2, 0], vec![0, 1], vec![1, 0], vec![2, 2]];
        let [near, far] = [near, far].map(|items| {
            krippendorff(&items, Scale::Ordinal).unwrap()
                - krippendorff(&items, Scale::Nominal).unwrap()
        });
        assert!(near > 0.1 && far < near, "{near} {far}");
    }

    #[test]
    fn alpha_has_an_interval_where_there_are_items_enough() {
        let keyed: Vec<(usize, Vec<u8>)> = example().into_iter().enumerate().collect();
        let found = alpha(&keyed, Scale::Ordinal).unwrap();
        // The last unit has one value: no pair.
        assert!(found.n == 11 && found.kind == Kind::Jackknife, "{found:?}");
        assert!(found.low < found.mean && found.mean < found.high && found.high <= 1.0);
        let few = alpha(&keyed[..7], Scale::Nominal).unwrap();
        assert!(few.kind == Kind::NoneTooFew && !few.has_ends());
        // Without the one item that differs nothing is left to agree on by chance.
        let mut one: Vec<(usize, Vec<u8>)> = (0..9).map(|at| (at, vec![1, 1])).collect();
        one[3].1[0] = 2;
        let one = alpha(&one, Scale::Nominal).unwrap();
        assert!(one.kind == Kind::NoneAllEqual && !one.has_ends(), "{one:?}");
        // Eleven items of two prompts are two clusters.
        let two: Vec<(usize, Vec<u8>)> =
            example().into_iter().enumerate().map(|(at, own)| (at % 2, own)).collect();
        assert_eq!(alpha(&two, Scale::Nominal).unwrap().kind, Kind::NoneTooFew);
        assert_eq!(alpha::<usize>(&[], Scale::Nominal), None);
    }
}
