//! Faults of a disk, for tests. Every call of the parent module that has an effect passes [`act`]
//! or [`write`], which can let it fail, write a part of its bytes, or be the last call of a
//! process. Costs one atomic load where no test has armed it.
//!
//! 1. A [`Fault`] lets one call fail, by its number.
//! 2. A [`Schedule`] draws the fate of each call from a seed, the kind of the call, the file, and
//!    how often that call was made on that file. The order in which threads reach the disk changes
//!    no draw.
//! 3. After a stop no call below the root of the schedule has an effect: the disk is as a process
//!    that was killed at that call leaves it. The code goes on, since a thread cannot be killed,
//!    and all that it does to the disk fails.
//! 4. With `power`, the effects that were not synced at the end of a schedule may be lost as well
//!    (see [`super::power`]).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::effect::Effect;
use super::power::Power;
use crate::random::Stream;

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

/// Faults that are drawn from a seed, for tests. The chances are those of one call.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Only calls on paths below this folder count.
    pub root: PathBuf,
    /// What all draws follow from.
    pub seed: u64,
    /// The chance that a call fails.
    pub failing: f64,
    /// The chance that a write writes a part of its bytes and fails; and the same that it writes a
    /// part and succeeds.
    pub torn: f64,
    /// The chance that a call is the last: before its effect, in the midst of it, or after it.
    pub stopping: f64,
    /// The errors that a failing call may have: one of these `errno`.
    pub errnos: Vec<i32>,
    /// Whether, once a call has failed, every later one fails.
    pub lasting: bool,
    /// Where what a power cut may bring back is kept meanwhile: a folder on the same volume,
    /// outside of the root. With it, the end of the schedule is a power cut.
    pub power: Option<PathBuf>,
}

/// What a [`Schedule`] did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many calls there were, by kind.
    pub calls: BTreeMap<&'static str, u64>,
    /// How many of them did not do what they were asked to, by kind and by what happened.
    pub faults: BTreeMap<(&'static str, String), u64>,
    /// Each fault, in order: what happened, the kind of the call, the path.
    pub list: Vec<String>,
    /// Whether a call was the last.
    pub stopped: bool,
    /// Effects that the power cut took back.
    pub lost: BTreeMap<&'static str, u64>,
}

/// What happens to a call.
enum Fate {
    Pass,
    Fail(i32),
    /// This share of the bytes is written, then the call fails.
    Torn(f64, i32),
    /// This share of the bytes is written, and the call says so.
    Short(f64),
    /// The last call: without an effect, with this share of it, or with all of it.
    Last(f64),
}

struct Armed {
    schedule: Schedule,
    counts: HashMap<String, u64>,
    /// The error of every further call.
    over: Option<i32>,
    tally: Tally,
    power: Option<Power>,
}

static ARMED: AtomicBool = AtomicBool::new(false);
static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());
static SCHEDULES: Mutex<Vec<Arc<Mutex<Armed>>>> = Mutex::new(Vec::new());

/// EIO, which every call after the last one has.
const BROKEN: i32 = 5;
/// EINTR, which is no failure: a write is tried again.
const INTERRUPTED: i32 = 4;
/// ENOSPC: a full disk lets go of what is there.
const FULL: i32 = 28;

/// Lets calls that write fail below a folder, until [`heal_writes`] is called for it. Costs other
/// callers one atomic load.
pub fn fail_writes(fault: Fault) {
    lock(&FAULTS).push(fault);
    ARMED.store(true, Ordering::SeqCst);
}

/// Takes back [`fail_writes`] for a folder. True if a call has failed since.
pub fn heal_writes(root: &Path) -> bool {
    let mut faults = lock(&FAULTS);
    let hit = faults.iter().any(|fault| fault.root == root && fault.call == 0);
    faults.retain(|fault| fault.root != root);
    hit
}

/// Lets faults happen below a folder as a schedule says, until [`end_faults`] is called for it.
///
/// # Errors
/// The folder of `power` cannot be made.
pub fn begin_faults(schedule: Schedule) -> io::Result<()> {
    let power = schedule.power.as_deref().map(Power::new).transpose()?;
    let armed =
        Armed { schedule, counts: HashMap::new(), over: None, tally: Tally::default(), power };
    lock(&SCHEDULES).push(Arc::new(Mutex::new(armed)));
    ARMED.store(true, Ordering::SeqCst);
    Ok(())
}

/// Ends the schedule of a folder, with a power cut if it has `power`, and says what it did. Nothing
/// may write there meanwhile.
///
/// # Errors
/// What a power cut takes back cannot be taken back.
///
/// # Panics
/// If the folder has no schedule.
pub fn end_faults(root: &Path) -> io::Result<Tally> {
    let mut schedules = lock(&SCHEDULES);
    let at = schedules.iter().position(|armed| lock(armed).schedule.root == root);
    let armed = schedules.remove(at.expect("it has a schedule"));
    drop(schedules);
    let mut armed = lock(&armed);
    let mut tally = std::mem::take(&mut armed.tally);
    if let Some(power) = armed.power.take() {
        tally.lost = power.cut(root, Stream::new(armed.schedule.seed, "power"))?;
    }
    Ok(tally)
}

/// Whether calls on a path have no effect any more, since one below the same root was the last.
pub(super) fn is_stopped(path: &Path) -> bool {
    ARMED.load(Ordering::Relaxed) && armed(path).is_some_and(|armed| lock(&armed).tally.stopped)
}

