//! What goes wrong: damage, rights, names, a hub that is away, a disk that is full; and what is
//! said about it.

use posttrain::error::Kind;
use posttrain::fs::{Fault as DiskFault, fail_writes, heal_writes};

use super::server::{Fault, sha256};
use super::{World, large, paths};

#[test]
fn a_wrong_checksum_is_refused_and_the_file_removed() {
    for file in ["model.safetensors", "tokenizer.json"] {
        let (world, _) = World::with_a_model();
        world.server.fail(file, Fault::Flip);
        let (kind, text) = world.refused("hub:tiny/base");
        assert_eq!(kind, Kind::Environment);
        assert!(
            text.contains(&format!("{file} of hub:tiny/base came damaged: its checksum is "))
                && text.contains("run again"),
            "{text}"
        );
        let left = paths(&world.settings.cache);
        assert!(
            left.iter().all(|path| !path.ends_with(".incomplete") && !path.ends_with(file)),
            "{left:?}"
        );
        assert!(!world.shelf("refs/main").exists(), "what is not whole has no name");
        let folder = world.fetch("hub:tiny/base").unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), large(1));
    }
}

#[test]
fn a_hub_that_keeps_breaking_off_is_given_up_and_the_rest_is_kept() {
    let (world, _) = World::with_a_model();
    world.server.fail("model.safetensors", Fault::Cut(100_000));
    (0..3).for_each(|_| world.server.fail("model.safetensors", Fault::Cut(0)));
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::Environment);
    assert!(
        text.contains("cannot be fetched")
            && text.contains("100000 of its 300000 bytes are here and are kept"),
        "{text}"
    );
    world.server.requests();
    world.fetch("hub:tiny/base").unwrap();
    assert_eq!(world.sent(), ["model.safetensorsbytes=100000-"]);
}

#[test]
fn a_token_is_sent_to_the_hub_and_to_nobody_else() {
    let (mut world, _) = World::with_a_model();
    world
        .server
        .with("tiny/base", |repository| (repository.private, repository.gated) = (true, true));
    world.settings.token = Some("hf_right".into());
    world.fetch("hub:tiny/base").unwrap();
    let requests = world.server.requests();
    let (elsewhere, hub): (Vec<_>, Vec<_>) =
        requests.iter().partition(|request| request.host.starts_with("localhost"));
    assert_eq!((hub.len(), elsewhere.len()), (6, 1));
    assert!(hub.iter().all(|request| request.token.as_deref() == Some("hf_right")));
    assert_eq!(elsewhere[0].token, None);
}

#[test]
fn a_gated_model_is_explained() {
    let (mut world, _) = World::with_a_model();
    world.server.with("tiny/base", |repository| repository.gated = true);
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::User);
    let page =
        format!("accept its terms at {}/tiny/base, then set HF_TOKEN", world.server.endpoint());
    assert!(text.contains("hub:tiny/base is gated") && text.contains(&page), "{text}");
    world.settings.token = Some("hf_other".into());
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::User);
    assert!(
        text.contains("the account of your token has no access")
            && text.contains("ask for access at"),
        "{text}"
    );
    assert!(!text.contains("hf_other"), "a token is never shown: {text}");
}

#[test]
fn a_wrong_name_is_told_the_nearest_and_a_private_one_that_a_token_is_needed() {
    let (mut world, _) = World::with_a_model();
    world.server.commit("tiny/basis", &[("config.json", b"{}")]);
    let (kind, text) = world.refused("hub:tiny/bass");
    assert_eq!(kind, Kind::User);
    assert!(text.contains("has no model `tiny/bass` that you may see"), "{text}");
    assert!(
        text.contains("did you mean `tiny/base`?") && text.contains("set HF_TOKEN to a token"),
        "{text}"
    );
    world.settings.token = Some("hf_right".into());
    assert!(world.refused("hub:tiny/bass").1.contains("did you mean `tiny/base`?"));
    world.settings.token = Some("hf_stale".into());
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::User);
    assert!(text.contains("does not accept your token") && text.contains("HF_TOKEN"), "{text}");
}

#[test]
fn a_wrong_revision_is_told_the_right_ones() {
    let (world, commit) = World::with_a_model();
    world.server.with("tiny/base", |repository| {
        repository.refs.insert("v1.0".into(), commit.clone());
    });
    let (kind, text) = world.refused("hub:tiny/base@v1.1");
    assert_eq!(kind, Kind::User);
    assert!(
        text.contains("tiny/base has no revision `v1.1`")
            && text.contains("did you mean `v1.0`? revisions: v1.0, main"),
        "{text}"
    );
}

#[test]
fn a_repository_that_is_no_model_says_what_it_holds() {
    let world = World::new();
    world.server.commit("tiny/base", &[("config.json", b"{}"), ("model-q4.gguf", b"gguf")]);
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::User);
    assert!(
        text.contains("no weights that can be read")
            && text.contains("it holds config.json, model-q4.gguf"),
        "{text}"
    );
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn offline_only_the_cache_counts() {
    let (mut world, commit) = World::with_a_model();
    world.settings.offline = true;
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::User);
    let cache = world.settings.cache.display().to_string();
    assert!(text.contains("hub:tiny/base is not in the cache") && text.contains(&cache), "{text}");
    assert!(text.contains("run once without HF_HUB_OFFLINE"), "{text}");
    world.settings.offline = false;
    let folder = world.fetch("hub:tiny/base").unwrap();
    world.server.requests();
    world.settings.offline = true;
    for text in ["hub:tiny/base", &format!("hub:tiny/base@{commit}")] {
        assert_eq!(world.fetch(text).unwrap(), folder);
        assert_eq!(world.find(text).unwrap().as_ref(), Some(&folder));
    }
    std::fs::remove_file(world.shelf(&format!("snapshots/{commit}/model.safetensors"))).unwrap();
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::User);
    assert!(text.contains(&format!("the commit {commit} lacks model.safetensors")), "{text}");
    assert!(world.find("hub:tiny/base").is_err());
    assert!(world.server.requests().is_empty(), "offline nothing is asked");
}

