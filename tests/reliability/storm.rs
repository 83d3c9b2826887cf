//! Eight runs of the real program on one cache, each killed at drawn moments and started again,
//! until all have succeeded.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use posttrain::dag::object_store::Integrity;
use posttrain::dag::store::Store;
use posttrain::random::Stream;
use rustix::process::{Pid, Signal, kill_process};

use super::setting;
use crate::cli::place::{Place, finish, wait_until};

/// The number of storms, instead of one.
const STORMS: &str = "POSTTRAIN_RELIABILITY_STORMS";
const RUNS: u64 = 8;
/// How often each run is killed at most, and how long after its start at most.
const KILLS: u64 = 10;
const LATEST: f64 = 0.9;

/// A diamond in front of a chain, whose programs say when they begin, and write what they read a
/// part at a time.
fn pipeline() -> String {
    let stages = [("a", ""), ("b", "a"), ("c", "a"), ("d", "b c"), ("e", "d"), ("f", "e")];
    let stage = |(name, from): &(&str, &str)| {
        let from: Vec<&str> = from.split_whitespace().collect();
        let inputs: Vec<String> = from.iter().map(|other| format!("{other}: {other}")).collect();
        let read: String =
            from.iter().map(|other| format!("cat {{{other}}}/out >> out; ")).collect();
        format!(
            "  {name}:\n    uses: command\n    inputs: {{{}}}\n    run: [sh, -ec, \"echo {name} >> \
             LOG; echo {name} > out; {read}for i in 1 2 3 4 5 6; do sleep 0.05; echo $i >> out; done\"]\n",
            inputs.join(", ")
        )
    };
    format!("stages:\n{}", stages.iter().map(stage).collect::<String>())
}

/// The processes whose command line or current folder is of this place.
fn processes(place: &Place) -> Vec<String> {
    let folder = place.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let works_there = |process: &std::path::Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let cwd = std::fs::read_link(process.join("cwd")).unwrap_or_default();
        let is_there = String::from_utf8_lossy(&line).contains(folder) || cwd.starts_with(folder);
        (is_there && !line.is_empty()).then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    };
    entries.filter_map(|entry| works_there(&entry.path())).collect()
}

/// Kills a run after a drawn time, if it still goes on, perhaps with its nodes. True if it was
/// killed.
fn strike(child: &mut Child, after: Duration, nodes: bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < after {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let goes_on = child.try_wait().unwrap().is_none();
    let nodes = if nodes { children(child.id()) } else { Vec::new() };
    child.kill().unwrap();
    for node in nodes.into_iter().filter_map(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(node, Signal::KILL);
    }
    goes_on
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let lists =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[test]
fn storms_of_kills_on_one_cache_lose_nothing() {
    let text = pipeline();
    let undisturbed = Place::new(&text);
    undisturbed.counts(&[]);
    let draws = Stream::new(5, "kill storms");
    let (storms, mut all_kills, mut all_made) = (setting(STORMS, 1), 0, 0);
    for storm in 0..storms {
        let place = Place::new(&text);
        let kills = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for run in 0..RUNS {
                let (place, kills) = (&place, &kills);
                scope.spawn(move || {
                    for blow in 0..KILLS {
                        let draw = |what| draws.uniform(RUNS * storm + run, 2 * blow + what);
                        let after = Duration::from_secs_f64(draw(0) * LATEST);
                        let mut child = place.start(&["--jobs", "2"]);
                        let killed = strike(&mut child, after, draw(1) < 0.3);
                        let said = finish(child);
                        match killed {
                            true => drop(kills.fetch_add(1, Ordering::SeqCst)),
                            false => {
                                assert_eq!(said.code, 0, "run {run}: {}\n{}", said.out, said.err);
                            }
                        }
                    }
                    let said = finish(place.start(&[]));
                    assert_eq!(said.code, 0, "run {run}: {}\n{}", said.out, said.err);
                    assert_eq!(said.last()["ok"], true, "run {run}: {}", said.out);
                });
            }
        });
        let kills = kills.into_inner();
        assert_eq!(place.objects(), undisturbed.objects(), "storm {storm}");
        let store = Store::open(&place.path("cache")).unwrap();
        for entry in store.entries().unwrap() {
            assert_eq!(store.recheck_object(entry.object).unwrap(), Integrity::Sound);
        }
        let mut made: BTreeMap<String, u64> = BTreeMap::new();
        place.log().into_iter().for_each(|name| *made.entry(name).or_default() += 1);
        // A kill ends at most the two attempts of its run: of several runs one makes a key.
        assert!(made.values().all(|count| *count <= 1 + kills), "storm {storm}: {made:?}");
        assert!(made.values().sum::<u64>() <= 6 + 2 * kills, "storm {storm}: {made:?}");
        assert_eq!(made.len(), 6, "storm {storm}");
        // One run more clears away what the dead have left.
        assert_eq!(place.counts(&[]), (0, 6), "storm {storm}");
        wait_until("no process is left", || processes(&place).is_empty());
        place.good(&["gc"]);
        for folder in ["work", "runners", "locks", "bad"] {
            let left = posttrain::fs::list(&place.path("cache/v1").join(folder)).unwrap();
            assert_eq!(left, [""; 0], "storm {storm}: {folder}");
        }
        assert_eq!(place.objects(), undisturbed.objects(), "storm {storm}: gc has lost something");
        all_kills += kills;
        all_made += made.values().sum::<u64>();
    }
    println!("storms {storms}, runs {}, kills {all_kills}", storms * RUNS * (KILLS + 1));
    println!("stages begun {all_made}, of {} that are needed", storms * 6);
    assert!(all_kills > 10 * storms, "{all_kills} kills");
}
