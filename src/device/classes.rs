//! The numerics classes of a run: of what is computed on its device, and of what is computed on
//! none. Both are those of this host, or of the hosts that a declared class names.

use std::path::Path;

use super::class::{HOST, host_class};
use super::open::Device;
use crate::backend::DType;
use crate::backend::cuda::GemmRequest;
use crate::error::{Failure, Result, user};

/// Words of a class that name the machine: the target, the C library, what its functions give.
const MACHINE: usize = 3;

/// The numerics classes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    /// Of what is computed on the device; `None` where it is not known without the device.
    pub device: Option<String>,
    /// Of what is computed on no device.
    pub host: String,
}

impl Classes {
    /// Of this host, with a device of this class, if it is known.
    pub fn here(device: Option<&str>) -> Self {
        Classes { device: device.map(str::to_owned), host: host_class().to_owned() }
    }

    /// Of hosts whose device has this class, and that device, with machine code of kernels in
    /// `kernels`. The device is not opened: it may be on other hosts alone.
    ///
    /// # Errors
    /// The user's, if no device can have the class.
    pub fn declared(class: &str, gemm: GemmRequest, kernels: &Path) -> Result<(Self, Device)> {
        let words: Vec<&str> = class.split_whitespace().collect();
        let class = words.join(" ");
        let machine = words.len().checked_sub(MACHINE).map(|at| &words[at..]).unwrap_or_default();
        if machine.len() < MACHINE || !machine[2].starts_with("libm-") {
            return Err(wrong(&class).into());
        }
        let device = match words[..] {
            ["cpu", "f32", "kernels", _, _, _, _] => Device::Host,
            ["cuda", dtype, _, ..] if words.len() > MACHINE + 2 => {
                let dtype: DType = dtype.parse().map_err(|_| wrong(&class))?;
                let (kernels, numerics) = (kernels.to_owned(), class.clone());
                Device::Cuda { index: 0, kernels, dtype, gemm, numerics }
            }
            _ => return Err(wrong(&class).into()),
        };
        let host = format!("{HOST}{}", machine.join(" "));
        Ok((Classes { device: Some(class), host }, device))
    }
}

fn wrong(class: &str) -> Failure {
    user(format!("`{class}` is no numerics class of a device")).hint(
        "take the line `numerics` that `posttrain doctor` prints on a host of the cluster, whole",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(class: &str) -> Result<(Classes, Device)> {
        Classes::declared(class, GemmRequest::Auto, Path::new("kernels"))
    }

    #[test]
    fn a_class_names_a_device_and_its_host() {
        let (classes, device) = declared(Device::Host.numerics()).expect("this host's");
        assert_eq!(device, Device::Host);
        assert_eq!(classes, Classes::here(Some(Device::Host.numerics())));
        let class = "cuda bf16 hopper attention hopper sm_90 1a2b 13.0 x86_64-linux-gnu glibc-2.36 \
            libm-1";
        let (classes, device) = declared(class).expect("one of a GPU");
        assert_eq!(classes.host, "host x86_64-linux-gnu glibc-2.36 libm-1");
        assert_eq!(device.numerics(), class);
        assert!(device.is_gpu());
    }

    #[test]
    fn what_is_no_class_is_refused() {
        for class in ["", "cuda", "cpu f32", "cpu f32 kernels 3 a b c", "tpu f32 x y a b libm-1"] {
            assert!(declared(class).is_err(), "{class}");
        }
        assert!(declared("cuda f99 plain code a b libm-1").is_err());
    }
}
