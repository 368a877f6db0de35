//! What a kernel is: a row of plain data that every device reads, and its Rust twin.
//!
//! A kernel knows raw buffers and one plain parameter struct, nothing else. The
//! same bytes are the CUDA by-value argument, the WGSL uniform and the argument
//! of the CPU twin; the same row names the entry point everywhere. [`crate::kernels`] lists them.

mod binding;
mod cpu;
mod geometry;
mod params;
mod row;

pub use binding::{Access, Binding, Elem, Precision, Scratch};
pub use cpu::{Args, Bound, Real, Twin, Work};
pub(crate) use cpu::{Lines, Memory, PIECE, Team, with_scratch};
pub use geometry::{Cuda, SPAN, Workgroups, spans};
pub(crate) use params::params;
pub use params::{Layout, Params, Scalar};
pub(crate) use row::stored_as;
pub use row::{Cost, Kernel};
