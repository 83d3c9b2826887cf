//! Programs that a stage has started: none outlives its stage, whatever is killed, and none holds a
//! key.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::place::{Place, finish, wait_until};

/// A program with another below it, and one in another session; they write their numbers to
/// `LOG`.
const TREE: &str = "\
stages:
  long:
    uses: command
    run: [sh, -c, \"setsid sleep 61 & echo $! >> LOG; sleep 62 & echo $! >> LOG; echo $$ >> LOG; wait; echo 1 > a\"]
";

/// The processes that have written their numbers to `LOG`, once there are three.
fn tree(place: &Place) -> Vec<Pid> {
    wait_until("three processes have started", || place.log().len() == 3);
    place.log().iter().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
}

fn is_alive(pid: Pid) -> bool {
    let stat =
        std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// The node's own process: the parent of the program.
fn node_of(program: Pid) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.as_raw_nonzero())).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap();
    Pid::from_raw(parent.parse().unwrap()).unwrap()
}

/// A run of something that takes no time: whatever held the key is gone.
fn runs_at_once(place: &Place) {
    let text =
        TREE.replace("setsid sleep 61", "true").replace("sleep 62", "true").replace(" >> LOG", "");
    place.pipeline(&text);
    let start = Instant::now();
    assert_eq!(place.counts(&[]), (1, 0));
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
}

#[test]
fn a_killed_run_leaves_no_program_running() {
    let place = Place::new(TREE);
    let mut child = place.start(&[]);
    let programs = tree(&place);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("all have ended", || !programs.iter().any(|pid| is_alive(*pid)));
    runs_at_once(&place);
}

#[test]
fn a_killed_node_leaves_no_program_running() {
    let place = Place::new(TREE);
    let child = place.start(&[]);
    let programs = tree(&place);
    kill_process(node_of(programs[2]), Signal::KILL).unwrap();
    let said = finish(child);
    assert!(
        said.code == 3 && said.out.contains("ended by signal 9"),
        "{} {}\n{}",
        said.code,
        said.out,
        said.err
    );
    wait_until("all have ended", || !programs.iter().any(|pid| is_alive(*pid)));
    runs_at_once(&place);
}

