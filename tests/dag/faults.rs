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
        assert_eq!(
            (again.ran(), again.ended(Ending::Cached)),
            (vec!["b"], vec!["a", "c", "d"]),
            "{what}"
        );
        assert!(
            again.seen.warnings.iter().any(|warning| warning.contains("is corrupted")),
            "{what}: {:?}",
            again.seen.warnings
        );
        assert_eq!(again.node("b").object, Some(object));
        assert_eq!(
            posttrain::fs::list(&bench.root().join("v1/bad")).expect("there").len(),
            1,
            "{what}"
        );
        bench.assert_sound();
        let garbage = gc(&bench.store(), false).expect("there is no run");
        assert!(
            garbage
                .iter()
                .any(|garbage| garbage.kind == "bad" && garbage.node.as_deref() == Some("b"))
        );
    }
}

#[test]
fn a_deleted_object_and_a_broken_entry_are_made_again() {
    let bench = Bench::new();
    let first = bench.run(&chain());
    posttrain::fs::remove_all(&bench.store().object_path(first.node("c").object.expect("made")))
        .expect("ours");
    for broken in [&b""[..], b"{", b"{\"key\": 3}"] {
        let entry =
            bench.root().join(format!("v1/actions/{}.json", first.node("d").key.expect("known")));
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
    let entry = |name: &str| {
        bench.root().join(format!("v1/actions/{}.json", first.node(name).key.expect("known")))
    };
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
    assert!(
        linked.failure("a").contains("link is neither a file nor a folder"),
        "{}",
        linked.failure("a")
    );
    struct Idle;
    impl Dispatch for Idle {
        fn execute(&self, _: &str, _: &Value, _: Value, _: &Context) -> Result<()> {
            Ok(())
        }
    }
    let idle = bench
        .execute(&graph([node("a", "A", &[])]), &InProcessExecutor(&Idle))
        .expect("the run goes well");
    assert!(idle.failure("a").contains("left no file"));
    assert_eq!(idle.node("a").failure.as_ref().expect("failed").kind, Kind::Stage);
    assert!(bench.store().entries().expect("readable").is_empty());
}

#[test]
fn a_stage_that_makes_other_bytes_of_the_same_key_is_pointed_out() {
    let bench = Bench::new();
    let only = graph([node("a", "A", &[])]);
    let extra = |text: &'static str| {
        move |_: &str, context: &Context| Ok(std::fs::write(context.out().join("time"), text)?)
    };
    let first = bench.run_with(&only, &extra("1"));
    posttrain::fs::remove_all(&bench.store().object_path(first.node("a").object.expect("made")))
        .expect("ours");
    let second = bench.run_with(&only, &extra("2"));
    assert!(
        second.seen.warnings.iter().any(|warning| warning.contains("not deterministic")),
        "{:?}",
        second.seen.warnings
    );
}

