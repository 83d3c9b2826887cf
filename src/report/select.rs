//! A part of a run: some of its evaluations, metrics, methods and test sets. Every format shows a
//! part as it shows a whole.

use super::layout::distinct;
use super::optimum;
use super::run::{Evaluation, Run};
use crate::artefacts::optimum::Optimum;
use crate::artefacts::points::family;

/// What is wanted; an empty list is all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Evaluations by their nodes, or families of them (`evaluation` of `evaluation[seed=0]`).
    pub evaluations: Vec<String>,
    /// Metrics, as tables name them; comparisons by a metric go with it.
    pub metrics: Vec<String>,
    /// Methods, or families of them (`ppo` of `ppo[kl=0.02]`); a comparison of two is kept where
    /// both are wanted.
    pub methods: Vec<String>,
    /// Test sets; a gap is kept where both are wanted.
    pub test_sets: Vec<String>,
}

/// A name that no evaluation of the run has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// `evaluation`, `metric`, `method`, `test set`.
    pub what: &'static str,
    /// The name.
    pub name: String,
    /// The names that there are.
    pub known: Vec<String>,
}

impl Selection {
    /// The part of a run that is wanted.
    ///
    /// # Errors
    /// A name that is in none of its evaluations.
    pub fn of(&self, mut run: Run) -> Result<Run, Unknown> {
        self.check(&run)?;
        run.evaluations.retain(|evaluation| self.has(&evaluation.node));
        run.evaluations.iter_mut().for_each(|evaluation| self.cut(evaluation));
        run.judgings.retain(|_| wanted(&self.metrics, "win_rate"));
        Ok(run)
    }

    /// Whether an evaluation is wanted.
    fn has(&self, node: &str) -> bool {
        wanted(&self.evaluations, node) || wanted(&self.evaluations, family(node))
    }

    fn check(&self, run: &Run) -> Result<(), Unknown> {
        let nodes = distinct(run.evaluations.iter().map(|evaluation| evaluation.node.as_str()));
        let own = || run.evaluations.iter().filter(|evaluation| self.has(&evaluation.node));
        let rows = || own().flat_map(|evaluation| &evaluation.table.rows);
        let of_optima = own().flat_map(optimum::figures).map(|figure| figure.metric);
        let known = [
            ("evaluation", &self.evaluations, nodes),
            (
                "metric",
                &self.metrics,
                distinct(rows().map(|row| row.metric.as_str()).chain(of_optima)),
            ),
            ("method", &self.methods, distinct(rows().map(|row| row.method.as_str()))),
            ("test set", &self.test_sets, distinct(rows().map(|row| row.test_set.as_str()))),
        ];
        for (what, names, known) in known {
            let is_known = |name: &str| {
                let has_families = ["evaluation", "method"].contains(&what);
                let of = |own: &&str| *own == name || (has_families && family(own) == name);
                known.iter().any(of)
            };
            if let Some(name) = names.iter().find(|name| !is_known(name)) {
                let known = known.iter().map(|name| name.to_string()).collect();
                return Err(Unknown { what, name: name.clone(), known });
            }
        }
        Ok(())
    }