#[test]
fn offline_what_another_tool_has_fetched_will_do() {
    let (mut world, commit) = World::with_a_model();
    world.fetch("hub:tiny/base").unwrap();
    // As a tool leaves it that knows no folder of ours.
    std::fs::remove_dir_all(world.shelf("posttrain")).unwrap();
    std::fs::write(world.shelf(&format!("snapshots/{commit}/README.md")), "# tiny\n").unwrap();
    world.settings.offline = true;
    let folder = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(
        paths(&folder),
        [
            "1_Pooling/config.json",
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "vocab.txt"
        ]
    );
    std::fs::remove_file(world.shelf(&format!("snapshots/{commit}/model.safetensors"))).unwrap();
    assert!(world.refused("hub:tiny/base").1.contains("no weights that can be read"));
}

#[test]
fn a_hub_that_is_away_is_done_without_if_the_cache_has_all_of_it() {
    let (world, _) = World::with_a_model();
    world.server.down(true);
    let (kind, text) = world.refused("hub:tiny/base");
    assert_eq!(kind, Kind::Environment);
    assert!(
        text.contains(&format!("cannot ask {} for hub:tiny/base", world.server.endpoint())),
        "{text}"
    );
    assert!(text.contains("HF_ENDPOINT") && text.contains("HF_HUB_OFFLINE=1"), "{text}");
    world.server.down(false);
    assert_eq!(world.find("hub:tiny/base").unwrap(), None, "nothing has been fetched");
    let folder = world.fetch("hub:tiny/base").unwrap();
    world.server.down(true);
    world.said.borrow_mut().clear();
    assert_eq!(world.fetch("hub:tiny/base").unwrap(), folder);
    let said = world.said.borrow().join("\n");
    assert!(
        said.contains("cannot ask") && said.contains("is taken, which is in the cache"),
        "{said}"
    );
}

#[test]
fn a_hub_in_trouble_is_asked_again() {
    let (world, _) = World::with_a_model();
    world.server.fail("revision/main", Fault::Status(503));
    world.server.fail("tokenizer.json", Fault::Status(429));
    world.server.fail("model.safetensors", Fault::Status(500));
    world.fetch("hub:tiny/base").unwrap();
    assert_eq!(world.server.faults(), [], "all of them came");
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let (world, _) = World::with_a_model();
    for call in 1.. {
        fail_writes(DiskFault { root: world.home().to_owned(), call, errno: 28, lasting: false });
        let fetched = world.fetch("hub:tiny/base");
        if !heal_writes(world.home()) {
            assert!(call > 20, "{call} writes are too few to have been all");
            fetched.unwrap();
            break;
        }
        if let Err(error) = fetched {
            let text = format!("{error:#}");
            assert_eq!(posttrain::error::kind_of(&error), Kind::Environment, "{text}");
            assert!(text.contains("free some space"), "{text}");
        }
        // Whatever is under its checksum is whole.
        let blob = world.shelf(&format!("blobs/{}", sha256(&large(1))));
        assert!(!blob.exists() || std::fs::read(&blob).unwrap() == large(1));
        std::fs::remove_dir_all(world.settings.cache.clone()).unwrap_or_default();
    }
    let folder = world.fetch("hub:tiny/base").unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), large(1));
}

#[test]
fn what_cannot_fit_is_not_begun() {
    let (world, _) = World::with_a_model();
    let tree = r#"{"format_version": 1, "files": {
        "config.json": {"size": 2, "blob_id": "0000000000000000000000000000000000000000"},
        "model.safetensors": {"size": 1000000000000000000, "blob_id": "0000000000000000000000000000000000000001"}}}"#;
    let commit = "1".repeat(40);
    std::fs::create_dir_all(world.shelf("trees")).unwrap();
    std::fs::write(world.shelf(&format!("trees/{commit}.json")), tree).unwrap();
    let (kind, text) = world.refused(&format!("hub:tiny/base@{commit}"));
    assert_eq!(kind, Kind::Environment);
    assert!(
        text.contains("needs 1000000000000000002 more bytes in")
            && text.contains("free some space"),
        "{text}"
    );
    assert_eq!(world.sent(), [""; 0]);
}

#[test]
fn a_cache_that_cannot_be_written_is_used_as_it_is() {
    let (world, commit) = World::with_a_model();
    world.fetch("hub:tiny/base").unwrap();
    std::fs::remove_dir_all(world.shelf("posttrain")).unwrap();
    fail_writes(DiskFault { root: world.home().to_owned(), call: 1, errno: 30, lasting: true });
    let folder = world.fetch("hub:tiny/base");
    assert!(heal_writes(world.home()));
    assert_eq!(folder.unwrap(), world.shelf(&format!("snapshots/{commit}")));
    let said = world.said.borrow();
    assert!(said.last().unwrap().contains("is taken as it is"), "{said:?}");
}
