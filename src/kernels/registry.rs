//! Every kernel, by stem.

use crate::kernel::Kernel;
use crate::stems::stems;

macro_rules! registry {
    ($($stem:ident)*) => { &[$((stringify!($stem), super::$stem::KERNELS)),*] };
}

/// Every kernel of the crate, by stem.
pub static REGISTRY: &[(&str, &[&Kernel])] = stems!(registry);

/// Looks a kernel up by its entry point.
pub fn by_name(name: &str) -> Option<&'static Kernel> {
    REGISTRY.iter().flat_map(|(_, kernels)| *kernels).copied().find(|k| k.name == name)
}
