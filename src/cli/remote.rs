//! The remote cache that a command uses: from its options, else from the environment, else from the
//! pipeline. Does not know how a remote is asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::events::warning;
use crate::dag::store::Store;
use crate::error::{Result, user};
use crate::pipeline::cache_section::CacheSection;
use crate::remote::keys::PublicKey;
use crate::remote::settings::{Mode, Secret, Settings, address};
use crate::remote::shared::Shared;

const REMOTE: &str = "POSTTRAIN_REMOTE";
const MODE: &str = "POSTTRAIN_REMOTE_MODE";
const TRUST: &str = "POSTTRAIN_REMOTE_TRUST";
const AUTHORIZATION: &str = "POSTTRAIN_REMOTE_AUTHORIZATION";
const TIMEOUT: &str = "POSTTRAIN_REMOTE_TIMEOUT";
const KEY: &str = "POSTTRAIN_CACHE_KEY";
/// Seconds for which a server may show nothing.
const SILENCE: f64 = 30.0;

/// Which remote cache, and what may be done with it.
#[derive(Args)]
pub struct RemoteOptions {
    /// The remote cache that artefacts are shared through (`s3://`, `gs://`, `az://`, `https://`,
    /// `file:///`) [default: $POSTTRAIN_REMOTE, else `cache.remote` of the pipeline]
    #[arg(long, value_name = "URL")]
    remote: Option<String>,
    /// What may be done with it: read-write, read-only, offline [default: $POSTTRAIN_REMOTE_MODE,
    /// else `cache.mode` of the pipeline, else read-write]
    #[arg(long, value_name = "MODE")]
    remote_mode: Option<Mode>,
    /// Do not ask the remote cache; the same as `--remote-mode offline`
    #[arg(long, conflicts_with = "remote_mode")]
    offline: bool,
}

/// The value of a variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A value of the environment, read.
fn read<T>(name: &str, read: impl Fn(&str) -> std::result::Result<T, String>) -> Result<Option<T>> {
    let value = variable(name).map(|value| read(&value)).transpose();
    Ok(value.map_err(|why| user(format!("{name}: {why}")))?)
}

impl RemoteOptions {
    /// The remote that is meant; `None` if none is, or it is not to be asked.
    ///
    /// # Errors
    /// The user's, for a value that makes no sense.
    pub fn settings(&self, section: &CacheSection) -> Result<Option<Settings>> {
        let trusted = |text: &str| {
            let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
            keys.map(str::parse).collect::<std::result::Result<Vec<PublicKey>, String>>()
        };
        let seconds = |text: &str| {
            let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
            let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            seconds.ok_or_else(|| format!("expected a number of seconds above 0, found `{text}`"))
        };
        let mode = match self.offline {
            true => Some(Mode::Offline),
            false => self.remote_mode.or(read(MODE, str::parse)?),
        };
        let mode = mode.or(section.mode).unwrap_or_default();
        let own = self.remote.clone().or_else(|| variable(REMOTE));
        // A secret goes to no address that a file names, which somebody else may have written.
        let authorization = own.as_ref().and_then(|_| variable(AUTHORIZATION)).map(Secret);
        let text = own.or_else(|| section.remote.clone());
        let Some(text) = text.filter(|_| mode != Mode::Offline) else { return Ok(None) };
        Ok(Some(Settings {
            url: address(&text).map_err(|why| user(format!("the remote cache: {why}")))?,
            mode,
            trust: read(TRUST, trusted)?.unwrap_or_else(|| section.trust.clone()),
            key: variable(KEY).map(PathBuf::from).or_else(|| section.key.clone()),
            authorization,
            silence: match read(TIMEOUT, seconds)? {
                Some(silence) => silence,
                None => Duration::from_secs_f64(SILENCE),
            },
        }))
    }

    /// The remote that is meant, open; `None` as of [`RemoteOptions::settings`].
    ///
    /// # Errors
    /// The user's, for a value that makes no sense; the machine's, if the secret key cannot be
    /// read.
    pub fn open(&self, section: &CacheSection) -> Result<Option<Shared>> {
        self.settings(section)?.map(|settings| Shared::open(&settings)).transpose()
    }

    /// The remote that is meant.
    ///
    /// # Errors
    /// As of [`RemoteOptions::open`]; also if no remote is meant.
    pub fn needed(&self, section: &CacheSection) -> Result<Shared> {
        let none = || {
            user("no remote cache is named, or its mode is offline").hint(
                "name one by --remote, by the variable POSTTRAIN_REMOTE, or by `cache: {remote: …}` \
                 in the pipeline",
            )
        };
        Ok(self.open(section)?.ok_or_else(none)?)
    }

    /// The store with the remote that is meant.
    ///
    /// # Errors
    /// As of [`RemoteOptions::open`].
    pub fn attach(&self, store: Store, section: &CacheSection) -> Result<Store> {
        Ok(match self.open(section)? {
            Some(remote) => store.with_remote(Box::new(remote)),
            None => store,
        })
    }
}

/// Prints what went wrong with the remote of a store.
pub fn tell_warnings(store: &Store) {
    for message in store.remote().map(|remote| remote.take_warnings()).unwrap_or_default() {
        eprintln!("{}", warning(None, &message));
    }
}
