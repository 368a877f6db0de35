//! The device that a command computes on.

use crate::args::DeviceName;
use etude::Result;
#[cfg(feature = "cuda")]
use etude::device::cuda::Cuda;
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{Select, Wgpu};
use etude::device::{Cpu, Device};

/// Opens the device of that name; `threads` are the CPU's.
pub fn open(name: DeviceName, threads: usize) -> Result<Box<dyn Device>> {
    match name {
        DeviceName::Auto => match gpu() {
            Some(device) => Ok(device),
            None => Ok(Box::new(Cpu::<f32>::new(threads)?)),
        },
        DeviceName::Cpu => Ok(Box::new(Cpu::<f32>::new(threads)?)),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda => Ok(Box::new(Cuda::new(0)?)),
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu => {
            let device = Wgpu::new(&Select::Auto)?;
            if device.is_software() {
                eprintln!("note: {} computes on the processor: right, but slow", device.adapter_name());
            }
            Ok(Box::new(device))
        }
    }
}

/// The GPU that `auto` takes, if there is one that can be used.
fn gpu() -> Option<Box<dyn Device>> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = Cuda::new(0) {
        eprintln!("note: computing on {} through CUDA; --device cpu keeps to the CPU", device.card().name);
        return Some(Box::new(device));
    }
    #[cfg(feature = "wgpu")]
    if let Ok(device) = Wgpu::new(&Select::Auto) {
        eprintln!("note: computing on {} through wgpu; --device cpu keeps to the CPU", device.adapter_name());
        return Some(Box::new(device));
    }
    None
}
