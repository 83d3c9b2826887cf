//! From a model's name to its folder: what is known of it, what of that is missing, fetching that,
//! and the folder. Uses no pipeline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cache::{Leaf, Shelf, is_whole};
use super::client::{self, Client, Trouble};
use super::download::{DownloadRequest, Failure, download};
use super::files::{Digest, File, Listing, is_plain, needed, shards};
use super::name::{self, Name};
use super::refusal;
use super::settings::Settings;
use crate::error::{Context, Result, environment, user};

/// What is said while a model is looked for or fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// So much of a file is here.
    Fetching {
        /// The model's name.
        model: &'a str,
        /// The file's path in its repository.
        file: &'a str,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the whole.
        total: u64,
    },
    /// Something the user should know; it goes on.
    Note(&'a str),
}

/// Receives the progress.
pub type Tell<'a> = &'a mut dyn FnMut(Progress<'_>);

/// The folder of a model: a text that begins with `hub:` names one of the hub, which is fetched if
/// it is not here; any other is the path of a folder.
///
/// # Errors
/// The user's: a name that is none, no such folder, model or revision, no right to it. The
/// machine's: the hub cannot be reached, a file is damaged, the disk is full.
pub fn resolve(text: &str, tell: Tell<'_>) -> Result<PathBuf> {
    match Name::is_one(text) {
        true => fetch(&Settings::from_environment()?, &Name::parse(text)?, tell),
        false if Path::new(text).is_dir() => Ok(PathBuf::from(text)),
        false => Err(user(format!("there is no folder {text}"))
            .hint("a model of the hub is written hub:owner/name")
            .into()),
    }
}

/// Fetches what is not here of a model, and gives the folder with exactly the files that a model
/// needs; or what is not here of a dataset's files, and gives the file, or the folder with exactly
/// those that the pattern names.
pub fn fetch(settings: &Settings, name: &Name, tell: Tell<'_>) -> Result<PathBuf> {
    let asking = Asking {
        client: Client::new(settings),
        name,
        title: name.to_string(),
        shelf: Shelf::of(settings, name),
    };
    let known = asking.what_is_known(tell)?;
    if name.path.is_some() {
        let files = asking.named(&known)?;
        asking.fetch_missing(&known, &files, tell)?;
        return asking.finish(&known, &files, tell);
    }
    let needed = needed(&known.listing, &asking.title)?;
    let mut files = needed.small.clone();
    files.push(needed.weights);
    asking.fetch_missing(&known, &files, tell)?;
    if needed.is_sharded() {
        let index =
            crate::fs::read(&asking.shelf.snapshot(&known.commit).join(&needed.weights.path))?;
        let shards = shards(&known.listing, &needed.weights.path, &index, &asking.title)?;
        asking.fetch_missing(&known, &shards, tell)?;
        files.extend(shards);
    }
    asking.finish(&known, &files, tell)
}

/// The folder of a model, or the place of a dataset's files, if all of it is here; nothing is
/// fetched but what the hub says of it. `None` also if the hub must be asked and cannot be.
pub fn find(settings: &Settings, name: &Name, tell: Tell<'_>) -> Result<Option<PathBuf>> {
    let asking = Asking {
        client: Client::new(settings),
        name,
        title: name.to_string(),
        shelf: Shelf::of(settings, name),
    };
    let known = match asking.what_is_known(tell) {
        Err(error) if error.downcast_ref::<Unreachable>().is_some() => {
            tell(Progress::Note(&format!("{error:#}")));
            return Ok(None);
        }
        known => known?,
    };
    match asking.missing(&known)? {
        Missing::Nothing(files) => asking.finish(&known, &files, tell).map(Some),
        Missing::These(missing) if settings.offline => {
            Err(asking.not_here(&known.commit, &missing))
        }
        Missing::These(_) => Ok(None),
    }
}

/// A model that is asked for.
struct Asking<'a> {
    client: Client<'a>,
    name: &'a Name,
    /// The name as text.
    title: String,
    shelf: Shelf,
}

/// What is known of a model before its files are looked at.
struct Known {
    commit: String,
    listing: Listing,
    /// If the hub itself has said so, just now: all that it has said of the files, if that is all
    /// that can be said.
    said: Option<Option<BTreeMap<String, Leaf>>>,
}

/// Which of the files that a model needs are not in the cache.
enum Missing<'a> {
    /// These are all that it needs, and all are there.
    Nothing(Vec<&'a File>),
    /// These paths.
    These(Vec<&'a str>),
}

/// Marks the error of a hub that does not answer.
#[derive(Debug)]
struct Unreachable;

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is not known what the model is now")
    }
}

