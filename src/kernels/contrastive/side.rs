//! A set of samples as the sweep reads it, and the sums that become its gradients.

use super::order::Order;
use super::set::Set;
use crate::dispatch;
use crate::kernel::with_scratch;
use crate::kernels::pairs::{TILE, padded, row_len};
use crate::simd::{F32x16, LANES, Simd};

/// Pairs whose squared distance is below this share of their squared norms (about the centre of the batch) are computed on their
/// own in f64: the products of a tile would lose their difference.
const NEAR: f32 = 1e-5;
/// The same between rows of norm 1, which rounding has moved by 6e-8.
const NEAR_UNIT: f32 = 1e-6;

/// Rows, in the order of their tiles, padded to whole vectors of rows.
pub struct Side<'s> {
    pub d: usize,
    /// From one row to the next.
    pub dp: usize,
    pub order: &'s Order<'s>,
    /// The numbers of the samples.
    pub samples: &'s mut [u32],
    /// The rows, with `unit` at norm 1, about the mean of all, in panels.
    pub panels: &'s mut [f32],
    /// The same in rows.
    pub rows: &'s mut [f32],
    /// Their squared norms.
    pub squares: &'s mut [f32],
    pub labels: &'s mut [f32],
    /// The samples' weights, at most 1, else 1; 0 beyond the rows.
    pub weights: &'s mut [f32],
    /// Pairs are near, their products useless, when the squared distance is below the sum of both rows' share.
    pub near: &'s mut [f32],
    /// With `unit` 1 / norm, and 0 for a zero row; else 1.
    pub inverse: &'s mut [f32],
    /// Of each tile.
    pub bounds: Bounds<'s>,
}

/// What the pairs of a side's rows add up to, in its order.
pub struct Sums<'s> {
    /// `Σ_j g_ij·rows_j`, from zero.
    pub acc: &'s mut [f32],
    /// `Σ_j g_ij`, from zero.
    pub g: &'s mut [f32],
}

/// Around each tile of rows, a ball: `‖row − centre‖ ≤ radius`.
pub struct Bounds<'s> {
    /// `[tiles, dp]`.
    pub centres: &'s mut [f32],
    /// Infinite where nothing is known.
    pub radii: &'s mut [f32],
    /// No norm of a row is beyond.
    pub norms: &'s mut [f32],
    /// The mean of `‖row − centre‖²` and that of `‖row‖²` of each.
    pub means: &'s mut [f32],
    /// The least and the greatest label of each.
    pub labels: &'s mut [f32],
}

/// Elements of scratch that a [`Side`] of `n` rows and its [`Sums`] take.
pub fn side_len(n: usize, d: usize) -> usize {
    padded(n) * (d + 2 * row_len(d) + 7) + n.div_ceil(TILE) * (row_len(d) + 6)
}

/// Lays the samples of `order` out in `scratch`, as long as [`side_len`] says.
pub fn lay_out<'s>(
    d: usize,
    unit: bool,
    set: &Set<'_>,
    order: &'s Order<'s>,
    mut scratch: &'s mut [f32],
) -> (Side<'s>, Sums<'s>) {
    let n = order.len();
    let (np, dp, tiles) = (padded(n), row_len(d), n.div_ceil(TILE));
    let mut take = |len| scratch.split_off_mut(..len).expect("scratch was counted by side_len");
    let sums = Sums { acc: take(np * dp), g: take(np) };
    let side = Side {
        d,
        dp,
        order,
        panels: take(np * d),
        rows: take(np * dp),
        samples: bytemuck::cast_slice_mut(take(np)),
        squares: take(np),
        labels: take(np),
        weights: take(np),
        near: take(np),
        inverse: take(np),
        bounds: Bounds {
            centres: take(tiles * dp),
            radii: take(tiles),
            norms: take(tiles),
            means: take(2 * tiles),
            labels: take(2 * tiles),
        },
    };
    sums.acc.fill(0.0);
    sums.g.fill(0.0);
    for of_rows in [&mut *side.squares, side.labels, side.weights, side.near, side.inverse] {
        of_rows[n..].fill(0.0);
    }
    side.rows[n * dp..].fill(0.0);
    let largest = set.largest();
    for k in 0..n {
        let (row, sample) = (order.place(k), order.sample(k));
        side.samples[row] = sample as u32;
        side.labels[row] = order.label(k);
        side.weights[row] = set.weights.map_or(1.0, |w| w[sample] / largest);
        side.inverse[row] = place(&mut side.rows[row * dp..][..dp], &set.z[sample * d..][..d], unit);
    }
    (side, sums)
}

