//! Rank-N-Contrast's loss: rows should be as far from one another as their labels are, by rank.

use super::anchors::{Pairs, block, positive, rows_of};
use super::contrastive::two_or_more;
use super::elementwise::give_scaled;
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
    let n = g.shape(z).first().map_or(1, |&n| n);
    in_blocks(g, z, labels, temperature, block(n, n))
}

/// [`rank_n_contrast`] in blocks of so many anchors.
pub(crate) fn in_blocks(
    g: &mut Graph,
    z: Var,
    labels: Var,
    temperature: f32,
    of_block: usize,
) -> Result<Var> {
    let op = "rank_n_contrast";
    let [rows, d] = rows_of(g, op, "z", z)?;
    two_or_more(op, "z", [rows, d])?;
    let [count] = g.dims(op, "labels", labels)?;
    if count != rows as usize {
        let message = format!("shape [{count}] for the rows of z of shape {:?}", g.shape(z));
        return Err(Error::shape(op, "labels", message));
    }
    positive(op, "temperature", temperature)?;
    let n = rows as usize;
    let pairs = Pairs { op, z, others: z, kind: Similarity::Euclidean };
    let gradient = pairs.wanted(g).into();
    let p = k::RankNContrastParams { n: rows, first: 0, rows: 0, gradient, temperature };
    let (order, ranks, sorted) = (g.temp_index(&[n]), g.temp_index(&[n]), g.temp(&[n]));
    g.launch(&k::ORDER, &p, &[labels, order, ranks, sorted])?;
    let (losses, loss) = (g.temp(&[n]), g.temp(&[1]));
    let [dz, _] = pairs.in_blocks(g, of_block, |g, anchors, distances| {
        let p = k::RankNContrastParams { first: anchors.start, rows: anchors.len() as u32, ..p };
        let of_anchors = g.window(losses, anchors.start as usize, &[anchors.len()])?;
        let sums = g.scratch(p.sums());
        g.launch(&k::ROWS, &p, &[order, ranks, sorted, distances, of_anchors, sums])
    })?;
    g.launch(&k::SUM, &p, &[losses, sorted, loss])?;
    g.on_backward(loss, &[z], move |g, up| give_scaled(g, z, dz, up));
    Ok(loss)
}
