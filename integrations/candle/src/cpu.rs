//! Launches on the memory of candle's CPU tensors.

use crate::arguments::refused;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Error, Layout, Result, WithDType};
use etude::device::{Buf, Cpu, Device};
use etude::kernel::Elem;
use etude::kernel::Real;
use std::sync::OnceLock;

/// The floats that candle and etude's CPU both compute with.
trait Float: WithDType + Real {
    /// The device, on as many threads as candle takes; started at its first use.
    fn device() -> Result<&'static Cpu<Self>>;
}

macro_rules! float {
    ($($f:ty),*) => {$(
        impl Float for $f {
            fn device() -> Result<&'static Cpu<Self>> {
                static CPU: OnceLock<etude::Result<Cpu<$f>>> = OnceLock::new();
                let cpu = CPU.get_or_init(|| Cpu::new(candle_core::utils::get_num_threads()));
                cpu.as_ref().map_err(Error::msg)
            }
        }
    )*};
}
float!(f32, f64);

/// Runs `launch` on contiguous `inputs`, which it only reads, and on new memory of `outputs` elements each.
pub fn run<const O: usize>(
    inputs: &[(&CpuStorage, &Layout)],
    outputs: [usize; O],
    launch: impl FnOnce(&dyn Device, &[Buf], &[Buf]) -> etude::Result<()>,
) -> Result<[CpuStorage; O]> {
    match inputs[0].0 {
        CpuStorage::F32(_) => run_as::<f32, O>(inputs, outputs, launch),
        CpuStorage::F64(_) => run_as::<f64, O>(inputs, outputs, launch),
        _ => Err(Error::UnsupportedDTypeForOp(inputs[0].0.dtype(), "etude on the CPU").bt()),
    }
}

fn run_as<F: Float, const O: usize>(
    inputs: &[(&CpuStorage, &Layout)],
    outputs: [usize; O],
    launch: impl FnOnce(&dyn Device, &[Buf], &[Buf]) -> etude::Result<()>,
) -> Result<[CpuStorage; O]> {
    let device = F::device()?;
    let import = |pointer: *mut F, len| {
        // SAFETY: the memory outlives the buffers, which `launch` borrows, and nobody else uses it meanwhile but to read what
        // is only read here too: candle holds the inputs' locks, and the outputs are new.
        unsafe { device.import(pointer.cast(), Elem::Real, len) }.map_err(refused)
    };
    let mut memory = outputs.map(|len| vec![F::zero(); len]);
    let read = inputs.iter().map(|(storage, layout)| {
        let slice = storage.as_slice::<F>()?;
        let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "etude" })?;
        import(slice[start..end].as_ptr().cast_mut(), end - start)
    });
    let read = read.collect::<Result<Vec<Buf>>>()?;
    let written = memory.iter_mut().map(|m| import(m.as_mut_ptr(), m.len())).collect::<Result<Vec<Buf>>>()?;
    launch(device, &read, &written).map_err(refused)?;
    Ok(memory.map(F::to_cpu_storage_owned))
}
