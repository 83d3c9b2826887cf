//! A device as operations use it: memory, copies and launches, which are queued, or recorded while
//! the thread runs a step. Independent of operations.
//!
//! An operation cannot return an error, so faults are raised (`error::raise`): the device's memory
//! is full, or a kernel failed.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys;

use super::context::{Allocation, Context};
use super::fault::fault;
use super::function::{Argument, Function, Plain, bytes_of};
use super::graph_cache::{GraphCache, Step};
use super::queue::{Queue, Work};
use crate::error::{Failure, raise};

/// A device with its queue and the steps that are recorded.
#[derive(Debug)]
pub struct Device {
    queue: Arc<Queue>,
    /// At most one a thread.
    steps: Mutex<Vec<Step>>,
}

impl Device {
    /// Opens device `index`, counted from 0.
    pub fn open(index: usize) -> Result<Arc<Device>, Failure> {
        let queue = Arc::new(Queue::new(Context::open(index)?));
        Ok(Arc::new(Device { queue, steps: Mutex::default() }))
    }

    /// The device without its queue.
    pub fn context(&self) -> &Arc<Context> {
        self.queue.context()
    }

    /// The step that this thread records, if it does.
    fn step(&self) -> Option<Recorded<'_>> {
        let steps = self.steps();
        let at = steps.iter().position(Step::is_here)?;
        Some(Recorded(steps, at))
    }

    fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this thread's work is recorded, until [`Device::finish`] or the first download.
    pub fn begin(&self, cache: &GraphCache) {
        self.finish();
        let step = Step::new(&self.queue, cache);
        self.context().defer_frees();
        self.steps().push(step);
    }

    /// Queues what was recorded, if anything is.
    pub fn finish(&self) {
        if let Some((mut step, dropped)) = self.taken() {
            step.run(&self.queue);
            self.context().free_all(dropped);
        }
    }

    /// Forgets what was recorded: what would have used it has failed.
    pub fn abandon(&self) {
        if let Some((_, dropped)) = self.taken() {
            self.context().free_all(dropped);
        }
    }

    /// The step of this thread, which is recorded no more, and the memory that was dropped
    /// meanwhile.
    fn taken(&self) -> Option<(Step, Vec<u64>)> {
        let Recorded(mut steps, at) = self.step()?;
        Some((steps.swap_remove(at), self.context().end_deferral()))
    }

    /// Queues work, or records it.
    fn push(&self, work: Work) {
        match self.step() {
            Some(mut step) => step.get().push(work),
            None => self.queue.issue(self.context().stream(), &work),
        }
    }

    /// Memory that holds nothing in particular.
    pub fn allocate(&self, bytes: usize) -> Memory {
        let cache = self.step().map(|mut step| step.get().cache().clone());
        match cache {
            None => self.allocate_for_good(bytes),
            Some(cache) => {
                let (address, block) = cache.take(&self.queue, bytes);
                Memory { address, bytes, home: Home::Step(cache, block) }
            }
        }
    }

    /// The same, whether a step is recorded or not: memory that may outlive it.
    pub fn allocate_for_good(&self, bytes: usize) -> Memory {
        let allocation = Allocation::new(self.context(), bytes);
        Memory {
            address: allocation.address(),
            bytes,
            home: Home::Pool { _allocation: allocation },
        }
    }

    /// Memory with these bytes.
    pub fn upload<T: Plain>(&self, host: &[T]) -> Memory {
        self.finish();
        let memory = self.allocate(size_of_val(host));
        self.queue.send(memory.address, host);
        memory
    }

    /// Memory with these bytes, which is only read.
    pub fn table<T: Plain>(&self, host: &[T]) -> Memory {
        let room = self.step().map(|mut step| step.get().table(bytes_of(host)));
        match room {
            None => self.upload(host),
            Some(Some(address)) => Memory { address, bytes: size_of_val(host), home: Home::Tables },
            Some(None) => {
                if let Some((mut step, dropped)) = self.taken() {
                    step.run(&self.queue);
                    step.grow(&self.queue);
                    self.context().free_all(dropped);
                }
                self.upload(host)
            }
        }
    }

    /// Waits for what is queued and copies memory to the host.
    pub fn download<T: Plain>(&self, memory: &Memory) -> Vec<T> {
        self.finish();
        self.queue.receive(memory.address, memory.bytes / size_of::<T>())
    }

    /// Copies memory over memory of the same size.
    pub fn copy(&self, out: &mut Memory, x: &Memory) {
        assert_eq!(out.bytes, x.bytes, "memory is copied whole");
        self.push(Work::Copy { to: out.address, from: x.address, bytes: x.bytes });
    }

    /// Zeros everywhere.
    pub fn clear(&self, out: &mut Memory) {
        self.push(Work::Clear { to: out.address, bytes: out.bytes });
    }

    /// A row-major matrix of bf16 for tensor copies of boxes of `box_rows` rows and 64 columns,
    /// with the 128-byte swizzle; what is outside of it reads as 0. Rows must be multiples of 16
    /// bytes.
    pub fn map(
        &self,
        memory: &Memory,
        rows: usize,
        columns: usize,
        box_rows: usize,
    ) -> sys::CUtensorMap {
        self.context().bound();
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        let sizes = [columns as u64, rows as u64];
        let (strides, boxes, steps) = ([2 * columns as u64], [64, box_rows as u32], [1, 1]);
        // SAFETY: every array has as many numbers as the call reads for two dimensions; the memory
        // is as large as the sizes say.
        let made = unsafe {
            sys::cuTensorMapEncodeTiled(
                &mut map,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                memory.address as *mut c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        made.result().unwrap_or_else(|error| {
            raise(fault(&format!("describe a matrix of {rows} x {columns}"), error))
        });
        map
    }

    /// Queues a kernel over a grid of blocks. Panics unless the arguments have the sizes of the
    /// kernel's parameters.
    pub fn launch(
        &self,
        function: &Arc<Function>,
        grid: [usize; 3],
        threads: usize,
        shared: usize,
        arguments: Vec<Argument>,
    ) {
        let sizes: Vec<usize> = arguments.iter().map(Argument::bytes).collect();
        assert_eq!(sizes, function.parameters(), "bytes of the arguments of {}", function.name());
        let grid =
            grid.map(|blocks| u32::try_from(blocks).expect("a grid has fewer blocks than 2^32"));
        self.push(Work::Launch {
            function: function.clone(),
            grid,
            threads: threads as u32,
            shared: shared as u32,
            arguments,
        });
    }
}

/// The step that this thread records: all of them, locked, and which one it is.
struct Recorded<'a>(MutexGuard<'a, Vec<Step>>, usize);

impl Recorded<'_> {
    fn get(&mut self) -> &mut Step {
        &mut self.0[self.1]
    }
}

/// Memory of a device, given back when it is dropped.
#[derive(Debug)]
pub struct Memory {
    address: sys::CUdeviceptr,
    bytes: usize,
    home: Home,
}

/// Where memory goes back to.
#[derive(Debug)]
enum Home {
    /// The driver's pool.
    Pool { _allocation: Allocation },
    /// A block that steps keep.
    Step(GraphCache, usize),
    /// Nowhere: it is a part of a step's tables.
    Tables,
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Home::Step(cache, block) = &self.home {
            cache.give(*block);
        }
    }
}

impl Memory {
    /// How large it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it is on the device.
    pub fn address(&self) -> u64 {
        self.address
    }
}