/// Puts `z` into `row`, with `unit` at norm 1. With `unit` 1 / its norm, 0 for none; else 1.
fn place(row: &mut [f32], z: &[f32], unit: bool) -> f32 {
    let (row, pad) = row.split_at_mut(z.len());
    pad.fill(0.0);
    if !unit {
        row.copy_from_slice(z);
        return 1.0;
    }
    // In f64, where no square of an f32 overflows or vanishes.
    let norm = z.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    row.iter_mut().zip(z).for_each(|(row, &z)| *row = (f64::from(z) * scale) as f32);
    // A row so short that this overflows has no gradient that f32 holds; it must make no NaN.
    (scale as f32).min(f32::MAX)
}

/// Moves the mean of all sides to the origin, so that differences of rows, which alone matter, and products of them lose least;
/// then makes of the rows what else a side has.
pub fn centre(simd: Simd, unit: bool, sides: &mut [&mut Side<'_>]) {
    let Some(dp) = sides.first().map(|s| s.dp) else { return };
    let count = sides.iter().map(|s| s.order.len()).sum::<usize>() as f64;
    sides.iter_mut().for_each(|side| add_up(simd, side));
    with_scratch(dp, |mean: &mut [f32]| {
        for (c, mean) in mean.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut sums = [0f64; LANES];
            for tile in sides.iter().flat_map(|s| s.bounds.centres.chunks_exact(dp)) {
                sums.iter_mut().zip(&tile[c * LANES..]).for_each(|(sum, &v)| *sum += f64::from(v));
            }
            *mean = sums.map(|sum| (sum / count) as f32);
        }
        for side in sides {
            measure(simd, side, mean, unit);
        }
    });
}

/// Makes the centres of the tiles the sums of their rows.
#[inline(always)]
unsafe fn add_up_body<V: F32x16>(side: &mut Side<'_>) {
    let (dp, n) = (side.dp, side.order.len());
    for (tile, centre) in side.bounds.centres.chunks_exact_mut(dp).enumerate() {
        let rows = &side.rows[tile * TILE * dp..n.min((tile + 1) * TILE) * dp];
        for c in (0..dp).step_by(LANES) {
            // SAFETY: rows and centres are whole vectors.
            unsafe {
                let mut sum = V::splat(0.0);
                for row in rows.chunks_exact(dp) {
                    sum = sum.add(V::load(row.as_ptr().add(c)));
                }
                sum.store(centre.as_mut_ptr().add(c));
            }
        }
    }
}

/// Takes `mean` off the rows and off the centres, made of the sums of the tiles' rows; then fills in panels, norms, radii.
#[inline(always)]
unsafe fn measure_body<V: F32x16>(side: &mut Side<'_>, mean: &[f32], unit: bool) {
    let (d, dp, n) = (side.d, side.dp, side.order.len());
    let Bounds { centres, radii, norms, means, labels } = &mut side.bounds;
    for (tile, centre) in centres.chunks_exact_mut(dp).enumerate() {
        let of = tile * TILE..n.min((tile + 1) * TILE);
        let share = 1.0 / of.len() as f32;
        centre.iter_mut().zip(mean).for_each(|(c, mean)| *c = *c * share - mean);
        let (mut radius, mut largest, mut sums) = (0f32, 0f32, [0f32; 2]);
        for i in of.clone() {
            let row = side.rows[i * dp..][..dp].as_mut_ptr();
            // SAFETY: rows, centres and the mean are whole vectors.
            let (square, apart) = unsafe {
                let (mut square, mut apart) = (V::splat(0.0), V::splat(0.0));
                for c in (0..dp).step_by(LANES) {
                    let v = V::load(row.add(c)).sub(V::load(mean.as_ptr().add(c)));
                    let off = v.sub(V::load(centre.as_ptr().add(c)));
                    v.store(row.add(c));
                    (square, apart) = (v.mul_add(v, square), off.mul_add(off, apart));
                }
                (square.sum(), apart.sum())
            };
            side.squares[i] = square;
            (radius, largest) = (radius.max(apart), largest.max(square));
            sums = [sums[0] + apart, sums[1] + square];
            side.near[i] = match (unit, side.inverse[i] > 0.0) {
                // A zero row has no direction: near to none.
                (true, false) => -1.0,
                (true, true) => 0.5 * NEAR_UNIT,
                // At least what a square can still hold.
                _ => (NEAR * square).max(1e-36),
            };
        }
        // A zero row is at distance 1 of all, wherever it lies.
        let anywhere = unit && side.inverse[of.clone()].contains(&0.0);
        radii[tile] = if anywhere { f32::INFINITY } else { radius.sqrt() };
        norms[tile] = largest.sqrt();
        means[2 * tile..2 * tile + 2].copy_from_slice(&sums.map(|sum| sum * share));
        let of_labels = side.labels[of.clone()].iter().copied();
        labels[2 * tile] = of_labels.clone().fold(f32::INFINITY, f32::min);
        labels[2 * tile + 1] = of_labels.fold(0.0, f32::max);
    }
    for (rows, panel) in side.rows.chunks_exact(LANES * dp).zip(side.panels.chunks_exact_mut(LANES * d)) {
        for (k, column) in panel.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for (r, v) in column.iter_mut().enumerate() {
                *v = rows[r * dp + k];
            }
        }
    }
}

