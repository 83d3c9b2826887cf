//! Killed or stopped at any moment: the next run ends in the objects of an undisturbed one, and
//! nothing half-made is taken for whole.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use posttrain::random::Stream;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::smoke::{SMOKE, assert_sound, endings, events, run, undisturbed};
use crate::cli::place::{Place, finish, wait_until};

/// Starts a run in a separate process group.
fn start(place: &Place) -> Child {
    let mut command = place.command(&["run", "p.yaml", "--log", "json"]);
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The processes of nodes that work in this place's cache.
fn nodes(place: &Place) -> Vec<Pid> {
    let cache = place.path("cache").display().to_string();
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
    let works_there = |process: &i32| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&cache)
    };
    processes.filter(works_there).filter_map(Pid::from_raw).collect()
}

#[test]
fn sigkill_at_ten_random_moments_then_a_run_gives_the_objects_of_an_undisturbed_run() {
    let draws = Stream::new(7, "moments of death");
    let mut place = Place::new(SMOKE);
    let (mut killed, mut attempts) = (0, 0);
    while killed < 10 {
        // An attempt goes on where the last one was killed, so short ones reach every stage.
        let moment = undisturbed().seconds * 0.5 * draws.uniform(0, attempts);
        attempts += 1;
        assert!(attempts < 100, "runs end before they can be killed");
        let mut child = start(&place);
        std::thread::sleep(Duration::from_secs_f64(moment));
        if child.try_wait().unwrap().is_some() {
            // It was done sooner: from the beginning again.
            assert_eq!(place.objects(), undisturbed().objects);
            place = Place::new(SMOKE);
            continue;
        }
        kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
        killed += 1;
        // Every other time the node's processes die as well; else they are left behind, and have to
        // notice.
        if killed % 2 == 0 {
            for process in nodes(&place) {
                // It may have noticed already.
                let _ = kill_process(process, Signal::KILL);
            }
        }
        assert_sound(&place);
    }
    let said = run(&place, &[]);
    assert_eq!(said.last().unwrap()["ok"], true);
    assert_eq!(place.objects(), undisturbed().objects);
    assert_sound(&place);
    wait_until("no process is left", || nodes(&place).is_empty());
}

#[test]
fn sigterm_ends_with_130_and_publishes_nothing_unfinished() {
    let place = Place::new(SMOKE);
    let child = place.start(&[]);
    let some_are_made = || posttrain::fs::list(&place.path("cache/v1/actions")).unwrap().len() >= 4;
    wait_until("some nodes are made", some_are_made);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let said = finish(child);
    assert_eq!(said.code, 130, "{}\n{}", said.out, said.err);
    let last = said.last();
    assert_eq!(
        (&last["event"], &last["ok"], &last["failed"]),
        (&"finished".into(), &false.into(), &0.into()),
        "{last}"
    );
    assert!(last["ran"].as_u64() >= Some(4) && last["skipped"].as_u64() >= Some(1), "{last}");
    let finished = endings(&events(&said)).values().filter(|ending| *ending == "ran").count();
    assert_eq!(place.objects().len(), finished, "what ran is there, what did not is not");
    assert!(nodes(&place).is_empty(), "no process is left");
    assert_sound(&place);
    run(&place, &[]);
    assert_eq!(place.objects(), undisturbed().objects);
}
