//! Who holds a key: runs of this host and of others, where no lock holds between hosts.

use std::time::Duration;

use posttrain::dag::gc::gc;
use posttrain::dag::record::Ending;
use posttrain::dag::work::{Claim, Ticket};
use posttrain::error::{Kind, kind_of};

use super::*;

/// How long a run of another host may show nothing here.
const PATIENCE: Duration = Duration::from_millis(150);

impl Bench {
    /// A store as another host sees it.
    fn elsewhere(&self) -> Store {
        self.store().with_patience(PATIENCE)
    }

    /// A run on another host, whose file is given back: it lives as long as that grows.
    fn foreign(&self) -> PathBuf {
        let path = self.root().join("v1/runners/foreign");
        std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("writable");
        std::fs::write(&path, "{\"host\":\"boot\",\"name\":\"other\",\"pid\":1,\"started\":1}\n")
            .expect("writable");
        path
    }
}

fn miss(claim: Claim<'_>) -> Ticket<'_> {
    match claim {
        Claim::Miss(ticket) => ticket,
        Claim::Hit(_) => panic!("it is made already"),
        Claim::Busy => panic!("another is at work"),
    }
}

fn beat(file: &Path) {
    posttrain::fs::append_to(file, b".").expect("writable");
}

#[test]
fn a_key_that_another_host_works_on_is_busy_until_that_host_is_silent() {
    let bench = Bench::new();
    let key = bench.key(&chain(), "a");
    let (foreign, attempt) = (bench.foreign(), bench.store().work_path(key).join("3"));
    for part in ["out", "checkpoints"] {
        std::fs::create_dir_all(attempt.join(part)).expect("writable");
    }
    std::fs::write(attempt.join("lease"), "foreign").expect("writable");
    std::fs::write(attempt.join("out/half"), "half").expect("writable");
    std::fs::write(attempt.join("checkpoints/step"), "7").expect("writable");
    let store = bench.elsewhere();
    let _presence = store.begin().expect("writable");
    for _ in 0..8 {
        assert!(
            matches!(store.claim(key, &|_| false).expect("readable"), Claim::Busy),
            "it shows that it lives"
        );
        std::thread::sleep(PATIENCE / 4);
        beat(&foreign);
    }
    assert!(
        matches!(store.claim(key, &|_| false).expect("readable"), Claim::Busy),
        "seen a moment ago"
    );
    std::thread::sleep(PATIENCE + Duration::from_millis(20));
    let ticket = miss(store.claim(key, &|_| false).expect("readable"));
    assert!(ticket.folder().ends_with("4") && ticket.resumed());
    assert_eq!(
        posttrain::fs::list(&ticket.folder().join("out")).expect("there"),
        [""; 0],
        "nothing of another attempt"
    );
    assert_eq!(
        std::fs::read_to_string(ticket.folder().join("checkpoints/step")).expect("taken over"),
        "7"
    );
}

/// Two mounts of one folder whose locks do not see each other: a slow writer and one
/// that starts meanwhile.
#[test]
fn no_part_of_an_artefact_is_published_though_each_takes_the_other_for_dead() {
    let bench = Bench::new();
    let (graph, one, two) = (graph([node("a", "A", &[])]), bench.elsewhere(), bench.elsewhere());
    let key = bench.key(&graph, "a");
    let (first, second) = (one.begin().expect("writable"), two.begin().expect("writable"));
    let slow = miss(one.claim(key, &|_| false).expect("writable"));
    let write = |ticket: &Ticket<'_>, parts: std::ops::Range<usize>| {
        parts.for_each(|part| {
            std::fs::write(ticket.folder().join(format!("out/f{part}")), "x").expect("writable")
        });
    };
    write(&slow, 0..7);
    // As if the first had been silent for too long, and then went on.
    let lease = std::fs::read_to_string(slow.folder().join("lease")).expect("there");
    std::fs::remove_file(bench.root().join("v1/runners").join(lease)).expect("there");
    let fast = miss(two.claim(key, &|_| false).expect("writable"));
    std::fs::create_dir_all(slow.folder().join("out")).expect("it goes on in its own folder");
    write(&fast, 0..10);
    write(&slow, 7..9);
    let (log, entry) = (bench.folder.path().join("log"), |_, _| panic!("nothing is published"));
    let error = slow.publish(&log, entry).expect_err("it was taken over");
    assert_eq!(kind_of(&error), Kind::Environment);
    assert!(error.to_string().contains("taken over"), "{error:#}");
    let entry = |key, object| posttrain::dag::entry::Entry {
        key,
        object,
        node: "a".into(),
        output: "file".into(),
        finished_at: 0,
        place: (1, 0),
        seconds: 0.0,
        sources: Default::default(),
        preimage: preimage(&graph),
        renewed_from: None,
        accepted: None,
    };
    let object = fast.publish(&log, entry).expect("it holds the key");
    assert_eq!(
        two.object_files(object).expect("sound").len(),
        10,
        "all of it, and nothing of the other"
    );
    bench.assert_sound();
    drop((first, second));
    assert_eq!(bench.states(&graph), "a:c");
    gc(&bench.store(), false).expect("there is no run");
}

