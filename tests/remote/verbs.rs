//! `cache push`, `pull`, `status` and `verify`.

use super::machine::{Machine, SWEEP};
use super::server::Server;

#[test]
fn what_was_made_before_is_sent_and_pulled_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let remote = format!("file://{}", folder.path().join("shared").display());
    let first = Machine::new(SWEEP, &remote);
    first.run(&["--offline"]);
    let pushed = first.json(&["cache", "push", "p.yaml", "point"]);
    assert_eq!((pushed["pushed"].as_array().unwrap().len(), &pushed["there"]), (4, &0.into()));
    let second = Machine::new(SWEEP, &remote);
    let status = second.json(&["cache", "status", "p.yaml"]);
    let nodes = status["nodes"].as_array().unwrap();
    let count = |field: &str| nodes.iter().filter(|node| node[field] == true).count();
    assert_eq!((nodes.len(), count("here"), count("remote")), (7, 0, 4));
    let pulled = second.json(&["cache", "pull", "p.yaml", "point[n=1]"]);
    assert_eq!((pulled["pulled"].as_array().unwrap().len(), &pulled["left"]), (1, &1.into()));
    assert_eq!(second.count(), 1);
    let pulled = second.json(&["cache", "pull", "p.yaml"]);
    assert_eq!(
        (pulled["pulled"].as_array().unwrap().len(), &pulled["here"], &pulled["not_made"]),
        (3, &1.into(), &3.into())
    );
    let text = second.good(&["cache", "status", "p.yaml"]).out;
    assert!(text.contains("7 nodes: 4 here, 4 in file:///"), "{text}");
    assert_eq!(second.run(&["--offline"]).counts(), (3, 4));
    let none = Machine::new(SWEEP, "").say(&["cache", "push", "p.yaml"]);
    assert!(none.code == 2 && none.err.contains("no remote cache is named"), "{}", none.err);
}

#[test]
fn a_check_finds_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shared");
    let first = Machine::new(SWEEP, &format!("file://{}", root.display()));
    first.run(&[]);
    let audit = first.json(&["cache", "verify"]);
    assert_eq!((&audit["entries"], &audit["objects"]), (&7.into(), &7.into()));
    assert!(audit["bytes"].as_u64().unwrap() > 1000);
    let audit = first.json(&["cache", "verify", "p.yaml"]);
    assert_eq!((&audit["entries"], &audit["faults"]), (&7.into(), &serde_json::json!([])));

    let objects: Vec<_> = std::fs::read_dir(root.join("v1/objects"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let part = |object: &std::path::Path| {
        let files = std::fs::read_dir(object).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().find(|path| !path.ends_with("files.json")).unwrap()
    };
    let mut bytes = std::fs::read(part(&objects[0])).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(part(&objects[0]), bytes).unwrap();
    std::fs::remove_file(part(&objects[1])).unwrap();
    std::fs::write(objects[2].join("files.json"), "{}").unwrap();
    std::fs::write(root.join("v1/entries/note.json"), "{}").unwrap();
    for arguments in [&["cache", "verify", "--json"][..], &["cache", "verify", "p.yaml", "--json"]]
    {
        let said = first.say(arguments);
        assert_eq!(said.code, 3, "{}", said.err);
        let audit: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let faults = audit["faults"].as_array().unwrap();
        let whole = arguments.len() == 3;
        assert_eq!(faults.len(), if whole { 4 } else { 3 }, "{faults:#?}");
    }
    let said = first.say(&["cache", "verify"]);
    assert!(said.code == 3 && said.out.contains("4 faults"), "{}", said.out);
    // What is there of an object is replaced by what is here.
    std::fs::remove_file(root.join("v1/entries/note.json")).unwrap();
    assert_eq!(first.say(&["cache", "push", "p.yaml"]).code, 0);
    let faults = first.say(&["cache", "verify"]).out;
    assert!(faults.contains("2 faults"), "a damaged list is written again: {faults}");
}

#[test]
fn a_server_without_listings_checks_the_nodes_of_a_pipeline() {
    let server = Server::start();
    let first = Machine::new(SWEEP, &server.address());
    first.run(&[]);
    assert_eq!(first.json(&["cache", "verify", "p.yaml"])["entries"], 7);
    let said = first.say(&["cache", "verify"]);
    assert!(said.code == 3 && said.err.contains("405"), "{}", said.err);
}

#[test]
fn two_objects_of_one_key_are_said() {
    let server = Server::start();
    // Not what a stage should do: it makes other bytes each time.
    let pipeline = "stages: {a: {uses: command, run: [sh, -ec, \"cat $HOME/x > x\"]}}\n";
    let (first, second) =
        (Machine::new(pipeline, &server.address()), Machine::new(pipeline, &server.address()));
    first.place.write("x", "1");
    second.place.write("x", "2");
    first.run(&[]);
    second.run(&["--offline"]);
    let said = second.say(&["cache", "push", "p.yaml"]);
    assert!(said.code == 3 && said.err.contains("not deterministic"), "{}", said.err);
    let said = second.say(&["cache", "status", "p.yaml"]);
    assert!(said.code == 3 && said.out.contains("the object there is"), "{}", said.out);
}
