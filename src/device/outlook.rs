//! The facts of a device that a plan uses, also where the device cannot be opened.

use std::path::Path;

use super::open::Device;
use super::request::{DeviceRequest, Precision};
use crate::backend::cuda::{Cuda, GemmRequest};
use crate::backend::{DType, Sizes};
use crate::error::{Kind, Result, kind_of};

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
        request: DeviceRequest,
        dtype: Option<DType>,
        gemm: GemmRequest,
        kernels: &Path,
    ) -> Result<Self> {
        match Device::of(request, dtype, gemm, kernels) {
            Ok(device) => Ok(Outlook {
                numerics: Some(device.numerics().to_owned()),
                sizes: device.sizes(Precision::Single),
                free: device.free_memory()?,
                closed: None,
            }),
            Err(error) if kind_of(&error) == Kind::Environment => Ok(Outlook {
                numerics: None,
                sizes: Cuda::sizes_of(dtype.unwrap_or(DType::Bf16)),
                free: None,
                closed: Some(format!("{error:#}")),
            }),
            Err(error) => Err(error),
        }
    }
}
