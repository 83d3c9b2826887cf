//! Selects and opens the device: the back end for a request, and tasks on it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::request::{DeviceRequest, Precision};
use super::{class, words};
use crate::backend::cpu::{Cpu, KERNELS};
use crate::backend::cuda::{Cuda, GemmRequest};
use crate::backend::{Backend, DType};
use crate::error::{Result, caught, user};

/// What is computed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Device {
    /// The CPU.
    #[serde(rename = "cpu")]
    Host,
    /// A CUDA device.
    Cuda {
        /// Its number, counted from 0.
        index: usize,
        /// The folder in which machine code of kernels is kept.
        kernels: PathBuf,
        /// How numbers are stored.
        #[serde(with = "words::dtype")]
        dtype: DType,
        /// What computes matrix products.
        #[serde(with = "words::gemm")]
        gemm: GemmRequest,
        /// The numerics class, as the device was when it was picked.
        numerics: String,
    },
}

impl Device {
    /// The device of a request on this machine; machine code of kernels would be kept in `kernels`.
    /// Where no `dtype` is requested, a CUDA device stores bf16.
    ///
    /// # Errors
    /// The user's, if it does not store numbers or multiply so; the machine's, if there is no such
    /// device, or not what it is to multiply with.
    pub fn of(
        request: DeviceRequest,
        dtype: Option<DType>,
        gemm: GemmRequest,
        kernels: &Path,
    ) -> Result<Self> {
        let index = match request {
            DeviceRequest::Cuda(index) => Some(index),
            DeviceRequest::Auto if Cuda::count() > 0 => Some(0),
            DeviceRequest::Auto | DeviceRequest::Processor => None,
        };
        let Some(index) = index else {
            let hint = |option: &str, instead: &str| match request {
                DeviceRequest::Auto => {
                    format!("there is no CUDA device here: leave {option} out{instead}")
                }
                _ => format!("leave {option} out{instead}, or add --device cuda"),
            };
            if dtype == Some(DType::Bf16) {
                let what = "the CPU computes in f32: bf16 is stored on a CUDA device alone";
                return Err(user(what).hint(hint("--dtype", ", take --dtype f32")).into());
            }
            if gemm != GemmRequest::Auto {
                return Err(user(
                    "the CPU has one way to multiply matrices: --gemm is for a CUDA device",
                )
                .hint(hint("--gemm", ""))
                .into());
            }
            return Ok(Device::Host);
        };
        let dtype = dtype.unwrap_or(DType::Bf16);
        let products = Cuda::gemm_class(index, dtype, gemm, kernels)?;
        let code = Cuda::code_class(kernels)?;
        let numerics = format!("cuda {}{products} {code} {}", dtype.name(), class::machine());
        Ok(Device::Cuda { index, kernels: kernels.into(), dtype, gemm, numerics })
    }

    /// The numerics class, a part of the keys of what is made on it: what may give other bits must
    /// have another name.
    pub fn numerics(&self) -> &str {
        static PROCESSOR: OnceLock<String> = OnceLock::new();
        match self {
            Device::Host => {
                PROCESSOR.get_or_init(|| format!("cpu f32 kernels {KERNELS} {}", class::machine()))
            }
            Device::Cuda { numerics, .. } => numerics,
        }
    }

    /// The same device as it is on this host, where its class may be another one.
    ///
    /// # Errors
    /// The machine's, if there is no such device here.
    pub fn found_here(&self) -> Result<Self> {
        match self {
            Device::Host => Ok(Device::Host),
            Device::Cuda { index, kernels, dtype, gemm, .. } => {
                Device::of(DeviceRequest::Cuda(*index), Some(*dtype), *gemm, kernels)
            }
        }
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        matches!(self, Device::Cuda { .. })
    }

    /// The same to be measured: where the library was asked for, it computes all products.
    pub fn measured(self) -> Self {
        match self {
            Device::Cuda { index, kernels, dtype, gemm: GemmRequest::Cublaslt, numerics } => {
                Device::Cuda { index, kernels, dtype, gemm: GemmRequest::CublasltAlone, numerics }
            }
            other => other,
        }
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
            (Device::Host, Precision::Single) => caught(|| task.run(Cpu::<f32>::new())).flatten(),
            (Device::Host, Precision::Double) => caught(|| task.run(Cpu::<f64>::new())).flatten(),
            (Device::Cuda { index, kernels, dtype, gemm, .. }, Precision::Single) => {
                let cuda = open(*index, *dtype, *gemm, kernels)?;
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
            Device::Host => task.run(Cpu::<f32>::new()),
            Device::Cuda { index, kernels, dtype, gemm, .. } => {
                task.run(open(*index, *dtype, *gemm, kernels)?)
            }
        }
    }
}

/// Opens a CUDA device.
pub fn open(index: usize, dtype: DType, gemm: GemmRequest, kernels: &Path) -> Result<Cuda> {
    Cuda::with(index, dtype, gemm, kernels)
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Host => f.write_str("cpu"),
            Device::Cuda { index, .. } => write!(f, "cuda:{index}"),
        }
    }
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