/// The part of the hub's answer about a revision that is of use.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Sibling {
    /// All that a tree holds of a file, if the hub has said it.
    fn leaf(&self) -> Option<Leaf> {
        Some(Leaf {
            size: self.size?,
            blob_id: self.blob_id.clone()?,
            lfs_sha256: self.lfs.as_ref().map(|lfs| lfs.sha256.clone()),
            lfs_size: self.lfs.as_ref().map(|lfs| lfs.size),
        })
    }
}

impl Asking<'_> {
    /// The commit and its files: what the hub says, or what is noted of a commit that was asked for
    /// before.
    fn what_is_known(&self, tell: Tell<'_>) -> Result<Known> {
        let here = self.what_is_here()?;
        if self.client.settings.offline {
            return here.ok_or_else(|| self.not_here(&self.name.revision, &[]));
        }
        if let (true, Some(known)) = (self.name.is_pinned(), self.noted(&self.name.revision)) {
            return Ok(known);
        }
        match self.ask() {
            Ok(known) => Ok(known),
            Err(Trouble::Refused(refusal)) => {
                Err(refusal::refused(&self.client, self.name, None, &refusal).into())
            }
            Err(Trouble::Away(away)) => {
                let failure = refusal::unreachable(&self.client, self.name, &away);
                match here {
                    Some(known) if matches!(self.missing(&known), Ok(Missing::Nothing(_))) => {
                        let message = format!(
                            "{}; the commit {} is taken, which is in the cache",
                            failure.message, known.commit
                        );
                        tell(Progress::Note(&message));
                        Ok(known)
                    }
                    _ => Err(anyhow::Error::from(failure).context(Unreachable)),
                }
            }
        }
    }

    /// What the cache has by itself.
    fn what_is_here(&self) -> Result<Option<Known>> {
        let Some(commit) = self.shelf.commit(self.name) else { return Ok(None) };
        if let Some(known) = self.noted(&commit) {
            return Ok(Some(known));
        }
        // Another tool may have fetched some of the files that a pattern means: that they are all
        // is known only from the hub.
        if self.name.path.is_some() && self.name.single().is_none() {
            return Ok(None);
        }
        let listing = self.shelf.found(&commit)?;
        Ok((!listing.is_empty()).then_some(Known { commit, listing, said: None }))
    }

    /// What is noted of a commit.
    fn noted(&self, commit: &str) -> Option<Known> {
        Some(Known { commit: commit.to_owned(), listing: self.shelf.tree(commit)?, said: None })
    }

    /// What the hub says.
    fn ask(&self) -> Result<Known, Trouble> {
        let repository = self.name.at(&self.name.revision);
        let address =
            format!("{}/api/{}?blobs=true", self.client.settings.endpoint, repository.api_url());
        let bytes = self.client.ask(&address)?;
        let info: Info = serde_json::from_slice(&bytes)
            .map_err(|error| client::away(format!("its answer cannot be read ({error})")))?;
        if !name::is_commit(&info.sha) {
            return Err(client::away(format!(
                "it answers with `{}` where a commit should be",
                info.sha
            )));
        }
        let leaves: Option<BTreeMap<String, Leaf>> = info
            .siblings
            .iter()
            .map(|sibling| Some((sibling.rfilename.clone(), sibling.leaf()?)))
            .collect();
        let file = |sibling: Sibling| match (sibling.leaf(), sibling.rfilename) {
            (Some(leaf), path) => leaf.file(&path),
            (None, path) => File { path, size: None, digest: None },
        };
        let listing =
            info.siblings.into_iter().map(file).map(|file| (file.path.clone(), file)).collect();
        Ok(Known { commit: info.sha, listing, said: Some(leaves) })
    }

    /// The files that the name of a dataset means, by path.
    fn named<'k>(&self, known: &'k Known) -> Result<Vec<&'k File>> {
        let hidden =
            |file: &File| file.path.rsplit('/').next().is_some_and(|name| name.starts_with('.'));
        let files: Vec<&File> = known
            .listing
            .values()
            .filter(|file| self.name.has(&file.path) && !hidden(file))
            .collect();
        if let Some(odd) = files.iter().find(|file| !is_plain(&file.path)) {
            let message = format!(
                "{} of {} has a name that cannot be part of an address",
                odd.path, self.title
            );
            return Err(user(message).hint("name the other files more closely").into());
        }
        if !files.is_empty() {
            return Ok(files);
        }
        let wanted = self.name.path.as_deref().unwrap_or_default();
        let mut paths: Vec<&str> = known
            .listing
            .keys()
            .map(String::as_str)
            .filter(|path| !path.starts_with('.'))
            .collect();
        paths.sort_by_cached_key(|path| strsim::damerau_levenshtein(wanted, path));
        paths.truncate(20);
        let holds = if paths.is_empty() { "nothing".to_owned() } else { paths.join(", ") };
        Err(user(format!("{} is no file of the dataset at {}", self.title, known.commit))
            .hint(format!("it holds {holds}"))
            .into())
    }

    /// What of the needed files is not in the snapshot.
    fn missing<'k>(&self, known: &'k Known) -> Result<Missing<'k>> {
        if self.name.path.is_some() {
            let files = self.named(known)?;
            let missing: Vec<&str> = files
                .iter()
                .filter(|file| !self.shelf.has(&known.commit, file))
                .map(|file| file.path.as_str())
                .collect();
            return Ok(if missing.is_empty() {
                Missing::Nothing(files)
            } else {
                Missing::These(missing)
            });
        }
        let needed = needed(&known.listing, &self.title)?;
        let mut files = needed.small.clone();
        files.push(needed.weights);
        let absent = |files: &[&'k File]| -> Vec<&'k str> {
            files
                .iter()
                .filter(|file| !self.shelf.has(&known.commit, file))
                .map(|file| file.path.as_str())
                .collect()
        };
        let missing = absent(&files);
        if !missing.is_empty() {
            return Ok(Missing::These(missing));
        }
        if needed.is_sharded() {
            let index =
                crate::fs::read(&self.shelf.snapshot(&known.commit).join(&needed.weights.path))?;
            let shards = shards(&known.listing, &needed.weights.path, &index, &self.title)?;
            let missing = absent(&shards);
            if !missing.is_empty() {
                return Ok(Missing::These(missing));
            }
            files.extend(shards);
        }
        Ok(Missing::Nothing(files))
    }

    fn fetch_missing(&self, known: &Known, files: &[&File], tell: Tell<'_>) -> Result<()> {
        let missing: Vec<&File> =
            files.iter().filter(|file| !self.shelf.has(&known.commit, file)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        if self.client.settings.offline {
            let paths: Vec<&str> = missing.iter().map(|file| file.path.as_str()).collect();
            return Err(self.not_here(&known.commit, &paths));
        }
        crate::fs::create_dir_all(&self.shelf.root().join("blobs"))?;
        let files = missing
            .into_iter()
            .map(|file| self.with_digest(known, file))
            .collect::<Result<Vec<_>>>()?;
        self.check_room(&files)?;
        files
            .iter()
            .try_for_each(|(file, digest, size)| self.fetch_file(known, file, digest, *size, tell))
    }

    /// A file with its checksum and size: what the listing says, else what the hub says of the file
    /// by itself.
    fn with_digest<'k>(&self, known: &Known, file: &'k File) -> Result<(&'k File, Digest, u64)> {
        if let (Some(digest), Some(size)) = (&file.digest, file.size) {
            return Ok((file, digest.clone(), size));
        }
        let header = match self.client.headers(&self.address(known, file)) {
            Ok(header) => header,
            Err(Trouble::Refused(refusal)) => {
                return Err(
                    refusal::refused(&self.client, self.name, Some(&file.path), &refusal).into()
                );
            }
            Err(Trouble::Away(away)) => {
                return Err(refusal::unreachable(&self.client, self.name, &away).into());
            }
        };
        let digest = header("x-linked-etag").or(header("etag")).and_then(|tag| Digest::of(&tag));
        let size =
            header("x-linked-size").or(header("content-length")).and_then(|size| size.parse().ok());
        match (digest, size) {
            (Some(digest), Some(size)) => Ok((file, digest, size)),
            _ => {
                let message = format!(
                    "{} gives no checksum for {} of {}",
                    self.client.settings.endpoint, file.path, self.title
                );
                Err(environment(message)
                    .hint("what cannot be checked is not fetched; use another hub (HF_ENDPOINT)")
                    .into())
            }
        }
    }

    /// Refuses what cannot fit before hours are spent on it.
    fn check_room(&self, files: &[(&File, Digest, u64)]) -> Result<()> {
        let here =
            |digest: &Digest| self.partial(digest).metadata().map_or(0, |metadata| metadata.len());
        let absent = files
            .iter()
            .filter(|(_, digest, size)| !is_whole(&self.shelf.blob(digest), Some(*size)));
        let wanted: u64 = absent
            .map(|(_, digest, size)| size.saturating_sub(here(digest)))
            .fold(0, u64::saturating_add);
        let folder = self.shelf.root();
        let disk = rustix::fs::statvfs(folder).map_err(std::io::Error::from);
        let disk = disk.with_context(|| {
            format!("cannot tell how much room there is in {}", folder.display())
        })?;
        let room = disk.f_bavail.saturating_mul(disk.f_frsize);
        // A file system that does not count its blocks cannot tell.
        if wanted <= room || disk.f_blocks == 0 {
            return Ok(());
        }
        let message = format!(
            "{} needs {wanted} more bytes in {}, where {room} are free",
            self.title,
            folder.display()
        );
        Err(environment(message)
            .hint("free some space there, or set HF_HOME to a folder on another disk")
            .into())
    }

    fn partial(&self, digest: &Digest) -> PathBuf {
        let mut path = self.shelf.blob(digest).into_os_string();
        path.push(".incomplete");
        path.into()
    }

    fn address(&self, known: &Known, file: &File) -> String {
        let repository = self.name.at(&known.commit);
        let endpoint = &self.client.settings.endpoint;
        format!(
            "{endpoint}/{}/resolve/{}/{}",
            repository.url(),
            repository.url_revision(),
            file.path
        )
    }

    fn fetch_file(
        &self,
        known: &Known,
        file: &File,
        digest: &Digest,
        size: u64,
        tell: Tell<'_>,
    ) -> Result<()> {
        let title = format!("{} of {}", file.path, self.title);
        let lock = self.shelf.lock(digest, || {
            tell(Progress::Note(&format!("another process is fetching {title}; this one waits")))
        })?;
        let blob = self.shelf.blob(digest);
        if !is_whole(&blob, Some(size)) {
            let mut told = |done| {
                tell(Progress::Fetching { model: &self.title, file: &file.path, done, total: size })
            };
            let request = DownloadRequest {
                address: &self.address(known, file),
                title: &title,
                size,
                digest,
            };
            match download(&blob, &self.partial(digest), &self.client, &request, &mut told) {
                Ok(()) => {}
                Err(Failure::Refused(refusal)) => {
                    return Err(refusal::refused(
                        &self.client,
                        self.name,
                        Some(&file.path),
                        &refusal,
                    )
                    .into());
                }
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        self.shelf.place(&known.commit, file, digest)?;
        drop(lock);
        Ok(())
    }

    /// Notes the commit, and gives the folder, or the file where a name means but one.
    fn finish(&self, known: &Known, files: &[&File], tell: Tell<'_>) -> Result<PathBuf> {
        // Notes only save questions, and make it possible to do without the hub; a cache that
        // others fill may be read-only.
        if let Some(leaves) = &known.said {
            let _ = self.shelf.note_commit(self.name, &known.commit);
            let _ = leaves.as_ref().map(|leaves| self.shelf.note_tree(&known.commit, leaves));
        }
        if let Some(path) = self.name.single() {
            return Ok(self.shelf.snapshot(&known.commit).join(path));
        }
        if let Some(pattern) = &self.name.path {
            let view =
                format!("{}-{}", known.commit, &blake3::hash(pattern.as_bytes()).to_hex()[..16]);
            let folder = pattern.rsplit_once('/').map_or("", |(folder, _)| folder);
            return Ok(self.shelf.view(&view, &known.commit, files)?.join(folder));
        }
        self.shelf.view(&known.commit, &known.commit, files).or_else(|error| {
            if !crate::fs::is_denied(&error) {
                return Err(error);
            }
            let snapshot = self.shelf.snapshot(&known.commit);
            tell(Progress::Note(&format!(
                "{error:#}; {} is taken as it is, with whatever else is there",
                snapshot.display()
            )));
            Ok(snapshot)
        })
    }

    /// The error of a model that is not in the cache when only the cache counts.
    fn not_here(&self, commit: &str, missing: &[&str]) -> anyhow::Error {
        let (title, cache) = (&self.title, self.client.settings.cache.display());
        let message = match missing.is_empty() {
            true => format!(
                "{title} is not in the cache {cache}, and HF_HUB_OFFLINE keeps it from being \
                 fetched"
            ),
            false => format!(
                "{title} is not whole in the cache {cache}, and HF_HUB_OFFLINE keeps the rest from \
                 being fetched: the commit {commit} lacks {}",
                missing.join(", ")
            ),
        };
        user(message)
            .hint("run once without HF_HUB_OFFLINE, or copy the cache from where it was fetched")
            .into()
    }
}
