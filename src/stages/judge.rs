//! `judge`: verdicts of a judge on pairs of answers: `a` and `b`, `a` and the references, or, to
//! measure the judge, the chosen and the rejected text of preference pairs.
//!
//! 1. A pair's score is 1 where `a` wins, 0 where it loses, 0.5 for a tie; the win rate is the
//!    mean, with an interval over prompts: pairs of one prompt share texts.
//! 2. A language model is asked about each pair in both orders, the order that comes first by
//!    chance of the seed; the score is the mean of the two. Of people's judgements of a pair it is
//!    the mean as well. People may be asked of sets of answers which is more varied (`people.rs`).
//! 3. What a language model answers depends on somebody else's machine. Its answers are kept in the
//!    cache by content: with the same cache the bytes are the same, with another it asks again.
//! 4. A reward model must have had no part in what it judges, nor learned from the pairs of one
//!    that had (`lineage.rs`). A pipeline whose configs show it is refused
//!    ([`KindInfo::held_out`]); what bytes and lineages show is refused here, before anything is
//!    judged.
//! 5. Rows that a model behind the answers, or the judge, was trained on are refused, left out or
//!    counted, as `on_leak` says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::footprint;
use super::judge_client::{self, Model};
use super::lineage::{self, Guard, OnLeak, Standing};
use super::model_files::{self, Read, normalisation};
use super::models::ArtefactShapes;
use super::people::Sheets;
use super::reading::{Part, Reading, Splits};
use super::source::Source;
use super::{Checks, KindInfo, Problem, Stage};
use crate::artefacts::judgements::{
    Agreement, ITEMS, JUDGEMENTS, Judgement, OfSplit, Order, SUMMARY, Summary, Verdicts,
};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::answer_pairs::{self, AnswerPair};
use crate::data::lineage::Lineage;
use crate::data::rows::{Example, Preference, write_jsonl};
use crate::data::sheet;
use crate::data::tokenised::Limits;
use crate::error::{Result, user};
use crate::eval::agreement;
use crate::eval::interval::{Clusters, Interval};
use crate::eval::verdict::{Verdict, first_share};
use crate::fs;
use crate::model::memory::Memory;
use crate::model::params::HeadKind;
use crate::model::score;
use crate::reference::{Dataset as DatasetArtefact, Input, Ref, RewardModel, Samples};
use crate::world;

/// The config of `uses: judge`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeStage {
    /// Dataset with the rows that are answered; without `a`, with preference pairs.
    pub dataset: Ref<DatasetArtefact>,
    /// Answers to judge; the first of each row counts.
    #[serde(default)]
    pub a: Option<Ref<Samples>>,
    /// Answers to compare `a` with; `null` means the references of the dataset.
    #[serde(default)]
    pub b: Option<Ref<Samples>>,
    /// Splits of `dataset`; an empty list means all test sets.
    #[serde(default)]
    pub splits: Vec<String>,
    /// Largest number of rows of each split, which are the first; `null` takes all.
    #[serde(default)]
    pub limit: Option<usize>,
    /// The judge.
    pub judge: Who,
    /// Longest prompt in tokens that a reward model reads; a longer prompt loses its beginning.
    /// `null` cuts nothing.
    #[serde(default)]
    pub max_prompt_tokens: Option<usize>,
    /// Treatment of rows of held-out splits that a model was trained on; `allow` also admits a
    /// judge that is not held out.
    #[serde(default)]
    pub on_leak: OnLeak,
    /// Seed of the order in which a language model first reads two answers.
    #[serde(default)]
    pub seed: u64,
}

/// The judge.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The synthetic world's exact score.
    Gold,
    /// A reward model that had no part in what it judges.
    RewardModel(Ref<RewardModel>),
    /// A language model behind OpenAI's API.
    Llm(Model),
    /// People, by sheets that they filled in.
    Human(People),
    /// People, by sheets that are checked against the answers, with the agreement of people.
    People(Sheets),
}

/// Judgements of people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// Sheets of `posttrain annotate` that were filled in, one below the other, of which nothing
    /// says which answers were judged.
    pub judgements: Vec<Input>,
}

impl Stage for JudgeStage {
    const INFO: KindInfo = KindInfo {
        held_out: &[("judge.reward_model", &["a", "b"])],
        ..KindInfo::on_device("judge", 3, "judgements")
    };

