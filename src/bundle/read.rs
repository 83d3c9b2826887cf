//! Reading a bundle: its files are unpacked and checked against the manifest, the entries and the
//! ids of the objects. A bundle is a file of others: nothing in it leads out of its folder, and
//! nothing of it is believed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use tar::{Archive, EntryType};

use super::hashes::hashes;
use super::manifest::{FORMAT, MANIFEST, Manifest, Node};
use crate::check::unfit_as_name;
use crate::dag::digest::{ActionKey, ObjectId};
use crate::dag::entry::Entry;
use crate::dag::key::{CONTENT_TAG, OBJECT_TAG};
use crate::dag::tree::{Links, hash_files, hash_tree, walk};
use crate::error::{Context, Result, user};

/// Bytes that are unpacked at a time.
const CHUNK: usize = 1 << 16;
/// Bytes of the manifest at most.
const LARGEST_MANIFEST: u64 = 1 << 30;

/// A bundle that was unpacked.
pub struct Bundle {
    /// What it says that it holds.
    pub manifest: Manifest,
    folder: PathBuf,
}

/// Something that is not as the bundle says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    /// The file of the bundle, the node or the object.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

impl Bundle {
    /// Unpacks a bundle into an empty folder.
    ///
    /// # Errors
    /// The user's: it is no bundle, it is cut off, or a name in it leads elsewhere. The machine's.
    pub fn unpack(file: &Path, folder: &Path) -> Result<Self> {
        let place = file.display();
        let no_bundle = |why: String| {
            user(format!("{place} is no bundle: {why}"))
                .hint("give a file that `posttrain export` has written")
        };
        let opened = crate::fs::open(file)?;
        let decoder = zstd::Decoder::new(opened).map_err(|error| no_bundle(error.to_string()))?;
        let mut archive = Archive::new(decoder);
        let (mut seen, mut chunk) = (HashSet::new(), vec![0; CHUNK]);
        for entry in archive.entries().map_err(|error| no_bundle(error.to_string()))? {
            let mut entry = entry.map_err(|error| no_bundle(error.to_string()))?;
            let path = entry.path().map_err(|error| no_bundle(error.to_string()))?.into_owned();
            let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
            if !is_plain || path.as_os_str().is_empty() {
                return Err(no_bundle(format!("{} leads elsewhere", path.display())).into());
            }
            if entry.header().entry_type() != EntryType::Regular {
                return Err(no_bundle(format!("{} is no plain file", path.display())).into());
            }
            if seen.is_empty() && path != Path::new(MANIFEST) {
                return Err(no_bundle(format!("it begins with {}", path.display())).into());
            }
            if !seen.insert(path.clone()) {
                return Err(no_bundle(format!("{} is there twice", path.display())).into());
            }
            let target = folder.join(&path);
            target.parent().map_or(Ok(()), crate::fs::create_dir_all)?;
            let out = crate::fs::create(&target)?;
            loop {
                let count = entry
                    .read(&mut chunk)
                    .with_context(|| format!("cannot unpack {} of {place}", path.display()))?;
                if count == 0 {
                    break;
                }
                crate::fs::add(&out, &target, &chunk[..count])?;
            }
        }
        let mut text = String::new();
        let manifest = folder.join(MANIFEST);
        if !manifest.exists() {
            return Err(no_bundle("it is empty".into()).into());
        }
        crate::fs::open(&manifest)?
            .take(LARGEST_MANIFEST)
            .read_to_string(&mut text)
            .map_err(|error| no_bundle(error.to_string()))?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|error| no_bundle(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(user(format!(
                "{place} is a bundle of the form {}, and this program reads {FORMAT}",
                manifest.format
            ))
            .hint("use the program that wrote it, or a later one")
            .into());
        }
        // It names the folder of the record in the cache.
        if let Some(why) = unfit_as_name(&manifest.run) {
            return Err(no_bundle(format!("the id of its run cannot be one: {why}")).into());
        }
        Ok(Bundle { manifest, folder: folder.to_owned() })
    }

    /// A file of the bundle.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of an artefact's files.
    pub fn object_path(&self, object: ObjectId) -> PathBuf {
        self.folder.join("objects").join(object.to_string())
    }

