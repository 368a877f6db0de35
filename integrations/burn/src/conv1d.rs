//! The one-dimensional convolution.

use crate::contrastive::{real, same_device};
use crate::device::check;
use crate::extension::Kernels;
use crate::{ConvOptions1d, Error, Result};
use burn::backend::Dispatch;
use burn::tensor::Tensor;
use etude::embed;

/// PyTorch's `conv1d`: `x` `[batch, cin, t]`, `w` `[cout, cin/groups, taps]`, `b` `[cout]`, and the output
/// `[batch, cout, out]`, all f32; its gradient flows to all three.
///
/// # Errors
/// When shapes, options, dtypes or devices do not fit together, or the device is not [shared](crate::share).
pub fn conv1d(x: Tensor<3>, w: Tensor<3>, b: Option<Tensor<1>>, options: ConvOptions1d) -> Result<Tensor<3>> {
    let op = "conv1d";
    check(&x.device())?;
    real(op, "x", &x)?;
    real(op, "weight", &w)?;
    same_device(op, "weight", &w, &x)?;
    embed::Conv1d::new(x.dims(), w.dims(), options)?;
    if let Some(b) = &b {
        real(op, "bias", b)?;
        same_device(op, "bias", b, &x)?;
        if b.dims() != [w.dims()[0]] {
            let message = format!("shape {:?} for a weight of shape {:?}", b.dims(), w.dims());
            return Err(Error::shape(op, "bias", message));
        }
    }
    let biased = b.is_some();
    let (x, w) = (x.into_dispatch(), w.into_dispatch());
    let b = b.map_or_else(|| w.clone(), Tensor::into_dispatch);
    Ok(Tensor::from_dispatch(<Dispatch as Kernels>::conv1d_forward(x, w, b, biased, options)))
}
