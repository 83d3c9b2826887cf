//! Storage types of numbers.

use std::str::FromStr;

/// How a device stores weights, activations and their gradients. All arithmetic is in `f32` at
/// least, and weights that train have masters in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DType {
    /// Four bytes.
    F32,
    /// Two bytes: the upper half of an `f32`.
    Bf16,
}

impl DType {
    /// The name in options, numerics classes and names of kernels.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::Bf16 => 2,
        }
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bf16" => Ok(DType::Bf16),
            "f32" => Ok(DType::F32),
            _ => Err("expected bf16 or f32".into()),
        }
    }
}
