//! Two machines share what they make, and nothing moves that need not.

use super::machine::{Machine, SWEEP};
use super::server::Server;
use crate::cli::place::{finish, wait_until};

fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("file://{}", folder.path().join("shared").display());
    (folder, address)
}

#[test]
fn the_second_machine_makes_nothing_and_has_the_same_bytes() {
    let (_folder, remote) = folder();
    let (first, second) = (Machine::new(SWEEP, &remote), Machine::new(SWEEP, &remote));
    let ran = first.run(&[]);
    assert_eq!((ran.counts(), ran.of("pushed").len()), ((7, 0), 7));
    assert!(ran.warnings().is_empty());
    let ran = second.run(&[]);
    assert_eq!((ran.counts(), ran.of("pulled").len()), ((0, 7), 7));
    assert_eq!(ran.of("started").len(), 0);
    assert!(first.objects().len() == 9 && first.objects() == second.objects(), "the same bytes");
    // Both are whole: nothing is asked for, pulled or made again.
    let offline = second.run(&["--offline"]);
    assert_eq!((offline.counts(), offline.of("pulled").len()), ((0, 7), 0));
    // A cache that is damaged is mended from the remote.
    std::fs::remove_dir_all(second.place.path("cache/v1/objects")).unwrap();
    let ran = second.run(&[]);
    assert_eq!((ran.counts(), ran.of("pulled").len()), ((0, 7), 7));
    let alone = Machine::new(SWEEP, &remote);
    assert_eq!(alone.run(&["--offline"]).counts(), (7, 0));
    assert_eq!(alone.objects(), first.objects());
}

#[test]
fn only_what_is_read_is_pulled() {
    let (_folder, remote) = folder();
    Machine::new(SWEEP, &remote).run(&[]);
    let second = Machine::new(SWEEP, &remote);
    let ran = second.run(&["last"]);
    assert_eq!(ran.counts(), (0, 7));
    assert_eq!(ran.nodes("pulled"), ["last[n=1]", "last[n=2]", "last[n=3]"]);
    assert_eq!(second.count(), 3, "what they were made of stays in the remote");
    // The points are read now; the root still is not.
    second.place.pipeline(&SWEEP.replace("s/^/x/", "s/^/new/"));
    let ran = second.run(&["last"]);
    assert_eq!(ran.counts(), (3, 4));
    assert_eq!(ran.nodes("pulled"), ["point[n=1]", "point[n=2]", "point[n=3]"]);
    assert_eq!(second.count(), 9);
}

#[test]
fn a_plan_says_what_the_remote_has_and_pulls_nothing() {
    let (_folder, remote) = folder();
    Machine::new(SWEEP, &remote).run(&["point"]);
    let second = Machine::new(SWEEP, &remote);
    let plan = second.json(&["plan", "p.yaml"]);
    assert_eq!((plan["remote"].as_u64(), plan["run"].as_u64()), (Some(4), Some(3)));
    assert_eq!(plan["steps"][0]["state"], "remote");
    let text = second.good(&["plan", "p.yaml"]).out;
    assert!(text.contains("3 to run, 0 cached, 4 in the remote cache"), "{text}");
    assert!(!second.place.path("cache/v1/objects").exists());
    let offline = second.json(&["plan", "p.yaml", "--offline"]);
    assert_eq!((offline["remote"].as_u64(), offline["run"].as_u64()), (Some(0), Some(1)));
}