#[test]
fn what_a_run_and_its_node_leave_when_both_are_killed_is_ended_by_the_next_run() {
    let place = Place::new(TREE);
    let mut child = place.start(&[]);
    let programs = tree(&place);
    let node = node_of(programs[2]);
    // The node cannot notice that its run has died before it dies itself.
    kill_process(node, Signal::STOP).unwrap();
    child.kill().unwrap();
    kill_process(node, Signal::KILL).unwrap();
    child.wait().unwrap();
    wait_until("the node's process has ended", || !is_alive(node));
    let text = place.read("p.yaml");
    let mut again = place.start(&[]);
    wait_until("all have ended", || !programs.iter().any(|pid| is_alive(*pid)));
    assert_eq!(place.read("p.yaml"), text);
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn a_program_in_a_session_of_its_own_holds_up_nobody_and_is_named() {
    for (ending, code) in [("exit 1", 1), ("echo 1 > a", 0)] {
        let place = Place::new(&format!(
            "stages:\n  fails:\n    uses: command\n    run: [sh, -c, \"setsid sleep 63 & echo $! \
             >> LOG; until grep -q sleep /proc/$!/comm; do sleep 0.01; done; {ending}\"]\n"
        ));
        let start = Instant::now();
        for runs in 1..=2 {
            let said = place.say(&["run", "p.yaml"]);
            assert_eq!(said.code, code, "{}", said.err);
            let told = said.err.contains("fails: sleep still ran when the stage had ended");
            assert!(told || (code == 0 && runs == 2), "{}", said.err);
        }
        assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
        let left: Vec<Pid> =
            place.log().iter().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect();
        assert!(!left.is_empty() && !left.iter().any(|pid| is_alive(*pid)));
    }
}

#[test]
fn a_stopped_run_ends_programs_that_do_not_listen() {
    let place = Place::new(
        &TREE.replace("setsid sleep 61", "setsid sh -c 'trap : TERM; sleep 61; sleep 61'"),
    );
    let child = place.start(&[]);
    let programs = tree(&place);
    kill_process_group(rustix::process::getpgid(Some(node_of(programs[2]))).unwrap(), Signal::TERM)
        .unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(finish(child).code, 130);
    assert!(!programs.iter().any(|pid| is_alive(*pid)));
}

/// Runs that are killed in every way at moments drawn at random; in the end all is made, once, as
/// an undisturbed run makes it. One storm by default; `POSTTRAIN_STORMS=100` for more.
#[test]
fn storms_of_blows_lose_nothing_and_leave_nobody_running() {
    let stage = |index: usize| {
        let (inputs, read) = match index {
            0 => (String::new(), "echo start".to_owned()),
            _ => (format!(", inputs: {{before: s{}}}", index - 1), "cat {before}/a".to_owned()),
        };
        let program = format!(
            "for i in 1 2 3; do {read}; echo {index} $i; sleep 0.02; done > a; (setsid sleep 0.05 \
             &); sleep 0.02"
        );
        format!("  s{index}: {{uses: command, run: [sh, -ec, \"{program}\"]{inputs}}}\n")
    };
    let text = format!("stages:\n{}", (0..4).map(stage).collect::<String>());
    let undisturbed = Place::new(&text);
    undisturbed.counts(&[]);
    let storms =
        std::env::var("POSTTRAIN_STORMS").ok().and_then(|count| count.parse().ok()).unwrap_or(1u64);
    let draws = posttrain::random::Stream::new(11, "storms");
    for storm in 0..storms {
        let place = Place::new(&text);
        for blow in 0..12 {
            let draw = |what: u64| draws.uniform(1000 * storm + blow, what);
            let mut child = place.start(&["--jobs", if draw(0) < 0.5 { "1" } else { "2" }]);
            std::thread::sleep(Duration::from_millis((draw(1) * 160.0) as u64));
            let runner = Pid::from_child(&child);
            let nodes = nodes(&place);
            match (draw(2) * 6.0) as usize {
                0 => strike(runner),
                1 => nodes.iter().for_each(|node| strike(*node)),
                2 => nodes.iter().chain([&runner]).for_each(|pid| strike(*pid)),
                3 => nodes.iter().for_each(|node| {
                    let _ = kill_process_group(*node, Signal::KILL);
                }),
                4 => {
                    let _ = kill_process(runner, Signal::TERM);
                }
                _ => (0..2).for_each(|_| {
                    let _ = kill_process(runner, Signal::INT);
                }),
            }
            // Whatever it was that was killed, the run ends.
            let start = Instant::now();
            while child.try_wait().unwrap().is_none() {
                assert!(
                    start.elapsed() < Duration::from_secs(30),
                    "storm {storm}, blow {blow}: it hangs"
                );
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let last = place.run(&[]);
        assert_eq!(
            (&last["ok"], last["ran"].as_u64().unwrap() + last["cached"].as_u64().unwrap()),
            (&true.into(), 4),
            "storm {storm}"
        );
        assert_eq!(place.objects(), undisturbed.objects(), "storm {storm}");
        wait_until("none is left", || nodes(&place).is_empty());
        assert_eq!(
            posttrain::fs::list(&place.path("cache/v1/work")).unwrap(),
            [""; 0],
            "storm {storm}"
        );
        let runners = posttrain::fs::list(&place.path("cache/v1/runners")).unwrap();
        assert_eq!(runners, [""; 0], "storm {storm}: what dead runs have left is cleared away");
    }
}

/// Kills a process, if it has not ended by itself.
fn strike(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
}

/// The processes of nodes that work in this place's cache.
fn nodes(place: &Place) -> Vec<Pid> {
    let cache = place.path("cache").display().to_string();
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let works_there = |process: &i32| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("exec\0{cache}"))
    };
    processes.filter(works_there).filter_map(Pid::from_raw).collect()
}
