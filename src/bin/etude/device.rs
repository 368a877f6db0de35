//! The device that a command computes on.

use crate::args::DeviceName;
use crate::out::tell;
use etude::device::cpu::most_threads;
#[cfg(feature = "cuda")]
use etude::device::cuda::{Cuda, is_driver_present};
#[cfg(feature = "wgpu")]
use etude::device::wgpu::{Select, Wgpu};
use etude::device::{Cpu, Device};
use etude::{Error, Result};

/// Opens the device of that name; `threads` are the CPU's, for reading and aligning too.
pub fn open(name: DeviceName, threads: usize) -> Result<Box<dyn Device>> {
    let threads = pool(threads)?;
    match name {
        DeviceName::Auto => match gpu() {
            Some(device) => Ok(device),
            None => Ok(Box::new(Cpu::<f32>::new(threads)?)),
        },
        DeviceName::Cpu => Ok(Box::new(Cpu::<f32>::new(threads)?)),
        #[cfg(feature = "cuda")]
        DeviceName::Cuda => Ok(Box::new(cuda()?)),
        #[cfg(feature = "wgpu")]
        DeviceName::Wgpu => {
            let device = Wgpu::new(&Select::Auto)?;
            if device.is_software() {
                tell!("note: {} computes on the processor: right, but slow", device.adapter_name());
            }
            Ok(Box::new(device))
        }
    }
}

/// The first card. That its kernels are being compiled is said, because nothing else shows meanwhile.
#[cfg(feature = "cuda")]
pub fn cuda() -> Result<Cuda> {
    let device = Cuda::new(0)?;
    device.on_compile(|stems| {
        let stems = stems.join(", ");
        tell!("note: compiling kernels for this card with NVRTC, once, which may take a minute: {stems}");
    });
    Ok(device)
}

/// Has everything that is done on all threads done on `threads` of them: those that are asked for, or else RAYON_NUM_THREADS,
/// or one a core; no more than can be of use.
pub fn pool(threads: usize) -> Result<usize> {
    let asked = match threads {
        0 => std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0),
        n => n,
    };
    let most = most_threads();
    if asked > most {
        tell!("note: {asked} threads are more than are of use: taking {most}");
    }
    let threads = match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n.min(most),
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::device("cpu", format!("cannot start {threads} threads: {e}")))?;
    Ok(threads)
}

/// The GPU that `auto` takes, if there is one that can be used.
fn gpu() -> Option<Box<dyn Device>> {
    #[cfg(feature = "cuda")]
    match cuda() {
        Ok(device) => {
            tell!("note: computing on {} through CUDA; --device cpu keeps to the CPU", device.card().name);
            return Some(Box::new(device));
        }
        // A driver that cannot be used is worth a word; that there is none is not.
        Err(why) if is_driver_present() => tell!("note: CUDA is passed over: {why}"),
        Err(_) => {}
    }
    #[cfg(feature = "wgpu")]
    if let Ok(device) = Wgpu::new(&Select::Auto) {
        tell!("note: computing on {} through wgpu; --device cpu keeps to the CPU", device.adapter_name());
        return Some(Box::new(device));
    }
    None
}