    fn allows_taints(&self) -> bool {
        self.on_leak == OnLeak::Allow
    }

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        checks
            .require(self.a.is_some() || self.b.is_none(), "b", "expected `a` as well")
            .positive_or_null(self.limit, "limit")
            .positive_or_null(self.max_prompt_tokens, "max_prompt_tokens");
        let by_reward = matches!(self.judge, Who::RewardModel(_));
        checks.require(
            by_reward || self.max_prompt_tokens.is_none(),
            "max_prompt_tokens",
            "only a `reward_model` is given prompts that are cut: remove it",
        );
        match &self.judge {
            Who::Llm(model) => model.check(&mut checks),
            Who::Gold => {
                checks.require(
                    self.a.is_some(),
                    "judge",
                    "expected another judge for preference pairs: gold knows rows with facts alone",
                );
            }
            Who::Human(people) => {
                checks.require(
                    !people.judgements.is_empty(),
                    "judge.human.judgements",
                    "expected at least one sheet",
                );
            }
            Who::People(people) => {
                checks
                    .require(
                        !people.sheets.is_empty(),
                        "judge.people.sheets",
                        "expected at least one sheet",
                    )
                    .require(
                        people.set.is_none_or(|k| k >= 2),
                        "judge.people.set",
                        format!("expected at least 2, found {}", people.set.unwrap_or_default()),
                    )
                    .require(
                        people.set.is_none() || self.b.is_some(),
                        "judge.people.set",
                        "expected `a` and `b`: a set is of several samples",
                    );
            }
            Who::RewardModel(_) => {}
        }
        checks.done()
    }

    fn memory(&self, shapes: &ArtefactShapes) -> Option<Memory> {
        let Who::RewardModel(model) = &self.judge else { return None };
        footprint::scoring(shapes, &shapes.model(model)?.0, HeadKind::Reward)
    }

    fn readings(&self, shapes: &ArtefactShapes) -> Vec<Reading> {
        let (Who::RewardModel(model), None) = (&self.judge, &self.a) else { return Vec::new() };
        let reading = |(tokenizer, context)| Reading {
            dataset: Source::from(&self.dataset),
            splits: match self.splits.is_empty() {
                true => Splits::TestsOrAll,
                false => Splits::Named(self.splits.clone()),
            },
            rows: self.limit,
            tokenizer,
            limits: Limits::of_stage(context, self.max_prompt_tokens),
            reader: "the reward model",
            part: Part::Pair,
        };
        shapes.reader(model).map(reading).into_iter().collect()
    }

    fn run<B: Backend>(&self, b: &B, context: &Context) -> Result<()> {
        let dataset = self.dataset.path();
        let all = match &self.a {
            Some(a) => answer_pairs::outputs(
                dataset,
                &self.splits,
                self.limit,
                a.path(),
                self.b.as_ref().map(Ref::path),
            )?,
            None => answer_pairs::pairs(dataset, &self.splits, self.limit)?,
        };
        let judging = match &self.judge {
            Who::RewardModel(model) => Some(lineage::of_reward_model(model.path())?),
            _ => None,
        };
        let (pairs, standing) = self.guarded(context, &all, judging.as_ref())?;
        let (mut usage, mut agreement, mut people_found) = (None, None, None);
        let (judge, judgements) = match &self.judge {
            Who::Gold => ("gold", gold_says(&pairs)?),
            Who::RewardModel(model) => ("reward_model", self.reward_model_says(b, model, &pairs)?),
            Who::Llm(model) => {
                let (judgements, used) = judge_client::ask(model, context, &pairs, self.seed)?;
                usage = Some(used);
                ("llm", judgements)
            }
            Who::Human(people) => {
                // Sheets may have rows that are left out since.
                let judgements = people_say(people, &all)?;
                let judgements = kept(judgements, &pairs);
                agreement = Some(agreement_of(&judgements));
                ("human", judgements)
            }
            Who::People(people) => {
                let items = match (people.set, &self.a, &self.b) {
                    (Some(k), Some(a), Some(b)) => answer_pairs::sets(&all, a.path(), b.path(), k)?,
                    _ => all.iter().map(AnswerPair::item).collect(),
                };
                let judgements = kept(people.judgements(&items)?, &pairs);
                let (items, found) = people.counted(&items, &judgements);
                write_jsonl(&context.out().join(ITEMS), &items)?;
                people_found = Some(found);
                ("human", judgements)
            }
        };
        let (a, b) = match (&self.a, &self.b) {
            (None, _) => ("chosen", "rejected"),
            (Some(_), None) => ("a", "reference"),
            (Some(_), Some(_)) => ("a", "b"),
        };
        let splits = self.splits_of(&pairs, &judgements)?;
        let verdicts = Verdicts { splits, usage, agreement, people: people_found };
        let unclear: usize = verdicts.splits.values().map(|split| split.unclear).sum();
        if unclear > 0 {
            context.warn(format!(
                "{unclear} of {} verdicts cannot be read and count as ties",
                judgements.len()
            ));
        }
        let held_out = judging.as_ref().map(|_| !standing.tainted);
        let summary = Summary {
            judge: judge.into(),
            a: a.into(),
            b: b.into(),
            held_out,
            remark: standing.remark,
            verdicts,
        };
        judging.iter().try_for_each(|lineage| lineage.write(context.out()))?;
        write_jsonl(&context.out().join(JUDGEMENTS), &judgements)?;
        fs::write_atomic(&context.out().join(SUMMARY), &serde_json::to_vec_pretty(&summary)?)
    }
}

