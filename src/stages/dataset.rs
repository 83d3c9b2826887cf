//! `dataset`: rows from files, from the synthetic world, or preference pairs made from rows. No
//! text of a held-out split may occur in a split that is trained on; that is checked here, by
//! content.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::reward_pairs::RewardPairs;
use super::{Checks, KindInfo, Problem, Stage};
use crate::backend::Backend;
use crate::dag::context::Context;
use crate::data::contrast::{Contrast, contrast_preferences};
use crate::data::dataset::{self, Dataset, is_held_out};
use crate::data::decontamination;
use crate::data::load::{Loaded, load};
use crate::data::rows::{Example, Preference, Rows};
use crate::data::samples::{self, Sampled};
use crate::data::source::Files;
use crate::data::subset::{self, Pick};
use crate::error::{Result, user};
use crate::fs;
use crate::random::Stream;
use crate::reference::{Dataset as DatasetArtefact, Ref, Samples};
use crate::world::{self, Candidate, Facts, Noise, noisy_preferences, writers_candidates};

/// Says how many bad rows of which split were left out, and which they were; there only if there
/// were any.
const SKIPPED: &str = "skipped.json";

/// The config of `uses: dataset`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetStage {
    /// Source of the rows.
    pub source: Source,
    /// Treatment of training rows that are also in a held-out split.
    #[serde(default)]
    pub leaks: Leaks,
}

/// Treatment of training rows that are also in a held-out split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaks {
    /// Such rows are an error.
    #[default]
    Fail,
    /// Such rows are left out of training, and counted in a warning.
    Remove,
}

/// Source of the rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Rows of data files, by split: `sft`, `validation`, `prompts`, `compare`, `test/NAME`, or any
    /// other name.
    Files(BTreeMap<String, Files>),
    /// Rows of another dataset.
    Select(Select),
    /// The synthetic world of forum posts, all splits.
    World(world::Options),
    /// The synthetic world of instructions, all splits.
    Instructions(world::Options),
    /// Preference pairs over candidate answers to either world's prompts, drawn from the gold score
    /// with noise.
    WorldPreferences(WorldPreferences),
    /// Preference pairs of a reference against a plainly worse text.
    Contrast(ContrastPreferences),
    /// Preference pairs of sampled responses, of which a reward chooses the better one.
    RewardPairs(RewardPairs),
}

/// Options of `select`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// Dataset that the rows are taken from.
    pub dataset: Ref<DatasetArtefact>,
    /// Splits of the new dataset by name, each with the rows of `dataset` that it consists of.
    pub splits: BTreeMap<String, Pick>,
}

/// Options of `world_preferences`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldPreferences {
    /// Dataset of the synthetic world, with posts or instructions.
    pub posts: Ref<DatasetArtefact>,
    /// Sampled candidates for some splits of `posts`; `compare` becomes the split `preferences`,
    /// the others keep their names.
    pub candidates: Ref<Samples>,
    /// Further candidates for each prompt, by writers of unequal quality.
    #[serde(default)]
    pub writers: usize,
    /// Seed of the writers and of the labels' noise.
    #[serde(default)]
    pub seed: u64,
    /// Noise of the labels.
    #[serde(default)]
    pub noise: Noise,
}

/// Options of `contrast`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastPreferences {
    /// Dataset with reference completions.
    pub dataset: Ref<DatasetArtefact>,
    /// Splits of the new dataset by name, each with the split of `dataset` that it is made from.
    pub splits: BTreeMap<String, String>,
    /// Ways in which the worse text is made; each makes one pair of each row.
    pub kinds: Vec<Contrast>,
    /// Seed of the draw of other rows.
    #[serde(default)]
    pub seed: u64,
}

impl Stage for DatasetStage {
    const INFO: KindInfo = KindInfo::on_host("dataset", 2, "dataset");

