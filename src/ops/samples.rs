//! What the contrastive loss asks of its samples, and its options: checked once for the loss and for its second derivatives.

use crate::graph::{Graph, Var};
use crate::kernels::contrastive::{ContrastiveParams, Metric};
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

    /// Labels and weights must count the rows `n` of `z`; `arguments` are their names.
    pub(super) fn count(
        self,
        g: &Graph,
        op: &'static str,
        arguments: [&'static str; 2],
        (z, n): (Var, usize),
    ) -> Result<()> {
        let given = [Some(self.values), self.weights];
        for (argument, var) in arguments.into_iter().zip(given).filter_map(|(a, v)| Some((a, v?))) {
            let [count] = g.dims(op, argument, var)?;
            if count != n {
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

/// `[n, d]` of an embedding matrix.
pub(super) fn rows(g: &Graph, op: &'static str, argument: &'static str, z: Var) -> Result<[u32; 2]> {
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
) -> Result<ContrastiveParams> {
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
    Ok(ContrastiveParams { n, m, d, metric: metric as u32, margin, tau, weight, weighted, grad_scale })
}

/// `tau` as kernels compare with it.
///
/// Two labels of size `l` in f32 are off by half a unit in the last place each, 1.2e-7·l at most in their distance; `tau` itself
/// by 6e-8 of it.
fn with_tolerance(tau: f32) -> f32 {
    (1.00025 * f64::from(tau) + 1e-6) as f32
}

/// All pairs of one set need two rows.
pub(crate) fn two_or_more(op: &'static str, argument: &'static str, [n, d]: [u32; 2]) -> Result<()> {
    if n >= 2 {
        return Ok(());
    }
    Err(Error::shape(op, argument, format!("needs two rows to make a pair, has shape [{n}, {d}]")))
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
