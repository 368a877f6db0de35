//! CUDA: NVIDIA cards through the driver.
//!
//! `kernels/README.md` has the conventions of the sources. The build compiles them where it finds nvcc (`build/nvcc.rs`); else, or with
//! `ETUDE_NVRTC=1`, NVRTC compiles them at first use for the card that is there, and the result is cached. The oldest driver is that
//! of CUDA 12.0, the oldest cards are Ampere's.

mod compile;
mod driver;
mod plan;

use crate::Error;
pub use compile::{NVRTC_VARIABLE, Origin, architecture, cache_dir, compile, fatbin, nvrtc_version, toolkit};
/// The cudarc this device is built on, for callers who bring their own stream or memory.
pub use cudarc;
pub use driver::{CardReport, Cuda, cards};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What this device calls itself in messages.
const NAME: &str = "cuda";

/// Every source: stem and text.
pub static SOURCES: &[(&str, &str)] = &[];

/// What the sources include: name and text.
pub static HEADERS: &[(&str, &str)] = &[("prelude.cuh", include_str!("../../../kernels/prelude.cuh"))];

fn fault(message: impl Into<String>) -> Error {
    Error::device(NAME, message)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
