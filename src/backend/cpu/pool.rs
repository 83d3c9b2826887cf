//! A few threads that share the pieces of one job after another. Independent of the work in a
//! piece.
//!
//! Operations are tens of microseconds long and follow one another at once, so an idle helper polls
//! for the next job for a while before it sleeps: waking a thread costs as much as an operation.
//!
//! A job is published by setting `unclaimed` to its number of pieces. A thread that decrements it
//! owns a piece and may then read the job, which does not change until every piece is done. One job
//! runs at a time; a thread that starts a second job meanwhile runs it alone.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Polls for a job before a helper sleeps: some hundreds of microseconds.
const LOOKOUT: usize = 1 << 13;
/// Polls for the end of a job before the processor is yielded to another thread.
const LOOKS: usize = 256;

static POOL: Pool = Pool {
    busy: AtomicBool::new(false),
    job: UnsafeCell::new(None),
    unclaimed: AtomicUsize::new(0),
    done: AtomicUsize::new(0),
    panic: Mutex::new(None),
    sleepers: AtomicUsize::new(0),
    published: Mutex::new(0),
    wake: Condvar::new(),
};

/// Runs `work` once for each of `0..pieces`, on this thread and others: as many together as rayon
/// has where this is called.
pub fn share(pieces: usize, work: &(dyn Fn(usize) + Sync)) {
    let threads = rayon::current_num_threads().min(pieces);
    if threads < 2 || POOL.busy.swap(true, Ordering::Acquire) {
        return (0..pieces).for_each(work);
    }
    POOL.start_helpers(threads - 1);
    POOL.run(pieces, work);
    let panic = lock(&POOL.panic).take();
    POOL.busy.store(false, Ordering::Release);
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

struct Pool {
    /// Whether a job is running.
    busy: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    /// Pieces of the job that no thread has taken yet.
    unclaimed: AtomicUsize,
    /// Pieces of the job that are done.
    done: AtomicUsize,
    /// The first panic of the job.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Helpers asleep, or about to be.
    sleepers: AtomicUsize,
    /// Helpers started; also what sleepers wait with.
    published: Mutex<usize>,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct Job {
    pieces: usize,
    work: *const (dyn Fn(usize) + Sync),
}

// SAFETY: `job` is written by the thread that holds `busy` alone, while no piece is unclaimed or at
// work, and read by threads that own a piece alone; `work` may be called from any thread (it is
// `Sync`), and `run` outlives its use.
unsafe impl Sync for Pool {}

impl Pool {
    /// Runs a job to its end. For the thread that holds `busy`.
    fn run(&'static self, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes, and the loop below does not end before the last use of
        // the job.
        let work = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work)
        };
        // SAFETY: this thread holds `busy`, and the previous job has ended: no thread owns a piece.
        unsafe { *self.job.get() = Some(Job { pieces, work }) };
        self.done.store(0, Ordering::Relaxed);
        self.unclaimed.store(pieces, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.published));
            self.wake.notify_all();
        }
        while self.work_on_one() {}
        let mut looks = 0;
        while self.done.load(Ordering::Acquire) < pieces {
            looks += 1;
            match looks % LOOKS {
                0 => std::thread::yield_now(),
                _ => std::hint::spin_loop(),
            }
        }
    }

    /// Takes a piece and runs it; false if there is none.
    fn work_on_one(&self) -> bool {
        let claim = self
            .unclaimed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |pieces| pieces.checked_sub(1));
        let Ok(unclaimed) = claim else { return false };
        // SAFETY: this thread owns a piece, so the job is valid until this thread increments
        // `done`.
        let job = unsafe { (*self.job.get()).expect("pieces belong to a job") };
        // SAFETY: as above.
        let work = unsafe { &*job.work };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(job.pieces - unclaimed))) {
            lock(&self.panic).get_or_insert(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    /// Starts helpers until there are `wanted`, or until the machine can start no further thread.
    fn start_helpers(&'static self, wanted: usize) {
        let mut helpers = lock(&self.published);
        while *helpers < wanted
            && std::thread::Builder::new().name("kernels".into()).spawn(|| self.help()).is_ok()
        {
            *helpers += 1;
        }
    }

    /// The loop of a helper.
    fn help(&self) {
        loop {
            while self.work_on_one() {}
            if !self.look_out() {
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                let mut guard = lock(&self.published);
                while self.unclaimed.load(Ordering::SeqCst) == 0 {
                    guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                drop(guard);
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Polls for a job; false if none came.
    fn look_out(&self) -> bool {
        for _ in 0..LOOKOUT {
            if self.unclaimed.load(Ordering::Relaxed) > 0 {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_threads<R: Send>(threads: usize, run: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
    }

    #[test]
    fn every_piece_is_done_once_whoever_else_is_at_work() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for pieces in (0..40).chain(0..2000) {
                        let counts: Vec<AtomicUsize> =
                            (0..pieces % 40).map(|_| AtomicUsize::new(0)).collect();
                        with_pieces(&counts);
                    }
                });
            }
        });
    }

    fn with_pieces(counts: &[AtomicUsize]) {
        share(counts.len(), &|piece| {
            counts[piece].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn jobs_in_jobs_are_done() {
        let total = AtomicUsize::new(0);
        with_threads(3, || {
            share(5, &|_| {
                share(7, &|_| {
                    total.fetch_add(1, Ordering::Relaxed);
                })
            })
        });
        assert_eq!(total.into_inner(), 35);
    }

    #[test]
    fn sleeping_helpers_wake() {
        with_threads(3, || {
            for _ in 0..3 {
                let counts: Vec<AtomicUsize> = (0..9).map(|_| AtomicUsize::new(0)).collect();
                with_pieces(&counts);
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    }

    #[test]
    fn a_panic_reaches_who_asked_and_the_next_job_runs() {
        let panic = with_threads(3, || {
            catch_unwind(|| share(8, &|piece| assert!(piece != 5, "piece five"))).unwrap_err()
        });
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"piece five"));
        let done = AtomicUsize::new(0);
        share(8, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 8);
    }
}
