//! Memory of a device: bytes of its numbers, what is free, and the share of the generation cache.

use std::path::Path;

use super::open::Device;
use super::request::Precision;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::backend::{Backend, Buffers, Sizes};
use crate::error::Result;
use crate::fs;

impl Device {
    /// Bytes of the numbers in its memory, where it computes in a precision.
    pub fn sizes(&self, precision: Precision) -> Sizes {
        match self {
            Device::Host => match precision {
                Precision::Single => Cpu::<f32>::new().sizes(),
                Precision::Double => Cpu::<f64>::new().sizes(),
            },
            Device::Cuda { dtype, .. } => Cuda::sizes_of(*dtype),
        }
    }

    /// Bytes of its memory that are free; `None` where nothing says.
    ///
    /// # Errors
    /// The machine's, if there is no such device.
    pub fn free_memory(&self) -> Result<Option<u64>> {
        match self {
            Device::Host => host_memory(),
            Device::Cuda { index, .. } => Ok(Some(Cuda::free_memory(*index)?)),
        }
    }

    /// Bytes that the cache of generation may take of what is free now.
    ///
    /// # Errors
    /// The machine's, if there is no such device.
    pub fn cache_budget(&self) -> Result<u64> {
        Ok(cache_share(self.free_memory()?))
    }
}

/// The share of free memory that the cache of generation may take.
const CACHE_SHARE: u64 = 4;

/// Bytes that the cache of generation may take of what `b` has free now.
pub fn cache_budget<B: Backend>(b: &B) -> u64 {
    let free = b.free_memory().or_else(|| host_memory().ok().flatten());
    cache_share(free)
}

/// Bytes that the cache of generation may take where `free` are free, if that is known.
pub fn cache_share(free: Option<u64>) -> u64 {
    free.unwrap_or(u64::MAX) / CACHE_SHARE
}

/// Bytes that the CPU's memory has free, as the system sees it and as the control group of this
/// process allows; `None` where neither says.
fn host_memory() -> Result<Option<u64>> {
    let read = |path: &str| -> Result<Option<String>> {
        let bytes = fs::read_if_exists(Path::new(path))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let free = read("/proc/meminfo")?.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(1024 * number(line.trim_end_matches("kB"))?)
    });
    let group = |name: &str| -> Result<Option<u64>> {
        Ok(read(&format!("/sys/fs/cgroup/{name}"))?.as_deref().and_then(number))
    };
    // Files that were read are in the group's memory too, and leave it when it is needed.
    let stat = read("/sys/fs/cgroup/memory.stat")?.unwrap_or_default();
    let files =
        stat.lines().find_map(|line| number(line.strip_prefix("inactive_file ")?)).unwrap_or(0);
    let allowed = match (group("memory.max")?, group("memory.current")?) {
        (Some(most), Some(held)) => Some(most.saturating_sub(held.saturating_sub(files))),
        _ => None,
    };
    Ok([free, allowed].into_iter().flatten().min())
}
