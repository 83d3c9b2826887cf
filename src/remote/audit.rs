//! The check of a remote: every entry and every object, by their bytes. Changes nothing.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::dag::digest::{ActionKey, ObjectId};
use crate::dag::remote_cache::{Stopped, Trouble};
use crate::layout::{ENTRIES, OBJECTS, key_of, object_of};
use crate::shared::Shared;
use crate::{entries, objects};

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Audit {
    /// Entries that were checked.
    pub entries: usize,
    /// Objects that were checked.
    pub objects: usize,
    /// Bytes that were read of them.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Something that is wrong in a remote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// The key of the entry, if it is one.
    pub key: Option<ActionKey>,
    /// The object, if it is one.
    pub object: Option<ObjectId>,
    /// What is wrong.
    pub message: String,
}

/// Checks entries and the objects that they name; all there are, and all objects, if `keys` is
/// `None`. Keys without an entry are passed over.
///
/// # Errors
/// The remote cannot be read, or the caller wanted it to stop.
pub fn audit(
    shared: &Shared,
    keys: Option<&[ActionKey]>,
    stopped: &Stopped,
) -> Result<Audit, Trouble> {
    let (mut audit, mut wanted) = (Audit::default(), BTreeSet::new());
    let keys = match keys {
        Some(keys) => keys.to_vec(),
        None => {
            let names = shared.client.list(OBJECTS)?;
            wanted.extend(names.iter().filter_map(|name| object_of(name)));
            let names = shared.client.list(ENTRIES)?;
            for name in names.iter().filter(|name| key_of(name).is_none()) {
                let message = format!("{name} is no name of an entry");
                audit.faults.push(Fault { key: None, object: None, message });
            }
            names.iter().filter_map(|name| key_of(name)).collect()
        }
    };
    for key in keys {
        if stopped() {
            return Err(Trouble::Stopped);
        }
        match entries::get(&shared.client, key, &shared.trust) {
            Ok(Some(found)) => drop(wanted.insert(found.entry.object)),
            Ok(None) => continue,
            Err(Trouble::Refused(message)) => {
                audit.faults.push(Fault { key: Some(key), object: None, message });
            }
            Err(trouble) => return Err(trouble),
        }
        audit.entries += 1;
    }
    for object in wanted {
        match objects::check(&shared.client, object, stopped) {
            Ok(bytes) => audit.bytes += bytes,
            Err(Trouble::Refused(message)) => {
                audit.faults.push(Fault { key: None, object: Some(object), message });
            }
            Err(trouble) => return Err(trouble),
        }
        audit.objects += 1;
    }
    Ok(audit)
}
