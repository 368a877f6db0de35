//! Devices: where buffers live and lists of launches run.
//!
//! A device knows kernels as named launches; it never sees an op, a shape or a
//! gradient, and does not grow when an op is added.

mod buf;
pub mod cpu;
#[cfg(any(feature = "cuda", feature = "cuda-on-cpu"))]
pub mod cuda;
mod host;
mod interface;
mod launch;
mod pending;
mod traffic;
#[cfg(feature = "wgpu")]
pub mod wgpu;

#[cfg(feature = "cuda")]
pub use self::cuda::Cuda;
#[cfg(feature = "wgpu")]
pub use self::wgpu::Wgpu;
pub use buf::Buf;
pub use cpu::Cpu;
pub use host::{Host, HostMut};
pub use interface::{Device, Plan};
pub use launch::Launch;
pub use pending::Pending;
pub(crate) use pending::block_on;
pub use traffic::Traffic;
