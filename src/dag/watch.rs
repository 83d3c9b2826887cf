//! Runs on other hosts as they are seen from here: whether the file of each still grows. Uses no
//! clock but the own one.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a run on another host may show nothing before it counts as dead: twelve beats, and as
/// long as network file systems keep what they have read of a file at most.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of whether a run lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It does.
    Lives,
    /// It is on another host, and has not been watched for long enough.
    Unsure,
    /// It does not.
    Gone,
}

/// What was last seen of the runs of other hosts: how long the file was, and since when.
#[derive(Default)]
pub(super) struct Watched(Mutex<HashMap<String, (u64, Instant)>>);

impl Watched {
    /// What a look says at which the file of a run is `length` long.
    pub(super) fn look(&self, id: &str, length: u64, patience: Duration) -> Life {
        let mut watched = self.0.lock().expect("nothing panics while it holds the list");
        match watched.get(id) {
            Some((seen, _)) if *seen != length => {
                watched.insert(id.to_owned(), (length, Instant::now()));
                Life::Lives
            }
            Some((_, since)) if since.elapsed() >= patience => Life::Gone,
            Some(_) => Life::Unsure,
            None => {
                watched.insert(id.to_owned(), (length, Instant::now()));
                Life::Unsure
            }
        }
    }
}
