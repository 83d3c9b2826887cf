//! Opens a device: its storage type, its GEMM kernels, and the facts that `doctor` prints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::buffer::Buf;
use super::code::Code;
use super::context;
use super::cublaslt::Library;
use super::device::Device;
use super::gemm_selection::{GemmKind, GemmRequest, GemmSelection};
use super::kernels::Kernels;
use super::{Cuda, attention_hopper, attention_shape};
use crate::error::Result;
use crate::{DType, Sizes};

/// What a device is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// As its maker calls it.
    pub name: String,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Bytes of memory.
    pub memory: usize,
    /// The CUDA version that the driver is for.
    pub driver: String,
    /// NVRTC's version.
    pub compiler: String,
    /// The file of NVRTC that was loaded, or the one that says which made the machine code.
    pub compiler_file: PathBuf,
}

impl Cuda {
    /// Opens device `index`, counted from 0, to store numbers as `kind`; machine code of kernels is
    /// kept in `folder`. An error says what is missing: the driver, a newer one, the device, or
    /// NVRTC.
    pub fn new(index: usize, kind: DType, folder: &Path) -> Result<Cuda> {
        Self::with(index, kind, GemmRequest::Auto, folder)
    }

    /// The same, computing matrix products as requested. Nothing of a kind that is not requested
    /// runs.
    pub fn with(index: usize, kind: DType, request: GemmRequest, folder: &Path) -> Result<Cuda> {
        let device = Device::open(index)?;
        let kernels = Arc::new(Kernels::new(device.clone(), folder)?);
        Cuda {
            device,
            kernels,
            kind,
            gemm: GemmSelection::all(GemmKind::Plain),
            wgmma_matches_mma: None,
            library: None,
        }
        .multiplying(request)
    }

    /// What of the program and of the compiler decides bits, in words (`code.rs`), where machine
    /// code is kept in `folder`. Looks for the compiler; opens no device.
    pub fn code_class(folder: &Path) -> Result<String> {
        Ok(Code::open(folder)?.class())
    }

    /// The same device, with its kernels and its memory, computing matrix products as requested. An
    /// error says what the device or the machine lacks for it.
    pub fn multiplying(&self, request: GemmRequest) -> Result<Cuda> {
        let mut wgmma_matches_mma = self.wgmma_matches_mma;
        let selected = GemmSelection::of(request, &self.device, || {
            let alike = wgmma_matches_mma
                .map_or_else(|| attention_hopper::wgmma_matches_mma(&self.kernels), Ok)?;
            wgmma_matches_mma = Some(alike);
            Ok(alike)
        })?;
        let library =
            if selected.library() { Some(Arc::new(Library::open(&self.device)?)) } else { None };
        Ok(Cuda { gemm: selected, wgmma_matches_mma, library, ..self.clone() })
    }

    /// What decides the bits of products of a device that stores numbers as `kind`, in words
    /// (`gemm_selection.rs`). Opens the device, and the library where it is requested; looks how
    /// the device adds up where that decides, with machine code kept in `folder`.
    pub fn gemm_class(
        index: usize,
        kind: DType,
        request: GemmRequest,
        folder: &Path,
    ) -> Result<String> {
        let device = Device::open(index)?;
        let selected = GemmSelection::of(request, &device, || match kind {
            DType::F32 => Ok(false),
            DType::Bf16 => {
                attention_hopper::wgmma_matches_mma(&Kernels::new(device.clone(), folder)?)
            }
        })?;
        let library =
            if selected.library() { Some(Library::open(&device)?.version()) } else { None };
        Ok(selected.words(&device, kind, library))
    }

    /// The same device, with its kernels and its memory, storing numbers as `kind`.
    pub fn storing(&self, kind: DType) -> Cuda {
        Cuda { kind, ..self.clone() }
    }

    /// Bytes of numbers where they are stored as `kind`.
    pub fn sizes_of(kind: DType) -> Sizes {
        Sizes {
            stored: kind.bytes(),
            wide: DType::F32.bytes(),
            host: 0,
            channels: attention_shape::CHANNELS,
        }
    }

    /// How many devices there are; 0 without a driver.
    pub fn count() -> usize {
        context::count()
    }

    /// Bytes of device `index` that are free.
    pub fn free_memory(index: usize) -> Result<u64> {
        Ok(Device::open(index)?.context().free())
    }

    /// The device, its driver and its compiler.
    pub fn about(&self) -> About {
        let (code, context) = (self.kernels.code(), self.device.context());
        let (major, minor) = code.version();
        About {
            name: context.name.clone(),
            capability: context.capability,
            memory: context.total,
            driver: context::version(context.version),
            compiler: format!("{major}.{minor}"),
            compiler_file: code.file(),
        }
    }

    /// Host numbers in a storage type. Operations follow the storage type of their arguments;
    /// statistics, gradients of weights and moments are [`DType::F32`] whatever the others are.
    pub fn upload_as(&self, host: &[f32], kind: DType) -> Buf {
        Buf::upload(&self.device, host, kind)
    }

    /// Loads every kernel, compiling those that are not kept yet: how many modules there are, and
    /// how many of them were compiled.
    pub fn load_kernels(&self) -> Result<(usize, usize)> {
        self.kernels.load_all()
    }

    /// The most bytes of the device's memory that buffers held at a time.
    pub fn most_memory(&self) -> usize {
        self.device.context().most_held()
    }
}
