//! Judgements of people by the sheets of `posttrain annotate export`: checked against what is
//! judged, counted by item, with the agreement of those who judged. Knows no stage.
//!
//! 1. Of an item's verdicts the score is the mean (1 for `a`, 0 for `b`, 0.5 for a tie), the
//!    majority what more than half of them say, else a tie.
//! 2. Agreement is Krippendorff's alpha over all items that two at least have judged, with the
//!    verdicts as categories and in the order b, tie, a; and of every two people the share of their
//!    common items on which they say the same, with Cohen's kappa.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::artefacts::judgements::{
    Annotator, JudgedItem, Judgement, Majority, OfPeople, Order, TwoAnnotators, Votes,
};
use crate::data::sheet;
use crate::data::study::{Item, Question};
use crate::error::{Result, user};
use crate::eval::agreement::{Scale, alpha, cohen};
use crate::eval::interval::Clusters;
use crate::eval::verdict::{Verdict, first_share, majority};
use crate::reference::Input;

/// Judgements of people by sheets that say what they are of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheets {
    /// Sheets of `posttrain annotate export` that were filled in, one or several of each person.
    pub sheets: Vec<Input>,
    /// Answers in a set, where people saw sets of the first answers of `a` and `b` and said which
    /// is more varied; `null` if they saw one answer of each and said which is better.
    #[serde(default)]
    pub set: Option<usize>,
}

impl Sheets {
    /// What people were asked.
    fn question(&self) -> Question {
        if self.set.is_some() { Question::MoreVaried } else { Question::Better }
    }

    /// The judgements of all sheets, in the order of the items, then of names.
    ///
    /// # Errors
    /// The user's, with file and line: a row without a name, of another question, of no item, of an
    /// item with other texts, or of an item that the same person has judged before.
    pub fn judgements(&self, items: &[Item]) -> Result<Vec<Judgement>> {
        let known: BTreeMap<(&str, &str), (usize, String)> = items
            .iter()
            .enumerate()
            .map(|(at, item)| ((item.split.as_str(), item.id.as_str()), (at, item.key())))
            .collect();
        let mut said: BTreeMap<(usize, String), (&Path, sheet::Judgement)> = BTreeMap::new();
        for file in &self.sheets {
            let path = file.path();
            for one in sheet::read(path)? {
                let at = self.check(path, &one, &known)?;
                let place = (at, one.annotator.clone());
                if let Some((other, before)) = said.get(&place) {
                    let message = format!(
                        "{}, line {}: `{}` has judged row `{}` of split `{}` before, in line {} of \
                         {}",
                        path.display(),
                        one.line,
                        one.annotator,
                        one.id,
                        one.split,
                        before.line,
                        other.display()
                    );
                    return Err(user(message)
                        .hint("keep one of the two lines; two people need two names")
                        .into());
                }
                said.insert(place, (path, one));
            }
        }
        let judgement = |((at, annotator), (_, one)): ((usize, String), (_, sheet::Judgement))| {
            let verdict = Verdict::of_choice(Some(one.choice), one.a_first);
            Judgement {
                order: Some(Order::of(one.a_first)),
                annotator: Some(annotator),
                ..Judgement::new(&items[at].split, &items[at].id, verdict)
            }
        };
        Ok(said.into_iter().map(judgement).collect())
    }

    /// The place of the item that a row of a sheet judges.
    fn check(
        &self,
        path: &Path,
        one: &sheet::Judgement,
        known: &BTreeMap<(&str, &str), (usize, String)>,
    ) -> Result<usize> {
        let refused = |what: String, hint: &str| {
            let place = format!("{}, line {}", path.display(), one.line);
            Err(user(format!("{place}: {what}")).hint(hint.to_owned()).into())
        };
        let row = format!("row `{}` of split `{}`", one.id, one.split);
        if one.annotator.is_empty() {
            return refused(
                "the column `annotator` is empty".into(),
                "put the name of the person who judged into every row with a choice",
            );
        }
        let (Some(question), Some(key)) = (&one.question, &one.key) else {
            return refused(
                "the sheet has no columns `question` and `key`, which say what it is of".into(),
                "export it again and copy the choices, or read it by `judge: {human: …}`, which \
                 checks neither",
            );
        };
        if question != self.question().name() {
            return refused(
                format!("the question is `{question}`, here it is `{}`", self.question().name()),
                "with `set` people say which set is more varied, without it which answer is better",
            );
        }
        match known.get(&(one.split.as_str(), one.id.as_str())) {
            None => refused(
                format!("{row} is not among the answers"),
                "the sheet is of another study, or `splits` and `limit` leave the row out",
            ),
            Some((_, own)) if own != key => refused(
                format!("{row} was judged on other texts: its key is `{key}`, here it is `{own}`"),
                "the sheet is of another study: give the dataset, `a`, `b` and `set` that its page \
                 was exported from, or export again",
            ),
            Some((at, _)) => Ok(*at),
        }
    }

