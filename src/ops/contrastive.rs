//! The label-distance-weighted contrastive loss over all pairs, over random halves, or against other rows.
//!
//! The forward launch writes the gradient too; going backward from the loss itself launches nothing.

use super::check::same_elem;
use super::contrastive_hvp::{Set, give_moves};
use super::elementwise::give_scaled;
use super::samples::rows;
pub use super::samples::{ContrastiveOptions, Labels};
pub(crate) use super::samples::{both_sides, params, size, two_or_more};
use crate::graph::{Graph, Var};
use crate::kernel::{Elem, stored_as};
use crate::kernels::contrastive as k;
pub use crate::kernels::contrastive::Metric;
use crate::{Error, Result};

/// The bin of each rating as a label: `min(floor(k·rating + 1e-6), k − 1)` in f64.
///
/// The 1e-6 puts a rating on a bin's edge, 0.6 with `k` = 5 say, into the upper bin whatever
/// the float it came through.
///
/// # Errors
/// When `k < 2` or too large to count in f32, or a rating is outside [0, 1].
///
/// ```
/// use etude::ops::contrastive::bins;
/// assert_eq!(bins(&[0.0, 0.59, 0.6, 1.0], 5)?, [0.0, 2.0, 3.0, 4.0]);
/// # Ok::<_, etude::Error>(())
/// ```
pub fn bins<T: Copy + Into<f64>>(ratings: &[T], k: usize) -> Result<Vec<f32>> {
    if !(2..=1 << 24).contains(&k) {
        return Err(Error::shape("bins", "k", format!("must be from 2 to 2^24, is {k}")));
    }
    let bin = |(i, rating): (usize, &T)| {
        let y: f64 = (*rating).into();
        if (0.0..=1.0).contains(&y) {
            Ok((k as f64 * y + 1e-6).floor().min(k as f64 - 1.0) as f32)
        } else {
            Err(Error::shape("bins", "ratings", format!("must be from 0 to 1, rating {i} is {y}")))
        }
    };
    ratings.iter().enumerate().map(bin).collect()
}

/// The loss `[1]`: the mean over all pairs of rows of `z` `[N, D]` with real `labels` `[N]`.
///
/// `z` may be stored in 16 bits; its gradient is f32.
///
/// For binned ratings the labels are [`bins`]. [`Labels::weighted`] gives samples weights; the loss is 0 where no pair counts.
/// It is NaN where a row that counts is not finite, or its label is NaN, infinite or negative.
///
/// # Errors
/// When a shape or an option does not fit, or there is no pair.
pub fn contrastive(
    g: &mut Graph,
    z: Var,
    labels: impl Into<Labels>,
    opts: ContrastiveOptions,
) -> Result<Var> {
    let (op, labels) = ("contrastive", labels.into());
    let [n, d] = rows(g, op, "z", z)?;
    labels.count(g, op, ["labels", "weights"], (z, n as usize))?;
    two_or_more(op, "z", [n, d])?;
    let p = params(op, [n, 0, d], labels.is_weighted(), opts)?;
    let (loss, dz) = (g.temp(&[1]), g.temp_like(z));
    let part = g.scratch(p.parts());
    let kernel = stored_as(op, "z", g.elem(z), [&k::ALL, &k::ALL_F16, &k::ALL_BF16])?;
    g.launch(kernel, &p, &[z, labels.values(), labels.bound(), loss, dz, part])?;
    g.on_backward(loss, &[z], move |g, up| give_scaled(g, op, z, dz, up));
    if g.elem(z) == Elem::Real {
        let set = Set { rows: z, labels };
        g.on_backward(dz, &[z], move |g, along| give_moves(g, &[(set, Some(along))], opts));
    }
    Ok(loss)
}