dispatch! {
    fn add_up(side: &mut Side<'_>) = add_up_body
}

dispatch! {
    fn measure(side: &mut Side<'_>, mean: &[f32], unit: bool) = measure_body
}

impl Side<'_> {
    /// `Σ s_i`.
    pub fn total(&self) -> f64 {
        self.weights.iter().map(|&w| f64::from(w)).sum()
    }

    /// `Σ_{i<j} s_i·s_j`, without a difference that could cancel.
    pub fn total_of_pairs(&self) -> f64 {
        let mut before = 0.0;
        let pairs = self.weights.iter().map(|&w| {
            let sum = f64::from(w) * before;
            before += f64::from(w);
            sum
        });
        pairs.sum()
    }
}

impl Sums<'_> {
    /// `scale·(Σ_j g_ij·rows_i − Σ_j g_ij·rows_j)`; with `unit` brought back from rows of norm 1 to `z`. 0 for what does not
    /// count.
    pub fn finish(&self, simd: Simd, side: &Side<'_>, unit: bool, scale: f32, z: &[f32], dz: &mut [f32]) {
        if side.order.len() * side.d < dz.len() {
            dz.fill(0.0);
        }
        if unit {
            self.turn(side, scale, z, dz);
        } else {
            subtract(simd, self, side, scale, dz);
        }
    }

    /// [`Self::finish`] with `unit`.
    fn turn(&self, side: &Side<'_>, scale: f32, z: &[f32], dz: &mut [f32]) {
        let Side { d, dp, .. } = *side;
        let rows = side.rows.chunks_exact(dp).zip(self.acc.chunks_exact(dp));
        let rows = rows.zip(self.g.iter().zip(&*side.inverse)).zip(&*side.samples).take(side.order.len());
        for (((row, acc), (&sum, &inverse)), &sample) in rows {
            let at = sample as usize * d;
            let (dz, z) = (&mut dz[at..at + d], &z[at..at + d]);
            for ((dz, row), acc) in dz.iter_mut().zip(row).zip(acc) {
                *dz = sum * row - acc;
            }
            let along = inverse * dz.iter().zip(z).map(|(v, z)| v * (z * inverse)).sum::<f32>();
            // A row of one element has no direction to turn to.
            let scale = if d == 1 { 0.0 } else { scale * inverse };
            for (dz, z) in dz.iter_mut().zip(z) {
                *dz = scale * (*dz - along * z);
            }
        }
    }
}

/// [`Sums::finish`] without `unit`.
#[inline(always)]
unsafe fn subtract_body<V: F32x16>(sums: &Sums<'_>, side: &Side<'_>, scale: f32, dz: &mut [f32]) {
    let Side { d, dp, .. } = *side;
    let whole = d / LANES * LANES;
    let rows = side.rows.chunks_exact(dp).zip(sums.acc.chunks_exact(dp)).zip(&*sums.g);
    for (((row, acc), &sum), &sample) in rows.zip(&*side.samples).take(side.order.len()) {
        let dz = &mut dz[sample as usize * d..][..d];
        for c in (0..whole).step_by(LANES) {
            // SAFETY: `whole` elements of each.
            unsafe {
                let (row, acc) = (V::load(row.as_ptr().add(c)), V::load(acc.as_ptr().add(c)));
                let v = V::splat(sum).mul(row).sub(acc);
                V::splat(scale).mul(v).store(dz.as_mut_ptr().add(c));
            }
        }
        for (dz, (row, acc)) in dz[whole..].iter_mut().zip(row[whole..].iter().zip(&acc[whole..])) {
            *dz = scale * (sum * row - acc);
        }
    }
}

dispatch! {
    fn subtract(sums: &Sums<'_>, side: &Side<'_>, scale: f32, dz: &mut [f32]) = subtract_body
}
