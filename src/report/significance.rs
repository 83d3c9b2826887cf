//! Significance in an evaluation: differences between methods with corrected p values,
//! policies beside best-of-n at their KL and at their score, gaps between test sets, of methods and
//! of what they gain, wins head to head, similarities of two methods. Lays out what
//! `comparisons.json` has; every format shows the same. Knows metrics by their names alone.

use std::collections::BTreeMap;

use super::layout::{Cell, Line, Listing, Verdict, decimals, distinct};
use super::metrics::{DIFFERENCE, GAIN_GAP};
use super::run::Evaluation;
use crate::artefacts::comparisons::{Between, Comparisons};
use crate::artefacts::quality::{DISTINCT_K, GOOD, QUALITY_CONTROL, SIMPSON};
use crate::artefacts::table::{DIVERSITY, Row, Table};
use crate::eval::compare::{Difference, least_p};
use crate::eval::gains::GainGap;
use crate::eval::interval::Interval;

/// Decimals of a p value: 10,000 flips of signs give no smaller one than 0.0001.
const P_DECIMALS: usize = 4;

/// A comparison as a line of a listing.
struct Compared<'a> {
    metric: &'a str,
    /// What is compared with what.
    name: String,
    /// The test set, or two of them.
    test_set: String,
    interval: Interval,
    p: f64,
    p_holm: f64,
    /// The KL, or the n, that both are compared at.
    at: Option<f64>,
}

impl<'a> Compared<'a> {
    fn of(difference: &'a Difference, at: Option<f64>) -> Self {
        let Difference { metric, test_set, method, with, interval, p, p_holm } = difference;
        let (name, test_set) = (pair(method, with), test_set.clone());
        Compared { metric, name, test_set, interval: *interval, p: *p, p_holm: *p_holm, at }
    }
}

/// One method minus another on the same inputs: a listing a metric.
pub(super) fn differences(evaluation: &Evaluation) -> Vec<Listing> {
    let all = evaluation.comparisons.differences.iter();
    let all: Vec<Compared<'_>> = all.map(|difference| Compared::of(difference, None)).collect();
    let meaning = "one method minus another, input by input, with its 95% interval; p of no \
        difference, and Holm-corrected over all of this table";
    listings(
        &all,
        "differences between methods",
        meaning,
        &["methods", "difference", "p", "p, Holm"],
    )
}

/// A policy minus best-of-n at the policy's KL: a listing a metric.
pub(super) fn at_equal_kl(evaluation: &Evaluation) -> Vec<Listing> {
    let all = evaluation.comparisons.matched.iter();
    let all: Vec<Compared<'_>> =
        all.map(|matched| Compared::of(&matched.difference, Some(matched.kl))).collect();
    let meaning = "a policy minus best-of-n with the n whose KL bound is the policy's KL, in nats; \
        p Holm-corrected over this table";
    listings(
        &all,
        "against best-of-n at equal KL",
        meaning,
        &["methods", "difference", "p", "p, Holm", "KL"],
    )
}

/// What of a gain is lost from one test set to another: a listing a metric.
pub(super) fn gain_gaps(evaluation: &Evaluation) -> Vec<Listing> {
    fn compared(gap: &GainGap) -> Compared<'_> {
        let GainGap { metric, method, with, from, to, interval, p, p_holm } = gap;
        let (name, test_set) = (pair(method, with), pair(from, to));
        Compared { metric, name, test_set, interval: *interval, p: *p, p_holm: *p_holm, at: None }
    }
    let all: Vec<Compared<'_>> = evaluation.comparisons.gains.iter().map(compared).collect();
    let meaning = "what one method gains over another in distribution minus what it gains out of \
        it: above 0, a part of the gain is lost; p Holm-corrected over this table";
    listings(&all, "gaps of gains", meaning, &["methods", "gap of gains", "p", "p, Holm"])
}

/// A policy minus best-of-n at the policy's mean score: a listing a metric.
pub(super) fn at_equal_quality(evaluation: &Evaluation) -> Vec<Listing> {
    let all = evaluation.comparisons.matched_quality.iter();
    let all: Vec<Compared<'_>> =
        all.map(|matched| Compared::of(&matched.difference, Some(matched.best_of))).collect();
    let meaning = "a policy minus best-of-n with the n that has the policy's mean score; p \
        Holm-corrected over this table";
    listings(
        &all,
        "against best-of-n at equal quality",
        meaning,
        &["methods", "difference", "p", "p, Holm", "n"],
    )
}

