//! Models as folders. Handles names and shapes; the names and the storage of each family are in
//! `arch`.
//!
//! A model is a folder in the Hugging Face layout: `config.json` and its tensors. They are read
//! from `model.safetensors`, the shards that `model.safetensors.index.json` lists,
//! `pytorch_model.bin`, or the shards that `pytorch_model.bin.index.json` lists, the first of these
//! that exists. They are written in the first form or, if they have too many bytes for one file,
//! the second.
//!
//! Memory: while loading, what is loaded so far and one tensor; while saving, one tensor of the
//! file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::arch::{self, Description, Origin, Stored};
use super::form::{Form, Part};
use super::params::{HeadKind, Params, Slot};
use super::spec::Spec;
use super::tensor_writer::{Named, write};
use super::tensors::{Tensors, shortened};
use super::unlike::unlike;
use crate::error::{Result, user};
use crate::fs;

/// The configuration's file.
pub const CONFIG: &str = "config.json";
/// The tensors' file.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of shards, in a folder that has no [`WEIGHTS`].
pub const INDEX: &str = "model.safetensors.index.json";
/// The tensors' file as PyTorch writes it, in a folder that has neither.
pub const PICKLED: &str = "pytorch_model.bin";
/// The list of shards of such files, in a folder that has none of these.
pub const PICKLED_INDEX: &str = "pytorch_model.bin.index.json";
/// Bytes of tensors in one written file at most, except for a single tensor that is larger:
/// transformers' 5 GB.
pub const SHARD: usize = 5_000_000_000;

/// A model on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where it comes from.
    pub origin: Origin,
    /// What it is.
    pub spec: Spec,
    /// What is on its trunk.
    pub head: HeadKind,
    /// Its tensors.
    pub params: Params<Vec<f32>>,
}

/// Reads the configuration alone.
pub fn describe(folder: &Path) -> Result<Description> {
    let path = folder.join(CONFIG);
    if !path.exists()
        && let Some(failure) = unlike(folder)?
    {
        return Err(failure.into());
    }
    if !folder.is_dir() {
        return Err(user(format!("{} is not a folder", folder.display()))
            .hint("a model is a folder with a config.json")
            .into());
    }
    if !path.exists() {
        return Err(user(format!("{} has no {CONFIG}", folder.display()))
            .hint("a model is a folder in the Hugging Face layout")
            .into());
    }
    fs::refuse_pointer(&path)?;
    arch::read(&fs::read_to_string(&path)?, &path.display().to_string())
}

/// Reads a model. What is missing, not expected or misshapen is listed in one error.
pub fn load(folder: &Path) -> Result<Checkpoint> {
    let (Description { origin, spec, head, .. }, params) = load_with(folder, |numbers| numbers)?;
    Ok(Checkpoint { origin, spec, head, params })
}

/// [`load`] onto a device, tensor by tensor: `upload` takes each as soon as it is read.
pub fn load_with<T>(
    folder: &Path,
    mut upload: impl FnMut(Vec<f32>) -> T,
) -> Result<(Description, Params<T>)> {
    let opened = Opened::new(folder)?;
    let params = opened.read(|_, numbers| Ok(upload(numbers)))?;
    Ok((opened.description, params))
}

/// A model's folder, of which only names and shapes have been read.
pub struct Opened {
    /// The description in its configuration.
    pub description: Description,
    tensors: Tensors,
    placed: Params<(Stored, Slot)>,
}

impl Opened {
    /// Finds every tensor. What is missing, not expected or misshapen is listed in one error.
    pub fn new(folder: &Path) -> Result<Self> {
        let description = describe(folder)?;
        let Description { origin, spec, head, .. } = &description;
        let tensors = Tensors::open(&files(folder)?)?;
        // Before anything is made for each of them.
        if spec.layers > tensors.names().count() {
            let message = format!(
                "{} has fewer tensors than the {} layers of its {CONFIG}",
                folder.display(),
                spec.layers
            );
            return Err(user(message).into());
        }
        let placed = Params::slots(spec, *head).map(|slot| {
            let stored = arch::stored(origin, spec, *head, &slot);
            let name =
                spelling(&tensors, origin, &stored.name).unwrap_or_else(|| stored.name.clone());
            (Stored { name, ..stored }, slot)
        });
        let copy = copied_head(&tensors, origin, spec, *head);
        let extra =
            |name: &str| arch::ignored(origin, *head, name) || copy.as_deref() == Some(name);
        compare(&tensors, &placed, &extra, folder)?;
        let opened = Opened { description, tensors, placed };
        if let Some(copy) = copy
            && opened.tensors.read(&copy)? != opened.numbers(&opened.placed.embedding)?
        {
            let message = format!(
                "{}: the embeddings are tied, but `{copy}` differs from them",
                folder.display()
            );
            return Err(user(message)
                .hint("set `tie_word_embeddings` to false if it is a separate head")
                .into());
        }
        Ok(opened)
    }

