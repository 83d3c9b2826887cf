//! The one place that picks the back end.

use crate::backend::Backend;
use crate::backend::cpu::Cpu;

/// The back end that stages run on: the CPU in single precision.
pub type Device = Cpu<f32>;

/// The numerics class of the device, a part of every key: a back end or a precision that gives other bits must have another name.
pub const NUMERICS: &str = "cpu f32";

/// The device.
pub fn device() -> Device {
    Cpu::new()
}

/// A precision to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As stages do.
    Single,
    /// To check others by.
    Double,
}

/// Something to be done on a back end that is picked at run time.
pub trait Task {
    /// What comes of it.
    type Output;
    /// Does it. A number of `B` widened to f64 is exact; in single precision it fits f32.
    fn run<B: Backend>(self, b: B) -> Self::Output;
}

/// Does `task` on the CPU.
pub fn on_cpu<T: Task>(precision: Precision, task: T) -> T::Output {
    match precision {
        Precision::Single => task.run(Cpu::<f32>::new()),
        Precision::Double => task.run(Cpu::<f64>::new()),
    }
}
