//! How far a run is: `9 of 25 nodes, 1 failed, about 12 min 30 s left`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::number_format::duration;
use super::price::Prices;
use crate::dag::outcome::NodeOutcome;
use crate::dag::plan::{Plan, Step};
use crate::dag::record::Ending;

/// The time that is left is estimated at most so often: the whole order is gone through.
const PAUSE: Duration = Duration::from_secs(1);

/// The nodes of a run that have ended, and the time that the others will take.
pub struct Tally {
    prices: Prices,
    steps: Vec<Step>,
    ended: HashSet<String>,
    failed: usize,
    skipped: usize,
    /// When the time that is left was last estimated, and that time in seconds.
    estimate: Option<(Instant, f64)>,
}

impl Tally {
    /// Before the plan is known.
    pub fn new(prices: Prices) -> Self {
        let (steps, ended) = (Vec::new(), HashSet::new());
        Tally { prices, steps, ended, failed: 0, skipped: 0, estimate: None }
    }

    /// The run begins. Returns the expected time of the whole, where it is known.
    pub fn planned(&mut self, plan: &Plan) -> Option<String> {
        self.steps.clone_from(&plan.steps);
        self.prices.words(plan)
    }

    /// A node has ended.
    pub fn finished(&mut self, node: &NodeOutcome) {
        self.ended.insert(node.name.clone());
        self.failed += usize::from(node.ending == Ending::Failed);
        self.skipped += usize::from(node.ending == Ending::Skipped);
    }

    /// How far the run is.
    pub fn words(&mut self) -> String {
        let mut words = vec![format!("{} of {} nodes", self.ended.len(), self.steps.len())];
        if self.failed > 0 {
            words.push(format!("{} failed", self.failed));
        }
        if self.skipped > 0 {
            words.push(format!("{} skipped", self.skipped));
        }
        match self.left() {
            left if left > 0.0 && self.ended.len() < self.steps.len() => {
                words.push(format!("about {} left", duration(left)));
            }
            _ => {}
        }
        words.join(", ")
    }

    /// Seconds until the nodes that have not ended are made; a node that runs counts whole.
    fn left(&mut self) -> f64 {
        match self.estimate {
            Some((moment, left)) if moment.elapsed() < PAUSE => left,
            _ => {
                let left = self.prices.left(&self.steps, |step| !self.ended.contains(&step.name));
                self.estimate = Some((Instant::now(), left));
                left
            }
        }
    }
}
