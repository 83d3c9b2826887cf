//! What is fetched, and what is not fetched again.

use super::server::{Fault, git, sha256};
use super::{World, large, model, paths};

#[test]
fn exactly_what_a_model_needs_is_fetched_into_the_common_layout() {
    let (world, commit) = World::with_a_model();
    let folder = world.fetch("hub:tiny/base").unwrap();
    let wanted = [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
    ];
    assert_eq!(paths(&folder), wanted);
    let files = model();
    for path in wanted {
        let bytes = files.iter().find(|(name, _)| *name == path).unwrap().1;
        assert_eq!(std::fs::read(folder.join(path)).unwrap(), bytes, "{path}");
        let link = world.shelf(&format!("snapshots/{commit}/{path}")).read_link().unwrap();
        let digest = if path == "model.safetensors" { sha256(bytes) } else { git(bytes) };
        assert!(link.ends_with(format!("blobs/{digest}")), "{path} -> {}", link.display());
    }
    assert_eq!(std::fs::read_to_string(world.shelf("refs/main")).unwrap(), commit);
    let held: Vec<String> = std::fs::read_dir(world.shelf(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(held.len(), 4, "{held:?}");
    assert!(
        ["blobs", "posttrain", "refs", "snapshots"]
            .iter()
            .all(|name| held.contains(&name.to_string())),
        "{held:?}"
    );
    let said = world.said.borrow();
    let last = format!("model.safetensors {0}/{0}", large(1).len());
    assert!(said.contains(&last) && said.iter().all(|line| line.contains('/')), "{said:?}");
}

#[test]
fn checksums_are_those_of_git_and_of_sha_256() {
    // From `git hash-object` and `sha256sum`.
    assert_eq!(git(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_eq!(
        sha256(b"hello\n"),
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    );
}

#[test]
fn a_second_time_nothing_is_downloaded() {
    let (world, _) = World::with_a_model();
    let first = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(world.sent().len(), 5);
    assert_eq!(world.fetch("hub:tiny/base").unwrap(), first);
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn a_branch_is_asked_for_each_time_and_a_commit_once() {
    let (world, first) = World::with_a_model();
    let old = world.fetch("hub:tiny/base").unwrap();
    let mut files = model();
    files[1].1 = b"{\"model_type\": \"other\"}\n";
    let second = world.server.commit("tiny/base", &files);
    world.sent();
    let new = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(world.sent(), ["config.json"], "what has not changed is not fetched again");
    assert!(new.ends_with(&second) && old.ends_with(&first));
    assert!(std::fs::read_to_string(new.join("config.json")).unwrap().contains("other"));
    // The older commit, by its hash: it is here, and the hub is not even asked.
    assert_eq!(world.fetch(&format!("hub:tiny/base@{first}")).unwrap(), old);
    assert!(world.server.requests().is_empty());
    assert!(std::fs::read_to_string(old.join("config.json")).unwrap().contains("tiny"));
}

#[test]
fn the_files_are_those_of_the_commit_even_if_the_branch_moves_meanwhile() {
    let (world, commit) = World::with_a_model();
    world.fetch("hub:tiny/base@main").unwrap();
    let requests = world.server.requests();
    let files: Vec<_> =
        requests.iter().filter(|request| request.path.contains("/resolve/")).collect();
    assert_eq!(files.len(), 5);
    assert!(
        files.iter().all(|request| request.path.contains(&format!("/resolve/{commit}/"))),
        "{requests:?}"
    );
}

#[test]
fn a_revision_with_a_slash_is_one_revision() {
    let (world, commit) = World::with_a_model();
    world.server.with("tiny/base", |repository| {
        repository.refs.insert("refs/pr/7".into(), commit.clone());
    });
    world.fetch("hub:tiny/base@refs/pr/7").unwrap();
    assert_eq!(std::fs::read_to_string(world.shelf("refs/refs/pr/7")).unwrap(), commit);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let (world, _) = World::with_a_model();
    world.server.fail("model.safetensors", Fault::Cut(100_000));
    world.server.fail("model.safetensors", Fault::Cut(50_000));
    let folder = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), large(1));
    let requests = world.server.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|request| request.path.starts_with("/cdn/"))
        .map(|request| request.range.as_deref())
        .collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=150000-")]);
}

#[test]
fn what_an_earlier_process_left_is_not_fetched_again() {
    let (world, _) = World::with_a_model();
    let (bytes, digest) = (large(1), sha256(&large(1)));
    let partial = world.shelf(&format!("blobs/{digest}.incomplete"));
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::fs::write(&partial, &bytes[..200_000]).unwrap();
    let folder = world.fetch("hub:tiny/base").unwrap();
    assert!(world.sent().contains(&"model.safetensorsbytes=200000-".to_owned()));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), bytes);
    assert!(!partial.exists());
    assert!(world.said.borrow().contains(&format!("model.safetensors 200000/{}", bytes.len())));
}

