//! The rows as the tiles read them, and the sums that become their gradients.

use super::tile::{padded, row_len};
use crate::simd::LANES;

/// Pairs whose squared distance is below this share of their squared norms (about the centre of the
/// batch) are computed on their own in f64: the products of a tile would lose their difference.
const NEAR: f32 = 1e-5;
/// The same between rows of norm 1, which rounding has moved by 6e-8.
const NEAR_UNIT: f32 = 1e-6;

/// A set of rows in the layouts that the tiles read.
pub struct Layout<'s> {
    /// How many rows.
    pub n: usize,
    /// The rows, or with `unit` the rows at norm 1, in panels: distances are differences of these.
    pub panels: &'s mut [f32],
    /// The same in rows `[padded(n), row_len(d)]`, after [`centre`] about the mean: gradients are made of these.
    pub rows: &'s mut [f32],
    /// Labels, where there are any.
    pub labels: &'s mut [f32],
    /// The samples' weights where there are any, else 1; 0 beyond the rows.
    pub weights: &'s mut [f32],
    /// Pairs are near, their products useless, when the squared distance is below the sum of both rows' share.
    pub near: &'s mut [f32],
    /// With `unit` 1 / norm, and 0 for a zero row; else 1.
    pub inverse: &'s mut [f32],
}

/// What the pairs of a set's rows add up to, padded as the [`Layout`] is.
pub struct Sums<'s> {
    /// `Σ_j g_ij·rows_j`, from zero.
    pub acc: &'s mut [f32],
    /// `Σ_j g_ij`, from zero.
    pub g: &'s mut [f32],
}

/// Elements of scratch that a [`Layout`] of `n` rows and its [`Sums`] take.
pub fn side_len(n: usize, d: usize) -> usize {
    padded(n) * (d + 2 * row_len(d) + 5)
}

/// Lays rows `z` `[n, d]` out in `scratch`, taking what [`side_len`] says.
pub fn lay_out<'s>(
    d: usize,
    unit: bool,
    z: &[f32],
    labels: &[f32],
    weights: Option<&[f32]>,
    scratch: &mut &'s mut [f32],
) -> (Layout<'s>, Sums<'s>) {
    let n = z.len() / d;
    let (np, dp) = (padded(n), row_len(d));
    let mut take = |len| scratch.split_off_mut(..len).expect("scratch was counted by side_len");
    let (panels, rows) = (take(np * d), take(np * dp));
    let sums = Sums { acc: take(np * dp), g: take(np) };
    let side =
        Layout { n, panels, rows, labels: take(np), weights: take(np), near: take(np), inverse: take(np) };
    sums.acc.fill(0.0);
    sums.g.fill(0.0);
    side.near.fill(0.0);
    side.labels[..labels.len()].copy_from_slice(labels);
    side.labels[labels.len()..].fill(0.0);
    side.weights.fill(0.0);
    match weights {
        Some(weights) => side.weights[..n].copy_from_slice(weights),
        None => side.weights[..n].fill(1.0),
    }
    side.inverse[n..].fill(0.0);
    side.rows[n * dp..].fill(0.0);
    for ((row, z), inverse) in side.rows.chunks_exact_mut(dp).zip(z.chunks_exact(d)).zip(&mut *side.inverse) {
        let (row, pad) = row.split_at_mut(d);
        pad.fill(0.0);
        if unit {
            // In f64, where no square of an f32 overflows or vanishes.
            let norm = z.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            // A row so short that this overflows has no gradient that f32 holds; it must make no NaN.
            *inverse = (scale as f32).min(f32::MAX);
            for (row, &z) in row.iter_mut().zip(z) {
                *row = (f64::from(z) * scale) as f32;
            }
        } else {
            *inverse = 1.0;
            row.copy_from_slice(z);
        }
    }
    for (rows, panel) in side.rows.chunks_exact(LANES * dp).zip(side.panels.chunks_exact_mut(LANES * d)) {
        for (r, row) in rows.chunks_exact(dp).enumerate() {
            for (k, &v) in row[..d].iter().enumerate() {
                panel[k * LANES + r] = v;
            }
        }
    }
    (side, sums)
}

/// Moves the mean of all sides to the origin, so that differences of `rows`, which alone matter, lose
/// least; and sets `near`.
pub fn centre(d: usize, unit: bool, sides: &mut [&mut Layout<'_>]) {
    let dp = row_len(d);
    let count = sides.iter().map(|s| s.n).sum::<usize>() as f64;
    for c in (0..dp).step_by(LANES) {
        let mut mean = [0f64; LANES];
        for row in sides.iter().flat_map(|s| s.rows.chunks_exact(dp).take(s.n)) {
            for (m, &v) in mean.iter_mut().zip(&row[c..]) {
                *m += f64::from(v);
            }
        }
        let mean = mean.map(|m| (m / count) as f32);
        for row in sides.iter_mut().flat_map(|s| s.rows.chunks_exact_mut(dp).take(s.n)) {
            for (v, m) in row[c..].iter_mut().zip(mean) {
                *v -= m;
            }
        }
    }
    for side in sides {
        let rows = side.rows.chunks_exact(dp).zip(&*side.inverse).take(side.n);
        for (near, (row, &inverse)) in side.near.iter_mut().zip(rows) {
            *near = match (unit, inverse > 0.0) {
                // A zero row has no direction: near to none.
                (true, false) => -1.0,
                (true, true) => 0.5 * NEAR_UNIT,
                // At least what a square can still hold.
                _ => (NEAR * row.iter().map(|v| v * v).sum::<f32>()).max(1e-36),
            };
        }
    }
}

impl Sums<'_> {
    /// `scale·(Σ_j g_ij·rows_i − Σ_j g_ij·rows_j)`; with `unit` brought back from rows of norm 1 to `z`.
    pub fn finish(&self, side: &Layout<'_>, d: usize, unit: bool, scale: f32, z: &[f32], dz: &mut [f32]) {
        let dp = row_len(d);
        let rows = side.rows.chunks_exact(dp).zip(self.acc.chunks_exact(dp));
        let rows = rows.zip(self.g.iter().zip(&*side.inverse));
        for ((dz, z), ((row, acc), (&sum, &inverse))) in
            dz.chunks_exact_mut(d).zip(z.chunks_exact(d)).zip(rows)
        {
            for ((dz, row), acc) in dz.iter_mut().zip(row).zip(acc) {
                *dz = sum * row - acc;
            }
            let mut along = 0.0;
            if unit {
                along = inverse * dz.iter().zip(z).map(|(v, z)| v * (z * inverse)).sum::<f32>();
            }
            // A row of one element has no direction to turn to.
            let scale = if unit && d == 1 { 0.0 } else { scale * inverse };
            for (dz, z) in dz.iter_mut().zip(z) {
                *dz = scale * (*dz - along * z);
            }
        }
    }
}
