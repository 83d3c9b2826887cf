//! Objects sent to a remote and pulled from it, in compressed parts, several at once. Uses nothing
//! of keys and entries.
//!
//! 1. Parts are sent first, then the list of files: an object without its list is not there, so
//!    one that was sent in part is never seen.
//! 2. A part is named by the hash of its bytes. Two hosts that send one object at the same time,
//!    with versions of the compressor that differ, disturb each other in nothing.
//! 3. What is pulled is checked three times: the list must hash to the object's id, each part to
//!    its name, and each file that was written to its line in the list.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::client::Client;
use crate::dag::digest::{ContentHash, ObjectId};
use crate::dag::remote_cache::{Stopped, Trouble};
use crate::dag::tree::{Links, hash_files, walk};
use crate::layout;
use crate::manifest::{File, Manifest, PART, Part, Piece, most_bytes, pieces};

/// The level of zstd: files of weights become hardly smaller at a higher one, and take longer.
const LEVEL: i32 = 3;
/// Parts at once, each on a thread.
const AT_ONCE: usize = 4;
/// Bytes of a list of files at most.
const LONGEST_LIST: u64 = 128 << 20;

fn here(error: anyhow::Error) -> Trouble {
    Trouble::Here(format!("{error:#}"))
}

/// The list of files of an object; `None` if the object is not there.
pub fn manifest(client: &Client, object: ObjectId) -> Result<Option<Manifest>, Trouble> {
    let bytes = client.get(&layout::files(object), LONGEST_LIST)?;
    bytes.map(|bytes| Manifest::read(&bytes, object).map_err(Trouble::Refused)).transpose()
}

/// Sends the object whose files are in `folder`, unless it is there; returns the bytes that were
/// sent.
pub fn push(
    client: &Client,
    object: ObjectId,
    folder: &Path,
    stopped: &Stopped,
) -> Result<u64, Trouble> {
    // A list that is damaged is written again.
    if let Ok(Some(_)) = manifest(client, object) {
        return Ok(0);
    }
    let paths: Vec<String> =
        walk(folder, Links::Refuse).map_err(here)?.into_iter().map(|file| file.0).collect();
    let changed = |path: String| Trouble::Here(format!("`{path}` is being changed"));
    let files: Vec<File> = hash_files(folder, &paths)
        .map_err(here)?
        .map_err(changed)?
        .into_iter()
        .map(|file| File { path: file.path, size: file.stat.size, hash: file.hash })
        .collect();
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let count = bytes.div_ceil(PART) as usize;
    let parts: Vec<Mutex<Option<Part>>> = (0..count).map(|_| Mutex::new(None)).collect();
    in_parallel(count, stopped, |at| {
        let packed = pack(folder, &pieces(&files, at))?;
        let part = Part { hash: blake3::hash(&packed).into(), size: packed.len() as u64 };
        client.put(&layout::part(object, part.hash), packed)?;
        *parts[at].lock().expect("nothing panics while it holds a part") = Some(part);
        Ok(())
    })?;
    let parts: Vec<Part> = parts
        .into_iter()
        .map(|part| part.into_inner().expect("no thread holds it").expect("every part was sent"))
        .collect();
    let sent = parts.iter().map(|part| part.size).sum();
    let list = serde_json::to_vec(&Manifest::new(files, parts)).expect("a list is plain data");
    Manifest::read(&list, object)
        .map_err(|why| Trouble::Here(format!("the artefact changed while it was sent: {why}")))?;
    client.put(&layout::files(object), list)?;
    Ok(sent)
}

/// Writes the files of an object into the empty folder `out`, and checks them; returns the bytes
/// that came.
pub fn pull(
    client: &Client,
    object: ObjectId,
    out: &Path,
    stopped: &Stopped,
) -> Result<u64, Trouble> {
    let absent = || Trouble::Refused("it is not there".into());
    let list = manifest(client, object)?.ok_or_else(absent)?;
    for File { path, .. } in &list.files {
        let path = out.join(path);
        let folder = path.parent().unwrap_or(out);
        crate::fs::create_dir_all(folder).map_err(here)?;
        crate::fs::write_new(&path, &[]).map_err(here)?;
    }
    in_parallel(list.parts.len(), stopped, |at| {
        let bytes = unpacked(client, object, &list, at)?;
        let mut from = 0;
        for Piece { file, at, length } in list.pieces(at) {
            let to = from + length as usize;
            crate::fs::write_at(&out.join(&file.path), at, &bytes[from..to]).map_err(here)?;
            from = to;
        }
        Ok(())
    })?;
    let paths: Vec<String> = list.files.iter().map(|file| file.path.clone()).collect();
    let hashed = hash_files(out, &paths)
        .map_err(here)?
        .map_err(|path| Trouble::Here(format!("`{path}` was changed while it was pulled")))?;
    for (file, found) in list.files.iter().zip(hashed) {
        if (file.hash, file.size) != (found.hash, found.stat.size) {
            return Err(Trouble::Refused(format!("`{}` has other bytes than it must", file.path)));
        }
    }
    Ok(list.parts.iter().map(|part| part.size).sum())
}