/// The loss `[1]`: the mean over `N/2` disjoint pairs of rows of `z` `[N, D]`.
///
/// `pairing` holds row indices, `[N/2, 2]` or `[N]`: rows `pairing[2i]` and `pairing[2i + 1]` are a
/// pair, so a random permutation of `0..N`, uploaded anew each step, matches the batch at
/// random. With an odd `N` one row is left out. An index that is no row or comes twice
/// makes the loss NaN.
///
/// # Errors
/// When a shape or an option does not fit, or there is no pair.
pub fn contrastive_halves(
    g: &mut Graph,
    z: Var,
    labels: impl Into<Labels>,
    pairing: Var,
    opts: ContrastiveOptions,
) -> Result<Var> {
    let (op, labels) = ("contrastive_halves", labels.into());
    let [n, d] = rows(g, op, "z", z)?;
    labels.count(g, op, ["labels", "weights"], (z, n as usize))?;
    two_or_more(op, "z", [n, d])?;
    let given = g.shape(pairing);
    if given != [n as usize / 2, 2] && given != [n as usize] {
        let message = format!("shape {given:?} pairs no rows of z of shape {:?}", g.shape(z));
        return Err(Error::shape(op, "pairing", message));
    }
    let p = params(op, [n, n / 2, d], labels.is_weighted(), opts)?;
    let (loss, dz) = (g.temp(&[1]), g.temp_like(z));
    let part = g.temp(&[p.halves_parts()]);
    g.launch(&k::HALVES, &p, &[z, labels.values(), labels.bound(), pairing, loss, dz, part])?;
    g.on_backward(loss, &[z], move |g, up| give_scaled(g, op, z, dz, up));
    Ok(loss)
}

/// The loss `[1]`: the mean over all `N·M` pairs of a row of `z` `[N, D]` and a row of `others` `[M, D]`.
///
/// Both may be stored in 16 bits; their gradients are f32.
///
/// # Errors
/// When a shape or an option does not fit.
pub fn contrastive_cross(
    g: &mut Graph,
    z: Var,
    labels_z: impl Into<Labels>,
    others: Var,
    labels_o: impl Into<Labels>,
    opts: ContrastiveOptions,
) -> Result<Var> {
    let (op, of_z, of_o) = ("contrastive_cross", labels_z.into(), labels_o.into());
    let [n, d] = rows(g, op, "z", z)?;
    let [m, columns] = rows(g, op, "others", others)?;
    if d != columns {
        let message = format!("shape [{m}, {columns}] against z of shape [{n}, {d}]");
        return Err(Error::shape(op, "others", message));
    }
    of_z.count(g, op, ["labels_z", "weights_z"], (z, n as usize))?;
    of_o.count(g, op, ["labels_o", "weights_o"], (others, m as usize))?;
    let p = params(op, [n, m, d], of_z.is_weighted() | of_o.is_weighted() << 1, opts)?;
    let (loss, dz, dothers) = (g.temp(&[1]), g.temp_like(z), g.temp_like(others));
    let part = g.scratch(p.parts());
    let inputs = [z, of_z.values(), of_z.bound(), others, of_o.values(), of_o.bound()];
    both_sides(op, n, m)?;
    same_elem(g, op, (others, "others"), (z, "z"))?;
    let kernel = stored_as(op, "z", g.elem(z), [&k::CROSS, &k::CROSS_F16, &k::CROSS_BF16])?;
    g.launch(kernel, &p, &[&inputs[..], &[loss, dz, dothers, part]].concat())?;
    g.on_backward(loss, &[z, others], move |g, up| {
        give_scaled(g, op, z, dz, up)?;
        give_scaled(g, op, others, dothers, up)
    });
    if g.elem(z) == Elem::Real {
        let sets = [Set { rows: z, labels: of_z }, Set { rows: others, labels: of_o }];
        for (i, gradient) in [dz, dothers].into_iter().enumerate() {
            g.on_backward(gradient, &[z, others], move |g, along| {
                let along = |of: usize| (of == i).then_some(along);
                give_moves(g, &[(sets[0], along(0)), (sets[1], along(1))], opts)
            });
        }
    }
    Ok(loss)
}
