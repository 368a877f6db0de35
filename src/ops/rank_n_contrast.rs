//! Rank-N-Contrast's loss: rows should be as far from one another as their labels are, by rank.

use super::anchors::{Pairs, block_of, of_anchors, positive, rows_of};
use super::elementwise::give_scaled;
use super::samples::two_or_more;
use crate::graph::{Graph, Var};
use crate::kernels::rank_n_contrast as k;
use crate::kernels::similarity::Similarity;
use crate::{Error, Result};

/// The loss `[1]` of the rows of `z` `[N, D]` with finite `labels` `[N]`: the mean over all pairs of an anchor i and another row
/// j of
///
/// ```text
/// log Σ_k exp(−‖z_i − z_k‖/t) + ‖z_i − z_j‖/t        over the k ≠ i with |y_i − y_k| ≥ |y_i − y_j|
/// ```
///
/// with the `temperature` t: Zha et al., "Rank-N-Contrast: Learning Continuous Representations for Regression", NeurIPS 2023. It
/// takes `N²·(D + log N)` time, and memory for some rows of the distances, whatever `N`. `z` may be stored in 16 bits; its
/// gradient is f32. The gradient of a distance of 0 is 0. A row that is not finite makes the loss NaN, as do labels
/// whose differences are not all finite.
///
/// # Errors
/// When a shape does not fit, there is no pair, or the temperature is not positive.
pub fn rank_n_contrast(g: &mut Graph, z: Var, labels: Var, temperature: f32) -> Result<Var> {
    let of_block = block_of(g, z, z);
    in_blocks(g, z, labels, temperature, of_block)
}

/// [`rank_n_contrast`] in blocks of so many anchors.
pub(crate) fn in_blocks(
    g: &mut Graph,
    z: Var,
    labels: Var,
    temperature: f32,
    of_block: usize,
) -> Result<Var> {
    let held = Held::checked(g, z, labels, temperature, of_block)?;
    let (losses, loss) = (g.temp(&[held.p.n as usize]), g.temp(&[1]));
    let gradient = if held.pairs.wanted(g) { k::OF_MEAN } else { 0 };
    let [dz, _] = held.run(g, gradient, held.sorted, losses)?;
    g.launch(&k::SUM, &held.p, &[losses, loss])?;
    g.on_backward(loss, &[z], move |g, up| give_scaled(g, "rank_n_contrast", z, dz, up));
    Ok(loss)
}

/// The losses `[N]` of the anchors, of which [`rank_n_contrast`] is the mean.
///
/// A backward pass goes through the anchors again, in the memory of some rows of the distances.
///
/// # Errors
/// As [`rank_n_contrast`].
pub fn rank_n_contrast_rows(g: &mut Graph, z: Var, labels: Var, temperature: f32) -> Result<Var> {
    let of_block = block_of(g, z, z);
    rows_in_blocks(g, z, labels, temperature, of_block)
}

/// [`rank_n_contrast_rows`] in blocks of so many anchors.
pub(crate) fn rows_in_blocks(
    g: &mut Graph,
    z: Var,
    labels: Var,
    temperature: f32,
    of_block: usize,
) -> Result<Var> {
    let held = Held::checked(g, z, labels, temperature, of_block)?;
    let losses = g.temp(&[held.p.n as usize]);
    held.run(g, 0, held.sorted, losses)?;
    g.on_backward(losses, &[z], move |g, upstream| {
        let again = g.temp_like(losses);
        let [dz, _] = held.run(g, k::OF_EACH, upstream, again)?;
        g.give_grad(z, dz)
    });
    Ok(losses)
}

/// Anchors, and the order of their labels.
struct Held {
    pairs: Pairs,
    order: Var,
    ranks: Var,
    sorted: Var,
    p: k::RankNContrastParams,
    of_block: usize,
}

impl Held {
    fn checked(g: &mut Graph, z: Var, labels: Var, temperature: f32, of_block: usize) -> Result<Self> {
        let op = "rank_n_contrast";
        let [rows, d] = rows_of(g, op, "z", z)?;
        two_or_more(op, "z", [rows, d])?;
        let [count] = g.dims(op, "labels", labels)?;
        if count != rows as usize {
            let message = format!("shape [{count}] for the rows of z of shape {:?}", g.shape(z));
            return Err(Error::shape(op, "labels", message));
        }
        let pairs = Pairs { op, z, others: z, kind: Similarity::Euclidean };
        let p = rows_params(op, [count, count], 0, temperature)?;
        let (order, ranks, sorted) = (g.temp_index(&[count]), g.temp_index(&[count]), g.temp(&[count]));
        g.launch(&k::ORDER, &p, &[labels, order, ranks, sorted])?;
        Ok(Self { pairs, order, ranks, sorted, p, of_block })
    }

    /// The anchors' losses, and the gradient where it says of what.
    fn run(&self, g: &mut Graph, gradient: u32, upstream: Var, losses: Var) -> Result<[Var; 2]> {
        self.pairs.in_blocks(g, self.of_block, gradient > 0, |g, anchors, distances| {
            let rows = anchors.len() as u32;
            let p = k::RankNContrastParams { first: anchors.start, rows, gradient, ..self.p };
            let mut of_anchors = |var| g.window(var, anchors.start as usize, &[anchors.len()]);
            let (upstream, losses) = (of_anchors(upstream)?, of_anchors(losses)?);
            let sums = g.scratch(p.sums());
            let by = [self.order, self.ranks, self.sorted, upstream];
            g.launch(&k::ROWS, &p, &[&by[..], &[distances, losses, sums]].concat())?;
            Ok(distances)
        })
    }
}

/// What a launch over so many of `n` anchors, from `first` on, is told, where it gives the gradient too.
pub(crate) fn rows_params(
    op: &'static str,
    [rows, n]: [usize; 2],
    first: usize,
    temperature: f32,
) -> Result<k::RankNContrastParams> {
    positive(op, "temperature", temperature)?;
    let [first, rows] = of_anchors(op, (first, rows), n, n)?;
    Ok(k::RankNContrastParams { n: n as u32, first, rows, gradient: k::OF_MEAN, temperature })
}