#[test]
fn what_another_machine_makes_meanwhile_is_pulled() {
    let server = Server::start();
    let pipeline = "\
stages:
  slow: {uses: command, run: [sh, -ec, \"while ! test -e $HOME/go; do sleep 0.02; done; echo 1 > x\"]}
  next: {uses: command, run: [sh, -ec, \"cat $slow/x > y\"], inputs: {slow: slow}}
";
    let (fast, slow) =
        (Machine::new(pipeline, &server.address()), Machine::new(pipeline, &server.address()));
    fast.place.write("go", "");
    let child = slow.start();
    wait_until("the slow machine makes it", || {
        let work = std::fs::read_dir(slow.place.path("cache/v1/work"));
        let attempts = work.into_iter().flatten().flatten();
        let mut orders = attempts.map(|folder| folder.path().join("1/process").exists());
        orders.any(|there| there)
    });
    assert_eq!(fast.run(&[]).counts(), (2, 0));
    slow.place.write("go", "");
    let last = finish(child).last();
    assert_eq!((last["ran"].as_u64(), last["cached"].as_u64()), (Some(1), Some(1)), "{last}");
}

#[test]
fn what_is_here_asks_nothing_and_modes_are_kept() {
    let server = Server::start();
    let first = Machine::new(SWEEP, &server.address());
    assert_eq!(first.run(&["--offline"]).counts(), (7, 0));
    assert_eq!(server.requests(), [], "offline");
    first.run(&[]);
    assert_eq!(server.requests(), [], "everything is here");
    let reader = Machine::new(SWEEP, &server.address());
    assert_eq!(reader.run(&["--remote-mode", "read-only"]).counts(), (7, 0));
    assert!(server.count("GET") > 0 && server.count("PUT") == 0, "it only reads");
    let said = reader.say(&["cache", "push", "p.yaml", "--remote-mode", "read-only"]);
    assert!(said.code == 2 && said.err.contains("read-only"), "{}", said.err);
    let both = Machine::new(SWEEP, &server.address());
    both.run(&[]);
    assert!(server.count("PUT") > 0);
    let reader = Machine::new(SWEEP, &server.address()).with("POSTTRAIN_REMOTE_MODE", "read-only");
    server.requests();
    assert_eq!(reader.run(&[]).counts(), (0, 7));
    assert_eq!(server.count("PUT"), 0);
}

#[test]
fn the_pipeline_names_the_remote_and_no_key_depends_on_it() {
    let (_folder, remote) = folder();
    let with = format!("cache: {{remote: '{remote}', mode: read-write}}\n{SWEEP}");
    let own = Machine::new(&with, "");
    assert_eq!(own.run(&[]).of("pushed").len(), 7);
    let keys = |machine: &Machine| {
        let plan = machine.json(&["plan", "p.yaml"]);
        let keys = plan["steps"].as_array().unwrap().iter();
        keys.map(|step| step["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = keys(&own);
    own.place.pipeline(SWEEP);
    assert_eq!(keys(&own), before);
    // The resolved pipeline, and one that extends it, name it too.
    own.place.pipeline(&with);
    let resolved = own.good(&["plan", "p.yaml", "--resolved"]).out;
    assert!(resolved.contains(&format!("remote: {remote}")), "{resolved}");
    let other = Machine::new("extends: base.yaml\n", "");
    other.place.write("base.yaml", &with);
    assert_eq!(other.run(&[]).counts(), (0, 7));
    for (bad, part) in [
        ("cache: 3", "expected `cache` to be a mapping"),
        ("cache: {remote: 'ftp://x'}", "`ftp:`"),
        ("cache: {remote: 'https://u:hunter2@x'}", "user or password"),
        ("cache: {remot: x}", "`remote`"),
        ("cache: {remote: 's3://b', mode: readonly}", "`read-only`"),
        ("cache: {mode: read-only}", "no `remote`"),
        ("cache: {remote: 's3://b', trust: [abc]}", "no public key"),
        ("cache: {remote: 's3://b', trust: abc}", "list of public keys"),
        ("cache: {remote: 's3://${n}'}", "params are not replaced"),
    ] {
        own.place.pipeline(&format!("{bad}\n{SWEEP}"));
        let said = own.say(&["validate", "p.yaml"]);
        assert!(said.code == 2 && said.err.contains(part), "{bad}: {}", said.err);
        assert!(said.err.contains("p.yaml:1:"), "{}", said.err);
    }
}

#[test]
fn an_object_of_several_parts_arrives_as_it_was() {
    let (folder, remote) = folder();
    let pipeline = "\
stages:
  large:
    uses: command
    run: [sh, -ec, \"seq 1 9500000 > a; : > b; head -c 40000000 a > c; echo end > d\"]
";
    let (first, second) = (Machine::new(pipeline, &remote), Machine::new(pipeline, &remote));
    first.run(&[]);
    let objects = std::fs::read_dir(folder.path().join("shared/v1/objects")).unwrap();
    let object = objects.last().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(&object).unwrap().count(), 5, "four parts and the list");
    assert_eq!(second.run(&[]).counts(), (0, 1));
    assert!(first.objects() == second.objects());
}
