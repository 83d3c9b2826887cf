//! What stages do with lineages (`src/data/lineage.rs`): rows that are measured on are held against
//! the training rows of every model that takes part, and a judge against what it judges.
//!
//! 1. Rows of held-out splits (`validation`, `test/NAME`) that a model was trained on are refused,
//!    left out or kept, as `on_leak` says. Who names another split measures on training rows on
//!    purpose: these are counted, and kept.
//! 2. A preference pair counts as seen if one of its answers was in a training pair; held-out pairs
//!    of training prompts are new.
//! 3. A reward model is no held-out judge of what was optimised against the same reward model (the
//!    same weights), or against one that was trained on one in a hundred of its pairs, or more.
//!    Fewer, which two draws from a small world have by chance, are told of.

use std::collections::BTreeMap;
use std::path::Path;

pub use crate::artefacts::leaks::OnLeak;
use crate::artefacts::leaks::{LEAKS, Leak, Leaks};
use crate::dag::context::Context;
use crate::data::dataset::is_held_out;
use crate::data::lineage::Lineage;
use crate::data::rows::{Example, Preference};
use crate::error::{Context as _, Result, user};
use crate::fs;

/// A judge that shares one pair in this many with what was optimised is not held out. Fewer
/// change its agreement with labels, and so a win rate, by less than 0.01, which no interval of
/// fewer than 1,000 inputs tells apart from 0; they are counted all the same.
const COMMON: usize = 100;
/// Rows that messages name.
const NAMED: usize = 5;

/// The lineage of the reward model in a folder, with its identity.
pub fn of_reward_model(folder: &Path) -> Result<Lineage> {
    let lineage = Lineage::read(folder)?;
    match lineage.own {
        Some(_) => Ok(lineage),
        None => Ok(lineage.of_reward_model(identity(folder)?)),
    }
}

/// The identity of the model in a folder: the hash of its weights.
pub fn identity(folder: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for name in fs::list(folder)?.iter().filter(|name| name.ends_with(".safetensors")) {
        let path = folder.join(name);
        hasher.update(name.as_bytes());
        hasher
            .update_reader(fs::open(&path)?)
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    on_leak: OnLeak,
    /// Where there are any.
    leaks: Vec<Leak>,
    /// Models that, or whose ancestors, came from outside, so that not all of their training rows
    /// are known.
    unknown: Vec<String>,
}

/// Holds rows against the lineages of models.
pub struct Guard {
    models: Vec<(String, Lineage)>,
    found: Found,
}

impl Guard {
    /// With these models, called by the fields or names that a pipeline has for them.
    pub fn new(on_leak: OnLeak, models: Vec<(String, Lineage)>) -> Self {
        let unknown = models
            .iter()
            .filter(|(_, lineage)| lineage.unknown)
            .map(|(name, _)| name.clone())
            .collect();
        Guard { models, found: Found { on_leak, leaks: Vec::new(), unknown } }
    }

    /// Which rows of a split to keep.
    pub fn rows(&mut self, split: &str, rows: &[Example]) -> Vec<bool> {
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        self.keep(split, "rows", &ids, |lineage| lineage.saw(rows))
    }

    /// Which preference pairs of a split to keep.
    pub fn pairs(&mut self, split: &str, pairs: &[Preference]) -> Vec<bool> {
        let ids: Vec<&str> = pairs.iter().map(|pair| pair.id.as_str()).collect();
        self.keep(split, "pairs", &ids, |lineage| lineage.saw_answers(pairs))
    }

    fn keep(
        &mut self,
        split: &str,
        of: &'static str,
        ids: &[&str],
        saw: impl Fn(&Lineage) -> Vec<bool>,
    ) -> Vec<bool> {
        let (mut any, mut models) = (vec![false; ids.len()], BTreeMap::new());
        for (name, lineage) in &self.models {
            let saw = saw(lineage);
            let count = saw.iter().filter(|saw| **saw).count();
            if count > 0 {
                models.insert(name.clone(), count);
            }
            any.iter_mut().zip(saw).for_each(|(any, saw)| *any |= saw);
        }
        let seen: Vec<&str> =
            ids.iter().zip(&any).filter(|(_, seen)| **seen).map(|(id, _)| *id).collect();
        if !seen.is_empty() {
            let first = seen.iter().take(NAMED).map(|id| (*id).to_owned()).collect();
            self.found.leaks.push(Leak {
                split: split.into(),
                of: of.into(),
                all: ids.len(),
                seen: seen.len(),
                models,
                first,
            });
        }
        let remove = self.found.on_leak == OnLeak::Remove && is_held_out(split);
        any.into_iter().map(|seen| !(seen && remove)).collect()
    }

    /// Adds what another has found.
    pub fn join(&mut self, other: Guard) {
        self.found.leaks.extend(other.found.leaks);
    }

    /// What was found, when all rows were looked at.
    ///
    /// # Errors
    /// The user's, if rows of a held-out split are to be refused, or if none of a split is left.
    pub fn finish(self, context: &Context) -> Result<Found> {
        let Guard { found, .. } = self;
        let held_out: Vec<&Leak> =
            found.leaks.iter().filter(|leak| is_held_out(&leak.split)).collect();
        if held_out.is_empty() {
            return Ok(found);
        }
        let sentences: Vec<String> = held_out.iter().map(|leak| leak.sentence()).collect();
        let hint = "leave them out of training (one dataset with both, and `leaks: remove`), or \
            here (`on_leak: remove`); `on_leak: allow` measures on them all the same, and says so";
        match found.on_leak {
            OnLeak::Refuse => return Err(user(sentences.join("; ")).hint(hint).into()),
            OnLeak::Remove => {
                if let Some(leak) = held_out.iter().find(|leak| leak.seen == leak.all) {
                    return Err(user(format!("{}: none is left", leak.sentence()))
                        .hint("measure on other rows")
                        .into());
                }
                sentences
                    .iter()
                    .for_each(|sentence| context.warn(format!("{sentence}: they are left out")));
            }
            OnLeak::Allow => sentences.iter().for_each(|sentence| {
                context.warn(format!("{sentence}: they are kept, as `on_leak` says"))
            }),
        }
        Ok(found)
    }
}

impl Found {
    /// Writes it into an artefact, with its notes.
    pub fn write(&self, out: &Path) -> Result<()> {
        let Found { on_leak, leaks, unknown } = self.clone();
        let leaks = Leaks { leaks, notes: self.notes(), on_leak, unknown };
        fs::write_atomic(&out.join(LEAKS), &serde_json::to_vec_pretty(&leaks)?)
    }

    /// What a reader of the figures must know of it, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let fate = |leak: &Leak| match self.on_leak {
            OnLeak::Remove if is_held_out(&leak.split) => "they are left out",
            _ => "they are kept",
        };
        let leaks =
            self.leaks.iter().map(|leak| format!("Leaks: {}: {}.", leak.sentence(), fate(leak)));
        let names: Vec<String> = self.unknown.iter().map(|name| format!("`{name}`")).collect();
        let unknown = (!names.is_empty()).then(|| {
            format!(
                "Leaks: {} came from outside, or what it was made of did; what was trained on \
                 there is not known.",
                names.join(", ")
            )
        });
        leaks.chain(unknown).collect()
    }
}

