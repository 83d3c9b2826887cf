//! The findings of a run in a few lines: methods in the order of their performance, with
//! significant differences; policies beside best-of-n at equal KL; where the rest is. Uses no
//! terminal.

use super::layout::{Verdict, decimals, distinct, number, wrapped};
use super::run::Evaluation;
use crate::artefacts::optimum::Optimum;
use crate::artefacts::quality::{GOOD, SIMPSON, TOTAL};
use crate::artefacts::seeds::Quantity;
use crate::artefacts::table::{DIVERSITY, OWN_ACCURACY};
use crate::eval::compare::Difference;
use crate::eval::correction::Correction;

/// Lines of a summary at most.
pub const LINES: usize = 16;

/// At most [`LINES`] lines of at most `width` columns. `rest` says where the rest is, in lines as
/// long as their paths, of which there are fewer than [`LINES`]. Evaluations over seeds of training
/// come first: they say more than one seed does. Nothing where nothing was evaluated.
pub fn summary(evaluations: &[Evaluation], rest: &[String], width: usize) -> String {
    let all: Vec<&Evaluation> = evaluations.iter().collect();
    let in_turn: Vec<String> = in_turn(all).iter().map(|finding| wrapped(finding, width)).collect();
    if in_turn.is_empty() {
        return String::new();
    }
    let legend = format!("Found ({})", legend(evaluations));
    let mut lines: Vec<String> = vec![wrapped(&legend, width)];
    let height = |lines: &[String]| lines.iter().map(|line| line.lines().count()).sum::<usize>();
    let room = LINES - rest.len();
    for (at, finding) in in_turn.iter().enumerate() {
        let last = at + 1 == in_turn.len();
        // A line is kept for how many are left out.
        if height(&lines) + finding.lines().count() + usize::from(!last) > room {
            lines.push(format!("and {} more findings, below", in_turn.len() - at));
            break;
        }
        lines.push(finding.clone());
    }
    lines.extend(rest.iter().cloned());
    lines.join("\n") + "\n"
}

/// What the signs of findings mean.
pub(super) fn legend(evaluations: &[Evaluation]) -> String {
    let mut tests =
        evaluations.iter().flat_map(|one| &one.seeds).filter_map(|one| one.test.as_ref());
    let other = tests.any(|test| test.correction != Correction::Holm);
    let whose = if other { "the stage's" } else { "Holm's" };
    format!("A > B: significant, p < 0.05 after {whose} correction; A ~ B: not")
}

/// Every finding, in the order of a summary; where there are evaluations over seeds of training,
/// theirs alone.
pub(super) fn all(evaluations: &[Evaluation]) -> Vec<String> {
    let has_seeds = evaluations.iter().any(|evaluation| !evaluation.seeds.is_empty());
    let is_told = |one: &&Evaluation| !has_seeds || !one.seeds.is_empty();
    in_turn(evaluations.iter().filter(is_told).collect())
}

/// The first finding of each evaluation, then the second of each; those over seeds of training
/// first.
fn in_turn(mut evaluations: Vec<&Evaluation>) -> Vec<String> {
    evaluations.sort_by_key(|evaluation| evaluation.seeds.is_empty());
    let named = evaluations.len() > 1;
    let found: Vec<Vec<String>> =
        evaluations.iter().map(|evaluation| findings(evaluation, named)).collect();
    let most = found.iter().map(Vec::len).max().unwrap_or(0);
    (0..most).flat_map(|at| found.iter().filter_map(move |own| own.get(at))).cloned().collect()
}

/// A line a finding, the most important first: performance in distribution, what of a gain is kept
/// out of it, policies at equal KL, diversity and that of good samples; then performance on the
/// other test sets, the reward model on methods' own samples, and peaks that are passed.
fn findings(evaluation: &Evaluation, named: bool) -> Vec<String> {
    let name = if named { format!("{}: ", evaluation.node) } else { String::new() };
    let sets = distinct(evaluation.table.rows.iter().map(|row| row.test_set.as_str()));
    let mut found = Vec::new();
    let performance = evaluation.performance();
    let first = sets.first().copied().unwrap_or_default();
    found.extend(performance.and_then(|metric| ranked(evaluation, metric, first)));
    found.extend(performance.into_iter().flat_map(|metric| kept(evaluation, metric)));
    found.extend(performance.and_then(|metric| at_equal_kl(evaluation, metric)));
    found.extend(ranked(evaluation, DIVERSITY, first));
    found.extend(narrowed(evaluation, first));
    let others = sets.iter().skip(1);
    found.extend(others.filter_map(|set| ranked(evaluation, performance?, set)));
    found.extend(own_accuracy(evaluation, first));
    found.extend(evaluation.optimum.iter().flat_map(Optimum::passed_peaks));
    found.into_iter().map(|finding| format!("{name}{finding}")).collect()
}