    fn problems(&self) -> Vec<Problem> {
        let mut checks = Checks::default();
        let of_pairs = matches!(
            self.source,
            Source::WorldPreferences(_) | Source::Contrast(_) | Source::RewardPairs(_)
        );
        checks.require(
            !of_pairs || self.leaks == Leaks::Fail,
            "leaks",
            "nothing is removed from pairs that are made of another dataset: set it there",
        );
        match &self.source {
            Source::Files(splits) => {
                checks.require(!splits.is_empty(), "source.files", "expected at least one split");
                names(&mut checks, "source.files", splits.keys());
                for (split, files) in splits {
                    for (field, message) in files.problems() {
                        checks.require(false, &format!("source.files.{split}.{field}"), message);
                    }
                }
            }
            Source::Select(options) => {
                checks.require(
                    !options.splits.is_empty(),
                    "source.select.splits",
                    "expected at least one split",
                );
                names(&mut checks, "source.select.splits", options.splits.keys());
                for (split, pick) in &options.splits {
                    for (field, message) in pick.problems() {
                        checks.require(
                            false,
                            &format!("source.select.splits.{split}.{field}"),
                            message,
                        );
                    }
                }
            }
            Source::World(options) => enough(&mut checks, "source.world", options),
            Source::Instructions(options) => enough(&mut checks, "source.instructions", options),
            Source::WorldPreferences(options) => {
                checks.require(
                    options.noise.beta >= 0.0,
                    "source.world_preferences.noise.beta",
                    "expected 0 or more",
                );
                checks.require(
                    options.noise.min_gap >= 0.0,
                    "source.world_preferences.noise.min_gap",
                    "expected 0 or more",
                );
                checks.require(
                    options.noise.per_word.is_finite(),
                    "source.world_preferences.noise.per_word",
                    "expected a finite number",
                );
            }
            Source::Contrast(options) => {
                checks.require(
                    !options.splits.is_empty(),
                    "source.contrast.splits",
                    "expected at least one split",
                );
                names(&mut checks, "source.contrast.splits", options.splits.keys());
                checks.require(
                    !options.kinds.is_empty(),
                    "source.contrast.kinds",
                    "expected at least one kind",
                );
            }
            Source::RewardPairs(options) => {
                options.check(&mut checks);
                names(&mut checks, "source.reward_pairs.splits", options.splits.keys());
            }
        }
        checks.done()
    }

