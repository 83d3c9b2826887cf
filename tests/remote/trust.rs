//! Whose entries are taken: signatures, and what is refused without one.

use super::machine::{Machine, SWEEP};
use super::server::Server;

/// A key on a machine; the one to trust.
fn key(machine: &Machine, name: &str) -> String {
    let made = machine.json(&["cache", "keygen", name]);
    assert_eq!(made["file"], name);
    made["public"].as_str().unwrap().to_owned()
}

#[test]
fn only_entries_of_trusted_keys_are_taken() {
    let server = Server::start();
    let address = server.address();
    let first = Machine::new(SWEEP, &address);
    let (own, other) = (key(&first, "own"), key(&first, "other"));
    let said = first.say(&["cache", "keygen", "own"]);
    assert!(said.code == 2 && said.err.contains("is there already"), "{}", said.err);
    first.run(&[]);
    let trusting =
        |trust: &str| Machine::new(SWEEP, &address).with("POSTTRAIN_REMOTE_TRUST", trust);

    // Unsigned, where signatures are asked for.
    let ran = trusting(&own).run(&["--remote-mode", "read-only"]);
    assert_eq!(ran.counts(), (7, 0));
    assert!(ran.warnings().iter().all(|said| said.contains("not signed")), "{:?}", ran.warnings());
    assert_eq!(ran.warnings().len(), 1, "once for the cause");

    // The machine that has the key signs what is there already.
    let first = first.with("POSTTRAIN_CACHE_KEY", "own");
    let pushed = first.json(&["cache", "push", "p.yaml"]);
    assert_eq!(pushed["pushed"].as_array().unwrap().len(), 7);
    let ran = trusting(&format!("{other}, {own}")).run(&[]);
    assert_eq!((ran.counts(), ran.warnings()), ((0, 7), vec![]));
    let status = first.json(&["cache", "status", "p.yaml"]);
    assert_eq!(status["nodes"][0]["signer"], own);
    let again = first.json(&["cache", "push", "p.yaml"]);
    assert_eq!((again["pushed"].as_array().unwrap().len(), &again["there"]), (0, &7.into()));

    // Signed by somebody else; named by the pipeline.
    let pipeline = format!("cache: {{remote: '{address}', trust: ['{other}']}}\n{SWEEP}");
    let ran = Machine::new(&pipeline, "").run(&["--remote-mode", "read-only"]);
    assert_eq!(ran.counts(), (7, 0));
    assert!(ran.warnings()[0].contains("which is not trusted"), "{:?}", ran.warnings());

    // An entry that was changed after it was signed, also where no key is asked for.
    let objects = server.paths("files.json");
    let id = |path: &str| path.rsplit('/').nth(1).unwrap().to_owned();
    let (one, two) = (id(&objects[0]), id(&objects[1]));
    server.change("/entries/", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text
            .replace(&format!("\"object\":\"{one}\""), &format!("\"object\":\"{two}\""))
            .into_bytes();
    });
    for machine in [trusting(&own), trusting("")] {
        let ran = machine.run(&["--remote-mode", "read-only"]);
        let said = ran.warnings();
        assert!(said.iter().all(|said| said.contains("is not of these bytes")), "{said:?}");
        assert!(!said.is_empty());
        assert!(ran.counts().0 > 0);
    }
}

#[test]
fn an_entry_that_was_copied_to_another_key_is_refused() {
    let server = Server::start();
    Machine::new(SWEEP, &server.address()).run(&[]);
    let first = std::cell::RefCell::new(None);
    server.change("/entries/", |bytes| {
        *bytes = first.borrow_mut().get_or_insert(bytes.clone()).clone();
    });
    let machine = Machine::new(SWEEP, &server.address());
    let ran = machine.run(&["--remote-mode", "read-only"]);
    assert!(ran.counts().0 >= 6);
    let said = ran.warnings();
    assert!(said.iter().all(|said| said.contains("the entry of another key")), "{said:?}");
}

#[test]
fn an_object_whose_parts_are_those_of_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shared");
    let address = format!("file://{}", root.display());
    let first = Machine::new(SWEEP, &address);
    first.run(&[]);
    let status = first.json(&["cache", "status", "p.yaml"]);
    let nodes = status["nodes"].as_array().unwrap();
    let object = |name: &str| {
        let node = nodes.iter().find(|node| node["node"] == name).unwrap();
        root.join("v1/objects").join(node["object"].as_str().unwrap())
    };
    // Both have seven bytes. All hashes of parts are right, and so is the list of files.
    let (one, two) = (object("point[n=1]"), object("point[n=2]"));
    let read = |path: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path.join("files.json")).unwrap()).unwrap()
    };
    let (mut list, other) = (read(&one), read(&two));
    let part = other["parts"][0]["hash"].as_str().unwrap();
    std::fs::copy(two.join(part), one.join(part)).unwrap();
    list["parts"] = other["parts"].clone();
    std::fs::write(one.join("files.json"), list.to_string()).unwrap();
    let second = Machine::new(SWEEP, &address);
    let ran = second.run(&["--remote-mode", "read-only"]);
    assert_eq!(ran.counts(), (1, 6));
    assert!(ran.warnings()[0].contains("`y` has other bytes"), "{:?}", ran.warnings());
    assert!(first.objects() == second.objects());
    let said = first.say(&["cache", "verify"]);
    assert!(said.code == 3 && said.out.contains("`y` has other bytes"), "{}", said.out);
}

#[test]
fn a_list_of_files_that_leads_elsewhere_is_refused() {
    let server = Server::start();
    Machine::new(SWEEP, &server.address()).run(&[]);
    server.change("files.json", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replacen("\"path\":\"", "\"path\":\"../../../../", 1).into_bytes();
    });
    let machine = Machine::new(SWEEP, &server.address());
    let ran = machine.run(&["--remote-mode", "read-only"]);
    assert_eq!(ran.counts(), (7, 0));
    let said = ran.warnings();
    assert!(said.iter().all(|said| said.contains("not that of the object")), "{said:?}");
}

#[test]
fn a_secret_key_that_others_can_read_and_a_wrong_one_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new(SWEEP, "file:///tmp/unused").with("POSTTRAIN_CACHE_KEY", "own");
    key(&machine, "own");
    let path = machine.place.path("own");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = machine.say(&["plan", "p.yaml"]);
    assert!(said.code == 2 && said.err.contains("chmod 600"), "{}", said.err);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "ed25519-secret:00\n").unwrap();
    let said = machine.say(&["plan", "p.yaml"]);
    assert!(said.code == 2 && said.err.contains("no secret key"), "{}", said.err);
    let machine = machine.with("POSTTRAIN_REMOTE_TRUST", "abc");
    let said = machine.say(&["plan", "p.yaml"]);
    assert!(said.code == 2 && said.err.contains("POSTTRAIN_REMOTE_TRUST"), "{}", said.err);
}
