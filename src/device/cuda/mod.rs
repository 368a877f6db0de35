//! CUDA: the kernels of `kernels/*.cu`, on NVIDIA cards through the driver, and on a CPU for the tests.
//!
//! `kernels/README.md` has the conventions that the sources and this module keep: what an entry point takes, and how a
//! row's `cuda` says how it is launched.
//!
//! For cards, the build compiles the sources where it finds nvcc (`build/nvcc.rs`); else, or with `ETUDE_NVRTC=1`, NVRTC
//! compiles them at first use for the card that is there, and the result is cached. The oldest driver is that of CUDA 12.0,
//! the oldest cards are Ampere's (compute capability 8.0).

#[cfg(feature = "cuda")]
mod card;
#[cfg(feature = "cuda")]
mod compile;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod fault;
#[cfg(feature = "cuda")]
mod functions;
#[cfg(feature = "cuda")]
mod import;
mod launch;
#[cfg(feature = "cuda")]
mod library;
#[cfg(feature = "cuda-on-cpu")]
mod on_cpu;
#[cfg(feature = "cuda")]
mod plan;
#[cfg(feature = "cuda")]
mod pool;
#[cfg(feature = "cuda")]
mod shared;

#[cfg(feature = "cuda")]
pub use card::{CardReport, cards};
#[cfg(feature = "cuda")]
pub use compile::{NVRTC_VARIABLE, Origin, architecture, cache_dir, compile, fatbin, nvrtc_version, toolkit};
/// The cudarc this device is built on, for callers who bring their own stream or memory.
#[cfg(feature = "cuda")]
pub use cudarc;
#[cfg(feature = "cuda")]
pub use device::Cuda;
#[cfg(feature = "cuda")]
pub use library::is_driver_present;
#[cfg(feature = "cuda-on-cpu")]
pub use on_cpu::{CudaOnCpu, LANE_SEED_VARIABLE, SOURCES_DIR};
