//! The one place that picks the back end.

use crate::backend::cpu::Cpu;

/// The back end that stages run on: the CPU in single precision.
pub type Device = Cpu<f32>;

/// The device.
pub fn device() -> Device {
    Cpu::new()
}
