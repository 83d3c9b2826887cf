//! The one stream: work that is queued on it, copies by way of pinned memory of the host, and
//! graphs. Independent of recorded steps.
//!
//! 1. Copies from pageable memory make the driver wait; small ones go through a ring of pinned
//!    memory. What was copied to the ring is used again when the stream was waited for since. Waits
//!    are counted when they begin, since what another thread queues meanwhile is not waited for.
//! 2. A graph is what was queued between two calls, as the driver keeps it: one launch queues it
//!    all again. It reads pinned memory as it is then.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{result, sys};

use super::context::{Allocation, Context};
use super::fault::fault;
use super::function::{Argument, Function, Plain, bytes_of};
use super::pinned::Pinned;
use crate::error::raise;

/// Bytes of the ring; a copy of more than half of it goes the driver's own way.
const RING: usize = 4 << 20;
/// Where copies in the ring start.
const ALIGNMENT: usize = 64;

/// Something to be queued.
#[derive(Debug)]
pub enum Work {
    /// A kernel over a grid of blocks.
    Launch {
        /// The kernel.
        function: Arc<Function>,
        /// Blocks.
        grid: [u32; 3],
        /// Threads of a block.
        threads: u32,
        /// Bytes of dynamic shared memory.
        shared: u32,
        /// Of the sizes that the kernel declares.
        arguments: Vec<Argument>,
    },
    /// A copy on the device.
    Copy {
        /// Address.
        to: u64,
        /// Address.
        from: u64,
        /// How many.
        bytes: usize,
    },
    /// Zeros.
    Clear {
        /// Address.
        to: u64,
        /// How many.
        bytes: usize,
    },
}

/// The stream of a device, the ring, the count of waits for the stream that have started, and the
/// latest of them that is done.
#[derive(Debug)]
pub struct Queue {
    context: Arc<Context>,
    started: AtomicU64,
    done: AtomicU64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    pinned: Option<Pinned>,
    used: usize,
    /// When the last of what is used had been queued.
    queued: Fence,
}

/// A moment in the queue: work before it is done once a wait that started later is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fence(u64);

impl Queue {
    /// Of a device.
    pub fn new(context: Arc<Context>) -> Queue {
        let (started, done, ring) = Default::default();
        Queue { context, started, done, ring }
    }

    /// The device.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Waits until all that is queued is done.
    pub fn wait(&self) {
        self.context.bound();
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        // SAFETY: the stream lives as long as the device.
        let waited = unsafe { result::stream::synchronize(self.context.stream()) };
        waited.unwrap_or_else(|error| raise(fault("run what was queued", error)));
        self.done.fetch_max(number, Ordering::SeqCst);
    }

    /// This moment, after something was queued.
    pub fn fence(&self) -> Fence {
        Fence(self.started.load(Ordering::SeqCst))
    }

    /// Whether what had been queued at that moment is known to be done.
    pub fn is_done(&self, fence: Fence) -> bool {
        self.done.load(Ordering::SeqCst) > fence.0
    }

    /// Room for `bytes` bytes in the ring: where it starts. Waits where there is none.
    fn room(&self, ring: &mut Ring, bytes: usize) -> usize {
        if self.is_done(ring.queued) {
            ring.used = 0;
        }
        if ring.used + bytes > RING {
            self.wait();
            ring.used = 0;
        }
        let at = ring.used;
        ring.used = (at + bytes).next_multiple_of(ALIGNMENT);
        ring.pinned.get_or_insert_with(|| Pinned::new(RING));
        at
    }