    /// What some judgements amount to, item by item and together. Those of items that are not
    /// here are left out.
    pub fn counted(&self, items: &[Item], judgements: &[Judgement]) -> (Vec<JudgedItem>, OfPeople) {
        let mut of_item: BTreeMap<(&str, &str), BTreeMap<&str, &Judgement>> = BTreeMap::new();
        for one in judgements {
            let own = of_item.entry((&one.split, &one.id)).or_default();
            own.insert(one.annotator.as_deref().unwrap_or_default(), one);
        }
        let judged: Vec<(&Item, BTreeMap<&str, &Judgement>)> = items
            .iter()
            .filter_map(|item| {
                Some((item, of_item.remove(&(item.split.as_str(), item.id.as_str()))?))
            })
            .collect();
        let counted: Vec<JudgedItem> =
            judged.iter().map(|(item, own)| counted(item, own.values().copied())).collect();
        let mut splits: BTreeMap<String, Vec<(&str, Verdict)>> = BTreeMap::new();
        for ((item, _), one) in judged.iter().zip(&counted) {
            let own = splits.entry(item.split.clone()).or_default();
            own.push((item.prompt.as_str(), one.majority));
        }
        let said: Vec<(&str, Vec<u8>)> = judged
            .iter()
            .map(|(item, own)| {
                let own = own.values().map(|one| in_order(one.verdict));
                (item.prompt.as_str(), own.collect())
            })
            .collect();
        let found = OfPeople {
            question: self.question().name().into(),
            set: self.set,
            annotators: annotators(&judged),
            items: judged.len(),
            by_several: judged.iter().filter(|(_, own)| own.len() > 1).count(),
            majority: splits.into_iter().map(|(name, all)| (name, of_split(&all))).collect(),
            alpha_nominal: alpha(&said, Scale::Nominal),
            alpha_ordinal: alpha(&said, Scale::Ordinal),
            pairs: of_pairs(&judged),
        };
        (counted, found)
    }
}

/// Verdicts in the order of how far they are for `a`.
fn in_order(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::B => 0,
        Verdict::Tie | Verdict::Unclear => 1,
        Verdict::A => 2,
    }
}

fn counted<'a>(item: &Item, own: impl Iterator<Item = &'a Judgement>) -> JudgedItem {
    let verdicts: Vec<Verdict> = own.map(|one| one.verdict).collect();
    let count = |of: Verdict| verdicts.iter().filter(|verdict| **verdict == of).count();
    let sum: f64 = verdicts.iter().map(|verdict| verdict.score()).sum();
    JudgedItem {
        split: item.split.clone(),
        id: item.id.clone(),
        key: item.key(),
        votes: Votes { a: count(Verdict::A), b: count(Verdict::B), tie: count(Verdict::Tie) },
        score: sum / verdicts.len() as f64,
        majority: majority(&verdicts),
    }
}

/// Majorities of a split, each with its prompt.
fn of_split(all: &[(&str, Verdict)]) -> Majority {
    let count = |of: Verdict| all.iter().filter(|(_, verdict)| *verdict == of).count();
    let scores: Vec<f64> = all.iter().map(|(_, verdict)| verdict.score()).collect();
    Majority {
        a: count(Verdict::A),
        b: count(Verdict::B),
        tie: count(Verdict::Tie),
        win_rate: Clusters::of(all.iter().map(|(prompt, _)| *prompt)).share(&scores),
    }
}

/// Those who judged, by name.
fn annotators(judged: &[(&Item, BTreeMap<&str, &Judgement>)]) -> Vec<Annotator> {
    let mut by: BTreeMap<&str, Vec<(Verdict, bool)>> = BTreeMap::new();
    for (name, one) in judged.iter().flat_map(|(_, own)| own) {
        by.entry(name).or_default().push((one.verdict, one.order == Some(Order::Ab)));
    }
    let one = |(name, own): (&str, Vec<(Verdict, bool)>)| Annotator {
        name: name.into(),
        items: own.len(),
        ties: own.iter().filter(|(verdict, _)| *verdict == Verdict::Tie).count(),
        first_share: first_share(own.into_iter()),
    };
    by.into_iter().map(one).collect()
}

/// What two people say of an item, with its prompt.
type Both<'a> = (&'a str, (u8, u8));

/// Every two people who have judged an item in common.
fn of_pairs(judged: &[(&Item, BTreeMap<&str, &Judgement>)]) -> Vec<TwoAnnotators> {
    let mut common: BTreeMap<(&str, &str), Vec<Both<'_>>> = BTreeMap::new();
    for (item, own) in judged {
        for (one, first) in own {
            for (other, second) in own.range::<&str, _>((Excluded(one), Unbounded)) {
                let said = (in_order(first.verdict), in_order(second.verdict));
                common.entry((one, other)).or_default().push((&item.prompt, said));
            }
        }
    }
    let pair = |((one, other), all): ((&str, &str), Vec<Both<'_>>)| {
        let same: Vec<f64> = all.iter().map(|(_, (a, b))| f64::from(u8::from(a == b))).collect();
        let said: Vec<(u8, u8)> = all.iter().map(|(_, said)| *said).collect();
        TwoAnnotators {
            annotators: [one.into(), other.into()],
            agreement: Clusters::of(all.iter().map(|(prompt, _)| *prompt)).share(&same),
            cohen_kappa: cohen(&said),
        }
    };
    common.into_iter().map(pair).collect()
}
