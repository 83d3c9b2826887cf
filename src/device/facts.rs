//! Facts about a device, which `doctor` prints.

use super::open::{Device, open};
use crate::backend::cpu::Level;
use crate::error::Result;

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
            Device::Host => {
                let sets: Vec<String> = Level::available()
                    .iter()
                    .map(|level| format!("{level:?}").to_lowercase())
                    .collect();
                vec![("instructions", sets.join(", ")), ("numerics", self.numerics().to_owned())]
            }
            Device::Cuda { index, kernels, dtype, gemm, numerics } => {
                let cuda = open(*index, *dtype, *gemm, kernels)?;
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
