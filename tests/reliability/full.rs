//! The real program on a disk of every small size, and on disks that only read.

use std::path::Path;
use std::process::Command;

use super::setting;
use crate::cli::place::Place;
use crate::tools;

/// With a number, the step from one size to the next, in KiB.
const STEP: &str = "POSTTRAIN_RELIABILITY_STEP_KIB";
/// From the smallest to a size at which all fits.
const SIZES: std::ops::Range<u64> = 4..700;

const PIPELINE: &str = "\
stages:
  first: {uses: command, run: [sh, -ec, \"head -c 40000 /dev/zero > a; echo first > b\"]}
  second:
    uses: command
    inputs: {first: first}
    run: [sh, -ec, \"cat {first}/b > a; head -c 70000 /dev/zero > c\"]
  third:
    uses: command
    inputs: {second: second}
    run: [sh, -ec, \"cat {second}/a > a; head -c 100000 /dev/zero > c\"]
";

/// A file system in memory of a size, mounted on a folder until this is dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// `None` where no file system may be mounted.
    fn mount(folder: &'a Path, kib: u64) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        mount(folder, &format!("size={kib}k")).then_some(Disk(folder))
    }

    fn remount(&self, options: &str) {
        assert!(mount(self.0, &format!("remount,{options}")), "{options}");
    }
}

fn mount(folder: &Path, options: &str) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder);
    command.output().is_ok_and(|output| output.status.success())
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0).status();
        assert!(unmounted.unwrap().success(), "{}", self.0.display());
    }
}

const NOT_MOUNTED: &str = "full disks, which need the right to mount a file system";

#[test]
fn a_disk_that_is_full_at_any_size_ends_a_run_and_loses_nothing() {
    let undisturbed = Place::new(PIPELINE);
    undisturbed.counts(&[]);
    let (mut full, mut fits) = (0, 0);
    for kib in SIZES.step_by(setting(STEP, 24) as usize) {
        let place = Place::new(PIPELINE);
        let folder = place.path("cache");
        let Some(disk) = Disk::mount(&folder, kib) else {
            return tools::mention(NOT_MOUNTED);
        };
        let said = place.say(&["run", "p.yaml"]);
        match said.code {
            0 => fits += 1,
            code => {
                full += 1;
                assert_eq!(code, 3, "{kib} KiB: {}\n{}", said.out, said.err);
                let text = said.out + &said.err;
                assert!(
                    text.contains("free some space") && text.contains(folder.to_str().unwrap()),
                    "{kib} KiB: {text}"
                );
            }
        }
        disk.remount("size=32m");
        let made = made(&place);
        let (ran, cached) = place.counts(&[]);
        assert_eq!((ran + cached, cached >= made), (3, true), "{kib} KiB: {ran} {cached} {made}");
        assert_eq!(place.objects(), undisturbed.objects(), "{kib} KiB");
        place.good(&["gc"]);
        assert_eq!(place.objects(), undisturbed.objects(), "{kib} KiB");
    }
    println!("sizes at which it was full {full}, at which all fits {fits}");
    assert!(full > 5 && fits > 0, "{full} {fits}");
}

/// How many artefacts a run that was ended has left.
fn made(place: &Place) -> u64 {
    match place.path("cache/v1").exists() {
        true => place.objects().len() as u64,
        false => 0,
    }
}

#[test]
fn a_disk_that_only_reads_serves_what_it_has_and_says_so_otherwise() {
    let place = Place::new(PIPELINE);
    let folder = place.path("cache");
    let Some(disk) = Disk::mount(&folder, 32 << 10) else {
        return tools::mention(NOT_MOUNTED);
    };
    place.counts(&[]);
    let objects = place.objects();
    disk.remount("ro");
    let said = place.good(&["run", "p.yaml"]);
    assert!((said.out + &said.err).contains("may not be written"));
    for verb in [&["plan", "p.yaml"][..], &["ls"], &["runs"], &["gc", "--dry-run"]] {
        place.good(verb);
    }
    place.pipeline(&PIPELINE.replace("echo first", "echo other"));
    for verb in [&["run", "p.yaml"][..], &["gc"], &["tag", "mine"]] {
        let said = place.say(verb);
        let text = said.out + &said.err;
        assert_eq!(said.code, 3, "{verb:?}: {text}");
        assert!(text.contains(folder.to_str().unwrap()), "{verb:?}: {text}");
        assert!(text.contains("right to write"), "{verb:?}: {text}");
    }
    assert_eq!(place.objects(), objects);
    disk.remount("rw");
    assert_eq!(place.counts(&[]), (3, 0));
}
