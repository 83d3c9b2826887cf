//! Selects the back end, the only module to do so, and names what decides bits: the device, its
//! storage type and GEMM kernels, and the machine.

mod class;
mod classes;
mod facts;
mod memory;
mod open;
mod outlook;
mod request;
mod words;

pub use class::{HOST, host_class};
pub use classes::Classes;
pub use facts::Facts;
pub use memory::{cache_budget, cache_share};
pub use open::{Device, Task, on_host};
pub use outlook::Outlook;
pub use request::{DeviceRequest, Precision};

pub use crate::backend::DType;
pub use crate::backend::cuda::GemmRequest;
