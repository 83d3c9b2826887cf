//! Faults of a disk, for tests: every call of the parent module that writes passes [`gate`], which
//! lets any one of them fail as a full or broken disk would.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// How calls that write are made to fail, for tests.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Only calls on paths below this folder count.
    pub root: PathBuf,
    /// Which of those calls fails, counted from 1; 0 once it has.
    pub call: u64,
    /// Its error: an `errno`, such as 28 for a full disk.
    pub errno: i32,
    /// Whether every later call fails as well.
    pub lasting: bool,
}

static ARMED: AtomicBool = AtomicBool::new(false);
static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

/// Lets calls that write fail below a folder, until [`heal_writes`] is called for it. Costs other
/// callers one atomic load.
pub fn fail_writes(fault: Fault) {
    FAULTS.lock().expect("nothing panics while it holds the faults").push(fault);
    ARMED.store(true, Ordering::SeqCst);
}

/// Takes back [`fail_writes`] for a folder. True if a call has failed since.
pub fn heal_writes(root: &Path) -> bool {
    let mut faults = FAULTS.lock().expect("nothing panics while it holds the faults");
    let hit = faults.iter().any(|fault| fault.root == root && fault.call == 0);
    faults.retain(|fault| fault.root != root);
    hit
}

/// Every call that writes passes here, with the path it is about to touch.
pub(super) fn gate(path: &Path) -> io::Result<()> {
    if !ARMED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut faults = FAULTS.lock().expect("nothing panics while it holds the faults");
    for fault in faults.iter_mut().filter(|fault| path.starts_with(&fault.root)) {
        match fault.call {
            0 if !fault.lasting => {}
            0 => return Err(io::Error::from_raw_os_error(fault.errno)),
            1 => {
                fault.call = 0;
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
            _ => fault.call -= 1,
        }
    }
    Ok(())
}