fn preimage(graph: &Graph) -> posttrain::dag::key::Preimage {
    let request = request(graph);
    let none = |_: &str| unreachable!("it refers to nothing");
    posttrain::dag::key::Preimage::of(&graph.nodes[0], request.numerics, none, |_| {
        unreachable!("it reads nothing")
    })
    .expect("sound")
}

#[test]
fn garbage_waits_for_runs_of_other_hosts_as_well() {
    let bench = Bench::new();
    bench.run(&chain());
    let foreign = bench.foreign();
    std::thread::scope(|scope| {
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let beats = foreign.clone();
        scope.spawn(move || {
            while is_over.recv_timeout(PATIENCE / 5).is_err() {
                beat(&beats);
            }
        });
        let store = bench.store().with_patience(10 * PATIENCE);
        let error = gc(&store, false).expect_err("a run is at work");
        assert!(
            error.to_string().contains("a run is using") && error.to_string().contains("other"),
            "{error:#}"
        );
        over.send(()).expect("it waits");
    });
    gc(&bench.elsewhere(), false).expect("it has been silent for long enough");
    assert!(!foreign.exists());
    assert_eq!(bench.states(&chain()), "a:c b:c c:c d:c");
}

#[test]
fn what_was_printed_is_kept_with_the_record_and_the_clock_orders_nothing() {
    let bench = Bench::new();
    let program = ProcessExecutor {
        program: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dag/node.sh"),
    };
    let ran = bench.execute(&graph([node("n", "make", &[])]), &program).expect("goes well");
    let folder = ran.outcome.record.expect("it is recorded");
    let logs = posttrain::fs::list(&folder.join("logs")).expect("readable");
    assert!(logs.len() == 1 && logs[0].starts_with("n-"), "{logs:?}");
    assert_eq!(
        std::fs::read_to_string(folder.join("logs").join(&logs[0])).expect("there"),
        "{\"event\":\"warning\",\"message\":\"a line that is printed is no report\"}\n"
    );

    // As if the clock had been ten years ahead then.
    let id = folder.file_name().expect("named").to_string_lossy().into_owned();
    let ahead = format!("{:04}{}", id[..4].parse::<u32>().expect("a year") + 10, &id[4..]);
    std::fs::rename(&folder, folder.with_file_name(&ahead)).expect("ours");
    let path = folder.with_file_name(&ahead).join("record.json");
    let text = std::fs::read_to_string(&path).expect("there").replace(&id, &ahead);
    // Without its sum, as an earlier program wrote it.
    let (text, _) = text.rsplit_once(",\"check\"").expect("it is the last field");
    std::fs::write(path, format!("{text}}}")).expect("ours");

    let later = graph([node("n", "A", &[])]);
    let second = bench.run(&later);
    let records = bench.store().records().expect("readable");
    assert_eq!(
        records.iter().map(|record| record.id == ahead).collect::<Vec<_>>(),
        [true, false],
        "in the order of the runs"
    );
    let latest = bench
        .store()
        .latest_record(&bench.options.invocation)
        .expect("readable")
        .expect("there is one");
    assert!(second.outcome.record.expect("recorded").ends_with(&latest.id));
    let entries: Vec<String> = bench
        .store()
        .entries()
        .expect("readable")
        .iter()
        .map(|entry| entry.object.to_string())
        .collect();
    assert_eq!(
        entries[1],
        second.outcome.nodes[0].object.expect("made").to_string(),
        "the latest last"
    );
    gc(&bench.store(), false).expect("there is no run");
    assert_eq!(bench.run(&later).ended(Ending::Cached), ["n"], "what was run last is kept");
}
