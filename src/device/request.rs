//! Requests for a device and a precision, as options have them.

use std::str::FromStr;

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

/// A precision to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As stages do: in single precision, or as the device stores numbers.
    Single,
    /// To check others by.
    Double,
}