    /// The entry of a node.
    ///
    /// # Errors
    /// The user's: it is absent, cannot be understood, or is of another key than it says.
    pub fn entry(&self, node: &Node) -> Result<Entry> {
        let path = self.folder.join(format!("actions/{}.json", node.key));
        let bytes = crate::fs::read(&path)?;
        let entry: Entry = serde_json::from_slice(&bytes)
            .map_err(|error| user(format!("the entry of `{}`: {error}", node.name)))?;
        let is_of = |key: ActionKey| entry.key == key && entry.preimage.key() == key;
        if !is_of(node.key) || entry.object != node.object {
            return Err(user(format!("the entry of `{}` is of another node", node.name)).into());
        }
        Ok(entry)
    }

    /// All that is not as it should be: files that are absent, more or other than the manifest
    /// says; artefacts that are not what their ids say; nodes whose keys do not follow from what
    /// they need.
    ///
    /// # Errors
    /// The machine's.
    pub fn flaws(&self) -> Result<Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut flaw = |what: &str, why: String| flaws.push(Flaw { what: what.to_owned(), why });
        let mut found: BTreeMap<String, u64> = walk(&self.folder, Links::Refuse)?
            .into_iter()
            .map(|(path, stat)| (path, stat.size))
            .collect();
        found.remove(MANIFEST);
        for file in &self.manifest.files {
            match found.remove(&file.path) {
                None => flaw(&file.path, "it is absent".into()),
                Some(_) => {
                    let bytes = crate::fs::read(&self.folder.join(&file.path))?;
                    if blake3::hash(&bytes).to_hex().as_str() != file.hash {
                        flaw(&file.path, "its bytes are not those of the manifest".into());
                    }
                }
            }
        }
        let mut objects = HashMap::new();
        for node in self.manifest.nodes.iter().filter(|node| node.included) {
            objects.entry(node.object).or_insert(&node.name);
        }
        found.retain(|path, _| {
            let object = path.strip_prefix("objects/").and_then(|rest| rest.split('/').next());
            let object = object.and_then(|id| id.parse::<ObjectId>().ok());
            !object.is_some_and(|object| objects.contains_key(&object))
        });
        for path in found.keys() {
            flaw(path, "the manifest does not have it".into());
        }
        for (object, node) in &objects {
            if self.id(*object)? != Some(*object) {
                flaw(node, format!("its artefact is not {}", object.short()));
            }
        }
        for node in &self.manifest.nodes {
            match self.entry(node) {
                Ok(entry) => {
                    for need in self.unmet(node, &entry) {
                        flaw(&node.name, need);
                    }
                }
                Err(error) => flaw(&node.name, format!("{error:#}")),
            }
        }
        flaws.sort_by(|a, b| (&a.what, &a.why).cmp(&(&b.what, &b.why)));
        Ok(flaws)
    }

    /// The id of what is in an object's folder; none if there is nothing.
    fn id(&self, object: ObjectId) -> Result<Option<ObjectId>> {
        let folder = self.object_path(object);
        if !folder.exists() {
            return Ok(None);
        }
        let paths: Vec<String> =
            walk(&folder, Links::Refuse)?.into_iter().map(|(path, _)| path).collect();
        let files = hash_files(&folder, &paths)?;
        Ok(files.ok().map(|files| ObjectId::from(hash_tree(&files))))
    }

    /// What a key depends on that the manifest does not have as the node's needs and inputs.
    fn unmet(&self, node: &Node, entry: &Entry) -> Vec<String> {
        let needs = self.manifest.nodes.iter().filter(|other| node.needs.contains(&other.name));
        let needed: HashSet<String> = needs.map(|other| other.object.to_string()).collect();
        let inputs: HashSet<String> =
            self.manifest.inputs.iter().map(|input| input.content.to_string()).collect();
        let mut unmet = Vec::new();
        for (path, hash) in hashes(&entry.preimage.config, OBJECT_TAG) {
            if !needed.contains(&hash) {
                unmet.push(format!("`{path}` is of an artefact that no node before it has made"));
            }
        }
        for (path, content) in hashes(&entry.preimage.config, CONTENT_TAG) {
            if !inputs.contains(&content) {
                unmet.push(format!("`{path}` is of an input that the manifest does not have"));
            }
        }
        unmet
    }
}
