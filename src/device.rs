//! The one place that picks the back end.

use std::path::Path;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::error::Result;
use crate::fs;

/// The back end that stages run on: the CPU in single precision.
pub type Device = Cpu<f32>;

/// The numerics class of the device, a part of every key: a back end or a precision that gives other bits must have another name.
pub const NUMERICS: &str = "cpu f32";

/// The device.
pub fn device() -> Device {
    Cpu::new()
}

/// Bytes that generation may take for its cache: a quarter of what is free.
pub fn cache_budget() -> u64 {
    available_memory().ok().flatten().unwrap_or(u64::MAX) / 4
}

/// A precision to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As stages do.
    Single,
    /// To check others by.
    Double,
}

impl Precision {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Precision::Single => 4,
            Precision::Double => 8,
        }
    }
}

/// Bytes that the CPU's memory has free, as the system sees it and as the control group of this process allows; `None` where neither says.
pub fn available_memory() -> Result<Option<u64>> {
    let read = |path: &str| -> Result<Option<String>> {
        let bytes = fs::read_if_exists(Path::new(path))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let free = read("/proc/meminfo")?.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(1024 * number(line.trim_end_matches("kB"))?)
    });
    let group = |name: &str| -> Result<Option<u64>> { Ok(read(&format!("/sys/fs/cgroup/{name}"))?.as_deref().and_then(number)) };
    // Files that were read are in the group's memory too, and leave it when it is needed.
    let stat = read("/sys/fs/cgroup/memory.stat")?.unwrap_or_default();
    let files = stat.lines().find_map(|line| number(line.strip_prefix("inactive_file ")?)).unwrap_or(0);
    let allowed = match (group("memory.max")?, group("memory.current")?) {
        (Some(most), Some(held)) => Some(most.saturating_sub(held.saturating_sub(files))),
        _ => None,
    };
    Ok([free, allowed].into_iter().flatten().min())
}

/// Something to be done on a back end that is picked at run time.
pub trait Task {
    /// What comes of it.
    type Output;
    /// Does it. A number of `B` widened to f64 is exact; in single precision it fits f32.
    fn run<B: Backend>(self, b: B) -> Self::Output;
}

/// Does `task` on the CPU.
pub fn on_cpu<T: Task>(precision: Precision, task: T) -> T::Output {
    match precision {
        Precision::Single => task.run(Cpu::<f32>::new()),
        Precision::Double => task.run(Cpu::<f64>::new()),
    }
}
