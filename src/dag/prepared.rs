//! A node that can be made: its key, and what its inputs held when the key was computed. Uses
//! nothing of how it is made.

use std::collections::BTreeMap;

use crate::action::Lookup;
use crate::digest::{ActionKey, ObjectId};
use crate::error::Result;
use crate::inputs::Snapshots;
use crate::key::Preimage;
use crate::node::{Node, Numerics};
use crate::store::Store;

/// All that decides what a node makes, and all it needs to be made.
pub(super) struct Prepared {
    pub(super) preimage: Preimage,
    pub(super) key: ActionKey,
    pub(super) snapshots: Snapshots,
}

impl Prepared {
    /// Reads the inputs of a node and computes its key; `needs` are the artefacts that it needs, by
    /// the names of their nodes.
    pub(super) fn of(
        store: &Store,
        numerics: Numerics<'_>,
        node: &Node,
        needs: &BTreeMap<&str, ObjectId>,
    ) -> Result<Self> {
        let mut snapshots = Snapshots::default();
        snapshots.take_all(store, node)?;
        let preimage = Preimage::of(
            node,
            numerics,
            |name| Ok(needs[name]),
            |path| Ok(snapshots.content(path)),
        )?;
        Ok(Prepared { key: preimage.key(), preimage, snapshots })
    }
}

/// The key of a node, and the object that the store has for it, or that stays in its remote: reads
/// inputs that have changed, and objects whose stats have, which may take long.
pub(super) fn look_up(
    store: &Store,
    numerics: Numerics<'_>,
    node: &Node,
    needs: &BTreeMap<&str, ObjectId>,
) -> Result<(ActionKey, Option<ObjectId>)> {
    let key = Prepared::of(store, numerics, node, needs)?.key;
    Ok(match store.lookup(key)? {
        Lookup::Hit(object) => (key, Some(object)),
        _ => (key, store.remote().and_then(|remote| remote.left(key))),
    })
}