/// What every method that gains over the reference policy in distribution gains on each other test
/// set: `>` where a significant part of the gain is lost. The reference policy is the method that
/// is no KL away from it.
fn kept(evaluation: &Evaluation, metric: &str) -> Vec<String> {
    let is_reference = |method: &&str| {
        let rows = evaluation.table.rows.iter();
        let mut kl = rows.filter(|row| row.method == **method && row.metric == "kl").peekable();
        kl.peek().is_some() && kl.all(|row| row.figure.mean == 0.0)
    };
    let methods = distinct(evaluation.table.rows.iter().map(|row| row.method.as_str()));
    let Some(reference) = methods.iter().copied().find(|method| is_reference(method)) else {
        return Vec::new();
    };
    let gaps = gain_gaps(evaluation, metric, reference);
    let of_method = |method: &str| -> Option<String> {
        let own: Vec<&GainKept<'_>> = gaps.iter().filter(|gap| gap.method == method).collect();
        let first = own.first().filter(|gap| gap.gain > 0.0 && gap.gain_p < Verdict::LEVEL)?;
        let others = own.iter().map(|gap| gap.gain - gap.gap);
        let decimals = decimals(others.chain([first.gain]));
        let kept = own.iter().map(|gap| {
            let sign = match Verdict::of(gap.gap, gap.p) {
                Verdict::Higher => ">",
                Verdict::Lower => "<",
                _ => "~",
            };
            format!("{sign} {} {}", number(gap.gain - gap.gap, decimals), gap.to)
        });
        let kept = kept.collect::<Vec<String>>().join(", ");
        let gain = number(first.gain, decimals);
        Some(format!("gain in {metric}, {method} over {reference}: {gain} {} {kept}", first.from))
    };
    distinct(gaps.iter().map(|gap| gap.method)).into_iter().filter_map(of_method).collect()
}

/// A gain in distribution, and what of it is lost.
struct GainKept<'a> {
    method: &'a str,
    from: &'a str,
    to: &'a str,
    /// In distribution, with its corrected p value.
    gain: f64,
    gain_p: f64,
    /// Less the gain on the other test set, with its corrected p value.
    gap: f64,
    p: f64,
}

/// Over inputs, or over seeds where there are several.
fn gain_gaps<'a>(evaluation: &'a Evaluation, metric: &str, over: &str) -> Vec<GainKept<'a>> {
    let gain = |method: &str, set: &str| {
        let all = &evaluation.comparisons.differences;
        let own = all.iter().find(|one| {
            (one.metric.as_str(), one.test_set.as_str()) == (metric, set)
                && (one.method.as_str(), one.with.as_str()) == (method, over)
        });
        own.map(|one| (one.interval.mean, one.p_holm))
    };
    let gains = evaluation.comparisons.gains.iter();
    let one = gains.filter(|gap| gap.metric == metric && gap.with == over).filter_map(|gap| {
        let (gain, gain_p) = gain(&gap.method, &gap.from)?;
        let (from, to) = (gap.from.as_str(), gap.to.as_str());
        let (method, mean, p) = (gap.method.as_str(), gap.interval.mean, gap.p_holm);
        Some(GainKept { method, from, to, gain, gain_p, gap: mean, p })
    });
    let of_seeds = |quantity: Quantity| {
        evaluation.seeds.iter().filter(move |one| {
            one.quantity() == quantity && one.metric == metric && one.with.as_deref() == Some(over)
        })
    };
    let seeds = of_seeds(Quantity::GainGap).filter_map(|gap| {
        let own = of_seeds(Quantity::Difference)
            .find(|one| (&one.method, &one.test_set) == (&gap.method, &gap.test_set))?;
        Some(GainKept {
            method: &gap.method,
            from: &gap.test_set,
            to: gap.to.as_deref()?,
            gain: own.over.interval.mean,
            gain_p: own.p_corrected()?,
            gap: gap.over.interval.mean,
            p: gap.p_corrected()?,
        })
    });
    one.chain(seeds).collect()
}

