//! burn's tensors as Etude's buffers.

use crate::device::shared;
use burn::backend::{DType, Shape, TensorMetadata};
use burn_cubecl::cubecl::wgpu::{AutoCompiler, WgpuServer};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use etude::device::{Buf, Device};
use etude::kernel::Elem;
use etude::{Error, Result};

/// Runs `launch` on the memory of `inputs` and of new tensors of the shapes `outputs`, which it gives back.
///
/// # Panics
/// When the device fails, which burn's ops answer alike: shapes and devices were checked when the op was called.
pub(crate) fn run<const I: usize, const O: usize>(
    inputs: [CubeTensor; I],
    outputs: [Shape; O],
    launch: impl FnOnce(&dyn Device, [&Buf; I], [&Buf; O]) -> Result<()>,
) -> [CubeTensor; O] {
    let inputs = inputs.map(into_contiguous);
    let (client, device) = (inputs[0].client.clone(), inputs[0].device.clone());
    let outputs =
        outputs.map(|shape| empty_device_contiguous_dtype(client.clone(), device.clone(), shape, DType::F32));
    let run = || {
        let wgpu = shared(&device)?;
        // The resources keep burn from moving or reusing the memory until the launch is on the queue, where what burn submits
        // later comes later. Asking for one has burn submit what computes it; flushing, what else this thread has asked for.
        let mut held = Vec::new();
        let mut buf = |tensor: &CubeTensor| {
            let resource = client
                .get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone())
                .map_err(|e| Error::device("burn", e.to_string()))?;
            let at = resource.resource();
            let buf = wgpu.import(at.buffer.clone(), at.offset, Elem::Real, tensor.shape().num_elements());
            held.push(resource);
            buf
        };
        let mut bufs = Vec::new();
        for tensor in inputs.iter().chain(&outputs) {
            bufs.push(buf(tensor)?);
        }
        client.flush().map_err(|e| Error::device("burn", e.to_string()))?;
        let (of_inputs, of_outputs) = bufs.split_at(I);
        launch(&wgpu, std::array::from_fn(|i| &of_inputs[i]), std::array::from_fn(|i| &of_outputs[i]))
    };
    run().unwrap_or_else(|e| panic!("{e}"));
    outputs
}
