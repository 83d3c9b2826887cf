//! Processes of this host: who one is, whether it is alive, what descends from it, what is left to
//! be ended. Reads `/proc`; where the system has none, nothing is known of other processes. Uses
//! nothing of what they do.
//!
//! A process that loses its parent becomes a child of the nearest ancestor that has called
//! [`adopt_orphans`] (Linux: a "child subreaper"), even if it has left its process group and its
//! session. So a tree of processes can be ended as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, waitpid};
use serde::{Deserialize, Serialize};

/// How often what is left is looked for again: a process may start another before it ends.
const ROUNDS: usize = 50;

/// A process, told from every other that ever was, on any host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The boot of the host and the namespace that the number belongs to; empty where the system
    /// does not tell.
    pub host: String,
    /// The name of the host, for messages.
    pub name: String,
    /// The process's number.
    pub pid: i32,
    /// When it started, in ticks since the host's boot: numbers are used again.
    pub started: u64,
}

impl Identity {
    /// The process that asks.
    pub fn own() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Identity::of(pid)
    }

    /// The process of this number on this host.
    pub fn of(pid: i32) -> Self {
        let read = |path: &str| {
            std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let namespace = std::fs::read_link("/proc/self/ns/pid")
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let boot = read("/proc/sys/kernel/random/boot_id");
        let host = if boot.is_empty() || namespace.is_empty() {
            String::new()
        } else {
            format!("{boot} {namespace}")
        };
        Identity {
            host,
            name: read("/proc/sys/kernel/hostname"),
            pid,
            started: stat(pid).map_or(0, |stat| stat.started),
        }
    }

    /// Whether the process is alive; `None` if that cannot be seen from here, since it belongs to
    /// another host or container.
    pub fn is_alive(&self) -> Option<bool> {
        let own = Identity::own();
        if own.host.is_empty() || own.host != self.host {
            return None;
        }
        match stat(self.pid) {
            Some(stat) => Some(stat.started == self.started && !stat.ended),
            // A system may hide other users' processes. That it is there can be seen, when it
            // started cannot.
            None => match test_kill_process(Pid::from_raw(self.pid)?) {
                Err(rustix::io::Errno::SRCH) => Some(false),
                _ => None,
            },
        }
    }
}

/// What `/proc/<pid>/stat` says of a process.
struct ProcessStat {
    name: String,
    /// It has ended, and waits for its parent to ask how.
    ended: bool,
    parent: i32,
    started: u64,
}

fn stat(pid: i32) -> Option<ProcessStat> {
    let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The name may hold anything, brackets included.
    let (name, rest) =
        (text.split_once('(')?.1.rsplit_once(')')?.0.to_owned(), text.rsplit_once(')')?.1);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ended = matches!(fields.first(), Some(&("Z" | "X")));
    Some(ProcessStat {
        name,
        ended,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Numbers of all processes.
fn all() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The children of a process, as the kernel lists them; `None` where it does not.
fn listed_children(pid: i32) -> Option<Vec<i32>> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = std::fs::read_to_string(task.path().join("children")).ok()?;
        children.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Some(children)
}

fn children(pid: i32) -> Vec<i32> {
    listed_children(pid).unwrap_or_else(|| {
        all()
            .into_iter()
            .filter(|other| stat(*other).is_some_and(|stat| stat.parent == pid))
            .collect()
    })
}

/// All that descends from a process, itself not included.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut at = 0;
    while at < found.len() {
        let more = children(found[at]);
        found.extend(more);
        at += 1;
    }
    found
}

/// Sends a signal to a process and to all that descends from it. One that has ended meanwhile is
/// passed over.
pub fn signal_tree(root: Pid, signal: Signal) {
    let below = descendants(root.as_raw_nonzero().get());
    for pid in below.into_iter().filter_map(Pid::from_raw).chain([root]) {
        let _ = kill_process(pid, signal);
    }
}

/// From now on, a descendant that loses its parent becomes a child of this process.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok() {
        ADOPTS.store(true, Ordering::SeqCst);
    }
}

