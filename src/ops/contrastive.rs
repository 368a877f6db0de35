//! The label-distance-weighted contrastive loss over all pairs, over random halves, or against other rows.
//!
//! The forward launch writes the gradient too; going backward from the loss itself launches nothing.

use super::check::same_elem;
use super::elementwise::give_scaled;
use crate::graph::{Graph, Var};
use crate::kernel::stored_as;
use crate::kernels::contrastive as k;
pub use crate::kernels::contrastive::Metric;
use crate::{Error, Result};

/// What the loss measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ContrastiveOptions {
    /// Distance between embeddings.
    pub metric: Metric,
    /// A negative pair of label distance `w` should be `margin·w` apart; positive.
    pub margin: f32,
    /// Largest label distance of a positive pair; 0 for bins.
    ///
    /// A pair is positive up to `1.00025·tau + 1e-6` apart, so that labels on a grid, 0, 0.1, … with a `tau` of 0.1, are so
    /// whatever the float they came through: f32 labels up to 2,000 times `tau`. With 0, labels less than 1e-6 apart are alike.
    pub tau: f32,
    /// Multiplies the loss.
    pub weight: f32,
    /// Multiplies the gradient alone: a known factor between the loss and what is minimised.
    pub grad_scale: f32,
}

impl Default for ContrastiveOptions {
    /// Euclidean, margin 0.5, positive at equal labels, weight and gradient scale 1.
    fn default() -> Self {
        Self { metric: Metric::Euclidean, margin: 0.5, tau: 0.0, weight: 1.0, grad_scale: 1.0 }
    }
}

/// Labels `[N]`, finite and not negative, and, where samples do not count alike, their weights.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    values: Var,
    weights: Option<Var>,
}

impl Labels {
    /// Labels with `weights` `[N]`: a pair counts as the product of its two.
    ///
    /// A weight of 0 masks a sample out: whatever its row and label hold has no effect. A weight that is NaN, infinite or
    /// negative makes the loss NaN.
    pub fn weighted(values: Var, weights: Var) -> Self {
        Self { values, weights: Some(weights) }
    }

    pub(super) fn values(self) -> Var {
        self.values
    }

    /// What is bound as weights: any buffer where there are none.
    pub(super) fn bound(self) -> Var {
        self.weights.unwrap_or(self.values)
    }

    pub(super) fn is_weighted(self) -> u32 {
        u32::from(self.weights.is_some())
    }