impl JudgeStage {
    /// What may be judged, and whether the judge is held out. What was found is written into the
    /// artefact.
    fn guarded(
        &self,
        context: &Context,
        pairs: &[AnswerPair],
        judge: Option<&Lineage>,
    ) -> Result<(Vec<AnswerPair>, Standing)> {
        let answers = [("a", &self.a), ("b", &self.b)];
        let answers =
            answers.into_iter().filter_map(|(name, samples)| Some((name, samples.as_ref()?)));
        let mut models: Vec<(String, Lineage)> = answers
            .map(|(name, samples)| Ok((name.to_owned(), Lineage::read(samples.path())?)))
            .collect::<Result<_>>()?;
        let others: Vec<(String, &Lineage)> =
            models.iter().map(|(name, lineage)| (name.clone(), lineage)).collect();
        let standing = judge
            .map(|judge| lineage::standing("the judge", judge, &others, self.on_leak))
            .transpose()?
            .unwrap_or_default();
        if let Some(remark) = &standing.remark {
            context.warn(remark.clone());
        }
        models.extend(judge.map(|judge| ("judge.reward_model".to_owned(), judge.clone())));
        let mut guard = Guard::new(self.on_leak, models);
        let mut keep = Vec::with_capacity(pairs.len());
        for part in pairs.chunk_by(|one, other| one.split == other.split) {
            let id = |pair: &AnswerPair| (pair.id.clone(), pair.prompt.clone());
            let kept = match &self.a {
                None => {
                    let row = |pair: &AnswerPair| {
                        let (id, prompt) = id(pair);
                        let (chosen, rejected) = (pair.a.text.clone(), pair.b.text.clone());
                        Preference {
                            id,
                            prompt,
                            chosen,
                            rejected,
                            chat: pair.chat,
                            ..Preference::default()
                        }
                    };
                    guard.pairs(&part[0].split, &part.iter().map(row).collect::<Vec<_>>())
                }
                Some(_) => {
                    let row = |pair: &AnswerPair| {
                        let (id, prompt) = id(pair);
                        let completion =
                            if self.b.is_none() { pair.b.text.clone() } else { String::new() };
                        Example { id, prompt, completion, chat: pair.chat, ..Example::default() }
                    };
                    guard.rows(&part[0].split, &part.iter().map(row).collect::<Vec<_>>())
                }
            };
            keep.extend(kept);
        }
        guard.finish(context)?.write(context.out())?;
        let kept = pairs
            .iter()
            .zip(keep)
            .filter(|(_, keep)| *keep)
            .map(|(pair, _)| pair.clone())
            .collect();
        Ok((kept, standing))
    }

    fn reward_model_says<B: Backend>(
        &self,
        b: &B,
        model: &Ref<RewardModel>,
        pairs: &[AnswerPair],
    ) -> Result<Vec<Judgement>> {
        let (reward, normalisation) =
            (model_files::load(b, model.path())?, normalisation(model.path())?);
        let mut sequences = Vec::with_capacity(2 * pairs.len());
        for (pair, text) in
            pairs.iter().flat_map(|pair| [(pair, &pair.a.text), (pair, &pair.b.text)])
        {
            let (mut prompt, response) =
                reward.tokenizer.encode_row(&pair.prompt, text, pair.chat)?;
            prompt
                .drain(..prompt.len().saturating_sub(self.max_prompt_tokens.unwrap_or(usize::MAX)));
            sequences.push((pair, prompt.len(), [prompt, response].concat()));
        }
        for part in sequences.chunk_by(|one, other| one.0.split == other.0.split) {
            let read: Vec<Read<'_>> = part
                .iter()
                .map(|(pair, prompt, tokens)| Read {
                    id: &pair.id,
                    origin: pair.origin.as_ref(),
                    prompt: *prompt,
                    tokens,
                })
                .collect();
            reward.check("the reward model", &part[0].0.split, &read)?;
        }
        let sequences: Vec<&[u32]> =
            sequences.iter().map(|(.., tokens)| tokens.as_slice()).collect();
        let raw = score::last_scalars(b, &reward.model, &sequences);
        let scores: Vec<f64> =
            raw.into_iter().map(|raw| normalisation.apply(f64::from(raw))).collect();
        let row = |at: usize| {
            format!(
                "text {} of the pair of row `{}` of split `{}`",
                1 + at % 2,
                pairs[at / 2].id,
                pairs[at / 2].split
            )
        };
        model_files::check_finite(&scores, "the reward model's score", row)?;
        Ok(pairs
            .iter()
            .zip(scores.chunks_exact(2))
            .map(|(pair, scores)| scored(pair, scores[0], scores[1]))
            .collect())
    }

