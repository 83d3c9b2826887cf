//! Buffers of a device: a length and a storage type around memory. Knows no kernel.

use std::sync::Arc;

use super::device::{Device, Memory};
use crate::DType;

/// A contiguous array of numbers on a device.
#[derive(Debug)]
pub struct Buf {
    memory: Memory,
    len: usize,
    kind: DType,
}

// Whether a buffer is empty is never needed.
#[expect(clippy::len_without_is_empty)]
impl Buf {
    /// Zeros.
    pub fn zeros(device: &Arc<Device>, len: usize, kind: DType) -> Buf {
        let mut memory = device.allocate(len * kind.bytes());
        if len > 0 {
            device.clear(&mut memory);
        }
        Buf { memory, len, kind }
    }

    /// Host numbers, rounded to nearest.
    pub fn upload(device: &Arc<Device>, host: &[f32], kind: DType) -> Buf {
        let memory = match kind {
            DType::F32 => device.upload(host),
            DType::Bf16 => device.upload(
                &host.iter().map(|x| half::bf16::from_f32(*x).to_bits()).collect::<Vec<u16>>(),
            ),
        };
        Buf { memory, len: host.len(), kind }
    }

    /// A copy on the host.
    pub fn download(&self, device: &Arc<Device>) -> Vec<f32> {
        match self.kind {
            DType::F32 => device.download(&self.memory),
            DType::Bf16 => device
                .download::<u16>(&self.memory)
                .into_iter()
                .map(|bits| half::bf16::from_bits(bits).to_f32())
                .collect(),
        }
    }

    /// Count of numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How they are stored.
    pub fn kind(&self) -> DType {
        self.kind
    }

    /// Where they are.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Where they are, to be written by a copy.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }
}
