//! The one place that picks the back end, and says what of it and of the machine decides bits.

mod class;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::backend::cpu::{Cpu, KERNELS, Level};
use crate::backend::cuda::{self, Cuda, Type};
use crate::backend::{Backend, Sizes};
use crate::error::{Kind, Result, caught, kind_of, user};
use crate::fs;

/// What a user may ask for: `auto`, `cpu`, `cuda`, `cuda:1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The first CUDA device, where there is a driver that has one; else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Processor,
    /// The CUDA device of this number.
    Cuda(usize),
}

impl FromStr for DeviceRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.parse().map_err(|_| format!("`{text}` is no number of a device"));
        match text {
            "auto" => Ok(DeviceRequest::Auto),
            "cpu" => Ok(DeviceRequest::Processor),
            "cuda" => Ok(DeviceRequest::Cuda(0)),
            _ => match text.strip_prefix("cuda:") {
                Some(index) => number(index).map(DeviceRequest::Cuda),
                None => Err("expected auto, cpu, cuda or cuda:N".into()),
            },
        }
    }
}

/// How weights and activations are stored, where the device has a choice: `bf16`, `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// In bf16; what is added up is in single precision, and weights that train have masters in it.
    Bf16,
    /// In single precision.
    F32,
}

impl Storage {
    fn kind(self) -> Type {
        match self {
            Storage::Bf16 => Type::Bf16,
            Storage::F32 => Type::F32,
        }
    }
}

impl FromStr for Storage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bf16" => Ok(Storage::Bf16),
            "f32" => Ok(Storage::F32),
            _ => Err("expected bf16 or f32".into()),
        }
    }
}

/// What computes matrix products, where the device has a choice: `auto`, `plain`, `hopper`,
/// `cublaslt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gemm {
    /// What a table in the source says was faster on the device.
    #[default]
    Auto,
    /// Our own kernels for any device.
    Plain,
    /// Our own kernels for the Hopper generation.
    Hopper,
    /// NVIDIA's library, for gradients alone: sampling and scoring have the bits of training only
    /// in one way.
    Cublaslt,
    /// The same for all products, which no user can ask a stage for: to be measured.
    CublasltAlone,
}

impl Gemm {
    fn of_backend(self) -> cuda::Gemm {
        match self {
            Gemm::Auto => cuda::Gemm::Auto,
            Gemm::Plain => cuda::Gemm::Plain,
            Gemm::Hopper => cuda::Gemm::Hopper,
            Gemm::Cublaslt => cuda::Gemm::Library,
            Gemm::CublasltAlone => cuda::Gemm::LibraryAlone,
        }
    }
}

impl FromStr for Gemm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Gemm::Auto),
            "plain" => Ok(Gemm::Plain),
            "hopper" => Ok(Gemm::Hopper),
            "cublaslt" => Ok(Gemm::Cublaslt),
            _ => Err("expected auto, plain, hopper or cublaslt".into()),
        }
    }
}

/// What is computed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Device {
    /// The CPU.
    #[serde(rename = "cpu")]
    Processor,
    /// A CUDA device.
    Cuda {
        /// Its number, counted from 0.
        index: usize,
        /// The folder in which machine code of kernels is kept.
        kernels: PathBuf,
        /// How numbers are stored.
        storage: Storage,
        /// What computes matrix products.
        gemm: Gemm,
        /// The numerics class, as the device was when it was picked.
        numerics: String,
    },
}

