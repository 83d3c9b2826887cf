//! Faults that are drawn from a seed for every call with an effect: errors, torn writes, ends of
//! the process, power cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use posttrain::dag::digest::ActionKey;
use posttrain::dag::gc::gc;
use posttrain::dag::outcome::Outcome;
use posttrain::dag::record::Ending;
use posttrain::dag::tags::Tagged;
use posttrain::error::{Kind, kind_of};
use posttrain::fs::{Schedule, Tally, begin_faults, end_faults};
use posttrain::random::{Sequence, Stream};

use super::bench::{Bench, Expected, earlier, expected, study};
use super::setting;

/// The number of schedules, instead of the default.
const SCHEDULES: &str = "POSTTRAIN_RELIABILITY_SCHEDULES";
/// With a number, the first seed.
const SEED: &str = "POSTTRAIN_RELIABILITY_SEED";

/// EIO, EACCES, ENOSPC, EROFS, EDQUOT, and EINTR, which is none.
const ERRNOS: [i32; 6] = [5, 13, 28, 30, 122, 4];

/// What was tried.
#[derive(Default)]
struct Counts {
    calls: BTreeMap<&'static str, u64>,
    faults: BTreeMap<(&'static str, String), u64>,
    lost: BTreeMap<&'static str, u64>,
    actions: BTreeMap<&'static str, u64>,
    stops: u64,
    cuts: u64,
    failures: u64,
}

impl Counts {
    fn add(&mut self, tally: Tally, cut: bool) {
        tally.calls.into_iter().for_each(|(kind, n)| *self.calls.entry(kind).or_default() += n);
        tally.faults.into_iter().for_each(|(kind, n)| *self.faults.entry(kind).or_default() += n);
        tally.lost.into_iter().for_each(|(kind, n)| *self.lost.entry(kind).or_default() += n);
        self.stops += u64::from(tally.stopped);
        self.cuts += u64::from(cut);
    }
}

/// What is done while faults happen.
enum Action {
    Run { keep_going: bool },
    Gc,
    Tag,
    Take,
}

fn draw_action(draws: &mut Sequence) -> (Action, &'static str) {
    match draws.below(10) {
        0..=5 => (Action::Run { keep_going: draws.chance(0.5) }, "run"),
        6 | 7 => (Action::Gc, "gc"),
        8 => (Action::Tag, "tag"),
        _ => (Action::Take, "import"),
    }
}

/// Chances of faults: rare or frequent ones of one kind, or some of each.
fn draw_schedule(bench: &Bench, seed: u64, draws: &mut Sequence) -> Schedule {
    let mut chance = |of: &[f64]| *draws.choose(of);
    let (failing, torn, stopping) = match chance(&[0.0, 1.0, 2.0, 3.0]) {
        0.0 => (chance(&[0.005, 0.03, 0.2]), 0.0, 0.0),
        1.0 => (0.0, chance(&[0.05, 0.3]), 0.0),
        2.0 => (0.0, 0.0, chance(&[0.003, 0.01, 0.03])),
        _ => (0.01, 0.05, 0.005),
    };
    let lasting = draws.chance(0.3);
    let errnos = match draws.chance(0.5) {
        true => vec![*draws.choose(&ERRNOS)],
        false => ERRNOS.to_vec(),
    };
    let power = draws.chance(0.5).then(|| bench.grave());
    Schedule { root: bench.disk(), seed, failing, torn, stopping, errnos, lasting, power }
}

/// Does one thing, and gives the keys that it said were made.
fn act(
    bench: &Bench,
    other: &Bench,
    action: &Action,
) -> posttrain::error::Result<(Vec<ActionKey>, Option<Outcome>)> {
    let store = bench.store();
    match action {
        Action::Run { keep_going } => {
            let outcome = bench.run(&study(), "study", *keep_going)?;
            let made = outcome.nodes.iter().filter(|node| node.ending == Ending::Ran);
            Ok((made.filter_map(|node| node.key).collect(), Some(outcome)))
        }
        Action::Gc => gc(&store, false).map(|_| (Vec::new(), None)),
        Action::Tag => {
            let id = store.records()?.pop().map_or("none".into(), |record| record.id);
            store.put_tag("mine", Tagged::Run(id), Some("kept"))?;
            let entries = store.entries()?;
            let made = entries.iter().map(|entry| (entry.node.as_str(), entry.object));
            store.link_by_name("study", made)?;
            Ok((Vec::new(), None))
        }
        Action::Take => {
            let _presence = store.begin()?;
            let mut taken = Vec::new();
            for entry in other.store().entries()? {
                if store.take(&entry, &other.store().object_path(entry.object))? {
                    taken.push(entry.key);
                }
            }
            let id = other.store().records()?.pop().expect("there was a run").id;
            store.take_record(&id, &other.store().run_path(&id))?;
            Ok((taken, None))
        }
    }
}

/// Whether an error of a disk with faults says what it has to: that it is the machine's, and where.
fn assert_named(bench: &Bench, kind: Kind, message: &str, what: &str) {
    assert_eq!(kind, Kind::Environment, "{what}: {message}");
    assert!(message.contains(&bench.disk().display().to_string()), "{what}: {message}");
}

/// One schedule: up to three things are done under faults, each as by a new process; after each of
/// them nothing is partial and nothing is lost; in the end a disk that is well makes the rest.
fn survive(seed: u64, expected: &Expected, other: &Bench, counts: &Mutex<Counts>) {
    let mut draws = Stream::new(seed, "schedules").sequence(0);
    let mut bench = Bench::new();
    bench.jobs = 1 + draws.below(2);
    // Most caches hold something; some are made under faults.
    if draws.chance(0.8) {
        bench.run(&earlier(), "earlier", true).unwrap();
    }
    let mut known: BTreeSet<ActionKey> = bench.visible(expected).into_iter().collect();
    // What an import took that did not come to its record: `gc` does not keep it.
    let mut unrecorded = BTreeSet::new();
    let mut what = format!("{SEED}={seed} {SCHEDULES}=1");
    for phase in 0..1 + draws.below(3) as u64 {
        let schedule = draw_schedule(&bench, 4 * seed + phase, &mut draws);
        let (action, name) = draw_action(&mut draws);
        let cut = schedule.power.is_some();
        begin_faults(schedule).unwrap();
        let result = act(&bench, other, &action);
        let tally = end_faults(&bench.disk()).unwrap();
        let ended = result.as_ref().map(|_| ()).map_err(|error| format!("{error:#}"));
        what += &format!("\n{name}, power {cut}: {ended:?} {:#?}", tally.list);
        let mut failures = 0;
        match &result {
            Err(error) if !tally.stopped => {
                assert_named(&bench, kind_of(error), &format!("{error:#}"), &what);
                failures += 1;
            }
            Ok((_, Some(outcome))) if !tally.stopped => {
                for failure in outcome.nodes.iter().filter_map(|node| node.failure.as_ref()) {
                    assert_named(&bench, failure.kind, &failure.message, &what);
                    failures += 1;
                }
            }
            _ => {}
        }
        bench.assert_sound(expected, &what);
        let visible: BTreeSet<ActionKey> = bench.visible(expected).into_iter().collect();
        match (&action, &result) {
            (Action::Take, Err(_)) => unrecorded.extend(visible.difference(&known).copied()),
            (Action::Gc, _) => known.retain(|key| !unrecorded.contains(key)),
            _ => {}
        }
        // What was said to be made is there, whenever the power fails.
        known.extend(result.into_iter().flat_map(|(made, _)| made));
        for key in &known {
            assert!(visible.contains(key), "{what}: {} is lost", key.short());
        }
        known = visible;
        let mut counts = counts.lock().unwrap();
        *counts.actions.entry(name).or_default() += 1;
        counts.failures += failures;
        counts.add(tally, cut);
    }
    bench.assert_recovers(expected, &what);
}

#[test]
fn schedules_of_drawn_faults_lose_nothing() {
    let (schedules, first) = (setting(SCHEDULES, 1000), setting(SEED, 0));
    let (expected, counts) = (expected(), Mutex::new(Counts::default()));
    let other = Bench::new();
    other.run(&study(), "elsewhere", true).unwrap();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    if at >= schedules {
                        return;
                    }
                    survive(first + at, &expected, &other, &counts);
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    let sum = |of: &BTreeMap<&'static str, u64>| of.values().sum::<u64>();
    let faults: u64 = counts.faults.values().sum();
    println!("schedules {schedules}, under faults {} {:?}", sum(&counts.actions), counts.actions);
    println!("calls {} {:?}", sum(&counts.calls), counts.calls);
    println!("faults {faults}");
    counts.faults.iter().for_each(|((call, what), n)| println!("  {what} of {call}: {n}"));
    println!(
        "stops {}, power cuts {}, errors checked {}",
        counts.stops, counts.cuts, counts.failures
    );
    println!("taken back by power cuts {} {:?}", sum(&counts.lost), counts.lost);
    if schedules >= 100 {
        assert!(faults > 2 * schedules && counts.stops > schedules / 10, "too few faults");
        assert!(counts.failures > schedules / 10 && sum(&counts.lost) > schedules, "too few");
        for kind in &["create", "make folder", "remove", "rename", "sync", "write"] {
            assert!(counts.faults.keys().any(|(call, _)| call == kind), "no fault of {kind}");
        }
    }
}
