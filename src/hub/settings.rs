//! What the environment says about the hub, under the names that all its tools use. Uses no
//! network.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use hf_hub::Cache;

use crate::error::{Result, environment, user};

/// The hub, if the environment names no other.
const ENDPOINT: &str = "https://huggingface.co";

/// Where the cache is, which hub is asked, as whom, and whether it may be asked at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder with `models--owner--name/…`: `$HF_HUB_CACHE`, else `$HF_HOME/hub`; `HF_HOME` is
    /// `~/.cache/huggingface` by default.
    pub cache: PathBuf,
    /// Address of the hub, without a slash at its end: `$HF_ENDPOINT`.
    pub endpoint: String,
    /// What proves who asks: `$HF_TOKEN`, else what the file `$HF_TOKEN_PATH` (`$HF_HOME/token` by
    /// default) holds.
    pub token: Option<String>,
    /// Only what is in the cache counts: `$HF_HUB_OFFLINE`.
    pub offline: bool,
}

impl Settings {
    /// The settings of this process.
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(&|name| env::var_os(name))
    }

    /// The settings that these variables make.
    ///
    /// # Errors
    /// An address that is none, a token that cannot be sent; no home folder.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| given(name).map(PathBuf::from);
        let home = match (path("HF_HOME"), path("XDG_CACHE_HOME"), path("HOME")) {
            (Some(home), _, _) => home,
            (None, Some(caches), _) => caches.join("huggingface"),
            (None, None, Some(home)) => home.join(".cache/huggingface"),
            (None, None, None) => {
                return Err(environment("there is no home folder for the hub's cache")
                    .hint("set HF_HOME to a folder")
                    .into());
            }
        };
        let cache = path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub"));
        let token = match (text(&given, "HF_TOKEN")?, path("HF_TOKEN_PATH")) {
            (Some(token), _) => Some(token),
            (None, Some(file)) => crate::fs::read_if_exists(&file)?
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            (None, None) => Cache::new(home.join("hub")).token(),
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(user("the token for the hub holds a character that no token has")
                .hint("set HF_TOKEN to the token alone")
                .into());
        }
        let endpoint = text(&given, "HF_ENDPOINT")?
            .unwrap_or_else(|| ENDPOINT.into())
            .trim_end_matches('/')
            .to_owned();
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let message = format!("HF_ENDPOINT is `{endpoint}`, which is no address");
            return Err(user(message).hint(format!("an address begins like {ENDPOINT}")).into());
        }
        let offline = text(&given, "HF_HUB_OFFLINE")?.or(text(&given, "TRANSFORMERS_OFFLINE")?);
        let offline = offline.is_some_and(|value| {
            ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
        });
        Ok(Settings { cache, endpoint, token, offline })
    }
}

/// The variable as text.
fn text(given: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Result<Option<String>> {
    match given(name).map(OsString::into_string) {
        Some(Err(_)) => Err(user(format!("{name} is not UTF-8")).into()),
        other => Ok(other.and_then(|value| value.ok())),
    }
}

/// Never shows the token.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Settings { cache, endpoint, token, offline } = self;
        let token = token.as_ref().map(|_| "…");
        f.debug_struct("Settings")
            .field("cache", cache)
            .field("endpoint", endpoint)
            .field("token", &token)
            .field("offline", offline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Settings> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| OsString::from(value))
        };
        Settings::from_variables(&find)
    }

    #[test]
    fn the_variables_of_the_hubs_tools_are_honoured() {
        let plain = from(&[("HOME", "/h")]).expect("a home is enough");
        let expected = Settings {
            cache: "/h/.cache/huggingface/hub".into(),
            endpoint: ENDPOINT.into(),
            token: None,
            offline: false,
        };
        assert_eq!(plain, expected);
        assert_eq!(
            from(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).expect("good").cache,
            PathBuf::from("/x/huggingface/hub")
        );
        assert_eq!(
            from(&[("HOME", "/h"), ("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")])
                .expect("good")
                .cache,
            PathBuf::from("/f/hub")
        );
        assert_eq!(
            from(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]).expect("good").cache,
            PathBuf::from("/c")
        );
        assert_eq!(
            from(&[("HF_HOME", "/f"), ("HF_ENDPOINT", "http://m:1/x/")]).expect("good").endpoint,
            "http://m:1/x"
        );
        for (value, offline) in [("1", true), ("TRUE", true), ("0", false), ("", false)] {
            assert_eq!(
                from(&[("HF_HOME", "/f"), ("HF_HUB_OFFLINE", value)]).expect("good").offline,
                offline,
                "{value}"
            );
        }
        assert!(from(&[]).is_err() && from(&[("HF_HOME", "/f"), ("HF_ENDPOINT", "m")]).is_err());
    }

    #[test]
    fn the_token_of_the_environment_is_stronger_than_that_of_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = folder.path().to_str().expect("UTF-8");
        let token = |more: &[(&str, &str)]| {
            from(&[&[("HF_HOME", home)], more].concat()).expect("good settings").token
        };
        assert_eq!(token(&[]), None);
        std::fs::write(folder.path().join("token"), "hf_file\n").expect("a file");
        std::fs::write(folder.path().join("other"), "hf_other\n").expect("a file");
        let other = folder.path().join("other");
        let other = ("HF_TOKEN_PATH", other.to_str().expect("UTF-8"));
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_HUB_CACHE", "/elsewhere")]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[other]).as_deref(), Some("hf_other"));
        assert_eq!(token(&[other, ("HF_TOKEN", " hf_variable ")]).as_deref(), Some("hf_variable"));
        assert!(from(&[("HF_HOME", home), ("HF_TOKEN", "a b")]).is_err());
        let shown = format!("{:?}", from(&[("HF_HOME", home)]).expect("good settings"));
        assert!(!shown.contains("hf_file"), "{shown}");
    }
}
