//! Errors of the CUDA driver as failures.

use cudarc::driver::{DriverError, sys};

use crate::error::{Failure, Kind};

/// The driver's name of an error.
pub fn named(error: DriverError) -> String {
    error.error_name().map_or_else(
        |_| format!("error {}", error.0 as u32),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The fault behind an error of a call that was to do `what`.
pub fn fault(what: &str, error: DriverError) -> Failure {
    let kind = match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Kind::Environment,
        // Kernels that fail, and calls that are wrong.
        _ => Kind::Bug,
    };
    Failure::new(kind, format!("CUDA cannot {what}: {}", named(error)))
}