    fn numbers(&self, (stored, slot): &(Stored, Slot)) -> Result<Vec<f32>> {
        self.tensors.read_part(&stored.name, stored.form, &slot.shape)
    }

    /// The tensor in a slot of this name and shape, if there is one.
    pub fn tensor(&self, slot: &Slot) -> Result<Option<Vec<f32>>> {
        let placed =
            self.placed.iter().find(|(_, own)| own.name == slot.name && own.shape == slot.shape);
        placed.map(|placed| self.numbers(placed)).transpose()
    }

    /// Reads all tensors, one after the other: `take` has each as soon as it is read.
    pub fn read<T>(&self, mut take: impl FnMut(&Slot, Vec<f32>) -> Result<T>) -> Result<Params<T>> {
        let mut failure = None;
        let params = self.placed.as_ref().map(|placed| match failure {
            None => self
                .numbers(placed)
                .and_then(|numbers| take(&placed.1, numbers))
                .map_err(|error| failure = Some(error))
                .ok(),
            Some(_) => None,
        });
        match failure {
            None => {
                Ok(params.map(|tensor| tensor.expect("a tensor that was not read left its error")))
            }
            Some(error) => Err(error),
        }
    }
}

/// Reads those tensors of a model that are `wanted`, one after the other.
pub fn read_some(
    folder: &Path,
    wanted: impl Fn(&Slot) -> bool,
    mut take: impl FnMut(&Slot, Vec<f32>),
) -> Result<()> {
    let opened = Opened::new(folder)?;
    opened.placed.iter().filter(|(_, slot)| wanted(slot)).try_for_each(|placed| {
        take(&placed.1, opened.numbers(placed)?);
        Ok(())
    })
}

/// Writes a model into a folder that exists. A value head is left out: it belongs to a training
/// run, not to the model.
pub fn save(folder: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Checkpoint { origin, spec, head, params } = checkpoint;
    save_with(folder, origin, (spec, *head), params, SHARD, |numbers| numbers.into())
}

/// [`save`] from a device: `download` gives a tensor's numbers, and is called when they are
/// written. No file has more than `shard` bytes of tensors, unless it holds a single one.
pub fn save_with<'a, T>(
    folder: &Path,
    origin: &Origin,
    (spec, head): (&Spec, HeadKind),
    params: &'a Params<T>,
    shard: usize,
    download: impl Fn(&'a T) -> Cow<'a, [f32]>,
) -> Result<()> {
    let written_head = match head {
        HeadKind::LanguageAndValue => HeadKind::Language,
        head => head,
    };
    let written: BTreeSet<String> =
        Params::slots(spec, written_head).map(|slot| slot.name).into_vec().into_iter().collect();
    let mut places = BTreeMap::new();
    let mut tensors: Vec<Vec<Piece<'a, T>>> = Vec::new();
    for (slot, tensor) in Params::slots(spec, head).zip(params.as_ref()).into_vec() {
        if !written.contains(&slot.name) {
            continue;
        }
        let Stored { name, form } = arch::stored(origin, spec, written_head, &slot);
        let place = *places.entry(name.clone()).or_insert(tensors.len());
        if place == tensors.len() {
            tensors.push(Vec::new());
        }
        tensors[place].push(Piece { name, form, shape: slot.shape, tensor });
    }
    let download = &download;
    let named = tensors.into_iter().map(|pieces| {
        let (name, shape) = (pieces[0].name.clone(), pieces[0].form.shape(&pieces[0].shape));
        let part = |piece: &Piece<'a, T>| Part {
            form: piece.form,
            shape: piece.shape.clone(),
            numbers: download(piece.tensor),
        };
        Named { name, shape, parts: Box::new(move || pieces.iter().map(part).collect()) }
    });
    write_shards(folder, named.collect(), shard)?;
    let config = arch::write(origin, written_head);
    fs::write_atomic(&folder.join(CONFIG), config.as_bytes())
}

/// One of our tensors, with its place in a tensor of a file.
struct Piece<'a, T> {
    name: String,
    form: Form,
    shape: Vec<usize>,
    tensor: &'a T,
}

