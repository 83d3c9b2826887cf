//! Repetitions, their median and their spread. The clock is a parameter.

use serde::Serialize;

/// Seconds since some moment.
pub type Clock<'a> = &'a dyn Fn() -> f64;

/// How long something takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Timing {
    /// The median, of one call.
    pub seconds: f64,
    /// From the quickest repetition to the slowest, as a share of the median.
    pub spread: f64,
    /// Repetitions that the median is of.
    pub repetitions: usize,
    /// Calls of each.
    pub calls: usize,
}

/// Repetitions to have at best.
const REPETITIONS: usize = 7;
/// Calls that are queued at most: more would wait for room in the device's queue.
const CALLS: f64 = 500.0;

/// Calls `body` once to warm up, then again and again for about `seconds`, waiting by `wait` after
/// some calls each time.
pub fn time(clock: Clock<'_>, seconds: f64, wait: &dyn Fn(), body: &mut dyn FnMut()) -> Timing {
    body();
    wait();
    let mut run = |calls: usize| {
        let start = clock();
        (0..calls).for_each(|_| body());
        wait();
        (clock() - start) / calls as f64
    };
    let once = run(1).max(1e-9);
    let calls = (seconds / REPETITIONS as f64 / once).clamp(1.0, CALLS) as usize;
    let mut times = if calls == 1 { vec![once] } else { Vec::new() };
    let begun = clock();
    while times.is_empty()
        || times.len() < REPETITIONS && clock() - begun + once * calls as f64 <= seconds
    {
        times.push(run(calls));
    }
    of(times, calls)
}

/// The median of some times of a call.
pub fn of(mut times: Vec<f64>, calls: usize) -> Timing {
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    Timing {
        seconds: median,
        spread: (times[times.len() - 1] - times[0]) / median,
        repetitions: times.len(),
        calls,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A clock that goes on by `step` a call of the body, and by 1 a wait.
    fn measured(step: f64, seconds: f64) -> (Timing, usize) {
        let (now, count) = (Cell::new(0.0), Cell::new(0));
        let timing = time(&|| now.get(), seconds, &|| now.set(now.get() + 1e-3), &mut || {
            count.set(count.get() + 1);
            now.set(now.get() + step);
        });
        (timing, count.get())
    }

    #[test]
    fn quick_calls_are_queued_many_at_a_time_and_slow_ones_are_few() {
        let (quick, _) = measured(1e-3, 1.41);
        assert!(
            (quick.seconds / 1e-3 - 1.0).abs() < 0.02
                && quick.repetitions >= 6
                && quick.calls == 100,
            "{quick:?}"
        );
        let (slow, calls) = measured(10.0, 1.0);
        assert_eq!((slow.repetitions, calls), (1, 2));
        assert!((slow.seconds - 10.001).abs() < 1e-9);
    }

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_from_end_to_end() {
        let timing = of(vec![3.0, 1.0, 2.0], 4);
        assert_eq!(
            (timing.seconds, timing.spread, timing.repetitions, timing.calls),
            (2.0, 1.0, 3, 4)
        );
    }
}