impl Device {
    /// What a wish means on this machine; machine code of kernels would be kept in `kernels`.
    /// Where no `storage` is asked for, a CUDA device stores bf16.
    ///
    /// # Errors
    /// The user's, if it does not store numbers or multiply so; the machine's, if there is no such
    /// device, or not what it is to multiply with.
    pub fn of(
        wish: DeviceRequest,
        storage: Option<Storage>,
        gemm: Gemm,
        kernels: &Path,
    ) -> Result<Self> {
        let index = match wish {
            DeviceRequest::Cuda(index) => Some(index),
            DeviceRequest::Auto if Cuda::count() > 0 => Some(0),
            DeviceRequest::Auto | DeviceRequest::Processor => None,
        };
        let Some(index) = index else {
            let hint = |option: &str, instead: &str| match wish {
                DeviceRequest::Auto => {
                    format!("there is no CUDA device here: leave {option} out{instead}")
                }
                _ => format!("leave {option} out{instead}, or add --device cuda"),
            };
            if storage == Some(Storage::Bf16) {
                let what = "the CPU computes in f32: bf16 is stored on a CUDA device alone";
                return Err(user(what).hint(hint("--dtype", ", take --dtype f32")).into());
            }
            if gemm != Gemm::Auto {
                return Err(user(
                    "the CPU has one way to multiply matrices: --gemm is for a CUDA device",
                )
                .hint(hint("--gemm", ""))
                .into());
            }
            return Ok(Device::Processor);
        };
        let storage = storage.unwrap_or(Storage::Bf16);
        let kind = match storage {
            Storage::F32 => "f32",
            Storage::Bf16 => "bf16",
        };
        let products = Cuda::products(index, storage.kind(), gemm.of_backend(), kernels)?;
        let code = Cuda::code_class(kernels)?;
        let numerics = format!("cuda {kind}{products} {code} {}", class::machine());
        Ok(Device::Cuda { index, kernels: kernels.into(), storage, gemm, numerics })
    }

    /// The numerics class, a part of the keys of what is made on it: what may give other bits must
    /// have another name.
    pub fn numerics(&self) -> &str {
        static PROCESSOR: OnceLock<String> = OnceLock::new();
        match self {
            Device::Processor => {
                PROCESSOR.get_or_init(|| format!("cpu f32 kernels {KERNELS} {}", class::machine()))
            }
            Device::Cuda { numerics, .. } => numerics,
        }
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        matches!(self, Device::Cuda { .. })
    }

    /// The same to be measured: where the library was asked for, it computes all products.
    pub fn measured(self) -> Self {
        match self {
            Device::Cuda { index, kernels, storage, gemm: Gemm::Cublaslt, numerics } => {
                Device::Cuda { index, kernels, storage, gemm: Gemm::CublasltAlone, numerics }
            }
            other => other,
        }
    }

    /// Bytes of the numbers in its memory, where it computes in a precision.
    pub fn sizes(&self, precision: Precision) -> Sizes {
        match self {
            Device::Processor => match precision {
                Precision::Single => Cpu::<f32>::new().sizes(),
                Precision::Double => Cpu::<f64>::new().sizes(),
            },
            Device::Cuda { storage, .. } => Cuda::sizes_of(storage.kind()),
        }
    }

