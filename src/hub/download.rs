//! One file of the hub, whole or not at all: fetched, resumed, checked. Uses neither repositories
//! nor the layout of the cache.
//!
//! 1. Bytes are added to a file beside the place where they belong, which outlives a failure; what
//!    is there is not asked for again.
//! 2. A hub that does not honour the range sends all again, and what was there is dropped.
//! 3. When all is there, its checksum is taken from the disk; only what agrees is moved to its
//!    place. What does not is removed. If it began with what an earlier process had left, it is
//!    fetched once more from the start: that beginning may have been at fault.

use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use ureq::http::StatusCode;
use ureq::http::header::CONTENT_RANGE;

use super::client::{Away, Client, TRIES, Trouble, away, wait};
use super::files::Digest;
use crate::error::{Context, Result, environment};

/// Bytes read and written at once.
const CHUNK: usize = 1 << 18;

/// What is to be fetched.
pub struct DownloadRequest<'a> {
    /// Where it is.
    pub address: &'a str,
    /// How errors name it: `model.safetensors of hub:owner/name`.
    pub title: &'a str,
    /// Its length in bytes.
    pub size: u64,
    /// Its checksum.
    pub digest: &'a Digest,
}

/// Why a download ended; a refusal is explained where it is known what was asked for.
pub enum Failure {
    /// The hub says no.
    Refused(super::client::Refusal),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

/// Fetches what is missing in `partial`, checks it, and moves it to `place`, on the same volume.
/// `tell` is called with the number of bytes that are there.
pub fn download(
    place: &Path,
    partial: &Path,
    client: &Client<'_>,
    request: &DownloadRequest<'_>,
    tell: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let inherited = length(partial)? > 0;
    complete(partial, client, request, tell)?;
    let mut problem = problem(partial, request)?;
    if problem.is_some() && inherited {
        crate::fs::remove_all(partial)?;
        complete(partial, client, request, tell)?;
        problem = self::problem(partial, request)?;
    }
    if let Some(problem) = problem {
        crate::fs::remove_all(partial)?;
        let failure =
            environment(format!("{} came damaged: {problem}; it was removed", request.title));
        return Err(anyhow::Error::from(
            failure.hint("run again; if it stays so, the hub or what is between is at fault"),
        )
        .into());
    }
    crate::fs::sync(partial)?;
    crate::fs::rename(partial, place)?;
    Ok(crate::fs::sync(place.parent().expect("a file is in a folder"))?)
}

/// Adds what is missing, over as many connections as it takes. Whatever comes counts as a success;
/// failures in a row end it.
fn complete(
    partial: &Path,
    client: &Client<'_>,
    request: &DownloadRequest<'_>,
    tell: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let mut failures = 0;
    loop {
        let before = length(partial)?;
        if before == request.size && partial.exists() {
            return Ok(());
        }
        if before > request.size {
            crate::fs::remove_all(partial)?;
            continue;
        }
        let trouble = match advance(partial, client, request, before, tell)? {
            Ok(()) => Away { why: "it ended too early".into(), again_in: None },
            Err(Trouble::Away(away)) => away,
            // What was kept is longer than what the hub has: only from the start can it be right.
            Err(Trouble::Refused(refusal)) if refusal.status == 416 && before > 0 => {
                crate::fs::remove_all(partial)?;
                Away { why: "it does not go on from there".into(), again_in: None }
            }
            Err(Trouble::Refused(refusal)) => return Err(Failure::Refused(refusal)),
        };
        let after = length(partial)?;
        if after == request.size {
            continue;
        }
        failures = if after > before { 1 } else { failures + 1 };
        tracing::debug!(
            file = request.title,
            after,
            size = request.size,
            failures,
            why = trouble.why,
            "broke off"
        );
        if failures >= TRIES {
            let failure =
                environment(format!("{} cannot be fetched: {}", request.title, trouble.why));
            let kept = format!(
                "{after} of its {} bytes are here and are kept; run again to go on",
                request.size
            );
            return Err(anyhow::Error::from(failure.hint(kept)).into());
        }
        wait(failures, &trouble);
    }
}

/// One connection: adds what comes until it ends. The outer error is the disk's.
fn advance(
    partial: &Path,
    client: &Client<'_>,
    request: &DownloadRequest<'_>,
    from: u64,
    tell: &mut dyn FnMut(u64),
) -> Result<std::result::Result<(), Trouble>> {
    let response = match client.open(request.address, from) {
        Ok(response) => response,
        Err(trouble) => return Ok(Err(trouble)),
    };
    let range = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok())
        .unwrap_or_default();
    let goes_on = response.status() == StatusCode::PARTIAL_CONTENT
        && range.starts_with(&format!("bytes {from}-"));
    if from > 0 && !goes_on {
        crate::fs::remove_all(partial)?;
    }
    let mut here = if goes_on { from } else { 0 };
    let file = crate::fs::append(partial)?;
    let mut body = response.into_body().into_reader();
    let mut chunk = vec![0; CHUNK];
    tell(here);
    while here < request.size {
        // Never more than belongs to it, whatever comes.
        let room = CHUNK.min(usize::try_from(request.size - here).unwrap_or(CHUNK));
        match body.read(&mut chunk[..room]) {
            Ok(0) => break,
            Ok(count) => {
                crate::fs::add(&file, partial, &chunk[..count])?;
                here += count as u64;
                tell(here);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(away(error.to_string()))),
        }
    }
    Ok(Ok(()))
}

/// What is wrong with a file that has its full length.
fn problem(path: &Path, request: &DownloadRequest<'_>) -> Result<Option<String>> {
    let mut file = crate::fs::open(path)?;
    let found = match request.digest {
        Digest::Sha256(_) => checksum(&mut file, Sha256::new()),
        Digest::Git(_) => {
            checksum(&mut file, Sha1::new_with_prefix(format!("blob {}\0", request.size)))
        }
    };
    let found = found.with_context(|| format!("cannot read {}", path.display()))?;
    let expected = request.digest.digits();
    Ok((found != expected).then(|| format!("its checksum is {found}, expected {expected}")))
}

fn checksum(file: &mut dyn Read, mut hasher: impl sha2::Digest) -> std::io::Result<String> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => hasher.update(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn length(path: &Path) -> Result<u64> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
