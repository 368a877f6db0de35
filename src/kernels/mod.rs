//! The kernels, a module a stem: rows of the registry, params structs and CPU twins.
//!
//! A stem names one family of kernels in every language: `kernels/conv1d.cu`,
//! `shaders/conv1d.wgsl`, `src/kernels/conv1d.rs`; the op that launches them is
//! `src/ops/conv1d.rs`. [`crate::kernel`] says what a kernel is.

use crate::stems::{public_modules, stems};

stems!(public_modules);
mod conv;
mod pairs;
pub mod peak;
mod registry;
pub mod source;
mod sums;

pub use registry::{REGISTRY, by_name};
