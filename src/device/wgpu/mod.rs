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
//! To add a shader (`elementwise.wgsl` is the one to read first):
//!
//! 1. `shaders/<stem>.wgsl` with one entry point per kernel, named as the kernel; binding i of group 0 is
//!    binding i of the row (`read` for inputs, `read_write` for the rest), the params struct is
//!    `@group(1) @binding(0) var<uniform>` with the Rust struct's name and members. A module may declare
//!    several globals at one binding: an entry point declares what it uses, and may use eight of the row's.
//!    `prelude.wgsl` is appended.
//! 2. `workgroups` in each row. A second entry is a
//!    second stage, the entry point `<name>_2`, which starts when all workgroups of the first are done.
//! 3. An `override` constant named as a member of the params struct receives that member's value when a plan is
//!    compiled: loops over it unroll, and each value gets a pipeline of its own.
//! 4. Workgroup memory is not zeroed at the start.
//! 5. The stem leaves `MISSING` in `tests/wgpu_parity.rs`, which then runs its cases; `tests/wgpu_shaders.rs` checks
//!    the source against the row without a device.

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
