//! The findings of a run in a few lines: methods in the order of their performance, with
//! significant differences; policies beside best-of-n at equal KL; where the rest is. Uses no
//! terminal.

use super::layout::{Verdict, decimals, distinct, number, wrapped};
use super::run::Evaluation;
use crate::artefacts::seeds::Quantity;
use crate::artefacts::table::DIVERSITY;
use crate::eval::correction::Correction;

/// Lines of a summary at most.
pub const LINES: usize = 10;

/// At most [`LINES`] lines of at most `width` columns. `rest` says where the rest is, in lines as
/// long as their paths, of which there are fewer than [`LINES`]. Evaluations over seeds of training
/// come first: they say more than one seed does. Nothing where nothing was evaluated.
pub fn summary(evaluations: &[Evaluation], rest: &[String], width: usize) -> String {
    let mut all: Vec<&Evaluation> = evaluations.iter().collect();
    all.sort_by_key(|evaluation| evaluation.seeds.is_empty());
    let found: Vec<Vec<String>> =
        all.iter().map(|evaluation| findings(evaluation, all.len() > 1)).collect();
    // The first finding of each evaluation, then the second of each.
    let most = found.iter().map(Vec::len).max().unwrap_or(0);
    let in_turn = (0..most).flat_map(|at| found.iter().filter_map(move |own| own.get(at)));
    let in_turn: Vec<String> = in_turn.map(|finding| wrapped(finding, width)).collect();
    if in_turn.is_empty() {
        return String::new();
    }
    let mut tests = all.iter().flat_map(|one| &one.seeds).filter_map(|one| one.test.as_ref());
    let other = tests.any(|test| test.correction != Correction::Holm);
    let whose = if other { "the stage's" } else { "Holm's" };
    let legend =
        format!("Found (A > B: significant, p < 0.05 after {whose} correction; A ~ B: not)");
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

/// A line a finding, the most important first.
fn findings(evaluation: &Evaluation, named: bool) -> Vec<String> {
    let name = if named { format!("{}: ", evaluation.node) } else { String::new() };
    let sets = distinct(evaluation.table.rows.iter().map(|row| row.test_set.as_str()));
    let performance = evaluation.performance();
    let ranked = sets.iter().filter_map(|set| ranked(evaluation, performance?, set));
    let diversity = sets.first().and_then(|set| self::ranked(evaluation, DIVERSITY, set));
    let matched = performance.and_then(|metric| at_equal_kl(evaluation, metric));
    ranked.chain(matched).chain(diversity).map(|finding| format!("{name}{finding}")).collect()
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
    let words = pairs.iter().map(pair).collect::<Vec<String>>().join("; ");
    Some(format!("{metric} at equal KL beside {with}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefacts::table::{Row, Table};
    use crate::eval::compare::Difference;
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

    #[test]
    fn a_summary_has_ten_lines_whatever_was_evaluated() {
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
