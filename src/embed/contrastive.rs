//! The contrastive loss, and what its second derivatives are made of.

use super::shared::{fits, launch, look_at};
use crate::contrastive::{Buffers, OTHERS, SAMPLES};
use crate::device::{Buf, Device};
use crate::kernel::{Elem, stored_as};
use crate::kernels::{contrastive as kc, contrastive_hvp as kh};
use crate::ops::contrastive as loss;
use crate::ops::contrastive::ContrastiveOptions;
use crate::ops::contrastive_hvp::hvp_params;
use crate::{Error, Result};

/// [`contrastive`](crate::ops::contrastive::contrastive) over all pairs of one set of samples, or
/// [`contrastive_cross`](crate::ops::contrastive::contrastive_cross) over those of two.
///
/// The gradient comes with the loss, in the same pass: an autograd keeps it and scales it by what comes from upstream.
#[derive(Debug, Clone, Copy)]
pub struct Contrastive {
    p: kc::ContrastiveParams,
    cross: bool,
}

impl Contrastive {
    /// All pairs of `n` samples of `d` columns.
    ///
    /// # Errors
    /// When there is no pair, or an option does not fit.
    pub fn all([n, d]: [usize; 2], options: ContrastiveOptions) -> Result<Self> {
        let op = "contrastive";
        let [n, d] = loss::size(op, "embeddings", [n, d])?;
        loss::two_or_more(op, "embeddings", [n, d])?;
        Ok(Self { p: loss::params(op, [n, 0, d], 0, options)?, cross: false })
    }

    /// Every one of `n` samples with every one of `m` others.
    ///
    /// # Errors
    /// When columns differ, a side is empty, or an option does not fit.
    pub fn cross(samples: [usize; 2], others: [usize; 2], options: ContrastiveOptions) -> Result<Self> {
        let op = "contrastive_cross";
        let ([n, d], [m, columns]) =
            (loss::size(op, "embeddings", samples)?, loss::size(op, "others", others)?);
        if d != columns {
            let message = format!("shape {others:?} against embeddings of shape {samples:?}");
            return Err(Error::shape(op, "others", message));
        }
        loss::both_sides(op, n, m)?;
        Ok(Self { p: loss::params(op, [n, m, d], 0, options)?, cross: true })
    }

    /// The loss `[1]`, and the gradient by each set's embeddings, f32. `sets` is one, or for [`Self::cross`] two.
    ///
    /// A label or weight that is NaN, infinite or negative is an error on the CPU, where it can be seen; elsewhere it makes
    /// the loss NaN, as a row that is not finite does everywhere. A weight of 0 masks its sample's row and label.
    ///
    /// # Errors
    /// When a buffer is of another length or type, a label or weight is seen to be none, or the device fails.
    pub fn run(
        &self,
        device: &dyn Device,
        sets: &[Buffers<'_>],
        loss: &Buf,
        gradients: &[&Buf],
    ) -> Result<()> {
        let op = if self.cross { "contrastive_cross" } else { "contrastive" };
        let count = 1 + usize::from(self.cross);
        if sets.len() != count || gradients.len() != count {
            let message = format!("{} and {} gradients, takes {count} of each", sets.len(), gradients.len());
            return Err(Error::shape(op, "sets", message));
        }
        fits(op, "loss", loss, &[1])?;
        let (mut p, mut bufs) = (self.p, Vec::with_capacity(10));
        for (i, (set, gradient)) in sets.iter().zip(gradients).enumerate() {
            let (rows, d) = ([p.n, p.m][i] as usize, p.d as usize);
            let names = [SAMPLES, OTHERS][i];
            fits(op, names.rows, set.embeddings, &[rows, d])?;
            fits(op, names.labels, set.labels, &[rows])?;
            fits(op, names.gradient, gradient, &[rows, d])?;
            if let Some(weights) = set.weights {
                fits(op, names.weights, weights, &[rows])?;
                p.weighted |= 1 << i;
            }
            if device.on_host() {
                look_at(device, op, names, set.labels, set.weights)?;
            }
            bufs.extend([set.embeddings, set.labels, set.weights.unwrap_or(set.labels)]);
        }
        let rows = match self.cross {
            false => [&kc::ALL, &kc::ALL_F16, &kc::ALL_BF16],
            true => [&kc::CROSS, &kc::CROSS_F16, &kc::CROSS_BF16],
        };
        let kernel = stored_as(op, "embeddings", sets[0].embeddings.elem(), rows)?;
        let part = device.alloc(Elem::Real, device.scratch(p.parts()))?;
        bufs.push(loss);
        bufs.extend(gradients);
        bufs.push(&part);
        device.run_once(vec![launch(kernel, &p, &bufs)])
    }
}

/// [`contrastive_hvp`](crate::ops::contrastive_hvp::contrastive_hvp): the sums `[2, N, D]` of the gradient of the loss at dual
/// rows, and of how it moves.
///
/// `own` are `n` samples of `d` columns, and `others`, where there are any, so many samples that they make pairs with, else each
/// other; `embeddings` are dual rows `[2, N, D]`, f32.
///
/// # Errors
/// When a buffer is of another length, an option does not fit, or the device fails.
pub fn contrastive_hvp(
    device: &dyn Device,
    [n, d]: [usize; 2],
    own: Buffers<'_>,
    others: Option<(usize, Buffers<'_>)>,
    options: ContrastiveOptions,
    sums: &Buf,
) -> Result<()> {
    let op = "contrastive_hvp";
    let (m, of_others) = others.unwrap_or((n, own));
    let ([rows, columns], [m, _]) = (loss::size(op, "rows", [n, d])?, loss::size(op, "others", [m, d])?);
    let (mut weighted, mut bufs) = (0, Vec::with_capacity(7));
    for (i, (set, names, rows)) in [(own, SAMPLES, rows), (of_others, OTHERS, m)].into_iter().enumerate() {
        fits(op, names.rows, set.embeddings, &[2, rows as usize, d])?;
        fits(op, names.labels, set.labels, &[rows as usize])?;
        if let Some(weights) = set.weights {
            fits(op, names.weights, weights, &[rows as usize])?;
            weighted |= 1 << i;
        }
        bufs.extend([set.embeddings, set.labels, set.weights.unwrap_or(set.labels)]);
    }
    fits(op, "sums", sums, &[2, n, d])?;
    bufs.push(sums);
    let p = hvp_params(op, [rows, m, columns], (weighted, others.is_none()), options)?;
    device.run_once(vec![launch(&kh::ROWS, &p, &bufs)])
}
