//! Two blocks of rows that meet: their pairs, tile by tile, but for tiles whose bounds show that no pair of them counts.

use super::block::{Block, Rows, Tiles};
use super::coefficients::{DOUBT, Masks, Place, coefficients};
use super::schedule::Met;
use crate::dispatch;
use crate::kernels::pairs::{Aligned, Lanes, TILE, combine, combine_few, padded, products};
use crate::simd::{LANES, Simd};

/// The share of a tile's coefficients that are not 0 from which on [`combine`] takes less time than [`combine_few`]: from 0.35 to
/// 0.55 makes no difference at any number of columns.
const MANY: f32 = 0.45;

impl Tiles {
    /// All pairs of two rows of `x`.
    pub fn within(&self, simd: Simd, x: &mut Block<'_>) -> Met {
        let (n, x) = (x.rows.len() as u64, x.rows_at(self));
        Met { loss: strip(simd, self, &x, &x, true), pairs: n * n.saturating_sub(1) / 2 }
    }

    /// All pairs of a row of `x` and one of `y`.
    pub fn between(&self, simd: Simd, x: &mut Block<'_>, y: &mut Block<'_>) -> Met {
        let pairs = x.rows.len() as u64 * y.rows.len() as u64;
        Met { loss: strip(simd, self, &x.rows_at(self), &y.rows_at(self), false), pairs }
    }
}

/// Which pairs of a tile count.
enum Open {
    /// None: beyond their margins, or of one label.
    Nothing,
    /// Some negative ones may.
    Negative,
    /// There may be positive ones, most of them so near that products of rows cancel.
    Near,
    /// There may be positive ones.
    Any,
}

/// What the bounds of the tiles `i` and `j` show.
#[inline(always)]
unsafe fn open<V: Lanes>(t: &Tiles, (x, i): (&Rows, usize), (y, j): (&Rows, usize)) -> Open {
    // SAFETY: tiles of the two sides, whose centres are whole vectors.
    unsafe {
        let two = |of: *const f32, tile: usize| (*of.add(2 * tile), *of.add(2 * tile + 1));
        let ((low_x, high_x), (low_y, high_y)) = (two(x.of_labels, i), two(y.of_labels, j));
        let least = (low_y - high_x).max(low_x - high_y).max(0.0);
        let most = (high_y - low_x).max(high_x - low_y);
        let cosine = t.p.cosine();
        if most == 0.0 && !cosine {
            return Open::Nothing;
        }
        let mut sum = V::splat(0.0);
        for c in (0..t.dp).step_by(LANES) {
            let apart = V::load(x.centres.add(i * t.dp + c)).sub(V::load(y.centres.add(j * t.dp + c)));
            sum = apart.mul_add(apart, sum);
        }
        let square = sum.sum();
        if least <= t.p.tau && (cosine || t.step <= t.p.tau) {
            // The mean of the pairs' squared distances is this sum.
            let ((off_x, square_x), (off_y, square_y)) = (two(x.means, i), two(y.means, j));
            return if square + off_x + off_y < DOUBT * (square_x + square_y) {
                Open::Near
            } else {
                Open::Any
            };
        }
        let apart = (1.0 - t.slack) * square.sqrt();
        let radii = (1.0 + t.slack) * (*x.radii.add(i) + *y.radii.add(j));
        // What rows, and with the cosine rows of norm 1, have been rounded by; and squares that vanish.
        let unit = if cosine { 2.0 } else { 0.0 };
        let rounded = 2e-7 * (*x.norms.add(i) + *y.norms.add(j) + unit) + 1e-17;
        let least = apart - radii - rounded;
        let least = if cosine { 0.5 * least * least.max(0.0) } else { least };
        // Neither where anything overflowed.
        if least > (1.0 + 1e-6) * t.p.margin * most && least < f32::MAX {
            Open::Nothing
        } else {
            Open::Negative
        }
    }
}

/// All pairs of a row of `x` with one of `y`; on the diagonal, where both are one block, each pair once. The sum of losses.
#[inline(always)]
unsafe fn strip_body<V: Lanes>(t: &Tiles, x: &Rows, y: &Rows, diagonal: bool) -> f64 {
    let Tiles { p, d, dp, .. } = t;
    let mut tile = Aligned([0.0; TILE * TILE]);
    let mut row_sums = Aligned([0.0; TILE * LANES]);
    let (tile, row_sums) = (tile.0.as_mut_ptr(), &mut row_sums.0);
    let mut masks: Masks = [0; TILE];
    let mut loss = 0.0;
    for i0 in (0..x.n).step_by(TILE) {
        row_sums.fill(0.0);
        let rows = TILE.min(x.n - i0);
        let from = if diagonal { i0 } else { 0 };
        for j0 in (from..y.n).step_by(TILE) {
            let columns = TILE.min(y.n - j0);
            let (rp, cp) = (padded(rows), padded(columns));
            let (sides, sums) = ((x, y), row_sums.as_mut_ptr());
            // SAFETY: rows and columns are inside the sides, whose layouts are padded to whole sixteens.
            unsafe {
                let of_tile = open::<V>(t, (x, i0 / TILE), (y, j0 / TILE));
                let (positive, near) = match of_tile {
                    Open::Nothing => continue,
                    Open::Negative => (false, false),
                    Open::Near => (true, true),
                    Open::Any => (true, false),
                };
                let zeros = *x.radii.add(i0 / TILE) + *y.radii.add(j0 / TILE) == f32::INFINITY;
                let at = Place { i: i0, j: j0, rows, columns, diagonal: diagonal && i0 == j0, zeros, near };
                let (a, b) = ((x.panels.add(i0 * d), rp), (y.panels.add(j0 * d), cp / LANES));
                if near {
                    products::<V, true>(*d, a, b, at.diagonal, tile);
                } else {
                    products::<V, false>(*d, a, b, at.diagonal, tile);
                }
                loss += match (p.cosine(), positive) {
                    (false, false) => coefficients::<V, false, false>(t, sides, at, tile, sums, &mut masks),
                    (false, true) => coefficients::<V, false, true>(t, sides, at, tile, sums, &mut masks),
                    (true, false) => coefficients::<V, true, false>(t, sides, at, tile, sums, &mut masks),
                    (true, true) => coefficients::<V, true, true>(t, sides, at, tile, sums, &mut masks),
                };
                let count: u32 = masks.iter().map(|m| m.count_ones()).sum();
                if count == 0 {
                    continue;
                }
                let (xi, yj) = (x.acc.add(i0 * dp), y.acc.add(j0 * dp));
                let (xr, yr) = (x.rows.add(i0 * dp), y.rows.add(j0 * dp));
                if (count as f32) < MANY * (rows * columns) as f32 {
                    combine_few::<V>(tile, &masks, *d, (xi, xr), (yj, yr));
                } else {
                    combine::<V, false>(tile, *d, (xi, rp), (yr, cp), at.diagonal);
                    combine::<V, true>(tile, *d, (yj, cp), (xr, rp), at.diagonal);
                }
            }
        }
        for r in 0..rows {
            // SAFETY: the task owns the sums of its rows.
            unsafe { *x.g.add(i0 + r) += V::load(row_sums.as_ptr().add(r * LANES)).sum() };
        }
    }
    loss
}

dispatch! {
    fn strip(t: &Tiles, x: &Rows, y: &Rows, diagonal: bool) -> f64 = strip_body
}
