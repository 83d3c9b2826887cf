//! One folder that two hosts see through mounts whose locks do not hold for each other: two bindfs
//! mounts, each with the processes of one host.

use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process_group};

use super::*;
use crate::cli::place::finish;

/// A folder that is mounted twice.
struct Mounts {
    place: Place,
}

impl Mounts {
    /// With a pipeline; `None` where bindfs is not installed, or nothing can be mounted.
    fn new(pipeline: &str) -> Option<Self> {
        let mounts = Mounts { place: Place::new(pipeline) };
        std::fs::create_dir(mounts.place.path("cache")).unwrap();
        for name in ["a", "b"] {
            std::fs::create_dir(mounts.place.path(name)).unwrap();
            let mount = Command::new("bindfs")
                .arg(mounts.place.path("cache"))
                .arg(mounts.place.path(name))
                .output();
            let Ok(mount) = mount else {
                tools::left_out("two mounts of one folder; tests/cluster/fetch installs bindfs");
                return None;
            };
            if !mount.status.success() {
                // A container may lack FUSE.
                tools::mention("two mounts of one folder: bindfs can mount nothing here");
                return None;
            }
        }
        Some(mounts)
    }

    /// The program, its cache through a mount. Its processes are those of another host where the
    /// system allows that: in a separate namespace.
    fn start(&self, mount: &str) -> Child {
        let program = self.place.command(&["run", "p.yaml", "--log", "json", "--cache", mount]);
        let is_allowed = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "true"])
            .output()
            .is_ok_and(|output| output.status.success());
        let mut command = match is_allowed {
            true => {
                let mut command = Command::new("unshare");
                command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
                command.arg(program.get_program()).args(program.get_args());
                command.env_remove("POSTTRAIN_CACHE").stdin(Stdio::null());
                command.current_dir(program.get_current_dir().unwrap());
                command
            }
            false => {
                tools::mention("processes of another host: this one allows no namespaces");
                program
            }
        };
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for name in ["a", "b"] {
            let path = self.place.path(name);
            let unmounted = ["fusermount", "fusermount3"].iter().any(|program| {
                let output = Command::new(program).args(["-u", "-z"]).arg(&path).output();
                output.is_ok_and(|output| output.status.success())
            });
            if !unmounted {
                let _ = Command::new("umount").arg("-l").arg(&path).output();
            }
        }
    }
}

/// Many files of one node, which take longer than a few beats of its run.
const SLOW: &str = "\
stages:
  slow: {uses: command, run: [sh, -c, \"echo run >> LOG; for i in 1 2 3 4 5 6 7 8 9 10; do echo $i > f$i; sleep 0.8; done\"]}
  s1: {uses: command, run: [sh, -c, \"echo 1 > a\"]}
  s2: {uses: command, run: [sh, -c, \"echo 2 > a\"], inputs: {s1: s1}}
  s3: {uses: command, run: [sh, -c, \"echo 3 > a\"], inputs: {s1: s1, slow: slow}}
";

#[test]
fn two_runs_on_two_mounts_make_each_node_once_and_whole() {
    let Some(mounts) = Mounts::new(SLOW) else { return };
    let first = mounts.start("a");
    mounts.place.await_file("log");
    let said = [mounts.start("b"), first].map(finish);
    for said in &said {
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    }
    assert_eq!(mounts.place.log(), ["run"], "the slow one was made once");
    let ran: u64 = said.iter().map(|said| said.last()["ran"].as_u64().unwrap()).sum();
    assert_eq!(ran, 4);
    let folder = mounts.place.artefact("slow");
    assert_eq!(posttrain::fs::list(&folder).unwrap().len(), 10, "all of it");
}

#[test]
fn a_run_on_another_mount_takes_over_once_the_first_has_been_silent_for_long() {
    let Some(mounts) = Mounts::new(SLOW) else { return };
    let mut first = mounts.start("a");
    mounts.place.await_file("log");
    let second = mounts.start("b");
    // All processes of its namespace end with it.
    kill_process_group(Pid::from_child(&first), Signal::KILL).unwrap();
    first.wait().unwrap();
    let said = finish(second);
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    assert_eq!(mounts.place.log(), ["run", "run"], "the second made it after the first was dead");
    let folder = mounts.place.artefact("slow");
    assert_eq!(posttrain::fs::list(&folder).unwrap().len(), 10, "all of it");
}
