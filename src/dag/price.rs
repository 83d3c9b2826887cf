//! The time that a run will take: that of each node by what was made before, that of the whole by
//! the order in which the scheduler starts nodes. Uses nothing of stores.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// The expected time of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// Seconds.
    pub seconds: f64,
    /// The name that the node had whose time this is.
    pub like: String,
    /// In how many fields and inputs that one differs.
    pub differences: usize,
}

/// A node that is to be made.
#[derive(Clone, Debug)]
pub struct Work {
    /// Expected seconds; 0 where nothing is known.
    pub seconds: f64,
    /// Threads that it takes.
    pub threads: usize,
    /// Positions of the nodes that it needs, all before its own.
    pub needs: Vec<usize>,
}

/// Seconds until all of `work` is made, in the order given, with at most `jobs` nodes and `threads`
/// threads at once. A node that wants more threads than there are gets all there are.
pub fn makespan(work: &[Work], jobs: usize, threads: usize) -> f64 {
    let (jobs, all) = (jobs.max(1), threads.max(1));
    let mut missing: Vec<usize> = work.iter().map(|own| own.needs.len()).collect();
    let mut feeds: Vec<Vec<usize>> = vec![Vec::new(); work.len()];
    for (at, own) in work.iter().enumerate() {
        own.needs.iter().for_each(|need| feeds[*need].push(at));
    }
    let mut ready: BTreeSet<usize> = (0..work.len()).filter(|at| missing[*at] == 0).collect();
    // By the bits of their ends, which order as the ends do: none is negative.
    let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let (mut now, mut free) = (0.0_f64, all);
    loop {
        let mut started = Vec::new();
        for &at in &ready {
            if running.len() >= jobs || free == 0 {
                break;
            }
            let wanted = work[at].threads.clamp(1, all);
            if wanted <= free {
                free -= wanted;
                running.push(Reverse(((now + work[at].seconds.max(0.0)).to_bits(), at)));
                started.push(at);
            }
        }
        for at in started {
            ready.remove(&at);
        }
        let Some(Reverse((end, at))) = running.pop() else { return now };
        now = f64::from_bits(end);
        free += work[at].threads.clamp(1, all);
        for &fed in &feeds[at] {
            missing[fed] -= 1;
            if missing[fed] == 0 {
                ready.insert(fed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(seconds: f64, threads: usize, needs: &[usize]) -> Work {
        Work { seconds, threads, needs: needs.to_vec() }
    }

    #[test]
    fn the_time_of_the_whole_is_that_of_the_order_of_the_scheduler() {
        let diamond =
            [work(1.0, 1, &[]), work(2.0, 1, &[0]), work(4.0, 1, &[0]), work(1.0, 1, &[1, 2])];
        assert_eq!(makespan(&diamond, 1, 1), 8.0);
        assert_eq!(makespan(&diamond, 2, 2), 6.0);
        // More threads than there are: it runs alone.
        let wide = [work(3.0, 9, &[]), work(2.0, 1, &[]), work(2.0, 1, &[])];
        assert_eq!(makespan(&wide, 4, 4), 5.0);
        assert_eq!(makespan(&wide, 1, 4), 7.0);
        assert_eq!(makespan(&[], 2, 2), 0.0);
    }
}