    fn run<B: Backend>(&self, _: &B, context: &Context) -> Result<()> {
        match &self.source {
            Source::Files(splits) => self.write_files(context, splits),
            Source::Select(options) => {
                let dataset = Dataset::open(options.dataset.path())?;
                let rows = options
                    .splits
                    .iter()
                    .map(|(split, pick)| Ok((split.clone(), subset::pick(&dataset, pick)?)));
                self.write(context, rows.collect::<Result<_>>()?)?;
                match dataset.made_with()? {
                    Some(made_with) => made_with.write(context.out()),
                    None => Ok(()),
                }
            }
            Source::World(options) => {
                self.write_examples(context, asked_for(world::posts::splits(options)))
            }
            Source::Instructions(options) => {
                self.write_examples(context, asked_for(world::instructions::splits(options)))
            }
            Source::WorldPreferences(options) => world_preferences(context, options),
            Source::RewardPairs(options) => options.write(context),
            Source::Contrast(options) => {
                let dataset = Dataset::open(options.dataset.path())?;
                for (split, from) in &options.splits {
                    let examples: Vec<Example> = dataset.split(from)?;
                    let seed = Stream::new(options.seed, split).bits(0, 0);
                    dataset::write_split(
                        context.out(),
                        split,
                        &contrast_preferences(&examples, &options.kinds, seed),
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// Notes the names of splits in `field` that cannot be the names of files.
fn names<'a>(checks: &mut Checks, field: &str, splits: impl Iterator<Item = &'a String>) {
    for split in splits {
        if let Some(problem) = dataset::split_problem(split) {
            checks.require(false, &format!("{field}.{split}"), problem);
        }
    }
}

impl DatasetStage {
    /// Reads the files of every split, writes the splits, and says which rows were left out as bad.
    fn write_files(&self, context: &Context, splits: &BTreeMap<String, Files>) -> Result<()> {
        let (mut read, mut skipped) = (Vec::new(), BTreeMap::new());
        for (split, files) in splits {
            let Loaded { rows, skipped: bad, ignored } = load(files)?;
            let names =
                |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join("`, `");
            if !ignored.columns.is_empty() {
                context.warn(format!(
                    "split `{split}`: nothing reads the columns `{}`",
                    names(ignored.columns)
                ));
            }
            if !ignored.fields.is_empty() {
                context.warn(format!(
                    "split `{split}`: nothing reads `{}` of messages",
                    names(ignored.fields)
                ));
            }
            if bad.count > 0 {
                let first = &bad.first[0];
                let (count, kept, row, why) = (
                    bad.count,
                    rows.len(),
                    &first["row"],
                    first["why"].as_str().unwrap_or_default(),
                );
                context.warn(format!(
                    "split `{split}`: {count} bad rows were left out, {kept} are kept; the first \
                     is row {row}: {why}"
                ));
                skipped.insert(split, bad);
            }
            read.push((split.clone(), rows));
        }
        self.write(context, read)?;
        match skipped.is_empty() {
            true => Ok(()),
            false => fs::write_atomic(
                &context.out().join(SKIPPED),
                &serde_json::to_vec_pretty(&skipped)?,
            ),
        }
    }

    fn write_examples(&self, context: &Context, splits: Vec<(String, Vec<Example>)>) -> Result<()> {
        self.write(
            context,
            splits.into_iter().map(|(split, rows)| (split, Rows::Examples(rows))).collect(),
        )
    }

    /// Sees to it that nothing held out is trained on, then writes every split.
    fn write(&self, context: &Context, splits: Vec<(String, Rows)>) -> Result<()> {
        let (held_out, mut training): (Vec<_>, Vec<_>) =
            splits.into_iter().partition(|(split, _)| is_held_out(split));
        let texts = |splits: &[(String, Rows)]| {
            splits.iter().map(|(split, rows)| (split.clone(), rows.texts())).collect::<Vec<_>>()
        };
        let held_out_texts = texts(&held_out);
        if self.leaks == Leaks::Remove {
            let leaks = decontamination::leaks(&held_out_texts, &texts(&training));
            let removed = decontamination::remove(&mut training, &leaks);
            if removed > 0 {
                context.warn(format!(
                    "{removed} rows were left out of training because a held-out split has them too"
                ));
            }
        }
        decontamination::check(&held_out_texts, &texts(&training))?;
        for (split, mut rows) in held_out.into_iter().chain(training) {
            if let Rows::Examples(rows) = &mut rows {
                world::normalise(&split, rows)?;
            }
            dataset::write_rows(context.out(), &split, &rows)?;
        }
        Ok(())
    }
}

fn enough(checks: &mut Checks, source: &str, options: &world::Options) {
    checks.require(options.sft > 0, &format!("{source}.sft"), "expected at least one row");
    checks.require(options.test > 0, &format!("{source}.test"), "expected at least one row");
}

/// The splits that have rows.
fn asked_for(splits: Vec<(String, Vec<Example>)>) -> Vec<(String, Vec<Example>)> {
    splits.into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
}

fn world_preferences(context: &Context, options: &WorldPreferences) -> Result<()> {
    let posts = Dataset::open(options.posts.path())?;
    let mut sampled: BTreeMap<String, Vec<Sampled>> = BTreeMap::new();
    for row in samples::read(options.candidates.path())? {
        sampled.entry(row.split.clone()).or_default().push(row);
    }
    for (split, rows) in &sampled {
        let examples: BTreeMap<String, Example> = posts
            .split::<Example>(split)?
            .into_iter()
            .map(|example| (example.id.clone(), example))
            .collect();
        let writers = Stream::new(options.seed, &format!("writers {split}"));
        let labels = Stream::new(options.seed, &format!("labels {split}"));
        let mut pairs: Vec<Preference> = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let example = examples.get(&row.id).filter(|example| example.prompt == row.prompt);
            let example = example.ok_or_else(|| {
                user(format!(
                    "the candidates for `{}` of split `{split}` are of another dataset",
                    row.id
                ))
            })?;
            let facts = example.facts.as_ref().and_then(Facts::read).ok_or_else(|| {
                user(format!("the rows of split `{split}` are of no synthetic world"))
            })?;
            let mut candidates: Vec<Candidate> = row
                .outputs
                .iter()
                .map(|output| Candidate { text: output.text.clone(), ended: output.ended })
                .collect();
            candidates.extend(writers_candidates(
                &facts,
                options.writers,
                &mut writers.sequence(at as u64),
            ));
            pairs.extend(noisy_preferences(
                example,
                &candidates,
                options.noise,
                &labels,
                at as u64,
            ));
        }
        let name = if split == dataset::COMPARE { dataset::PREFERENCES } else { split };
        dataset::write_split(context.out(), name, &pairs)?;
    }
    Ok(())
}