/// What each stage does to the diversity of good samples, beside that of all samples of the same
/// inputs, by the share of pairs of two classes.
fn narrowed(evaluation: &Evaluation, set: &str) -> Option<String> {
    let [good, all] = [GOOD, TOTAL].map(|way| format!("{SIMPSON}{way}"));
    let find = |metric: &str, method: &str, with: &str| {
        evaluation.comparisons.differences.iter().find(|one| {
            (one.metric.as_str(), one.test_set.as_str()) == (metric, set)
                && (one.method.as_str(), one.with.as_str()) == (method, with)
        })
    };
    let mut steps: Vec<(&str, &str)> = Vec::new();
    for step in evaluation.attributions.iter().flat_map(|one| &one.steps) {
        let pair = (step.change.method.as_str(), step.change.with.as_str());
        if !steps.contains(&pair) {
            steps.push(pair);
        }
    }
    let said = steps.into_iter().filter_map(|(method, with)| {
        let (good, all) = (find(&good, method, with)?, find(&all, method, with)?);
        let [good_mean, all_mean] = [good, all].map(|one| number(one.interval.mean, 2));
        let word = Verdict::of(good.interval.mean, good.p_holm).word();
        Some(format!("{method} - {with} {good_mean} of {all_mean} ({word})"))
    });
    let said = said.collect::<Vec<String>>().join("; ");
    (!said.is_empty())
        .then(|| format!("{SIMPSON} among good samples, of that of all, {set}: {said}"))
}

/// The reward model's accuracy on each method's own samples.
fn own_accuracy(evaluation: &Evaluation, set: &str) -> Option<String> {
    let rows = evaluation.table.rows.iter();
    let own = rows.filter(|row| row.metric == OWN_ACCURACY && row.test_set == set);
    let said = own.map(|row| format!("{} {}", row.method, number(row.figure.mean, 2)));
    let said = said.collect::<Vec<String>>().join(", ");
    (!said.is_empty()).then(|| format!("{OWN_ACCURACY}, {set}: {said}"))
}

/// Every two methods that are compared by a metric on a test set, with the corrected p value of
/// their difference.
fn compared<'a>(
    evaluation: &'a Evaluation,
    metric: &'a str,
    set: &'a str,
) -> Vec<(&'a str, &'a str, f64)> {
    let one = evaluation
        .comparisons
        .differences
        .iter()
        .filter(|one| one.metric == metric && one.test_set == set);
    let one = one.map(|one| (one.method.as_str(), one.with.as_str(), one.p_holm));
    let seeds = evaluation.seeds.iter().filter(|one| {
        one.quantity() == Quantity::Difference && one.metric == metric && one.test_set == set
    });
    let seeds = seeds
        .filter_map(|one| Some((one.method.as_str(), one.with.as_deref()?, one.p_corrected()?)));
    one.chain(seeds).collect()
}

/// The methods that are compared by a metric on a test set, the highest mean first, with whether
/// each differs significantly from the next.
fn ranked(evaluation: &Evaluation, metric: &str, set: &str) -> Option<String> {
    let compared = compared(evaluation, metric, set);
    let mut methods: Vec<(&str, f64)> = evaluation
        .table
        .rows
        .iter()
        .filter(|row| row.metric == metric && row.test_set == set)
        .map(|row| (row.method.as_str(), row.figure.mean))
        .filter(|(name, _)| compared.iter().any(|(a, b, _)| a == name || b == name))
        .collect();
    methods.sort_by(|a, b| b.1.total_cmp(&a.1));
    let decimals = decimals(methods.iter().map(|(_, mean)| *mean));
    let mut line = format!("{metric}, {set}: ");
    for (at, (name, mean)) in methods.iter().enumerate() {
        if let Some((before, _)) = at.checked_sub(1).map(|at| methods[at]) {
            let p = compared.iter().find_map(|(a, b, p)| {
                ((a, b) == (&before, name) || (a, b) == (name, &before)).then_some(*p)
            });
            line += if p.is_some_and(|p| p < Verdict::LEVEL) { " > " } else { " ~ " };
        }
        line += &format!("{name} {}", number(*mean, decimals));
    }
    (methods.len() > 1).then_some(line)
}

