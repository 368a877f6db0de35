//! The contrastive loss.

use crate::device::check;
use crate::extension::{Kernels, Set};
use crate::{ContrastiveOptions, Error, Result};
use burn::backend::{DType, Dispatch};
use burn::tensor::Tensor;
use etude::embed;

/// A set of samples: embeddings `[N, D]`, labels `[N]`, and weights `[N]` where they do not count alike.
///
/// All f32 and on one device. Labels and weights are constants: no gradient goes to them.
#[derive(Debug, Clone)]
pub struct Samples {
    embeddings: Tensor<2>,
    labels: Tensor<1>,
    weights: Option<Tensor<1>>,
}

impl Samples {
    /// Embeddings `[N, D]` and labels `[N]`: ratings as they are, or their [`bins`](crate::bins).
    pub fn new(embeddings: Tensor<2>, labels: Tensor<1>) -> Self {
        Self { embeddings, labels, weights: None }
    }

    /// With weights `[N]`, finite and not negative: a pair counts as the product of its two samples' weights. A weight of 0
    /// masks a sample out, whatever its row and label hold.
    #[must_use]
    pub fn weighted(self, weights: Tensor<1>) -> Self {
        Self { weights: Some(weights), ..self }
    }

    /// `[N, D]`, when everything fits together.
    fn size(&self, op: &'static str, [rows, labels, weights]: [&'static str; 3]) -> Result<[usize; 2]> {
        check(&self.embeddings.device())?;
        real(op, rows, &self.embeddings)?;
        let [n, d] = self.embeddings.dims();
        for (name, tensor) in [(labels, Some(&self.labels)), (weights, self.weights.as_ref())] {
            let Some(tensor) = tensor else { continue };
            real(op, name, tensor)?;
            same_device(op, name, tensor, &self.embeddings)?;
            let [count] = tensor.dims();
            if count != n {
                let message = format!("{count} of them for embeddings of shape [{n}, {d}]");
                return Err(Error::shape(op, name, message));
            }
        }
        Ok([n, d])
    }

    fn into_set(self) -> Set<Dispatch> {
        let weighted = self.weights.is_some();
        let weights = self.weights.unwrap_or_else(|| self.labels.clone()).into_dispatch();
        Set { z: self.embeddings.into_dispatch(), labels: self.labels.into_dispatch(), weights, weighted }
    }
}

const SAMPLES: [&str; 3] = ["embeddings", "labels", "weights"];
const OTHERS: [&str; 3] = ["others' embeddings", "others' labels", "others' weights"];

/// Refuses what is not f32.
pub(crate) fn real<const D: usize>(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor<D>,
) -> Result<()> {
    match tensor.dtype() {
        DType::F32 => Ok(()),
        other => Err(Error::shape(op, argument, format!("is {other:?}, must be F32: cast it"))),
    }
}

/// Refuses two tensors on two devices.
pub(crate) fn same_device<const D: usize, const E: usize>(
    op: &'static str,
    argument: &'static str,
    tensor: &Tensor<D>,
    first: &Tensor<E>,
) -> Result<()> {
    let (given, wanted) = (tensor.device(), first.device());
    if given == wanted {
        return Ok(());
    }
    Err(Error::shape(
        op,
        argument,
        format!("is on {given:?}, the first argument on {wanted:?}: move it there"),
    ))
}

/// The mean loss `[1]` over all pairs of `samples`.
///
/// # Errors
/// When shapes, dtypes or devices do not fit together, there are fewer than two rows, an option is out of range, or the device is
/// not [shared](crate::share). Numbers on a GPU are not looked at, which would wait for it: an embedding that is not finite, a
/// label or weight that is NaN, infinite or negative makes the loss NaN; a weight of 0 masks all of it.
pub fn contrastive(samples: Samples, options: ContrastiveOptions) -> Result<Tensor<1>> {
    embed::Contrastive::all(samples.size("contrastive", SAMPLES)?, options)?;
    let (loss, _) = <Dispatch as Kernels>::contrastive(samples.into_set(), options);
    Ok(Tensor::from_dispatch(loss))
}

/// The mean loss `[1]` over all pairs of one of `samples` `[N, D]` and one of `others` `[M, D]`; its gradient flows to both.
///
/// # Errors
/// As [`contrastive`].
pub fn contrastive_cross(
    samples: Samples,
    others: Samples,
    options: ContrastiveOptions,
) -> Result<Tensor<1>> {
    let op = "contrastive_cross";
    embed::Contrastive::cross(samples.size(op, SAMPLES)?, others.size(op, OTHERS)?, options)?;
    same_device(op, OTHERS[0], &others.embeddings, &samples.embeddings)?;
    let (loss, ..) = <Dispatch as Kernels>::contrastive_cross(samples.into_set(), others.into_set(), options);
    Ok(Tensor::from_dispatch(loss))
}
