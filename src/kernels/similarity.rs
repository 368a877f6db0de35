//! TODO

use super::Kernel;

/// The kernels of this stem.
pub static KERNELS: &[&Kernel] = &[];