    /// Bytes of its memory that are free; `None` where nothing says.
    ///
    /// # Errors
    /// The machine's, if there is no such device.
    pub fn free_memory(&self) -> Result<Option<u64>> {
        match self {
            Device::Processor => host_memory(),
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

    /// Does `task` on it.
    ///
    /// # Errors
    /// The user's, if it does not compute in that precision; the machine's, if there is no such
    /// device; the task's own.
    pub fn run<T, R>(&self, precision: Precision, task: T) -> Result<R>
    where
        T: Task<Output = Result<R>>,
    {
        match (self, precision) {
            (Device::Processor, Precision::Single) => {
                caught(|| task.run(Cpu::<f32>::new())).flatten()
            }
            (Device::Processor, Precision::Double) => {
                caught(|| task.run(Cpu::<f64>::new())).flatten()
            }
            (Device::Cuda { index, kernels, storage, gemm, .. }, Precision::Single) => {
                let cuda = open(*index, *storage, *gemm, kernels)?;
                // Operations, and who draws tokens as they come, cannot return errors: they raise
                // them.
                caught(|| task.run(cuda)).flatten()
            }
            (Device::Cuda { .. }, Precision::Double) => {
                Err(user("double precision is computed on the CPU alone")
                    .hint("add --device cpu")
                    .into())
            }
        }
    }

    /// Does `task`, which stages do: in single precision, or as the device stores numbers.
    pub fn run_stage<T>(&self, task: T) -> Result<()>
    where
        T: Task<Output = Result<()>>,
    {
        match self {
            Device::Processor => task.run(Cpu::<f32>::new()),
            Device::Cuda { index, kernels, storage, gemm, .. } => {
                task.run(open(*index, *storage, *gemm, kernels)?)
            }
        }
    }
}

/// Opens a CUDA device.
fn open(index: usize, storage: Storage, gemm: Gemm, kernels: &Path) -> Result<Cuda> {
    Cuda::with(index, storage.kind(), gemm.of_backend(), kernels)
}

/// What a plan uses of a device.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The numerics class of the device; `None` where it is not known without the device.
    pub numerics: Option<String>,
    /// Bytes of the numbers in its memory.
    pub sizes: Sizes,
    /// Bytes of its memory that are free; `None` where nothing says.
    pub free: Option<u64>,
    /// Why the device cannot be opened here.
    pub closed: Option<String>,
}

impl Outlook {
    /// What [`Device::of`] gives, as far as a plan uses it. A CUDA device that cannot be opened
    /// here is no error: its numerics class, which depends on its compute capability and on
    /// NVRTC, and its free memory are unknown.
    ///
    /// # Errors
    /// The user's, if the device does not store numbers or multiply so.
    pub fn of(
        wish: DeviceRequest,
        storage: Option<Storage>,
        gemm: Gemm,
        kernels: &Path,
    ) -> Result<Self> {
        match Device::of(wish, storage, gemm, kernels) {
            Ok(device) => Ok(Outlook {
                numerics: Some(device.numerics().to_owned()),
                sizes: device.sizes(Precision::Single),
                free: device.free_memory()?,
                closed: None,
            }),
            Err(error) if kind_of(&error) == Kind::Environment => Ok(Outlook {
                numerics: None,
                sizes: Cuda::sizes_of(storage.unwrap_or(Storage::Bf16).kind()),
                free: None,
                closed: Some(format!("{error:#}")),
            }),
            Err(error) => Err(error),
        }
    }
}

/// What a device is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// (what, how it is).
    pub lines: Vec<(&'static str, String)>,
    /// Bytes of its memory that are free, where something says.
    pub free: Option<u64>,
}

impl Device {
    /// Opens the device and makes its kernels ready.
    ///
    /// # Errors
    /// The machine's: what is missing, and what to do about it.
    pub fn facts(&self) -> Result<Facts> {
        let lines = match self {
            Device::Processor => {
                let sets: Vec<String> = Level::available()
                    .iter()
                    .map(|level| format!("{level:?}").to_lowercase())
                    .collect();
                vec![("instructions", sets.join(", ")), ("numerics", self.numerics().to_owned())]
            }
            Device::Cuda { index, kernels, storage, gemm, numerics } => {
                let cuda = open(*index, *storage, *gemm, kernels)?;
                let about = cuda.about();
                let (all, made) = cuda.load_kernels()?;
                let (major, minor) = about.capability;
                vec![
                    ("device", format!("{}, compute capability {major}.{minor}", about.name)),
                    ("driver", format!("for CUDA {}", about.driver)),
                    ("numerics", numerics.clone()),
                    ("nvrtc", format!("{}, {}", about.compiler, about.compiler_file.display())),
                    (
                        "kernels",
                        format!(
                            "{all} modules, {made} of them compiled now, kept in {}",
                            kernels.display()
                        ),
                    ),
                ]
            }
        };
        Ok(Facts { lines, free: self.free_memory()? })
    }
}

/// The numerics class of what is computed on no device.
pub fn host_class() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| format!("host {}", class::machine()))
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Processor => f.write_str("cpu"),
            Device::Cuda { index, .. } => write!(f, "cuda:{index}"),
        }
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

/// Something to be done on a back end that is picked at run time.
pub trait Task {
    /// What comes of it.
    type Output;
    /// Does it. A number of `B` widened to f64 is exact; in single precision it fits f32.
    fn run<B: Backend>(self, b: B) -> Self::Output;
}

/// Does what needs no device, where a back end must be named.
pub fn on_host<T: Task>(task: T) -> T::Output {
    task.run(Cpu::<f32>::new())
}

/// A precision to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As stages do: in single precision, or as the device stores numbers.
    Single,
    /// To check others by.
    Double,
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