    /// The figures of each split.
    fn splits_of(
        &self,
        pairs: &[AnswerPair],
        judgements: &[Judgement],
    ) -> Result<BTreeMap<String, OfSplit>> {
        let mut of_pair: BTreeMap<(&str, &str), Vec<&Judgement>> = BTreeMap::new();
        for judgement in judgements {
            of_pair.entry((&judgement.split, &judgement.id)).or_default().push(judgement);
        }
        let mut splits: BTreeMap<String, Vec<Judged<'_>>> = BTreeMap::new();
        for pair in pairs {
            if let Some(own) = of_pair.remove(&(pair.split.as_str(), pair.id.as_str())) {
                splits
                    .entry(pair.split.clone())
                    .or_default()
                    .push(Judged { prompt: &pair.prompt, own });
            }
        }
        if splits.is_empty() {
            return Err(user("nothing was judged")
                .hint("the sheets must be of these answers")
                .into());
        }
        Ok(splits.into_iter().map(|(name, judged)| (name, self.split(&judged))).collect())
    }

    fn split(&self, judged: &[Judged<'_>]) -> OfSplit {
        let score = |one: &Judged<'_>| {
            one.own.iter().map(|judgement| judgement.verdict.score()).sum::<f64>()
                / one.own.len() as f64
        };
        let scores: Vec<f64> = judged.iter().map(score).collect();
        let share = |values: &[f64], pairs: &[usize]| -> Interval {
            let own: Vec<f64> = pairs.iter().map(|&pair| values[pair]).collect();
            Clusters::of(pairs.iter().map(|&pair| judged[pair].prompt)).share(&own)
        };
        let every: Vec<usize> = (0..judged.len()).collect();
        let all = || judged.iter().flat_map(|one| &one.own);
        let shown =
            all().filter_map(|judgement| Some((judgement.verdict, judgement.order? == Order::Ab)));
        let twice = matches!(self.judge, Who::Llm(_));
        // Two answers that cannot be read agree on nothing.
        let agree = |one: &Judged<'_>| {
            one.own.iter().all(|other| {
                other.verdict == one.own[0].verdict && other.verdict != Verdict::Unclear
            })
        };
        let agrees: Vec<f64> = judged.iter().map(|one| f64::from(agree(one))).collect();
        let mut by_confidence = BTreeMap::new();
        if twice {
            let sure: Vec<usize> =
                every.iter().copied().filter(|&pair| agrees[pair] == 1.0).collect();
            if !sure.is_empty() {
                by_confidence.insert("orders_agree".to_owned(), share(&scores, &sure));
            }
        }
        let margins: Option<Vec<f64>> =
            judged.iter().map(|one| Some(one.own[0].margin?.abs())).collect();
        if let Some(margins) = margins.filter(|margins| margins.len() >= 3) {
            let mut order: Vec<usize> = (0..margins.len()).collect();
            order.sort_by(|&one, &other| {
                margins[one].total_cmp(&margins[other]).then(one.cmp(&other))
            });
            for (third, part) in ["low", "middle", "high"].into_iter().enumerate() {
                let own = &order[third * order.len() / 3..(third + 1) * order.len() / 3];
                by_confidence.insert(part.to_owned(), share(&scores, own));
            }
        }
        OfSplit {
            win_rate: share(&scores, &every),
            ties: scores.iter().filter(|score| **score == 0.5).count(),
            unclear: all().filter(|judgement| judgement.verdict == Verdict::Unclear).count(),
            first_share: first_share(shown),
            order_agreement: twice.then(|| share(&agrees, &every)),
            by_confidence,
        }
    }
}

