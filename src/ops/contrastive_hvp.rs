//! The gradient of the contrastive loss at dual rows, of which its second derivatives are made.

use super::contrastive::{ContrastiveOptions, Labels, both_sides, params};
use crate::graph::{Graph, Var};
use crate::kernels::contrastive_hvp as k;
use crate::{Error, Result};

/// `[n, d]` of dual rows `[n, 2, d]`.
fn size(op: &'static str, argument: &'static str, [n, two, d]: [usize; 3]) -> Result<[u32; 2]> {
    match (u32::try_from(n), two, u32::try_from(d)) {
        (Ok(n @ 1..), 2, Ok(d @ 1..)) => Ok([n, d]),
        _ => {
            Err(Error::shape(op, argument, format!("needs dual rows [N, 2, D], has shape [{n}, {two}, {d}]")))
        }
    }
}

/// A kernel's params for `n` rows and `m` others of `d` columns, of which `weighted` says the weights.
pub(crate) fn hvp_params(
    op: &'static str,
    [n, m, d]: [u32; 3],
    (weighted, same): (u32, bool),
    opts: ContrastiveOptions,
) -> Result<k::ContrastiveHvpParams> {
    both_sides(op, n, m)?;
    if d > u32::MAX / 2 {
        return Err(Error::shape(op, "rows", format!("needs fewer than 2^31 columns, has {d}")));
    }
    let p = params(op, [n, m, d], weighted, opts)?;
    Ok(k::ContrastiveHvpParams {
        n,
        m,
        d,
        metric: p.metric,
        margin: p.margin,
        tau: p.tau,
        scale: p.weight * p.grad_scale,
        weighted,
        same: same.into(),
    })
}

/// The sums `[N, 2, D]` over all pairs of a row of `rows` `[N, 2, D]` with any of `others`, or without them with the other rows.
///
/// A dual row is a row `z` and how it moves, `v`. With `L` the sum (not the mean) of
/// [`contrastive`](super::contrastive::contrastive)'s pairs, each counted as the product of its weights, times `weight` and
/// `grad_scale`, the first half of a row of the sums is `∂L/∂z`, the second how that moves: without others, or where they move
/// too, a row of the Hessian times `v`.
///
/// Rows for the cosine have norm 1, or are 0; sums are then by these rows, and the chain to rows of other norms is the caller's.
/// Nothing goes backward from here: this is not differentiated itself.
///
/// # Errors
/// When a shape or an option does not fit.
pub fn contrastive_hvp(
    g: &mut Graph,
    rows: Var,
    labels: impl Into<Labels>,
    others: Option<(Var, Labels)>,
    opts: ContrastiveOptions,
) -> Result<Var> {
    let (op, labels) = ("contrastive_hvp", labels.into());
    let [n, d] = size(op, "rows", g.dims(op, "rows", rows)?)?;
    labels.count(g, op, ["labels", "weights"], rows)?;
    let same = others.is_none();
    let (others, labels_o) = others.unwrap_or((rows, labels));
    let [m, columns] = size(op, "others", g.dims(op, "others", others)?)?;
    if d != columns {
        let message = format!("shape {:?} against rows of shape {:?}", g.shape(others), g.shape(rows));
        return Err(Error::shape(op, "others", message));
    }
    labels_o.count(g, op, ["labels_o", "weights_o"], others)?;
    let weighted = labels.is_weighted() | labels_o.is_weighted() << 1;
    let p = hvp_params(op, [n, m, d], (weighted, same), opts)?;
    let sums = g.temp(&[n as usize, 2, d as usize]);
    let of = |labels: Labels| [labels.values(), labels.bound()];
    let ([l, w], [lo, wo]) = (of(labels), of(labels_o));
    g.launch(&k::ROWS, &p, &[rows, l, w, others, lo, wo, sums])?;
    Ok(sums)
}
