//! The CUDA driver: a device, its memory, modules and kernels. Knows no operation, and not how work
//! is queued (`queue.rs`).
//!
//! 1. The driver is looked up when a device is opened, and nothing of it is asked before that:
//!    cudarc panics where it is absent.
//! 2. Everything is queued on one stream, in the order of the calls, so memory that is freed may
//!    still be used by what was queued before, and no event is needed.
//! 3. Memory comes from the driver's own stream-ordered pool, which keeps what is freed until the
//!    process ends.
//! 4. An operation cannot return an error, so faults are raised (`error::raise`): the device's
//!    memory is full, or a kernel failed.

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaStream, sys};

use super::graph_cache::{GraphCache, Step};
use super::queue::{Staging, Work, bytes_of};
use crate::error::{Failure, Kind, environment, raise};

/// The oldest driver that knows all the calls made here, as it says its version: CUDA 12.4.
const OLDEST: i32 = 12_040;

/// An open device.
#[derive(Debug)]
pub struct Device {
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
    /// Copies by way of pinned memory.
    pub staging: Staging,
    /// The steps that are being gathered, at most one a thread.
    steps: Mutex<Vec<Step>>,
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

/// The driver's name of an error.
fn named(error: DriverError) -> String {
    error.error_name().map_or_else(
        |_| format!("error {}", error.0 as u32),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The fault behind an error of a call that was to do `what`.
pub fn fault(what: &str, error: DriverError) -> Failure {
    let kind = match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Kind::Environment,
        // Kernels that fail, and calls that are wrong.
        _ => Kind::Bug,
    };
    Failure::new(kind, format!("CUDA cannot {what}: {}", named(error)))
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

impl Device {
    /// Bytes of memory that are free.
    pub fn free(&self) -> u64 {
        self.bound();
        self.context.mem_get_info().map_or(0, |(free, _)| free as u64)
    }

    /// Opens device `index`, counted from 0.
    pub fn open(index: usize) -> Result<Arc<Device>, Failure> {
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
        let device = Device {
            name: context.name().map_err(asked)?,
            capability: context.compute_capability().map_err(asked)?,
            version: number,
            total: context.total_mem().map_err(asked)?,
            multiprocessors: usize::try_from(context.attribute(multiprocessors).map_err(asked)?)
                .expect("a count"),
            context,
            stream,
            held: Mutex::default(),
            staging: Staging::default(),
            steps: Mutex::default(),
        };
        device.keep_freed_memory().map_err(asked)?;
        Ok(Arc::new(device))
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

    /// So many bytes are allocated no more.
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

    /// The step that this thread gathers, if it does.
    fn step(&self) -> Option<Gathered<'_>> {
        let steps = self.steps();
        let at = steps.iter().position(Step::is_here)?;
        Some(Gathered(steps, at))
    }

    fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this thread's work is gathered, until [`Device::finish`] or the first download.
    pub fn begin(self: &Arc<Self>, cache: &GraphCache) {
        self.finish();
        let step = Step::new(self, cache);
        self.steps().push(step);
    }

    /// Queues what was gathered, if anything is.
    pub fn finish(self: &Arc<Self>) {
        if let Some(mut step) = self.taken() {
            step.run(self);
            self.free_dropped(&step);
        }
    }

    /// Forgets what was gathered: what would have used it has failed.
    pub fn abandon(&self) {
        if let Some(step) = self.taken() {
            self.free_dropped(&step);
        }
    }

    fn taken(&self) -> Option<Step> {
        let Gathered(mut steps, at) = self.step()?;
        Some(steps.swap_remove(at))
    }

    fn free_dropped(&self, step: &Step) {
        step.dropped.iter().for_each(|address| self.free_at(*address));
    }

    /// Queues work, or gathers it.
    fn queue(&self, work: Work) {
        match self.step() {
            Some(mut step) => step.get().push(work),
            None => self.issue(self.stream(), &work),
        }
    }

    /// Memory that holds nothing in particular.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Memory {
        let cache = self.step().map(|mut step| step.get().cache().clone());
        match cache {
            None => self.allocate_for_good(bytes),
            Some(cache) => {
                let (address, block) = cache.take(self, bytes);
                Memory { device: self.clone(), address, bytes, home: Home::Step(cache, block) }
            }
        }
    }

    /// The same, whether a step is gathered or not: memory that may outlive it.
    pub fn allocate_for_good(self: &Arc<Self>, bytes: usize) -> Memory {
        self.bound();
        // An allocation has an address, whether anything is kept there or not.
        let room = bytes.max(4);
        // SAFETY: what is allocated is written before it is read, which tests in the emulator
        // check, and freed by `Memory` alone.
        let allocated = unsafe {
            match self.context.has_async_alloc() {
                true => result::malloc_async(self.stream.cu_stream(), room),
                false => result::malloc_sync(room),
            }
        };
        let address = allocated.unwrap_or_else(|error| raise(self.no_memory(bytes, error)));
        let mut held = self.held();
        held.bytes += bytes;
        held.most = held.most.max(held.bytes);
        *held.sizes.entry(bytes).or_default() += 1;
        Memory { device: self.clone(), address, bytes, home: Home::Pool }
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

    /// Memory with these bytes.
    pub fn upload<T: Plain>(self: &Arc<Self>, host: &[T]) -> Memory {
        self.finish();
        let memory = self.allocate(size_of_val(host));
        self.send(memory.address, host);
        memory
    }

    /// Memory with these bytes, which is only read.
    pub fn table<T: Plain>(self: &Arc<Self>, host: &[T]) -> Memory {
        let room = self.step().map(|mut step| step.get().table(bytes_of(host)));
        match room {
            None => self.upload(host),
            Some(Some(address)) => Memory {
                device: self.clone(),
                address,
                bytes: size_of_val(host),
                home: Home::Tables,
            },
            Some(None) => {
                if let Some(mut step) = self.taken() {
                    step.run(self);
                    step.grow(self);
                    self.free_dropped(&step);
                }
                self.upload(host)
            }
        }
    }

    /// Waits for what is queued and copies memory to the host.
    pub fn download<T: Plain>(self: &Arc<Self>, memory: &Memory) -> Vec<T> {
        self.finish();
        self.receive(memory.address, memory.bytes / size_of::<T>())
    }

    /// Copies memory over memory of the same size.
    pub fn copy(&self, out: &mut Memory, x: &Memory) {
        assert_eq!(out.bytes, x.bytes, "memory is copied whole");
        self.queue(Work::Copy { to: out.address, from: x.address, bytes: x.bytes });
    }

    /// Zeros everywhere.
    pub fn clear(&self, out: &mut Memory) {
        self.queue(Work::Clear { to: out.address, bytes: out.bytes });
    }

    /// Loads machine code.
    pub fn load(&self, cubin: &[u8]) -> Result<Module, Failure> {
        self.bind()?;
        // SAFETY: the driver checks the image.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) };
        Ok(Module { handle: module.map_err(|error| fault("load kernels", error))? })
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
        self.bound();
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
        assert_eq!(sizes, function.parameters, "bytes of the arguments of {}", function.name);
        let grid =
            grid.map(|blocks| u32::try_from(blocks).expect("a grid has fewer blocks than 2^32"));
        self.queue(Work::Launch {
            function: function.clone(),
            grid,
            threads: threads as u32,
            shared: shared as u32,
            arguments,
        });
    }

    /// Frees what was allocated, behind what is queued.
    fn free_at(&self, address: sys::CUdeviceptr) {
        // An error here is one that the next call tells as well; a destructor cannot return it.
        let _ = self.bind();
        // SAFETY: allocated by `Device::allocate_for_good` in the same way, and freed once.
        let _ = unsafe {
            match self.context.has_async_alloc() {
                true => result::free_async(address, self.stream.cu_stream()),
                false => self.stream.synchronize().and_then(|()| result::free_sync(address)),
            }
        };
    }
}

/// The step that this thread gathers: all of them, locked, and which one it is.
struct Gathered<'a>(MutexGuard<'a, Vec<Step>>, usize);

impl Gathered<'_> {
    fn get(&mut self) -> &mut Step {
        &mut self.0[self.1]
    }
}

/// Numbers whose bytes are all that they are.
pub trait Plain: Copy + Default {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for u64 {}
impl Plain for f32 {}
impl Plain for f64 {}

/// Memory of a device, given back when it is dropped.
#[derive(Debug)]
pub struct Memory {
    device: Arc<Device>,
    address: sys::CUdeviceptr,
    bytes: usize,
    home: Home,
}

/// Where memory goes back to.
#[derive(Debug)]
enum Home {
    /// The driver's pool.
    Pool,
    /// A block that steps keep.
    Step(GraphCache, usize),
    /// Nowhere: it is a part of a step's tables.
    Tables,
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.bind();
        // SAFETY: the stream lives until the fields are dropped. What is queued may read the pinned
        // memory that goes with them.
        let _ = unsafe { result::stream::synchronize(self.stream()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match &self.home {
            Home::Pool => {
                self.device.forget(self.bytes);
                match self.device.step() {
                    Some(mut step) => step.get().dropped.push(self.address),
                    None => self.device.free_at(self.address),
                }
            }
            Home::Step(cache, block) => cache.give(*block),
            Home::Tables => {}
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

/// Loaded machine code. Lives as long as the process.
#[derive(Debug)]
pub struct Module {
    handle: sys::CUmodule,
}

// SAFETY: the driver's handles may be used by any thread that has bound the context.
unsafe impl Send for Module {}
// SAFETY: as above; calls on a module change nothing in it.
unsafe impl Sync for Module {}

/// A kernel.
#[derive(Debug)]
pub struct Function {
    name: String,
    handle: sys::CUfunction,
    /// Bytes of each parameter, as the machine code has them.
    parameters: Vec<usize>,
}

// SAFETY: as of modules.
unsafe impl Send for Function {}
// SAFETY: as of modules.
unsafe impl Sync for Function {}

impl Function {
    /// As its file calls it, with the storage type.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's handle.
    pub fn handle(&self) -> sys::CUfunction {
        self.handle
    }
}

impl Module {
    /// The kernel of this name, which may use `shared` bytes of dynamic shared memory.
    pub fn function(&self, name: &str, shared: usize) -> Result<Function, Failure> {
        let wanted = CString::new(name).expect("names of kernels are words");
        let missing = |error| fault(&format!("find the kernel {name}"), error);
        // SAFETY: the module is loaded, and stays so.
        let found = unsafe { result::module::get_function(self.handle, wanted) };
        let handle = found.map_err(missing)?;
        let mut parameters = Vec::new();
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the function was just found; the call writes two numbers, or fails where there is
        // no such parameter.
        while unsafe { sys::cuFuncGetParamInfo(handle, parameters.len(), &mut offset, &mut bytes) }
            .result()
            .is_ok()
        {
            parameters.push(bytes);
        }
        // Without the attribute a launch may have 48 KiB of static and dynamic shared memory
        // together.
        if shared > 0 {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function was just found.
            unsafe { result::function::set_function_attribute(handle, attribute, shared as i32) }
                .map_err(|error| {
                fault(&format!("give {name} {shared} bytes of shared memory"), error)
            })?;
        }
        Ok(Function { name: name.to_owned(), handle, parameters })
    }
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// A pointer, 64 bits.
    Address(u64),
    /// `size` of the prelude, 64 bits.
    Size(i64),
    /// 32 bits.
    Integer(i32),
    /// 32 bits.
    Float(f32),
    /// 128 bytes: where a matrix is, for tensor copies.
    Map(sys::CUtensorMap),
}

impl Argument {
    /// Where some memory is.
    pub fn of(memory: &Memory) -> Argument {
        Argument::Address(memory.address)
    }

    fn bytes(&self) -> usize {
        match self {
            Argument::Integer(_) | Argument::Float(_) => 4,
            Argument::Address(_) | Argument::Size(_) => 8,
            Argument::Map(_) => 128,
        }
    }

    /// Where its bytes are; the driver only reads them.
    pub fn pointer(&self) -> *mut c_void {
        match self {
            Argument::Address(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Size(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Integer(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Float(x) => std::ptr::from_ref(x).cast_mut().cast(),
            Argument::Map(x) => std::ptr::from_ref(x).cast_mut().cast(),
        }
    }
}