    /// Queues a copy of numbers of the host, which are free when the call returns.
    pub fn send<T: Plain>(&self, to: u64, host: &[T]) {
        let bytes = bytes_of(host);
        if bytes.is_empty() {
            return;
        }
        self.context.bound();
        let copied = if bytes.len() > RING / 2 {
            // SAFETY: the caller has as many bytes there; pageable memory of the host is copied
            // away before the call returns.
            unsafe { result::memcpy_htod_async(to, bytes, self.context.stream()) }
        } else {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let at = self.room(&mut ring, bytes.len());
            let pinned = ring.pinned.as_mut().expect("there is room");
            pinned.write(at, bytes);
            // SAFETY: as many bytes were just written, and stay until the stream was waited for.
            let copied = unsafe {
                sys::cuMemcpyHtoDAsync_v2(
                    to,
                    pinned.at(at).cast(),
                    bytes.len(),
                    self.context.stream(),
                )
            }
            .result();
            ring.queued = self.fence();
            copied
        };
        copied.unwrap_or_else(|error| raise(fault("copy to the device", error)));
    }

    /// Waits for what is queued, and copies numbers to the host.
    pub fn receive<T: Plain>(&self, from: u64, count: usize) -> Vec<T> {
        self.context.bound();
        let mut host = vec![T::default(); count];
        let bytes = size_of_val(&host[..]);
        let failed = |error| raise(fault("copy from the device", error));
        if bytes == 0 {
            self.wait();
        } else if bytes > RING / 2 {
            // SAFETY: no more bytes than the memory has, and the host's are there until the copy is
            // waited for.
            unsafe { result::memcpy_dtoh_async(&mut host, from, self.context.stream()) }
                .unwrap_or_else(failed);
            self.wait();
        } else {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let at = self.room(&mut ring, bytes);
            let pinned = ring.pinned.as_ref().expect("there is room");
            let place = pinned.at(at);
            // SAFETY: there is room for as many bytes, which is given to no other caller before the
            // lock is free.
            unsafe { sys::cuMemcpyDtoHAsync_v2(place.cast(), from, bytes, self.context.stream()) }
                .result()
                .unwrap_or_else(failed);
            self.wait();
            // SAFETY: the copy is done; plain numbers are any bytes.
            unsafe { std::ptr::copy_nonoverlapping(place, host.as_mut_ptr().cast(), bytes) };
        }
        host
    }

    /// Queues work, on the one stream or where a graph is recorded.
    pub fn issue(&self, stream: sys::CUstream, work: &Work) {
        self.context.bound();
        match work {
            Work::Launch { function, grid: [x, y, z], threads, shared, arguments } => {
                let mut pointers: Vec<*mut c_void> =
                    arguments.iter().map(Argument::pointer).collect();
                let (handle, grid, block) = (function.handle(), (*x, *y, *z), (*threads, 1, 1));
                // SAFETY: the arguments have the sizes that the kernel declares, and are copied
                // before the call returns; what they point to is freed, if at all, by work that is
                // queued later. What kernels do with it is checked in the emulator.
                let launched = unsafe {
                    result::launch_kernel(handle, grid, block, *shared, stream, &mut pointers)
                };
                let what =
                    || format!("launch {} over {grid:?} blocks of {threads}", function.name());
                launched.unwrap_or_else(|error| raise(fault(&what(), error)));
            }
            Work::Copy { to, from, bytes } => {
                // SAFETY: both have as many bytes.
                let copied = unsafe { result::memcpy_dtod_async(*to, *from, *bytes, stream) };
                copied.unwrap_or_else(|error| raise(fault("copy on the device", error)));
            }
            Work::Clear { to, bytes } => {
                // SAFETY: as many bytes as there are.
                let cleared = unsafe { result::memset_d8_async(*to, 0, *bytes, stream) };
                cleared.unwrap_or_else(|error| raise(fault("clear memory", error)));
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = self.context.bind();
        // SAFETY: the stream lives as long as the context. What is queued may read the ring, which
        // is dropped after this.
        let _ = unsafe { result::stream::synchronize(self.context.stream()) };
    }
}

/// A list of work that one call queues.
#[derive(Debug)]
pub struct Graph {
    context: Arc<Context>,
    handle: sys::CUgraphExec,
}

// SAFETY: the driver's handles may be used by any thread that has bound the context; one owner
// launches it.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // An error is one that the next call tells as well; a destructor cannot return it.
        let _ = self.context.bind();
        // SAFETY: made by `of` and destroyed once.
        let _ = unsafe { result::graph::exec_destroy(self.handle) };
    }
}

