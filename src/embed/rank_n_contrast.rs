//! Rank-N-Contrast's loss.

use super::recorded::{OfRows, bound, finish};
use super::shared::{apart, fits, launch, look_for_numbers};
use crate::Result;
use crate::device::{Buf, Device};
use crate::graph::Graph;
use crate::kernel::Elem;
use crate::kernels::rank_n_contrast as kr;
use crate::ops::rank_n_contrast as ranked;

/// [`rank_n_contrast`](ranked::rank_n_contrast): the loss `[1]` of `n` rows of `d` columns, and where one is given the gradient
/// by them, f32.
///
/// A label that is not finite is an error on the CPU, where it can be seen; elsewhere it makes the loss NaN, as labels do
/// everywhere whose differences are not finite.
///
/// # Errors
/// When a buffer is of another length or type, an option does not fit, a label is seen to be no number, or the device fails.
pub fn rank_n_contrast(
    device: &dyn Device,
    [n, d]: [usize; 2],
    embeddings: &Buf,
    labels: &Buf,
    temperature: f32,
    loss: &Buf,
    gradient: Option<&Buf>,
) -> Result<()> {
    let op = "rank_n_contrast";
    fits(op, "embeddings", embeddings, &[n, d])?;
    fits(op, "labels", labels, &[n])?;
    fits(op, "loss", loss, &[1])?;
    if let Some(gradient) = gradient {
        fits(op, "gradient", gradient, &[n, d])?;
    }
    let read = [("embeddings", embeddings), ("labels", labels)];
    apart(op, &read, &[("loss", Some(loss)), ("gradient", gradient)])?;
    look_for_numbers(device, op, "labels", labels)?;
    let mut g = Graph::new();
    let z = bound(&mut g, embeddings, gradient, [n, d])?;
    let labels = g.bind(labels, &[n])?;
    let of_rows = ranked::rank_n_contrast(&mut g, z, labels, temperature)?;
    finish(g, device, of_rows, loss, gradient.is_some())
}

/// [`rank_n_contrast_rows`](ranked::rank_n_contrast_rows): the losses `[N]` of `n` rows of `d` columns, or their gradient.
///
/// Of labels as in [`rank_n_contrast`].
///
/// # Errors
/// As there.
pub fn rank_n_contrast_rows(
    device: &dyn Device,
    [n, d]: [usize; 2],
    embeddings: &Buf,
    labels: &Buf,
    temperature: f32,
    of: OfRows<'_>,
) -> Result<()> {
    let op = "rank_n_contrast";
    fits(op, "embeddings", embeddings, &[n, d])?;
    fits(op, "labels", labels, &[n])?;
    of.fits(op, [n, d], None, &[("embeddings", embeddings), ("labels", labels)], &[])?;
    look_for_numbers(device, op, "labels", labels)?;
    let mut g = Graph::new();
    let z = bound(&mut g, embeddings, of.gradients()[0], [n, d])?;
    let labels = g.bind(labels, &[n])?;
    let losses = ranked::rank_n_contrast_rows(&mut g, z, labels, temperature)?;
    of.finish(g, device, losses)
}

/// The losses `[rows]` of some anchors of [`rank_n_contrast`](ranked::rank_n_contrast), those from `first` on of `n`, of whose
/// mean over all `n` it is; `distances` `[rows, n]` from these to all rows become the gradient of that mean by them.
///
/// Nobody looks at the labels: those whose differences are not finite make every loss NaN.
///
/// # Errors
/// When a buffer is of another length, an option does not fit, or the device fails.
pub fn rank_n_contrast_of_distances(
    device: &dyn Device,
    [rows, n]: [usize; 2],
    first: usize,
    labels: &Buf,
    temperature: f32,
    distances: &Buf,
    losses: &Buf,
) -> Result<()> {
    let op = "rank_n_contrast";
    fits(op, "labels", labels, &[n])?;
    fits(op, "distances", distances, &[rows, n])?;
    fits(op, "losses", losses, &[rows])?;
    apart(op, &[("labels", labels)], &[("distances", Some(distances)), ("losses", Some(losses))])?;
    let p = ranked::rows_params(op, [rows, n], first, temperature)?;
    let [order, ranks] = [(); 2].map(|()| device.alloc(Elem::Index, n));
    let (order, ranks, sorted) = (order?, ranks?, device.alloc(Elem::Real, n)?);
    let sums = device.alloc(Elem::Real, device.scratch(p.sums()))?;
    device.run_once(vec![
        launch(&kr::ORDER, &p, &[labels, &order, &ranks, &sorted]),
        launch(&kr::ROWS, &p, &[&order, &ranks, &sorted, &sorted, distances, losses, &sums]),
    ])
}
