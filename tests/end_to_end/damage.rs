//! A cache that is damaged: full, corrupted, or not to be written at all.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::smoke::{Plan, SMOKE, assert_sound, endings, filled, run, undisturbed};
use crate::cli::place::Place;
use crate::tools::left_out;

/// Overwrites a byte of a read-only file.
fn flip(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_corrupted_object_is_found_set_aside_and_made_again() {
    for (node, file) in [
        ("reward_model", "model.safetensors"),
        ("candidates", "samples.jsonl"),
        ("world", "test/ood_length.jsonl"),
    ] {
        let place = filled(SMOKE);
        run(&place, &[]);
        let object = undisturbed().objects.iter().find(|(name, _)| name == node).unwrap().1.clone();
        let folder = place.path("cache/v1/objects").join(&object);
        flip(&folder.join(file));
        assert_eq!(Plan::of(&place, &[]).run, [node.to_owned()].into(), "it is found by its bytes");
        let said = run(&place, &[]);
        let ran: Vec<String> = endings(&said)
            .into_iter()
            .filter(|(_, ending)| ending == "ran")
            .map(|(name, _)| name)
            .collect();
        assert_eq!(ran, [node], "what is made of it is what it was");
        let warned = said.iter().any(|event| {
            event["event"] == "warning" && event["message"].as_str().unwrap().contains("corrupted")
        });
        assert!(warned, "{said:?}");
        assert_eq!(
            posttrain::fs::list(&place.path("cache/v1/bad")).unwrap().len(),
            1,
            "it is kept for whoever wants to know"
        );
        assert_eq!(place.objects(), undisturbed().objects);
        assert_sound(&place);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_the_machines_fault() {
    // Below a file there is no folder, not even for root.
    let place = Place::new(SMOKE);
    place.write("file", "");
    let said = place.say(&["run", "p.yaml", "--cache", "file/cache", "--log", "json"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.starts_with("error: ") && said.err.contains("file/cache"), "{}", said.err);
    let last = said.last();
    assert_eq!(
        (&last["event"], &last["ok"], &last["table"]),
        (&"finished".into(), &false.into(), &Value::Null)
    );
}

/// The command that gives a shell a separate mount table; `None` where neither root nor a user
/// namespace can have one.
fn unshare() -> Option<&'static [&'static str]> {
    let works = |command: &[&str]| {
        let probe = "d=$(mktemp -d) && mount -t tmpfs -o size=64k none $d && umount $d; s=$?; \
            rmdir $d; exit $s";
        Command::new(command[0])
            .args(&command[1..])
            .args(["sh", "-c", probe])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    [&["unshare", "--mount"] as &[_], &["unshare", "--user", "--map-root-user", "--mount"]]
        .into_iter()
        .find(|command| works(command))
}

#[test]
fn a_full_disk_ends_in_a_clear_error_and_once_there_is_room_the_run_goes_on() {
    let Some(unshare) = unshare() else {
        return left_out(
            "a small disk cannot be mounted here, which takes root or a user namespace",
        );
    };
    // Sizes at which different things do not fit; `POSTTRAIN_DISK_SIZES="700k 800k 900k"` for
    // others.
    let sizes = std::env::var("POSTTRAIN_DISK_SIZES").unwrap_or_else(|_| "700k 1500k 2m".into());
    for size in sizes.split_whitespace() {
        let place = Place::new(SMOKE);
        std::fs::create_dir(place.path("disk")).unwrap();
        // The disk is seen by this shell alone, and goes with it.
        let script = format!(
            "set -e; mount -t tmpfs -o size={size} none disk\nset +e; $POSTTRAIN run p.yaml \
             --cache disk/cache >small.out 2>small.err; echo $? >small.code; set -e\nmount -o \
             remount,size=64m disk\n$POSTTRAIN run p.yaml --cache disk/cache --quiet >large.out \
             2>large.err\nmkdir kept; cp -a disk/cache kept/\n"
        );
        let shell = Command::new(unshare[0])
            .args(&unshare[1..])
            .args(["sh", "-c", &script])
            .current_dir(place.path(""))
            .env("POSTTRAIN", env!("CARGO_BIN_EXE_posttrain"))
            .output()
            .unwrap();
        let told = place.read("small.err");
        assert!(
            shell.status.success(),
            "{size}: {}{}{told}",
            String::from_utf8_lossy(&shell.stderr),
            place.read("large.err")
        );
        assert_eq!(place.read("small.code").trim(), "3", "{size}: {told}");
        assert!(
            told.contains("No space left on device") && told.contains("free some space"),
            "{size}: {told}"
        );
        std::fs::rename(place.path("kept/cache"), place.path("cache")).unwrap();
        assert_eq!(place.objects(), undisturbed().objects, "{size}");
        assert_sound(&place);
    }
}
