//! Corruption, full and read-only disks, artefacts that cannot be kept.

use std::os::unix::fs::PermissionsExt;

use posttrain::dag::gc::gc;
use posttrain::dag::record::Ending;
use posttrain::error::{Kind, kind_of};
use posttrain::fs::{Fault, fail_writes, heal_writes};

use super::*;

/// Overwrites a file of the store, which is read-only, in place.
fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).expect("ours");
    std::fs::write(path, bytes).expect("writable");
}

/// P5.
#[test]
fn a_corrupted_object_is_found_set_aside_and_made_again() {
    type Damage<'a> = &'a dyn Fn(&Path);
    let damages: [(&str, Damage<'_>); 6] = [
        ("a flipped bit", &|file| overwrite(file, b"B(A(")),
        ("a cut", &|file| overwrite(file, b"B(")),
        ("nothing left", &|file| overwrite(file, b"")),
        ("a file more", &|file| std::fs::write(file.with_file_name("more"), "").expect("writable")),
        ("a file less", &|file| std::fs::remove_file(file).expect("there")),
        ("a link", &|file| {
            std::fs::remove_file(file).expect("there");
            std::os::unix::fs::symlink("/etc/hostname", file).expect("a link");
        }),
    ];
    for (what, damage) in damages {
        let bench = Bench::new();
        let first = bench.run(&chain());
        let object = first.node("b").object.expect("made");
        damage(&bench.store().object_path(object).join("file"));
        assert_eq!(bench.states(&chain()), "a:c b:r c:u d:c", "{what}");
        let again = bench.run(&chain());
        assert_eq!((again.ran(), again.ended(Ending::Cached)), (vec!["b"], vec!["a", "c", "d"]), "{what}");
        assert!(again.seen.warnings.iter().any(|warning| warning.contains("is corrupted")), "{what}: {:?}", again.seen.warnings);
        assert_eq!(again.node("b").object, Some(object));
        assert_eq!(posttrain::fs::list(&bench.root().join("v1/bad")).expect("there").len(), 1, "{what}");
        bench.assert_sound();
        let garbage = gc(&bench.store(), false).expect("nobody runs");
        assert!(garbage.iter().any(|garbage| garbage.kind == "bad" && garbage.node.as_deref() == Some("b")));
    }
}

#[test]
fn a_deleted_object_and_a_broken_entry_are_made_again() {
    let bench = Bench::new();
    let first = bench.run(&chain());
    posttrain::fs::remove_all(&bench.store().object_path(first.node("c").object.expect("made"))).expect("ours");
    for broken in [&b""[..], b"{", b"{\"key\": 3}"] {
        let entry = bench.root().join(format!("v1/actions/{}.json", first.node("d").key.expect("known")));
        std::fs::write(entry, broken).expect("writable");
        assert!(bench.run(&chain()).ran().contains(&"d"));
    }
    assert!(bench.run(&chain()).ran().is_empty());
    bench.assert_sound();
}

#[test]
fn an_entry_copied_under_another_key_is_no_hit() {
    let bench = Bench::new();
    let first = bench.run(&chain());
    let entry = |name: &str| bench.root().join(format!("v1/actions/{}.json", first.node(name).key.expect("known")));
    std::fs::copy(entry("d"), entry("a")).expect("writable");
    let again = bench.run(&chain());
    assert_eq!(again.ran(), ["a"]);
    assert_eq!(bench.text(&again, "a"), "A");
}

#[test]
fn a_copied_store_is_read_once_and_then_trusted_by_its_stats() {
    let bench = Bench::new();
    let first = bench.run(&chain());
    let object = first.node("b").object.expect("made");
    let manifest = bench.root().join(format!("v1/stat/objects/{object}.json"));
    std::fs::remove_file(&manifest).expect("there");
    assert!(bench.run(&chain()).ran().is_empty());
    assert!(manifest.exists(), "what was read is remembered");
}

#[test]
fn an_upstream_artefact_that_changes_while_a_stage_reads_it_spoils_the_result() {
    let bench = Bench::new();
    let object = bench.run(&graph([node("a", "A", &[])])).node("a").object.expect("made");
    let file = bench.store().object_path(object).join("file");
    let ran = bench.run_with(&chain(), &|text, _| {
        if text == "B" {
            overwrite(&file, b"?");
        }
        Ok(())
    });
    assert_eq!(ran.ended(Ending::Failed), ["b"]);
    assert!(ran.failure("b").contains("changed while the stage ran"));
    let again = bench.run(&chain());
    assert_eq!(bench.text(&again, "c"), "C(B(A))");
    bench.assert_sound();
}

#[test]
fn an_artefact_of_nothing_or_with_a_link_is_the_stages_failure() {
    let bench = Bench::new();
    let linked = bench.run_with(&graph([node("a", "A", &[])]), &|_, context| {
        Ok(std::os::unix::fs::symlink("/etc/hostname", context.out().join("link"))?)
    });
    assert!(linked.failure("a").contains("link is neither a file nor a folder"), "{}", linked.failure("a"));
    struct Idle;
    impl Dispatch for Idle {
        fn execute(&self, _: &str, _: &Value, _: Value, _: &Context) -> Result<()> {
            Ok(())
        }
    }
    let idle = bench.execute(&graph([node("a", "A", &[])]), &Executor::InProcess(&Idle)).expect("the run goes well");
    assert!(idle.failure("a").contains("left no file"));
    assert_eq!(idle.node("a").failure.as_ref().expect("failed").kind, Kind::Stage);
    assert!(bench.store().entries().expect("readable").is_empty());
}

#[test]
fn a_stage_that_makes_other_bytes_of_the_same_key_is_pointed_out() {
    let bench = Bench::new();
    let only = graph([node("a", "A", &[])]);
    let extra = |text: &'static str| move |_: &str, context: &Context| Ok(std::fs::write(context.out().join("time"), text)?);
    let first = bench.run_with(&only, &extra("1"));
    posttrain::fs::remove_all(&bench.store().object_path(first.node("a").object.expect("made"))).expect("ours");
    let second = bench.run_with(&only, &extra("2"));
    assert!(second.seen.warnings.iter().any(|warning| warning.contains("not deterministic")), "{:?}", second.seen.warnings);
}

/// Every single call that writes fails in turn, once or from then on; afterwards nothing half-made is taken for whole, and the next
/// run ends in the same objects.
#[test]
fn a_disk_that_fails_at_any_call_loses_nothing_but_time() {
    let expected = Bench::new().run(&chain());
    let objects = |ran: &Ran| ran.outcome.nodes.iter().map(|node| node.object).collect::<Vec<_>>();
    for lasting in [false, true] {
        let (mut call, mut failures) = (1, 0);
        loop {
            let mut bench = Bench::new();
            bench.options.keep_going = true;
            fail_writes(Fault { root: bench.root(), call, errno: 28, lasting });
            let result = bench.try_run_with(&chain(), &|_, _| Ok(()));
            let hit = heal_writes(&bench.root());
            match result {
                Err(error) => {
                    assert_eq!(kind_of(&error), Kind::Environment, "call {call}: {error:#}");
                    assert!(format!("{error:#}").contains("free some space"), "call {call}: {error:#}");
                    failures += 1;
                }
                Ok(ran) => {
                    for node in ran.outcome.nodes.iter().filter(|node| node.ending == Ending::Failed) {
                        let failure = node.failure.as_ref().expect("it failed");
                        assert_eq!(failure.kind, Kind::Environment, "call {call}: {}", failure.message);
                        assert!(failure.message.contains(&bench.root().display().to_string()), "call {call}: {}", failure.message);
                        failures += 1;
                    }
                }
            }
            bench.assert_sound();
            assert_eq!(objects(&bench.run(&chain())), objects(&expected), "call {call}");
            bench.assert_sound();
            if !hit {
                break;
            }
            call += 1;
        }
        assert!(call > 50 && failures > 40, "calls {call}, failures {failures}: the gate is not where the writes are");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_the_machines_fault_and_names_the_path() {
    let mut bench = Bench::new();
    std::fs::write(bench.root(), "a file in the way").expect("writable");
    let error = bench.try_run_with(&chain(), &|_, _| Ok(())).err().expect("it cannot be written");
    assert_eq!(kind_of(&error), Kind::Environment);
    assert!(format!("{error:#}").contains(&bench.root().display().to_string()), "{error:#}");
    bench = Bench::new();
    fail_writes(Fault { root: bench.root(), call: 1, errno: 13, lasting: true });
    let error = bench.try_run_with(&chain(), &|_, _| Ok(())).err().expect("it cannot be written");
    assert!(heal_writes(&bench.root()));
    assert!(format!("{error:#}").contains("right to write"), "{error:#}");
}

#[test]
fn a_half_made_artefact_left_behind_is_thrown_away() {
    let bench = Bench::new();
    let key = match &bench.plan(&chain()).steps[0].state {
        posttrain::dag::plan::State::Run { key, .. } => *key,
        other => panic!("{other:?}"),
    };
    let work = bench.store().work_path(key);
    std::fs::create_dir_all(work.join("out/deep")).expect("a folder");
    std::fs::write(work.join("out/deep/half"), "half").expect("a file");
    let ran = bench.run(&chain());
    let object = ran.node("a").object.expect("made");
    assert_eq!(bench.store().object_files(object).expect("there"), [("file".to_string(), 1)]);
}