    fn cut(&self, evaluation: &mut Evaluation) {
        let metric = |name: &str| {
            let base = name.strip_suffix(super::metrics::DIFFERENCE);
            wanted(&self.metrics, name) || base.is_some_and(|base| wanted(&self.metrics, base))
        };
        // A difference over seeds is a row whose method is a pair.
        let method = |name: &str| {
            let pair = name.split_once(" - ");
            let one =
                |name: &str| wanted(&self.methods, name) || wanted(&self.methods, family(name));
            one(name) || pair.is_some_and(|(name, other)| one(name) && one(other))
        };
        let set = |name: &str| wanted(&self.test_sets, name);
        evaluation.table.own.retain(|own| metric(&own.metric));
        evaluation
            .table
            .rows
            .retain(|row| metric(&row.metric) && method(&row.method) && set(&row.test_set));
        evaluation.seeds.retain(|figure| {
            let with = figure.with.as_deref().is_none_or(method);
            let to = figure.to.as_deref().is_none_or(set);
            metric(&figure.metric) && method(&figure.method) && with && set(&figure.test_set) && to
        });
        let compared = &mut evaluation.comparisons;
        compared.differences.retain(|of| {
            metric(&of.metric) && method(&of.method) && method(&of.with) && set(&of.test_set)
        });
        compared.head_to_head.retain(|of| {
            metric(&of.metric) && method(&of.method) && method(&of.with) && set(&of.test_set)
        });
        compared
            .gaps
            .retain(|of| metric(&of.metric) && method(&of.method) && set(&of.from) && set(&of.to));
        compared.gains.retain(|of| {
            let methods = method(&of.method) && method(&of.with);
            metric(&of.metric) && methods && set(&of.from) && set(&of.to)
        });
        compared.matched.retain(|matched| {
            let of = &matched.difference;
            metric(&of.metric) && method(&of.method) && method(&of.with) && set(&of.test_set)
        });
        compared.matched_quality.retain(|matched| {
            let of = &matched.difference;
            metric(&of.metric) && method(&of.method) && method(&of.with) && set(&of.test_set)
        });
        compared.between.retain(|of| {
            metric(&of.metric) && method(&of.method) && method(&of.with) && set(&of.test_set)
        });
        evaluation.beside_people.retain(|of| {
            let is_side = |name: &String| name == "reference" || method(name);
            metric(&of.metric) && method(&of.a) && is_side(&of.b) && set(&of.test_set)
        });
        evaluation
            .best_of_n
            .retain(|of| metric(&of.metric) && method(&of.method) && set(&of.test_set));
        evaluation.at_k.retain(|of| metric(&of.metric) && method(&of.method) && set(&of.test_set));
        evaluation
            .by_position
            .retain(|of| metric(&of.metric) && method(&of.method) && set(&of.test_set));
        evaluation.over_optimisation.retain(|of| method(&of.method));
        evaluation.optimum.retain(|of| set(&of.test_set));
        for optimum in &mut evaluation.optimum {
            optimum.retain(|name| metric(name) || name == "kl", method);
        }
        // The KL says where the points of other metrics are.
        let has = |of: &Optimum| of.points().any(|(_, all)| all.keys().any(|name| metric(name)));
        evaluation.optimum.retain(has);
        evaluation.attributions.retain(|of| {
            metric(&of.metric) && set(&of.test_set) && of.chain.iter().all(|name| method(name))
        });
        evaluation.reward_model.retain(|of| set(&of.test_set));
        evaluation.inputs.retain(|input| set(&input.test_set));
        for input in &mut evaluation.inputs {
            input.answers.retain(|answer| method(&answer.method));
        }
        // A judge is listed where its win rate is shown.
        evaluation.judges.retain(|judge| judge.split_once(':').is_none_or(|(of, _)| metric(of)));
    }
}

/// Whether a name is in a list, which is everything where it is empty.
fn wanted(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|other| other == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefacts::table::{Row, Table};
    use crate::eval::interval::{Interval, Kind};

    #[test]
    fn a_part_has_what_is_wanted_and_names_what_is_not_there() {
        let row = |method: &str, metric: &str| {
            Row::new(
                method,
                "id",
                metric,
                Interval { mean: 0.0, low: 0.0, high: 0.0, n: 1, kind: Kind::Unsaid },
            )
        };
        let rows = vec![
            row("a", "gold"),
            row("b", "gold"),
            row("a", "kl"),
            row("b - a", "gold_difference"),
            row("c - a", "gold_difference"),
            row("a[kl=1]", "gold"),
            row("b[kl=1]", "kl"),
            row("c[kl=1]", "gold"),
        ];
        let evaluation =
            Evaluation { table: Table { rows, ..Table::default() }, ..Evaluation::default() };
        let run = Run { evaluations: vec![evaluation], ..Run::default() };
        let names =
            |list: &[&str]| list.iter().map(|name| name.to_string()).collect::<Vec<String>>();
        let part = Selection {
            metrics: names(&["gold"]),
            methods: names(&["a", "b"]),
            ..Selection::default()
        };
        let left = part.of(run.clone()).unwrap().evaluations.remove(0).table.rows;
        assert_eq!(
            left.iter().map(|row| row.method.as_str()).collect::<Vec<&str>>(),
            ["a", "b", "b - a", "a[kl=1]"]
        );
        let point = Selection { methods: names(&["a[kl=1]", "c"]), ..Selection::default() };
        let left = point.of(run.clone()).unwrap().evaluations.remove(0).table.rows;
        assert_eq!(
            left.iter().map(|row| row.method.as_str()).collect::<Vec<&str>>(),
            ["a[kl=1]", "c[kl=1]"]
        );
        let named = |node: &str| Evaluation { node: node.into(), ..Evaluation::default() };
        let nodes = ["study[seed=0]", "study[seed=1]", "audit"].map(named);
        let several = Run { evaluations: nodes.into(), ..Run::default() };
        for (wanted, found) in [
            ("study[seed=1]", &["study[seed=1]"][..]),
            ("study", &["study[seed=0]", "study[seed=1]"]),
        ] {
            let part = Selection { evaluations: names(&[wanted]), ..Selection::default() };
            let left = part.of(several.clone()).unwrap().evaluations;
            assert_eq!(left.iter().map(|one| one.node.as_str()).collect::<Vec<&str>>(), found);
        }
        let wrong = Selection { evaluations: names(&["other"]), ..Selection::default() };
        assert_eq!(wrong.of(several).unwrap_err().what, "evaluation");
        let wrong =
            Selection { metrics: names(&["golf"]), ..Selection::default() }.of(run).unwrap_err();
        let known = names(&["gold", "kl", "gold_difference"]);
        assert_eq!(wrong, Unknown { what: "metric", name: "golf".into(), known });
    }
}