/// A pair with all judgements of it.
struct Judged<'a> {
    prompt: &'a str,
    own: Vec<&'a Judgement>,
}

/// The judgements of pairs that are not left out.
fn kept(judgements: Vec<Judgement>, pairs: &[AnswerPair]) -> Vec<Judgement> {
    let pairs: BTreeSet<(&str, &str)> =
        pairs.iter().map(|pair| (pair.split.as_str(), pair.id.as_str())).collect();
    let is_kept = |one: &Judgement| pairs.contains(&(one.split.as_str(), one.id.as_str()));
    judgements.into_iter().filter(is_kept).collect()
}

/// The judgement of two scores.
fn scored(pair: &AnswerPair, a: f64, b: f64) -> Judgement {
    Judgement {
        margin: Some(a - b),
        ..Judgement::new(&pair.split, &pair.id, Verdict::of_scores(a, b))
    }
}

fn gold_says(pairs: &[AnswerPair]) -> Result<Vec<Judgement>> {
    let one = |pair: &AnswerPair| {
        let score = |answer: &answer_pairs::Answer| {
            Some(
                world::grade(pair.facts.as_ref()?, &pair.prompt, &answer.text, answer.ended)?.score,
            )
        };
        match (score(&pair.a), score(&pair.b)) {
            (Some(a), Some(b)) => Ok(scored(pair, a, b)),
            _ => Err(user("the gold judge knows only the synthetic worlds")
                .hint("choose another `judge`")
                .into()),
        }
    };
    pairs.iter().map(one).collect()
}

/// The judgements of all sheets, in the order of the pairs; of one person's judgements of a pair
/// the last counts.
fn people_say(people: &People, pairs: &[AnswerPair]) -> Result<Vec<Judgement>> {
    let mut said: BTreeMap<(String, String), BTreeMap<String, sheet::Judgement>> = BTreeMap::new();
    let known: BTreeMap<(&str, &str), &AnswerPair> =
        pairs.iter().map(|pair| ((pair.split.as_str(), pair.id.as_str()), pair)).collect();
    for (at, file) in people.judgements.iter().enumerate() {
        for mut one in sheet::read(file.path())? {
            if one.annotator.is_empty() {
                one.annotator = format!("sheet {}", at + 1);
            }
            if !known.contains_key(&(one.split.as_str(), one.id.as_str())) {
                let message = format!(
                    "{} judges row `{}` of split `{}`, which is not among the answers",
                    file.path().display(),
                    one.id,
                    one.split
                );
                return Err(user(message)
                    .hint(
                        "the sheet is of other answers, or `splits` and `limit` leave the row out",
                    )
                    .into());
            }
            said.entry((one.split.clone(), one.id.clone()))
                .or_default()
                .insert(one.annotator.clone(), one);
        }
    }
    let mut judgements = Vec::new();
    for pair in pairs {
        for (annotator, one) in
            said.remove(&(pair.split.clone(), pair.id.clone())).into_iter().flatten()
        {
            let verdict = Verdict::of_choice(Some(one.choice), one.a_first);
            judgements.push(Judgement {
                order: Some(Order::of(one.a_first)),
                annotator: Some(annotator),
                ..Judgement::new(&pair.split, &pair.id, verdict)
            });
        }
    }
    Ok(judgements)
}

fn agreement_of(judgements: &[Judgement]) -> Agreement {
    let mut annotators: Vec<&str> =
        judgements.iter().filter_map(|judgement| judgement.annotator.as_deref()).collect();
    annotators.sort_unstable();
    annotators.dedup();
    let mut items: BTreeMap<(&str, &str), BTreeMap<&str, u8>> = BTreeMap::new();
    for judgement in judgements {
        let by = judgement.annotator.as_deref().unwrap_or_default();
        items
            .entry((&judgement.split, &judgement.id))
            .or_default()
            .insert(by, judgement.verdict as u8);
    }
    let both =
        |own: &BTreeMap<&str, u8>| Some((*own.get(annotators[0])?, *own.get(annotators[1])?));
    let two =
        (annotators.len() == 2).then(|| items.values().filter_map(both).collect::<Vec<(u8, u8)>>());
    Agreement {
        annotators: annotators.len(),
        krippendorff_alpha: agreement::krippendorff(
            &items.values().map(|own| own.values().copied().collect()).collect::<Vec<Vec<u8>>>(),
            agreement::Scale::Nominal,
        ),
        cohen_kappa: two.and_then(|pairs| agreement::cohen(&pairs)),
    }
}
