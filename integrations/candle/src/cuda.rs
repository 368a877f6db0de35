//! Launches on the memory of candle's CUDA tensors, in candle's stream.

use crate::arguments::refused;
use candle_core::cuda::cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut};
use candle_core::{CudaDevice, CudaStorage, Error, Layout, Result};
use etude::device::{Buf, Cuda, Device};
use etude::kernel::Elem;
use std::sync::{Mutex, PoisonError};

/// The device on candle's stream. One is kept for each stream: it holds the compiled kernels, and the stream itself, so that no
/// other can come to have its handle.
fn device(candle: &CudaDevice) -> Result<Cuda> {
    static DEVICES: Mutex<Vec<Cuda>> = Mutex::new(Vec::new());
    let stream = candle.cuda_stream();
    let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |known: &&Cuda| {
        let known = known.stream();
        known.cu_stream() == stream.cu_stream() && known.context().ordinal() == stream.context().ordinal()
    };
    if let Some(known) = devices.iter().find(same) {
        return Ok(known.clone());
    }
    let new = Cuda::from_parts(stream).map_err(refused)?;
    devices.push(new.clone());
    Ok(new)
}

/// Runs `launch` on contiguous f32 `inputs`, which it only reads, and on new memory of `outputs` elements each.
pub fn run<const O: usize>(
    inputs: &[(&CudaStorage, &Layout)],
    outputs: [usize; O],
    launch: impl FnOnce(&dyn Device, &[Buf], &[Buf]) -> etude::Result<()>,
) -> Result<[CudaStorage; O]> {
    let candle = &inputs[0].0.device;
    let (device, stream) = (device(candle)?, candle.cuda_stream());
    // SAFETY: kernels write every element of their outputs.
    let memory = outputs.iter().map(|&len| unsafe { candle.alloc::<f32>(len) });
    let mut memory = memory.collect::<Result<Vec<CudaSlice<f32>>>>()?;
    // Dropped when everything is submitted: it notes, for other streams, until when this one uses the memory.
    let mut uses = Vec::new();
    // SAFETY (both): candle's memory belongs to the stream's context, is freed in the order of that stream, and the uses above
    // keep other streams away.
    let import = |pointer, len| unsafe { device.import(pointer, Elem::Real, len, ()) }.map_err(refused);
    let mut read = Vec::new();
    for (storage, layout) in inputs {
        let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op: "etude" })?;
        let (pointer, used) = storage.as_cuda_slice::<f32>()?.device_ptr(&stream);
        read.push(import(pointer + (start * size_of::<f32>()) as u64, end - start)?);
        uses.push(used);
    }
    let mut written = Vec::new();
    for slice in &mut memory {
        let len = slice.len();
        let (pointer, used) = slice.device_ptr_mut(&stream);
        written.push(import(pointer, len)?);
        uses.push(used);
    }
    launch(&device, &read, &written).map_err(refused)?;
    drop(uses);
    let mut memory = memory.into_iter();
    Ok(outputs
        .map(|_| CudaStorage::wrap_cuda_slice(memory.next().expect("one for each output"), candle.clone())))
}
