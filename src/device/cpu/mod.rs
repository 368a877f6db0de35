//! The CPU device: each kernel's twin, in f64 as the oracle and in f32 as a device people use.
//!
//! A twin is an ordinary function over slices. Work is cut into pieces whose
//! size depends on the shapes alone, so one thread or many give the same bits.

mod device;
mod memory;
mod plan;

pub use device::{Cpu, most_threads};
