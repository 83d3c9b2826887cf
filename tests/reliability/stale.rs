//! What dead processes and hosts leave in a store: locks, leases, files of runs, half-made folders.
//! None of it stops a run, and `gc` clears it away.

use std::path::Path;

use posttrain::dag::gc::gc;
use posttrain::dag::processes::Identity;
use posttrain::fs;

use super::bench::{Bench, expected, study};

/// Files of runs that are over, by name.
fn runners() -> Vec<(&'static str, Vec<u8>)> {
    let line = |identity: &Identity| {
        let mut line = serde_json::to_vec(identity).unwrap();
        line.push(b'\n');
        line
    };
    let own = Identity::own();
    // One that has ended and was waited for: its number is of no process, or of another.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let dead = Identity::of(child.id() as i32);
    child.wait().unwrap();
    let elsewhere = Identity { host: "another boot".into(), name: "node7".into(), ..own.clone() };
    vec![
        ("dead", line(&dead)),
        ("reused", line(&Identity { started: own.started + 1, ..own.clone() })),
        ("own", line(&own)),
        ("elsewhere", line(&elsewhere)),
        ("grown", [line(&elsewhere), b".....".to_vec()].concat()),
        ("gc-elsewhere", line(&elsewhere)),
        ("gc-dead", line(&dead)),
        ("empty", Vec::new()),
        ("cut", line(&elsewhere)[..20].to_vec()),
        ("zeros", vec![0; 60]),
        ("noise", (0..=255).collect()),
    ]
}

/// What an attempt's lease may say: the name of a run that is over, of none, or noise.
fn leases() -> Vec<Vec<u8>> {
    let mut leases: Vec<Vec<u8>> =
        runners().into_iter().map(|(name, _)| name.as_bytes().to_vec()).collect();
    let noise: [&[u8]; 7] =
        [b"", b"gone", b"..", b".", b"../actions", &[0; 12], &[0xff, 0xfe, b'\n', b'/', 7]];
    leases.extend(noise.map(<[u8]>::to_vec));
    leases
}

fn forge(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn leases_and_locks_of_the_dead_stop_nothing() {
    let (expected, graph) = (expected(), study());
    let keys: Vec<_> = expected.keys().copied().collect();
    let (leases, mut cases) = (leases(), 0);
    for (at, lease) in leases.iter().enumerate() {
        let bench = Bench::new();
        let v1 = bench.cache().join("v1");
        for (name, bytes) in runners() {
            forge(&v1.join("runners").join(name), &bytes);
        }
        // Each key was being made; what is in the attempts differs from key to key.
        for (n, key) in keys.iter().enumerate() {
            let attempt = v1.join(format!("work/{key}/{}", 1 + 7 * n));
            forge(&attempt.join("out/half"), b"half");
            forge(&attempt.join("checkpoints/step"), b"7");
            if n != 0 {
                forge(&attempt.join("lease"), lease);
            }
            let process = [
                None,
                Some(&b"{\"host\":"[..]),
                Some(b"{\"host\":\"x\",\"name\":\"y\",\"pid\":1,\"started\":1}"),
                Some(&[0; 30]),
            ];
            if let Some(bytes) = process[(n + at) % process.len()] {
                forge(&attempt.join("process"), bytes);
            }
            forge(&v1.join(format!("work/.new-dead-{n}/out/half")), b"half");
        }
        for object in expected.values() {
            forge(&v1.join(format!("locks/object-{object}")), b"");
        }
        forge(&v1.join("in-use.lock"), b"12345");
        forge(&v1.join("actions/.tmpAbC"), b"{");
        forge(&v1.join("objects/.tmp/half"), b"half");
        let what = format!("lease {:?}", String::from_utf8_lossy(lease));
        let ran = bench.run(&graph, "study", false);
        let ran = ran.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        for node in &ran.nodes {
            let made = node.key.and_then(|key| expected.get(&key).copied());
            assert!(made.is_some() && node.object == made, "{what}: {node:?}");
        }
        gc(&bench.store(), false).unwrap_or_else(|error| panic!("{what}: {error:#}"));
        bench.assert_recovers(&expected, &what);
        for (folder, suffix) in [("actions", ".json"), ("objects", "")] {
            let names = fs::list(&v1.join(folder)).unwrap();
            assert!(names.iter().all(|name| !name.starts_with('.') && name.ends_with(suffix)));
        }
        cases += keys.len();
    }
    println!("leases forged {cases}, files of runs {}", leases.len() * runners().len());
}