/// Checks an object by its bytes and writes nothing; returns the bytes that came.
pub fn check(client: &Client, object: ObjectId, stopped: &Stopped) -> Result<u64, Trouble> {
    let absent = || Trouble::Refused("it is not there".into());
    let list = manifest(client, object)?.ok_or_else(absent)?;
    let mut hashers = Vec::new();
    for at in 0..list.parts.len() {
        if stopped() {
            return Err(Trouble::Stopped);
        }
        let bytes = unpacked(client, object, &list, at)?;
        let mut from = 0;
        for Piece { file, at, length } in list.pieces(at) {
            if at == 0 {
                hashers.push((file, blake3::Hasher::new()));
            }
            let (_, hasher) = hashers.last_mut().expect("a file begins with its first piece");
            hasher.update(&bytes[from..from + length as usize]);
            from += length as usize;
        }
    }
    for (file, hasher) in hashers {
        if file.hash != ContentHash::from(hasher.finalize()) {
            return Err(Trouble::Refused(format!("`{}` has other bytes than it must", file.path)));
        }
    }
    let empty = ContentHash::from(blake3::hash(b""));
    if list.files.iter().any(|file| file.size == 0 && file.hash != empty) {
        return Err(Trouble::Refused("an empty file has a hash of other bytes".into()));
    }
    Ok(list.parts.iter().map(|part| part.size).sum())
}

/// The bytes of a part as it is in the remote.
fn pack(folder: &Path, pieces: &[Piece<'_>]) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.length as usize).sum());
    for Piece { file, at, length } in pieces {
        crate::fs::read_at(&folder.join(&file.path), *at, *length, &mut bytes).map_err(here)?;
    }
    zstd::bulk::compress(&bytes, LEVEL)
        .map_err(|error| Trouble::Here(format!("cannot compress a part: {error}")))
}

/// A part of an object, checked and unpacked.
fn unpacked(
    client: &Client,
    object: ObjectId,
    list: &Manifest,
    at: usize,
) -> Result<Vec<u8>, Trouble> {
    let Part { hash, size } = &list.parts[at];
    let wrong =
        |why: String| Trouble::Refused(format!("part {} of {}: {why}", at + 1, list.parts.len()));
    let packed = client.get(&layout::part(object, *hash), most_bytes(PART))?;
    let packed = packed.ok_or_else(|| wrong("it is missing".into()))?;
    if packed.len() as u64 != *size {
        return Err(wrong(format!("it has {} bytes, expected {size}", packed.len())));
    }
    if ContentHash::from(blake3::hash(&packed)) != *hash {
        return Err(wrong("its bytes do not match its hash".into()));
    }
    let length: u64 = list.pieces(at).iter().map(|piece| piece.length).sum();
    let bytes = zstd::bulk::decompress(&packed, length as usize)
        .map_err(|error| wrong(format!("it cannot be unpacked: {error}")))?;
    match bytes.len() as u64 == length {
        true => Ok(bytes),
        false => Err(wrong(format!("it has {} bytes unpacked, expected {length}", bytes.len()))),
    }
}

/// Does the work of each of `count` parts, several at once, until one fails.
fn in_parallel(
    count: usize,
    stopped: &Stopped,
    work: impl Fn(usize) -> Result<(), Trouble> + Sync,
) -> Result<(), Trouble> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let first: Mutex<Option<Trouble>> = Mutex::new(None);
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            if at >= count || failed.load(Ordering::SeqCst) {
                return;
            }
            let done = if stopped() { Err(Trouble::Stopped) } else { work(at) };
            if let Err(trouble) = done {
                failed.store(true, Ordering::SeqCst);
                first.lock().expect("nothing panics while it holds this").get_or_insert(trouble);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(count) {
            // Where no thread can be started, the others do the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
    first.into_inner().expect("no thread holds it").map_or(Ok(()), Err)
}
