//! Measures beside people: how often each measure of an input picks the method, of two, that people
//! picked. Measures nothing that people did not see.
//!
//! 1. People have compared outputs of two methods (which is better) or sets of the first k samples
//!    of each (which is more varied), in a stage `judge` with `people`. That they saw the texts
//!    that are evaluated is checked by the key of every item, before anything is measured.
//! 2. Of outputs all scores of an input count. Of sets the measures of diversity are of the very k
//!    samples that people saw, whole and cut to the length that half of the texts reach; further
//!    figures of samples (`quality`, `distributions`) are of all samples of the input.
//! 3. A measure that falls with quality or diversity is taken with the opposite sign; one without a
//!    direction as it is.

use std::collections::BTreeMap;

use super::Found;
use super::config::EvaluateStage;
use super::measuring::Answers;
use crate::artefacts::judgements::{ITEMS, JudgedItem, SUMMARY, Summary};
use crate::artefacts::people::BesidePeople;
use crate::backend::Backend;
use crate::data::dataset::test_split;
use crate::data::rows::{Example, read_jsonl};
use crate::data::study::{Item, Question};
use crate::error::{Context as _, Result, user};
use crate::eval::beside::{Beside, Compared, beside};
use crate::eval::diversity::common_length;
use crate::eval::interval::average;
use crate::eval::spread::{OfSet, cut};
use crate::eval::verdict::Verdict;
use crate::fs;
use crate::report::metrics::{Definition, Direction, define, define_in, is_of_samples};
use crate::stages::diversity::Measures;

/// What people say of two methods, with the texts that they saw.
pub(super) struct Study<'a> {
    name: &'a str,
    a: &'a str,
    b: &'a str,
    question: Question,
    /// By test set, in the order of its inputs.
    judged: BTreeMap<String, Vec<Seen<'a>>>,
}

/// An input that was judged.
struct Seen<'a> {
    example: &'a Example,
    item: Item,
    /// What more than half say.
    majority: Verdict,
}

/// Both values of a measure, by the place of the input among those that were judged.
type Values = BTreeMap<usize, [f64; 2]>;

/// Reads all judgements, and holds them against the texts.
///
/// # Errors
/// The user's: judgements not of people, none of an evaluated input, or of other texts.
pub(super) fn read<'a>(
    config: &'a EvaluateStage,
    examples: &'a BTreeMap<String, Vec<Example>>,
    methods: &[Answers],
) -> Result<Vec<Study<'a>>> {
    let mut studies = Vec::new();
    for (name, people) in &config.people {
        let folder = people.judgements.path();
        let path = folder.join(SUMMARY);
        let summary: Summary = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("{} cannot be understood", path.display()))?;
        let Some(found) = summary.verdicts.people else {
            let message = format!("`people.{name}` is not judged by `people` but by others");
            return Err(user(message)
                .hint("name a stage `judge` with `judge: {people: {sheets: […]}}`")
                .into());
        };
        let question = if found.set.is_some() { Question::MoreVaried } else { Question::Better };
        let mut items: BTreeMap<(String, String), JudgedItem> =
            read_jsonl::<JudgedItem>(&folder.join(ITEMS))?
                .into_iter()
                .map(|item| ((item.split.clone(), item.id.clone()), item))
                .collect();
        let mut study =
            Study { name, a: &people.a, b: &people.b, question, judged: BTreeMap::new() };
        for (test_set, examples) in examples {
            let split = test_split(test_set);
            for example in examples {
                let Some(said) = items.remove(&(split.clone(), example.id.clone())) else {
                    continue;
                };
                let item = study.item(methods, &split, example, found.set)?;
                if item.key() != said.key {
                    let message = format!(
                        "`people.{name}`: row `{}` of split `{split}` was judged on other texts than \
                         those of `{}` and `{}`",
                        example.id, study.a, study.b
                    );
                    return Err(user(message)
                        .hint(
                            "people must have judged `outputs` of the two methods, or, with `set`, \
                             their `samples`, `a` of this field as `a` of the stage `judge`",
                        )
                        .into());
                }
                let seen = Seen { example, item, majority: said.majority };
                study.judged.entry(test_set.clone()).or_default().push(seen);
            }
        }
        if study.judged.is_empty() {
            let message = format!("`people.{name}` has judged no input of the evaluation");
            return Err(user(message).hint("judge and evaluate the same test sets").into());
        }
        studies.push(study);
    }
    Ok(studies)
}