/// Whether a reward model is a held-out judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is not.
    pub tainted: bool,
    /// Why not; or what it has in common with others, though it is.
    pub remark: Option<String>,
}

/// Whether a reward model is a held-out judge of others. `judge` is what messages call it.
///
/// # Errors
/// The user's, if it is none and that is not allowed: no row can be left out to mend it.
pub fn standing(
    judge: &str,
    lineage: &Lineage,
    others: &[(String, &Lineage)],
    on_leak: OnLeak,
) -> Result<Standing> {
    let is_own = |(_, other): &&(String, &Lineage)| {
        lineage.own.as_ref().is_some_and(|own| other.reward_models.contains(own))
    };
    let most = others
        .iter()
        .map(|(name, other)| (lineage.pairs_in_common(other), name))
        .max_by_key(|((_, common), _)| *common);
    let standing = match (others.iter().find(is_own), most) {
        (Some((name, _)), _) => {
            let why = format!(
                "{judge} is the reward model that `{name}` was optimised against or chosen by: \
                 they have the same weights"
            );
            Standing { tainted: true, remark: Some(why) }
        }
        (None, Some(((all, common), name))) if common > 0 => {
            let tainted = common * COMMON >= all;
            let begin = if tainted { format!("{judge} is not held out: ") } else { String::new() };
            let what = format!(
                "{begin}{common} of the {all} pairs that it was trained on trained a reward model \
                 of `{name}` too"
            );
            Standing { tainted, remark: Some(what) }
        }
        _ => Standing::default(),
    };
    match (standing.tainted, on_leak) {
        (true, OnLeak::Refuse | OnLeak::Remove) => Err(user(standing.remark.unwrap_or_default())
            .hint(
                "give its pairs another seed, or train it on other pairs; `on_leak: allow` judges \
                 all the same, and says so",
            )
            .into()),
        _ => Ok(standing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Rows;

    fn learned(pairs: std::ops::Range<usize>) -> Lineage {
        let pair = |at: usize| Preference {
            id: String::new(),
            prompt: format!("prompt {at}"),
            chosen: " a".into(),
            rejected: " b".into(),
            ..Preference::default()
        };
        Lineage::of_rows(&Rows::Preferences(pairs.map(pair).collect()))
    }

    #[test]
    fn a_hundredth_of_the_pairs_in_common_is_too_much_and_less_is_told_of() {
        let others = [("ppo".to_owned(), &learned(199..300))];
        let judged =
            |from: usize, on_leak| standing("the judge", &learned(from..200), &others, on_leak);
        let refused = judged(100, OnLeak::Refuse).unwrap_err();
        assert!(
            refused.to_string().starts_with(
                "the judge is not held out: 1 of the 100 pairs that it was trained on"
            ),
            "{refused}"
        );
        assert!(judged(100, OnLeak::Allow).unwrap().tainted);
        let few = judged(99, OnLeak::Refuse).unwrap();
        let remark =
            "1 of the 101 pairs that it was trained on trained a reward model of `ppo` too";
        assert_eq!(few, Standing { tainted: false, remark: Some(remark.into()) });
        assert_eq!(
            standing("the judge", &learned(0..199), &others, OnLeak::Refuse).unwrap(),
            Standing::default()
        );
    }
}
