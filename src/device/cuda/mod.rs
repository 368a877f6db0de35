//! CUDA: the kernels of `kernels/*.cu`, on a CPU for the tests.
//!
//! `kernels/README.md` has the conventions that the sources and this module keep: what an entry point takes, and how a
//! row's `cuda` says how it is launched.

mod launch;
#[cfg(feature = "cuda-on-cpu")]
mod on_cpu;

#[cfg(feature = "cuda-on-cpu")]
pub use on_cpu::{CudaOnCpu, LANE_SEED_VARIABLE, SOURCES_DIR};

include!(concat!(env!("OUT_DIR"), "/cuda_sources.rs"));