static ADOPTS: AtomicBool = AtomicBool::new(false);
/// Children that were started by [`start`] and whose end their starter waits for.
static STARTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Starts a program whose end the caller waits for, and then tells by [`forget`].
pub(super) fn start(command: &mut Command) -> std::io::Result<Child> {
    // Held meanwhile: a child that is not noted yet must not be taken for an orphan.
    let mut started = STARTED.lock().expect("nothing panics while it holds the list");
    let child = command.spawn()?;
    started.insert(child.id() as i32);
    Ok(child)
}

/// A program that was started has been waited for.
pub(super) fn forget(child: &Child) {
    STARTED.lock().expect("nothing panics while it holds the list").remove(&(child.id() as i32));
}

/// The warning of programs that were still running when their stage had ended.
pub(super) fn left_running(names: &[String]) -> String {
    format!(
        "{} still ran when the stage had ended, and was ended with it; wait for what the stage \
         starts",
        names.join(", ")
    )
}

/// Ends what this process has adopted, and gives the names of what was still alive. Nothing, if it
/// has adopted none.
pub(super) fn end_adopted() -> Vec<String> {
    if !ADOPTS.load(Ordering::SeqCst) {
        return Vec::new();
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let started = STARTED.lock().expect("nothing panics while it holds the list");
    end(&|| {
        let adopted = children(own).into_iter().filter(|child| !started.contains(child));
        adopted.flat_map(|child| descendants(child).into_iter().chain([child])).collect()
    })
}

/// Ends all that descends from this process, and gives the names of what was still alive. For a
/// process that is about to end.
pub(super) fn end_descendants() -> Vec<String> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    end(&|| descendants(own))
}

/// Ends every process whose current folder is in `folder`, which a dead one was to make.
pub(super) fn end_all_in(folder: &Path) -> Vec<String> {
    let is_in = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    end(&|| all().into_iter().filter(is_in).collect())
}

/// Kills what `left` finds until it finds nothing alive. Gives the names of what it killed, sorted.
fn end(left: &dyn Fn() -> Vec<i32>) -> Vec<String> {
    let mut names = BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut alive = false;
        for pid in left() {
            match (stat(pid), Pid::from_raw(pid)) {
                (Some(ProcessStat { name, ended: false, .. }), Some(id)) => {
                    names.insert(pid, name);
                    alive = true;
                    let _ = kill_process(id, Signal::KILL);
                }
                // Only its parent can lay it to rest; an error says that this is another process.
                (Some(_), Some(id)) => drop(waitpid(Some(id), WaitOptions::NOHANG)),
                _ => {}
            }
        }
        if !alive {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let mut names: Vec<String> = names.into_values().collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_and_not_by_its_number_alone() {
        let own = Identity::own();
        assert_eq!(own.is_alive(), Some(true));
        assert_eq!(
            Identity { started: own.started + 1, ..own.clone() }.is_alive(),
            Some(false),
            "another of the same number"
        );
        assert_eq!(
            Identity { host: "another".into(), ..own.clone() }.is_alive(),
            None,
            "not to be seen from here"
        );
        let mut child = Command::new("sleep").arg("60").spawn().expect("every system has it");
        let pid = child.id() as i32;
        let alive = Identity::of(pid);
        assert_eq!(alive.is_alive(), Some(true));
        child.kill().expect("ours");
        // Killed and not waited for: it does nothing any more.
        let gone = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            alive.is_alive() == Some(false)
        });
        assert!(gone);
        child.wait().expect("ours");
        assert_eq!(alive.is_alive(), Some(false));
    }

    #[test]
    fn what_works_in_a_folder_is_ended_wherever_it_descends_from() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().canonicalize().expect("it is there");
        let mut child = Command::new("sleep")
            .arg("60")
            .current_dir(&path)
            .spawn()
            .expect("every system has it");
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(end_all_in(elsewhere.path()), [""; 0]);
        assert_eq!(end_all_in(&path), ["sleep"]);
        assert!(!child.wait().expect("ours").success());
    }
}
