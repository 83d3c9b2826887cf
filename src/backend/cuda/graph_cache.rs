//! CUDA graph cache. The launches of a step are recorded; when the same list of launches recurs, it
//! is replayed as one CUDA graph. Knows neither kernels nor what a step computes.
//!
//! 1. Memory that a step allocates comes from blocks that the cache keeps for the next step, and
//!    tables of the host (ids, positions, block tables) share one buffer. The same step therefore
//!    has the same addresses each time; only the contents of the tables differ, which the first
//!    node of the graph copies.
//! 2. Lists are compared by a digest of every launch and its arguments. A list that differs in
//!    anything is queued launch by launch, so a graph never replays other work.
//! 3. A list is recorded at its second occurrence, since recording costs more than queueing.
//! 4. A step ends at the first value that the host reads; later work is queued directly. A step
//!    belongs to one thread; other threads queue directly meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::context::Allocation;
use super::function::Argument;
use super::queue::{Graph, Queue, Tables, Work};

/// The most lists in a cache. When it is full, it is emptied: with more lists, nothing recurs.
const LISTS: usize = 64;
/// Initial bytes of the buffer for host tables, and the factor by which it grows.
const TABLES: usize = 1 << 12;
const GROWTH: usize = 8;
/// The least room of a table, in bytes. Room is rounded up to a power of two, so that a table that
/// grows slowly keeps its address.
const TABLE: usize = 256;

/// Graphs, blocks and tables that are kept between steps.
#[derive(Clone, Debug, Default)]
pub struct GraphCache(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    tables: Option<Tables>,
    blocks: Vec<Block>,
    /// By the digest of a list; `None` after its first occurrence.
    graphs: BTreeMap<[u8; 32], Option<Graph>>,
}

/// A block of memory, lent to one step at a time.
#[derive(Debug)]
struct Block {
    memory: Allocation,
    taken: bool,
}

/// A step that is being recorded.
#[derive(Debug)]
pub struct Step {
    thread: ThreadId,
    cache: GraphCache,
    work: Vec<Work>,
    /// The host tables, one after the other, and the offset of each by its content.
    numbers: Vec<u8>,
    seen: BTreeMap<Vec<u8>, usize>,
}

impl GraphCache {
    fn kept(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address and number of a block of at least `bytes` bytes: the oldest free block of at
    /// most twice the size, or a new one. Taking the oldest gives a recurring step the same
    /// blocks each time.
    pub fn take(&self, queue: &Queue, bytes: usize) -> (u64, usize) {
        let mut kept = self.kept();
        let fits = |block: &Block| {
            !block.taken && (bytes..=2 * bytes.max(TABLE)).contains(&block.memory.bytes())
        };
        let found = kept.blocks.iter().position(fits);
        let at = found.unwrap_or_else(|| {
            kept.blocks
                .push(Block { memory: Allocation::new(queue.context(), bytes), taken: false });
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
    /// Begins recording a step of this thread.
    pub fn new(queue: &Arc<Queue>, cache: &GraphCache) -> Step {
        cache.kept().tables.get_or_insert_with(|| Tables::new(queue, TABLES));
        let (work, numbers, seen) = Default::default();
        Step { thread: std::thread::current().id(), cache: cache.clone(), work, numbers, seen }
    }

    /// Whether the step belongs to the current thread.
    pub fn is_here(&self) -> bool {
        self.thread == std::thread::current().id()
    }

    /// The cache that this step uses.
    pub fn cache(&self) -> &GraphCache {
        &self.cache
    }

    /// Records a launch, copy or clear.
    pub fn push(&mut self, work: Work) {
        self.work.push(work);
    }

    /// The device address of a host table when the work runs; `None` if there is no room.
    pub fn table(&mut self, bytes: &[u8]) -> Option<u64> {
        let kept = self.cache.kept();
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

    /// Queues the work: as one graph if the list recurs, otherwise launch by launch.
    pub fn run(&mut self, to: &Queue) {
        let digest = digest(&self.work, self.numbers.len());
        let mut kept = self.cache.kept();
        let Contents { tables, graphs, .. } = &mut *kept;
        let tables = tables.as_mut().expect("made when the step began");
        tables.write(&self.numbers);
        let queue = |stream| {
            tables.send(stream, self.numbers.len());
            self.work.iter().for_each(|work| to.issue(stream, work));
        };
        match graphs.get_mut(&digest) {
            Some(graph) => graph.get_or_insert_with(|| Graph::of(to.context(), queue)).launch(),
            None => {
                queue(to.context().stream());
                if graphs.len() == LISTS {
                    graphs.clear();
                }
                graphs.insert(digest, None);
            }
        }
        tables.sent();
    }

    /// Enlarges the buffer of host tables, for later steps.
    pub fn grow(&self, queue: &Arc<Queue>) {
        let mut kept = self.cache.kept();
        let bytes = kept.tables.as_ref().map_or(TABLES, Tables::bytes);
        // Lists with the old addresses do not come again.
        kept.graphs.clear();
        kept.tables = Some(Tables::new(queue, bytes * GROWTH));
    }
}

/// The digest of a list of work and of the bytes of its tables.
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
