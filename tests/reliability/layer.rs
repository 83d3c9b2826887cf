//! The layer of faults itself: what it draws, what a stop leaves, what a power cut may take back.

use std::collections::BTreeSet;
use std::path::Path;

use posttrain::error::Result;
use posttrain::fs::{self, Schedule, Tally, begin_faults, end_faults};

fn schedule(root: &Path, seed: u64) -> Schedule {
    Schedule {
        root: root.to_owned(),
        seed,
        failing: 0.0,
        torn: 0.0,
        stopping: 0.0,
        errnos: vec![5],
        lasting: false,
        power: None,
    }
}

/// Does some things under a schedule, whatever becomes of them.
fn under(schedule: Schedule, acts: &[&dyn Fn() -> Result<()>]) -> (Vec<bool>, Tally) {
    let root = schedule.root.clone();
    begin_faults(schedule).unwrap();
    let done = acts.iter().map(|act| act().is_ok()).collect();
    (done, end_faults(&root).unwrap())
}

#[test]
fn a_seed_gives_the_same_faults_again_and_another_seed_gives_others() {
    let faults = |seed: u64| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mixed = Schedule { failing: 0.2, torn: 0.1, stopping: 0.01, ..schedule(root, seed) };
        let acts = (0..40).map(|n| {
            move || {
                fs::create_dir_all(&root.join(format!("{n}")))?;
                fs::write_atomic(&root.join(format!("{n}/file")), &[7; 1000])
            }
        });
        let acts: Vec<_> = acts.collect();
        let acts: Vec<&dyn Fn() -> Result<()>> = acts.iter().map(|act| act as _).collect();
        let (_, tally) = under(mixed, &acts);
        let list = tally.list.into_iter();
        list.map(|fault| fault.replace(&root.display().to_string(), "")).collect::<Vec<_>>()
    };
    assert!(faults(1).len() > 10);
    assert_eq!(faults(1), faults(1));
    assert_ne!(faults(1), faults(2));
}

#[test]
fn a_torn_write_fails_a_short_one_is_completed_and_nothing_follows_a_stop() {
    let (mut torn, mut stopped) = (0, 0);
    for seed in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let text = [b'x'; 500];
        let tearing = Schedule { torn: 0.4, ..schedule(folder.path(), seed) };
        let (done, _) = under(tearing, &[&|| fs::write_new(&path("file"), &text)]);
        let left = std::fs::read(path("file")).unwrap();
        assert!(done[0] == (left == text), "seed {seed}");
        torn += u64::from(!done[0] && !left.is_empty());

        let stopping = Schedule { stopping: 0.3, ..schedule(folder.path(), seed) };
        let (done, tally) = under(
            stopping,
            &[
                &|| fs::write_atomic(&path("one"), &text),
                &|| fs::write_atomic(&path("two"), &text),
                &|| fs::remove_all(&path("file")),
            ],
        );
        let first = done.iter().position(|done| !done).unwrap_or(done.len());
        assert!(done[first..].iter().all(|done| !done), "seed {seed}: {done:?}");
        assert_eq!(tally.stopped, first < 3);
        // What was stopped in is there whole or not at all; what would have followed is not.
        for (at, name) in ["one", "two"].into_iter().enumerate() {
            let there = std::fs::read(path(name)).ok();
            assert!(there.as_deref().is_none_or(|bytes| bytes == text), "seed {seed}");
            assert!(there.is_none() || at <= first, "seed {seed}");
        }
        stopped += u64::from(tally.stopped);
    }
    assert!(torn > 5 && (10..60).contains(&stopped), "{torn} {stopped}");
}

#[test]
fn a_power_cut_takes_back_only_what_was_not_synced() {
    let mut seen = [(); 4].map(|()| BTreeSet::new());
    for seed in 0..100 {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("disk");
        std::fs::create_dir(&root).unwrap();
        let path = |name: &str| root.join(name);
        for name in ["atomic", "hint", "removed", "kept", "moved"] {
            std::fs::write(path(name), "old").unwrap();
        }
        std::fs::create_dir(path("folder")).unwrap();
        let power = Some(folder.path().join("grave"));
        let (done, _) = under(
            Schedule { power, ..schedule(&root, seed) },
            &[
                &|| fs::write_atomic(&path("atomic"), b"new"),
                &|| fs::remove_all(&path("removed")).and_then(|()| fs::sync(&root)),
                &|| fs::write_hint(&path("hint"), b"new"),
                &|| fs::remove_all(&path("kept")),
                &|| fs::rename(&path("moved"), &path("folder/moved")),
                &|| fs::write_new(&path("made"), b"made"),
            ],
        );
        assert!(done.iter().all(|done| *done));
        assert_eq!(std::fs::read(path("atomic")).unwrap(), b"new", "seed {seed}");
        assert!(!path("removed").exists(), "seed {seed}");
        assert!(path("moved").exists() != path("folder/moved").exists(), "seed {seed}");
        let text = |name| std::fs::read(path(name)).ok();
        seen[0].insert(text("hint"));
        seen[1].insert(text("kept"));
        seen[2].insert(text("moved"));
        seen[3].insert(text("made"));
    }
    let old = Some(b"old".to_vec());
    assert!(seen[0].contains(&old) && seen[0].contains(&Some(b"new".to_vec())));
    assert!(seen[0].len() > 3, "an end of it may be lost: {:?}", seen[0]);
    assert_eq!(seen[1], BTreeSet::from([None, old.clone()]));
    assert_eq!(seen[2], BTreeSet::from([None, old]));
    assert!(seen[3].contains(&None) && seen[3].contains(&Some(b"made".to_vec())));
}