impl Graph {
    /// What `queued` queues on the stream that it is given, which is not done yet. That stream is
    /// no other thread's: what these queue meanwhile runs.
    pub fn of(context: &Arc<Context>, queued: impl FnOnce(sys::CUstream)) -> Graph {
        let failed = |error| raise(fault("record what is queued", error));
        context.bound();
        let stream =
            result::stream::create(result::stream::StreamKind::NonBlocking).unwrap_or_else(failed);
        // Calls of other threads go on.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream was just made.
        if let Err(error) = unsafe { result::stream::begin_capture(stream, mode) } {
            raise(fault("record what is queued", error));
        }
        queued(stream);
        // SAFETY: the stream lives until it is destroyed here, once, as is the list; what was made
        // of that lives on.
        let made = unsafe {
            let made = result::stream::end_capture(stream).and_then(|list| {
                let made = result::graph::instantiate(list, sys::CUgraphInstantiate_flags(0));
                result::graph::destroy(list).and(made)
            });
            result::stream::destroy(stream).and(made)
        };
        let handle = made.unwrap_or_else(|error| raise(fault("record what is queued", error)));
        Graph { context: context.clone(), handle }
    }

    /// Queues it all.
    pub fn launch(&self) {
        self.context.bound();
        // SAFETY: both live.
        let launched = unsafe { result::graph::launch(self.handle, self.context.stream()) };
        launched.unwrap_or_else(|error| raise(fault("launch what was recorded", error)));
    }
}

/// Numbers of the host that a list of work reads, in one piece: pinned memory, and memory of the
/// device that it is copied to.
#[derive(Debug)]
pub struct Tables {
    queue: Arc<Queue>,
    pinned: Pinned,
    at: Allocation,
    /// When their copy had last been queued.
    sent: Option<Fence>,
}

impl Drop for Tables {
    fn drop(&mut self) {
        let context = self.queue.context();
        let _ = context.bind();
        // SAFETY: the stream lives as long as the device. A copy of the pinned memory may be on its
        // way.
        let _ = unsafe { result::stream::synchronize(context.stream()) };
    }
}

impl Tables {
    /// Room for `bytes` bytes.
    pub fn new(queue: &Arc<Queue>, bytes: usize) -> Tables {
        let at = Allocation::new(queue.context(), bytes);
        Tables { queue: queue.clone(), pinned: Pinned::new(bytes), at, sent: None }
    }

    /// Where they are on the device.
    pub fn address(&self) -> u64 {
        self.at.address()
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.pinned.bytes()
    }

    /// Other numbers, for the next time they are sent.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.sent.is_some_and(|fence| !self.queue.is_done(fence)) {
            self.queue.wait();
        }
        self.pinned.write(0, bytes);
    }

    /// Their copy has been queued, by itself or with a graph.
    pub fn sent(&mut self) {
        self.sent = Some(self.queue.fence());
    }

    /// Queues the copy of the first `bytes` bytes.
    pub fn send(&self, stream: sys::CUstream, bytes: usize) {
        assert!(bytes <= self.pinned.bytes(), "as many bytes as there are");
        if bytes > 0 {
            self.queue.context().bound();
            // SAFETY: both have as many bytes; the pinned ones stay until the stream was waited
            // for, which `write` and `Drop` see to.
            let copied = unsafe {
                sys::cuMemcpyHtoDAsync_v2(
                    self.at.address(),
                    self.pinned.at(0).cast(),
                    bytes,
                    stream,
                )
            };
            copied.result().unwrap_or_else(|error| raise(fault("copy to the device", error)));
        }
    }
}