/// Writes one file or, where it would have more than `limit` bytes of tensors, several and their
/// index.
fn write_shards(folder: &Path, tensors: Vec<Named<'_>>, limit: usize) -> Result<()> {
    let total: usize = tensors.iter().map(Named::bytes).sum();
    let mut shards: Vec<(usize, Vec<Named<'_>>)> = Vec::new();
    for tensor in tensors {
        let bytes = tensor.bytes();
        match shards.last_mut().filter(|(size, _)| size + bytes <= limit) {
            Some((size, shard)) => {
                *size += bytes;
                shard.push(tensor);
            }
            None => shards.push((bytes, vec![tensor])),
        }
    }
    let count = shards.len();
    if count == 1 {
        return write(&folder.join(WEIGHTS), shards.remove(0).1, None);
    }
    let mut map = BTreeMap::new();
    for (index, (_, shard)) in shards.into_iter().enumerate() {
        let file = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        map.extend(shard.iter().map(|tensor| (tensor.name.clone(), file.clone())));
        write(&folder.join(&file), shard, None)?;
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let text = serde_json::to_string_pretty(&index).expect("an index is plain data") + "\n";
    fs::write_atomic(&folder.join(INDEX), text.as_bytes())
}

/// The files that hold a folder's tensors.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    for (whole, index) in [(WEIGHTS, INDEX), (PICKLED, PICKLED_INDEX)]
        .map(|(whole, index)| (folder.join(whole), folder.join(index)))
    {
        if whole.exists() {
            return Ok(vec![whole]);
        }
        if index.exists() {
            return shards(folder, &index);
        }
    }
    if let Some(failure) = unlike(folder)? {
        return Err(failure.into());
    }
    Err(user(format!(
        "{} has none of {WEIGHTS}, {INDEX}, {PICKLED}, {PICKLED_INDEX}",
        folder.display()
    ))
    .hint("a model is a folder in the Hugging Face layout; weights in other formats are not read")
    .into())
}

/// The files that an index lists.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let json: Value = serde_json::from_str(&fs::read_to_string(index)?)
        .map_err(|error| user(format!("{} is not JSON: {error}", index.display())))?;
    let shards: Option<BTreeSet<&str>> = json
        .get("weight_map")
        .and_then(Value::as_object)
        .and_then(|map| map.values().map(Value::as_str).collect());
    let shards = shards.ok_or_else(|| {
        user(format!("{} has no `weight_map` from tensors to files", index.display()))
    })?;
    // A shard is a file of this folder: an index must not name a path outside of it.
    if let Some(shard) =
        shards.iter().find(|shard| Path::new(shard).file_name().is_none_or(|name| name != **shard))
    {
        return Err(
            user(format!("{} names {shard:?}, which is not a file name", index.display())).into()
        );
    }
    if let Some(shard) = shards.iter().find(|shard| !folder.join(shard).exists()) {
        let message = format!("{} names {shard}, which is not there", index.display());
        return Err(user(message).hint("the folder is not complete: fetch it again").into());
    }
    Ok(shards.into_iter().map(|shard| folder.join(shard)).collect())
}

/// What a tensor is called in these files, if it is there.
fn spelling(tensors: &Tensors, origin: &Origin, name: &str) -> Option<String> {
    arch::spellings(origin, name).into_iter().find(|name| tensors.shape(name).is_some())
}

/// The name under which a tied model's checkpoint holds its embedding a second time, if it does.
fn copied_head(tensors: &Tensors, origin: &Origin, spec: &Spec, head: HeadKind) -> Option<String> {
    let lm_head =
        Params::slots(&Spec { tied: false, layers: 0, ..spec.clone() }, HeadKind::Language).lm_head;
    let slot = lm_head.filter(|_| spec.tied)?;
    let name = spelling(tensors, origin, &arch::stored(origin, spec, head, &slot).name)?;
    (tensors.shape(&name) == Some(&slot.shape)).then_some(name)
}

/// Differences between files and configuration that an error lists; more are counted.
const LISTED: usize = 10;

/// Compares what is there with what is expected, and lists the differences in one user error, the
/// first of them by name.
fn compare(
    tensors: &Tensors,
    placed: &Params<(Stored, Slot)>,
    extra: &dyn Fn(&str) -> bool,
    folder: &Path,
) -> Result<()> {
    let mut problems = Vec::new();
    let mut expected = BTreeSet::new();
    for (Stored { name, form }, slot) in placed.iter() {
        // Several tensors of ours may be in one tensor of the file.
        if !expected.insert(name.as_str()) {
            continue;
        }
        let shape = form.shape(&slot.shape);
        match tensors.shape(name) {
            None => problems.push(format!("missing: `{name}` {shape:?}")),
            Some(found) if found != shape => {
                problems.push(format!("misshapen: `{name}` is {found:?}, expected {shape:?}"))
            }
            Some(_) => {}
        }
    }
    let mut unexpected = tensors.names().filter(|name| !expected.contains(name) && !extra(name));
    let room = LISTED.saturating_sub(problems.len());
    problems.extend(
        unexpected.by_ref().take(room).map(|name| format!("not expected: `{}`", shortened(name))),
    );
    let count = problems.len() + unexpected.count();
    if count == 0 {
        return Ok(());
    }
    problems.truncate(LISTED);
    let more = if count > LISTED {
        format!("\n  and {} more, {count} in all", count - LISTED)
    } else {
        String::new()
    };
    Err(user(format!(
        "the tensors of {} do not fit its {CONFIG}:\n  {}{more}",
        folder.display(),
        problems.join("\n  ")
    ))
    .into())
}
