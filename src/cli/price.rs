//! The time that a run will take, by what was made before: of its nodes, and of the whole on some
//! jobs and threads.

use std::collections::HashMap;

use clap::Args;

use super::number_format::{count, duration};
use crate::dag::cluster::Queue;
use crate::dag::explain::prices;
use crate::dag::plan::{Plan, Step};
use crate::dag::price::{Price, Work, makespan};
use crate::dag::request::Request;
use crate::dag::store::Store;
use crate::error::Result;
use crate::pipeline::expand::Pipeline;

/// How much of the machine a run uses.
#[derive(Args, Clone, Copy, Default)]
pub struct Places {
    /// Nodes at once [default: as many as there are threads; in a queue what its file says, or
    /// 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Threads for all nodes together [default: as many as the machine has]; in a queue those of
    /// each job whose stage does not say it [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl Places {
    /// The places that the nodes of a run have in a queue: its jobs, and threads without a limit.
    pub fn in_queue(self, queue: &Queue) -> Self {
        let jobs = self.jobs.unwrap_or(u16::try_from(queue.jobs).unwrap_or(u16::MAX));
        Places { jobs: Some(jobs), threads: Some(u16::MAX) }
    }

    /// Threads, if they were given.
    pub fn given_threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// Nodes at once, if they were given.
    pub fn given_jobs(&self) -> Option<usize> {
        self.jobs.map(usize::from)
    }

    /// Threads for all nodes.
    pub fn threads(&self) -> usize {
        let machine = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(machine, usize::from)
    }

    /// Nodes at once.
    pub fn jobs(&self) -> usize {
        self.jobs.map_or_else(|| self.threads(), usize::from)
    }
}

/// The prices of the nodes of a plan that are not there.
pub struct Prices {
    prices: HashMap<String, Price>,
    /// Of every node, the threads that it takes; none for all there are.
    threads: HashMap<String, Option<usize>>,
    jobs: usize,
    all: usize,
}

impl Prices {
    /// Looks up what was made before.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn of(
        store: &Store,
        request: Request<'_>,
        plan: &Plan,
        pipeline: &Pipeline,
        places: Places,
    ) -> Result<Self> {
        let threads = pipeline.graph.nodes.iter();
        Ok(Prices {
            prices: prices(store, request, plan)?,
            threads: threads.map(|node| (node.name.clone(), node.resources.threads)).collect(),
            jobs: places.jobs(),
            all: places.threads(),
        })
    }

    /// What is known of a node.
    pub fn get(&self, name: &str) -> Option<&Price> {
        self.prices.get(name)
    }

    /// Seconds until all of these steps are made; a step is one of them if `is_left` says so.
    pub fn left(&self, steps: &[Step], is_left: impl Fn(&Step) -> bool) -> f64 {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut work = Vec::new();
        for step in steps.iter().filter(|step| is_left(step)) {
            places.insert(&step.name, work.len());
            work.push(Work {
                seconds: self.get(&step.name).map_or(0.0, |price| price.seconds),
                threads: self.threads.get(&step.name).copied().flatten().unwrap_or(self.all),
                needs: step
                    .needs
                    .iter()
                    .filter_map(|name| places.get(name.as_str()).copied())
                    .collect(),
            });
        }
        makespan(&work, self.jobs, self.all)
    }

    /// `about 31 min 05 s of node time, 18 min 40 s on 2 jobs; 3 nodes are of kinds that were never
    /// made`; `None` where nothing is to be made, or nothing is known.
    pub fn words(&self, plan: &Plan) -> Option<String> {
        let open = |step: &&Step| step.state.object().is_none();
        let priced: Vec<&Price> =
            plan.steps.iter().filter(open).filter_map(|step| self.get(&step.name)).collect();
        if priced.is_empty() {
            return None;
        }
        let sum = priced.iter().map(|price| price.seconds).sum();
        let whole = self.left(&plan.steps, |step| open(&step));
        let unknown = plan.steps.iter().filter(open).count() - priced.len();
        let rest = match unknown {
            0 => String::new(),
            1 => "; 1 node is of a kind that was never made".into(),
            more => format!("; {more} nodes are of kinds that were never made"),
        };
        let jobs = count(self.jobs, "job");
        Some(format!("about {} of node time, {} on {jobs}{rest}", duration(sum), duration(whole)))
    }
}