impl Study<'_> {
    /// What people were shown, if it was of these methods.
    fn item(
        &self,
        methods: &[Answers],
        split: &str,
        example: &Example,
        set: Option<usize>,
    ) -> Result<Item> {
        let texts = |name: &str| -> Result<Vec<String>> {
            let method = methods.iter().find(|method| method.name == name);
            let outputs = match (method, set) {
                (None, _) => return Ok(vec![example.completion.clone()]),
                (Some(method), Some(_)) => {
                    method.sampled(split, &example.id).map(|row| row.outputs.as_slice())
                }
                (Some(method), None) => match &method.outputs {
                    Some(outputs) => Some(&*method.row(outputs, split, example)?.outputs),
                    None => None,
                },
            };
            let k = set.unwrap_or(1);
            let texts = outputs.unwrap_or_default().iter().take(k);
            Ok(texts.map(|output| output.text.clone()).collect())
        };
        Ok(Item {
            question: self.question,
            split: split.into(),
            id: example.id.clone(),
            prompt: example.prompt.clone(),
            a: texts(self.a)?,
            b: texts(self.b)?,
        })
    }

    /// Every measure beside what people say, test set by test set.
    pub(super) fn beside<B: Backend>(
        &self,
        found: &Found,
        measures: &Measures<'_, B>,
    ) -> Result<Vec<BesidePeople>> {
        let mut rows = Vec::new();
        for (test_set, seen) in &self.judged {
            let mut values = match self.question {
                Question::Better => Vec::new(),
                Question::MoreVaried => of_sets(measures, seen)?,
            };
            values.extend(self.scores(found, test_set, seen));
            for (metric, values) in values {
                let all: Vec<Compared<&str>> = values
                    .into_iter()
                    .map(|(at, measure)| {
                        let score = seen[at].majority.score();
                        let people = [score, 1.0 - score];
                        Compared { cluster: seen[at].example.prompt.as_str(), measure, people }
                    })
                    .collect();
                let Beside { agreement, tau_b } = beside(&all);
                rows.push(BesidePeople {
                    name: self.name.into(),
                    question: self.question.name().into(),
                    a: self.a.into(),
                    b: self.b.into(),
                    test_set: test_set.clone(),
                    metric,
                    judged: all.len(),
                    agreement,
                    tau_b,
                });
            }
        }
        Ok(rows)
    }

    /// The figures that `inputs.jsonl` has of both methods' answers, or of their samples.
    fn scores(&self, found: &Found, test_set: &str, seen: &[Seen<'_>]) -> Vec<(String, Values)> {
        let mut all: BTreeMap<String, Values> = BTreeMap::new();
        let places: BTreeMap<&str, usize> =
            seen.iter().enumerate().map(|(at, seen)| (seen.example.id.as_str(), at)).collect();
        let of_samples = self.question == Question::MoreVaried;
        for input in found.inputs.iter().filter(|input| input.test_set == test_set) {
            let (Some(at), Some(a), Some(b)) =
                (places.get(input.id.as_str()), input.answer(self.a), input.answer(self.b))
            else {
                continue;
            };
            for (metric, value) in &a.scores {
                let both = value.zip(b.scores.get(metric).copied().flatten());
                let own = found.table.own.iter().find(|own| own.metric == *metric);
                let is = own.map_or_else(|| is_of_samples(metric), |own| own.of_samples);
                if let (Some((a, b)), true) = (both, is == of_samples) {
                    let sign = sign(define_in(&found.table, metric));
                    all.entry(metric.clone()).or_default().insert(*at, [sign * a, sign * b]);
                }
            }
        }
        all.into_iter().collect()
    }
}

/// -1 of a metric that falls with quality or diversity.
fn sign(definition: Option<Definition>) -> f64 {
    match definition.map(|of| of.direction) {
        Some(Direction::LowerIsBetter | Direction::LowerIsMoreDiverse) => -1.0,
        _ => 1.0,
    }
}

/// Measures of diversity of the sets that people saw, whole and cut to a common length.
fn of_sets<B: Backend>(
    measures: &Measures<'_, B>,
    seen: &[Seen<'_>],
) -> Result<Vec<(String, Values)>> {
    let whole: Vec<&Vec<String>> =
        seen.iter().flat_map(|seen| [&seen.item.a, &seen.item.b]).collect();
    let side = |of: fn(&Item) -> &Vec<String>| -> Vec<String> {
        seen.iter().flat_map(|seen| of(&seen.item).iter().cloned()).collect()
    };
    let length = common_length(&[side(|item| &item.a).as_slice(), &side(|item| &item.b)]);
    let matched: Vec<Vec<String>> =
        whole.iter().map(|set| set.iter().map(|text| cut(text, length)).collect()).collect();
    let mut all = Vec::new();
    for (ending, sets) in [("", whole), ("_matched", matched.iter().collect())] {
        let texts: Vec<Vec<&str>> =
            sets.into_iter().map(|set| set.iter().map(String::as_str).collect()).collect();
        let mut measured = measures.of_parts(&texts)?;
        measured.extend(measures.of_pairs(&texts)?);
        for (metric, of) in &measured {
            let name = format!("{}_per_input{ending}", metric.name());
            let sign = sign(define(&name));
            let value = |set: usize| sign * mean(&of[set], texts[set].len());
            let values = (0..seen.len()).map(|at| (at, [value(2 * at), value(2 * at + 1)]));
            all.push((name, values.collect()));
        }
    }
    Ok(all)
}

/// A measure of all samples of a set, mean over n where it is by n.
fn mean(measure: &OfSet<'_>, k: usize) -> f64 {
    average(&measure(&(0..k).collect::<Vec<usize>>()))
}