    /// Labels and weights must count the rows of `z`; `arguments` are their names.
    pub(super) fn count(
        self,
        g: &Graph,
        op: &'static str,
        arguments: [&'static str; 2],
        z: Var,
    ) -> Result<()> {
        let given = [Some(self.values), self.weights];
        for (argument, var) in arguments.into_iter().zip(given).filter_map(|(a, v)| Some((a, v?))) {
            let [count] = g.dims(op, argument, var)?;
            if count != g.shape(z)[0] {
                let message = format!("shape [{count}] for the rows of embeddings of shape {:?}", g.shape(z));
                return Err(Error::shape(op, argument, message));
            }
        }
        Ok(())
    }
}

impl From<Var> for Labels {
    fn from(values: Var) -> Self {
        Self { values, weights: None }
    }
}

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

/// `[n, d]` of an embedding matrix.
fn rows(g: &Graph, op: &'static str, argument: &'static str, z: Var) -> Result<[u32; 2]> {
    size(op, argument, g.dims(op, argument, z)?)
}

/// Rows and columns as kernels count them.
pub(crate) fn size(op: &'static str, argument: &'static str, [n, d]: [usize; 2]) -> Result<[u32; 2]> {
    match (u32::try_from(n), u32::try_from(d)) {
        (Ok(n @ 1..), Ok(d @ 1..)) => Ok([n, d]),
        _ => Err(Error::shape(
            op,
            argument,
            format!("needs from 1 to 2^32 − 1 rows and columns, has shape [{n}, {d}]"),
        )),
    }
}

/// Rows of both sides together are counted in 32 bits too.
pub(crate) fn both_sides(op: &'static str, n: u32, m: u32) -> Result<()> {
    match n.checked_add(m) {
        Some(_) => Ok(()),
        None => {
            Err(Error::shape(op, "others", format!("{n} and {m} rows are 2^32 or more: split the others")))
        }
    }
}

pub(crate) fn params(
    op: &'static str,
    [n, m, d]: [u32; 3],
    weighted: u32,
    opts: ContrastiveOptions,
) -> Result<k::ContrastiveParams> {
    let ContrastiveOptions { metric, margin, tau, weight, grad_scale } = opts;
    if !(margin.is_finite() && margin > 0.0) {
        return Err(Error::shape(op, "margin", format!("must be positive and finite, is {margin}")));
    }
    if !(tau.is_finite() && tau >= 0.0) {
        return Err(Error::shape(op, "tau", format!("must be finite and not negative, is {tau}")));
    }
    if !weight.is_finite() {
        return Err(Error::shape(op, "weight", format!("must be finite, is {weight}")));
    }
    if !grad_scale.is_finite() {
        return Err(Error::shape(op, "grad_scale", format!("must be finite, is {grad_scale}")));
    }
    let tau = with_tolerance(tau);
    Ok(k::ContrastiveParams { n, m, d, metric: metric as u32, margin, tau, weight, weighted, grad_scale })
}

/// `tau` as kernels compare with it.
///
/// Two labels of size `l` in f32 are off by half a unit in the last place each, 1.2e-7·l at most in their distance; `tau` itself
/// by 6e-8 of it.
fn with_tolerance(tau: f32) -> f32 {
    (1.00025 * f64::from(tau) + 1e-6) as f32
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
    labels.count(g, op, ["labels", "weights"], z)?;
    two_or_more(op, "z", [n, d])?;
    let p = params(op, [n, 0, d], labels.is_weighted(), opts)?;
    let (loss, dz) = (g.temp(&[1]), g.temp_like(z));
    let part = g.scratch(p.parts());
    let kernel = stored_as(op, "z", g.elem(z), [&k::ALL, &k::ALL_F16, &k::ALL_BF16])?;
    g.launch(kernel, &p, &[z, labels.values, labels.bound(), loss, dz, part])?;
    g.on_backward(loss, &[z], move |g, up| give_scaled(g, z, dz, up));
    Ok(loss)
}

/// All pairs of one set need two rows.
pub(crate) fn two_or_more(op: &'static str, argument: &'static str, [n, d]: [u32; 2]) -> Result<()> {
    if n >= 2 {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("needs two rows to make a pair, has shape [{n}, {d}]")))
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
    labels.count(g, op, ["labels", "weights"], z)?;
    two_or_more(op, "z", [n, d])?;
    let given = g.shape(pairing);
    if given != [n as usize / 2, 2] && given != [n as usize] {
        let message = format!("shape {given:?} pairs no rows of z of shape {:?}", g.shape(z));
        return Err(Error::shape(op, "pairing", message));
    }
    let p = params(op, [n, n / 2, d], labels.is_weighted(), opts)?;
    let (loss, dz) = (g.temp(&[1]), g.temp_like(z));
    let part = g.temp(&[p.halves_parts()]);
    g.launch(&k::HALVES, &p, &[z, labels.values, labels.bound(), pairing, loss, dz, part])?;
    g.on_backward(loss, &[z], move |g, up| give_scaled(g, z, dz, up));
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
    of_z.count(g, op, ["labels_z", "weights_z"], z)?;
    of_o.count(g, op, ["labels_o", "weights_o"], others)?;
    let p = params(op, [n, m, d], of_z.is_weighted() | of_o.is_weighted() << 1, opts)?;
    let (loss, dz, dothers) = (g.temp(&[1]), g.temp_like(z), g.temp_like(others));
    let part = g.scratch(p.parts());
    let inputs = [z, of_z.values, of_z.bound(), others, of_o.values, of_o.bound()];
    both_sides(op, n, m)?;
    same_elem(g, op, (others, "others"), (z, "z"))?;
    let kernel = stored_as(op, "z", g.elem(z), [&k::CROSS, &k::CROSS_F16, &k::CROSS_BF16])?;
    g.launch(kernel, &p, &[&inputs[..], &[loss, dz, dothers, part]].concat())?;
    g.on_backward(loss, &[z, others], move |g, up| {
        give_scaled(g, z, dz, up)?;
        give_scaled(g, others, dothers, up)
    });
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_32_bits_cannot_count_is_refused() {
        for shape in [[1 << 32, 1], [1, 1 << 32], [0, 3], [usize::MAX, 2]] {
            let message = size("contrastive", "z", shape).unwrap_err().to_string();
            assert!(message.contains("2^32") && message.contains(&format!("{shape:?}")), "{message}");
        }
        assert_eq!(size("contrastive", "z", [u32::MAX as usize, 128]).unwrap(), [u32::MAX, 128]);
        assert!(both_sides("contrastive_cross", 1 << 31, 1 << 31).is_err());
        assert!(both_sides("contrastive_cross", 1 << 31, (1 << 31) - 1).is_ok());
    }
}
