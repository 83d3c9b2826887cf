//! An open CUDA device: its context, its one stream, and allocations. Independent of kernels and of
//! recorded steps.
//!
//! 1. The driver is looked up when a device is opened, and nothing of it is asked before that:
//!    cudarc panics where it is absent.
//! 2. Everything is queued on one stream, in the order of the calls, so memory that is freed may
//!    still be used by what was queued before, and no event is needed.
//! 3. Memory comes from the driver's own stream-ordered pool, which keeps what is freed until the
//!    process ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{ThreadId, current};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaStream, sys};

use super::fault::{fault, named};
use crate::error::{Failure, environment, raise};

/// The oldest driver that knows all the calls made here, as it says its version: CUDA 12.4.
const OLDEST: i32 = 12_040;

/// An open device with its one stream.
#[derive(Debug)]
pub struct Context {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// As its maker calls it.
    pub name: String,
    /// Compute capability: `(9, 0)`.
    pub capability: (i32, i32),
    /// The driver's version: 13000 for CUDA 13.0.
    pub version: i32,
    /// Bytes of memory.
    pub total: usize,
    /// Blocks that run at the same time, where one fills a multiprocessor.
    pub multiprocessors: usize,
    held: Mutex<Held>,
    /// For each thread that defers frees, the addresses to free.
    deferred: Mutex<Vec<(ThreadId, Vec<sys::CUdeviceptr>)>>,
}

/// What is allocated.
#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    most: usize,
    /// Allocations of each size.
    sizes: BTreeMap<usize, usize>,
}

/// Bytes as people read them.
fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// CUDA's version as people write it.
pub fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// How many devices there are; 0 without a driver, or with one that does not work.
pub fn count() -> usize {
    // SAFETY: looks for a library and loads it, as the program would when it first called it.
    let works = unsafe { sys::is_culib_present() } && result::init().is_ok();
    if works { CudaContext::device_count().map_or(0, |count| count.max(0) as usize) } else { 0 }
}

impl Context {
    /// Bytes of memory that are free.
    pub fn free(&self) -> u64 {
        self.bound();
        self.context.mem_get_info().map_or(0, |(free, _)| free as u64)
    }

    /// Opens device `index`, counted from 0.
    pub fn open(index: usize) -> Result<Arc<Context>, Failure> {
        // SAFETY: looks for a library and loads it, as the program would when it first called it.
        if !unsafe { sys::is_culib_present() } {
            let hint = "install NVIDIA's driver, or use --device cpu; in a container, pass the \
                devices on (--gpus all)";
            return Err(environment(
                "there is no CUDA driver: libcuda.so is in no folder of the dynamic linker",
            )
            .hint(hint));
        }
        let mut number = 0;
        // SAFETY: writes one integer; every driver has this call, and it needs no device.
        let told = unsafe { sys::cuDriverGetVersion(&mut number) }.result();
        let found = told.map_or_else(
            |_| "of no known version".into(),
            |()| format!("for CUDA {}", version(number)),
        );
        if told.is_err() || number < OLDEST {
            return Err(environment(format!(
                "the CUDA driver is too old: it is {found}, and CUDA {} is needed",
                version(OLDEST)
            ))
            .hint("install a newer driver of NVIDIA's"));
        }
        let asked = |error: DriverError| {
            let hint = "see whether `nvidia-smi` lists a device";
            environment(format!("the CUDA driver does not work: {}", named(error))).hint(hint)
        };
        result::init().map_err(asked)?;
        let count = CudaContext::device_count().map_err(asked)?;
        if i32::try_from(index).map_or(true, |index| index >= count) {
            return Err(environment(format!(
                "there is no CUDA device {index}: the driver has {count}, counted from 0"
            ))
            .hint("see `nvidia-smi -L`, and CUDA_VISIBLE_DEVICES"));
        }
        let context = CudaContext::new(index).map_err(asked)?;
        // SAFETY: there is one stream, and everything is queued on it.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(asked)?;
        let multiprocessors = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let opened = Context {
            name: context.name().map_err(asked)?,
            capability: context.compute_capability().map_err(asked)?,
            version: number,
            total: context.total_mem().map_err(asked)?,
            multiprocessors: usize::try_from(context.attribute(multiprocessors).map_err(asked)?)
                .expect("a count"),
            context,
            stream,
            held: Mutex::default(),
            deferred: Mutex::default(),
        };
        opened.keep_freed_memory().map_err(asked)?;
        Ok(Arc::new(opened))
    }

