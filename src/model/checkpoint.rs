//! Models as folders. Knows names and shapes; what a family calls them is in `arch`.
//!
//! A model is a folder in the Hugging Face layout: `config.json` and `model.safetensors` (written), or the shards that a
//! `model.safetensors.index.json` lists (read). Tensors are read one at a time by position rather than mapped into memory: as little
//! memory, and a file that shrinks meanwhile is an error instead of a crash.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Result, user};
use crate::fs;

use super::arch::{self, Description, Origin};
use super::params::{Params, Slot, Top};
use super::spec::Spec;
use super::tensors::{Named, Tensors, write};

/// The configuration's file.
pub const CONFIG: &str = "config.json";
/// The tensors' file.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of shards, in a folder that has no [`WEIGHTS`].
pub const INDEX: &str = "model.safetensors.index.json";

/// A model on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where it comes from.
    pub origin: Origin,
    /// What it is.
    pub spec: Spec,
    /// Its tensors; [`Params::top`] tells a reward model from a language model.
    pub params: Params<Vec<f32>>,
}

/// Reads the configuration alone.
pub fn describe(folder: &Path) -> Result<Description> {
    let path = folder.join(CONFIG);
    if !folder.is_dir() {
        return Err(user(format!("{} is not a folder", folder.display())).hint("a model is a folder with a config.json").into());
    }
    if !path.exists() {
        return Err(user(format!("{} has no {CONFIG}", folder.display())).hint("a model is a folder in the Hugging Face layout").into());
    }
    arch::read(&fs::read_to_string(&path)?, &path.display().to_string())
}

/// Reads a model. What is missing, not expected or misshapen is listed in one error.
pub fn load(folder: &Path) -> Result<Checkpoint> {
    let Description { origin, spec, top } = describe(folder)?;
    let tensors = Tensors::open(&files(folder)?)?;
    let slots = Params::slots(&spec, top);
    let named = slots.clone().map(|slot| (arch::stored(&origin, &spec, &slot).name, slot));
    let head = duplicate_head(&origin, &spec);
    let extra = |name: &str| arch::ignored(&origin, name) || head.as_deref() == Some(name);
    compare(&tensors, &named, &extra, folder)?;
    let params = transpose(named.map(|(name, _)| tensors.read(&name)))?;
    if let Some(head) = head.filter(|head| tensors.shape(head).is_some())
        && tensors.read(&head)? != params.embedding
    {
        let message = format!("{}: the embeddings are tied, but `{head}` differs from them", folder.display());
        return Err(user(message).hint("set `tie_word_embeddings` to false if it is a head of its own").into());
    }
    Ok(Checkpoint { origin, spec, params })
}

/// Writes a model into a folder that exists. A value head is left out: it belongs to a training run, not to the model.
pub fn save(folder: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Checkpoint { origin, spec, params } = checkpoint;
    let top = match params.top(spec) {
        Top::LanguageAndValue => Top::Language,
        top => top,
    };
    let slots = params.slots_of(spec).zip(params.as_ref()).into_vec().into_iter();
    let is_value = |slot: &Slot| top == Top::Language && slot.name.starts_with("scalar.");
    let named = slots.filter(|(slot, _)| !is_value(slot)).map(|(slot, numbers)| Named {
        name: arch::stored(origin, spec, &slot).name,
        shape: slot.shape,
        numbers,
    });
    write(&folder.join(WEIGHTS), named.collect(), None)?;
    let config = arch::write(origin, top);
    fs::write_atomic(&folder.join(CONFIG), config.as_bytes())
}

/// The files that hold a folder's tensors.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (whole, index) = (folder.join(WEIGHTS), folder.join(INDEX));
    if whole.exists() {
        return Ok(vec![whole]);
    }
    if !index.exists() {
        return Err(user(format!("{} has neither {WEIGHTS} nor {INDEX}", folder.display()))
            .hint("a model is a folder in the Hugging Face layout; weights in other formats are not read")
            .into());
    }
    let json: Value =
        serde_json::from_str(&fs::read_to_string(&index)?).map_err(|error| user(format!("{} is not JSON: {error}", index.display())))?;
    let shards: Option<BTreeSet<&str>> =
        json.get("weight_map").and_then(Value::as_object).and_then(|map| map.values().map(Value::as_str).collect());
    let shards = shards.ok_or_else(|| user(format!("{} has no `weight_map` from tensors to files", index.display())))?;
    // A shard is a file of this folder: an index must not lead elsewhere.
    if let Some(shard) = shards.iter().find(|shard| Path::new(shard).file_name().is_none_or(|name| name != **shard)) {
        return Err(user(format!("{} names {shard:?}, which is not a file name", index.display())).into());
    }
    Ok(shards.into_iter().map(|shard| folder.join(shard)).collect())
}

/// The name under which a tied model's checkpoint may hold its embedding a second time.
fn duplicate_head(origin: &Origin, spec: &Spec) -> Option<String> {
    let untied = Params::slots(&Spec { tied: false, ..spec.clone() }, Top::Language);
    spec.tied.then(|| untied.lm_head.map(|slot| arch::stored(origin, spec, &slot).name)).flatten()
}

/// Compares what is there with what is expected, and lists every difference in one user error.
fn compare(tensors: &Tensors, named: &Params<(String, Slot)>, extra: &dyn Fn(&str) -> bool, folder: &Path) -> Result<()> {
    let mut problems = Vec::new();
    for (name, slot) in named.iter() {
        match tensors.shape(name) {
            None => problems.push(format!("missing: `{name}` {:?}", slot.shape)),
            Some(found) if found != slot.shape => problems.push(format!("misshapen: `{name}` is {found:?}, expected {:?}", slot.shape)),
            Some(_) => {}
        }
    }
    let expected: BTreeSet<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let unexpected = tensors.names().filter(|name| !expected.contains(name) && !extra(name));
    problems.extend(unexpected.map(|name| format!("not expected: `{name}`")));
    match problems.is_empty() {
        true => Ok(()),
        false => {
            let message = format!("the tensors of {} do not fit its {CONFIG}:\n  {}", folder.display(), problems.join("\n  "));
            Err(user(message).into())
        }
    }
}

/// A tree of results as a result of a tree.
fn transpose<T>(tree: Params<Result<T>>) -> Result<Params<T>> {
    let mut error = None;
    let tree = tree.map(|tensor| match tensor {
        Ok(tensor) => Some(tensor),
        Err(first) => {
            error.get_or_insert(first);
            None
        }
    });
    match error {
        Some(error) => Err(error),
        None => Ok(tree.map(|tensor| tensor.expect("an absent tensor left its error"))),
    }
}
