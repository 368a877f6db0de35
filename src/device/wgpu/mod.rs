//! The WGSL device: any GPU that Vulkan, Metal or DX12 reaches, through wgpu.
//!
//! A plan is one command buffer with one compute pass, submitted once a run: pipelines and bind groups
//! are built when it is compiled, and the params of all launches lie in one uniform buffer that each
//! dispatch reads at an offset of its own. wgpu puts a barrier between dispatches that touch the same
//! buffer.
//!
//! wgpu reports most errors out of band and panics where nobody listens, so every call that can fail
//! runs inside error scopes (`Shared::guarded`).
//!
//! `shaders/README.md` says what a shader has to be like, and how one is added.

mod adapter;
mod device;
mod pipelines;
mod plan;
pub mod shaders;
mod shared;

pub use adapter::{ADAPTER_VARIABLE, AdapterReport, Select, adapters};
pub use device::Wgpu;
/// The wgpu this device is built on, for callers who bring their own device or buffers.
pub use wgpu;
