//! A remote that misbehaves: a run goes on without it, says why once, and takes nothing wrong.

use std::process::Command;

use super::machine::{Machine, SWEEP};
use super::server::{Fault, Server};
use crate::cli::place::{finish, wait_until};

/// A server that has what the sweep makes, and the machine that made it.
fn filled() -> (Server, Machine) {
    let server = Server::start();
    let first = Machine::new(SWEEP, &server.address());
    assert_eq!(first.run(&[]).of("pushed").len(), 7);
    server.requests();
    (server, first)
}

fn second(server: &Server) -> Machine {
    Machine::new(SWEEP, &server.address()).with("POSTTRAIN_REMOTE_TIMEOUT", "2")
}

/// The objects of the server that are not the lists of files.
fn spoil(server: &Server) {
    for path in server.paths("/objects/") {
        if !path.ends_with("files.json") {
            server.change(&path, |bytes| {
                let at = bytes.len() / 2;
                bytes[at] ^= 1;
            });
        }
    }
}

#[test]
fn a_wrong_byte_is_refused_and_the_node_is_made_here() {
    let (server, first) = filled();
    spoil(&server);
    let second = second(&server);
    let ran = second.run(&[]);
    assert_eq!((ran.counts(), ran.of("pulled").len()), ((7, 0), 0));
    let said = ran.warnings();
    assert!(said.iter().all(|said| said.contains("its bytes do not match its hash")), "{said:?}");
    assert_eq!(said.len(), 1, "once for the cause: {said:?}");
    assert!(first.objects() == second.objects());
}

#[test]
fn what_is_made_of_a_refused_object_is_made_of_the_right_one() {
    let (server, first) = filled();
    // Of one point alone; the root was not to be pulled.
    let status = first.json(&["cache", "status", "p.yaml"]);
    let nodes = status["nodes"].as_array().unwrap();
    let point = nodes.iter().find(|node| node["node"] == "last[n=2]").unwrap();
    let object = point["object"].as_str().unwrap();
    for path in server.paths(&format!("/objects/{object}/")) {
        if !path.ends_with("files.json") {
            server.change(&path, |bytes| bytes.truncate(bytes.len() - 1));
        }
    }
    let second = second(&server);
    let ran = second.run(&["last"]);
    assert_eq!(ran.counts(), (1, 6));
    assert_eq!(ran.nodes("pulled"), ["last[n=1]", "last[n=3]", "point[n=2]"]);
    assert_eq!(ran.warnings().len(), 1, "{:?}", ran.warnings());
}

#[test]
fn a_transfer_that_breaks_off_once_is_tried_again() {
    let (server, first) = filled();
    server.fail("GET", "/objects/", Fault::Cut, Some(1));
    server.fail("GET", "/entries/", Fault::Status(503), Some(1));
    server.fail("GET", "files.json", Fault::Hang, Some(1));
    let second = second(&server);
    let ran = second.run(&[]);
    assert_eq!((ran.counts(), ran.warnings()), ((0, 7), vec![]));
    assert!(first.objects() == second.objects());
}

#[test]
fn a_remote_in_trouble_is_said_once_and_the_run_goes_on() {
    for (path, fault, part) in [
        ("/entries/", Fault::Status(500), "500"),
        ("/entries/", Fault::Status(403), "denies access"),
        ("/entries/", Fault::Hang, "timeout"),
        ("/objects/", Fault::Cut, "goes on without it"),
        ("/objects/", Fault::Status(500), "goes on without it"),
    ] {
        let (server, first) = filled();
        server.fail("GET", path, fault, None);
        let second = second(&server);
        let ran = second.run(&["--remote-mode", "read-only"]);
        assert_eq!(ran.counts(), (7, 0), "{fault:?}");
        let said = ran.warnings();
        assert!(!said.is_empty() && said.len() <= 4, "{fault:?}: {said:?}");
        assert!(said[0].contains(part), "{fault:?}: {said:?}");
        assert!(first.objects() == second.objects());
    }
}

#[test]
fn a_remote_that_is_not_there_is_said_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for remote in [format!("http://127.0.0.1:{free}/x"), "file:///proc/none/x".into()] {
        let machine = Machine::new(SWEEP, &remote).with("POSTTRAIN_REMOTE_TIMEOUT", "2");
        let ran = machine.run(&[]);
        assert_eq!(ran.counts(), (7, 0));
        let said = ran.warnings();
        assert!(said.len() == 1 && said[0].contains("remote cache"), "{said:?}");
    }
}

#[test]
fn a_push_that_fails_is_a_warning_and_leaves_nothing_visible() {
    for (path, fault) in [
        ("files.json", Fault::Status(500)),
        ("/objects/", Fault::Status(403)),
        ("/objects/", Fault::Cut),
        ("/objects/", Fault::Hang),
    ] {
        let server = Server::start();
        server.fail("PUT", path, fault, None);
        let first = second(&server);
        let ran = first.run(&[]);
        assert_eq!((ran.counts(), ran.of("pushed").len()), ((7, 0), 0), "{fault:?}");
        let said = ran.warnings();
        assert!(!said.is_empty() && said.len() <= 2, "{fault:?}: {said:?}");
        assert!(said[0].contains("nothing more is sent"), "{said:?}");
        assert_eq!((server.paths("files.json"), server.paths("/entries/")), (vec![], vec![]));
        assert_eq!(second(&server).json(&["plan", "p.yaml"])["remote"], 0);
        // Later it is sent.
        server.heal();
        let pushed = first.json(&["cache", "push", "p.yaml"]);
        assert_eq!(pushed["pushed"].as_array().unwrap().len(), 7);
        assert_eq!(second(&server).run(&[]).counts(), (0, 7));
    }
}

#[test]
fn a_run_that_is_killed_or_stopped_while_it_sends_leaves_nothing_visible() {
    for signal in ["KILL", "INT"] {
        let server = Server::start();
        server.fail("PUT", "/objects/", Fault::Hang, None);
        let first = second(&server);
        let child = first.start();
        wait_until("a part is sent", || server.count("PUT") > 0);
        let number = child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &number]).status().unwrap();
        assert!(sent.success());
        finish(child);
        assert_eq!((server.paths("files.json"), server.paths("/entries/")), (vec![], vec![]));
        server.heal();
        assert_eq!(second(&server).json(&["plan", "p.yaml"])["remote"], 0);
    }
}

#[test]
fn a_server_asks_for_what_the_user_has_in_the_environment() {
    let server = Server::start();
    server.authorize("Bearer hunter2");
    let first = second(&server).with("POSTTRAIN_REMOTE_AUTHORIZATION", "Bearer hunter2");
    let ran = first.run(&[]);
    assert_eq!((ran.of("pushed").len(), ran.warnings()), (7, vec![]));
    let other = second(&server);
    let ran = other.run(&[]);
    assert!(ran.warnings()[0].contains("denies access"), "{:?}", ran.warnings());
    // It is printed and recorded nowhere.
    let said = first.say(&["cache", "status", "p.yaml"]);
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"));
    let grep = Command::new("grep")
        .args(["-r", "hunter2"])
        .arg(first.place.path("cache"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}
