//! A file by its address: `https://host/path#sha256=…`, fetched once and kept by its checksum.
//! Uses no hub.
//!
//! 1. An address promises nothing about what it leads to tomorrow, and a pipeline must not change
//!    its bytes silently: the checksum is part of the name, and what does not agree with it is
//!    refused.
//! 2. What is here under the checksum is not asked for again, whatever the address.
//! 3. The hub's token is not sent.

use std::fmt;
use std::path::{Path, PathBuf};

use super::cache::is_whole;
use super::client::{Client, Trouble};
use super::download::{self, DownloadRequest, download};
use super::files::Digest;
use super::resolve::{Progress, Tell};
use super::settings::Settings;
use crate::dag::lock::Lock;
use crate::error::{Failure, Result, environment, user};

/// What such addresses begin with.
const SCHEMES: [&str; 2] = ["https://", "http://"];
/// What comes before the checksum.
const MARK: &str = "#sha256=";

/// A file somewhere on the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Without the checksum.
    url: String,
    /// SHA-256, as 64 hexadecimal digits.
    checksum: String,
}

impl Address {
    /// Whether a text means to be one, rightly or wrongly.
    pub fn is_one(text: &str) -> bool {
        SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    }

    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it, and as the hint what is right.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let hint = "add #sha256= and the checksum of the file, which `sha256sum FILE` prints: what \
            an address leads to may change";
        let Some((url, checksum)) = text.split_once(MARK) else {
            return Err(user(format!("`{text}` does not say which bytes it leads to")).hint(hint));
        };
        let host = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme)).unwrap_or_default();
        if !matches!(Digest::of(checksum), Some(Digest::Sha256(_))) {
            return Err(user(format!("`{checksum}` is no SHA-256 checksum"))
                .hint("64 digits from 0 to f are expected, in lower case"));
        }
        if host.is_empty()
            || host.starts_with('/')
            || !url.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(user(format!("`{url}` is no address of a file"))
                .hint("write other characters as %XX"));
        }
        Ok(Address { url: url.to_owned(), checksum: checksum.to_owned() })
    }

    /// The place of the file, named as its address ends, if it is here.
    pub fn find(&self, settings: &Settings) -> Option<PathBuf> {
        Some(self.place(settings)).filter(|place| is_whole(place, None))
    }

    /// Fetches the file, if it is not here, and gives its place.
    ///
    /// # Errors
    /// The user's: the address leads to nothing, or to other bytes. The machine's: it cannot be
    /// reached, the disk is full.
    pub fn fetch(&self, settings: &Settings, tell: Tell<'_>) -> Result<PathBuf> {
        if let Some(place) = self.find(settings) {
            return Ok(place);
        }
        let place = self.place(settings);
        let folder = place.parent().expect("it is in a folder");
        if settings.offline {
            let message = format!(
                "{} is not in {}, and HF_HUB_OFFLINE keeps it from being fetched",
                self.url,
                folder.display()
            );
            return Err(user(message).hint("run once without HF_HUB_OFFLINE").into());
        }
        crate::fs::create_dir_all(folder)?;
        let lock_path = folder.join("lock");
        let lock = match Lock::try_acquire(&lock_path)? {
            Some(lock) => lock,
            None => {
                tell(Progress::Note(&format!(
                    "another process is fetching {}; this one waits",
                    self.url
                )));
                Lock::acquire(&lock_path)?
            }
        };
        if !is_whole(&place, None) {
            self.fetch_alone(settings, &place, tell)?;
        }
        drop(lock);
        Ok(place)
    }

    fn fetch_alone(&self, settings: &Settings, place: &Path, tell: Tell<'_>) -> Result<()> {
        let settings = Settings { token: None, ..settings.clone() };
        let client = Client::new(&settings);
        let explain = |trouble: Trouble| match trouble {
            Trouble::Refused(refusal) => {
                user(format!("{} answers with status {}", self.url, refusal.status))
            }
            Trouble::Away(away) => environment(format!("cannot fetch {}: {}", self.url, away.why)),
        };
        let size = client.length(&self.url).map_err(explain)?;
        let Some(size) = size else {
            let hint = "fetch it yourself, and give the path of the file";
            return Err(user(format!("{} does not say how long the file is", self.url))
                .hint(hint)
                .into());
        };
        let (digest, mut partial) =
            (Digest::Sha256(self.checksum.clone()), place.as_os_str().to_owned());
        partial.push(".incomplete");
        let request =
            DownloadRequest { address: &self.url, title: &self.url, size, digest: &digest };
        let mut told =
            |done| tell(Progress::Fetching { model: &self.url, file: "", done, total: size });
        match download(place, partial.as_ref(), &client, &request, &mut told) {
            Ok(()) => Ok(()),
            Err(download::Failure::Refused(refusal)) => {
                Err(explain(Trouble::Refused(refusal)).into())
            }
            Err(download::Failure::Other(error)) => Err(error),
        }
    }

    /// `posttrain/<checksum>/<name>` in the hub's cache.
    fn place(&self, settings: &Settings) -> PathBuf {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let last: String = path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .chars()
            .map(|c| if plain(c) { c } else { '_' })
            .collect();
        let name = if last.trim_matches('.').is_empty() { "file".to_owned() } else { last };
        settings.cache.join("posttrain").join(&self.checksum).join(name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{MARK}{}", self.url, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_say_which_bytes_it_leads_to() {
        let sum = "0f".repeat(32);
        let text = format!("https://h/a/b.jsonl?x=1#sha256={sum}");
        assert_eq!(Address::parse(&text).expect("a good address").to_string(), text);
        for (text, why) in [
            ("https://h/a", "does not say which bytes"),
            ("https://h/a#sha256=0F", "no SHA-256"),
            (&format!("https://h/a b#sha256={sum}"), "no address"),
            (&format!("https:///a#sha256={sum}"), "no address"),
        ] {
            let failure = Address::parse(text).expect_err(text);
            assert!(failure.message.contains(why) && failure.hint.is_some(), "{failure}");
        }
    }
}
