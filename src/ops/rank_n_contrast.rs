//! Rank-N-Contrast's loss: rows should be as far from one another as their labels are, by rank.

use super::contrastive::{size, two_or_more};
use super::elementwise::give_scaled;
use crate::graph::{Graph, Var};
use crate::kernel::stored_as;
use crate::kernels::elementwise::{self as ke, ElementwiseParams};
use crate::kernels::rank_n_contrast as k;
use crate::kernels::similarity::{self as ks, Similarity, SimilarityParams};
use crate::{Error, Result};

/// Distances that are in memory at once, but for those of a block of [`LEAST`] rows.
const MOST: usize = 1 << 22;

/// Rows of a block, and what they are a multiple of.
const LEAST: usize = 64;

/// Anchors of a block, of `n`.
fn block(n: usize) -> usize {
    (MOST / n / LEAST * LEAST).clamp(LEAST, n.max(LEAST)).min(n)
}

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
    let n = g.shape(z).first().map_or(1, |&n| n.max(1));
    in_blocks(g, z, labels, temperature, block(n))
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
    let [rows, d] = size(op, "z", g.dims(op, "z", z)?)?;
    two_or_more(op, "z", [rows, d])?;
    let [count] = g.dims(op, "labels", labels)?;
    if count != rows as usize {
        let message = format!("shape [{count}] for the rows of z of shape {:?}", g.shape(z));
        return Err(Error::shape(op, "labels", message));
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        let message = format!("must be positive and finite, is {temperature}");
        return Err(Error::shape(op, "temperature", message));
    }
    let elements = rows.checked_mul(d).filter(|_| rows <= i32::MAX as u32);
    let Some(elements) = elements else {
        let message = format!("needs fewer than 2^31 rows and 2^32 elements, has shape {:?}", g.shape(z));
        return Err(Error::shape(op, "z", message));
    };
    let n = rows as usize;
    let gradient = g.needs_grad(z);
    let p = k::RankNContrastParams { n: rows, first: 0, rows: 0, gradient: gradient.into(), temperature };
    let (order, ranks, sorted) = (g.temp_index(&[n]), g.temp_index(&[n]), g.temp(&[n]));
    g.launch(&k::ORDER, &p, &[labels, order, ranks, sorted])?;
    let (losses, loss) = (g.temp(&[n]), g.temp(&[1]));
    let dz = g.temp_like(z);
    for first in (0..n).step_by(of_block) {
        let anchors = of_block.min(n - first);
        let p = k::RankNContrastParams { first: first as u32, rows: anchors as u32, ..p };
        let of_pairs = SimilarityParams { n: p.rows, m: rows, d, kind: Similarity::Euclidean as u32 };
        let from = first * d as usize;
        let (own, distances) = (g.window(z, from, &[anchors, d as usize])?, g.temp(&[anchors, n]));
        let forward = stored_as(op, "z", g.elem(z), [&ks::FWD, &ks::FWD_F16, &ks::FWD_BF16])?;
        g.launch(forward, &of_pairs, &[own, z, distances])?;
        let (of_anchors, sums) = (g.window(losses, first, &[anchors])?, g.scratch(p.sums()));
        g.launch(&k::ROWS, &p, &[order, ranks, sorted, distances, of_anchors, sums])?;
        if gradient {
            // What anchors add to others' gradients, and to their own.
            let others = if first == 0 { dz } else { g.temp_like(z) };
            let (d_own, to_own) =
                (g.temp(&[anchors, d as usize]), g.window(dz, from, &[anchors, d as usize])?);
            let backward = stored_as(op, "z", g.elem(z), [&ks::BWD, &ks::BWD_F16, &ks::BWD_BF16])?;
            g.launch(backward, &of_pairs, &[own, z, distances, d_own, others])?;
            let all = |n| ElementwiseParams { n, factor: 1.0 };
            if first > 0 {
                g.launch(&ke::ACCUMULATE, &all(elements), &[others, dz])?;
            }
            g.launch(&ke::ACCUMULATE, &all(p.rows * d), &[d_own, to_own])?;
        }
    }
    g.launch(&k::SUM, &p, &[losses, sorted, loss])?;
    g.on_backward(loss, &[z], move |g, up| give_scaled(g, z, dz, up));
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_within_memory() {
        assert_eq!([2, 63, 2048, 2049, 4096, 16_384].map(block), [2, 63, 2048, 1984, 1024, 256]);
        assert_eq!([1 << 20, 1 << 30].map(block), [64, 64]);
    }
}
