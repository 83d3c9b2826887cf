//! A full disk at any write of any stage: the machine's fault, said with the path and with what to
//! do.

use posttrain::error::{Kind, kind_of};
use posttrain::fs::{Fault, fail_writes, heal_writes};

use super::bench::Work;
use super::digests::{cases, kind};

/// The error number of a full disk.
const FULL: i32 = 28;

#[test]
fn a_full_disk_is_the_machines_fault_at_every_write_of_every_stage() {
    let cases = cases();
    let mut failures = 0;
    for name in posttrain::stages::names() {
        let (case, config) = cases.iter().find(|(case, _)| kind(case) == *name).unwrap();
        for call in 1.. {
            let work = Work::new();
            fail_writes(Fault { root: work.folder().into(), call, errno: FULL, lasting: false });
            let result = work.attempt(name, config.clone(), None);
            if !heal_writes(work.folder()) {
                result.unwrap_or_else(|error| panic!("{case}: {error:#}"));
                break;
            }
            let error = result.map(|_| ()).expect_err("a write that failed is not passed over");
            let message = format!("{error:#}");
            assert_eq!(kind_of(&error), Kind::Environment, "{case}, call {call}: {message}");
            assert!(
                message.contains(&work.folder().display().to_string()),
                "{case}, call {call}: {message}"
            );
            assert!(message.contains("free some space"), "{case}, call {call}: {message}");
            failures += 1;
        }
    }
    assert!(failures > 100, "{failures} writes: some go past the gate");
}

#[test]
fn a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_one_before() {
    let (_, config) = cases().into_iter().find(|(case, _)| *case == "sft/whole").unwrap();
    let work = Work::new();
    assert!(work.attempt("sft", config.clone(), Some(1)).is_err());
    let before = std::fs::read(work.folder().join("checkpoints/state.safetensors")).unwrap();
    fail_writes(Fault {
        root: work.folder().join("checkpoints"),
        call: 1,
        errno: FULL,
        lasting: true,
    });
    let error = work.attempt("sft", config.clone(), Some(1)).map(|_| ()).unwrap_err();
    heal_writes(&work.folder().join("checkpoints"));
    assert_eq!(kind_of(&error), Kind::Environment, "{error:#}");
    assert_eq!(std::fs::read(work.folder().join("checkpoints/state.safetensors")).unwrap(), before);
    work.attempt("sft", config.clone(), None).unwrap();
    assert_eq!(work.object(), super::bench::make("sft", config).object());
}