    /// Tells the pool not to give memory back to the system whenever the stream is waited for.
    fn keep_freed_memory(&self) -> Result<(), DriverError> {
        if !self.context.has_async_alloc() {
            return Ok(());
        }
        let mut all = u64::MAX;
        // SAFETY: the device is the context's, and the attribute is a number of 64 bits that lives
        // through the call.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.context.cu_device())?;
            let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, attribute, (&raw mut all).cast())
        }
    }

    /// Makes it the device of this thread.
    pub fn bind(&self) -> Result<(), Failure> {
        self.context.bind_to_thread().map_err(|error| fault("use the device", error))
    }

    /// The one stream.
    pub fn stream(&self) -> sys::CUstream {
        self.stream.cu_stream()
    }

    /// The same, where an error cannot be returned.
    pub fn bound(&self) {
        self.bind().unwrap_or_else(|error| raise(error));
    }

    /// What is allocated, also after a panic while it was counted.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a freed allocation of `bytes` bytes.
    fn forget(&self, bytes: usize) {
        let mut held = self.held();
        held.bytes -= bytes;
        if let Some(count) = held.sizes.get_mut(&bytes) {
            *count -= 1;
            if *count == 0 {
                held.sizes.remove(&bytes);
            }
        }
    }

    /// The most bytes that were allocated at a time.
    pub fn most_held(&self) -> usize {
        self.held().most
    }

    /// What took the memory that is not there.
    fn no_memory(&self, bytes: usize, error: DriverError) -> Failure {
        if error.0 != sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return fault("allocate memory", error);
        }
        let held = self.held();
        let mut sizes: Vec<(usize, usize)> =
            held.sizes.iter().map(|(size, count)| (*size, *count)).collect();
        sizes.sort_by_key(|(size, count)| std::cmp::Reverse(size * count));
        let largest: Vec<String> = sizes
            .iter()
            .take(4)
            .map(|(size, count)| format!("{count} of {}", mebibytes(*size)))
            .collect();
        let free = self.context.mem_get_info().map_or(0, |(free, _)| free);
        environment(format!(
            "the memory of {} is full: {} more were asked for; {} of {} are held here ({}), {} are \
             free",
            self.name,
            mebibytes(bytes),
            mebibytes(held.bytes),
            mebibytes(self.total),
            largest.join(", "),
            mebibytes(free),
        ))
        .hint(
            "use smaller batches or sequences, freeze layers, or end what else runs on the device",
        )
    }

    /// Frees what was allocated, behind what is queued.
    fn free_at(&self, address: sys::CUdeviceptr) {
        // An error here is one that the next call tells as well; a destructor cannot return it.
        let _ = self.bind();
        // SAFETY: allocated by `Allocation::new` in the same way, and freed once.
        let _ = unsafe {
            match self.context.has_async_alloc() {
                true => result::free_async(address, self.stream.cu_stream()),
                false => self.stream.synchronize().and_then(|()| result::free_sync(address)),
            }
        };
    }

    /// From now on this thread's frees wait, until [`Context::end_deferral`]: recorded work may
    /// use the memory.
    pub fn defer_frees(&self) {
        self.deferred().push((current().id(), Vec::new()));
    }

    /// Ends the deferral of this thread: the addresses, for [`Context::free_all`].
    pub fn end_deferral(&self) -> Vec<sys::CUdeviceptr> {
        let mut deferred = self.deferred();
        let at = deferred.iter().position(|(thread, _)| *thread == current().id());
        at.map(|at| deferred.swap_remove(at).1).unwrap_or_default()
    }

    /// Frees what was deferred, behind what is queued.
    pub fn free_all(&self, addresses: Vec<sys::CUdeviceptr>) {
        addresses.into_iter().for_each(|address| self.free_at(address));
    }

    fn deferred(&self) -> MutexGuard<'_, Vec<(ThreadId, Vec<sys::CUdeviceptr>)>> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory of the driver's pool, freed when it is dropped.
#[derive(Debug)]
pub struct Allocation {
    context: Arc<Context>,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl Allocation {
    /// Memory that holds nothing in particular.
    pub fn new(context: &Arc<Context>, bytes: usize) -> Allocation {
        context.bound();
        // An allocation has an address, whether anything is kept there or not.
        let room = bytes.max(4);
        // SAFETY: what is allocated is written before it is read, which tests in the emulator
        // check, and freed by `Drop` only.
        let allocated = unsafe {
            match context.context.has_async_alloc() {
                true => result::malloc_async(context.stream.cu_stream(), room),
                false => result::malloc_sync(room),
            }
        };
        let address = allocated.unwrap_or_else(|error| raise(context.no_memory(bytes, error)));
        let mut held = context.held();
        held.bytes += bytes;
        held.most = held.most.max(held.bytes);
        *held.sizes.entry(bytes).or_default() += 1;
        Allocation { context: context.clone(), address, bytes }
    }

    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it is on the device.
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.context.forget(self.bytes);
        let mut deferred = self.context.deferred();
        match deferred.iter_mut().find(|(thread, _)| *thread == current().id()) {
            Some((_, addresses)) => addresses.push(self.address),
            None => {
                drop(deferred);
                self.context.free_at(self.address);
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = self.bind();
        // SAFETY: the stream lives until the fields are dropped.
        let _ = unsafe { result::stream::synchronize(self.stream()) };
    }
}
