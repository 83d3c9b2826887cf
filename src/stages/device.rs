//! The one place that picks the back end.

use crate::backend::cpu::Cpu;

/// The back end that stages run on: the CPU in single precision.
pub type Device = Cpu<f32>;

/// The numerics class of the device, a part of every key: a back end or a precision that gives other bits must have another name.
pub const NUMERICS: &str = "cpu f32";

/// The device.
pub fn device() -> Device {
    Cpu::new()
}
