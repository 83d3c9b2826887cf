//! The script of a job, in the folder of its attempt, and the exit code that it leaves there. Uses
//! nothing of queues.
//!
//! 1. What the script and its program print is the log of the attempt.
//! 2. A signal that the queue sends to the script alone goes on to the program, as SIGTERM: it then
//!    writes a checkpoint. The script waits for its end.
//! 3. The exit code is in `ended` once the program has ended. A job that begins again removes it.

use std::path::Path;

use crate::error::{Context, Result};
use crate::order::Order;
use crate::work::{ENDED, LOG};

/// The script's name in the folder of an attempt.
pub(super) const SCRIPT: &str = "job.sh";

/// Writes the script that runs `program` on an attempt.
pub(super) fn write(attempt: &Path, program: &Path, order: &Order) -> Result<()> {
    let (folder, program) = (quoted(attempt)?, quoted(program)?);
    let threads = order.threads;
    let text = format!(
        "#!/bin/sh\n\
         # The job of an attempt: runs it, and leaves its exit code.\n\
         cd {folder} || exit 1\n\
         exec >>{LOG} 2>&1\n\
         rm -f {ENDED}\n\
         export RAYON_NUM_THREADS={threads}\n\
         export MALLOC_MMAP_THRESHOLD_={} MALLOC_TRIM_THRESHOLD_={}\n\
         {program} exec {folder} </dev/null &\n\
         child=$!\n\
         trap 'kill -TERM \"$child\" 2>/dev/null' TERM INT HUP USR1 USR2\n\
         # A signal ends `wait`, not the program.\n\
         while wait \"$child\"; code=$?; kill -0 \"$child\" 2>/dev/null; do :; done\n\
         # The code may be that of a signal which ended `wait` when the program had just ended.\n\
         wait \"$child\"\n\
         last=$?\n\
         if [ \"$last\" -ne 127 ]; then code=$last; fi\n\
         echo \"$code\" >.{ENDED} && mv .{ENDED} {ENDED}\n\
         exit \"$code\"\n",
        32 << 20,
        1 << 30,
    );
    crate::fs::write_hint(&attempt.join(SCRIPT), text.as_bytes())
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

/// The exit code that a job has left; `None` while it has left none.
pub(super) fn exit_code(attempt: &Path) -> Result<Option<i32>> {
    // To list a folder asks its server for it; that a file is not there may be remembered.
    if !crate::fs::list(attempt)?.iter().any(|name| name == ENDED) {
        return Ok(None);
    }
    let Some(bytes) = crate::fs::read_if_exists(&attempt.join(ENDED))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim().parse().ok())
}

/// Removes what an earlier job of the attempt has left of its end.
pub(super) fn clear(attempt: &Path) -> Result<()> {
    crate::fs::remove_all(&attempt.join(ENDED))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn order() -> Order {
        serde_json::from_value(json!({
            "key": "0".repeat(64),
            "stage": "toy",
            "stage_version": 1,
            "numerics": "host",
            "program": "1",
            "queued": true,
            "config": Value::Null,
            "device": Value::Null,
            "threads": 3,
            "events": null,
        }))
        .expect("an order")
    }

    /// The script on a program of this text, in a folder whose name needs quotes.
    fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf, Command) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let attempt = folder.path().join("it's {a}");
        crate::fs::create_dir_all(&attempt).expect("writable");
        let program = attempt.join("program");
        crate::fs::write_new(&program, format!("#!/bin/sh\n{text}\n").as_bytes())
            .expect("writable");
        Command::new("chmod").arg("+x").arg(&program).status().expect("every system has it");
        write(&attempt, &program, &order()).expect("writable");
        let mut command = Command::new("sh");
        command.arg(attempt.join(SCRIPT)).stdin(Stdio::null());
        (folder, attempt, command)
    }

    #[test]
    fn the_exit_code_is_left_and_what_is_printed_is_the_log() {
        let (_folder, attempt, mut command) = script("echo $1 $RAYON_NUM_THREADS; exit 7");
        assert_eq!(exit_code(&attempt).expect("readable"), None);
        assert_eq!(command.status().expect("it runs").code(), Some(7));
        assert_eq!(exit_code(&attempt).expect("readable"), Some(7));
        let log = crate::fs::read_to_string(&attempt.join(LOG)).expect("there");
        assert_eq!(log, "exec 3\n");
        clear(&attempt).expect("writable");
        assert_eq!(exit_code(&attempt).expect("readable"), None);
    }

    #[test]
    fn a_signal_to_the_script_stops_the_program_which_ends_as_it_likes() {
        let (_folder, attempt, mut command) =
            script("trap 'sleep 0.2; exit 130' TERM; echo ready; while :; do sleep 0.01; done");
        let mut child = command.spawn().expect("it runs");
        let log = || crate::fs::read_to_string(&attempt.join(LOG)).unwrap_or_default();
        while log() != "ready\n" {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("ours");
        assert_eq!(child.wait().expect("ours").code(), Some(130));
        assert_eq!(exit_code(&attempt).expect("readable"), Some(130));
    }

    #[test]
    fn a_program_that_is_killed_leaves_the_number_of_the_signal() {
        let (_folder, attempt, mut command) = script("kill -KILL $$");
        assert_eq!(command.status().expect("it runs").code(), Some(137));
        assert_eq!(exit_code(&attempt).expect("readable"), Some(137));
    }
}