fn listings(
    all: &[Compared<'_>],
    title: &str,
    meaning: &str,
    columns: &[&'static str],
) -> Vec<Listing> {
    let metrics = distinct(all.iter().map(|one| one.metric));
    let listing = |metric: &str| {
        let own: Vec<&Compared<'_>> = all.iter().filter(|one| one.metric == metric).collect();
        let decimals = decimals(own.iter().map(|one| one.interval.mean));
        let line = |one: &&Compared<'_>| {
            let mut cells = vec![Cell::interval(&one.interval, decimals)];
            cells.extend([one.p, one.p_holm].map(p));
            cells.extend(one.at.map(|at| Cell::number(at, 3)));
            Line {
                name: one.name.clone(),
                test_set: one.test_set.clone(),
                cells,
                verdict: Some(Verdict::of(one.interval.mean, one.p_holm)),
            }
        };
        Listing {
            title: format!("{metric}: {title}"),
            metric: metric.into(),
            meaning: meaning.into(),
            columns: columns.into(),
            lines: own.iter().map(line).collect(),
        }
    };
    metrics.into_iter().map(listing).collect()
}

/// What is compared with what.
pub(super) fn pair(method: &str, with: &str) -> String {
    format!("{method} - {with}")
}

/// A p value as text.
pub(super) fn p(p: f64) -> Cell {
    Cell::number(p, P_DECIMALS)
}

/// Gaps between test sets, wins head to head and then similarities of two methods, as a table of
/// blocks: `gold_gap`, `gold_head_to_head`, `ngram_similarity_between`.
pub(super) fn table(evaluation: &Evaluation) -> Table {
    let comparisons = &evaluation.comparisons;
    let row = |method: &str, test_set: &str, metric: &str, what: &str, interval: Interval| {
        Row::new(method, test_set, &format!("{metric}_{what}"), interval)
    };
    let gaps = comparisons
        .gaps
        .iter()
        .map(|gap| row(&gap.method, &pair(&gap.from, &gap.to), &gap.metric, "gap", gap.interval));
    let wins = comparisons.head_to_head.iter();
    let wins = wins.map(|wins| {
        row(
            &pair(&wins.method, &wins.with),
            &wins.test_set,
            &wins.metric,
            "head_to_head",
            wins.interval,
        )
    });
    let rows = gaps.chain(wins).chain(comparisons.between.iter().flat_map(between)).collect();
    Table { own: evaluation.table.own.clone(), rows, ..Table::default() }
}

/// What is said of the similarity of two methods, by the ending of the metric's name.
pub(super) fn of_two(of: &Between) -> impl Iterator<Item = (&'static str, Interval)> {
    let always = [("_between", of.similarity), ("_between_high", of.high)];
    always.into_iter().chain(of.apart.map(|apart| ("_apart", apart)))
}

/// The rows of the similarity of two methods.
fn between(of: &Between) -> impl Iterator<Item = Row> {
    let name = format!("{} with {}", of.method, of.with);
    of_two(of).map(move |(ending, interval)| {
        Row::new(&name, &of.test_set, &format!("{}{ending}", of.metric), interval)
    })
}

/// What is printed below the table of an evaluation, as a table of blocks: all comparisons by gold
/// (by `rm` where there is no gold), by the judges that have names, by what programs of the user's
/// measured, by [`DIVERSITY`], by classes and good samples, and similarities of two methods, where
/// these are measured.
pub(super) fn printed(evaluation: &Evaluation) -> Table {
    let (comparisons, own) = (&evaluation.comparisons, &evaluation.table.own);
    let metrics = distinct(comparisons.differences.iter().map(|one| one.metric.as_str()));
    let performance = ["gold", "rm"].into_iter().find(|metric| metrics.contains(metric));
    let judges = metrics.iter().copied().filter(|metric| metric.starts_with("win_rate_"));
    let [good, control] = [GOOD, QUALITY_CONTROL].map(|way| format!("{SIMPSON}{way}"));
    let graded = [DISTINCT_K, &good, &control];
    let of_programs = own.iter().map(|own| own.metric.as_str());
    let shown = performance.into_iter().chain(judges).chain(of_programs);
    let shown = shown.chain([DIVERSITY]).chain(graded);
    let rows = shown.flat_map(|metric| by(comparisons, metric));
    let rows = rows.chain(comparisons.between.iter().flat_map(between)).collect();
    Table { own: own.clone(), rows, ..Table::default() }
}

/// The comparisons by one metric.
fn by(comparisons: &Comparisons, metric: &str) -> Vec<Row> {
    let row = |name: &str, test_set: &str, ending: &str, interval: Interval| {
        Row::new(name, test_set, &format!("{metric}{ending}"), interval)
    };
    let of = |one: &Difference, ending: &str| {
        row(&pair(&one.method, &one.with), &one.test_set, ending, one.interval)
    };
    let differences = comparisons.differences.iter().filter(|one| one.metric == metric);
    let wins = comparisons.head_to_head.iter().filter(|one| one.metric == metric);
    let matched = comparisons.matched.iter().map(|one| &one.difference);
    let scored = comparisons.matched_quality.iter().map(|one| &one.difference);
    let gaps = comparisons.gaps.iter().filter(|one| one.metric == metric);
    let gains = comparisons.gains.iter().filter(|one| one.metric == metric);
    differences
        .map(|one| of(one, DIFFERENCE))
        .chain(wins.map(|one| {
            row(&pair(&one.method, &one.with), &one.test_set, "_head_to_head", one.interval)
        }))
        .chain(matched.filter(|one| one.metric == metric).map(|one| of(one, "_at_equal_kl")))
        .chain(scored.filter(|one| one.metric == metric).map(|one| of(one, "_at_equal_quality")))
        .chain(gaps.map(|one| row(&one.method, &pair(&one.from, &one.to), "_gap", one.interval)))
        .chain(gains.map(|one| {
            let (methods, sets) = (pair(&one.method, &one.with), pair(&one.from, &one.to));
            row(&methods, &sets, GAIN_GAP, one.interval)
        }))
        .collect()
}

/// Which differences no data could make significant, in a sentence: as many as there are in a
/// metric, the smallest p value that the inputs can give is above 0.05 after Holm's correction.
pub(super) fn silent(comparisons: &Comparisons) -> Option<String> {
    let mut families: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
    comparisons
        .differences
        .iter()
        .for_each(|difference| families.entry(&difference.metric).or_default().push(difference));
    let most = |family: &[&Difference]| {
        family.iter().map(|difference| difference.interval.n).max().unwrap_or(0)
    };
    let silent =
        |family: &[&Difference]| least_p(most(family)) * family.len() as f64 > Verdict::LEVEL;
    let metrics: Vec<&str> =
        families.iter().filter(|(_, family)| silent(family)).map(|(metric, _)| *metric).collect();
    (!metrics.is_empty()).then(|| {
        format!(
            "Too few inputs for any difference, however large, to be significant after Holm's \
             correction: {}.",
            metrics.join(", ")
        )
    })
}
