//! CUDA.

mod compile;
mod driver;
mod plan;

use crate::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

const NAME: &str = "cuda";
pub(crate) static SOURCES: &[(&str, &str)] = &[];
pub(crate) static HEADERS: &[(&str, &str)] = &[("prelude.cuh", include_str!("../../../kernels/prelude.cuh"))];

fn fault(message: impl Into<String>) -> Error {
    Error::device(NAME, message)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub use compile::{NVRTC_VARIABLE, Origin, architecture, cache_dir, compile, fatbin, nvrtc_version, toolkit};
/// The cudarc this device is built on, for callers who bring their own stream or memory.
pub use cudarc;
pub use driver::{CardReport, Cuda, cards};