/// Where policies are above and below best-of-n at their KL, by a metric.
fn at_equal_kl(evaluation: &Evaluation, metric: &str) -> Option<String> {
    let all: Vec<_> = evaluation
        .comparisons
        .matched
        .iter()
        .map(|matched| &matched.difference)
        .filter(|difference| difference.metric == metric)
        .collect();
    let pairs = distinct(all.iter().map(|one| one.method.as_str()));
    let pair = |method: &&str| {
        let of = |verdict: Verdict| {
            let own = all.iter().filter(|one| {
                one.method == **method && Verdict::of(one.interval.mean, one.p_holm) == verdict
            });
            let sets = distinct(own.map(|one| one.test_set.as_str())).join(", ");
            (!sets.is_empty()).then(|| format!("{} on {sets}", verdict.word()))
        };
        let parts = [Verdict::Higher, Verdict::Lower, Verdict::Unclear].into_iter().filter_map(of);
        format!("{method} {}", parts.collect::<Vec<String>>().join("; "))
    };
    let with = all.first()?.with.as_str();
    let told = |one: &&&Difference| one.p_holm < Verdict::LEVEL;
    if !all.iter().any(|one| told(&one)) {
        let words = pairs.join(", ");
        return Some(format!("{metric} at equal KL beside {with}: {words} unclear everywhere"));
    }
    let words = pairs.iter().map(pair).collect::<Vec<String>>().join("; ");
    Some(format!("{metric} at equal KL beside {with}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefacts::table::{Row, Table};
    use crate::eval::gains::GainGap;
    use crate::eval::interval::{Interval, Kind};

    fn figure(mean: f64) -> Interval {
        Interval { mean, low: mean - 0.1, high: mean + 0.1, n: 20, kind: Kind::SkewT }
    }

    /// Three methods on some test sets: `b` differs significantly from `a`, `c` not from `b`.
    fn evaluation(node: &str, sets: usize) -> Evaluation {
        let mut found = Evaluation { node: node.into(), ..Evaluation::default() };
        for set in (0..sets).map(|at| format!("set_{at}")) {
            let rows = [("a", 0.1), ("b", 0.5), ("c", 0.6), ("reference", 0.9)]
                .map(|(method, mean)| Row::new(method, &set, "gold", figure(mean)));
            found.table =
                Table { rows: [found.table.rows, rows.to_vec()].concat(), ..Table::default() };
            for (method, with, p) in [("b", "a", 0.01), ("c", "a", 0.01), ("c", "b", 0.2)] {
                found.comparisons.differences.push(Difference {
                    metric: "gold".into(),
                    test_set: set.clone(),
                    method: method.into(),
                    with: with.into(),
                    interval: figure(0.1),
                    p,
                    p_holm: p,
                });
            }
        }
        found
    }

    #[test]
    fn methods_are_in_order_with_what_is_told_from_chance() {
        let said = summary(&[evaluation("e", 1)], &["report: here".into()], 80);
        assert_eq!(
            said,
            "Found (A > B: significant, p < 0.05 after Holm's correction; A ~ B: not)\n\
             gold, set_0: c 0.600 ~ b 0.500 > a 0.100\nreport: here\n"
        );
        assert_eq!(summary(&[], &["report: here".into()], 80), "");
        assert_eq!(summary(&[Evaluation::default()], &[], 80), "");
    }

    /// A finding has the gain in distribution and on each other test set. The reference policy is
    /// the method at KL 0.
    #[test]
    fn gains_are_shown_with_what_is_kept_of_them() {
        let mut found = evaluation("e", 3);
        for method in ["a", "b", "c"] {
            let kl = if method == "a" { 0.0 } else { 2.0 };
            found.table.rows.push(Row::new(method, "set_0", "kl", figure(kl)));
        }
        for (to, mean, p) in [("set_1", 0.06, 0.01), ("set_2", 0.02, 0.5)] {
            found.comparisons.gains.push(GainGap {
                metric: "gold".into(),
                method: "b".into(),
                with: "a".into(),
                from: "set_0".into(),
                to: to.into(),
                interval: figure(mean),
                p,
                p_holm: p,
            });
        }
        let all = findings(&found, false);
        assert_eq!(all[1], "gain in gold, b over a: 0.100 set_0 > 0.040 set_1, ~ 0.080 set_2");
        assert_eq!(all.len(), 1 + 1 + 2, "one finding a method that gains: {all:?}");
    }

    #[test]
    fn a_summary_is_short_whatever_was_evaluated() {
        for (evaluations, sets, width) in [(1, 30, 80), (12, 3, 80), (3, 4, 34), (1, 8, 80)] {
            let all: Vec<Evaluation> =
                (0..evaluations).map(|at| evaluation(&format!("e{at}"), sets)).collect();
            let said = summary(&all, &["report: here".into()], width);
            assert!(said.lines().count() <= LINES, "{said}");
            assert!(said.lines().all(|line| line.chars().count() <= width), "{said}");
            assert!(said.ends_with("report: here\n"), "{said}");
            let shown = said.matches("gold, ").count();
            let left = evaluations * sets - shown;
            assert_eq!(left > 0, said.contains(&format!("and {left} more findings")), "{said}");
        }
    }
}
