//! Steps that repeat: work is gathered instead of queued, and a list of work that was seen before
//! is queued by one call, as a graph. Knows no kernel, and not what a step is.
//!
//! 1. While a step is gathered, its memory comes from blocks that are kept for the next one, and
//!    numbers of the host (ids, positions, tables of blocks) go into one piece of memory. So a step
//!    that does the same again has the same list, address by address; only the numbers differ,
//!    which are copied by the graph's first node.
//! 2. Lists are compared by a digest of all that is queued. One that differs in anything is queued
//!    as it is, so a graph is never run for other work.
//! 3. A list is recorded when it comes for the second time, since recording costs more than
//!    queueing.
//! 4. A step ends at the first number that the host asks for; what follows is queued as ever. A
//!    step is one thread's; what others do is queued meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::driver::{Argument, Device, Memory};
use super::queue::{Graph, Tables, Work};

/// Lists that are remembered; more of them are a sign that nothing repeats.
const LISTS: usize = 64;
/// Bytes for numbers of the host at first, and by how much more there is room when it is not
/// enough.
const TABLES: usize = 1 << 12;
const GROWTH: usize = 8;
/// A table has room for the next power of two of its bytes, at least this many, so that tables
/// that grow slowly stay where they are.
const TABLE: usize = 256;

/// What is kept from step to step.
#[derive(Clone, Debug, Default)]
pub struct Repeats(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    tables: Option<Tables>,
    blocks: Vec<Block>,
    /// By the digest of a list; `None` where it came once.
    graphs: BTreeMap<[u8; 32], Option<Graph>>,
}

/// Memory of steps.
#[derive(Debug)]
struct Block {
    memory: Memory,
    taken: bool,
}

/// A step while it is gathered.
#[derive(Debug)]
pub struct Step {
    thread: ThreadId,
    repeats: Repeats,
    work: Vec<Work>,
    /// Numbers of the host, one table after the other, and where those are that were seen.
    numbers: Vec<u8>,
    seen: BTreeMap<Vec<u8>, usize>,
    /// Dropped meanwhile, though the work may use it.
    pub dropped: Vec<u64>,
}

impl Repeats {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of `bytes` bytes: the oldest block that is free and not twice as large, or a new one.
    /// Its address, and the block's number. The oldest, so that a step that comes again finds the
    /// blocks that it made the first time.
    pub fn take(&self, device: &Arc<Device>, bytes: usize) -> (u64, usize) {
        let mut kept = self.kept();
        let fits = |block: &Block| {
            !block.taken && (bytes..=2 * bytes.max(TABLE)).contains(&block.memory.bytes())
        };
        let found = kept.blocks.iter().position(fits);
        let at = found.unwrap_or_else(|| {
            kept.blocks.push(Block { memory: device.allocate_for_good(bytes), taken: false });
            kept.blocks.len() - 1
        });
        kept.blocks[at].taken = true;
        (kept.blocks[at].memory.address(), at)
    }

    /// Gives a block back.
    pub fn give(&self, block: usize) {
        self.kept().blocks[block].taken = false;
    }
}

impl Step {
    /// Begins, with what is kept of those before.
    pub fn new(device: &Arc<Device>, repeats: &Repeats) -> Step {
        repeats.kept().tables.get_or_insert_with(|| Tables::new(device, TABLES));
        let (work, numbers, seen, dropped) = Default::default();
        Step {
            thread: std::thread::current().id(),
            repeats: repeats.clone(),
            work,
            numbers,
            seen,
            dropped,
        }
    }

    /// Whether it is this thread's.
    pub fn is_here(&self) -> bool {
        self.thread == std::thread::current().id()
    }

    /// What is kept from step to step.
    pub fn repeats(&self) -> &Repeats {
        &self.repeats
    }

    /// One more thing to do.
    pub fn push(&mut self, work: Work) {
        self.work.push(work);
    }

    /// Where numbers of the host will be when the work is done; `None` where there is no room.
    pub fn table(&mut self, bytes: &[u8]) -> Option<u64> {
        let kept = self.repeats.kept();
        let tables = kept.tables.as_ref().expect("made when the step began");
        if let Some(at) = self.seen.get(bytes) {
            return Some(tables.address() + *at as u64);
        }
        let (at, room) = (self.numbers.len(), bytes.len().next_power_of_two().max(TABLE));
        if at + room > tables.bytes() {
            return None;
        }
        self.numbers.extend(bytes);
        self.numbers.resize(at + room, 0);
        self.seen.insert(bytes.to_vec(), at);
        Some(tables.address() + at as u64)
    }

    /// Queues the work, by one call where it was queued before.
    pub fn run(&mut self, device: &Arc<Device>) {
        let digest = digest(&self.work, self.numbers.len());
        let mut kept = self.repeats.kept();
        let Kept { tables, graphs, .. } = &mut *kept;
        let tables = tables.as_mut().expect("made when the step began");
        tables.write(&self.numbers);
        let queue = |stream| {
            tables.send(stream, self.numbers.len());
            self.work.iter().for_each(|work| device.issue(stream, work));
        };
        match graphs.get_mut(&digest) {
            Some(graph) => graph.get_or_insert_with(|| Graph::of(device, queue)).launch(),
            None => {
                queue(device.stream());
                if graphs.len() == LISTS {
                    graphs.clear();
                }
                graphs.insert(digest, None);
            }
        }
        tables.sent();
    }

    /// More room for numbers of the host, for the steps to come.
    pub fn grow(&self, device: &Arc<Device>) {
        let mut kept = self.repeats.kept();
        let bytes = kept.tables.as_ref().map_or(TABLES, Tables::bytes);
        // Lists with the old addresses do not come again.
        kept.graphs.clear();
        kept.tables = Some(Tables::new(device, bytes * GROWTH));
    }
}

/// Of all that is queued, and of how many bytes of tables go before it.
fn digest(work: &[Work], tables: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |number: u64| _ = hasher.update(&number.to_le_bytes());
    add(tables as u64);
    for work in work {
        match work {
            Work::Launch { function, grid, threads, shared, arguments } => {
                // The kernel says how many arguments follow, and of which sizes.
                add(0);
                add(function.handle() as u64);
                grid.iter().chain([threads, shared]).for_each(|number| add(u64::from(*number)));
                for argument in arguments {
                    match argument {
                        Argument::Address(x) => add(*x),
                        Argument::Size(x) => add(*x as u64),
                        Argument::Integer(x) => add(*x as u64),
                        Argument::Float(x) => add(u64::from(x.to_bits())),
                        Argument::Map(x) => x.opaque.iter().for_each(|number| add(*number)),
                    }
                }
            }
            Work::Copy { to, from, bytes } => {
                [1, *to, *from, *bytes as u64].into_iter().for_each(&mut add)
            }
            Work::Clear { to, bytes } => [2, *to, *bytes as u64].into_iter().for_each(&mut add),
        }
    }
    *hasher.finalize().as_bytes()
}
