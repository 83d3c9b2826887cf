//! Bytes under names in a remote: blocking calls, each on the thread of its caller. Uses nothing of
//! what the bytes are.

use std::cell::RefCell;
use std::error::Error;
use std::future::Future;

use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::{Builder, Runtime};

use crate::dag::remote_cache::Trouble;
use crate::error::Result;
use crate::location::{self, Location};
use crate::settings::Settings;

/// Characters of an answer of a server that a message shows.
const SHOWN: usize = 300;

thread_local! {
    /// Drives the calls of a thread: their waits between two tries are timers.
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// A remote as names and bytes.
pub struct Client {
    location: Location,
}

impl Client {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// The user's, for settings that make no sense.
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Client { location: location::open(settings)? })
    }

    /// The bytes under a name; `None` if there is nothing. More than `most` bytes are refused.
    pub fn get(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Trouble> {
        let path = self.path(name);
        let get = async {
            let found = self.location.store.get(&path).await?;
            match found.meta.size > most {
                true => Ok(Err(found.meta.size)),
                false => Ok(Ok(found.bytes().await?)),
            }
        };
        match wait(get)? {
            Ok(Ok(bytes)) => Ok(Some(bytes.into())),
            Ok(Err(size)) => Err(Trouble::Refused(format!("{name} has {size} bytes"))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// Writes bytes under a name: they are there as a whole or not at all, as far as the server
    /// keeps to that.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Trouble> {
        let path = self.path(name);
        let put = async { self.location.store.put(&path, bytes.into()).await };
        wait(put)?.map(|_| ()).map_err(|error| trouble(&error))
    }

    /// The names below a folder, sorted.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, Trouble> {
        let path = self.path(folder);
        let list = async { self.location.store.list(Some(&path)).try_collect::<Vec<_>>().await };
        let found = wait(list)?.map_err(|error| trouble(&error))?;
        let count = self.location.folder.parts().count();
        let name = |path: Path| {
            path.parts().skip(count).map(|part| part.as_ref().to_owned()).collect::<Vec<_>>()
        };
        let mut names: Vec<String> =
            found.into_iter().map(|meta| name(meta.location).join("/")).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn path(&self, name: &str) -> Path {
        let parts = name.split('/').map(Into::into);
        self.location.folder.parts().chain(parts).collect()
    }
}

/// Waits for a call.
fn wait<T>(call: impl Future<Output = T>) -> Result<T, Trouble> {
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = match runtime {
            Some(runtime) => runtime,
            None => {
                let made = Builder::new_current_thread().enable_time().build();
                let here = |error| Trouble::Here(format!("cannot start a timer: {error}"));
                runtime.insert(made.map_err(here)?)
            }
        };
        Ok(runtime.block_on(call))
    })
}

/// What an error of an object store is to a run.
fn trouble(error: &object_store::Error) -> Trouble {
    let text = in_short(error);
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => Trouble::Denied(text),
        _ => Trouble::Away(text),
    }
}

/// The innermost message of an error that says more than those around it, on one line.
fn in_short(error: &object_store::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let text = inner.to_string();
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(end);
        line.push('…');
    }
    line
}
