//! A row of the registry.

use super::binding::{Binding, Elem};
use super::cpu::Twin;
use super::geometry::{Cuda, Workgroups};
use super::params::{Layout, Params};
use crate::{Error, Result};

/// Arithmetic and compulsory memory traffic of one launch: the roofline's two axes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations (a fused multiply-add counts two).
    pub flops: u64,
    /// Those that the CPU's twin in f32 does: fewer where it takes a convolution by tiles, else `flops`.
    pub cpu_flops: u64,
    /// Bytes that must be read or written once, at four bytes an element.
    pub bytes: u64,
}

impl Cost {
    /// `flops` operations over `elements` four-byte elements.
    pub const fn new(flops: usize, elements: usize) -> Self {
        Self { flops: flops as u64, cpu_flops: flops as u64, bytes: 4 * elements as u64 }
    }

    /// The same with the operations that the CPU does.
    #[must_use]
    pub const fn on_cpu(self) -> Self {
        Self { flops: self.cpu_flops, ..self }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            cpu_flops: self.cpu_flops + other.cpu_flops,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), std::ops::Add::add)
    }
}

/// A row of the kernel registry.
pub struct Kernel {
    /// Entry point, `<stem>_<what>`: `conv1d_bwd_x` is in `conv1d.cu` and `conv1d.wgsl`.
    pub name: &'static str,
    /// The buffers in binding order: inputs first, then outputs.
    pub bindings: &'static [Binding],
    /// The params struct that all twins take.
    pub params: Layout,
    /// The CPU twin, for f32 (a device people use) and f64 (the oracle).
    pub cpu: Twin,
    /// The stages of the WGSL twin and how many workgroups each takes; empty where WGSL cannot read the elements.
    ///
    /// Stage one is the entry point `name`, stage two `name_2`, and so on: what needs all of a launch's
    /// workgroups to be done before it goes on. All stages have the same bindings and params.
    pub workgroups: &'static [Workgroups],
    /// How the CUDA twin is launched.
    pub cuda: Cuda,
    /// Roofline cost of a launch with these params.
    pub cost: fn(&Params) -> Cost,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("name", &self.name)
            .field("bindings", &self.bindings)
            .finish_non_exhaustive()
    }
}

/// The row that reads elements of type `elem` among those for f32, f16 and bf16.
///
/// # Errors
/// When there is none, naming the op and its argument.
pub fn stored_as(
    op: &'static str,
    argument: &'static str,
    elem: Elem,
    [real, f16, bf16]: [&'static Kernel; 3],
) -> Result<&'static Kernel> {
    match elem {
        Elem::Real => Ok(real),
        Elem::F16 => Ok(f16),
        Elem::Bf16 => Ok(bf16),
        Elem::Index => Err(Error::shape(op, argument, format!("holds {elem:?} elements, takes floats"))),
    }
}