#[test]
fn a_bad_beginning_is_dropped_and_all_is_fetched_again() {
    for left in [vec![7; 200_000], vec![7; 300_000], vec![7; 300_001]] {
        let (world, _) = World::with_a_model();
        let partial = world.shelf(&format!("blobs/{}.incomplete", sha256(&large(1))));
        std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
        std::fs::write(&partial, left).unwrap();
        let folder = world.fetch("hub:tiny/base").unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), large(1));
    }
}

#[test]
fn a_hub_that_does_not_honour_ranges_is_believed_from_the_start() {
    let (world, _) = World::with_a_model();
    world.server.fail("model.safetensors", Fault::Cut(100_000));
    world.server.fail("model.safetensors", Fault::Whole);
    let folder = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), large(1));
}

#[test]
fn shards_are_fetched_by_their_index_and_pickles_only_where_there_is_nothing_else() {
    let world = World::new();
    let (one, two) = (large(2), large(3));
    let index = br#"{"metadata": {}, "weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#;
    let shards: Vec<(&str, &[u8])> = vec![
        ("config.json", b"{}"),
        ("model-1-of-2.safetensors", &one),
        ("model-2-of-2.safetensors", &two),
        ("model-3-of-2.safetensors", &two),
        ("model.safetensors.index.json", index),
        ("pytorch_model.bin", &two),
    ];
    world.server.commit("tiny/base", &shards);
    let folder = world.fetch("hub:tiny/base").unwrap();
    let expected = [
        "config.json",
        "model-1-of-2.safetensors",
        "model-2-of-2.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(paths(&folder), expected);
    assert_eq!(world.find("hub:tiny/base").unwrap(), Some(folder));
    let pickle: Vec<(&str, &[u8])> =
        vec![("config.json", b"{}"), ("pytorch_model.bin", &one), ("flax_model.msgpack", &two)];
    world.server.commit("tiny/base", &pickle);
    assert_eq!(paths(&world.fetch("hub:tiny/base").unwrap()), ["config.json", "pytorch_model.bin"]);
}

#[test]
fn a_hub_that_lists_no_checksums_is_asked_for_them_file_by_file() {
    let (world, _) = World::with_a_model();
    world.server.with("tiny/base", |repository| repository.bare = true);
    let folder = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), large(1));
    assert_eq!(std::fs::read(folder.join("vocab.txt")).unwrap(), b"");
    world.server.with("tiny/base", |repository| {
        repository.refs.insert("v2".into(), repository.refs["main"].clone());
    });
    world.sent();
    std::fs::remove_file(world.shelf(&format!("blobs/{}", sha256(&large(1))))).unwrap();
    world.server.fail("model.safetensors", Fault::Flip);
    assert!(world.refused("hub:tiny/base@v2").1.contains("checksum"));
}

#[test]
fn a_file_that_other_tools_have_put_there_changes_nothing() {
    let (world, commit) = World::with_a_model();
    let before = paths(&world.fetch("hub:tiny/base").unwrap());
    std::fs::write(world.shelf(&format!("snapshots/{commit}/README.md")), "# tiny\n").unwrap();
    let folder = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(paths(&folder), before);
    // What is in the way in our own folder goes.
    std::fs::write(folder.join("stray"), "").unwrap();
    std::fs::remove_file(folder.join("config.json")).unwrap();
    std::fs::write(folder.join("config.json"), "changed").unwrap();
    assert_eq!(paths(&world.fetch("hub:tiny/base").unwrap()), before);
    assert!(std::fs::read_to_string(folder.join("config.json")).unwrap().contains("tiny"));
}

#[test]
fn a_file_of_another_length_in_the_cache_is_fetched_again() {
    let (world, _) = World::with_a_model();
    let folder = world.fetch("hub:tiny/base").unwrap();
    let blob = world.shelf(&format!("blobs/{}", sha256(&large(1))));
    std::fs::write(&blob, &large(1)[..1000]).unwrap();
    assert_eq!(world.find("hub:tiny/base").unwrap(), None);
    world.fetch("hub:tiny/base").unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), large(1));
}

#[test]
fn many_that_fetch_at_once_fetch_each_file_once() {
    let (world, commit) = World::with_a_model();
    let (settings, name) = (&world.settings, posttrain::hub::Name::parse("hub:tiny/base").unwrap());
    std::thread::scope(|scope| {
        let fetch = || posttrain::hub::fetch(settings, &name, &mut |_| {}).unwrap();
        let all = [0; 8].map(|_| scope.spawn(fetch)).map(|thread| thread.join().unwrap());
        assert!(
            all.iter().all(|folder| *folder == world.shelf(&format!("posttrain/{commit}"))),
            "{all:?}"
        );
    });
    assert_eq!(world.sent().len(), 5);
    assert_eq!(
        std::fs::read(world.fetch("hub:tiny/base").unwrap().join("model.safetensors")).unwrap(),
        large(1)
    );
}
