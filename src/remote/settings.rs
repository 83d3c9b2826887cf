//! Which remote is meant, what may be done with it, and who is trusted. Opens nothing.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::keys::PublicKey;

/// Schemes of the addresses of remotes.
pub const SCHEMES: [&str; 6] = ["s3", "gs", "az", "http", "https", "file"];

/// What may be done with a remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Entries and objects are looked up, pulled and sent.
    #[default]
    ReadWrite,
    /// Nothing is sent.
    ReadOnly,
    /// It is not asked at all.
    Offline,
}

/// The names of modes, as they are written.
pub const MODES: [(&str, Mode); 3] =
    [("read-write", Mode::ReadWrite), ("read-only", Mode::ReadOnly), ("offline", Mode::Offline)];

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = MODES.iter().find(|(name, _)| *name == text);
        let unknown = || format!("expected `read-write`, `read-only` or `offline`, found `{text}`");
        found.map(|(_, mode)| *mode).ok_or_else(unknown)
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// A remote and the way to use it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its address.
    pub url: Url,
    /// What may be done with it.
    pub mode: Mode,
    /// The keys of which one must have signed an entry; none for any entry.
    pub trust: Vec<PublicKey>,
    /// The file of the secret key that signs what is sent.
    pub key: Option<PathBuf>,
    /// The header `Authorization` of a plain HTTP server.
    pub authorization: Option<Secret>,
    /// Nothing at all comes from a server for no longer than this.
    pub silence: Duration,
}

/// Reads the address of a remote.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn address(text: &str) -> Result<Url, String> {
    let schemes = "`s3://`, `gs://`, `az://`, `https://`, `http://` or `file:///`";
    let wrong = |why: String| format!("{why}; write an address that begins with {schemes}");
    let url = Url::parse(text).map_err(|error| wrong(format!("`{text}`: {error}")))?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(wrong(format!("a remote cache cannot be at `{}:`", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address of a remote cache has a user or password in it; put them into \
            the environment"
            .into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "the address of a remote cache has a `?` or `#` in it; leave out what follows".into()
        );
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    match (url.scheme(), has_host) {
        ("file", false) if url.path() != "/" => Ok(url),
        ("file", _) => Err(format!("`{text}` is no folder; write `file:///` and its path")),
        (_, true) => Ok(url),
        (scheme, false) => Err(format!("`{text}` names no host or bucket after `{scheme}://`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_opened() {
        for good in [
            "s3://bucket/a/b",
            "gs://bucket",
            "az://container/x",
            "http://127.0.0.1:9/a",
            "https://host",
            "file:///tmp/x",
        ] {
            assert_eq!(address(good).map(|url| url.to_string().starts_with(good)), Ok(true));
        }
        for (bad, part) in [
            ("bucket", "relative URL"),
            ("ftp://host", "`ftp:`"),
            ("https://user:hunter2@host", "user or password"),
            ("https://host/?token=x", "`?`"),
            ("file:///", "no folder"),
            ("file://host/x", "no folder"),
            ("s3:///x", "no host or bucket"),
        ] {
            let message = address(bad).expect_err(bad);
            assert!(message.contains(part), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("token"), "{message}");
        }
    }

    #[test]
    fn a_mode_is_one_of_three() {
        assert_eq!("read-only".parse(), Ok(Mode::ReadOnly));
        assert!("readonly".parse::<Mode>().is_err());
    }
}
