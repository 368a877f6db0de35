//! Similarity matrices.

use crate::contrastive::{real, same_device};
use crate::device::check;
use crate::extension::Kernels;
use crate::{Result, Similarity};
use burn::backend::Dispatch;
use burn::tensor::Tensor;
use etude::embed;

/// The matrix `[N, M]` of the similarities, or distances, of the rows of `a` `[N, D]` and `b` `[M, D]`, f32; its gradient flows
/// to both, and is 0 where a Euclidean distance is.
///
/// # Errors
/// When shapes, dtypes or devices do not fit together, or the device is not [shared](crate::share).
pub fn similarity(a: Tensor<2>, b: Tensor<2>, kind: Similarity) -> Result<Tensor<2>> {
    let op = "similarity";
    check(&a.device())?;
    real(op, "a", &a)?;
    real(op, "b", &b)?;
    same_device(op, "b", &b, &a)?;
    embed::PairwiseSimilarity::new(a.dims(), b.dims(), kind)?;
    Ok(Tensor::from_dispatch(<Dispatch as Kernels>::similarity(a.into_dispatch(), b.into_dispatch(), kind)))
}