/// Does what has an effect, or lets it fail.
pub(super) fn act<T>(effect: Effect<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if !ARMED.load(Ordering::Relaxed) {
        return act();
    }
    gate(effect.path())?;
    let Some(armed) = armed(effect.path()) else { return act() };
    let mut armed = lock(&armed);
    let fate = armed.fate(effect.kind(), effect.path());
    match fate {
        Fate::Fail(errno) | Fate::Torn(_, errno) => {
            return Err(io::Error::from_raw_os_error(errno));
        }
        Fate::Last(share) if share < 0.5 => return Err(io::Error::from_raw_os_error(BROKEN)),
        Fate::Pass | Fate::Short(_) | Fate::Last(_) => {}
    }
    let done = match &mut armed.power {
        Some(power) => power.log(effect, act),
        None => act(),
    };
    match fate {
        Fate::Last(_) => Err(io::Error::from_raw_os_error(BROKEN)),
        _ => done,
    }
}

/// A file was made at `path`, to replace another.
pub(super) fn made(path: &Path) {
    if ARMED.load(Ordering::Relaxed)
        && let Some(armed) = armed(path)
        && let Some(power) = &mut lock(&armed).power
    {
        power.made(path);
    }
}

/// Writes bytes to a file that is called, or is to be called, `path`: all of them, or fewer.
pub(super) fn write(mut file: &File, path: &Path, bytes: &[u8]) -> io::Result<usize> {
    if !ARMED.load(Ordering::Relaxed) {
        return file.write(bytes);
    }
    gate(path)?;
    let Some(armed) = armed(path) else { return file.write(bytes) };
    let mut armed = lock(&armed);
    if let Some(power) = &mut armed.power {
        power.dirty(file)?;
    }
    let part = |share: f64| &bytes[..(share * bytes.len() as f64) as usize];
    let failed = |errno| Err(io::Error::from_raw_os_error(errno));
    match armed.fate("write", path) {
        Fate::Pass => file.write(bytes),
        Fate::Fail(errno) => failed(errno),
        Fate::Torn(share, errno) => file.write_all(part(share)).and_then(|()| failed(errno)),
        Fate::Short(share) => {
            let part = &bytes[..part(share).len().max(1).min(bytes.len())];
            file.write_all(part).map(|()| part.len())
        }
        Fate::Last(share) => file.write_all(part(share)).and_then(|()| failed(BROKEN)),
    }
}

/// Each call passes here, with the path it is about to touch.
fn gate(path: &Path) -> io::Result<()> {
    for fault in lock(&FAULTS).iter_mut().filter(|fault| path.starts_with(&fault.root)) {
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

fn armed(path: &Path) -> Option<Arc<Mutex<Armed>>> {
    lock(&SCHEDULES).iter().find(|armed| path.starts_with(&lock(armed).schedule.root)).cloned()
}

/// A test that failed while it held the list is no reason for others to fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Armed {
    /// Draws what happens to a call, and counts it.
    fn fate(&mut self, kind: &'static str, path: &Path) -> Fate {
        if self.tally.stopped {
            return Fate::Fail(BROKEN);
        }
        *self.tally.calls.entry(kind).or_default() += 1;
        if let Some(errno) = self.over
            && (errno != FULL || kind != "remove" && kind != "rename")
        {
            self.note(kind, errno_name(errno), path);
            return Fate::Fail(errno);
        }
        let schedule = &self.schedule;
        let place = format!("{kind} {}", place(&schedule.root, path));
        let draws = Stream::new(schedule.seed, &place);
        let count = self.counts.entry(place).or_default();
        *count += 1;
        let draw = |what| draws.uniform(*count, what);
        let errno = schedule.errnos.get((draw(2) * schedule.errnos.len() as f64) as usize);
        let errno = errno.copied().unwrap_or(BROKEN);
        let mut chance = draw(0);
        let mut happens = |with: f64| {
            chance -= with;
            chance < 0.0 && chance >= -with
        };
        let is_write = kind == "write";
        let (fate, what) = if happens(schedule.stopping) {
            self.tally.stopped = true;
            (Fate::Last(draw(1)), "stop".to_owned())
        } else if happens(schedule.torn) && is_write {
            (Fate::Torn(draw(1), errno.max(BROKEN)), "torn".to_owned())
        } else if happens(schedule.torn) && is_write {
            (Fate::Short(draw(1)), "short".to_owned())
        } else if happens(schedule.failing) && (is_write || errno != INTERRUPTED) {
            if schedule.lasting && errno != INTERRUPTED {
                self.over = Some(errno);
            }
            (Fate::Fail(errno), errno_name(errno))
        } else {
            return Fate::Pass;
        };
        self.note(kind, what, path);
        fate
    }

    fn note(&mut self, kind: &'static str, what: String, path: &Path) {
        self.tally.list.push(format!("{what}: {kind} {}", path.display()));
        *self.tally.faults.entry((kind, what)).or_default() += 1;
    }
}

fn errno_name(errno: i32) -> String {
    match errno {
        INTERRUPTED => "EINTR".into(),
        BROKEN => "EIO".into(),
        13 => "EACCES".into(),
        FULL => "ENOSPC".into(),
        30 => "EROFS".into(),
        122 => "EDQUOT".into(),
        other => format!("errno {other}"),
    }
}

/// A path below the root without what differs from run to run: moments, numbers of processes.
fn place(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let mut parts: Vec<String> = Vec::new();
    for part in below.iter().map(|part| part.to_string_lossy()) {
        let is_named = parts.last().is_none_or(|last| last != "runs" && last != "runners");
        parts.push(match is_named && !part.starts_with('.') {
            true => part.into_owned(),
            false => "*".into(),
        });
    }
    parts.join("/")
}
