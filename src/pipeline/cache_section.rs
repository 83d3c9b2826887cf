//! The section `cache` of a pipeline: the remote cache that its artefacts are shared through. It is
//! no part of any key. Opens nothing.

use std::path::PathBuf;

use serde_yaml::{Mapping, Value as Yaml};

use super::diagnostic::{Mistake, Sources, advice};
use super::yaml::{Entry, Node, Scalar, Value};
use crate::remote::keys::PublicKey;
use crate::remote::settings::{MODES, Mode, address};

/// The section.
pub const CACHE: &str = "cache";
const FIELDS: [&str; 4] = ["remote", "mode", "trust", "key"];

/// What the section says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheSection {
    /// The address of the remote, checked.
    pub remote: Option<String>,
    /// What may be done with it.
    pub mode: Option<Mode>,
    /// The keys of which one must have signed an entry; none for any entry.
    pub trust: Vec<PublicKey>,
    /// The file of the secret key that signs what is sent.
    pub key: Option<PathBuf>,
}

/// Reads the section, if there is one.
pub(super) fn read(
    section: Option<&Entry>,
    sources: &Sources,
) -> Result<CacheSection, Vec<Mistake>> {
    let (mut own, mut mistakes) = (CacheSection::default(), Vec::new());
    let entries = match section.map(|section| &section.value) {
        Some(Node { value: Value::Mapping(entries), .. }) => entries.as_slice(),
        Some(node) if !node.is_null() => {
            let found = node.describe();
            return Err(vec![
                node.mistake(format!("expected `cache` to be a mapping, found {found}"))
                    .help("write `cache: {remote: s3://bucket/folder}`"),
            ]);
        }
        _ => &[],
    };
    for entry in entries {
        let value = &entry.value;
        match entry.key.as_str() {
            _ if value.is_null() => {}
            "remote" => {
                own.remote = take(value, &mut mistakes, |text| {
                    address(&text.text).map(|_| text.text.clone())
                })
            }
            "mode" => own.mode = take(value, &mut mistakes, |text| text.text.parse()),
            "trust" => match &value.value {
                Value::Sequence(items) => own.trust.extend(items.iter().filter_map(|item| {
                    take(item, &mut mistakes, |text| text.text.parse::<PublicKey>())
                })),
                _ => {
                    let found = value.describe();
                    let mistake = format!("expected a list of public keys, found {found}");
                    mistakes.push(value.mistake(mistake).help("write `trust: [ed25519:…]`"));
                }
            },
            "key" => {
                own.key = take(value, &mut mistakes, |text| {
                    Ok(sources.get(text.folder_of).folder.join(&text.text))
                })
            }
            name => mistakes.push(
                Mistake::new(entry.key_span, format!("`cache` has no field `{name}`"))
                    .help(advice(name, FIELDS, "fields")),
            ),
        }
    }
    if let Some(section) = section.filter(|_| own.remote.is_none() && own != Default::default()) {
        mistakes.push(
            Mistake::new(section.key_span, "`cache` has no `remote`")
                .help("add the address of a remote cache, or leave `cache` out"),
        );
    }
    match mistakes.is_empty() {
        true => Ok(own),
        false => Err(mistakes),
    }
}

/// What `read` makes of a text.
fn take<T>(
    node: &Node,
    mistakes: &mut Vec<Mistake>,
    read: impl FnOnce(&Scalar) -> Result<T, String>,
) -> Option<T> {
    let read = match node.scalar() {
        Some(scalar) if scalar.text.contains("${") => {
            Err("params are not replaced in `cache`".into())
        }
        Some(scalar) => read(scalar),
        None => Err(format!("expected text, found {}", node.describe())),
    };
    read.map_err(|message| mistakes.push(node.mistake(message))).ok()
}

impl CacheSection {
    /// The section as YAML; `None` where there is nothing in it.
    pub(super) fn to_yaml(&self) -> Option<Yaml> {
        let text = |text: String| Yaml::from(text);
        let mut fields = Mapping::new();
        fields.extend(self.remote.clone().map(|remote| ("remote".into(), text(remote))));
        let mode = self.mode.and_then(|mode| MODES.iter().find(|(_, own)| *own == mode));
        fields.extend(mode.map(|(name, _)| ("mode".into(), Yaml::from(*name))));
        if !self.trust.is_empty() {
            let keys = self.trust.iter().map(|key| Yaml::from(key.to_string())).collect();
            fields.insert("trust".into(), Yaml::Sequence(keys));
        }
        let key = self.key.as_ref().map(|path| path.display().to_string());
        fields.extend(key.map(|path| ("key".into(), text(path))));
        (!fields.is_empty()).then_some(Yaml::Mapping(fields))
    }
}