/// Every single call that writes fails in turn, once or from then on; afterwards nothing half-made
/// is taken for whole, and the next run ends in the same objects.
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
                    assert!(
                        format!("{error:#}").contains("free some space"),
                        "call {call}: {error:#}"
                    );
                    failures += 1;
                }
                Ok(ran) => {
                    for node in
                        ran.outcome.nodes.iter().filter(|node| node.ending == Ending::Failed)
                    {
                        let failure = node.failure.as_ref().expect("it failed");
                        assert_eq!(
                            failure.kind,
                            Kind::Environment,
                            "call {call}: {}",
                            failure.message
                        );
                        assert!(
                            failure.message.contains(&bench.root().display().to_string()),
                            "call {call}: {}",
                            failure.message
                        );
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
        assert!(
            call > 50 && failures > 40,
            "calls {call}, failures {failures}: the gate is not where the writes are"
        );
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
    let key = bench.key(&chain(), "a");
    let work = bench.store().work_path(key).join("1");
    std::fs::create_dir_all(work.join("out/deep")).expect("a folder");
    std::fs::write(work.join("out/deep/half"), "half").expect("a file");
    let ran = bench.run(&chain());
    let object = ran.node("a").object.expect("made");
    assert_eq!(bench.store().object_files(object).expect("there"), [("file".to_string(), 1)]);
}

/// What a stage may have done to its folder, and must not be able to do to others.
#[test]
fn what_lies_outside_of_the_cache_is_never_changed() {
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    for (what, depth) in
        [("out", 0), ("the folder of the attempt", 1), ("the folder of the key", 2)]
    {
        let bench = Bench::new();
        let users = bench.folder.path().join("users");
        std::fs::create_dir_all(users.join("out")).expect("a folder");
        std::fs::write(users.join("mine"), "mine").expect("a file");
        let only = graph([node("a", "A", &[])]);
        let ran = bench.run_with(&only, &|_, context| {
            let victim =
                context.out().ancestors().nth(depth).expect("it is deep enough").to_owned();
            let aside = bench.folder.path().join("aside");
            std::fs::rename(&victim, &aside)?;
            // What is below has the same names, so that the path goes on leading to files.
            let below = context.out().strip_prefix(&victim).expect("below it").to_owned();
            std::fs::create_dir_all(users.join(&below))?;
            std::fs::write(users.join(&below).join("theirs"), "theirs")?;
            std::fs::set_permissions(
                users.join(below).join("theirs"),
                std::fs::Permissions::from_mode(0o640),
            )?;
            Ok(std::os::unix::fs::symlink(&users, &victim)?)
        });
        assert_eq!(ran.ended(Ending::Failed), ["a"], "{what}");
        assert_eq!(std::fs::read_to_string(users.join("mine")).expect("there"), "mine", "{what}");
        assert_eq!(mode(&users.join("mine")), 0o644, "{what}");
        let theirs = ["theirs", "out/theirs", "1/out/theirs"].map(|path| users.join(path));
        let theirs = theirs.iter().find(|path| path.exists()).expect("it stays where it was");
        assert_eq!(mode(theirs), 0o640, "{what}");
        assert!(bench.store().entries().expect("readable").is_empty(), "{what}");
        assert_eq!(bench.run(&only).ran(), ["a"], "{what}: the next run is none the worse");
        bench.assert_sound();
    }
}

#[test]
fn a_hard_link_to_a_users_file_becomes_a_copy() {
    let bench = Bench::new();
    let mine = bench.folder.path().join("mine");
    std::fs::write(&mine, "mine").expect("a file");
    std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o640)).expect("ours");
    let ran = bench.run_with(&graph([node("a", "A", &[])]), &|_, context| {
        std::fs::hard_link(&mine, context.out().join("one"))?;
        Ok(std::fs::hard_link(&mine, context.out().join("two"))?)
    });
    let object = ran.node("a").object.expect("made");
    assert_eq!(
        mine.metadata().expect("there").permissions().mode() & 0o777,
        0o640,
        "the user's file keeps its mode"
    );
    std::fs::write(&mine, "edited").expect("and can be written");
    for name in ["one", "two"] {
        assert_eq!(
            std::fs::read_to_string(bench.store().object_path(object).join(name)).expect("there"),
            "mine"
        );
    }
    bench.assert_sound();
}

#[test]
fn an_object_with_a_link_in_it_whose_node_is_gone_ends_no_run() {
    let bench = Bench::new();
    let first = bench.run(&chain());
    let object = bench.store().object_path(first.node("d").object.expect("made"));
    std::os::unix::fs::symlink("/etc/hostname", object.join("link")).expect("a link");
    let mut less = chain();
    less.nodes.remove(3);
    let ran = bench.run(&less);
    assert_eq!(ran.outcome.kind(), None);
    assert_eq!(
        ran.outcome
            .orphans
            .iter()
            .map(|orphan| (orphan.name.as_str(), orphan.bytes))
            .collect::<Vec<_>>(),
        [("d", 1)]
    );
    // With its node back, it is set aside and made again.
    assert_eq!(bench.run(&chain()).ran(), ["d"]);
    bench.assert_sound();
}

#[test]
fn a_run_of_which_all_is_there_needs_no_right_to_write() {
    let bench = Bench::new();
    bench.run(&chain());
    fail_writes(Fault { root: bench.root(), call: 1, errno: 30, lasting: true });
    let ran = bench.run(&chain());
    assert_eq!(
        (ran.ended(Ending::Cached).len(), ran.outcome.record, ran.seen.started.len()),
        (4, None, 0)
    );
    assert!(
        ran.seen.warnings.iter().any(|warning| warning.contains("may not be written")),
        "{:?}",
        ran.seen.warnings
    );
    let mut more = chain();
    more.nodes[3].config["text"] = serde_json::json!("D2");
    let error = bench.try_run_with(&more, &|_, _| Ok(())).err().expect("one is missing");
    assert!(heal_writes(&bench.root()));
    let text = format!("{error:#}");
    assert!(
        text.contains("1 nodes are not in the cache") && text.contains("right to write"),
        "{text}"
    );
}

#[test]
fn failures_of_the_machine_alone_end_a_run_as_the_machines_fault() {
    let bench = Bench::new();
    let full =
        |_: &str, _: &Context| Err(posttrain::error::environment("No space left on device").into());
    assert_eq!(bench.run_with(&chain(), &full).outcome.kind(), Some(Kind::Environment));
    let mut bench = Bench::new();
    bench.options.keep_going = true;
    let mixed = bench.run_with(&chain(), &|text, context| match text {
        "A" => Err(posttrain::error::user("no").into()),
        _ => full(text, context),
    });
    assert_eq!(mixed.outcome.kind(), Some(Kind::Stage));
}
